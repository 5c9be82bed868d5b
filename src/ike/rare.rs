//! Something that strangers can cause is said now and then, and not once for each of their packets.

use std::time::{Duration, Instant};

/// So many may be said at once.
const BURST: u32 = 8;
/// And one more after each of these.
const PAUSE: Duration = Duration::from_secs(10);

/// A small token bucket: the time at which it is full again says all of it.
#[derive(Debug)]
pub struct Rare {
    full_at: Instant,
}

impl Rare {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// May it be said now?
    pub fn may_say(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + PAUSE;
        let may = full_at.saturating_duration_since(now) <= PAUSE * BURST;
        if may {
            self.full_at = full_at;
        }
        may
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test starts somewhere in time")]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_now_and_then() {
        let start = Instant::now();
        let mut rare = Rare::new(start);
        let said = |rare: &mut Rare, from: u64, until: u64| {
            (from..until).filter(|ms| rare.may_say(start + Duration::from_millis(*ms))).count()
        };
        assert_eq!(said(&mut rare, 0, 5_000), 8);
        assert_eq!(said(&mut rare, 5_000, 65_000), 6);
        assert_eq!(said(&mut rare, 10_000_000, 10_001_000), 8, "and after a silence as at first");
    }
}
