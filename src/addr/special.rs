//! Special-purpose IPv4 addresses (RFC 6890 and the IANA registry): none of them may be the home in a 6to4 address
//! (RFC 3964 §5), because nobody on the Internet can be reached there.

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

/// The first match decides: limited broadcast is inside the reserved block.
const BLOCKS: [(Ipv4Net, Special); 19] = [
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
    block(255, 255, 255, 255, 32, "the limited broadcast address", "RFC 919 §7"),
    block(240, 0, 0, 0, 4, "a reserved address", "RFC 1112 §4"),
];

/// False for what no single machine elsewhere can have, on whatever network: loopback, link-local, multicast, broadcast,
/// 0/8 and 240/4.
pub fn is_one_host(address: Ipv4Addr) -> bool {
    !(address.is_loopback() || address.is_link_local() || matches!(address.octets()[0], 0 | 224..))
}

/// Which special block an address is in; `None` for a global unicast address.
pub fn special(address: Ipv4Addr) -> Option<Special> {
    BLOCKS.iter().find(|(net, _)| net.contains(&address)).map(|(_, special)| *special)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_standard_library_finds_nothing_special_that_we_do_not(
            address in prop_oneof![any::<u32>(), 0x0a00_0000..0x0b00_0000u32, 0xa9fe_0000..0xa9ff_0000u32,
                                   0xac10_0000..0xac20_0000u32, 0xc000_0000..0xc001_0000u32,
                                   0xc633_6400..0xc633_6500u32, 0xcb00_7100..0xcb00_7200u32,
                                   0xffff_fff0..=u32::MAX],
        ) {
            let address = Ipv4Addr::from(address);
            let known = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_documentation() || address.is_multicast() || address.is_broadcast()
                || address.is_unspecified();
            prop_assert!(special(address).is_some() || !known, "{address}");
        }
    }

    /// First and last address of each block, as the IANA registries write them, and whether a neighbour is special too.
    #[test]
    fn blocks_begin_and_end_where_the_registry_says() {
        let ranges = [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.31.196.0", "192.31.196.255"),
            ("192.52.193.0", "192.52.193.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("192.175.48.0", "192.175.48.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "255.255.255.255"),
        ];
        for (first, last) in ranges {
            let [first, last] = [first, last].map(|text| u32::from(text.parse::<Ipv4Addr>().unwrap()));
            let is_special = |address: u32| special(Ipv4Addr::from(address)).is_some();
            assert!(is_special(first) && is_special(last) && is_special(first / 2 + last / 2));
            let outside = [first.checked_sub(1), last.checked_add(1)];
            for address in outside.into_iter().flatten() {
                assert!(!is_special(address), "{}", Ipv4Addr::from(address));
            }
        }
    }

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
            ("255.255.255.254", "RFC 1112 §4"),
            ("255.255.255.255", "RFC 919 §7"),
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
