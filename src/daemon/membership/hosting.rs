//! What homes put on entities of this machine, and what our home puts on entities elsewhere: asked for, told, certified.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::{LOOK, Membership};
use crate::addr::plan::agent_of;
use crate::daemon::config::Config;
use crate::daemon::hosted::{Hosted, MAX_HOSTED};
use crate::home::talk::{Ask, HostedAddress, Tell};
use crate::node::Node;

/// Several changes are told and taken up together.
const SETTLE: Duration = Duration::from_millis(200);

/// While more certificates are expected, those that are there wait for them so long: taking up means looking at all.
const BATCH: Duration = Duration::from_secs(5);

/// What a home has said so far about one of our entities.
pub(super) struct Listing {
    addresses: Vec<HostedAddress>,
    /// When something of it was asked for.
    at: Instant,
    /// It changed meanwhile: pages of before and after would not fit together, so it is asked for anew at the end.
    again: bool,
}

impl Membership {
    /// Entities of our home have other addresses on them: they are told soon.
    pub(in crate::daemon) fn hosted_changed(
        &mut self,
        now: Instant,
        hosts: impl IntoIterator<Item = Ipv6Addr>,
    ) {
        self.changed.extend(hosts);
        self.tell.get_or_insert(now + SETTLE);
    }

    pub(super) fn tell_changed(&mut self, now: Instant, node: &mut Node, config: &Config) {
        if self.tell.is_none_or(|at| at > now) {
            return;
        }
        self.tell = None;
        for host in std::mem::take(&mut self.changed) {
            if config.own_entity(host).is_some() {
                self.list(now, node, config, host);
            } else if let Some(prefix) = config.home_prefix
                && let Some(ike) = node.ike_with(agent_of(prefix), host)
            {
                // Whoever is away asks when he comes back.
                node.tell(now, ike, Tell::HostedChanged {}.to_bytes());
            }
        }
    }

    /// Asks what is on an entity of ours: our own registry, or its home.
    pub(in crate::daemon) fn list(&mut self, now: Instant, node: &mut Node, config: &Config, host: Ipv6Addr) {
        if let (Some(home), Some(prefix)) = (&self.home, config.home_prefix)
            && prefix.contains(&host)
        {
            let hosted = home.lock().hosted(host);
            match hosted {
                Ok(addresses) => self.listed(now, node, config, host, addresses),
                Err(error) => tracing::error!("what is on {host} cannot be read: {error}"),
            }
            return;
        }
        if let Some(listing) = self.listing.get_mut(&host) {
            listing.again = true;
            return;
        }
        self.listing.insert(host, Listing { addresses: Vec::new(), at: now, again: false });
        self.ask(now, node, config, host, None);
    }

    /// A list that came to no end, because the SA with the home did, is asked for anew if there was a reason since.
    pub(super) fn list_again(&mut self, now: Instant, node: &mut Node, config: &Config) {
        let stalled: Vec<(Ipv6Addr, bool)> = self
            .listing
            .extract_if(.., |_, listing| listing.at + LOOK <= now)
            .map(|(host, listing)| (host, listing.again))
            .collect();
        for (host, _) in stalled.into_iter().filter(|(_, again)| *again) {
            self.list(now, node, config, host);
        }
    }

    fn ask(&self, now: Instant, node: &mut Node, config: &Config, host: Ipv6Addr, after: Option<Ipv6Addr>) {
        let agent = config.root_of(host).map(|root| agent_of(root.prefix()));
        if let Some(ike) = agent.and_then(|agent| node.ike_with(host, agent)) {
            node.tell(now, ike, Ask::Hosted { after }.to_bytes());
        }
    }

    /// A page of the answer. A home speaks of its own addresses only, in their order.
    pub(super) fn page(
        &mut self,
        now: Instant,
        node: &mut Node,
        config: &Config,
        (home, host): (Ipv6Net, Ipv6Addr),
        addresses: Vec<HostedAddress>,
        more: bool,
    ) {
        // Nobody asked.
        let Some(listing) = self.listing.get_mut(&host) else { return };
        for hosted in addresses {
            let in_order = listing.addresses.last().is_none_or(|last| last.address < hosted.address);
            let good = in_order && home.contains(&hosted.address) && is_name(&hosted.name);
            if !good || hosted.address == agent_of(home) || listing.addresses.len() >= MAX_HOSTED {
                tracing::warn!("the home of {host} puts something on it that cannot be: it is not taken up");
                self.listing.remove(&host);
                return;
            }
            listing.addresses.push(hosted);
        }
        listing.at = now;
        let last = listing.addresses.last().map(|last| last.address);
        if last.is_some() && more {
            self.ask(now, node, config, host, last);
            return;
        }
        let Some(Listing { addresses, again, .. }) = self.listing.remove(&host) else { return };
        self.listed(now, node, config, host, addresses);
        if again {
            self.list(now, node, config, host);
        }
    }

    fn listed(
        &mut self,
        now: Instant,
        node: &mut Node,
        config: &Config,
        host: Ipv6Addr,
        addresses: Vec<HostedAddress>,
    ) {
        self.hosted.keep(config);
        if self.hosted.replace(host, addresses) {
            self.take_up_soon(now);
        }
        self.certify_hosted(now, node, config);
    }

    /// Gets the certificates that are missing, as many at a time as the SA takes.
    pub(super) fn certify_hosted(&mut self, now: Instant, node: &mut Node, config: &Config) {
        let wanted = self.hosted.wanted(config);
        self.asked.retain(|address, at| *at + LOOK > now && wanted.contains(address));
        for address in wanted {
            if self.asked.contains_key(&address) {
                continue;
            }
            if !self.renew(now, node, config, address) {
                return;
            }
            self.asked.insert(address, now);
        }
    }

    pub(super) fn take_up_soon(&mut self, now: Instant) {
        self.take_up.get_or_insert(now + SETTLE);
    }

    pub(super) fn take_up_certified(&mut self, now: Instant, address: Ipv6Addr) {
        let more = self.asked.keys().any(|other| *other != address);
        let at = now + if more { BATCH } else { SETTLE };
        self.take_up = Some(self.take_up.map_or(at, |due| due.min(at)));
    }

    /// What is on our entities, if that changed.
    pub(in crate::daemon) fn take_hosted(&mut self, now: Instant) -> Option<Hosted> {
        self.take_up.take_if(|at| *at <= now)?;
        Some(self.hosted.clone())
    }
}

/// Labels with dots between them: what a home calls its entities is shown to people.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet))
}
