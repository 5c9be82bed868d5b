//! The width of a path to a machine that is not one of us, and only sends echoes back.

use super::resources_tests::Two;
use super::widths::Asking;
use crate::esp::OutboundSa;
use crate::sim::scenario::entity;
use crate::wire::ip::{NEXT_HEADER_ICMPV6, write_header};

/// Two that are connected, and the first takes the second for a stranger.
fn strangers(width: usize) -> Two {
    let mut two = Two::new(1, |_| {});
    two.send(0, 100);
    two.send(1, 100);
    two.width = width;
    let (key, now) = ((entity(0), entity(1)), two.now);
    let node = &mut two.hosts[0].node;
    let path = node.active_child(key).expect("they are connected").path;
    node.widths.remove(&key);
    node.begin_widths(key, Asking::Echoes, true);
    let mtu = node.width_on(now, key, path);
    node.publish(key, mtu);
    node.drain_widths(now, key);
    // So that it leaves.
    two.hosts[0].handle_timeout(now);
    two
}

/// What the first machine's largest packet is on the wire, in octets behind the UDP header.
fn sealed(two: &Two, inner: u16) -> usize {
    let outbound = two.hosts[0].reader().outbound(entity(0), entity(1)).expect("it is sent on");
    OutboundSa::sealed_len(&outbound.sa, inner.into())
}

fn status(two: &Two) -> (u16, Option<u16>, &'static str) {
    two.hosts[0].node.width_status((entity(0), entity(1)))
}

/// The other machine's kernel: it sends every echo back (RFC 4443 §4.2). How many there were.
fn echo(two: &mut Two) -> usize {
    let requests: Vec<Vec<u8>> = std::mem::take(&mut two.hosts[1].delivered)
        .into_iter()
        .filter(|packet| packet[6] == NEXT_HEADER_ICMPV6 && packet[40] == 128)
        .collect();
    for request in &requests {
        let mut answer = request.clone();
        let (header, len) = (answer.first_chunk_mut().unwrap(), request.len() - 40);
        write_header(header, entity(1), entity(0), NEXT_HEADER_ICMPV6, 64, len as u16);
        answer[40] = 129;
        two.hosts[1].from_application(two.now, &answer);
    }
    two.deliver();
    requests.len()
}

/// Time passes; in each second the first machine sends something, if there is `data`. How many echoes came.
fn pass(two: &mut Two, seconds: u64, data: bool, answers: bool) -> usize {
    let mut echoes = 0;
    for _ in 0..seconds {
        if data {
            two.send(0, 200);
        }
        two.pass_a_second(|two| echoes += if answers { echo(two) } else { 0 });
    }
    echoes
}

#[test]
fn a_wide_path_is_proven_by_an_echo_as_large_as_a_packet_may_be() {
    let mut two = strangers(usize::MAX);
    assert_eq!(status(&two), (1380, None, "configured"), "until something comes back");
    assert_eq!(pass(&mut two, 1, false, true), 2, "a probe and its companion");
    assert_eq!(status(&two), (1380, Some(1380), "proven"));
    assert_eq!(
        two.hosts[0].delivered.iter().filter(|packet| packet[40] == 129).count(),
        0,
        "not the machine's"
    );
    // What was sent when they connected has its confirmation, and that is all.
    assert!(pass(&mut two, 10, false, true) <= 2);
    assert_eq!(pass(&mut two, 100, false, true), 0, "nobody who is idle is asked");
}

#[test]
fn a_narrow_path_is_found_and_one_that_shrinks_under_data_too() {
    let mut two = strangers(usize::MAX);
    two.width = sealed(&two, 1338);
    pass(&mut two, 3, true, true);
    assert_eq!(status(&two), (1338, Some(1338), "proven"));
    two.width = sealed(&two, 1282);
    pass(&mut two, 6, true, true);
    assert_eq!(status(&two), (1282, Some(1282), "proven"));
    let outbound = two.hosts[0].reader().outbound(entity(0), entity(1)).unwrap();
    assert_eq!(outbound.mtu, 1282, "what the data plane has");
}

#[test]
fn who_sends_no_echo_back_keeps_the_configured_mtu() {
    let mut two = strangers(usize::MAX);
    two.width = sealed(&two, 1300);
    pass(&mut two, 100, true, false);
    assert_eq!(status(&two), (1380, None, "configured"));
}

#[test]
fn an_echo_that_nobody_sent_is_counted_and_changes_nothing() {
    let mut two = strangers(usize::MAX);
    pass(&mut two, 1, false, true);
    let message = b"domi\x01\x02\0\0\0\0\0\0unknown!";
    let mut forged = crate::wire::echo::request(entity(1), entity(0), message).unwrap();
    forged[40] = 129;
    two.hosts[1].from_application(two.now, &forged);
    two.deliver();
    assert_eq!(two.hosts[0].node.drops().get("path_unexpected"), Some(&1));
    assert_eq!(status(&two), (1380, Some(1380), "proven"));
}
