//! What `status` shows of peers and SAs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Instant;

use super::Node;
use super::child::Child;
use super::pair::{Attempt, PairKey};
use crate::api::{ChildStatus, IkeStatus, PeerStatus, SaStatus};
use crate::ike::{ChildId, IkeInfo};

impl Node {
    /// Configured peers in the order of the configuration, then whoever else has an SA.
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let ikes = self.ike.list(now);
        let listed = self.config.peers.iter().map(|peer| (peer.name.clone(), peer.address));
        let known: BTreeSet<Ipv6Addr> = self.config.peers.iter().map(|peer| peer.address).collect();
        let others: BTreeSet<Ipv6Addr> =
            self.pairs.keys().map(|(_, remote)| *remote).filter(|remote| !known.contains(remote)).collect();
        listed
            .chain(others.into_iter().map(|address| (address.to_string(), address)))
            .map(|(name, address)| self.peer_status(now, name, address, &ikes))
            .collect()
    }

    /// Drops that the node itself counted, by reason.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        self.drops.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
    }

    fn peer_status(&self, now: Instant, name: String, address: Ipv6Addr, ikes: &[IkeInfo]) -> PeerStatus {
        let pairs: Vec<_> = self.pairs.iter().filter(|((_, remote), _)| *remote == address).collect();
        let last_error = pairs.iter().find_map(|(_, pair)| match &pair.attempt {
            Attempt::Failed { error, .. } => Some(error.clone()),
            Attempt::Idle | Attempt::Running => None,
        });
        let state = if pairs.iter().any(|(_, pair)| pair.active.is_some()) {
            "established"
        } else if pairs.iter().any(|(_, pair)| pair.attempt == Attempt::Running) {
            "connecting"
        } else if last_error.is_some() {
            "failed"
        } else {
            "idle"
        };
        PeerStatus {
            name,
            address,
            state: state.to_owned(),
            last_error,
            ike: ikes.iter().filter(|ike| ike.remote == address).map(ike_status).collect(),
            children: self
                .children
                .iter()
                .filter(|(_, child)| child.pair.1 == address)
                .map(|(id, child)| self.child_status(now, *id, child))
                .collect(),
        }
    }

    fn child_status(&self, now: Instant, id: ChildId, child: &Child) -> ChildStatus {
        let (local, remote): PairKey = child.pair;
        let suite = child.inbound.params().suite;
        let active = self.pairs.get(&child.pair).and_then(|pair| pair.active) == Some(id);
        let direction = |destination, spi: u32, packets, bytes| SaStatus {
            destination,
            protocol: "esp".to_owned(),
            spi: format!("0x{spi:08x}"),
            packets,
            bytes,
        };
        ChildStatus {
            inbound: direction(
                local,
                child.inbound.params().spi,
                child.inbound.packets(),
                child.inbound.bytes(),
            ),
            outbound: direction(
                remote,
                child.outbound.params().spi,
                child.outbound.packets(),
                child.outbound.bytes(),
            ),
            suite: suite.name().to_owned(),
            services: if suite.is_confidential() { "confidentiality" } else { "integrity" }.to_owned(),
            esn: child.inbound.params().esn,
            state: if active { "active" } else { "draining" }.to_owned(),
            age: now.saturating_duration_since(child.installed).as_secs_f64(),
        }
    }
}

fn ike_status(info: &IkeInfo) -> IkeStatus {
    IkeStatus {
        spi_i: format!("{:016x}", info.spi_i),
        spi_r: format!("{:016x}", info.spi_r),
        initiator: info.initiator,
        local: info.local,
        suite: info.suite.name().to_owned(),
        path_local: info.path.local,
        path_remote: info.path.remote,
        path_kind: if info.path.relay.is_some() { "relayed" } else { "direct" }.to_owned(),
        nat_local: info.nat_local,
        nat_remote: info.nat_remote,
        mobike: info.mobike,
        peer_is_domicile: info.peer_is_domicile,
        rtt: info.rtt.map(|rtt| rtt.as_secs_f64()),
        age: info.age.as_secs_f64(),
        trusted_until: info.trust.map(|span| span.ends),
    }
}
