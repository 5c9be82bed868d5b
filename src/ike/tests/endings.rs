//! How children and IKE SAs end: each child is closed exactly once (the harness checks after every step what was
//! announced and closed), goodbyes keep to the window (the harness checks that, too), failures are told.

use super::pair::*;
use crate::ike::window::{Task, Want};
use crate::ike::{ChildId, CloseReason, Failure};
use crate::sim::network::Conditions;
use crate::wire::ike::{Payload, exchange, flags};

const PARTITION: Conditions = Conditions { partition: true, ..Conditions::CALM };

#[test]
fn a_child_that_expires_is_closed_once() {
    let change = |_: usize, config: &mut crate::ike::Config| {
        config.lifetimes.child_hard = secs(60);
        config.lifetimes.child_rekey = secs(3600);
    };
    for then in 0..3 {
        let mut pair = Pair::connected(Setup { change, ..Setup::default() });
        let child = pair.active(A).id;
        if then == 1 {
            pair.run(secs(50));
            pair.network.set_conditions(PARTITION);
        }
        pair.run(secs(62));
        assert_eq!(pair.hosts[A].closed, [(child, CloseReason::Expired)]);
        if then == 2 {
            pair.act(A, |endpoint, now| endpoint.close_all(now));
        }
        pair.network.set_conditions(Conditions::CALM);
        pair.settle();
        assert_eq!(pair.hosts[A].closed, [(child, CloseReason::Expired)]);
        assert!(pair.hosts[B].children.is_empty());
    }
}

#[test]
fn deletes_of_one_child_that_cross_close_it_once() {
    for ends in [false, true] {
        for offset in 0..12 {
            let mut pair = Pair::connected(Setup::default());
            let (ours, theirs) = (pair.active(A).id, pair.active(B).id);
            pair.delete_child(A, ours);
            pair.run(ms(offset));
            pair.delete_child(B, theirs);
            if ends {
                // The requests cross, the answers are lost, and then the IKE SA ends.
                pair.run(ms(12 - offset));
                pair.network.set_conditions(PARTITION);
                for host in [A, B] {
                    pair.act(host, |endpoint, now| endpoint.close_all(now));
                }
            }
            pair.settle();
            for (host, child) in [(A, ours), (B, theirs)] {
                let closed: Vec<ChildId> = pair.hosts[host].closed.iter().map(|(id, _)| *id).collect();
                assert_eq!(closed, [child], "host {host}, offset {offset}, ends {ends}");
            }
        }
    }
}

#[test]
fn a_rekey_that_crosses_a_delete_of_the_same_child_leaves_both_ends_agreed() {
    for (rekeying, deleting) in [(A, B), (B, A)] {
        for offset in -25_i64..=25 {
            let mut pair = Pair::connected(Setup::default());
            let (ours, theirs) = (pair.active(rekeying).id, pair.active(deleting).id);
            let rekey = |pair: &mut Pair| pair.act(rekeying, |endpoint, now| endpoint.rekey_child(now, ours));
            if offset <= 0 {
                rekey(&mut pair);
                pair.run(ms(offset.unsigned_abs()));
                pair.delete_child(deleting, theirs);
            } else {
                pair.delete_child(deleting, theirs);
                pair.run(ms(offset.unsigned_abs()));
                rekey(&mut pair);
            }
            pair.settle();
            for host in [A, B] {
                assert_eq!(pair.ikes(host).len(), 1, "offset {offset}");
                for child in pair.hosts[host].children.values() {
                    let twin =
                        pair.hosts[1 - host].children.values().find(|twin| twin.spi_in == child.spi_out);
                    assert!(twin.is_some(), "half a child at host {host}, offset {offset}");
                }
            }
            assert!(pair.hosts[A].children.len() <= 1, "offset {offset}");
        }
    }
}

#[test]
fn a_goodbye_waits_for_the_window() {
    for (what, loss) in [(0, false), (0, true), (1, false), (1, true), (2, false), (2, true)] {
        let mut pair = Pair::connected(Setup::default());
        if loss {
            pair.network.set_conditions(PARTITION);
        }
        let (id, child) = (pair.ike(A), pair.active(A).id);
        pair.act(A, |endpoint, now| match what {
            0 => endpoint.rekey_child(now, child),
            1 => endpoint.rekey_ike(now, id),
            _ => endpoint.with(now, id, |sa, ctx| {
                sa.window.want(Want::Liveness);
                sa.pump(ctx, now);
            }),
        });
        pair.act(A, |endpoint, now| endpoint.close(now, id));
        pair.run(ms(700));
        pair.network.set_conditions(Conditions::CALM);
        pair.run(secs(30));
        for host in [A, B] {
            let rest = pair.ikes(host);
            assert!(
                pair.hosts[host].endpoint.is_empty(),
                "host {host}, exchange {what}, loss {loss}: {rest:?}"
            );
        }
        assert!(pair.hosts[A].ike_closed.contains(&CloseReason::Local));
        assert_eq!(pair.hosts[B].ike_closed.last(), Some(&CloseReason::Peer));
    }
}

#[test]
fn nothing_outlives_the_hard_end_and_the_peer_is_told() {
    for busy in [false, true] {
        let change = |host: usize, config: &mut crate::ike::Config| {
            config.lifetimes.ike_max = secs(if host == A { 100 } else { 3600 });
            config.lifetimes.reauth = secs(3600);
        };
        let mut pair = Pair::connected(Setup { change, ..Setup::default() });
        if busy {
            pair.run(ms(94_500));
            pair.network.set_conditions(PARTITION);
            let child = pair.active(A).id;
            pair.act(A, |endpoint, now| endpoint.rekey_child(now, child));
            pair.run(ms(1_000));
        } else {
            pair.run(ms(95_500));
        }
        assert!(pair.hosts[A].children.is_empty(), "the end is the end, busy {busy}");
        pair.network.set_conditions(Conditions::CALM);
        pair.run(secs(15));
        for host in [A, B] {
            assert!(pair.hosts[host].endpoint.is_empty() && pair.hosts[host].children.is_empty());
        }
        assert_eq!(pair.hosts[A].ike_closed, [CloseReason::Expired]);
    }
}

#[test]
fn whoever_is_refused_gets_nothing_through_the_refused_sa() {
    for what in 0..3 {
        let change = |host: usize, config: &mut crate::ike::Config| {
            use crate::policy::pad::{Pad, Peer, Proof};
            if host == A {
                let peer = config.pad.find("2002:c633:6402:1::20".parse().unwrap()).unwrap().into_owned();
                let proof = Proof::PublicKey([9; 32]);
                config.pad = std::sync::Arc::new(Pad::new([Peer { proof, ..peer }]));
            }
        };
        let mut pair = Pair::new(Setup { change, ..Setup::default() });
        // A's refusal is lost, so B believes in the SA.
        pair.lose = Some(Box::new(|datagram| {
            let message = &datagram.payload;
            message[18] == exchange::INFORMATIONAL && message[19] & flags::INITIATOR != 0
        }));
        pair.initiate(A);
        pair.run(ms(60));
        assert_eq!((pair.hosts[A].failures.len(), pair.hosts[B].established), (1, 1));
        let (id, child) = (pair.ike(B), pair.active(B).id);
        pair.act(B, |endpoint, now| match what {
            0 => endpoint.rekey_child(now, child),
            1 => endpoint.rekey_ike(now, id),
            _ => endpoint.reauthenticate(now, id),
        });
        for _ in 0..40 {
            pair.run(ms(500));
            assert!(pair.hosts[A].children.is_empty() && pair.ikes(A).is_empty(), "act {what}");
        }
        assert_eq!(pair.hosts[A].established, 0);
    }
}

#[test]
fn an_unusable_answer_ends_the_sa_with_a_reason_at_both_ends() {
    let mut pair = Pair::connected(Setup::default());
    let (id, child) = (pair.ike(A), pair.active(A).id);
    pair.lose = Some(Box::new(|datagram| datagram.payload[18] == exchange::CREATE_CHILD_SA));
    pair.act(A, |endpoint, now| endpoint.rekey_child(now, child));
    pair.lose = None;
    pair.hosts[A].endpoint.sas.get_mut(id).unwrap().window.next_id -= 1;
    pair.act(A, |endpoint, now| {
        endpoint.with(now, id, |sa, ctx| {
            let out = sa.window.outstanding.take().unwrap();
            let Task::Child(task) = out.task else { panic!("another exchange") };
            sa.handle_child_response(ctx, now, *task, &[Payload::Nonce(vec![7; 32])]);
            sa.pump(ctx, now);
        });
    });
    assert!(pair.hosts[A].children.is_empty(), "its children are of no use any more");
    pair.run(secs(5));
    assert!(matches!(&pair.hosts[A].ike_closed[..], [CloseReason::Failed(Failure::Protocol(_))]));
    assert_eq!(pair.hosts[B].ike_closed, [CloseReason::Peer]);
    for host in [A, B] {
        assert!(pair.hosts[host].endpoint.is_empty());
    }
}

#[test]
fn a_reauthentication_that_failed_is_tried_again() {
    for host in [A, B] {
        let change = if host == A {
            |host: usize, config: &mut crate::ike::Config| {
                config.lifetimes.reauth = secs(if host == A { 600 } else { 86_400 });
            }
        } else {
            |host: usize, config: &mut crate::ike::Config| {
                config.lifetimes.reauth = secs(if host == B { 600 } else { 86_400 });
            }
        };
        let mut pair = Pair::connected(Setup { change, ..Setup::default() });
        pair.lose = Some(Box::new(|datagram| datagram.payload[18] == exchange::IKE_SA_INIT));
        pair.run(secs(700));
        pair.lose = None;
        assert!(pair.hosts[host].established == 1 && !pair.hosts[host].failures.is_empty());
        for _ in 0..200 {
            pair.run(secs(1));
            pair.traffic();
            assert!(pair.hosts[A].active.is_some() && pair.hosts[B].active.is_some());
        }
        assert!(pair.hosts[host].established >= 2, "host {host} tries no more");
        pair.assert_agreed();
        assert!(pair.ikes(host)[0].age < secs(250));
    }
}

#[test]
fn a_first_contact_that_failed_is_still_the_first() {
    let mut pair = Pair::connected(Setup::default());
    pair.restart(A);
    pair.lose = Some(Box::new(|datagram| datagram.payload[18] == exchange::IKE_AUTH));
    pair.initiate(A);
    pair.run(secs(60));
    assert_eq!(pair.hosts[A].failures.len(), 1);
    pair.lose = None;
    pair.initiate(A);
    pair.settle();
    pair.assert_agreed();
    assert_eq!(pair.hosts[B].ike_closed, [CloseReason::InitialContact]);
}

#[test]
fn whoever_was_called_has_had_contact() {
    let pair = Pair::connected(Setup::default());
    for host in [A, B] {
        let (us, them) = (pair.hosts[host].entity, pair.hosts[1 - host].entity);
        assert!(pair.hosts[host].endpoint.ctx.contacted.contains(&(us, them)), "host {host}");
    }
}
