//! How many child SAs there may be between the same two addresses, and what comes of a refusal (RFC 9611).
#![expect(clippy::wildcard_enum_match_arm, reason = "a few payloads are changed, others are not")]

use super::pair::*;
use super::resources::{ask, place, places, rekey, willing, with};
use crate::ike::child_offer::{ChildOffer, Purpose};
use crate::ike::resources::{MAX_ADDITIONAL, octet_beside};
use crate::ike::window::Task;
use crate::wire::ike::{Payload, exchange, notify_type as nt};

/// This comes as the answer to A's request, which got lost.
fn answer(pair: &mut Pair, payloads: &[Payload]) {
    pair.lose = None;
    let (id, path) = (pair.ike(B), pair.path(B));
    pair.act(B, |endpoint, now| {
        endpoint.with(now, id, |sa, ctx| sa.respond(ctx, path, exchange::CREATE_CHILD_SA, payloads));
    });
    pair.settle();
}

#[test]
fn a_refusal_is_harmless() {
    let status = |kind| crate::ike::nat::status(kind, Vec::new());
    let errors = [
        nt::TS_MAX_QUEUE,
        nt::NO_ADDITIONAL_SAS,
        nt::NO_PROPOSAL_CHOSEN,
        nt::TS_UNACCEPTABLE,
        nt::INVALID_SYNTAX,
        nt::CHILD_SA_NOT_FOUND,
        nt::TEMPORARY_FAILURE,
    ];
    let mut answers: Vec<Vec<Payload>> = errors.iter().map(|kind| vec![status(*kind)]).collect();
    answers.push(Vec::new());
    answers.push(vec![status(nt::SA_RESOURCE_INFO)]);
    // It looks like more than a refusal, and is of no use.
    answers.push(vec![Payload::Nonce(vec![1; 32]), Payload::Sa(Vec::new())]);
    for refusal in answers {
        let mut pair = with(Setup::default(), 1);
        let before = (pair.ike(A), pair.active(A).id);
        pair.lose = Some(Box::new(|_| true));
        assert!(ask(&mut pair, A));
        answer(&mut pair, &refusal);
        pair.assert_agreed_on(2);
        assert_eq!((pair.ike(A), pair.active(A).id), before, "{refusal:?}");
        let busy = refusal == [status(nt::TEMPORARY_FAILURE)];
        assert_eq!(ask(&mut pair, A), busy, "asked again only when it was busy: {refusal:?}");
    }
}

/// B makes the child that A asks for, as if the request had arrived.
fn made_by_b(pair: &mut Pair) {
    let (asks, id) = (pair.ike(A), pair.ike(B));
    let spi = pair.hosts[A].endpoint.sas.get(asks).and_then(|sa| sa.offered).unwrap();
    pair.act(B, |endpoint, now| {
        endpoint.with(now, id, |sa, ctx| {
            let offer = ChildOffer::new(ctx, sa, false, Purpose::Additional);
            let request: Vec<Payload> =
                offer.payloads(sa, &[]).into_iter().map(|payload| as_of_peer(payload, spi)).collect();
            offer.abandon(ctx, sa);
            sa.accept_child(ctx, now, &request, (&[1; 32], &[2; 32]), Purpose::Additional).unwrap();
        });
    });
}

/// An offer of ours as the peer would make it, which receives on this SPI.
fn as_of_peer(payload: Payload, spi: u32) -> Payload {
    match payload {
        Payload::TsInitiator(selectors) => Payload::TsResponder(selectors),
        Payload::TsResponder(selectors) => Payload::TsInitiator(selectors),
        Payload::Sa(mut proposals) => {
            proposals.iter_mut().for_each(|proposal| proposal.spi = spi.to_be_bytes().to_vec());
            Payload::Sa(proposals)
        }
        other => other,
    }
}

#[test]
fn a_child_of_whose_answer_nothing_can_be_made_does_not_stay_with_the_peer() {
    let mut pair = with(Setup::default(), 1);
    pair.lose = Some(Box::new(|_| true));
    assert!(ask(&mut pair, A));
    made_by_b(&mut pair);
    assert_eq!(pair.hosts[B].children.len(), 3);
    answer(&mut pair, &[Payload::Nonce(vec![1; 32]), Payload::Sa(Vec::new())]);
    pair.assert_agreed_on(2);
    assert!(!willing(&pair, A));
}

#[test]
fn an_additional_child_that_is_not_replaced_goes_and_the_first_one_stays() {
    let mut pair = with(Setup::default(), 1);
    let child = pair.hosts[A].beside[0];
    pair.lose = Some(Box::new(|_| true));
    rekey(&mut pair, A, child);
    let id = pair.ike(B);
    answer(&mut pair, &[crate::ike::nat::status(nt::NO_ADDITIONAL_SAS, Vec::new())]);
    pair.assert_agreed();
    assert!(!pair.active(A).additional && pair.ike(B) == id);
}

#[test]
fn the_eighth_is_refused_and_a_gap_is_filled() {
    let mut pair = with(Setup::default(), MAX_ADDITIONAL);
    for host in [A, B] {
        assert_eq!(places(&pair, host), (1..=MAX_ADDITIONAL as u8).collect());
        assert!(!ask(&mut pair, host));
    }
    // Whoever asks nevertheless is told.
    let id = pair.ike(A);
    let told = pair.hosts[B].endpoint.sas.get(pair.ike(B)).unwrap().another();
    assert_eq!(told, Err(nt::TS_MAX_QUEUE));
    let sent = pair.hosts[B].sent;
    pair.act(A, |endpoint, now| {
        endpoint.with(now, id, |sa, ctx| sa.begin_child(ctx, now, Purpose::Additional));
    });
    pair.settle();
    pair.assert_agreed_on(1 + MAX_ADDITIONAL);
    assert!(pair.hosts[B].sent > sent && !willing(&pair, A) && willing(&pair, B));
    let gap = *pair.hosts[B].beside.iter().find(|child| place(&pair, B, **child) == 3).unwrap();
    pair.delete_child(B, gap);
    pair.settle();
    pair.assert_agreed_on(MAX_ADDITIONAL);
    assert!(!places(&pair, B).contains(&3) && ask(&mut pair, B));
    pair.settle();
    assert!(places(&pair, B).contains(&3));
}

#[test]
fn last_octets_follow_one_another_wherever_they_begin() {
    for first in 0..=u8::MAX {
        let mut octets = vec![first];
        for _ in 0..MAX_ADDITIONAL {
            octets.push(octet_beside(first, |octet| octets.contains(&octet)).unwrap());
        }
        octets.sort_unstable();
        assert!(octets.windows(2).all(|pair| pair[1] == pair[0] + 1), "{octets:?}");
    }
}

#[test]
fn both_may_ask_for_the_last_one_at_once() {
    let mut pair = with(Setup::default(), MAX_ADDITIONAL - 1);
    assert!(ask(&mut pair, A) && ask(&mut pair, B));
    pair.settle();
    pair.assert_agreed_on(2 + MAX_ADDITIONAL);
    assert!(!ask(&mut pair, A) && !ask(&mut pair, B));
}

#[test]
fn when_both_ask_at_once_each_spi_has_a_place_of_its_own() {
    let mut pair = Pair::connected(Setup::default());
    assert!(ask(&mut pair, A) && ask(&mut pair, B));
    pair.settle();
    for host in [A, B] {
        assert_eq!(pair.hosts[host].beside.len(), 2);
        assert_eq!(places(&pair, host).len(), 2);
    }
}

#[test]
fn a_second_child_that_nobody_calls_additional_takes_the_place_of_the_first() {
    let mut pair = Pair::connected(Setup::default());
    let (id, before) = (pair.ike(A), pair.active(A).id);
    pair.act(A, |endpoint, now| {
        endpoint.with(now, id, |sa, ctx| sa.begin_child(ctx, now, Purpose::Anew));
    });
    pair.settle();
    assert!(pair.active(A).id != before && willing(&pair, A));
    for host in [A, B] {
        assert!(pair.hosts[host].children.len() == 2 && pair.hosts[host].beside.is_empty());
        assert!(pair.hosts[host].children.values().all(|child| !child.additional));
    }
}

#[test]
fn whoever_asks_for_many_gets_few_whatever_it_says_of_them() {
    let mut pair = Pair::connected(Setup::default());
    let id = pair.ike(B);
    for round in 0..100_usize {
        pair.act(B, |endpoint, now| {
            endpoint.with(now, id, |sa, ctx| {
                let offer = ChildOffer::new(ctx, sa, false, Purpose::Additional);
                let absurd = crate::ike::nat::status(nt::SA_RESOURCE_INFO, vec![0xff; round % 10 * 400]);
                let mut payloads = vec![absurd.clone(), absurd];
                payloads.extend(offer.payloads(sa, &[Payload::Nonce(vec![round as u8; 32])]));
                // It never uses them, and does not even keep them.
                offer.abandon(ctx, sa);
                sa.request(ctx, now, exchange::CREATE_CHILD_SA, &payloads, Task::Tell);
            });
        });
        pair.run(secs(1));
    }
    assert_eq!(pair.hosts[A].children.len(), 1 + MAX_ADDITIONAL);
    assert!(pair.hosts[A].beside.is_empty(), "nothing is sent on what the peer does not use");
    assert_eq!((pair.ikes(A).len(), pair.active(A).spi_in), (1, pair.active(B).spi_out));
}
