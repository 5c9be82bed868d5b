//! Two entities that talk or want to: a local and a remote permanent address.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::history::History;
use super::indexed::Timed;
use crate::ike::ChildId;

/// Local and remote permanent address.
pub(super) type PairKey = (Ipv6Addr, Ipv6Addr);

/// Packets that wait for one SA: enough for the first flight of a few connections.
const WAITING_PACKETS: usize = 32;

/// Pause after a failed attempt: doubles from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Where an attempt to reach the peer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// None under way.
    Idle,
    /// IKE runs.
    Running,
    /// The last one failed; no other one starts before `until`.
    Failed { until: Instant, error: String },
}

/// State of a pair.
pub(super) struct Pair {
    pub(super) attempt: Attempt,
    /// The child SA that we send on.
    pub(super) active: Option<ChildId>,
    /// Those that we send on beside it; a successor has the place of its predecessor.
    pub(super) additional: Vec<ChildId>,
    /// Every installed child SA, oldest first.
    pub(super) installed: Vec<ChildId>,
    /// Bring it up without traffic.
    pub(super) keep_up: bool,
    /// Failures since the last success.
    failures: u32,
    /// When a peer that is kept up may be tried.
    next_try: Instant,
    waiting: VecDeque<Vec<u8>>,
    /// How its packets went.
    pub(super) history: History,
}

impl Pair {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            attempt: Attempt::Idle,
            active: None,
            additional: Vec::new(),
            installed: Vec::new(),
            keep_up: false,
            failures: 0,
            next_try: now,
            waiting: VecDeque::new(),
            history: History::default(),
        }
    }

    /// Keeps a packet until the SA is up; gives it back when the queue is full.
    pub(super) fn wait(&mut self, packet: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.waiting.len() >= WAITING_PACKETS {
            return Err(packet);
        }
        self.waiting.push_back(packet);
        Ok(())
    }

    /// Takes every waiting packet.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.waiting)
    }

    /// Packets wait and nothing is under way for them.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() && self.active.is_none() && self.attempt != Attempt::Running
    }

    /// May an attempt start now?
    pub(super) fn may_try(&self, now: Instant) -> bool {
        match &self.attempt {
            Attempt::Idle => true,
            Attempt::Running => false,
            Attempt::Failed { until, .. } => *until <= now,
        }
    }

    /// An attempt failed: pause before the next one, longer each time.
    pub(super) fn failed(&mut self, now: Instant, error: String) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6)).min(LAST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.attempt = Attempt::Failed { until: now + pause, error };
    }

    /// Traffic flows.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.attempt = Attempt::Idle;
    }

    /// Something changed that makes another attempt worth it.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.failures = 0;
        if let Attempt::Failed { until, .. } = &mut self.attempt {
            *until = now;
        }
        self.next_try = now;
    }

    /// The last child is gone, or the way to the peer is not there yet: when a peer that is kept up is tried again.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.next_try = now + FIRST_PAUSE;
        if let Attempt::Failed { until, .. } = &mut self.attempt {
            *until = self.next_try.max(*until);
        }
    }

    /// Nothing worth remembering is left.
    pub(super) fn is_forgotten(&self) -> bool {
        self.installed.is_empty() && self.waiting.is_empty() && !self.keep_up && self.attempt == Attempt::Idle
    }
}

impl Timed for Pair {
    /// When a peer that is kept up wants its next attempt.
    fn deadline(&self) -> Option<Instant> {
        if !self.keep_up || self.active.is_some() {
            return None;
        }
        match &self.attempt {
            Attempt::Idle => Some(self.next_try),
            Attempt::Running => None,
            Attempt::Failed { until, .. } => Some(*until),
        }
    }
}
