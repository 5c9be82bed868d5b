//! Workers over real sockets, with and without segmentation and coalescing in the kernel: the same packets in the same
//! order, and bundles that stay together where they can.
//!
//! What needs a device is ignored by default: `unshare --net cargo test --test dataplane_offload -- --ignored` as root.
#![expect(clippy::disallowed_methods, reason = "tests read the clock")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use domicile::addr::home::Homes;
use domicile::dataplane::batch::{
    PacketBuffer, ReceiveBatch, SendBatch, SendReport, TunRead, UdpReceive, UdpSend,
};
use domicile::dataplane::event::{Event, UdpPath};
use domicile::dataplane::offload::{Feature, Features};
use domicile::dataplane::relay::{self, Limits, Relay, Roles};
use domicile::dataplane::tables::{Outbound, Reader};
use domicile::dataplane::worker::{self, Edges, Queue, Workers};
use domicile::io::{sys, udp::Udp};
use domicile::wire::ip::Ipv6View;

mod dataplane_support;
use dataplane_support::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Packets that may be on their way: as many as the smallest usual receive buffer takes.
const WINDOW: usize = 100;

/// Packets that wait to be read, and how many of them may be, for all that the test has seen arrive.
struct Tun {
    packets: VecDeque<Vec<u8>>,
    read: usize,
    arrived: Arc<AtomicUsize>,
}

impl TunRead for Tun {
    fn try_read(&mut self, buffer: &mut PacketBuffer) -> io::Result<bool> {
        if self.read >= self.arrived.load(Ordering::Acquire) + WINDOW {
            return Ok(false);
        }
        let Some(packet) = self.packets.pop_front() else { return Ok(false) };
        self.read += 1;
        Ok(buffer.copy_from(&packet))
    }

    fn wait(&mut self) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }
}

fn bind(without: &[Feature]) -> Udp {
    let features = without.iter().fold(Features::default(), |features, off| features.without(*off));
    Udp::bind(Ipv4Addr::UNSPECIFIED, 0, features).unwrap()
}

/// Workers at work, and what is at their other ends.
struct Running {
    workers: Workers,
    /// What the applications receive.
    received: mpsc::Receiver<Vec<u8>>,
    /// How many of the packets that the applications sent have arrived elsewhere: for the test to say.
    arrived: Arc<AtomicUsize>,
    _events: tokio::sync::mpsc::Receiver<Event>,
}

/// Workers on this socket whose applications send `packets`.
fn start(reader: &Reader, udp: &Udp, packets: Vec<Vec<u8>>, relay: Relay) -> Running {
    let stop = sys::StopEvent::new().unwrap();
    let (apps, received) = mpsc::channel();
    let arrived = Arc::<AtomicUsize>::default();
    let tun = Tun { packets: packets.into(), read: 0, arrived: Arc::clone(&arrived) };
    let queue = Queue {
        tun_read: tun,
        tun_write: Apps(apps),
        udp_receive: udp.receiver(stop.clone()),
        udp_send: udp.clone(),
    };
    let edges = Edges { queues: vec![queue], ike_receive: None, relay, coalesce: true, single: false };
    let (workers, _events) = worker::start(edges, reader, Arc::new(stop), sys::monotonic).unwrap();
    Running { workers, received, arrived, _events }
}

/// Sizes that make runs, ends of runs and lonely packets.
fn burst() -> Vec<Vec<u8>> {
    let sizes = [1300, 1300, 1300, 1300, 700, 0, 0, 64, 64, 64, 1, 1300];
    let size = |index: usize| if index % 400 < 200 { 1300 } else { sizes[index % sizes.len()] };
    (0..4000)
        .map(|index| {
            let packet = with_ecn(packet(alice(), bob(), size(index)), (index / 150 % 4) as u8);
            numbered(packet, index as u16)
        })
        .collect()
}

#[test]
fn a_burst_arrives_whole_and_in_order_whatever_is_off() {
    let off = [&[][..], &[Feature::UdpGso], &[Feature::UdpGro], &[Feature::UdpGso, Feature::UdpGro]];
    for (from, to) in off.into_iter().flat_map(|from| off.into_iter().map(move |to| (from, to))) {
        let (a, b) = (bind(from), bind(to));
        let ((mut publisher, alice_reader), (_b, bob_reader)) =
            (sender(NO_LIMITS, 1380), receiver(NO_LIMITS));
        let path = UdpPath::direct(at(1, &a), at(2, &b));
        let sa = outbound_sa(SPI, alice(), bob(), NO_LIMITS);
        publisher.set_outbound(alice(), bob(), Outbound::new(sa, path, 1380));
        let there = start(&bob_reader, &b, Vec::new(), no_relay());
        let packets = burst();
        let here = start(&alice_reader, &a, packets.clone(), no_relay());
        for (index, packet) in packets.iter().enumerate() {
            let came = there.received.recv_timeout(PATIENCE).expect("nothing came");
            assert_eq!(&came, packet, "packet {index}, without {from:?} and {to:?}");
            here.arrived.store(index + 1, Ordering::Release);
        }
        // The last packets can be here before their sender has counted them: it counts before it ends.
        let (sent, received) = (here.workers.summary(), there.workers.summary());
        here.workers.stop();
        there.workers.stop();
        let drops = [sent.drops(), received.drops()];
        assert!(drops.iter().all(|drops| drops.is_empty()), "{drops:?}");
        assert_eq!(sent.totals().datagrams_sent, packets.len() as u64);
    }
}

/// Sends 40 relayed packets as one super-datagram by way of a home agent; how many came in each slot.
fn relayed_by_a_home(without: &[Feature]) -> Vec<usize> {
    let (from, home, to) = (bind(&[]), bind(without), bind(&[]));
    let (mut publisher, roles) = relay::new();
    let prefix = Some("2002:808:808::/48".parse().unwrap());
    publisher.set_roles(Roles { local: [].into(), home: prefix, homes: Homes::new(Vec::new(), false) });
    publisher.bind("2002:808:808:1::/64".parse().unwrap(), at(2, &from));
    publisher.bind("2002:808:808:2::/64".parse().unwrap(), at(3, &to));
    let relay = Relay::new(roles, Limits::default(), [1; 16]);
    let (_p, reader) = receiver(NO_LIMITS);
    let home_agent = start(&reader, &home, Vec::new(), relay);

    let (source, destination) = ("2002:808:808:1::1".parse().unwrap(), "2002:808:808:2::1".parse().unwrap());
    let mut sent: Vec<Vec<u8>> = (0..40u8).map(|_| packet(source, destination, 1200)).collect();
    let mut batch = SendBatch::new();
    for (packet, number) in sent.iter_mut().zip(0..) {
        packet[6] = 50;
        packet[60] = number;
        let mut room = batch.reserve(packet.len()).unwrap();
        room.room_mut().copy_from_slice(packet);
        room.commit(UdpPath::direct(at(2, &from), at(1, &home)), 1, packet.len());
    }
    assert_eq!(from.send(&batch).sent, 40);

    let (mut receiver, mut batch) = (to.receiver(sys::StopEvent::new().unwrap()), ReceiveBatch::new());
    let (mut shape, mut came) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while came.len() < sent.len() {
        assert!(Instant::now() < deadline, "{} came; {:?}", came.len(), home_agent.workers.summary().drops());
        if !receiver.try_receive(&mut batch).unwrap() {
            std::thread::sleep(Duration::from_millis(2));
        }
        for datagram in batch.datagrams() {
            assert_eq!((datagram.path.remote, datagram.ecn), (at(1, &home), 1));
            shape.push(datagram.payloads().count());
            came.extend(datagram.payloads().map(<[u8]>::to_vec));
        }
    }
    for (sent, came) in sent.iter_mut().zip(&came) {
        assert_eq!(Ipv6View::new(came).unwrap().hop_limit(), 63);
        relay::rewrite(sent, 63);
        assert_eq!(sent, came);
    }
    shape
}

#[test]
fn a_home_relays_super_datagrams_as_they_came() {
    assert_eq!(relayed_by_a_home(&[]), [40]);
    // What came one by one leaves together as far as it was taken together, which is a matter of time.
    assert_eq!(relayed_by_a_home(&[Feature::UdpGro]).iter().sum::<usize>(), 40);
    assert_eq!(relayed_by_a_home(&[Feature::UdpGso]), [1; 40]);
}

/// Segments above the MTU are refused with their whole message; each has its own fate all the same.
#[test]
#[ignore = "needs a network namespace of its own"]
fn only_what_is_too_big_is_lost() {
    only_in_a_namespace_of_its_own();
    ip("link set lo up mtu 1500");
    let (from, to) = (bind(&[]), bind(&[]));
    let path = UdpPath::direct(at(1, &from), at(2, &to));
    let mut batch = SendBatch::new();
    // 1,472 octets are 1,500 with the headers of UDP and IPv4.
    for (len, count) in [(1472, 15), (1473, 15), (100, 1), (1473, 1), (1400, 10)] {
        for _ in 0..count {
            batch.reserve(len).unwrap().commit(path, 0, len);
        }
    }
    let report = from.send(&batch);
    let (mut receiver, mut batch) = (to.receiver(sys::StopEvent::new().unwrap()), ReceiveBatch::new());
    assert!(receiver.try_receive(&mut batch).unwrap());
    ip("link set lo mtu 65536");
    assert_eq!(report, SendReport { sent: 15 + 1 + 10, too_big: 15 + 1, ..SendReport::default() });
    let shape: Vec<_> =
        batch.datagrams().map(|datagram| (datagram.stride, datagram.payloads().count())).collect();
    // The last large one takes nothing of what follows into its run.
    assert_eq!(shape, [(1472, 15), (100, 1), (1400, 10)]);
    assert!(from.segments(), "a narrow network says nothing about segmentation");
}
