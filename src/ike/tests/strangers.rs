//! What nobody vouches for: messages in clear, hints, and answers to people whom we do not know.

use std::net::SocketAddrV4;

use super::pair::*;
use crate::dataplane::event::UdpPath;
use crate::ike::Failure;
use crate::ike::window::Want;
use crate::sim::network::Conditions;
use crate::wire::ike::{
    HEADER_LEN, Header, Notify, Payload, encode_message, exchange, flags, notify_type as nt, parse_payloads,
};

const PARTITION: Conditions = Conditions { partition: true, ..Conditions::CALM };

fn read(message: &[u8]) -> (Header, Vec<Payload>) {
    let header = Header::parse(message).unwrap();
    (header, parse_payloads(header.next_payload, &message[HEADER_LEN..]).unwrap())
}

fn notify(kind: u16, data: &[u8]) -> Payload {
    Payload::Notify(Notify { protocol: 0, spi: Vec::new(), kind, data: data.to_vec() })
}

/// A stranger's datagram to B; gives what B answers.
fn ask(pair: &mut Pair, message: &[u8]) -> Option<Vec<u8>> {
    let before = pair.wire.len();
    let remote = SocketAddrV4::new([192, 0, 2, 9].into(), 4500);
    let path = UdpPath::direct(pair.path(B).local, remote);
    pair.act(B, |endpoint, now| endpoint.handle_datagram(now, path, message));
    pair.wire.get(before).map(|datagram| datagram.payload.clone())
}

/// A's first request, for another SPI.
fn first_request(pair: &mut Pair) -> (Header, Vec<Payload>) {
    pair.initiate(A);
    let (header, payloads) = read(&pair.wire[0].payload);
    (Header { initiator_spi: 0x0102_0304_0506_0708, ..header }, payloads)
}

// RFC 7296 §2.5: "a message MUST be rejected, and UNSUPPORTED_CRITICAL_PAYLOAD …, indicating … the payload type".
#[test]
fn an_unknown_critical_payload_in_a_first_request_is_named() {
    let mut pair = Pair::new(Setup::default());
    let (header, mut payloads) = first_request(&mut pair);
    payloads.push(Payload::Other { payload_type: 222, critical: true, body: vec![1, 2, 3] });
    let request = encode_message(header, &payloads);
    let (answer, told) = read(&ask(&mut pair, &request).expect("an answer"));
    assert_eq!(told, [notify(nt::UNSUPPORTED_CRITICAL_PAYLOAD, &[222])]);
    assert_eq!((answer.initiator_spi, answer.responder_spi), (header.initiator_spi, 0));
    assert_eq!(
        (answer.exchange, answer.flags, answer.message_id),
        (exchange::IKE_SA_INIT, flags::RESPONSE, 0)
    );
    assert_eq!(pair.hosts[B].endpoint.half_open(), 0);
    let answers = (0..200).filter(|_| ask(&mut pair, &request).is_some()).count();
    assert!(answers < 30, "{answers} answers at once to anybody");
    pair.run(secs(2));
    assert!(ask(&mut pair, &request).is_some(), "a second later there are answers again");
}

// RFC 7296 §2.5: a higher major version is dropped, and INVALID_MAJOR_VERSION says which one we speak.
#[test]
fn a_higher_major_version_is_told_ours() {
    let mut pair = Pair::new(Setup::default());
    let (header, payloads) = first_request(&mut pair);
    let of_version = |version: u8, flags: u8| encode_message(Header { version, flags, ..header }, &payloads);
    let (answer, told) = read(&ask(&mut pair, &of_version(0x30, flags::INITIATOR)).expect("an answer"));
    assert_eq!(told, [notify(nt::INVALID_MAJOR_VERSION, &[])]);
    assert_eq!((answer.version, answer.flags), (0x20, flags::RESPONSE));
    assert_eq!((answer.initiator_spi, answer.message_id), (header.initiator_spi, 0));
    assert!(
        ask(&mut pair, &of_version(0x30, flags::INITIATOR | flags::RESPONSE)).is_none(),
        "no answer to answers"
    );
    assert!(ask(&mut pair, &of_version(0x10, flags::INITIATOR)).is_none(), "a lower version is only dropped");
    let answers = (0..200).filter(|_| ask(&mut pair, &of_version(0x30, 8)).is_some()).count();
    assert!(answers < 30, "{answers} answers at once to anybody");
    assert_eq!(pair.hosts[B].endpoint.half_open(), 0);
}

// RFC 7296 §2.6: the request again, with the cookie in front "and all other payloads unchanged".
#[test]
fn a_cookie_changes_nothing_else_in_the_request() {
    let pair = Pair::connected(Setup { change: |_, config| config.cookie_threshold = 0, ..Setup::default() });
    let requests: Vec<Vec<Payload>> = pair
        .wire
        .iter()
        .filter(|datagram| datagram.payload[18] == exchange::IKE_SA_INIT)
        .filter(|datagram| datagram.payload[19] & flags::RESPONSE == 0)
        .map(|datagram| read(&datagram.payload).1)
        .collect();
    let [first, second] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    assert!(matches!(&second[0], Payload::Notify(cookie) if cookie.kind == nt::COOKIE));
    assert_eq!(second[1..], first[..]);
}

// RFC 7296 §2.21.1: unauthenticated errors end nothing before its time.
#[test]
fn a_forged_refusal_does_not_end_an_attempt() {
    let lies = [
        (nt::NO_PROPOSAL_CHOSEN, vec![]),
        (nt::INVALID_KE_PAYLOAD, vec![0, 14]),
        (nt::INVALID_SYNTAX, vec![]),
        (nt::INVALID_MAJOR_VERSION, vec![]),
    ];
    for (kind, data) in lies {
        let mut pair = Pair::new(Setup::default());
        pair.initiate(A);
        let (header, _) = read(&pair.wire[0].payload);
        let lie = encode_message(Header { flags: flags::RESPONSE, ..header }, &[notify(kind, &data)]);
        let path = pair.path(A);
        pair.act(A, |endpoint, now| endpoint.handle_datagram(now, path, &lie));
        assert!(pair.hosts[A].failures.is_empty(), "notify {kind}");
        pair.run(secs(2));
        pair.assert_agreed();
    }
}

#[test]
fn a_refusal_that_nothing_contradicts_is_told_in_the_end() {
    let mut pair = Pair::new(Setup::default());
    pair.lose = Some(Box::new(|_| true));
    pair.initiate(A);
    let (header, _) = read(&pair.wire[0].payload);
    let refusal = [notify(nt::NO_PROPOSAL_CHOSEN, &[])];
    let answer = encode_message(Header { flags: flags::RESPONSE, ..header }, &refusal);
    let path = pair.path(A);
    pair.act(A, |endpoint, now| endpoint.handle_datagram(now, path, &answer));
    pair.run(secs(60));
    assert_eq!(pair.hosts[A].failures, [Failure::NoProposalChosen]);
    assert!(pair.hosts[A].endpoint.is_empty());
}

#[test]
fn many_new_addresses_make_one_probe() {
    let mut pair = Pair::connected(Setup::default());
    pair.network.set_conditions(PARTITION);
    let (child, ike) = (pair.active(A).clone(), pair.ikes(A)[0].id);
    pair.act(A, |endpoint, now| endpoint.rekey_ike(now, ike));
    for port in 10_000..11_000 {
        let mut path = child.path;
        path.remote.set_port(port);
        pair.act(A, |endpoint, now| endpoint.handle_new_source(now, child.spi_in, path));
    }
    let mut sa = pair.hosts[A].endpoint.sas.get_mut(ike).unwrap();
    let probes: Vec<Want> =
        sa.window.take_wants().into_iter().filter(|want| matches!(want, Want::Probe(_))).collect();
    let mut newest = child.path;
    newest.remote.set_port(10_999);
    assert_eq!(probes, [Want::Probe(newest)], "the last address is the likeliest");
}

/// A forged INVALID_IKE_SPI for the request that A has just sent.
fn forge_hint(pair: &mut Pair) {
    let header = Header::parse(&pair.wire.last().unwrap().payload).unwrap();
    let forged = Header { flags: flags::RESPONSE, ..header };
    let message = encode_message(forged, &[notify(nt::INVALID_IKE_SPI, &[])]);
    let path = pair.path(A);
    pair.act(A, |endpoint, now| endpoint.handle_datagram(now, path, &message));
}

#[test]
fn a_forged_hint_does_not_kill_a_slow_peer() {
    for delay in [50, 150, 400, 900] {
        let conditions = Conditions { delay: ms(delay), ..Conditions::CALM };
        let mut pair = Pair::new(Setup { conditions, ..Setup::default() });
        pair.initiate(A);
        pair.run(secs(20));
        pair.assert_agreed();
        let ike = pair.ikes(A)[0].id;
        pair.act(A, |endpoint, now| endpoint.rekey_ike(now, ike));
        forge_hint(&mut pair);
        for _ in 0..60 {
            pair.run(secs(1));
            pair.traffic();
        }
        assert!(pair.hosts[A].ike_closed.iter().all(|reason| *reason == crate::ike::CloseReason::Replaced));
        pair.assert_agreed();
    }
}

/// When A sends its first request and repeats it, nobody being there.
fn rhythm(seed: u64) -> Vec<u128> {
    let mut pair = Pair::new(Setup { seed, conditions: PARTITION, ..Setup::default() });
    let start = pair.now;
    pair.initiate(A);
    let mut times = Vec::new();
    for _ in 0..20_000 {
        if pair.wire.len() > times.len() {
            times.push((pair.now - start).as_millis());
        }
        pair.run(ms(1));
    }
    times
}

#[test]
fn retransmissions_of_many_do_not_march_in_step() {
    assert_eq!(rhythm(1), rhythm(1), "chance comes from the seed");
    let (one, other) = (rhythm(1), rhythm(2));
    assert!(one.iter().zip(&other).skip(1).all(|(one, other)| one != other), "{one:?} {other:?}");
    let first = one[1];
    assert!((450..=550).contains(&first), "a tenth more or less, not {first} ms instead of 500");
}
