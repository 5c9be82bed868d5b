//! The bindings as the data plane sees them: a longest-match table that readers never wait for.
//!
//! Sharded snapshots: each shard is a sorted slice behind an `ArcSwap`. A reader loads one pointer per prefix length that
//! is in use (mostly two: 128 and 64) and searches a few hundred entries; a writer copies one shard, 6 KB at a million
//! bindings, which is about a microsecond, and no reader notices. Against the alternatives: a sharded lock makes a worker
//! wait whenever the control plane's thread is descheduled inside it; left-right keeps everything twice and stops the
//! writer for the slowest reader; a concurrent map costs twice the 24 octets that an entry has here.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use ipnet::Ipv6Net;

/// Shards, as a power of two.
const SHARD_BITS: u32 = 12;

/// A bound prefix as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Where it is.
    pub(super) care_of: SocketAddrV4,
    /// Names it for its rate limit.
    pub(super) key: u64,
}

/// 24 octets.
#[derive(Clone, Copy, Debug)]
struct Entry {
    network: Ipv6Addr,
    address: Ipv4Addr,
    port: u16,
    len: u8,
}

impl Entry {
    fn new(prefix: Ipv6Net, care_of: SocketAddrV4) -> Self {
        Self {
            network: prefix.network(),
            address: *care_of.ip(),
            port: care_of.port(),
            len: prefix.prefix_len(),
        }
    }

    fn key(&self) -> (Ipv6Addr, u8) {
        (self.network, self.len)
    }
}

/// How many bindings there are of each length; only the writer knows.
pub(super) struct Lengths([u32; 129]);

impl Default for Lengths {
    fn default() -> Self {
        Self([0; 129])
    }
}

pub(super) struct Bindings {
    shards: Box<[ArcSwap<Box<[Entry]>>]>,
    /// Lengths in use, a bit for each but 128.
    lengths: [AtomicU64; 2],
}

/// Spreads prefixes over shards, and names them. An uneven spread costs copying only.
fn spread(network: Ipv6Addr, len: u8) -> u64 {
    let bits = u128::from(network);
    let folded = (bits >> 64) as u64 ^ (bits as u64).rotate_left(29) ^ u64::from(len) << 56;
    let product = u128::from(folded ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    (product >> 64) as u64 ^ product as u64
}

/// Names the /64 of an address that is not ours.
pub(super) fn subnet(address: Ipv6Addr) -> u64 {
    (u128::from(address) >> 64) as u64
}

fn masked(address: Ipv6Addr, len: u8) -> Ipv6Addr {
    let kept = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or_default();
    Ipv6Addr::from(u128::from(address) & kept)
}

impl Bindings {
    pub(super) fn new() -> Self {
        let empty: Arc<Box<[Entry]>> = Arc::default();
        let shards = (0..1 << SHARD_BITS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect();
        Self { shards, lengths: [AtomicU64::new(0), AtomicU64::new(0)] }
    }

    fn shard(&self, spread: u64) -> &ArcSwap<Box<[Entry]>> {
        &self.shards[(spread >> (u64::BITS - SHARD_BITS)) as usize]
    }

    fn exact(&self, network: Ipv6Addr, len: u8) -> Option<Bound> {
        let key = spread(network, len);
        let entries = self.shard(key).load();
        let at = entries.binary_search_by_key(&(network, len), Entry::key).ok()?;
        let entry = entries.get(at)?;
        Some(Bound { care_of: SocketAddrV4::new(entry.address, entry.port), key })
    }

    /// The longest match.
    pub(super) fn lookup(&self, address: Ipv6Addr) -> Option<Bound> {
        if let Some(bound) = self.exact(address, 128) {
            return Some(bound);
        }
        for (half, first) in [(&self.lengths[1], 64), (&self.lengths[0], 0)] {
            let mut bits = half.load(Ordering::Acquire);
            while bits != 0 {
                let top = 63 - bits.leading_zeros() as u8;
                bits &= !(1 << top);
                let len = first + top;
                if let Some(bound) = self.exact(masked(address, len), len) {
                    return Some(bound);
                }
            }
        }
        None
    }

    /// Sets or removes one.
    pub(super) fn set(&self, prefix: Ipv6Net, care_of: Option<SocketAddrV4>, lengths: &mut Lengths) {
        let (network, len) = (prefix.network(), prefix.prefix_len());
        let shard = self.shard(spread(network, len));
        let old = shard.load();
        let at = old.binary_search_by_key(&(network, len), Entry::key);
        let (before, after) = match at {
            Ok(at) => (&old[..at], &old[at + 1..]),
            Err(at) if care_of.is_some() => old.split_at(at),
            Err(_) => return,
        };
        let new = care_of.map(|care_of| Entry::new(prefix, care_of));
        let entries: Box<[Entry]> = before.iter().copied().chain(new).chain(after.iter().copied()).collect();
        shard.store(Arc::new(entries));
        let count = &mut lengths.0[usize::from(len)];
        match (at.is_ok(), care_of.is_some()) {
            (false, true) => *count += 1,
            (true, false) => *count -= 1,
            (true, true) | (false, false) => return,
        }
        self.publish(lengths);
    }

    /// Replaces everything.
    pub(super) fn fill(
        &self,
        bindings: impl IntoIterator<Item = (Ipv6Net, SocketAddrV4)>,
        lengths: &mut Lengths,
    ) {
        let mut parts: Vec<Vec<Entry>> = vec![Vec::new(); self.shards.len()];
        for (prefix, care_of) in bindings {
            let entry = Entry::new(prefix, care_of);
            parts[(spread(entry.network, entry.len) >> (u64::BITS - SHARD_BITS)) as usize].push(entry);
        }
        *lengths = Lengths::default();
        for (shard, mut part) in self.shards.iter().zip(parts) {
            // The sort is stable and the last one counts.
            part.reverse();
            part.sort_by_key(Entry::key);
            part.dedup_by_key(|entry| entry.key());
            part.iter().for_each(|entry| lengths.0[usize::from(entry.len)] += 1);
            shard.store(Arc::new(part.into_boxed_slice()));
        }
        self.publish(lengths);
    }

    fn publish(&self, lengths: &Lengths) {
        for (half, counts) in self.lengths.iter().zip(lengths.0.chunks(64)) {
            let bits = counts.iter().enumerate().filter(|(_, count)| **count != 0);
            half.store(bits.fold(0, |bits, (at, _)| bits | 1 << at), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    fn prefix() -> impl Strategy<Value = Ipv6Net> {
        let lens = prop_oneof![4 => Just(128u8), 2 => Just(64), 1 => 0..=128u8];
        // Few addresses, so that prefixes often cover each other.
        (0..4u128, 0..4u128, lens).prop_map(|(high, low, len)| {
            Ipv6Net::new(Ipv6Addr::from(0x2002 << 112 | high << 70 | low), len).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn it_is_a_longest_match_table(
            steps in proptest::collection::vec((prefix(), any::<bool>(), 1..5u16), 0..60), bulk: bool,
            asked in proptest::collection::vec((0..4u128, 0..4u128), 1..20),
        ) {
            let bindings = Bindings::new();
            let mut lengths = Lengths::default();
            let mut model = BTreeMap::new();
            let place = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            if bulk {
                bindings.set("2002::/16".parse()?, Some(place(99)), &mut lengths);
                bindings.fill(steps.iter().map(|(prefix, _, port)| (*prefix, place(*port))), &mut lengths);
                model.extend(steps.iter().map(|(prefix, _, port)| (*prefix, place(*port))));
            }
            for (prefix, add, port) in steps {
                let care_of = add.then(|| place(port));
                bindings.set(prefix, care_of, &mut lengths);
                match care_of {
                    Some(care_of) => model.insert(prefix, care_of),
                    None => model.remove(&prefix),
                };
            }
            for (high, low) in asked {
                let address = Ipv6Addr::from(0x2002 << 112 | high << 70 | low);
                let wanted = model.iter().filter(|(prefix, _)| prefix.contains(&address));
                let wanted = wanted.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, care_of)| *care_of);
                prop_assert_eq!(bindings.lookup(address).map(|bound| bound.care_of), wanted);
            }
            prop_assert_eq!(lengths.0.iter().sum::<u32>() as usize, model.len());
        }
    }
}
