//! Several child SAs of a pair, one for each queue of the data plane (RFC 9611): who sends much gets more of them, one a
//! second.

use std::sync::Arc;
use std::time::Instant;

use super::child::Child;
use super::pair::{Pair, PairKey};
use super::{Inject, Node};
use crate::dataplane::tables::Outbound;
use crate::ike::ChildId;
use crate::wire::ip::NEXT_HEADER_NONE;

impl Pair {
    /// This one is not sent on beside the active one any more. Was it?
    pub(super) fn take_out(&mut self, id: ChildId) -> bool {
        let before = self.additional.len();
        self.additional.retain(|other| *other != id);
        self.additional.len() != before
    }

    /// This one is sent on beside the active one: in the place of the one that it replaces, if any.
    fn put_in(&mut self, id: ChildId, in_place_of: Option<ChildId>) {
        if self.additional.contains(&id) {
            return;
        }
        match self.additional.iter_mut().find(|place| Some(**place) == in_place_of) {
            Some(place) => *place = id,
            None => self.additional.push(id),
        }
    }
}

impl Node {
    /// Sends on this child from now on: beside the active one, or instead of it.
    pub(super) fn send(&mut self, now: Instant, id: ChildId, additional: bool) {
        let Some((key, replaces)) = self.children.get(&id).map(|child| (child.pair, child.replaces)) else {
            return;
        };
        let Some(mut pair) = self.pairs.get_mut(&key) else { return };
        let in_active_place = pair.active.is_none() || pair.active == Some(id) || pair.active == replaces;
        if !additional || in_active_place {
            drop(pair);
            return self.send_on(now, id);
        }
        pair.put_in(id, replaces);
        drop(pair);
        self.republish(key);
    }

    /// A dummy packet (RFC 4303 §2.6) on a new additional SA: whoever answered sends on it only when it is used, and perhaps
    /// all that we have to send goes by other SAs.
    pub(super) fn show(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(&id) else { return };
        let packet = vec![0; 8];
        child.seen_octets = child.seen_octets.saturating_add(packet.len() as u64);
        let outbound = child.outbound_entry(u16::MAX);
        self.injects.push_back(Inject { outbound, next_header: NEXT_HEADER_NONE, packet });
    }

    /// Nothing is sent on this additional child any more.
    pub(super) fn stop(&mut self, id: ChildId) {
        let Some(key) = self.children.get(&id).map(|child| child.pair) else { return };
        if self.pairs.get_mut(&key).is_some_and(|mut pair| pair.take_out(id)) {
            self.republish(key);
        }
    }

    /// Who takes the place of an active child that is gone: rather one that was in this place before, and else the first of
    /// the additional ones.
    pub(super) fn next_active(&self, key: PairKey) -> Option<ChildId> {
        let pair = self.pairs.get(&key)?;
        let alone = |id: &&ChildId| self.children.get(*id).is_some_and(|child| !child.additional);
        let next = pair.installed.iter().rev().find(alone).or_else(|| pair.additional.first());
        next.or_else(|| pair.installed.last()).copied()
    }

    /// What the data plane gets for a pair: the SA of the active child, and those of the additional ones that the same IKE SA
    /// keeps and that go the same way.
    fn entry(&self, key: PairKey, mtu: u16) -> Option<Outbound> {
        let active = self.active_child(key)?;
        let owner = self.owner(active);
        let fits = |child: &&Child| child.path == active.path && self.owner(child) == owner;
        let ids = self.pairs.get(&key).map_or(&[][..], |pair| &pair.additional);
        let children = ids.iter().filter_map(|id| self.children.get(id)).filter(fits);
        let additional = children.map(|child| Arc::clone(&child.outbound)).collect();
        Some(Outbound { additional, ..active.outbound_entry(mtu) })
    }

    fn owner(&self, child: &Child) -> Option<crate::ike::IkeId> {
        self.ike.owner_of(child.inbound.params().spi)
    }

    /// Publishes how a pair is sent on from now on, if it has an active child.
    pub(super) fn publish(&mut self, key: PairKey, mtu: u16) -> Option<Outbound> {
        let outbound = self.entry(key, mtu)?;
        self.publisher.set_outbound(key.0, key.1, outbound.clone());
        Some(outbound)
    }

    /// The same where the width of the path is what it was.
    pub(super) fn republish(&mut self, key: PairKey) {
        let (mtu, ..) = self.width_status(key);
        self.publish(key, mtu);
    }

    /// The pair sent so much within a second: is it worth one more SA?
    pub(super) fn ask_for_more(&mut self, now: Instant, key: PairKey, octets: u64) {
        // IKE has a bound of its own, too.
        let most = self.config.queues.saturating_sub(1);
        if most == 0 || octets < self.config.bulk || self.leaving {
            return;
        }
        if let Some(owner) = self.active_child(key).and_then(|child| self.owner(child)) {
            self.ike.add_child(now, owner, most);
        }
    }
}
