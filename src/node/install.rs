//! What IKE agreed on becomes tables of the data plane.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rand_core::Rng;

use super::child::Child;
use super::pair::{Attempt, Pair, PairKey};
use super::widths::Asking;
use super::{Event, Inject, Node, TICK};
use crate::dataplane::event::UdpPath;
use crate::esp::{InboundSa, Limits, OutboundSa, SaParams};
use crate::ike::{self, ChildId, ChildSa, CloseReason, IkeId};

impl Node {
    /// Acts on everything that IKE has to tell.
    pub(super) fn drain(&mut self, now: Instant) {
        while let Some(event) = self.ike.poll_event() {
            match event {
                ike::Event::IkeEstablished(info) => {
                    self.ikes.insert(info.id, (info.local, info.remote));
                    self.paths_of_new_ike(&info);
                    if info.age.is_zero() {
                        self.home_reached(now, (info.local, info.remote), info.path);
                    }
                    self.adopt_children(info.id, (info.local, info.remote));
                }
                ike::Event::ChildReady(child) => self.install(now, *child),
                ike::Event::ChildSend { id, additional } => self.send(now, id, additional),
                ike::Event::ChildStop(id) => self.stop(id),
                ike::Event::ChildClosed { id, reason } => self.remove(now, id, &reason),
                ike::Event::PathChanged { children, path, .. } => self.move_to(now, &children, path),
                ike::Event::IkeClosed { id, local, remote, reason } => {
                    self.ikes.remove(id);
                    self.met_relayed.remove(&id);
                    self.met_anew.remove(&id);
                    self.ike_closed(now, id, (local, remote), &reason);
                }
                ike::Event::InitiationFailed { local, remote, failure } => {
                    self.fail(now, (local, remote), failure.to_string());
                }
                ike::Event::Document { ike, local, remote, document } => {
                    self.events.push_back(Event::Document { ike, local, remote, document });
                }
                ike::Event::IkeKeys { spi_i, spi_r, suite, sk_ei, sk_er } => {
                    self.events.push_back(Event::IkeKeys { spi_i, spi_r, suite, sk_ei, sk_er });
                }
            }
        }
        if self.tick.is_none() && !self.children.is_empty() {
            self.tick = Some(now + TICK);
        }
    }

    /// Inbound first, so that the peer's first packet finds its SA; then outbound, if it is time to send.
    fn install(&mut self, now: Instant, sa: ChildSa) {
        let limits = self.limits();
        let params = |spi, key| SaParams {
            spi,
            local: sa.local,
            remote: sa.remote,
            suite: sa.suite,
            esn: sa.esn,
            key,
            limits,
        };
        let halves = (
            InboundSa::new(params(sa.spi_in, sa.key_in.clone())),
            OutboundSa::new(params(sa.spi_out, sa.key_out.clone())),
        );
        let (Some(inbound), Some(outbound)) = halves else {
            tracing::error!(
                spi = sa.spi_in,
                "IKE agreed on keys of the wrong length: the child SA is not installed"
            );
            return;
        };
        self.log_keys(&sa);
        let inbound = Arc::new(inbound);
        self.publisher.install_inbound(Arc::clone(&inbound));
        let key = (sa.local, sa.remote);
        let path = self.chosen_path(key).unwrap_or(sa.path);
        self.by_spi.insert(sa.spi_in, sa.id);
        let child = Child {
            ike: sa.ike,
            pair: key,
            inbound,
            outbound: Arc::new(outbound),
            path,
            additional: sa.additional,
            replaces: sa.replaces,
            installed: now,
            seen_in: 0,
            seen_out: 0,
            seen_octets: 0,
            kept_up: !sa.additional && self.pairs.get(&key).is_some_and(|pair| pair.keep_up),
        };
        self.children.insert(sa.id, child);
        let mut pair = self.pairs.or_insert_with(key, || Pair::new(now));
        pair.installed.push(sa.id);
        let first = pair.active.is_none();
        drop(pair);
        let asking = if sa.peer_is_domicile { Asking::Challenges } else { Asking::Echoes };
        self.begin_widths(key, asking, sa.send_now);
        if sa.send_now || first {
            self.send(now, sa.id, sa.additional);
        }
        if sa.additional && sa.send_now && sa.replaces.is_none() {
            self.show(sa.id);
        }
        if sa.peer_is_domicile {
            self.begin_paths(now, (key, sa.ike), sa.path, sa.suite.is_confidential());
        }
    }

    /// Sends on this child from now on, beginning with whatever waited.
    pub(super) fn send_on(&mut self, now: Instant, id: ChildId) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.additional = false;
        child.kept_up = self.pairs.get(&child.pair).is_some_and(|pair| pair.keep_up);
        let ((local, remote), path) = (child.pair, child.path);
        let mtu = self.width_on(now, (local, remote), path);
        let reason = self.first_reason(remote, path);
        let Some(mut pair) = self.pairs.get_mut(&(local, remote)) else { return };
        pair.take_out(id);
        let before = pair.active.replace(id);
        drop(pair);
        let Some(outbound) = self.publish((local, remote), mtu) else { return };
        let to = path.remote;
        let Some(mut pair) = self.pairs.get_mut(&(local, remote)) else { return };
        let was_down = before.is_none();
        pair.succeeded();
        pair.history.note(now, outbound.path, reason);
        for packet in pair.take_waiting() {
            self.injects.push_back(Inject::packet(outbound.clone(), packet));
        }
        drop(pair);
        self.drain_widths(now, (local, remote));
        let elsewhere =
            before.and_then(|before| self.children.get(&before)).is_some_and(|child| child.path.remote != to);
        if elsewhere {
            // A home agent at another place does not know our binding.
            self.session_changed(now, local, remote, true);
        }
        if was_down {
            self.events.push_back(Event::PeerUp { local, remote });
            self.session_changed(now, local, remote, true);
        }
    }

    pub(super) fn remove(&mut self, now: Instant, id: ChildId, reason: &CloseReason) {
        let Some(child) = self.children.remove(&id) else { return };
        self.publisher.remove_inbound(child.inbound.params().spi);
        self.by_spi.remove(&child.inbound.params().spi);
        let key = child.pair;
        let Some(mut pair) = self.pairs.get_mut(&key) else { return };
        pair.installed.retain(|other| *other != id);
        let beside = pair.take_out(id);
        if pair.active == Some(id) {
            drop(pair);
            let next = self.next_active(key);
            let Some(mut pair) = self.pairs.get_mut(&key) else { return };
            match next {
                Some(next) => {
                    drop(pair);
                    self.send_on(now, next);
                }
                None => {
                    pair.active = None;
                    pair.put_off(now);
                    drop(pair);
                    self.end_paths(key);
                    self.widths.remove(&key);
                    self.publisher.remove_outbound(key.0, key.1);
                    self.events.push_back(Event::PeerDown {
                        local: key.0,
                        remote: key.1,
                        reason: describe(reason),
                    });
                    self.session_changed(now, key.0, key.1, false);
                }
            }
        } else {
            drop(pair);
            if beside {
                self.republish(key);
            }
        }
        if self.pairs.get(&key).is_some_and(Pair::is_forgotten) {
            self.pairs.remove(&key);
        }
    }

    /// IKE moved these; where path control decides, it was IKE's messages alone.
    fn move_to(&mut self, now: Instant, children: &[ChildId], path: UdpPath) {
        let theirs: Vec<ChildId> = children
            .iter()
            .filter(|id| self.children.get(id).is_some_and(|child| !self.paths.contains_key(&child.pair)))
            .copied()
            .collect();
        if let Some(remote) = self.move_children(now, &theirs, path, "one of the two moved, or its NAT did") {
            self.events.push_back(Event::PathChanged { remote, path, reason: None });
        }
    }

    /// These children travel this way from now on; whose they are.
    pub(super) fn move_children(
        &mut self,
        now: Instant,
        children: &[ChildId],
        path: UdpPath,
        reason: &'static str,
    ) -> Option<std::net::Ipv6Addr> {
        let mut moved = None;
        // All of them first: what the data plane gets holds those that go the same way.
        for id in children {
            let Some(child) = self.children.get_mut(id) else { continue };
            child.path = path;
            moved = Some(child.pair.1).filter(|_| self.pairs.contains_key(&child.pair)).or(moved);
        }
        for id in children {
            let Some(key) = self.children.get(id).map(|child| child.pair) else { continue };
            let Some(mut pair) = self.pairs.get_mut(&key) else { continue };
            if pair.active == Some(*id) {
                pair.history.note(now, path, reason);
                drop(pair);
                let mtu = self.width_on(now, key, path);
                self.publish(key, mtu);
                self.drain_widths(now, key);
            } else if pair.additional.contains(id) {
                drop(pair);
                self.republish(key);
            }
        }
        moved
    }

    /// After an IKE rekey the children belong to the new SA; the old one is closed without closing them.
    fn adopt_children(&mut self, heir: IkeId, key: PairKey) {
        for id in self.pairs.get(&key).map_or(&[][..], |pair| &pair.installed) {
            if let Some(child) = self.children.get_mut(id).filter(|child| !self.ikes.contains(child.ike)) {
                child.ike = heir;
            }
        }
    }

    fn ike_closed(&mut self, now: Instant, id: IkeId, key: PairKey, reason: &CloseReason) {
        let heir = self.ikes.between(key).last().copied();
        match heir {
            Some(heir) => {
                self.adopt_children(heir, key);
                self.release_paths(now, key);
            }
            None => {
                let installed = self.pairs.get(&key).map(|pair| pair.installed.clone()).unwrap_or_default();
                let orphaned =
                    |child: &ChildId| self.children.get(child).is_some_and(|child| child.ike == id);
                let orphans: Vec<ChildId> = installed.into_iter().filter(orphaned).collect();
                for child in orphans {
                    self.remove(now, child, reason);
                }
                // An attempt that counted on this SA has come to nothing, too.
                let counted_on_it = self
                    .pairs
                    .get(&key)
                    .is_some_and(|pair| pair.attempt == Attempt::Running && pair.active.is_none());
                if counted_on_it && !self.ike.is_trying(key.0, key.1) {
                    self.fail(now, key, describe(reason));
                }
            }
        }
    }

    /// Limits by traffic: the soft one is shortened by chance so that both ends seldom rekey at once, the hard one
    /// lies an eighth above the configured value.
    fn limits(&mut self) -> Limits {
        let lifetimes = self.config.ike.lifetimes;
        let chance = self.rng.next_u32();
        let soften = |limit: u64| {
            if limit == u64::MAX {
                return limit;
            }
            let per_mille = (lifetimes.jitter.clamp(0.0, 0.5) * 1000.0) as u64;
            let cut = u64::from(chance) * per_mille / u64::from(u32::MAX);
            limit.saturating_sub(limit / 1000 * cut).max(1)
        };
        Limits {
            soft_bytes: soften(lifetimes.child_bytes),
            soft_packets: soften(lifetimes.child_packets),
            hard_bytes: lifetimes.child_bytes.saturating_add(lifetimes.child_bytes / 8),
            hard_packets: lifetimes.child_packets.saturating_add(lifetimes.child_packets / 8).max(2),
        }
    }

    fn log_keys(&mut self, sa: &ChildSa) {
        if !self.config.ike.keylog {
            return;
        }
        for (spi, key) in [(sa.spi_in, sa.key_in.clone()), (sa.spi_out, sa.key_out.clone())] {
            self.events.push_back(Event::ChildKeys { spi, suite: sa.suite, key });
        }
    }

    /// Tells IKE which SAs lived and which were sent on since the last reading, and path control who talks.
    pub(super) fn read_counters(&mut self, now: Instant) {
        let mut sent = BTreeMap::<PairKey, u64>::new();
        for child in self.children.values_mut() {
            let (received, sealed) = (child.inbound.packets(), child.outbound.packets());
            if received != child.seen_in {
                child.seen_in = received;
                self.ike.handle_traffic(now, child.inbound.params().spi);
            }
            if sealed != child.seen_out || child.kept_up {
                child.seen_out = sealed;
                self.ike.handle_sent(now, child.outbound.params().spi);
            }
            let octets = child.outbound.bytes();
            if octets != child.seen_octets {
                let sum = sent.entry(child.pair).or_default();
                *sum = sum.saturating_add(octets.saturating_sub(child.seen_octets));
                child.seen_octets = octets;
            }
        }
        for (key, octets) in sent {
            self.paths_carry(now, key);
            self.widths_carry(now, key);
            self.ask_for_more(now, key, octets);
        }
    }
}

fn describe(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Local => "closed here".to_owned(),
        CloseReason::Peer => "the peer closed it".to_owned(),
        CloseReason::Replaced => "replaced by a newer one".to_owned(),
        CloseReason::DeadPeer => "the peer stopped answering".to_owned(),
        CloseReason::Expired => "its lifetime ended".to_owned(),
        CloseReason::InitialContact => "the peer restarted".to_owned(),
        CloseReason::Failed(failure) => failure.to_string(),
    }
}
