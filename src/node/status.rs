//! What `status` shows of peers, SAs, paths and registrations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Instant;

use ipnet::Ipv6Net;

use super::Node;
use super::child::Child;
use super::pair::{Attempt, Pair, PairKey};
use crate::api::mobility::{BindingDocument, HomeStatus, RegistrationStatus};
use crate::api::paths::{CandidateStatus, PathChange, PathsStatus};
use crate::api::{ChildStatus, IkeStatus, PeerStatus, SaStatus};
use crate::dataplane::event::UdpPath;
use crate::ike::{ChildId, IkeInfo};
use crate::mobility;
use crate::path::{Class, Path, PathStatus, Reason, State};

impl Node {
    /// Configured peers in the order of the configuration, then whoever else has an SA or wants one: `others` of them at
    /// most.
    pub fn peers(&self, now: Instant, others: usize) -> Vec<PeerStatus> {
        let listed: BTreeSet<Ipv6Addr> = self.config.peers.iter().map(|peer| peer.address).collect();
        let mut more = BTreeSet::new();
        for (_, remote) in self.pairs.keys() {
            if more.len() >= others {
                break;
            }
            if !listed.contains(remote) {
                more.insert(*remote);
            }
        }
        let listed = self.config.peers.iter().map(|peer| peer.address);
        listed.chain(more).map(|address| self.peer_status(now, address)).collect()
    }

    /// How many pairs of one of our entities and a peer there are.
    pub fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    /// One peer, whoever it is.
    pub fn peer_status(&self, now: Instant, address: Ipv6Addr) -> PeerStatus {
        let listed = self.config.peers.iter().find(|peer| peer.address == address);
        let locals = self.config.ike.entities.iter().map(|entity| entity.address);
        let pairs: Vec<(PairKey, &Pair)> =
            locals.filter_map(|local| Some(((local, address), self.pairs.get(&(local, address))?))).collect();
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
        let children = pairs.iter().flat_map(|(_, pair)| &pair.installed);
        PeerStatus {
            name: listed.map_or_else(|| address.to_string(), |peer| peer.name.clone()),
            address,
            state: state.to_owned(),
            last_error,
            ike: pairs
                .iter()
                .flat_map(|(key, _)| self.ike.list_between(now, *key))
                .map(|ike| ike_status(&ike))
                .collect(),
            children: children
                .filter_map(|id| Some(self.child_status(now, *id, self.children.get(id)?)))
                .collect(),
            paths: pairs.iter().filter_map(|(key, pair)| self.paths_status(now, *key, pair)).collect(),
        }
    }

    /// Drops that the node itself counted, by reason.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        self.drops.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
    }

    /// Where we are registered.
    pub fn registrations(&self, now: Instant) -> Vec<RegistrationStatus> {
        self.mobility.status().map(|status| self.registration_status(now, status)).collect()
    }

    /// What there is to say of our own home, in numbers.
    pub fn home_status(&self) -> Option<HomeStatus> {
        let (role, agent) = (self.config.home_agent.as_ref()?, self.agent.as_ref()?);
        let mobility::Totals { reachable, prefixes, tentative } = agent.totals();
        let [bindings, prefixes, tentative] = [reachable, prefixes, tentative].map(|count| count as u64);
        Some(HomeStatus {
            prefix: role.prefix.to_string(),
            address: role.address,
            bindings,
            prefixes,
            tentative,
        })
    }

    /// Bindings of our own home inside a prefix (everything without one), `limit` of them at most.
    pub fn bindings(&self, now: Instant, within: Option<Ipv6Net>, limit: usize) -> Vec<BindingDocument> {
        let within = within.unwrap_or_default();
        let rows = self.agent.iter().flat_map(|agent| agent.bindings_within(now, within));
        rows.take(limit)
            .map(|row| BindingDocument {
                prefix: row.prefix.to_string(),
                home_address: row.sender,
                care_of: row.care_of,
                tentative: row.tentative,
                behind_nat: row.behind_nat,
                remaining: row.remaining.as_secs_f64(),
                sequence: row.sequence,
            })
            .collect()
    }

    fn registration_status(&self, now: Instant, status: mobility::RegistrationStatus) -> RegistrationStatus {
        let pair = self.pairs.get(&(status.home_address, status.home_agent));
        let up = pair.is_some_and(|pair| pair.active.is_some());
        let failed = pair.and_then(|pair| match &pair.attempt {
            Attempt::Failed { error, .. } => Some(error.clone()),
            Attempt::Idle | Attempt::Running => None,
        });
        let refused = status.refused.map(super::registration::describe);
        let state = if refused.is_some() {
            "refused"
        } else if !up {
            "unreachable"
        } else if status.registered {
            "registered"
        } else {
            "registering"
        };
        let left = |at: Instant| at.saturating_duration_since(now).as_secs_f64();
        RegistrationStatus {
            home_address: status.home_address,
            prefixes: status.prefixes.iter().map(ToString::to_string).collect(),
            home_agent: status.home_agent,
            endpoint: self.config.home_of(status.home_address).map(|home| home.endpoint),
            state: state.to_owned(),
            care_of: status.observed,
            behind_nat: status.behind_nat,
            expires: status.expires.map(left),
            refresh: status.next.map(|(at, _)| left(at)),
            last_error: refused.or_else(|| failed.filter(|_| !up)),
        }
    }

    /// Why the first packets of a pair go the way they go.
    pub(super) fn first_reason(&self, remote: Ipv6Addr, path: UdpPath) -> &'static str {
        if path.relay.is_some() {
            return Reason::Start.as_str();
        }
        if self.peer(remote).and_then(|peer| peer.endpoint) != Some(path.remote) {
            return "it called from there";
        }
        match self.config.home_of(remote) {
            Some(home) if home.agent == remote => "a home agent is asked where it lives",
            Some(_) | None => "its endpoint is configured",
        }
    }

    fn paths_status(&self, now: Instant, key: PairKey, pair: &Pair) -> Option<PathsStatus> {
        let agent = self.paths.get(&key).map(|paths| &paths.agent);
        let path = self.active_child(key)?.path;
        let ago = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
        let last = pair.history.last();
        let (mtu, proven_mtu, mtu_state) = self.width_status(key);
        let direct: Vec<PathStatus> = agent.map(|agent| agent.paths().collect()).unwrap_or_default();
        Some(PathsStatus {
            local: key.0,
            kind: path_kind(path),
            remote: path.remote,
            reason: last.map_or_else(String::new, |change| change.reason.to_owned()),
            age: last.map_or(0.0, |change| ago(change.at)),
            mtu,
            mtu_state: mtu_state.to_owned(),
            proven_mtu,
            rtt: direct
                .iter()
                .find(|path| path.in_use)
                .and_then(|path| path.rtt)
                .map(|rtt| rtt.as_secs_f64()),
            history: pair
                .history
                .iter()
                .map(|change| PathChange {
                    age: ago(change.at),
                    kind: path_kind(change.path),
                    remote: change.path.remote,
                    reason: change.reason.to_owned(),
                })
                .collect(),
            candidates: direct.iter().filter_map(candidate_status).collect(),
            offered: agent
                .map(|agent| agent.offered().iter().map(|candidate| candidate.address).collect())
                .unwrap_or_default(),
        })
    }

    fn child_status(&self, now: Instant, id: ChildId, child: &Child) -> ChildStatus {
        let (local, remote): PairKey = child.pair;
        let suite = child.inbound.params().suite;
        let state = match self.pairs.get(&child.pair) {
            Some(pair) if pair.active == Some(id) => "active",
            Some(pair) if pair.additional.contains(&id) => "additional",
            Some(_) | None => "draining",
        };
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
            state: state.to_owned(),
            age: now.saturating_duration_since(child.installed).as_secs_f64(),
        }
    }
}

fn path_kind(path: UdpPath) -> String {
    if path.relay.is_some() { "relayed" } else { "direct" }.to_owned()
}

fn candidate_status(status: &PathStatus) -> Option<CandidateStatus> {
    let Path::Direct { remote, .. } = status.path else { return None };
    let kind = match status.class {
        Class::Lan => "lan",
        Class::Public => "public",
        Class::Learned => "learned",
    };
    let state = match status.state {
        State::Opening => "opening",
        State::Proving => "proving",
        State::Usable => "usable",
        State::Silent => "silent",
        State::Narrow => "narrow",
    };
    Some(CandidateStatus {
        address: remote,
        kind: kind.to_owned(),
        state: state.to_owned(),
        in_use: status.in_use,
        rtt: status.rtt.map(|rtt| rtt.as_secs_f64()),
        seen_as: status.seen_as,
    })
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
        path_kind: path_kind(info.path),
        nat_local: info.nat_local,
        nat_remote: info.nat_remote,
        mobike: info.mobike,
        peer_is_domicile: info.peer_is_domicile,
        rtt: info.rtt.map(|rtt| rtt.as_secs_f64()),
        age: info.age.as_secs_f64(),
        trusted_until: info.trust.map(|span| span.ends),
    }
}
