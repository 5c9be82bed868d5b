//! Strangers who ask to be let in (see [`stranger`]): how many may come, how long each may stay.
//!
//! A stranger proves a key that says nothing, so each costs us one key agreement, one signature and one entry here. Its
//! SA carries documents and never a child SA, is never rekeyed, and ends soon.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::sa::Sa;
use super::timer::Timer;
use crate::policy::stranger;

/// A stranger's SA ends after this long, and counts for as long even if it ended before.
const STAY: Duration = Duration::from_secs(20);
/// Strangers at once: six a second at most, and that many SAs.
const MAX: usize = 128;
/// Of these, from one IPv4 address: a few machines behind one NAT that ask every five seconds.
const MAX_PER_SOURCE: usize = 16;

/// Who came lately.
#[derive(Default)]
pub(super) struct Strangers {
    /// In the order in which they came; at most [`MAX`].
    came: VecDeque<(Instant, Ipv4Addr)>,
}

impl Strangers {
    /// One has proven its key from this address: may it stay? If so it counts.
    pub(super) fn admits(&mut self, now: Instant, from: Ipv4Addr) -> bool {
        while self.came.front().is_some_and(|(at, _)| *at + STAY <= now) {
            self.came.pop_front();
        }
        let from_here = self.came.iter().filter(|(_, source)| *source == from).count();
        let admitted = self.came.len() < MAX && from_here < MAX_PER_SOURCE;
        if admitted {
            self.came.push_back((now, from));
        }
        admitted
    }
}

impl Sa {
    /// One end of it is a stranger.
    pub(super) fn is_strange(&self) -> bool {
        stranger::is_one(self.remote) || stranger::is_one(self.local)
    }

    /// Nothing keeps it beyond its stay.
    pub(super) fn limit_stranger(&mut self, now: Instant) {
        for timer in [Timer::Rekey, Timer::Reauth, Timer::Keepalive] {
            self.timers.stop(timer);
        }
        self.timers.set(Timer::Hard, now + STAY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_bounded_in_all_and_from_one_address() {
        #[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
        let start = Instant::now();
        let mut strangers = Strangers::default();
        let source = |n: usize| Ipv4Addr::from(0xc000_0200 + n as u32);
        let admitted = (0..1000).filter(|_| strangers.admits(start, source(0))).count();
        assert_eq!(admitted, MAX_PER_SOURCE, "from one address");
        // Others are not shut out by it …
        assert!(strangers.admits(start, source(1)));
        // … but all together are bounded, and so is what is kept.
        let admitted = (2..1000).filter(|n| strangers.admits(start, source(*n))).count();
        assert_eq!(admitted, MAX - MAX_PER_SOURCE - 1);
        assert!(strangers.came.len() == MAX);
        assert!(!strangers.admits(start + STAY - Duration::from_millis(1), source(2000)));
        assert!(strangers.admits(start + STAY, source(0)));
        assert_eq!(strangers.came.len(), 1);
    }
}
