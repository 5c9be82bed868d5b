//! What a node is told.

use std::net::{Ipv6Addr, SocketAddrV4};

use crate::ike;

/// What the node is told about a peer besides the PAD.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Name in the configuration.
    pub name: String,
    /// Permanent address.
    pub address: Ipv6Addr,
    /// Where its IKE answers: configured, from a `[[home]]` entry, or derived from the address.
    /// `None`: it can only call us.
    pub endpoint: Option<SocketAddrV4>,
    /// Bring it up at start and keep it up, instead of waiting for traffic.
    pub keep_up: bool,
}

/// Configuration of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// IKE's share: entities, PAD, SPD, suites, lifetimes.
    pub ike: ike::Config,
    /// Listed peers.
    pub peers: Vec<PeerConfig>,
    /// Our UDP port for IKE and ESP, usually 4500.
    pub port: u16,
    /// Largest inner packet.
    pub mtu: u16,
}
