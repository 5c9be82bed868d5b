//! Documents between two of us over an IKE SA: an INFORMATIONAL request with one private notify. Confidential,
//! authenticated, in order, repeated until the peer has it, and in fragments where it is long; the SA may end before
//! that, so whoever expects an answer asks again.

use std::time::Instant;

use super::context::Context;
use super::event::Event;
use super::inform::find;
use super::nat;
use super::sa::Sa;
use super::window::{Task, Want};
use crate::wire::ike::{Payload, exchange, notify_type as nt};

/// Longest document: two certificates with room to spare, and few enough fragments (RFC 7383).
pub const MAX_DOCUMENT: usize = 8 << 10;
/// Documents that wait for the window of one SA.
const MAX_WAITING: usize = 8;

impl Sa {
    /// Queues a document; false when the peer is not one of us, the SA is not up, the document too long or
    /// too many wait already.
    pub(super) fn tell(&mut self, ctx: &mut Context, now: Instant, document: Vec<u8>) -> bool {
        let may = self.is_established()
            && !self.is_leaving()
            && self.peer.domicile
            && document.len() <= MAX_DOCUMENT
            && self.window.documents() < MAX_WAITING;
        if may {
            self.window.want(Want::Tell(document));
            self.pump(ctx, now);
        }
        may
    }

    pub(super) fn begin_tell(&mut self, ctx: &mut Context, now: Instant, document: Vec<u8>) {
        let payloads = [nat::status(nt::DOMICILE_DOCUMENT, document)];
        self.request(ctx, now, exchange::INFORMATIONAL, &payloads, Task::Tell);
    }

    /// The peer's document goes to whoever drives us.
    pub(super) fn take_document(&self, ctx: &mut Context, payloads: &[Payload]) {
        let Some(notify) = find(payloads, nt::DOMICILE_DOCUMENT) else { return };
        if notify.data.len() <= MAX_DOCUMENT {
            let document = notify.data.clone();
            ctx.emit(Event::Document { ike: self.id, local: self.local, remote: self.remote, document });
        }
    }
}
