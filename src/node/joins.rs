//! Which pair each IKE SA joins, found from either side.

use std::collections::BTreeMap;

use super::pair::PairKey;
use crate::ike::IkeId;

/// IKE SAs that are up.
#[derive(Default)]
pub(super) struct Joins {
    by_id: BTreeMap<IkeId, PairKey>,
    by_pair: BTreeMap<PairKey, Vec<IkeId>>,
}

impl Joins {
    pub(super) fn insert(&mut self, id: IkeId, key: PairKey) {
        if self.by_id.insert(id, key).is_none() {
            self.by_pair.entry(key).or_default().push(id);
        }
    }

    pub(super) fn remove(&mut self, id: IkeId) {
        let Some(key) = self.by_id.remove(&id) else { return };
        if let Some(ids) = self.by_pair.get_mut(&key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_pair.remove(&key);
            }
        }
    }

    pub(super) fn contains(&self, id: IkeId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Those of one pair, the oldest first.
    pub(super) fn between(&self, key: PairKey) -> &[IkeId] {
        self.by_pair.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Every pair that has one.
    pub(super) fn pairs(&self) -> impl Iterator<Item = &PairKey> {
        self.by_pair.keys()
    }

    /// Those of all pairs that are asked for.
    pub(super) fn of(&self, wanted: impl Fn(&PairKey) -> bool) -> Vec<IkeId> {
        self.by_id.iter().filter(|(_, key)| wanted(key)).map(|(id, _)| *id).collect()
    }
}
