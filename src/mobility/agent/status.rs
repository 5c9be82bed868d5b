//! What `status` tells of bindings: totals always, single ones when they are asked for.

use std::net::{Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::Agent;
use super::cache::Binding;

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Senders whose care-of address is proven: who can be reached.
    pub reachable: usize,
    /// Prefixes besides the senders' own addresses.
    pub prefixes: usize,
    /// Care-of addresses that are challenged just now.
    pub tentative: usize,
}

/// One binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingStatus {
    /// What is bound.
    pub prefix: Ipv6Net,
    /// By whom.
    pub sender: Ipv6Addr,
    /// Where it was proven to be; `None` while no address ever was.
    pub care_of: Option<SocketAddrV4>,
    /// Where it says it is, which is not proven yet.
    pub tentative: Option<SocketAddrV4>,
    /// Whether there is a NAT in front of it, if it said where it thinks it is.
    pub behind_nat: Option<bool>,
    /// Of the last update.
    pub sequence: u16,
    /// Until it ends.
    pub remaining: Duration,
}

impl Agent {
    /// How many there are, without counting them.
    pub fn totals(&self) -> Totals {
        Totals {
            reachable: self.cache.proven(),
            prefixes: self.cache.extras_len(),
            tentative: self.tentative.len(),
        }
    }

    /// What is bound inside a prefix, in order; what was released and is only remembered is left out.
    pub fn bindings_within(&self, now: Instant, prefix: Ipv6Net) -> impl Iterator<Item = BindingStatus> {
        self.cache.within(prefix).filter_map(move |bound| {
            let extra = self.cache.extra(bound);
            let sender = extra.map_or_else(|| bound.addr(), |extra| extra.sender);
            let binding = self.cache.binding(sender)?;
            let tentative = self.tentative.get(&sender).map(|tentative| tentative.care_of);
            let care_of = binding.care_of();
            let expires = extra.map_or_else(|| binding.expires(), |extra| extra.expires);
            let remaining = Duration::from_secs(u64::from(expires.saturating_sub(self.second(now))));
            (care_of.is_some() || tentative.is_some()).then(|| BindingStatus {
                prefix: bound,
                sender,
                care_of,
                tentative,
                behind_nat: Binding::behind_nat(binding),
                sequence: binding.sequence,
                remaining,
            })
        })
    }
}
