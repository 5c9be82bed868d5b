//! What authenticated peers say to our control plane inside their child SAs.

use std::time::Instant;

use super::Node;
use super::home_agent::ChildOf;
use crate::dataplane::event::{Control, UdpPath};
use crate::wire::{mobility, path};

impl Node {
    /// A message out of a child SA; whose it is, its SPI tells.
    pub(super) fn control(&mut self, now: Instant, spi: u32, from: UdpPath, what: &Control) {
        let Some(child) = self.by_spi.get(&spi).and_then(|id| self.children.get(id)) else { return };
        let key = child.pair;
        let (to, by) = key;
        match what {
            Control::Path(body) => {
                tracing::trace!(%by, %to, from = %from.remote, message = ?path::Message::parse(body), "path control says");
                self.handle_path_message(now, key, from, body);
            }
            Control::Echo(packet) => {
                self.handle_echo(now, key, packet);
            }
            Control::Mobility(packet) => {
                tracing::trace!(%by, %to, from = %from.remote, message = ?mobility::parse(packet).map(|inner| inner.message), "mobility says");
                let of = ChildOf::new(child, from, packet.len());
                if self.config.home_agent.as_ref().is_some_and(|role| role.address == of.local) {
                    self.handle_binding_message(now, &of, packet);
                    return;
                }
                if let Err(ignored) = self.mobility.handle_packet(now, packet) {
                    tracing::debug!(from = %of.remote, %ignored, "mobility message ignored");
                    self.count("mobility_ignored");
                }
                self.drain_mobility(now);
            }
        }
    }

    /// Authentic ESP came from another address than the one we send to.
    pub(super) fn new_source(&mut self, now: Instant, spi: u32, from: UdpPath) {
        let key = self.by_spi.get(&spi).and_then(|id| self.children.get(id)).map(|child| child.pair);
        if !key.is_some_and(|key| self.path_seen(now, key, from)) {
            self.ike.handle_new_source(now, spi, from);
        }
    }
}
