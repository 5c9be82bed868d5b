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
use super::sa::{Phase, Sa};
use super::table::SaTable;
use super::timer::Timer;
use super::window::Want;
use crate::dataplane::event::UdpPath;

/// All IKE SAs of this process. Method families: `handle_*` inputs, commands, `poll_*` outputs. After every input
/// or command drain `poll_transmit`, then `poll_event`, then arm a timer for `poll_timeout`.
pub struct Endpoint {
    pub(super) ctx: Context,
    pub(super) sas: SaTable,
    /// Our own SPI of every SA.
    pub(super) by_spi: HashMap<u64, IkeId>,
    /// Half-open SAs by their request, for retransmitted ones.
    pub(super) half_open: BTreeMap<(SocketAddrV4, u64), IkeId>,
    /// Start of the current second of hints, and how many it has seen.
    pub(super) hints: (Instant, u32),
}

impl Endpoint {
    /// A fresh endpoint. `seed` must come from the system's random source and never be used twice.
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        Self {
            ctx: Context::new(config, ChaCha20Rng::from_seed(seed), now),
            sas: SaTable::default(),
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
        // Not when the peer has answered, but now.
        for id in doomed {
            self.with(now, id, |sa, ctx| {
                sa.close_children(ctx, &CloseReason::Local);
                sa.leave(ctx, now, CloseReason::Local);
            });
        }
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
        if let Some(mut sa) = self.ctx.inbound.get(&spi_in).and_then(|id| self.sas.get_mut(*id)) {
            sa.heard(now);
            sa.note_use(|child| child.spi_in == spi_in);
        }
    }

    /// We sent on this child recently and expect to hear something: arms the liveness check.
    pub fn handle_sent(&mut self, now: Instant, spi_out: u32) {
        let dpd = self.ctx.config.lifetimes.dpd;
        if let Some(mut sa) = self.ctx.outbound.get(&spi_out).and_then(|id| self.sas.get_mut(*id)) {
            sa.sent = Some(now);
            sa.note_use(|child| child.spi_out == spi_out);
            if sa.is_established() && !sa.timers.is_set(Timer::Liveness) {
                let at = now.max(sa.heard + dpd);
                sa.timers.set(Timer::Liveness, at);
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
        for id in self.sas.ids() {
            self.with(now, id, |sa, ctx| sa.local_changed(ctx, now, route));
        }
    }

    /// This machine slept, or nothing of this program ran for a while: every peer is asked whether it is still there, one
    /// a millisecond.
    pub fn handle_resume(&mut self, now: Instant) {
        for (at, id) in (0..).map(|count| now + Duration::from_millis(count)).zip(self.sas.ids()) {
            let Some(mut sa) = self.sas.get_mut(id).filter(|sa| sa.is_established() && !sa.is_leaving())
            else {
                continue;
            };
            sa.sent = Some(now);
            sa.timers.set_earlier(Timer::Liveness, at);
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
            .between((local, remote))
            .find(|sa| !matches!(sa.phase, Phase::Closed) && !sa.is_leaving())
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
        if let Some(path) = self.sas.get(ike).filter(|sa| sa.is_established()).map(|sa| sa.path) {
            self.replace(now, ike, path);
            self.settle(now);
        }
    }

    /// Reaches the peer of this SA at another place: make-before-break, as when it is authenticated anew. Without an
    /// answer from there nothing changes.
    pub fn reach(&mut self, now: Instant, ike: IkeId, path: UdpPath) {
        let Some(old) = self.sas.get(ike).filter(|sa| sa.is_established() && !sa.is_leaving()) else {
            return;
        };
        let (local, remote) = old.pair();
        let under_way = |sa: &Sa| matches!(sa.phase, Phase::InitSent(_) | Phase::AuthSent(_));
        if self.sas.between((local, remote)).any(under_way) || self.ctx.config.pad.find(remote).is_none() {
            return;
        }
        let sa = init::start(&mut self.ctx, now, local, remote, path);
        self.insert(sa);
        self.settle(now);
    }

    /// Forgets attempts between these two entities that nobody has answered yet; nothing is told of them.
    pub fn abandon(&mut self, now: Instant, local: Ipv6Addr, remote: Ipv6Addr) {
        let open: Vec<IkeId> = self
            .sas
            .between((local, remote))
            .filter(|sa| matches!(sa.phase, Phase::InitSent(_)))
            .map(|sa| sa.id)
            .collect();
        for id in open {
            self.remove(now, id, CloseReason::Local);
        }
        self.settle(now);
    }

    /// Says goodbye (DELETE) and forgets the SA.
    pub fn close(&mut self, now: Instant, ike: IkeId) {
        self.with(now, ike, |sa, ctx| sa.leave(ctx, now, CloseReason::Local));
    }

    /// The same for a peer that is not to be trusted any more: its child SAs end now, whether it answers or not.
    pub fn cut(&mut self, now: Instant, ike: IkeId) {
        self.with(now, ike, |sa, ctx| {
            sa.close_children(ctx, &CloseReason::Local);
            sa.leave(ctx, now, CloseReason::Local);
        });
    }

    /// `close` for every SA: what `down` does.
    pub fn close_all(&mut self, now: Instant) {
        for id in self.sas.ids() {
            self.close(now, id);
        }
    }

    /// Those that are not established, and whom each joins: what has not proven itself yet is of nobody.
    pub fn unestablished(&self) -> impl Iterator<Item = (IkeId, (Ipv6Addr, Ipv6Addr))> {
        self.sas.values().filter(|sa| !sa.is_established()).map(|sa| (sa.id, sa.pair()))
    }

    /// Which way messages of this SA travel.
    pub fn path_of(&self, ike: IkeId) -> Option<UdpPath> {
        self.sas.get(ike).map(|sa| sa.path)
    }

    /// Every established IKE SA.
    pub fn list(&self, now: Instant) -> Vec<IkeInfo> {
        self.sas.values().filter(|sa| sa.is_established()).map(|sa| sa.info(now)).collect()
    }

    /// The established ones between two entities, the oldest first.
    pub fn list_between(&self, now: Instant, pair: (Ipv6Addr, Ipv6Addr)) -> impl Iterator<Item = IkeInfo> {
        self.sas.between(pair).filter(|sa| sa.is_established()).map(move |sa| sa.info(now))
    }

    /// Is there an IKE SA between these two that has a child or may still get one?
    pub fn is_trying(&self, local: Ipv6Addr, remote: Ipv6Addr) -> bool {
        self.sas.between((local, remote)).any(|sa| !matches!(sa.phase, Phase::Closed) && !sa.is_leaving())
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
        if let Some(mut sa) = self.sas.get_mut(id) {
            let was_half_open = sa.is_half_open();
            act(&mut sa, &mut self.ctx);
            // One that was refused still holds state for nobody proven, so it goes on counting until it is removed.
            if was_half_open && sa.is_established() {
                self.half_open.retain(|_, other| *other != id);
            }
        }
        self.settle(now);
    }

    pub(super) fn insert(&mut self, sa: Sa) {
        self.by_spi.insert(sa.own_spi(), sa.id);
        self.sas.insert(sa);
    }

    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(deferred) = self.ctx.deferred.pop_front() {
            match deferred {
                Deferred::Add(sa) => {
                    let (id, pair) = (sa.id, sa.pair());
                    self.insert(*sa);
                    if let Some(mut sa) = self.sas.get_mut(id) {
                        sa.pump(&mut self.ctx, now);
                    }
                    self.supersede_older(now, pair);
                }
                Deferred::Established { id, initial_contact } => self.established(now, id, initial_contact),
                Deferred::Leave { id } => {
                    if let Some(pair) = self.sas.get(id).map(Sa::pair) {
                        self.send_on_best(pair, Some(id));
                    }
                }
                Deferred::Lead { id } => {
                    if let Some(pair) = self.sas.get(id).map(Sa::pair) {
                        self.send_on_best(pair, None);
                    }
                }
                Deferred::Drain { id, child, spi_in, reason } => self.drain(now, id, child, spi_in, reason),
                Deferred::Remove { id, reason } => self.remove(now, id, reason),
                Deferred::Retire { id, heir } => self.retire(now, id, heir),
                Deferred::Replace { id, path } => self.replace(now, id, path),
            }
        }
    }

    pub(super) fn replace(&mut self, now: Instant, id: IkeId, path: UdpPath) {
        let Some(old) = self.sas.get(id) else { return };
        let (local, remote) = old.pair();
        let under_way = self
            .sas
            .between(old.pair())
            .any(|sa| matches!(sa.phase, Phase::InitSent(_) | Phase::AuthSent(_)));
        if old.is_leaving() || self.ctx.config.pad.find(remote).is_none() {
            return;
        }
        if under_way {
            if let Some(mut old) = self.sas.get_mut(id) {
                old.reauth_later(&mut self.ctx, now);
            }
            return;
        }
        let path = old.peer.relayed.unwrap_or(path);
        let mut sa = init::start(&mut self.ctx, now, local, remote, path);
        sa.replaces = Some(id);
        self.insert(sa);
    }

    pub(super) fn remove(&mut self, now: Instant, id: IkeId, reason: CloseReason) {
        let Some(sa) = self.sas.remove(id) else { return };
        self.by_spi.remove(&sa.own_spi());
        self.half_open.retain(|_, other| *other != id);
        if let Some(spi) = sa.offered {
            self.ctx.inbound.remove(&spi);
        }
        self.replacement_failed(now, sa.replaces);
        let gentle = matches!(reason, CloseReason::Replaced | CloseReason::Peer);
        let others = !sa.children.is_empty() && self.send_on_best(sa.pair(), None);
        for (child, state) in &sa.children {
            self.ctx.outbound.remove(&state.spi_out);
            if gentle && others {
                self.ctx.drain_child(now, *child, state.spi_in, reason.clone());
            } else {
                self.ctx.close_child(*child, state.spi_in, reason.clone());
            }
        }
        if sa.keys_unproven && !sa.initiator {
            return;
        }
        let left: Vec<IkeId> = self.sas.between(sa.pair()).map(|other| other.id).collect();
        left.into_iter().for_each(|other| self.keep_if_last(other));
        match (&reason, sa.keys_unproven) {
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

    /// An SA that was to replace this one is gone. If this one is still there and nothing else takes its place, it is
    /// authenticated anew later.
    fn replacement_failed(&mut self, now: Instant, replaced: Option<IkeId>) {
        let Some(mut old) = replaced.and_then(|old| self.sas.get_mut(old)) else { return };
        if old.is_established() && !old.is_leaving() && !old.timers.is_set(Timer::Superseded) {
            old.reauth_later(&mut self.ctx, now);
        }
    }

    fn drain(&mut self, now: Instant, id: IkeId, child: ChildId, spi_in: u32, reason: CloseReason) {
        let pair = self.sas.get(id).map(Sa::pair);
        if pair.is_some_and(|pair| self.send_on_best(pair, None)) {
            self.ctx.emit(Event::ChildStop(child));
            self.ctx.drain_child(now, child, spi_in, reason);
        } else {
            self.ctx.close_child(child, spi_in, reason);
        }
    }
}

fn still_allowed(old: &Config, ctx: &Context, sa: &Sa) -> bool {
    let same_proof = match (old.pad.find(sa.remote), ctx.config.pad.find(sa.remote)) {
        (Some(before), Some(after)) => before.proof.is_same(&after.proof),
        (None, _) | (_, None) => false,
    };
    same_proof && ctx.entity(sa.local).is_some() && !ctx.esp_suites(sa.local, sa.remote).is_empty()
}
