//! Several child SAs between the same two addresses (RFC 9611).

use std::collections::BTreeSet;
use std::time::Duration;

use super::pair::*;
use crate::ike::{ChildId, CloseReason};
use crate::sim::network::Conditions;

/// Lets one more be asked for; was it?
pub(super) fn ask(pair: &mut Pair, host: usize) -> bool {
    let id = pair.ike(host);
    pair.act(host, |endpoint, now| endpoint.add_child(now, id, usize::MAX))
}

/// Two with so many additional children, which both ends send on.
pub(super) fn with(setup: Setup, count: usize) -> Pair {
    let mut pair = Pair::connected(setup);
    for at in 0..count {
        assert!(ask(&mut pair, at % 2), "{at}");
        pair.run(secs(1));
        pair.traffic();
    }
    pair.assert_agreed_on(1 + count);
    pair
}

pub(super) fn rekey(pair: &mut Pair, host: usize, child: ChildId) {
    pair.act(host, |endpoint, now| endpoint.rekey_child(now, child));
}

/// The other end's name of a child.
fn twin(pair: &Pair, host: usize, child: ChildId) -> ChildId {
    let spi = pair.hosts[host].children[&child].spi_out;
    pair.hosts[1 - host].children.values().find(|twin| twin.spi_in == spi).unwrap().id
}

pub(super) fn willing(pair: &Pair, host: usize) -> bool {
    pair.hosts[host].endpoint.sas.get(pair.ike(host)).unwrap().peer.resources
}

/// What this end believes of the other's willingness.
fn believe(pair: &mut Pair, host: usize, willing: bool) {
    let id = pair.ike(host);
    pair.act(host, |endpoint, now| endpoint.with(now, id, |sa, _| sa.peer.resources = willing));
}

/// The last octets of the SPIs that are received on, counted from the first child's.
pub(super) fn places(pair: &Pair, host: usize) -> BTreeSet<u8> {
    pair.hosts[host].beside.iter().map(|child| place(pair, host, *child)).collect()
}

pub(super) fn place(pair: &Pair, host: usize, child: ChildId) -> u8 {
    let octet = |child: ChildId| pair.hosts[host].children[&child].spi_in.to_be_bytes()[3];
    octet(child).wrapping_sub(octet(pair.hosts[host].active.unwrap()))
}

#[test]
fn ike_auth_agrees_on_them_and_either_end_makes_one() {
    let mut pair = Pair::connected(Setup::default());
    assert!(willing(&pair, A) && willing(&pair, B));
    for (host, count) in [(A, 2), (B, 3)] {
        assert!(ask(&mut pair, host));
        assert!(!ask(&mut pair, host), "one at a time");
        pair.run(secs(1));
        // Whoever asked sends on it at once, the other one when it is used.
        assert_eq!(pair.hosts[host].beside.len(), count - 1);
        assert_eq!(pair.hosts[1 - host].beside.len(), count - 2);
        let active = pair.hosts[host].active;
        pair.traffic();
        assert_eq!(pair.hosts[host].active, active);
        pair.assert_agreed_on(count);
    }
    for host in [A, B] {
        let additional = pair.hosts[host].children.values().filter(|child| child.additional);
        assert!(additional.clone().all(|child| pair.hosts[host].beside.contains(&child.id)));
        assert_eq!(additional.count(), 2);
    }
}

#[test]
fn no_more_are_asked_for_than_there_may_be() {
    let mut pair = with(Setup::default(), 2);
    let id = pair.ike(A);
    for (most, taken) in [(0, false), (2, false), (3, true)] {
        assert_eq!(pair.act(A, |endpoint, now| endpoint.add_child(now, id, most)), taken, "{most}");
    }
}

#[test]
fn a_peer_that_is_not_willing_is_never_asked() {
    let mut pair = Pair::connected(Setup::default());
    believe(&mut pair, A, false);
    let sent = pair.hosts[A].sent;
    assert!(!ask(&mut pair, A));
    pair.run(secs(5));
    assert_eq!(pair.hosts[A].sent, sent);
    // Nor on the heir of its IKE SA.
    let id = pair.ike(A);
    pair.act(A, |endpoint, now| endpoint.rekey_ike(now, id));
    pair.run(secs(5));
    assert!(!ask(&mut pair, A));
    pair.assert_agreed();
}

#[test]
fn an_additional_child_is_rekeyed_from_either_side() {
    for host in [A, B] {
        let mut pair = with(Setup::default(), 2);
        let active = pair.active(A).spi_in;
        let old = pair.hosts[host].beside.clone();
        let before = [places(&pair, A), places(&pair, B)];
        for child in &old {
            rekey(&mut pair, host, *child);
        }
        pair.settle();
        pair.assert_agreed_on(3);
        assert_eq!(pair.active(A).spi_in, active, "the first one stays");
        assert!(old.iter().all(|child| pair.hosts[host].closed.contains(&(*child, CloseReason::Replaced))));
        assert!(pair.hosts[host].beside.iter().all(|child| pair.hosts[host].children[child].additional));
        assert_eq!(
            [places(&pair, A), places(&pair, B)],
            before,
            "successors go where their predecessors went"
        );
    }
}

#[test]
fn rekeys_of_any_of_them_may_cross() {
    for seed in 0..60 {
        let conditions = Conditions { jitter: ms(5), ..Conditions::CALM };
        let mut pair = with(Setup { seed, conditions, ..Setup::default() }, 2);
        let mut children = pair.hosts[A].beside.clone();
        children.extend(pair.hosts[A].active);
        let twins: Vec<ChildId> = children.iter().map(|child| twin(&pair, A, *child)).collect();
        let before = [places(&pair, A), places(&pair, B)];
        children.iter().for_each(|child| rekey(&mut pair, A, *child));
        pair.run(Duration::from_micros(seed * 700));
        twins.iter().for_each(|child| rekey(&mut pair, B, *child));
        pair.settle();
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pair.assert_agreed_on(3)));
        assert!(told.is_ok(), "seed {seed}");
        assert_eq!([places(&pair, A), places(&pair, B)], before, "seed {seed}");
    }
}

#[test]
fn a_rekeyed_ike_sa_hands_all_of_them_over() {
    for host in [A, B] {
        let mut pair = with(Setup::default(), 3);
        let spis: BTreeSet<u32> = pair.hosts[A].children.values().map(|child| child.spi_in).collect();
        // One more is asked for while the IKE SA is rekeyed.
        let id = pair.ike(host);
        pair.act(host, |endpoint, now| endpoint.rekey_ike(now, id));
        let asked = pair.act(host, |endpoint, now| endpoint.add_child(now, id, usize::MAX));
        assert!(asked);
        pair.settle();
        pair.assert_agreed_on(5);
        assert!(spis.iter().all(|spi| pair.hosts[A].children.values().any(|child| child.spi_in == *spi)));
        for child in pair.hosts[host].children.values() {
            assert_eq!(pair.hosts[host].endpoint.owner_of(child.spi_in), Some(pair.ike(host)));
        }
    }
}

#[test]
fn reauthentication_leaves_the_first_one() {
    for host in [A, B] {
        let mut pair = with(Setup::default(), 2);
        let id = pair.ike(host);
        pair.act(host, |endpoint, now| endpoint.reauthenticate(now, id));
        pair.settle();
        pair.assert_agreed();
        assert!(ask(&mut pair, A), "they are made anew");
    }
}

#[test]
fn what_is_deleted_is_sent_on_no_more_at_either_end() {
    for host in [A, B] {
        let mut pair = with(Setup::default(), 2);
        let (ours, theirs) = (pair.hosts[host].beside[0], twin(&pair, host, pair.hosts[host].beside[0]));
        pair.delete_child(host, ours);
        assert!(!pair.hosts[host].beside.contains(&ours), "at once");
        pair.run(ms(500));
        let other = &pair.hosts[1 - host];
        assert!(other.children.contains_key(&theirs) && !other.beside.contains(&theirs), "it drains");
        pair.settle();
        pair.assert_agreed_on(2);
    }
}

#[test]
fn one_of_them_takes_the_place_of_a_first_one_that_ends() {
    for expires in [false, true] {
        for host in [A, B] {
            let mut pair = with(Setup::default(), 2);
            let (id, child) = (pair.ike(host), pair.active(host).id);
            if expires {
                pair.act(host, |endpoint, now| {
                    endpoint.with(now, id, |sa, ctx| {
                        sa.children.get_mut(&child).unwrap().hard_at = now;
                        sa.age_children(ctx, now);
                        sa.pump(ctx, now);
                    });
                });
            } else {
                pair.delete_child(host, child);
            }
            pair.settle();
            pair.assert_agreed_on(2);
            assert_eq!(pair.ike(host), id);
            // It is as good as a first one: it has room for others, and a successor.
            assert!(ask(&mut pair, host));
            let child = pair.active(1 - host).id;
            rekey(&mut pair, 1 - host, child);
            pair.settle();
            pair.assert_agreed_on(3);
        }
    }
}

#[test]
fn an_additional_child_that_nobody_uses_goes_at_its_turn() {
    let change = |_: usize, config: &mut crate::ike::Config| {
        config.lifetimes.child_rekey = secs(60);
        config.lifetimes.jitter = 0.0;
    };
    for used in [false, true] {
        let mut pair = Pair::connected(Setup { change, ..Setup::default() });
        assert!(ask(&mut pair, A));
        for _ in 0..75 {
            pair.run(secs(1));
            let main = pair.hosts.each_ref().map(|host| host.active.unwrap());
            [A, B].into_iter().for_each(|host| pair.traffic_on(host, main[host]));
            if used && let Some(child) = pair.hosts[A].beside.first().copied() {
                pair.traffic_on(A, child);
            }
        }
        pair.assert_agreed_on(1 + usize::from(used));
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Ask,
    RekeyFirst,
    RekeyAdditional,
    RekeyIke,
    Reauthenticate,
    Delete,
}

const ACTS: [Act; 6] =
    [Act::Ask, Act::RekeyFirst, Act::RekeyAdditional, Act::RekeyIke, Act::Reauthenticate, Act::Delete];

fn act(pair: &mut Pair, host: usize, what: Act) {
    let (first, additional) = (pair.hosts[host].active, pair.hosts[host].beside.first().copied());
    let Some(id) = pair.ikes(host).last().map(|ike| ike.id) else { return };
    match (what, first, additional) {
        (Act::Ask, ..) => {
            ask(pair, host);
        }
        (Act::RekeyFirst, Some(child), _) | (Act::RekeyAdditional, _, Some(child)) => {
            rekey(pair, host, child)
        }
        (Act::RekeyIke, ..) => pair.act(host, |endpoint, now| endpoint.rekey_ike(now, id)),
        (Act::Reauthenticate, ..) => pair.act(host, |endpoint, now| endpoint.reauthenticate(now, id)),
        (Act::Delete, _, Some(child)) => pair.delete_child(host, child),
        (Act::RekeyFirst | Act::RekeyAdditional | Act::Delete, ..) => {}
    }
}

fn assert_settled(pair: &Pair, what: &str) {
    let children = pair.hosts[A].children.len();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pair.assert_agreed_on(children)));
    assert!(told.is_ok() && children > 0, "{what}");
}

#[test]
fn whatever_crosses_leaves_both_ends_agreed() {
    for seed in 0..12 {
        for left in ACTS {
            for right in ACTS {
                let conditions = Conditions { jitter: ms(5), ..Conditions::CALM };
                let mut pair = with(Setup { seed, conditions, ..Setup::default() }, 2);
                act(&mut pair, A, left);
                pair.run(Duration::from_micros(seed * 2500));
                act(&mut pair, B, right);
                pair.settle();
                assert_settled(&pair, &format!("seed {seed}: {left:?} against {right:?}"));
            }
        }
    }
}

#[test]
fn a_bad_network_changes_nothing_of_that() {
    for seed in 0..60 {
        let mut pair = with(Setup { seed, ..Setup::default() }, 2);
        pair.in_a_storm(|pair, round| {
            act(pair, A, ACTS[(seed as usize + round) % 6]);
            pair.run(ms(seed * 3));
            act(pair, B, ACTS[(seed as usize / 6 + round) % 6]);
        });
        if pair.hosts[A].active.is_some() || pair.hosts[B].active.is_some() {
            assert_settled(&pair, &format!("seed {seed}"));
        }
    }
}
