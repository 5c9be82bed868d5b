//! What time does to IKE SAs: retransmission, rekeying, expiry.
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of task is told from all others")]

use std::time::{Duration, Instant};

use super::context::{Context, Deferred};
use super::endpoint::Endpoint;
use super::event::{ChildId, CloseReason, Failure};
use super::sa::{Phase, Sa};
use super::timer::{Timer, TimerTable};
use super::window::{Task, Want};

/// A child SA whose rekey has not happened is asked for again after this long.
const REKEY_AGAIN: Duration = Duration::from_secs(10);
/// A goodbye that nobody answers is over after this long.
const GOODBYE: Duration = Duration::from_secs(10);
/// A failed reauthentication is tried again after a 32nd of its interval, but not sooner nor later than this.
const REAUTH_AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

impl Endpoint {
    /// Time passed. Harmless when early.
    pub fn handle_timeout(&mut self, now: Instant) {
        for id in self.sas.due(now) {
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
        self.sas.next_timeout().into_iter().chain(draining).min_by_key(|(at, _)| *at)
    }
}

impl Sa {
    /// The earliest deadline and its reason.
    pub(super) fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        #[cfg(test)]
        super::tests::scale::LOOKS.with(|looks| looks.set(looks.get() + 1));
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
                // Another SA is about to take this one's place; should that fail, it is still time.
                Timer::Reauth if self.timers.is_set(Timer::Superseded) => self.reauth_later(ctx, now),
                Timer::Reauth => ctx.deferred.push_back(Deferred::Replace { id: self.id, path: self.path }),
                Timer::Hard => self.expire(ctx, now),
                Timer::Liveness => self.check_liveness(ctx, now),
                Timer::Keepalive => self.keep_alive(ctx, now),
                Timer::Superseded => match self.heir {
                    Some(heir) => ctx.deferred.push_back(Deferred::Retire { id: self.id, heir }),
                    None => self.window.want_first(Want::DeleteIke(CloseReason::Replaced)),
                },
                Timer::Retry => self.window.want(Want::Child),
            }
        }
        if self.is_established() {
            self.age_children(ctx, now);
        }
        self.pump(ctx, now);
    }

    /// The hard end: nothing may extend it. What is left is to tell the peer, and that has an end, too.
    fn expire(&mut self, ctx: &mut Context, now: Instant) {
        if let Some(reason) = self.farewell().cloned() {
            self.end(ctx, reason);
            return;
        }
        tracing::debug!(remote = %self.path.remote, "IKE SA expired");
        self.close_children(ctx, &CloseReason::Expired);
        self.leave(ctx, now, CloseReason::Expired);
    }

    /// Says goodbye and ends, soon. The DELETE waits for the window (RFC 7296 §2.3), but whatever is under way there is
    /// hurried, and its outcome is of no interest any more. Documents that wait, answers among them, go before it. Where
    /// our proof is under way the goodbye waits for the answer, too: by then the peer has the SA.
    pub(super) fn leave(&mut self, ctx: &mut Context, now: Instant, reason: CloseReason) {
        if !self.is_established() && !matches!(self.phase, Phase::AuthSent(_)) {
            self.end(ctx, reason);
            return;
        }
        self.window.keep_documents();
        self.timers = TimerTable::default();
        self.timers.set(Timer::Hard, now + GOODBYE);
        if self.farewell().is_none() {
            self.window.want(Want::DeleteIke(reason));
        }
        if let Some(out) = &mut self.window.outstanding {
            out.hurry(now, self.patience);
        }
        self.pump(ctx, now);
    }

    /// The peer broke the protocol in a way that leaves nothing to go on with.
    pub(super) fn fail(&mut self, ctx: &mut Context, now: Instant, failure: Failure) {
        tracing::warn!(peer = %self.remote, %failure, "the IKE SA is closed");
        let reason = CloseReason::Failed(failure);
        self.close_children(ctx, &reason);
        self.leave(ctx, now, reason);
    }

    /// No child goes on.
    pub(super) fn close_children(&mut self, ctx: &mut Context, reason: &CloseReason) {
        for (id, child) in std::mem::take(&mut self.children) {
            ctx.outbound.remove(&child.spi_out);
            ctx.close_child(id, child.spi_in, reason.clone());
        }
    }

    /// Authentication anew came to nothing: there is time for some more attempts until the hard end.
    pub(super) fn reauth_later(&mut self, ctx: &mut Context, now: Instant) {
        // Certificates may end it long before.
        let left = self.timers.get(Timer::Hard).map(|end| end.saturating_duration_since(now) / 4);
        let usual = ctx.config.lifetimes.reauth / 32;
        let pause = left.map_or(usual, |left| left.min(usual)).clamp(REAUTH_AGAIN.0, REAUTH_AGAIN.1);
        self.timers.set(Timer::Reauth, now + ctx.swayed(pause));
    }

    pub(super) fn age_children(&mut self, ctx: &mut Context, now: Instant) {
        let ids: Vec<ChildId> = self.children.keys().copied().collect();
        for id in ids {
            let Some(child) = self.children.get_mut(&id) else { continue };
            if child.replaced_by.is_some() || child.deleting {
                continue;
            }
            if child.hard_at <= now {
                let spi_in = child.spi_in;
                self.lose_child(ctx, id, CloseReason::Expired);
                self.window.want_first(Want::DeleteExpired(spi_in));
            } else if child.rekey_at <= now {
                child.rekey_at = now + REKEY_AGAIN;
                let idle = child.additional && !child.used && self.has_main();
                let delete = Want::DeleteChild(id, CloseReason::Local);
                self.window.want(if idle { delete } else { Want::RekeyChild(id) });
            }
        }
    }

    fn retransmit(&mut self, ctx: &mut Context, now: Instant) {
        let leaves = self.farewell().is_some();
        let seen = self.window.waiting_probe();
        let Some(out) = self.window.outstanding.as_mut().filter(|out| out.next <= now) else { return };
        if matches!(self.phase, Phase::Established { .. }) && !leaves {
            out.reprieve(self.heard);
        }
        if out.again(ctx, now) {
            let path = match &out.task {
                // Every second time on the old path, in case that one still lives. The newest address is the likeliest.
                Task::Probe { path, .. } if out.sent % 2 == 1 => seen.unwrap_or(*path),
                // The window must be free before the peer is asked where it is: if the request gets lost because it is not
                // there any more, the answer has to come from where it seems to be.
                _ if out.sent % 2 == 1 => seen.unwrap_or(self.path),
                _ => self.path,
            };
            ctx.send(path, &out.datagrams);
            return;
        }
        let tries = out.sent;
        self.adopt_collision(ctx, now);
        let timeout = Failure::Timeout { remote: self.path.remote, tries };
        let reason = self.farewell().cloned().unwrap_or_else(|| match &self.phase {
            Phase::InitSent(sent) => CloseReason::Failed(sent.refused.clone().unwrap_or(timeout)),
            Phase::AuthSent(_) => CloseReason::Failed(timeout),
            Phase::HalfOpen(_) | Phase::Established { .. } | Phase::Closed => CloseReason::DeadPeer,
        });
        self.end(ctx, reason);
    }
}
