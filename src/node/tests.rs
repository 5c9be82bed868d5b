//! The node alone: queues, refusals, pauses. Two of them on a network are the simulation's.
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of event is picked out")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crate::dataplane::event::{Event as DataEvent, Relay, UdpPath};
use crate::dataplane::tables;
use crate::node::{Config, Event, Node};
use crate::sim::observer::packet;
use crate::sim::scenario::{PORT, Scenario, address, entity};

/// More than wait for one SA.
const MANY: u64 = 100;
const ROUTE: fn(Ipv4Addr) -> Option<Ipv4Addr> = |_| Some(Ipv4Addr::new(198, 51, 100, 1));

/// Machine 0 of some seed, whose peer answers at `endpoint`.
fn config(endpoint: Option<SocketAddrV4>, keep_up: bool) -> Config {
    let [mut config, _] = Scenario::new(1).configs;
    for peer in &mut config.peers {
        peer.endpoint = endpoint;
        peer.keep_up = keep_up;
    }
    config
}

fn node(endpoint: Option<SocketAddrV4>, keep_up: bool) -> (Node, Instant) {
    let now = Instant::now();
    (Node::new(config(endpoint, keep_up), tables::new().0, [7; 32], now), now)
}

fn there() -> Option<SocketAddrV4> {
    Some(SocketAddrV4::new(address(1, 0), PORT))
}

fn acquire(node: &mut Node, now: Instant, to: Ipv6Addr, number: u64) {
    let packet = packet(entity(0), to, number, 10);
    node.handle_data_event(now, DataEvent::Acquire { packet }, &ROUTE);
}

fn transmits(node: &mut Node) -> usize {
    std::iter::from_fn(|| node.poll_transmit()).count()
}

/// Type and code of every ICMPv6 error that waits for the TUN.
fn errors(node: &mut Node) -> Vec<(u8, u8)> {
    std::iter::from_fn(|| node.poll_tun()).map(|packet| (packet[40], packet[41])).collect()
}

fn failures(node: &mut Node) -> Vec<String> {
    std::iter::from_fn(|| node.poll_event())
        .filter_map(|event| match event {
            Event::PeerFailed { error, .. } => Some(error),
            _ => None,
        })
        .collect()
}

/// Lets a node whose peer does not answer work for so long; gives when it called.
fn run(node: &mut Node, start: Instant, duration: Duration) -> Vec<Duration> {
    let mut calls = Vec::new();
    while let Some((at, _)) = node.poll_timeout().filter(|(at, _)| *at <= start + duration) {
        node.handle_timeout(at, &ROUTE);
        if transmits(node) > 0 {
            calls.push(at - start);
        }
        assert!(node.poll_timeout().is_none_or(|(next, _)| next > at), "a timer spins");
    }
    calls
}

#[test]
fn packets_wait_for_one_attempt_in_a_bounded_queue() {
    let (mut node, now) = node(there(), false);
    (0..MANY).for_each(|number| acquire(&mut node, now, entity(1), number));
    assert_eq!(transmits(&mut node), 1, "one IKE_SA_INIT for all");
    assert_eq!(node.drops().get("waiting_full"), Some(&(MANY - 32)));
    assert_eq!(errors(&mut node), []);
    assert!(node.poll_inject().is_none());
    // Nobody answers: whoever waits is told.
    run(&mut node, now, Duration::from_secs(60));
    assert_eq!(errors(&mut node), vec![(1, 3); 32], "address unreachable");
    assert_eq!(failures(&mut node).len(), 1);
}

#[test]
fn strangers_are_refused_at_once() {
    let (mut node, now) = node(there(), false);
    acquire(&mut node, now, "2002:c633:64ff:1::1".parse().unwrap(), 0);
    assert_eq!(errors(&mut node), [(1, 1)], "administratively prohibited");
    assert_eq!((transmits(&mut node), node.drops().get("unknown_peer")), (0, Some(&1)));
    node.handle_data_event(now, DataEvent::Acquire { packet: vec![0x60; 20] }, &ROUTE);
    assert_eq!(node.drops().get("malformed"), Some(&1));
    // Errors that nobody reads do not pile up.
    (0..MANY).for_each(|number| acquire(&mut node, now, "2002:c633:64ff:1::1".parse().unwrap(), number));
    assert_eq!(errors(&mut node).len(), 64);
}

#[test]
fn a_peer_without_endpoint_or_route_is_unreachable_and_the_reason_is_told() {
    let (mut lonely, now) = node(None, false);
    acquire(&mut lonely, now, entity(1), 0);
    assert_eq!((transmits(&mut lonely), errors(&mut lonely)), (0, vec![(1, 3)]));
    let told = failures(&mut lonely);
    assert!(told.iter().all(|error| error.contains("has no endpoint")) && told.len() == 1, "{told:?}");
    assert!(lonely.connect(now, entity(1), &ROUTE).is_err());

    let (mut offline, now) = node(there(), false);
    let error = offline.connect(now, entity(1), &|_| None).unwrap_err();
    assert!(error.contains("no IPv4 route"), "{error}");
}

#[test]
fn failed_attempts_pause_longer_each_time_until_something_changes() {
    let (mut node, start) = node(None, false);
    let mut pauses = Vec::new();
    let mut last = None;
    for tenth in 0..3000 {
        let now = start + Duration::from_millis(100) * tenth;
        acquire(&mut node, now, entity(1), 0);
        errors(&mut node);
        if !failures(&mut node).is_empty() {
            pauses.extend(last.map(|last| now - last));
            last = Some(now);
        }
    }
    let seconds: Vec<u64> = pauses.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds[..7], [1, 2, 4, 8, 16, 32, 60]);
    assert!(node.drops()["backing_off"] > 0);
    // Another address: at once.
    let now = start + Duration::from_millis(300_100);
    node.handle_local_change(now, &ROUTE);
    acquire(&mut node, now, entity(1), 0);
    assert_eq!(failures(&mut node).len(), 1);
}

#[test]
fn a_hint_of_an_unknown_spi_starts_one_attempt_to_a_configured_endpoint() {
    let path = |remote| UdpPath::direct(SocketAddrV4::new(address(0, 0), PORT), remote);
    let (mut node, now) = node(there(), false);
    let stranger = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 9), PORT);
    node.handle_data_event(now, DataEvent::UnknownSpi { spi: 300, path: path(stranger) }, &ROUTE);
    assert_eq!(transmits(&mut node), 0);
    for spi in 300..400 {
        let event = DataEvent::UnknownSpi { spi, path: path(there().unwrap()) };
        node.handle_data_event(now, event, &ROUTE);
    }
    assert_eq!(transmits(&mut node), 1);
    assert_eq!(node.ike().len(), 1);
}

#[test]
fn a_peer_that_is_kept_up_is_called_without_traffic_and_again() {
    let (mut node, now) = node(there(), true);
    let calls = run(&mut node, now, Duration::from_secs(600));
    assert_eq!(calls.first(), Some(&Duration::ZERO));
    // About half a minute of retransmissions, then a pause that grows to a minute: never silent, never busy.
    let gaps = calls.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.max() <= Some(Duration::from_secs(65)));
    assert!((50..150).contains(&calls.len()), "{}", calls.len());
    // Not after the goodbye.
    node.shutdown(now + Duration::from_secs(600));
    assert_eq!(run(&mut node, now, Duration::from_secs(1200)), []);
    assert!(node.is_quiet());
}

#[test]
fn after_the_goodbye_nothing_begins() {
    let (mut node, now) = node(there(), false);
    node.shutdown(now);
    acquire(&mut node, now, entity(1), 0);
    let path = UdpPath::direct(SocketAddrV4::new(address(0, 0), PORT), there().unwrap());
    node.handle_data_event(now, DataEvent::UnknownSpi { spi: 300, path }, &ROUTE);
    assert_eq!((transmits(&mut node), node.drops().get("leaving")), (0, Some(&2)));
    assert!(node.is_quiet());
}

#[test]
fn a_handshake_does_not_go_on_after_the_first_part_of_a_goodbye() {
    let (mut ours, now) = node(there(), false);
    assert_eq!(ours.connect(now, entity(1), &ROUTE), Ok(None));
    let request = ours.poll_transmit().map(|transmit| transmit.message).unwrap();
    // Somebody else has begun one with us, too, and has not proven itself.
    let path = UdpPath::direct(SocketAddrV4::new(address(0, 0), PORT), there().unwrap());
    ours.handle_data_event(now, DataEvent::Ike { path, message: request }, &ROUTE);
    assert_eq!((ours.ike().len(), ours.ike().half_open()), (2, 1));
    ours.part(now);
    assert!(ours.has_parted());
    assert_eq!(ours.ike().len(), 0);
}

#[test]
fn connect_is_impatient_but_starts_one_attempt() {
    let (mut node, now) = node(there(), false);
    for _ in 0..3 {
        assert_eq!(node.connect(now, entity(1), &ROUTE), Ok(None));
    }
    assert_eq!(transmits(&mut node), 1);
    assert!(node.connect(now, "2001:db8::1".parse().unwrap(), &ROUTE).is_err());
    assert!(node.rekey(now, entity(1), "child").is_err(), "there is nothing to rekey");
}

/// A node that talked with that many others a while ago.
fn acquainted(peers: u16) -> (Node, Instant) {
    let (mut node, now) = node(None, false);
    let home = SocketAddrV4::new(address(1, 0), PORT);
    for number in 0..peers {
        let key = (entity(0), Ipv6Addr::new(0x2002, 0xc633, 0x6401, 1, 0, number, 0, 1));
        let relay = Some(Relay { local: key.0, remote: key.1 });
        let relayed = UdpPath { relay, ..UdpPath::direct(SocketAddrV4::new(address(0, 0), PORT), home) };
        node.pairs.or_insert_with(key, || super::pair::Pair::new(now)).keep_up = number == 0;
        node.begin_paths(now, (key, crate::ike::IkeId(0)), relayed, true);
    }
    (node, now)
}

#[test]
fn ten_thousand_idle_peers_are_not_looked_at() {
    let (mut node, mut now) = acquainted(10_000);
    let start = now;
    // Until all of them rest: nobody talked for two minutes.
    while let Some((at, _)) = node.poll_timeout().filter(|(at, _)| *at < start + Duration::from_secs(150)) {
        now = now.max(at);
        node.handle_timeout(now, &ROUTE);
        while node.poll_event().is_some() {}
    }
    let looks = || super::indexed::LOOKS.with(std::cell::Cell::get);
    let before = looks();
    // An hour, in which somebody else keeps the node busy: the loop turns ten times a second.
    for _ in 0..36_000 {
        now += Duration::from_millis(100);
        node.handle_timeout(now, &ROUTE);
        let _ = node.poll_timeout();
        while node.poll_event().is_some() {}
    }
    // What is left is the one that is kept up, tried once a minute.
    assert!(looks() - before < 500, "{} looks at idle peers", looks() - before);
}
