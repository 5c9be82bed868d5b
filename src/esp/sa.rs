//! Signatures that the data plane and the node build on; see `esp` for the contract.

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

/// The sending half.
pub struct OutboundSa {
    params: SaParams,
}

/// Why a packet could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The sequence counter or a hard limit is used up: the SA must be replaced.
    #[error("the security association is used up")]
    Exhausted,
    /// The output buffer is shorter than `sealed_len`.
    #[error("the output buffer is too short")]
    BufferTooShort,
}

impl OutboundSa {
    /// Prepares the key. Fails when the key length does not fit the suite.
    pub fn new(params: SaParams) -> Option<Self> {
        (params.key.len() == params.suite.keymat_len()).then_some(Self { params })
    }

    /// What it was made of.
    pub fn params(&self) -> &SaParams {
        &self.params
    }

    /// Takes `count` consecutive sequence numbers; the first one is returned. Starts at 1, never repeats,
    /// stops before the counter can wrap (RFC 4303 §3.3.3).
    pub fn assign(&self, count: u32) -> Result<u64, SealError> {
        let _ = count;
        todo!()
    }

    /// Octets of ESP for an inner packet of this length: header, IV, padding to 4, trailer, ICV.
    pub fn sealed_len(&self, inner: usize) -> usize {
        let _ = inner;
        todo!()
    }

    /// Writes SPI, sequence number, IV, ciphertext and ICV to the front of `out`; returns the length.
    pub fn seal(
        &self,
        sequence: u64,
        next_header: u8,
        inner: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let _ = (sequence, next_header, inner, out);
        todo!()
    }
}

/// The receiving half.
pub struct InboundSa {
    params: SaParams,
}

/// A packet that was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Next header of the trailer: 41 is IPv6, 59 a dummy packet.
    pub next_header: u8,
    /// Octets of payload at the front of the output buffer.
    pub len: usize,
    /// Full 64-bit sequence number.
    pub sequence: u64,
    /// True for the first packet that this SA ever accepted.
    pub first: bool,
}

/// Why a packet was refused; each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than header, IV, trailer and ICV, not a multiple of 4, or the output buffer is too short.
    #[error("malformed ESP packet")]
    Malformed,
    /// Seen before (RFC 4303 §3.4.3).
    #[error("replayed packet")]
    Replayed,
    /// Older than the window.
    #[error("packet older than the replay window")]
    TooOld,
    /// The ICV does not verify.
    #[error("integrity check failed")]
    Integrity,
    /// Authentic, but the padding is not 1, 2, 3, … or longer than the packet (RFC 4303 §2.4).
    #[error("bad padding")]
    Padding,
}

impl InboundSa {
    /// Prepares the key. Fails when the key length does not fit the suite.
    pub fn new(params: SaParams) -> Option<Self> {
        (params.key.len() == params.suite.keymat_len()).then_some(Self { params })
    }

    /// What it was made of.
    pub fn params(&self) -> &SaParams {
        &self.params
    }

    /// Checks replay, authenticates, then marks (RFC 4303 §3.4.3); the payload goes to the front of `out`.
    /// `datagram` starts at the SPI.
    pub fn open(&self, datagram: &[u8], out: &mut [u8]) -> Result<Opened, OpenError> {
        let _ = (datagram, out);
        todo!()
    }
}
