//! CREATE_CHILD_SA for child SAs, new and rekeyed, and what happens when both ends act (RFC 7296 §1.3, §2.8, §2.25).
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of payload is picked out of a message")]

use std::time::Instant;

use super::child_offer::{ChildOffer, Purpose};
use super::context::Context;
use super::event::{ChildId, CloseReason, Event, Failure};
use super::inform::{error, find, first_error};
use super::proposal::GROUP_X25519;
use super::resources;
use super::sa::Sa;
use super::window::{Task, Want};
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{Notify, Payload, exchange, notify_type as nt};

const PROTOCOL_ESP: u8 = 3;
/// Children of one IKE SA: one carries traffic, seven more may stand beside it, and while both ends replace one of them at
/// once there are three of it.
const MAX_CHILDREN: usize = 32;

/// A CREATE_CHILD_SA request of ours that makes a child SA.
pub(super) struct ChildTask {
    offer: ChildOffer,
    nonce: Vec<u8>,
    pub(super) purpose: Purpose,
    /// The peer replaced the same child meanwhile (RFC 7296 §2.8.1): its child, and the lowest nonce of that exchange.
    collision: Option<(ChildId, Vec<u8>)>,
}

/// The nonce of a CREATE_CHILD_SA message.
pub(super) fn nonce(payloads: &[Payload]) -> Option<&[u8]> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Nonce(nonce) => Some(nonce.as_slice()),
        _ => None,
    })
}

impl Sa {
    /// Asks for a child SA.
    pub(super) fn begin_child(&mut self, ctx: &mut Context, now: Instant, purpose: Purpose) {
        let old = purpose.old();
        if let Some(id) = old {
            let Some(child) = self.children.get(&id) else { return };
            // Until the peer is seen to have the answer that made it, it would say CHILD_SA_NOT_FOUND.
            let fresh = child.awaits_use && self.children.values().any(|other| other.replaced_by == old);
            if child.replaced_by.is_some() || child.deleting || fresh {
                return;
            }
        }
        let offer = ChildOffer::new(ctx, self, ctx.config.child_pfs, purpose);
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
        payloads.extend(self.is_additional(purpose).then(resources::info));
        payloads.extend(offer.payloads(self, &[Payload::Nonce(nonce.clone())]));
        let task = Task::Child(Box::new(ChildTask { offer, nonce, purpose, collision: None }));
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
        if self.is_leaving() {
            // The peer has the child now; it goes there with the IKE SA.
            task.offer.abandon(ctx, self);
            return;
        }
        let Some(nonce_r) = nonce(payloads) else {
            task.offer.abandon(ctx, self);
            self.child_refused(ctx, now, &task, first_error(payloads));
            return;
        };
        // Four nonces, the lowest loses (RFC 7296 §2.8.1).
        let lowest = task.nonce.as_slice().min(nonce_r);
        let lost = task.collision.as_ref().is_some_and(|(_, theirs)| lowest < theirs.as_slice());
        let nonces = (task.nonce.as_slice(), nonce_r);
        let old = task.purpose.old();
        let made = task.offer.accept(ctx, now, self, payloads, task.purpose, nonces, Some(lost));
        let new = match made {
            Ok(new) => new,
            Err(failure) if task.purpose == Purpose::Additional => {
                self.additional_useless(&failure, task.offer.spi_in);
                return;
            }
            Err(failure) => {
                self.fail(ctx, now, failure);
                return;
            }
        };
        if lost {
            let theirs = task.collision.as_ref().map(|(theirs, _)| *theirs);
            if let Some(child) = old.and_then(|old| self.children.get_mut(&old)) {
                child.replaced_by = theirs;
            }
            if let Some(child) = self.children.get_mut(&new) {
                child.deleting = true;
            }
            self.window.want_first(Want::DeleteChild(new, CloseReason::Replaced));
        } else if let Some(old) = old {
            if let Some(child) = self.children.get_mut(&old) {
                child.replaced_by = Some(new);
            }
            self.window.want_first(Want::DeleteChild(old, CloseReason::Replaced));
        }
    }

    fn child_refused(&mut self, ctx: &mut Context, now: Instant, task: &ChildTask, refusal: Option<u16>) {
        if let (Some((theirs, _)), Some(old)) = (&task.collision, task.purpose.old()) {
            // The peer replaced the child itself and therefore refused us: its child it is.
            if let Some(child) = self.children.get_mut(&old) {
                child.replaced_by = Some(*theirs);
            }
            return;
        }
        match (refusal, task.purpose) {
            (Some(nt::TEMPORARY_FAILURE), Purpose::Rekey { old, .. }) => {
                let delay = std::time::Duration::from_millis(500)
                    + ctx.chance(std::time::Duration::from_millis(1500));
                if let Some(child) = self.children.get_mut(&old) {
                    child.rekey_at = now + delay;
                }
            }
            (Some(nt::CHILD_SA_NOT_FOUND), Purpose::Rekey { old, .. }) => {
                self.lose_child(ctx, old, CloseReason::Peer);
                if self.children.is_empty() {
                    self.window.want(Want::Child);
                }
            }
            (refusal, purpose) if purpose == Purpose::Additional || self.is_additional(purpose) => {
                self.additional_refused(refusal, purpose);
            }
            (Some(nt::TEMPORARY_FAILURE), _) => self.retry(ctx, now, Want::Child),
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
        if self.is_strange() {
            self.respond(ctx, path, exchange::CREATE_CHILD_SA, &[error(nt::NO_ADDITIONAL_SAS)]);
            return;
        }
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
        let rekeying =
            self.window.outstanding.as_ref().is_some_and(|out| matches!(out.task, Task::RekeyIke(_)));
        if rekeying || self.is_leaving() {
            return Err(nt::TEMPORARY_FAILURE);
        }
        if self.children.len() >= MAX_CHILDREN {
            return Err(nt::NO_ADDITIONAL_SAS);
        }
        let nonce_i = nonce(payloads).ok_or(nt::INVALID_SYNTAX)?.to_vec();
        let several = resources::is_wanted(payloads);
        let purpose = match find(payloads, nt::REKEY_SA) {
            Some(rekey) => self.rekey_of(self.rekeyed_child(&rekey.spi)?),
            None if several && self.has_main() => self.another()?,
            None => Purpose::Anew,
        };
        let nonce_r = ctx.nonce();
        let (new, mut reply) = self.accept_child(ctx, now, payloads, (&nonce_i, &nonce_r), purpose)?;
        reply.extend(several.then(resources::info));
        let Some(old) = purpose.old() else { return Ok(reply) };
        if let Some(out) = self.window.outstanding.as_mut()
            && let Task::Child(task) = &mut out.task
            && task.purpose.old() == Some(old)
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
            ctx.emit(Event::ChildSend { id: *id, additional: child.additional });
        }
    }
}
