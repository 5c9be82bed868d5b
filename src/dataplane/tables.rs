//! What the control plane publishes: a snapshot that workers load once per batch.

use std::net::Ipv6Addr;
use std::sync::Arc;

use super::event::UdpPath;
use crate::esp::{InboundSa, OutboundSa};
use crate::policy::spd::Spd;

/// How to reach one remote permanent address from one local one.
#[derive(Clone)]
pub struct Outbound {
    /// The SA that seals.
    pub sa: Arc<OutboundSa>,
    /// Where the datagram goes.
    pub path: UdpPath,
    /// Largest inner packet; a larger one is answered with Packet Too Big.
    pub mtu: u16,
}

/// The control plane's handle: every call publishes. Cheap enough to call per SA with 100,000 of them installed.
pub struct Publisher {}

impl Publisher {
    /// Installs an inbound SA under its SPI.
    pub fn install_inbound(&mut self, sa: Arc<InboundSa>) {
        let _ = sa;
        todo!()
    }

    /// Forgets an inbound SA.
    pub fn remove_inbound(&mut self, spi: u32) {
        let _ = spi;
        todo!()
    }

    /// Sends traffic between these two addresses this way from now on.
    pub fn set_outbound(&mut self, local: Ipv6Addr, remote: Ipv6Addr, outbound: Outbound) {
        let _ = (local, remote, outbound);
        todo!()
    }

    /// Traffic between these two addresses has no SA any more.
    pub fn remove_outbound(&mut self, local: Ipv6Addr, remote: Ipv6Addr) {
        let _ = (local, remote);
        todo!()
    }

    /// Replaces the policy and the set of local permanent addresses.
    pub fn set_policy(&mut self, spd: Spd, local: Vec<Ipv6Addr>) {
        let _ = (spd, local);
        todo!()
    }
}
