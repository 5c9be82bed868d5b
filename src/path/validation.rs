//! One address of the peer: challenges and responses (RFC 9000 §8.2), what may be sent there before it answered, its
//! round-trip time, and its end.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::Path;
use super::selection::{Class, Contender};
use super::status::{PathStatus, State};
use crate::wire::path::MIN_CHALLENGE;

/// Small challenges to an address for each Candidates message that names it: they open NATs, so they are free of the
/// three-times rule.
pub(super) const PUNCHES: u8 = 5;
/// Until the address has answered: octets sent for each octet received (RFC 9000 §8.1).
const AMPLIFICATION: u64 = 3;
/// Pauses after each small challenge while nobody has answered; the last one ends in silence.
const OPENING_PAUSES: [Duration; PUNCHES as usize] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_secs(1),
];
/// Full-size challenges before smaller ones are tried …
const FULL_PROOFS: u8 = 3;
/// … and challenges of both sizes before the path counts as too narrow.
const PROOFS: u8 = FULL_PROOFS + 5;
/// Unanswered challenges in a row, one a [`Rtt::patience`], after which the path in use is dead.
const DEAD_AFTER: u8 = 4;
/// In use, each so many-th challenge has the least size: a route that changed may have become too narrow.
const LEAST_EVERY: u8 = 8;
/// Those without an answer in a row, while small ones are answered, after which the path is too narrow.
const NARROW_AFTER: u8 = 4;
/// The path in use is challenged this often while data flows …
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// … and this often while it does not: NATs forget after 30 s and more.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A path that is not in use but answered within this time may take over.
const WARM: Duration = Duration::from_secs(30);
/// Challenges that the peer provokes are this far apart.
const PROVOKED_PAUSE: Duration = Duration::from_millis(50);
/// Challenges that an answer is recognised for.
const MAX_OUTSTANDING: usize = 8;

/// Octets of the UDP payload that carries a message of `plaintext` octets: SPI and sequence number, IV, padding with its
/// trailer, ICV, each at its largest. Compared with what was received before an address is validated.
pub const fn datagram_len(plaintext: usize) -> usize {
    8 + 8 + (plaintext + 2).next_multiple_of(4) + 16
}

/// Smoothed round-trip time (RFC 6298 §2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl Rtt {
    pub(super) fn sample(&mut self, rtt: Duration) {
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(rtt), rtt / 2),
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    /// How long to wait for an answer.
    pub(super) fn patience(&self) -> Duration {
        let Some(smoothed) = self.smoothed else { return Duration::from_millis(500) };
        let margin = (self.variation * 4).max(Duration::from_millis(20));
        (smoothed + margin).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }
}

/// What may be sent to an address.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    /// It answered a challenge: no limit any more.
    answered: bool,
    received: u64,
    sent: u64,
    punches: u8,
}

impl Budget {
    fn take(&mut self, octets: usize, punch: bool) -> bool {
        let octets = octets as u64;
        if self.answered {
            return true;
        }
        if punch && self.punches > 0 {
            self.punches -= 1;
            return true;
        }
        let within = self.sent + octets <= self.received.saturating_mul(AMPLIFICATION);
        if within {
            self.sent += octets;
        }
        within
    }
}

/// What is to be done when an address is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a small challenge.
    Ask,
    /// Send a challenge as large as the largest data.
    AskFull,
    /// Send a challenge of the size that a path must carry to be used at all.
    AskLeast,
    /// The address is given up; it was not in use.
    GaveUp,
    /// The path in use is dead; the first unanswered challenge left then.
    Dead(Instant),
    /// Small challenges are answered on the path in use, those of the least size no longer.
    Narrowed,
}

struct Asked {
    token: [u8; 8],
    at: Instant,
    size: u16,
}

/// One address of the peer.
pub(super) struct Remote {
    pub(super) address: SocketAddrV4,
    /// Our address that the peer's last message came to.
    pub(super) local: Option<SocketAddrV4>,
    pub(super) class: Class,
    state: State,
    /// Unanswered challenges in this state.
    tries: u8,
    /// The next challenge, or the verdict after the last one. In use and answered: `None`, see `deadline`.
    next: Option<Instant>,
    first_unanswered: Option<Instant>,
    /// Challenges since the last one of the least size while in use, and those of that size without an answer.
    checks: u8,
    least_unanswered: u8,
    /// The largest size that passed since it was opened.
    proven: u16,
    asked: Option<Instant>,
    answered: Option<Instant>,
    rtt: Rtt,
    budget: Budget,
    outstanding: VecDeque<Asked>,
    seen_as: Option<SocketAddrV4>,
}

impl Remote {
    pub(super) fn new(address: SocketAddrV4, class: Class) -> Self {
        Self {
            address,
            local: None,
            class,
            state: State::Silent,
            tries: 0,
            next: None,
            first_unanswered: None,
            checks: 0,
            least_unanswered: 0,
            proven: 0,
            asked: None,
            answered: None,
            rtt: Rtt::default(),
            budget: Budget::default(),
            outstanding: VecDeque::new(),
            seen_as: None,
        }
    }

    pub(super) fn path(&self) -> Path {
        Path::Direct { local: self.local, remote: self.address }
    }

    pub(super) fn is_usable(&self) -> bool {
        self.state == State::Usable
    }

    /// The size of the largest challenge that was answered since it was opened.
    pub(super) fn proven(&self) -> u16 {
        self.proven
    }

    /// The peer answered from this address at least once.
    pub(super) fn has_answered(&self) -> bool {
        self.budget.answered
    }

    pub(super) fn last_answer(&self) -> Option<Instant> {
        self.answered
    }

    /// A Candidates message names it: NATs may be opened anew.
    pub(super) fn name(&mut self, now: Instant, class: Class, punches: bool) {
        self.class = class;
        if punches {
            self.budget.punches = PUNCHES;
        }
        if punches && !matches!(self.state, State::Proving | State::Usable) {
            self.open(now);
        }
    }

    /// An authentic datagram came from here.
    pub(super) fn heard(&mut self, octets: usize, local: Option<SocketAddrV4>) {
        self.budget.received = self.budget.received.saturating_add(octets as u64);
        if self.state != State::Usable {
            self.local = local;
        }
    }

    /// Starts over with small challenges.
    pub(super) fn open(&mut self, now: Instant) {
        self.checks = 0;
        self.least_unanswered = 0;
        self.proven = 0;
        self.state = State::Opening;
        self.tries = 0;
        self.next = Some(now);
    }

    /// Full-size packets did not pass: try again.
    pub(super) fn widen(&mut self, now: Instant) {
        if self.state == State::Narrow {
            self.open(now);
        }
    }

    /// Our own addresses changed: what was measured before is void, and so are answers that are still under way.
    pub(super) fn restart(&mut self, now: Instant) {
        self.outstanding.clear();
        self.rtt = Rtt::default();
        self.local = None;
        self.seen_as = None;
        self.open(now);
    }

    /// The peer's datagrams come from here: ask whether it really is there.
    pub(super) fn provoke(&mut self, now: Instant) {
        let recent = self.asked.is_some_and(|at| now < at + PROVOKED_PAUSE);
        if !recent && matches!(self.state, State::Opening | State::Silent) {
            self.open(now);
        }
    }

    /// Doubt about the path in use: ask at once.
    pub(super) fn doubt(&mut self, now: Instant) {
        let recent = self.asked.is_some_and(|at| now < at + self.rtt.patience());
        if self.state == State::Usable && self.next.is_none() && !recent {
            self.next = Some(now);
        }
    }

    /// When it is due; `flow` is when data was sent last, if this is the path in use.
    pub(super) fn deadline(&self, flow: Option<Option<Instant>>) -> Option<Instant> {
        match (self.state, flow) {
            (State::Opening | State::Proving, _) => self.next,
            (State::Usable, Some(data)) => self.next.or_else(|| {
                let last = self.asked.max(self.answered)?;
                let pause = if data > Some(last) { BUSY_PAUSE } else { KEEPALIVE };
                Some(last + pause)
            }),
            (State::Usable | State::Silent | State::Narrow, _) => None,
        }
    }

    /// It is due.
    pub(super) fn fire(&mut self, now: Instant) -> Due {
        let tries = self.tries;
        self.tries = tries.saturating_add(1);
        match self.state {
            State::Proving if tries < PROOFS => {
                self.next = Some(now + self.rtt.patience());
                if tries < FULL_PROOFS { Due::AskFull } else { Due::AskLeast }
            }
            State::Usable if tries == 0 => self.check(now),
            State::Usable if tries < DEAD_AFTER => {
                self.next = Some(now + self.rtt.patience());
                Due::Ask
            }
            State::Usable => {
                self.open(now);
                Due::Dead(self.first_unanswered.take().unwrap_or(now))
            }
            State::Opening => match OPENING_PAUSES.get(usize::from(tries)) {
                Some(pause) => {
                    self.next = Some(now + *pause);
                    Due::Ask
                }
                None => self.give_up(State::Silent),
            },
            State::Proving | State::Narrow => self.give_up(State::Narrow),
            State::Silent => self.give_up(State::Silent),
        }
    }

    /// The first challenge of a check of the path in use.
    fn check(&mut self, now: Instant) -> Due {
        if self.least_unanswered == NARROW_AFTER {
            self.give_up(State::Narrow);
            return Due::Narrowed;
        }
        self.next = Some(now + self.rtt.patience());
        self.first_unanswered = Some(now);
        self.checks += 1;
        if self.least_unanswered == 0 && self.checks < LEAST_EVERY {
            return Due::Ask;
        }
        self.checks = 0;
        self.least_unanswered += 1;
        Due::AskLeast
    }

    fn give_up(&mut self, state: State) -> Due {
        self.state = state;
        self.next = None;
        Due::GaveUp
    }

    /// Whether a challenge of this size may leave now, and then that it does.
    pub(super) fn ask(&mut self, now: Instant, token: [u8; 8], size: u16) -> bool {
        if !self.budget.take(datagram_len(usize::from(size)), size == MIN_CHALLENGE) {
            return false;
        }
        self.asked = Some(now);
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Asked { token, at: now, size });
        true
    }

    /// Whether `octets` may be sent that are not a challenge, and then that they are.
    pub(super) fn may_send(&mut self, octets: usize) -> bool {
        self.budget.take(octets, false)
    }

    /// A response came from this address; false when it answers nothing.
    pub(super) fn answer(&mut self, now: Instant, token: [u8; 8], seen_as: Option<SocketAddrV4>) -> bool {
        let Some(place) = self.outstanding.iter().position(|asked| asked.token == token) else {
            return false;
        };
        let Some(asked) = self.outstanding.remove(place) else { return false };
        self.rtt.sample(now.saturating_duration_since(asked.at));
        self.answered = Some(now);
        self.seen_as = seen_as;
        self.budget.answered = true;
        let sized = asked.size > MIN_CHALLENGE;
        if sized {
            self.least_unanswered = 0;
            self.proven = self.proven.max(asked.size);
        }
        match self.state {
            State::Opening | State::Silent => {
                self.state = State::Proving;
                self.tries = 0;
                self.next = Some(now);
            }
            State::Proving | State::Narrow if sized => {
                self.state = State::Usable;
                self.settle();
            }
            State::Proving | State::Narrow => {}
            State::Usable => self.settle(),
        }
        true
    }

    fn settle(&mut self) {
        self.tries = 0;
        self.next = None;
        self.first_unanswered = None;
    }

    /// Its place in the ranking, if it may have one.
    pub(super) fn contender(&self, now: Instant, in_use: bool) -> Option<Contender> {
        let warm = self.answered.is_some_and(|at| now < at + WARM);
        (self.is_usable() && (in_use || warm))
            .then(|| Some(Contender { class: self.class, rtt: self.rtt.smoothed? }))
            .flatten()
    }

    pub(super) fn status(&self, in_use: bool) -> PathStatus {
        PathStatus {
            path: self.path(),
            class: self.class,
            state: self.state,
            in_use,
            rtt: self.rtt.smoothed,
            seen_as: self.seen_as,
        }
    }
}
