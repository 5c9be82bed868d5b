//! Path control between two of us that met on the relayed path: one [`path::Agent`] for each pair of entities.
//!
//! The design would share paths between all SAs of the same two nodes, known by a token. A token that every
//! correspondent knows proves nothing: one of them could move the paths of another (decision 0012).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Instant;

use rand_core::Rng;

use super::indexed::Timed;
use super::pair::PairKey;
use super::{Event, Node, RouteLookup};
use crate::dataplane::event::{Relay, UdpPath};
use crate::ike::{IkeId, IkeInfo};
use crate::path::{self, Path, datagram_len};
use crate::wire::path::{Body, Candidate, CandidateKind, Message};

/// Paths between two entities.
pub(super) struct Paths {
    pub(super) agent: path::Agent,
    /// The relayed path as it is now.
    relayed: UdpPath,
}

impl Timed for Paths {
    fn deadline(&self) -> Option<Instant> {
        self.agent.poll_timeout().map(|(at, _)| at)
    }
}

impl Node {
    /// The machine's usable IPv4 addresses: candidates for direct paths.
    pub fn set_local_addresses(&mut self, addresses: Vec<Ipv4Addr>) {
        self.interfaces = addresses;
    }

    /// An SA came up on the relayed path with another of us: its paths are ours to choose.
    pub(super) fn begin_paths(
        &mut self,
        now: Instant,
        (key, ike): (PairKey, IkeId),
        relayed: UdpPath,
        confidential: bool,
    ) {
        // Addresses are told to nobody but the peer.
        if relayed.relay.is_none() || !confidential {
            return;
        }
        if self.met_anew.remove(&ike) {
            self.end_paths(key);
        }
        if let Some(mut paths) = self.paths.get_mut(&key) {
            paths.relayed = relayed;
        } else {
            let mut seed = [0; 32];
            self.rng.fill_bytes(&mut seed);
            let config = path::Config { full_size: self.config.mtu, ..path::Config::default() };
            let mut agent = path::Agent::new(config, seed).after(self.paths_used);
            agent.handle_local_candidates(now, &self.candidates(key.0));
            self.paths.or_insert_with(key, || Paths { agent, relayed });
            // What an earlier agent had moved to a direct path is this one's now, and it knows of none yet.
            self.travel(now, key, Path::Relayed, path::Reason::Start.as_str());
        }
        if let Some(mut paths) = self.paths.get_mut(&key) {
            paths.agent.handle_data_sent(now);
        }
        self.drain_paths(now, key);
    }

    /// Both ends were authenticated anew on the relayed path: their path agents begin anew, too, once there is a child SA
    /// for that. What was authenticated straight beside it, because both ends called at once, has no say: IKE closes one
    /// of the two.
    pub(super) fn paths_of_new_ike(&mut self, info: &IkeInfo) {
        let key = (info.local, info.remote);
        let fresh = info.age.is_zero();
        let relayed = if fresh { info.path.relay.is_some() } else { self.paths.contains_key(&key) };
        if relayed {
            self.met_relayed.insert(info.id);
            if fresh {
                self.met_anew.insert(info.id);
            }
        }
    }

    /// The next agent goes on behind the numbers of this one.
    pub(super) fn end_paths(&mut self, key: PairKey) {
        if let Some(paths) = self.paths.get(&key) {
            self.paths_used = self.paths_used.max(paths.agent.used().saturating_add(1));
        }
        self.paths.remove(&key);
    }

    /// Path control ends with the last IKE SA of the relayed path. What is left goes where its own IKE SA goes.
    pub(super) fn release_paths(&mut self, now: Instant, key: PairKey) {
        let left = self.ikes.between(key).to_vec();
        if left.iter().any(|id| self.met_relayed.contains(id)) || !self.paths.contains_key(&key) {
            return;
        }
        self.end_paths(key);
        let path = self.ike.list_between(now, key).find(|info| left.contains(&info.id)).map(|info| info.path);
        let installed = self.pairs.get(&key).map(|pair| pair.installed.clone()).unwrap_or_default();
        if let Some(path) = path {
            self.move_children(now, &installed, path, "the two met straight, too");
        }
    }

    /// What we offer: our interfaces, and what our home agent sees.
    fn candidates(&self, local: Ipv6Addr) -> Vec<Candidate> {
        let port = self.config.port;
        let observed = self.sender_for(local).and_then(|sender| self.observed.get(&sender).copied());
        observed
            .map(|address| Candidate { kind: CandidateKind::Observed, address })
            .into_iter()
            .chain(self.interfaces.iter().map(|address| Candidate {
                kind: CandidateKind::Interface,
                address: SocketAddrV4::new(*address, port),
            }))
            .collect()
    }

    /// What we offer changed.
    pub(super) fn announce_candidates(&mut self, now: Instant) {
        for key in self.paths.keys().copied().collect::<Vec<_>>() {
            let candidates = self.candidates(key.0);
            if let Some(mut paths) = self.paths.get_mut(&key) {
                paths.agent.handle_local_candidates(now, &candidates);
            }
            self.drain_paths(now, key);
        }
    }

    /// We moved: back to the relay at once, and new direct paths from there.
    pub(super) fn paths_moved(&mut self, now: Instant, route: RouteLookup<'_>) {
        for key in self.paths.keys().copied().collect::<Vec<_>>() {
            let relayed = self.relayed_path(key.0, key.1, route);
            let candidates = self.candidates(key.0);
            let Some(mut paths) = self.paths.get_mut(&key) else { continue };
            if let Some(relayed) = relayed {
                paths.relayed = relayed;
            }
            paths.agent.handle_local_change(now, &candidates);
            let current = paths.agent.current();
            drop(paths);
            self.drain_paths(now, key);
            self.travel(now, key, current, path::Reason::LocalMoved.as_str());
        }
    }

    /// What was known of direct paths may be over.
    pub(super) fn paths_doubted(&mut self, now: Instant) {
        for key in self.paths.keys().copied().collect::<Vec<_>>() {
            if let Some(mut paths) = self.paths.get_mut(&key) {
                paths.agent.handle_doubt(now);
            }
            self.drain_paths(now, key);
        }
    }

    /// The care-of address of whoever is bound at our own home agent changed.
    pub(super) fn relay_moved(&mut self, now: Instant, key: PairKey, care_of: SocketAddrV4) {
        let Some(mut paths) = self.paths.get_mut(&key) else { return };
        paths.relayed.remote = care_of;
        let current = paths.agent.current();
        drop(paths);
        self.travel(now, key, current, path::Reason::PeerMoved.as_str());
    }

    /// A message of path control arrived.
    pub(super) fn handle_path_message(&mut self, now: Instant, key: PairKey, from: UdpPath, body: &[u8]) {
        let message = match Message::parse(body) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(from = %key.1, %error, "path message ignored");
                return self.count("path_malformed");
            }
        };
        if let Body::Response { token, .. } = message.body
            && self.width_answered(now, key, token)
        {
            return;
        }
        if let Some(mut paths) = self.paths.get_mut(&key) {
            paths.agent.handle_message(now, seen(from), datagram_len(body.len()), &message);
        } else if let Body::Challenge { token, .. } = message.body {
            self.answer_challenge(key, from, token);
        } else {
            self.count("path_unexpected");
        }
        self.drain_paths(now, key);
    }

    /// Authentic ESP came another way than ours goes. False: these paths are not path control's business.
    pub(super) fn path_seen(&mut self, now: Instant, key: PairKey, from: UdpPath) -> bool {
        /// Of the packet only the arrival is told: at least this long it was.
        const LEAST: usize = 40;
        let Some(mut paths) = self.paths.get_mut(&key) else { return false };
        paths.agent.handle_datagram_seen(now, seen(from), LEAST);
        drop(paths);
        self.drain_paths(now, key);
        true
    }

    /// Data was sent to this peer since the counters were last read.
    pub(super) fn paths_carry(&mut self, now: Instant, key: PairKey) {
        let Some(mut paths) = self.paths.get_mut(&key) else { return };
        paths.agent.handle_data_sent(now);
        drop(paths);
        self.drain_paths(now, key);
    }

    pub(super) fn paths_timeout(&mut self, now: Instant) {
        for key in self.paths.due(now) {
            if let Some(mut paths) = self.paths.get_mut(&key) {
                paths.agent.handle_timeout(now);
            }
            self.drain_paths(now, key);
        }
    }

    fn drain_paths(&mut self, now: Instant, key: PairKey) {
        while let Some(transmit) = self.paths.get_mut(&key).and_then(|mut paths| paths.agent.poll_transmit())
        {
            let Some(paths) = self.paths.get(&key) else { continue };
            let path = on_wire(transmit.path, paths.relayed);
            self.send_dummy(key, path, &transmit.message);
        }
        while let Some(event) = self.paths.get_mut(&key).and_then(|mut paths| paths.agent.poll_event()) {
            let path::Event::PathChanged { path, reason } = event;
            self.travel(now, key, path, reason.as_str());
            self.announce_path(key, path, reason);
            if reason == path::Reason::Unanswered {
                self.doubt_home(now, key.0);
            }
        }
    }

    /// All SAs of a pair travel this way from now on.
    fn travel(&mut self, now: Instant, key: PairKey, path: Path, reason: &'static str) {
        let Some(paths) = self.paths.get(&key) else { return };
        let path = on_wire(path, paths.relayed);
        let installed = self.pairs.get(&key).map(|pair| pair.installed.clone()).unwrap_or_default();
        self.move_children(now, &installed, path, reason);
        for ike in self.ikes.between(key) {
            self.ike.set_path(now, *ike, path);
        }
    }

    fn announce_path(&mut self, key: PairKey, path: Path, reason: path::Reason) {
        let Some(paths) = self.paths.get(&key) else { return };
        let path = on_wire(path, paths.relayed);
        let reason = Some(reason.to_string());
        self.events.push_back(Event::PathChanged { remote: key.1, path, reason });
    }

    /// A direct path died: perhaps our NAT forgot us, and then our home agent does not reach us, either. It is asked now
    /// and not at its turn.
    fn doubt_home(&mut self, now: Instant, local: Ipv6Addr) {
        let Some(sender) = self.sender_for(local) else { return };
        let Some(agent) = self.config.home_of(sender).map(|home| home.agent) else { return };
        self.mobility.handle_doubt(now, agent);
        self.drain_mobility(now);
    }

    /// The path for a new child of this pair.
    pub(super) fn chosen_path(&self, key: PairKey) -> Option<UdpPath> {
        let paths = self.paths.get(&key)?;
        Some(on_wire(paths.agent.current(), paths.relayed))
    }
}

/// As the agent names it.
fn seen(from: UdpPath) -> Path {
    match from.relay {
        Some(Relay { .. }) => Path::Relayed,
        None => Path::Direct { local: Some(from.local), remote: from.remote },
    }
}

/// As the data plane needs it. Without an address of our own the machine's routes choose it.
fn on_wire(path: Path, relayed: UdpPath) -> UdpPath {
    match path {
        Path::Relayed => relayed,
        Path::Direct { local, remote } => {
            let unspecified = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, relayed.local.port());
            UdpPath::direct(local.unwrap_or(unspecified), remote)
        }
    }
}
