//! IKE_SA_INIT (RFC 7296 §1.2, §2.6, §2.7, §2.23): nothing in it is authenticated until IKE_AUTH.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::certificate;
use super::context::Context;
use super::event::{Failure, IkeId};
use super::inform::{find, first_error};
use super::message::Protection;
use super::proposal::{GROUP_X25519, choose_ike, offer_ike, read_ike_answer};
use super::sa::{Keys, PeerTraits, Phase, Sa};
use super::timer::{Timer, TimerTable};
use super::window::{LONGEST_HANDSHAKE, Outstanding, Task, Window};
use super::{config::Config, nat};
use crate::crypto::kex::KeyPair;
use crate::crypto::prf::{ike_keys, skeyseed};
use crate::crypto::suite::IkeSuite;
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{
    HEADER_LEN, Header, Payload, Proposal, VERSION, encode_message, exchange, flags, notify_type as nt,
    parse_payloads,
};

/// Retransmissions of a handshake message: about half a minute in all.
pub(super) const HANDSHAKE_TRIES: u32 = 10;
/// A half-open SA of a responder is given up after this long.
const HALF_OPEN_LIFETIME: Duration = Duration::from_secs(30);
/// COOKIE and INVALID_KE_PAYLOAD start the exchange over; more often than this nobody honest does (RFC 7296 §2.6.1).
const MAX_RESTARTS: u8 = 4;

/// What an initiator keeps until the response.
pub(super) struct InitSent {
    kex: KeyPair,
    nonce: Vec<u8>,
    message: Vec<u8>,
    offer: Vec<Proposal>,
    /// Drawn once: a request that is sent again with a cookie is otherwise the same (RFC 7296 §2.6).
    notifies: Vec<Payload>,
    cookie: Option<Vec<u8>>,
    restarts: u8,
    /// What an answer in clear said against us. Anybody could have written it, so it only explains a timeout.
    pub(super) refused: Option<Failure>,
}

/// What a responder keeps until IKE_AUTH.
pub(super) struct HalfOpen {
    pub(super) nonce_i: Vec<u8>,
    pub(super) nonce_r: Vec<u8>,
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
}

/// The payloads of an IKE_SA_INIT message that we use.
struct InitPayloads<'a> {
    proposals: &'a [Proposal],
    group: u16,
    public: &'a [u8],
    nonce: &'a [u8],
}

impl<'a> InitPayloads<'a> {
    fn find(payloads: &'a [Payload]) -> Option<Self> {
        let mut proposals = None;
        let mut exchange = None;
        let mut nonce = None;
        for payload in payloads {
            match payload {
                Payload::Sa(offer) => proposals = Some(offer.as_slice()),
                Payload::KeyExchange { group, data } => exchange = Some((*group, data.as_slice())),
                Payload::Nonce(data) => nonce = Some(data.as_slice()),
                Payload::IdInitiator(_)
                | Payload::IdResponder(_)
                | Payload::Certificate { .. }
                | Payload::CertificateRequest { .. }
                | Payload::Auth { .. }
                | Payload::Notify(_)
                | Payload::Delete(_)
                | Payload::VendorId(_)
                | Payload::TsInitiator(_)
                | Payload::TsResponder(_)
                | Payload::Other { .. } => {}
            }
        }
        let (group, public) = exchange?;
        Some(Self { proposals: proposals?, group, public, nonce: nonce? })
    }
}

/// Notifies that both ends send: NAT detection, fragmentation, Ed25519, and who we are.
fn common_notifies(ctx: &mut Context, spi_i: u64, spi_r: u64, path: UdpPath) -> Vec<Payload> {
    let mut notifies = nat::payloads(spi_i, spi_r, path.remote, ctx.random()).to_vec();
    notifies.push(nat::status(nt::IKEV2_FRAGMENTATION_SUPPORTED, Vec::new()));
    // Hash algorithm 5, "Identity" (RFC 8420 §2).
    notifies.push(nat::status(nt::SIGNATURE_HASH_ALGORITHMS, vec![0, 5]));
    notifies.push(nat::truth(spi_i, spi_r, path.local));
    notifies
}

/// What the peer's notifies say of it and of the path.
fn traits(payloads: &[Payload], spi_i: u64, spi_r: u64, path: UdpPath) -> PeerTraits {
    if path.relay.is_some() {
        // What the outer addresses are says nothing about the peer; home agents and path control see to NATs.
        return PeerTraits {
            fragments: find(payloads, nt::IKEV2_FRAGMENTATION_SUPPORTED).is_some(),
            domicile: nat::is_domicile(payloads),
            relayed: Some(path),
            ..PeerTraits::default()
        };
    }
    let translated = nat::detect(payloads, spi_i, spi_r, path);
    PeerTraits {
        relayed: None,
        fragments: find(payloads, nt::IKEV2_FRAGMENTATION_SUPPORTED).is_some(),
        domicile: nat::is_domicile(payloads),
        mobike: false,
        resources: false,
        wants_certificate: certificate::is_requested(payloads),
        nat_local: translated.ours == Some(true),
        nat_remote: translated.theirs == Some(true),
    }
}

fn fresh_sa(id: IkeId, initiator: bool, path: UdpPath, now: Instant, config: &Config) -> Sa {
    Sa {
        id,
        initiator,
        local: Ipv6Addr::UNSPECIFIED,
        remote: Ipv6Addr::UNSPECIFIED,
        spi_i: 0,
        spi_r: 0,
        path,
        suite: config.ike_suites.first().copied().unwrap_or(IkeSuite::ChaCha20Poly1305),
        keys: None,
        peer: PeerTraits::default(),
        phase: Phase::Closed,
        created: now,
        window: Window::default(),
        timers: TimerTable::default(),
        children: std::collections::BTreeMap::new(),
        offered: None,
        replaces: None,
        heir: None,
        trust: None,
        heard: now,
        sent: None,
        probed: None,
        repeated: None,
        moving: None,
        seen_as: None,
        rtt: None,
        patience: config.lifetimes.retransmit_first,
        known_to_peer: initiator,
        keys_unproven: true,
    }
}

/// Begins an IKE SA towards a peer.
pub(super) fn start(ctx: &mut Context, now: Instant, local: Ipv6Addr, remote: Ipv6Addr, path: UdpPath) -> Sa {
    let id = ctx.next_ike_id();
    let mut sa = fresh_sa(id, true, path, now, &ctx.config);
    sa.local = local;
    sa.remote = remote;
    sa.spi_i = ctx.ike_spi();
    let kex = KeyPair::generate(&mut ctx.rng);
    let init = InitSent {
        kex,
        nonce: ctx.nonce(),
        message: Vec::new(),
        offer: offer_ike(&ctx.config.ike_suites, None),
        notifies: common_notifies(ctx, sa.spi_i, 0, path),
        cookie: None,
        restarts: 0,
        refused: None,
    };
    sa.send_init(ctx, now, init);
    sa
}

impl Sa {
    fn send_init(&mut self, ctx: &mut Context, now: Instant, mut init: InitSent) {
        let mut payloads = Vec::new();
        if let Some(cookie) = &init.cookie {
            payloads.push(nat::status(nt::COOKIE, cookie.clone()));
        }
        payloads.push(Payload::Sa(init.offer.clone()));
        payloads.push(Payload::KeyExchange { group: GROUP_X25519, data: init.kex.public().to_vec() });
        payloads.push(Payload::Nonce(init.nonce.clone()));
        payloads.extend_from_slice(&init.notifies);
        init.message = encode_message(clear_header(self.spi_i, 0, flags::INITIATOR), &payloads);
        let datagrams = vec![init.message.clone()];
        ctx.send(self.path, &datagrams);
        let first = ctx.config.lifetimes.retransmit_first;
        let mut out = Outstanding::new(ctx, now, 0, Task::Init, datagrams, first, HANDSHAKE_TRIES);
        out.longest = LONGEST_HANDSHAKE;
        self.window.outstanding = Some(out);
        self.window.next_id = 1;
        self.phase = Phase::InitSent(Box::new(init));
    }

    /// The response, or a refusal. Nothing of it is authenticated, so a refusal ends nothing: only what this document's
    /// RFC gives an answer to, a cookie, is acted on, and whatever else does not fit is ignored while we go on trying
    /// (RFC 7296 §2.21.1).
    pub(super) fn handle_init_response(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        header: &Header,
        message: &[u8],
    ) {
        let is_response = header.exchange == exchange::IKE_SA_INIT && header.flags & flags::RESPONSE != 0;
        let body = message.get(HEADER_LEN..).unwrap_or_default();
        let (true, Ok(payloads)) = (is_response, parse_payloads(header.next_payload, body)) else { return };
        if let Some(cookie) = find(&payloads, nt::COOKIE) {
            self.restart_init(ctx, now, Some(cookie.data.clone()));
            return;
        }
        if let Some(kind) = first_error(&payloads) {
            self.refused_in_clear(kind);
            return;
        }
        if self.is_strange() && find(&payloads, nt::CHILDLESS_IKEV2_SUPPORTED).is_none() {
            // RFC 6023 §4: without it no IKE_AUTH without a child SA may be sent.
            if let Phase::InitSent(sent) = &mut self.phase {
                sent.refused = Some(Failure::Protocol("it takes no requests without a code".to_owned()));
            }
            return;
        }
        let Some(init) = InitPayloads::find(&payloads) else { return };
        let Phase::InitSent(sent) = &self.phase else { return };
        let choice = read_ike_answer(init.proposals, &sent.offer, &ctx.config.ike_suites);
        let (Some(choice), GROUP_X25519, true) = (choice, init.group, header.responder_spi != 0) else {
            return;
        };
        let Ok(shared) = sent.kex.agree(init.public) else { return };
        let seed = skeyseed(&sent.nonce, init.nonce, &shared);
        let Ok(material) =
            ike_keys(choice.suite, &seed, &sent.nonce, init.nonce, self.spi_i, header.responder_spi)
        else {
            return;
        };
        let Some(protection) = Protection::new(choice.suite, &material, true) else { return };
        let Phase::InitSent(sent) = std::mem::replace(&mut self.phase, Phase::Closed) else { return };
        self.spi_r = header.responder_spi;
        self.suite = choice.suite;
        self.keys = Some(Keys { material, protection });
        self.peer = traits(&payloads, self.spi_i, self.spi_r, path);
        self.window.outstanding = None;
        self.send_auth(ctx, now, sent.message, sent.nonce, message.to_vec(), init.nonce.to_vec());
    }

    fn refused_in_clear(&mut self, kind: u16) {
        if let Phase::InitSent(sent) = &mut self.phase {
            sent.refused = Some(match kind {
                // X25519 is all that we speak, whatever other group the peer asks for.
                nt::NO_PROPOSAL_CHOSEN | nt::INVALID_KE_PAYLOAD => Failure::NoProposalChosen,
                other => Failure::Notify(other),
            });
        }
    }

    fn restart_init(&mut self, ctx: &mut Context, now: Instant, cookie: Option<Vec<u8>>) {
        let Phase::InitSent(mut init) = std::mem::replace(&mut self.phase, Phase::Closed) else { return };
        if init.restarts >= MAX_RESTARTS
            || cookie.as_ref().is_some_and(|cookie| cookie.is_empty() || cookie.len() > 64)
        {
            self.phase = Phase::InitSent(init);
            return;
        }
        init.restarts += 1;
        init.cookie = cookie;
        self.send_init(ctx, now, *init);
    }
}

fn clear_header(spi_i: u64, spi_r: u64, flags: u8) -> Header {
    Header {
        initiator_spi: spi_i,
        responder_spi: spi_r,
        next_payload: 0,
        version: VERSION,
        exchange: exchange::IKE_SA_INIT,
        flags,
        message_id: 0,
        length: 0,
    }
}

/// A request to us as responder. `crowded`: demand a cookie. Gives a half-open SA, or nothing; either way the answer is
/// sent.
pub(super) fn answer(
    ctx: &mut Context,
    now: Instant,
    path: UdpPath,
    header: &Header,
    (message, payloads): (&[u8], &[Payload]),
    crowded: bool,
) -> Option<Sa> {
    let init = InitPayloads::find(payloads)?;
    let refuse = |ctx: &mut Context, kind: u16, data: Vec<u8>| {
        let header = clear_header(header.initiator_spi, 0, flags::RESPONSE);
        ctx.send(path, &[encode_message(header, &[nat::status(kind, data)])]);
    };
    ctx.rotate_cookies(now);
    if crowded {
        let given = find(payloads, nt::COOKIE).map(|notify| notify.data.as_slice());
        let proven = given
            .is_some_and(|cookie| ctx.cookies.accepts(cookie, init.nonce, path.remote, header.initiator_spi));
        if !proven {
            let cookie = ctx.cookies.bake(init.nonce, path.remote, header.initiator_spi);
            refuse(ctx, nt::COOKIE, cookie);
            return None;
        }
    }
    let Some(choice) = choose_ike(init.proposals, &ctx.config.ike_suites) else {
        refuse(ctx, nt::NO_PROPOSAL_CHOSEN, Vec::new());
        return None;
    };
    if init.group != GROUP_X25519 {
        refuse(ctx, nt::INVALID_KE_PAYLOAD, GROUP_X25519.to_be_bytes().to_vec());
        return None;
    }
    let kex = KeyPair::generate(&mut ctx.rng);
    let shared = kex.agree(init.public).ok()?;
    let nonce_r = ctx.nonce();
    let id = ctx.next_ike_id();
    let mut sa = fresh_sa(id, false, path, now, &ctx.config);
    sa.spi_i = header.initiator_spi;
    sa.spi_r = ctx.ike_spi();
    sa.suite = choice.suite;
    sa.peer = traits(payloads, sa.spi_i, 0, path);
    let seed = skeyseed(init.nonce, &nonce_r, &shared);
    let material = ike_keys(choice.suite, &seed, init.nonce, &nonce_r, sa.spi_i, sa.spi_r).ok()?;
    let protection = Protection::new(choice.suite, &material, false)?;
    sa.keys = Some(Keys { material, protection });

    let mut reply = vec![
        Payload::Sa(choice.answer(None)),
        Payload::KeyExchange { group: GROUP_X25519, data: kex.public().to_vec() },
        Payload::Nonce(nonce_r.clone()),
    ];
    reply.extend(common_notifies(ctx, sa.spi_i, sa.spi_r, path));
    if ctx.config.pad.takes_strangers() {
        reply.push(nat::status(nt::CHILDLESS_IKEV2_SUPPORTED, Vec::new()));
    }
    if !sa.peer.domicile {
        // One of us shows its certificate unasked, once it knows whom it speaks with.
        reply.extend(certificate::request(ctx, None));
    }
    let response = encode_message(clear_header(sa.spi_i, sa.spi_r, flags::RESPONSE), &reply);
    ctx.send(path, std::slice::from_ref(&response));
    sa.window.expected = 1;
    sa.window.cached = Some((0, vec![response.clone()]));
    sa.phase = Phase::HalfOpen(Box::new(HalfOpen {
        nonce_i: init.nonce.to_vec(),
        nonce_r,
        request: message.to_vec(),
        response,
    }));
    sa.timers.set(Timer::HalfOpen, now + HALF_OPEN_LIFETIME);
    Some(sa)
}
