//! The node's side of mobility: what of ours is bound at our home agents.

use std::net::Ipv6Addr;
use std::time::Instant;

use super::pair::Pair;
use super::{Event, Node, RouteLookup};
use crate::mobility::{ClientEvent, RegistrationConfig};
use crate::wire::ip::NEXT_HEADER_IPV6;
use crate::wire::mobility::Status;

impl Node {
    /// Takes up the registrations of the configuration: the SA with the home agent is kept up, and in it the binding.
    pub(super) fn apply_registrations(&mut self, now: Instant) {
        let registered: Vec<Ipv6Addr> = self.mobility.status().map(|one| one.home_address).collect();
        for sender in registered {
            if self.config.registrations.iter().all(|registration| registration.sender != sender) {
                self.mobility.deregister(now, sender);
            }
        }
        for registration in self.config.registrations.clone() {
            let sender = registration.sender;
            let Some(agent) = self.config.home_of(sender).map(|home| home.agent) else { continue };
            self.pairs.or_insert_with((sender, agent), || Pair::new(now)).keep_up = true;
            self.mobility.register(
                now,
                RegistrationConfig {
                    home_address: sender,
                    home_agent: agent,
                    prefixes: registration.prefixes,
                    sequence: registration.sequence,
                },
            );
        }
    }

    /// Is this address of ours reachable through its home agent?
    pub(super) fn is_registered(&self, local: Ipv6Addr) -> bool {
        let mut covering = self.config.registrations.iter().filter(|registration| registration.covers(local));
        covering.any(|registration| self.registered.contains(&registration.sender))
    }

    /// Which of our entities speaks with the home agent for this one.
    pub fn sender_for(&self, local: Ipv6Addr) -> Option<Ipv6Addr> {
        let mut covering = self.config.registrations.iter().filter(|registration| registration.covers(local));
        covering.next().map(|registration| registration.sender)
    }

    /// An SA with a peer came up or went; the mobility client wants to know about those with home agents.
    pub(super) fn session_changed(&mut self, now: Instant, local: Ipv6Addr, remote: Ipv6Addr, up: bool) {
        let ours = self.config.registrations.iter().any(|registration| registration.sender == local);
        if !ours || self.config.home_of(local).is_none_or(|home| home.agent != remote) {
            return;
        }
        if up {
            // After the first time everybody else comes back as well: not all at once.
            let again = !self.met.insert(local);
            self.mobility.handle_session_up(now, local, again && !self.is_registered(local));
        } else {
            self.mobility.handle_session_down(local);
        }
        self.drain_mobility(now);
    }

    /// Acts on everything that the mobility client has to say.
    pub(super) fn drain_mobility(&mut self, now: Instant) {
        while let Some(event) = self.mobility.poll_event() {
            match event {
                ClientEvent::SequenceReserved { home_address, sequence } => {
                    self.events.push_back(Event::SequenceReserved { home_address, sequence });
                }
                ClientEvent::Registered { home_address, .. } => {
                    self.registered.insert(home_address);
                    self.events.push_back(Event::Registered { home_address });
                    self.woken.push(home_address);
                }
                ClientEvent::Observed { home_address, address: care_of, behind_nat } => {
                    self.observed.insert(home_address, care_of);
                    self.events.push_back(Event::Observed { home_address, care_of, behind_nat });
                    self.announce_candidates(now);
                }
                ClientEvent::Refused { home_address, status, .. } => {
                    self.registered.remove(&home_address);
                    let why = describe(status);
                    self.events.push_back(Event::RegistrationLost { home_address, why });
                }
                ClientEvent::Lost { home_address } => {
                    self.registered.remove(&home_address);
                    let why = "the home agent did not renew it".to_owned();
                    self.events.push_back(Event::RegistrationLost { home_address, why });
                }
                ClientEvent::Unanswered { home_address } => self.home_is_silent(now, home_address),
                ClientEvent::Deregistered { home_address, .. } => {
                    self.registered.remove(&home_address);
                }
            }
        }
        while let Some(transmit) = self.mobility.poll_transmit() {
            let key = (transmit.home_address, transmit.home_agent);
            self.send_own(key, |path| path, NEXT_HEADER_IPV6, transmit.packet);
        }
    }

    /// Conversations that waited for a binding begin.
    pub(super) fn wake(&mut self, now: Instant, route: RouteLookup<'_>) {
        if std::mem::take(&mut self.woken).is_empty() {
            return;
        }
        let waiting: Vec<_> =
            self.pairs.iter().filter(|(_, pair)| pair.is_waiting()).map(|(key, _)| *key).collect();
        for (local, remote) in waiting {
            if let Err(error) = self.start(now, local, remote, route) {
                self.fail(now, (local, remote), error);
            }
        }
        self.drain(now);
    }

    /// Several messages to the home agent went unanswered: does its SA still live?
    fn home_is_silent(&mut self, now: Instant, home_address: Ipv6Addr) {
        let Some(agent) = self.config.home_of(home_address).map(|home| home.agent) else { return };
        for child in self.children.values().filter(|child| child.pair == (home_address, agent)) {
            self.ike.handle_sent(now, child.outbound.params().spi);
        }
    }
}

pub(super) fn describe(status: Status) -> String {
    format!("the home agent refused it: {status}")
}
