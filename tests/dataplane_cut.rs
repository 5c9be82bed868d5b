//! Super-packets outbound: cut, sealed, and opened at the other end as if they had been sent one by one.
#![expect(clippy::disallowed_methods, reason = "tests read the clock")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use domicile::dataplane::batch::{PacketBuffer, SendBatch, Stop, TunRead, TunWrite};
use domicile::dataplane::event::Event;
use domicile::dataplane::inbound;
use domicile::dataplane::offload::{Features, Offload, PartialChecksum, Protocol, Segments};
use domicile::dataplane::outbound::{self, Verdict};
use domicile::dataplane::split::Split;
use domicile::dataplane::tables::Reader;
use domicile::dataplane::worker::{self, Edges, Workers};
use domicile::io::sys::{self, StopEvent};
use domicile::io::udp::Udp;
use domicile::wire::{checksum, ip::Ipv6View};
use etherparse::PacketBuilder;

mod dataplane_support;
use dataplane_support::*;

/// A TCP super-packet as the kernel hands it over.
fn super_packet(from: Ipv6Addr, to: Ipv6Addr, payload: usize, size: u16) -> (Vec<u8>, Offload) {
    let mut packet = Vec::new();
    let payload: Vec<u8> = (0..payload).map(|at| (at * 7 % 253) as u8).collect();
    let builder = PacketBuilder::ipv6(from.octets(), to.octets(), 64).tcp(1111, 2222, 77, 500).psh().fin();
    builder.write(&mut packet, &payload).unwrap();
    let addresses = packet[8..].first_chunk().unwrap();
    let begun = checksum::pseudo_header(addresses, 6, (packet.len() - 40) as u32);
    packet[56..58].copy_from_slice(&begun.to_be_bytes());
    let offload = Offload {
        segments: Some(Segments { protocol: Protocol::Tcp, size }),
        checksum: Some(PartialChecksum { start: 40, offset: 16 }),
    };
    (packet, offload)
}

fn cut(packet: &[u8], offload: Offload) -> Vec<Vec<u8>> {
    let mut packet = packet.to_vec();
    let mut split = Split::new(&mut packet, offload.segments.unwrap(), offload.checksum).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = split.advance() {
        packets.push(packet.to_vec());
    }
    packets
}

/// What the other end makes of the datagrams of a batch.
fn opened(reader: &Reader, batch: &SendBatch) -> Vec<Vec<u8>> {
    let mut out = PacketBuffer::new();
    let datagrams = batch.datagrams().map(|datagram| {
        let content = inbound::classify(datagram.bytes, mirrored(datagram.path), datagram.ecn);
        open_content(reader, content, Duration::ZERO, &mut out).unwrap().inner.unwrap();
        out.packet().to_vec()
    });
    datagrams.collect()
}

#[test]
fn every_packet_arrives_once_and_in_order() {
    // 16 packets, and more of them than one batch takes.
    for (payload, size) in [(20_000, 1308), (65_400, 300)] {
        let ((_a, alice_reader), (_b, bob_reader)) = (sender(NO_LIMITS, 1380), receiver(NO_LIMITS));
        let (packet, offload) = super_packet(alice(), bob(), payload, size);
        let packet = with_ecn(packet, 0b10);
        let expected = cut(&packet, offload);
        let (mut buffer, mut batch, mut received) = (packet.clone(), SendBatch::new(), Vec::new());
        let protected = outbound::look_up(&alice_reader, &packet).ok().unwrap();
        let mut split = Split::new(&mut buffer, offload.segments.unwrap(), offload.checksum).unwrap();
        let mut full = 0;
        let verdict = protected.seal_all(&mut split, &mut batch, |batch| {
            received.extend(opened(&bob_reader, batch));
            batch.clear();
            full += 1;
        });
        assert_eq!(verdict, Verdict::Sealed { soft_limit: None });
        assert!(batch.datagrams().all(|datagram| datagram.ecn == 0b10));
        received.extend(opened(&bob_reader, &batch));
        assert_eq!(received.len(), expected.len());
        assert!(received == expected);
        assert_eq!(full > 0, size == 300);
        // Every number that was taken was sent.
        let sa = &alice_reader.outbound(alice(), bob()).unwrap().sa;
        assert_eq!(sa.packets(), expected.len() as u64);
        assert_eq!(sa.bytes(), expected.iter().map(|packet| packet.len() as u64).sum::<u64>());
    }
}

#[test]
fn what_is_not_sent_takes_no_number() {
    let (_publisher, reader) = sender(NO_LIMITS, 1300);
    let (mut packet, offload) = super_packet(alice(), bob(), 20_000, 1308);
    let protected = outbound::look_up(&reader, &packet).ok().unwrap();
    let mut split = Split::new(&mut packet, offload.segments.unwrap(), offload.checksum).unwrap();
    let mut batch = SendBatch::new();
    let verdict = protected.seal_all(&mut split, &mut batch, |_| panic!("nothing is full"));
    assert_eq!(verdict, Verdict::TooBig { mtu: 1300 });
    assert!(batch.is_empty());
    assert_eq!(reader.outbound(alice(), bob()).unwrap().sa.packets(), 0);
}

type Queue = VecDeque<(Vec<u8>, Offload)>;

/// A device in memory.
#[derive(Clone, Default)]
struct Device {
    from_apps: Arc<(Mutex<Queue>, Condvar)>,
    to_apps: Arc<Mutex<Vec<Vec<u8>>>>,
    stopped: Arc<AtomicBool>,
}

impl Device {
    fn send(&self, packet: (Vec<u8>, Offload)) {
        self.from_apps.0.lock().unwrap().push_back(packet);
        self.from_apps.1.notify_all();
    }

    fn taken(&self) -> Option<(Vec<u8>, Offload)> {
        self.from_apps.0.lock().unwrap().pop_front()
    }

    fn waited(&self) {
        let (queue, changed) = &*self.from_apps;
        let idle = |queue: &mut Queue| queue.is_empty() && !self.stopped.load(Ordering::SeqCst);
        drop(changed.wait_while(queue.lock().unwrap(), idle).unwrap());
    }

    fn heard(&self, packet: &[u8]) {
        self.to_apps.lock().unwrap().push(packet.to_vec());
    }
}

impl TunRead for Device {
    fn try_read(&mut self, buffer: &mut PacketBuffer) -> io::Result<bool> {
        let Some((packet, offload)) = self.taken() else { return Ok(false) };
        buffer.copy_from(&packet);
        buffer.set_offload(offload);
        Ok(true)
    }

    fn wait(&mut self) -> io::Result<()> {
        self.waited();
        Ok(())
    }
}

impl TunWrite for Device {
    fn write(&mut self, buffer: &mut PacketBuffer) -> io::Result<()> {
        self.heard(buffer.packet());
        Ok(())
    }
}

/// Stops the device and the sockets.
struct StopBoth(Device, StopEvent);

impl Stop for StopBoth {
    fn stop(&self) {
        let _held = self.0.from_apps.0.lock().unwrap();
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.from_apps.1.notify_all();
        self.1.stop();
    }

    fn is_stopped(&self) -> bool {
        self.1.is_stopped()
    }
}

fn start(reader: &Reader) -> (Device, Workers, tokio::sync::mpsc::Receiver<Event>) {
    let device = Device::default();
    let udp = Udp::bind(Ipv4Addr::LOCALHOST, 0, Features::default()).unwrap();
    let (workers, events) = start_on(&device, udp, reader);
    (device, workers, events)
}

fn start_on(device: &Device, udp: Udp, reader: &Reader) -> (Workers, tokio::sync::mpsc::Receiver<Event>) {
    let stop = StopEvent::new().unwrap();
    let queue = worker::Queue {
        tun_read: device.clone(),
        tun_write: device.clone(),
        udp_receive: udp.receiver(stop.clone()),
        udp_send: udp,
    };
    let edges =
        Edges { queues: vec![queue], ike_receive: None, relay: no_relay(), coalesce: true, single: false };
    let stop = Arc::new(StopBoth(device.clone(), stop));
    worker::start(edges, reader, stop, sys::monotonic).unwrap()
}

fn until_dropped(workers: &Workers, reason: &str, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while workers.summary().drops().get(reason) != Some(&count) {
        assert!(Instant::now() < deadline, "{:?}", workers.summary().drops());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn one_answer_for_all_that_is_too_big_and_a_count_of_packets() {
    let (_publisher, reader) = sender(NO_LIMITS, 1300);
    let (device, workers, _events) = start(&reader);
    device.send(super_packet(alice(), bob(), 20_000, 1308));
    until_dropped(&workers, "too_big", 16);
    // Nonsense in front of a packet, and of one that is none of ours.
    let (packet, offload) = super_packet(alice(), bob(), 20_000, 0);
    device.send((packet.clone(), offload));
    let begun = Offload { segments: None, checksum: Some(PartialChecksum { start: 7, offset: 9 }) };
    device.send((packet.clone(), begun));
    until_dropped(&workers, "bad_offload", 2);
    let mut old = packet;
    old[0] = 0x45;
    device.send((old.clone(), offload));
    device.send((old, begun));
    until_dropped(&workers, "not_ipv6", 2);
    workers.stop();
    let answers = device.to_apps.lock().unwrap();
    assert_eq!(answers.len(), 1);
    let view = Ipv6View::new(&answers[0]).unwrap();
    assert_eq!((view.payload()[0], view.payload()[6..8].to_vec()), (2, 1300u16.to_be_bytes().to_vec()));
}

#[test]
fn packets_without_an_sa_wait_as_whole_ones() {
    let (mut publisher, reader) = sender(NO_LIMITS, 1380);
    publisher.remove_outbound(alice(), bob());
    let (device, workers, mut events) = start(&reader);
    let (packet, offload) = super_packet(alice(), bob(), 3000, 1308);
    let expected = cut(&packet, offload);
    device.send((packet, offload));
    for expected in expected {
        match events.blocking_recv() {
            Some(Event::Acquire { packet }) => assert!(packet == expected),
            other => panic!("{other:?}"),
        }
    }
    workers.stop();
}

#[test]
fn a_begun_checksum_is_completed_before_it_is_sealed() {
    let (mut publisher, reader) = sender(NO_LIMITS, 1380);
    publisher.remove_outbound(alice(), bob());
    let (device, workers, mut events) = start(&reader);
    let (packet, offload) = super_packet(alice(), bob(), 500, 1308);
    let expected = cut(&packet, offload).remove(0);
    device.send((packet, Offload { segments: None, ..offload }));
    let Some(Event::Acquire { packet }) = events.blocking_recv() else { panic!("no packet") };
    assert!(packet == expected);
    workers.stop();
}
