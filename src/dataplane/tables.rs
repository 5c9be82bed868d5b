//! What the control plane publishes and the workers read.
//!
//! Each table is split into shards and each shard is a snapshot: a reader takes the current one without a lock,
//! a writer replaces one shard. So installing one SA among 100,000 copies about a hundred references.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::event::UdpPath;
use crate::esp::{InboundSa, OutboundSa};
use crate::policy::spd::{Action, Spd};

/// How to reach one remote permanent address from one local one.
#[derive(Clone)]
pub struct Outbound {
    /// The SA that seals.
    pub sa: Arc<OutboundSa>,
    /// More SAs of the same two addresses (RFC 9611): mostly none.
    pub additional: Vec<Arc<OutboundSa>>,
    /// Where the datagram goes.
    pub path: UdpPath,
    /// Largest inner packet; a larger one is answered with Packet Too Big.
    pub mtu: u16,
}

impl Outbound {
    /// With one SA for whatever is sent.
    pub fn new(sa: Arc<OutboundSa>, path: UdpPath, mtu: u16) -> Self {
        Self { sa, additional: Vec::new(), path, mtu }
    }

    /// The place of the SA for packets of a flow ([`crate::wire::ip::Ipv6View::flow`]): always the same one while the SAs stay,
    /// so that they keep their order.
    pub fn place_for(&self, flow: u32) -> usize {
        flow as usize % (self.additional.len() + 1)
    }

    /// The SA in this place: the first one, and behind it the additional ones.
    pub fn sa_at(&self, place: usize) -> &Arc<OutboundSa> {
        place.checked_sub(1).and_then(|at| self.additional.get(at)).unwrap_or(&self.sa)
    }
}

/// Shards of a table, as a power of two: 100,000 entries are about 100 per shard.
const SHARD_BITS: u32 = 10;

/// How long a pair of addresses stays silent after a `NewSource` event, unless its path changes.
const NEW_SOURCE_INTERVAL: Duration = Duration::from_secs(1);

/// Local and remote permanent address.
type Pair = (Ipv6Addr, Ipv6Addr);

trait Key: Copy + Eq + Hash {
    /// Spreads keys over the shards. An uneven spread costs copying only, so that it need not resist an
    /// adversary: keys are SPIs that we chose and addresses that were authenticated.
    fn spread(self) -> u32;
}

impl Key for u32 {
    fn spread(self) -> u32 {
        self
    }
}

impl Key for Pair {
    fn spread(self) -> u32 {
        let fold = |address: Ipv6Addr| {
            let [.., a, b, c, d, e, f, g, h] = address.octets();
            u32::from_be_bytes([a, b, c, d]).rotate_left(16) ^ u32::from_be_bytes([e, f, g, h])
        };
        fold(self.0).wrapping_mul(31) ^ fold(self.1)
    }
}

type Shard<K, V> = ArcSwap<HashMap<K, Arc<V>>>;

struct Table<K, V> {
    shards: Box<[Shard<K, V>]>,
}

impl<K: Key, V> Table<K, V> {
    fn new() -> Self {
        let empty = Arc::new(HashMap::new());
        Self { shards: (0..1 << SHARD_BITS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect() }
    }

    fn shard(&self, key: K) -> Option<&Shard<K, V>> {
        // Fibonacci hashing: the high bits of the product depend on every bit of the key.
        self.shards.get((key.spread().wrapping_mul(0x9e37_79b1) >> (u32::BITS - SHARD_BITS)) as usize)
    }

    fn get(&self, key: K) -> Option<Arc<V>> {
        self.shard(key)?.load().get(&key).cloned()
    }

    fn change(&self, key: K, value: Option<Arc<V>>) {
        let Some(shard) = self.shard(key) else { return };
        let mut copy = HashMap::clone(&shard.load());
        match value {
            Some(value) => copy.insert(key, value),
            None => copy.remove(&key),
        };
        shard.store(Arc::new(copy));
    }
}

/// What the two directions between two permanent addresses share: where we send, as seen by who receives.
#[derive(Default)]
struct PairState {
    /// Packed path that we send by; 0 when we do not send.
    remote: AtomicU64,
    /// When a `NewSource` was reported, in milliseconds plus one; 0 for never.
    reported: AtomicU64,
}

impl PairState {
    fn set_path(&self, path: Option<UdpPath>) {
        let packed = path.map_or(0, pack);
        if self.remote.swap(packed, Ordering::Relaxed) != packed {
            self.reported.store(0, Ordering::Relaxed);
        }
    }
}

/// The other end's address and port, and whether the path is a relayed one.
fn pack(path: UdpPath) -> u64 {
    (u64::from(path.relay.is_some()) << 48)
        | (u64::from(Ipv4Addr::to_bits(*path.remote.ip())) << 16)
        | u64::from(path.remote.port())
}

/// An installed inbound SA.
pub struct Receiving {
    /// The SA that opens.
    pub sa: Arc<InboundSa>,
    pair: Arc<PairState>,
}

impl Receiving {
    /// True when authentic traffic that came by `path` should be reported: it is not where we send to, and nothing was
    /// reported for a second or since the path changed.
    pub fn is_news(&self, path: UdpPath, now: Duration) -> bool {
        let current = self.pair.remote.load(Ordering::Relaxed);
        if current == 0 || current == pack(path) {
            return false;
        }
        let reported = self.pair.reported.load(Ordering::Relaxed);
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1);
        if reported != 0 && now < reported.saturating_add(NEW_SOURCE_INTERVAL.as_millis() as u64) {
            return false;
        }
        // Two workers may come here at once: only one of them reports.
        self.pair.reported.compare_exchange(reported, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[derive(Default)]
struct Policies {
    spd: Spd,
    local: HashSet<Ipv6Addr>,
}

struct Tables {
    inbound: Table<u32, Receiving>,
    outbound: Table<Pair, Outbound>,
    policies: ArcSwap<Policies>,
}

/// Empty tables: every packet is discarded. Keep the publisher, give the reader to the workers.
pub fn new() -> (Publisher, Reader) {
    let tables = Arc::new(Tables {
        inbound: Table::new(),
        outbound: Table::new(),
        policies: ArcSwap::from_pointee(Policies::default()),
    });
    (Publisher { tables: Arc::clone(&tables), pairs: HashMap::new() }, Reader { tables })
}

/// What a pair of addresses has installed: its shared state goes with the last of them.
#[derive(Default)]
struct Installed {
    state: Arc<PairState>,
    inbound: HashSet<u32>,
    outbound: bool,
}

/// The control plane's handle: every call publishes. Cheap enough to call per SA with 100,000 of them installed.
pub struct Publisher {
    tables: Arc<Tables>,
    pairs: HashMap<Pair, Installed>,
}

impl Publisher {
    /// Installs an inbound SA under its SPI.
    pub fn install_inbound(&mut self, sa: Arc<InboundSa>) {
        let (spi, pair) = (sa.params().spi, (sa.params().local, sa.params().remote));
        self.remove_inbound(spi);
        let installed = self.pairs.entry(pair).or_default();
        installed.inbound.insert(spi);
        let state = Arc::clone(&installed.state);
        let receiving = Receiving { sa, pair: state };
        self.tables.inbound.change(spi, Some(Arc::new(receiving)));
    }

    /// Forgets an inbound SA.
    pub fn remove_inbound(&mut self, spi: u32) {
        let Some(receiving) = self.tables.inbound.get(spi) else { return };
        self.tables.inbound.change(spi, None);
        let pair = (receiving.sa.params().local, receiving.sa.params().remote);
        if let Some(installed) = self.pairs.get_mut(&pair) {
            installed.inbound.remove(&spi);
        }
        self.forget_unused(pair);
    }

    /// Sends traffic between these two addresses this way from now on.
    pub fn set_outbound(&mut self, local: Ipv6Addr, remote: Ipv6Addr, outbound: Outbound) {
        let pair = (local, remote);
        let installed = self.pairs.entry(pair).or_default();
        installed.outbound = true;
        installed.state.set_path(Some(outbound.path));
        self.tables.outbound.change(pair, Some(Arc::new(outbound)));
    }

    /// Traffic between these two addresses has no SA any more.
    pub fn remove_outbound(&mut self, local: Ipv6Addr, remote: Ipv6Addr) {
        let pair = (local, remote);
        let Some(installed) = self.pairs.get_mut(&pair) else { return };
        installed.outbound = false;
        installed.state.set_path(None);
        self.tables.outbound.change(pair, None);
        self.forget_unused(pair);
    }

    /// Replaces the policy and the set of local permanent addresses.
    pub fn set_policy(&mut self, spd: Spd, local: Vec<Ipv6Addr>) {
        self.tables.policies.store(Arc::new(Policies { spd, local: local.into_iter().collect() }));
    }

    fn forget_unused(&mut self, pair: Pair) {
        if self.pairs.get(&pair).is_some_and(|installed| !installed.outbound && installed.inbound.is_empty())
        {
            self.pairs.remove(&pair);
        }
    }
}

/// The workers' handle: always sees what was published last. A clone costs one reference.
#[derive(Clone)]
pub struct Reader {
    tables: Arc<Tables>,
}

impl Reader {
    /// The inbound SA with this SPI.
    pub fn inbound(&self, spi: u32) -> Option<Arc<Receiving>> {
        self.tables.inbound.get(spi)
    }

    /// How to send between these two addresses, if there is an SA.
    pub fn outbound(&self, local: Ipv6Addr, remote: Ipv6Addr) -> Option<Arc<Outbound>> {
        self.tables.outbound.get((local, remote))
    }

    /// Is this a permanent address of ours?
    pub fn is_local(&self, address: Ipv6Addr) -> bool {
        self.tables.policies.load().local.contains(&address)
    }

    /// What the policy says where there is no SA; `None` when `local` is not one of our permanent addresses.
    pub fn decide(&self, local: Ipv6Addr, remote: Ipv6Addr) -> Option<Action> {
        let policies = self.tables.policies.load();
        policies.local.contains(&local).then(|| policies.spd.decide(local, remote))
    }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
