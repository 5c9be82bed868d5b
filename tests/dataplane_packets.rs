//! The outbound and inbound functions with real SAs: the round trip, and every reason for a drop.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests are no tests by clippy's measure"
)]

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use domicile::dataplane::batch::{PacketBuffer, SendBatch};
use domicile::dataplane::counters::DropReason;
use domicile::dataplane::event::UdpPath;
use domicile::dataplane::inbound::{self, Content, News};
use domicile::dataplane::outbound::{self, Verdict as Out};
use domicile::dataplane::tables::{self, Outbound, Reader};
use domicile::esp::{InboundSa, Limits, OutboundSa, SaParams};
use domicile::policy::spd::{Action, Services};
use domicile::wire::ip::Ipv6View;
use proptest::prelude::*;

mod dataplane_support;
use dataplane_support::*;

const MTU: u16 = 1380;

fn seal(reader: &Reader, packet: &[u8]) -> (Out, Option<Vec<u8>>) {
    let mut batch = SendBatch::new();
    let verdict = outbound::process(reader, packet, &mut batch);
    let datagram = batch.datagrams().next().map(|datagram| datagram.bytes.to_vec());
    (verdict, datagram)
}

fn sealed(reader: &Reader, packet: &[u8]) -> Vec<u8> {
    seal(reader, packet).1.unwrap()
}

/// What came of a datagram, and the inner packet.
fn open(reader: &Reader, datagram: &[u8], ecn: u8) -> (Result<News, DropReason>, Vec<u8>) {
    let mut out = PacketBuffer::new();
    let path = mirrored(path());
    let content = inbound::classify(datagram, path, ecn);
    let result = open_content(reader, content, Duration::ZERO, &mut out);
    let result = result.and_then(|authentic| authentic.inner.map(|_| authentic.news));
    (result, out.packet().to_vec())
}

fn refused(reader: &Reader, datagram: &[u8]) -> DropReason {
    open(reader, datagram, 0).0.unwrap_err()
}

/// Alice's SA, to seal what her data plane would not.
fn raw(sa: &OutboundSa, next_header: u8, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![0; sa.sealed_len(inner.len())];
    sa.seal(sa.assign(1).unwrap(), next_header, inner, &mut out).unwrap();
    out
}

/// The packet, between these ports.
fn between_ports(mut packet: Vec<u8>, source: u16, destination: u16) -> Vec<u8> {
    packet[40..42].copy_from_slice(&source.to_be_bytes());
    packet[42..44].copy_from_slice(&destination.to_be_bytes());
    packet
}

#[test]
fn both_directions_of_a_flow_are_one_flow() {
    let flow = |packet: &[u8]| Ipv6View::new(packet).unwrap().flow();
    let question = between_ports(packet(alice(), bob(), 30), 40_001, 443);
    let answer = between_ports(packet(bob(), alice(), 30), 443, 40_001);
    let other = between_ports(packet(alice(), bob(), 30), 40_002, 443);
    assert_eq!(flow(&question), flow(&answer));
    assert_ne!(flow(&question), flow(&other));
    // Without ports: the flow label, and not what happens to stand there.
    for (source, label) in [(1, 0x0f_1234), (2, 0x0f_1234), (2, 7)] {
        let mut echo = between_ports(packet(alice(), bob(), 30), source, 9);
        echo[6] = 58;
        echo[1..4]
            .copy_from_slice(&[label >> 16, label >> 8 & 0xff, label & 0xff].map(|octet: u32| octet as u8));
        assert_eq!(flow(&echo), label);
    }
}

#[test]
fn flows_are_sealed_by_the_sas_that_there_are_and_keep_to_theirs() {
    let (mut publisher, reader) = sender(NO_LIMITS, MTU);
    let only = reader.outbound(alice(), bob()).unwrap();
    let params = only.sa.params().clone();
    let another = |spi| Arc::new(OutboundSa::new(SaParams { spi, ..params.clone() }).unwrap());
    let several = Outbound { additional: vec![another(901), another(902)], ..Outbound::clone(&only) };
    let spis = |reader: &Reader| -> Vec<u32> {
        let packets = (40_000..40_300).map(|port| between_ports(packet(alice(), bob(), 30), port, 443));
        packets.map(|packet| u32::from_be_bytes(*sealed(reader, &packet).first_chunk().unwrap())).collect()
    };
    assert_eq!(spis(&reader), vec![params.spi; 300]);
    publisher.set_outbound(alice(), bob(), several);
    let first = spis(&reader);
    for spi in [params.spi, 901, 902] {
        let share = first.iter().filter(|other| **other == spi).count();
        assert!((70..130).contains(&share), "{share} of 300 flows");
    }
    assert_eq!(spis(&reader), first);
}

#[test]
fn a_packet_crosses_unchanged() {
    let ((_a, alice_reader), (_b, bob_reader)) = (sender(NO_LIMITS, MTU), receiver(NO_LIMITS));
    for payload in [0, 1, 2, 3, 4, 100, 1332] {
        let packet = packet(alice(), bob(), payload);
        let mut batch = SendBatch::new();
        assert_eq!(outbound::process(&alice_reader, &packet, &mut batch), Out::Sealed { soft_limit: None });
        let datagram = batch.datagrams().next().unwrap();
        assert_eq!(datagram.path, path());
        let (result, inner) = open(&bob_reader, datagram.bytes, 0);
        assert_eq!(result, Ok(News { first: payload == 0, ..News::default() }));
        assert_eq!(inner, packet);
    }
}

#[test]
fn a_full_batch_seals_nothing_and_uses_no_number() {
    let (_a, reader) = sender(NO_LIMITS, MTU);
    let packet = packet(alice(), bob(), 1000);
    let mut batch = SendBatch::new();
    let mut queued = 0;
    while outbound::process(&reader, &packet, &mut batch) != Out::Full {
        queued += 1;
    }
    assert_eq!(batch.len(), queued);
    assert_eq!(reader.outbound(alice(), bob()).unwrap().sa.packets(), queued as u64);
}

#[test]
fn packet_too_big_is_never_below_1280() {
    let packet_of = |len: usize| packet(alice(), bob(), len - 48);
    let (_a, reader) = sender(NO_LIMITS, MTU);
    assert!(matches!(seal(&reader, &packet_of(1380)).0, Out::Sealed { .. }));
    assert_eq!(seal(&reader, &packet_of(1381)).0, Out::TooBig { mtu: 1380 });
    let (_a, reader) = sender(NO_LIMITS, 600);
    assert!(matches!(seal(&reader, &packet_of(1280)).0, Out::Sealed { .. }));
    assert_eq!(seal(&reader, &packet_of(1281)).0, Out::TooBig { mtu: 1280 });
}

#[test]
fn the_largest_packet_fits_an_empty_batch() {
    let (_a, reader) = sender(NO_LIMITS, u16::MAX);
    assert!(matches!(seal(&reader, &packet(alice(), bob(), 65_535 - 48)).0, Out::Sealed { .. }));
}

#[test]
fn what_policy_says_without_an_sa() {
    let (mut publisher, reader) = sender(NO_LIMITS, MTU);
    publisher.set_policy(
        policy(&[
            ("2002:c633:6403::/48", Action::Discard),
            ("2002:c633:6404::/48", Action::Bypass),
            ("2002:c633:6405::/48", Action::Protect(Services::IntegrityOnly)),
        ]),
        vec![alice()],
    );
    let verdict = |from: Ipv6Addr, to: &str| seal(&reader, &packet(from, to.parse().unwrap(), 10)).0;
    assert_eq!(verdict(alice(), "2002:c633:6409::1"), Out::Acquire);
    assert_eq!(verdict(alice(), "2002:c633:6405::1"), Out::Acquire);
    assert_eq!(verdict(alice(), "2002:c633:6403::1"), Out::Refused(DropReason::Discard));
    assert_eq!(verdict(alice(), "2001:db8::1"), Out::Refused(DropReason::Discard));
    assert_eq!(verdict(alice(), "2002:c633:6404::1"), Out::Refused(DropReason::Bypass));
    assert_eq!(verdict(bob(), "2002:c633:6409::1"), Out::Refused(DropReason::ForeignSource));
    for to in ["ff02::1", "::", "::1", "fe80::1"] {
        assert_eq!(verdict(alice(), to), Out::Refused(DropReason::NotUnicast), "{to}");
    }
    publisher.remove_outbound(alice(), bob());
    assert_eq!(seal(&reader, &packet(alice(), bob(), 10)).0, Out::Acquire);
}

#[test]
fn what_is_not_a_whole_ipv6_packet_is_not_sent() {
    let (_a, reader) = sender(NO_LIMITS, MTU);
    let whole = packet(alice(), bob(), 10);
    let refused = |packet: &[u8]| match seal(&reader, packet).0 {
        Out::Refused(reason) => reason,
        other => panic!("{other:?}"),
    };
    for len in 0..whole.len() {
        assert_eq!(refused(&whole[..len]), DropReason::Malformed, "{len}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(refused(&longer), DropReason::Malformed);
    let mut expired = whole.clone();
    expired[7] = 0;
    assert_eq!(refused(&expired), DropReason::Malformed);
    let mut other = whole;
    other[0] = 0x45;
    assert_eq!(refused(&other), DropReason::NotIpv6);
    assert_eq!(refused(&[0x45; 28]), DropReason::NotIpv6);
}

#[test]
fn limits_are_told_once() {
    let limits = Limits { soft_packets: 2, hard_packets: 3, ..NO_LIMITS };
    let ((_a, alice_reader), (_b, bob_reader)) = (sender(limits, MTU), receiver(limits));
    let packet = packet(alice(), bob(), 10);
    let mut sent = Vec::new();
    let mut told = Vec::new();
    for _ in 0..3 {
        let (verdict, datagram) = seal(&alice_reader, &packet);
        told.push(matches!(verdict, Out::Sealed { soft_limit: Some(SPI) }));
        sent.extend(datagram);
    }
    assert_eq!(told.iter().filter(|told| **told).count(), 1, "{told:?}");
    assert_eq!(seal(&alice_reader, &packet).0, Out::Exhausted { tell: Some(SPI) });
    assert_eq!(seal(&alice_reader, &packet).0, Out::Exhausted { tell: None });
    let heard = sent.iter().filter(|sealed| open(&bob_reader, sealed, 0).0.unwrap().soft_limit).count();
    assert_eq!(heard, 1);
}

#[test]
fn every_reason_to_refuse_a_datagram() {
    let ((_a, alice_reader), (_b, reader)) = (sender(NO_LIMITS, MTU), receiver(NO_LIMITS));
    let sa = outbound_sa(SPI, alice(), bob(), NO_LIMITS);
    let good = sealed(&alice_reader, &packet(alice(), bob(), 64));

    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&reader, &forged), DropReason::Integrity);
    assert!(open(&reader, &good, 0).0.is_ok());
    assert_eq!(refused(&reader, &good), DropReason::Replayed);
    let mut unknown = good.clone();
    unknown[0] ^= 0x80;
    assert_eq!(refused(&reader, &unknown), DropReason::UnknownSpi);
    assert_eq!(refused(&reader, &good[..20]), DropReason::Malformed);
    assert_eq!(refused(&reader, &[1, 2, 3]), DropReason::Malformed);

    // Number 1 went already; these have higher ones.
    assert_eq!(sa.assign(1), Ok(1));
    assert_eq!(refused(&reader, &raw(&sa, 59, b"")), DropReason::Dummy);
    assert_eq!(refused(&reader, &raw(&sa, 59, b"anything")), DropReason::Dummy);
    assert_eq!(refused(&reader, &raw(&sa, 4, &[0x45; 20])), DropReason::NextHeader);
    assert_eq!(refused(&reader, &raw(&sa, 41, b"short")), DropReason::Malformed);
    assert_eq!(refused(&reader, &raw(&sa, 41, &[0x45; 60])), DropReason::Malformed);
    let mut expired = packet(alice(), bob(), 8);
    expired[7] = 0;
    assert_eq!(refused(&reader, &raw(&sa, 41, &expired)), DropReason::Malformed);
    let mallory = "2002:c633:6409::1".parse().unwrap();
    for (from, to) in [(mallory, bob()), (alice(), mallory), (bob(), alice())] {
        assert_eq!(refused(&reader, &raw(&sa, 41, &packet(from, to, 8))), DropReason::Selectors);
    }
}

#[test]
fn what_left_the_window_is_too_old() {
    // With extended numbers it would pass for one of the next 2^32 and fail the integrity check (RFC 4303 A2.2).
    let sa_params = |local, remote| SaParams { esn: false, ..params(SPI, local, remote, NO_LIMITS) };
    let (mut publisher, reader) = tables::new();
    publisher.install_inbound(Arc::new(InboundSa::new(sa_params(bob(), alice())).unwrap()));
    let sa = OutboundSa::new(sa_params(alice(), bob())).unwrap();
    let old = raw(&sa, 41, &packet(alice(), bob(), 8));
    sa.assign(70_000).unwrap();
    assert!(open(&reader, &raw(&sa, 41, &packet(alice(), bob(), 8)), 0).0.is_ok());
    assert_eq!(refused(&reader, &old), DropReason::TooOld);
}

#[test]
fn a_removed_sa_is_unknown() {
    let ((_a, alice_reader), (mut publisher, reader)) = (sender(NO_LIMITS, MTU), receiver(NO_LIMITS));
    publisher.remove_inbound(SPI);
    let datagram = sealed(&alice_reader, &packet(alice(), bob(), 8));
    assert_eq!(refused(&reader, &datagram), DropReason::UnknownSpi);
}

#[test]
fn flow_confidentiality_padding_is_cut_off() {
    let (_b, reader) = receiver(NO_LIMITS);
    let sa = outbound_sa(SPI, alice(), bob(), NO_LIMITS);
    let packet = packet(alice(), bob(), 8);
    let mut padded = packet.clone();
    padded.extend([0; 300]);
    let (result, inner) = open(&reader, &raw(&sa, 41, &padded), 0);
    assert!(result.is_ok());
    assert_eq!(inner, packet);
}

#[test]
fn congestion_marks_cross_the_tunnel() {
    let ((_a, alice_reader), (_b, reader)) = (sender(NO_LIMITS, MTU), receiver(NO_LIMITS));
    for ecn in 0..4 {
        let packet = with_ecn(packet(alice(), bob(), 8), ecn);
        let mut batch = SendBatch::new();
        outbound::process(&alice_reader, &packet, &mut batch);
        let datagram = batch.datagrams().next().unwrap();
        assert_eq!(datagram.ecn, ecn);
        let (result, inner) = open(&reader, datagram.bytes, 3);
        if ecn == 0 {
            assert_eq!(result, Err(DropReason::Congestion));
        } else {
            assert!(result.is_ok());
            assert_eq!(inner, with_ecn(packet, 3));
        }
    }
}

#[test]
fn ike_and_keepalives_are_told_apart() {
    let classify = |datagram: &[u8]| match inbound::classify(datagram, path(), 0) {
        Content::Ike { message, .. } => Some(message.to_vec()),
        Content::Keepalive => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(classify(&[0, 0, 0, 0, 1, 2]), Some(vec![1, 2]));
    assert_eq!(classify(&[0xff]), None);
}

#[test]
fn a_new_source_is_told_after_authentication_and_seldom() {
    let ((_a, alice_reader), (mut publisher, reader)) = (sender(NO_LIMITS, MTU), receiver(NO_LIMITS));
    let back = outbound_sa(0x2222_2222, bob(), alice(), NO_LIMITS);
    let usual = mirrored(path());
    let moved = UdpPath { remote: "198.51.100.9:4501".parse().unwrap(), ..usual };
    let is_news = |path, at, forged: bool| {
        let mut datagram = sealed(&alice_reader, &packet(alice(), bob(), 8));
        *datagram.last_mut().unwrap() ^= u8::from(forged);
        let now = Duration::from_millis(at);
        let content = inbound::classify(&datagram, path, 0);
        let opened = open_content(&reader, content, now, &mut PacketBuffer::new());
        opened.is_ok_and(|authentic| authentic.news.new_source)
    };
    // Nothing to compare with yet.
    assert!(!is_news(moved, 0, false));
    publisher.set_outbound(bob(), alice(), Outbound::new(back.clone(), usual, MTU));
    assert!(!is_news(usual, 1, false));
    assert!(!is_news(moved, 2, true), "never before authentication");
    assert!(is_news(moved, 3, false));
    assert!(!is_news(moved, 1002, false), "not again within a second");
    assert!(is_news(moved, 1003, false));
    // The control plane moves there: the old address is news at once.
    publisher.set_outbound(bob(), alice(), Outbound::new(back, moved, MTU));
    assert!(!is_news(moved, 1004, false));
    assert!(is_news(usual, 1005, false));
    publisher.remove_outbound(bob(), alice());
    assert!(!is_news(usual, 9000, false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn garbage_is_never_delivered(mut datagram in proptest::collection::vec(any::<u8>(), 0..300), ours: bool) {
        let (_b, reader) = receiver(NO_LIMITS);
        if let (true, Some(front)) = (ours, datagram.first_chunk_mut::<4>()) {
            *front = SPI.to_be_bytes();
        }
        let mut out = PacketBuffer::new();
        let content = inbound::classify(&datagram, path(), 0);
        if let Content::Esp(_) = content {
            prop_assert!(open_content(&reader, content, Duration::ZERO, &mut out).is_err());
        }
        let sa = &reader.inbound(SPI).unwrap().sa;
        prop_assert_eq!(sa.packets(), 0);
    }

    #[test]
    fn garbage_from_the_tun_is_never_sealed(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_a, reader) = sender(NO_LIMITS, MTU);
        let mut batch = SendBatch::new();
        let verdict = outbound::process(&reader, &packet, &mut batch);
        prop_assert!(matches!(verdict, Out::Refused(_)), "{:?}", verdict);
        prop_assert!(batch.is_empty());
    }
}
