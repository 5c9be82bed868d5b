//! A hostile IPv4 network on virtual time: loss, duplication, reordering, delay, partitions, and NATs whose mapping
//! changes. Seeded: the same seed makes the same network.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Share of datagrams that vanish, in thousandths.
    pub loss: u32,
    /// Share of datagrams that arrive twice, in thousandths.
    pub duplicate: u32,
    /// Share of datagrams with one bit flipped, in thousandths.
    pub corrupt: u32,
    /// Smallest delay.
    pub delay: Duration,
    /// Added to the delay, a random part of it: what reorders.
    pub jitter: Duration,
    /// Nothing passes.
    pub partition: bool,
}

impl Conditions {
    /// A network that behaves: 10 ms each way.
    pub const CALM: Self = Self {
        loss: 0,
        duplicate: 0,
        corrupt: 0,
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        partition: false,
    };
}

/// A UDP datagram under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Sender as the receiver sees it.
    pub source: SocketAddrV4,
    /// Receiver.
    pub destination: SocketAddrV4,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// A NAT in front of one inside address: endpoint-independent mapping and filtering (RFC 4787).
#[derive(Clone, Debug)]
struct Nat {
    outside: Ipv4Addr,
    next_port: u16,
    /// Inside port to outside port.
    mappings: BTreeMap<u16, u16>,
}

/// The network.
pub struct Network {
    rng: ChaCha20Rng,
    conditions: Conditions,
    /// By time of arrival; the counter keeps the order of what arrives together.
    in_flight: BTreeMap<(Instant, u64), Datagram>,
    counter: u64,
    nats: BTreeMap<Ipv4Addr, Nat>,
    carried: u64,
}

impl Network {
    /// An empty network.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            rng: ChaCha20Rng::seed_from_u64(seed),
            conditions,
            in_flight: BTreeMap::new(),
            counter: 0,
            nats: BTreeMap::new(),
            carried: 0,
        }
    }

    /// Changes the weather; what is in flight still arrives.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Puts a NAT in front of an inside address.
    pub fn add_nat(&mut self, inside: Ipv4Addr, outside: Ipv4Addr) {
        self.nats.insert(inside, Nat { outside, next_port: 20_000, mappings: BTreeMap::new() });
    }

    /// The NAT in front of this address forgets every mapping; new ones get other ports.
    pub fn reboot_nat(&mut self, inside: Ipv4Addr) {
        if let Some(nat) = self.nats.get_mut(&inside) {
            nat.mappings.clear();
        }
    }

    /// Datagrams that were handed in since the start.
    pub fn carried(&self) -> u64 {
        self.carried
    }

    /// Hands a datagram to the network.
    pub fn send(&mut self, now: Instant, mut datagram: Datagram) {
        self.carried += 1;
        if self.conditions.partition || self.chance(self.conditions.loss) {
            return;
        }
        datagram.source = self.translate_out(datagram.source);
        let copies = if self.chance(self.conditions.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let mut copy = datagram.clone();
            if self.chance(self.conditions.corrupt) && !copy.payload.is_empty() {
                let at = self.rng.next_u32() as usize % copy.payload.len();
                copy.payload[at] ^= 1 << (self.rng.next_u32() % 8);
            }
            let jitter = self.conditions.jitter.as_micros() as u64;
            let extra = if jitter == 0 { 0 } else { self.rng.next_u64() % jitter };
            let at = now + self.conditions.delay + Duration::from_micros(extra);
            self.counter += 1;
            self.in_flight.insert((at, self.counter), copy);
        }
    }

    /// When the next datagram arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// A datagram that has arrived by now, with its destination behind the NAT. What no mapping leads to is lost.
    pub fn arrival(&mut self, now: Instant) -> Option<Datagram> {
        loop {
            let entry = self.in_flight.first_entry()?;
            if entry.key().0 > now {
                return None;
            }
            let mut datagram = entry.remove();
            if let Some(inside) = self.translate_in(datagram.destination) {
                datagram.destination = inside;
                return Some(datagram);
            }
        }
    }

    fn translate_out(&mut self, source: SocketAddrV4) -> SocketAddrV4 {
        let Some(nat) = self.nats.get_mut(source.ip()) else { return source };
        let next = &mut nat.next_port;
        let port = *nat.mappings.entry(source.port()).or_insert_with(|| {
            *next += 1;
            *next
        });
        SocketAddrV4::new(nat.outside, port)
    }

    fn translate_in(&self, destination: SocketAddrV4) -> Option<SocketAddrV4> {
        let Some((inside, nat)) = self.nats.iter().find(|(_, nat)| nat.outside == *destination.ip()) else {
            return Some(destination);
        };
        let (port, _) = nat.mappings.iter().find(|(_, outside)| **outside == destination.port())?;
        Some(SocketAddrV4::new(*inside, *port))
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.rng.next_u32() % 1000 < thousandths
    }
}
