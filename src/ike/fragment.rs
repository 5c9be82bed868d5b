//! Putting fragments together again (RFC 7383 §2.6). Only authenticated fragments get here, one message at a time in
//! each direction.

use std::collections::BTreeMap;

use super::message::Part;

/// More fragments than any message of ours or of a sane peer has.
const MAX_FRAGMENTS: u16 = 64;
/// Octets of one message from a peer that is proven, or that we called.
pub(super) const MAX_MESSAGE: usize = 65_536;
/// Octets of an IKE_AUTH request: its sender agreed on keys with us, but is not proven yet. Ours has about 400,
/// with certificates a few thousand.
pub(super) const UNPROVEN: usize = 16_384;

/// One message under reassembly.
#[derive(Default)]
pub(super) struct Reassembly {
    /// Message ID.
    id: Option<u32>,
    total: u16,
    parts: BTreeMap<u16, Part>,
    octets: usize,
}

impl Reassembly {
    /// Adds a fragment of message `id`, which may have `limit` octets; gives first payload type and chain when the
    /// message is complete. A fragment of another message begins anew.
    pub(super) fn add(&mut self, id: u32, part: Part, limit: usize) -> Option<(u8, Vec<u8>)> {
        if part.total > MAX_FRAGMENTS {
            return None;
        }
        // A larger total means that the sender fragments anew, into smaller pieces; a smaller one is old (§2.6).
        if self.id != Some(id) || part.total > self.total {
            *self = Self { id: Some(id), total: part.total, ..Self::default() };
        }
        if part.total < self.total || self.parts.contains_key(&part.number) {
            return None;
        }
        self.octets += part.plaintext.len();
        if self.octets > limit {
            *self = Self::default();
            return None;
        }
        self.parts.insert(part.number, part);
        if self.parts.len() < usize::from(self.total) {
            return None;
        }
        let parts = std::mem::take(self).parts;
        let first = parts.get(&1)?.first;
        Some((first, parts.into_values().flat_map(|part| part.plaintext).collect()))
    }

    /// Octets that are kept now.
    #[cfg(test)]
    pub(super) fn octets(&self) -> usize {
        self.octets
    }
}
