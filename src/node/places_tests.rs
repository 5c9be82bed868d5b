//! A member, and machines that are its home or claim to be, on a network without a NAT.
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use crate::addr::plan::agent_of;
use crate::crypto::identity::PrivateKey;
use crate::ike::LocalEntity;
use crate::mobility::CareOfPolicy;
use crate::node::{Authority, Config, Event, HomeAgentConfig, HomeConfig, Registration};
use crate::policy::pad::{Pad, Peer, Proof};
use crate::policy::spd::Spd;
use crate::sim::host::{Host, Part};
use crate::sim::network::Datagram;
use crate::sim::scenario::{PORT, Scenario};

const MEMBER: Ipv6Addr = Ipv6Addr::new(0x2002, 0x909, 0x909, 1, 0, 0, 0, 1);
const HOME: u8 = 1;
const IMPOSTOR: u8 = 9;

fn prefix() -> Ipv6Net {
    Ipv6Net::new_assert(MEMBER, 48).trunc()
}

fn place(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(9, 9, 9, last), PORT)
}

struct Anybody;

impl Authority for Anybody {
    fn may_bind(&self, _: Ipv6Addr, _: Ipv6Net) -> bool {
        true
    }
}

fn config(own: (Ipv6Addr, u8), other: (Ipv6Addr, u8)) -> Config {
    let [mut config, _] = Scenario::new(1).configs;
    let key = |number: u8| PrivateKey::from_seed(&[number; 32]);
    let proof = Proof::PublicKey(*key(other.1).public().as_bytes());
    config.ike.entities = vec![LocalEntity { address: own.0, signing_key: key(own.1).seed() }];
    config.ike.pad = Arc::new(Pad::new([Peer { name: "other".to_owned(), address: other.0, proof }]));
    config.ike.spd = Arc::new(Spd::with_defaults([], []));
    config.ike.lifetimes = crate::ike::Lifetimes { dpd: Duration::from_secs(5), ..Default::default() };
    config.peers.clear();
    config
}

fn home_config(places: &[u8]) -> HomeConfig {
    let places: Vec<SocketAddrV4> = places.iter().copied().map(place).collect();
    HomeConfig { prefix: prefix(), agent: agent_of(prefix()), endpoint: places[0], places }
}

struct World {
    now: Instant,
    /// The member first.
    hosts: Vec<Host>,
    /// Every datagram of the member: where to, and octets.
    sent: Vec<(SocketAddrV4, usize)>,
    moved: Vec<SocketAddrV4>,
    member: Config,
}

impl World {
    /// The member, and a home at each of these, with the key of this number.
    fn new(places: &[u8], homes: &[(u8, u8)]) -> Self {
        let now = Instant::now();
        let mut member = config((MEMBER, 7), (agent_of(prefix()), HOME));
        member.homes = vec![home_config(places)];
        member.registrations = vec![Registration { sender: MEMBER, prefixes: Vec::new(), sequence: None }];
        let hosts = vec![Host::new(member.clone(), MEMBER, Ipv4Addr::new(9, 9, 8, 1), [1; 32], now)];
        let mut world = Self { now, hosts, sent: Vec::new(), moved: Vec::new(), member };
        homes.iter().for_each(|home| world.add_home(*home));
        world
    }

    /// A home comes up there, with the key of this number.
    fn add_home(&mut self, (at, key): (u8, u8)) {
        let agent = agent_of(prefix());
        let mut home = config((agent, key), (MEMBER, 7));
        home.home_agent =
            Some(HomeAgentConfig { prefix: prefix(), address: agent, care_of: CareOfPolicy::default() });
        let part = Part { authority: Some(Arc::new(Anybody)), ..Part::default() };
        self.hosts.push(Host::with_part(home, part, agent, *place(at).ip(), [at; 32], self.now));
    }

    fn set_places(&mut self, places: &[u8]) {
        let (now, homes) = (self.now, vec![home_config(places)]);
        self.hosts[0].act(|node, _| node.set_homes(now, homes));
    }

    fn home(&mut self, last: u8) -> &mut Host {
        self.hosts.iter_mut().find(|host| host.v4 == *place(last).ip()).unwrap()
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            let sent: Vec<Datagram> = self.hosts.iter_mut().flat_map(|host| host.sent.drain(..)).collect();
            let quiet = sent.is_empty();
            for datagram in sent {
                if datagram.source.ip() == &self.hosts[0].v4 {
                    self.sent.push((datagram.destination, datagram.payload.len()));
                }
                let to = self.hosts.iter_mut().find(|host| host.v4 == *datagram.destination.ip());
                if let Some(host) = to.filter(|host| host.online) {
                    host.from_network(self.now, &datagram);
                }
            }
            for event in self.hosts[0].events.drain(..) {
                if let Event::HomeMoved { to, .. } = event {
                    self.moved.push(to);
                }
            }
            if !quiet {
                continue;
            }
            let due = self.hosts.iter().filter_map(|host| Some(host.poll_timeout()?.0)).min();
            match due.filter(|due| *due <= end) {
                Some(due) => {
                    self.now = self.now.max(due);
                    for host in &mut self.hosts {
                        if host.poll_timeout().is_some_and(|(at, _)| at <= due) {
                            host.handle_timeout(due);
                        }
                    }
                }
                None => break,
            }
        }
        self.now = end;
    }

    fn is_at(&self, last: u8) -> bool {
        self.hosts[0].node.homes()[0].endpoint == place(last)
    }

    fn bindings(&mut self, last: u8) -> usize {
        let now = self.now;
        self.home(last).node.bindings(now, None, 100).len()
    }

    fn octets_to(&self, last: u8) -> usize {
        self.sent.iter().filter(|(to, _)| *to == place(last)).map(|(_, octets)| octets).sum()
    }
}

#[test]
fn a_member_goes_to_a_new_place_before_it_leaves_the_old_one_and_is_bound_there() {
    let mut world = World::new(&[1], &[(1, HOME), (2, HOME)]);
    world.run(5);
    assert!(world.is_at(1) && world.bindings(1) == 1);
    world.set_places(&[2, 1]);
    world.run(5);
    assert!(world.is_at(2), "{:?}", world.moved);
    assert_eq!((world.bindings(2), world.moved.as_slice()), (1, &[place(2)][..]));
    world.run(30);
    let there = world.hosts[0].node.ike().list(world.now);
    assert!(there.len() == 1 && there[0].path.remote == place(2), "the SA with the old place has ended");
    // A configuration that was read again knows nothing of redirects.
    let (now, config) = (world.now, world.member.clone());
    world.hosts[0].act(|node, _| node.set_config(now, config));
    world.run(120);
    assert!(world.is_at(2) && world.moved.len() == 1, "{:?}", world.moved);
    // The redirect is over or was taken back: home again.
    world.set_places(&[1]);
    world.run(30);
    assert_eq!(world.moved, [place(2), place(1)]);
}

#[test]
fn a_place_that_is_silent_costs_little_and_the_old_one_stays_in_use() {
    let mut world = World::new(&[1], &[(1, HOME)]);
    world.run(5);
    world.set_places(&[66, 1]);
    world.run(3600);
    assert!(world.is_at(1) && world.bindings(1) == 1 && world.moved.is_empty());
    let to_victim: Vec<usize> =
        world.sent.iter().filter(|(to, _)| *to == place(66)).map(|(_, octets)| *octets).collect();
    assert!((10..=130).contains(&to_victim.len()), "{} datagrams in an hour", to_victim.len());
    assert!(to_victim.iter().all(|octets| *octets < 600), "nothing but IKE_SA_INIT");
    // It is followed all the same once the home is there.
    world.add_home((66, HOME));
    world.run(700);
    assert!(world.is_at(66) && world.bindings(66) == 1);
}

#[test]
fn where_another_home_is_now_nobody_is_bound() {
    let mut world = World::new(&[1], &[(1, HOME)]);
    world.run(5);
    assert_eq!(world.bindings(1), 1);
    // Another home says that it is where the member is.
    let other = Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0x808, 0x808, 0, 0, 0, 0, 0), 48);
    let there = SocketAddrV4::new(world.hosts[0].v4, PORT);
    let moved = HomeConfig { prefix: other, agent: agent_of(other), endpoint: place(5), places: vec![there] };
    let now = world.now;
    world.home(1).act(|node, _| node.set_homes(now, vec![moved]));
    world.run(1800);
    assert_eq!(world.bindings(1), 0, "the binding was not renewed");
}

#[test]
fn somebody_else_at_the_new_place_is_not_believed() {
    let mut world = World::new(&[1], &[(1, HOME), (2, IMPOSTOR)]);
    world.run(5);
    world.set_places(&[2, 1]);
    world.run(300);
    assert!(world.is_at(1) && world.bindings(1) == 1 && world.moved.is_empty());
    assert_eq!(world.bindings(2), 0);
    assert!(world.octets_to(2) > 0, "it was tried");
}

#[test]
fn without_an_sa_every_place_is_tried_in_order() {
    let mut world = World::new(&[66, 2, 1], &[(1, HOME), (2, IMPOSTOR)]);
    world.run(90);
    assert!(world.is_at(1) && world.bindings(1) == 1, "the fallback");
    // It dies, and comes back at the place that was preferred all the time.
    world.home(1).online = false;
    world.add_home((66, HOME));
    world.run(300);
    assert!(world.is_at(66) && world.bindings(66) == 1);
}

#[test]
fn a_name_that_finds_another_address_ends_an_attempt_at_the_old_one() {
    let mut world = World::new(&[1], &[(2, HOME)]);
    world.run(3);
    world.set_places(&[2]);
    world.run(2);
    assert!(world.is_at(2) && world.bindings(2) == 1, "without waiting for the old attempt to fail");
    let silent = HomeConfig { places: Vec::new(), ..home_config(&[2]) };
    let now = world.now;
    world.hosts[0].act(|node, _| node.set_homes(now, vec![silent]));
    world.run(60);
    assert!(world.is_at(2) && world.bindings(2) == 1, "what is in use stays while nobody knows better");
}
