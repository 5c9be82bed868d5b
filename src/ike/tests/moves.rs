//! Addresses that change.

use std::net::Ipv4Addr;

use super::pair::*;
use crate::dataplane::event::UdpPath;
use crate::ike::ChildSa;
use crate::sim::network::Datagram;

fn settle(pair: &mut Pair) {
    for _ in 0..100 {
        pair.run(ms(100));
        pair.traffic();
    }
}

/// A is behind a NAT.
fn behind_a_nat() -> Pair {
    let mut pair = Pair::new(Setup::default());
    pair.network.add_nat(pair.hosts[A].v4, Ipv4Addr::new(192, 0, 2, 1));
    pair.initiate(A);
    pair.run(secs(2));
    pair
}

/// Its NAT forgets it. What B sends on, and where A will be.
fn forget(pair: &mut Pair) -> (ChildSa, UdpPath) {
    pair.network.reboot_nat(pair.hosts[A].v4);
    let child = pair.active(B).clone();
    let mut there = child.path;
    there.remote.set_port(20_002);
    (child, there)
}

/// ESP of A arrives at B from there. The mapping exists once A sent something through it: its keepalive or its ESP.
fn appears(pair: &mut Pair, child: &ChildSa, there: UdpPath) {
    let (from, now) = (pair.path(A), pair.now);
    pair.network.send(now, Datagram { source: from.local, destination: from.remote, payload: vec![0xff] });
    pair.act(B, |endpoint, now| endpoint.handle_new_source(now, child.spi_in, there));
}

#[test]
fn either_end_may_move() {
    for host in [A, B] {
        let mut pair = Pair::connected(Setup::default());
        let new = Ipv4Addr::new(203, 0, 113, 7);
        pair.hosts[host].v4 = new;
        pair.act(host, |endpoint, now| endpoint.handle_local_change(now, &|_| Some(new)));
        pair.run(ms(100));
        // Long before the old SA is deleted the other end sends to the new address.
        let (listener, paths) = (1 - host, pair.hosts[1 - host].paths.clone());
        let sends_to = paths.last().copied().unwrap_or_else(|| pair.active(listener).path);
        assert_eq!(*sends_to.remote.ip(), new);
        settle(&mut pair);
        pair.assert_agreed();
        assert_eq!(*pair.ikes(1 - host)[0].path.remote.ip(), new);
        let moved_by_mobike = pair.hosts[host].established == 1;
        assert_eq!(moved_by_mobike, host == A, "the initiator moves the SA, the responder makes a new one");
    }
}

#[test]
fn a_nat_that_changes_its_mapping_is_followed_without_its_owner() {
    let mut pair = behind_a_nat();
    pair.assert_agreed();
    assert!(pair.ikes(A)[0].nat_local && pair.ikes(B)[0].nat_remote && !pair.ikes(B)[0].nat_local);
    let (child, there) = forget(&mut pair);
    appears(&mut pair, &child, there);
    pair.run(secs(2));
    assert_eq!(pair.hosts[B].paths.last(), Some(&there));
    settle(&mut pair);
    pair.assert_agreed();
}

#[test]
fn a_request_to_where_the_peer_was_does_not_keep_us_from_asking_where_it_is() {
    let mut pair = behind_a_nat();
    let (child, there) = forget(&mut pair);
    // B's request leaves for a mapping that is no more; then A's packets come from the new one.
    let id = pair.hosts[B].active;
    pair.act(B, |endpoint, now| id.into_iter().for_each(|id| endpoint.rekey_child(now, id)));
    pair.run(ms(100));
    appears(&mut pair, &child, there);
    pair.run(secs(5));
    assert_eq!(pair.hosts[B].paths.last(), Some(&there));
    settle(&mut pair);
    pair.assert_agreed();
    assert!(pair.hosts[B].ike_closed.is_empty(), "{:?}", pair.hosts[B].ike_closed);
}

#[test]
fn a_probe_of_where_the_peer_was_does_not_keep_us_from_asking_where_it_is() {
    let mut pair = behind_a_nat();
    let (child, there) = forget(&mut pair);
    // Packets came from a place that is no more, then from where A is.
    let mut gone = child.path;
    gone.remote.set_port(30_000);
    pair.act(B, |endpoint, now| endpoint.handle_new_source(now, child.spi_in, gone));
    pair.run(ms(1100));
    appears(&mut pair, &child, there);
    pair.run(ms(500));
    assert_eq!(pair.hosts[B].paths.last(), Some(&there));
    settle(&mut pair);
    pair.assert_agreed();
}

#[test]
fn an_address_that_does_not_answer_is_not_believed() {
    let mut pair = Pair::connected(Setup::default());
    let child = pair.active(B).clone();
    let mut path = child.path;
    path.remote.set_ip(Ipv4Addr::new(203, 0, 113, 66));
    pair.act(B, |endpoint, now| endpoint.handle_new_source(now, child.spi_in, path));
    pair.run(secs(60));
    assert_eq!(pair.ikes(B)[0].path, child.path);
    assert!(pair.hosts[B].paths.is_empty());
    pair.assert_agreed();
}

#[test]
fn a_move_behind_a_nat_and_out_again_is_noticed() {
    let mut pair = Pair::connected(Setup::default());
    let moved = |pair: &mut Pair, new: Ipv4Addr| {
        pair.hosts[A].v4 = new;
        pair.act(A, |endpoint, now| endpoint.handle_local_change(now, &|_| Some(new)));
        settle(pair);
        pair.assert_agreed();
        let (ours, theirs) = (pair.ikes(A)[0].clone(), pair.ikes(B)[0].clone());
        let before = pair.hosts[A].keepalives;
        pair.run(secs(120));
        (
            ours.nat_local,
            theirs.nat_remote,
            theirs.nat_local || ours.nat_remote,
            pair.hosts[A].keepalives - before,
        )
    };
    let inside = Ipv4Addr::new(10, 0, 0, 7);
    pair.network.add_nat(inside, Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(moved(&mut pair, inside), (true, true, false, 6));
    assert_eq!(moved(&mut pair, Ipv4Addr::new(203, 0, 113, 7)), (false, false, false, 0));
    assert_eq!(pair.hosts[A].established, 1, "all of it by MOBIKE");
}
