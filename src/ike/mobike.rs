//! Moving an IKE SA and its children to other addresses: MOBIKE (RFC 4555), NAT mappings that change (RFC 7296 §2.23),
//! and probes of an address from which authentic ESP came.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::context::{Context, Deferred};
use super::event::Event;
use super::inform::find;
use super::nat;
use super::sa::Sa;
use super::timer::Timer;
use super::window::{Outstanding, Task, Want};
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{Payload, exchange, notify_type as nt};

/// One probe of a new address in this time: hints can be forged by replay, probes cost a datagram.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// Octets of a request that is sent to an address that is not proven yet, besides probes.
const SMALL: usize = 400;
/// Where a responder that floats is answered from.
const IKE_PORT: u16 = 500;

impl Sa {
    /// The SA began on the relayed path: which path it takes is path control's business.
    pub(super) fn is_relayed(&self) -> bool {
        self.peer.relayed.is_some() || self.path.relay.is_some()
    }

    /// All children go this way from now on.
    pub(super) fn move_to(&mut self, ctx: &mut Context, path: UdpPath) {
        if self.path != path {
            self.path = path;
            let children = self.children.keys().copied().collect();
            ctx.emit(Event::PathChanged { ike: self.id, children, path });
        }
    }

    /// Without MOBIKE the peer behind a NAT is followed to wherever its authentic requests come from
    /// (RFC 7296 §2.23); we must not be behind one ourselves.
    pub(super) fn follow(&mut self, ctx: &mut Context, path: UdpPath) {
        if !self.peer.mobike && self.peer.nat_remote && !self.peer.nat_local && path.local.port() != IKE_PORT
        {
            self.move_to(ctx, path);
        }
    }

    /// Path control found a better way.
    pub(super) fn take_path(&mut self, ctx: &mut Context, now: Instant, path: UdpPath) {
        if path.relay.is_some() {
            self.peer.relayed = Some(path);
        }
        if self.path != path {
            self.path = path;
            self.hasten(ctx, now);
        }
    }

    /// Our own addresses changed.
    pub(super) fn local_changed(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        route: &dyn Fn(Ipv4Addr) -> Option<Ipv4Addr>,
    ) {
        // Home does not move: only our own end of the way there does. Direct paths are path control's to find again.
        if let Some(mut home) = self.peer.relayed.or_else(|| self.path.relay.map(|_| self.path)) {
            if let Some(source) = route(*home.remote.ip()) {
                home.local.set_ip(source);
                self.take_path(ctx, now, home);
            }
            return;
        }
        let Some(source) = route(*self.path.remote.ip()) else { return };
        if source == *self.path.local.ip() {
            return;
        }
        let mut path = self.path;
        path.local.set_ip(source);
        if !self.is_established() {
            // A handshake goes on from the new address: its retransmissions take this path.
            self.path = path;
            return;
        }
        if self.peer.mobike && self.initiator {
            self.move_to(ctx, path);
            self.window.want_first(Want::UpdateAddresses);
            self.hasten(ctx, now);
            self.pump(ctx, now);
        } else {
            // What we send, the goodbye included, leaves from the new address already.
            self.move_to(ctx, path);
            ctx.deferred.push_back(Deferred::Replace { id: self.id, path });
        }
    }

    /// A request under way is repeated at once over the new path.
    fn hasten(&mut self, ctx: &mut Context, now: Instant) {
        if let Some(out) = self.window.outstanding.as_mut() {
            ctx.send(self.path, &out.datagrams);
            out.next = now + out.interval;
        }
    }

    pub(super) fn begin_update(&mut self, ctx: &mut Context, now: Instant) {
        let mut payloads = vec![nat::status(nt::UPDATE_SA_ADDRESSES, Vec::new())];
        payloads.extend(nat::payloads(self.spi_i, self.spi_r, self.path.remote, ctx.random()));
        if self.peer.domicile {
            payloads.push(nat::truth(self.spi_i, self.spi_r, self.path.local));
        }
        self.request(ctx, now, exchange::INFORMATIONAL, &payloads, Task::UpdateAddresses);
    }

    /// What an INFORMATIONAL request asks for besides deletes: COOKIE2 comes back as it is (RFC 4555 §3.7), NAT
    /// detection is answered with what we see (§3.8).
    pub(super) fn answer_mobike(&self, payloads: &[Payload], path: UdpPath) -> Vec<Payload> {
        let mut answer = Vec::new();
        if let Some(cookie) =
            find(payloads, nt::COOKIE2).filter(|notify| (8..=64).contains(&notify.data.len()))
        {
            answer.push(nat::status(nt::COOKIE2, cookie.data.clone()));
        }
        if find(payloads, nt::NAT_DETECTION_DESTINATION_IP).is_some() {
            let destination = nat::hash(self.spi_i, self.spi_r, path.remote);
            let source = nat::hash(self.spi_i, self.spi_r, path.local).map(|octet| !octet);
            answer.push(nat::status(nt::NAT_DETECTION_SOURCE_IP, source.to_vec()));
            answer.push(nat::status(nt::NAT_DETECTION_DESTINATION_IP, destination.to_vec()));
            if self.peer.domicile {
                answer.push(nat::truth(self.spi_i, self.spi_r, path.local));
            }
        }
        answer
    }

    /// The initiator moved (RFC 4555 §3.5): check that it really is there before ESP follows (§3.7).
    pub(super) fn follow_mobike(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        payloads: &[Payload],
        path: UdpPath,
    ) {
        let moves = find(payloads, nt::UPDATE_SA_ADDRESSES).is_some() && self.peer.mobike && !self.initiator;
        if !moves || self.is_leaving() {
            return;
        }
        let translated = nat::detect(payloads, self.spi_i, self.spi_r, path);
        if path == self.path {
            self.set_translated(ctx, now, translated);
        } else {
            self.moving = Some((path, translated));
            self.ask_at(ctx, now, path);
        }
    }

    /// Authentic ESP came from another address than the one we send to.
    pub(super) fn new_source(&mut self, ctx: &mut Context, now: Instant, path: UdpPath) {
        if self.is_relayed() {
            return;
        }
        let recent = self.probed.is_some_and(|at| now < at + PROBE_PAUSE);
        if !self.is_established() || self.is_leaving() || path == self.path || recent {
            return;
        }
        self.ask_at(ctx, now, path);
    }

    /// Wants to know whether the peer is at this address. A request under way may be lost because the peer is there and not
    /// where that went: it is repeated there at once, unless it is much larger than what came from there.
    fn ask_at(&mut self, ctx: &mut Context, now: Instant, path: UdpPath) {
        self.window.want_probe(path);
        let recent = self.repeated.is_some_and(|at| now < at + PROBE_PAUSE);
        let small = |out: &&Outstanding| out.datagrams.iter().map(Vec::len).sum::<usize>() <= SMALL;
        if let Some(out) = self.window.outstanding.as_ref().filter(|out| !recent && small(out)) {
            self.repeated = Some(now);
            ctx.send(path, &out.datagrams);
        }
        self.pump(ctx, now);
    }

    pub(super) fn begin_probe(&mut self, ctx: &mut Context, now: Instant, path: UdpPath) {
        if path == self.path {
            return;
        }
        self.probed = Some(now);
        let cookie = ctx.random::<16>().to_vec();
        let payloads = [nat::status(nt::COOKIE2, cookie.clone())];
        self.request(ctx, now, exchange::INFORMATIONAL, &payloads, Task::Probe { path, cookie });
    }

    /// The probed address answered, from there or (after retransmission) from the old one, which then stays.
    pub(super) fn handle_probe_answer(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        probed: UdpPath,
        cookie: &[u8],
        payloads: &[Payload],
    ) {
        let proven = find(payloads, nt::COOKIE2).is_some_and(|notify| notify.data == cookie)
            // Peers without MOBIKE do not return the cookie; the answer itself is authentic and fresh.
            || !self.peer.mobike;
        if proven && path.remote == probed.remote {
            self.move_to(ctx, probed);
            if let Some((_, translated)) = self.moving.take().filter(|(path, _)| *path == probed) {
                self.set_translated(ctx, now, translated);
            }
        }
    }

    /// How the peer sees us now (RFC 4555 §3.8). `asked`: that was the question; a change means that our NAT's mapping
    /// changed, which the peer has to follow. Otherwise it is the answer to our move, after which a change is no news.
    pub(super) fn handle_nat_answer(
        &mut self,
        ctx: &Context,
        now: Instant,
        path: UdpPath,
        payloads: &[Payload],
        asked: bool,
    ) {
        let Some(seen) = find(payloads, nt::NAT_DETECTION_DESTINATION_IP) else { return };
        let before = self.seen_as.replace(seen.data.clone());
        if asked && before.is_some_and(|before| before != seen.data) && self.peer.mobike && self.initiator {
            self.window.want_first(Want::UpdateAddresses);
        }
        self.set_translated(ctx, now, nat::detect(payloads, self.spi_i, self.spi_r, path));
    }

    /// The path changed, and with it which NATs it crosses.
    fn set_translated(&mut self, ctx: &Context, now: Instant, translated: nat::Translated) {
        self.peer.nat_local = translated.ours.unwrap_or(self.peer.nat_local);
        self.peer.nat_remote = translated.theirs.unwrap_or(self.peer.nat_remote);
        self.arm_keepalive(ctx, now);
    }

    /// Only whoever is behind a NAT has a mapping to keep open (RFC 3948 §4).
    pub(super) fn arm_keepalive(&mut self, ctx: &Context, now: Instant) {
        if !self.peer.nat_local {
            self.timers.stop(Timer::Keepalive);
        } else if !self.timers.is_set(Timer::Keepalive) {
            self.timers.set(Timer::Keepalive, now + ctx.config.lifetimes.nat_keepalive);
        }
    }

    /// Keeps the NAT's mapping open.
    pub(super) fn keep_alive(&mut self, ctx: &mut Context, now: Instant) {
        let path = self.path;
        ctx.transmits.push_back(super::Transmit { path, message: vec![0xff], keepalive: true });
        self.timers.set(Timer::Keepalive, now + ctx.config.lifetimes.nat_keepalive);
    }
}
