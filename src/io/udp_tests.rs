//! Sockets on loopback.
#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

use std::time::Instant;

use super::*;
use crate::dataplane::batch::{SEND_DATAGRAMS, Stop};

fn pair() -> (Udp, Udp) {
    (
        Udp::bind(Ipv4Addr::UNSPECIFIED, 0, Features::default()).unwrap(),
        Udp::bind(Ipv4Addr::UNSPECIFIED, 0, Features::default()).unwrap(),
    )
}

pub(super) fn loopback(host: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), port)
}

pub(super) fn queue(batch: &mut SendBatch, path: UdpPath, ecn: u8, bytes: &[u8]) {
    let mut reserved = batch.reserve(bytes.len()).unwrap();
    reserved.room_mut().copy_from_slice(bytes);
    reserved.commit(path, ecn, bytes.len());
}

type Seen = (UdpPath, u8, Vec<u8>);

fn receive(receiver: &mut UdpReceiver, want: usize) -> Vec<Seen> {
    let mut batch = ReceiveBatch::new();
    let mut seen = Vec::new();
    while seen.len() < want {
        receiver.wait().unwrap();
        receiver.try_receive(&mut batch).unwrap();
        seen.extend(batch.datagrams().flat_map(|d| d.payloads().map(move |p| (d.path, d.ecn, p.to_vec()))));
    }
    seen
}

#[test]
fn source_and_destination_are_chosen_and_seen() {
    let (a, b) = pair();
    let path = UdpPath::direct(loopback(3, a.port()), loopback(7, b.port()));
    let mut batch = SendBatch::new();
    for index in 0..SEND_DATAGRAMS as u8 {
        queue(&mut batch, path, index & 3, &vec![index; usize::from(index) * 4]);
    }
    assert_eq!(a.send(&batch), SendReport { sent: SEND_DATAGRAMS as u64, ..SendReport::default() });
    let seen = receive(&mut b.receiver(StopEvent::new().unwrap()), SEND_DATAGRAMS);
    let mirrored = UdpPath::direct(path.remote, path.local);
    for (index, (path, ecn, bytes)) in (0u8..).zip(seen) {
        assert_eq!((path, ecn), (mirrored, index & 3));
        assert_eq!(bytes, vec![index; usize::from(index) * 4]);
    }
}

#[test]
fn one_bad_datagram_does_not_keep_the_others_back() {
    let (a, b) = pair();
    let good = UdpPath::direct(loopback(1, a.port()), loopback(1, b.port()));
    // Documentation addresses (RFC 5737) are nobody's here: not ours to send from.
    let foreign = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 77), a.port());
    let mut batch = SendBatch::new();
    queue(&mut batch, good, 0, b"first");
    queue(&mut batch, UdpPath { local: foreign, ..good }, 0, b"lost");
    queue(&mut batch, good, 0, b"second");
    let report = a.send(&batch);
    assert_eq!((report.sent, report.unreachable), (2, 1), "{report:?}");
    let seen: Vec<_> = receive(&mut b.receiver(StopEvent::new().unwrap()), 2)
        .into_iter()
        .map(|(_, _, bytes)| bytes)
        .collect();
    assert_eq!(seen, [b"first".to_vec(), b"second".to_vec()]);

    batch.clear();
    queue(&mut batch, good, 0, &vec![0; 65_508]);
    queue(&mut batch, good, 0, b"third");
    let report = a.send(&batch);
    assert_eq!((report.sent, report.too_big), (1, 1), "{report:?}");
}

#[test]
fn the_control_plane_sends_single_datagrams() {
    let (a, b) = pair();
    let path = UdpPath::direct(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, a.port()), loopback(1, b.port()));
    a.send_to(path, b"ike").unwrap();
    a.send_to(path, b"").unwrap();
    let seen = receive(&mut b.receiver(StopEvent::new().unwrap()), 2);
    assert_eq!(seen[0].0.remote, loopback(1, a.port()));
    assert_eq!((seen[0].2.as_slice(), seen[1].2.as_slice()), (b"ike".as_slice(), b"".as_slice()));
    assert_eq!(a.send_to(path, &vec![0; 65_508]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
fn a_taken_port_is_named_in_a_sentence() {
    let (a, _) = pair();
    let Err(error) = Udp::bind(Ipv4Addr::UNSPECIFIED, a.port(), Features::default()) else {
        panic!("bound twice")
    };
    assert!(matches!(error, BindError::InUse { .. }));
    assert!(error.to_string().contains(&a.port().to_string()));
}

#[test]
fn sockets_that_share_a_port_divide_the_sas_among_themselves() {
    const SOCKETS: usize = 3;
    let (from, _) = pair();
    let features = Features { udp_gro: false, ..Features::default() };
    let (first, others) = Udp::bind_several(Ipv4Addr::LOCALHOST, 0, features, SOCKETS).unwrap();
    let all = [&[first][..], &others].concat();
    assert_eq!(all.len(), SOCKETS);
    let path = UdpPath::direct(loopback(1, from.port()), loopback(1, all[0].port()));

    let esp = |spi: u32| [&spi.to_be_bytes()[..], &[7; 60]].concat();
    let relayed = |next_header, spi| {
        let mut header = [0; 40];
        let [one, other] = ["2002::1", "2002::2"].map(|address| address.parse().unwrap());
        crate::wire::ip::write_header(&mut header, one, other, next_header, 64, 64);
        [&header[..], &esp(spi)].concat()
    };
    let (ike, keepalive) = ([0; 80].to_vec(), vec![0xff]);
    let mut expected = vec![Vec::new(); SOCKETS];
    let firsts = [ike, keepalive, vec![0x60; 7], relayed(17, 0x6666_6661)];
    let sealed = (0..30u32).map(|at| (0x9abc_de00 + 7 * at, at % 2 == 0));
    for (spi, is_relayed) in sealed {
        let datagram = if is_relayed { relayed(50, spi) } else { esp(spi) };
        expected[usize::from(spi.to_be_bytes()[3]) % SOCKETS].push(datagram);
    }
    expected[0].extend(firsts);
    for datagram in expected.iter().flatten() {
        from.send_to(path, datagram).unwrap();
    }
    for (socket, expected) in all.iter().zip(expected) {
        let mut receiver = socket.receiver(StopEvent::new().unwrap());
        let seen = receive(&mut receiver, expected.len()).into_iter().map(|(_, _, octets)| octets);
        assert_eq!(seen.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn nobody_else_gets_into_a_port_that_is_shared() {
    let (first, _others) = Udp::bind_several(Ipv4Addr::LOCALHOST, 0, Features::default(), 2).unwrap();
    let again = Udp::bind_several(Ipv4Addr::LOCALHOST, first.port(), Features::default(), 2);
    assert!(matches!(again.err(), Some(BindError::InUse { .. })));
}

#[test]
fn a_stopped_receiver_does_not_wait() {
    let (a, _) = pair();
    let stop = StopEvent::new().unwrap();
    let mut receiver = a.receiver(stop.clone());
    let waiter = std::thread::spawn(move || {
        receiver.wait().unwrap();
        receiver.try_receive(&mut ReceiveBatch::new()).unwrap()
    });
    let asked = Instant::now();
    stop.stop();
    assert!(!waiter.join().unwrap());
    assert!(asked.elapsed() < Duration::from_millis(100));
}
