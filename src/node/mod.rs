//! The only composition of the cores: owns them, drains them, publishes tables to the data plane. Still sans-IO.
//!
//! Method families: `handle_*` inputs, commands, `poll_*` outputs. After every input or command drain
//! `poll_transmit`, `poll_inject`, `poll_tun` and `poll_event`, then arm a timer for `poll_timeout`.

mod acquire;
mod child;
mod config;
mod control;
mod event;
mod history;
mod home_agent;
mod homes;
mod indexed;
mod install;
mod joins;
mod look;
mod pair;
mod paths;
mod places;
#[cfg(test)]
mod places_tests;
mod registration;
mod resources;
#[cfg(test)]
mod resources_tests;
mod status;
#[cfg(test)]
mod tests;
mod widths;
#[cfg(test)]
mod widths_tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::dataplane::event::{Event as DataEvent, Relay, UdpPath};
use crate::dataplane::tables::Publisher;
use crate::ike::{self, ChildId, IkeId};
use crate::mobility;
use crate::policy::spd::Action;
use crate::wire::ike::{Header, exchange, flags};
use child::Child;
pub use config::{BULK, Config, HomeAgentConfig, HomeConfig, PeerConfig, Registration};
pub use event::{Event, Inject};
pub use home_agent::Authority;
use homes::Way;
use indexed::Indexed;
use joins::Joins;
use pair::{Attempt, Pair, PairKey};
use paths::Paths;
use places::Places;
use widths::Widths;

/// Tells our source address for a destination, from the machine's routes.
pub type RouteLookup<'a> = &'a dyn Fn(Ipv4Addr) -> Option<Ipv4Addr>;

/// How often SA counters are read, to tell IKE about life and silence.
const TICK: Duration = Duration::from_secs(1);

/// A running node.
pub struct Node {
    config: Config,
    ike: ike::Endpoint,
    publisher: Publisher,
    rng: ChaCha20Rng,
    pairs: Indexed<PairKey, Pair>,
    children: BTreeMap<ChildId, Child>,
    /// Children by the SPI that we receive on.
    by_spi: BTreeMap<u32, ChildId>,
    ikes: Joins,
    /// Next reading of the counters; armed while there is a child SA.
    tick: Option<Instant>,
    drops: BTreeMap<&'static str, u64>,
    /// Packets to whom we may not call, for the log.
    refusals: ike::Rare,
    /// Our bindings at home agents.
    mobility: mobility::Client,
    /// Senders that are bound.
    registered: BTreeSet<Ipv6Addr>,
    /// Senders whose home agent was met before.
    met: BTreeSet<Ipv6Addr>,
    /// Senders that were bound just now.
    woken: Vec<Ipv6Addr>,
    /// Where the home agent sees a sender.
    observed: BTreeMap<Ipv6Addr, SocketAddrV4>,
    /// Our own interfaces.
    interfaces: Vec<Ipv4Addr>,
    /// Homes that move.
    places: Places,
    /// Path control of the pairs that met on the relayed path.
    paths: Indexed<PairKey, Paths>,
    /// How wide the paths to others of us are.
    widths: Indexed<PairKey, Widths>,
    /// Numbers that path control has used up to now: generations and moves.
    paths_used: u32,
    /// IKE SAs that were authenticated on the relayed path, and those that replaced them.
    met_relayed: BTreeSet<IkeId>,
    /// Those of them that were authenticated just now and have no child SA yet.
    met_anew: BTreeSet<IkeId>,
    /// The bindings of others, where we are the home agent.
    agent: Option<mobility::Agent>,
    authority: Option<Arc<dyn Authority>>,
    /// After the goodbye nothing new begins.
    leaving: bool,
    injects: VecDeque<Inject>,
    tun: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Node {
    /// A fresh node; publishes its policy at once. `seed` comes from the system's random source, never twice.
    pub fn new(config: Config, publisher: Publisher, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut ike_seed = [0; 32];
        rng.fill_bytes(&mut ike_seed);
        let mut mobility_seed = [0; 32];
        rng.fill_bytes(&mut mobility_seed);
        let mobile = mobility::ClientConfig { port: config.port, ..mobility::ClientConfig::default() };
        let ike = ike::Endpoint::new(config.ike.clone(), ike_seed, now);
        let mut node = Self {
            config,
            ike,
            publisher,
            rng,
            pairs: Indexed::new(),
            children: BTreeMap::new(),
            by_spi: BTreeMap::new(),
            mobility: mobility::Client::new(mobile, mobility_seed, now),
            registered: BTreeSet::new(),
            met: BTreeSet::new(),
            woken: Vec::new(),
            observed: BTreeMap::new(),
            interfaces: Vec::new(),
            places: Places::default(),
            paths: Indexed::new(),
            widths: Indexed::new(),
            paths_used: 0,
            met_relayed: BTreeSet::new(),
            met_anew: BTreeSet::new(),
            agent: None,
            authority: None,
            ikes: Joins::default(),
            tick: None,
            drops: BTreeMap::new(),
            refusals: ike::Rare::new(now),
            leaving: false,
            injects: VecDeque::new(),
            tun: VecDeque::new(),
            events: VecDeque::new(),
        };
        let homes = std::mem::take(&mut node.config.homes);
        node.take_homes(now, &[], homes);
        node.apply_config(now);
        node
    }

    /// Replaces the configuration; homes that are known keep their places ([`Self::set_homes`]). SAs that it no longer allows are closed; a peer that failed may be tried at once.
    pub fn set_config(&mut self, now: Instant, config: Config) {
        self.ike.set_config(now, config.ike.clone());
        let old = std::mem::replace(&mut self.config, config).homes;
        let mut homes = std::mem::take(&mut self.config.homes);
        for home in &mut homes {
            // The configuration does not know where their roots say that they are.
            if let Some(known) = old.iter().find(|known| known.prefix == home.prefix) {
                home.places.clone_from(&known.places);
            }
        }
        self.take_homes(now, &old, homes);
        self.pairs.for_each_mut(|pair| pair.forgive(now));
        self.apply_config(now);
        self.drain(now);
    }

    fn apply_config(&mut self, now: Instant) {
        let local: Vec<Ipv6Addr> = self.config.ike.entities.iter().map(|entity| entity.address).collect();
        self.publisher.set_policy((*self.config.ike.spd).clone(), local);
        let kept_up: Vec<Ipv6Addr> =
            self.config.peers.iter().filter(|peer| peer.keep_up).map(|peer| peer.address).collect();
        self.pairs.for_each_mut(|pair| pair.keep_up = false);
        for remote in kept_up {
            if let Some(local) = self.local_for(remote) {
                self.pairs.or_insert_with((local, remote), || Pair::new(now)).keep_up = true;
            }
        }
        self.apply_registrations(now);
        for child in self.children.values_mut() {
            child.kept_up = !child.additional && self.pairs.get(&child.pair).is_some_and(|pair| pair.keep_up);
        }
    }

    /// The data plane told something.
    pub fn handle_data_event(&mut self, now: Instant, event: DataEvent, route: RouteLookup<'_>) {
        match event {
            _ if self.leaving && begins_something(&event) => self.count("leaving"),
            DataEvent::Ike { path, message } => self.ike.handle_datagram(now, path, &message),
            DataEvent::Control { spi, path, what } => self.control(now, spi, path, &what),
            DataEvent::Acquire { packet } => self.acquire(now, packet, route),
            DataEvent::NewSource { spi, path } => self.new_source(now, spi, path),
            DataEvent::FirstPacket { spi } => {
                self.ike.handle_first_packet(now, spi);
                self.width_heard(now, spi);
            }
            DataEvent::SoftLimit { spi } | DataEvent::Exhausted { spi } => {
                self.ike.handle_soft_limit(now, spi)
            }
            DataEvent::UnknownSpi { path, .. } => self.unknown_spi(now, path, route),
        }
        self.drain(now);
        self.wake(now, route);
    }

    /// Time passed. Harmless when early.
    pub fn handle_timeout(&mut self, now: Instant, route: RouteLookup<'_>) {
        // Before IKE looks at its timers: a liveness check that became due may be needless, or armed only now.
        if self.tick.is_some_and(|tick| tick <= now) {
            self.read_counters(now);
            self.tick = (!self.children.is_empty()).then(|| now + TICK);
        }
        // It may find the home agent silent, and then IKE has to look at once.
        self.mobility.handle_timeout(now);
        self.drain_mobility(now);
        self.ike.handle_timeout(now);
        self.drain(now);
        if let Some(agent) = &mut self.agent {
            agent.handle_timeout(now);
        }
        self.drain_agent(now);
        self.paths_timeout(now);
        self.widths_timeout(now);
        self.search(now, route);
        self.wake(now, route);
        for (local, remote) in self.pairs.due(now) {
            if let Err(error) = self.start(now, local, remote, route) {
                self.fail(now, (local, remote), error);
            }
        }
        self.drain(now);
    }

    /// IPv4 addresses or routes of the machine changed: call [`Self::set_local_addresses`] before. Everything that has
    /// to be told about it leaves in the same instant.
    pub fn handle_local_change(&mut self, now: Instant, route: RouteLookup<'_>) {
        self.ike.handle_local_change(now, route);
        self.drain(now);
        let towards_home = self.config.homes.first().and_then(|home| route(*home.endpoint.ip()));
        let others = self.interfaces.iter().copied().filter(|address| Some(*address) != towards_home);
        let local: Vec<Ipv4Addr> = towards_home.into_iter().chain(others).collect();
        self.mobility.handle_address_change(now, &local);
        self.drain_mobility(now);
        self.widths_moved(now);
        self.paths_moved(now, route);
        self.pairs.for_each_mut(|pair| pair.forgive(now));
        self.drain(now);
    }

    /// The time of day jumped against `now`: the machine slept, or its clock was set.
    pub fn handle_clock_change(&mut self, now: Instant) {
        self.ike.handle_clock_change(now);
        self.drain(now);
    }

    /// The machine slept, or nothing of this program ran for a while: bindings are told anew, and paths and peers are asked
    /// whether they are still there.
    pub fn handle_resume(&mut self, now: Instant) {
        self.mobility.handle_resume(now);
        self.drain_mobility(now);
        self.paths_doubted(now);
        self.ike.handle_resume(now);
        self.pairs.for_each_mut(|pair| pair.forgive(now));
        self.drain(now);
    }

    /// Brings up an SA with this peer. `Ok(Some(local))`: it is up already, from that address of ours.
    /// An error is one sentence.
    pub fn connect(
        &mut self,
        now: Instant,
        remote: Ipv6Addr,
        route: RouteLookup<'_>,
    ) -> Result<Option<Ipv6Addr>, String> {
        let local = self.local_for(remote).ok_or_else(|| {
            format!("no [[policy]] protects traffic from an entity of this machine to {remote}")
        })?;
        let mut pair = self.pairs.or_insert_with((local, remote), || Pair::new(now));
        if pair.active.is_some() {
            return Ok(Some(local));
        }
        pair.forgive(now);
        drop(pair);
        let started = self.start(now, local, remote, route);
        if let Err(error) = &started {
            self.fail(now, (local, remote), error.clone());
        }
        self.drain(now);
        started.map(|()| None)
    }

    /// Authenticates every IKE SA of one of our entities anew, make-before-break: it has another key.
    pub fn reauthenticate(&mut self, now: Instant, local: Ipv6Addr) {
        for ike in self.ikes_of(local) {
            self.ike.reauthenticate(now, ike);
        }
        self.drain(now);
    }

    /// Closes every SA with this peer.
    pub fn disconnect(&mut self, now: Instant, remote: Ipv6Addr) {
        for ike in self.ikes_with(remote) {
            self.ike.close(now, ike);
        }
        self.drain(now);
    }

    /// Rekeys the child SAs with this peer (`child`), its IKE SA (`ike`), or authenticates anew (`reauth`).
    pub fn rekey(&mut self, now: Instant, remote: Ipv6Addr, what: &str) -> Result<(), String> {
        let ikes = self.ikes_with(remote);
        if ikes.is_empty() {
            return Err(format!("there is no security association with {remote}: connect first"));
        }
        match what {
            "child" => {
                let active: Vec<ChildId> = self
                    .pairs
                    .iter()
                    .filter(|((_, to), _)| *to == remote)
                    .flat_map(|(_, pair)| pair.active.into_iter().chain(pair.additional.iter().copied()))
                    .collect();
                for child in active {
                    self.ike.rekey_child(now, child);
                }
            }
            "ike" => ikes.iter().for_each(|ike| self.ike.rekey_ike(now, *ike)),
            "reauth" => ikes.iter().for_each(|ike| self.ike.reauthenticate(now, *ike)),
            other => return Err(format!("cannot rekey '{other}': say child, ike or reauth")),
        }
        self.drain(now);
        Ok(())
    }

    /// Sends a document over this IKE SA; false when that cannot be now.
    pub fn tell(&mut self, now: Instant, ike: IkeId, document: Vec<u8>) -> bool {
        let taken = self.ike.tell(now, ike, document);
        self.drain(now);
        taken
    }

    /// The first part of a goodbye: to everybody but our home agents, which relay it.
    pub fn part(&mut self, now: Instant) {
        self.leaving = true;
        self.pairs.for_each_mut(|pair| pair.keep_up = false);
        let mut others = self.ikes.of(|key| !self.is_with_home_agent(*key));
        // A handshake that went on would bring up what nobody takes leave of.
        others.extend(self.handshakes_with_others());
        for ike in others {
            self.ike.close(now, ike);
        }
        self.drain(now);
    }

    /// Everybody but our home agents has answered.
    pub fn has_parted(&self) -> bool {
        self.ikes.pairs().all(|key| self.is_with_home_agent(*key))
            && self.handshakes_with_others().next().is_none()
    }

    fn handshakes_with_others(&self) -> impl Iterator<Item = IkeId> {
        self.ike.unestablished().filter(|(_, key)| !self.is_with_home_agent(*key)).map(|(ike, _)| ike)
    }

    fn is_with_home_agent(&self, (local, remote): PairKey) -> bool {
        let ours = self.config.registrations.iter().any(|registration| registration.sender == local);
        ours && self.config.home_of(local).is_some_and(|home| home.agent == remote)
    }

    /// Takes our bindings back: before `shutdown`, and sent before it.
    pub fn deregister(&mut self, now: Instant) {
        self.mobility.deregister_all(now);
        self.drain_mobility(now);
    }

    /// Says goodbye to every peer.
    pub fn shutdown(&mut self, now: Instant) {
        self.pairs.for_each_mut(|pair| pair.keep_up = false);
        self.leaving = true;
        self.ike.close_all(now);
        self.drain(now);
    }

    /// No IKE SA is left: after `shutdown`, every peer has answered.
    pub fn is_quiet(&self) -> bool {
        self.ike.is_empty()
    }

    /// The IKE endpoint, to look at.
    pub fn ike(&self) -> &ike::Endpoint {
        &self.ike
    }

    /// The next IKE datagram to send.
    pub fn poll_transmit(&mut self) -> Option<ike::Transmit> {
        self.ike.poll_transmit()
    }

    /// The next packet to seal and send.
    pub fn poll_inject(&mut self) -> Option<Inject> {
        self.injects.pop_front()
    }

    /// The next packet for the TUN: ICMPv6 errors towards our own applications.
    pub fn poll_tun(&mut self) -> Option<Vec<u8>> {
        self.tun.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let retry = self.pairs.next_deadline().map(|at| (at, "peer that is kept up"));
        let tick = self.tick.map(|at| (at, "counters"));
        let paths = self.paths.next_deadline().map(|at| (at, "paths"));
        let widths = self.widths.next_deadline().map(|at| (at, "path MTU"));
        let agent = self.agent.as_ref().and_then(mobility::Agent::poll_timeout);
        let search = self.next_search().map(|at| (at, "home elsewhere"));
        [self.ike.poll_timeout(), tick, retry, self.mobility.poll_timeout(), agent, paths, widths, search]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    fn count(&mut self, reason: &'static str) {
        *self.drops.entry(reason).or_default() += 1;
    }

    /// The first of our entities whose traffic to this peer is protected.
    fn local_for(&self, remote: Ipv6Addr) -> Option<Ipv6Addr> {
        self.config
            .ike
            .entities
            .iter()
            .map(|entity| entity.address)
            .find(|local| matches!(self.config.ike.spd.decide(*local, remote), Action::Protect(_)))
    }

    /// An IKE SA between these two that is up.
    pub fn ike_with(&self, local: Ipv6Addr, remote: Ipv6Addr) -> Option<IkeId> {
        self.ikes.between((local, remote)).last().copied()
    }

    /// Every IKE SA of one of our entities.
    pub fn ikes_of(&self, local: Ipv6Addr) -> Vec<IkeId> {
        self.ikes.of(|(ours, _)| *ours == local)
    }

    /// Everybody who has an IKE SA with this entity of ours.
    pub fn remotes_of(&self, local: Option<Ipv6Addr>) -> BTreeSet<Ipv6Addr> {
        self.ikes.pairs().filter(|(ours, _)| Some(*ours) == local).map(|(_, remote)| *remote).collect()
    }

    /// Everybody whom an entity of ours is connected with, or wants to be.
    pub fn remotes(&self) -> BTreeSet<Ipv6Addr> {
        self.pairs.keys().map(|(_, remote)| *remote).collect()
    }

    /// What the peer of this pair is sent on, if anything.
    fn active_child(&self, key: PairKey) -> Option<&Child> {
        self.children.get(&self.pairs.get(&key)?.active?)
    }

    fn ikes_with(&self, remote: Ipv6Addr) -> Vec<IkeId> {
        self.ikes.of(|(_, to)| *to == remote)
    }

    /// Starts an attempt. An error is one sentence; the caller records it.
    fn start(
        &mut self,
        now: Instant,
        local: Ipv6Addr,
        remote: Ipv6Addr,
        route: RouteLookup<'_>,
    ) -> Result<(), String> {
        let peer = self
            .peer(remote)
            .ok_or_else(|| format!("{remote} is no listed peer, and its home is not trusted: 'domicile peer add' or 'domicile trust add' lets us call it"))?;
        let (hop, relayed) = match self.way_to(local, &peer)? {
            Way::Direct(endpoint) => (endpoint, false),
            Way::Relayed(hop) => (hop, true),
            // Its packets wait; `wake` begins when the binding is there.
            Way::NotYet => {
                if let Some(mut pair) = self.pairs.get_mut(&(local, remote)) {
                    pair.put_off(now);
                }
                return Ok(());
            }
        };
        let source =
            route(*hop.ip()).ok_or_else(|| format!("this machine has no IPv4 route to {} now", hop.ip()))?;
        let direct = UdpPath::direct(SocketAddrV4::new(source, self.config.port), hop);
        let path = UdpPath { relay: relayed.then_some(Relay { local, remote }), ..direct };
        self.ike.initiate(now, local, remote, path).map_err(|failure| failure.to_string())?;
        if !relayed {
            self.place_tried((local, remote), hop);
        }
        if let Some(mut pair) = self.pairs.get_mut(&(local, remote)) {
            pair.attempt = Attempt::Running;
        }
        Ok(())
    }
}

/// A packet that wants an SA, or somebody who does.
fn begins_something(event: &DataEvent) -> bool {
    match event {
        DataEvent::Ike { message, .. } => Header::parse(message).is_ok_and(|header| {
            header.exchange == exchange::IKE_SA_INIT && header.flags & flags::RESPONSE == 0
        }),
        DataEvent::Acquire { .. } | DataEvent::UnknownSpi { .. } => true,
        DataEvent::Control { .. }
        | DataEvent::NewSource { .. }
        | DataEvent::FirstPacket { .. }
        | DataEvent::SoftLimit { .. }
        | DataEvent::Exhausted { .. } => false,
    }
}
