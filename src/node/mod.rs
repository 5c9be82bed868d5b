//! The only composition of the cores: owns them, drains them, publishes tables to the data plane. Still sans-IO.
//!
//! Drain `poll_transmit`, `poll_inject`, `poll_tun`, `poll_event` after every input, then arm a timer for `poll_timeout`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Instant;

use crate::api::{IkeStatus, PeerStatus};
use crate::dataplane::event::Event as DataEvent;
use crate::dataplane::tables::{Outbound, Publisher};
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

/// A packet that waited for its SA: to be sealed and sent now.
pub struct Inject {
    /// How.
    pub outbound: Outbound,
    /// What.
    pub packet: Vec<u8>,
}

/// Something that the driver logs or that a waiting request is answered with.
#[derive(Clone, Debug)]
pub enum Event {
    /// Traffic with this peer can flow.
    PeerUp { local: Ipv6Addr, remote: Ipv6Addr },
    /// The last SA with this peer is gone.
    PeerDown { local: Ipv6Addr, remote: Ipv6Addr, reason: String },
    /// An attempt failed.
    PeerFailed { local: Ipv6Addr, remote: Ipv6Addr, error: String },
    /// A path changed.
    PathChanged { remote: Ipv6Addr, path: SocketAddrV4 },
    /// A line for the key log: IKE keys.
    IkeKeys {
        spi_i: u64,
        spi_r: u64,
        suite: crate::crypto::suite::IkeSuite,
        sk_ei: crate::crypto::secret::Secret,
        sk_er: crate::crypto::secret::Secret,
    },
    /// For the key log: one direction of a child SA.
    ChildKeys {
        source: Ipv4Addr,
        destination: Ipv4Addr,
        spi: u32,
        suite: crate::crypto::suite::EspSuite,
        key: crate::crypto::secret::Secret,
    },
}

/// A running node.
pub struct Node {}

/// Tells our source address for a destination, from the machine's routes.
pub type RouteLookup<'a> = &'a dyn Fn(Ipv4Addr) -> Option<Ipv4Addr>;

impl Node {
    /// A fresh node; publishes its policy at once.
    pub fn new(config: Config, publisher: Publisher, seed: [u8; 32], now: Instant) -> Self {
        let _ = (config, publisher, seed, now);
        todo!()
    }

    /// Replaces the configuration.
    pub fn set_config(&mut self, now: Instant, config: Config) {
        let _ = (now, config);
        todo!()
    }

    /// The data plane told something.
    pub fn handle_data_event(&mut self, now: Instant, event: DataEvent, route: RouteLookup<'_>) {
        let _ = (now, event, route);
        todo!()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant, route: RouteLookup<'_>) {
        let _ = (now, route);
        todo!()
    }

    /// IPv4 addresses or routes of the machine changed.
    pub fn handle_local_change(&mut self, now: Instant, route: RouteLookup<'_>) {
        let _ = (now, route);
        todo!()
    }

    /// Brings up an SA with this peer. `Ok(true)`: it is up already.
    pub fn connect(
        &mut self,
        now: Instant,
        remote: Ipv6Addr,
        route: RouteLookup<'_>,
    ) -> Result<bool, String> {
        let _ = (now, remote, route);
        todo!()
    }

    /// Closes every SA with this peer.
    pub fn disconnect(&mut self, now: Instant, remote: Ipv6Addr) {
        let _ = (now, remote);
        todo!()
    }

    /// Rekeys the child SAs with this peer (`child`), its IKE SA (`ike`), or authenticates anew (`reauth`).
    pub fn rekey(&mut self, now: Instant, remote: Ipv6Addr, what: &str) -> Result<(), String> {
        let _ = (now, remote, what);
        todo!()
    }

    /// Says goodbye to every peer.
    pub fn shutdown(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Peers and SAs for `status`.
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let _ = now;
        todo!()
    }

    /// Drops that the node itself counted, by reason.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        todo!()
    }

    /// The next IKE datagram to send.
    pub fn poll_transmit(&mut self) -> Option<ike::Transmit> {
        todo!()
    }

    /// The next packet to seal and send.
    pub fn poll_inject(&mut self) -> Option<Inject> {
        todo!()
    }

    /// The next packet for the TUN: ICMPv6 errors towards our own applications.
    pub fn poll_tun(&mut self) -> Option<Vec<u8>> {
        todo!()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// When `handle_timeout` wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        todo!()
    }
}

#[allow(dead_code, reason = "replaced with the implementation")]
fn _types(_: IkeStatus) {}
