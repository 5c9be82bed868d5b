//! The TUN device itself. Ignored by default, because it makes network devices:
//! `unshare --net cargo test --test dataplane_tun -- --ignored --test-threads 1` as root.
#![expect(clippy::disallowed_methods, reason = "tests read the clock")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

use std::net::{Ipv6Addr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domicile::dataplane::batch::{PacketBuffer, Stop, TunRead, TunWrite};
use domicile::dataplane::offload::Features;
use domicile::dataplane::tables;
use domicile::dataplane::worker::{self, Edges, Queue};
use domicile::io::sys::{self, StopEvent};
use domicile::io::tun::{OpenError, Tun};
use domicile::io::udp::Udp;
use domicile::wire::ip::Ipv6View;

mod dataplane_support;
use dataplane_support::*;

fn device_with_address(name: &str) -> Tun {
    device_with_queues(name, 1)
}

fn device_with_queues(name: &str, queues: usize) -> Tun {
    let tun = Tun::open_queues(name, Features::default(), queues).unwrap();
    // Two steps: in one message the kernel brings the device up first, with a link-local address.
    ip(&format!("link set {name} addrgenmode none"));
    ip(&format!("link set {name} up"));
    ip(&format!("address add {}/128 dev {name} nodad", alice()));
    ip(&format!("route add 2002::/16 dev {name}"));
    tun
}

#[test]
#[ignore = "needs a network namespace of its own"]
fn packets_pass_the_device_both_ways() {
    only_in_a_namespace_of_its_own();
    let tun = device_with_address("dtest0");
    assert!(matches!(Tun::open("dtest0", Features::default()), Err(OpenError::InUse(_))));
    assert!(matches!(Tun::open("lo", Features::default()), Err(OpenError::InUse(_))));
    let socket = UdpSocket::bind((alice(), 2222)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"out", (bob(), 1111)).unwrap();

    let (mut reader, mut buffer) = (tun.reader(StopEvent::new().unwrap()), PacketBuffer::new());
    reader.wait().unwrap();
    assert!(reader.try_read(&mut buffer).unwrap());
    let view = Ipv6View::new(buffer.packet()).unwrap();
    assert_eq!((view.source(), view.destination()), (alice(), bob()));
    assert_eq!(view.payload()[8..], *b"out");
    assert!(!reader.try_read(&mut buffer).unwrap());

    assert!(buffer.copy_from(&packet(bob(), alice(), 30)));
    tun.writer().write(&mut buffer).unwrap();
    let mut payload = [0; 100];
    assert_eq!(socket.recv_from(&mut payload).unwrap(), (30, (bob(), 1111).into()));
}

#[test]
#[ignore = "needs a network namespace of its own"]
fn a_flow_has_one_queue_whichever_its_other_direction_comes_by() {
    only_in_a_namespace_of_its_own();
    let tun = device_with_queues("dtest3", 3);
    assert!(matches!(Tun::open("dtest3", Features::default()), Err(OpenError::InUse(_))));
    let mut queues: Vec<_> = tun.queues(&StopEvent::new().unwrap()).collect();
    assert_eq!(queues.len(), 3);
    let (mut buffer, mut shares) = (PacketBuffer::new(), [0; 3]);
    for turn in 0..60 {
        let socket = UdpSocket::bind((alice(), 2222)).unwrap();
        for written_to in [turn % 3, (turn + 1) % 3] {
            socket.send_to(b"out", (bob(), 40_000 + turn as u16)).unwrap();
            let mut came = Vec::new();
            for (at, (reader, _)) in queues.iter_mut().enumerate() {
                if reader.try_read(&mut buffer).unwrap() {
                    let flow = Ipv6View::new(buffer.packet()).unwrap().flow();
                    assert_eq!(at, flow as usize % 3, "port {}", 40_000 + turn);
                    came.push(at);
                }
            }
            assert_eq!(came.len(), 1);
            shares[came[0]] += 1;
            assert!(buffer.copy_from(&packet(bob(), alice(), 30)));
            queues[written_to].1.write(&mut buffer).unwrap();
        }
    }
    assert!(shares.iter().all(|share| (20..60).contains(share)), "{shares:?}");
}

#[test]
#[ignore = "needs a network namespace of its own"]
fn real_applications_hear_packet_too_big_and_a_removed_device_is_reported() {
    only_in_a_namespace_of_its_own();
    let tun = device_with_address("dtest1");
    ip("link set lo up");
    let udp = Udp::bind(std::net::Ipv4Addr::LOCALHOST, 0, Features::default()).unwrap();
    let (_publisher, reader) = sender(NO_LIMITS, 1300);
    let stop = StopEvent::new().unwrap();
    let queue = Queue {
        tun_read: tun.reader(stop.clone()),
        tun_write: tun.writer(),
        udp_receive: udp.receiver(stop.clone()),
        udp_send: udp,
    };
    let edges =
        Edges { queues: vec![queue], ike_receive: None, relay: no_relay(), coalesce: true, single: false };
    let (mut workers, _events) = worker::start(edges, &reader, Arc::new(stop), sys::monotonic).unwrap();

    // The kernel believes the Packet Too Big: the route's MTU becomes ours.
    let socket = UdpSocket::bind((alice(), 0)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let _ = socket.send_to(&[0; 1400], (bob(), 1111));
        let route = Command::new("ip").args(["route", "get", &bob().to_string()]).output().unwrap();
        if String::from_utf8_lossy(&route.stdout).contains("mtu 1300") {
            break;
        }
        assert!(Instant::now() < deadline, "the kernel ignored the Packet Too Big");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Somebody else's source address is refused, whatever route it took here.
    let other: Ipv6Addr = "2002:c633:6401:1::ffff".parse().unwrap();
    ip(&format!("address add {other}/128 dev dtest1 nodad"));
    UdpSocket::bind((other, 0))
        .unwrap()
        .send_to(b"x", ("2002:c633:6402::9".parse::<Ipv6Addr>().unwrap(), 9))
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while workers.summary().drops().get("foreign_source") != Some(&1) {
        assert!(Instant::now() < deadline, "{:?}", workers.summary().drops());
        std::thread::sleep(Duration::from_millis(2));
    }

    ip("link delete dtest1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let failure = runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(5), workers.failed()).await })
        .unwrap();
    // So little came that U never gave the device away.
    assert_eq!((failure.worker, failure.error.as_str()), ("udp", "the TUN device was removed"));
    workers.stop();
}

#[test]
#[ignore = "needs a network namespace of its own"]
fn an_idle_device_stops_at_once() {
    only_in_a_namespace_of_its_own();
    let tun = device_with_address("dtest2");
    let udp = Udp::bind(std::net::Ipv4Addr::LOCALHOST, 0, Features::default()).unwrap();
    let (_publisher, reader) = tables::new();
    let stop = StopEvent::new().unwrap();
    let queue = Queue {
        tun_read: tun.reader(stop.clone()),
        tun_write: tun.writer(),
        udp_receive: udp.receiver(stop.clone()),
        udp_send: udp.clone(),
    };
    let edges = Edges {
        queues: vec![queue],
        ike_receive: Some(udp.receiver(stop.clone())),
        relay: no_relay(),
        coalesce: true,
        single: false,
    };
    let (workers, _events) = worker::start(edges, &reader, Arc::new(stop.clone()), sys::monotonic).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let asked = Instant::now();
    workers.stop();
    assert!(asked.elapsed() < Duration::from_millis(100));
    assert!(stop.is_stopped());
}
