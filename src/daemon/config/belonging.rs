//! What of a configuration belongs to which home: the trusted ones, what is bound there, and our own role in one.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::Config;
use crate::addr::plan::{FIRST_NODE, agent_of};
use crate::addr::six_to_four::embedded_v4;
use crate::mobility::CareOfPolicy;
use crate::node::{HomeAgentConfig, HomeConfig, Registration};
use crate::pki::Root;

impl Config {
    /// The root of the trusted home that an address belongs to.
    pub fn root_of(&self, address: Ipv6Addr) -> Option<&Root> {
        self.roots.iter().find(|root| root.prefix().contains(&address))
    }

    /// The root of the trusted home whose home agent this is.
    pub fn root_of_agent(&self, agent: Ipv6Addr) -> Option<&Root> {
        self.roots.iter().find(|root| agent_of(root.prefix()) == agent)
    }

    /// Homes with a pinned root whose home agent can be found.
    pub fn trusted_homes(&self) -> Vec<HomeConfig> {
        let known = self.roots.iter().filter_map(|root| {
            let prefix = root.prefix();
            let agent = agent_of(prefix);
            let endpoint = self.homes.endpoint(agent).ok()?;
            let places = if endpoint.ip().is_unspecified() { vec![] } else { vec![endpoint] };
            Some(HomeConfig { prefix, agent, endpoint, places })
        });
        known.collect()
    }

    /// What this machine binds at the homes of others: a node binds its whole /64 and the services that moved to it,
    /// every other entity itself and what its home put on it.
    pub(super) fn registrations(&self, sequences: &BTreeMap<Ipv6Addr, u16>) -> Vec<Registration> {
        let abroad: Vec<Ipv6Addr> = self
            .entities
            .iter()
            .map(|entity| entity.address)
            .filter(|address| self.home_prefix.is_none_or(|own| !own.contains(address)))
            .filter(|address| self.root_of(*address).is_some())
            .collect();
        let mut registrations: Vec<Registration> = Vec::new();
        let home_of = |address: Ipv6Addr| self.root_of(address).map(Root::prefix);
        for node in abroad.iter().copied().filter(|address| is_node(*address)) {
            let mut prefixes = vec![subnet(node)];
            if registrations.iter().all(|other| home_of(other.sender) != home_of(node)) {
                // The first node of a home speaks for what moved here from other nodes.
                let moved = abroad.iter().copied().filter(|service| {
                    let at_home = abroad.iter().any(|node| is_node(*node) && subnet(*node).contains(service));
                    home_of(*service) == home_of(node) && segment(*service) >= FIRST_NODE && !at_home
                });
                prefixes.extend(moved.map(Ipv6Net::from));
            }
            registrations.push(Registration { sender: node, prefixes, sequence: None });
        }
        for entity in self.entities.iter().filter(|entity| abroad.contains(&entity.address)) {
            if registrations.iter().any(|other| other.covers(entity.address)) {
                continue;
            }
            let host = registrations.iter_mut().find(|other| Some(other.sender) == entity.host);
            match host {
                // The host comes before what is on it.
                Some(host) => {
                    if host.prefixes.is_empty() {
                        host.prefixes.push(host.sender.into());
                    }
                    host.prefixes.push(entity.address.into());
                }
                None => registrations.push(Registration {
                    sender: entity.address,
                    prefixes: Vec::new(),
                    sequence: None,
                }),
            }
        }
        for registration in &mut registrations {
            registration.sequence = sequences.get(&registration.sender).copied();
        }
        registrations
    }

    /// Our own role as a home agent.
    pub(super) fn home_agent(&self) -> Option<HomeAgentConfig> {
        let prefix = self.home_prefix?;
        let own = self.homes.endpoint(prefix.addr()).map(|endpoint| *endpoint.ip());
        let trusted = self.trusted_homes().into_iter().map(|home| home.endpoint);
        let care_of = CareOfPolicy {
            allow_special: self.homes.allows_special(),
            own: own.into_iter().chain(embedded_v4(prefix.addr())).collect(),
            homes: self.homes.endpoints().chain(trusted).map(|endpoint| *endpoint.ip()).collect(),
            ..CareOfPolicy::default()
        };
        Some(HomeAgentConfig { prefix, address: agent_of(prefix), care_of })
    }
}

fn segment(address: Ipv6Addr) -> u16 {
    address.segments()[3]
}

/// By the subnet plan, the first address of a node's /64 is the node itself.
fn is_node(address: Ipv6Addr) -> bool {
    segment(address) >= FIRST_NODE && address.segments()[4..] == [0, 0, 0, 1]
}

fn subnet(address: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::new_assert(address, 64).trunc()
}
