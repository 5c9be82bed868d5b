//! Everything together: runs what a seed means and checks what must always hold.

mod acts;
mod calm;
mod ends;
mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check::{self, Bindings, packet_of};
use super::internet::{Arrival, Internet};
use super::model::{Place, may_talk};
use super::people::People;
use super::plan::{Plan, Role, address};
use crate::node::Event;
use crate::policy::trust::Trust;
use crate::sim::host::Host;
use crate::sim::nat::Kind;
use crate::sim::network::Datagram;
use crate::sim::observer::{Counts, Observer};
use crate::sim::scenario::{Dice, PORT};
use crate::sim::world::Violation;
use acts::Later;

/// Steps that one second of virtual time may take: more means that a timer spins.
const STEPS_PER_SECOND: u32 = 50_000;

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Application packets that were delivered.
    pub delivered: usize,
    /// Datagrams on the wire.
    pub datagrams: Counts,
    /// Seconds of calm until everything was as it should be.
    pub settled_after: u64,
    /// Conversations that had to work, that went directly in the end, and that had to fail.
    pub conversations: [usize; 3],
    /// What happened, when it was asked for.
    pub trace: Vec<String>,
}

/// A machine and where it is.
struct Member {
    host: Host,
    trust: Arc<Trust>,
    site: usize,
    /// How many addresses it has had.
    visits: u8,
    /// It was started.
    running: bool,
    /// When its node wants to be called.
    due: Option<Instant>,
}

/// A packet of an application, as the reference sees it.
struct Sent {
    number: u64,
    at: Instant,
    from: Ipv6Addr,
    to: Ipv6Addr,
}

/// Everything.
pub struct World {
    plan: Plan,
    people: People,
    members: Vec<Member>,
    internet: Internet,
    observer: Observer,
    /// By home.
    bindings: Vec<Bindings>,
    dice: Dice,
    start: Instant,
    now: Instant,
    /// Applications send their next packets.
    next_packet: Instant,
    pace: Duration,
    number: u64,
    /// Packets that were sent in the name of somebody else.
    forged: BTreeSet<u64>,
    /// When somebody was revoked.
    revoked: BTreeMap<Ipv6Addr, Instant>,
    /// Which machine has heard of that, and when: those with an SA with the home agent at once.
    told: BTreeMap<usize, Instant>,
    /// Certificates are looked at.
    next_look: Instant,
    /// Packets of the last seconds that have to arrive.
    recent: Vec<Sent>,
    later: BTreeMap<(Instant, u64), Later>,
    counter: u64,
    second: u64,
    steps: u32,
    trace: Option<Vec<String>>,
}

type Outcome<T = ()> = Result<T, String>;

impl World {
    /// Runs a seed. `start` is any moment; `trace` asks for a record of what happened.
    ///
    /// # Errors
    /// What was violated.
    pub fn run(seed: u64, start: Instant, trace: bool) -> Result<Report, Violation> {
        let violation = |at, what, trace| Violation { seed, at, what, trace };
        let mut world =
            Self::new(seed, start, trace).map_err(|what| violation(Duration::ZERO, what, Vec::new()))?;
        let outcome = world.play();
        let trace = world.trace.take().unwrap_or_default();
        match outcome {
            Ok(settled_after) => Ok(Report {
                delivered: world.observer.delivered(),
                datagrams: world.observer.counts,
                settled_after,
                conversations: world.tally(),
                trace,
            }),
            Err(what) => Err(violation(world.now - start, what, trace)),
        }
    }

    fn new(seed: u64, start: Instant, trace: bool) -> Outcome<Self> {
        let plan = Plan::new(seed);
        let mut dice = Dice::new(seed, 12);
        let people = People::new(&plan, &mut dice, start)?;
        let mut internet = Internet::new(seed, plan.storm, &plan.sites);
        let mut members = Vec::new();
        for (at, machine) in plan.machines.iter().enumerate() {
            let trust = people.trust(machine, crate::pki::TrustStore::default())?;
            let config = people.config(&plan, machine, Arc::clone(&trust));
            let v4 = match machine.role {
                Role::Home => *plan.endpoint(machine.home).ip(),
                Role::Device | Role::Server | Role::Forger => {
                    address(internet.kind(machine.site), machine.site, at, 0)
                }
            };
            internet.arrive_at(SocketAddrV4::new(v4, PORT));
            let first = machine.entities.first().copied().unwrap_or(Ipv6Addr::UNSPECIFIED);
            let part = people.part(&plan, machine);
            let host = Host::with_part(config, part, first, v4, dice.seed(), start);
            let (due, site) = (Some(start), machine.site);
            members.push(Member { host, trust, site, visits: 0, running: true, due });
        }
        let bindings = plan.homes.iter().map(|_| Bindings::default()).collect();
        Ok(Self {
            plan,
            people,
            members,
            internet,
            observer: Observer::default(),
            bindings,
            dice,
            start,
            now: start,
            next_packet: start,
            pace: Duration::from_millis(700),
            number: 0,
            forged: BTreeSet::new(),
            revoked: BTreeMap::new(),
            told: BTreeMap::new(),
            next_look: start + members::LOOK,
            recent: Vec::new(),
            later: BTreeMap::new(),
            counter: 0,
            second: 0,
            steps: 0,
            trace: trace.then(Vec::new),
        })
    }

    /// The storm, the calm, and the watch.
    fn play(&mut self) -> Outcome<u64> {
        self.describe();
        for at in 0..self.members.len() {
            self.collect(at, 0)?;
        }
        for (pause, act) in std::mem::take(&mut self.plan.acts) {
            self.pass(pause)?;
            self.note(|| format!("--- {act:?}"));
            self.perform(act)?;
        }
        let settled = self.calm()?;
        self.end()?;
        Ok(settled)
    }

    /// Both directions of every conversation.
    fn send_packets(&mut self) -> Outcome {
        for (one, other) in self.plan.conversations.clone() {
            self.send_packet(one, other)?;
            self.send_packet(other, one)?;
        }
        self.forge_packets()?;
        let now = self.now;
        self.recent.retain(|sent| now < sent.at + Duration::from_secs(3));
        Ok(())
    }

    /// Whoever claims to be somebody else sends in that name.
    fn forge_packets(&mut self) -> Outcome {
        for at in 0..self.members.len() {
            let machine = &self.plan.machines[at];
            let Some(from) = machine.entities.first().copied().filter(|_| machine.role == Role::Forger)
            else {
                continue;
            };
            for (to, _) in self.plan.victims() {
                let number = self.number;
                self.number += 1;
                self.forged.insert(number);
                let packet = packet_of(from, to, number, 0);
                self.observer.application_sends(number, packet.clone());
                self.members[at].host.from_application(self.now, &packet);
                self.collect(at, 0)?;
            }
        }
        Ok(())
    }

    fn send_packet(&mut self, from: Ipv6Addr, to: Ipv6Addr) -> Outcome {
        let Some(at) = self.plan.owner(from).filter(|at| self.members[*at].running) else { return Ok(()) };
        let length = self.dice.below(300) as usize;
        let number = self.number;
        self.number += 1;
        let packet = packet_of(from, to, number, length);
        if may_talk(&self.plan, from, to) && !self.revoked.contains_key(&from) {
            self.recent.push(Sent { number, at: self.now, from, to });
        }
        self.observer.application_sends(number, packet.clone());
        self.note(|| format!("{at}: packet {number} to {to}"));
        self.members[at].host.from_application(self.now, &packet);
        self.collect(at, 0)
    }

    /// Lets time pass.
    fn pass(&mut self, duration: Duration) -> Outcome {
        let end = self.now + duration;
        loop {
            self.count_step()?;
            while let Some(arrival) = self.internet.arrival(self.now) {
                self.deliver(&arrival)?;
            }
            while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let later = entry.remove();
                self.undo(later)?;
            }
            if self.next_packet <= self.now {
                self.next_packet += self.pace;
                self.send_packets()?;
            }
            for at in 0..self.members.len() {
                self.let_time_pass(at)?;
            }
            let timers = self.members.iter().filter_map(|member| member.due.filter(|_| member.running));
            let undo = self.later.first_key_value().map(|((at, _), _)| *at);
            let others = [Some(self.next_packet), self.internet.next_arrival(), undo].into_iter().flatten();
            match timers.chain(others).min().filter(|at| *at <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
        }
        self.now = end;
        Ok(())
    }

    fn let_time_pass(&mut self, at: usize) -> Outcome {
        let member = &mut self.members[at];
        if !member.running || member.due.is_none_or(|due| due > self.now) {
            return Ok(());
        }
        member.host.handle_timeout(self.now);
        self.collect(at, 0)?;
        match self.members[at].host.poll_timeout().filter(|(due, _)| *due <= self.now) {
            Some((_, why)) => Err(format!("{at} has a deadline in the past after handle_timeout: {why}")),
            None => Ok(()),
        }
    }

    fn count_step(&mut self) -> Outcome {
        let second = (self.now - self.start).as_secs();
        if second != self.second {
            (self.second, self.steps) = (second, 0);
            for at in 0..self.members.len() {
                check::bounds(&self.plan, at, &self.members[at].host, self.now)?;
                self.check_bindings(at)?;
            }
            if self.next_look <= self.now {
                self.next_look = self.now + members::LOOK;
                self.renew()?;
            }
        }
        self.steps += 1;
        if self.steps > STEPS_PER_SECOND {
            let timers: Vec<_> = self.members.iter().map(|member| member.host.poll_timeout()).collect();
            return Err(format!("{} steps in one second, timers {timers:?}", self.steps));
        }
        Ok(())
    }

    fn deliver(&mut self, arrival: &Arrival) -> Outcome {
        let Arrival { site, datagram } = arrival;
        let kind = |member: &Member| self.internet.kind(member.site);
        let at = self.members.iter().position(|member| {
            member.host.v4 == *datagram.destination.ip()
                && match site {
                    Some(site) => member.site == *site,
                    None => kind(member) == Kind::Public,
                }
        });
        let Some(at) = at.filter(|_| datagram.destination.port() == PORT) else { return Ok(()) };
        let member = &mut self.members[at];
        if !member.running || !member.host.online {
            return Ok(());
        }
        member.host.from_network(self.now, datagram);
        self.collect(at, datagram.payload.len())
    }

    /// Takes what a machine did, checks it and gives it to the network. `came`: octets that made it do so.
    fn collect(&mut self, at: usize, came: usize) -> Outcome {
        let host = &mut self.members[at].host;
        let (events, sent) = (std::mem::take(&mut host.events), std::mem::take(&mut host.sent));
        let (delivered, forwarded) =
            (std::mem::take(&mut host.delivered), std::mem::take(&mut host.forwarded));
        host.errors.clear();
        let (mut documents, mut greeted) = (Vec::new(), Vec::new());
        for event in events {
            self.observer.key_logged(&event)?;
            match event {
                Event::IkeKeys { .. } | Event::ChildKeys { .. } => {}
                Event::Route { .. } => {
                    self.note(|| format!("{at}: {event:?}"));
                    self.check_bindings(at)?;
                }
                Event::Document { ike, local, remote, ref document } => {
                    documents.push((ike, [local, remote], document.clone()));
                }
                Event::PeerUp { local, remote } => {
                    self.note(|| format!("{at}: {event:?}"));
                    greeted.push([local, remote]);
                }
                Event::PeerDown { .. }
                | Event::PeerFailed { .. }
                | Event::SequenceReserved { .. }
                | Event::Registered { .. }
                | Event::Observed { .. }
                | Event::RegistrationLost { .. }
                | Event::HomeMoved { .. }
                | Event::PathChanged { .. }
                | Event::MtuChanged { .. } => self.note(|| format!("{at}: {event:?}")),
            }
        }
        for packet in delivered {
            self.delivered(at, &packet)?;
        }
        let site = self.members[at].site;
        for datagram in sent {
            check::sent(&mut self.observer, &datagram)?;
            self.note(|| show(at, &datagram));
            self.internet.send(self.now, site, datagram);
        }
        for datagram in forwarded {
            check::forwarded(&datagram, came)?;
            self.note(|| format!("{}, forwarded", show(at, &datagram)));
            self.internet.send(self.now, site, datagram);
        }
        let member = &mut self.members[at];
        member.due = member.host.poll_timeout().map(|(due, _)| due);
        for (ike, ends, document) in documents {
            self.hear(at, ike, ends, &document)?;
        }
        for ends in greeted {
            self.greet(at, ends)?;
        }
        Ok(())
    }

    /// A packet came out of a tunnel: the one that was sent, where it was for, from somebody who may.
    fn delivered(&mut self, at: usize, packet: &[u8]) -> Outcome {
        let view =
            crate::wire::ip::Ipv6View::new(packet).map_err(|_| "something odd came out of a tunnel")?;
        let (from, to) = (view.source(), view.destination());
        if self.plan.owner(to) != Some(at) {
            return Err(format!("{at} got a packet for {to}"));
        }
        let number = self.observer.tunnel_delivers(to, packet)?;
        self.note(|| format!("{at}: gets packet {number} from {from}"));
        if self.forged.contains(&number) {
            return Err(format!("{to} took a packet in the name of {from}, who did not send it"));
        }
        if !may_talk(&self.plan, from, to) {
            return Err(format!("{from} reached {to}, which it may not"));
        }
        let ends = [from, to];
        let revoked = |end: &Ipv6Addr| self.revoked.contains_key(end);
        let other = ends.iter().find(|end| !revoked(end)).filter(|_| ends.iter().any(revoked));
        let told = other.and_then(|end| self.told.get(&self.plan.owner(*end)?));
        match told {
            Some(since) if self.now > *since + ends::REVOKED => {
                Err(format!("{from} reached {to} after it was revoked"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_bindings(&mut self, at: usize) -> Outcome {
        let Some(bindings) = self.bindings.get_mut(at) else { return Ok(()) };
        bindings.check(&self.members[at].host.node.binding_rows(self.now), &self.internet)
    }

    fn place(&self, address: Ipv6Addr) -> Option<Place> {
        let member = &self.members[self.plan.owner(address)?];
        Some(Place { site: member.site, kind: self.internet.kind(member.site) })
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let at = (self.now - self.start).as_secs_f64();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:9.3} {}", line()));
        }
    }

    fn describe(&mut self) {
        if self.trace.is_none() {
            return;
        }
        let plan = &self.plan;
        let mut lines = vec![format!("{:?} {:?} pfs {}", plan.storm, plan.lifetimes, plan.child_pfs)];
        lines.extend(plan.sites.iter().enumerate().map(|(site, what)| format!("site {site}: {what:?}")));
        lines.extend(
            plan.machines.iter().enumerate().map(|(at, machine)| format!("machine {at}: {machine:?}")),
        );
        lines.extend(
            plan.conversations
                .iter()
                .map(|(one, other)| format!("{one} <-> {other}: {}", may_talk(plan, *one, *other))),
        );
        for line in lines {
            self.note(|| line);
        }
    }
}

fn show(at: usize, datagram: &Datagram) -> String {
    use crate::wire::udp_encap::{Datagram as Form, classify};
    let payload = &datagram.payload;
    let ike = |message: &[u8]| match crate::wire::ike::Header::parse(message) {
        Ok(header) => format!(
            "IKE {:04x}/{:04x} exchange {} flags {:02x} message {}",
            header.initiator_spi >> 48,
            header.responder_spi >> 48,
            header.exchange,
            header.flags,
            header.message_id,
        ),
        Err(error) => format!("{error}"),
    };
    let what = match classify(payload) {
        Ok(Form::Keepalive) => "keepalive".to_owned(),
        Ok(Form::Ike(message)) => ike(message),
        Ok(Form::Esp { spi, .. }) => format!("ESP {spi:08x}"),
        Ok(Form::Relayed(packet)) => match crate::wire::ip::Ipv6View::new(packet) {
            Ok(view) => {
                let inner = match crate::wire::relay::ike(&view) {
                    Some(message) => ike(message),
                    None => format!("{} {:02x?}", view.next_header(), view.payload().get(..4)),
                };
                format!("relayed {} -> {} {inner}", view.source(), view.destination())
            }
            Err(_) => "relayed nonsense".to_owned(),
        },
        Err(_) => "odd".to_owned(),
    };
    format!("{at}: {} -> {} {what} ({} octets)", datagram.source, datagram.destination, payload.len())
}
