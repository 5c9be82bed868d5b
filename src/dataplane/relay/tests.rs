use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::addr::plan;
use crate::wire::icmpv6::MAX_ERROR;
use crate::wire::ip::{HEADER_LEN, checksum, write_header};

const HOME_A: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const HOME_B: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
const NOW: Duration = Duration::from_secs(1);

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn port(home: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(home, 4500)
}

fn alice() -> Ipv6Addr {
    plan::device(HOME_A, 7, 1)
}

fn bob() -> Ipv6Addr {
    plan::device(HOME_B, 9, 1)
}

fn packet(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER_LEN];
    let len = u16::try_from(payload.len()).unwrap();
    write_header(packet.first_chunk_mut().unwrap(), source, destination, next_header, hops, len);
    packet.extend_from_slice(payload);
    packet
}

fn esp(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    packet(source, destination, 50, 64, &[0xab; 120])
}

/// Sets the checksum of a UDP or ICMPv6 payload.
fn summed(mut packet: Vec<u8>, at: usize) -> Vec<u8> {
    let view = Ipv6View::new(&packet).unwrap();
    let sum = checksum(view.source(), view.destination(), view.next_header(), view.payload());
    packet[HEADER_LEN + at..HEADER_LEN + at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn ike(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let mut payload = vec![0x11; 8 + 60];
    payload[..8].copy_from_slice(&[1, 244, 1, 244, 0, 68, 0, 0]);
    summed(packet(source, destination, 17, 64, &payload), 6)
}

fn icmp(source: Ipv6Addr, destination: Ipv6Addr, kind: u8) -> Vec<u8> {
    let quoted = esp(destination, source);
    let payload = [&[kind, 0, 0, 0, 0, 0, 0, 0], &quoted[..]].concat();
    summed(packet(source, destination, 58, 64, &payload), 2)
}

fn relay_of(
    home: Option<Ipv4Addr>,
    local: &[Ipv6Addr],
    bindings: &[(Ipv6Addr, SocketAddrV4)],
) -> (Publisher, Relay) {
    let (mut publisher, reader) = new();
    publisher.set_roles(Roles {
        local: local.iter().copied().collect(),
        home: home.map(crate::addr::six_to_four::home_prefix),
        homes: Homes::new(Vec::new(), false),
    });
    for (address, care_of) in bindings {
        publisher.bind(Ipv6Net::from(*address), *care_of);
    }
    (publisher, Relay::new(reader, Limits::default(), [3; 16]))
}

#[test]
fn a_packet_goes_from_node_to_home_to_home_to_node() {
    let (laptop, server) = (at("1.2.3.4:61000"), at("5.6.7.8:62000"));
    let (_a, mut first) = relay_of(Some(HOME_A), &[], &[(alice(), laptop)]);
    let (_b, mut second) = relay_of(Some(HOME_B), &[], &[(bob(), server)]);
    let (_n, mut node) = relay_of(None, &[bob()], &[]);
    for mut datagram in [esp(alice(), bob()), ike(alice(), bob()), icmp(alice(), bob(), 1)] {
        let sent = datagram.clone();
        let mut from = laptop;
        for (relay, home, to, hops) in
            [(&mut first, HOME_A, port(HOME_B), 63), (&mut second, HOME_B, server, 62)]
        {
            let verdict = relay.decide(&datagram, from, NOW);
            assert_eq!(verdict, Verdict::Forward { to, hop_limit: hops });
            rewrite(&mut datagram, hops);
            from = port(home);
        }
        let Verdict::Local(Relayed { source, destination, payload }) = node.decide(&datagram, from, NOW)
        else {
            panic!()
        };
        assert_eq!((source, destination), (alice(), bob()));
        match payload {
            Payload::Esp { spi, packet } => assert_eq!((spi, packet), (0xabab_abab, &sent[HEADER_LEN..])),
            Payload::Ike(message) => assert_eq!(message, &sent[HEADER_LEN + 8..]),
            Payload::IcmpError(error) => assert_eq!(error, &sent[HEADER_LEN..]),
        }
        // Nothing but the hop limit has changed.
        rewrite(&mut datagram, 64);
        assert_eq!(datagram, sent);
    }
    let counted = first.counters().passed();
    assert_eq!((counted["relay_forwarded_packets"], counted.len()), (3, 2));
    assert_eq!(node.counters().passed()["relay_delivered_packets"], 3);
}

#[test]
fn our_own_packets_find_their_first_hop() {
    let laptop = at("1.2.3.4:61000");
    let (_p, node) = relay_of(None, &[bob()], &[]);
    assert_eq!(node.reader.first_hop(bob(), alice()), Ok(port(HOME_B)));
    let (_p, home) = relay_of(Some(HOME_A), &[plan::home_agent(HOME_A)], &[(alice(), laptop)]);
    assert_eq!(home.reader.first_hop(plan::home_agent(HOME_A), alice()), Ok(laptop));
    assert_eq!(home.reader.first_hop(plan::home_agent(HOME_A), bob()), Ok(port(HOME_B)));
    assert_eq!(
        home.reader.first_hop(bob(), alice()),
        Ok(laptop),
        "an entity of another home that lives here"
    );
    let unbound = plan::device(HOME_A, 7, 2);
    assert_eq!(home.reader.first_hop(plan::home_agent(HOME_A), unbound), Err(Refusal::Unbound));
    assert_eq!(home.reader.care_of(alice()), Some(laptop));
}

#[test]
fn a_self_homed_node_takes_what_is_for_it() {
    let laptop = at("1.2.3.4:61000");
    let service = plan::in_subnet(HOME_A, 0x100, 1);
    let (_p, mut home) = relay_of(Some(HOME_A), &[service], &[(alice(), laptop)]);
    for (source, from) in [(alice(), laptop), (bob(), port(HOME_B))] {
        let datagram = esp(source, service);
        assert!(matches!(home.decide(&datagram, from, NOW), Verdict::Local(_)));
    }
    let datagram = esp(bob(), service);
    for forged in [laptop, port(HOME_A), at("9.9.9.9:4501")] {
        assert_eq!(home.decide(&datagram, forged, NOW), Verdict::Refused(Refusal::NotHome));
    }
}

#[test]
fn nobody_sends_under_anothers_name() {
    let laptop = at("1.2.3.4:61000");
    let other = plan::device(HOME_A, 8, 1);
    let service = plan::in_subnet(HOME_A, 0x100, 1);
    let third = plan::device(Ipv4Addr::new(7, 7, 7, 7), 1, 1);
    let (_p, mut home) =
        relay_of(Some(HOME_A), &[service], &[(alice(), laptop), (other, at("1.2.3.4:61001"))]);
    let cases = [
        (alice(), bob(), at("1.2.3.4:61001"), Refusal::NotCareOf),
        (alice(), bob(), at("1.2.3.5:61000"), Refusal::NotCareOf),
        (alice(), bob(), port(HOME_B), Refusal::NotCareOf),
        (plan::device(HOME_A, 9, 1), bob(), laptop, Refusal::UnboundSource),
        (service, alice(), laptop, Refusal::OwnSource),
        (bob(), alice(), laptop, Refusal::NotHome),
        (bob(), alice(), port(HOME_A), Refusal::NotHome),
        (third, alice(), port(HOME_B), Refusal::NotHome),
        (bob(), third, port(HOME_B), Refusal::Transit),
        ("2001:db8::1".parse().unwrap(), alice(), port(HOME_B), Refusal::NoHome),
        ("2002:a00:1:1::1".parse().unwrap(), alice(), at("10.0.0.1:4500"), Refusal::NoHome),
        (alice(), "2002:7f00:1:1::1".parse().unwrap(), laptop, Refusal::NoHome),
        (alice(), "ff02::1".parse().unwrap(), laptop, Refusal::NoHome),
    ];
    for (source, destination, from, refusal) in cases {
        let datagram = esp(source, destination);
        assert_eq!(
            home.decide(&datagram, from, NOW),
            Verdict::Refused(refusal),
            "{source} {destination} {from}"
        );
        assert!(home.counters().of(refusal) > 0);
    }
    // A node that is no home relays nothing, and believes its own home only.
    let (_p, mut node) = relay_of(None, &[alice()], &[]);
    let datagram = esp(bob(), alice());
    assert!(matches!(node.decide(&datagram, port(HOME_A), NOW), Verdict::Local(_)));
    assert_eq!(node.decide(&datagram, port(HOME_B), NOW), Verdict::Refused(Refusal::NotHome));
    assert_eq!(node.decide(&esp(bob(), third), port(HOME_B), NOW), Verdict::Refused(Refusal::Transit));
}

#[test]
fn only_esp_ike_and_errors_are_carried() {
    let laptop = at("1.2.3.4:61000");
    let (_p, mut home) = relay_of(Some(HOME_A), &[], &[(alice(), laptop)]);
    let spoiled = |mut packet: Vec<u8>, at: usize| {
        packet[at] ^= 1;
        packet
    };
    let raw = |next_header, payload: &[u8]| packet(alice(), bob(), next_header, 64, payload);
    let mut dns = ike(alice(), bob());
    dns[HEADER_LEN + 2..HEADER_LEN + 4].copy_from_slice(&[0, 53]);
    let mut no_checksum = ike(alice(), bob());
    no_checksum[HEADER_LEN + 6..HEADER_LEN + 8].fill(0);
    let cases = [
        (raw(6, &[0; 40]), Refusal::Protocol),
        (raw(41, &[0; 40]), Refusal::Protocol),
        (raw(0, &[50, 0, 1, 4, 0, 0, 0, 0]), Refusal::Protocol),
        (raw(60, &[50, 0, 1, 4, 0, 0, 0, 0]), Refusal::Protocol),
        (raw(135, &[59, 0, 5, 0, 0, 0, 0, 0]), Refusal::Protocol),
        (raw(44, &[50, 0, 0, 1, 0, 0, 0, 1]), Refusal::Fragment),
        (icmp(alice(), bob(), 128), Refusal::Protocol),
        (icmp(alice(), bob(), 137), Refusal::Protocol),
        (dns, Refusal::Protocol),
        (no_checksum, Refusal::Malformed),
        (spoiled(ike(alice(), bob()), 80), Refusal::Malformed),
        (spoiled(icmp(alice(), bob(), 2), 80), Refusal::Malformed),
        (raw(50, &[1; 7]), Refusal::Malformed),
        (raw(17, &[1, 244, 1, 244, 0, 7, 0]), Refusal::Malformed),
        (raw(58, &[1]), Refusal::Malformed),
        (raw(58, &[]), Refusal::Malformed),
        (esp(alice(), bob())[..100].to_vec(), Refusal::Malformed),
        (spoiled(esp(alice(), bob()), 5), Refusal::Malformed),
        (vec![0x60; 39], Refusal::Malformed),
        (packet(alice(), bob(), 50, 1, &[1; 60]), Refusal::HopLimit),
        (packet(alice(), bob(), 50, 0, &[1; 60]), Refusal::HopLimit),
    ];
    for (datagram, refusal) in cases {
        assert_eq!(home.decide(&datagram, laptop, NOW), Verdict::Refused(refusal), "{datagram:?}");
    }
    for kind in 1..=4 {
        let datagram = icmp(alice(), bob(), kind);
        assert!(matches!(home.decide(&datagram, laptop, NOW), Verdict::Forward { .. }));
    }
}

#[test]
fn unbound_destinations_are_told_sometimes_and_never_louder_than_the_question() {
    let (_p, mut home) = relay_of(Some(HOME_A), &[], &[]);
    let mut out = [0; MAX_ERROR];
    let question = esp(bob(), alice());
    assert_eq!(home.decide(&question, port(HOME_B), NOW), Verdict::Unreachable);
    let len = unreachable(&question, &mut out).unwrap();
    assert_eq!(len, question.len());
    // The answer is itself something that the other home takes from us and passes on.
    let (_p, mut other) = relay_of(Some(HOME_B), &[], &[(bob(), at("5.6.7.8:62000"))]);
    let verdict = other.decide(&out[..len], port(HOME_A), NOW);
    assert_eq!(verdict, Verdict::Forward { to: at("5.6.7.8:62000"), hop_limit: 63 });
    // Too short a question, or an error, has no answer.
    assert_eq!(unreachable(&packet(bob(), alice(), 50, 64, &[0; 20]), &mut out), None);
    let error = icmp(bob(), alice(), 1);
    assert_eq!(home.decide(&error, port(HOME_B), NOW), Verdict::Refused(Refusal::Unbound));
    // And there are not many of them.
    let told =
        (0..1000).filter(|_| home.decide(&question, port(HOME_B), NOW) == Verdict::Unreachable).count();
    assert!(told < 100, "{told}");
    assert_eq!(home.counters().of(Refusal::Unbound), 1001 - told as u64);
}

#[test]
fn a_packet_does_not_go_round_in_ourselves() {
    // An entry that says that another prefix is at home with us, too.
    let elsewhere: Ipv6Net = "2002:101:101::/48".parse().unwrap();
    let (mut publisher, reader) = new();
    let homes = Homes::new(vec![(elsewhere, port(HOME_A))], false);
    let home = Some(crate::addr::six_to_four::home_prefix(HOME_A));
    publisher.set_roles(Roles { local: HashSet::new(), home, homes });
    let laptop = at("1.2.3.4:61000");
    publisher.bind(Ipv6Net::from(alice()), laptop);
    let mut relay = Relay::new(reader, Limits::default(), [0; 16]);
    let datagram = esp(alice(), "2002:101:101:1::1".parse().unwrap());
    assert_eq!(relay.decide(&datagram, laptop, NOW), Verdict::Refused(Refusal::Loop));
}

#[test]
fn one_binding_cannot_use_up_what_belongs_to_others() {
    let (laptop, other) = (at("1.2.3.4:61000"), at("1.2.3.5:61000"));
    let neighbour = plan::device(HOME_A, 8, 1);
    let (_p, relay) = relay_of(Some(HOME_A), &[], &[(alice(), laptop), (neighbour, other)]);
    let rate = |per_second| Rate { per_second, burst: Duration::from_secs(1) };
    let limits =
        Limits { source: rate(20_000), binding: rate(16_000), control: rate(5), unreachable: rate(1) };
    let mut relay = Relay::new(relay.reader, limits, [3; 16]);
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..1000 {
        match relay.decide(&esp(alice(), bob()), laptop, NOW) {
            Verdict::Forward { .. } => passed += 1,
            Verdict::Refused(Refusal::BindingRate | Refusal::SourceRate) => refused += 1,
            verdict @ (Verdict::Local(_) | Verdict::Unreachable | Verdict::Refused(_)) => {
                panic!("{verdict:?}")
            }
        }
    }
    assert_eq!((passed, refused), (100, 900), "160 octets each");
    assert!(matches!(relay.decide(&esp(neighbour, bob()), other, NOW), Verdict::Forward { .. }));
    let messages = (0..20).filter(|_| {
        relay.decide(&ike(neighbour, bob()), other, NOW) != Verdict::Refused(Refusal::ControlRate)
    });
    assert_eq!(messages.count(), 5);
    // A flood from another home fills neither the neighbour's bucket nor that of a third home.
    let third = Ipv4Addr::new(7, 7, 7, 7);
    let flood = (0..1000)
        .filter(|_| {
            matches!(
                relay.decide(&esp(bob(), alice()), port(HOME_B), NOW + Duration::from_secs(9)),
                Verdict::Forward { .. }
            )
        })
        .count();
    assert_eq!(flood, 100);
    let datagram = esp(plan::device(third, 1, 1), neighbour);
    assert!(matches!(
        relay.decide(&datagram, port(third), NOW + Duration::from_secs(9)),
        Verdict::Forward { .. }
    ));
}

/// Two homes' addresses, bound and not, and others.
fn address() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        8 => (prop_oneof![Just(HOME_A), Just(HOME_B), Just(Ipv4Addr::new(10, 0, 0, 1))], 0..3u32, 0..3u32)
            .prop_map(|(home, user, device)| plan::device(home, user, device)),
        2 => (0..3u64).prop_map(|interface| plan::in_subnet(HOME_A, 0x100, interface)),
        1 => any::<u128>().prop_map(Ipv6Addr::from),
    ]
}

fn outside() -> impl Strategy<Value = SocketAddrV4> {
    prop_oneof![
        3 => Just(port(HOME_A)),
        3 => Just(port(HOME_B)),
        1 => Just(port(Ipv4Addr::new(10, 0, 0, 1))),
        4 => (1..4u8, 61_000..61_003u16).prop_map(|(host, port)| SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, host), port)),
    ]
}

proptest! {
    /// The rule as the design says it, written down a second time; and the bound on amplification: one datagram at most
    /// for each, never longer, and only to a proven care-of address, to a home, or back.
    #[test]
    fn what_is_relayed_is_what_the_rules_allow(
        bindings in proptest::collection::vec((address(), outside()), 0..8), node in (0..5u64, outside()),
        local in proptest::collection::vec(address(), 0..2), is_home: bool,
        packets in proptest::collection::vec((address(), address(), outside(), 0..4u8, any::<u8>(), 0..200usize), 1..40),
    ) {
        let (mut publisher, mut relay) = relay_of(is_home.then_some(HOME_A), &local, &bindings);
        publisher.bind("2002:808:808:100::/64".parse()?, node.1);
        let own = |address: Ipv6Addr| is_home && address.segments()[..3] == [0x2002, 0x808, 0x808];
        let bound = |address: Ipv6Addr| {
            let exact = bindings.iter().rev().find(|(bound, _)| *bound == address).map(|(_, care_of)| *care_of);
            exact.or_else(|| (address.segments()[..4] == [0x2002, 0x808, 0x808, 0x100]).then_some(node.1))
        };
        let home_of = |address: Ipv6Addr| Homes::new(Vec::new(), false).endpoint(address).ok();
        for (source, destination, from, kind, hops, len) in packets {
            let datagram = match kind {
                0 => ike(source, destination),
                1 => icmp(source, destination, 1),
                _ => packet(source, destination, 50, hops, &vec![7; len]),
            };
            let is_local = local.contains(&destination);
            let authentic = !local.contains(&source) && if own(source) {
                bound(source) == Some(from)
            } else if own(destination) {
                home_of(source) == Some(from)
            } else {
                is_local && home_of(destination) == Some(from)
            };
            let verdict = relay.decide(&datagram, from, NOW);
            match verdict {
                Verdict::Forward { to, hop_limit } => {
                    prop_assert!(authentic && !is_local && (own(source) || own(destination)));
                    let wanted = if own(destination) { bound(destination) } else { home_of(destination) };
                    prop_assert_eq!(Some(to), wanted);
                    prop_assert_eq!(hop_limit, datagram[7] - 1);
                    prop_assert!(hop_limit > 0);
                }
                Verdict::Local(Relayed { payload, .. }) => {
                    prop_assert!(authentic && is_local);
                    let is_esp = matches!(payload, Payload::Esp { .. });
                    prop_assert_eq!(is_esp, kind > 1);
                }
                Verdict::Unreachable => {
                    prop_assert!(authentic && own(destination) && bound(destination).is_none());
                    let mut out = [0; MAX_ERROR];
                    let len = unreachable(&datagram, &mut out).unwrap_or_default();
                    prop_assert!(len <= datagram.len());
                }
                Verdict::Refused(refusal) => {
                    let short = kind > 1 && (len < 8 || hops < 2);
                    let lost = matches!(refusal, Refusal::Unbound | Refusal::NoHome | Refusal::Loop);
                    prop_assert!(!authentic || short || lost, "{refusal:?}");
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_decided_about(bytes in proptest::collection::vec(any::<u8>(), 0..120), from in outside()) {
        let (_p, mut relay) = relay_of(Some(HOME_A), &[], &[(alice(), at("1.2.3.4:61000"))]);
        let _ = relay.decide(&bytes, from, NOW);
        let mut out = [0; MAX_ERROR];
        prop_assert!(unreachable(&bytes, &mut out).is_none_or(|len| len <= bytes.len()));
    }

    /// A batch of datagrams fares as each of them would alone: verdicts, limits and counters.
    #[test]
    fn a_batch_is_judged_as_its_packets_are(
        bindings in proptest::collection::vec((address(), outside()), 0..8),
        local in proptest::collection::vec(address(), 0..2), is_home: bool, per_second in 100..5000u64,
        packets in proptest::collection::vec(
            (address(), address(), outside(), 0..4u8, any::<u8>(), 0..200usize, 1..5usize), 1..40),
    ) {
        let rate = Rate { per_second, burst: Duration::from_secs(1) };
        let limits = Limits { source: rate, binding: rate, control: Rate { per_second: 3, ..rate }, unreachable: rate };
        let (_publisher, Relay { reader, .. }) = relay_of(is_home.then_some(HOME_A), &local, &bindings);
        let mut together = Relay::new(reader.clone(), limits, [4; 16]);
        let mut alone = Relay::new(reader, limits, [4; 16]);
        let mut run = Run::default();
        for (source, destination, from, kind, hops, len, times) in packets {
            let datagram = match kind {
                0 => ike(source, destination),
                1 => icmp(source, destination, 1),
                _ => packet(source, destination, 50, hops, &vec![7; len]),
            };
            for _ in 0..times {
                let verdict = together.decide_in(&mut run, &datagram, from, NOW);
                prop_assert_eq!(verdict, alone.decide(&datagram, from, NOW));
            }
        }
        prop_assert_eq!(together.counters().passed(), alone.counters().passed());
        for refusal in Refusal::ALL {
            prop_assert_eq!(together.counters().of(*refusal), alone.counters().of(*refusal));
        }
    }
}
