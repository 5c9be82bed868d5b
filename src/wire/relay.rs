//! The relayed form: a whole IPv6 packet between two permanent addresses as the payload of UDP (the encapsulation of
//! RFC 5555 §4.1, towards a home agent's port 4500). It carries ESP, or IKE in UDP, and nothing else between nodes.
//!
//! ```text
//! IPv4 | UDP 4500 | IPv6 (src HoA, dst HoA, next header 50) | ESP
//! IPv4 | UDP 4500 | IPv6 (src HoA, dst HoA, next header 17) | UDP 500 → 500 | IKE
//! ```

use std::net::Ipv6Addr;

use super::ip::{HEADER_LEN, Ipv6View, NEXT_HEADER_ESP, NEXT_HEADER_UDP, checksum, write_header};

/// Octets that the relayed form adds to ESP.
pub const OVERHEAD: usize = HEADER_LEN;
/// Hop limit at the start: each home agent takes one away.
pub const HOP_LIMIT: u8 = 64;
/// Both ports of IKE inside the relayed form.
pub const IKE_PORT: [u8; 2] = 500_u16.to_be_bytes();
const UDP_HEADER: usize = 8;

/// UDP between the two IKE ports, whole and with a right checksum (RFC 8200 §8.1: never zero).
pub fn ike<'a>(view: &Ipv6View<'a>) -> Option<&'a [u8]> {
    let (header, message) = view.payload().split_first_chunk::<UDP_HEADER>()?;
    let [s1, s2, d1, d2, l1, l2, c1, c2] = *header;
    let whole = usize::from(u16::from_be_bytes([l1, l2])) == view.payload().len();
    let ports = [s1, s2] == IKE_PORT && [d1, d2] == IKE_PORT;
    // Over a packet that holds its own checksum the sum comes out as zero (RFC 1071 §1).
    let sum = checksum(view.source(), view.destination(), NEXT_HEADER_UDP, view.payload());
    (whole && ports && [c1, c2] != [0, 0] && sum == 0).then_some(message)
}

/// Writes the IPv6 header in front of `len` octets of ESP.
pub fn write_esp_header(out: &mut [u8; HEADER_LEN], from: Ipv6Addr, to: Ipv6Addr, len: u16) {
    write_header(out, from, to, NEXT_HEADER_ESP, HOP_LIMIT, len);
}

/// An IKE message in relayed form; `None` when it is too long for a UDP datagram.
pub fn wrap_ike(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(UDP_HEADER + message.len()).ok()?;
    let mut packet = vec![0; HEADER_LEN + UDP_HEADER];
    write_header(packet.first_chunk_mut()?, from, to, NEXT_HEADER_UDP, HOP_LIMIT, len);
    packet[HEADER_LEN..][..2].copy_from_slice(&IKE_PORT);
    packet[HEADER_LEN + 2..][..2].copy_from_slice(&IKE_PORT);
    packet[HEADER_LEN + 4..][..2].copy_from_slice(&len.to_be_bytes());
    packet.extend_from_slice(message);
    let sum = match checksum(from, to, NEXT_HEADER_UDP, &packet[HEADER_LEN..]) {
        0 => 0xffff,
        sum => sum,
    };
    packet[HEADER_LEN + 6..][..2].copy_from_slice(&sum.to_be_bytes());
    Some(packet)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends() -> (Ipv6Addr, Ipv6Addr) {
        ("2002:c633:6401:1::10".parse().unwrap(), "2002:c633:6402:1::20".parse().unwrap())
    }

    proptest! {
        #[test]
        fn ike_comes_back_as_it_went(message in proptest::collection::vec(any::<u8>(), 0..1300)) {
            let (from, to) = ends();
            let packet = wrap_ike(from, to, &message).unwrap();
            let view = Ipv6View::new(&packet).unwrap();
            prop_assert_eq!((view.source(), view.destination()), (from, to));
            prop_assert_eq!(ike(&view), Some(&message[..]));
        }

        #[test]
        fn a_changed_octet_of_ike_is_noticed(
            message in proptest::collection::vec(any::<u8>(), 1..100), at: prop::sample::Index, bit in 0..8,
        ) {
            let (from, to) = ends();
            let mut packet = wrap_ike(from, to, &message).unwrap();
            let at = HEADER_LEN + at.index(packet.len() - HEADER_LEN);
            packet[at] ^= 1_u8 << bit;
            let read = Ipv6View::new(&packet);
            prop_assert_eq!(read.ok().and_then(|view| ike(&view)), None);
        }

        #[test]
        fn whatever_arrives_is_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Ipv6View::new(&bytes).map(|view| ike(&view).is_some());
        }
    }

    #[test]
    fn the_header_in_front_of_esp_is_ipv6() {
        let (from, to) = ends();
        let mut packet = [0; HEADER_LEN + 12];
        write_esp_header(packet.first_chunk_mut().unwrap(), from, to, 12);
        assert_eq!(packet[7], HOP_LIMIT);
        let view = Ipv6View::new(&packet).unwrap();
        assert_eq!((view.source(), view.destination(), view.next_header()), (from, to, NEXT_HEADER_ESP));
        assert_eq!(view.payload(), [0; 12]);
    }
}
