//! ICMPv6 echoes (RFC 4443 §4.1, §4.2) of our own inside the tunnel: to peers that are not of us, whose machines send back
//! whatever they are sent. The data are a message of path control, by which a reply to us is told from everybody else's.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |   IPv6 header, 40 octets: next header 58 …                    |
//! +---------------+---------------+---------------+---------------+
//! | type 128, 129 |    code: 0    |           checksum            |
//! |         identifier: 0         |          sequence: 0          |
//! +---------------+---------------+---------------+---------------+
//! |        a challenge (`wire::path`), padded to its size …       |
//! ```

use std::net::Ipv6Addr;

use super::icmpv6::{self, ICMP_HEADER};
use super::ip::{HEADER_LEN, Ipv6View, NEXT_HEADER_ICMPV6};
use super::path::MAGIC;

/// Octets in front of the data.
pub const HEADERS: u16 = (HEADER_LEN + ICMP_HEADER) as u16;
const REQUEST: u8 = 128;
const REPLY: u8 = 129;

/// An echo request with these data; `None` when they do not fit an IPv6 packet.
pub fn request(source: Ipv6Addr, destination: Ipv6Addr, data: &[u8]) -> Option<Vec<u8>> {
    let mut packet = vec![0; usize::from(HEADERS) + data.len()];
    icmpv6::write((source, destination), [REQUEST, 0], 0, data, &mut packet)?;
    Some(packet)
}

/// The data of an echo reply to a request of ours; `None` when the packet is anything else.
pub fn reply<'a>(packet: &Ipv6View<'a>) -> Option<&'a [u8]> {
    if packet.next_header() != NEXT_HEADER_ICMPV6 {
        return None;
    }
    let (header, data) = packet.payload().split_first_chunk::<ICMP_HEADER>()?;
    (header.starts_with(&[REPLY, 0]) && data.starts_with(&MAGIC)).then_some(data)
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Slice, Icmpv6Type};

    use super::*;
    use crate::wire::ip::write_header;

    fn addresses() -> (Ipv6Addr, Ipv6Addr) {
        ("2002:c633:6401:1::10".parse().unwrap(), "2002:c633:6402:1::20".parse().unwrap())
    }

    /// What a machine answers (RFC 4443 §4.2): the same data with another type.
    fn answer(request: &[u8]) -> Vec<u8> {
        let (us, them) = addresses();
        let mut answer = request.to_vec();
        let header = answer.first_chunk_mut().unwrap();
        write_header(header, them, us, NEXT_HEADER_ICMPV6, 64, (request.len() - HEADER_LEN) as u16);
        answer[HEADER_LEN] = REPLY;
        answer
    }

    #[test]
    fn a_request_is_one_to_others_and_its_answer_is_ours() {
        let (us, them) = addresses();
        for len in [20, 21, 1232, 1332] {
            let data = [&MAGIC[..], &vec![7; len - 4]].concat();
            let packet = request(us, them, &data).unwrap();
            assert_eq!(packet.len(), usize::from(HEADERS) + len);
            let view = Ipv6View::new(&packet).unwrap();
            assert_eq!((view.source(), view.destination()), (us, them));
            let icmp = Icmpv6Slice::from_slice(view.payload()).unwrap();
            assert!(icmp.is_checksum_valid(us.octets(), them.octets()));
            assert!(matches!(icmp.icmp_type(), Icmpv6Type::EchoRequest(_)));
            assert_eq!(reply(&view), None, "a request is no reply");
            assert_eq!(reply(&Ipv6View::new(&answer(&packet)).unwrap()), Some(&data[..]));
        }
        assert_eq!(request(us, them, &[0; 65_528]), None);
    }

    #[test]
    fn the_replies_of_others_are_theirs() {
        let (us, them) = addresses();
        let packet = answer(&request(us, them, b"domx and whatever ping sends").unwrap());
        assert_eq!(reply(&Ipv6View::new(&packet).unwrap()), None);
        let mut error = answer(&request(us, them, b"domi").unwrap());
        error[HEADER_LEN + 1] = 1;
        assert_eq!(reply(&Ipv6View::new(&error).unwrap()), None, "an unknown code");
        let short = answer(&request(us, them, b"dom").unwrap());
        assert_eq!(reply(&Ipv6View::new(&short).unwrap()), None);
        let mut udp = answer(&request(us, them, b"domi").unwrap());
        udp[6] = 17;
        assert_eq!(reply(&Ipv6View::new(&udp).unwrap()), None);
    }
}
