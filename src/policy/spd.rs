//! Security Policy Database (RFC 4301 §4.4.1): PROTECT, DISCARD or BYPASS by local and remote prefix.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

/// What happens to a packet that a policy matches (RFC 4301 §4.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Carried in ESP or not at all.
    Protect(Services),
    /// Dropped in both directions.
    Discard,
    /// Not ours: left to the machine's ordinary routes, in clear.
    Bypass,
}

/// Which security services an SA gives (RFC 4301 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Services {
    /// Confidentiality, integrity and source authentication: an AEAD.
    Confidentiality,
    /// Integrity and source authentication alone: ENCR_NULL with AUTH_HMAC_SHA2_256_128.
    IntegrityOnly,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Addresses of this machine.
    pub local: Ipv6Net,
    /// Addresses of the other end.
    pub remote: Ipv6Net,
    /// What to do.
    pub action: Action,
}

/// Ordered rules: the first match decides; without a match a packet is discarded (RFC 4301 §5.1).
#[derive(Clone, Debug, Default)]
pub struct Spd {
    policies: Vec<Policy>,
}

impl Spd {
    /// Rules in the order in which they are tried.
    pub fn new(policies: Vec<Policy>) -> Self {
        Self { policies }
    }

    /// The rules, in order.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// What to do with traffic between these two addresses.
    pub fn decide(&self, local: Ipv6Addr, remote: Ipv6Addr) -> Action {
        self.policies
            .iter()
            .find(|policy| policy.local.contains(&local) && policy.remote.contains(&remote))
            .map_or(Action::Discard, |policy| policy.action)
    }
}
