//! A child SA as the node keeps it: both halves, and what was last read from their counters.

use std::sync::Arc;
use std::time::Instant;

use super::pair::PairKey;
use crate::dataplane::event::UdpPath;
use crate::dataplane::tables::Outbound;
use crate::esp::{InboundSa, OutboundSa};
use crate::ike::IkeId;

/// One installed child SA pair.
pub(super) struct Child {
    pub(super) ike: IkeId,
    pub(super) pair: PairKey,
    pub(super) inbound: Arc<InboundSa>,
    pub(super) outbound: Arc<OutboundSa>,
    pub(super) path: UdpPath,
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
    /// The entry that the data plane gets while we send on this child.
    pub(super) fn outbound_entry(&self, mtu: u16) -> Outbound {
        Outbound::new(Arc::clone(&self.outbound), self.path, mtu)
    }
}
