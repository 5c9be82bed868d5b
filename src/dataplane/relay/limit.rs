//! Token buckets that the workers share, in a table of fixed size.
//!
//! A bucket is one number: the time at which it is full again (the generic cell rate algorithm). So it is full, and its
//! place free, as soon as its owner is within its rate; the table needs no more places than there are owners above it.
//! Where places get scarce, a newcomer takes the one that is full soonest *with its level*: more owners than places never
//! get more together, only less. Places are found by a keyed hash, so that nobody can choose whose bucket he shares.
//!
//! There is no lock. Two workers that look for a place at the same moment may take the same one: each then pays into
//! the level that is there, and whoever lost the place finds another one next time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Refusal;

/// Sets of places; a power of two.
const SETS: usize = 4096;
/// Places in a set.
const WAYS: usize = 4;

/// A rate and how much of it may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Octets or packets per second.
    pub per_second: u64,
    /// As much time's worth may come at once.
    pub burst: Duration,
}

/// The limits of a relay. Those in octets count the relayed IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets from one IPv4 address: another home, or a NAT.
    pub source: Rate,
    /// Octets from or to one binding.
    pub binding: Rate,
    /// IKE messages and ICMPv6 errors from one binding, or from one /64 elsewhere.
    pub control: Rate,
    /// "Unreachable" answers to all together (RFC 4443 §2.4 f).
    pub unreachable: Rate,
}

impl Default for Limits {
    /// 10 Gbit/s from an address, 2 Gbit/s for a binding, 200 IKE messages and 100 answers a second.
    fn default() -> Self {
        Self {
            source: Rate { per_second: 1_250_000_000, burst: Duration::from_millis(100) },
            binding: Rate { per_second: 250_000_000, burst: Duration::from_millis(100) },
            control: Rate { per_second: 200, burst: Duration::from_secs(1) },
            unreachable: Rate { per_second: 100, burst: Duration::from_secs(1) },
        }
    }
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Source,
    Binding,
    Control,
    Unreachable,
}

#[derive(Default)]
struct Place {
    tag: AtomicU64,
    /// Nanoseconds of the caller's clock.
    full_at: AtomicU64,
}

pub(super) struct Buckets {
    limits: Limits,
    keys: [u64; 2],
    sets: Box<[[Place; WAYS]]>,
}

impl Buckets {
    pub(super) fn new(limits: Limits, seed: [u8; 16]) -> Self {
        let [low, high] = [&seed[..8], &seed[8..]]
            .map(|half| half.iter().fold(0, |key: u64, octet| key << 8 | u64::from(*octet)));
        Self { limits, keys: [low, high], sets: (0..SETS).map(|_| Default::default()).collect() }
    }

    /// Takes `amount` from a bucket.
    pub(super) fn take(&self, class: Class, owner: u64, amount: usize, now: Duration) -> Result<(), Refusal> {
        let (rate, refusal) = match class {
            Class::Source => (self.limits.source, Refusal::SourceRate),
            Class::Binding => (self.limits.binding, Refusal::BindingRate),
            Class::Control => (self.limits.control, Refusal::ControlRate),
            Class::Unreachable => (self.limits.unreachable, Refusal::Unbound),
        };
        let now = nanos(now);
        let cost = (amount as u64).saturating_mul(1_000_000_000) / rate.per_second.max(1);
        let room = nanos(rate.burst).max(cost);
        let taken =
            self.place(class, owner).full_at.try_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let full_at = full_at.max(now).saturating_add(cost);
                (full_at - now <= room).then_some(full_at)
            });
        taken.map(drop).map_err(|_| refusal)
    }

    fn place(&self, class: Class, owner: u64) -> &Place {
        // A folded multiplication mixes all bits of both sides; the keys make it nobody's guess.
        // Even numbers for the classes, because the factor is made odd.
        let factor = ((class as u64) << 1) ^ self.keys[1] | 1;
        let product = u128::from(owner ^ self.keys[0]) * u128::from(factor);
        let folded = (product >> 64) as u64 ^ product as u64 ^ self.keys[0].rotate_left(32);
        let mixed = u128::from(folded) * u128::from(self.keys[1] | 1);
        let tag = (mixed >> 64) as u64 ^ mixed as u64;
        let set = &self.sets[tag as usize % SETS];
        let known = set.iter().find(|place| place.tag.load(Ordering::Relaxed) == tag);
        known.unwrap_or_else(|| {
            let fullest = set.iter().min_by_key(|place| place.full_at.load(Ordering::Relaxed));
            let place = fullest.unwrap_or(&set[0]);
            place.tag.store(tag, Ordering::Relaxed);
            place
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets(per_second: u64) -> Buckets {
        let rate = Rate { per_second, burst: Duration::from_secs(1) };
        Buckets::new(Limits { source: rate, binding: rate, control: rate, unreachable: rate }, [5; 16])
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let buckets = buckets(1000);
        let start = Duration::from_secs(1000);
        let mut passed = 0;
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            passed += (0..5).filter(|_| buckets.take(Class::Source, 7, 1, now).is_ok()).count();
        }
        assert!((10_990..=11_000).contains(&passed), "{passed}");
        // Who was silent has his burst again.
        let later = start + Duration::from_secs(20);
        let at_once = (0..2000).filter(|_| buckets.take(Class::Source, 7, 1, later).is_ok()).count();
        assert_eq!(at_once, 1000);
    }

    #[test]
    fn many_workers_get_no_more_together_than_one_alone() {
        let buckets = buckets(100_000);
        let passed: usize = std::thread::scope(|scope| {
            let worker = |number: u64| {
                let buckets = &buckets;
                move || {
                    let now = |turn: u64| Duration::from_nanos(turn * 100 + number);
                    (0..100_000).filter(|turn| buckets.take(Class::Binding, 7, 1, now(*turn)).is_ok()).count()
                }
            };
            let workers: Vec<_> = (0..4).map(|number| scope.spawn(worker(number))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        // A burst of a second, and the rate for the 10 ms that passed.
        assert!((100_900..=101_000).contains(&passed), "{passed}");
    }

    #[test]
    fn owners_and_classes_do_not_share() {
        let classes = [Class::Source, Class::Binding, Class::Control, Class::Unreachable];
        for class in classes {
            let buckets = buckets(10);
            while buckets.take(class, 1, 1, Duration::ZERO).is_ok() {}
            assert_eq!(buckets.take(class, 2, 1, Duration::ZERO), Ok(()));
            for other in classes {
                assert_eq!(buckets.take(other, 1, 1, Duration::ZERO).is_ok(), other != class, "{other:?}");
            }
        }
    }

    #[test]
    fn one_packet_always_passes_an_idle_bucket() {
        // Larger than the whole burst: it passes alone, and its owner pays for it.
        let buckets = buckets(100);
        assert_eq!(buckets.take(Class::Binding, 1, 60_000, Duration::ZERO), Ok(()));
        assert!(buckets.take(Class::Binding, 1, 1, Duration::from_secs(598)).is_err());
        assert_eq!(buckets.take(Class::Binding, 1, 1, Duration::from_secs(600)), Ok(()));
    }

    #[test]
    fn a_hundred_thousand_owners_within_their_rate_are_not_disturbed() {
        let buckets = buckets(1_000_000);
        for turn in 0..3u32 {
            for owner in 0..100_000u64 {
                let now = Duration::from_micros(u64::from(turn) * 100_000 + owner);
                assert_eq!(buckets.take(Class::Binding, owner, 10, now), Ok(()));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        /// However many owners there are: together they never get more than as many bursts as there are places, and the
        /// rate of as many places.
        #[test]
        fn more_owners_than_places_get_nothing_extra(seed: [u8; 16], per_second in 1..50u64) {
            let rate = Rate { per_second, burst: Duration::from_secs(1) };
            let limits = Limits { source: rate, binding: rate, control: rate, unreachable: rate };
            let buckets = Buckets::new(limits, seed);
            let owners = (SETS * WAYS * 3) as u64;
            let mut passed = 0;
            for turn in 0..4 {
                let now = Duration::from_millis(turn);
                let taken = (0..owners).filter(|owner| buckets.take(Class::Source, *owner, 1, now).is_ok());
                passed += taken.count() as u64;
            }
            prop_assert!(passed <= (SETS * WAYS) as u64 * (per_second + 1), "{passed}");
        }
    }
}
