//! Child SAs: the offer and answer in IKE_AUTH and CREATE_CHILD_SA, new and rekeyed (RFC 7296 §1.3, §2.8, §2.17).
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of payload is picked out of a message")]

use std::time::Instant;

use super::context::Context;
use super::event::{ChildId, ChildSa, CloseReason, Event, Failure};
use super::inform::{error, find, first_error};
use super::proposal::{GROUP_X25519, Pfs, choose_child, offer_child};
use super::sa::Sa;
use super::select;
use super::window::{Task, Want};
use crate::crypto::kex::KeyPair;
use crate::crypto::prf::child_keys;
use crate::crypto::secret::Secret;
use crate::crypto::suite::EspSuite;
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{Notify, Payload, Proposal, TrafficSelector, exchange, notify_type as nt};

const PROTOCOL_ESP: u8 = 3;
/// Children of one IKE SA: one carries traffic, the others are being replaced.
const MAX_CHILDREN: usize = 16;

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
    suite: EspSuite,
}

/// What we offered and wait to see answered.
pub(super) struct ChildOffer {
    spi_in: u32,
    suites: Vec<EspSuite>,
    kex: Option<KeyPair>,
}

/// A CREATE_CHILD_SA request of ours that makes a child SA.
pub(super) struct ChildTask {
    offer: ChildOffer,
    nonce: Vec<u8>,
    /// The child that it replaces.
    pub(super) old: Option<ChildId>,
    /// The peer replaced the same child meanwhile (RFC 7296 §2.8.1): its child, and the lowest nonce of that exchange.
    collision: Option<(ChildId, Vec<u8>)>,
}

impl ChildOffer {
    pub(super) fn new(ctx: &mut Context, sa: &Sa, pfs: bool) -> Self {
        let suites = ctx.esp_suites(sa.local, sa.remote);
        let kex = pfs.then(|| KeyPair::generate(&mut ctx.rng));
        Self { spi_in: ctx.reserve_spi(sa.id), suites, kex }
    }

    /// SA, then `between` (the nonce), KE, TSi, TSr.
    pub(super) fn payloads(&self, ctx: &Context, sa: &Sa, between: &[Payload]) -> Vec<Payload> {
        let mut payloads =
            vec![Payload::Sa(offer_child(&self.suites, self.spi_in, ctx.config.esn, self.kex.is_some()))];
        payloads.extend_from_slice(between);
        if let Some(kex) = &self.kex {
            payloads.push(Payload::KeyExchange { group: GROUP_X25519, data: kex.public().to_vec() });
        }
        payloads.push(Payload::TsInitiator(select::single(sa.local)));
        payloads.push(Payload::TsResponder(select::single(sa.remote)));
        payloads
    }

    /// Nothing came of it.
    pub(super) fn abandon(&self, ctx: &mut Context) {
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
        old: Option<ChildId>,
        nonces: (&[u8], &[u8]),
        loser: Option<bool>,
    ) -> Result<ChildId, Failure> {
        let result = self.try_accept(ctx, now, sa, payloads, old, nonces, loser);
        if result.is_err() {
            self.abandon(ctx);
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
        old: Option<ChildId>,
        (nonce_i, nonce_r): (&[u8], &[u8]),
        loser: Option<bool>,
    ) -> Result<ChildId, Failure> {
        let protocol = |what: &str| Failure::Protocol(what.to_owned());
        let parts =
            ChildPayloads::find(payloads).ok_or_else(|| protocol("answer without SA or selectors"))?;
        let pfs = if self.kex.is_some() { Pfs::WhenOffered } else { Pfs::Never };
        let choice = choose_child(parts.proposals, &self.suites, ctx.config.esn, pfs, true)
            .ok_or_else(|| protocol("the answer is not what was offered"))?;
        if !select::is_single(parts.ts_i, sa.local) || !select::is_single(parts.ts_r, sa.remote) {
            return Err(Failure::SelectorsRefused);
        }
        let shared = match (&self.kex, choice.pfs) {
            (Some(kex), true) => {
                let public = parts.public.ok_or_else(|| protocol("no key exchange in the answer"))?;
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
            replaces: old,
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
    replaces: Option<ChildId>,
    send_now: bool,
    awaits_use: bool,
}

/// The nonce of a CREATE_CHILD_SA message.
pub(super) fn nonce(payloads: &[Payload]) -> Option<&[u8]> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Nonce(nonce) => Some(nonce.as_slice()),
        _ => None,
    })
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
            replaces: made.replaces,
            send_now: made.send_now,
            peer_is_domicile: self.peer.domicile,
        })));
        id
    }

    /// Answers an offer. Gives the child and the payloads SA, [nonce, KE], TSi, TSr, or the error notify.
    /// `create` is absent in IKE_AUTH, where neither a nonce nor a key exchange is part of it; in CREATE_CHILD_SA it
    /// tells which child is replaced, if any.
    pub(super) fn accept_child(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        payloads: &[Payload],
        (nonce_i, nonce_r): (&[u8], &[u8]),
        create: Option<Option<ChildId>>,
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
        let pfs = if create.is_some() { Pfs::WhenOffered } else { Pfs::Never };
        let choice = choose_child(parts.proposals, &suites, ctx.config.esn, pfs, false)
            .ok_or(nt::NO_PROPOSAL_CHOSEN)?;
        let mut middle = Vec::new();
        if create.is_some() {
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
        let spi_in = ctx.reserve_spi(self.id);
        let made = Made {
            spis: (spi_in, choice.spi),
            suite: choice.suite,
            esn: choice.esn,
            keys: keymat,
            replaces: create.flatten(),
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

    /// Asks for a child SA: a new one, or one in place of `old`.
    pub(super) fn begin_child(&mut self, ctx: &mut Context, now: Instant, old: Option<ChildId>) {
        let offer = match old {
            Some(id) => {
                let Some(child) = self.children.get(&id) else { return };
                // Until the peer is seen to have the answer that made it, it would say CHILD_SA_NOT_FOUND.
                let fresh =
                    child.awaits_use && self.children.values().any(|other| other.replaced_by == Some(id));
                if child.replaced_by.is_some() || child.deleting || fresh {
                    return;
                }
                let mut offer = ChildOffer::new(ctx, self, ctx.config.child_pfs);
                // A rekey offers the suite in use first (RFC 7296 §2.8 wants the same or better).
                let suite = child.suite;
                offer.suites.sort_by_key(|other| *other != suite);
                offer
            }
            None => ChildOffer::new(ctx, self, ctx.config.child_pfs),
        };
        let nonce = ctx.nonce();
        let mut payloads = Vec::new();
        if let Some(child) = old.and_then(|id| self.children.get(&id)) {
            payloads.push(Payload::Notify(Notify {
                protocol: PROTOCOL_ESP,
                spi: child.spi_in.to_be_bytes().to_vec(),
                kind: nt::REKEY_SA,
                data: Vec::new(),
            }));
        }
        payloads.extend(offer.payloads(ctx, self, &[Payload::Nonce(nonce.clone())]));
        let task = Task::Child(Box::new(ChildTask { offer, nonce, old, collision: None }));
        self.request(ctx, now, exchange::CREATE_CHILD_SA, &payloads, task);
    }

    /// Our request was answered.
    pub(super) fn handle_child_response(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        task: ChildTask,
        payloads: &[Payload],
    ) {
        let Some(nonce_r) = nonce(payloads) else {
            task.offer.abandon(ctx);
            self.child_refused(ctx, now, &task, first_error(payloads));
            return;
        };
        // Four nonces, the lowest loses (RFC 7296 §2.8.1).
        let lowest = task.nonce.as_slice().min(nonce_r);
        let lost = task.collision.as_ref().is_some_and(|(_, theirs)| lowest < theirs.as_slice());
        let nonces = (task.nonce.as_slice(), nonce_r);
        let made = task.offer.accept(ctx, now, self, payloads, task.old, nonces, Some(lost));
        let new = match made {
            Ok(new) => new,
            Err(failure) => {
                tracing::debug!(%failure, "the answer to our child SA cannot be used");
                self.end(ctx, CloseReason::Failed(failure));
                return;
            }
        };
        if lost {
            let theirs = task.collision.as_ref().map(|(theirs, _)| *theirs);
            if let Some(child) = task.old.and_then(|old| self.children.get_mut(&old)) {
                child.replaced_by = theirs;
            }
            self.window.want_first(Want::DeleteChild(new, CloseReason::Replaced));
        } else if let Some(old) = task.old {
            if let Some(child) = self.children.get_mut(&old) {
                child.replaced_by = Some(new);
            }
            self.window.want_first(Want::DeleteChild(old, CloseReason::Replaced));
        }
    }

    fn child_refused(&mut self, ctx: &mut Context, now: Instant, task: &ChildTask, refusal: Option<u16>) {
        if let (Some((theirs, _)), Some(old)) = (&task.collision, task.old) {
            // The peer replaced the child itself and therefore refused us: its child it is.
            if let Some(child) = self.children.get_mut(&old) {
                child.replaced_by = Some(*theirs);
            }
            return;
        }
        match (refusal, task.old) {
            (Some(nt::TEMPORARY_FAILURE), old) => {
                if old.is_none() {
                    self.retry(ctx, now, Want::Child);
                } else {
                    let delay = std::time::Duration::from_millis(500)
                        + ctx.chance(std::time::Duration::from_millis(1500));
                    if let Some(child) = task.old.and_then(|old| self.children.get_mut(&old)) {
                        child.rekey_at = now + delay;
                    }
                }
            }
            (Some(nt::CHILD_SA_NOT_FOUND), Some(old)) => {
                if let Some(child) = self.children.remove(&old) {
                    ctx.outbound.remove(&child.spi_out);
                    ctx.close_child(old, child.spi_in, CloseReason::Peer);
                }
                if self.children.is_empty() {
                    self.window.want(Want::Child);
                }
            }
            (refusal, _) => {
                let failure = match refusal {
                    Some(nt::NO_PROPOSAL_CHOSEN) => Failure::NoProposalChosen,
                    Some(nt::TS_UNACCEPTABLE) => Failure::SelectorsRefused,
                    Some(kind) => Failure::Notify(kind),
                    None => Failure::Protocol("CREATE_CHILD_SA response without nonce".to_owned()),
                };
                tracing::warn!(peer = %self.remote, %failure, "the peer refuses a child SA");
                // Without a successor there is nothing to go on with: start over from authentication.
                self.window.want_first(Want::DeleteIke(CloseReason::Failed(failure)));
            }
        }
    }

    /// The peer asks for a child SA, or replaces one, or the IKE SA itself.
    pub(super) fn handle_create_child(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        payloads: &[Payload],
    ) {
        let is_ike = payloads.iter().any(|payload| {
            matches!(payload, Payload::Sa(proposals) if proposals.iter().any(|proposal| proposal.protocol == 1))
        });
        if is_ike {
            self.handle_rekey_request(ctx, now, path, payloads);
            return;
        }
        let reply = match self.answer_child(ctx, now, payloads) {
            Ok(reply) => reply,
            Err(nt::INVALID_KE_PAYLOAD) => {
                vec![super::nat::status(nt::INVALID_KE_PAYLOAD, GROUP_X25519.to_be_bytes().to_vec())]
            }
            Err(kind) => vec![error(kind)],
        };
        self.respond(ctx, path, exchange::CREATE_CHILD_SA, &reply);
    }

    fn answer_child(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        payloads: &[Payload],
    ) -> Result<Vec<Payload>, u16> {
        // RFC 7296 §2.25.2: not while the IKE SA is being rekeyed or closed by us.
        let busy = self
            .window
            .outstanding
            .as_ref()
            .is_some_and(|out| matches!(out.task, Task::RekeyIke(_) | Task::DeleteIke(_) | Task::Refuse));
        if busy {
            return Err(nt::TEMPORARY_FAILURE);
        }
        if self.children.len() >= MAX_CHILDREN {
            return Err(nt::NO_ADDITIONAL_SAS);
        }
        let nonce_i = nonce(payloads).ok_or(nt::INVALID_SYNTAX)?.to_vec();
        let old = match find(payloads, nt::REKEY_SA) {
            Some(rekey) => Some(self.rekeyed_child(&rekey.spi)?),
            None => None,
        };
        let nonce_r = ctx.nonce();
        let (new, reply) = self.accept_child(ctx, now, payloads, (&nonce_i, &nonce_r), Some(old))?;
        let Some(old) = old else { return Ok(reply) };
        if let Some(out) = self.window.outstanding.as_mut()
            && let Task::Child(task) = &mut out.task
            && task.old == Some(old)
        {
            task.collision = Some((new, nonce_i.min(nonce_r)));
        } else if let Some(child) = self.children.get_mut(&old) {
            child.replaced_by = Some(new);
        }
        Ok(reply)
    }

    /// The child that a REKEY_SA names by the SPI the peer receives on (RFC 7296 §1.3.3).
    fn rekeyed_child(&self, spi: &[u8]) -> Result<ChildId, u16> {
        let spi = spi.try_into().map(u32::from_be_bytes).map_err(|_| nt::INVALID_SYNTAX)?;
        let (id, child) =
            self.children.iter().find(|(_, child)| child.spi_out == spi).ok_or(nt::CHILD_SA_NOT_FOUND)?;
        if child.deleting && child.replaced_by.is_none() {
            return Err(nt::TEMPORARY_FAILURE);
        }
        if child.replaced_by.is_some() {
            return Err(nt::CHILD_SA_NOT_FOUND);
        }
        Ok(*id)
    }

    /// The peer uses this child, so we may send on it.
    pub(super) fn child_used(&mut self, ctx: &mut Context, spi_in: u32) {
        let found = self.children.iter_mut().find(|(_, child)| child.spi_in == spi_in && child.awaits_use);
        if let Some((id, child)) = found {
            child.awaits_use = false;
            ctx.events.push_back(Event::ChildSend(*id));
        }
    }
}
