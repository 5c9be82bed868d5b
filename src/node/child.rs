//! A child SA as the node keeps it: both halves, and what was last read from their counters.

use std::sync::Arc;
use std::time::Instant;

use super::pair::PairKey;
use crate::dataplane::event::UdpPath;
use crate::dataplane::tables::Outbound;
use crate::esp::{InboundSa, OutboundSa};
use crate::ike::{ChildId, IkeId};

/// One installed child SA pair.
pub(super) struct Child {
    pub(super) ike: IkeId,
    pub(super) pair: PairKey,
    pub(super) inbound: Arc<InboundSa>,
    pub(super) outbound: Arc<OutboundSa>,
    pub(super) path: UdpPath,
    /// It stands beside the one that the pair is sent on, for another queue (RFC 9611).
    pub(super) additional: bool,
    /// Whose place it takes.
    pub(super) replaces: Option<ChildId>,
    pub(super) installed: Instant,
    /// Packets received when the counters were last read.
    pub(super) seen_in: u64,
    /// Its pair is kept up: the peer is asked whether it lives even when nobody talks.
    pub(super) kept_up: bool,
    /// Packets sent when the counters were last read.
    pub(super) seen_out: u64,
    /// Octets sent when the counters were last read.
    pub(super) seen_octets: u64,
}

impl Child {
    /// What seals a packet of our own; the data plane's entry is [`super::Node::entry`].
    pub(super) fn outbound_entry(&self, mtu: u16) -> Outbound {
        Outbound::new(Arc::clone(&self.outbound), self.path, mtu)
    }
}
