//! Why data changes its path.

use std::fmt;

/// Why the data changed its path. Shown by `status` as it is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Relayed: every conversation starts so.
    Start,
    /// From the relay to a direct path.
    Proven,
    /// From a direct path to a local one.
    Lan,
    /// From an address where the peer's packets came from to one that the peer named.
    Named,
    /// To a direct path with a shorter round-trip time.
    Faster,
    /// The direct path died.
    Unanswered,
    /// Packets of 1,280 octets no longer pass.
    Narrow,
    /// The peer no longer names the address.
    Withdrawn,
    /// Our own addresses changed.
    LocalMoved,
    /// The peer's addresses changed.
    PeerMoved,
    /// Nothing was sent for two minutes.
    Idle,
}

impl Reason {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "conversations start relayed",
            Self::Proven => "a direct path was proven",
            Self::Lan => "a path in the local network was proven",
            Self::Named => "an address that the peer names was proven",
            Self::Faster => "another direct path is faster",
            Self::Unanswered => "the direct path stopped answering",
            Self::Narrow => "packets of 1280 octets no longer pass on the direct path",
            Self::Withdrawn => "the peer withdrew the address",
            Self::LocalMoved => "this machine moved",
            Self::PeerMoved => "the peer moved",
            Self::Idle => "the direct path was idle",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
