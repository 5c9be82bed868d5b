//! What both directions of a security association are made of.

use std::net::Ipv6Addr;

use crate::crypto::secret::Secret;
use crate::crypto::suite::EspSuite;

/// When an SA asks to be replaced and when it stops. Zero is never used; `u64::MAX` means "no limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inner octets after which a rekey is asked for.
    pub soft_bytes: u64,
    /// Packets after which a rekey is asked for.
    pub soft_packets: u64,
    /// Inner octets after which nothing is sealed any more.
    pub hard_bytes: u64,
    /// Packets after which nothing is sealed any more.
    pub hard_packets: u64,
}

impl Limits {
    /// No limit but the sequence number's own.
    pub const NONE: Self =
        Self { soft_bytes: u64::MAX, soft_packets: u64::MAX, hard_bytes: u64::MAX, hard_packets: u64::MAX };
}

/// Everything that makes one unidirectional SA.
#[derive(Clone, Debug)]
pub struct SaParams {
    /// SPI on the wire.
    pub spi: u32,
    /// Local permanent address: the destination of the triple when inbound.
    pub local: Ipv6Addr,
    /// The peer's permanent address.
    pub remote: Ipv6Addr,
    /// Cipher suite.
    pub suite: EspSuite,
    /// 64-bit extended sequence numbers (RFC 4303 §2.2.1).
    pub esn: bool,
    /// Key and salt, `suite.keymat_len()` octets.
    pub key: Secret,
    /// Lifetimes by traffic.
    pub limits: Limits,
}

impl SaParams {
    /// The last sequence number that is ever used: one less than the largest that the counter can hold, so that
    /// nothing can wrap (RFC 4303 §3.3.3).
    pub(super) const fn last_sequence(&self) -> u64 {
        if self.esn { u64::MAX - 1 } else { u32::MAX as u64 - 1 }
    }

    /// The packets after which a rekey is asked for: the soft limit, or seven eighths of what the sequence numbers
    /// and the hard limit allow, so that the replacement is up before the SA stops.
    pub(super) fn soft_packets(&self) -> u64 {
        let most = self.last_sequence().min(self.limits.hard_packets);
        self.limits.soft_packets.min(most - most / 8)
    }

    /// The inner octets after which a rekey is asked for; see [`soft_packets`](Self::soft_packets).
    pub(super) fn soft_bytes(&self) -> u64 {
        let most = self.limits.hard_bytes;
        self.limits.soft_bytes.min(most - most / 8)
    }
}
