//! What belongs to a home and is told in documents, as the daemon does it: certificates that are renewed, revocations.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{Outcome, World};
use crate::home::talk::{Ask, Der, Revocation, Tell};
use crate::ike::IkeId;
use crate::pki::Serial;
use crate::sim::homes::people::EPOCH;
use crate::sim::homes::plan::Role;

/// How often certificates are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(5);

impl World {
    /// Seconds since 1970.
    fn unix(&self) -> u64 {
        EPOCH + (self.now - self.start).as_secs()
    }

    /// The home whose agent this address is.
    fn home_of_agent(&self, address: Ipv6Addr) -> Option<usize> {
        (0..self.plan.homes.len()).find(|home| self.plan.agent(*home) == address)
    }

    /// Certificates that are old enough are renewed.
    pub(super) fn renew(&mut self) -> Outcome {
        let unix = self.unix();
        for at in 0..self.members.len() {
            let member = &self.members[at];
            if !member.running || self.plan.machines[at].role == Role::Forger {
                continue;
            }
            let own = member.trust.own_certificates().into_iter();
            let due: Vec<Ipv6Addr> =
                own.filter(|own| own.renew_at <= unix).map(|own| own.leaf.address).collect();
            for address in due {
                let machine = &self.plan.machines[at];
                if machine.role == Role::Home {
                    let leaf = self.people.issue(machine, address, unix, &mut self.dice)?;
                    self.members[at].trust.set_own(leaf, Vec::new()).map_err(|error| error.to_string())?;
                    continue;
                }
                let agent = self.plan.agent(machine.home);
                let key = self.people.key(address).to_string();
                let now = self.now;
                self.members[at].host.act(|node, _| {
                    let caller = node.sender_for(address).unwrap_or(address);
                    let ask = Ask::Renew { subject: address, key };
                    node.ike_with(caller, agent).is_some_and(|ike| node.tell(now, ike, ask.to_bytes()))
                });
                self.collect(at, 0)?;
            }
        }
        Ok(())
    }

    /// A document arrived at a machine.
    pub(super) fn hear(
        &mut self,
        at: usize,
        ike: IkeId,
        [local, remote]: [Ipv6Addr; 2],
        document: &[u8],
    ) -> Outcome {
        let machine = &self.plan.machines[at];
        let (now, unix) = (self.now, self.unix());
        if machine.role == Role::Home && self.plan.agent(machine.home) == local {
            let Ok(Ask::Renew { subject, .. }) = Ask::parse(document) else { return Ok(()) };
            let asks = self.plan.owner(remote).filter(|owner| {
                self.plan.owner(subject) == Some(*owner) && !self.revoked.contains_key(&remote)
            });
            let Some(asks) = asks else { return Ok(()) };
            let certificate = self.people.issue(&self.plan.machines[asks], subject, unix, &mut self.dice)?;
            let tell = Tell::Renewed { subject, certificate: Der(certificate) };
            self.members[at].host.act(|node, _| node.tell(now, ike, tell.to_bytes()));
            return self.collect(at, 0);
        }
        let Some(home) = self.home_of_agent(remote) else { return Ok(()) };
        match Tell::parse(document) {
            Ok(Tell::Renewed { subject, certificate }) if machine.entities.contains(&subject) => {
                let taken = self.members[at].trust.set_own(certificate.0, Vec::new());
                taken.map_err(|error| format!("{subject} got a bad certificate: {error}"))?;
                self.note(|| format!("{at}: {subject} has a fresh certificate"));
            }
            Ok(Tell::Revoked { list }) => {
                for one in list.iter().filter(|one| self.plan.prefix(home).contains(&one.address)) {
                    let Some(serial) = Serial::parse(&one.serial) else { continue };
                    let member = &mut self.members[at];
                    if member.trust.change(|store| store.revoke(unix, one.address, serial, one.not_after)) {
                        member.host.act(|node, _| node.disconnect(now, one.address));
                    }
                }
                self.collect(at, 0)?;
            }
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    /// Somebody has an SA with a home agent now: what was revoked before is told.
    pub(super) fn greet(&mut self, at: usize, [local, remote]: [Ipv6Addr; 2]) -> Outcome {
        let Some(home) = self.home_of_agent(local).filter(|home| *home == at) else { return Ok(()) };
        let list = self.people.revoked(home);
        if list.is_empty() {
            return Ok(());
        }
        let now = self.now;
        let told = self.members[at].host.act(|node, _| {
            let ike = node.ike_with(local, remote);
            ike.is_some_and(|ike| node.tell(now, ike, Tell::Revoked { list }.to_bytes()))
        });
        if let Some(other) = self.plan.owner(remote).filter(|_| told) {
            self.told.entry(other).or_insert(now);
        }
        self.collect(at, 0)
    }

    /// `domicile home device revoke`.
    pub(super) fn revoke(&mut self, whom: usize) -> Outcome {
        let machine = self.plan.machines[whom].clone();
        let (home, now, unix) = (machine.home, self.now, self.unix());
        let agent = self.plan.agent(home);
        let mut list: Vec<Revocation> = Vec::new();
        for address in &machine.entities {
            self.revoked.insert(*address, now);
            list.extend(self.people.revoke(home, *address));
        }
        self.told.insert(home, now);
        for remote in self.members[home].host.node.remotes_of(Some(agent)) {
            let Some(other) = self.plan.owner(remote) else { continue };
            // Both of them know the SA.
            if self.members[other].host.node.ike_with(remote, agent).is_some() {
                self.told.insert(other, now);
            }
        }
        let member = &mut self.members[home];
        for one in &list {
            if let Some(serial) = Serial::parse(&one.serial) {
                member.trust.change(|store| store.revoke(unix, one.address, serial, one.not_after));
            }
        }
        member.host.act(|node, _| {
            for address in &machine.entities {
                node.cut_off(now, *address);
            }
            for ike in node.ikes_of(agent) {
                node.tell(now, ike, Tell::Revoked { list: list.clone() }.to_bytes());
            }
        });
        self.collect(home, 0)
    }
}
