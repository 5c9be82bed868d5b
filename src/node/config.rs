//! What a node is told.

use std::net::{Ipv6Addr, SocketAddrV4};

use ipnet::Ipv6Net;

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

/// A home that is trusted: whoever has its certificate may be called, by way of its home agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeConfig {
    /// Its prefix.
    pub prefix: Ipv6Net,
    /// The home agent's permanent address.
    pub agent: Ipv6Addr,
    /// Where the home agent answers now; the node moves it.
    pub endpoint: SocketAddrV4,
    /// Where it may answer, the preferred place first; none while the host name that the configuration has for it has
    /// no address.
    pub places: Vec<SocketAddrV4>,
}

/// What of ours is bound at a home agent, by one sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The entity that has the SA with the home agent: a user's device, or the node.
    pub sender: Ipv6Addr,
    /// What else it binds: a node's /64, services that moved here.
    pub prefixes: Vec<Ipv6Net>,
    /// The last sequence number that was persisted.
    pub sequence: Option<u16>,
}

impl Registration {
    /// Is this address of ours reached by way of it?
    pub fn covers(&self, address: Ipv6Addr) -> bool {
        self.sender == address || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}

/// This node is the home agent of a home.
#[derive(Clone, Debug)]
pub struct HomeAgentConfig {
    /// Its prefix.
    pub prefix: Ipv6Net,
    /// Our permanent address in it: `home prefix::1`.
    pub address: Ipv6Addr,
    /// Which care-of addresses are acceptable.
    pub care_of: crate::mobility::CareOfPolicy,
}

/// Configuration of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// IKE's share: entities, PAD, SPD, suites, lifetimes.
    pub ike: ike::Config,
    /// Listed peers.
    pub peers: Vec<PeerConfig>,
    /// Trusted homes.
    pub homes: Vec<HomeConfig>,
    /// What is bound where.
    pub registrations: Vec<Registration>,
    /// This node is a home agent, too.
    pub home_agent: Option<HomeAgentConfig>,
    /// Our UDP port for IKE and ESP, usually 4500.
    pub port: u16,
    /// Largest inner packet.
    pub mtu: u16,
    /// Queues of the data plane: a pair that sends much gets an SA for each of them (RFC 9611), up to eight. With one
    /// nobody is asked.
    pub queues: usize,
    /// Inner octets that a pair sends in a second before it gets one more, usually [`BULK`].
    pub bulk: u64,
}

/// Half a gigabit a second, a fraction of what one core seals: below that another SA would only cost a handshake.
pub const BULK: u64 = 64 << 20;

impl Config {
    /// The trusted home that an address belongs to.
    pub fn home_of(&self, address: Ipv6Addr) -> Option<&HomeConfig> {
        self.homes.iter().find(|home| home.prefix.contains(&address))
    }
}
