//! Nothing is allocated per packet: counted by the allocator itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use domicile::dataplane::batch::{PacketBuffer, ReceiveBatch, SendBatch, UdpReceive, UdpSend};
use domicile::dataplane::event::UdpPath;
use domicile::dataplane::offload::Features;
use domicile::dataplane::{inbound, outbound};
use domicile::io::{sys::StopEvent, udp::Udp};

mod dataplane_support;
use dataplane_support::*;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator can be written in no other way")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn sealing_and_opening_allocate_nothing() {
    let ((_a, alice_reader), (_b, bob_reader)) = (sender(NO_LIMITS, 1380), receiver(NO_LIMITS));
    let good = packet(alice(), bob(), 1200);
    let too_big = packet(alice(), bob(), 1400);
    let foreign = packet(bob(), alice(), 100);
    let mut batch = SendBatch::new();
    let mut out = PacketBuffer::new();
    let mut round = || {
        batch.clear();
        for _ in 0..16 {
            outbound::process(&alice_reader, &good, &mut batch);
        }
        outbound::process(&alice_reader, &too_big, &mut batch);
        outbound::process(&alice_reader, &foreign, &mut batch);
        let mut opened = 0;
        for datagram in batch.datagrams() {
            for _ in 0..2 {
                let content = inbound::classify(datagram.bytes, mirrored(path()), 0);
                let verdict = open_content(&bob_reader, content, Duration::ZERO, &mut out);
                opened += u32::from(verdict.is_ok_and(|authentic| authentic.inner.is_ok()));
            }
        }
        opened
    };
    // A replay window grows with the traffic until it has its full size; the first round also fills thread-local
    // caches.
    alice_reader.outbound(alice(), bob()).unwrap().sa.assign(1 << 17).unwrap();
    assert_eq!(round(), 16);
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..100 {
        assert_eq!(round(), 16);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    drop(vec![0u8; 10]);
    assert!(ALLOCATIONS.with(Cell::get) > before, "the counter counts");
}

#[test]
fn relaying_allocates_nothing() {
    use std::collections::HashSet;

    use domicile::addr::home::Homes;
    use domicile::dataplane::relay::{self, Limits, Relay, Roles, Verdict};

    let (mut publisher, reader) = relay::new();
    let home = Some("2002:808:808::/48".parse().unwrap());
    publisher.set_roles(Roles { local: HashSet::new(), home, homes: Homes::new(Vec::new(), false) });
    let care_of = "1.2.3.4:61000".parse().unwrap();
    publisher.bind("2002:808:808:100::/64".parse().unwrap(), care_of);
    let mut relay = Relay::new(reader, Limits::default(), [1; 16]);
    let mut datagram =
        packet("2002:808:808:100::1".parse().unwrap(), "2002:909:909::1".parse().unwrap(), 1200);
    datagram[6] = 50;
    let mut forged = datagram.clone();
    forged[15] ^= 1;
    let mut out = [0; 1280];
    let mut round = |now| {
        let mut forwarded = 0;
        for from in [care_of, "1.2.3.4:1".parse().unwrap()] {
            for packet in [&datagram, &forged] {
                let verdict = relay.decide(packet, from, now);
                forwarded += u32::from(matches!(verdict, Verdict::Forward { .. }));
                relay::unreachable(packet, &mut out);
            }
        }
        forwarded
    };
    assert_eq!(round(Duration::ZERO), 1);
    let before = ALLOCATIONS.with(Cell::get);
    for millis in 0..100 {
        assert_eq!(round(Duration::from_millis(millis)), 1);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
}

#[test]
fn sending_and_receiving_allocate_nothing() {
    let [from, to] = [(); 2].map(|()| Udp::bind(Ipv4Addr::LOCALHOST, 0, Features::default()).unwrap());
    let at = |udp: &Udp| SocketAddrV4::new(Ipv4Addr::LOCALHOST, udp.port());
    let path = UdpPath::direct(at(&from), at(&to));
    let (mut out, mut received) = (SendBatch::new(), ReceiveBatch::new());
    for size in [100; 70].into_iter().chain(200..230) {
        out.reserve(size).unwrap().commit(path, 0, size);
    }
    // Nobody is there: an error allocates nothing, either.
    out.reserve(9).unwrap().commit(UdpPath { local: "192.0.2.1:1".parse().unwrap(), ..path }, 0, 9);
    let mut receiver = to.receiver(StopEvent::new().unwrap());
    let mut round = || {
        let report = from.send(&out);
        assert_eq!((report.sent, report.unreachable), (100, 1));
        let mut count = 0;
        while count < 100 {
            receiver.wait().unwrap();
            receiver.try_receive(&mut received).unwrap();
            count += received.datagrams().map(|datagram| datagram.payloads().count()).sum::<usize>();
        }
    };
    round();
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..20 {
        round();
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
}
