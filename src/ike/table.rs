//! The IKE SAs of an endpoint, with what finds them fast: by deadline and by the two entities that they join. Ten thousand
//! idle ones cost nothing but memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::event::IkeId;
use super::sa::Sa;

/// Local and remote permanent address; both unspecified while the peer is not known.
pub(super) type PairKey = (Ipv6Addr, Ipv6Addr);

/// Where the indices have an SA.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    pair: PairKey,
    deadline: Option<Instant>,
}

impl Place {
    fn of(sa: &Sa) -> Self {
        Self { pair: sa.pair(), deadline: sa.next_timeout().map(|(at, _)| at) }
    }
}

#[derive(Default)]
struct Indices {
    by_pair: BTreeSet<(PairKey, IkeId)>,
    by_deadline: BTreeSet<(Instant, IkeId)>,
}

impl Indices {
    fn add(&mut self, id: IkeId, place: Place) {
        self.by_pair.insert((place.pair, id));
        self.by_deadline.extend(place.deadline.map(|at| (at, id)));
    }

    fn remove(&mut self, id: IkeId, place: Place) {
        self.by_pair.remove(&(place.pair, id));
        if let Some(at) = place.deadline {
            self.by_deadline.remove(&(at, id));
        }
    }
}

/// The table. An SA is changed only through [`SaTable::get_mut`], whose guard sees to the indices.
#[derive(Default)]
pub(super) struct SaTable {
    sas: BTreeMap<IkeId, (Sa, Place)>,
    indices: Indices,
}

/// An SA that may be changed.
pub(super) struct SaMut<'a> {
    entry: &'a mut (Sa, Place),
    indices: &'a mut Indices,
}

impl Deref for SaMut<'_> {
    type Target = Sa;

    fn deref(&self) -> &Sa {
        &self.entry.0
    }
}

impl DerefMut for SaMut<'_> {
    fn deref_mut(&mut self) -> &mut Sa {
        &mut self.entry.0
    }
}

impl Drop for SaMut<'_> {
    fn drop(&mut self) {
        let (sa, before) = &mut *self.entry;
        let after = Place::of(sa);
        if after != *before {
            self.indices.remove(sa.id, *before);
            self.indices.add(sa.id, after);
            *before = after;
        }
    }
}

impl SaTable {
    pub(super) fn insert(&mut self, sa: Sa) {
        let place = Place::of(&sa);
        self.indices.add(sa.id, place);
        self.sas.insert(sa.id, (sa, place));
    }

    pub(super) fn remove(&mut self, id: IkeId) -> Option<Sa> {
        let (sa, place) = self.sas.remove(&id)?;
        self.indices.remove(id, place);
        Some(sa)
    }

    pub(super) fn get(&self, id: IkeId) -> Option<&Sa> {
        self.sas.get(&id).map(|(sa, _)| sa)
    }

    pub(super) fn get_mut(&mut self, id: IkeId) -> Option<SaMut<'_>> {
        Some(SaMut { entry: self.sas.get_mut(&id)?, indices: &mut self.indices })
    }

    /// All of them, in order of birth.
    pub(super) fn values(&self) -> impl Iterator<Item = &Sa> {
        self.sas.values().map(|(sa, _)| sa)
    }

    /// All of them, for whoever changes them one by one.
    pub(super) fn ids(&self) -> Vec<IkeId> {
        self.sas.keys().copied().collect()
    }

    /// Those between two entities, in order of birth.
    pub(super) fn between(&self, pair: PairKey) -> impl Iterator<Item = &Sa> {
        self.indices
            .by_pair
            .range((pair, IkeId(0))..=(pair, IkeId(u64::MAX)))
            .filter_map(|(_, id)| self.get(*id))
    }

    /// The earliest deadline and its reason.
    pub(super) fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let (_, id) = self.indices.by_deadline.first()?;
        self.get(*id)?.next_timeout()
    }

    /// Those whose deadline has come.
    pub(super) fn due(&self, now: Instant) -> Vec<IkeId> {
        self.indices.by_deadline.range(..=(now, IkeId(u64::MAX))).map(|(_, id)| *id).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.sas.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sas.is_empty()
    }

    /// Do the indices have exactly what a look at every SA gives?
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut fresh = Indices::default();
        self.values().for_each(|sa| fresh.add(sa.id, Place::of(sa)));
        assert_eq!(self.indices.by_pair, fresh.by_pair);
        assert_eq!(self.indices.by_deadline, fresh.by_deadline);
    }
}
