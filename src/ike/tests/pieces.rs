//! The pure pieces: proposals, cookies, fragments, selectors, AUTH.
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::time::{Duration, Instant};

use crate::crypto::prf::{ike_keys, skeyseed};
use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::ike::cookie::CookieJar;
use crate::ike::fragment::{MAX_MESSAGE, Reassembly, UNPROVEN};
use crate::ike::message::{Opened, Part, Protection};
use crate::ike::proposal::{
    ChildChoice, Pfs, choose_child, choose_ike, offer_child, offer_ike, read_child_answer, read_ike_answer,
};
use crate::ike::select;
use crate::wire::ike::{Header, Payload, Proposal, TrafficSelector, Transform, exchange, flags};

const ALL: [EspSuite; 4] =
    [EspSuite::Aes256GcmIiv, EspSuite::ChaCha20Poly1305Iiv, EspSuite::Aes256Gcm, EspSuite::ChaCha20Poly1305];

fn child_answer(answer: &[Proposal], offered: &[Proposal]) -> Option<ChildChoice> {
    read_child_answer(answer, offered, &ALL, Pfs::WhenOffered)
}

#[test]
fn an_answer_is_one_of_what_was_offered() {
    for suite in ALL {
        for (esn, pfs) in [(true, true), (true, false), (false, true), (false, false)] {
            let offer = offer_child(&ALL, 0x1000, esn, pfs);
            let chosen = choose_child(&offer, &[suite], true, Pfs::WhenOffered).unwrap();
            assert_eq!((chosen.suite, chosen.esn, chosen.pfs), (suite, esn, pfs));
            let answer = chosen.answer(0x2000);
            let read = child_answer(&answer, &offer).unwrap();
            assert_eq!((read.suite, read.esn, read.pfs, read.spi), (suite, esn, pfs, 0x2000));
            let mut renumbered = answer.clone();
            renumbered[0].number = 3 - renumbered[0].number;
            assert!(child_answer(&renumbered, &offer).is_none(), "a suite of another proposal");
            renumbered[0].number = 7;
            assert!(child_answer(&renumbered, &offer).is_none(), "a number that was not offered");
            let less = offer_child(&ALL, 0x1000, !esn, pfs);
            assert_eq!(child_answer(&answer, &less).is_some(), !esn, "ESN that was not offered");
            let less = offer_child(&ALL, 0x1000, esn, !pfs);
            assert_eq!(child_answer(&answer, &less).is_some(), !pfs, "a key exchange that was not offered");
        }
    }
    let offer = offer_child(&ALL, 0x1000, true, false);
    assert!(child_answer(&offer, &offer).is_none(), "an offer is no answer");
    assert!(child_answer(&[], &offer).is_none());
}

#[test]
fn an_answer_for_the_ike_sa_is_one_of_what_was_offered() {
    let ours = [IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm];
    let offer = offer_ike(&ours, None);
    for suite in ours {
        let mut answer = choose_ike(&offer, &[suite]).unwrap().answer(None);
        assert_eq!(read_ike_answer(&answer, &offer, &ours).unwrap().suite, suite);
        let other = if suite == ours[0] { ours[1] } else { ours[0] };
        assert!(read_ike_answer(&answer, &offer_ike(&[other], None), &ours).is_none(), "never offered");
        answer[0].transforms.push(NO_INTEGRITY);
        assert!(read_ike_answer(&answer, &offer, &ours).is_some(), "NONE, said or not, is the same");
        answer[0].number = 2;
        assert!(read_ike_answer(&answer, &offer, &ours).is_none());
    }
    assert!(read_ike_answer(&offer, &offer, &ours).is_none(), "an offer is no answer");
}

const NO_INTEGRITY: Transform = Transform { kind: 3, id: 0, key_length: None, unknown_attribute: false };
const NO_EXCHANGE: Transform = Transform { kind: 4, id: 0, key_length: None, unknown_attribute: false };

// RFC 7296 §3.3.6: the answer has exactly one transform of each type that was offered, NONE among them.
#[test]
fn none_is_echoed_where_it_was_offered() {
    let mut offer = offer_child(&[EspSuite::Aes256Gcm], 0x1000, true, false);
    offer[0].transforms.push(Transform { id: 14, ..NO_EXCHANGE });
    assert!(choose_child(&offer, &ALL, true, Pfs::WhenOffered).is_none(), "a group that we do not have");
    offer[0].transforms.extend([NO_EXCHANGE, NO_INTEGRITY]);
    for pfs in [Pfs::WhenOffered, Pfs::Never] {
        let chosen = choose_child(&offer, &ALL, true, pfs).unwrap();
        assert!(!chosen.pfs);
        let answer = chosen.answer(0x2000);
        for none in [NO_EXCHANGE, NO_INTEGRITY] {
            assert!(answer[0].transforms.contains(&none), "{pfs:?}: {answer:?}");
        }
        assert!(child_answer(&answer, &offer).is_some());
    }
    offer[0].transforms.push(Transform { id: 31, ..NO_EXCHANGE });
    let answer = choose_child(&offer, &ALL, true, Pfs::WhenOffered).unwrap().answer(0x2000);
    assert!(!answer[0].transforms.contains(&NO_EXCHANGE), "X25519 was there, too");

    let mut offer = offer_ike(&[IkeSuite::Aes256Gcm], None);
    offer[0].transforms.push(NO_INTEGRITY);
    let answer = choose_ike(&offer, &[IkeSuite::Aes256Gcm]).unwrap().answer(None);
    assert!(answer[0].transforms.contains(&NO_INTEGRITY));
}

#[test]
fn our_order_decides_and_strangers_are_ignored() {
    let mut offer = offer_ike(&[IkeSuite::Aes256Gcm, IkeSuite::ChaCha20Poly1305], None);
    let ours = [IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm];
    assert_eq!(choose_ike(&offer, &ours).unwrap().suite, IkeSuite::ChaCha20Poly1305);
    // An AES transform with an attribute nobody knows, and without key length: neither is taken.
    offer[0].transforms[0] = Transform { kind: 1, id: 20, key_length: Some(256), unknown_attribute: true };
    assert!(choose_ike(&offer, &[IkeSuite::Aes256Gcm]).is_none());
    offer[0].transforms[0] = Transform { kind: 1, id: 20, key_length: None, unknown_attribute: false };
    assert!(choose_ike(&offer, &[IkeSuite::Aes256Gcm]).is_none());
    offer[0].transforms.push(Transform { kind: 9, id: 1, key_length: None, unknown_attribute: false });
    assert!(choose_ike(&offer, &ours).is_none(), "an unknown transform type must be understood");
}

#[test]
fn reserved_spis_are_refused() {
    let offer = offer_child(&ALL, 255, true, false);
    assert!(choose_child(&offer, &ALL, true, Pfs::Never).is_none());
}

#[test]
fn cookies_are_bound_to_their_bearer_and_grow_stale() {
    let start = Instant::now();
    let mut jar = CookieJar::new(start, Secret::new(vec![1; 32]));
    let from = "192.0.2.1:4500".parse().unwrap();
    let cookie = jar.bake(b"nonce", from, 7);
    assert!(jar.accepts(&cookie, b"nonce", from, 7));
    assert!(!jar.accepts(&cookie, b"other", from, 7));
    assert!(!jar.accepts(&cookie, b"nonce", "192.0.2.2:4500".parse().unwrap(), 7));
    assert!(!jar.accepts(&cookie, b"nonce", from, 8));
    assert!(!jar.accepts(&[], b"nonce", from, 7));
    jar.rotate(start + Duration::from_secs(61), || Secret::new(vec![2; 32]));
    assert!(jar.accepts(&cookie, b"nonce", from, 7), "the previous secret still counts");
    jar.rotate(start + Duration::from_secs(122), || Secret::new(vec![3; 32]));
    assert!(!jar.accepts(&cookie, b"nonce", from, 7));
}

fn two_ends() -> (Protection, Protection) {
    let seed = skeyseed(b"0123456789abcdef", b"fedcba9876543210", &Secret::new(vec![9; 32]));
    let keys = ike_keys(IkeSuite::Aes256Gcm, &seed, b"0123456789abcdef", b"fedcba9876543210", 1, 2).unwrap();
    let end = |initiator| Protection::new(IkeSuite::Aes256Gcm, &keys, initiator).unwrap();
    (end(true), end(false))
}

fn header() -> Header {
    Header {
        initiator_spi: 1,
        responder_spi: 2,
        next_payload: 0,
        version: 0x20,
        exchange: exchange::IKE_AUTH,
        flags: flags::INITIATOR,
        message_id: 1,
        length: 0,
    }
}

#[test]
fn fragments_come_together_in_any_order() {
    let (mut ours, theirs) = two_ends();
    let payloads = [Payload::Nonce(vec![5; 256]), Payload::VendorId(vec![6; 500])];
    let datagrams = ours.seal(header(), &payloads, Some(300));
    assert!(datagrams.len() > 2 && datagrams.iter().all(|datagram| datagram.len() <= 300));
    let mut reassembly = Reassembly::default();
    let mut whole = None;
    for datagram in datagrams.iter().rev().chain(datagrams.iter()) {
        let Opened::Part(part) = theirs.open(&Header::parse(datagram).unwrap(), datagram).unwrap() else {
            panic!("not a fragment")
        };
        let complete = reassembly.add(1, part, MAX_MESSAGE);
        whole = whole.or(complete);
    }
    let (first, chain) = whole.expect("complete");
    assert_eq!(crate::wire::ike::parse_payloads(first, &chain).unwrap(), payloads);
}

fn part(number: u16, total: u16, octets: usize) -> Part {
    Part { number, total, first: 33, plaintext: vec![number as u8; octets] }
}

#[test]
fn reassembly_keeps_to_its_limits() {
    let mut reassembly = Reassembly::default();
    assert!(reassembly.add(1, part(1, 65, 1), MAX_MESSAGE).is_none());
    assert_eq!(reassembly.octets(), 0, "nobody sends 65 fragments");
    for number in 1..=8 {
        assert!(reassembly.add(1, part(number, 9, 2000), UNPROVEN).is_none());
    }
    assert_eq!(reassembly.octets(), 16_000);
    assert!(reassembly.add(1, part(8, 9, 2000), UNPROVEN).is_none());
    assert_eq!(reassembly.octets(), 16_000, "a repeated fragment counts once");
    assert!(reassembly.add(1, part(9, 9, 2000), UNPROVEN).is_none());
    assert_eq!(reassembly.octets(), 0, "too large a message is given up whole");
    for number in 1..=64 {
        let whole = reassembly.add(1, part(number, 64, 1024), MAX_MESSAGE);
        assert_eq!(whole.map(|(_, chain)| chain.len()), (number == 64).then_some(MAX_MESSAGE));
    }
    assert_eq!(reassembly.octets(), 0);
}

#[test]
fn a_message_that_is_fragmented_anew_begins_anew() {
    let mut reassembly = Reassembly::default();
    assert!(reassembly.add(1, part(1, 2, 10), MAX_MESSAGE).is_none());
    assert!(reassembly.add(1, part(1, 3, 5), MAX_MESSAGE).is_none(), "smaller pieces");
    assert!(reassembly.add(1, part(2, 2, 10), MAX_MESSAGE).is_none(), "an old, larger piece");
    assert!(reassembly.add(1, part(2, 3, 5), MAX_MESSAGE).is_none());
    assert_eq!(reassembly.add(1, part(3, 3, 5), MAX_MESSAGE).unwrap().1.len(), 15);
    assert!(reassembly.add(2, part(1, 2, 10), MAX_MESSAGE).is_none());
    assert!(reassembly.add(3, part(2, 2, 10), MAX_MESSAGE).is_none(), "parts of two messages make none");
    assert_eq!(reassembly.octets(), 10);
}

#[test]
fn a_changed_octet_anywhere_is_noticed() {
    let (mut ours, theirs) = two_ends();
    let message = ours.seal(header(), &[Payload::Nonce(vec![5; 32])], None).remove(0);
    assert!(theirs.open(&Header::parse(&message).unwrap(), &message).is_ok());
    for at in 0..message.len() {
        let mut changed = message.clone();
        changed[at] ^= 1;
        if let Ok(header) = Header::parse(&changed) {
            assert!(theirs.open(&header, &changed).is_err(), "octet {at}");
        }
    }
}

#[test]
fn selectors_are_narrowed_to_one_address_or_refused() {
    let address = "2002:c633:6401:1::10".parse().unwrap();
    let range = |protocol, start: &str, end: &str| TrafficSelector::Ipv6 {
        protocol,
        start_port: 0,
        end_port: u16::MAX,
        start: start.parse().unwrap(),
        end: end.parse().unwrap(),
    };
    assert!(select::covers(&select::single(address), address));
    assert!(select::covers(&[range(6, "::", "::1"), range(0, "2002::", "2003::")], address));
    assert!(!select::covers(&[range(6, "2002::", "2003::")], address), "TCP alone is less than policy wants");
    assert!(!select::covers(&[range(0, "2002::", "2002::1")], address));
    assert!(
        !select::is_single(&[range(0, "2002::", "2003::")], address),
        "an answer must be what was offered"
    );
}
