//! Message IDs, retransmission and the response cache (RFC 7296 §2.1 – §2.3): a window of one in each direction.
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of exchange is told from all others")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::child::ChildTask;
use super::context::Context;
use super::event::{ChildId, CloseReason};
use super::fragment::Reassembly;
use super::rekey::RekeyTask;
use crate::dataplane::event::UdpPath;

/// Factor between retransmissions, in tenths.
const BACKOFF_TENTHS: u32 = 18;
/// Longest pause between retransmissions.
const LONGEST: Duration = Duration::from_secs(10);
/// Longest pause while a peer is not known to be there: it may start any moment.
pub(super) const LONGEST_HANDSHAKE: Duration = Duration::from_secs(4);
/// Requests of our own that wait for the window: two for each child, a few documents
/// and one of every other kind are less.
const MAX_QUEUE: usize = 96;

/// An exchange that we want to start when the window is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Another child SA, because there is none.
    Child,
    /// A child SA beside the others (RFC 9611).
    AdditionalChild,
    /// Replace a child SA.
    RekeyChild(ChildId),
    /// Delete a child SA.
    DeleteChild(ChildId, CloseReason),
    /// Replace the IKE SA.
    RekeyIke,
    /// Delete the IKE SA.
    DeleteIke(CloseReason),
    /// Ask whether the peer is alive.
    Liveness,
    /// Ask the peer at another address (COOKIE2), and move there if it answers.
    Probe(UdpPath),
    /// Tell our new address (RFC 4555 §3.5).
    UpdateAddresses,
    /// Carry a document to another of us.
    Tell(Vec<u8>),
    /// Tell that a child SA, which we received on by this SPI, has expired: it is gone already.
    DeleteExpired(u32),
}

/// What an exchange under way is about.
pub(super) enum Task {
    Init,
    Auth,
    Child(Box<ChildTask>),
    RekeyIke(Box<RekeyTask>),
    DeleteChild(ChildId, u32, CloseReason),
    DeleteExpired,
    DeleteIke(CloseReason),
    Liveness,
    Probe {
        path: UdpPath,
        cookie: Vec<u8>,
    },
    UpdateAddresses,
    Tell,
    /// We tell that we leave after a response that we did not accept (RFC 7296 §2.21.2), or that came when we were leaving.
    Refuse,
}

/// A request of ours without response.
pub(super) struct Outstanding {
    pub(super) id: u32,
    pub(super) task: Task,
    pub(super) datagrams: Vec<Vec<u8>>,
    pub(super) first_sent: Instant,
    last_sent: Instant,
    pub(super) sent: u32,
    pub(super) next: Instant,
    pub(super) interval: Duration,
    pub(super) longest: Duration,
    pub(super) tries: u32,
    hurried: bool,
    reprieves: u32,
}

impl Outstanding {
    pub(super) fn new(
        ctx: &mut Context,
        now: Instant,
        id: u32,
        task: Task,
        datagrams: Vec<Vec<u8>>,
        first: Duration,
        tries: u32,
    ) -> Self {
        Self {
            id,
            task,
            datagrams,
            first_sent: now,
            last_sent: now,
            sent: 1,
            next: now + ctx.swayed(first),
            interval: first,
            longest: LONGEST,
            hurried: false,
            reprieves: 0,
            tries,
        }
    }

    /// It is time: counts another transmission. False when there were enough.
    pub(super) fn again(&mut self, ctx: &mut Context, now: Instant) -> bool {
        if self.sent > self.tries {
            return false;
        }
        self.sent += 1;
        self.last_sent = now;
        self.interval = (self.interval * BACKOFF_TENTHS / 10).min(self.longest);
        self.next = now + ctx.swayed(self.interval);
        true
    }

    /// The peer lived after the last transmission, at `heard`: so it was the network that lost them all, and not the peer
    /// that is gone (RFC 7296 §2.4). One more transmission each time, but not for ever to somebody who never answers.
    pub(super) fn reprieve(&mut self, heard: Instant) {
        const MOST: u32 = 3;
        if self.sent > self.tries && heard > self.last_sent && self.reprieves < MOST {
            self.reprieves += 1;
            self.tries = self.sent;
        }
    }

    /// Somebody, unauthenticated, says that the peer is gone: find out soon, but find out. `patience` is how long an
    /// answer takes at most: whoever is there gets four times as long.
    pub(super) fn hurry(&mut self, now: Instant, patience: Duration) {
        const SOONEST: Duration = Duration::from_millis(150);
        const REMAINING: u32 = 3;
        if !self.hurried {
            self.hurried = true;
            self.tries = self.sent + REMAINING;
            self.longest = patience.clamp(SOONEST, self.longest);
            self.interval = self.longest;
            self.next = self.next.min(now + self.longest);
        }
    }
}

/// Both directions of one IKE SA.
#[derive(Default)]
pub(super) struct Window {
    /// ID of our next request.
    pub(super) next_id: u32,
    pub(super) outstanding: Option<Outstanding>,
    queue: VecDeque<Want>,
    /// ID of the peer's next request.
    pub(super) expected: u32,
    /// The last response, for retransmitted requests: byte for byte the same (RFC 7296 §2.1).
    pub(super) cached: Option<(u32, Vec<Vec<u8>>)>,
    /// Fragments of the peer's next request.
    pub(super) requests: Reassembly,
    /// Fragments of the answer that we wait for.
    pub(super) responses: Reassembly,
}

impl Window {
    /// Queues an exchange unless the same one waits already.
    pub(super) fn want(&mut self, want: Want) {
        if self.queue.len() < MAX_QUEUE && !self.queue.contains(&want) {
            self.queue.push_back(want);
        }
    }

    /// Forgets one that waits.
    pub(super) fn forget(&mut self, want: &Want) {
        self.queue.retain(|other| other != want);
    }

    /// Queues an exchange before all others.
    pub(super) fn want_first(&mut self, want: Want) {
        self.forget(&want);
        self.queue.push_front(want);
    }

    /// Queues a probe of this address, in place of one that waits: the newest address is the likeliest, and hints
    /// can come faster than the window lets us ask.
    pub(super) fn want_probe(&mut self, path: UdpPath) {
        self.queue.retain(|other| !matches!(other, Want::Probe(_)));
        self.queue.push_front(Want::Probe(path));
    }

    /// Where the peer's packets come from, if a probe of that waits for the window.
    pub(super) fn waiting_probe(&self) -> Option<UdpPath> {
        self.queue.iter().find_map(|want| match want {
            Want::Probe(path) => Some(*path),
            _ => None,
        })
    }

    /// The next exchange, when the window is free.
    pub(super) fn next_want(&mut self) -> Option<Want> {
        if self.outstanding.is_some() { None } else { self.queue.pop_front() }
    }

    /// The goodbye that waits, by its reason.
    pub(super) fn goodbye(&self) -> Option<&CloseReason> {
        self.queue.iter().find_map(|want| match want {
            Want::DeleteIke(reason) => Some(reason),
            _ => None,
        })
    }

    /// Documents that wait.
    pub(super) fn documents(&self) -> usize {
        self.queue.iter().filter(|want| matches!(want, Want::Tell(_))).count()
    }

    /// Everything that waits, taken away.
    pub(super) fn take_wants(&mut self) -> VecDeque<Want> {
        std::mem::take(&mut self.queue)
    }

    /// Nothing more is wanted than to say what was to be said.
    pub(super) fn keep_documents(&mut self) {
        self.queue.retain(|want| matches!(want, Want::Tell(_)));
    }

    /// Nothing more is wanted.
    pub(super) fn forget_wants(&mut self) {
        self.queue.clear();
    }
}
