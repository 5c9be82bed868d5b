//! Joins consecutive packets of one flow to a super-packet for the TUN, as the kernel's generic receive offload does:
//! the kernel then walks its stack once for up to 64 KiB.
//!
//! Packets are opened straight to where they would have to lie if they belonged to the super-packet before them:
//!
//! ```text
//!                             |<-- room -->
//!  | headers | payload 1 | payload 2 |                 the super-packet so far
//!                             |headers| payload 3 |    the next packet is opened over its end, which is saved
//!  | headers | payload 1 | payload 2  | payload 3 |    it belongs: the saved octets come back over its headers
//! ```
//!
//! One that does not belong is moved to the front once the super-packet was written; that is rare, because a sender
//! that segments sends a flow's packets in a row. So the order of all packets is kept, not only that within a flow.
//! Nothing waits: whoever receives flushes when a batch is worked off.
//!
//! Joined are TCP segments and UDP datagrams over IPv6 without extension headers whose headers are equal but for what
//! the kernel restores when it cuts: lengths, sequence numbers, the PSH flag of the last, checksums. The kernel believes
//! the checksum of a super-packet, so each one is verified before. Whatever is odd is delivered alone, as it came.

use super::batch::PacketBuffer;
use super::offload::{Accepts, Offload, PartialChecksum, Protocol, Segments};
use crate::wire::checksum;
use crate::wire::ip::{HEADER_LEN, Ipv6View, NEXT_HEADER_TCP, NEXT_HEADER_UDP};

/// Octets of a super-packet: what every kernel takes in one piece.
const MAX_SUPER: usize = 65_535;
/// Datagrams in a UDP super-packet: UDP_MAX_SEGMENTS of the kernels before 6.9.
const MAX_DATAGRAMS: u32 = 64;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
/// Fixed header and the longest TCP header.
const MAX_HEADERS: usize = HEADER_LEN + 60;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
/// Where the TCP flags are in a packet.
const FLAGS: usize = HEADER_LEN + 13;

/// What a write to the TUN stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Packets.
    pub packets: u64,
    /// Their octets, as if each were written alone.
    pub octets: u64,
}

/// A packet that could be in a super-packet.
#[derive(Clone, Copy)]
struct Segment {
    protocol: Protocol,
    /// Octets of headers.
    headers: usize,
    /// Octets of payload, never 0.
    payload: usize,
    /// TCP only.
    sequence: u32,
    /// Nothing may follow in the same super-packet.
    last: bool,
}

impl Segment {
    /// `None` for whatever must be delivered alone. The checksum is not looked at.
    fn parse(packet: &[u8], accepts: Accepts) -> Option<Self> {
        let view = Ipv6View::new(packet).ok()?;
        let upper = view.payload();
        match view.next_header() {
            NEXT_HEADER_TCP if accepts.tcp => {
                let header = upper.first_chunk::<TCP_HEADER>()?;
                let len = usize::from(header[12] >> 4) * 4;
                let payload = upper.len().checked_sub(len).filter(|payload| *payload != 0)?;
                let flags = header[13];
                let plain = len >= TCP_HEADER && flags & !PSH == ACK;
                plain.then_some(Self {
                    protocol: Protocol::Tcp,
                    headers: HEADER_LEN + len,
                    payload,
                    sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                    last: flags & PSH != 0,
                })
            }
            NEXT_HEADER_UDP if accepts.udp => {
                let header = upper.first_chunk::<UDP_HEADER>()?;
                let whole = usize::from(u16::from_be_bytes([header[4], header[5]])) == upper.len();
                let payload = upper.len() - UDP_HEADER;
                // Without a checksum it is no UDP over IPv6 (RFC 8200 §8.1).
                let plain = whole && payload != 0 && header[6..] != [0, 0];
                plain.then_some(Self {
                    protocol: Protocol::Udp,
                    headers: HEADER_LEN + UDP_HEADER,
                    payload,
                    sequence: 0,
                    last: false,
                })
            }
            _ => None,
        }
    }
}

/// Are the headers equal but for what the kernel restores? Both are as long as the headers of `protocol`.
fn same_flow(protocol: Protocol, a: &[u8], b: &[u8]) -> bool {
    let equal = |range: std::ops::Range<usize>| a.get(range.clone()) == b.get(range);
    // Version, traffic class, flow label; next header to the ports: all but the payload length.
    let network = equal(0..4) && equal(6..HEADER_LEN + 4);
    network
        && match protocol {
            // Acknowledgement, data offset and reserved bits; window; urgent pointer and options. Flags were checked.
            Protocol::Tcp => {
                equal(HEADER_LEN + 8..FLAGS)
                    && equal(FLAGS + 1..HEADER_LEN + 16)
                    && a.get(HEADER_LEN + 18..) == b.get(HEADER_LEN + 18..)
            }
            Protocol::Udp => true,
        }
}

/// Is the checksum of this TCP or UDP packet without extension headers right?
fn is_intact(packet: &[u8]) -> bool {
    let (Some([_, _, _, _, l1, l2, next_header, _]), Some(rest)) = (packet.first_chunk(), packet.get(8..))
    else {
        return false;
    };
    // Addresses and payload lie in a row; the rest of the pseudo-header is small.
    let small = checksum::add(u16::from_be_bytes([*l1, *l2]), u16::from(*next_header));
    checksum::add(checksum::sum(rest), small) == 0xffff
}

/// The super-packet at the front of the buffer.
#[derive(Clone, Copy)]
struct Held {
    protocol: Protocol,
    headers: usize,
    /// Octets of payload in each packet but the last.
    size: usize,
    /// Octets in all.
    len: usize,
    packets: u32,
    /// The sequence number that follows.
    next: u32,
    /// Whether the first packet's checksum is right, once somebody wanted to know.
    intact: Option<bool>,
}

impl Held {
    fn new(segment: Segment) -> Self {
        let Segment { protocol, headers, payload, sequence, .. } = segment;
        let next = sequence.wrapping_add(payload as u32);
        Self { protocol, headers, size: payload, len: headers + payload, packets: 1, next, intact: None }
    }

    /// Could one more packet of the same size follow?
    fn has_room(&self) -> bool {
        let counted = self.protocol == Protocol::Tcp || self.packets < MAX_DATAGRAMS;
        counted && self.len + self.size <= MAX_SUPER
    }

    /// Whether a packet is the next one by its numbers.
    fn is_followed_by(&self, segment: &Segment) -> bool {
        segment.protocol == self.protocol
            && segment.headers == self.headers
            && segment.payload <= self.size
            && (self.protocol == Protocol::Udp || segment.sequence == self.next)
    }

    fn add(&mut self, segment: &Segment) {
        self.len += segment.payload;
        self.packets += 1;
        self.next = self.next.wrapping_add(segment.payload as u32);
    }
}

/// Joins packets in one buffer. For each packet ask for [`Self::room`], open it there, then [`Self::keep`] it or do
/// nothing. `deliver` is called with whatever is complete, in order.
pub struct Coalescer {
    buffer: PacketBuffer,
    accepts: Accepts,
    held: Option<Held>,
    /// Headers of the first packet in the super-packet.
    front: [u8; MAX_HEADERS],
    /// Where the last packet was opened.
    at: usize,
    /// What it was opened over: so many octets.
    saved: [u8; MAX_HEADERS],
    saved_len: usize,
}

impl Coalescer {
    /// Joins what the TUN takes; by default nothing.
    pub fn new(accepts: Accepts) -> Self {
        let (front, saved) = ([0; MAX_HEADERS], [0; MAX_HEADERS]);
        Self { buffer: PacketBuffer::new(), accepts, held: None, front, at: 0, saved, saved_len: 0 }
    }

    /// Joins no packets of this protocol any more.
    pub fn without(&mut self, protocol: Protocol) {
        match protocol {
            Protocol::Tcp => self.accepts.tcp = false,
            Protocol::Udp => self.accepts.udp = false,
        }
    }

    /// Room for the next packet, `len` octets at least where there are so many at all. An earlier one that was not kept
    /// is forgotten.
    pub fn room(&mut self, len: usize, deliver: &mut impl FnMut(&mut PacketBuffer, Joined)) -> &mut [u8] {
        self.restore();
        if self.held.is_some_and(|held| held.len - held.headers + len > self.buffer.room_mut().len()) {
            self.flush(deliver);
        }
        self.at = 0;
        if let Some(held) = self.held {
            self.at = held.len - held.headers;
            self.saved_len = held.headers;
            // It becomes what is saved; what was saved before means nothing.
            self.swap();
        }
        self.buffer.room_mut().get_mut(self.at..).unwrap_or_default()
    }

    /// The first `len` octets of the packet that was opened last.
    pub fn opened(&mut self, len: usize) -> &[u8] {
        self.buffer.room_mut().get(self.at..self.at + len).unwrap_or_default()
    }

    /// Delivers the packet that was opened last, `len` octets long: now or in a super-packet.
    pub fn keep(&mut self, len: usize, deliver: &mut impl FnMut(&mut PacketBuffer, Joined)) {
        let Some(packet) = self.buffer.room_mut().get(self.at..self.at + len) else { return };
        let segment = Segment::parse(packet, self.accepts);
        match segment {
            Some(segment) if self.belongs(&segment, len) => self.join(&segment, deliver),
            Some(_) | None => {
                if self.held.is_some() {
                    self.make_way(len, deliver);
                }
                self.begin(len, segment, deliver);
            }
        }
    }

    /// Delivers what is held.
    pub fn flush(&mut self, deliver: &mut impl FnMut(&mut PacketBuffer, Joined)) {
        self.restore();
        let Some(held) = self.held.take() else { return };
        self.buffer.set_len(held.len);
        if held.packets > 1 {
            self.finish(&held);
        }
        let packets = u64::from(held.packets);
        let octets = packets * held.headers as u64 + (held.len - held.headers) as u64;
        deliver(&mut self.buffer, Joined { packets, octets });
    }

    /// Exchanges what is saved and what is in its place.
    fn swap(&mut self) {
        let place = self.buffer.room_mut().get_mut(self.at..).unwrap_or_default();
        for (saved, octet) in self.saved.iter_mut().zip(place).take(self.saved_len) {
            std::mem::swap(saved, octet);
        }
    }

    /// Puts back what the last packet was opened over.
    fn restore(&mut self) {
        self.swap();
        self.saved_len = 0;
    }

    /// Does the opened packet continue the super-packet?
    fn belongs(&mut self, segment: &Segment, len: usize) -> bool {
        let Some(mut held) = self.held.filter(|held| held.is_followed_by(segment)) else { return false };
        let Some(packet) = self.buffer.room_mut().get(self.at..self.at + len) else { return false };
        let alike = match (self.front.get(..held.headers), packet.get(..held.headers)) {
            (Some(first), Some(next)) => same_flow(held.protocol, first, next),
            _ => false,
        };
        if !alike || !is_intact(packet) {
            return false;
        }
        if held.intact.is_none() {
            // The first packet is whole only while its end is in its place.
            self.swap();
            held.intact = Some(self.buffer.room_mut().get(..held.len).is_some_and(is_intact));
            self.swap();
            self.held = Some(held);
        }
        held.intact == Some(true)
    }

    fn join(&mut self, segment: &Segment, deliver: &mut impl FnMut(&mut PacketBuffer, Joined)) {
        self.restore();
        if segment.last
            && let Some(flags) = self.buffer.room_mut().get_mut(FLAGS)
        {
            *flags |= PSH;
        }
        let Some(held) = &mut self.held else { return };
        held.add(segment);
        if segment.last || segment.payload < held.size || !held.has_room() {
            self.flush(deliver);
        }
    }

    /// Delivers the super-packet and moves the opened packet, which does not belong to it, to the front.
    fn make_way(&mut self, len: usize, deliver: &mut impl FnMut(&mut PacketBuffer, Joined)) {
        // Its beginning waits in the place of what it was opened over.
        self.swap();
        let start = std::mem::take(&mut self.saved_len).min(len);
        self.flush(deliver);
        let (from, room) = (self.at, self.buffer.room_mut());
        if from + len <= room.len() {
            room.copy_within(from + start..from + len, start);
        }
        for (octet, own) in room.iter_mut().zip(&self.saved).take(start) {
            *octet = *own;
        }
        self.at = 0;
    }

    /// Starts a super-packet with the packet at the front, or delivers it alone.
    fn begin(
        &mut self,
        len: usize,
        segment: Option<Segment>,
        deliver: &mut impl FnMut(&mut PacketBuffer, Joined),
    ) {
        let held = segment.filter(|segment| !segment.last).map(Held::new).filter(Held::has_room);
        if let Some(held) = held {
            for (kept, octet) in self.front.iter_mut().zip(self.buffer.room_mut()).take(held.headers) {
                *kept = *octet;
            }
            self.held = Some(held);
        } else {
            self.buffer.set_len(len);
            deliver(&mut self.buffer, Joined { packets: 1, octets: len as u64 });
        }
    }

    /// Makes one packet of several: lengths, the beginning of a checksum, and how to cut it.
    fn finish(&mut self, held: &Held) {
        let upper = held.len - HEADER_LEN;
        // Bounded by MAX_SUPER.
        let (length, size) = (upper as u16, held.size as u16);
        let (next_header, offset) = match held.protocol {
            Protocol::Tcp => (NEXT_HEADER_TCP, 16),
            Protocol::Udp => (NEXT_HEADER_UDP, 6),
        };
        let Some((header, rest)) = self.buffer.packet_mut().split_first_chunk_mut::<HEADER_LEN>() else {
            return;
        };
        let [_, _, _, _, l1, l2, _, _, addresses @ ..] = header;
        [*l1, *l2] = length.to_be_bytes();
        let begun = checksum::pseudo_header(addresses, next_header, u32::from(length));
        if let Some(field) = rest.get_mut(offset..).and_then(|rest| rest.first_chunk_mut()) {
            *field = begun.to_be_bytes();
        }
        if held.protocol == Protocol::Udp
            && let Some([_, _, _, _, l1, l2]) = rest.first_chunk_mut()
        {
            [*l1, *l2] = length.to_be_bytes();
        }
        self.buffer.set_offload(Offload {
            segments: Some(Segments { protocol: held.protocol, size }),
            checksum: Some(PartialChecksum { start: HEADER_LEN as u16, offset: offset as u16 }),
        });
    }
}

#[cfg(test)]
#[path = "coalesce_tests.rs"]
mod tests;
