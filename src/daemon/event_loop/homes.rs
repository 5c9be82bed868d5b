//! Homes that move, in the loop: where they may be goes to the node, where they are comes from it.

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

    /// What an event means for the place of a home.
    pub(super) fn heed(&mut self, event: &Event) {
        let config = &self.desk.config;
        let (remote, up) = match event {
            Event::HomeMoved { .. } => return self.follow_places(),
            Event::PeerUp { local, remote } => {
                let agent = config.home_prefix.map(agent_of);
                if agent == Some(*local) && !self.holds_a_code(*remote) {
                    let now = Instant::now();
                    self.membership.tell_place(now, &mut self.node, &self.desk.config, Some(*remote));
                    self.send();
                }
                (*remote, true)
            }
            Event::PeerDown { remote, .. } | Event::PeerFailed { remote, .. } => (*remote, false),
            Event::PathChanged { .. }
            | Event::Document { .. }
            | Event::SequenceReserved { .. }
            | Event::Registered { .. }
            | Event::Observed { .. }
            | Event::RegistrationLost { .. }
            | Event::Route { .. }
            | Event::IkeKeys { .. }
            | Event::ChildKeys { .. } => return,
        };
        let silent = self.desk.config.roots.iter().map(|root| root.prefix());
        if !up && silent.into_iter().any(|home| agent_of(home) == remote) {
            self.places.hurry(Instant::now());
        }
    }
}
