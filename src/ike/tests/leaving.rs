//! SAs that go while others stay: what the simulation found.

use super::pair::*;
use crate::sim::network::Conditions;

const PARTITION: Conditions = Conditions { partition: true, ..Conditions::CALM };

#[test]
fn an_sa_that_says_goodbye_takes_no_new_work() {
    let mut pair = Pair::connected(Setup::default());
    pair.network.set_conditions(PARTITION);
    let old = pair.ike(A);
    pair.act(A, |endpoint, now| endpoint.close(now, old));
    pair.run(secs(1));
    let (local, remote, path, now) = (pair.hosts[A].entity, pair.hosts[B].entity, pair.path(A), pair.now);
    let new = pair.hosts[A].endpoint.initiate(now, local, remote, path).unwrap();
    assert_ne!(new, old);
    pair.network.set_conditions(Conditions::CALM);
    pair.run(secs(30));
    pair.assert_agreed();
}

#[test]
fn only_a_living_sa_counts_as_trying() {
    let mut pair = Pair::connected(Setup::default());
    let (local, remote, old) = (pair.hosts[A].entity, pair.hosts[B].entity, pair.ike(A));
    assert!(pair.hosts[A].endpoint.is_trying(local, remote));
    pair.network.set_conditions(PARTITION);
    pair.act(A, |endpoint, now| endpoint.close(now, old));
    assert!(!pair.hosts[A].endpoint.is_trying(local, remote));
}

#[test]
fn the_hint_of_a_restarted_peer_helps_late_in_an_exchange_too() {
    let mut pair = Pair::connected(Setup::default());
    pair.network.set_conditions(PARTITION);
    let id = pair.ike(A);
    pair.act(A, |endpoint, now| endpoint.rekey_ike(now, id));
    pair.restart(B);
    // Transmissions after 0, 0.5, 1.4, 3.0, 5.9 s; the next one, after 11.2 s, is answered.
    pair.run(secs(8));
    pair.network.set_conditions(Conditions::CALM);
    pair.run(secs(5));
    assert!(pair.ikes(A).is_empty(), "the dead SA is still there");
}

#[test]
fn crossing_reauthentications_with_cookies_keep_a_child_all_the_time() {
    for demanding in [A, B] {
        let change = if demanding == A {
            |host, config: &mut crate::ike::Config| config.cookie_threshold = if host == A { 0 } else { 64 }
        } else {
            |host, config: &mut crate::ike::Config| config.cookie_threshold = if host == B { 0 } else { 64 }
        };
        let mut pair = Pair::connected(Setup { change, ..Setup::default() });
        for host in [A, B] {
            let id = pair.ike(host);
            pair.act(host, |endpoint, now| endpoint.reauthenticate(now, id));
        }
        for _ in 0..300 {
            pair.run(ms(100));
            pair.traffic();
            for host in [A, B] {
                assert!(pair.hosts[host].active.is_some(), "host {host}, cookies at {demanding}");
            }
        }
        pair.assert_agreed();
    }
}

#[test]
fn what_an_sa_carried_moves_before_it_leaves() {
    let mut pair = Pair::connected(Setup::default());
    let id = pair.ike(A);
    pair.act(A, |endpoint, now| endpoint.reauthenticate(now, id));
    for _ in 0..200 {
        pair.run(ms(100));
        // No traffic: nothing but the goodbye tells which child to use.
        for host in [A, B] {
            let sends_on = pair.active(host).spi_out;
            let received = pair.hosts[1 - host].children.values().any(|child| child.spi_in == sends_on);
            assert!(received, "host {host} sends on a child that the other end does not have");
        }
    }
    pair.assert_agreed();
}

#[test]
fn a_rekey_that_waited_is_not_made_on_the_sa_that_was_replaced_meanwhile() {
    for seed in 0..200 {
        let mut pair = Pair::connected(Setup { seed, ..Setup::default() });
        let conditions = Conditions { loss: 300, jitter: ms(300), ..Conditions::CALM };
        pair.network.set_conditions(conditions);
        let (a, b) = (pair.ike(A), pair.ike(B));
        // The window of A is busy with a probe of an address that does not answer.
        let child = pair.active(A).clone();
        let mut elsewhere = child.path;
        elsewhere.remote.set_port(9);
        pair.act(A, |endpoint, now| {
            endpoint.handle_new_source(now, child.spi_in, elsewhere);
            endpoint.rekey_ike(now, a);
        });
        pair.run(ms(400));
        pair.act(B, |endpoint, now| endpoint.rekey_ike(now, b));
        pair.run(secs(4));
        pair.network.set_conditions(Conditions::CALM);
        pair.run(secs(60));
        pair.assert_agreed();
    }
}

#[test]
fn a_move_between_an_ike_rekey_and_the_end_of_the_old_sa_names_every_child() {
    let mut pair = Pair::connected(Setup::default());
    let id = pair.ike(B);
    pair.act(B, |endpoint, now| endpoint.rekey_ike(now, id));
    // The answer is under way: A has both SAs, the children belong to the new one.
    pair.run(ms(15));
    assert_eq!(pair.ikes(A).len(), 2);
    let new = "203.0.113.7".parse().unwrap();
    pair.hosts[A].v4 = new;
    pair.hosts[A].moved_children.clear();
    pair.act(A, |endpoint, now| endpoint.handle_local_change(now, &|_| Some(new)));
    let children: Vec<_> = pair.hosts[A].children.keys().copied().collect();
    assert_eq!(pair.hosts[A].moved_children, children);
}

#[test]
fn a_goodbye_while_the_proof_is_under_way_reaches_the_peer() {
    let mut pair = Pair::new(Setup::default());
    pair.initiate(A);
    // IKE_AUTH is sent, and nobody knows yet whether it was accepted.
    pair.run(ms(25));
    pair.act(A, |endpoint, now| endpoint.close_all(now));
    pair.run(secs(1));
    assert_eq!(pair.hosts[B].established, 1, "the peer accepted it");
    assert!(pair.hosts[B].endpoint.is_empty(), "the peer was not told");
    assert!(pair.hosts[A].endpoint.is_empty());
    assert_eq!(
        (pair.hosts[A].established, pair.hosts[A].failures.len()),
        (0, 0),
        "nothing comes up while we leave"
    );
}

#[test]
fn a_goodbye_that_waits_for_an_answer_to_the_proof_has_an_end() {
    let mut pair = Pair::new(Setup::default());
    pair.initiate(A);
    pair.run(ms(25));
    pair.network.set_conditions(PARTITION);
    pair.act(A, |endpoint, now| endpoint.close_all(now));
    pair.run(secs(11));
    assert!(pair.hosts[A].endpoint.is_empty());
    assert_eq!(pair.hosts[A].failures.len(), 0);
}
