//! What happens to an SA in its life: rekeying, reauthentication, expiry, death.

use super::pair::*;
use crate::ike::CloseReason;
use crate::ike::timer::Timer;
use crate::sim::network::Conditions;

/// A few seconds with traffic, long enough for deletes and draining.
fn settle(pair: &mut Pair) {
    for _ in 0..150 {
        pair.run(ms(100));
        pair.traffic();
    }
}

#[test]
fn a_child_is_rekeyed_from_either_side() {
    for (host, pfs) in [(A, false), (B, false), (A, true), (B, true)] {
        let change = if pfs {
            |_: usize, config: &mut crate::ike::Config| config.child_pfs = true
        } else {
            |_: usize, _: &mut crate::ike::Config| {}
        };
        let mut pair = Pair::connected(Setup { change, ..Setup::default() });
        let before = pair.active(A).spi_in;
        let child = pair.active(host).id;
        pair.act(host, |endpoint, now| endpoint.rekey_child(now, child));
        settle(&mut pair);
        pair.assert_agreed();
        assert_ne!(pair.active(A).spi_in, before);
        assert!(pair.hosts[A].closed.iter().all(|(_, reason)| *reason == CloseReason::Replaced));
    }
}

#[test]
fn the_responder_sends_on_the_new_child_once_it_is_used() {
    let mut pair = Pair::connected(Setup::default());
    let child = pair.active(A).id;
    pair.act(A, |endpoint, now| endpoint.rekey_child(now, child));
    pair.run(ms(12));
    // The answer is under way: the responder receives on both and sends on the old one.
    assert_eq!(pair.hosts[B].children.len(), 2);
    assert_eq!(pair.active(B).spi_in, pair.hosts[B].children.values().next().unwrap().spi_in);
    settle(&mut pair);
    pair.assert_agreed();
}

#[test]
fn the_ike_sa_is_rekeyed_and_children_move() {
    for host in [A, B] {
        let mut pair = Pair::connected(Setup::default());
        let child = pair.active(A).spi_in;
        let before = pair.ikes(A)[0].clone();
        pair.act(host, |endpoint, now| endpoint.rekey_ike(now, before.id));
        let id = pair.ikes(host)[0].id;
        pair.act(host, |endpoint, now| endpoint.rekey_ike(now, id));
        settle(&mut pair);
        pair.assert_agreed();
        assert_ne!(pair.ikes(A)[0].spi_i, before.spi_i);
        assert_eq!(pair.active(A).spi_in, child, "the child is the same");
        let child = pair.active(B).id;
        pair.act(B, |endpoint, now| endpoint.rekey_child(now, child));
        settle(&mut pair);
        pair.assert_agreed();
    }
}

/// B rekeys the IKE SA, and nothing that A says arrives any more, for this long.
fn rekeyed_and_unheard(duration: std::time::Duration) -> Pair {
    let mut pair = Pair::connected(Setup::default());
    let (id, source) = (pair.ikes(B)[0].id, pair.hosts[A].v4);
    pair.lose = Some(Box::new(move |datagram| *datagram.source.ip() == source));
    pair.act(B, |endpoint, now| endpoint.rekey_ike(now, id));
    pair.run(duration);
    pair
}

#[test]
fn a_rekeyed_sa_stays_while_the_peer_may_not_have_heard_of_its_heir() {
    let pair = rekeyed_and_unheard(secs(59));
    assert_eq!(pair.ikes(A).len(), 2);
}

#[test]
fn a_rekeyed_sa_goes_after_a_minute_even_if_nothing_was_heard_of_its_heir() {
    let pair = rekeyed_and_unheard(secs(100));
    let left = pair.ikes(A);
    assert_eq!(left.len(), 1);
    assert!(!left[0].initiator, "the heir, which B began, is left");
}

#[test]
fn an_heir_made_after_its_turn_to_be_authenticated_has_its_turn_soon_and_not_at_once() {
    let change = |_: usize, config: &mut crate::ike::Config| config.lifetimes.reauth = secs(600);
    let mut pair = Pair::connected(Setup { change, ..Setup::default() });
    for host in [A, B] {
        let id = pair.ikes(host)[0].id;
        let put_off = pair.now + secs(700);
        pair.act(host, |endpoint, now| {
            endpoint.with(now, id, |sa, _| sa.timers.set(Timer::Reauth, put_off));
        });
    }
    pair.run(secs(650));
    let id = pair.ikes(A)[0].id;
    pair.act(A, |endpoint, now| endpoint.rekey_ike(now, id));
    pair.run(secs(5));
    assert!(pair.ikes(A).iter().all(|ike| ike.age > secs(600)), "not at once");
    pair.run(secs(55));
    assert!(pair.ikes(A).iter().all(|ike| ike.age < secs(60)), "soon");
    pair.assert_agreed();
}

#[test]
fn reauthentication_replaces_everything_without_a_gap() {
    for host in [A, B] {
        let mut pair = Pair::connected(Setup::default());
        let id = pair.ikes(host)[0].id;
        pair.act(host, |endpoint, now| endpoint.reauthenticate(now, id));
        for _ in 0..200 {
            pair.run(ms(50));
            assert!(pair.hosts[A].active.is_some() && pair.hosts[B].active.is_some());
            pair.traffic();
        }
        settle(&mut pair);
        pair.assert_agreed();
        assert_eq!(pair.hosts[A].established, 2);
    }
}

#[test]
fn days_pass() {
    let mut pair = Pair::connected(Setup::default());
    let first = pair.ikes(A)[0].spi_i;
    for _ in 0..(48 * 60) {
        pair.run(secs(60));
        pair.traffic();
        assert!(
            pair.hosts[A].active.is_some() && pair.hosts[B].active.is_some(),
            "always a child to send on"
        );
    }
    pair.run(secs(60));
    assert_ne!(pair.ikes(A)[0].spi_i, first);
    assert!(pair.hosts[A].established > 10, "rekeyed and reauthenticated");
    assert!(pair.ikes(A)[0].age <= secs(24 * 3600), "trust never outlives the maximum age");
}

#[test]
fn a_closed_sa_is_gone_at_both_ends() {
    let mut pair = Pair::connected(Setup::default());
    pair.act(A, |endpoint, now| endpoint.close_all(now));
    settle(&mut pair);
    for host in [A, B] {
        assert!(pair.hosts[host].children.is_empty());
        assert!(pair.hosts[host].endpoint.is_empty());
    }
    assert_eq!(pair.hosts[B].ike_closed, [CloseReason::Peer]);
}

#[test]
fn a_dead_peer_is_noticed_when_we_talk_to_it() {
    let mut pair = Pair::connected(Setup::default());
    pair.network.set_conditions(Conditions { partition: true, ..Conditions::CALM });
    pair.run(secs(600));
    assert_eq!(pair.ikes(A).len(), 1, "silence alone is no death");
    for _ in 0..60 {
        pair.run(secs(1));
        let spi = pair.hosts[A].children.values().next().map(|child| child.spi_out);
        if let Some(spi) = spi {
            pair.act(A, |endpoint, now| endpoint.handle_sent(now, spi));
        }
    }
    assert_eq!(pair.hosts[A].ike_closed, [CloseReason::DeadPeer]);
    assert!(pair.hosts[A].children.is_empty());
}

#[test]
fn a_peer_that_is_heard_is_not_dead_when_an_answer_is_late() {
    let mut pair = Pair::connected(Setup::default());
    let (spi_in, spi_out) = (pair.active(A).spi_in, pair.active(A).spi_out);
    pair.run(secs(20));
    // The check and every repetition of it is lost, and then the network is back.
    pair.network.set_conditions(Conditions { partition: true, ..Conditions::CALM });
    pair.act(A, |endpoint, now| endpoint.handle_sent(now, spi_out));
    pair.run(secs(28));
    pair.network.set_conditions(Conditions::CALM);
    pair.act(A, |endpoint, now| endpoint.handle_traffic(now, spi_in));
    pair.run(secs(30));
    assert_eq!(pair.hosts[A].ike_closed, [], "its traffic was heard");
    pair.assert_agreed();
}

#[test]
fn a_restarted_peer_replaces_what_it_forgot() {
    for (restarted, caller) in [(A, A), (B, B)] {
        let mut pair = Pair::connected(Setup::default());
        pair.restart(restarted);
        pair.run(secs(3));
        pair.initiate(caller);
        settle(&mut pair);
        pair.assert_agreed();
        assert_eq!(pair.hosts[1 - restarted].ike_closed, [CloseReason::InitialContact]);
    }
}

#[test]
fn a_restarted_peer_that_does_not_call_is_noticed_soon() {
    let mut pair = Pair::connected(Setup::default());
    pair.run(secs(20));
    pair.restart(B);
    let spi = pair.active(A).spi_out;
    pair.act(A, |endpoint, now| endpoint.handle_sent(now, spi));
    pair.run(secs(3));
    assert_eq!(
        pair.hosts[A].ike_closed,
        [CloseReason::DeadPeer],
        "INVALID_IKE_SPI makes the check a quick one"
    );
}

#[test]
fn every_message_of_a_handshake_and_a_rekey_may_be_lost() {
    // One datagram in three is lost, many seeds: every position is hit.
    for seed in 0..200 {
        let conditions = Conditions { loss: 330, duplicate: 100, ..Conditions::CALM };
        let mut pair = Pair::new(Setup { seed, conditions, ..Setup::default() });
        pair.initiate(A);
        pair.run(secs(40));
        if pair.hosts[A].active.is_none() {
            continue;
        }
        let child = pair.active(A).id;
        pair.act(A, |endpoint, now| endpoint.rekey_child(now, child));
        let id = pair.ikes(A)[0].id;
        pair.act(A, |endpoint, now| endpoint.rekey_ike(now, id));
        pair.network.set_conditions(Conditions { loss: 200, ..Conditions::CALM });
        settle(&mut pair);
        pair.network.set_conditions(Conditions::CALM);
        settle(&mut pair);
        settle(&mut pair);
        if pair.hosts[A].active.is_some() && pair.hosts[B].active.is_some() {
            pair.assert_agreed();
        }
    }
}

#[test]
fn after_a_sleep_a_peer_that_is_gone_is_noticed_without_traffic() {
    for resumed in [false, true] {
        let mut pair = Pair::connected(Setup::default());
        pair.run(ms(2000));
        pair.lose = Some(Box::new(|_| true));
        if resumed {
            pair.act(A, |endpoint, now| endpoint.handle_resume(now));
        }
        pair.run(ms(200_000));
        assert_eq!(pair.hosts[A].ike_closed.contains(&CloseReason::DeadPeer), resumed);
    }
}
