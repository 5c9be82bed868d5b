//! A super-packet as the packets that it stands for, and checksums that were only begun: what a network device would do.
//!
//! Nothing is copied but headers. Each packet's headers are written in front of its part of the payload, over the end
//! of the part before it, which has left already:
//!
//! ```text
//! headers | payload 0 | payload 1 | payload 2          as it was read
//! HEADERS   payload 0 | payload 1 | payload 2          the first packet
//!         | … HEADERS   payload 1 | payload 2          the second one
//! ```

use super::batch::MAX_PACKET;
use super::offload::{PartialChecksum, Protocol, Segments};
use crate::wire::checksum;
use crate::wire::ip::{HEADER_LEN, NEXT_HEADER_TCP, NEXT_HEADER_UDP};

/// Octets of a UDP header (RFC 768).
const UDP_HEADER: usize = 8;
/// Octets of a TCP header without options (RFC 9293 §3.1).
const TCP_HEADER: usize = 20;

/// Where fields are. In the IPv6 header (RFC 8200 §3):
mod ipv6 {
    pub(super) const PAYLOAD_LENGTH: usize = 4;
    pub(super) const NEXT_HEADER: usize = 6;
}

/// In the TCP header (RFC 9293 §3.1).
mod tcp {
    pub(super) const SEQUENCE: usize = 4;
    pub(super) const DATA_OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
    pub(super) const CHECKSUM: usize = 16;

    /// Only the last packet of a super-packet has them.
    pub(super) const FIN_PSH: u8 = 0x09;
    /// Only the first one has it: it answers one congestion mark (RFC 3168 §6.1.2).
    pub(super) const CWR: u8 = 0x80;
}

/// In the UDP header.
mod udp {
    pub(super) const LENGTH: usize = 4;
    pub(super) const CHECKSUM: usize = 6;
}

/// What stands in front of a packet does not fit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A super-packet must leave the checksums of its packets to whoever cuts it.
    #[error("a super-packet without a checksum to complete")]
    NoChecksum,
    /// The place of the checksum is outside the packet, or not where the protocol has it.
    #[error("the checksum is not where the header in front of the packet says")]
    Checksum,
    /// The headers before the place where the sum begins do not lead there, or what is there is cut short.
    #[error("the headers do not lead to the protocol that the super-packet is said to be")]
    Headers,
    /// Packets without payload, or with more than an IPv6 packet holds.
    #[error("a super-packet of packets without payload, or of too long ones")]
    Size,
}

/// A super-packet that is being cut.
#[derive(Debug)]
pub struct Split<'a> {
    packet: &'a mut [u8],
    protocol: Protocol,
    /// Where the TCP or UDP header begins.
    transport: usize,
    /// Octets of all headers.
    headers: usize,
    /// Octets of payload in each packet but the last.
    size: usize,
    /// Sum of the pseudo-header without the length.
    begun: u16,
    /// Sequence number and flags of the super-packet, if it is TCP.
    sequence: u32,
    flags: u8,
    /// Octets of payload that have left.
    done: usize,
    finished: bool,
}

impl<'a> Split<'a> {
    /// Looks whether `packet`, an IPv6 packet, can be cut as is said. `hdr_len` of a `virtio_net_hdr` is not needed.
    ///
    /// # Errors
    /// [`SplitError`]; the packet was not changed.
    pub fn new(
        packet: &'a mut [u8],
        segments: Segments,
        checksum: Option<PartialChecksum>,
    ) -> Result<Self, SplitError> {
        let partial = checksum.ok_or(SplitError::NoChecksum)?;
        let transport = usize::from(partial.start);
        let (next_header, field) = match segments.protocol {
            Protocol::Tcp => (NEXT_HEADER_TCP, tcp::CHECKSUM),
            Protocol::Udp => (NEXT_HEADER_UDP, udp::CHECKSUM),
        };
        if usize::from(partial.offset) != field {
            return Err(SplitError::Checksum);
        }
        if segments.size == 0 || packet.len() > MAX_PACKET {
            return Err(SplitError::Size);
        }
        if !leads_to(packet, transport, next_header) {
            return Err(SplitError::Headers);
        }
        let (header, flags, sequence) = match segments.protocol {
            Protocol::Tcp => {
                let [offset, flags] = get(packet, transport + tcp::DATA_OFFSET).ok_or(SplitError::Headers)?;
                let sequence = get(packet, transport + tcp::SEQUENCE).ok_or(SplitError::Headers)?;
                (usize::from(offset >> 4) * 4, flags, u32::from_be_bytes(sequence))
            }
            Protocol::Udp => (UDP_HEADER, 0, 0),
        };
        let headers = transport + header;
        if headers > packet.len() || (segments.protocol == Protocol::Tcp && header < TCP_HEADER) {
            return Err(SplitError::Headers);
        }
        let begun = get(packet, transport + field).map(u16::from_be_bytes).ok_or(SplitError::Headers)?;
        // Ones' complement: adding the complement takes away.
        let begun = checksum::add(begun, !length_sum(packet.len() - transport));
        Ok(Self {
            packet,
            protocol: segments.protocol,
            transport,
            headers,
            size: usize::from(segments.size),
            begun,
            sequence,
            flags,
            done: 0,
            finished: false,
        })
    }

    /// How many packets it is: at least one.
    pub fn count(&self) -> usize {
        self.payload().div_ceil(self.size).max(1)
    }

    /// Octets of the largest of its packets, which is the first.
    pub fn largest(&self) -> usize {
        self.headers + self.payload().min(self.size)
    }

    /// Octets of all of its packets.
    pub fn octets(&self) -> usize {
        self.payload() + self.count() * self.headers
    }

    /// The next packet, whole and with a whole checksum; it overwrites the end of the one before.
    pub fn advance(&mut self) -> Option<&[u8]> {
        if self.finished {
            return None;
        }
        let left = self.payload() - self.done;
        let payload = left.min(self.size);
        self.finished = payload == left;
        let (start, end) = (self.done, self.done + self.headers + payload);
        if let Some(before) = start.checked_sub(self.size) {
            self.packet.copy_within(before..before + self.headers, start);
        }
        let number = self.sequence.wrapping_add(u32::try_from(start).ok()?);
        self.done += payload;

        let packet = self.packet.get_mut(start..end)?;
        let (header, transport) = packet.split_at_mut_checked(self.transport)?;
        let behind = u16::try_from(self.transport - HEADER_LEN + transport.len()).ok()?;
        put(header, ipv6::PAYLOAD_LENGTH, behind.to_be_bytes())?;
        let begun = checksum::add(self.begun, length_sum(transport.len()));
        match self.protocol {
            Protocol::Tcp => {
                put(transport, tcp::SEQUENCE, number.to_be_bytes())?;
                let not_first = if start == 0 { 0 } else { tcp::CWR };
                let not_last = if self.finished { 0 } else { tcp::FIN_PSH };
                put(transport, tcp::FLAGS, [self.flags & !not_first & !not_last])?;
                put(transport, tcp::CHECKSUM, begun.to_be_bytes())?;
                let sum = !checksum::sum(transport);
                put(transport, tcp::CHECKSUM, sum.to_be_bytes())?;
            }
            Protocol::Udp => {
                put(transport, udp::LENGTH, u16::try_from(transport.len()).ok()?.to_be_bytes())?;
                put(transport, udp::CHECKSUM, begun.to_be_bytes())?;
                let sum = never_zero(!checksum::sum(transport));
                put(transport, udp::CHECKSUM, sum.to_be_bytes())?;
            }
        }
        Some(packet)
    }

    fn payload(&self) -> usize {
        self.packet.len() - self.headers
    }
}

/// Completes the checksum of a packet that is a whole one otherwise.
///
/// # Errors
/// [`SplitError::Checksum`]; the packet was not changed.
pub fn complete(packet: &mut [u8], partial: PartialChecksum) -> Result<(), SplitError> {
    let (start, field) = (usize::from(partial.start), usize::from(partial.offset));
    let summed = packet.get_mut(start..).filter(|_| start >= HEADER_LEN).ok_or(SplitError::Checksum)?;
    let sum = !checksum::sum(summed);
    // Only what has its checksum where UDP has it may be UDP.
    let sum = if field == udp::CHECKSUM { never_zero(sum) } else { sum };
    put(summed, field, sum.to_be_bytes()).ok_or(SplitError::Checksum)
}

/// A UDP checksum that sums up to zero is sent as all ones (RFC 768, RFC 8200 §8.1).
fn never_zero(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}

/// The upper-layer packet length of the pseudo-header, which has 32 bits (RFC 8200 §8.1), as a sum.
fn length_sum(len: usize) -> u16 {
    checksum::add((len >> 16) as u16, (len & 0xffff) as u16)
}

/// Do the headers of the packet lead to `next_header` at `transport`? Extension headers that stay the same in every
/// packet may lie between: not a fragment header (RFC 8200 §4.5), nor anything that authenticates the packet.
fn leads_to(packet: &[u8], transport: usize, next_header: u8) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let Some([mut found]) = get(packet, ipv6::NEXT_HEADER) else { return false };
    let mut at = HEADER_LEN;
    while at < transport && matches!(found, HOP_BY_HOP | ROUTING | DESTINATION) {
        let Some([next, len]) = get(packet, at) else { return false };
        found = next;
        at += 8 + 8 * usize::from(len);
    }
    at == transport && found == next_header
}

fn get<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}

#[must_use]
fn put<const N: usize>(packet: &mut [u8], at: usize, octets: [u8; N]) -> Option<()> {
    *packet.get_mut(at..)?.first_chunk_mut()? = octets;
    Some(())
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
