//! The subnets of a home's /48.
//!
//! ```text
//! 2002:V4ADDR:0000::1                    the home agent
//! 2002:V4ADDR:0001:UUUU:UUUU:DDDD:DDDD   user U, device D; device 0 is the user's floating address
//! 2002:V4ADDR:0100::/64 …                one /64 per node, an address for each of its services
//! ```

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::six_to_four::{embedded_v4, home_prefix};
use super::special::special;

/// Subnet of users and their devices.
pub const USERS: u16 = 1;
/// First subnet of nodes.
pub const FIRST_NODE: u16 = 0x100;

/// The address of the home agent.
pub fn home_agent(home: Ipv4Addr) -> Ipv6Addr {
    agent_of(home_prefix(home))
}

/// The same for a home whose /48 is not derived from an IPv4 address.
pub fn agent_of(home: Ipv6Net) -> Ipv6Addr {
    in_prefix(home, 0, 1)
}

/// The address of a user's device; device 0 is the floating address.
pub fn device(home: Ipv4Addr, user: u32, device: u32) -> Ipv6Addr {
    in_subnet(home, USERS, u64::from(user) << 32 | u64::from(device))
}

/// An address by subnet and interface identifier.
pub fn in_subnet(home: Ipv4Addr, subnet: u16, interface: u64) -> Ipv6Addr {
    in_prefix(home_prefix(home), subnet, interface)
}

/// The same for a home whose /48 is not derived from an IPv4 address.
pub fn in_prefix(home: Ipv6Net, subnet: u16, interface: u64) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(home.network()) | u128::from(subnet) << 64 | u128::from(interface))
}

/// What an address means.
#[expect(missing_docs, reason = "the fields are the numbers that the plan above draws")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The home agent itself.
    HomeAgent,
    /// Another address of the infrastructure subnet.
    Infrastructure,
    /// A user's floating address.
    Floating { user: u32 },
    /// A user's device.
    Device { user: u32, device: u32 },
    /// A service in a node's /64.
    Service { node: u16, interface: u64 },
    /// A subnet that the plan leaves free.
    Unassigned { subnet: u16 },
}

/// An address in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The address.
    pub address: Ipv6Addr,
    /// Its home's IPv4 address, and what it is by the plan; `None` outside 2002::/16.
    pub home: Option<(Ipv4Addr, Meaning)>,
}

/// Takes an address apart.
pub fn explain(address: Ipv6Addr) -> Explanation {
    let [_, _, _, subnet, a, b, c, d] = address.segments();
    let (user, number) = (u32::from(a) << 16 | u32::from(b), u32::from(c) << 16 | u32::from(d));
    let interface = u64::from(user) << 32 | u64::from(number);
    let meaning = match (subnet, interface, number) {
        (0, 1, _) => Meaning::HomeAgent,
        (0, ..) => Meaning::Infrastructure,
        (USERS, _, 0) => Meaning::Floating { user },
        (USERS, ..) => Meaning::Device { user, device: number },
        (FIRST_NODE.., ..) => Meaning::Service { node: subnet, interface },
        _ => Meaning::Unassigned { subnet },
    };
    Explanation { address, home: embedded_v4(address).map(|home| (home, meaning)) }
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HomeAgent => write!(f, "the home agent itself"),
            Self::Infrastructure => write!(f, "infrastructure of the home (subnet 0)"),
            Self::Floating { user } => write!(f, "the floating address of user {user}"),
            Self::Device { user, device } => write!(f, "device {device} of user {user}"),
            Self::Service { node, interface } => write!(f, "service {interface:#x} on node {node:#x}"),
            Self::Unassigned { subnet } => {
                write!(f, "in subnet {subnet:#x}, which the address plan leaves free")
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((home, meaning)) = self.home else {
            return write!(
                f,
                "{}\n  not a 6to4 address: only a [[home]] entry can tell where its home is",
                self.address
            );
        };
        writeln!(f, "{}", self.address)?;
        writeln!(f, "  home prefix  {}", home_prefix(home))?;
        writeln!(f, "  home agent   {} at {home}, UDP port 4500", home_agent(home))?;
        write!(f, "  meaning      {meaning}")?;
        if let Some(special) = special(home) {
            write!(
                f,
                "\n  caution      {home} is {} ({}): usable only with a [[home]] entry or allow_special_homes",
                special.name, special.source
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_device_is_explained_as_itself(home: u32, user: u32, device in prop_oneof![Just(0u32), any::<u32>()]) {
            let home = Ipv4Addr::from(home);
            let address = super::device(home, user, device);
            let meaning = if device == 0 { Meaning::Floating { user } } else { Meaning::Device { user, device } };
            prop_assert_eq!(explain(address).home, Some((home, meaning)));
        }

        #[test]
        fn every_6to4_address_means_one_thing(home: u32, subnet in prop_oneof![0..0x110u16, any::<u16>()],
                                              interface in prop_oneof![0..3u64, any::<u64>()]) {
            let home = Ipv4Addr::from(home);
            let address = in_subnet(home, subnet, interface);
            prop_assert!(home_prefix(home).contains(&address));
            let explanation = explain(address);
            let Some((at, meaning)) = explanation.home else { return Err(TestCaseError::fail("no home")) };
            prop_assert_eq!(at, home);
            // Built again from its meaning it is the same address.
            let again = match meaning {
                Meaning::HomeAgent => home_agent(home),
                Meaning::Floating { user } => device(home, user, 0),
                Meaning::Device { user, device } => super::device(home, user, device),
                Meaning::Service { node, interface } => {
                    prop_assert!(node >= FIRST_NODE);
                    in_subnet(home, node, interface)
                }
                Meaning::Infrastructure => {
                    prop_assert_eq!(subnet, 0);
                    address
                }
                Meaning::Unassigned { subnet: free } => {
                    prop_assert!(free == subnet && (2..FIRST_NODE).contains(&free));
                    address
                }
            };
            prop_assert_eq!(again, address);
            prop_assert!(explanation.to_string().contains(&home.to_string()));
        }
    }

    const HOME: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

    #[test]
    fn addresses_are_made_and_explained() {
        let cases = [
            (home_agent(HOME), Meaning::HomeAgent),
            (device(HOME, 7, 0), Meaning::Floating { user: 7 }),
            (device(HOME, 7, 3), Meaning::Device { user: 7, device: 3 }),
            (in_subnet(HOME, 0x100, 0xa), Meaning::Service { node: 0x100, interface: 0xa }),
            (in_subnet(HOME, 2, 5), Meaning::Unassigned { subnet: 2 }),
            (in_subnet(HOME, 0, 9), Meaning::Infrastructure),
        ];
        for (address, meaning) in cases {
            assert_eq!(explain(address).home, Some((HOME, meaning)), "{address}");
        }
        assert_eq!(explain("2001:db8::1".parse().unwrap()).home, None);
        assert_eq!(device(HOME, 1, 0x10).to_string(), "2002:c633:6401:1:0:1:0:10");
    }

    #[test]
    fn an_explanation_warns_of_special_homes() {
        let text = explain(device(HOME, 1, 2)).to_string();
        assert!(text.contains("device 2 of user 1") && text.contains("RFC 5737"), "{text}");
    }
}
