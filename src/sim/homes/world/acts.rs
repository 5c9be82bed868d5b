//! What happens to the machines and to the network.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use super::{Outcome, World};
use crate::sim::homes::plan::{Act, Role, address};
use crate::sim::network::Datagram;
use crate::sim::scenario::PORT;

/// What ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Later {
    /// A machine has a network again.
    Online(usize),
    /// A machine is started again.
    Start(usize),
    /// The whole network is there again.
    Join,
    /// A home is there again.
    Mend(usize),
}

impl World {
    pub(super) fn perform(&mut self, act: Act) -> Outcome {
        match act {
            Act::Move(at, site) => self.move_to(at, site)?,
            Act::MoveBoth(both) => {
                for (at, site) in both {
                    self.move_to(at, site)?;
                }
            }
            Act::Offline(at, millis) => {
                self.members[at].host.set_online(self.now, false);
                self.collect(at, 0)?;
                self.after(millis, Later::Online(at));
            }
            Act::RebootNat(site) => self.internet.reboot(site),
            Act::Restart(at) => self.restart(at)?,
            Act::DownAndUp(at, millis) => {
                if self.members[at].running {
                    self.goodbye(at)?;
                    self.after(millis, Later::Start(at));
                }
            }
            Act::Partition(millis) => {
                self.internet.weather.partition = true;
                self.after(millis, Later::Join);
            }
            Act::CutHome(home, millis) => {
                self.internet.set_cut(*self.plan.endpoint(home).ip(), true);
                self.after(millis, Later::Mend(home));
            }
            Act::Rekey(conversation, what) => {
                let Some((at, remote)) = self.end_of(conversation) else { return Ok(()) };
                let now = self.now;
                let _ = self.members[at].host.act(|node, _| node.rekey(now, remote, what));
                self.collect(at, 0)?;
            }
            Act::Disconnect(conversation) => {
                let Some((at, remote)) = self.end_of(conversation) else { return Ok(()) };
                let now = self.now;
                self.members[at].host.act(|node, _| node.disconnect(now, remote));
                self.collect(at, 0)?;
            }
            Act::Burst(conversation, count) => {
                let Some((one, other)) = self.plan.conversations.get(conversation).copied() else {
                    return Ok(());
                };
                for _ in 0..count {
                    self.send_packet(one, other)?;
                }
            }
            Act::Garbage(count) => self.garbage(count),
            Act::Replay(count) => self.replay(count),
            Act::ClockJump(at) => {
                let now = self.now;
                self.members[at].host.act(|node, _| node.handle_clock_change(now));
                self.collect(at, 0)?;
            }
        }
        Ok(())
    }

    fn after(&mut self, millis: u64, later: Later) {
        self.counter += 1;
        self.later.insert((self.now + Duration::from_millis(millis), self.counter), later);
    }

    pub(super) fn undo(&mut self, later: Later) -> Outcome {
        self.note(|| format!("--- {later:?}"));
        match later {
            Later::Online(at) => {
                // Another one may have said the same before.
                if !self.members[at].host.online {
                    self.members[at].host.set_online(self.now, true);
                    self.collect(at, 0)?;
                }
            }
            Later::Start(at) => {
                if !self.members[at].running {
                    self.restart(at)?;
                }
            }
            Later::Join => self.internet.weather.partition = false,
            Later::Mend(home) => self.internet.set_cut(*self.plan.endpoint(home).ip(), false),
        }
        Ok(())
    }

    /// As the daemon says it: until everybody has answered, and 300 ms at most.
    pub(super) fn goodbye(&mut self, at: usize) -> Outcome {
        self.members[at].host.part(self.now);
        self.collect(at, 0)?;
        for _ in 0..15 {
            if self.members[at].host.node.has_parted() {
                break;
            }
            self.pass(Duration::from_millis(10))?;
        }
        self.members[at].host.goodbye(self.now);
        self.collect(at, 0)?;
        for _ in 0..15 {
            if self.members[at].host.node.is_quiet() {
                break;
            }
            self.pass(Duration::from_millis(10))?;
        }
        self.members[at].running = false;
        Ok(())
    }

    /// The end of a conversation that a command is given to.
    fn end_of(&mut self, conversation: usize) -> Option<(usize, std::net::Ipv6Addr)> {
        let (one, other) = *self.plan.conversations.get(conversation)?;
        let (local, remote) = if self.dice.once_in(2) { (one, other) } else { (other, one) };
        let at = self.plan.owner(local)?;
        self.members[at].running.then_some((at, remote))
    }

    pub(super) fn move_to(&mut self, at: usize, site: usize) -> Outcome {
        let kind = self.internet.kind(site);
        let member = &mut self.members[at];
        member.visits = member.visits.wrapping_add(1);
        member.site = site;
        let v4 = address(kind, site, at, member.visits);
        self.internet.arrive_at(SocketAddrV4::new(v4, PORT));
        if member.running {
            member.host.move_to(self.now, v4);
        } else {
            member.host.v4 = v4;
        }
        self.collect(at, 0)
    }

    pub(super) fn restart(&mut self, at: usize) -> Outcome {
        let seed = self.dice.seed();
        let machine = self.plan.machines.get(at).ok_or("no such machine")?;
        let member = &mut self.members[at];
        // The memory of roots and keys is on the disk, too.
        let store = member.trust.read(Clone::clone);
        member.trust = self.people.trust(machine, store)?;
        let config = self.people.config(&self.plan, machine, Arc::clone(&member.trust));
        if let Some(bindings) = self.bindings.get_mut(at).filter(|_| machine.role == Role::Home) {
            bindings.forget();
        }
        member.running = true;
        member.host.restart_with(config, self.now, seed);
        self.collect(at, 0)
    }

    fn garbage(&mut self, count: u32) {
        for _ in 0..count {
            let length = 1 + self.dice.below(200) as usize;
            let mut payload = self.dice.bytes(length);
            match self.dice.below(3) {
                0 => drop(payload.splice(..payload.len().min(4), [0; 4])),
                1 => drop(payload.splice(..1, [0x60])),
                _ => {}
            }
            let source = self.stranger();
            let ip = match self.dice.below(2) {
                0 => *self.plan.endpoint(self.dice.below(self.plan.homes.len() as u64) as usize).ip(),
                _ => self.internet.somebody(self.dice.below(64)).unwrap_or(Ipv4Addr::UNSPECIFIED),
            };
            let destination = SocketAddrV4::new(ip, PORT);
            self.internet.inject(self.now, Datagram { source, destination, payload });
        }
    }

    fn stranger(&mut self) -> SocketAddrV4 {
        let ip = Ipv4Addr::new(99, 0, 0, self.dice.below(250) as u8);
        SocketAddrV4::new(ip, 1024 + self.dice.below(60_000) as u16)
    }

    fn replay(&mut self, count: u32) {
        for _ in 0..count {
            let chosen = self.dice.below(self.internet.recorded.len() as u64) as usize;
            let Some(mut datagram) = self.internet.recorded.get(chosen).cloned() else { return };
            if self.dice.once_in(3) && !datagram.payload.is_empty() {
                let at = self.dice.below(datagram.payload.len() as u64) as usize;
                datagram.payload[at] ^= 1 << self.dice.below(8);
            }
            if self.dice.once_in(2) {
                datagram.source = self.stranger();
            }
            self.internet.inject(self.now, datagram);
        }
    }
}
