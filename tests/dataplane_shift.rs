//! Who reads the TUN: one thread while little comes from there, another one for bulk, always in order.
#![expect(clippy::disallowed_methods, reason = "tests read the clock")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use domicile::dataplane::batch::{PacketBuffer, SendBatch, Stop, TunRead, TunWrite};
use domicile::dataplane::event::{Event, UdpPath};
use domicile::dataplane::offload::Features;
use domicile::dataplane::outbound;
use domicile::dataplane::tables::{Outbound, Reader};
use domicile::dataplane::worker::{self, Edges, Workers};
use domicile::io::{sys, udp::Udp};

mod dataplane_support;
use dataplane_support::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A TUN device in memory that can be waited for: its descriptor is readable while there are packets.
struct Device {
    queue: Mutex<Queue>,
    changed: Condvar,
    readable: UnixStream,
    signal: UnixStream,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    stopped: bool,
    /// Names of the threads that read, each once for as long as it went on.
    readers: Vec<String>,
}

impl Device {
    fn new() -> Arc<Self> {
        let (readable, signal) = UnixStream::pair().unwrap();
        Arc::new(Self { queue: Mutex::default(), changed: Condvar::new(), readable, signal })
    }

    /// Nobody sees some of them without the others.
    fn push(&self, packets: impl IntoIterator<Item = Vec<u8>>) {
        let mut queue = self.held();
        if queue.packets.is_empty() {
            (&self.signal).write_all(&[1]).unwrap();
        }
        queue.packets.extend(packets);
        self.changed.notify_all();
    }

    fn readers(&self) -> Vec<String> {
        self.held().readers.clone()
    }

    fn held(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap()
    }

    fn waited(&self) {
        let idle = |queue: &mut Queue| queue.packets.is_empty() && !queue.stopped;
        drop(self.changed.wait_while(self.held(), idle).unwrap());
    }
}

struct Tun(Arc<Device>);

impl TunRead for Tun {
    fn try_read(&mut self, buffer: &mut PacketBuffer) -> io::Result<bool> {
        let mut queue = self.0.held();
        let Some(packet) = queue.packets.pop_front() else { return Ok(false) };
        if queue.packets.is_empty() {
            (&self.0.readable).read_exact(&mut [0])?;
        }
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        if queue.readers.last() != Some(&name) {
            queue.readers.push(name);
        }
        Ok(buffer.copy_from(&packet))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.readable.as_fd())
    }

    fn wait(&mut self) -> io::Result<()> {
        self.0.waited();
        Ok(())
    }
}

struct Stopper(sys::StopEvent, Arc<Device>);

impl Stop for Stopper {
    fn stop(&self) {
        self.0.stop();
        self.1.held().stopped = true;
        self.1.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }
}

struct Running {
    workers: Workers,
    device: Arc<Device>,
    received: mpsc::Receiver<Vec<u8>>,
    _events: tokio::sync::mpsc::Receiver<Event>,
}

fn start(reader: &Reader, udp: &Udp, single: bool) -> Running {
    let device = Device::new();
    let (apps, received) = mpsc::channel();
    let (workers, _events) = start_on(reader, udp, &device, Apps(apps), single);
    Running { workers, device, received, _events }
}

fn start_on(
    reader: &Reader,
    udp: &Udp,
    device: &Arc<Device>,
    tun_write: impl TunWrite + Clone,
    single: bool,
) -> (Workers, tokio::sync::mpsc::Receiver<Event>) {
    let stop = sys::StopEvent::new().unwrap();
    let queue = worker::Queue {
        tun_read: Tun(Arc::clone(device)),
        tun_write,
        udp_receive: udp.receiver(stop.clone()),
        udp_send: udp.clone(),
    };
    let edges = Edges { queues: vec![queue], ike_receive: None, relay: no_relay(), coalesce: true, single };
    let stopper = Arc::new(Stopper(stop, Arc::clone(device)));
    worker::start(edges, reader, stopper, sys::monotonic).unwrap()
}

/// One that sends and one that receives, over loopback.
fn pair(single: bool) -> (Running, Running) {
    let bind = || Udp::bind(Ipv4Addr::UNSPECIFIED, 0, Features::default()).unwrap();
    let (a, b) = (bind(), bind());
    let ((mut publisher, alice_reader), (_b, bob_reader)) = (sender(NO_LIMITS, 1380), receiver(NO_LIMITS));
    let path = UdpPath::direct(at(1, &a), at(2, &b));
    let sa = outbound_sa(SPI, alice(), bob(), NO_LIMITS);
    publisher.set_outbound(alice(), bob(), Outbound::new(sa, path, 1380));
    (start(&alice_reader, &a, single), start(&bob_reader, &b, single))
}

fn packets(count: u16) -> Vec<Vec<u8>> {
    (0..count).map(|number| numbered(packet(alice(), bob(), 64), number)).collect()
}

impl Running {
    fn expect(&self, packets: &[Vec<u8>]) {
        for (index, packet) in packets.iter().enumerate() {
            assert_eq!(&self.received.recv_timeout(PATIENCE).unwrap(), packet, "packet {index}");
        }
    }

    fn stops_at_once(self) {
        let began = Instant::now();
        self.workers.stop();
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

fn one_by_one(here: &Running, there: &Running) {
    for packet in packets(200) {
        here.device.push([packet.clone()]);
        there.expect(&[packet]);
    }
}

fn at_once(here: &Running, there: &Running) {
    let packets = packets(2000);
    here.device.push(packets.clone());
    there.expect(&packets);
}

#[test]
fn bulk_has_a_thread_of_its_own_until_it_is_over() {
    let (here, there) = pair(false);
    one_by_one(&here, &there);
    assert_eq!(here.device.readers(), ["data-udp"]);
    at_once(&here, &there);
    assert_eq!(here.device.readers(), ["data-udp", "data-tun"]);
    one_by_one(&here, &there);
    assert_eq!(here.device.readers(), ["data-udp", "data-tun", "data-udp"]);
    at_once(&here, &there);
    // Now one of them is stopped with the TUN in the hands of the one thread, the other of the other.
    assert_eq!(here.device.readers().len(), 4);
    here.stops_at_once();
    there.stops_at_once();
}

#[test]
fn one_cpu_has_one_thread() {
    let (here, there) = pair(true);
    one_by_one(&here, &there);
    at_once(&here, &there);
    one_by_one(&here, &there);
    assert_eq!(here.device.readers(), ["data-udp"]);
    here.stops_at_once();
    there.stops_at_once();
}

/// An application that answers as soon as it hears something.
#[derive(Clone)]
struct Answering {
    device: Arc<Device>,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl TunWrite for Answering {
    fn write(&mut self, buffer: &mut PacketBuffer) -> io::Result<()> {
        self.device.push([packet(bob(), alice(), 30)]);
        self.heard.lock().map_err(|_| io::Error::other("a test panicked"))?.push(buffer.packet().to_vec());
        Ok(())
    }
}

#[test]
fn who_delivered_a_packet_sends_the_answer() {
    let (mut publisher, reader) = receiver(NO_LIMITS);
    let udp = Udp::bind(Ipv4Addr::LOCALHOST, 0, Features::default()).unwrap();
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let SocketAddr::V4(remote) = peer.local_addr().unwrap() else { panic!("IPv4") };
    let path = UdpPath::direct(at(1, &udp), remote);
    let sa = outbound_sa(SPI + 1, bob(), alice(), NO_LIMITS);
    publisher.set_outbound(bob(), alice(), Outbound::new(sa, path, 1380));
    let (device, heard) = (Device::new(), Arc::default());
    let answering = Answering { device: Arc::clone(&device), heard: Arc::clone(&heard) };
    let (workers, _events) = start_on(&reader, &udp, &device, answering, false);
    let (_alice, alice_reader) = sender(NO_LIMITS, 1380);
    let mut batch = SendBatch::new();
    outbound::process(&alice_reader, &packet(alice(), bob(), 10), &mut batch);
    peer.send_to(batch.datagrams().next().unwrap().bytes, path.local).unwrap();
    let mut datagram = [0; 2000];
    let (len, _) = peer.recv_from(&mut datagram).unwrap();
    assert_eq!(datagram[..4], (SPI + 1).to_be_bytes());
    assert!(len > 70);
    workers.stop();
    assert_eq!(*heard.lock().unwrap(), [packet(alice(), bob(), 10)]);
    assert_eq!(device.readers(), ["data-udp"]);
}
