//! Homes that move, in the loop: where they may be goes to the node, where they are comes from it.

use std::net::Ipv6Addr;
use std::time::Instant;

use super::super::config::Config;
use super::super::system::unix;
use super::Daemon;
use crate::addr::plan::agent_of;
use crate::dataplane::relay::Roles;
use crate::node::{Event, HomeConfig};

/// What this process is to relayed packets.
pub(super) fn roles(config: &Config, homes: &[HomeConfig]) -> Roles {
    let mut known = config.homes.clone();
    for home in homes.iter().filter(|home| Some(home.prefix) != config.home_prefix) {
        known.set(home.prefix, home.endpoint);
    }
    Roles {
        local: config.entities.iter().map(|entity| entity.address).collect(),
        home: config.home_prefix,
        homes: known,
    }
}

impl Daemon {
    /// The node is told where homes may be, if that is something new.
    pub(super) fn follow_homes(&mut self) {
        let now = Instant::now();
        if let Some(homes) = self.places.changed(now, unix(), &self.desk.config) {
            self.node.set_homes(now, homes);
            self.follow_places();
        }
    }

    /// Relayed packets go to where homes are, and come from there.
    pub(super) fn follow_places(&mut self) {
        self.relay.set_roles(roles(&self.desk.config, self.node.homes()));
    }

    /// What an event means for homes and their members.
    pub(super) fn heed(&mut self, event: &Event) {
        match event {
            Event::HomeMoved { .. } => self.follow_places(),
            Event::PeerUp { local, remote } => self.welcome(*local, *remote),
            Event::PeerDown { remote, .. } | Event::PeerFailed { remote, .. } => {
                if self.desk.config.root_of_agent(*remote).is_some() {
                    self.places.hurry(Instant::now());
                }
            }
            Event::PathChanged { .. }
            | Event::MtuChanged { .. }
            | Event::Document { .. }
            | Event::SequenceReserved { .. }
            | Event::Registered { .. }
            | Event::Observed { .. }
            | Event::RegistrationLost { .. }
            | Event::Route { .. }
            | Event::IkeKeys { .. }
            | Event::ChildKeys { .. } => {}
        }
    }

    /// Our home is asked what it put on us; whoever comes to our home agent is told what has changed meanwhile.
    fn welcome(&mut self, local: Ipv6Addr, remote: Ipv6Addr) {
        let (now, config) = (Instant::now(), &self.desk.config);
        let is_home = config.root_of_agent(remote).is_some_and(|root| root.prefix().contains(&local));
        if is_home && config.own_entity(local).is_some() {
            self.membership.list(now, &mut self.node, config, local);
        }
        self.membership.greet(now, unix(), &mut self.node, config, (local, remote));
        if config.home_prefix.map(agent_of) == Some(local) && !self.holds_a_code(remote) {
            self.membership.tell_place(now, &mut self.node, &self.desk.config, Some(remote));
        }
        self.send();
    }
}
