//! ICMPv6 errors (RFC 4443) that we send to our own applications through the TUN.

use std::net::Ipv6Addr;

use super::ip::{HEADER_LEN, Ipv6View, NEXT_HEADER_ICMPV6, checksum, write_header};

/// An error message never exceeds the minimum IPv6 MTU (RFC 4443 §2.4 (c)).
pub const MAX_ERROR: usize = 1280;
/// Type, code, checksum and the type's own four octets.
const ICMP_HEADER: usize = 8;

/// Codes of Destination Unreachable (RFC 4443 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// 1: policy forbids it.
    AdministrativelyProhibited,
    /// 3: there is no security association and none can be made now.
    AddressUnreachable,
}

/// Destination Unreachable for `offending`, written to the front of `out`; its length, or `None` when RFC 4443 §2.4 (e)
/// forbids an answer or `out` is too short.
pub fn unreachable(reason: Unreachable, offending: &[u8], out: &mut [u8]) -> Option<usize> {
    let code = match reason {
        Unreachable::AdministrativelyProhibited => 1,
        Unreachable::AddressUnreachable => 3,
    };
    error(1, code, 0, offending, out)
}

/// Packet Too Big (RFC 4443 §3.2) with the MTU that would fit, never below 1,280.
pub fn packet_too_big(mtu: u32, offending: &[u8], out: &mut [u8]) -> Option<usize> {
    error(2, 0, mtu.max(1280), offending, out)
}

fn error(kind: u8, code: u8, word: u32, offending: &[u8], out: &mut [u8]) -> Option<usize> {
    let view = Ipv6View::new(offending).ok()?;
    if !may_answer(&view, kind) {
        return None;
    }
    let quoted = &offending[..offending.len().min(MAX_ERROR - HEADER_LEN - ICMP_HEADER)];
    let payload_len = ICMP_HEADER + quoted.len();
    let packet = out.get_mut(..HEADER_LEN + payload_len)?;
    let (header, payload) = packet.split_first_chunk_mut::<HEADER_LEN>()?;
    // The error comes from the address that could not be reached, which is the one address that policy lets speak.
    let (source, destination) = (view.destination(), view.source());
    write_header(header, source, destination, NEXT_HEADER_ICMPV6, 64, u16::try_from(payload_len).ok()?);
    payload[..4].copy_from_slice(&[kind, code, 0, 0]);
    payload[4..8].copy_from_slice(&word.to_be_bytes());
    payload[8..].copy_from_slice(quoted);
    let sum = checksum(source, destination, NEXT_HEADER_ICMPV6, payload);
    payload[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(HEADER_LEN + payload_len)
}

/// RFC 4443 §2.4 (e): never about an ICMPv6 error or redirect, nor towards what is not one node; about a multicast
/// packet only Packet Too Big.
fn may_answer(view: &Ipv6View<'_>, kind: u8) -> bool {
    let source: Ipv6Addr = view.source();
    let destination = view.destination();
    let about_error = view.next_header() == NEXT_HEADER_ICMPV6
        && view.payload().first().is_none_or(|kind| *kind < 128 || *kind == 137);
    !source.is_unspecified()
        && !source.is_multicast()
        && !source.is_loopback()
        && !about_error
        && (kind == 2 || !destination.is_multicast())
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Slice, Icmpv6Type, PacketBuilder, icmpv6::DestUnreachableCode};

    use super::*;

    fn udp(len: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        let source = "2002:c633:6401:1::10".parse::<Ipv6Addr>().unwrap().octets();
        let destination = "2002:c633:6402:1::20".parse::<Ipv6Addr>().unwrap().octets();
        PacketBuilder::ipv6(source, destination, 64).udp(1, 2).write(&mut packet, &vec![7; len]).unwrap();
        packet
    }

    fn check(packet: &[u8]) -> Icmpv6Type {
        let view = Ipv6View::new(packet).unwrap();
        let icmp = Icmpv6Slice::from_slice(view.payload()).unwrap();
        assert!(icmp.is_checksum_valid(view.source().octets(), view.destination().octets()));
        icmp.icmp_type()
    }

    #[test]
    fn too_big_names_the_mtu_and_quotes_what_fits() {
        let mut out = [0; MAX_ERROR];
        let packet = udp(1400);
        let len = packet_too_big(1380, &packet, &mut out).unwrap();
        assert_eq!(len, MAX_ERROR);
        assert_eq!(check(&out[..len]), Icmpv6Type::PacketTooBig { mtu: 1380 });
        assert_eq!(out[48..len], packet[..len - 48]);
        assert_eq!(
            check(&out[..packet_too_big(500, &packet, &mut out.clone()).map(|_| len).unwrap()]),
            Icmpv6Type::PacketTooBig { mtu: 1380 }
        );
    }

    #[test]
    fn unreachable_says_why() {
        let mut out = [0; MAX_ERROR];
        let packet = udp(10);
        let len = unreachable(Unreachable::AdministrativelyProhibited, &packet, &mut out).unwrap();
        assert_eq!(check(&out[..len]), Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Prohibited));
        let len = unreachable(Unreachable::AddressUnreachable, &packet, &mut out).unwrap();
        assert_eq!(check(&out[..len]), Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Address));
    }

    #[test]
    fn errors_are_never_answered() {
        let mut out = [0; MAX_ERROR];
        let len = unreachable(Unreachable::AddressUnreachable, &udp(10), &mut out).unwrap();
        let error = out[..len].to_vec();
        assert_eq!(unreachable(Unreachable::AddressUnreachable, &error, &mut out), None);
        assert_eq!(unreachable(Unreachable::AddressUnreachable, &[0x60; 30], &mut out), None);
        assert_eq!(unreachable(Unreachable::AddressUnreachable, &udp(10), &mut [0; 40]), None);
    }
}
