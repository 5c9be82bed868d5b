//! Which way the packets of a conversation go, why, and how they went before.

use std::net::{Ipv6Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

/// The path between one of our entities and a peer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct PathsStatus {
    /// Our permanent address.
    pub local: Ipv6Addr,
    /// `direct` or `relayed`.
    pub kind: String,
    /// Where datagrams go: the peer's own UDP address, or that of the first home agent.
    pub remote: SocketAddrV4,
    /// Why this one.
    pub reason: String,
    /// For how many seconds.
    pub age: f64,
    /// Octets of the largest inner packet; larger ones are answered with Packet Too Big.
    pub mtu: u16,
    /// `proven`, `searching`, `narrow` (packets of 1,280 octets, the least that IPv6 may be told, do not pass) or
    /// `configured` (the peer is not one of us, and sends no echo back).
    pub mtu_state: String,
    /// Inner packets of `mtu` octets were shown to pass; `null`: not yet, or nobody can.
    pub proven_mtu: Option<u16>,
    /// Its round-trip time in seconds, where path control measures it.
    pub rtt: Option<f64>,
    /// The last changes, the oldest first; the last one is the path in use.
    pub history: Vec<PathChange>,
    /// Addresses of the peer that path control knows; empty where it has nothing to decide.
    pub candidates: Vec<CandidateStatus>,
    /// Our own addresses that the peer was told.
    pub offered: Vec<SocketAddrV4>,
}

/// One change of path.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct PathChange {
    /// How many seconds ago.
    pub age: f64,
    /// `direct` or `relayed`, from then on.
    pub kind: String,
    /// Where datagrams went from then on.
    pub remote: SocketAddrV4,
    /// Why.
    pub reason: String,
}

/// An address at which the peer may be reached directly.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct CandidateStatus {
    /// The address.
    pub address: SocketAddrV4,
    /// `lan`, `public` or `learned` (the peer's packets came from there, and it did not name it).
    pub kind: String,
    /// `opening` (asked), `proving` (it answered; do large packets pass?), `usable`, `silent` or `narrow`.
    pub state: String,
    /// It carries the data.
    pub in_use: bool,
    /// Round-trip time in seconds.
    pub rtt: Option<f64>,
    /// Our own address as the peer sees it there: behind a NAT, the mapping.
    pub seen_as: Option<SocketAddrV4>,
}
