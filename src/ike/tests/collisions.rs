//! Both ends act at the same moment (RFC 7296 §2.8.1, §2.8.2, §2.25), in every combination, over many seeds so that
//! every order of nonces and arrivals happens.

use std::time::Duration;

use super::pair::*;
use crate::sim::network::Conditions;

#[derive(Clone, Copy, Debug)]
enum Act {
    RekeyChild,
    RekeyIke,
    Reauth,
    Close,
}

fn act(pair: &mut Pair, host: usize, what: Act) {
    let child = pair.hosts[host].active;
    let Some(ike) = pair.ikes(host).last().map(|ike| ike.id) else { return };
    pair.act(host, |endpoint, now| match what {
        Act::RekeyChild => child.into_iter().for_each(|child| endpoint.rekey_child(now, child)),
        Act::RekeyIke => endpoint.rekey_ike(now, ike),
        Act::Reauth => endpoint.reauthenticate(now, ike),
        Act::Close => endpoint.close(now, ike),
    });
}

fn settle(pair: &mut Pair) {
    for _ in 0..90 {
        pair.run(ms(500));
        pair.traffic();
    }
}

#[test]
fn rekeys_that_cross_leave_one_sa() {
    let acts = [Act::RekeyChild, Act::RekeyIke, Act::Reauth];
    for seed in 0..40 {
        for left in acts {
            for right in acts {
                let conditions = Conditions { jitter: ms(5), ..Conditions::CALM };
                let mut pair = Pair::connected(Setup { seed, conditions, ..Setup::default() });
                act(&mut pair, A, left);
                pair.run(Duration::from_micros(seed * 700));
                act(&mut pair, B, right);
                settle(&mut pair);
                let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pair.assert_agreed()));
                assert!(told.is_ok(), "seed {seed}: {left:?} against {right:?}");
            }
        }
    }
}

#[test]
fn a_delete_that_crosses_anything_ends_in_nothing() {
    for seed in 0..40 {
        for other in [Act::RekeyChild, Act::RekeyIke, Act::Close] {
            let mut pair = Pair::connected(Setup { seed, ..Setup::default() });
            act(&mut pair, A, other);
            pair.run(Duration::from_micros(seed * 700));
            act(&mut pair, B, Act::Close);
            settle(&mut pair);
            for host in [A, B] {
                let left = pair.hosts[host].children.len();
                let twins = pair.hosts[1 - host].children.len();
                assert_eq!(left, twins, "seed {seed}: {other:?} against Close, host {host}");
            }
        }
    }
}

#[test]
fn collisions_survive_a_bad_network() {
    let acts = [Act::RekeyChild, Act::RekeyIke, Act::Reauth];
    for seed in 0..60 {
        let mut pair = Pair::connected(Setup { seed, ..Setup::default() });
        let conditions =
            Conditions { loss: 200, duplicate: 100, corrupt: 50, jitter: ms(40), ..Conditions::CALM };
        pair.network.set_conditions(conditions);
        for round in 0..6 {
            act(&mut pair, A, acts[(seed as usize + round) % 3]);
            pair.run(ms(seed * 3));
            act(&mut pair, B, acts[(seed as usize / 3 + round) % 3]);
            pair.run(secs(2));
            pair.traffic();
        }
        pair.network.set_conditions(Conditions::CALM);
        settle(&mut pair);
        settle(&mut pair);
        if pair.hosts[A].active.is_some() || pair.hosts[B].active.is_some() {
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pair.assert_agreed()));
            assert!(told.is_ok(), "seed {seed}\n{:#?}\n{:#?}", pair.ikes(A), pair.ikes(B));
        }
    }
}
