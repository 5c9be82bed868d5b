//! A datagram comes in: which SA it is for, and whether a stranger's request makes one.

use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::sa::Phase;
use super::{init, nat};
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{Header, encode_message, exchange, flags, notify_type as nt};

/// Half-open SAs at most, whatever the cookie threshold: each holds two messages and its keys, about 4 KB.
const MAX_HALF_OPEN: usize = 1024;
/// Half-open SAs from one address before it has to prove itself with a cookie: a forger cannot shut its owner out.
const UNPROVEN_PER_SOURCE: usize = 16;
/// Half-open SAs from one proven address.
const MAX_HALF_OPEN_PER_SOURCE: usize = 256;
/// INVALID_IKE_SPI answers a second: they answer anybody.
const MAX_HINTS: u32 = 20;

impl Endpoint {
    /// An IKE message arrived (without non-ESP marker).
    pub fn handle_datagram(&mut self, now: Instant, path: UdpPath, message: &[u8]) {
        let Ok(header) = Header::parse(message) else { return };
        let request = header.flags & flags::RESPONSE == 0;
        if header.exchange == exchange::IKE_SA_INIT && request {
            if header.responder_spi == 0 && header.initiator_spi != 0 && header.message_id == 0 {
                self.handle_init_request(now, path, &header, message);
            }
            return;
        }
        let from_initiator = header.flags & flags::INITIATOR != 0;
        let (ours, theirs) = if from_initiator {
            (header.responder_spi, header.initiator_spi)
        } else {
            (header.initiator_spi, header.responder_spi)
        };
        let id = self.by_spi.get(&ours).copied().filter(|id| {
            self.sas.get(id).is_some_and(|sa| {
                let known = if sa.initiator { sa.spi_r } else { sa.spi_i };
                sa.initiator != from_initiator && (known == theirs || matches!(sa.phase, Phase::InitSent(_)))
            })
        });
        match id {
            Some(id) => self.with(now, id, |sa, ctx| sa.handle(ctx, now, path, &header, message)),
            None if request => self.hint_unknown(now, path, &header),
            None => {}
        }
    }

    fn handle_init_request(&mut self, now: Instant, path: UdpPath, header: &Header, message: &[u8]) {
        let key = (path.remote, header.initiator_spi);
        if let Some(sa) = self.half_open.get(&key).and_then(|id| self.sas.get(id)) {
            if let Phase::HalfOpen(half) = &sa.phase
                && half.request == message
            {
                self.ctx.send(path, std::slice::from_ref(&half.response));
            }
            return;
        }
        let from_here = self.half_open.keys().filter(|(from, _)| from.ip() == path.remote.ip()).count();
        if self.half_open.len() >= MAX_HALF_OPEN || from_here >= MAX_HALF_OPEN_PER_SOURCE {
            return;
        }
        let crowded =
            self.half_open.len() >= self.ctx.config.cookie_threshold || from_here >= UNPROVEN_PER_SOURCE;
        if let Some(sa) = init::answer(&mut self.ctx, now, path, header, message, crowded) {
            self.half_open.insert(key, sa.id);
            self.insert(sa);
        }
    }

    /// A request for an SA that we do not have: perhaps we restarted. Tell, but not too often (RFC 7296 §2.21.4).
    fn hint_unknown(&mut self, now: Instant, path: UdpPath, header: &Header) {
        if now.saturating_duration_since(self.hints.0) >= Duration::from_secs(1) {
            self.hints = (now, 0);
        }
        if self.hints.1 >= MAX_HINTS {
            return;
        }
        self.hints.1 += 1;
        let answer = Header {
            flags: flags::RESPONSE | if header.flags & flags::INITIATOR == 0 { flags::INITIATOR } else { 0 },
            ..*header
        };
        let message = encode_message(answer, &[nat::status(nt::INVALID_IKE_SPI, Vec::new())]);
        self.ctx.send(path, &[message]);
    }
}
