//! Why the daemon did not start or ended.

use std::io;
use std::path::PathBuf;

use super::config::Problems;
use super::home::HomeError;
use super::system::NoRandomness;
use crate::io::firewall::FirewallError;
use crate::io::netlink::NetlinkError;
use crate::io::tun::OpenError;
use crate::io::udp::BindError;
use crate::pki::TrustError;

/// One sentence each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has problems.
    #[error(transparent)]
    Config(#[from] Problems),
    /// We may not do what we have to.
    #[error(
        "domicile needs CAP_NET_ADMIN to make its TUN device and routes: run it as root, or give it that capability"
    )]
    Permission,
    /// Another daemon answers on the control socket.
    #[error("a domicile is running already (its control socket is {}): 'domicile down' ends it", .0.display())]
    Running(PathBuf),
    /// A file or socket of ours.
    #[error("{}: {what}: {error}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// The home that this machine is.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A UDP port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The TUN device.
    #[error(transparent)]
    Tun(#[from] OpenError),
    /// Addresses, routes, rules.
    #[error("the machine's network cannot be set up: {0}")]
    Netlink(#[from] NetlinkError),
    /// The table that holds users apart cannot be removed.
    #[error("a table of packet filters is left ('nft delete table ip6 domicile' removes it): {0}")]
    Firewall(FirewallError),
    /// Users cannot be held apart.
    #[error("an [[entity]] with uid or user needs what this machine cannot do: {0}")]
    Owners(String),
    /// A worker ended by itself.
    #[error("the data plane stopped ({worker}): {reason}")]
    Worker {
        /// Which one.
        worker: &'static str,
        /// Why.
        reason: String,
    },
    /// Roots or certificates that do not fit what is known.
    #[error("the daemon cannot start: {0}")]
    Trust(#[from] TrustError),
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The system has no room.
    #[error("the daemon cannot start: {0}")]
    System(#[from] io::Error),
}

impl Error {
    /// Exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(problems) if !problems.denied => 3,
            Self::Config(_)
            | Self::Permission
            | Self::Tun(OpenError::Permission)
            | Self::Bind(BindError::Permission { .. }) => 4,
            Self::Running(_) | Self::Bind(BindError::InUse { .. }) | Self::Tun(OpenError::InUse(_)) => 6,
            Self::Path { .. }
            | Self::Home(_)
            | Self::Bind(_)
            | Self::Tun(_)
            | Self::Netlink(_)
            | Self::Firewall(_)
            | Self::Owners(_)
            | Self::Trust(_)
            | Self::Worker { .. }
            | Self::Random(_)
            | Self::System(_) => 1,
        }
    }
}
