//! IPv6 packets (RFC 8200 §3): a view that was checked once.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Version| Traffic Class |           Flow Label                  |
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! |                    Source Address (16 octets)                 |
//! |                 Destination Address (16 octets)               |
//! ```

use std::net::Ipv6Addr;

use super::checksum;

/// Octets of the fixed header.
pub const HEADER_LEN: usize = 40;
/// TCP.
pub const NEXT_HEADER_TCP: u8 = 6;
/// UDP.
pub const NEXT_HEADER_UDP: u8 = 17;
/// ESP (RFC 4303).
pub const NEXT_HEADER_ESP: u8 = 50;
/// ICMPv6.
pub const NEXT_HEADER_ICMPV6: u8 = 58;
/// IPv6 in ESP tunnel mode.
pub const NEXT_HEADER_IPV6: u8 = 41;
/// Mobility Header (RFC 6275 §6.1).
pub const NEXT_HEADER_MOBILITY: u8 = 135;
/// No next header: an ESP dummy packet (RFC 4303 §2.6).
pub const NEXT_HEADER_NONE: u8 = 59;

/// Fibonacci hashing: ports that differ in whatever bits give numbers that differ in all. (Linux gives out ephemeral ports of
/// one parity.)
pub const FLOW_FACTOR: u32 = 0x9e37_79b1;

/// Not an IPv6 packet that we carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ipv6Error {
    /// Shorter than the fixed header.
    #[error("shorter than an IPv6 header")]
    Truncated,
    /// The version nibble is not 6.
    #[error("not IPv6")]
    Version,
    /// The payload length is not what follows the header (jumbograms are not carried).
    #[error("IPv6 payload length does not match the packet")]
    Length,
}

/// A packet whose header was checked.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6View<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Ipv6View<'a> {
    /// Checks version and length.
    pub fn new(packet: &'a [u8]) -> Result<Self, Ipv6Error> {
        let (header, payload) = packet.split_first_chunk::<HEADER_LEN>().ok_or(Ipv6Error::Truncated)?;
        if header[0] >> 4 != 6 {
            return Err(Ipv6Error::Version);
        }
        if usize::from(u16::from_be_bytes([header[4], header[5]])) != payload.len() {
            return Err(Ipv6Error::Length);
        }
        Ok(Self { header, payload })
    }

    /// Source address.
    pub fn source(&self) -> Ipv6Addr {
        address(self.header, 8)
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv6Addr {
        address(self.header, 24)
    }

    /// Type of what follows the fixed header.
    pub fn next_header(&self) -> u8 {
        self.header[6]
    }

    /// Hop limit.
    pub fn hop_limit(&self) -> u8 {
        self.header[7]
    }

    /// Traffic class; its two low bits are ECN (RFC 3168 §5).
    pub fn traffic_class(&self) -> u8 {
        self.header[0] << 4 | self.header[1] >> 4
    }

    /// Flow label (RFC 6437): 20 bits.
    pub fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.header[1] & 0x0f, self.header[2], self.header[3]])
    }

    /// The number of its flow among those between the same two addresses: the same one in both directions. TCP and UDP have ports;
    /// for the rest there is the flow label, which says little.
    pub fn flow(&self) -> u32 {
        match (self.next_header(), self.payload.first_chunk::<4>()) {
            (NEXT_HEADER_TCP | NEXT_HEADER_UDP, Some(&[s1, s2, d1, d2])) => {
                // As they lie in memory: the TUN's queue is chosen by the same number, and the kernel reads them so.
                let ports = u16::from_ne_bytes([s1, s2]) ^ u16::from_ne_bytes([d1, d2]);
                u32::from(ports).wrapping_mul(FLOW_FACTOR) >> 16
            }
            _ => self.flow_label(),
        }
    }

    /// What follows the fixed header.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

fn address(header: &[u8; HEADER_LEN], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets)
}

/// Writes a fixed header in front of a payload of `payload_len` octets.
pub fn write_header(
    out: &mut [u8; HEADER_LEN],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload_len: u16,
) {
    out[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    out[4..6].copy_from_slice(&payload_len.to_be_bytes());
    out[6] = next_header;
    out[7] = hop_limit;
    out[8..24].copy_from_slice(&source.octets());
    out[24..].copy_from_slice(&destination.octets());
}

/// Internet checksum of an upper-layer packet with its IPv6 pseudo-header (RFC 8200 §8.1).
pub fn checksum(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> u16 {
    let mut addresses = [0; 32];
    addresses[..16].copy_from_slice(&source.octets());
    addresses[16..].copy_from_slice(&destination.octets());
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let begun = checksum::pseudo_header(&addresses, next_header, length);
    !checksum::add(begun, checksum::sum(payload))
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Type, PacketBuilder};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_understood(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(view) = Ipv6View::new(&bytes) {
                prop_assert_eq!(view.payload().len() + HEADER_LEN, bytes.len());
            }
        }

        #[test]
        fn an_independent_builder_agrees(source: [u8; 16], destination: [u8; 16], hops: u8,
                                         payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut packet = Vec::new();
            PacketBuilder::ipv6(source, destination, hops)
                .icmpv6(Icmpv6Type::EchoRequest(etherparse::IcmpEchoHeader { id: 1, seq: 2 }))
                .write(&mut packet, &payload)?;
            let view = Ipv6View::new(&packet)?;
            prop_assert_eq!(view.source().octets(), source);
            prop_assert_eq!(view.destination().octets(), destination);
            prop_assert_eq!(view.hop_limit(), hops);
            prop_assert_eq!(view.next_header(), NEXT_HEADER_ICMPV6);
            // A packet with a right checksum in it sums up to zero.
            prop_assert_eq!(checksum(view.source(), view.destination(), NEXT_HEADER_ICMPV6, view.payload()), 0);
        }
    }

    #[test]
    fn wrong_length_and_version_are_told_apart() {
        let mut header = [0; HEADER_LEN];
        write_header(&mut header, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, 59, 64, 0);
        assert!(Ipv6View::new(&header).is_ok());
        assert_eq!(Ipv6View::new(&header[..39]).err(), Some(Ipv6Error::Truncated));
        header[5] = 1;
        assert_eq!(Ipv6View::new(&header).err(), Some(Ipv6Error::Length));
        header[0] = 0x45;
        assert_eq!(Ipv6View::new(&header).err(), Some(Ipv6Error::Version));
    }
}
