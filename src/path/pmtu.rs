//! The MTU of one path, found by what arrives and not by what routers say (RFC 8899): a sans-IO state machine for each
//! path that carries data to one of us.
//!
//! Sizes are octets of inner packets; a probe is a challenge of that size (`wire::path`), and behind each one goes a
//! *companion*, a challenge of the smallest size. A companion that is answered while the probe before it is not says that
//! the probe was lost, within a round trip and whatever the round trip is by now; one that is not answered says nothing
//! about sizes, and there is no verdict.
//!
//! ```text
//!   begin ---> largest? ---- passes -----------------------------> settled <----------------.
//!                 |                                                | |  | every 2 s of data: |
//!               lost 3 times                                       | |  '-- does it still? --'
//!                 v                                                | |
//!              1,280? ---> between? ---> … ---> between? -- done --' | 600 s of data later, if it is not
//!                 ^           (binary, what passes to what does not) | the largest: largest?
//!                 '-------- lost 5 times: a black hole --------------'
//! ```
//!
//! # Contract
//!
//! - After every input drain [`PathMtu::poll_probe`], look at [`PathMtu::mtu`], then arm a timer for
//!   [`PathMtu::poll_timeout`] and call [`PathMtu::handle_timeout`] when it is due.
//! - Nothing is sent for a path that carries no data ([`PathMtu::handle_carried`]), but for the first search.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::validation::Rtt;
use crate::wire::path::MIN_CHALLENGE;

/// BASE_PLPMTU (RFC 8899 §5.1.2), and what every link must carry for IPv6 (RFC 8200 §5): no MTU is less.
pub const LEAST: u16 = 1280;
/// Sealed packets are longer in steps of this (RFC 4303 §2.4), so that sizes between them need no probe.
const GRAIN: u16 = 4;
/// The last size that fits a step: two octets belong to ESP's trailer.
const LAST_OF_GRAIN: u16 = 2;
/// MAX_PROBES (RFC 8899 §5.1.2): probes of a size that are lost before it counts as too large.
const MAX_PROBES: u8 = 3;
/// The same for a size that has passed before: a queue that overflows must not look like a black hole.
const MAX_DOUBTS: u8 = 5;
/// From an answered companion to the next try: reordered answers come in, and one burst of loss is not three losses.
const PAUSE: Duration = Duration::from_millis(20);
/// The same when a proven size is in doubt.
const DOUBT_PAUSE: Duration = Duration::from_millis(100);
/// Companions in a row that nobody answered, after which the path says nothing for now.
const MAX_SILENCES: u8 = 4;
/// While data flows, the proven size is asked this often (CONFIRMATION_TIMER, RFC 8899 §5.1.1).
const CONFIRM: Duration = Duration::from_secs(2);
/// With a peer that never answered: doubled so many times at most.
const MAX_BACKOFF: u32 = 5;
/// PMTU_RAISE_TIMER (RFC 8899 §5.1.1).
const RAISE: Duration = Duration::from_secs(600);
/// A size that was refuted stays in force for the rest of the search, and no longer than this. What is lost meanwhile was
/// lost before, too; a sender that is told the least at once would keep to it for ten minutes (RFC 8201 §4).
const HOLD: Duration = Duration::from_secs(1);
/// Challenges that an answer is recognised for.
const MAX_OUTSTANDING: usize = 16;

struct Asked {
    token: [u8; 8],
    size: u16,
    at: Instant,
}

/// One size under test.
struct Round {
    size: u16,
    /// Losses that refute it, and how many there were.
    limit: u8,
    losses: u8,
    /// Companions that went unanswered in a row.
    silences: u8,
    /// The companion of the last probe, and whether it was answered.
    companion: Option<[u8; 8]>,
    heard: bool,
    due: Instant,
}

/// The MTU of one path. See the [module](self) for the contract.
pub struct PathMtu {
    max: u16,
    mtu: u16,
    /// The largest size that passed and was not refuted since.
    proven: Option<u16>,
    /// The smallest size that did not pass and was not proven since.
    refuted: Option<u16>,
    searching: bool,
    round: Option<Round>,
    hold: Option<Instant>,
    carried: bool,
    /// When the last round ended.
    checked: Instant,
    raise: Option<Instant>,
    /// Rounds in a row that ended in silence.
    silent: u32,
    /// The peer answered, here or elsewhere.
    answered: bool,
    rtt: Rtt,
    outstanding: VecDeque<Asked>,
    wanted: VecDeque<u16>,
}

impl PathMtu {
    /// A path that nobody has tried: packets are as large as `mtu` at first, and the search for what passes, up to `max`,
    /// begins at once. `rtt`: the round-trip time, if somebody knows it.
    pub fn new(now: Instant, max: u16, mtu: u16, rtt: Option<Duration>) -> Self {
        let max = max.max(LEAST);
        let mut path = Self::unknown(now, max, mtu.clamp(LEAST, max), rtt);
        path.decide(now);
        path
    }

    /// A path on which packets of `proven` octets have passed. If they are not the largest, those were lost.
    pub fn proven(now: Instant, max: u16, proven: u16, rtt: Option<Duration>) -> Self {
        let max = max.max(LEAST);
        let proven = proven.clamp(LEAST, max);
        let mut path = Self::unknown(now, max, proven, rtt);
        path.proven = Some(proven);
        path.refuted = (proven < max).then_some(max);
        path.decide(now);
        path
    }

    fn unknown(now: Instant, max: u16, mtu: u16, known: Option<Duration>) -> Self {
        let mut rtt = Rtt::default();
        if let Some(known) = known {
            rtt.sample(known);
        }
        Self {
            max,
            mtu,
            proven: None,
            refuted: None,
            searching: true,
            round: None,
            hold: None,
            carried: false,
            checked: now,
            raise: None,
            silent: 0,
            answered: false,
            rtt,
            outstanding: VecDeque::new(),
            wanted: VecDeque::new(),
        }
    }

    // Inputs.

    /// Data was sent on the path. Call it about once a second while data flows.
    pub fn handle_carried(&mut self, now: Instant) {
        self.carried = true;
        self.handle_timeout(now);
    }

    /// A response came; false when it answers nothing of this path.
    pub fn handle_response(&mut self, now: Instant, token: [u8; 8]) -> bool {
        let Some(place) = self.outstanding.iter().position(|asked| asked.token == token) else {
            return false;
        };
        let Some(asked) = self.outstanding.remove(place) else { return false };
        self.rtt.sample(now.saturating_duration_since(asked.at));
        self.handle_peer_answered();
        if asked.size > MIN_CHALLENGE {
            self.pass(now, asked.size);
        } else if let Some(round) = self.round.as_mut().filter(|round| round.companion == Some(token)) {
            round.heard = true;
            round.silences = 0;
            round.due = now + if round.limit == MAX_DOUBTS { DOUBT_PAUSE } else { PAUSE };
        }
        true
    }

    /// The peer answers such challenges, if not on this path: silence here is the path's, and asked again before long.
    pub fn handle_peer_answered(&mut self) {
        self.answered = true;
        self.silent = 0;
    }

    /// The socket refused a probe of this size: this machine's own link is too narrow (EMSGSIZE). Nobody else says so, and
    /// it needs no second try.
    pub fn handle_too_big(&mut self, now: Instant, size: u16) {
        if self.round.as_ref().is_some_and(|round| round.size == size) {
            self.fail(now, size);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.hold.is_some_and(|at| at <= now) {
            self.hold = None;
            self.mtu = self.proven.unwrap_or(LEAST);
        }
        if self.round.as_ref().is_some_and(|round| round.due <= now) {
            self.judge(now);
        } else if self.round.is_none() && self.check_at().is_some_and(|at| at <= now) {
            self.carried = false;
            self.check(now);
        }
    }

    /// Somebody saw the largest packets pass: they are looked for again as soon as data flows.
    pub fn handle_wider(&mut self, now: Instant) {
        if let Some(raise) = &mut self.raise {
            *raise = now;
        }
    }

    /// The network may be another one: what was found is void, and looked for again as soon as data flows.
    pub fn forget(&mut self, now: Instant) {
        let mut anew = Self::unknown(now, self.max, self.mtu, None);
        anew.checked = now.checked_sub(CONFIRM).unwrap_or(now);
        *self = anew;
    }

    // Outputs.

    /// The size of the next challenge to send; `token` is what it will carry: unpredictable, never twice.
    pub fn poll_probe(&mut self, now: Instant, token: [u8; 8]) -> Option<u16> {
        let size = self.wanted.pop_front()?;
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Asked { token, size, at: now });
        if size == MIN_CHALLENGE
            && let Some(round) = &mut self.round
        {
            round.companion = Some(token);
        }
        Some(size)
    }

    /// When [`Self::handle_timeout`] is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let round = self.round.as_ref().map(|round| (round.due, "does this size pass?"));
        let check = self.check_at().filter(|_| round.is_none()).map(|at| (at, "do packets still pass?"));
        let hold = self.hold.map(|at| (at, "the search took too long"));
        [round, check, hold].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Octets of the largest inner packet, at least [`LEAST`].
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The largest size that was shown to pass.
    pub fn proven_size(&self) -> Option<u16> {
        self.proven
    }

    /// Not even [`LEAST`] passes, while smaller packets do.
    pub fn is_narrow(&self) -> bool {
        self.refuted.is_some_and(|size| size <= LEAST)
    }

    // Rounds.

    /// When a path at rest is looked at again.
    fn check_at(&self) -> Option<Instant> {
        let backoff = if self.answered { 0 } else { self.silent.min(MAX_BACKOFF) };
        let confirm = self.checked + CONFIRM * (1 << backoff);
        self.carried.then_some(confirm)
    }

    fn check(&mut self, now: Instant) {
        if self.raise.is_some_and(|at| at <= now) {
            self.raise = None;
            self.refuted = None;
            self.searching = true;
        }
        if self.searching {
            self.decide(now);
        } else {
            self.begin(now, self.proven.unwrap_or(LEAST), MAX_DOUBTS);
        }
    }

    fn begin(&mut self, now: Instant, size: u16, limit: u8) {
        let round = Round { size, limit, losses: 0, silences: 0, companion: None, heard: false, due: now };
        self.round = Some(round);
        self.ask(now);
    }

    /// The probe first, its companion behind it.
    fn ask(&mut self, now: Instant) {
        let patience = self.rtt.patience();
        let Some(round) = &mut self.round else { return };
        round.companion = None;
        round.heard = false;
        round.due = now + patience;
        self.wanted.clear();
        self.wanted.extend([round.size, MIN_CHALLENGE]);
    }

    /// The last try has had its time.
    fn judge(&mut self, now: Instant) {
        let Some(round) = &mut self.round else { return };
        if round.heard {
            round.losses += 1;
            if round.losses >= round.limit {
                let size = round.size;
                return self.fail(now, size);
            }
        } else {
            round.silences += 1;
            if round.silences >= MAX_SILENCES {
                self.silent = self.silent.saturating_add(1);
                return self.rest(now);
            }
        }
        self.ask(now);
    }

    fn pass(&mut self, now: Instant, size: u16) {
        // It was too narrow for the least, or for this size, and is not any more: how wide is it?
        self.searching |= self.is_narrow() || size > self.mtu;
        self.proven = self.proven.max(Some(size));
        self.refuted = self.refuted.filter(|refuted| *refuted > size);
        if self.round.as_ref().is_none_or(|round| round.size > size) {
            return;
        }
        if self.searching { self.decide(now) } else { self.rest(now) }
    }

    fn fail(&mut self, now: Instant, size: u16) {
        self.refuted = Some(self.refuted.map_or(size, |refuted| refuted.min(size)));
        self.proven = self.proven.filter(|proven| *proven < size);
        self.searching = true;
        if size <= self.mtu && self.hold.is_none() {
            self.hold = Some(now + HOLD);
        }
        self.decide(now);
    }

    /// The next size of the search, or its end.
    fn decide(&mut self, now: Instant) {
        let next = match (self.proven, self.refuted) {
            (Some(proven), None) if proven >= self.max => None,
            (_, None) => Some(self.max),
            (None, Some(refuted)) => (refuted > LEAST).then_some(LEAST),
            (Some(proven), Some(refuted)) => between(proven, refuted),
        };
        match next {
            Some(size) => self.begin(now, size, MAX_PROBES),
            None => {
                self.searching = false;
                self.hold = None;
                self.mtu = self.proven.unwrap_or(LEAST);
                self.raise = (self.mtu < self.max).then(|| now + RAISE);
                self.rest(now);
            }
        }
    }

    fn rest(&mut self, now: Instant) {
        self.round = None;
        self.wanted.clear();
        self.checked = now;
    }
}

/// The middle of the sizes above `proven` and below `refuted` that are the last of their step.
fn between(proven: u16, refuted: u16) -> Option<u16> {
    let step_of = |size: u16| (size + GRAIN - 1 - LAST_OF_GRAIN) / GRAIN;
    // The first step whose last size is above what passed, and the last one that ends below what did not.
    let (first, last) = (step_of(proven + 1), step_of(refuted) - 1);
    (first <= last).then(|| first.midpoint(last) * GRAIN + LAST_OF_GRAIN)
}

#[cfg(test)]
#[path = "pmtu_tests.rs"]
mod tests;
