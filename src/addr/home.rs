//! Where a permanent address's home answers: the `[[home]]` table first, the address itself otherwise.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use ipnet::Ipv6Net;

use super::six_to_four::embedded_v4;
use super::special::{Special, is_one_host, special};

/// Port of ESP and IKE.
pub const PORT: u16 = 4500;

/// Overrides of the derivation, and whether special-purpose homes are allowed.
#[derive(Clone, Debug, Default)]
pub struct Homes {
    entries: Vec<(Ipv6Net, SocketAddrV4)>,
    allow_special: bool,
}

/// Why an address leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomeError {
    /// Neither 6to4 nor named by an entry.
    #[error("{0} is not in 2002::/16 and no [[home]] entry names its prefix: add one")]
    NoHome(Ipv6Addr),
    /// The embedded address cannot be a home on the Internet.
    #[error(
        "the home of {address} would be {home}, which is {} ({}): add a [[home]] entry for its prefix, or set allow_special_homes = true",
        special.name, special.source
    )]
    Special {
        /// The permanent address.
        address: Ipv6Addr,
        /// The IPv4 address in it.
        home: Ipv4Addr,
        /// What that is.
        special: Special,
    },
}

impl Homes {
    /// A table; the longest matching prefix decides. `allow_special`: homes without an entry may have a private or
    /// documentation address; never one that is not one machine's.
    pub fn new(mut entries: Vec<(Ipv6Net, SocketAddrV4)>, allow_special: bool) -> Self {
        entries.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        Self { entries, allow_special }
    }

    /// Where the home of an address answers.
    pub fn endpoint(&self, address: Ipv6Addr) -> Result<SocketAddrV4, HomeError> {
        if let Some((_, endpoint)) = self.entries.iter().find(|(prefix, _)| prefix.contains(&address)) {
            return Ok(*endpoint);
        }
        let home = embedded_v4(address).ok_or(HomeError::NoHome(address))?;
        match special(home) {
            Some(special) if !self.allow_special || !is_one_host(home) => {
                Err(HomeError::Special { address, home, special })
            }
            Some(_) | None => Ok(SocketAddrV4::new(home, PORT)),
        }
    }

    /// The home of this prefix is there now.
    pub fn set(&mut self, prefix: Ipv6Net, endpoint: SocketAddrV4) {
        self.entries.retain(|(other, _)| *other != prefix);
        self.entries.push((prefix, endpoint));
        self.entries.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
    }

    /// Are special-purpose homes allowed?
    pub fn allows_special(&self) -> bool {
        self.allow_special
    }

    /// Where the homes that entries name answer.
    pub fn endpoints(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.entries.iter().map(|(_, endpoint)| *endpoint)
    }

    /// The prefixes that entries name.
    pub fn prefixes(&self) -> impl Iterator<Item = Ipv6Net> {
        self.entries.iter().map(|(prefix, _)| *prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_prefix_decides_in_whatever_order_they_are_listed(
            address: u128, lengths in proptest::collection::btree_set(0..=128u8, 1..8), strangers: Vec<u128>, seed: u64,
        ) {
            let address = Ipv6Addr::from(address);
            let net = |of: Ipv6Addr, len: u8| Ipv6Net::new(of, len).map(|net| net.trunc());
            let mut entries = Vec::new();
            for len in &lengths {
                entries.push((net(address, *len)?, SocketAddrV4::new(Ipv4Addr::new(9, 0, 0, *len), PORT)));
            }
            for other in strangers.into_iter().map(Ipv6Addr::from).filter(|other| *other != address) {
                entries.push((net(other, 128)?, SocketAddrV4::new(Ipv4Addr::BROADCAST, 1)));
            }
            let turn = usize::try_from(seed % entries.len() as u64)?;
            entries.rotate_left(turn);
            let longest = lengths.last().copied().unwrap_or_default();
            let wanted = SocketAddrV4::new(Ipv4Addr::new(9, 0, 0, longest), PORT);
            prop_assert_eq!(Homes::new(entries, false).endpoint(address), Ok(wanted));
        }

        #[test]
        fn without_an_entry_the_address_tells_or_is_refused(home: u32, rest: u128, allow: bool) {
            let home = Ipv4Addr::from(home);
            let prefix = crate::addr::six_to_four::home_prefix(home);
            let address = Ipv6Addr::from(u128::from(prefix.network()) | rest & u128::from(prefix.hostmask()));
            let wanted = match special(home) {
                Some(special) if !allow || !is_one_host(home) => Err(HomeError::Special { address, home, special }),
                Some(_) | None => Ok(SocketAddrV4::new(home, 4500)),
            };
            prop_assert_eq!(Homes::new(Vec::new(), allow).endpoint(address), wanted);
            let named = vec![(prefix, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7))];
            prop_assert_eq!(Homes::new(named, false).endpoint(address), Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7)));
        }
    }

    fn entry(prefix: &str, endpoint: &str) -> (Ipv6Net, SocketAddrV4) {
        (prefix.parse().unwrap(), endpoint.parse().unwrap())
    }

    #[test]
    fn the_address_tells_unless_an_entry_knows_better() {
        let homes = Homes::new(
            vec![
                entry("2002:101:101::/48", "9.9.9.9:4501"),
                entry("2002:101:101:100::/64", "9.9.9.10:4500"),
                entry("fd00::/8", "10.0.0.1:4500"),
            ],
            false,
        );
        let at = |address: &str| homes.endpoint(address.parse().unwrap());
        assert_eq!(at("2002:808:808:1::1"), Ok("8.8.8.8:4500".parse().unwrap()));
        assert_eq!(at("2002:101:101:1::1"), Ok("9.9.9.9:4501".parse().unwrap()));
        assert_eq!(at("2002:101:101:100::1"), Ok("9.9.9.10:4500".parse().unwrap()));
        assert_eq!(at("fd12::1"), Ok("10.0.0.1:4500".parse().unwrap()));
        assert!(matches!(at("2001:db8::1"), Err(HomeError::NoHome(_))));
        assert!(matches!(at("2002:a00:1:1::1"), Err(HomeError::Special { .. })));
        let laboratory = Homes::new(Vec::new(), true);
        assert!(laboratory.endpoint("2002:a00:1:1::1".parse().unwrap()).is_ok());
        for nobody in
            ["2002:7f00:1::1", "2002:a9fe:1::1", "2002:e000:1::1", "2002:ffff:ffff::1", "2002:0:1::1"]
        {
            let refused = laboratory.endpoint(nobody.parse().unwrap());
            assert!(matches!(refused, Err(HomeError::Special { .. })), "{nobody}");
        }
        let mut moved = homes;
        for (prefix, endpoint) in [entry("2002:101:101::/48", "9.9.9.8:1"), entry("2002::/16", "9.9.9.7:1")] {
            moved.set(prefix, endpoint);
        }
        let at = |address: &str| moved.endpoint(address.parse().unwrap());
        assert_eq!(at("2002:101:101:1::1"), Ok("9.9.9.8:1".parse().unwrap()));
        assert_eq!(at("2002:101:101:100::1"), Ok("9.9.9.10:4500".parse().unwrap()));
        assert_eq!(at("2002:808:808:1::1"), Ok("9.9.9.7:1".parse().unwrap()));
    }
}
