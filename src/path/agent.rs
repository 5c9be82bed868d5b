//! The agent: everything about the paths to one peer node.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::candidate::{self, LanPolicy};
use super::exchange::{Exchange, Heard};
use super::reason::Reason;
use super::selection::{Class, choose};
use super::status::PathStatus;
use super::validation::{Remote, datagram_len};
use super::{Path, candidate::may_send_to};
use crate::wire::path::{Body, Candidate, CandidateList, Message};

/// Without data for this long, direct paths are left to die.
pub(super) const IDLE: Duration = Duration::from_secs(120);
/// Addresses that the peer did not name.
const MAX_LEARNED: usize = 8;
/// Own addresses that are looked at; eight of them are told.
const MAX_LOCAL: usize = 64;
/// Messages that wait for `poll_transmit`; the oldest are lost, as datagrams may be.
const MAX_TRANSMITS: usize = 128;

/// How an agent behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Octets of the largest inner packet, at least [`LEAST`](super::pmtu::LEAST): what a full-size challenge is as large as.
    pub full_size: u16,
    /// When addresses of local networks count.
    pub lan: LanPolicy,
}

impl Default for Config {
    /// The TUN's MTU of 1,380; local addresses to peers behind the same public address.
    fn default() -> Self {
        Self { full_size: 1380, lan: LanPolicy::default() }
    }
}

/// A message to send in an ESP dummy packet on the control child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Which way.
    pub path: Path,
    /// What; [`Message::to_bytes`] is the plaintext.
    pub message: Message,
}

/// Something that the node must act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All data to this peer node travels this way from now on.
    PathChanged {
        /// The path.
        path: Path,
        /// Why.
        reason: Reason,
    },
}

/// Paths to one peer node. See the [module](super) for the contract and an example.
pub struct Agent {
    pub(super) config: Config,
    pub(super) rng: ChaCha20Rng,
    pub(super) locals: Vec<Candidate>,
    pub(super) moves: u32,
    pub(super) peer_moves: u32,
    pub(super) exchange: Exchange,
    pub(super) remotes: Vec<Remote>,
    /// The address that data goes to; `None` is the relay.
    pub(super) selected: Option<SocketAddrV4>,
    /// When we sent data last.
    pub(super) sent: Option<Instant>,
    /// When the peer told last that it has data for us.
    pub(super) wanted: Option<Instant>,
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) events: VecDeque<Event>,
}

impl Agent {
    /// A new conversation: relayed. `seed` comes from the system's random source, never twice.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            config,
            rng: ChaCha20Rng::from_seed(seed),
            locals: Vec::new(),
            moves: 0,
            peer_moves: 0,
            exchange: Exchange::new(),
            remotes: Vec::new(),
            selected: None,
            sent: None,
            wanted: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Its numbers begin behind these, which an earlier agent for the same peer had used: both ends do not begin anew in
    /// the same instant, and what is lower than before the other one ignores.
    #[must_use]
    pub fn after(mut self, used: u32) -> Self {
        self.moves = used;
        self.exchange.begin_after(used);
        self
    }

    /// The highest number that was told to the peer.
    pub fn used(&self) -> u32 {
        self.moves.max(self.exchange.generation())
    }

    // Inputs.

    /// Our own addresses: those of interfaces, and the one that the home agent sees. Replaces what was given before. While
    /// the home agent cannot be asked, keep giving what it saw last. For an address in use that went away, or a default
    /// route that changed, call [`handle_local_change`](Self::handle_local_change) instead.
    pub fn handle_local_candidates(&mut self, now: Instant, candidates: &[Candidate]) {
        self.locals = candidates.iter().take(MAX_LOCAL).copied().collect();
        self.announce_changes(now);
        self.run(now);
    }

    /// This machine moved: everything goes over the relay at once, and in the same instant the peer is told the new
    /// addresses and asked from them at its own. As soon as the home agent says how it sees us now, call
    /// [`handle_local_candidates`](Self::handle_local_candidates).
    pub fn handle_local_change(&mut self, now: Instant, candidates: &[Candidate]) {
        self.locals = candidates.iter().take(MAX_LOCAL).copied().collect();
        self.moves = self.moves.saturating_add(1);
        if self.is_active(now) {
            for remote in &mut self.remotes {
                remote.restart(now);
            }
            self.select(None, Reason::LocalMoved);
            self.begin_round(now);
        }
        self.run(now);
    }

    /// Data was or is about to be sent to the peer, on whatever path. Call it with the first packet of a conversation and
    /// then at least once a second while data flows; calling it more often costs nothing.
    pub fn handle_data_sent(&mut self, now: Instant) {
        self.sent = Some(now);
        if self.selected.is_none() && self.exchange.retry_at().is_none() {
            self.begin_round(now);
        }
        self.run(now);
    }

    /// Authentic data came directly from an address that is not the current path's: a datagram of `octets` octets of UDP
    /// payload. It moves nothing; both addresses are asked (RFC 9000 §9.3.3).
    pub fn handle_datagram_seen(&mut self, now: Instant, path: Path, octets: usize) {
        self.wanted = Some(now);
        if let Path::Direct { local, remote } = path
            && self.selected != Some(remote)
        {
            self.hear_from(now, remote, octets, local);
            self.provoke(now, remote);
            if let Some(current) = self.in_use() {
                current.doubt(now);
            }
        }
        self.run(now);
    }

    /// A message of path control came, in a datagram of `octets` octets of UDP payload (without meaning when relayed).
    pub fn handle_message(&mut self, now: Instant, path: Path, octets: usize, message: &Message) {
        if message.moves > self.peer_moves {
            self.peer_moves = message.moves;
            self.remotes.clear();
            self.exchange.forget_peer();
            self.select(None, Reason::PeerMoved);
        }
        // What the peer sent before it moved says nothing about where it is.
        let current = message.moves == self.peer_moves;
        if message.in_use && current {
            self.wanted = Some(now);
        }
        if let Path::Direct { local, remote } = path
            && current
            && self.is_active(now)
        {
            self.hear_from(now, remote, octets, local);
        }
        match message.body {
            Body::Candidates { generation, acknowledged, answer, list } => {
                let heard = self.exchange.hear(now, generation, acknowledged, list);
                self.handle_candidates(now, path, heard, answer);
            }
            Body::Challenge { token, .. } => self.handle_challenge(now, path, current, token),
            Body::Response { token, observed } => self.handle_response(now, token, observed),
        }
        self.run(now);
    }

    /// This machine may have slept: the path in use is asked at once, and a direct one is looked for soon.
    pub fn handle_doubt(&mut self, now: Instant) {
        if let Some(current) = self.in_use() {
            current.doubt(now);
        } else if self.is_active(now) {
            self.exchange.reset_retry();
            self.begin_round(now);
        }
        self.run(now);
    }

    // Outputs.

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    // What `status` shows.

    /// The path that data travels now.
    pub fn current(&self) -> Path {
        let remote = self.remotes.iter().find(|remote| Some(remote.address) == self.selected);
        remote.map_or(Path::Relayed, Remote::path)
    }

    /// Inner packets of this many octets passed on the direct path in use before it was used: the largest, or only those
    /// of [`LEAST`](super::pmtu::LEAST) because larger ones were lost. Nobody proves the relay here.
    pub fn proven_size(&self) -> Option<u16> {
        self.remotes.iter().find(|remote| Some(remote.address) == self.selected).map(Remote::proven)
    }

    /// The addresses that the peer was told last.
    pub fn offered(&self) -> &[Candidate] {
        self.exchange.told().as_slice()
    }

    /// All direct paths that are known.
    pub fn paths(&self) -> impl Iterator<Item = PathStatus> {
        self.remotes.iter().map(|remote| remote.status(Some(remote.address) == self.selected))
    }

    // Messages.

    fn handle_candidates(&mut self, now: Instant, came: Path, heard: Heard, answer: bool) {
        match heard {
            Heard::Old => return,
            Heard::Again => {}
            Heard::New { punch } => self.take_candidates(now, punch),
        }
        if answer {
            self.announce_changes(now);
            return;
        }
        let list = self.advertised();
        let body = self.exchange.answer(list, heard == Heard::Again);
        self.send_candidates(now, came, body);
    }

    /// The peer's list is the whole truth: what it names is tried, what it does not name any more is dropped.
    fn take_candidates(&mut self, now: Instant, punch: bool) {
        let lan = self.lan_counts();
        let named = candidate::accepted(self.exchange.peer(), &self.locals, lan);
        if !self.is_active(now) {
            return;
        }
        self.remotes.retain(|remote| remote.class == Class::Learned || named.contains(&remote.address));
        for address in named {
            let class = candidate::class(address);
            match self.remotes.iter_mut().find(|remote| remote.address == address) {
                Some(remote) => remote.name(now, class, punch),
                None => {
                    let mut remote = Remote::new(address, class);
                    remote.name(now, class, punch);
                    self.remotes.push(remote);
                }
            }
        }
        // A new round gives packets another chance to pass where too few did, also to addresses that no list names.
        for remote in self.remotes.iter_mut().filter(|_| punch) {
            remote.widen(now);
        }
        self.reselect(now, Reason::Withdrawn);
    }

    /// A response goes back once, on the pair on which the challenge came.
    fn handle_challenge(&mut self, now: Instant, came: Path, current: bool, token: [u8; 8]) {
        let mut observed = None;
        if let Path::Direct { remote, .. } = came {
            observed = Some(remote);
            let octets = datagram_len(self.message(now, Body::Response { token, observed }).len());
            // Unknown to us, nothing else is sent there, and a response is less than three challenges.
            if self.find(remote).is_some_and(|remote| !remote.may_send(octets)) {
                return;
            }
        }
        self.send(now, came, Body::Response { token, observed });
        if let Path::Direct { remote, .. } = came
            && current
        {
            self.provoke(now, remote);
        }
    }

    /// Whatever way a response comes, it proves the address that the challenge went to (RFC 9000 §8.2.3): only who got
    /// the challenge knows the token. So whoever forwards the peer's packets from an address of his own, and is faster,
    /// cannot make the old path look dead.
    fn handle_response(&mut self, now: Instant, token: [u8; 8], observed: Option<SocketAddrV4>) {
        if self.remotes.iter_mut().any(|remote| remote.answer(now, token, observed)) {
            self.reselect(now, Reason::Unanswered);
        }
    }

    /// A message as the peer's agent expects it.
    pub fn message(&self, now: Instant, body: Body) -> Message {
        Message { moves: self.moves, in_use: is_recent(self.sent, now), body }
    }

    pub(super) fn send(&mut self, now: Instant, path: Path, body: Body) {
        if self.transmits.len() == MAX_TRANSMITS {
            self.transmits.pop_front();
        }
        let message = self.message(now, body);
        self.transmits.push_back(Transmit { path, message });
    }

    /// Over the relay, or over a direct path where the peer has answered.
    pub(super) fn send_candidates(&mut self, now: Instant, path: Path, body: Body) {
        let answered = match path {
            Path::Relayed => true,
            Path::Direct { remote, .. } => self.find(remote).is_some_and(|remote| remote.has_answered()),
        };
        self.send(now, if answered { path } else { Path::Relayed }, body);
    }

    // Candidates.

    fn lan_counts(&self) -> bool {
        self.config.lan.allows(&self.locals, self.exchange.peer().as_slice())
    }

    fn advertised(&self) -> CandidateList {
        candidate::advertised(&self.locals, self.lan_counts())
    }

    pub(super) fn begin_round(&mut self, now: Instant) {
        let list = self.advertised();
        self.exchange.begin(now, list);
    }

    /// Tells the peer when what it may know of us changed.
    fn announce_changes(&mut self, now: Instant) {
        if self.is_active(now) && self.advertised() != *self.exchange.told() {
            self.begin_round(now);
        }
    }

    // Addresses of the peer.

    fn find(&mut self, address: SocketAddrV4) -> Option<&mut Remote> {
        self.remotes.iter_mut().find(|remote| remote.address == address)
    }

    fn in_use(&mut self) -> Option<&mut Remote> {
        self.find(self.selected?)
    }

    /// Counts what came, and keeps a place for an address that the peer did not name.
    fn hear_from(&mut self, now: Instant, address: SocketAddrV4, octets: usize, local: Option<SocketAddrV4>) {
        if self.find(address).is_none() {
            if !may_send_to(address) || !self.is_active(now) {
                return;
            }
            let learned = self.remotes.iter().filter(|remote| remote.class == Class::Learned).count();
            if learned >= MAX_LEARNED && !self.forget_learned() {
                return;
            }
            self.remotes.push(Remote::new(address, Class::Learned));
        }
        if let Some(remote) = self.find(address) {
            remote.heard(octets, local);
        }
    }

    /// Gives up the oldest address that the peer neither named nor answered from; else the one that answered longest ago
    /// and is not in use.
    fn forget_learned(&mut self) -> bool {
        let selected = self.selected;
        let victim = (self.remotes.iter().enumerate())
            .filter(|(_, remote)| remote.class == Class::Learned && Some(remote.address) != selected)
            .min_by_key(|(index, remote)| (remote.has_answered(), remote.last_answer(), *index))
            .map(|(index, _)| index);
        victim.map(|index| self.remotes.remove(index)).is_some()
    }

    fn provoke(&mut self, now: Instant, address: SocketAddrV4) {
        if self.is_active(now)
            && may_send_to(address)
            && let Some(remote) = self.find(address)
        {
            remote.provoke(now);
        }
    }

    /// Ranks again; `lost` is the reason if nothing direct is left.
    pub(super) fn reselect(&mut self, now: Instant, lost: Reason) {
        let mut current = None;
        let mut addresses = Vec::with_capacity(self.remotes.len());
        let mut contenders = Vec::with_capacity(self.remotes.len());
        for remote in &self.remotes {
            let in_use = Some(remote.address) == self.selected;
            if let Some(contender) = remote.contender(now, in_use) {
                if in_use {
                    current = Some(contenders.len());
                }
                addresses.push(remote.address);
                contenders.push(contender);
            }
        }
        let chosen = choose(current, &contenders);
        match chosen.and_then(|(index, reason)| Some((*addresses.get(index)?, reason))) {
            Some((address, reason)) => self.select(Some(address), reason),
            None => self.select(None, lost),
        }
    }

    pub(super) fn select(&mut self, address: Option<SocketAddrV4>, reason: Reason) {
        if self.selected == address {
            return;
        }
        self.selected = address;
        // Rounds are for relayed data: whichever way it went, they begin anew.
        self.exchange.reset_retry();
        let path = self.current();
        self.events.push_back(Event::PathChanged { path, reason });
    }
}

pub(super) fn is_recent(last: Option<Instant>, now: Instant) -> bool {
    last.is_some_and(|last| now < last + IDLE)
}
