#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
//! Nodes and a home agent on a hostile network, in virtual time: loss, reordering, moves, NATs that restart, crashes on
//! both sides, an attacker who sends authentic packets on from false addresses. When the network has settled, everybody
//! is bound to where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use ipnet::Ipv6Net;

use crate::addr::plan;
use crate::wire::mobility::{Message, parse};

const HOME: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const DELAY: Duration = Duration::from_millis(40);

/// What hides a node, and what it keeps over a crash.
struct Host {
    client: Client,
    home_address: Ipv6Addr,
    /// Its address outside of its NAT.
    outside: SocketAddrV4,
    persisted: Option<u16>,
    /// The last number on the wire.
    last: Option<u16>,
}

/// A packet under way.
enum Flight {
    ToAgent { host: usize, from: SocketAddrV4, packet: Vec<u8> },
    ToHost { host: usize, to: SocketAddrV4, packet: Vec<u8> },
}

struct World {
    now: Instant,
    rng: ChaCha20Rng,
    hostile: bool,
    agent: Agent,
    store: BTreeMap<Ipv6Net, Row>,
    hosts: Vec<Host>,
    flights: BTreeMap<(Instant, u64), Flight>,
    count: u64,
    /// Where hosts have been: nothing else may ever be routed to.
    been: BTreeSet<(Ipv6Addr, SocketAddrV4)>,
    routes: BTreeMap<Ipv6Net, SocketAddrV4>,
}

impl World {
    fn new(seed: u64) -> Self {
        let (now, mut rng) = (Instant::now(), ChaCha20Rng::seed_from_u64(seed));
        let agent = Agent::new(AgentConfig::new(plan::home_agent(HOME)), [1; 32], now);
        let hosts = (1..4).map(|number| {
            let home_address = plan::device(HOME, number, 1);
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            let client = Client::new(ClientConfig::default(), bytes, now);
            let outside = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 0);
            Host { client, home_address, outside, persisted: None, last: None }
        });
        let hosts = hosts.collect();
        let mut world = Self {
            now,
            rng,
            hostile: true,
            agent,
            store: BTreeMap::new(),
            hosts,
            flights: BTreeMap::new(),
            count: 0,
            been: BTreeSet::new(),
            routes: BTreeMap::new(),
        };
        for host in 0..world.hosts.len() {
            world.start(host);
        }
        world
    }

    fn chance(&mut self, in_hundred: u32) -> bool {
        self.rng.next_u32() % 100 < in_hundred
    }

    /// The node starts (again), with what it has on disk.
    fn start(&mut self, index: usize) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        self.another_address(index);
        let (now, host) = (self.now, &mut self.hosts[index]);
        host.client = Client::new(ClientConfig::default(), seed, now);
        host.client.register(
            now,
            RegistrationConfig {
                home_address: host.home_address,
                home_agent: plan::home_agent(HOME),
                prefixes: vec![Ipv6Net::new(host.home_address, 96).unwrap().trunc()],
                sequence: host.persisted,
            },
        );
        host.client.handle_address_change(now, &[Ipv4Addr::new(192, 168, 1, 2)]);
        host.client.handle_session_up(now, host.home_address, false);
    }

    fn another_address(&mut self, index: usize) {
        let number = self.rng.next_u32();
        let address = Ipv4Addr::from(0x0102_0300 + number % 8);
        let host = &mut self.hosts[index];
        host.outside = SocketAddrV4::new(address, 2000 + (number >> 16) as u16 % 40_000);
        self.been.insert((host.home_address, host.outside));
    }

    fn move_host(&mut self, index: usize, told: bool) {
        self.another_address(index);
        if told {
            let local = [Ipv4Addr::new(10, 0, 0, (self.rng.next_u32() % 200) as u8)];
            self.hosts[index].client.handle_address_change(self.now, &local);
        }
    }

    fn restart_agent(&mut self) {
        let mut agent = Agent::new(AgentConfig::new(plan::home_agent(HOME)), [2; 32], self.now);
        agent.restore(self.now, self.store.values().copied());
        self.routes = agent.routes().collect();
        self.agent = agent;
        // IKE notices, and sessions come up anew.
        for host in &mut self.hosts {
            host.client.handle_session_down(host.home_address);
            host.client.handle_session_up(self.now, host.home_address, true);
        }
    }

    fn launch(&mut self, flight: Flight) {
        let lost = if self.hostile { 20 } else { 0 };
        if self.chance(lost) {
            return;
        }
        let jitter = Duration::from_millis(u64::from(self.rng.next_u32() % 60));
        self.count += 1;
        self.flights.insert((self.now + DELAY + jitter, self.count), flight);
    }

    fn drain(&mut self) {
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            while let Some(event) = host.client.poll_event() {
                if let ClientEvent::SequenceReserved { sequence, .. } = event {
                    host.persisted = Some(sequence);
                }
            }
            while let Some(transmit) = self.hosts[index].client.poll_transmit() {
                let host = &mut self.hosts[index];
                if let Message::Update(update) = parse(&transmit.packet).unwrap().message {
                    let last = host.last.replace(update.sequence);
                    assert!(
                        last.is_none_or(|last| sequence::is_after(update.sequence, last)),
                        "{last:?} then {}",
                        update.sequence
                    );
                }
                let mut from = host.outside;
                if self.hostile && self.chance(5) {
                    from = SocketAddrV4::new(Ipv4Addr::new(99, 9, 9, 9), 9999);
                }
                self.launch(Flight::ToAgent { host: index, from, packet: transmit.packet });
            }
        }
        while let Some(event) = self.agent.poll_event() {
            match event {
                AgentEvent::Route { prefix, care_of } => drop(self.routes.insert(prefix, care_of)),
                AgentEvent::Unroute { prefix } => drop(self.routes.remove(&prefix)),
                AgentEvent::Moved { sender, care_of } => assert!(self.been.contains(&(sender, care_of))),
                AgentEvent::Refused { status, .. } => panic!("{status}"),
            }
        }
        while let Some(transmit) = self.agent.poll_transmit() {
            let at = self.hosts.iter().position(|host| host.home_address == transmit.home_address).unwrap();
            self.launch(Flight::ToHost { host: at, to: transmit.care_of, packet: transmit.packet });
        }
        for change in self.agent.take_changes(self.now, false) {
            match change {
                Change::Put(row) => drop(self.store.insert(row.prefix, row)),
                Change::Delete(prefix) => drop(self.store.remove(&prefix)),
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            let timers = self.hosts.iter().filter_map(|host| host.client.poll_timeout()).map(|(at, _)| at);
            let timers = timers.chain(self.agent.poll_timeout().map(|(at, _)| at));
            let next = timers.chain(self.flights.keys().next().map(|(at, _)| *at)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            while let Some((key, flight)) = self.flights.pop_first() {
                if key.0 > self.now {
                    self.flights.insert(key, flight);
                    break;
                }
                self.arrive(flight);
            }
            self.agent.handle_timeout(self.now);
            for host in &mut self.hosts {
                host.client.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn arrive(&mut self, flight: Flight) {
        match flight {
            Flight::ToAgent { host, from, packet } => {
                let sender = self.hosts[host].home_address;
                let received =
                    Received { sender, from, proven: false, octets: packet.len() + 30, packet: &packet };
                let _ = self.agent.handle_packet(self.now, &received, &OpenPolicy);
            }
            Flight::ToHost { host, to, packet } => {
                let host = &mut self.hosts[host];
                if host.outside == to {
                    let _ = host.client.handle_packet(self.now, &packet);
                }
            }
        }
    }

    fn disturb(&mut self) {
        let host = self.rng.next_u32() as usize % self.hosts.len();
        match self.rng.next_u32() % 10 {
            0..4 => self.move_host(host, true),
            4..6 => self.move_host(host, false), // its NAT restarts
            6 => self.start(host),
            7 => self.restart_agent(),
            _ => {}
        }
        let pause = Duration::from_millis(u64::from(self.rng.next_u32() % 30_000));
        self.run(pause);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn everybody_is_bound_to_where_it_is_when_the_network_settles(seed: u64) {
        let mut world = World::new(seed);
        for _ in 0..20 {
            world.disturb();
        }
        world.hostile = false;
        // A silent NAT is noticed after the keepalive's 20 s, an open update is said again after 32 s at most.
        world.run(Duration::from_secs(60));
        for host in &world.hosts {
            prop_assert_eq!(world.agent.care_of(host.home_address), Some(host.outside));
            let status = host.client.status().next();
            prop_assert!(status.is_some_and(|status| status.registered && status.observed == Some(host.outside)));
        }
        let routes: BTreeMap<_, _> = world.agent.routes().collect();
        prop_assert_eq!(&routes, &world.routes);
        prop_assert_eq!(routes.len(), 6);
        // Nothing is left over, and nothing is chatty.
        let sent = world.count;
        world.run(Duration::from_secs(600));
        prop_assert!(world.count - sent < 3 * 2 * 600 / 15, "{}", world.count - sent);
        for host in &mut world.hosts {
            host.client.deregister_all(world.now);
        }
        world.run(Duration::from_secs(100));
        prop_assert!(world.agent.is_empty() && world.hosts.iter().all(|host| host.client.is_quiet()));
    }
}

#[test]
fn a_move_costs_two_exchanges_and_the_old_address_one_round_trip() {
    let mut world = World::new(1);
    world.hostile = false;
    world.run(Duration::from_secs(5));
    let before = world.hosts[0].outside;
    world.move_host(0, true);
    let (moved, sender) = (world.now, world.hosts[0].home_address);
    assert_eq!(world.agent.care_of(sender), Some(before));
    while world.agent.care_of(sender) == Some(before) {
        world.run(Duration::from_millis(1));
    }
    // Three ways of 40 to 100 ms: update, challenge, response.
    assert!(world.now - moved <= 3 * (DELAY + Duration::from_millis(61)));
}
