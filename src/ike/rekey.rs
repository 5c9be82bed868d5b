//! Rekeying the IKE SA itself (RFC 7296 §1.3.2, §2.8.2, §2.18): a new SA inherits the children, its creator deletes the
//! old one.
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of payload is picked out of a message")]

use std::time::{Duration, Instant};

use super::child::nonce;
use super::context::{Context, Deferred};
use super::event::{CloseReason, Failure};
use super::inform::{error, first_error};
use super::message::Protection;
use super::proposal::{GROUP_X25519, IkeChoice, choose_ike, offer_ike, read_ike_answer};
use super::sa::{Keys, Phase, Sa};
use super::timer::{Timer, TimerTable};
use super::window::{Task, Want, Window};
use crate::crypto::kex::KeyPair;
use crate::crypto::prf::{ike_keys, skeyseed_rekey};
use crate::crypto::secret::Secret;
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{Payload, Proposal, exchange, notify_type as nt};

/// An old SA that its creator was to delete is deleted by us after this long.
pub(super) const FALLBACK: Duration = Duration::from_secs(10);

/// Our request to rekey the IKE SA.
pub(super) struct RekeyTask {
    kex: KeyPair,
    nonce: Vec<u8>,
    spi: u64,
    offer: Vec<Proposal>,
    /// The peer asked for the same meanwhile: its SA, ready, and the lowest nonce of that exchange.
    pub(super) collision: Option<(Box<Sa>, Vec<u8>)>,
}

impl Sa {
    pub(super) fn begin_rekey_ike(&mut self, ctx: &mut Context, now: Instant) {
        if self.timers.is_set(Timer::Superseded) {
            // Another SA is to stay; should that one go first, this one is rekeyed after all.
            self.retry(ctx, now, Want::RekeyIke);
            return;
        }
        let kex = KeyPair::generate(&mut ctx.rng);
        let nonce = ctx.nonce();
        let spi = ctx.ike_spi();
        let offer = offer_ike(&ctx.config.ike_suites, Some(spi));
        let payloads = [
            Payload::Sa(offer.clone()),
            Payload::Nonce(nonce.clone()),
            Payload::KeyExchange { group: GROUP_X25519, data: kex.public().to_vec() },
        ];
        let task = Task::RekeyIke(Box::new(RekeyTask { kex, nonce, spi, offer, collision: None }));
        self.request(ctx, now, exchange::CREATE_CHILD_SA, &payloads, task);
    }

    /// The heir of this SA: same peer, same path, same trust, fresh keys, no child yet.
    fn heir(
        &self,
        ctx: &mut Context,
        now: Instant,
        initiator: bool,
        spis: (u64, u64),
        choice: IkeChoice,
        secrets: (&Secret, &[u8], &[u8]),
    ) -> Option<Self> {
        let (shared, ni, nr) = secrets;
        let seed = skeyseed_rekey(&self.keys.as_ref()?.material.sk_d, shared, ni, nr);
        let material = ike_keys(choice.suite, &seed, ni, nr, spis.0, spis.1).ok()?;
        let protection = Protection::new(choice.suite, &material, initiator)?;
        Some(Self {
            id: ctx.next_ike_id(),
            initiator,
            local: self.local,
            remote: self.remote,
            spi_i: spis.0,
            spi_r: spis.1,
            path: self.path,
            suite: choice.suite,
            keys: Some(Keys { material, protection }),
            peer: self.peer,
            phase: Phase::Closed,
            created: now,
            window: Window::default(),
            timers: TimerTable::default(),
            children: std::collections::BTreeMap::new(),
            offered: None,
            replaces: None,
            heir: None,
            trust: self.trust,
            heard: now,
            sent: self.sent,
            probed: self.probed,
            repeated: None,
            moving: self.moving,
            seen_as: None,
            rtt: self.rtt,
            patience: self.patience,
            known_to_peer: initiator,
            keys_unproven: false,
        })
    }

    /// The heir takes over the children and what was still wanted, and takes part from now on.
    fn hand_over(&mut self, ctx: &mut Context, now: Instant, mut heir: Self) {
        let authenticated = match self.phase {
            Phase::Established { authenticated, .. } => authenticated,
            Phase::InitSent(_) | Phase::HalfOpen(_) | Phase::AuthSent(_) | Phase::Closed => now,
        };
        // It may have been made before the path changed, when rekeys crossed.
        heir.path = self.path;
        heir.establish(ctx, now, authenticated);
        heir.children = std::mem::take(&mut self.children);
        for child in heir.children.values() {
            ctx.inbound.insert(child.spi_in, heir.id);
            ctx.outbound.insert(child.spi_out, heir.id);
        }
        for (id, _) in heir.children.iter().filter(|(_, child)| child.deleting) {
            heir.window.want(Want::DeleteChild(*id, CloseReason::Replaced));
        }
        // The old SA does nothing more but end: what waited for its window goes to the heir.
        for want in self.window.take_wants() {
            match want {
                Want::Child
                | Want::AdditionalChild
                | Want::RekeyChild(_)
                | Want::DeleteChild(..)
                | Want::DeleteExpired(_)
                | Want::Probe(_) => heir.window.want(want),
                Want::UpdateAddresses => heir.window.want_first(want),
                Want::Tell(_) => heir.window.want(want),
                Want::RekeyIke | Want::Liveness => {}
                Want::DeleteIke(CloseReason::Replaced) => self.window.want(want),
                // Whoever was to end everything meant this, too.
                Want::DeleteIke(reason) => heir.leave(ctx, now, reason),
            }
        }
        self.timers.stop(Timer::Retry);
        self.timers.stop(Timer::Rekey);
        self.timers.stop(Timer::Reauth);
        self.timers.set(Timer::Superseded, now + FALLBACK);
        self.heir = Some(heir.id);
        ctx.deferred.push_back(Deferred::Add(Box::new(heir)));
    }

    /// A superfluous SA that lost a collision: it exists, its creator deletes it.
    fn add_loser(ctx: &mut Context, now: Instant, mut loser: Self, ours: bool) {
        loser.establish(ctx, now, now);
        loser.timers = TimerTable::default();
        if ours {
            loser.window.want(Want::DeleteIke(CloseReason::Replaced));
            loser.pump(ctx, now);
        } else {
            loser.timers.set(Timer::Superseded, now + FALLBACK);
        }
        ctx.deferred.push_back(Deferred::Add(Box::new(loser)));
    }

    /// The peer rekeys the IKE SA.
    pub(super) fn handle_rekey_request(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        payloads: &[Payload],
    ) {
        let reply = match self.answer_rekey(ctx, now, payloads) {
            Ok(reply) => reply,
            Err(nt::INVALID_KE_PAYLOAD) => {
                vec![super::nat::status(nt::INVALID_KE_PAYLOAD, GROUP_X25519.to_be_bytes().to_vec())]
            }
            Err(kind) => vec![error(kind)],
        };
        self.respond(ctx, path, exchange::CREATE_CHILD_SA, &reply);
    }

    fn answer_rekey(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        payloads: &[Payload],
    ) -> Result<Vec<Payload>, u16> {
        // RFC 7296 §2.25.2: not while a child exchange of ours is open, nor while we close the SA.
        let busy = self
            .window
            .outstanding
            .as_ref()
            .is_some_and(|out| matches!(out.task, Task::Child(_) | Task::DeleteChild(..)));
        if busy || self.is_leaving() || self.timers.is_set(Timer::Superseded) {
            return Err(nt::TEMPORARY_FAILURE);
        }
        let proposals = payloads
            .iter()
            .find_map(|payload| match payload {
                Payload::Sa(proposals) => Some(proposals.as_slice()),
                _ => None,
            })
            .ok_or(nt::INVALID_SYNTAX)?;
        let choice = choose_ike(proposals, &ctx.config.ike_suites).ok_or(nt::NO_PROPOSAL_CHOSEN)?;
        let their_spi = choice.spi.filter(|spi| *spi != 0).ok_or(nt::INVALID_SYNTAX)?;
        let nonce_i = nonce(payloads).ok_or(nt::INVALID_SYNTAX)?;
        let public = x25519(payloads)?;
        let kex = KeyPair::generate(&mut ctx.rng);
        let shared = kex.agree(public).map_err(|_| nt::INVALID_SYNTAX)?;
        let nonce_r = ctx.nonce();
        let spi = ctx.ike_spi();
        let heir = self
            .heir(ctx, now, false, (their_spi, spi), choice, (&shared, nonce_i, &nonce_r))
            .ok_or(nt::NO_PROPOSAL_CHOSEN)?;
        let reply = vec![
            Payload::Sa(choice.answer(Some(spi))),
            Payload::Nonce(nonce_r.clone()),
            Payload::KeyExchange { group: GROUP_X25519, data: kex.public().to_vec() },
        ];
        let lowest = nonce_i.min(nonce_r.as_slice()).to_vec();
        if let Some(out) = self.window.outstanding.as_mut()
            && let Task::RekeyIke(task) = &mut out.task
        {
            task.collision = Some((Box::new(heir), lowest));
        } else {
            self.hand_over(ctx, now, heir);
        }
        Ok(reply)
    }

    /// Our rekey was answered.
    pub(super) fn handle_rekey_response(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        task: RekeyTask,
        payloads: &[Payload],
    ) {
        let heir = self.read_rekey_answer(ctx, now, &task, payloads);
        match (heir, task.collision) {
            (Ok((ours, lowest)), Some((theirs, their_lowest))) => {
                // The SA made with the lowest of the four nonces is closed by its creator (RFC 7296 §2.8.2).
                if lowest < their_lowest {
                    self.hand_over(ctx, now, *theirs);
                    Self::add_loser(ctx, now, ours, true);
                } else {
                    self.hand_over(ctx, now, ours);
                    Self::add_loser(ctx, now, *theirs, false);
                    self.window.want_first(Want::DeleteIke(CloseReason::Replaced));
                }
            }
            (Ok((ours, _)), None) => {
                self.hand_over(ctx, now, ours);
                self.window.want_first(Want::DeleteIke(CloseReason::Replaced));
            }
            (Err(_), Some((theirs, _))) => self.hand_over(ctx, now, *theirs),
            (Err(Some(nt::TEMPORARY_FAILURE)), None) => self.retry(ctx, now, Want::RekeyIke),
            (Err(refusal), None) => {
                let failure = refusal.map_or_else(
                    || Failure::Protocol("the answer to an IKE rekey cannot be used".to_owned()),
                    Failure::Notify,
                );
                tracing::warn!(peer = %self.remote, %failure, "the peer refuses to rekey the IKE SA: authenticating anew");
                ctx.deferred.push_back(Deferred::Replace { id: self.id, path: self.path });
            }
        }
    }

    fn read_rekey_answer(
        &self,
        ctx: &mut Context,
        now: Instant,
        task: &RekeyTask,
        payloads: &[Payload],
    ) -> Result<(Self, Vec<u8>), Option<u16>> {
        let refusal = first_error(payloads);
        let proposals = payloads
            .iter()
            .find_map(|payload| match payload {
                Payload::Sa(proposals) => Some(proposals.as_slice()),
                _ => None,
            })
            .ok_or(refusal)?;
        let choice = read_ike_answer(proposals, &task.offer, &ctx.config.ike_suites).ok_or(refusal)?;
        let their_spi = choice.spi.filter(|spi| *spi != 0).ok_or(refusal)?;
        let nonce_r = nonce(payloads).ok_or(refusal)?;
        let public = x25519(payloads).map_err(|_| refusal)?;
        let shared = task.kex.agree(public).map_err(|_| refusal)?;
        let secrets = (&shared, task.nonce.as_slice(), nonce_r);
        let heir = self.heir(ctx, now, true, (task.spi, their_spi), choice, secrets).ok_or(refusal)?;
        Ok((heir, task.nonce.as_slice().min(nonce_r).to_vec()))
    }

    /// The old SA goes while our own rekey is open: the peer's won (RFC 7296 §2.25.2).
    pub(super) fn adopt_collision(&mut self, ctx: &mut Context, now: Instant) {
        if let Some(out) = self.window.outstanding.as_mut()
            && let Task::RekeyIke(task) = &mut out.task
            && let Some((theirs, _)) = task.collision.take()
        {
            self.window.outstanding = None;
            self.hand_over(ctx, now, *theirs);
        }
    }

    /// The peer is busy: again in a second or two.
    pub(super) fn retry(&mut self, ctx: &mut Context, now: Instant, want: Want) {
        let delay = Duration::from_millis(500) + ctx.chance(Duration::from_millis(1500));
        match want {
            Want::RekeyIke => self.timers.set(Timer::Rekey, now + delay),
            _ => self.timers.set(Timer::Retry, now + delay),
        }
    }
}

fn x25519(payloads: &[Payload]) -> Result<&[u8], u16> {
    payloads
        .iter()
        .find_map(|payload| match payload {
            Payload::KeyExchange { group, data } => Some((*group, data.as_slice())),
            _ => None,
        })
        .ok_or(nt::INVALID_SYNTAX)
        .and_then(|(group, data)| if group == GROUP_X25519 { Ok(data) } else { Err(nt::INVALID_KE_PAYLOAD) })
}
