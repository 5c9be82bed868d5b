//! Which way leads to a peer: straight to a configured endpoint, or by way of the home agents.

use std::net::{Ipv6Addr, SocketAddrV4};

use super::config::{HomeAgentConfig, PeerConfig};
use super::{Node, RouteLookup};
use crate::dataplane::event::{Relay, UdpPath};

/// How IKE with a peer begins.
pub(super) enum Way {
    /// In direct form, to this endpoint.
    Direct(SocketAddrV4),
    /// In relayed form, by way of this home agent.
    Relayed(SocketAddrV4),
    /// By way of a home agent that does not know yet where we are.
    NotYet,
}

impl Node {
    /// Whom we may call: listed peers, and everybody in a trusted home.
    pub(super) fn peer(&self, remote: Ipv6Addr) -> Option<PeerConfig> {
        if let Some(peer) = self.config.peers.iter().find(|peer| peer.address == remote) {
            return Some(peer.clone());
        }
        let home = self.config.home_of(remote)?;
        Some(PeerConfig {
            name: remote.to_string(),
            address: remote,
            endpoint: (remote == home.agent).then(|| self.place_of(home)),
            keep_up: false,
        })
    }

    /// The way to a peer that is not listed with an endpoint; an error is one sentence.
    pub(super) fn way_to(&self, local: Ipv6Addr, peer: &PeerConfig) -> Result<Way, String> {
        if let Some(endpoint) = peer.endpoint {
            if endpoint.ip().is_unspecified() {
                return Err(format!(
                    "it is not known where {} is: its host name has no address now",
                    peer.address
                ));
            }
            return Ok(Way::Direct(endpoint));
        }
        let remote = peer.address;
        let Some(theirs) = self.config.home_of(remote) else {
            return Err(format!(
                "peer '{}' has no endpoint: it has to call us, or give it one in its [[peer]] entry",
                peer.name
            ));
        };
        if let Some(role) = self.role_for(local) {
            // We are the first home agent ourselves.
            if !role.prefix.contains(&remote) {
                return Ok(Way::Relayed(theirs.endpoint));
            }
            let bound = self.agent.as_ref().and_then(|agent| agent.lookup(remote));
            // The relayed form towards the home agent itself would bind its members to their care-of address: one that
            // moved could not tell the new one.
            let is_agent = local == role.address;
            return bound
                .map(|(_, care_of)| if is_agent { Way::Direct(care_of) } else { Way::Relayed(care_of) })
                .ok_or_else(|| format!("{remote} is not reachable: nobody is registered there"));
        }
        let Some(ours) = self.config.home_of(local) else {
            return Err(format!(
                "{local} has no home that relays to {remote}: list the peer with an endpoint, or join a home"
            ));
        };
        Ok(if self.is_registered(local) { Way::Relayed(ours.endpoint) } else { Way::NotYet })
    }

    /// The relayed path between two permanent addresses, as it is now.
    pub(super) fn relayed_path(
        &self,
        local: Ipv6Addr,
        remote: Ipv6Addr,
        route: RouteLookup<'_>,
    ) -> Option<UdpPath> {
        // A peer that is called straight (our home agent, or listed with an endpoint) may have called us this way.
        let peer = PeerConfig { endpoint: None, ..self.peer(remote)? };
        let hop = match self.way_to(local, &peer).ok()? {
            Way::Relayed(hop) => hop,
            Way::NotYet => self.config.home_of(local)?.endpoint,
            Way::Direct(_) => return None,
        };
        let local_v4 = SocketAddrV4::new(route(*hop.ip())?, self.config.port);
        Some(UdpPath { local: local_v4, remote: hop, relay: Some(Relay { local, remote }) })
    }

    /// Our home agent role, if this address belongs to its home.
    pub(super) fn role_for(&self, local: Ipv6Addr) -> Option<&HomeAgentConfig> {
        self.config.home_agent.as_ref().filter(|role| role.prefix.contains(&local))
    }
}
