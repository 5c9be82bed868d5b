//! What `status` tells of direct paths.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::Path;
use super::selection::Class;

/// How far a direct path has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Small challenges are under way.
    Opening,
    /// Answered; a full-size challenge is under way, or one of the least size.
    Proving,
    /// Packets pass: of full size or, where [`pmtu`](super::pmtu) finds less, at least of 1,280 octets.
    Usable,
    /// No answer to small challenges.
    Silent,
    /// No answer to challenges of 1,280 octets.
    Narrow,
}

/// One direct path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// Always [`Path::Direct`].
    pub path: Path,
    /// The kind of its address.
    pub class: Class,
    /// How far it has come.
    pub state: State,
    /// It carries the data.
    pub in_use: bool,
    /// Smoothed round-trip time, once measured.
    pub rtt: Option<Duration>,
    /// Our own address as the peer sees it on this path: behind a NAT, the mapping.
    pub seen_as: Option<SocketAddrV4>,
}
