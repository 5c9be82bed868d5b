//! What time does to IKE SAs: retransmission, rekeying, expiry; and which of several SAs between two entities stays.
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of task is told from all others")]

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::context::{Context, Deferred};
use super::endpoint::Endpoint;
use super::event::{ChildId, CloseReason, Event, Failure, IkeId};
use super::rekey::FALLBACK;
use super::sa::{Phase, Sa};
use super::timer::Timer;
use super::window::{Task, Want};

/// A superfluous SA is deleted by its initiator this long after both are up.
const SUPERSEDED: Duration = Duration::from_secs(3);
/// An older SA that no rule has dealt with ends after this long.
const LEFTOVER: Duration = Duration::from_secs(20);
/// A child SA whose rekey has not happened is asked for again after this long.
const REKEY_AGAIN: Duration = Duration::from_secs(10);

impl Endpoint {
    /// Time passed. Harmless when early.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<IkeId> = self
            .sas
            .values()
            .filter(|sa| sa.next_timeout().is_some_and(|(at, _)| at <= now))
            .map(|sa| sa.id)
            .collect();
        for id in due {
            self.keep_if_last(id);
            self.with(now, id, |sa, ctx| sa.handle_timeout(ctx, now));
        }
        while let Some(entry) = self.ctx.draining.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, child), (spi_in, reason)) = entry.remove_entry();
            self.ctx.close_child(child, spi_in, reason);
        }
    }

    /// When `handle_timeout` wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let draining = self.ctx.draining.first_key_value().map(|((at, _), _)| (*at, "drained child SA"));
        self.sas.values().filter_map(Sa::next_timeout).chain(draining).min_by_key(|(at, _)| *at)
    }

    /// An SA was authenticated. Are there others between the same two entities?
    pub(super) fn established(&mut self, now: Instant, id: IkeId, initial_contact: bool) {
        let Some(new) = self.sas.get(&id) else { return };
        let (pair, created, initiator, replaces) =
            ((new.local, new.remote), new.created, new.initiator, new.replaces);
        let others: Vec<(IkeId, bool, Instant)> = self
            .sas
            .values()
            .filter(|sa| sa.id != id && (sa.local, sa.remote) == pair)
            .filter_map(|sa| Some((sa.id, sa.initiator, sa.established_since()?)))
            .collect();
        for (other, other_initiator, since) in others {
            if initial_contact && since < created {
                // The peer restarted: what it had before is gone (RFC 7296 §2.4).
                self.remove(now, other, CloseReason::InitialContact);
                continue;
            }
            let simultaneous = created < since && initiator != other_initiator && replaces != Some(other);
            // Of two that crossed, the one that the lower address started stays.
            let lower_started_new = initiator == (pair.0 < pair.1);
            let loser = if simultaneous && !lower_started_new { id } else { other };
            // Ends may see the order differently. Therefore nobody deletes at once what the other may want to keep: only
            // an SA of one's own that lost, or the one that the new one was made to replace.
            let ours = simultaneous && if loser == id { initiator } else { other_initiator };
            let explicit = replaces == Some(other) || (!simultaneous && initiator);
            let pause = if ours || explicit { SUPERSEDED } else { FALLBACK };
            if let Some(sa) = self.sas.get_mut(&loser) {
                sa.timers.set(Timer::Superseded, now + pause);
            }
        }
        self.send_to_moved_peer(id, pair);
        self.supersede_older(now, pair);
    }

    /// The peer answers from another address than before: where we sent to until now nobody is any more, so there is
    /// no point in waiting until the new child is seen in use.
    fn send_to_moved_peer(&mut self, id: IkeId, pair: (Ipv6Addr, Ipv6Addr)) {
        let Some(remote) = self.sas.get(&id).map(|sa| sa.path.remote) else { return };
        let moved = self.sas.values().any(|sa| {
            sa.id != id && (sa.local, sa.remote) == pair && sa.is_established() && sa.path.remote != remote
        });
        if let Some(sa) = self.sas.get_mut(&id).filter(|_| moved) {
            let waiting: Vec<u32> =
                sa.children.values().filter(|child| child.awaits_use).map(|child| child.spi_in).collect();
            waiting.into_iter().for_each(|spi_in| sa.child_used(&mut self.ctx, spi_in));
        }
    }

    /// Ends may disagree for a moment which of two SAs is superfluous; the last one with a child is not.
    pub(super) fn keep_if_last(&mut self, id: IkeId) {
        let Some(sa) = self.sas.get(&id).filter(|sa| !sa.children.is_empty()) else { return };
        let other = self.sas.values().any(|other| {
            other.id != id
                && (other.local, other.remote) == (sa.local, sa.remote)
                && other.is_established()
                && !other.is_leaving()
                && !other.children.is_empty()
        });
        if let Some(sa) = self.sas.get_mut(&id).filter(|_| !other) {
            sa.timers.stop(Timer::Superseded);
        }
    }

    /// The net below all tie-breaks: whatever was lost or crossed, of several SAs between two entities only the newest
    /// is still there after a while. One that is about to go anyway supersedes nothing.
    pub(super) fn supersede_older(&mut self, now: Instant, pair: (Ipv6Addr, Ipv6Addr)) {
        let ranked = |sa: &Sa| sa.established_since().map(|since| (since, sa.spi_i));
        let same = |sa: &&Sa| (sa.local, sa.remote) == pair;
        let stays = |sa: &&Sa| !sa.timers.is_set(Timer::Superseded) && !sa.is_leaving();
        let Some(newest) = self.sas.values().filter(same).filter(stays).filter_map(ranked).max() else {
            return;
        };
        for sa in self.sas.values_mut().filter(|sa| (sa.local, sa.remote) == pair) {
            if ranked(sa).is_some_and(|rank| rank < newest) && !sa.timers.is_set(Timer::Superseded) {
                sa.timers.set(Timer::Superseded, now + LEFTOVER);
            }
        }
    }
}

impl Sa {
    /// The earliest deadline and its reason.
    pub(super) fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let retransmit = self.window.outstanding.as_ref().map(|out| (out.next, "IKE retransmission"));
        let children = self
            .children
            .values()
            .filter(|child| child.replaced_by.is_none() && !child.deleting)
            .flat_map(|child| [(child.rekey_at, "child SA rekey"), (child.hard_at, "end of child SA")]);
        let alive = self.is_established();
        [self.timers.next(), retransmit]
            .into_iter()
            .flatten()
            .chain(children.filter(|_| alive))
            .min_by_key(|(at, _)| *at)
    }

    fn handle_timeout(&mut self, ctx: &mut Context, now: Instant) {
        self.retransmit(ctx, now);
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::HalfOpen => {
                    ctx.deferred.push_back(Deferred::Remove { id: self.id, reason: CloseReason::Expired })
                }
                Timer::Rekey => self.window.want(Want::RekeyIke),
                Timer::Reauth => ctx.deferred.push_back(Deferred::Replace { id: self.id, path: self.path }),
                Timer::Hard => self.expire(ctx, now),
                Timer::Liveness => self.check_liveness(ctx, now),
                Timer::Keepalive => self.keep_alive(ctx, now),
                Timer::Superseded => self.window.want_first(Want::DeleteIke(CloseReason::Replaced)),
                Timer::Retry => self.window.want(Want::Child),
            }
        }
        if self.is_established() {
            self.age_children(ctx, now);
        }
        self.pump(ctx, now);
    }

    /// The hard end: nothing may extend it.
    fn expire(&mut self, ctx: &mut Context, now: Instant) {
        if self.is_established() {
            self.window.outstanding = None;
            self.begin_delete_ike(ctx, now, CloseReason::Expired);
            let path = self.path;
            tracing::debug!(%path.remote, "IKE SA expired");
        }
        self.end(ctx, CloseReason::Expired);
    }

    fn age_children(&mut self, ctx: &mut Context, now: Instant) {
        let ids: Vec<ChildId> = self.children.keys().copied().collect();
        for id in ids {
            let Some(child) = self.children.get_mut(&id) else { continue };
            if child.replaced_by.is_some() || child.deleting {
                continue;
            }
            if child.hard_at <= now {
                child.deleting = true;
                let spi_in = child.spi_in;
                ctx.emit(Event::ChildClosed { id, reason: CloseReason::Expired });
                ctx.inbound.remove(&spi_in);
                self.window.want_first(Want::DeleteChild(id, CloseReason::Expired));
            } else if child.rekey_at <= now {
                child.rekey_at = now + REKEY_AGAIN;
                self.window.want(Want::RekeyChild(id));
            }
        }
    }

    fn retransmit(&mut self, ctx: &mut Context, now: Instant) {
        let Some(out) = self.window.outstanding.as_mut().filter(|out| out.next <= now) else { return };
        if out.again(now) {
            let path = match &out.task {
                // Every second time on the old path, in case that one still lives.
                Task::Probe { path, .. } if out.sent % 2 == 1 => *path,
                _ => self.path,
            };
            ctx.send(path, &out.datagrams);
            return;
        }
        let tries = out.sent;
        let Some(out) = self.window.outstanding.take() else { return };
        if let Task::RekeyIke(_) = &out.task {
            self.window.outstanding = Some(out);
            self.adopt_collision(ctx, now);
        }
        let reason = match self.phase {
            Phase::InitSent(_) | Phase::AuthSent(_) => {
                CloseReason::Failed(Failure::Timeout { remote: self.path.remote, tries })
            }
            Phase::HalfOpen(_) | Phase::Established { .. } | Phase::Closed => CloseReason::DeadPeer,
        };
        self.end(ctx, reason);
    }
}
