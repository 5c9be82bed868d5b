//! ICMPv6 errors (RFC 4443) that we send to our own applications through the TUN.

use std::net::Ipv6Addr;

use super::ip::{HEADER_LEN, Ipv6View, NEXT_HEADER_ICMPV6, checksum, write_header};

/// An error message never exceeds the minimum IPv6 MTU (RFC 4443 §2.4 (c)).
pub const MAX_ERROR: usize = 1280;
/// Type, code, checksum and the type's own four octets.
pub(super) const ICMP_HEADER: usize = 8;

/// Extension headers with a length octet (RFC 8200 §4.3, §4.4, §4.6): hop-by-hop, routing and destination options.
const OPTIONS: [u8; 3] = [0, 43, 60];
/// The fragment header (RFC 8200 §4.5), always 8 octets.
const FRAGMENT: u8 = 44;

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
    unreachable_within(reason, offending, MAX_ERROR, out)
}

/// The same in at most `limit` octets: an answer to somebody who may have lied about his address must not be longer than
/// what he sent. `None` also when that leaves no room for the header and 8 octets more of `offending`.
pub fn unreachable_within(
    reason: Unreachable,
    offending: &[u8],
    limit: usize,
    out: &mut [u8],
) -> Option<usize> {
    let code = match reason {
        Unreachable::AdministrativelyProhibited => 1,
        Unreachable::AddressUnreachable => 3,
    };
    error(1, code, 0, offending, limit.min(MAX_ERROR), out)
}

/// Packet Too Big (RFC 4443 §3.2) with the MTU that would fit, never below 1,280.
pub fn packet_too_big(mtu: u32, offending: &[u8], out: &mut [u8]) -> Option<usize> {
    error(2, 0, mtu.max(1280), offending, MAX_ERROR, out)
}

fn error(kind: u8, code: u8, word: u32, offending: &[u8], limit: usize, out: &mut [u8]) -> Option<usize> {
    let view = Ipv6View::new(offending).ok()?;
    if !may_answer(&view, kind) {
        return None;
    }
    let room = limit.checked_sub(HEADER_LEN + ICMP_HEADER)?;
    let quoted = offending.get(..offending.len().min(room))?;
    if quoted.len() < offending.len().min(HEADER_LEN + 8) {
        return None;
    }
    // The error comes from the address that could not be reached, which is the one address that policy lets speak.
    write((view.destination(), view.source()), [kind, code], word, quoted, out)
}

/// A message (RFC 4443 §2.1) of this type and code behind its IPv6 header, written to the front of `out`; its length, or
/// `None` when it fits neither `out` nor an IPv6 packet.
pub(super) fn write(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    [kind, code]: [u8; 2],
    word: u32,
    body: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let payload_len = ICMP_HEADER + body.len();
    let packet = out.get_mut(..HEADER_LEN + payload_len)?;
    let (header, payload) = packet.split_first_chunk_mut::<HEADER_LEN>()?;
    write_header(header, source, destination, NEXT_HEADER_ICMPV6, 64, u16::try_from(payload_len).ok()?);
    payload[..4].copy_from_slice(&[kind, code, 0, 0]);
    payload[4..8].copy_from_slice(&word.to_be_bytes());
    payload[8..].copy_from_slice(body);
    let sum = checksum(source, destination, NEXT_HEADER_ICMPV6, payload);
    payload[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(HEADER_LEN + payload_len)
}

/// RFC 4443 §2.4 (e): never about an ICMPv6 error or redirect, nor towards what is not one node; about a multicast
/// packet only Packet Too Big.
fn may_answer(view: &Ipv6View<'_>, kind: u8) -> bool {
    let source: Ipv6Addr = view.source();
    let destination = view.destination();
    !source.is_unspecified()
        && !source.is_multicast()
        && !source.is_loopback()
        && !may_be_error(view)
        && (kind == 2 || !destination.is_multicast())
}

/// Is this an ICMPv6 error or redirect, also behind extension headers? What cannot be told counts as one: silence does
/// no harm, and two ends that answer errors with errors never stop.
fn may_be_error(view: &Ipv6View<'_>) -> bool {
    let (mut next, mut rest) = (view.next_header(), view.payload());
    // Each turn takes 8 octets at least.
    loop {
        if next == NEXT_HEADER_ICMPV6 {
            return rest.first().is_none_or(|kind| *kind < 128 || *kind == 137);
        }
        if !OPTIONS.contains(&next) && next != FRAGMENT {
            return false;
        }
        let Some(&[after, units, offset_high, offset_low]) = rest.first_chunk() else { return true };
        let len = if next == FRAGMENT { 8 } else { (usize::from(units) + 1) * 8 };
        let later_fragment = next == FRAGMENT && u16::from_be_bytes([offset_high, offset_low]) >> 3 != 0;
        if later_fragment {
            return after == NEXT_HEADER_ICMPV6 || OPTIONS.contains(&after);
        }
        let Some(behind) = rest.get(len..) else { return true };
        (next, rest) = (after, behind);
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Slice, Icmpv6Type, PacketBuilder, icmpv6::DestUnreachableCode};
    use proptest::prelude::*;

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
    }

    #[test]
    fn no_mtu_below_the_minimum_of_ipv6_is_ever_told() {
        let mut out = [0; MAX_ERROR];
        for (asked, told) in [(0, 1280), (500, 1280), (1279, 1280), (1280, 1280), (1281, 1281)] {
            let len = packet_too_big(asked, &udp(1400), &mut out).unwrap();
            assert_eq!(check(&out[..len]), Icmpv6Type::PacketTooBig { mtu: told }, "{asked}");
        }
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
    fn an_answer_keeps_within_its_limit() {
        let mut out = [0; MAX_ERROR];
        let reason = Unreachable::AddressUnreachable;
        let packet = udp(200);
        for limit in 0..300 {
            match unreachable_within(reason, &packet, limit, &mut out) {
                Some(len) => {
                    assert_eq!(len, limit.min(packet.len() + 48));
                    check(&out[..len]);
                }
                None => assert!(limit < 48 + 48, "{limit}"),
            }
        }
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

    /// A packet with this chain: next header of the fixed header, and everything behind it.
    fn chain(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN];
        let header = packet.first_chunk_mut().unwrap();
        let (source, destination) = ("2002:c633:6401:1::10", "2002:c633:6402:1::20");
        let len = u16::try_from(payload.len()).unwrap();
        write_header(header, source.parse().unwrap(), destination.parse().unwrap(), next_header, 64, len);
        packet.extend_from_slice(payload);
        packet
    }

    fn is_answered(packet: &[u8]) -> bool {
        unreachable(Unreachable::AddressUnreachable, packet, &mut [0; MAX_ERROR]).is_some()
    }

    #[test]
    fn errors_behind_extension_headers_are_not_answered_either() {
        let options = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
        let long = |next: u8| [vec![next, 1, 1, 12], vec![0; 12]].concat();
        let fragment = |next: u8, offset: u8| vec![next, 0, 0, offset << 3, 0, 0, 0, 1];
        let (echo, too_big, redirect) = ([128, 0, 0, 0], [2, 0, 0, 0], [137, 0, 0, 0]);
        for kind in OPTIONS {
            assert!(is_answered(&chain(kind, &[&options(58)[..], &echo].concat())), "{kind}");
            assert!(!is_answered(&chain(kind, &[&options(58)[..], &too_big].concat())), "{kind}");
            assert!(is_answered(&chain(kind, &[&long(58)[..], &echo].concat())), "{kind}");
            assert!(!is_answered(&chain(kind, &[&long(58)[..], &redirect].concat())), "{kind}");
        }
        assert!(is_answered(&chain(FRAGMENT, &[&fragment(58, 0)[..], &echo].concat())));
        assert!(!is_answered(&chain(FRAGMENT, &[&fragment(58, 0)[..], &too_big].concat())));
        // The type is in the first fragment.
        assert!(!is_answered(&chain(FRAGMENT, &[&fragment(58, 1)[..], &echo].concat())));
        assert!(is_answered(&chain(FRAGMENT, &[&fragment(17, 1)[..], &echo].concat())));
        // Two headers deep, and chains that end too early.
        assert!(!is_answered(&chain(0, &[&options(60)[..], &options(58), &too_big].concat())));
        assert!(!is_answered(&chain(0, &options(60))));
        assert!(!is_answered(&chain(60, &[58, 200, 0, 0, 0, 0, 0, 0])));
        assert!(!is_answered(&chain(58, &[])));
    }

    /// Any address, and often one that is not one node's.
    fn addresses() -> impl Strategy<Value = Ipv6Addr> {
        let any_address = any::<[u8; 16]>().prop_map(Ipv6Addr::from);
        let multicast = any::<[u8; 16]>().prop_map(|mut octets| {
            octets[0] = 0xff;
            Ipv6Addr::from(octets)
        });
        prop_oneof![4 => any_address, 1 => multicast, 1 => Just(Ipv6Addr::UNSPECIFIED),
                    1 => Just(Ipv6Addr::LOCALHOST)]
    }

    proptest! {
        #[test]
        fn an_answer_is_whole_goes_back_and_is_never_answered(
            source in addresses(), destination in addresses(),
            next in prop_oneof![Just(58u8), Just(44), Just(0), Just(60), Just(17), any::<u8>()],
            mtu in prop_oneof![0..3000u32, any::<u32>()], room in prop_oneof![Just(MAX_ERROR), 0..1400usize],
            payload in proptest::collection::vec(any::<u8>(), 0..1500),
        ) {
            let mut packet = vec![0; HEADER_LEN];
            let header = packet.first_chunk_mut().unwrap();
            write_header(header, source, destination, next, 64, u16::try_from(payload.len())?);
            packet.extend_from_slice(&payload);
            let nobody = source.is_multicast() || source.is_unspecified() || source.is_loopback();
            let wanted = (packet.len() + HEADER_LEN + ICMP_HEADER).min(MAX_ERROR);
            let mut out = vec![0; room];
            if let Some(len) = packet_too_big(mtu, &packet, &mut out) {
                prop_assert!(!nobody && len == wanted);
                let answer = &out[..len];
                let view = Ipv6View::new(answer)?;
                prop_assert_eq!((view.source(), view.destination()), (destination, source));
                prop_assert_eq!(check(answer), Icmpv6Type::PacketTooBig { mtu: mtu.max(1280) });
                prop_assert_eq!(&answer[48..], &packet[..len - 48]);
                prop_assert!(!is_answered(answer));
            } else {
                let unclear = next == NEXT_HEADER_ICMPV6 || next == FRAGMENT || OPTIONS.contains(&next);
                prop_assert!(nobody || unclear || room < wanted);
            }
            if destination.is_multicast() {
                prop_assert!(!is_answered(&packet), "only Packet Too Big is said about multicast");
            }
        }
    }
}
