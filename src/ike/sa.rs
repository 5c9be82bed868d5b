//! One IKE SA: its phase, its window, its children; what it sends, its birth and its end.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::auth::AuthSent;
use super::child_offer::{Child, Purpose};
use super::context::{Context, Deferred};
use super::event::{ChildId, CloseReason, Event, IkeId, IkeInfo};
use super::init::{HalfOpen, InitSent};
use super::message::Protection;
use super::nat::Translated;
use super::table::PairKey;
use super::timer::{Timer, TimerTable};
use super::window::{Outstanding, Task, Want, Window};
use crate::crypto::prf::IkeKeys;
use crate::crypto::suite::IkeSuite;
use crate::dataplane::event::UdpPath;
use crate::policy::certificates::TrustSpan;
use crate::wire::ike::{Header, Payload, VERSION, flags, payload_type};

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
    /// SA_RESOURCE_INFO in IKE_AUTH (RFC 9611 §3), by both: it makes additional child SAs, until it refuses one.
    pub(super) resources: bool,
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
    /// The SA that took over from this one (rekey).
    pub(super) heir: Option<IkeId>,
    /// How long the certificates that it rests on, ours and the peer's, may be believed.
    pub(super) trust: Option<TrustSpan>,
    /// Last authentic sign of life.
    pub(super) heard: Instant,
    /// Last time that we sent ESP.
    pub(super) sent: Option<Instant>,
    /// Last probe of another address.
    pub(super) probed: Option<Instant>,
    /// When a request under way was repeated to where the peer seems to be.
    pub(super) repeated: Option<Instant>,
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

    /// The next exchange that we want, if the window is free.
    pub(super) fn pump(&mut self, ctx: &mut Context, now: Instant) {
        while self.is_established() {
            let Some(want) = self.window.next_want() else { return };
            match want {
                Want::Child => self.begin_child(ctx, now, Purpose::Anew),
                Want::AdditionalChild => self.begin_additional(ctx, now),
                Want::RekeyChild(id) => self.begin_child(ctx, now, self.rekey_of(id)),
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
        self.timers.set(Timer::Hard, authenticated + lifetimes.ike_max);
        // Both ends have this timer: the responder's is later, so that usually the initiator acts.
        let grace = if self.initiator { Duration::ZERO } else { lifetimes.reauth / 16 };
        let reauth = authenticated + ctx.jittered(lifetimes.reauth) + grace;
        if reauth > now {
            self.timers.set(Timer::Reauth, reauth);
        } else {
            // A rekeyed SA counts from when the first of its line was authenticated, and its turn was put off.
            self.reauth_later(ctx, now);
        }
        self.limit_by_certificates(ctx, now);
        self.arm_keepalive(ctx, now);
        self.heard = now;
        self.keys_unproven = false;
        if !self.is_strange() {
            ctx.contacted.insert((self.local, self.remote));
        }
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
