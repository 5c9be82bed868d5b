//! The offer of a child SA and its answer, as IKE_AUTH and CREATE_CHILD_SA both carry them (RFC 7296 §1.2, §1.3, §2.17),
//! and the child that comes of it.

use std::time::Instant;

use super::context::Context;
use super::event::{ChildId, ChildSa, Event, Failure};
use super::inform::find;
use super::proposal::{
    GROUP_X25519, Pfs, choose_child, choose_child_as_offered, offer_child, read_child_answer,
};
use super::sa::Sa;
use super::select;
use crate::crypto::kex::KeyPair;
use crate::crypto::prf::child_keys;
use crate::crypto::secret::Secret;
use crate::crypto::suite::EspSuite;
use crate::wire::ike::{Payload, Proposal, TrafficSelector, notify_type as nt};

/// What a child SA is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The first one, in IKE_AUTH: neither a nonce nor a key exchange is part of that.
    First,
    /// There is none.
    Anew,
    /// Another resource (RFC 9611): it stands beside those that there are.
    Additional,
    /// The place of `old`, which was an additional one or not.
    Rekey { old: ChildId, additional: bool },
}

impl Purpose {
    /// The child that it replaces.
    pub(super) fn old(self) -> Option<ChildId> {
        match self {
            Self::Rekey { old, .. } => Some(old),
            Self::First | Self::Anew | Self::Additional => None,
        }
    }
}

/// A child SA pair as its IKE SA keeps it.
pub(super) struct Child {
    pub(super) spi_in: u32,
    pub(super) spi_out: u32,
    pub(super) rekey_at: Instant,
    pub(super) hard_at: Instant,
    /// We answered the rekey that made it and send on it only once the peer is seen to use it.
    pub(super) awaits_use: bool,
    /// The child that took its place.
    pub(super) replaced_by: Option<ChildId>,
    /// Its DELETE is under way or wanted.
    pub(super) deleting: bool,
    /// It stands beside others with the same selectors (RFC 9611).
    pub(super) additional: bool,
    /// Something was sent or received on it.
    pub(super) used: bool,
    pub(super) suite: EspSuite,
}

/// What we offered and wait to see answered.
pub(super) struct ChildOffer {
    pub(super) spi_in: u32,
    suites: Vec<EspSuite>,
    proposals: Vec<Proposal>,
    kex: Option<KeyPair>,
}

impl ChildOffer {
    /// `pfs`: with a key exchange. A rekey offers the suite in use first (RFC 7296 §2.8 wants the same or better).
    pub(super) fn new(ctx: &mut Context, sa: &mut Sa, pfs: bool, purpose: Purpose) -> Self {
        let first = purpose.old().and_then(|old| sa.children.get(&old)).map(|child| child.suite);
        let mut suites = ctx.esp_suites(sa.local, sa.remote);
        suites.sort_by_key(|suite| Some(*suite) != first);
        let kex = pfs.then(|| KeyPair::generate(&mut ctx.rng));
        let spi_in = ctx.reserve_spi(sa.id, sa.octet_for(purpose));
        sa.offered = Some(spi_in);
        let proposals = offer_child(&suites, spi_in, ctx.config.esn, pfs);
        Self { spi_in, suites, proposals, kex }
    }

    /// SA, then `between` (the nonce), KE, TSi, TSr.
    pub(super) fn payloads(&self, sa: &Sa, between: &[Payload]) -> Vec<Payload> {
        let mut payloads = vec![Payload::Sa(self.proposals.clone())];
        payloads.extend_from_slice(between);
        if let Some(kex) = &self.kex {
            payloads.push(Payload::KeyExchange { group: GROUP_X25519, data: kex.public().to_vec() });
        }
        payloads.push(Payload::TsInitiator(select::single(sa.local)));
        payloads.push(Payload::TsResponder(select::single(sa.remote)));
        payloads
    }

    /// Nothing came of it.
    pub(super) fn abandon(&self, ctx: &mut Context, sa: &mut Sa) {
        sa.offered = None;
        ctx.inbound.remove(&self.spi_in);
    }

    /// Reads the answer and installs the child. `send_now` is decided by the caller through `loser`: a child that lost
    /// a collision is only received on until it is deleted.
    #[expect(clippy::too_many_arguments, reason = "the exchange's whole outcome in one place")]
    pub(super) fn accept(
        &self,
        ctx: &mut Context,
        now: Instant,
        sa: &mut Sa,
        payloads: &[Payload],
        purpose: Purpose,
        nonces: (&[u8], &[u8]),
        loser: Option<bool>,
    ) -> Result<ChildId, Failure> {
        let result = self.try_accept(ctx, now, sa, payloads, purpose, nonces, loser);
        match &result {
            Ok(_) => sa.offered = None,
            Err(_) => self.abandon(ctx, sa),
        }
        result
    }

    #[expect(clippy::too_many_arguments, reason = "see accept")]
    fn try_accept(
        &self,
        ctx: &mut Context,
        now: Instant,
        sa: &mut Sa,
        payloads: &[Payload],
        purpose: Purpose,
        (nonce_i, nonce_r): (&[u8], &[u8]),
        loser: Option<bool>,
    ) -> Result<ChildId, Failure> {
        let protocol = |what: &str| Failure::Protocol(what.to_owned());
        let parts =
            ChildPayloads::find(payloads).ok_or_else(|| protocol("answer without SA or selectors"))?;
        let pfs = if self.kex.is_some() { Pfs::WhenOffered } else { Pfs::Never };
        let choice = read_child_answer(parts.proposals, &self.proposals, &self.suites, pfs)
            .ok_or_else(|| protocol("the answer is not what was offered"))?;
        if !select::is_single(parts.ts_i, sa.local) || !select::is_single(parts.ts_r, sa.remote) {
            return Err(Failure::SelectorsRefused);
        }
        let shared = match (&self.kex, choice.pfs) {
            (Some(kex), true) => {
                let public = parts
                    .public
                    .filter(|_| parts.group == Some(GROUP_X25519))
                    .ok_or_else(|| protocol("no key exchange, or another one, in the answer"))?;
                Some(kex.agree(public).map_err(|error| Failure::Protocol(error.to_string()))?)
            }
            (Some(_), false) => return Err(protocol("the answer leaves out the key exchange")),
            (None, _) => None,
        };
        let keymat =
            sa.keymat(choice.suite, shared.as_ref(), nonce_i, nonce_r).ok_or_else(|| protocol("no keys"))?;
        let made = Made {
            spis: (self.spi_in, choice.spi),
            suite: choice.suite,
            esn: choice.esn,
            keys: (keymat.1, keymat.0),
            purpose,
            send_now: loser != Some(true),
            awaits_use: false,
        };
        Ok(sa.install(ctx, now, made))
    }
}

/// The payloads that make a child SA.
struct ChildPayloads<'a> {
    proposals: &'a [Proposal],
    ts_i: &'a [TrafficSelector],
    ts_r: &'a [TrafficSelector],
    public: Option<&'a [u8]>,
    group: Option<u16>,
}

impl<'a> ChildPayloads<'a> {
    fn find(payloads: &'a [Payload]) -> Option<Self> {
        let (mut proposals, mut ts_i, mut ts_r, mut exchange) = (None, None, None, None);
        for payload in payloads {
            match payload {
                Payload::Sa(offer) => proposals = Some(offer.as_slice()),
                Payload::TsInitiator(selectors) => ts_i = Some(selectors.as_slice()),
                Payload::TsResponder(selectors) => ts_r = Some(selectors.as_slice()),
                Payload::KeyExchange { group, data } => exchange = Some((*group, data.as_slice())),
                Payload::IdInitiator(_)
                | Payload::IdResponder(_)
                | Payload::Certificate { .. }
                | Payload::CertificateRequest { .. }
                | Payload::Auth { .. }
                | Payload::Nonce(_)
                | Payload::Notify(_)
                | Payload::Delete(_)
                | Payload::VendorId(_)
                | Payload::Other { .. } => {}
            }
        }
        Some(Self {
            proposals: proposals?,
            ts_i: ts_i?,
            ts_r: ts_r?,
            public: exchange.map(|(_, public)| public),
            group: exchange.map(|(group, _)| group),
        })
    }
}

/// A child SA that both ends agreed on.
struct Made {
    /// Inbound, outbound.
    spis: (u32, u32),
    suite: EspSuite,
    esn: bool,
    /// Inbound, outbound.
    keys: (Secret, Secret),
    purpose: Purpose,
    send_now: bool,
    awaits_use: bool,
}

impl Sa {
    /// Key material: initiator's, responder's (of the exchange).
    fn keymat(
        &self,
        suite: EspSuite,
        shared: Option<&Secret>,
        ni: &[u8],
        nr: &[u8],
    ) -> Option<(Secret, Secret)> {
        let keys = child_keys(suite, &self.keys.as_ref()?.material.sk_d, shared, ni, nr).ok()?;
        Some((keys.initiator, keys.responder))
    }

    fn install(&mut self, ctx: &mut Context, now: Instant, made: Made) -> ChildId {
        let id = ctx.next_child_id();
        let lifetimes = ctx.config.lifetimes;
        let (spi_in, spi_out) = made.spis;
        let additional = self.is_additional(made.purpose);
        self.children.insert(
            id,
            Child {
                spi_in,
                spi_out,
                rekey_at: now + ctx.jittered(lifetimes.child_rekey),
                hard_at: now + lifetimes.child_hard,
                awaits_use: made.awaits_use,
                replaced_by: None,
                deleting: false,
                additional,
                used: false,
                suite: made.suite,
            },
        );
        ctx.outbound.insert(spi_out, self.id);
        let (key_in, key_out) = made.keys;
        ctx.emit(Event::ChildReady(Box::new(ChildSa {
            id,
            ike: self.id,
            local: self.local,
            remote: self.remote,
            suite: made.suite,
            esn: made.esn,
            spi_in,
            spi_out,
            key_in,
            key_out,
            path: self.path,
            replaces: made.purpose.old(),
            additional,
            send_now: made.send_now,
            peer_is_domicile: self.peer.domicile,
        })));
        id
    }

    /// Answers an offer. Gives the child and the payloads SA, [nonce, KE], TSi, TSr, or the error notify.
    pub(super) fn accept_child(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        payloads: &[Payload],
        (nonce_i, nonce_r): (&[u8], &[u8]),
        purpose: Purpose,
    ) -> Result<(ChildId, Vec<Payload>), u16> {
        let parts = ChildPayloads::find(payloads).ok_or(nt::INVALID_SYNTAX)?;
        if find(payloads, nt::USE_TRANSPORT_MODE).is_some() {
            tracing::debug!("the peer prefers transport mode; tunnel mode is what we do");
        }
        let suites = ctx.esp_suites(self.local, self.remote);
        if suites.is_empty()
            || !select::covers(parts.ts_i, self.remote)
            || !select::covers(parts.ts_r, self.local)
        {
            return Err(nt::TS_UNACCEPTABLE);
        }
        let in_auth = purpose == Purpose::First;
        let pfs = if in_auth { Pfs::Never } else { Pfs::WhenOffered };
        let choose = if ctx.config.esp_yields { choose_child_as_offered } else { choose_child };
        let choice = choose(parts.proposals, &suites, ctx.config.esn, pfs).ok_or(nt::NO_PROPOSAL_CHOSEN)?;
        let mut middle = Vec::new();
        if !in_auth {
            middle.push(Payload::Nonce(nonce_r.to_vec()));
        }
        let shared = if choice.pfs {
            if parts.group != Some(GROUP_X25519) {
                return Err(nt::INVALID_KE_PAYLOAD);
            }
            let kex = KeyPair::generate(&mut ctx.rng);
            let shared = kex.agree(parts.public.unwrap_or_default()).map_err(|_| nt::INVALID_SYNTAX)?;
            middle.push(Payload::KeyExchange { group: GROUP_X25519, data: kex.public().to_vec() });
            Some(shared)
        } else {
            None
        };
        let keymat =
            self.keymat(choice.suite, shared.as_ref(), nonce_i, nonce_r).ok_or(nt::NO_PROPOSAL_CHOSEN)?;
        let spi_in = ctx.reserve_spi(self.id, self.octet_for(purpose));
        let made = Made {
            spis: (spi_in, choice.spi),
            suite: choice.suite,
            esn: choice.esn,
            keys: keymat,
            purpose,
            send_now: false,
            awaits_use: true,
        };
        let id = self.install(ctx, now, made);
        let mut reply = vec![Payload::Sa(choice.answer(spi_in))];
        reply.extend(middle);
        reply.push(Payload::TsInitiator(select::single(self.remote)));
        reply.push(Payload::TsResponder(select::single(self.local)));
        Ok((id, reply))
    }
}
