//! One IKE SA: its phase, its window, its children; and the way of a message through it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::auth::AuthSent;
use super::child_offer::Child;
use super::context::{Context, Deferred};
use super::event::{ChildId, CloseReason, Event, IkeId, IkeInfo};
use super::fragment::{MAX_MESSAGE, UNPROVEN};
use super::init::{HalfOpen, InitSent};
use super::message::{Opened, Protection};
use super::nat::Translated;
use super::table::PairKey;
use super::timer::{Timer, TimerTable};
use super::window::{Outstanding, Task, Want, Window};
use crate::crypto::prf::IkeKeys;
use crate::crypto::suite::IkeSuite;
use crate::dataplane::event::UdpPath;
use crate::policy::certificates::TrustSpan;
use crate::wire::ike::{Header, ParseError, Payload, VERSION, exchange, flags, parse_payloads, payload_type};

/// IPv4 and UDP headers and the non-ESP marker: what the network adds to an IKE message.
const ENCAPSULATION: usize = 20 + 8 + 4;

/// Keys in use.
pub(super) struct Keys {
    pub(super) material: IkeKeys,
    pub(super) protection: Protection,
}

/// What the peer told about itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerTraits {
    /// IKEV2_FRAGMENTATION_SUPPORTED (RFC 7383).
    pub(super) fragments: bool,
    /// The private status notify of a domicile.
    pub(super) domicile: bool,
    /// MOBIKE_SUPPORTED (RFC 4555), by both.
    pub(super) mobike: bool,
    /// It asks for a certificate (CERTREQ).
    pub(super) wants_certificate: bool,
    pub(super) nat_local: bool,
    pub(super) nat_remote: bool,
    /// The relayed path on which it was met: where authentication begins anew, whatever way is taken now.
    pub(super) relayed: Option<UdpPath>,
}

/// Where an IKE SA stands. Each phase before the last holds exactly what exists then.
pub(super) enum Phase {
    /// Initiator, waiting for the IKE_SA_INIT response.
    InitSent(Box<InitSent>),
    /// Responder, waiting for the IKE_AUTH request. Nothing of this is authenticated.
    HalfOpen(Box<HalfOpen>),
    /// Initiator, waiting for the IKE_AUTH response.
    AuthSent(Box<AuthSent>),
    /// Both ends are proven. `since` is this SA's birth, `authenticated` that of the trust in it.
    Established { since: Instant, authenticated: Instant },
    /// Refused or gone; only retransmissions are answered, for a little while.
    Closed,
}

/// One IKE SA.
pub(super) struct Sa {
    pub(super) id: IkeId,
    /// We are its original initiator.
    pub(super) initiator: bool,
    pub(super) local: Ipv6Addr,
    pub(super) remote: Ipv6Addr,
    pub(super) spi_i: u64,
    pub(super) spi_r: u64,
    pub(super) path: UdpPath,
    pub(super) suite: IkeSuite,
    pub(super) keys: Option<Keys>,
    pub(super) peer: PeerTraits,
    pub(super) phase: Phase,
    pub(super) created: Instant,
    pub(super) window: Window,
    pub(super) timers: TimerTable,
    pub(super) children: BTreeMap<ChildId, Child>,
    /// SPI that an open offer of a child SA reserves: at most one, as the window is one.
    pub(super) offered: Option<u32>,
    /// The SA that goes when this one is established (reauthentication).
    pub(super) replaces: Option<IkeId>,
    /// How long the certificates that it rests on, ours and the peer's, may be believed.
    pub(super) trust: Option<TrustSpan>,
    /// Last authentic sign of life.
    pub(super) heard: Instant,
    /// Last time that we sent ESP.
    pub(super) sent: Option<Instant>,
    /// Last probe of another address.
    pub(super) probed: Option<Instant>,
    /// Where the peer says that it moved (RFC 4555 §3.5), until a probe proves it.
    pub(super) moving: Option<(UdpPath, Translated)>,
    /// NAT_DETECTION_DESTINATION_IP as the peer last computed it of us.
    pub(super) seen_as: Option<Vec<u8>>,
    pub(super) rtt: Option<Duration>,
    /// An answer takes no longer than this, as far as we have seen.
    pub(super) patience: Duration,
    /// The peer certainly has this SA: we are its initiator, or a message came under its keys.
    pub(super) known_to_peer: bool,
    /// The peer has not proven itself yet.
    pub(super) keys_unproven: bool,
}

impl Sa {
    /// The two entities that it joins.
    pub(super) fn pair(&self) -> PairKey {
        (self.local, self.remote)
    }

    /// Is it authenticated?
    pub(super) fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Established { .. })
    }

    /// We are the responder, and the initiator has not proven itself yet.
    pub(super) fn is_half_open(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen(_))
    }

    /// Its goodbye is under way or waits for the window.
    pub(super) fn is_leaving(&self) -> bool {
        let refusing = self.window.outstanding.as_ref().is_some_and(|out| matches!(out.task, Task::Refuse));
        refusing || self.farewell().is_some()
    }

    /// Why it says goodbye, if it does.
    pub(super) fn farewell(&self) -> Option<&CloseReason> {
        let under_way = self
            .window
            .outstanding
            .as_ref()
            .and_then(|out| if let Task::DeleteIke(reason) = &out.task { Some(reason) } else { None });
        under_way.or_else(|| self.window.goodbye())
    }

    /// Since when.
    pub(super) fn established_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Established { since, .. } => Some(since),
            Phase::InitSent(_) | Phase::HalfOpen(_) | Phase::AuthSent(_) | Phase::Closed => None,
        }
    }

    /// Our own SPI: what messages to us carry.
    pub(super) fn own_spi(&self) -> u64 {
        if self.initiator { self.spi_i } else { self.spi_r }
    }

    pub(super) fn info(&self, now: Instant) -> IkeInfo {
        let age = match self.phase {
            Phase::Established { authenticated, .. } => now.saturating_duration_since(authenticated),
            Phase::InitSent(_) | Phase::HalfOpen(_) | Phase::AuthSent(_) | Phase::Closed => Duration::ZERO,
        };
        IkeInfo {
            id: self.id,
            local: self.local,
            remote: self.remote,
            spi_i: self.spi_i,
            spi_r: self.spi_r,
            initiator: self.initiator,
            suite: self.suite,
            path: self.path,
            nat_local: self.peer.nat_local,
            nat_remote: self.peer.nat_remote,
            mobike: self.peer.mobike,
            peer_is_domicile: self.peer.domicile,
            rtt: self.rtt,
            age,
            trust: self.trust,
        }
    }

    fn header(&self, exchange: u8, message_id: u32, response: bool) -> Header {
        let role = if self.initiator { flags::INITIATOR } else { 0 };
        Header {
            initiator_spi: self.spi_i,
            responder_spi: self.spi_r,
            next_payload: payload_type::NONE,
            version: VERSION,
            exchange,
            flags: role | if response { flags::RESPONSE } else { 0 },
            message_id,
            length: 0,
        }
    }

    fn protect(&mut self, ctx: &Context, header: Header, payloads: &[Payload]) -> Vec<Vec<u8>> {
        let limit =
            self.peer.fragments.then(|| ctx.config.fragment_size.saturating_sub(ENCAPSULATION).max(256));
        self.keys.as_mut().map_or_else(Vec::new, |keys| keys.protection.seal(header, payloads, limit))
    }

    /// Starts an exchange of ours.
    pub(super) fn request(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        exchange: u8,
        payloads: &[Payload],
        task: Task,
    ) {
        let id = self.window.next_id;
        self.window.next_id = id.wrapping_add(1);
        let header = self.header(exchange, id, false);
        let datagrams = self.protect(ctx, header, payloads);
        let lifetimes = ctx.config.lifetimes;
        let path = match &task {
            Task::Probe { path, .. } => *path,
            Task::Init
            | Task::Auth
            | Task::Child(_)
            | Task::RekeyIke(_)
            | Task::DeleteChild(..)
            | Task::DeleteExpired
            | Task::DeleteIke(_)
            | Task::Liveness
            | Task::UpdateAddresses
            | Task::Tell
            | Task::Refuse => self.path,
        };
        ctx.send(path, &datagrams);
        let first = lifetimes.retransmit_first;
        self.window.outstanding =
            Some(Outstanding::new(ctx, now, id, task, datagrams, first, lifetimes.retransmit_tries));
    }

    /// Answers the request under way and remembers the answer.
    pub(super) fn respond(&mut self, ctx: &mut Context, to: UdpPath, exchange: u8, payloads: &[Payload]) {
        let id = self.window.expected;
        self.window.expected = id.wrapping_add(1);
        let header = self.header(exchange, id, true);
        let datagrams = self.protect(ctx, header, payloads);
        ctx.send(to, &datagrams);
        self.window.cached = Some((id, datagrams));
    }

    /// A message that carries our SPI. Nothing changes before it is authenticated.
    pub(super) fn handle(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        header: &Header,
        message: &[u8],
    ) {
        let response = header.flags & flags::RESPONSE != 0;
        if response && !self.awaits(header) {
            return;
        }
        if matches!(self.phase, Phase::InitSent(_)) {
            self.handle_init_response(ctx, now, path, header, message);
            return;
        }
        let Some(keys) = &self.keys else { return };
        let Ok(opened) = keys.protection.open(header, message) else {
            self.clear_hint(now, header, message);
            return;
        };
        self.known_to_peer = true;
        if !response && !self.is_next_request(ctx, path, header, &opened) {
            return;
        }
        if !response && matches!(self.phase, Phase::Closed) {
            return;
        }
        // Only what is fresh is a sign of life (RFC 7296 §2.4): anybody can send an old message again.
        self.heard(now);
        let (first, chain) = match opened {
            Opened::Whole(first, chain) => (first, chain),
            Opened::Part(part) => {
                let limit = if self.is_half_open() { UNPROVEN } else { MAX_MESSAGE };
                let direction = if response { &mut self.window.responses } else { &mut self.window.requests };
                match direction.add(header.message_id, part, limit) {
                    Some(whole) => whole,
                    None => return,
                }
            }
        };
        match parse_payloads(first, &chain) {
            Ok(payloads) if response => self.handle_response(ctx, now, path, &payloads),
            Ok(payloads) => self.handle_request(ctx, now, path, header.exchange, &payloads),
            Err(error) => self.handle_malformed(ctx, now, path, header, error),
        }
        self.pump(ctx, now);
    }

    fn awaits(&self, header: &Header) -> bool {
        self.window.outstanding.as_ref().is_some_and(|out| out.id == header.message_id)
    }

    /// A request with the expected number goes on; the one before is answered from the cache (for a fragmented one on
    /// its first fragment only, RFC 7383 §2.6.1); any other is old or from the future (RFC 7296 §2.3).
    fn is_next_request(&self, ctx: &mut Context, path: UdpPath, header: &Header, opened: &Opened) -> bool {
        if header.message_id == self.window.expected {
            return true;
        }
        let first = match opened {
            Opened::Whole(..) => true,
            Opened::Part(part) => part.number == 1,
        };
        if let Some((id, datagrams)) = &self.window.cached
            && *id == header.message_id
            && first
        {
            ctx.send(path, datagrams);
        }
        false
    }

    fn handle_request(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        exchange: u8,
        payloads: &[Payload],
    ) {
        // Whoever has not proven itself may do one thing: prove itself.
        if self.keys_unproven && !self.is_half_open() {
            return;
        }
        match (&self.phase, exchange) {
            (Phase::HalfOpen(_), exchange::IKE_AUTH) => self.handle_auth_request(ctx, now, path, payloads),
            (Phase::Established { .. }, exchange::CREATE_CHILD_SA) => {
                self.follow(ctx, path);
                self.handle_create_child(ctx, now, path, payloads);
            }
            (Phase::Established { .. }, exchange::INFORMATIONAL) => {
                self.handle_informational(ctx, now, path, payloads);
            }
            (Phase::Established { .. } | Phase::HalfOpen(_), _) => {
                self.respond(
                    ctx,
                    path,
                    exchange,
                    &[super::inform::error(crate::wire::ike::notify_type::INVALID_SYNTAX)],
                );
            }
            (Phase::InitSent(_) | Phase::AuthSent(_) | Phase::Closed, _) => {}
        }
    }

    fn handle_response(&mut self, ctx: &mut Context, now: Instant, path: UdpPath, payloads: &[Payload]) {
        let Some(done) = self.window.outstanding.take() else { return };
        let sample = now.saturating_duration_since(done.first_sent);
        self.patience = sample.max(self.patience * 7 / 8);
        // After a retransmission nobody knows which of the requests was answered (Karn's rule).
        if done.sent == 1 {
            self.rtt = Some(self.rtt.map_or(sample, |old| (old * 7 + sample) / 8));
        }
        match done.task {
            // The IKE_SA_INIT response is not protected and never gets here.
            Task::Init => {}
            Task::Auth => self.handle_auth_response(ctx, now, path, payloads),
            Task::Child(task) => self.handle_child_response(ctx, now, *task, payloads),
            Task::RekeyIke(task) => self.handle_rekey_response(ctx, now, *task, payloads),
            Task::DeleteChild(id, spi_in, reason) => self.child_deleted(ctx, id, spi_in, reason),
            Task::DeleteIke(reason) => self.end(ctx, reason),
            Task::Liveness => self.handle_nat_answer(ctx, now, path, payloads, true),
            Task::UpdateAddresses => self.handle_nat_answer(ctx, now, path, payloads, false),
            Task::Probe { path: probed, cookie } => {
                self.handle_probe_answer(ctx, now, path, probed, &cookie, payloads)
            }
            Task::Tell => {}
            Task::DeleteExpired => {}
            Task::Refuse => self.end(ctx, CloseReason::Local),
        }
    }

    /// Authentic, but not what the RFC allows: the peer is told; a syntax error ends the SA (RFC 7296 §2.21.3).
    fn handle_malformed(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        header: &Header,
        error: ParseError,
    ) {
        tracing::debug!(%error, remote = %self.remote, "malformed IKE message from an authenticated peer");
        if header.flags & flags::RESPONSE != 0 {
            self.window.outstanding = None;
            self.fail(ctx, now, super::Failure::Protocol(error.to_string()));
            return;
        }
        let (kind, data) = error.notify();
        self.respond(ctx, path, header.exchange, &[super::nat::status(kind, data)]);
        if !matches!(error, ParseError::UnsupportedCritical(_)) {
            self.end(ctx, CloseReason::Failed(super::Failure::Protocol(error.to_string())));
        }
    }

    /// An answer in clear, INVALID_IKE_SPI: the peer may have restarted. A hint only (RFC 7296 §2.21.4, §2.4).
    fn clear_hint(&mut self, now: Instant, header: &Header, message: &[u8]) {
        // An SA that the peer has not used yet may simply be news to it: our answer to its rekey is still under way.
        if header.flags & flags::RESPONSE == 0 || !self.known_to_peer || !self.is_established() {
            return;
        }
        let body = message.get(crate::wire::ike::HEADER_LEN..).unwrap_or_default();
        let hint = parse_payloads(header.next_payload, body).is_ok_and(|payloads| {
            super::inform::find(&payloads, crate::wire::ike::notify_type::INVALID_IKE_SPI).is_some()
        });
        if let Some(out) = self.window.outstanding.as_mut().filter(|_| hint) {
            out.hurry(now, self.patience);
        }
    }

    /// The next exchange that we want, if the window is free.
    pub(super) fn pump(&mut self, ctx: &mut Context, now: Instant) {
        while self.is_established() {
            let Some(want) = self.window.next_want() else { return };
            match want {
                Want::Child => self.begin_child(ctx, now, None),
                Want::RekeyChild(id) => self.begin_child(ctx, now, Some(id)),
                Want::DeleteChild(id, reason) => self.begin_delete_child(ctx, now, id, reason),
                Want::RekeyIke => self.begin_rekey_ike(ctx, now),
                Want::DeleteIke(reason) => self.begin_delete_ike(ctx, now, reason),
                Want::Liveness => self.begin_liveness(ctx, now),
                Want::Probe(path) => self.begin_probe(ctx, now, path),
                Want::UpdateAddresses => self.begin_update(ctx, now),
                Want::Tell(document) => self.begin_tell(ctx, now, document),
                Want::DeleteExpired(spi_in) => self.begin_delete_expired(ctx, now, spi_in),
            }
        }
    }

    /// The SA ends now. Children are closed by the endpoint before `IkeClosed`.
    pub(super) fn end(&mut self, ctx: &mut Context, reason: CloseReason) {
        self.phase = Phase::Closed;
        self.window.forget_wants();
        self.window.outstanding = None;
        ctx.deferred.push_back(Deferred::Remove { id: self.id, reason });
    }

    /// The SA is authenticated: timers start, the world is told.
    pub(super) fn establish(&mut self, ctx: &mut Context, now: Instant, authenticated: Instant) {
        self.phase = Phase::Established { since: now, authenticated };
        self.timers = TimerTable::default();
        let lifetimes = ctx.config.lifetimes;
        self.timers.set(Timer::Rekey, now + ctx.jittered(lifetimes.ike_rekey));
        let reauth = authenticated + ctx.jittered(lifetimes.reauth);
        // Both ends have this timer: the responder's is later, so that usually the initiator acts.
        let grace = if self.initiator { Duration::ZERO } else { lifetimes.reauth / 16 };
        self.timers.set(Timer::Reauth, reauth + grace);
        self.timers.set(Timer::Hard, authenticated + lifetimes.ike_max);
        self.limit_by_certificates(ctx, now);
        self.arm_keepalive(ctx, now);
        self.heard = now;
        self.keys_unproven = false;
        ctx.contacted.insert((self.local, self.remote));
        if ctx.config.keylog
            && let Some(keys) = &self.keys
        {
            ctx.emit(Event::IkeKeys {
                spi_i: self.spi_i,
                spi_r: self.spi_r,
                suite: self.suite,
                sk_ei: keys.material.sk_ei.clone(),
                sk_er: keys.material.sk_er.clone(),
            });
        }
        ctx.emit(Event::IkeEstablished(self.info(now)));
    }

    /// Authentic traffic or an authentic message arrived.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.timers.stop(Timer::Liveness);
    }
}
