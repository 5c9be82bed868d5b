//! The sending half of a security association.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::cipher::{Cipher, HEADER_LEN, ICV_LEN, Packet};
use super::sa::SaParams;

/// Padding aligns the trailer to this many octets (RFC 4303 §2.4); no cipher here needs more.
const ALIGNMENT: usize = 4;

/// Pad length and next header.
const TRAILER_LEN: usize = 2;

/// The sending half. Shared by reference; any number of threads may assign and seal at once.
pub struct OutboundSa {
    params: SaParams,
    cipher: Cipher,
    /// The last sequence number that may be assigned.
    last: u64,
    soft_packets: u64,
    soft_bytes: u64,
    /// The next sequence number; also the count of packets, plus one.
    next: AtomicU64,
    bytes: AtomicU64,
    soft_told: AtomicBool,
    exhausted: AtomicBool,
    exhausted_told: AtomicBool,
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
        Some(Self {
            cipher: Cipher::new(&params)?,
            last: params.last_sequence().min(params.limits.hard_packets),
            soft_packets: params.soft_packets(),
            soft_bytes: params.soft_bytes(),
            next: AtomicU64::new(1),
            bytes: AtomicU64::new(0),
            soft_told: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
            exhausted_told: AtomicBool::new(false),
            params,
        })
    }

    /// What it was made of.
    pub fn params(&self) -> &SaParams {
        &self.params
    }

    /// Takes `count` consecutive sequence numbers; the first one is returned. Starts at 1, never repeats, stops before
    /// the counter can wrap (RFC 4303 §3.3.3). Refused as a whole when fewer are left.
    pub fn assign(&self, count: u32) -> Result<u64, SealError> {
        if self.bytes() >= self.params.limits.hard_bytes {
            return Err(self.exhaust());
        }
        self.next
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                // `last` is below u64::MAX, so the counter itself cannot overflow.
                let after = next.checked_add(u64::from(count))?;
                (after - 1 <= self.last).then_some(after)
            })
            .map_err(|_| self.exhaust())
    }

    /// Octets of ESP for an inner packet of this length: header, IV, padding to 4, trailer, ICV.
    pub fn sealed_len(&self, inner: usize) -> usize {
        (HEADER_LEN + self.params.suite.iv_len() + ICV_LEN).saturating_add(
            inner.saturating_add(TRAILER_LEN).checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX),
        )
    }

    /// Writes SPI, sequence number, IV, ciphertext and ICV to the front of `out`; returns the length. `sequence` comes
    /// from [`assign`](Self::assign) and is used once: it makes the nonce.
    pub fn seal(
        &self,
        sequence: u64,
        next_header: u8,
        inner: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        // A number that was never assigned must not make a nonce.
        if sequence == 0 || sequence >= self.next.load(Ordering::Relaxed) {
            return Err(SealError::Exhausted);
        }
        if out.len() < self.sealed_len(inner.len()) {
            return Err(SealError::BufferTooShort);
        }
        self.count(inner.len() as u64)?;
        self.write(sequence, next_header, inner, out)
    }

    /// Takes `count` consecutive sequence numbers for packets of `octets` inner octets in all: the counters are touched
    /// once for a whole super-packet. Refused as a whole, like [`assign`](Self::assign).
    pub fn run(&self, count: u32, octets: u64) -> Result<Run<'_>, SealError> {
        let next = self.assign(count)?;
        self.count(octets)?;
        Ok(Run { sa: self, next, end: next + u64::from(count), octets })
    }

    /// Writes the packet. What it counts for is counted already.
    fn write(
        &self,
        sequence: u64,
        next_header: u8,
        inner: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let len = self.sealed_len(inner.len());
        let out = out.get_mut(..len).ok_or(SealError::BufferTooShort)?;
        let (header, rest) = out.split_first_chunk_mut::<HEADER_LEN>().ok_or(SealError::BufferTooShort)?;
        let (iv_field, body) =
            rest.split_at_mut_checked(self.params.suite.iv_len()).ok_or(SealError::BufferTooShort)?;

        // One IV for each sequence number is unique (RFC 4106 §3.1, RFC 7634 §2) and is the implicit one, too
        // (RFC 8750 §4: the 32-bit number behind four zero octets, or the 64-bit number).
        let iv = sequence.to_be_bytes();
        let [.., l0, l1, l2, l3] = iv;
        let [s0, s1, s2, s3] = self.params.spi.to_be_bytes();
        *header = [s0, s1, s2, s3, l0, l1, l2, l3];
        if !iv_field.is_empty() {
            iv_field.copy_from_slice(&iv);
        }

        let (trailer, trailer_len) = trailer(inner.len(), next_header);
        let trailer = trailer.get(..trailer_len).ok_or(SealError::BufferTooShort)?;
        let packet = Packet { header, high: self.params.esn.then_some((sequence >> 32) as u32), iv };
        // The lengths fit by construction; if the transform refused, nothing of `out` may be sent.
        self.cipher.seal(packet, inner, trailer, body).map_err(|_| SealError::BufferTooShort)?;
        Ok(len)
    }

    /// Packets: sequence numbers given out.
    pub fn packets(&self) -> u64 {
        self.next.load(Ordering::Relaxed) - 1
    }

    /// Inner octets sealed.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// True once, when a soft limit was passed: ask for a rekey.
    pub fn take_soft_limit(&self) -> bool {
        (self.packets() >= self.soft_packets || self.bytes() >= self.soft_bytes)
            && !self.soft_told.load(Ordering::Relaxed)
            && !self.soft_told.swap(true, Ordering::Relaxed)
    }

    /// True once, after something was refused with [`SealError::Exhausted`].
    pub fn take_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed) && !self.exhausted_told.swap(true, Ordering::Relaxed)
    }

    /// Counts octets unless they would pass the hard limit.
    fn count(&self, inner: u64) -> Result<(), SealError> {
        let before = self.bytes.fetch_add(inner, Ordering::Relaxed);
        if before.saturating_add(inner) > self.params.limits.hard_bytes {
            self.bytes.fetch_sub(inner, Ordering::Relaxed);
            return Err(self.exhaust());
        }
        Ok(())
    }

    fn exhaust(&self) -> SealError {
        self.exhausted.store(true, Ordering::Relaxed);
        SealError::Exhausted
    }
}

impl std::fmt::Debug for OutboundSa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboundSa").field("params", &self.params).field("packets", &self.packets()).finish()
    }
}

/// Sequence numbers for several packets in a row; see [`OutboundSa::run`]. Those that are left over when it goes are
/// never used: to the receiver they look like lost packets.
#[derive(Debug)]
pub struct Run<'a> {
    sa: &'a OutboundSa,
    next: u64,
    end: u64,
    octets: u64,
}

impl Run<'_> {
    /// See [`OutboundSa::seal`]. [`SealError::Exhausted`] when the numbers or the octets of the run are used up. Neither
    /// that nor a short buffer takes a number.
    pub fn seal(&mut self, next_header: u8, inner: &[u8], out: &mut [u8]) -> Result<usize, SealError> {
        let octets = self.octets.checked_sub(inner.len() as u64).ok_or(SealError::Exhausted)?;
        if self.next == self.end {
            return Err(SealError::Exhausted);
        }
        if out.len() < self.sa.sealed_len(inner.len()) {
            return Err(SealError::BufferTooShort);
        }
        let sequence = self.next;
        (self.next, self.octets) = (sequence + 1, octets);
        self.sa.write(sequence, next_header, inner, out)
    }
}

/// Padding 1, 2, 3, … (RFC 4303 §2.4), pad length and next header, and how many octets of it count.
fn trailer(inner: usize, next_header: u8) -> ([u8; 5], usize) {
    match (inner + TRAILER_LEN) % ALIGNMENT {
        0 => ([0, next_header, 0, 0, 0], 2),
        3 => ([1, 1, next_header, 0, 0], 3),
        2 => ([1, 2, 2, next_header, 0], 4),
        _ => ([1, 2, 3, 3, next_header], 5),
    }
}
