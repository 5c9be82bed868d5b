//! A care-of address that nobody has proven yet: challenged, and sent little until it answers (RFC 9000 §8 for the rule,
//! RFC 6275 §15.4 for the danger).

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::wire::mobility::{BindingAcknowledgement, Cookie};

/// So many times of what came from there: with the one datagram in which IKE asks there, too (RFC 4555 §3.7), it is less
/// than three times. A node that hears nothing says its update again, which makes room for more.
const FACTOR: u64 = 2;
/// Challenges, the one in the acknowledgement left out.
const TRIES: u32 = 5;
/// First pause; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// What ESP in UDP adds to an inner packet: SPI, sequence number, IV, padding, ICV, rounded up.
const SEALED: usize = 40;

/// One tentative care-of address.
#[derive(Debug)]
pub(super) struct Tentative {
    pub(super) care_of: SocketAddrV4,
    pub(super) cookie: Cookie,
    /// What the last update from there gets when the address is proven.
    pub(super) acknowledgement: Option<BindingAcknowledgement>,
    /// When to challenge again, or to give up.
    pub(super) at: Instant,
    received: u64,
    sent: u64,
    tries: u32,
}

impl Tentative {
    pub(super) fn new(care_of: SocketAddrV4, cookie: Cookie, now: Instant) -> Self {
        Self { care_of, cookie, acknowledgement: None, at: now + PAUSE, received: 0, sent: 0, tries: 0 }
    }

    /// UDP payload octets came from there.
    pub(super) fn received(&mut self, octets: usize) {
        self.received = self.received.saturating_add(octets as u64);
    }

    /// May an inner packet of this length go there? Counts it if so.
    pub(super) fn may_send(&mut self, inner: usize) -> bool {
        let sent = self.sent.saturating_add((inner + SEALED) as u64);
        let allowed = sent <= self.received.saturating_mul(FACTOR);
        if allowed {
            self.sent = sent;
        }
        allowed
    }

    /// The pause is over: true to challenge again, false to give up.
    pub(super) fn again(&mut self, now: Instant) -> bool {
        self.tries += 1;
        self.at = now + PAUSE * 2u32.saturating_pow(self.tries);
        self.tries <= TRIES
    }
}

/// May this be answered to an address that nothing is known of? One answer, to one datagram.
pub(super) fn may_answer(inner: usize, received: usize) -> bool {
    inner + SEALED <= received.saturating_mul(FACTOR as usize)
}
