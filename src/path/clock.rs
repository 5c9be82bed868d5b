//! What the agent does by the clock. All deadlines are in one place, [`Agent::next_task`]: what is due is what was
//! announced by `poll_timeout`.

use std::time::Instant;

use rand_core::Rng;

use super::Path;
use super::agent::{Agent, IDLE, is_recent};
use super::pmtu;
use super::reason::Reason;
use super::validation::{Due, Remote};
use crate::wire::path::{Body, MIN_CHALLENGE};

/// What is due next.
#[derive(Clone, Copy)]
enum Task {
    /// A challenge, or the verdict on those that were not answered.
    Remote(usize),
    /// Candidates that were not acknowledged.
    Repeat,
    /// Another round, because data is still relayed.
    Retry,
    /// The end of an idle conversation.
    Idle,
}

impl Agent {
    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.run(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let (at, task) = self.next_task()?;
        let why = match task {
            Task::Remote(index) if self.remotes.get(index).is_some_and(Remote::is_usable) => {
                "is the path alive?"
            }
            Task::Remote(_) => "path validation",
            Task::Repeat => "candidates not acknowledged",
            Task::Retry => "still relayed",
            Task::Idle => "idle paths",
        };
        Some((at, why))
    }

    pub(super) fn is_active(&self, now: Instant) -> bool {
        is_recent(self.sent.max(self.wanted), now)
    }

    /// Every deadline there is, and nowhere else: so nothing can be due that nobody wakes up for.
    fn next_task(&self) -> Option<(Instant, Task)> {
        let remotes = self.remotes.iter().enumerate().filter_map(|(index, remote)| {
            let flow = (Some(remote.address) == self.selected).then_some(self.sent);
            Some((remote.deadline(flow)?, Task::Remote(index)))
        });
        let repeat = self.exchange.repeat_at().map(|at| (at, Task::Repeat));
        let retry = self.exchange.retry_at().map(|at| (at, Task::Retry));
        let busy = !self.remotes.is_empty() || repeat.is_some() || retry.is_some();
        let idle = self.sent.max(self.wanted).filter(|_| busy).map(|last| (last + IDLE, Task::Idle));
        remotes.chain(repeat).chain(retry).chain(idle).min_by_key(|(at, _)| *at)
    }

    pub(super) fn run(&mut self, now: Instant) {
        // Each task moves its own deadline behind `now` or takes it away.
        while let Some((_, task)) = self.next_task().filter(|(at, _)| *at <= now) {
            match task {
                Task::Remote(index) => self.fire(now, index),
                Task::Repeat => self.repeat(now),
                Task::Retry => self.retry(now),
                Task::Idle => self.rest(),
            }
        }
        if self.selected.is_none() && self.exchange.retry_at().is_none() && is_recent(self.sent, now) {
            let jitter = (self.rng.next_u32() & 0xff) as u8;
            self.exchange.arm_retry(now, jitter);
        }
    }

    fn fire(&mut self, now: Instant, index: usize) {
        let Some(remote) = self.remotes.get_mut(index) else { return };
        match remote.fire(now) {
            Due::Ask => self.ask(now, index, MIN_CHALLENGE),
            Due::AskFull => self.ask(now, index, self.config.full_size),
            Due::AskLeast => self.ask(now, index, pmtu::LEAST),
            Due::GaveUp => {}
            Due::Dead(since) => self.bury(now, since),
            Due::Narrowed => {
                self.reselect(now, Reason::Narrow);
                self.begin_round(now);
            }
        }
    }

    fn ask(&mut self, now: Instant, index: usize, size: u16) {
        let mut token = [0; 8];
        self.rng.fill_bytes(&mut token);
        let Some(remote) = self.remotes.get_mut(index) else { return };
        if remote.ask(now, token, size) {
            let path = remote.path();
            self.send(now, path, Body::Challenge { token, size });
        }
    }

    /// The path in use is dead. What answered since it fell silent may take over; everything else is asked again.
    fn bury(&mut self, now: Instant, since: Instant) {
        for remote in &mut self.remotes {
            if remote.is_usable() && remote.last_answer() < Some(since) {
                remote.open(now);
            }
        }
        self.reselect(now, Reason::Unanswered);
        self.begin_round(now);
    }

    /// Every second time over the direct path, if there is one.
    fn repeat(&mut self, now: Instant) {
        let Some((body, tries)) = self.exchange.repeat(now) else { return };
        let path = if tries % 2 == 1 { self.current() } else { Path::Relayed };
        self.send_candidates(now, path, body);
    }

    fn retry(&mut self, now: Instant) {
        if self.selected.is_none() && is_recent(self.sent, now) {
            self.begin_round(now);
            let jitter = (self.rng.next_u32() & 0xff) as u8;
            self.exchange.arm_retry(now, jitter);
        } else {
            self.exchange.reset_retry();
        }
    }

    fn rest(&mut self) {
        self.remotes.clear();
        self.exchange.rest();
        self.select(None, Reason::Idle);
    }
}
