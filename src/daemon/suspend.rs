//! Notices that time passed in which this program did nothing: the machine slept, or the process was stopped. And that the
//! time of day was set.
#![expect(clippy::disallowed_methods, reason = "this is where the clocks come in")]

use std::time::{Duration, Instant};

use super::system::since_1970;
use crate::io::sys;

/// Clocks that differ by more than this have jumped.
const JUMP: Duration = Duration::from_secs(2);
/// Whoever wakes later than this did not run in between.
const STALL: Duration = Duration::from_secs(3);

/// The clocks of one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// What timers use; it stands still while the machine sleeps.
    pub(super) monotonic: Instant,
    /// The same, but it goes on.
    pub(super) boot: Duration,
    /// Time of day, since 1970.
    pub(super) wall: Duration,
}

impl Clocks {
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), boot: sys::since_boot(), wall: since_1970() }
    }
}

/// What a look at the clocks tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// The time of day is not what timers believe: certificates may have ended, or not yet begun.
    pub(super) clock_changed: bool,
    /// For so long nothing of this program ran.
    pub(super) slept: Option<Duration>,
}

/// Compares the clocks.
pub(super) struct SleepWatch {
    last: Clocks,
}

impl SleepWatch {
    pub(super) fn new(clocks: Clocks) -> Self {
        Self { last: clocks }
    }

    /// What happened since the last look. `due`: when this one was to be.
    pub(super) fn look(&mut self, clocks: Clocks, due: Option<Instant>) -> Passed {
        let last = std::mem::replace(&mut self.last, clocks);
        let ran = clocks.monotonic.saturating_duration_since(last.monotonic);
        let asleep = clocks.boot.saturating_sub(last.boot).saturating_sub(ran);
        let late = due.map_or(Duration::ZERO, |due| clocks.monotonic.saturating_duration_since(due));
        let slept = if asleep > JUMP { Some(asleep) } else { Some(late).filter(|late| *late > STALL) };
        Passed { clock_changed: clocks.wall.abs_diff(last.wall + ran) > JUMP, slept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_a_stopped_process_and_a_clock_that_is_set_are_told_apart() {
        let start = Clocks {
            monotonic: Instant::now(),
            boot: Duration::from_secs(1000),
            wall: Duration::from_secs(1_800_000_000),
        };
        let secs = Duration::from_secs;
        // Later on each clock, and how late that is: sleep, change of the time of day.
        let table = [
            ([1, 1, 1], 0, None, false),
            ([1, 3, 3], 0, None, false),
            ([1, 601, 601], 0, Some(secs(600)), true),
            ([30, 30, 30], 29, Some(secs(29)), false),
            ([3, 3, 3], 2, None, false),
            ([1, 1, 3601], 0, None, true),
            ([30, 3600, 3600], 29, Some(secs(3570)), true),
        ];
        for ([monotonic, boot, wall], late, slept, clock_changed) in table {
            let mut watch = SleepWatch::new(start);
            let clocks = Clocks {
                monotonic: start.monotonic + secs(monotonic),
                boot: start.boot + secs(boot),
                wall: start.wall + secs(wall),
            };
            let passed = watch.look(clocks, Some(clocks.monotonic - secs(late)));
            assert_eq!(passed, Passed { clock_changed, slept }, "{monotonic} {boot} {wall} {late}");
            // Told once.
            assert_eq!(watch.look(clocks, None), Passed { clock_changed: false, slept: None });
        }
    }
}
