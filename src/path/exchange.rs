//! Both ends' candidates: generations, acknowledgement, repetition, and how often the peer may make us open NATs.
//!
//! Whoever begins a round repeats its Candidates until the peer acknowledges them. The peer answers each with its own, in
//! a new generation, because only a new generation gives the other end the right to open NATs: so a round opens them
//! from both sides at the same time.

use std::time::{Duration, Instant};

use crate::wire::path::{Body, CandidateList};

/// Pauses after each sending of one round's Candidates.
const REPEAT_PAUSES: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// The next round while data is still relayed; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Longest pause between rounds.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Generations in a row that give the right to challenge addresses that never answered. One round may take three.
const MAX_ALLOWANCE: u32 = 6;
/// One more generation for each of these.
const ALLOWANCE_PAUSE: Duration = Duration::from_secs(2);

/// What a Candidates message brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A generation that replaces all before; `punch`: its addresses may be challenged unasked.
    New { punch: bool },
    /// The current generation again.
    Again,
    /// An older one, which means nothing any more.
    Old,
}

struct Repeat {
    /// The generation that the round began with: acknowledging it ends the repetition.
    wanted: u32,
    tries: usize,
    next: Instant,
}

/// The exchange of one pair of nodes.
pub(super) struct Exchange {
    generation: u32,
    list: CandidateList,
    /// As far as we know the peer has not seen this generation yet: it will be new to it.
    fresh: bool,
    repeat: Option<Repeat>,
    heard: u32,
    peer: CandidateList,
    allowance: u32,
    /// When the allowance was whole, or grew last.
    refilled: Option<Instant>,
    retry: Option<Instant>,
    retry_pause: Duration,
}

impl Exchange {
    pub(super) fn new() -> Self {
        Self {
            generation: 0,
            list: CandidateList::EMPTY,
            fresh: false,
            repeat: None,
            heard: 0,
            peer: CandidateList::EMPTY,
            allowance: MAX_ALLOWANCE,
            refilled: None,
            retry: None,
            retry_pause: FIRST_RETRY,
        }
    }

    /// Generations begin behind this one.
    pub(super) fn begin_after(&mut self, generation: u32) {
        self.generation = generation;
    }

    /// The last generation of our own.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// What the peer named last.
    pub(super) fn peer(&self) -> &CandidateList {
        &self.peer
    }

    /// What was told last.
    pub(super) fn told(&self) -> &CandidateList {
        &self.list
    }

    /// The peer moved: what it named is void.
    pub(super) fn forget_peer(&mut self) {
        self.peer = CandidateList::EMPTY;
    }

    /// Begins a round: due at once.
    pub(super) fn begin(&mut self, now: Instant, list: CandidateList) {
        self.next_generation(list);
        self.fresh = true;
        self.repeat = Some(Repeat { wanted: self.generation, tries: 0, next: now });
    }

    fn next_generation(&mut self, list: CandidateList) {
        // 2^32 rounds at one a second are 136 years.
        self.generation = self.generation.saturating_add(1);
        self.list = list;
    }

    /// When Candidates are to be sent (again).
    pub(super) fn repeat_at(&self) -> Option<Instant> {
        Some(self.repeat.as_ref()?.next)
    }

    /// Candidates are due: the message, and how often it was sent before; `None` after the last time.
    pub(super) fn repeat(&mut self, now: Instant) -> Option<(Body, usize)> {
        let repeat = self.repeat.as_mut()?;
        let tries = repeat.tries;
        let Some(pause) = REPEAT_PAUSES.get(tries) else {
            self.repeat = None;
            return None;
        };
        repeat.tries += 1;
        repeat.next = now + *pause;
        Some((self.body(false), tries))
    }

    /// What answers the peer's Candidates. `again`: they came before, so the last answer is repeated.
    pub(super) fn answer(&mut self, list: CandidateList, again: bool) -> Body {
        if list != self.list || !(self.fresh || again) {
            self.next_generation(list);
        }
        self.fresh = false;
        self.body(true)
    }

    fn body(&self, answer: bool) -> Body {
        Body::Candidates { generation: self.generation, acknowledged: self.heard, answer, list: self.list }
    }

    /// The peer's Candidates.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        generation: u32,
        acknowledged: u32,
        list: CandidateList,
    ) -> Heard {
        // A generation that was never sent acknowledges nothing.
        let wanted = self.repeat.as_ref().map(|repeat| repeat.wanted);
        if acknowledged <= self.generation && wanted.is_some_and(|wanted| acknowledged >= wanted) {
            self.repeat = None;
        }
        if acknowledged == self.generation {
            self.fresh = false;
        }
        if generation <= self.heard {
            return if generation == self.heard { Heard::Again } else { Heard::Old };
        }
        self.heard = generation;
        self.peer = list;
        Heard::New { punch: self.take_allowance(now) }
    }

    fn take_allowance(&mut self, now: Instant) -> bool {
        let since = *self.refilled.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_secs() / ALLOWANCE_PAUSE.as_secs();
        let grown = self.allowance.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX));
        if grown >= MAX_ALLOWANCE {
            self.refilled = Some(now);
        } else if passed > 0 {
            self.refilled = Some(since + ALLOWANCE_PAUSE * (grown - self.allowance));
        }
        self.allowance = grown.min(MAX_ALLOWANCE);
        let left = self.allowance.checked_sub(1);
        self.allowance = left.unwrap_or(0);
        left.is_some()
    }

    /// When the next round is due because data is still relayed.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry
    }

    /// Arms the next round, `jitter` of 256 parts of a quarter later or earlier, so that both ends do not keep step.
    pub(super) fn arm_retry(&mut self, now: Instant, jitter: u8) {
        let quarter = self.retry_pause / 4;
        self.retry = Some(now + quarter * 3 + quarter * u32::from(jitter) / 128);
        self.retry_pause = (self.retry_pause * 2).min(LONGEST_RETRY);
    }

    /// No round is due, and the next ones will follow quickly.
    pub(super) fn reset_retry(&mut self) {
        self.retry = None;
        self.retry_pause = FIRST_RETRY;
    }

    /// Nothing more is sent by ourselves.
    pub(super) fn rest(&mut self) {
        self.repeat = None;
        self.reset_retry();
    }
}
