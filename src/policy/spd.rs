//! Security Policy Database (RFC 4301 §4.4.1): PROTECT, DISCARD or BYPASS by local and remote prefix.

use std::fmt;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::crypto::suite::EspSuite;

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

impl Action {
    /// The name that `status` and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protect(_) => "protect",
            Self::Discard => "discard",
            Self::Bypass => "bypass",
        }
    }

    /// The services of an SA that this action asks for; none when the traffic is not protected.
    pub const fn services(self) -> Option<Services> {
        match self {
            Self::Protect(services) => Some(services),
            Self::Discard | Self::Bypass => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which security services an SA gives (RFC 4301 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Services {
    /// Confidentiality, integrity and source authentication: an AEAD.
    Confidentiality,
    /// Integrity and source authentication alone: ENCR_NULL with AUTH_HMAC_SHA2_256_128.
    IntegrityOnly,
}

impl Services {
    /// The name that `status` and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confidentiality => "confidentiality",
            Self::IntegrityOnly => "integrity",
        }
    }

    /// Whether a suite gives exactly these services. Never more either: who asked for readable packets gets them.
    pub const fn permits(self, suite: EspSuite) -> bool {
        match self {
            Self::Confidentiality => suite.is_confidential(),
            Self::IntegrityOnly => !suite.is_confidential(),
        }
    }

    /// The suites to offer and to accept: the configured ones in their order, or the one suite without encryption,
    /// which need not be configured: policy asking for it is enough, and nothing else can bring it in.
    pub fn suites(self, configured: &[EspSuite]) -> Vec<EspSuite> {
        match self {
            Self::Confidentiality => {
                configured.iter().copied().filter(|suite| self.permits(*suite)).collect()
            }
            Self::IntegrityOnly => vec![EspSuite::NullHmacSha256],
        }
    }
}

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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

impl Policy {
    /// Traffic of any local address with this prefix is protected by an AEAD: the default for a home prefix.
    pub const fn protect(remote: Ipv6Net) -> Self {
        let local = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);
        Self { local, remote, action: Action::Protect(Services::Confidentiality) }
    }

    /// True when every packet that `other` matches is matched by this rule, too.
    pub fn covers(&self, other: &Self) -> bool {
        self.local.contains(&other.local) && self.remote.contains(&other.remote)
    }
}

/// Ordered rules: the first match decides; without a match a packet is discarded (RFC 4301 §5.1).
#[derive(Clone, Debug, Default)]
pub struct Spd {
    policies: Vec<Policy>,
}

impl Spd {
    /// Where homes derived from an IPv4 address live (RFC 3056 §2).
    pub const HOMES: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

    /// Rules in the order in which they are tried.
    pub fn new(policies: Vec<Policy>) -> Self {
        Self { policies }
    }

    /// The rules of the configuration, then the default ones: everything towards a home is protected, both 2002::/16
    /// and the prefixes of homes elsewhere.
    pub fn with_defaults(
        configured: impl IntoIterator<Item = Policy>,
        homes: impl IntoIterator<Item = Ipv6Net>,
    ) -> Self {
        let mut policies: Vec<Policy> = configured.into_iter().collect();
        policies.push(Policy::protect(Self::HOMES));
        policies.extend(homes.into_iter().filter(|home| !Self::HOMES.contains(home)).map(Policy::protect));
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

    /// Rules that can never decide anything, each with the earlier rule that takes all its packets: positions in
    /// [`policies`](Self::policies). A configuration check warns of them.
    pub fn shadowed(&self) -> impl Iterator<Item = (usize, usize)> {
        self.policies.iter().enumerate().filter_map(|(late, policy)| {
            let early = self.policies.iter().take(late).position(|earlier| earlier.covers(policy))?;
            Some((late, early))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv6Net {
        text.parse().unwrap()
    }

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn rule(local: &str, remote: &str, action: Action) -> Policy {
        Policy { local: net(local), remote: net(remote), action }
    }

    const PROTECT: Action = Action::Protect(Services::Confidentiality);
    const READABLE: Action = Action::Protect(Services::IntegrityOnly);

    #[test]
    fn homes_are_protected_by_default_and_nothing_else_passes() {
        let spd = Spd::with_defaults([], [net("fd12:3456:789a::/48"), net("2002:c633:6401::/48")]);
        let local = address("2002:c633:6401:1::10");
        assert_eq!(spd.policies().len(), 2);
        assert_eq!(spd.decide(local, address("2002:c633:6402:1::20")), PROTECT);
        assert_eq!(spd.decide(local, address("fd12:3456:789a::1")), PROTECT);
        assert_eq!(spd.decide(local, address("2001:db8::1")), Action::Discard);
        assert_eq!(spd.decide(local, address("2003::")), Action::Discard);
        assert_eq!(Spd::default().decide(local, local), Action::Discard);
    }

    #[test]
    fn the_first_match_decides() {
        let spd = Spd::with_defaults(
            [
                rule("::/0", "2002:c633:6402:1::20/128", READABLE),
                rule("2002:c633:6401:1::10/128", "2002:c633:6402::/48", Action::Discard),
                rule("::/0", "2002:c633:6403::/48", Action::Bypass),
            ],
            [],
        );
        let (a, b) = (address("2002:c633:6401:1::10"), address("2002:c633:6401:1::11"));
        assert_eq!(spd.decide(a, address("2002:c633:6402:1::20")), READABLE);
        assert_eq!(spd.decide(a, address("2002:c633:6402:1::21")), Action::Discard);
        assert_eq!(spd.decide(b, address("2002:c633:6402:1::21")), PROTECT);
        assert_eq!(spd.decide(b, address("2002:c633:6403::1")), Action::Bypass);
    }

    #[test]
    fn a_rule_behind_a_wider_one_is_shadowed() {
        let spd = Spd::with_defaults(
            [
                rule("::/0", "2002:c633::/32", PROTECT),
                rule("::/0", "2002:c633:6402::/48", Action::Discard),
                rule("2002::/16", "2002:c633::/32", Action::Bypass),
                rule("::/0", "2002::/16", READABLE),
            ],
            [],
        );
        assert_eq!(spd.shadowed().collect::<Vec<_>>(), [(1, 0), (2, 0), (4, 3)]);
    }

    #[test]
    fn integrity_alone_comes_only_by_policy() {
        let all = EspSuite::ALL;
        let confidential = Services::Confidentiality.suites(&all);
        assert_eq!(confidential, all[..4]);
        assert_eq!(Services::Confidentiality.suites(&[EspSuite::NullHmacSha256]), []);
        assert_eq!(Services::IntegrityOnly.suites(&[]), [EspSuite::NullHmacSha256]);
        assert_eq!(Services::IntegrityOnly.suites(&all), [EspSuite::NullHmacSha256]);
        for suite in all {
            assert_ne!(Services::Confidentiality.permits(suite), Services::IntegrityOnly.permits(suite));
        }
        assert_eq!(READABLE.services().map(Services::name), Some("integrity"));
        assert_eq!((Action::Bypass.services(), Action::Discard.name()), (None, "discard"));
    }
}
