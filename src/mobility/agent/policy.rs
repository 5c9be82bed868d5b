//! What the home allows.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use ipnet::Ipv6Net;

use crate::addr::special::{is_one_host, special};

/// The home's decisions, asked for each Binding Update.
pub trait Policy {
    /// May this entity bind this prefix? Asked for its own address as a /128, too.
    fn may_bind(&self, sender: Ipv6Addr, prefix: Ipv6Net) -> bool;

    /// May packets be sent there, once it is proven that the entity is there?
    fn allows(&self, care_of: SocketAddrV4) -> bool;
}

/// Allows everything: for tests.
#[derive(Clone, Copy, Debug)]
pub struct OpenPolicy;

impl Policy for OpenPolicy {
    fn may_bind(&self, _sender: Ipv6Addr, _prefix: Ipv6Net) -> bool {
        true
    }

    fn allows(&self, _care_of: SocketAddrV4) -> bool {
        true
    }
}

/// Which care-of addresses are acceptable: the half of a [`Policy`] that needs no registry.
#[derive(Clone, Debug)]
pub struct CareOfPolicy {
    /// Our own IPv4 addresses.
    pub own: Vec<Ipv4Addr>,
    /// Other homes: what they send is believed by its source, so nothing may be made to come from them.
    pub homes: Vec<Ipv4Addr>,
    /// Private and documentation addresses are fine: an intranet or a laboratory. Addresses that are not one host's
    /// never are.
    pub allow_special: bool,
    /// Lowest port: well-known services are not to be sent our packets.
    pub min_port: u16,
}

impl Default for CareOfPolicy {
    fn default() -> Self {
        Self { own: Vec::new(), homes: Vec::new(), allow_special: false, min_port: 1024 }
    }
}

impl CareOfPolicy {
    /// May this be a care-of address?
    pub fn allows(&self, care_of: SocketAddrV4) -> bool {
        let address = *care_of.ip();
        care_of.port() >= self.min_port
            && is_one_host(address)
            && (self.allow_special || special(address).is_none())
            && !self.own.contains(&address)
            && !self.homes.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_single_hosts_that_are_no_homes_are_allowed() {
        let mut policy = CareOfPolicy {
            own: vec!["8.8.8.8".parse().unwrap()],
            homes: vec!["9.9.9.9".parse().unwrap()],
            ..CareOfPolicy::default()
        };
        let never = [
            "8.8.8.8:5000",
            "9.9.9.9:4500",
            "1.1.1.1:1023",
            "1.1.1.1:53",
            "127.0.0.1:4500",
            "0.0.0.0:4500",
            "224.0.0.1:4500",
            "255.255.255.255:4500",
            "240.0.0.1:4500",
            "169.254.1.1:4500",
        ];
        for special in [false, true] {
            policy.allow_special = special;
            for address in never {
                assert!(!policy.allows(address.parse().unwrap()), "{address}");
            }
            assert!(policy.allows("1.1.1.1:1024".parse().unwrap()));
            for address in ["10.0.0.1:4500", "198.51.100.7:4500", "100.64.0.1:4500"] {
                assert_eq!(policy.allows(address.parse().unwrap()), special, "{address}");
            }
        }
    }
}
