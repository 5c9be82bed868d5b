//! The node's side: keeps its home agents told where it is.

mod exchange;
mod keepalive;
mod registration;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::Ignored;
use crate::wire::mobility::{Lifetime, Message, Status, build, parse};
use keepalive::Keepalive;
use registration::Registration;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Lifetime that is asked for.
    pub lifetime: Lifetime,
    /// Our UDP port: another one in what the home agent observes means a NAT.
    pub port: u16,
    /// Behind a NAT, a challenge goes to the home agent after this much silence from it; the home agent may ask for
    /// another interval (RFC 5555 §3.2.2), between 5 s and 120 s.
    pub keepalive: Duration,
    /// After a restart of the home agent updates are spread over this time.
    pub restart_spread: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            lifetime: Lifetime::from_secs(1800),
            port: 4500,
            keepalive: Duration::from_secs(20),
            restart_spread: Duration::from_secs(5),
        }
    }
}

/// What is registered under one SA with a home agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationConfig {
    /// The entity: sender of the updates, and bound itself.
    pub home_address: Ipv6Addr,
    /// `home prefix::1`.
    pub home_agent: Ipv6Addr,
    /// What else is bound: a node's /64, moved services as /128. Any number.
    pub prefixes: Vec<Ipv6Net>,
    /// The number of the last [`ClientEvent::SequenceReserved`] that was persisted; `None` the first time ever.
    pub sequence: Option<u16>,
}

/// A packet for the SA between two permanent addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTransmit {
    /// Local end of the SA.
    pub home_address: Ipv6Addr,
    /// Remote end of the SA.
    pub home_agent: Ipv6Addr,
    /// The inner packet.
    pub packet: Vec<u8>,
}

/// What the node is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Persist this number **before** sending what `poll_transmit` gives next: after a crash numbers go on behind it.
    SequenceReserved {
        /// Whose number.
        home_address: Ipv6Addr,
        /// All numbers up to this one count as used.
        sequence: u16,
    },
    /// These are reachable through the home agent now; told again only after `Refused` or `Lost`.
    Registered {
        /// The sender.
        home_address: Ipv6Addr,
        /// What else was bound.
        prefixes: Vec<Ipv6Net>,
        /// What was granted.
        lifetime: Lifetime,
    },
    /// The home agent sees us at another address than before.
    Observed {
        /// Whose binding.
        home_address: Ipv6Addr,
        /// Address and port, outside of any NAT.
        address: SocketAddrV4,
        /// It is not one of our own.
        behind_nat: bool,
    },
    /// The home agent said no. It is asked again after about a minute, and at every address change.
    Refused {
        /// The sender.
        home_address: Ipv6Addr,
        /// What else was asked for.
        prefixes: Vec<Ipv6Net>,
        /// Why.
        status: Status,
    },
    /// The home agent has not answered several messages in a row: its SA is worth a look. Told once per silence.
    Unanswered {
        /// Whose messages.
        home_address: Ipv6Addr,
    },
    /// The granted lifetime is over and was not renewed.
    Lost {
        /// The sender.
        home_address: Ipv6Addr,
    },
    /// A `deregister` came to its end; nothing of the registration is left.
    Deregistered {
        /// The sender.
        home_address: Ipv6Addr,
        /// The home agent confirmed it. Otherwise the binding lives until its lifetime ends.
        acknowledged: bool,
    },
}

/// A registration, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// The sender.
    pub home_address: Ipv6Addr,
    /// Its home agent.
    pub home_agent: Ipv6Addr,
    /// Everything that was asked for is bound.
    pub registered: bool,
    /// What else is bound with it.
    pub prefixes: Vec<Ipv6Net>,
    /// Where the home agent sees us.
    pub observed: Option<SocketAddrV4>,
    /// That is not one of our own addresses.
    pub behind_nat: bool,
    /// When the next update or challenge leaves, and why.
    pub next: Option<(Instant, &'static str)>,
    /// When the first part of it expires unless it is renewed.
    pub expires: Option<Instant>,
    /// Why the last update was refused.
    pub refused: Option<Status>,
}

/// What the parts of a client share.
struct Context {
    config: ClientConfig,
    rng: ChaCha20Rng,
    local: Vec<Ipv4Addr>,
    transmits: VecDeque<ClientTransmit>,
    events: VecDeque<ClientEvent>,
}

impl Context {
    /// A share of a duration by chance.
    fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        low + high.saturating_sub(low).mul_f64(share)
    }

    fn send(&mut self, home_address: Ipv6Addr, home_agent: Ipv6Addr, message: &Message) {
        let packet = build(home_address, home_agent, message);
        self.transmits.push_back(ClientTransmit { home_address, home_agent, packet });
    }
}

/// All registrations of one node.
pub struct Client {
    ctx: Context,
    registrations: BTreeMap<Ipv6Addr, Registration>,
    keepalives: BTreeMap<Ipv6Addr, Keepalive>,
}

impl Client {
    /// A client without registrations. `seed` comes from the system's random source, never twice.
    pub fn new(config: ClientConfig, seed: [u8; 32], _now: Instant) -> Self {
        let ctx = Context {
            config,
            rng: ChaCha20Rng::from_seed(seed),
            local: Vec::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        Self { ctx, registrations: BTreeMap::new(), keepalives: BTreeMap::new() }
    }

    /// Adds a registration, or changes the prefixes of the one with this home address. Nothing is sent before its
    /// session is up.
    pub fn register(&mut self, now: Instant, config: RegistrationConfig) {
        self.keepalives.entry(config.home_agent).or_default();
        match self.registrations.get_mut(&config.home_address) {
            Some(registration) if registration.home_agent == config.home_agent => {
                registration.set_prefixes(now, &config.prefixes, &mut self.ctx);
            }
            Some(_) | None => {
                let registration = Registration::new(&config, &mut self.ctx);
                self.registrations.insert(config.home_address, registration);
            }
        }
    }

    /// Takes everything back that this sender bound; ends with [`ClientEvent::Deregistered`].
    pub fn deregister(&mut self, now: Instant, home_address: Ipv6Addr) {
        if let Some(registration) = self.registrations.get_mut(&home_address) {
            registration.leave(now, &mut self.ctx);
        }
        self.sweep();
    }

    /// [`deregister`](Self::deregister) for all: the node goes down. [`is_quiet`](Self::is_quiet) tells when it may.
    pub fn deregister_all(&mut self, now: Instant) {
        for registration in self.registrations.values_mut() {
            registration.leave(now, &mut self.ctx);
        }
        self.sweep();
    }

    /// No registration is left.
    pub fn is_quiet(&self) -> bool {
        self.registrations.is_empty()
    }

    /// The SA between this home address and its home agent can be used. With `spread` (the home agent was away, and
    /// everybody else comes back, too) the update waits a random part of [`ClientConfig::restart_spread`].
    pub fn handle_session_up(&mut self, now: Instant, home_address: Ipv6Addr, spread: bool) {
        if let Some(registration) = self.registrations.get_mut(&home_address) {
            registration.session_up(now, spread, &mut self.ctx);
        }
    }

    /// That SA is gone. Bindings live on; nothing is sent until the session is up again.
    pub fn handle_session_down(&mut self, home_address: Ipv6Addr) {
        if let Some(registration) = self.registrations.get_mut(&home_address) {
            registration.session_down(&mut self.ctx);
        }
        self.sweep();
    }

    /// The home agent restarted and may have lost what we told it lately: updates are sent, spread by chance.
    pub fn handle_home_restarted(&mut self, now: Instant, home_agent: Ipv6Addr) {
        for registration in self.registrations.values_mut().filter(|one| one.home_agent == home_agent) {
            registration.session_up(now, true, &mut self.ctx);
        }
    }

    /// IPv4 addresses or routes changed. `local`: our usable addresses, first the one that home agents are reached
    /// from. Updates leave at once, also when the list is the same: an interface that went and came may have lost its
    /// NAT's mapping. An empty list means that there is no way out now.
    pub fn handle_address_change(&mut self, now: Instant, local: &[Ipv4Addr]) {
        self.ctx.local = local.to_vec();
        if !local.is_empty() {
            for registration in self.registrations.values_mut() {
                registration.announce(now, &mut self.ctx);
            }
        }
    }

    /// This machine slept, or nothing of this program ran for a while: home agents counted on, and a NAT may have forgotten
    /// us. Everything is told anew at once.
    pub fn handle_resume(&mut self, now: Instant) {
        for registration in self.registrations.values_mut() {
            registration.announce(now, &mut self.ctx);
        }
    }

    /// Something came from the home agent, so that the way back works: keeps challenges from being sent.
    pub fn handle_activity(&mut self, now: Instant, home_agent: Ipv6Addr) {
        if let Some(keepalive) = self.keepalives.get_mut(&home_agent) {
            keepalive.heard(now);
        }
    }

    /// Other signs say that the way to this home agent may be dead, or changed: it is challenged at once, unless it was
    /// heard this very moment.
    pub fn handle_doubt(&mut self, now: Instant, home_agent: Ipv6Addr) {
        if let Some(keepalive) = self.keepalives.get_mut(&home_agent) {
            keepalive.doubt(now);
        }
        self.handle_timeout(now);
    }

    /// An inner packet with a Mobility Header, from the SA whose addresses it has.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) -> Result<(), Ignored> {
        let inner = parse(packet)?;
        let registration = self
            .registrations
            .get_mut(&inner.destination)
            .filter(|registration| registration.home_agent == inner.source)
            .ok_or(Ignored::Addresses)?;
        let keepalive = self.keepalives.entry(inner.source).or_default();
        keepalive.heard(now);
        let mut moved = None;
        let result = match inner.message {
            Message::Acknowledgement(acknowledgement) => {
                if let Some(nat) = acknowledgement.nat.filter(|nat| nat.refresh != 0) {
                    keepalive.interval = Some(Duration::from_secs(u64::from(nat.refresh.clamp(5, 120))));
                }
                registration.acknowledged(now, &acknowledgement, &mut self.ctx)
            }
            Message::Challenge(cookie) => {
                let response = Message::Response { cookie, observed: None };
                self.ctx.send(inner.destination, inner.source, &response);
                Ok(())
            }
            Message::Response { cookie, observed } if keepalive.answered(cookie) => {
                moved = observed.filter(|address| registration.observed != Some(*address));
                Ok(())
            }
            Message::Response { .. } => Err(Ignored::Unmatched),
            Message::Update(_) => Err(Ignored::Unexpected),
        };
        if let Some(address) = moved {
            self.mapping_changed(now, inner.source, address);
        }
        self.rearm(now);
        self.sweep();
        result
    }

    /// A NAT gave us another address: every binding with this home agent still points to the old one.
    fn mapping_changed(&mut self, now: Instant, home_agent: Ipv6Addr, address: SocketAddrV4) {
        for registration in self.registrations.values_mut().filter(|one| one.home_agent == home_agent) {
            registration.set_observed(address, &mut self.ctx);
            registration.announce(now, &mut self.ctx);
        }
    }

    /// Time passed. Harmless when early.
    pub fn handle_timeout(&mut self, now: Instant) {
        for registration in self.registrations.values_mut() {
            registration.handle_timeout(now, &mut self.ctx);
        }
        for (home_agent, keepalive) in &mut self.keepalives {
            // Any registration will do: they share the NAT's mapping.
            let speaker =
                self.registrations.values().find(|one| one.home_agent == *home_agent && one.is_up());
            let Some(speaker) = speaker else {
                keepalive.disarm();
                continue;
            };
            keepalive.handle_timeout(now, speaker.home_address, *home_agent, &mut self.ctx);
        }
        self.rearm(now);
        self.sweep();
    }

    /// Keepalives run while there is a NAT in front of a session that is up.
    fn rearm(&mut self, now: Instant) {
        for (home_agent, keepalive) in &mut self.keepalives {
            let needed = self
                .registrations
                .values()
                .any(|one| one.home_agent == *home_agent && one.is_up() && one.behind_nat(&self.ctx));
            keepalive.set_needed(now, needed, &self.ctx);
        }
    }

    fn sweep(&mut self) {
        self.registrations.retain(|_, registration| !registration.is_over());
        self.keepalives.retain(|agent, _| self.registrations.values().any(|one| one.home_agent == *agent));
    }

    /// The next event. Drain before `poll_transmit`.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.ctx.events.pop_front()
    }

    /// The next packet to seal and send.
    pub fn poll_transmit(&mut self) -> Option<ClientTransmit> {
        self.ctx.transmits.pop_front()
    }

    /// When `handle_timeout` wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let updates = self.registrations.values().filter_map(Registration::poll_timeout);
        let keepalives = self.keepalives.values().filter_map(Keepalive::poll_timeout);
        updates.chain(keepalives).min_by_key(|(at, _)| *at)
    }

    /// The registrations, to look at.
    pub fn status(&self) -> impl Iterator<Item = RegistrationStatus> {
        self.registrations.values().map(|registration| registration.status(&self.ctx))
    }
}
