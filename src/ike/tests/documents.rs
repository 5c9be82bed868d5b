//! Documents between two of us, and SAs on the relayed path.

use super::pair::*;
use crate::dataplane::event::Relay;
use crate::ike::MAX_DOCUMENT;
use crate::sim::network::Conditions;

fn tell(pair: &mut Pair, from: usize, document: &[u8]) -> bool {
    let ike = pair.ikes(from)[0].id;
    let mut taken = false;
    pair.act(from, |endpoint, now| taken = endpoint.tell(now, ike, document.to_vec()));
    taken
}

#[test]
fn documents_of_any_length_arrive_once_and_in_order_in_spite_of_loss() {
    for seed in 0..30 {
        let conditions = Conditions { loss: 200, duplicate: 100, ..Conditions::CALM };
        let mut pair = Pair::connected(Setup { seed, ..Setup::default() });
        pair.network.set_conditions(conditions);
        let documents = [vec![1], vec![2; 1500], vec![3; MAX_DOCUMENT], Vec::new()];
        for document in &documents {
            assert!(tell(&mut pair, A, document));
            assert!(tell(&mut pair, B, document));
        }
        assert!(!tell(&mut pair, A, &vec![0; MAX_DOCUMENT + 1]));
        pair.run(secs(60));
        for host in [A, B] {
            assert_eq!(pair.hosts[host].documents, documents, "seed {seed} host {host}");
        }
        assert!(pair.wire.iter().all(|datagram| datagram.payload.len() <= 1280 - 28));
    }
}

#[test]
fn documents_that_wait_go_before_the_goodbye_and_do_not_put_off_the_end() {
    for answers in [true, false] {
        let mut pair = Pair::connected(Setup::default());
        for text in [&b"one"[..], b"two", b"three"] {
            assert!(tell(&mut pair, A, text));
        }
        if !answers {
            pair.lose = Some(Box::new(|_| true));
        }
        let ike = pair.ikes(A)[0].id;
        pair.act(A, |endpoint, now| endpoint.close(now, ike));
        assert!(!pair.act(A, |endpoint, now| endpoint.tell(now, ike, b"late".to_vec())));
        pair.run(secs(12));
        assert!(pair.ikes(A).is_empty(), "whoever does not answer keeps nothing open");
        if answers {
            assert_eq!(pair.hosts[B].documents, [&b"one"[..], b"two", b"three"]);
            assert!(pair.ikes(B).is_empty());
        }
    }
}

#[test]
fn whoever_is_cut_off_has_no_child_sa_from_that_moment_on() {
    let mut pair = Pair::connected(Setup::default());
    pair.lose = Some(Box::new(|_| true));
    let ike = pair.ikes(A)[0].id;
    pair.act(A, |endpoint, now| endpoint.cut(now, ike));
    assert!(pair.hosts[A].children.is_empty() && pair.hosts[A].active.is_none());
    pair.run(secs(12));
    assert!(pair.ikes(A).is_empty());
}

#[test]
fn a_document_that_waits_for_a_rekey_goes_with_the_new_sa() {
    let mut pair = Pair::connected(Setup::default());
    let ike = pair.ikes(A)[0].id;
    pair.act(A, |endpoint, now| endpoint.rekey_ike(now, ike));
    tell(&mut pair, A, b"late");
    pair.run(secs(20));
    assert_eq!(pair.hosts[B].documents, [b"late"]);
    pair.assert_agreed();
}

#[test]
fn on_the_relayed_path_outer_addresses_mean_nothing_and_mobike_is_not_used() {
    let mut pair = Pair::new(Setup::default());
    pair.relayed = true;
    let (local, remote) = (pair.hosts[A].entity, pair.hosts[B].entity);
    let path = crate::dataplane::event::UdpPath { relay: Some(Relay { local, remote }), ..pair.path(A) };
    pair.act(A, |endpoint, now| {
        endpoint.initiate(now, local, remote, path).unwrap();
    });
    pair.run(secs(2));
    pair.assert_agreed();
    let seen = &pair.ikes(A)[0];
    assert!(!seen.mobike && !seen.nat_local && !seen.nat_remote && seen.peer_is_domicile);
    // The machine moves: nothing is renegotiated, requests leave from the new address.
    let new = std::net::Ipv4Addr::new(203, 0, 113, 7);
    pair.hosts[A].v4 = new;
    pair.act(A, |endpoint, now| endpoint.handle_local_change(now, &|_| Some(new)));
    assert!(pair.hosts[A].paths.is_empty(), "where children go is path control's business");
    assert!(tell(&mut pair, A, b"from elsewhere"));
    pair.run(secs(2));
    assert_eq!(pair.hosts[B].documents, [b"from elsewhere"]);
    assert_eq!(pair.hosts[A].established, 1);
}
