//! Datagrams between sites on virtual time: NATs, loss, duplication, corruption, delay, wires that are cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::sim::nat::{Kind, Nat};
use crate::sim::network::{Conditions, Datagram};

/// Inside a local network.
const LAN_DELAY: Duration = Duration::from_millis(1);
/// Datagrams that the attacker remembers.
const RECORDED: usize = 256;
/// What is in flight at most: whoever sends more is told by the loss.
const MAX_IN_FLIGHT: usize = 50_000;

/// A datagram under way.
#[derive(Clone, Copy)]
enum Leg {
    /// To a public address.
    Public,
    /// Within the local network of a site.
    Local(usize),
}

struct Flight {
    leg: Leg,
    datagram: Datagram,
}

/// A datagram that arrived, and in which site its destination is; a machine at a public address has no site.
pub(super) struct Arrival {
    pub(super) site: Option<usize>,
    pub(super) datagram: Datagram,
}

/// Everything between machines.
pub(super) struct Internet {
    rng: ChaCha20Rng,
    pub(super) weather: Conditions,
    sites: Vec<Nat>,
    in_flight: BTreeMap<(Instant, u64), Flight>,
    counter: u64,
    /// Public addresses that nothing comes from or goes to.
    cut: BTreeSet<Ipv4Addr>,
    /// When an outside address came to be, by a count: of a NAT's mapping, or of a machine at a public address.
    births: BTreeMap<SocketAddrV4, u64>,
    /// What an attacker on the wire has recorded, as it was on the wire.
    pub(super) recorded: Vec<Datagram>,
}

/// The public address of a site's NAT.
pub(super) fn outside(site: usize) -> Ipv4Addr {
    Ipv4Addr::new(20, 0, 0, site as u8 + 1)
}

impl Internet {
    pub(super) fn new(seed: u64, weather: Conditions, sites: &[(Kind, bool)]) -> Self {
        let nats = sites.iter().enumerate();
        Self {
            rng: ChaCha20Rng::seed_from_u64(seed),
            weather,
            sites: nats.map(|(site, (kind, hairpin))| Nat::new(*kind, outside(site), *hairpin)).collect(),
            in_flight: BTreeMap::new(),
            counter: 0,
            cut: BTreeSet::new(),
            births: BTreeMap::new(),
            recorded: Vec::new(),
        }
    }

    pub(super) fn kind(&self, site: usize) -> Kind {
        self.sites.get(site).map_or(Kind::Public, |nat| nat.kind)
    }

    pub(super) fn reboot(&mut self, site: usize) {
        if let Some(nat) = self.sites.get_mut(site) {
            nat.reboot();
        }
    }

    /// Nothing comes from or goes to this public address, or again everything.
    pub(super) fn set_cut(&mut self, address: Ipv4Addr, cut: bool) {
        if cut {
            self.cut.insert(address);
        } else {
            self.cut.remove(&address);
        }
    }

    /// Every wire is whole again.
    pub(super) fn mend(&mut self) {
        self.cut.clear();
    }

    /// A machine is at this public address from now on.
    pub(super) fn arrive_at(&mut self, address: SocketAddrV4) {
        self.counter += 1;
        self.births.insert(address, self.counter);
    }

    /// When an outside address came to be, by a count.
    pub(super) fn birth(&self, address: SocketAddrV4) -> Option<u64> {
        self.births.get(&address).copied()
    }

    /// A machine in this site sends a datagram.
    pub(super) fn send(&mut self, now: Instant, site: usize, mut datagram: Datagram) {
        let destination = datagram.destination;
        let Some(nat) = self.sites.get_mut(site) else { return };
        if destination.ip().is_private() {
            // Another site's local address leads nowhere.
            if nat.kind != Kind::Public && usize::from(destination.ip().octets()[2]) == site {
                self.launch(now, LAN_DELAY, Leg::Local(site), datagram);
            }
            return;
        }
        if nat.kind != Kind::Public {
            datagram.source = nat.outbound(now, datagram.source, destination);
            self.counter += 1;
            self.births.entry(datagram.source).or_insert(self.counter);
            if *destination.ip() == nat.outside && !nat.hairpin {
                return;
            }
        }
        self.record(&datagram);
        self.inject(now, datagram);
    }

    fn record(&mut self, datagram: &Datagram) {
        if self.recorded.len() < RECORDED {
            self.recorded.push(datagram.clone());
        } else if self.chance(250) {
            let at = self.rng.next_u32() as usize % RECORDED;
            self.recorded[at] = datagram.clone();
        }
    }

    /// The address of one of those who ever had one.
    pub(super) fn somebody(&self, index: u64) -> Option<Ipv4Addr> {
        let count = self.births.len().max(1);
        self.births.keys().nth(index as usize % count).map(|address| *address.ip())
    }

    /// From whatever address the sender claims.
    pub(super) fn inject(&mut self, now: Instant, datagram: Datagram) {
        let cut = |address: SocketAddrV4| self.cut.contains(address.ip());
        if self.weather.partition
            || cut(datagram.source)
            || cut(datagram.destination)
            || self.in_flight.len() > MAX_IN_FLIGHT
            || self.chance(self.weather.loss)
        {
            return;
        }
        self.launch(now, self.weather.delay, Leg::Public, datagram);
    }

    fn launch(&mut self, now: Instant, delay: Duration, leg: Leg, datagram: Datagram) {
        let twice = self.chance(self.weather.duplicate);
        for copy in 0..1 + usize::from(twice) {
            let mut datagram = datagram.clone();
            if self.chance(self.weather.corrupt) && !datagram.payload.is_empty() {
                let at = self.rng.next_u32() as usize % datagram.payload.len();
                datagram.payload[at] ^= 1 << (self.rng.next_u32() % 8);
            }
            let jitter =
                if matches!(leg, Leg::Local(_)) { 0 } else { self.weather.jitter.as_micros() as u64 };
            let extra = if jitter == 0 { 0 } else { self.rng.next_u64() % jitter };
            let at = now + delay + Duration::from_micros(extra + copy as u64);
            self.counter += 1;
            self.in_flight.insert((at, self.counter), Flight { leg, datagram });
        }
    }

    /// When the next datagram arrives.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// A datagram that has arrived by now. What no mapping leads to is lost.
    pub(super) fn arrival(&mut self, now: Instant) -> Option<Arrival> {
        loop {
            let entry = self.in_flight.first_entry().filter(|entry| entry.key().0 <= now)?;
            let Flight { leg, mut datagram } = entry.remove();
            if let Leg::Local(site) = leg {
                return Some(Arrival { site: Some(site), datagram });
            }
            let nat = self
                .sites
                .iter()
                .enumerate()
                .find(|(_, nat)| nat.kind != Kind::Public && nat.outside == *datagram.destination.ip());
            let Some((site, nat)) = nat else { return Some(Arrival { site: None, datagram }) };
            if let Some(inside) = nat.inbound(now, datagram.source, datagram.destination.port()) {
                datagram.destination = inside;
                return Some(Arrival { site: Some(site), datagram });
            }
        }
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.rng.next_u32() % 1000 < thousandths
    }
}
