//! The pure parts by themselves.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::world::{World, ms, secs};
use crate::path::candidate::{accepted, advertised, may_send_to};
use crate::path::exchange::{Exchange, Heard};
use crate::path::{Class, Contender, LanPolicy, Reason, choose, datagram_len};
use crate::wire::path::{Body, Candidate, CandidateKind, CandidateList};

fn address(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn of(kind: CandidateKind, text: &str) -> Candidate {
    Candidate { kind, address: address(text) }
}

fn interface(text: &str) -> Candidate {
    of(CandidateKind::Interface, text)
}

fn observed(text: &str) -> Candidate {
    of(CandidateKind::Observed, text)
}

fn contender(class: Class, rtt: u64) -> Contender {
    Contender { class, rtt: Duration::from_millis(rtt) }
}

#[test]
fn the_ranking_table() {
    use Class::{Lan, Learned, Public};
    type Row<'a> = (Option<usize>, &'a [(Class, u64)], Option<(usize, Reason)>);
    let cases: [Row<'_>; 12] = [
        (None, &[], None),
        (None, &[(Learned, 50)], Some((0, Reason::Proven))),
        (None, &[(Learned, 5), (Public, 50)], Some((1, Reason::Proven))),
        (None, &[(Public, 50), (Public, 40)], Some((1, Reason::Proven))),
        (Some(0), &[(Public, 50), (Lan, 60)], Some((1, Reason::Lan))),
        (Some(0), &[(Learned, 5), (Public, 50)], Some((1, Reason::Named))),
        (Some(0), &[(Public, 50), (Learned, 1)], Some((0, Reason::Proven))),
        (Some(0), &[(Learned, 50), (Learned, 1)], Some((0, Reason::Proven))),
        (Some(0), &[(Public, 50), (Public, 41)], Some((0, Reason::Proven))),
        (Some(0), &[(Public, 50), (Public, 40)], Some((1, Reason::Faster))),
        (Some(0), &[(Lan, 6), (Lan, 2)], Some((0, Reason::Proven))),
        (Some(1), &[(Public, 1), (Lan, 90)], Some((1, Reason::Proven))),
    ];
    for (current, list, expected) in cases {
        let contenders: Vec<_> = list.iter().map(|(class, rtt)| contender(*class, *rtt)).collect();
        assert_eq!(choose(current, &contenders), expected, "{current:?} {list:?}");
    }
}

#[test]
fn addresses_that_are_nobodys_are_never_sent_to() {
    for text in [
        "0.0.0.0:4500",
        "0.1.2.3:4500",
        "127.0.0.1:4500",
        "169.254.1.1:4500",
        "224.0.0.1:4500",
        "239.1.2.3:4500",
        "240.0.0.1:4500",
        "255.255.255.255:4500",
        "20.0.0.1:1023",
        "20.0.0.1:53",
        "20.0.0.1:0",
    ] {
        assert!(!may_send_to(address(text)), "{text}");
        assert_eq!(advertised(&[interface(text), observed(text)], true), CandidateList::EMPTY, "{text}");
        let list = [interface(text), observed(text)].into_iter().collect();
        assert_eq!(accepted(&list, &[], true), [], "{text}");
    }
    for text in ["20.0.0.1:1024", "223.255.255.255:4500", "198.51.100.1:4500", "10.0.0.1:4500"] {
        assert!(may_send_to(address(text)), "{text}");
    }
}

#[test]
fn local_addresses_are_told_and_tried_only_where_policy_says_so() {
    let public = observed("20.0.0.1:20001");
    let local =
        ["10.1.2.3:4500", "172.16.0.1:4500", "192.168.7.7:4500", "100.64.0.1:4500", "100.127.1.1:4500"];
    for text in local {
        let own = [public, interface(text)];
        assert_eq!(advertised(&own, false).as_slice(), [public], "{text}");
        assert_eq!(advertised(&own, true).as_slice(), [public, interface(text)], "{text}");
        let list = own.into_iter().collect();
        assert_eq!(accepted(&list, &[], false), [public.address], "{text}");
        assert_eq!(accepted(&list, &[], true), [public.address, address(text)], "{text}");
    }
    // 100.128.0.0 is not carrier-grade NAT, 172.32.0.0 not private.
    for text in ["100.128.0.1:4500", "100.63.0.1:4500", "172.32.0.1:4500"] {
        assert_eq!(advertised(&[interface(text)], false).as_slice().len(), 1, "{text}");
    }
    let same = [observed("20.0.0.1:30000")];
    let other = [observed("20.0.0.2:20001")];
    let table = [
        (LanPolicy::SamePublicAddress, &same, true),
        (LanPolicy::SamePublicAddress, &other, false),
        (LanPolicy::Always, &other, true),
        (LanPolicy::Never, &same, false),
    ];
    for (policy, peer, expected) in table {
        assert_eq!(policy.allows(&[public], peer), expected, "{policy:?}");
    }
    assert!(!LanPolicy::SamePublicAddress.allows(&[interface("20.0.0.1:4500")], &same));
}

#[test]
fn own_addresses_and_doubles_are_left_out() {
    let own = [interface("192.168.1.5:4500"), observed("20.0.0.1:20001")];
    let list = [
        observed("20.0.0.1:20002"), // Ours, too: the other side of a hairpin.
        interface("192.168.1.5:4500"),
        interface("192.168.1.5:4501"),
        interface("192.168.1.6:4500"),
        interface("192.168.1.6:4500"),
    ];
    let found = accepted(&list.into_iter().collect(), &own, true);
    assert_eq!(found, [address("20.0.0.1:20002"), address("192.168.1.6:4500")]);
    let twice = [interface("20.0.0.1:4500"), observed("20.0.0.1:4500")];
    assert_eq!(
        advertised(&twice, false).as_slice(),
        [observed("20.0.0.1:4500")],
        "what is observed comes first"
    );
    let many: Vec<_> = (1..20).map(|n| interface(&format!("20.0.0.{n}:4500"))).collect();
    assert_eq!(advertised(&many, false).as_slice(), &many[..8]);
}

#[test]
fn the_highest_generation_replaces_all_and_older_ones_mean_nothing() {
    let now =
        World::new(0, &[(crate::sim::nat::Kind::Public, false)], [0, 0], crate::path::Config::default()).now;
    let list = |text| [observed(text)].into_iter().collect::<CandidateList>();
    let mut exchange = Exchange::new();
    assert_eq!(exchange.hear(now, 5, 0, list("20.0.0.1:4500")), Heard::New { punch: true });
    assert_eq!(exchange.hear(now, 4, 0, list("20.0.0.2:4500")), Heard::Old);
    assert_eq!(exchange.hear(now, 5, 0, list("20.0.0.3:4500")), Heard::Again);
    assert_eq!(*exchange.peer(), list("20.0.0.1:4500"));
    // Six in a row give the right to challenge, then one every two seconds.
    let rights = |exchange: &mut Exchange, now, from: u32| {
        (from..from + 20)
            .filter(|generation| {
                exchange.hear(now, *generation, 0, list("20.0.0.1:4500")) == Heard::New { punch: true }
            })
            .count()
    };
    assert_eq!(rights(&mut exchange, now, 6), 5);
    assert_eq!(rights(&mut exchange, now + ms(3900), 26), 1);
    assert_eq!(rights(&mut exchange, now + secs(4), 46), 1);
    assert_eq!(rights(&mut exchange, now + secs(1000), 66), 6);
}

#[test]
fn a_round_is_answered_with_a_generation_that_is_new_to_the_peer() {
    let now =
        World::new(0, &[(crate::sim::nat::Kind::Public, false)], [0, 0], crate::path::Config::default()).now;
    let list = CandidateList::EMPTY;
    let generation = |body| match body {
        Body::Candidates { generation, answer: true, .. } => generation,
        Body::Candidates { .. } | Body::Challenge { .. } | Body::Response { .. } => panic!("no answer"),
    };
    let mut exchange = Exchange::new();
    exchange.begin(now, list);
    // Both began at once: what is under way already is new to the peer.
    exchange.hear(now, 1, 0, list);
    assert_eq!(generation(exchange.answer(list, false)), 1);
    // The same again is answered with the same, the next round with the next.
    exchange.hear(now, 1, 0, list);
    assert_eq!(generation(exchange.answer(list, true)), 1);
    exchange.hear(now, 2, 0, list);
    assert_eq!(generation(exchange.answer(list, false)), 2);
    // Acknowledged, so the peer has it.
    exchange.begin(now, list);
    exchange.hear(now, 3, 3, list);
    assert_eq!(generation(exchange.answer(list, false)), 4);
}

#[test]
fn candidates_are_repeated_until_they_are_acknowledged() {
    let now =
        World::new(0, &[(crate::sim::nat::Kind::Public, false)], [0, 0], crate::path::Config::default()).now;
    let mut exchange = Exchange::new();
    exchange.begin(now, CandidateList::EMPTY);
    assert_eq!(exchange.repeat_at(), Some(now));
    assert!(exchange.repeat(now).is_some());
    exchange.hear(now, 1, 0, CandidateList::EMPTY);
    assert!(exchange.repeat_at().is_some(), "not acknowledged");
    exchange.hear(now, 2, 99, CandidateList::EMPTY);
    assert!(exchange.repeat_at().is_some(), "a generation that was never sent is no acknowledgement");
    exchange.hear(now, 2, 1, CandidateList::EMPTY);
    assert_eq!(exchange.repeat_at(), None);
    exchange.begin(now, CandidateList::EMPTY);
    let times = (0..100).take_while(|_| exchange.repeat(now).is_some()).count();
    assert_eq!((times, exchange.repeat_at()), (6, None), "not for ever");
}

#[test]
fn datagrams_are_at_least_as_long_as_the_longest_form_of_esp() {
    // SPI, sequence number, IV, payload, padding to 4 with two octets of trailer, ICV.
    assert_eq!(datagram_len(20), 8 + 8 + 24 + 16);
    assert_eq!(datagram_len(22), 8 + 8 + 24 + 16);
    assert_eq!(datagram_len(1380), 8 + 8 + 1384 + 16);
}
