//! The endpoint: every IKE SA of one process.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::config::Config;
use super::context::{Context, Deferred};
use super::event::{ChildId, CloseReason, Event, Failure, IkeId, IkeInfo, Transmit};
use super::init;
use super::nat;
use super::sa::{Phase, Sa};
use super::timer::Timer;
use super::window::Want;
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{Header, encode_message, exchange, flags, notify_type as nt};

/// Half-open SAs at most, whatever the cookie threshold: each holds two messages and its keys, about 4 KB.
const MAX_HALF_OPEN: usize = 1024;
/// Half-open SAs from one address before it has to prove itself with a cookie: a forger cannot shut its owner out.
const UNPROVEN_PER_SOURCE: usize = 16;
/// Half-open SAs from one proven address.
const MAX_HALF_OPEN_PER_SOURCE: usize = 256;
/// INVALID_IKE_SPI answers a second: they answer anybody.
const MAX_HINTS: u32 = 20;

/// All IKE SAs of this process. Method families: `handle_*` inputs, commands, `poll_*` outputs. After every input
/// or command drain `poll_transmit`, then `poll_event`, then arm a timer for `poll_timeout`.
pub struct Endpoint {
    pub(super) ctx: Context,
    pub(super) sas: BTreeMap<IkeId, Sa>,
    /// Our own SPI of every SA.
    by_spi: HashMap<u64, IkeId>,
    /// Half-open SAs by their request, for retransmitted ones.
    half_open: BTreeMap<(SocketAddrV4, u64), IkeId>,
    /// Start of the current second of hints, and how many it has seen.
    hints: (Instant, u32),
}

impl Endpoint {
    /// A fresh endpoint. `seed` must come from the system's random source and never be used twice.
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        Self {
            ctx: Context::new(config, ChaCha20Rng::from_seed(seed), now),
            sas: BTreeMap::new(),
            by_spi: HashMap::new(),
            half_open: BTreeMap::new(),
            hints: (now, 0),
        }
    }

    /// Replaces the configuration. SAs whose peer, key, entity or policy is gone or changed are closed.
    pub fn set_config(&mut self, now: Instant, config: Config) {
        let old = std::mem::replace(&mut self.ctx.config, config);
        let doomed: Vec<IkeId> = self
            .sas
            .values()
            .filter(|sa| sa.remote != Ipv6Addr::UNSPECIFIED && !still_allowed(&old, &self.ctx, sa))
            .map(|sa| sa.id)
            .collect();
        for id in doomed {
            self.close(now, id);
        }
    }

    /// An IKE message arrived (without non-ESP marker).
    pub fn handle_datagram(&mut self, now: Instant, path: UdpPath, message: &[u8]) {
        let Ok(header) = Header::parse(message) else { return };
        let request = header.flags & flags::RESPONSE == 0;
        if header.exchange == exchange::IKE_SA_INIT && request {
            if header.responder_spi == 0 && header.initiator_spi != 0 && header.message_id == 0 {
                self.handle_init_request(now, path, &header, message);
            }
            return;
        }
        let from_initiator = header.flags & flags::INITIATOR != 0;
        let (ours, theirs) = if from_initiator {
            (header.responder_spi, header.initiator_spi)
        } else {
            (header.initiator_spi, header.responder_spi)
        };
        let id = self.by_spi.get(&ours).copied().filter(|id| {
            self.sas.get(id).is_some_and(|sa| {
                let known = if sa.initiator { sa.spi_r } else { sa.spi_i };
                sa.initiator != from_initiator && (known == theirs || matches!(sa.phase, Phase::InitSent(_)))
            })
        });
        match id {
            Some(id) => self.with(now, id, |sa, ctx| sa.handle(ctx, now, path, &header, message)),
            None if request => self.hint_unknown(now, path, &header),
            None => {}
        }
    }

    fn handle_init_request(&mut self, now: Instant, path: UdpPath, header: &Header, message: &[u8]) {
        let key = (path.remote, header.initiator_spi);
        if let Some(sa) = self.half_open.get(&key).and_then(|id| self.sas.get(id)) {
            if let Phase::HalfOpen(half) = &sa.phase
                && half.request == message
            {
                self.ctx.send(path, std::slice::from_ref(&half.response));
            }
            return;
        }
        let from_here = self.half_open.keys().filter(|(from, _)| from.ip() == path.remote.ip()).count();
        if self.half_open.len() >= MAX_HALF_OPEN || from_here >= MAX_HALF_OPEN_PER_SOURCE {
            return;
        }
        let crowded =
            self.half_open.len() >= self.ctx.config.cookie_threshold || from_here >= UNPROVEN_PER_SOURCE;
        if let Some(sa) = init::answer(&mut self.ctx, now, path, header, message, crowded) {
            self.half_open.insert(key, sa.id);
            self.insert(sa);
        }
    }

    /// A request for an SA that we do not have: perhaps we restarted. Tell, but not too often (RFC 7296 §2.21.4).
    fn hint_unknown(&mut self, now: Instant, path: UdpPath, header: &Header) {
        if now.saturating_duration_since(self.hints.0) >= Duration::from_secs(1) {
            self.hints = (now, 0);
        }
        if self.hints.1 >= MAX_HINTS {
            return;
        }
        self.hints.1 += 1;
        let answer = Header {
            flags: flags::RESPONSE | if header.flags & flags::INITIATOR == 0 { flags::INITIATOR } else { 0 },
            ..*header
        };
        let message = encode_message(answer, &[nat::status(nt::INVALID_IKE_SPI, Vec::new())]);
        self.ctx.send(path, &[message]);
    }

    /// Authentic traffic arrived on this inbound SPI for the first time (a rekeyed child may now be sent on).
    pub fn handle_first_packet(&mut self, now: Instant, spi_in: u32) {
        if let Some(id) = self.ctx.inbound.get(&spi_in).copied() {
            self.with(now, id, |sa, ctx| {
                sa.heard(now);
                sa.child_used(ctx, spi_in);
            });
        }
    }

    /// Authentic ESP arrived on this SPI recently: proof of life.
    pub fn handle_traffic(&mut self, now: Instant, spi_in: u32) {
        if let Some(sa) = self.ctx.inbound.get(&spi_in).and_then(|id| self.sas.get_mut(id)) {
            sa.heard(now);
        }
    }

    /// We sent on this child recently and expect to hear something: arms the liveness check.
    pub fn handle_sent(&mut self, now: Instant, spi_out: u32) {
        let dpd = self.ctx.config.lifetimes.dpd;
        if let Some(sa) = self.ctx.outbound.get(&spi_out).and_then(|id| self.sas.get_mut(id)) {
            sa.sent = Some(now);
            if sa.is_established() && !sa.timers.is_set(Timer::Liveness) {
                sa.timers.set(Timer::Liveness, now.max(sa.heard + dpd));
            }
        }
    }

    /// Authentic ESP for this SPI came from another address: probe it (COOKIE2), and move there if it answers.
    pub fn handle_new_source(&mut self, now: Instant, spi_in: u32, path: UdpPath) {
        if let Some(id) = self.ctx.inbound.get(&spi_in).copied() {
            self.with(now, id, |sa, ctx| sa.new_source(ctx, now, path));
        }
    }

    /// A child passed a soft limit: rekey it. `spi` is inbound or outbound.
    pub fn handle_soft_limit(&mut self, now: Instant, spi: u32) {
        let id = self.ctx.inbound.get(&spi).or_else(|| self.ctx.outbound.get(&spi)).copied();
        if let Some(id) = id {
            self.with(now, id, |sa, ctx| {
                let child = sa.children.iter().find(|(_, child)| child.spi_in == spi || child.spi_out == spi);
                if let Some((child, _)) = child {
                    sa.window.want(Want::RekeyChild(*child));
                    sa.pump(ctx, now);
                }
            });
        }
    }

    /// The machine's IPv4 addresses changed; `route` tells the source address for a destination, if any.
    /// SAs whose local address changed move by MOBIKE, or are initiated anew.
    pub fn handle_local_change(&mut self, now: Instant, route: &dyn Fn(Ipv4Addr) -> Option<Ipv4Addr>) {
        let ids: Vec<IkeId> = self.sas.keys().copied().collect();
        for id in ids {
            self.with(now, id, |sa, ctx| sa.local_changed(ctx, now, route));
        }
    }

    /// Starts (or finds) an IKE SA with one child between these two entities.
    pub fn initiate(
        &mut self,
        now: Instant,
        local: Ipv6Addr,
        remote: Ipv6Addr,
        path: UdpPath,
    ) -> Result<IkeId, Failure> {
        if self.ctx.entity(local).is_none() {
            return Err(Failure::UnknownPeer(local));
        }
        if self.ctx.config.pad.find(remote).is_none() {
            return Err(Failure::UnknownPeer(remote));
        }
        let existing = self
            .sas
            .values()
            .find(|sa| {
                let gone = matches!(sa.phase, Phase::Closed) || sa.is_leaving();
                sa.local == local && sa.remote == remote && !gone
            })
            .map(|sa| (sa.id, sa.is_established() && sa.children.values().all(|child| child.deleting)));
        if let Some((id, childless)) = existing {
            if childless {
                self.with(now, id, |sa, ctx| {
                    sa.window.want(Want::Child);
                    sa.pump(ctx, now);
                });
            }
            return Ok(id);
        }
        let sa = init::start(&mut self.ctx, now, local, remote, path);
        let id = sa.id;
        self.insert(sa);
        self.settle(now);
        Ok(id)
    }

    /// Sends a document (at most [`MAX_DOCUMENT`](super::MAX_DOCUMENT) octets) to the peer, which must be one of us.
    /// False: that cannot be now. It may still be lost with the SA.
    pub fn tell(&mut self, now: Instant, ike: IkeId, document: Vec<u8>) -> bool {
        let mut taken = false;
        self.with(now, ike, |sa, ctx| taken = sa.tell(ctx, now, document));
        taken
    }

    /// Messages of this SA travel this way from now on; a request under way is repeated there. For SAs whose paths are
    /// somebody else's business than MOBIKE's. Children stay where they are.
    pub fn set_path(&mut self, now: Instant, ike: IkeId, path: UdpPath) {
        self.with(now, ike, |sa, ctx| sa.take_path(ctx, now, path));
    }

    /// Replaces a child SA now.
    pub fn rekey_child(&mut self, now: Instant, child: ChildId) {
        let owner = self.sas.values().find(|sa| sa.children.contains_key(&child)).map(|sa| sa.id);
        if let Some(id) = owner {
            self.want(now, id, Want::RekeyChild(child));
        }
    }

    /// Replaces the IKE SA now; its children move.
    pub fn rekey_ike(&mut self, now: Instant, ike: IkeId) {
        self.want(now, ike, Want::RekeyIke);
    }

    /// Authenticates anew, make-before-break.
    pub fn reauthenticate(&mut self, now: Instant, ike: IkeId) {
        if let Some(path) = self.sas.get(&ike).filter(|sa| sa.is_established()).map(|sa| sa.path) {
            self.replace(now, ike, path);
            self.settle(now);
        }
    }

    /// Says goodbye (DELETE) and forgets the SA.
    pub fn close(&mut self, now: Instant, ike: IkeId) {
        self.with(now, ike, |sa, ctx| {
            if sa.is_established() {
                // Goodbye does not wait for the window: whatever was asked is of no interest any more.
                sa.window.outstanding = None;
                sa.window.forget_wants();
                sa.begin_delete_ike(ctx, now, CloseReason::Local);
            } else {
                sa.end(ctx, CloseReason::Local);
            }
        });
    }

    /// `close` for every SA: what `down` does.
    pub fn close_all(&mut self, now: Instant) {
        let ids: Vec<IkeId> = self.sas.keys().copied().collect();
        for id in ids {
            self.close(now, id);
        }
    }

    /// Every established IKE SA.
    pub fn list(&self, now: Instant) -> Vec<IkeInfo> {
        self.sas
            .values()
            .filter(|sa| sa.is_established() && !sa.keys_unproven)
            .map(|sa| sa.info(now))
            .collect()
    }

    /// Is there an IKE SA between these two that has a child or may still get one?
    pub fn is_trying(&self, local: Ipv6Addr, remote: Ipv6Addr) -> bool {
        self.sas.values().any(|sa| {
            (sa.local, sa.remote) == (local, remote) && !matches!(sa.phase, Phase::Closed) && !sa.is_leaving()
        })
    }

    /// Half-open SAs of the responder: state that nobody is authenticated for.
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// IKE SAs in any state.
    pub fn len(&self) -> usize {
        self.sas.len()
    }

    /// True when there is no IKE SA at all.
    pub fn is_empty(&self) -> bool {
        self.sas.is_empty()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.ctx.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.ctx.events.pop_front()
    }

    fn want(&mut self, now: Instant, id: IkeId, want: Want) {
        self.with(now, id, |sa, ctx| {
            sa.window.want(want);
            sa.pump(ctx, now);
        });
    }

    /// Lets one SA act, then does what it asked for.
    pub(super) fn with(&mut self, now: Instant, id: IkeId, act: impl FnOnce(&mut Sa, &mut Context)) {
        if let Some(sa) = self.sas.get_mut(&id) {
            let was_half_open = matches!(sa.phase, Phase::HalfOpen(_));
            act(sa, &mut self.ctx);
            // One that was refused still holds state for nobody proven, so it goes on counting until it is removed.
            if was_half_open && sa.is_established() {
                self.half_open.retain(|_, other| *other != id);
            }
        }
        self.settle(now);
    }

    pub(super) fn insert(&mut self, sa: Sa) {
        self.by_spi.insert(sa.own_spi(), sa.id);
        self.sas.insert(sa.id, sa);
    }

    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(deferred) = self.ctx.deferred.pop_front() {
            match deferred {
                Deferred::Add(sa) => {
                    let (id, pair) = (sa.id, (sa.local, sa.remote));
                    self.insert(*sa);
                    if let Some(sa) = self.sas.get_mut(&id) {
                        sa.pump(&mut self.ctx, now);
                    }
                    self.supersede_older(now, pair);
                }
                Deferred::Established { id, initial_contact } => self.established(now, id, initial_contact),
                Deferred::Leave { id } => {
                    if let Some(pair) = self.sas.get(&id).map(|sa| (sa.local, sa.remote)) {
                        self.send_on_best(pair, Some(id));
                    }
                }
                Deferred::Drain { id, child, spi_in, reason } => self.drain(now, id, child, spi_in, reason),
                Deferred::Remove { id, reason } => self.remove(now, id, reason),
                Deferred::Replace { id, path } => self.replace(now, id, path),
            }
        }
    }

    pub(super) fn replace(&mut self, now: Instant, id: IkeId, path: UdpPath) {
        let Some(old) = self.sas.get(&id) else { return };
        let (local, remote) = (old.local, old.remote);
        let under_way = self.sas.values().any(|sa| {
            sa.local == local
                && sa.remote == remote
                && matches!(sa.phase, Phase::InitSent(_) | Phase::AuthSent(_))
        });
        if under_way || self.ctx.config.pad.find(remote).is_none() {
            return;
        }
        let mut sa = init::start(&mut self.ctx, now, local, remote, path);
        sa.replaces = Some(id);
        self.insert(sa);
    }

    pub(super) fn remove(&mut self, now: Instant, id: IkeId, reason: CloseReason) {
        let Some(sa) = self.sas.remove(&id) else { return };
        self.by_spi.remove(&sa.own_spi());
        self.half_open.retain(|_, other| *other != id);
        let gentle = matches!(reason, CloseReason::Replaced | CloseReason::Peer);
        let others = !sa.children.is_empty() && self.send_on_best((sa.local, sa.remote), None);
        for (child, state) in &sa.children {
            self.ctx.outbound.remove(&state.spi_out);
            if gentle && others {
                self.ctx.drain_child(now, *child, state.spi_in, reason.clone());
            } else {
                self.ctx.close_child(*child, state.spi_in, reason.clone());
            }
        }
        if sa.remote == Ipv6Addr::UNSPECIFIED {
            return;
        }
        let left = self.sas.values().filter(|other| (other.local, other.remote) == (sa.local, sa.remote));
        for other in left.map(|other| other.id).collect::<Vec<_>>() {
            self.keep_if_last(other);
        }
        let never_up = sa.initiator && sa.keys_unproven;
        match (&reason, never_up) {
            (CloseReason::Failed(failure), true) => self.ctx.emit(Event::InitiationFailed {
                local: sa.local,
                remote: sa.remote,
                failure: failure.clone(),
            }),
            (_, true) => {}
            (_, false) => {
                self.ctx.emit(Event::IkeClosed { id, local: sa.local, remote: sa.remote, reason });
            }
        }
    }

    fn drain(&mut self, now: Instant, id: IkeId, child: ChildId, spi_in: u32, reason: CloseReason) {
        let pair = self.sas.get(&id).map(|sa| (sa.local, sa.remote));
        if pair.is_some_and(|pair| self.send_on_best(pair, None)) {
            self.ctx.drain_child(now, child, spi_in, reason);
        } else {
            self.ctx.close_child(child, spi_in, reason);
        }
    }

    /// A child or its IKE SA goes: what was sent on it goes through the best of the others from now on. False when
    /// there is none.
    fn send_on_best(&mut self, pair: (Ipv6Addr, Ipv6Addr), leaving: Option<IkeId>) -> bool {
        let candidates = self
            .sas
            .values()
            .filter(|sa| (sa.local, sa.remote) == pair && Some(sa.id) != leaving)
            .filter_map(|sa| Some((sa, sa.established_since()?)))
            .flat_map(|(sa, since)| {
                let stays = !sa.timers.is_set(Timer::Superseded) && !sa.is_leaving();
                sa.children
                    .iter()
                    .filter(|(_, child)| !child.deleting)
                    // Rather one that was replaced than one of which the peer may not know yet.
                    .map(move |(id, child)| {
                        let rank = (stays, !child.awaits_use, child.replaced_by.is_none());
                        (rank, since, sa.spi_i, *id, sa.id)
                    })
            });
        let Some((_, _, _, child, id)) = candidates.max() else { return false };
        if let Some(state) = self.sas.get_mut(&id).and_then(|sa| sa.children.get_mut(&child)) {
            state.awaits_use = false;
        }
        self.ctx.emit(Event::ChildSend(child));
        true
    }
}

fn still_allowed(old: &Config, ctx: &Context, sa: &Sa) -> bool {
    let same_proof = match (old.pad.find(sa.remote), ctx.config.pad.find(sa.remote)) {
        (Some(before), Some(after)) => before.proof.is_same(&after.proof),
        (None, _) | (_, None) => false,
    };
    same_proof && ctx.entity(sa.local).is_some() && !ctx.esp_suites(sa.local, sa.remote).is_empty()
}
