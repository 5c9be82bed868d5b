//! The home agent's side: the binding cache and who may change it.

mod cache;
mod policy;
mod status;
mod store;
mod tentative;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::Ignored;
use super::sequence::is_after;
use crate::wire::mobility::{
    BindingAcknowledgement, BindingUpdate, Cookie, Lifetime, Message, NatDetection, Status, build, parse,
};
use cache::{Binding, Cache, Second, host};
pub use policy::{CareOfPolicy, OpenPolicy, Policy};
pub use status::{BindingStatus, Totals};
use store::Unsaved;
pub use store::{Change, Row};
use tentative::{Tentative, may_answer};

/// Records that expire in one call: a call stays short, and the next one is due at once.
const EXPIRE_AT_ONCE: usize = 4096;
/// How long the sequence number of a released binding is remembered: longer than a packet lives.
const RELEASED: Second = 60;

/// How an agent behaves.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The home agent's permanent address: `home prefix::1`.
    pub address: Ipv6Addr,
    /// The most that is granted.
    pub max_lifetime: Lifetime,
    /// Bindings and prefixes at most; beyond that new senders get status 130.
    pub max_bindings: usize,
    /// Prefixes of one sender at most.
    pub max_prefixes: usize,
    /// What nodes are told to refresh their NAT's mapping at, in seconds.
    pub nat_refresh: u32,
}

impl AgentConfig {
    /// The defaults of a home.
    pub fn new(address: Ipv6Addr) -> Self {
        Self {
            address,
            max_lifetime: Lifetime::from_secs(3600),
            max_bindings: 2_000_000,
            max_prefixes: 4096,
            nat_refresh: 20,
        }
    }
}

/// An inner packet with a Mobility Header, out of the SA with its sender.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Remote end of the SA: proven.
    pub sender: Ipv6Addr,
    /// UDP source of the datagram: ESP does not cover it.
    pub from: SocketAddrV4,
    /// It was proven in another way that the sender is at `from`: its IKE SA was authenticated, or probed, there.
    pub proven: bool,
    /// UDP payload octets of the datagram.
    pub octets: usize,
    /// The inner packet.
    pub packet: &'a [u8],
}

/// A packet for the SA between the home agent and an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentTransmit {
    /// Remote end of the SA.
    pub home_address: Ipv6Addr,
    /// Where the sealed datagram goes, whatever the SA's usual path is.
    pub care_of: SocketAddrV4,
    /// The inner packet.
    pub packet: Vec<u8>,
}

/// What the home agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// Relayed packets for this prefix go there from now on, and those from it are accepted from there only.
    Route {
        /// What.
        prefix: Ipv6Net,
        /// Where: proven.
        care_of: SocketAddrV4,
    },
    /// There is no binding for this prefix any more.
    Unroute {
        /// What.
        prefix: Ipv6Net,
    },
    /// It is proven that this entity is there now: its SAs with us may follow.
    Moved {
        /// Who.
        sender: Ipv6Addr,
        /// Where.
        care_of: SocketAddrV4,
    },
    /// An update was refused: something for the log.
    Refused {
        /// Who.
        sender: Ipv6Addr,
        /// From where.
        from: SocketAddrV4,
        /// Why.
        status: Status,
    },
}

/// The home agent: all bindings of one home.
pub struct Agent {
    config: AgentConfig,
    rng: ChaCha20Rng,
    base: Instant,
    cache: Cache,
    tentative: BTreeMap<Ipv6Addr, Tentative>,
    deadlines: BTreeSet<(Instant, Ipv6Addr)>,
    unsaved: Unsaved,
    /// More records have expired than one call takes.
    backlog: Option<Instant>,
    transmits: VecDeque<AgentTransmit>,
    events: VecDeque<AgentEvent>,
}

impl Agent {
    /// An agent without bindings. `seed` comes from the system's random source, never twice.
    pub fn new(config: AgentConfig, seed: [u8; 32], now: Instant) -> Self {
        Self {
            config,
            rng: ChaCha20Rng::from_seed(seed),
            base: now,
            cache: Cache::default(),
            tentative: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unsaved: Unsaved::default(),
            backlog: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Seconds since the start, rounded down.
    fn second(&self, now: Instant) -> Second {
        Second::try_from(now.saturating_duration_since(self.base).as_secs()).unwrap_or(Second::MAX)
    }

    /// A packet from an entity. Whatever it says, it is bounded by `policy`.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        policy: &dyn Policy,
    ) -> Result<(), Ignored> {
        let inner = parse(received.packet)?;
        if (inner.source, inner.destination) != (received.sender, self.config.address) {
            return Err(Ignored::Addresses);
        }
        let result = match inner.message {
            Message::Update(update) if update.flags.home_registration => {
                self.update(now, received, &update, policy);
                Ok(())
            }
            Message::Challenge(cookie) => {
                let response = Message::Response { cookie, observed: Some(received.from) };
                if policy.allows(received.from) {
                    self.answer(received, &response);
                }
                Ok(())
            }
            Message::Response { cookie, .. } => self.response(now, received.sender, cookie),
            Message::Update(_) | Message::Acknowledgement(_) => Err(Ignored::Unexpected),
        };
        self.publish(now);
        result
    }

    fn update(&mut self, now: Instant, received: &Received<'_>, update: &BindingUpdate, policy: &dyn Policy) {
        let last = self.cache.binding(received.sender).map(|binding| binding.sequence);
        if let Some(last) = last.filter(|last| !is_after(update.sequence, *last)) {
            let refusal = BindingAcknowledgement::new(Status::SEQUENCE_OUT_OF_WINDOW, last, Lifetime::ZERO);
            self.answer(received, &Message::Acknowledgement(refusal));
            return;
        }
        let status = self.judge(received, update, policy);
        if !status.is_accepted() {
            self.refuse(received, update, status);
        } else if update.lifetime == Lifetime::ZERO {
            self.release(now, received, update);
        } else {
            self.bind(now, received, update);
        }
    }

    /// Is the update acceptable? Nothing is changed by one that is not (RFC 3963 §6.2: all prefixes or none).
    fn judge(&self, received: &Received<'_>, update: &BindingUpdate, policy: &dyn Policy) -> Status {
        let sender = received.sender;
        let releases = update.lifetime == Lifetime::ZERO;
        let new = update
            .prefixes
            .iter()
            .filter(|prefix| self.cache.extra(**prefix).is_none_or(|extra| extra.sender != sender));
        let (new, bound) = (new.count(), self.cache.extras_of(sender).count());
        let room = usize::from(self.cache.binding(sender).is_none()) + new;
        if update.flags.mobile_router == update.prefixes.is_empty() {
            if update.prefixes.is_empty() { Status::FORWARDING_SETUP_FAILED } else { Status::INVALID_PREFIX }
        } else if releases {
            Status::ACCEPTED
        } else if !policy.may_bind(sender, host(sender)) {
            Status::PROHIBITED
        } else if !update.prefixes.iter().all(|prefix| policy.may_bind(sender, *prefix)) {
            Status::NOT_AUTHORIZED_FOR_PREFIX
        } else if !policy.allows(received.from) {
            Status::INVALID_CARE_OF_ADDRESS
        } else if self.cache.len() + room > self.config.max_bindings || bound + new > self.config.max_prefixes
        {
            Status::INSUFFICIENT_RESOURCES
        } else {
            Status::ACCEPTED
        }
    }

    fn refuse(&mut self, received: &Received<'_>, update: &BindingUpdate, status: Status) {
        let (sender, from) = (received.sender, received.from);
        self.events.push_back(AgentEvent::Refused { sender, from, status });
        let refusal = BindingAcknowledgement::new(status, update.sequence, Lifetime::ZERO);
        // Nothing is sent to an address that may not be one: only to where the sender was proven to be.
        let proven = self.care_of(sender);
        let to = if status == Status::INVALID_CARE_OF_ADDRESS { proven } else { Some(from) };
        if let Some(from) = to {
            self.answer(&Received { from, ..*received }, &Message::Acknowledgement(refusal));
        }
    }

    fn bind(&mut self, now: Instant, received: &Received<'_>, update: &BindingUpdate) {
        let (sender, from) = (received.sender, received.from);
        let granted = update.lifetime.min(self.config.max_lifetime);
        // One more second, because the current one is cut off: never shorter than what was granted.
        let expires = self.second(now).saturating_add(granted.as_secs()).saturating_add(1);
        let before = self.care_of(sender);
        let proven = received.proven || before == Some(from);
        let care_of = if proven { Some(from) } else { before };
        let nat = update.care_of.map(|thinks| thinks != *from.ip());
        self.cache.set(sender, Binding::new(care_of, update.sequence, expires).with_nat(nat));
        for prefix in update.prefixes.iter() {
            self.cache.set_extra(*prefix, sender, expires);
        }
        if proven {
            self.settle(sender);
            if before != care_of {
                self.events.push_back(AgentEvent::Moved { sender, care_of: from });
            }
        }
        let mut acknowledgement = BindingAcknowledgement::new(Status::ACCEPTED, update.sequence, granted);
        acknowledgement.key_management = update.flags.key_management;
        acknowledgement.mobile_router = update.flags.mobile_router;
        acknowledgement.nat = Some(NatDetection { force_udp: true, refresh: self.config.nat_refresh });
        acknowledgement.observed = Some(from);
        if proven {
            self.answer(received, &Message::Acknowledgement(acknowledgement));
            return;
        }
        let tentative = self.tentative_at(now, sender, from);
        tentative.received(received.octets);
        tentative.acknowledgement = Some(acknowledgement);
        acknowledgement.challenge = Some(tentative.cookie);
        self.send_tentative(sender, &Message::Acknowledgement(acknowledgement));
    }

    fn release(&mut self, now: Instant, received: &Received<'_>, update: &BindingUpdate) {
        let sender = received.sender;
        if update.prefixes.is_empty() {
            self.cache.remove(sender);
            self.settle(sender);
            // A copy of an earlier update that comes late must not bring the binding back.
            let expires = self.second(now).saturating_add(RELEASED);
            self.cache.set(sender, Binding::new(None, update.sequence, expires));
        } else {
            for prefix in update.prefixes.iter() {
                if self.cache.extra(*prefix).is_some_and(|extra| extra.sender == sender) {
                    self.cache.remove_extra(*prefix);
                }
            }
            if let Some(binding) = self.cache.binding(sender) {
                let binding = Binding::new(binding.care_of(), update.sequence, binding.expires())
                    .with_nat(binding.behind_nat());
                self.cache.set(sender, binding);
            }
        }
        let mut acknowledgement =
            BindingAcknowledgement::new(Status::ACCEPTED, update.sequence, Lifetime::ZERO);
        acknowledgement.mobile_router = update.flags.mobile_router;
        self.answer(received, &Message::Acknowledgement(acknowledgement));
    }

    fn response(&mut self, now: Instant, sender: Ipv6Addr, cookie: Cookie) -> Result<(), Ignored> {
        let open = self.tentative.get(&sender).filter(|tentative| tentative.cookie == cookie);
        let (care_of, acknowledgement) =
            open.map(|tentative| (tentative.care_of, tentative.acknowledgement)).ok_or(Ignored::Unmatched)?;
        let binding = *self.cache.binding(sender).ok_or(Ignored::Unmatched)?;
        self.settle(sender);
        if binding.expires() <= self.second(now) {
            return Err(Ignored::Unmatched);
        }
        let proven = Binding::new(Some(care_of), binding.sequence, binding.expires());
        self.cache.set(sender, proven.with_nat(binding.behind_nat()));
        self.events.push_back(AgentEvent::Moved { sender, care_of });
        // The node says its update again until it hears this: so both know that the address is in use.
        if let Some(acknowledgement) = acknowledgement {
            let packet = build(self.config.address, sender, &Message::Acknowledgement(acknowledgement));
            self.transmits.push_back(AgentTransmit { home_address: sender, care_of, packet });
        }
        Ok(())
    }

    /// The open challenge at this address, or a new one in the place of any other.
    fn tentative_at(&mut self, now: Instant, sender: Ipv6Addr, care_of: SocketAddrV4) -> &mut Tentative {
        if self.tentative.get(&sender).is_some_and(|tentative| tentative.care_of != care_of) {
            self.settle(sender);
        }
        let (rng, deadlines) = (&mut self.rng, &mut self.deadlines);
        self.tentative.entry(sender).or_insert_with(|| {
            let mut cookie = Cookie::default();
            rng.fill_bytes(&mut cookie);
            let tentative = Tentative::new(care_of, cookie, now);
            deadlines.insert((tentative.at, sender));
            tentative
        })
    }

    /// No challenge is open any more.
    fn settle(&mut self, sender: Ipv6Addr) {
        if let Some(tentative) = self.tentative.remove(&sender) {
            self.deadlines.remove(&(tentative.at, sender));
        }
    }

    /// Sends to the tentative address of a sender, as far as its budget goes.
    fn send_tentative(&mut self, sender: Ipv6Addr, message: &Message) {
        let packet = build(self.config.address, sender, message);
        let Some(tentative) = self.tentative.get_mut(&sender) else { return };
        if tentative.may_send(packet.len()) {
            let care_of = tentative.care_of;
            self.transmits.push_back(AgentTransmit { home_address: sender, care_of, packet });
        }
    }

    /// Answers one datagram, to where it came from: what is sent there is bounded by what came, unless the address is
    /// proven.
    fn answer(&mut self, received: &Received<'_>, message: &Message) {
        let packet = build(self.config.address, received.sender, message);
        let proven = received.proven || self.care_of(received.sender) == Some(received.from);
        if proven || may_answer(packet.len(), received.octets) {
            let (home_address, care_of) = (received.sender, received.from);
            self.transmits.push_back(AgentTransmit { home_address, care_of, packet });
        }
    }

    /// Takes everything from a sender at once: it was revoked or removed.
    pub fn remove(&mut self, now: Instant, sender: Ipv6Addr) {
        self.settle(sender);
        self.cache.remove(sender);
        self.publish(now);
    }

    /// Takes a prefix from whoever bound it: it belongs to another one now.
    pub fn remove_prefix(&mut self, now: Instant, prefix: Ipv6Net) {
        self.cache.remove_extra(prefix.trunc());
        self.publish(now);
    }

    /// Time passed. Harmless when early.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, sender)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, sender));
            let Some(tentative) = self.tentative.get_mut(&sender) else { continue };
            if tentative.again(now) {
                self.deadlines.insert((tentative.at, sender));
                let challenge = Message::Challenge(tentative.cookie);
                self.send_tentative(sender, &challenge);
            } else {
                self.settle(sender);
                if self.care_of(sender).is_none() {
                    self.cache.remove(sender);
                }
            }
        }
        let more = self.cache.expire(self.second(now), EXPIRE_AT_ONCE);
        self.backlog = more.then_some(now);
        self.publish(now);
    }

    /// Turns what the cache changed into events and into work for the store.
    fn publish(&mut self, now: Instant) {
        let changed = std::mem::take(&mut self.cache.changed);
        for change in &changed {
            self.unsaved.mark(now, change.prefix);
            if change.route {
                self.events.push_back(match change.care_of {
                    Some(care_of) => AgentEvent::Route { prefix: change.prefix, care_of },
                    None => AgentEvent::Unroute { prefix: change.prefix },
                });
            }
        }
        // A sender whose record is gone has nothing to prove.
        let gone =
            changed.iter().filter(|change| change.care_of.is_none() && change.prefix.prefix_len() == 128);
        for sender in gone.map(|change| change.prefix.addr()) {
            if self.cache.binding(sender).is_none() {
                self.settle(sender);
            }
        }
    }

    /// Where an entity was proven to be.
    pub fn care_of(&self, sender: Ipv6Addr) -> Option<SocketAddrV4> {
        self.cache.binding(sender).and_then(Binding::care_of)
    }

    /// Who answers for an address, by the longest match, and where that is.
    pub fn lookup(&self, address: Ipv6Addr) -> Option<(Ipv6Addr, SocketAddrV4)> {
        self.cache.lookup(address)
    }

    /// Bound senders and prefixes, those included that are tentative or were released lately.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// True when nothing is bound.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything that is reachable: what the data plane is filled with after [`restore`](Self::restore).
    pub fn routes(&self) -> impl Iterator<Item = (Ipv6Net, SocketAddrV4)> {
        let own =
            self.cache.bindings().filter_map(|(sender, binding)| Some((host(sender), binding.care_of()?)));
        let extras =
            self.cache.extras().filter_map(|(prefix, extra)| Some((prefix, self.care_of(extra.sender)?)));
        own.chain(extras)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<AgentEvent> {
        self.events.pop_front()
    }

    /// The next packet to seal and send.
    pub fn poll_transmit(&mut self) -> Option<AgentTransmit> {
        self.transmits.pop_front()
    }

    /// When `handle_timeout` (or, for the store, `take_changes`) wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let challenge = self.deadlines.first().map(|(at, _)| (*at, "challenge of a care-of address"));
        let expiry = self
            .cache
            .next_deadline()
            .map(|second| (self.base + Duration::from_secs(u64::from(second)), "end of a binding"));
        let backlog = self.backlog.map(|at| (at, "end of many bindings"));
        let store = self.unsaved.deadline().map(|at| (at, "bindings to persist"));
        [challenge, expiry, backlog, store].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}
