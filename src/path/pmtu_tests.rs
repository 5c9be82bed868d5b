//! Against a link whose MTU nobody tells and that changes.
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

const MAX: u16 = 1380;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The largest inner packet that may be sent through a link of that width.
fn best(hidden: u16) -> u16 {
    hidden.min(MAX)
}

/// A path to a peer that answers challenges.
struct Link {
    now: Instant,
    /// Inner packets up to this size pass: the last of a step.
    hidden: u16,
    delay: Duration,
    jitter: Duration,
    /// Share of packets that vanish, in thousandths, each way.
    loss: u32,
    /// This machine's own link.
    local: u16,
    dead: bool,
    talks: bool,
    next_tick: Instant,
    answers: BTreeMap<(Instant, u64), [u8; 8]>,
    probes: Vec<(Instant, u16)>,
    rng: ChaCha20Rng,
    path: PathMtu,
    changes: Vec<(Instant, u16)>,
}

impl Link {
    fn new(seed: u64, hidden: u16, make: impl FnOnce(Instant) -> PathMtu) -> Self {
        let now = Instant::now();
        let mut link = Self {
            now,
            hidden,
            delay: ms(10),
            jitter: Duration::ZERO,
            loss: 0,
            local: u16::MAX,
            dead: false,
            talks: true,
            next_tick: now,
            answers: BTreeMap::new(),
            probes: Vec::new(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            path: make(now),
            changes: Vec::new(),
        };
        link.drain();
        link
    }

    fn fresh(seed: u64, hidden: u16) -> Self {
        Self::new(seed, hidden, |now| PathMtu::new(now, MAX, MAX, None))
    }

    fn lost(&mut self) -> bool {
        self.loss > 0 && self.rng.next_u32() % 1000 < self.loss
    }

    fn drain(&mut self) {
        loop {
            let mut token = [0; 8];
            self.rng.fill_bytes(&mut token);
            let Some(size) = self.path.poll_probe(self.now, token) else { break };
            self.probes.push((self.now, size));
            if size > self.local {
                self.path.handle_too_big(self.now, size);
                continue;
            }
            let lost = self.lost() || self.lost();
            if self.dead || size > self.hidden || lost {
                continue;
            }
            let jitter = self.jitter.as_micros() as u64;
            let extra = if jitter == 0 { 0 } else { self.rng.next_u64() % jitter };
            let at = self.now + self.delay * 2 + Duration::from_micros(extra);
            self.answers.insert((at, self.rng.next_u64()), token);
        }
        let mtu = self.path.mtu();
        assert!((LEAST..=MAX).contains(&mtu));
        if self.changes.last().is_none_or(|(_, last)| *last != mtu) {
            self.changes.push((self.now, mtu));
        }
    }

    fn run_until(&mut self, end: Instant, done: impl Fn(&Self) -> bool) -> bool {
        let mut turns = 0;
        while !done(self) {
            let due = self.path.poll_timeout().map(|(at, _)| at);
            let answer = self.answers.first_key_value().map(|((at, _), _)| *at);
            let next = [due, answer, Some(self.next_tick)].into_iter().flatten().min().unwrap();
            if next > end {
                self.now = end;
                return done(self);
            }
            // A deadline that stays in the past would turn for ever.
            turns = if next <= self.now { turns + 1 } else { 0 };
            assert!(turns < 100, "{:?} is due and stays due", self.path.poll_timeout());
            self.now = next.max(self.now);
            while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let token = entry.remove();
                self.path.handle_response(self.now, token);
            }
            if self.next_tick <= self.now {
                self.next_tick = self.now + ms(1000);
                if self.talks {
                    self.path.handle_carried(self.now);
                }
            }
            self.path.handle_timeout(self.now);
            self.drain();
        }
        true
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
    }

    fn reaches(&mut self, mtu: u16, within: Duration) -> bool {
        let end = self.now + within;
        self.run_until(end, |link| link.path.mtu() == mtu && link.path.proven_size() == Some(mtu))
    }
}

#[test]
fn a_path_that_carries_the_largest_packets_is_proven_by_one_probe() {
    let mut link = Link::fresh(1, MAX);
    assert_eq!(link.path.mtu(), MAX, "nothing is told to applications before anything is known");
    assert!(link.reaches(MAX, ms(20)));
    assert_eq!(link.probes.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [MAX, MIN_CHALLENGE]);
    assert_eq!(link.changes.len(), 1);
}

#[test]
fn every_narrower_path_is_found_exactly_and_soon() {
    for hidden in (1282..MAX).step_by(usize::from(GRAIN)) {
        let mut link = Link::fresh(1, hidden);
        assert!(link.reaches(hidden, ms(1200)), "{hidden}: {} {:?}", link.path.mtu(), link.path.proven);
        // Applications hear of one number, and it is the right one.
        assert_eq!(link.changes.iter().map(|(_, mtu)| *mtu).collect::<Vec<_>>(), [MAX, hidden]);
    }
}

#[test]
fn what_path_control_has_shown_is_where_the_search_begins() {
    let mut wide = Link::new(1, MAX, |now| PathMtu::proven(now, MAX, MAX, None));
    wide.talks = false;
    wide.run_for(ms(5000));
    assert!(wide.probes.is_empty() && wide.path.proven_size() == Some(MAX));
    let mut narrow = Link::new(1, 1338, |now| PathMtu::proven(now, MAX, LEAST, None));
    assert_eq!(narrow.path.mtu(), LEAST, "larger ones were lost a moment ago");
    assert!(narrow.reaches(1338, ms(1200)));
    assert!(narrow.probes.iter().all(|(_, size)| *size < MAX));
}

#[test]
fn a_path_that_shrinks_while_data_flows_is_noticed_within_four_seconds() {
    for hidden in [1282, 1286, 1338, 1374] {
        let mut link = Link::fresh(1, MAX);
        link.run_for(ms(10_300));
        link.hidden = hidden;
        assert!(link.reaches(hidden, ms(4500)), "{hidden}: still {}", link.path.mtu());
        assert_eq!(link.changes.len(), 2, "{:?}", link.changes);
    }
}

#[test]
fn a_slow_search_does_not_keep_large_packets_vanishing() {
    let mut link = Link::fresh(1, MAX);
    link.delay = ms(300);
    link.run_for(ms(10_000));
    link.hidden = 1338;
    let end = link.now + CONFIRM + ms(1000) + ms(700) * 5 + HOLD + ms(100);
    assert!(link.run_until(end, |link| link.path.mtu() < 1338), "still {}", link.path.mtu());
    assert!(link.reaches(1338, ms(12_000)));
}

#[test]
fn a_path_that_becomes_wider_is_noticed_when_the_raise_timer_ends() {
    let mut link = Link::fresh(1, 1338);
    assert!(link.reaches(1338, ms(1200)));
    link.hidden = MAX;
    link.run_for(RAISE - ms(3000));
    assert_eq!(link.path.mtu(), 1338);
    assert!(link.reaches(MAX, ms(8000)));
    // Sooner when somebody saw it.
    let mut link = Link::fresh(1, 1338);
    assert!(link.reaches(1338, ms(1200)));
    link.hidden = MAX;
    link.path.handle_wider(link.now);
    assert!(link.reaches(MAX, CONFIRM + ms(1500)));
    // And one that did not loses nothing by being asked.
    let mut link = Link::fresh(1, 1338);
    link.run_for(RAISE * 3);
    assert_eq!(link.changes.len(), 2, "{:?}", link.changes);
}

#[test]
fn without_data_nothing_is_sent() {
    let mut link = Link::fresh(1, 1338);
    link.talks = false;
    link.run_for(ms(5000));
    let probes = link.probes.len();
    link.run_for(RAISE * 6);
    assert_eq!(link.probes.len(), probes);
    assert!(link.path.poll_timeout().is_none());
}

#[test]
fn with_data_the_path_is_asked_now_and_then() {
    let mut link = Link::fresh(1, MAX);
    link.run_for(ms(1000));
    let before = link.probes.len();
    link.run_for(ms(60_000));
    assert!((40..=64).contains(&(link.probes.len() - before)), "{}", link.probes.len() - before);
}

#[test]
fn a_dead_path_says_nothing_about_sizes() {
    let mut link = Link::fresh(1, MAX);
    link.run_for(ms(5000));
    link.dead = true;
    link.run_for(ms(120_000));
    assert_eq!(link.changes.len(), 1, "{:?}", link.changes);
    // It comes back as another, narrower one.
    (link.dead, link.hidden) = (false, 1338);
    assert!(link.reaches(1338, ms(6000)));
}

#[test]
fn a_peer_that_does_not_answer_challenges_is_asked_less_and_less() {
    let mut link = Link::fresh(1, MAX);
    link.dead = true;
    link.answers.clear();
    link.path = PathMtu::new(link.now, MAX, MAX, None);
    link.run_for(ms(600_000));
    assert_eq!((link.path.mtu(), link.path.proven_size()), (MAX, None));
    assert!(link.probes.len() < 140, "{} probes", link.probes.len());
}

/// A path that was dead for a while, one way or both, to a peer that answers elsewhere: its search goes on within seconds.
#[test]
fn a_path_that_was_dead_is_searched_soon_after_it_lives() {
    let is_soon = |dead_for: u64, answers_elsewhere: bool| {
        let mut link = Link::fresh(dead_for, 1306);
        if answers_elsewhere {
            link.path.handle_peer_answered();
        }
        link.dead = true;
        link.answers.clear();
        link.run_for(ms(dead_for));
        link.dead = false;
        link.reaches(1306, ms(6000))
    };
    let mut times = (1000..90_000).step_by(3000);
    assert!(times.clone().all(|dead_for| is_soon(dead_for, true)));
    assert!(!times.all(|dead_for| is_soon(dead_for, false)), "what it is for");
}

#[test]
fn less_than_the_least_is_told_as_narrow_and_healed() {
    let mut link = Link::fresh(1, 1200);
    let end = link.now + ms(3000);
    assert!(link.run_until(end, |link| link.path.is_narrow()));
    link.run_for(ms(2000));
    assert_eq!((link.path.mtu(), link.path.proven_size()), (LEAST, None));
    link.hidden = 1338;
    assert!(link.reaches(1338, ms(5000)));
    assert!(!link.path.is_narrow());
}

#[test]
fn our_own_narrow_link_is_known_at_once() {
    let mut link = Link::fresh(1, MAX);
    link.local = 1338;
    link.path = PathMtu::new(link.now, MAX, MAX, None);
    link.answers.clear();
    link.drain();
    // The largest was refused in the instant that it was sent; each step up needs one round trip.
    assert!(link.reaches(1338, ms(20 * 7)));
    link.local = 1300;
    let end = link.now + ms(2000) + ms(1000) + ms(20 * 7);
    assert!(link.run_until(end, |link| link.path.proven_size() == Some(1298)), "{}", link.path.mtu());
}

#[test]
fn loss_alone_rarely_looks_like_a_black_hole() {
    let mut wrong = 0;
    for seed in 0..20 {
        let mut link = Link::fresh(seed, MAX);
        link.run_for(ms(2000));
        link.loss = 50;
        link.run_for(ms(600_000));
        wrong += link.changes.len() - 1;
    }
    assert!(wrong <= 1, "{wrong} times in 200 minutes");
}

#[test]
fn a_queue_that_fills_up_is_no_black_hole() {
    let mut link = Link::fresh(1, MAX);
    link.delay = ms(5);
    link.run_for(ms(5000));
    for delay in [100, 400, 900, 1500, 5] {
        link.delay = ms(delay);
        link.run_for(ms(10_000));
    }
    assert_eq!(link.changes.len(), 1, "{:?}", link.changes);
}

#[test]
fn after_a_move_everything_is_found_anew_when_data_flows() {
    let mut link = Link::fresh(1, MAX);
    link.run_for(ms(5000));
    (link.talks, link.hidden) = (false, 1338);
    link.answers.clear();
    link.path.forget(link.now);
    let before = link.probes.len();
    link.run_for(ms(60_000));
    assert_eq!((link.probes.len(), link.path.proven_size()), (before, None));
    link.talks = true;
    assert!(link.reaches(1338, ms(1000 + 1500)));
}

#[test]
fn a_response_that_nobody_asked_for_changes_nothing() {
    let mut link = Link::fresh(1, 1338);
    link.run_for(ms(3000));
    assert!(!link.path.handle_response(link.now, [7; 8]));
    assert_eq!(link.path.mtu(), 1338);
}

/// What happens to the link, and for how long.
#[derive(Clone, Debug)]
struct Change {
    hidden: u16,
    delay: u64,
    loss: u32,
    millis: u64,
}

fn change() -> impl Strategy<Value = Change> {
    let hidden = prop_oneof![Just(MAX), (320u16..345).prop_map(|step| step * GRAIN + LAST_OF_GRAIN)];
    let loss = prop_oneof![3 => Just(0), 1 => 0u32..300];
    (hidden, 0u64..300, loss, 0u64..20_000).prop_map(|(hidden, delay, loss, millis)| Change {
        hidden,
        delay,
        loss,
        millis,
    })
}

proptest! {
    /// Whatever the link did before: once it keeps still and data flows, no packet larger than it carries is asked for
    /// after a bounded time, and after the raise timer the number is exact.
    #[test]
    fn a_link_that_keeps_still_is_known(
        seed: u64, jitter in 0u64..30, history in proptest::collection::vec(change(), 1..6), last in change(),
    ) {
        let mut link = Link::fresh(seed, MAX);
        link.jitter = ms(jitter);
        for change in history {
            (link.hidden, link.delay, link.loss) = (change.hidden, ms(change.delay), change.loss);
            link.run_for(ms(change.millis));
        }
        (link.hidden, link.delay, link.loss) = (last.hidden, ms(last.delay), 0);
        // A try of the round before, the next round, five tries, the hold, and answers still under way.
        let bound = ms(4 * 1000) + CONFIRM + ms(1000) + (ms(2 * last.delay + jitter) + DOUBT_PAUSE) * 6 + HOLD + ms(1000);
        link.run_for(bound);
        let since = link.now;
        prop_assert!(link.path.mtu() <= best(last.hidden), "{} through {}", link.path.mtu(), last.hidden);
        link.run_for(RAISE + ms(30_000));
        prop_assert_eq!(link.path.mtu(), best(last.hidden));
        prop_assert_eq!(link.path.proven_size(), Some(best(last.hidden)));
        for (at, mtu) in link.changes.iter().filter(|(at, _)| *at > since) {
            prop_assert!(*mtu <= best(last.hidden), "{mtu} at {at:?}");
        }
    }

    #[test]
    fn between_is_between_and_the_last_of_a_step(proven in LEAST..9000, more in 1u16..9000) {
        let refuted = proven + more;
        match between(proven, refuted) {
            Some(size) => prop_assert!(proven < size && size < refuted && size % GRAIN == LAST_OF_GRAIN),
            None => prop_assert!((proven + 1..refuted).all(|size| size % GRAIN != LAST_OF_GRAIN)),
        }
    }
}
