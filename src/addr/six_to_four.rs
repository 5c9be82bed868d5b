//! 6to4 (RFC 3056 §2): `2002:V4ADDR::/48` belongs to whoever has the IPv4 address `V4ADDR`.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// The first 16 bits of every 6to4 address.
pub const TAG: u16 = 0x2002;

/// The home prefix of an IPv4 address, a /48.
pub fn home_prefix(v4: Ipv4Addr) -> Ipv6Net {
    let [a, b, c, d] = v4.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ipv6Net::new_assert(Ipv6Addr::new(TAG, high, low, 0, 0, 0, 0, 0), 48)
}

/// The IPv4 address inside a 6to4 address; `None` for any other address.
pub fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [tag, high, low, ..] = address.segments();
    (tag == TAG).then(|| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

/// All of 2002::/16.
pub fn all() -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(TAG, 0, 0, 0, 0, 0, 0, 0), 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_rfc_form() {
        let v4: Ipv4Addr = "198.51.100.1".parse().unwrap();
        assert_eq!(home_prefix(v4).to_string(), "2002:c633:6401::/48");
        assert_eq!(embedded_v4("2002:c633:6401:1::a".parse().unwrap()), Some(v4));
        assert_eq!(embedded_v4("2001:db8::1".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn both_ways(bits: u32, rest: u128) {
            let v4 = Ipv4Addr::from(bits);
            let prefix = home_prefix(v4);
            let inside = Ipv6Addr::from(u128::from(prefix.network()) | rest & u128::from(prefix.hostmask()));
            prop_assert_eq!(embedded_v4(inside), Some(v4));
            prop_assert!(prefix.contains(&inside) && all().contains(&inside));
        }
    }
}
