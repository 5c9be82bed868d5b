//! Tables of what has deadlines: the earliest one is found without looking at the others. Ten thousand idle entries cost
//! nothing but memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// What has a deadline, or none.
pub(super) trait Timed {
    /// When it wants to be looked at.
    fn deadline(&self) -> Option<Instant>;
}

/// The table. An entry is changed only through a guard, which sees to the index.
pub(super) struct Indexed<K, V> {
    entries: BTreeMap<K, (V, Option<Instant>)>,
    by_deadline: BTreeSet<(Instant, K)>,
}

/// An entry that may be changed.
pub(super) struct EntryMut<'a, K: Ord + Copy, V: Timed> {
    key: K,
    entry: &'a mut (V, Option<Instant>),
    by_deadline: &'a mut BTreeSet<(Instant, K)>,
}

impl<K: Ord + Copy, V: Timed> Deref for EntryMut<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.entry.0
    }
}

impl<K: Ord + Copy, V: Timed> DerefMut for EntryMut<'_, K, V> {
    fn deref_mut(&mut self) -> &mut V {
        &mut self.entry.0
    }
}

impl<K: Ord + Copy, V: Timed> Drop for EntryMut<'_, K, V> {
    fn drop(&mut self) {
        #[cfg(test)]
        LOOKS.with(|looks| looks.set(looks.get() + 1));
        let (value, before) = &mut *self.entry;
        let after = value.deadline();
        if after != *before {
            if let Some(at) = before.take() {
                self.by_deadline.remove(&(at, self.key));
            }
            self.by_deadline.extend(after.map(|at| (at, self.key)));
            *before = after;
        }
    }
}

#[cfg(test)]
thread_local! {
    /// How often an entry was looked at.
    pub(super) static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl<K: Ord + Copy, V: Timed> Indexed<K, V> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), by_deadline: BTreeSet::new() }
    }

    /// The entry, which `make` makes if there is none.
    pub(super) fn or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> EntryMut<'_, K, V> {
        // A new entry has no place in the index until its guard goes.
        let entry = self.entries.entry(key).or_insert_with(|| (make(), None));
        EntryMut { key, entry, by_deadline: &mut self.by_deadline }
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some((_, Some(at))) = self.entries.remove(key) {
            self.by_deadline.remove(&(at, *key));
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<EntryMut<'_, K, V>> {
        let entry = self.entries.get_mut(key)?;
        Some(EntryMut { key: *key, entry, by_deadline: &mut self.by_deadline })
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (value, _))| (key, value))
    }

    /// Changes every entry.
    pub(super) fn for_each_mut(&mut self, mut change: impl FnMut(&mut V)) {
        for (key, entry) in &mut self.entries {
            change(&mut EntryMut { key: *key, entry, by_deadline: &mut self.by_deadline });
        }
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(at, _)| *at)
    }

    /// Those whose deadline has come.
    pub(super) fn due(&self, now: Instant) -> Vec<K> {
        self.by_deadline.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

    use std::cell::Cell;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    struct Thing(Option<Instant>);

    impl Timed for Thing {
        fn deadline(&self) -> Option<Instant> {
            self.0
        }
    }

    #[test]
    fn idle_entries_are_not_looked_at() {
        let start = Instant::now();
        let mut table = Indexed::new();
        for n in 0..10_000u32 {
            table.or_insert_with(n, || Thing(Some(start + Duration::from_secs(u64::from(n % 100) + 10))));
        }
        LOOKS.with(|looks| looks.set(0));
        for _ in 0..1000 {
            assert_eq!(table.next_deadline(), Some(start + Duration::from_secs(10)));
            assert!(table.due(start).is_empty());
        }
        assert_eq!(LOOKS.with(Cell::get), 0);
        // A hundred are due: each is looked at once, when it changes.
        let now = start + Duration::from_secs(10);
        let due = table.due(now);
        assert_eq!(due.len(), 100);
        for key in due {
            table.get_mut(&key).unwrap().0 = None;
        }
        assert_eq!(LOOKS.with(Cell::get), 100);
        assert!(table.due(now).is_empty());
    }

    proptest! {
        #[test]
        fn the_index_has_what_a_look_at_every_entry_gives(
            steps in prop::collection::vec((0..4u8, 0..12u32, prop::option::of(0..50u64)), 0..80)
        ) {
            let start = Instant::now();
            let mut table: Indexed<u32, Thing> = Indexed::new();
            for (step, key, at) in steps {
                let at = at.map(|seconds| start + Duration::from_secs(seconds));
                match step {
                    0 => table.remove(&key),
                    1 => table.for_each_mut(|thing: &mut Thing| thing.0 = at.or(thing.0)),
                    2 => if let Some(mut thing) = table.get_mut(&key) { thing.0 = at },
                    _ => table.or_insert_with(key, || Thing(None)).0 = at,
                }
                let looked: BTreeSet<(Instant, u32)> =
                    table.iter().filter_map(|(key, thing)| Some((thing.0?, *key))).collect();
                prop_assert_eq!(&table.by_deadline, &looked);
            }
        }
    }
}
