use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// RFC 4303 §3.4.3 in its own words: everything that was accepted, and the highest of it.
#[derive(Default)]
struct Model {
    seen: HashSet<u64>,
    top: u64,
}

impl Model {
    fn check(&self, sequence: u64) -> Result<(), Stale> {
        if sequence + WINDOW <= self.top {
            Err(Stale::TooOld)
        } else if sequence == 0 || self.seen.contains(&sequence) {
            Err(Stale::Replayed)
        } else {
            Ok(())
        }
    }

    fn commit(&mut self, sequence: u64) -> Result<(), Stale> {
        self.check(sequence)?;
        self.seen.insert(sequence);
        self.top = self.top.max(sequence);
        Ok(())
    }
}

/// What a network does to sequence numbers: mostly the next one, often a repetition or an old one near an edge,
/// sometimes a leap.
fn steps() -> impl Strategy<Value = Vec<i64>> {
    let window = WINDOW as i64;
    let step = prop_oneof![
        8 => Just(1_i64),
        4 => -70_i64..70,
        2 => -3_000_i64..3_000,
        2 => -window - 3..-window + 3,
        1 => window - 3..window + 3,
        1 => -2 * window..2 * window,
    ];
    proptest::collection::vec(step, 1..400)
}

fn run(window: &mut ReplayWindow, model: &mut Model, steps: &[i64]) {
    for step in steps {
        let sequence = window.top().saturating_add_signed(*step);
        assert_eq!(window.check(sequence), model.check(sequence), "{sequence} at {}", model.top);
        assert_eq!(window.commit(sequence), model.commit(sequence), "{sequence} at {}", model.top);
        assert_eq!(window.top(), model.top);
    }
}

proptest! {
    #[test]
    fn the_window_is_the_set_of_what_was_seen(steps in steps()) {
        run(&mut ReplayWindow::new(), &mut Model::default(), &steps);
    }

    // The ring of a window that begins high grows to its full size at once.
    #[test]
    fn it_is_so_anywhere(start in 1_u64..1 << 40, steps in steps()) {
        let (mut window, mut model) = (ReplayWindow::new(), Model::default());
        window.commit(start).unwrap();
        model.commit(start).unwrap();
        run(&mut window, &mut model, &steps);
    }

    // RFC 4303 appendix A2: any number within 2^31 ahead of the top, or in the window behind it, is found from its
    // low half alone, also across the wrap of the low half.
    #[test]
    fn the_high_half_is_found(
        top in prop_oneof![1_u64..200_000, (1_u64 << 32) - 200_000..(1_u64 << 32) + 200_000, 1_u64 << 33..1 << 60],
        ahead in -(WINDOW as i64 - 1)..1 << 31,
    ) {
        let mut window = ReplayWindow::new();
        window.commit(top).unwrap();
        if let Some(sequence) = top.checked_add_signed(ahead) {
            prop_assert_eq!(window.extend(sequence as u32), Ok(sequence));
        }
    }

    #[test]
    fn extended_numbers_across_the_wrap_of_the_low_half(start in (1_u64 << 32) - 500..1 << 32, steps in steps()) {
        let (mut window, mut model) = (ReplayWindow::new(), Model::default());
        window.commit(start).unwrap();
        model.commit(start).unwrap();
        for step in steps {
            let sequence = window.top().saturating_add_signed(step);
            if sequence + WINDOW <= model.top {
                // Left of the window the low half means the next subspace: nothing to compare.
                continue;
            }
            let extended = window.extend(sequence as u32).unwrap();
            prop_assert_eq!(extended, sequence);
            prop_assert_eq!(window.commit(extended), model.commit(sequence));
        }
    }
}

#[test]
fn both_edges_are_exact() {
    let mut window = ReplayWindow::new();
    window.commit(1).unwrap();
    window.commit(WINDOW).unwrap();
    assert_eq!(window.check(1), Err(Stale::Replayed));
    assert_eq!(window.commit(2), Ok(()));
    window.commit(WINDOW + 1).unwrap();
    assert_eq!(window.check(1), Err(Stale::TooOld));
    assert_eq!(window.check(2), Err(Stale::Replayed));
    assert_eq!(window.check(3), Ok(()));
}

#[test]
fn zero_is_never_accepted() {
    let mut window = ReplayWindow::new();
    assert_eq!(window.commit(0), Err(Stale::Replayed));
    window.commit(5).unwrap();
    assert_eq!(window.check(0), Err(Stale::Replayed));
}

#[test]
fn a_check_changes_nothing() {
    let mut window = ReplayWindow::new();
    for _ in 0..2 {
        assert_eq!(window.check(90_000), Ok(()));
        assert_eq!(window.top(), 0);
    }
    window.commit(90_000).unwrap();
    assert_eq!(window.check(90_000), Err(Stale::Replayed));
}

#[test]
fn quiet_windows_are_small_and_busy_ones_bounded() {
    let mut window = ReplayWindow::new();
    for sequence in 1..1_024 {
        window.commit(sequence).unwrap();
    }
    assert_eq!(window.blocks.len(), 16);
    for sequence in 1_024..200_000 {
        window.commit(sequence).unwrap();
    }
    window.commit(u64::MAX).unwrap();
    assert_eq!(window.blocks.len() as u64, WINDOW / 64);
}

#[test]
fn extended_numbers_end_at_both_ends_of_time() {
    let mut window = ReplayWindow::new();
    // A low number just below zero would belong to a subspace before the first.
    assert_eq!(window.extend(u32::MAX), Err(Stale::TooOld));
    assert_eq!(window.extend(1), Ok(1));
    window.commit(u64::MAX - 1).unwrap();
    assert_eq!(window.extend(u32::MAX), Ok(u64::MAX));
    assert_eq!(window.extend(0), Err(Stale::TooOld));
}
