//! Several child SAs between the same two addresses, for several resources (RFC 9611): whoever has much to send on several
//! cores asks for one beside the first, and for another one. The first one is for whatever has no SA of its own.
//!
//! Which of them is the first is each end's own affair: both ends send on all of them, and each goes on as long as it likes.

use std::time::Instant;

use super::child_offer::{Child, Purpose};
use super::context::{Context, Deferred};
use super::endpoint::Endpoint;
use super::event::{ChildId, CloseReason, Failure, IkeId};
use super::inform::find;
use super::nat;
use super::sa::Sa;
use super::timer::Timer;
use super::window::{Task, Want};
use crate::wire::ike::{Payload, notify_type as nt};

/// Additional child SAs of one IKE SA; one more when both ends ask at once. Eight cores seal more than a network card
/// carries.
pub(super) const MAX_ADDITIONAL: usize = 7;

/// SA_RESOURCE_INFO (RFC 9611 §5.1). Which resource it is for nobody needs to know: without data.
pub(super) fn info() -> Payload {
    nat::status(nt::SA_RESOURCE_INFO, Vec::new())
}

/// Does the sender want several, or is it willing? Whatever it says of its resource.
pub(super) fn is_wanted(payloads: &[Payload]) -> bool {
    find(payloads, nt::SA_RESOURCE_INFO).is_some()
}

impl Endpoint {
    /// Asks for one more child SA beside those of this IKE SA, which may have `most` additional ones. False when it has
    /// them, the peer is not willing or this cannot be now.
    pub fn add_child(&mut self, now: Instant, ike: IkeId, most: usize) -> bool {
        let mut taken = false;
        self.with(now, ike, |sa, ctx| {
            taken = sa.may_ask() && sa.additional() < most && !sa.is_asking();
            if taken {
                sa.window.want(Want::AdditionalChild);
                sa.pump(ctx, now);
            }
        });
        taken
    }

    /// The IKE SA of the child SA that is received on by this SPI, now: a rekeyed one hands them over.
    pub fn owner_of(&self, spi_in: u32) -> Option<IkeId> {
        self.ctx.inbound.get(&spi_in).copied()
    }
}

impl Sa {
    /// Is there one that is not additional?
    pub(super) fn has_main(&self) -> bool {
        self.children.values().any(|child| !child.additional && !child.deleting)
    }

    /// Additional ones that go on.
    fn additional(&self) -> usize {
        let lives = |child: &&Child| child.additional && child.replaced_by.is_none() && !child.deleting;
        self.children.values().filter(lives).count()
    }

    fn may_ask(&self) -> bool {
        let stays = self.heir.is_none() && !self.timers.is_set(Timer::Superseded) && !self.is_leaving();
        self.peer.resources
            && self.is_established()
            && stays
            && self.has_main()
            && self.additional() < MAX_ADDITIONAL
    }

    fn is_asking(&self) -> bool {
        self.window
            .outstanding
            .as_ref()
            .is_some_and(|out| matches!(&out.task, Task::Child(task) if task.purpose == Purpose::Additional))
    }

    pub(super) fn begin_additional(&mut self, ctx: &mut Context, now: Instant) {
        if self.may_ask() {
            self.begin_child(ctx, now, Purpose::Additional);
        }
    }

    /// The peer asks for one more.
    pub(super) fn another(&self) -> Result<Purpose, u16> {
        if self.additional() < MAX_ADDITIONAL { Ok(Purpose::Additional) } else { Err(nt::TS_MAX_QUEUE) }
    }

    /// To replace this child.
    pub(super) fn rekey_of(&self, old: ChildId) -> Purpose {
        Purpose::Rekey { old, additional: self.children.get(&old).is_some_and(|child| child.additional) }
    }

    /// Does what is made for this stand beside others? A successor does if its predecessor does.
    pub(super) fn is_additional(&self, purpose: Purpose) -> bool {
        let beside = match purpose {
            Purpose::First | Purpose::Anew => false,
            Purpose::Additional => true,
            Purpose::Rekey { old, additional } => {
                self.children.get(&old).map_or(additional, |child| child.additional)
            }
        };
        beside && self.has_main()
    }

    /// The last octet of the SPI that we receive on: workers share the SAs of a pair by it, so that those of one pair follow
    /// one another, and a successor goes where its predecessor went.
    pub(super) fn octet_for(&self, purpose: Purpose) -> Option<u8> {
        match purpose {
            Purpose::First | Purpose::Anew => None,
            Purpose::Rekey { old, .. } => self.children.get(&old).map(|child| octet(child.spi_in)),
            Purpose::Additional => {
                let first = self.children.values().find(|child| !child.additional)?;
                // What we asked for ourselves has a place, too, although it is not there yet.
                let spis = || self.children.values().map(|child| child.spi_in).chain(self.offered);
                octet_beside(octet(first.spi_in), |wanted| spis().any(|spi| octet(spi) == wanted))
            }
        }
    }

    /// Something went through this child.
    pub(super) fn note_use(&mut self, is_it: impl Fn(&Child) -> bool) {
        if let Some(child) = self.children.values_mut().find(|child| is_it(child)) {
            child.used = true;
        }
    }

    /// This is the one to send on from now on. If it was an additional one, none but those is left, and nobody needs it any
    /// less than before.
    pub(super) fn lead_with(&mut self, id: ChildId) {
        if let Some(child) = self.children.get_mut(&id) {
            child.awaits_use = false;
            if std::mem::take(&mut child.additional) {
                self.window.forget(&Want::DeleteChild(id, CloseReason::Local));
            }
        }
    }

    /// The child is gone without a successor, and without a goodbye.
    pub(super) fn lose_child(&mut self, ctx: &mut Context, id: ChildId, reason: CloseReason) {
        let Some(child) = self.children.remove(&id) else { return };
        ctx.outbound.remove(&child.spi_out);
        ctx.close_child(id, child.spi_in, reason);
        if !child.additional && self.additional() > 0 {
            ctx.deferred.push_back(Deferred::Lead { id: self.id });
        }
    }

    /// The peer makes no additional one, or does not replace one: there is enough without it. It is not asked again on this
    /// IKE SA or its heirs, unless it was only busy.
    pub(super) fn additional_refused(&mut self, refusal: Option<u16>, purpose: Purpose) {
        if refusal == Some(nt::TEMPORARY_FAILURE) {
            return;
        }
        tracing::debug!(peer = %self.remote, ?refusal, "the peer refuses an additional child SA");
        self.peer.resources = false;
        if let Some(old) = purpose.old() {
            self.window.want(Want::DeleteChild(old, CloseReason::Local));
        }
    }

    /// The peer's answer is of no use, but it may believe in the child: it is told that there is none.
    pub(super) fn additional_useless(&mut self, failure: &Failure, spi_in: u32) {
        tracing::warn!(peer = %self.remote, %failure, "an additional child SA came to nothing");
        self.peer.resources = false;
        self.window.want(Want::DeleteExpired(spi_in));
    }
}

fn octet(spi: u32) -> u8 {
    let [.., last] = spi.to_be_bytes();
    last
}

/// The next one that is free above the first one, and then below: without a jump from 255 to 0, over which the remainders by
/// most numbers of queues do not follow one another.
pub(super) fn octet_beside(first: u8, taken: impl Fn(u8) -> bool) -> Option<u8> {
    (first..=u8::MAX).chain((0..first).rev()).find(|octet| !taken(*octet))
}
