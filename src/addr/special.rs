//! Special-purpose IPv4 addresses (RFC 6890 and the IANA registry): none of them may be the home in a 6to4 address
//! (RFC 3964 §5.1), because nobody on the Internet can be reached there.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A block of special-purpose addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Special {
    /// What it is, as a noun.
    pub name: &'static str,
    /// Where that is said.
    pub source: &'static str,
}

const fn block(
    a: u8,
    b: u8,
    c: u8,
    d: u8,
    len: u8,
    name: &'static str,
    source: &'static str,
) -> (Ipv4Net, Special) {
    (Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len), Special { name, source })
}

const BLOCKS: [(Ipv4Net, Special); 18] = [
    block(0, 0, 0, 0, 8, "an address of \"this network\"", "RFC 791 §3.2"),
    block(10, 0, 0, 0, 8, "a private-use address", "RFC 1918"),
    block(100, 64, 0, 0, 10, "a carrier-grade NAT address", "RFC 6598"),
    block(127, 0, 0, 0, 8, "a loopback address", "RFC 1122 §3.2.1.3"),
    block(169, 254, 0, 0, 16, "a link-local address", "RFC 3927"),
    block(172, 16, 0, 0, 12, "a private-use address", "RFC 1918"),
    block(192, 0, 0, 0, 24, "an IETF protocol assignment", "RFC 6890 §2.1"),
    block(192, 0, 2, 0, 24, "a documentation address (TEST-NET-1)", "RFC 5737"),
    block(192, 31, 196, 0, 24, "an AS112 address", "RFC 7535"),
    block(192, 52, 193, 0, 24, "an AMT address", "RFC 7450"),
    block(192, 88, 99, 0, 24, "a 6to4 relay anycast address", "RFC 7526"),
    block(192, 168, 0, 0, 16, "a private-use address", "RFC 1918"),
    block(192, 175, 48, 0, 24, "an AS112 address", "RFC 7534"),
    block(198, 18, 0, 0, 15, "a benchmarking address", "RFC 2544"),
    block(198, 51, 100, 0, 24, "a documentation address (TEST-NET-2)", "RFC 5737"),
    block(203, 0, 113, 0, 24, "a documentation address (TEST-NET-3)", "RFC 5737"),
    block(224, 0, 0, 0, 4, "a multicast address", "RFC 5771"),
    block(240, 0, 0, 0, 4, "a reserved address", "RFC 1112 §4"),
];

/// Which special block an address is in; `None` for a global unicast address.
pub fn special(address: Ipv4Addr) -> Option<Special> {
    BLOCKS.iter().find(|(net, _)| net.contains(&address)).map(|(_, special)| *special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_unicast_addresses_are_not_special() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.254",
        ] {
            assert_eq!(special(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn special_addresses_are_named() {
        let cases = [
            ("10.1.2.3", "RFC 1918"),
            ("100.64.0.1", "RFC 6598"),
            ("198.51.100.7", "RFC 5737"),
            ("224.0.0.1", "RFC 5771"),
            ("255.255.255.255", "RFC 1112 §4"),
            ("0.0.0.0", "RFC 791 §3.2"),
        ];
        for (address, source) in cases {
            assert_eq!(
                special(address.parse().unwrap()).map(|special| special.source),
                Some(source),
                "{address}"
            );
        }
    }
}
