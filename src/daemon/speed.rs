//! What makes the data plane as fast as it is here and now, as `status` tells it.

use super::awake::Watch;
use crate::api::DataPlaneStatus;
use crate::dataplane::offload::{Accepts, Feature, Features};
use crate::io::udp::Udp;

/// What the workers were given.
pub(super) struct Speed {
    pub(super) features: Features,
    /// What the TUN device takes.
    pub(super) accepts: Accepts,
    /// One for each queue.
    pub(super) sockets: Vec<Udp>,
    /// What keeps the CPUs awake, where that helps.
    pub(super) awake: Option<Watch>,
}

impl Speed {
    /// Queues, each with workers of its own.
    pub(super) fn queues(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn status(&self) -> DataPlaneStatus {
        let named = |used: bool| {
            let features = Feature::ALL.into_iter().filter(move |feature| self.uses(*feature) == Some(used));
            features.map(|feature| feature.to_string()).collect()
        };
        DataPlaneStatus {
            queues: self.queues(),
            offloads: named(true),
            missing: named(false),
            idle_polling: self.awake.as_ref().and_then(Watch::is_awake),
        }
    }

    /// Whether an offload is in use; `None`: it is something else.
    fn uses(&self, feature: Feature) -> Option<bool> {
        match feature {
            Feature::TunOffload => Some(self.accepts.tcp),
            Feature::Coalesce => Some(self.features.coalesce && self.accepts.tcp),
            Feature::UdpGso => Some(self.sockets.iter().all(Udp::segments)),
            Feature::UdpGro => Some(self.sockets.iter().all(Udp::joins)),
            Feature::IdlePolling => None,
        }
    }
}
