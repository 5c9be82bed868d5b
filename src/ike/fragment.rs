//! Putting fragments together again (RFC 7383 §2.6). Only authenticated fragments get here, one message at a time.

use std::collections::BTreeMap;

use super::message::Part;

/// More fragments than any message of ours or of a sane peer has.
const MAX_FRAGMENTS: u16 = 64;
/// Octets of one message.
const MAX_MESSAGE: usize = 65_536;

/// One message under reassembly.
#[derive(Default)]
pub(super) struct Reassembly {
    /// Message ID and whether it is a response.
    key: Option<(u32, bool)>,
    total: u16,
    parts: BTreeMap<u16, Part>,
    octets: usize,
}

impl Reassembly {
    /// Adds a fragment; gives first payload type and chain when the message is complete.
    pub(super) fn add(&mut self, key: (u32, bool), part: Part) -> Option<(u8, Vec<u8>)> {
        if part.total > MAX_FRAGMENTS {
            return None;
        }
        // A larger total means that the sender fragments anew, into smaller pieces; a smaller one is old (§2.6).
        if self.key != Some(key) || part.total > self.total {
            *self = Self { key: Some(key), total: part.total, ..Self::default() };
        }
        if part.total < self.total || self.parts.contains_key(&part.number) {
            return None;
        }
        self.octets += part.plaintext.len();
        if self.octets > MAX_MESSAGE {
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
}
