//! Input from people who mean harm.

use std::net::SocketAddrV4;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::pair::*;
use crate::dataplane::event::UdpPath;
use crate::sim::network::Conditions;
use crate::wire::ike::{HEADER_LEN, Header, Payload, encode_message, exchange, flags, parse_payloads};

#[test]
fn a_flood_of_requests_keeps_bounded_state() {
    let mut pair = Pair::connected(Setup::default());
    let request = pair.wire[0].payload.clone();
    for number in 0..20_000_u32 {
        let mut message = request.clone();
        message[..4].copy_from_slice(&number.to_be_bytes());
        let from = SocketAddrV4::new(std::net::Ipv4Addr::from(0x0a00_0000 + number), 4500);
        let path = UdpPath::direct(pair.path(B).local, from);
        pair.hosts[B].endpoint.handle_datagram(pair.now, path, &message);
        while pair.hosts[B].endpoint.poll_transmit().is_some() {}
    }
    assert!(pair.hosts[B].endpoint.half_open() <= 64, "cookies are demanded above the threshold");
    pair.run(secs(120));
    assert_eq!(pair.hosts[B].endpoint.half_open(), 0);
    pair.assert_agreed();
}

#[test]
fn one_source_cannot_fill_the_table() {
    let mut pair =
        Pair::connected(Setup { change: |_, config| config.cookie_threshold = 100_000, ..Setup::default() });
    let request = pair.wire[0].payload.clone();
    for number in 0..1000_u32 {
        let mut message = request.clone();
        message[..4].copy_from_slice(&number.to_be_bytes());
        let from = SocketAddrV4::new([10, 0, 0, 1].into(), number as u16);
        let path = UdpPath::direct(pair.path(B).local, from);
        pair.hosts[B].endpoint.handle_datagram(pair.now, path, &message);
    }
    assert!(pair.hosts[B].endpoint.half_open() <= 16);
}

#[test]
fn replayed_truncated_and_changed_messages_change_nothing() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let mut pair = Pair::connected(Setup::default());
    let child = pair.active(A).id;
    pair.act(A, |endpoint, now| endpoint.rekey_child(now, child));
    pair.run(secs(20));
    pair.traffic();
    pair.assert_agreed();
    let (active, ike) = (pair.active(A).spi_in, pair.ikes(A)[0].spi_i);
    let wire = pair.wire.clone();
    for datagram in &wire {
        let host = if *datagram.destination.ip() == pair.hosts[A].v4 { A } else { B };
        let path = UdpPath::direct(datagram.destination, datagram.source);
        pair.act(host, |endpoint, now| endpoint.handle_datagram(now, path, &datagram.payload));
        for len in 0..datagram.payload.len() {
            pair.act(host, |endpoint, now| endpoint.handle_datagram(now, path, &datagram.payload[..len]));
        }
        for _ in 0..200 {
            let mut changed = datagram.payload.clone();
            let at = rng.next_u32() as usize % changed.len();
            changed[at] ^= 1 << (rng.next_u32() % 8);
            pair.act(host, |endpoint, now| endpoint.handle_datagram(now, path, &changed));
        }
    }
    pair.run(secs(60));
    pair.assert_agreed();
    assert_eq!((pair.active(A).spi_in, pair.ikes(A)[0].spi_i), (active, ike));
}

#[test]
fn an_iv_is_never_used_twice_under_one_key() {
    let mut pair =
        Pair::connected(Setup { change: |_, config| config.fragment_size = 300, ..Setup::default() });
    for _ in 0..5 {
        let child = pair.active(A).id;
        pair.act(A, |endpoint, now| endpoint.rekey_child(now, child));
        pair.run(secs(10));
        pair.traffic();
    }
    let mut seen = std::collections::HashMap::new();
    for datagram in &pair.wire {
        let message = &datagram.payload;
        let iv_at = match message[16] {
            46 => 32,
            53 => 36,
            _ => continue,
        };
        let key = (message[..16].to_vec(), datagram.source, message[iv_at..iv_at + 8].to_vec());
        let before = seen.insert(key, message.clone());
        assert!(before.is_none_or(|before| before == *message), "a repeated IV on another message");
    }
    assert!(seen.len() > 10);
}

#[test]
fn a_replayed_message_does_not_keep_the_dead_alive() {
    let mut pair = Pair::connected(Setup::default());
    let child = pair.active(B).id;
    pair.act(B, |endpoint, now| endpoint.rekey_child(now, child));
    pair.run(secs(20));
    let (from, to) = (pair.path(B).local, pair.path(A).local);
    let recorded: Vec<_> = pair.wire.iter().filter(|datagram| datagram.source == from).cloned().collect();
    pair.network.set_conditions(Conditions { partition: true, ..Conditions::CALM });
    let spi = pair.active(A).spi_out;
    for _ in 0..60 {
        pair.run(secs(1));
        pair.act(A, |endpoint, now| endpoint.handle_sent(now, spi));
        for datagram in &recorded {
            let path = UdpPath::direct(to, from);
            pair.act(A, |endpoint, now| endpoint.handle_datagram(now, path, &datagram.payload));
        }
    }
    assert!(pair.ikes(A).is_empty(), "the peer's death is noticed");
}

#[test]
fn requests_and_answers_in_fragments_may_cross() {
    for seed in 0..40 {
        let change = |_: usize, config: &mut crate::ike::Config| {
            config.fragment_size = 300;
            config.child_pfs = true;
            // Without retransmissions each fragment counts.
            config.lifetimes.retransmit_first = secs(30);
        };
        let conditions = Conditions { jitter: ms(20), ..Conditions::CALM };
        let mut pair = Pair::new(Setup { seed, change, ..Setup::default() });
        pair.initiate(A);
        pair.run(secs(5));
        pair.network.set_conditions(conditions);
        for host in [A, B] {
            let child = pair.active(host).id;
            pair.act(host, |endpoint, now| endpoint.rekey_child(now, child));
            pair.run(ms(seed % 20));
        }
        pair.run(secs(10));
        pair.traffic();
        pair.run(secs(10));
        pair.traffic();
        pair.run(secs(8));
        pair.assert_agreed();
    }
}

/// An initiator who shook hands and then sends fragments without end.
#[test]
fn a_half_open_sa_keeps_little() {
    let mut pair = Pair::new(Setup::default());
    pair.lose = Some(Box::new(|datagram| datagram.payload[18] == exchange::IKE_AUTH));
    pair.initiate(A);
    pair.run(ms(30));
    let id = pair.hosts[A].endpoint.sas.ids()[0];
    let path = UdpPath::direct(pair.path(B).local, pair.path(A).local);
    let filler = Payload::VendorId(vec![7; 40_000]);
    let mut most = 0;
    let mut sa = pair.hosts[A].endpoint.sas.get_mut(id).unwrap();
    let header = Header {
        initiator_spi: sa.spi_i,
        responder_spi: sa.spi_r,
        next_payload: 0,
        version: 0x20,
        exchange: exchange::IKE_AUTH,
        flags: flags::INITIATOR,
        message_id: 1,
        length: 0,
    };
    let fragments = sa.keys.as_mut().unwrap().protection.seal(header, &[filler], Some(1_000));
    drop(sa);
    assert!(fragments.len() > 40);
    for fragment in &fragments {
        pair.act(B, |endpoint, now| endpoint.handle_datagram(now, path, fragment));
        let sas = pair.hosts[B].endpoint.sas.values();
        most = most.max(sas.map(|sa| sa.window.requests.octets()).sum());
    }
    assert!((8_000..=16_384).contains(&most), "{most} octets");
    assert_eq!(pair.hosts[B].established, 0);
}

#[test]
fn a_huge_first_request_is_ignored() {
    let mut pair = Pair::new(Setup::default());
    pair.initiate(A);
    let header = Header::parse(&pair.wire[0].payload).unwrap();
    let mut payloads = parse_payloads(header.next_payload, &pair.wire[0].payload[HEADER_LEN..]).unwrap();
    payloads.push(Payload::VendorId(vec![0; 4_000]));
    let request = encode_message(Header { initiator_spi: 7, ..header }, &payloads);
    let path = UdpPath::direct(pair.path(B).local, pair.path(A).local);
    pair.act(B, |endpoint, now| endpoint.handle_datagram(now, path, &request));
    assert_eq!(pair.hosts[B].endpoint.half_open(), 0);
}
