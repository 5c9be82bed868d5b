//! Super-packets of a real kernel, both ways. Ignored by default, because it makes network devices:
//! `unshare --net cargo test --test dataplane_super -- --ignored --test-threads 1` as root.
//!
//! A mirror reads the device, swaps the two addresses of each packet (which no checksum notices) and writes it back, so
//! that what is sent to the other side arrives here.
#![expect(clippy::disallowed_methods, reason = "tests read the clock")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use domicile::dataplane::batch::{PacketBuffer, Stop, TunRead, TunWrite};
use domicile::dataplane::offload::{Features, Protocol};
use domicile::dataplane::split::{self, Split};
use domicile::io::sys::StopEvent;
use domicile::io::tun::Tun;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

const PATIENCE: Duration = Duration::from_secs(20);

fn here() -> Ipv6Addr {
    "2002:c633:6401:1::a".parse().unwrap()
}

fn there() -> Ipv6Addr {
    "2002:c633:6402:1::b".parse().unwrap()
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

fn device(name: &str, features: Features) -> Tun {
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap();
    let others = devices.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:"));
    assert!(!others, "run this in a network namespace of its own");
    let tun = Tun::open(name, features).unwrap();
    ip("link set lo up");
    ip(&format!("link set {name} addrgenmode none mtu 1380 gso_max_size 59000"));
    ip(&format!("link set {name} up"));
    ip(&format!("address add {}/128 dev {name} nodad", here()));
    ip(&format!("route add 2002::/16 dev {name}"));
    tun
}

/// How the mirror passes super-packets on.
#[derive(Clone, Copy, PartialEq)]
enum Mirror {
    Whole,
    Cut,
}

#[derive(Default, Debug)]
struct Seen {
    tcp: usize,
    udp: usize,
    begun: usize,
    packets: usize,
    largest: usize,
}

fn swap(packet: &mut [u8]) {
    let (source, destination) = packet[8..40].split_at_mut(16);
    source.swap_with_slice(destination);
}

/// Looks at a packet as a stranger would.
fn assert_right(packet: &[u8]) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("not IPv6") };
    let ip = ip.header().to_header();
    let (found, expected) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => (
            tcp.checksum(),
            tcp.to_header().calc_checksum_ipv6_raw(ip.source, ip.destination, tcp.payload()).unwrap(),
        ),
        Some(TransportSlice::Udp(udp)) => {
            (udp.checksum(), udp.to_header().calc_checksum_ipv6(&ip, udp.payload()).unwrap())
        }
        _ => return,
    };
    assert_eq!(found, expected);
    assert!(packet.len() <= 1380);
}

fn mirror(tun: &Tun, how: Mirror, stop: &StopEvent) -> JoinHandle<Seen> {
    let (mut reader, mut writer, stop) = (tun.reader(stop.clone()), tun.writer(), stop.clone());
    thread::spawn(move || {
        let (mut buffer, mut single, mut seen) = (PacketBuffer::new(), PacketBuffer::new(), Seen::default());
        loop {
            reader.wait().unwrap();
            if stop.is_stopped() {
                return seen;
            }
            while reader.try_read(&mut buffer).unwrap() {
                let offload = buffer.offload();
                swap(buffer.packet_mut());
                seen.packets += 1;
                seen.largest = seen.largest.max(buffer.packet().len());
                match offload.segments {
                    Some(segments) if segments.protocol == Protocol::Tcp => seen.tcp += 1,
                    Some(_) => seen.udp += 1,
                    None => seen.begun += usize::from(offload.checksum.is_some()),
                }
                match (offload.segments, offload.checksum) {
                    (Some(segments), checksum) if how == Mirror::Cut => {
                        let mut split = Split::new(buffer.packet_mut(), segments, checksum).unwrap();
                        while let Some(packet) = split.advance() {
                            assert_right(packet);
                            assert!(single.copy_from(packet));
                            writer.write(&mut single).unwrap();
                        }
                    }
                    (None, Some(partial)) if how == Mirror::Cut => {
                        split::complete(buffer.packet_mut(), partial).unwrap();
                        assert_right(buffer.packet());
                        buffer.set_offload(Default::default());
                        writer.write(&mut buffer).unwrap();
                    }
                    _ => writer.write(&mut buffer).unwrap(),
                }
            }
        }
    })
}

/// Everything that is sent arrives, by TCP and as datagrams that the kernel is to cut.
fn exchange(name: &str, features: Features, how: Mirror) -> Seen {
    let tun = device(name, features);
    let stop = StopEvent::new().unwrap();
    let mirror = mirror(&tun, how, &stop);
    const OCTETS: usize = 8 << 20;
    let sent: Vec<u8> = (0..OCTETS).map(|at| (at * 31 % 251) as u8).collect();
    let listener = TcpListener::bind((here(), 7000)).unwrap();
    let sender = thread::spawn({
        let sent = sent.clone();
        move || {
            let mut stream = TcpStream::connect((there(), 7000)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
    });
    let (mut stream, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), there());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert!(received == sent, "TCP content");

    let socket = UdpSocket::bind((here(), 1111)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // UDP_SEGMENT is 103 of level 17.
    let script = format!(
        "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.setsockopt(17, 103, 100); \
         s.bind(('{}', 2222)); s.sendto(bytes(i % 256 for i in range(1050)), ('{}', 1111))",
        here(),
        there()
    );
    assert!(Command::new("python3").args(["-c", &script]).status().unwrap().success());
    let mut datagram = [0; 2000];
    for index in 0..11 {
        let (len, from) = socket.recv_from(&mut datagram).unwrap();
        assert_eq!((len, from), (if index == 10 { 50 } else { 100 }, (there(), 2222).into()));
        assert!(datagram[..len].iter().enumerate().all(|(at, octet)| *octet == (index * 100 + at) as u8));
    }
    stop.stop();
    let deadline = Instant::now() + PATIENCE;
    while !mirror.is_finished() {
        assert!(Instant::now() < deadline, "the mirror does not stop");
        thread::sleep(Duration::from_millis(2));
    }
    mirror.join().unwrap()
}

#[test]
#[ignore = "needs a network namespace of its own"]
fn super_packets_are_cut_as_the_kernel_would() {
    let seen = exchange("dsuper0", Features::default(), Mirror::Cut);
    assert!(seen.tcp > 100 && seen.udp == 1 && seen.begun > 0, "{seen:?}");
    // As large as was allowed: one read for one message.
    assert!((40_000..59_000).contains(&seen.largest), "{seen:?}");
}

#[test]
#[ignore = "needs a network namespace of its own"]
fn super_packets_go_back_as_they_came() {
    let seen = exchange("dsuper1", Features::default(), Mirror::Whole);
    assert!(seen.tcp > 100 && seen.udp == 1, "{seen:?}");
    // Several times fewer than packets of an MTU.
    assert!(seen.packets < 4000, "{seen:?}");
}

#[test]
#[ignore = "needs a network namespace of its own"]
fn without_offloads_every_packet_is_whole() {
    let off = Features { tun_offload: false, ..Features::default() };
    let seen = exchange("dsuper2", off, Mirror::Cut);
    assert!(seen.tcp == 0 && seen.udp == 0 && seen.begun == 0, "{seen:?}");
    assert!(seen.largest <= 1380 && seen.packets > 6000, "{seen:?}");
}
