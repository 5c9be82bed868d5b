//! Segmentation and coalescing on loopback change nothing that anybody can see: random batches against the naive way,
//! which sends and receives datagram by datagram.
#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

use std::time::Instant;

use proptest::prelude::*;

use super::tests::{loopback, queue};
use super::*;
use crate::dataplane::batch::{Datagram, SEND_DATAGRAMS};
use crate::dataplane::offload::Feature;

type Seen = (UdpPath, u8, Vec<u8>);

fn bind(without: &[Feature]) -> Udp {
    let features = without.iter().fold(Features::default(), |features, off| features.without(*off));
    Udp::bind(Ipv4Addr::UNSPECIFIED, 0, features).unwrap()
}

/// What a receiver got, and how many of its slots held more than one datagram.
fn receive(receiver: &mut UdpReceiver, batch: &mut ReceiveBatch, want: usize) -> (Vec<Seen>, usize) {
    let (mut seen, mut supers) = (Vec::new(), 0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while seen.len() < want && Instant::now() < deadline {
        if !receiver.try_receive(batch).unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(batch.lost(), 0);
        for datagram in batch.datagrams() {
            let before = seen.len();
            let Datagram { path, ecn, .. } = datagram;
            seen.extend(datagram.payloads().map(|payload| (path, ecn, payload.to_vec())));
            supers += usize::from(seen.len() > before + 1);
        }
    }
    (seen, supers)
}

/// A sender, and what it sent to.
struct Link {
    from: Udp,
    to: Udp,
    receiver: UdpReceiver,
    batch: ReceiveBatch,
}

impl Link {
    fn new(without: &[Feature]) -> Self {
        let (from, to) = (bind(without), bind(without));
        let receiver = to.receiver(StopEvent::new().unwrap());
        Self { from, to, receiver, batch: ReceiveBatch::new() }
    }

    fn path(&self, path: u8) -> UdpPath {
        UdpPath::direct(loopback(1 + path / 2, self.from.port()), loopback(8 + path % 2, self.to.port()))
    }

    /// Sends datagrams, given by path, ECN and octets, until they are all sent; what arrived, and how many came
    /// together.
    fn carry(&mut self, datagrams: &[(u8, u8, Vec<u8>)]) -> (Vec<(u8, u8, Vec<u8>)>, usize) {
        let mut batch = SendBatch::new();
        for (path, ecn, bytes) in datagrams {
            queue(&mut batch, self.path(*path), *ecn, bytes);
        }
        let sent = datagrams.len();
        let report = self.from.send(&batch);
        assert_eq!(report, SendReport { sent: sent as u64, ..SendReport::default() });
        let (seen, supers) = receive(&mut self.receiver, &mut self.batch, sent);
        let name = |path: UdpPath| {
            let paths = (0..4).map(|index| (index, self.path(index)));
            let mut found =
                paths.filter(|(_, known)| (known.remote, known.local) == (path.local, path.remote));
            found.next().unwrap().0
        };
        (seen.into_iter().map(|(path, ecn, bytes)| (name(path), ecn, bytes)).collect(), supers)
    }
}

/// Each run: path, ECN, length, count, and what the last one is shorter by.
fn runs() -> impl Strategy<Value = Vec<(u8, u8, usize, usize, usize)>> {
    let len = prop_oneof![
        2 => Just(0usize),
        4 => 1..4usize,
        8 => 40..200usize,
        8 => 1000..1500usize,
        1 => 20_000..40_000usize,
        1 => 65_000..=65_507usize,
        1 => Just(65_507usize),
    ];
    let count = prop_oneof![4 => 1..4usize, 2 => 4..50usize, 2 => 60..70usize, 1 => 120..=128usize];
    let run = (0..4u8, 0..4u8, len, count, prop_oneof![Just(0usize), 1..50usize]);
    proptest::collection::vec(run, 1..12)
}

/// The datagrams of the runs, each different, as far as they fit one batch.
fn datagrams(runs: &[(u8, u8, usize, usize, usize)]) -> Vec<(u8, u8, Vec<u8>)> {
    let mut batch = SendBatch::new();
    let mut all = Vec::new();
    for &(path, ecn, len, count, less) in runs {
        for index in 0..count {
            let len = if index + 1 == count { len.saturating_sub(less) } else { len };
            let bytes: Vec<u8> = (0..len).map(|octet| (octet ^ (all.len() * 7)) as u8).collect();
            let Some(room) = batch.reserve(len) else { return all };
            room.commit(UdpPath::direct(loopback(1, 1), loopback(1, 1)), 0, len);
            all.push((path, ecn, bytes));
        }
    }
    all
}

#[test]
fn no_offload_changes_what_arrives() {
    let mut links = [
        Link::new(&[Feature::UdpGso, Feature::UdpGro]),
        Link::new(&[Feature::UdpGso]),
        Link::new(&[Feature::UdpGro]),
        Link::new(&[]),
    ];
    let mut together = [0; 4];
    let mut runner = proptest::test_runner::TestRunner::default();
    let tried = std::cell::RefCell::new((&mut links, &mut together));
    runner
        .run(&runs(), |runs| {
            let sent = datagrams(&runs);
            let mut tried = tried.borrow_mut();
            let (links, together) = &mut *tried;
            for (link, together) in links.iter_mut().zip(together.iter_mut()) {
                let (seen, supers) = link.carry(&sent);
                *together += supers;
                prop_assert_eq!(&seen, &sent);
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(links.map(|link| link.from.segments()), [false, false, true, true]);
    // Only where both are on does anything arrive as a super-datagram; loopback itself joins nothing.
    assert_eq!((together[0], together[2]), (0, 0));
    assert!(together[3] > 100, "{together:?}");
}

/// How many datagrams came in each slot.
fn shape(lengths: &[usize]) -> Vec<usize> {
    let (from, to) = (bind(&[]), bind(&[]));
    let path = UdpPath::direct(loopback(1, from.port()), loopback(1, to.port()));
    let mut batch = SendBatch::new();
    for len in lengths {
        queue(&mut batch, path, 0, &vec![7; *len]);
    }
    let report = from.send(&batch);
    assert_eq!(report.sent, lengths.len() as u64, "{report:?}");
    let mut receiver = to.receiver(StopEvent::new().unwrap());
    let mut batch = ReceiveBatch::new();
    let mut shape = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while shape.iter().sum::<usize>() < lengths.len() && Instant::now() < deadline {
        if !receiver.try_receive(&mut batch).unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
        shape.extend(batch.datagrams().map(|datagram| datagram.payloads().count()));
    }
    shape
}

#[test]
fn a_message_ends_where_the_kernel_wants_it_to() {
    assert_eq!(shape(&[100; 64]), [64]);
    assert_eq!(shape(&[100; 65]), [64, 1]);
    assert_eq!(shape(&[100; SEND_DATAGRAMS]), [64, 64]);
    assert_eq!(shape(&[1452; 45]), [44, 1], "65,340 octets are more than a message takes");
    assert_eq!(shape(&[1000; 65]), [64, 1]);
    assert_eq!(shape(&[1300; 50]), [50], "65,000 octets are not");
    assert_eq!(shape(&[32_500, 32_500]), [2]);
    assert_eq!(shape(&[32_501, 32_501]), [1, 1]);
    assert_eq!(shape(&[65_507, 10, 10]), [1, 2]);
    // The shorter one ends its run, and what follows begins another, even when it is as long.
    assert_eq!(shape(&[100, 100, 99, 99, 99, 100]), [3, 2, 1]);
    assert_eq!(shape(&[1, 1, 1]), [3]);
    // A probe of the path's MTU and its companion: where the one is lost the other must not be.
    assert_eq!(shape(&[1400, 60]), [1, 1]);
    assert_eq!(shape(&[1400, 60, 1400, 60]), [1, 1, 1, 1]);
    // An empty datagram is no segment of anything.
    assert_eq!(shape(&[0, 0, 100, 100, 0, 100, 0]), [1, 1, 2, 1, 1, 1]);
}

#[test]
fn a_kernel_that_refuses_segmentation_gets_the_same_batch_singly() {
    let mut link = Link::new(&[]);
    // Any other refusal would do: without checksums there is no segmentation.
    sys::set_socket_option(link.from.shared.socket.as_fd(), libc::SO_NO_CHECK, 1).unwrap();
    let sent = datagrams(&[(0, 1, 1000, 20, 5), (1, 2, 0, 1, 0), (1, 2, 300, 40, 0)]);
    let (seen, supers) = link.carry(&sent);
    assert_eq!((seen, supers), (sent.clone(), 0));
    assert!(!link.from.segments());
    link.from.shared.segments_from.store(1, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(5));
    assert!(link.from.segments(), "it is tried again after a while");
    assert_eq!(link.carry(&sent).0, sent);
}

#[test]
fn a_run_that_cannot_leave_is_counted_and_does_not_end_segmentation() {
    let mut link = Link::new(&[]);
    let lost = UdpPath { local: "192.0.2.77:1".parse().unwrap(), ..link.path(0) };
    let nowhere = UdpPath { remote: "255.255.255.255:9".parse().unwrap(), ..link.path(0) };
    let mut batch = SendBatch::new();
    for _ in 0..5 {
        queue(&mut batch, link.path(0), 0, b"before");
    }
    for _ in 0..7 {
        queue(&mut batch, lost, 0, b"lost");
    }
    for _ in 0..3 {
        queue(&mut batch, nowhere, 0, b"forbidden");
    }
    for _ in 0..9 {
        queue(&mut batch, link.path(0), 0, b"after");
    }
    let report = link.from.send(&batch);
    let expected = SendReport { sent: 14, unreachable: 7, forbidden: 3, ..SendReport::default() };
    assert_eq!(report, expected);
    let (seen, supers) = receive(&mut link.receiver, &mut link.batch, 14);
    assert_eq!((seen.len(), supers), (14, 2));
    assert!(link.from.segments(), "an address that is gone says nothing about segmentation");
}

#[test]
fn what_does_not_fit_its_slot_is_counted_and_no_datagram() {
    let mut link = Link::new(&[]);
    link.batch = ReceiveBatch::with_slots_of(150);
    let mut batch = SendBatch::new();
    for _ in 0..3 {
        queue(&mut batch, link.path(0), 0, &[1; 100]);
    }
    queue(&mut batch, link.path(0), 1, &[2; 100]);
    assert_eq!(link.from.send(&batch).sent, 4);
    link.receiver.wait().unwrap();
    assert!(link.receiver.try_receive(&mut link.batch).unwrap());
    assert_eq!(link.batch.lost(), 1);
    let seen: Vec<_> = link.batch.datagrams().map(|datagram| datagram.bytes.to_vec()).collect();
    assert_eq!(seen, [vec![2; 100]]);
    assert!(!link.receiver.try_receive(&mut link.batch).unwrap());
    assert_eq!(link.batch.lost(), 0, "counted once");
}

#[test]
fn few_slots_for_super_datagrams_and_as_many_as_are_needed_for_others() {
    let mut link = Link::new(&[]);
    // Alternating ECN fields keep small datagrams apart.
    let small = |count| -> Vec<_> { (0..count).map(|at| (0, at % 2, vec![3; 10])).collect() };
    let super_datagram: Vec<_> = (0..40).map(|_| (0, 0, vec![4; 1400])).collect();
    assert_eq!(link.batch.slots_mut().count(), 8);
    for (count, offered) in [(8, 16), (16, 32), (32, 32), (5, 10), (1, 2), (2, 4), (1, 2)] {
        assert_eq!(link.carry(&small(count)).0, small(count));
        link.batch.clear();
        assert_eq!(link.batch.slots_mut().count(), offered, "after {count}");
    }
    assert_eq!(link.carry(&super_datagram).1, 1);
    link.batch.clear();
    assert_eq!(link.batch.slots_mut().count(), 8);
}
