//! What time does to IKE SAs: retransmission, rekeying, expiry.
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of task is told from all others")]

use std::time::{Duration, Instant};

use super::context::{Context, Deferred};
use super::endpoint::Endpoint;
use super::event::{ChildId, CloseReason, Event, Failure, IkeId};
use super::sa::{Phase, Sa};
use super::timer::Timer;
use super::window::{Task, Want};

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
