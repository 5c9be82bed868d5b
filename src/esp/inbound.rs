//! The receiving half of a security association.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cipher::{Cipher, HEADER_LEN, ICV_LEN, IV_LEN, Packet};
use super::replay::{ReplayWindow, Stale};
use super::sa::SaParams;

/// Pad length and next header, padded to 4 (RFC 4303 §2.4): the least that is ever encrypted.
const MIN_PLAINTEXT: usize = 4;

/// The receiving half. Shared by reference; packets of one SA are opened one after the other.
pub struct InboundSa {
    params: SaParams,
    cipher: Cipher,
    soft_packets: u64,
    soft_bytes: u64,
    window: Mutex<ReplayWindow>,
    packets: AtomicU64,
    bytes: AtomicU64,
    soft_told: AtomicBool,
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

impl From<Stale> for OpenError {
    fn from(stale: Stale) -> Self {
        match stale {
            Stale::Replayed => Self::Replayed,
            Stale::TooOld => Self::TooOld,
        }
    }
}

impl InboundSa {
    /// Prepares the key. Fails when the key length does not fit the suite.
    pub fn new(params: SaParams) -> Option<Self> {
        Some(Self {
            cipher: Cipher::new(&params)?,
            soft_packets: params.soft_packets(),
            soft_bytes: params.soft_bytes(),
            window: Mutex::new(ReplayWindow::new()),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            soft_told: AtomicBool::new(false),
            params,
        })
    }

    /// What it was made of.
    pub fn params(&self) -> &SaParams {
        &self.params
    }

    /// Checks replay, authenticates, then marks (RFC 4303 §3.4.3); the payload goes to the front of `out`, which must
    /// hold the padding, too. `datagram` starts at the SPI. After an error the content of `out` means nothing.
    pub fn open(&self, datagram: &[u8], out: &mut [u8]) -> Result<Opened, OpenError> {
        self.lock().open(datagram, out)
    }

    /// For several packets in a row: takes the window once. Only the data plane takes it, so nobody else ever waits.
    pub fn lock(&self) -> Opener<'_> {
        // The window is whole between any two statements: a panic elsewhere does not spoil it.
        Opener { sa: self, window: self.window.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Packets accepted.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Payload octets accepted.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// True once, when a soft limit was passed: ask for a rekey. Hard limits are the sender's affair.
    pub fn take_soft_limit(&self) -> bool {
        (self.packets() >= self.soft_packets || self.bytes() >= self.soft_bytes)
            && !self.soft_told.load(Ordering::Relaxed)
            && !self.soft_told.swap(true, Ordering::Relaxed)
    }
}

impl std::fmt::Debug for InboundSa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboundSa").field("params", &self.params).field("packets", &self.packets()).finish()
    }
}

/// An [`InboundSa`] with its window taken; see [`InboundSa::lock`].
pub struct Opener<'a> {
    sa: &'a InboundSa,
    window: MutexGuard<'a, ReplayWindow>,
}

impl Opener<'_> {
    /// See [`InboundSa::open`].
    pub fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<Opened, OpenError> {
        let sa = self.sa;
        let fields = Fields::split(datagram, sa.params.suite.iv_len()).ok_or(OpenError::Malformed)?;
        let plaintext = out.get_mut(..fields.ciphertext.len()).ok_or(OpenError::Malformed)?;
        let sequence = if sa.params.esn { self.window.extend(fields.low)? } else { u64::from(fields.low) };
        self.window.check(sequence)?;

        // The IV is the packet's own: other senders do not use the sequence number. Without one it is implicit
        // (RFC 8750 §4).
        let packet = Packet {
            header: fields.header,
            high: sa.params.esn.then_some((sequence >> 32) as u32),
            iv: fields.iv.copied().unwrap_or_else(|| sequence.to_be_bytes()),
        };
        sa.cipher.open(packet, fields.ciphertext, fields.icv, plaintext).map_err(|_| OpenError::Integrity)?;
        self.window.commit(sequence)?;

        let (len, next_header) = strip_trailer(plaintext).ok_or(OpenError::Padding)?;
        Ok(Opened { next_header, len, sequence, first: self.count(len) })
    }

    /// Counts an accepted packet; true for the first. Only the owner of the window writes the counters.
    fn count(&self, len: usize) -> bool {
        let packets = self.sa.packets();
        self.sa.packets.store(packets + 1, Ordering::Relaxed);
        self.sa.bytes.store(self.sa.bytes() + len as u64, Ordering::Relaxed);
        packets == 0
    }
}

/// A datagram whose lengths were checked.
struct Fields<'a> {
    header: &'a [u8; HEADER_LEN],
    low: u32,
    iv: Option<&'a [u8; IV_LEN]>,
    ciphertext: &'a [u8],
    icv: &'a [u8],
}

impl<'a> Fields<'a> {
    fn split(datagram: &'a [u8], iv_len: usize) -> Option<Self> {
        let (header, rest) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let [_, _, _, _, low @ ..] = *header;
        let (iv, rest) = if iv_len == IV_LEN {
            let (iv, rest) = rest.split_first_chunk::<IV_LEN>()?;
            (Some(iv), rest)
        } else {
            (None, rest)
        };
        let (ciphertext, icv) = rest.split_at_checked(rest.len().checked_sub(ICV_LEN)?)?;
        if ciphertext.len() < MIN_PLAINTEXT || !ciphertext.len().is_multiple_of(4) {
            return None;
        }
        Some(Self { header, low: u32::from_be_bytes(low), iv, ciphertext, icv })
    }
}

/// Length of the payload and next header, if the padding is 1, 2, 3, … (RFC 4303 §2.4).
fn strip_trailer(plaintext: &[u8]) -> Option<(usize, u8)> {
    let (rest, [pad_len, next_header]) = plaintext.split_last_chunk::<2>()?;
    let len = rest.len().checked_sub(usize::from(*pad_len))?;
    let padding = rest.get(len..)?;
    padding.iter().zip(1..=u8::MAX).all(|(octet, expected)| *octet == expected).then_some((len, *next_header))
}
