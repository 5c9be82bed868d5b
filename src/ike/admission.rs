//! A datagram comes in: which SA it is for, and whether a stranger's request makes one.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::sa::Phase;
use super::{init, nat};
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{
    HEADER_LEN, Header, ParseError, VERSION, encode_message, exchange, flags, notify_type as nt,
    parse_payloads,
};

/// Octets of a first request: real ones have 300 to 1,500 (RFC 7296 §2 asks for 3,000).
const MAX_INIT: usize = 4096;
/// Half-open SAs at most, whatever the cookie threshold. Each holds its first request ([`MAX_INIT`]), our answer and its
/// keys (under 2 KiB), and what arrived of a fragmented IKE_AUTH request (`fragment::UNPROVEN`): 22 KiB at most.
const MAX_HALF_OPEN: usize = 1024;
/// Half-open SAs from one address before it has to prove itself with a cookie: a forger cannot shut its owner out.
const UNPROVEN_PER_SOURCE: usize = 16;
/// Half-open SAs from one proven address.
const MAX_HALF_OPEN_PER_SOURCE: usize = 256;
/// Answers a second that leave no state and that anybody can ask for: INVALID_IKE_SPI, INVALID_MAJOR_VERSION,
/// UNSUPPORTED_CRITICAL_PAYLOAD.
const MAX_HINTS: u32 = 20;

impl Endpoint {
    /// An IKE message arrived (without non-ESP marker).
    pub fn handle_datagram(&mut self, now: Instant, path: UdpPath, message: &[u8]) {
        let header = match Header::parse(message) {
            Ok(header) => header,
            Err(ParseError::Version(major)) if major > 2 => return self.refuse_version(now, path, message),
            Err(_) => return,
        };
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
            self.sas.get(*id).is_some_and(|sa| {
                let known = if sa.initiator { sa.spi_r } else { sa.spi_i };
                sa.initiator != from_initiator && (known == theirs || matches!(sa.phase, Phase::InitSent(_)))
            })
        });
        match id {
            Some(id) => self.with(now, id, |sa, ctx| sa.handle(ctx, now, path, &header, message)),
            // Perhaps we restarted: tell (RFC 7296 §2.21.4).
            None if request => self.tell_stranger(now, path, &header, (nt::INVALID_IKE_SPI, Vec::new())),
            None => {}
        }
    }

    fn handle_init_request(&mut self, now: Instant, path: UdpPath, header: &Header, message: &[u8]) {
        let key = (path.remote, header.initiator_spi);
        if let Some(sa) = self.half_open.get(&key).and_then(|id| self.sas.get(*id)) {
            if let Phase::HalfOpen(half) = &sa.phase
                && half.request == message
            {
                self.ctx.send(path, std::slice::from_ref(&half.response));
            }
            return;
        }
        if message.len() > MAX_INIT {
            return;
        }
        let body = message.get(HEADER_LEN..).unwrap_or_default();
        let payloads = match parse_payloads(header.next_payload, body) {
            Ok(payloads) => payloads,
            Err(error @ ParseError::UnsupportedCritical(_)) => {
                return self.tell_stranger(now, path, header, error.notify());
            }
            Err(_) => return,
        };
        let source = |port| SocketAddrV4::new(*path.remote.ip(), port);
        let from_here = self.half_open.range((source(0), 0)..=(source(u16::MAX), u64::MAX)).count();
        if self.half_open.len() >= MAX_HALF_OPEN || from_here >= MAX_HALF_OPEN_PER_SOURCE {
            return;
        }
        let crowded =
            self.half_open.len() >= self.ctx.config.cookie_threshold || from_here >= UNPROVEN_PER_SOURCE;
        if let Some(sa) = init::answer(&mut self.ctx, now, path, header, (message, &payloads), crowded) {
            self.half_open.insert(key, sa.id);
            self.insert(sa);
        }
    }

    /// A request of a later version of IKE (RFC 7296 §2.5). A lower one is only dropped.
    fn refuse_version(&mut self, now: Instant, path: UdpPath, message: &[u8]) {
        if let Ok(header) = Header::parse_any_version(message)
            && header.flags & flags::RESPONSE == 0
        {
            self.tell_stranger(now, path, &header, (nt::INVALID_MAJOR_VERSION, Vec::new()));
        }
    }

    /// Answers a request outside any SA with an error (RFC 7296 §1.5), in clear, but not too often.
    fn tell_stranger(&mut self, now: Instant, path: UdpPath, request: &Header, error: (u16, Vec<u8>)) {
        if now.saturating_duration_since(self.hints.0) >= Duration::from_secs(1) {
            self.hints = (now, 0);
        }
        if self.hints.1 >= MAX_HINTS {
            return;
        }
        self.hints.1 += 1;
        let role = if request.flags & flags::INITIATOR == 0 { flags::INITIATOR } else { 0 };
        let answer = Header { version: VERSION, flags: flags::RESPONSE | role, ..*request };
        let message = encode_message(answer, &[nat::status(error.0, error.1)]);
        self.ctx.send(path, &[message]);
    }
}
