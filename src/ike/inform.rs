//! INFORMATIONAL (RFC 7296 §1.4): deletes, liveness, and whatever notifies carry.
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of payload is picked out of a message")]

use std::time::Instant;

use super::context::{Context, Deferred};
use super::event::{ChildId, CloseReason, Event};
use super::sa::Sa;
use super::window::{Task, Want};
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{Delete, Notify, Payload, exchange, notify_type as nt};

const PROTOCOL_IKE: u8 = 1;
const PROTOCOL_ESP: u8 = 3;

/// An error notify without data.
pub(super) fn error(kind: u16) -> Payload {
    super::nat::status(kind, Vec::new())
}

/// The DELETE of an IKE SA itself.
pub(super) fn goodbye() -> Payload {
    Payload::Delete(Delete { protocol: PROTOCOL_IKE, spis: Vec::new() })
}

/// The first notify of a kind.
pub(super) fn find(payloads: &[Payload], kind: u16) -> Option<&Notify> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == kind => Some(notify),
        _ => None,
    })
}

/// The first error notify (RFC 7296 §3.10.1).
pub(super) fn first_error(payloads: &[Payload]) -> Option<u16> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind < nt::FIRST_STATUS => Some(notify.kind),
        _ => None,
    })
}

impl Sa {
    pub(super) fn handle_informational(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        payloads: &[Payload],
    ) {
        let deletes = payloads.iter().filter_map(|payload| match payload {
            Payload::Delete(delete) => Some(delete),
            _ => None,
        });
        let mut answer = Vec::new();
        let mut gone = false;
        let mut paired = Vec::new();
        for delete in deletes {
            match delete.protocol {
                PROTOCOL_IKE => gone = true,
                PROTOCOL_ESP => paired.extend(delete.spis.iter().filter_map(|spi| self.delete_of(ctx, *spi))),
                _ => {}
            }
        }
        if !paired.is_empty() {
            answer.push(Payload::Delete(Delete { protocol: PROTOCOL_ESP, spis: paired }));
        }
        answer.extend(self.answer_mobike(payloads, path));
        self.take_document(ctx, payloads);
        self.respond(ctx, path, exchange::INFORMATIONAL, &answer);
        if gone || find(payloads, nt::AUTHENTICATION_FAILED).is_some() {
            self.adopt_collision(ctx, now);
            // Goodbyes may cross.
            let reason = self.farewell().cloned().unwrap_or(CloseReason::Peer);
            self.end(ctx, reason);
            return;
        }
        self.follow_mobike(ctx, now, payloads, path);
        self.follow(ctx, path);
    }

    /// The peer deletes a child; `spi` is what it receives on. Gives the SPI to answer with, unless our own DELETE
    /// crossed (RFC 7296 §1.4.1).
    fn delete_of(&mut self, ctx: &mut Context, spi: u32) -> Option<u32> {
        let (id, _) = self.children.iter().find(|(_, child)| child.spi_out == spi)?;
        let id = *id;
        let child = self.children.remove(&id)?;
        // Whoever takes its place is in use from now on: the old one is gone.
        let successor = child.replaced_by.and_then(|new| self.children.get(&new)).map(|new| new.spi_in);
        if let Some(spi_in) = successor {
            self.child_used(ctx, spi_in);
        }
        ctx.outbound.remove(&child.spi_out);
        let crossed = self
            .window
            .outstanding
            .as_ref()
            .is_some_and(|out| matches!(out.task, Task::DeleteChild(other, ..) if other == id));
        let reason = if child.replaced_by.is_some() { CloseReason::Replaced } else { CloseReason::Peer };
        ctx.deferred.push_back(Deferred::Drain { id: self.id, child: id, spi_in: child.spi_in, reason });
        (!crossed).then_some(child.spi_in)
    }

    pub(super) fn begin_delete_child(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        id: ChildId,
        reason: CloseReason,
    ) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.deleting = true;
        let spi_in = child.spi_in;
        if child.additional && child.replaced_by.is_none() {
            ctx.emit(Event::ChildStop(id));
        }
        let delete = Payload::Delete(Delete { protocol: PROTOCOL_ESP, spis: vec![spi_in] });
        self.request(ctx, now, exchange::INFORMATIONAL, &[delete], Task::DeleteChild(id, spi_in, reason));
    }

    /// The peer confirmed our DELETE.
    pub(super) fn child_deleted(&mut self, ctx: &mut Context, id: ChildId, spi_in: u32, reason: CloseReason) {
        // The peer's DELETE may have crossed ours and been first.
        if let Some(child) = self.children.remove(&id) {
            ctx.outbound.remove(&child.spi_out);
            ctx.deferred.push_back(Deferred::Drain { id: self.id, child: id, spi_in, reason });
        }
    }

    pub(super) fn begin_delete_expired(&mut self, ctx: &mut Context, now: Instant, spi_in: u32) {
        let delete = Payload::Delete(Delete { protocol: PROTOCOL_ESP, spis: vec![spi_in] });
        self.request(ctx, now, exchange::INFORMATIONAL, &[delete], Task::DeleteExpired);
    }

    pub(super) fn begin_delete_ike(&mut self, ctx: &mut Context, now: Instant, reason: CloseReason) {
        if reason == CloseReason::Replaced && !self.children.is_empty() {
            ctx.deferred.push_back(Deferred::Leave { id: self.id });
        }
        self.request(ctx, now, exchange::INFORMATIONAL, &[goodbye()], Task::DeleteIke(reason));
    }

    /// Is the peer alive? (RFC 7296 §2.4). Behind a NAT the question also asks what our address looks like
    /// (RFC 4555 §3.8).
    pub(super) fn begin_liveness(&mut self, ctx: &mut Context, now: Instant) {
        let payloads = if self.peer.mobike && self.initiator && self.peer.nat_local {
            super::nat::payloads(self.spi_i, self.spi_r, self.path.remote, ctx.random()).to_vec()
        } else {
            Vec::new()
        };
        self.request(ctx, now, exchange::INFORMATIONAL, &payloads, Task::Liveness);
    }

    /// We sent ESP and heard nothing for a while.
    pub(super) fn check_liveness(&mut self, ctx: &mut Context, now: Instant) {
        if self.sent.is_some_and(|sent| sent > self.heard) && self.window.outstanding.is_none() {
            self.window.want(Want::Liveness);
            self.pump(ctx, now);
        }
    }
}
