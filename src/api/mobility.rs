//! Where members are registered, and what a home knows of them.

use std::net::{Ipv6Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

/// A member's registration with its home.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct RegistrationStatus {
    /// The entity of ours that registers.
    pub home_address: Ipv6Addr,
    /// What else it binds, as prefixes.
    pub prefixes: Vec<String>,
    /// The home agent's permanent address.
    pub home_agent: Ipv6Addr,
    /// Where the home agent is asked.
    pub endpoint: Option<SocketAddrV4>,
    /// `registered`, `registering`, `refused`, or `unreachable` (there is no SA with the home agent).
    pub state: String,
    /// Where the home agent sees us.
    pub care_of: Option<SocketAddrV4>,
    /// There is a NAT between us and the home agent.
    pub behind_nat: bool,
    /// Seconds until the home agent forgets us, unless it is told again.
    pub expires: Option<f64>,
    /// Seconds until it is told again.
    pub refresh: Option<f64>,
    /// What went wrong last, in one sentence; `null` once all is well.
    pub last_error: Option<String>,
}

/// What a home agent has: numbers alone, however many bindings there are.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct HomeStatus {
    /// The home's /48.
    pub prefix: String,
    /// The home agent's permanent address.
    pub address: Ipv6Addr,
    /// Entities that can be reached.
    pub bindings: u64,
    /// Prefixes that they bound besides their own addresses.
    pub prefixes: u64,
    /// Care-of addresses that are not proven yet.
    pub tentative: u64,
}

/// A binding of a home: a list of these is the reply to the verb `bindings`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct BindingDocument {
    /// What is bound.
    pub prefix: String,
    /// The entity that bound it.
    pub home_address: Ipv6Addr,
    /// Where it is, proven; `null` while no address of it ever was.
    pub care_of: Option<SocketAddrV4>,
    /// Where it says that it is, which is not proven yet.
    pub tentative: Option<SocketAddrV4>,
    /// There is a NAT in front of it; `null`: not known (since a restart of the home, until the next update).
    pub behind_nat: Option<bool>,
    /// Seconds until it ends unless it is told again.
    pub remaining: f64,
    /// Sequence number of the last update.
    pub sequence: u16,
}
