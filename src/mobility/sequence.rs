//! Sequence numbers modulo 2^16 (RFC 6275 §9.5.1).

/// Is `new` after `old`? A number is after another one if it is up to 32,767 ahead.
pub(super) fn is_after(new: u16, old: u16) -> bool {
    matches!(new.wrapping_sub(old), 1..=0x7fff)
}

/// Is `number` one of `first` to `last`, counted modulo 2^16?
pub(super) fn is_within(number: u16, first: u16, last: u16) -> bool {
    number.wrapping_sub(first) <= last.wrapping_sub(first)
}

/// Numbers reserved at a time: a crash skips at most these.
const BLOCK: u16 = 32;

/// The numbers of one sender. None is used before the caller was told to persist one at or after it.
#[derive(Debug)]
pub(super) struct Sequence {
    last: u16,
    left: u16,
}

impl Sequence {
    /// `used`: everything up to this one may have been used.
    pub(super) fn after(used: u16) -> Self {
        Self { last: used, left: 0 }
    }

    /// The next number, and what has to be persisted before it is sent.
    pub(super) fn next(&mut self) -> (u16, Option<u16>) {
        let reserve = (self.left == 0).then(|| self.last.wrapping_add(BLOCK));
        if reserve.is_some() {
            self.left = BLOCK;
        }
        self.last = self.last.wrapping_add(1);
        self.left -= 1;
        (self.last, reserve)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_half_ahead_is_after() {
        for (new, old, after) in [
            (1, 0, true),
            (0, 0, false),
            (0, 1, false),
            (0x7fff, 0, true),
            (0x8000, 0, false),
            (0, 0xffff, true),
            (5, 0xfff0, true),
            (0xfff0, 5, false),
        ] {
            assert_eq!(is_after(new, old), after, "{new} {old}");
        }
        assert!(is_within(0xffff, 0xfffe, 3) && is_within(2, 0xfffe, 3) && !is_within(4, 0xfffe, 3));
    }

    proptest! {
        #[test]
        fn no_two_numbers_are_after_each_other(a: u16, b: u16) {
            prop_assert!(!(is_after(a, b) && is_after(b, a)));
            prop_assert!(is_after(a, b) || is_after(b, a) || a == b || a.wrapping_sub(b) == 0x8000);
        }

        #[test]
        fn a_crash_at_any_time_uses_no_number_twice(start: u16, runs in proptest::collection::vec(0..100usize, 1..8)) {
            let (mut persisted, mut before) = (start, start);
            for run in runs {
                let mut sequence = Sequence::after(persisted);
                for _ in 0..run {
                    let (number, reserve) = sequence.next();
                    persisted = reserve.unwrap_or(persisted);
                    prop_assert!(is_after(number, before));
                    prop_assert!(is_within(number, before, persisted));
                    before = number;
                }
            }
        }
    }
}
