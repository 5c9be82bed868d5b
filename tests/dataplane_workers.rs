//! The worker threads: with twins of TUN and socket in memory, and over real sockets on loopback.
#![expect(clippy::disallowed_methods, reason = "tests read the clock")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use domicile::addr::home::Homes;
use domicile::dataplane::batch::{
    Arrival, PacketBuffer, ReceiveBatch, SendBatch, SendReport, Stop, TunRead, TunWrite, UdpReceive, UdpSend,
};
use domicile::dataplane::event::{self, Event, UdpPath};
use domicile::dataplane::offload::{Accepts, Features, Protocol};
use domicile::dataplane::relay::{self, Limits, Relay, Roles};
use domicile::dataplane::tables::{self, Outbound, Publisher, Reader};
use domicile::dataplane::worker::{self, Edges, Queue, Workers};
use domicile::dataplane::{inject, queue};
use domicile::io::{sys, udp::Udp};
use domicile::wire::{
    self,
    ip::{Ipv6View, NEXT_HEADER_IPV6},
};
use etherparse::PacketBuilder;
use tokio::sync::mpsc::Receiver;

mod dataplane_support;
use dataplane_support::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A queue that can be waited on; every wait ends when it is stopped.
struct Pipe<T> {
    items: Mutex<VecDeque<T>>,
    changed: Condvar,
    stopped: AtomicBool,
    broken: AtomicBool,
}

impl<T> Pipe<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            items: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    fn push(&self, item: T) {
        self.push_all([item]);
    }

    /// So that nobody sees some of them without the others.
    fn push_all(&self, items: impl IntoIterator<Item = T>) {
        self.items.lock().unwrap().extend(items);
        self.changed.notify_all();
    }

    fn set(&self, flag: &AtomicBool) {
        let _items = self.items.lock().unwrap();
        flag.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    fn wait(&self) {
        let items = self.items.lock().unwrap();
        let idle = |items: &mut VecDeque<T>| {
            items.is_empty() && !self.stopped.load(Ordering::SeqCst) && !self.broken.load(Ordering::SeqCst)
        };
        drop(self.changed.wait_while(items, idle).unwrap());
    }

    /// For the test: the next item, or a failure after a while.
    fn take(&self) -> T {
        let items = self.items.lock().unwrap();
        let (mut items, _) =
            self.changed.wait_timeout_while(items, PATIENCE, |items| items.is_empty()).unwrap();
        items.pop_front().expect("nothing came")
    }

    fn try_take(&self) -> io::Result<Option<T>> {
        Ok(self.try_take_all(1)?.pop())
    }

    fn try_take_all(&self, most: usize) -> io::Result<Vec<T>> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the device burns"));
        }
        let mut items = self.items.lock().map_err(|_| io::Error::other("a test panicked"))?;
        let count = items.len().min(most);
        Ok(items.drain(..count).collect())
    }
}

type Packets = Arc<Pipe<Vec<u8>>>;
type Wire = Arc<Pipe<(UdpPath, Vec<u8>)>>;

/// One end in memory.
#[derive(Clone)]
struct Host {
    from_apps: Packets,
    to_apps: Packets,
    from_net: Wire,
    from_net_500: Wire,
    to_net: Wire,
    stopped: Arc<AtomicBool>,
}

struct TunIn(Packets);
#[derive(Clone)]
struct TunOut(Packets, Accepts);
struct NetIn(Wire);
#[derive(Clone)]
struct NetOut(Wire);

impl TunRead for TunIn {
    fn try_read(&mut self, buffer: &mut PacketBuffer) -> io::Result<bool> {
        Ok(self.0.try_take()?.is_some_and(|packet| buffer.copy_from(&packet)))
    }

    fn wait(&mut self) -> io::Result<()> {
        self.0.wait();
        Ok(())
    }
}

impl TunWrite for TunOut {
    fn write(&mut self, buffer: &mut PacketBuffer) -> io::Result<()> {
        let segments = buffer.offload().segments;
        let refused = segments.is_some_and(|segments| segments.protocol == Protocol::Udp);
        if refused {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.0.push(buffer.packet().to_vec());
        Ok(())
    }

    fn accepts(&self) -> Accepts {
        self.1
    }
}

impl UdpReceive for NetIn {
    fn try_receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<bool> {
        batch.clear();
        let arrived = self.0.try_take_all(batch.slots_mut().count())?;
        for (slot, (_, datagram)) in batch.slots_mut().zip(&arrived) {
            slot[..datagram.len()].copy_from_slice(datagram);
        }
        for (index, (path, datagram)) in arrived.iter().enumerate() {
            let arrival = Arrival { path: *path, ecn: 0, len: datagram.len(), stride: datagram.len() };
            batch.arrived(index, arrival);
        }
        Ok(!arrived.is_empty())
    }

    fn wait(&mut self) -> io::Result<()> {
        self.0.wait();
        Ok(())
    }
}

impl UdpSend for NetOut {
    fn send(&self, batch: &SendBatch) -> SendReport {
        for datagram in batch.datagrams() {
            self.0.push((datagram.path, datagram.bytes.to_vec()));
        }
        SendReport { sent: batch.len() as u64, ..SendReport::default() }
    }

    fn send_to(&self, path: UdpPath, datagram: &[u8]) -> io::Result<()> {
        self.0.push((path, datagram.to_vec()));
        Ok(())
    }
}

impl Stop for Host {
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.from_apps.set(&self.from_apps.stopped);
        self.from_net.set(&self.from_net.stopped);
        self.from_net_500.set(&self.from_net_500.stopped);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

impl Host {
    fn start(reader: &Reader) -> (Self, Workers, Receiver<Event>) {
        Self::start_with(reader, no_relay())
    }

    fn start_with(reader: &Reader, relay: Relay) -> (Self, Workers, Receiver<Event>) {
        Self::start_on(reader, relay, Accepts::default(), true)
    }

    fn start_on(
        reader: &Reader,
        relay: Relay,
        accepts: Accepts,
        coalesce: bool,
    ) -> (Self, Workers, Receiver<Event>) {
        let host = Self {
            from_apps: Pipe::new(),
            to_apps: Pipe::new(),
            from_net: Pipe::new(),
            from_net_500: Pipe::new(),
            to_net: Pipe::new(),
            stopped: Arc::default(),
        };
        let queue = Queue {
            tun_read: TunIn(Arc::clone(&host.from_apps)),
            tun_write: TunOut(Arc::clone(&host.to_apps), accepts),
            udp_receive: NetIn(Arc::clone(&host.from_net)),
            udp_send: NetOut(Arc::clone(&host.to_net)),
        };
        let edges = Edges {
            queues: vec![queue],
            ike_receive: Some(NetIn(Arc::clone(&host.from_net_500))),
            relay,
            coalesce,
            single: false,
        };
        let (workers, events) = worker::start(edges, reader, Arc::new(host.clone()), sys::monotonic).unwrap();
        (host, workers, events)
    }
}

fn next(events: &mut Receiver<Event>) -> Event {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, events.recv()).await }).unwrap().unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn packets_cross_and_the_control_plane_hears_of_the_first() {
    let ((_a, alice_reader), (_b, bob_reader)) = (sender(NO_LIMITS, 1380), receiver(NO_LIMITS));
    let (here, alice_workers, _alice_events) = Host::start(&alice_reader);
    let (there, bob_workers, mut bob_events) = Host::start(&bob_reader);
    for payload in 0..200 {
        here.from_apps.push(packet(alice(), bob(), payload));
    }
    for payload in 0..200 {
        let (path, datagram) = here.to_net.take();
        there.from_net.push((mirrored(path), datagram));
        assert_eq!(there.to_apps.take(), packet(alice(), bob(), payload));
    }
    assert_eq!(next(&mut bob_events), Event::FirstPacket { spi: SPI });
    let (sent, received) = (alice_workers.summary(), bob_workers.summary());
    alice_workers.stop();
    bob_workers.stop();
    assert_eq!((sent.totals().sent_packets, sent.totals().datagrams_sent), (200, 200));
    assert_eq!(received.totals().received_packets, 200);
    assert_eq!(received.totals().received_bytes, (0..200).map(|payload| payload + 48).sum::<u64>());
    assert!(sent.drops().is_empty() && received.drops().is_empty());
}

/// What arrives together is joined where the TUN takes it, counted packet by packet, and written alone where not.
#[test]
fn what_arrives_together_is_joined() {
    let segment = |at: u32| {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv6(alice().octets(), bob().octets(), 64);
        builder.tcp(1111, 2222, at * 1000, 500).ack(7).write(&mut packet, &[at as u8; 1000]).unwrap();
        packet
    };
    let segments: Vec<_> = (0..8).map(segment).collect();
    let all = Accepts { tcp: true, udp: true };
    for (accepts, coalesce, writes) in
        [(all, true, 1), (all, false, 8), (Accepts { tcp: false, udp: true }, true, 8)]
    {
        let ((_a, alice_reader), (_b, bob_reader)) = (sender(NO_LIMITS, 1380), receiver(NO_LIMITS));
        let (there, workers, _events) = Host::start_on(&bob_reader, no_relay(), accepts, coalesce);
        let mut batch = SendBatch::new();
        for segment in &segments {
            domicile::dataplane::outbound::process(&alice_reader, segment, &mut batch);
        }
        let datagrams = batch.datagrams().map(|datagram| (mirrored(path()), datagram.bytes.to_vec()));
        there.from_net.push_all(datagrams.collect::<Vec<_>>());
        let written: Vec<_> = (0..writes).map(|_| there.to_apps.take()).collect();
        if writes == 1 {
            assert_eq!(written[0].len(), 60 + 8 * 1000);
            assert!(written[0][60..].iter().zip(0..).all(|(octet, at)| *octet == (at / 1000) as u8));
        } else {
            assert_eq!(written, segments);
        }
        // A packet is counted when the write is done, which is after the applications may have it.
        let summary = workers.summary();
        workers.stop();
        let totals = summary.totals();
        assert_eq!((totals.received_packets, totals.received_bytes), (8, 8 * 1060));
        assert!(there.to_apps.items.lock().unwrap().is_empty());
    }
}

/// A kernel that refuses what it said that it would take loses one batch, and gets single packets from then on.
#[test]
fn a_refused_super_packet_is_the_last_one() {
    let ((_a, alice_reader), (_b, bob_reader)) = (sender(NO_LIMITS, 1380), receiver(NO_LIMITS));
    let all = Accepts { tcp: true, udp: true };
    let (there, workers, _events) = Host::start_on(&bob_reader, no_relay(), all, true);
    let send = || {
        let mut batch = SendBatch::new();
        for _ in 0..8 {
            domicile::dataplane::outbound::process(&alice_reader, &packet(alice(), bob(), 200), &mut batch);
        }
        let datagrams = batch.datagrams().map(|datagram| (mirrored(path()), datagram.bytes.to_vec()));
        there.from_net.push_all(datagrams.collect::<Vec<_>>());
    };
    send();
    let summary = workers.summary();
    eventually("the super-packet is refused", || summary.drops().get("tun_write") == Some(&8));
    send();
    for _ in 0..8 {
        assert_eq!(there.to_apps.take(), packet(alice(), bob(), 200));
    }
    assert_eq!((summary.drops()["tun_write"], summary.drops().len()), (8, 1));
    workers.stop();
    assert_eq!(summary.totals().received_packets, 8);
}

#[test]
fn applications_are_told_what_is_too_big_and_what_is_forbidden() {
    let (_a, reader) = sender(NO_LIMITS, 1340);
    let (host, workers, _events) = Host::start(&reader);
    let large = packet(alice(), bob(), 1400);
    host.from_apps.push(large.clone());
    let answer = host.to_apps.take();
    let view = Ipv6View::new(&answer).unwrap();
    assert_eq!((view.destination(), view.next_header()), (alice(), 58));
    let icmp = view.payload();
    assert_eq!((icmp[0], icmp[1], &icmp[4..8]), (2, 0, &1340u32.to_be_bytes()[..]));
    assert_eq!(icmp[8..], large[..1280 - 48]);

    host.from_apps.push(packet(alice(), "2001:db8::1".parse().unwrap(), 10));
    let answer = host.to_apps.take();
    assert_eq!(Ipv6View::new(&answer).unwrap().payload()[..2], [1, 1]);
    let drops = workers.summary().drops();
    assert_eq!((drops["too_big"], drops["discard"]), (1, 1));
    assert_eq!(drops.len(), 2);
}

/// A member takes relayed packets from its own home and from nobody else, whatever they carry.
#[test]
fn relayed_packets_come_from_the_own_home_or_not_at_all() {
    let (_a, alice_reader) = sender_by(relayed_path());
    let (_b, bob_reader) = receiver(NO_LIMITS);
    let (mut publisher, reader) = relay::new();
    let homes = Homes::new(Vec::new(), true);
    publisher.set_roles(Roles { local: [bob()].into(), home: None, homes: homes.clone() });
    let relay = Relay::new(reader, Limits::default(), [5; 16]);
    let (here, alice_workers, _alice_events) = Host::start(&alice_reader);
    let (there, bob_workers, mut bob_events) = Host::start_with(&bob_reader, relay);
    here.from_apps.push(packet(alice(), bob(), 5));
    let (_, esp) = here.to_net.take();
    let ike = wire::relay::wrap_ike(alice(), bob(), &[7; 40]).unwrap();
    let from = |remote| UdpPath { remote, ..mirrored(path()) };
    let home = from(homes.endpoint(bob()).unwrap());
    let strangers = ["192.0.2.66:4500".parse().unwrap(), SocketAddrV4::new(*home.remote.ip(), 4501)];
    for stranger in strangers.map(from) {
        there.from_net.push((stranger, esp.clone()));
        there.from_net.push((stranger, ike.clone()));
    }
    let summary = bob_workers.summary();
    eventually("they are counted", || summary.drops().get("relay_not_home") == Some(&4));
    assert_eq!((summary.drops().len(), summary.totals().received_packets), (1, 0));
    assert!(bob_events.try_recv().is_err(), "the control plane heard of it");

    there.from_net.push((home, esp));
    assert_eq!(there.to_apps.take(), packet(alice(), bob(), 5));
    assert_eq!(next(&mut bob_events), Event::FirstPacket { spi: SPI });
    there.from_net.push((home, ike));
    let relay = Some(event::Relay { local: bob(), remote: alice() });
    assert_eq!(next(&mut bob_events), Event::Ike { path: UdpPath { relay, ..home }, message: vec![7; 40] });
    assert_eq!(summary.drops().len(), 1);
    alice_workers.stop();
    bob_workers.stop();
}

#[test]
fn the_control_plane_hears_of_ike_acquires_and_unknown_spis() {
    let (_b, reader) = receiver(NO_LIMITS);
    let (host, workers, mut events) = Host::start(&reader);
    let path = mirrored(path());
    host.from_net.push((path, vec![0, 0, 0, 0, 7, 8]));
    assert_eq!(next(&mut events), Event::Ike { path, message: vec![7, 8] });
    let path_500 = UdpPath { local: SocketAddrV4::new(*path.local.ip(), 500), ..path };
    host.from_net_500.push((path_500, vec![7, 8]));
    assert_eq!(next(&mut events), Event::Ike { path: path_500, message: vec![7, 8] });
    let waiting = packet(bob(), alice(), 5);
    host.from_apps.push(waiting.clone());
    assert_eq!(next(&mut events), Event::Acquire { packet: waiting });
    host.from_net.push((path, vec![0xee; 40]));
    assert_eq!(next(&mut events), Event::UnknownSpi { spi: 0xeeee_eeee, path });
    host.from_net.push((path, vec![0xff]));
    let summary = workers.summary();
    eventually("the keepalive is counted", || summary.totals().keepalives == 1);
    host.from_net.push((path, vec![0; queue::MAX_IKE_MESSAGE + 5]));
    eventually("a giant is refused", || summary.drops().get("ike_too_long") == Some(&1));
    assert_eq!(summary.drops()["unknown_spi"], 1);
}

#[test]
fn a_flood_of_ike_keeps_neither_traffic_nor_news_away() {
    let ((_a, alice_reader), (_b, bob_reader)) = (sender(NO_LIMITS, 1380), receiver(NO_LIMITS));
    let (host, workers, mut events) = Host::start(&bob_reader);
    let path = mirrored(path());
    // Nobody reads the events meanwhile.
    for _ in 0..5000 {
        host.from_net.push((path, vec![0; 32]));
        host.from_net.push((path, vec![0xee; 40]));
    }
    let mut batch = SendBatch::new();
    let packet = packet(alice(), bob(), 100);
    domicile::dataplane::outbound::process(&alice_reader, &packet, &mut batch);
    host.from_net.push((path, batch.datagrams().next().unwrap().bytes.to_vec()));
    assert_eq!(host.to_apps.take(), packet);
    let summary = workers.summary();
    workers.stop();
    assert!(summary.drops()["queue_full"] > 4000);
    assert_eq!(summary.drops()["unknown_spi"], 5000);
    let mut heard = Vec::new();
    while let Ok(event) = events.try_recv() {
        heard.push(event);
    }
    assert!(heard.len() < queue::CAPACITY);
    assert!(heard.contains(&Event::FirstPacket { spi: SPI }));
    // Rate-limited: the flood took a few seconds at most.
    assert!(heard.iter().filter(|event| matches!(event, Event::UnknownSpi { .. })).count() < 200);
}

#[test]
fn an_exhausted_sa_is_told_once() {
    let limits = domicile::esp::Limits { hard_packets: 3, soft_packets: 2, ..NO_LIMITS };
    let (_a, reader) = sender(limits, 1380);
    let (host, workers, mut events) = Host::start(&reader);
    for _ in 0..10 {
        host.from_apps.push(packet(alice(), bob(), 5));
    }
    let (first, second) = (next(&mut events), next(&mut events));
    let mut told = [first, second];
    told.sort_by_key(|event| matches!(event, Event::Exhausted { .. }));
    assert_eq!(told, [Event::SoftLimit { spi: SPI }, Event::Exhausted { spi: SPI }]);
    let summary = workers.summary();
    eventually("the rest is counted", || summary.drops().get("exhausted") == Some(&7));
    assert!(events.try_recv().is_err());
}

#[test]
fn a_worker_that_dies_is_reported() {
    let (_b, reader) = receiver(NO_LIMITS);
    let (host, mut workers, _events) = Host::start(&reader);
    host.from_apps.set(&host.from_apps.broken);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let failure = runtime.block_on(async { tokio::time::timeout(PATIENCE, workers.failed()).await }).unwrap();
    assert_eq!((failure.worker, failure.error.as_str()), ("tun", "the device burns"));
    let quiet = async { tokio::time::timeout(Duration::from_millis(20), workers.failed()).await };
    assert!(runtime.block_on(quiet).is_err());
}

#[test]
fn workers_stop_at_once_when_idle_and_under_load() {
    for load in [false, true] {
        let (_a, reader) = sender(NO_LIMITS, 1380);
        let (host, workers, _events) = Host::start(&reader);
        let stop_feeding = Arc::new(AtomicBool::new(false));
        let feeder = load.then(|| {
            let (host, stop) = (host.clone(), Arc::clone(&stop_feeding));
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    host.from_apps.push(packet(alice(), bob(), 50));
                    host.from_net.push((mirrored(path()), vec![0xee; 40]));
                }
            })
        });
        std::thread::sleep(Duration::from_millis(20));
        let asked = Instant::now();
        workers.stop();
        let took = asked.elapsed();
        stop_feeding.store(true, Ordering::SeqCst);
        if let Some(feeder) = feeder {
            feeder.join().unwrap();
        }
        assert!(took < Duration::from_millis(100), "load {load}: {took:?}");
    }
}

/// Tables and a real socket on loopback; the applications stay in memory.
struct Loopback {
    _publisher: Publisher,
    reader: Reader,
    udp: Udp,
}

#[test]
fn both_directions_over_real_sockets() {
    let [a, b] =
        [1, 2].map(|host| Udp::bind(Ipv4Addr::new(127, 0, 0, host), 0, Features::default()).unwrap());
    let path = UdpPath::direct(at(1, &a), at(2, &b));
    let end = |local, remote, path, out, inn, udp| {
        let (mut publisher, reader) = tables::new();
        publisher.set_policy(policy(&[]), vec![local]);
        publisher.install_inbound(inbound_sa(inn, local, remote, NO_LIMITS));
        let sa = outbound_sa(out, local, remote, NO_LIMITS);
        publisher.set_outbound(local, remote, Outbound::new(sa, path, 1380));
        Loopback { _publisher: publisher, reader, udp }
    };
    let ends = [end(alice(), bob(), path, 700, 800, a), end(bob(), alice(), mirrored(path), 800, 700, b)];
    let [(alice_apps, alice_workers), (bob_apps, bob_workers)] = ends.each_ref().map(|end| {
        let stop = sys::StopEvent::new().unwrap();
        let apps = (Pipe::new(), Pipe::new());
        let stop_all = StopBoth { event: stop.clone(), pipe: Arc::clone(&apps.0) };
        let queue = Queue {
            tun_read: TunIn(Arc::clone(&apps.0)),
            tun_write: TunOut(Arc::clone(&apps.1), Accepts::default()),
            udp_receive: end.udp.receiver(stop),
            udp_send: end.udp.clone(),
        };
        let edges = Edges {
            queues: vec![queue],
            ike_receive: None,
            relay: no_relay(),
            coalesce: true,
            single: false,
        };
        (apps, worker::start(edges, &end.reader, Arc::new(stop_all), sys::monotonic).unwrap())
    });
    for payload in 0..300 {
        alice_apps.0.push(packet(alice(), bob(), payload));
        assert_eq!(bob_apps.1.take(), packet(alice(), bob(), payload));
        bob_apps.0.push(packet(bob(), alice(), payload));
        assert_eq!(alice_apps.1.take(), packet(bob(), alice(), payload));
    }
    // A packet that waited for its SA leaves from the control plane's thread, beside the worker.
    let outbound = ends[0].reader.outbound(alice(), bob()).unwrap();
    inject::send_one(&outbound, NEXT_HEADER_IPV6, &packet(alice(), bob(), 77), &ends[0].udp).unwrap();
    assert_eq!(bob_apps.1.take(), packet(alice(), bob(), 77));
    let too_big = inject::send_one(&outbound, NEXT_HEADER_IPV6, &packet(alice(), bob(), 1400), &ends[0].udp);
    assert!(matches!(too_big, Err(inject::InjectError::TooBig(1380))));

    let summaries = [alice_workers.0.summary(), bob_workers.0.summary()];
    let asked = Instant::now();
    alice_workers.0.stop();
    bob_workers.0.stop();
    assert!(asked.elapsed() < Duration::from_millis(100));
    for summary in summaries {
        assert!(summary.drops().is_empty(), "{:?}", summary.drops());
    }
}

struct StopBoth {
    event: sys::StopEvent,
    pipe: Packets,
}

impl Stop for StopBoth {
    fn stop(&self) {
        self.event.stop();
        self.pipe.set(&self.pipe.stopped);
    }

    fn is_stopped(&self) -> bool {
        self.event.is_stopped()
    }
}
