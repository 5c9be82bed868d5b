//! The home agent's side of mobility: bindings, and what they mean for the data plane and the store.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Instant;

use ipnet::Ipv6Net;

use super::child::Child;
use super::{Event, HomeConfig, Node};
use crate::dataplane::event::UdpPath;
use crate::mobility::{Agent, AgentConfig, AgentEvent, CareOfPolicy, Change, Policy, Received, Row};
use crate::wire::ip::NEXT_HEADER_IPV6;

/// Who may bind what, as the registry says.
pub trait Authority: Send + Sync {
    /// May this entity bind this prefix?
    fn may_bind(&self, sender: Ipv6Addr, prefix: Ipv6Net) -> bool;
}

struct Judge<'a> {
    authority: Option<&'a dyn Authority>,
    care_of: &'a CareOfPolicy,
    /// The machine's addresses as of now.
    interfaces: &'a [Ipv4Addr],
    /// Homes, also those that moved.
    homes: &'a [HomeConfig],
}

impl Policy for Judge<'_> {
    fn may_bind(&self, sender: Ipv6Addr, prefix: Ipv6Net) -> bool {
        self.authority.is_some_and(|authority| authority.may_bind(sender, prefix))
    }

    fn allows(&self, care_of: SocketAddrV4) -> bool {
        let is_home = |home: &HomeConfig| home.places.iter().any(|place| place.ip() == care_of.ip());
        self.care_of.allows(care_of)
            && !self.interfaces.contains(care_of.ip())
            && !self.homes.iter().any(is_home)
    }
}

impl Node {
    /// Becomes a home agent, with the bindings of an earlier run. Gives what the data plane is to be filled with.
    pub fn serve_home(
        &mut self,
        now: Instant,
        authority: std::sync::Arc<dyn Authority>,
        seed: [u8; 32],
        rows: impl IntoIterator<Item = Row>,
    ) -> Vec<(Ipv6Net, SocketAddrV4)> {
        let Some(role) = &self.config.home_agent else { return Vec::new() };
        let mut agent = Agent::new(AgentConfig::new(role.address), seed, now);
        agent.restore(now, rows);
        let routes = agent.routes().collect();
        self.agent = Some(agent);
        self.authority = Some(authority);
        routes
    }

    /// Forgets everything that this entity bound: it was removed or revoked. Its SAs with us end.
    pub fn cut_off(&mut self, now: Instant, entity: Ipv6Addr) {
        if let Some(agent) = &mut self.agent {
            agent.remove(now, entity);
            agent.remove_prefix(now, Ipv6Net::from(entity));
        }
        for ike in self.ikes_with(entity) {
            self.ike.cut(now, ike);
        }
        self.drain(now);
        self.drain_agent(now);
    }

    /// Forgets the binding of one prefix.
    pub fn unbind(&mut self, now: Instant, prefix: Ipv6Net) {
        if let Some(agent) = &mut self.agent {
            agent.remove_prefix(now, prefix);
        }
        self.drain_agent(now);
    }

    /// The next batch of bindings for the store; call it until it is empty. `all`: the program ends.
    pub fn take_binding_changes(&mut self, now: Instant, all: bool) -> Vec<Change> {
        self.agent.as_mut().map(|agent| agent.take_changes(now, all)).unwrap_or_default()
    }

    /// A Mobility Header came out of the SA with an entity of ours.
    pub(super) fn handle_binding_message(&mut self, now: Instant, child: &ChildOf, packet: &[u8]) {
        let (Some(agent), Some(role)) = (&mut self.agent, &self.config.home_agent) else { return };
        let received = Received {
            sender: child.remote,
            from: child.from.remote,
            // IKE follows a peer only to where it answered (COOKIE2), or where it was authenticated.
            proven: child.proven,
            octets: child.octets,
            packet,
        };
        let judge = Judge {
            authority: self.authority.as_deref(),
            care_of: &role.care_of,
            interfaces: &self.interfaces,
            homes: &self.config.homes,
        };
        if let Err(ignored) = agent.handle_packet(now, &received, &judge) {
            tracing::debug!(from = %child.remote, %ignored, "mobility message ignored");
            self.count("mobility_ignored");
        }
        self.drain_agent(now);
    }

    /// Acts on everything that the home agent has to say.
    pub(super) fn drain_agent(&mut self, now: Instant) {
        let mut moved = Vec::new();
        while let Some(event) = self.agent.as_mut().and_then(Agent::poll_event) {
            match event {
                AgentEvent::Route { prefix, care_of } => {
                    self.events.push_back(Event::Route { prefix, care_of: Some(care_of) });
                    moved.push((prefix, care_of));
                }
                AgentEvent::Unroute { prefix } => {
                    self.events.push_back(Event::Route { prefix, care_of: None });
                }
                AgentEvent::Moved { sender, care_of } => {
                    tracing::debug!(%sender, %care_of, "is reached elsewhere now");
                }
                AgentEvent::Refused { sender, from, status } => {
                    tracing::info!(%sender, %from, %status, "a binding was refused");
                }
            }
        }
        while let Some(transmit) = self.agent.as_mut().and_then(Agent::poll_transmit) {
            let Some(role) = &self.config.home_agent else { continue };
            let key = (role.address, transmit.home_address);
            let way = |path: UdpPath| UdpPath::direct(path.local, transmit.care_of);
            self.send_own(key, way, NEXT_HEADER_IPV6, transmit.packet);
        }
        for (prefix, care_of) in moved {
            self.binding_moved(now, prefix, care_of);
        }
    }

    /// Entities of our own talk to whoever is bound here straight at the care-of address.
    fn binding_moved(&mut self, now: Instant, prefix: Ipv6Net, care_of: SocketAddrV4) {
        let keys: Vec<_> = self
            .paths
            .keys()
            .filter(|(local, remote)| prefix.contains(remote) && self.role_for(*local).is_some())
            .copied()
            .collect();
        for key in keys {
            self.relay_moved(now, key, care_of);
        }
    }
}

/// Where a control message came from.
pub(super) struct ChildOf {
    pub(super) local: Ipv6Addr,
    pub(super) remote: Ipv6Addr,
    /// How it came.
    pub(super) from: UdpPath,
    /// IKE knows the peer to be there.
    pub(super) proven: bool,
    /// UDP payload octets.
    pub(super) octets: usize,
}

impl ChildOf {
    pub(super) fn new(child: &Child, from: UdpPath, inner: usize) -> Self {
        let (local, remote) = child.pair;
        let octets = from.overhead() + child.outbound.sealed_len(inner);
        Self { local, remote, from, proven: child.path.remote == from.remote, octets }
    }
}
