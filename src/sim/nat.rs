//! NATs by their behaviour (RFC 4787).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// A mapping without outbound traffic is forgotten after this time.
const FORGET: Duration = Duration::from_secs(45);

/// What stands between a host and the Internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: the host has a public address.
    Public,
    /// Endpoint-independent mapping and filtering.
    Independent,
    /// Endpoint-independent mapping, address-dependent filtering.
    Address,
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    Port,
    /// Address- and port-dependent mapping and filtering.
    Symmetric,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Public, Self::Independent, Self::Address, Self::Port, Self::Symmetric];

    /// Whether hosts behind these two can reach each other at all without guessing ports.
    pub fn can_meet(self, other: Self) -> bool {
        let picky = |kind| matches!(kind, Self::Port | Self::Symmetric);
        !(self == Self::Symmetric && picky(other) || other == Self::Symmetric && picky(self))
    }
}

struct Mapping {
    inside: SocketAddrV4,
    /// Of a symmetric NAT: the only destination.
    towards: Option<SocketAddrV4>,
    port: u16,
    peers: BTreeSet<SocketAddrV4>,
    used: Instant,
}

/// One NAT.
pub struct Nat {
    /// Its behaviour.
    pub kind: Kind,
    /// Its public address.
    pub outside: Ipv4Addr,
    /// Packets from inside to the public address come back inside.
    pub hairpin: bool,
    next_port: u16,
    mappings: Vec<Mapping>,
}

impl Nat {
    /// A NAT without mappings.
    pub fn new(kind: Kind, outside: Ipv4Addr, hairpin: bool) -> Self {
        Self { kind, outside, hairpin, next_port: 20_000, mappings: Vec::new() }
    }

    /// It forgets its mappings; new ones get other ports.
    pub fn reboot(&mut self) {
        self.mappings.clear();
        self.next_port += 1000;
    }

    /// The outside source of a packet from `inside` to `destination`.
    pub fn outbound(
        &mut self,
        now: Instant,
        inside: SocketAddrV4,
        destination: SocketAddrV4,
    ) -> SocketAddrV4 {
        self.mappings.retain(|mapping| now < mapping.used + FORGET);
        let towards = (self.kind == Kind::Symmetric).then_some(destination);
        let known = self.mappings.iter().position(|m| m.inside == inside && m.towards == towards);
        let index = known.unwrap_or_else(|| {
            self.next_port += 1;
            let port = self.next_port;
            self.mappings.push(Mapping { inside, towards, port, peers: BTreeSet::new(), used: now });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[index];
        mapping.peers.insert(destination);
        mapping.used = now;
        SocketAddrV4::new(self.outside, mapping.port)
    }

    /// The inside destination of a packet from `source` to an outside port, if it may pass.
    pub fn inbound(&self, now: Instant, source: SocketAddrV4, port: u16) -> Option<SocketAddrV4> {
        let mapping = self.mappings.iter().find(|m| m.port == port && now < m.used + FORGET)?;
        let passes = match self.kind {
            Kind::Public | Kind::Independent => true,
            Kind::Address => mapping.peers.iter().any(|peer| peer.ip() == source.ip()),
            Kind::Port | Kind::Symmetric => mapping.peers.contains(&source),
        };
        passes.then_some(mapping.inside)
    }
}
