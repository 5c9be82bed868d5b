//! What super-packets cost: `cargo bench --bench offload`. A super-packet of TCP is cut into packets, and packets are
//! joined to one; alone, and together with the sealing and opening that they are there for.

use std::hint::black_box;
use std::net::Ipv6Addr;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use domicile::crypto::suite::EspSuite;
use domicile::dataplane::batch::PacketBuffer;
use domicile::dataplane::coalesce::{Coalescer, Joined};
use domicile::dataplane::offload::{Accepts, PartialChecksum, Protocol, Segments};
use domicile::dataplane::split::Split;
use domicile::esp::{InboundSa, OutboundSa};
use domicile::wire::checksum;
use domicile::wire::ip::{HEADER_LEN, NEXT_HEADER_TCP, write_header};

mod support;
use support::params;

/// IPv6, TCP and its time stamps.
const HEADERS: usize = HEADER_LEN + 32;
/// Payload of a packet of 1,380 octets, and how many such packets one `sendmsg` takes.
const SIZE: usize = 1_380 - HEADERS;
const COUNT: usize = 44;
const SUPER: usize = HEADERS + COUNT * SIZE;
const ACK: u8 = 0x10;

const SEGMENTS: Segments = Segments { protocol: Protocol::Tcp, size: SIZE as u16 };
const PARTIAL: PartialChecksum = PartialChecksum { start: HEADER_LEN as u16, offset: 16 };

/// As the kernel gives it to whoever cuts it: the checksum is begun.
fn super_packet() -> Vec<u8> {
    let mut packet = vec![0xa5; SUPER];
    let [from, to] = [2, 1].map(|last| Ipv6Addr::new(0x2002, 0xc633, 0x6401, last, 0, 0, 0, 1));
    let upper = (SUPER - HEADER_LEN) as u16;
    write_header(packet.first_chunk_mut().expect("room"), from, to, NEXT_HEADER_TCP, 64, upper);
    let addresses: [u8; 32] = packet[8..HEADER_LEN].try_into().expect("two addresses");
    let tcp = &mut packet[HEADER_LEN..HEADERS];
    tcp[12..14].copy_from_slice(&[8 << 4, ACK]);
    tcp[16..20].copy_from_slice(&[0; 4]);
    tcp[20..24].copy_from_slice(&[1, 1, 8, 10]);
    let begun = checksum::pseudo_header(&addresses, NEXT_HEADER_TCP, u32::from(upper));
    tcp[16..18].copy_from_slice(&begun.to_be_bytes());
    packet
}

fn split(packet: &mut [u8]) -> Split<'_> {
    Split::new(packet, SEGMENTS, Some(PARTIAL)).expect("it can be cut")
}

/// Cuts and seals a super-packet, each packet behind the one before.
fn seal(sa: &OutboundSa, packet: &mut [u8], out: &mut [u8]) -> usize {
    let mut split = split(packet);
    let mut run = sa.run(split.count() as u32, split.octets() as u64).expect("numbers are left");
    let mut len = 0;
    while let Some(packet) = split.advance() {
        len += run.seal(41, packet, &mut out[len..]).expect("the buffer fits");
    }
    len
}

fn cut(criterion: &mut Criterion) {
    let whole = super_packet();
    let mut group = criterion.benchmark_group("split");
    group.throughput(Throughput::Bytes(SUPER as u64));
    group.bench_function("alone", |bencher| {
        bencher.iter_batched_ref(
            || whole.clone(),
            |packet| {
                let mut split = split(packet);
                while let Some(packet) = split.advance() {
                    black_box(packet);
                }
            },
            BatchSize::SmallInput,
        );
    });
    let mut out = vec![0; 2 * SUPER];
    for suite in [EspSuite::Aes256GcmIiv, EspSuite::ChaCha20Poly1305Iiv] {
        let sa = OutboundSa::new(params(suite)).expect("the key fits");
        group.bench_function(format!("and seal with {suite}"), |bencher| {
            bencher.iter_batched_ref(
                || whole.clone(),
                |packet| seal(&sa, packet, &mut out),
                BatchSize::SmallInput,
            );
        });
    }
}

/// Counts what comes out, as a TUN would.
fn deliver(packets: &mut u64) -> impl FnMut(&mut PacketBuffer, Joined) {
    |buffer, joined| {
        black_box(buffer.packet());
        *packets += joined.packets;
    }
}

fn join(criterion: &mut Criterion) {
    let accepts = Accepts { tcp: true, udp: true };
    let mut whole = super_packet();
    let mut cut = split(&mut whole);
    let mut packets = Vec::new();
    while let Some(packet) = cut.advance() {
        packets.push(packet.to_vec());
    }
    let mut group = criterion.benchmark_group("coalesce");
    group.throughput(Throughput::Bytes(SUPER as u64));
    let mut coalescer = Coalescer::new(accepts);
    group.bench_function("alone", |bencher| {
        bencher.iter(|| {
            let mut out = 0;
            for packet in &packets {
                let room = coalescer.room(packet.len(), &mut deliver(&mut out));
                room[..packet.len()].copy_from_slice(packet);
                coalescer.keep(packet.len(), &mut deliver(&mut out));
            }
            coalescer.flush(&mut deliver(&mut out));
            assert_eq!(out, COUNT as u64);
        });
    });
    for suite in [EspSuite::Aes256GcmIiv, EspSuite::ChaCha20Poly1305Iiv] {
        let outbound = OutboundSa::new(params(suite)).expect("the key fits");
        let len = outbound.sealed_len(packets[0].len());
        let mut sealed = vec![0; 2 * SUPER];
        let octets = seal(&outbound, &mut super_packet(), &mut sealed);
        group.bench_function(format!("open with {suite} and"), |bencher| {
            bencher.iter_batched_ref(
                || InboundSa::new(params(suite)).expect("the key fits"),
                |sa| {
                    let mut out = 0;
                    let mut opener = sa.lock();
                    for datagram in sealed[..octets].chunks(len) {
                        let room = coalescer.room(datagram.len(), &mut deliver(&mut out));
                        let opened = opener.open(datagram, room).expect("authentic and new");
                        coalescer.keep(opened.len, &mut deliver(&mut out));
                    }
                    coalescer.flush(&mut deliver(&mut out));
                    assert_eq!(out, COUNT as u64);
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, cut, join);
criterion_main!(benches);
