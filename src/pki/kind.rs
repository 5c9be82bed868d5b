//! What a certificate says that its owner is.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::addr::plan::{FIRST_NODE, USERS};

/// What an entity is. A leaf carries it as the organizational unit of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The home agent itself, or other infrastructure of the home.
    Home,
    /// A user, at the floating address.
    User,
    /// One device of a user.
    Device,
    /// A node, at an address of its own /64.
    Node,
    /// A service, in the /64 of the node that it was made on.
    Service,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Home, Self::User, Self::Device, Self::Node, Self::Service];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::User => "user",
            Self::Device => "device",
            Self::Node => "node",
            Self::Service => "service",
        }
    }

    /// May an entity of this kind have this address, by the subnet plan of a home ([`crate::addr::plan`])?
    pub const fn fits(self, address: Ipv6Addr) -> bool {
        let [_, _, _, subnet, _, _, high, low] = address.segments();
        let floating = high == 0 && low == 0;
        match self {
            Self::Home => subnet == 0,
            Self::User => subnet == USERS && floating,
            Self::Device => subnet == USERS && !floating,
            Self::Node | Self::Service => subnet >= FIRST_NODE,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}
