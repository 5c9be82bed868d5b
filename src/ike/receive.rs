//! The way of a message through an IKE SA: authenticated first, then checked against the window, put together, understood
//! and acted on.

use std::time::Instant;

use super::context::Context;
use super::event::{CloseReason, Failure};
use super::fragment::{MAX_MESSAGE, UNPROVEN};
use super::inform::{error, find};
use super::message::Opened;
use super::nat;
use super::sa::{Phase, Sa};
use super::window::Task;
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{
    HEADER_LEN, Header, ParseError, Payload, exchange, flags, notify_type as nt, parse_payloads,
};

impl Sa {
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
                self.respond(ctx, path, exchange, &[error(nt::INVALID_SYNTAX)]);
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
            self.fail(ctx, now, Failure::Protocol(error.to_string()));
            return;
        }
        let (kind, data) = error.notify();
        self.respond(ctx, path, header.exchange, &[nat::status(kind, data)]);
        if !matches!(error, ParseError::UnsupportedCritical(_)) {
            self.end(ctx, CloseReason::Failed(Failure::Protocol(error.to_string())));
        }
    }

    /// An answer in clear, INVALID_IKE_SPI: the peer may have restarted. A hint only (RFC 7296 §2.21.4, §2.4).
    fn clear_hint(&mut self, now: Instant, header: &Header, message: &[u8]) {
        // An SA that the peer has not used yet may simply be news to it: our answer to its rekey is still under way.
        if header.flags & flags::RESPONSE == 0 || !self.known_to_peer || !self.is_established() {
            return;
        }
        let body = message.get(HEADER_LEN..).unwrap_or_default();
        let hint = parse_payloads(header.next_payload, body)
            .is_ok_and(|payloads| find(&payloads, nt::INVALID_IKE_SPI).is_some());
        if let Some(out) = self.window.outstanding.as_mut().filter(|_| hint) {
            out.hurry(now, self.patience);
        }
    }
}
