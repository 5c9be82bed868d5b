//! Several IKE SAs between the same two entities: which one stays, and which child is sent on meanwhile.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::event::{CloseReason, Event, IkeId};
use super::rekey::FALLBACK;
use super::sa::Sa;
use super::timer::Timer;
use super::window::Want;

/// A superfluous SA is deleted by its initiator this long after both are up.
const SUPERSEDED: Duration = Duration::from_secs(3);
/// An older SA that no rule has dealt with ends after this long.
const LEFTOVER: Duration = Duration::from_secs(20);
/// An heir of which nothing was heard does not keep the old SA any longer: more than the peer repeats its request.
const UNHEARD: Duration = Duration::from_secs(60);

impl Endpoint {
    /// An SA was authenticated. Are there others between the same two entities?
    pub(super) fn established(&mut self, now: Instant, id: IkeId, initial_contact: bool) {
        let Some(new) = self.sas.get(id) else { return };
        let (pair, created, initiator, replaces) = (new.pair(), new.created, new.initiator, new.replaces);
        let others: Vec<(IkeId, bool, Instant, Instant)> = self
            .sas
            .between(pair)
            .filter(|sa| sa.id != id)
            .filter_map(|sa| Some((sa.id, sa.initiator, sa.created, sa.established_since()?)))
            .collect();
        for (other, other_initiator, other_created, since) in others {
            if initial_contact && since < created {
                // The peer restarted: what it had before is gone (RFC 7296 §2.4).
                self.remove(now, other, CloseReason::InitialContact);
                continue;
            }
            let simultaneous = created < since && initiator != other_initiator && replaces != Some(other);
            // Of two that crossed, the one that the lower address started stays.
            let lower_started_new = initiator == (pair.0 < pair.1);
            // Begun by the same end before the other one, and delayed: of a life of the peer before this one.
            let late = initiator == other_initiator && created < other_created;
            let loser = if late || simultaneous && !lower_started_new { id } else { other };
            // Ends may see the order differently. Therefore nobody deletes at once what the other may want to keep: only
            // an SA of one's own that lost, or the one that the new one was made to replace.
            let ours = simultaneous && if loser == id { initiator } else { other_initiator };
            let explicit = replaces == Some(other) || (!simultaneous && initiator);
            let pause = if ours || explicit { SUPERSEDED } else { FALLBACK };
            if let Some(mut sa) = self.sas.get_mut(loser) {
                sa.timers.set(Timer::Superseded, now + pause);
            }
        }
        self.send_to_moved_peer(id, pair);
        self.supersede_older(now, pair);
    }

    /// The peer answers from another address than before: where we sent to until now nobody is any more, so there is
    /// no point in waiting until the new child is seen in use.
    fn send_to_moved_peer(&mut self, id: IkeId, pair: (Ipv6Addr, Ipv6Addr)) {
        let Some(remote) = self.sas.get(id).map(|sa| sa.path.remote) else { return };
        let moved =
            self.sas.between(pair).any(|sa| sa.id != id && sa.is_established() && sa.path.remote != remote);
        if let Some(mut sa) = self.sas.get_mut(id).filter(|_| moved) {
            let waiting: Vec<u32> =
                sa.children.values().filter(|child| child.awaits_use).map(|child| child.spi_in).collect();
            waiting.into_iter().for_each(|spi_in| sa.child_used(&mut self.ctx, spi_in));
        }
    }

    /// Ends may disagree for a moment which of two SAs is superfluous; the last one with a child is not.
    pub(super) fn keep_if_last(&mut self, id: IkeId) {
        let Some(sa) = self.sas.get(id).filter(|sa| !sa.children.is_empty()) else { return };
        let other = self.sas.between(sa.pair()).any(|other| {
            other.id != id && other.is_established() && !other.is_leaving() && !other.children.is_empty()
        });
        if let Some(mut sa) = self.sas.get_mut(id).filter(|_| !other) {
            sa.timers.stop(Timer::Superseded);
        }
    }

    /// The net below all tie-breaks: whatever was lost or crossed, of several SAs between two entities only the newest
    /// is still there after a while. One that is about to go anyway supersedes nothing.
    pub(super) fn supersede_older(&mut self, now: Instant, pair: (Ipv6Addr, Ipv6Addr)) {
        let ranked = |sa: &Sa| sa.established_since().map(|since| (since, sa.spi_i));
        let stays = |sa: &&Sa| !sa.timers.is_set(Timer::Superseded) && !sa.is_leaving();
        let Some(newest) = self.sas.between(pair).filter(stays).filter_map(ranked).max() else {
            return;
        };
        let older = |sa: &&Sa| ranked(sa).is_some_and(|rank| rank < newest);
        let older: Vec<IkeId> = self.sas.between(pair).filter(older).map(|sa| sa.id).collect();
        for id in older {
            if let Some(mut sa) = self.sas.get_mut(id).filter(|sa| !sa.timers.is_set(Timer::Superseded)) {
                sa.timers.set(Timer::Superseded, now + LEFTOVER);
            }
        }
    }

    /// A rekeyed SA that the peer should have deleted by now. While the peer may not have heard that it has an heir, it
    /// still asks here for the answer, and goes astray without it: where rekeys crossed it would go on with an SA that we
    /// took back (RFC 7296 §2.8.2).
    pub(super) fn retire(&mut self, now: Instant, id: IkeId, heir: IkeId) {
        let waits = |heir: &Sa| !heir.known_to_peer && now < heir.created + UNHEARD;
        let unheard = self.sas.get(heir).is_some_and(waits);
        let Some(mut old) = self.sas.get_mut(id) else { return };
        if unheard {
            old.timers.set(Timer::Superseded, now + FALLBACK);
            return;
        }
        old.window.want_first(Want::DeleteIke(CloseReason::Replaced));
        old.pump(&mut self.ctx, now);
    }

    /// A child or its IKE SA goes: what was sent on it goes through the best of the others from now on. False when
    /// there is none.
    pub(super) fn send_on_best(&mut self, pair: (Ipv6Addr, Ipv6Addr), leaving: Option<IkeId>) -> bool {
        let candidates = self
            .sas
            .between(pair)
            .filter(|sa| Some(sa.id) != leaving)
            .filter_map(|sa| Some((sa, sa.established_since()?)))
            .flat_map(|(sa, since)| {
                let stays = !sa.timers.is_set(Timer::Superseded) && !sa.is_leaving();
                let leads = sa.has_main();
                sa.children
                    .iter()
                    .filter(|(_, child)| !child.deleting)
                    // Rather one that was replaced than one of which the peer may not know yet; an additional one only
                    // where nothing else is left.
                    .map(move |(id, child)| {
                        let beside = child.additional && leads;
                        let rank = (stays, !beside, !child.awaits_use, child.replaced_by.is_none());
                        (rank, since, sa.spi_i, *id, sa.id)
                    })
            });
        let Some((_, _, _, child, id)) = candidates.max() else { return false };
        if let Some(mut sa) = self.sas.get_mut(id) {
            sa.lead_with(child);
        }
        self.ctx.emit(Event::ChildSend { id: child, additional: false });
        true
    }
}
