//! What it costs to find the SA of a packet, and to decide about a relayed one: `cargo bench --bench tables`.
//!
//! `few`: the packets belong to ten SAs, whatever else is installed. `all`: each packet belongs to another SA, so that
//! with 100,000 of them the caches of the CPU hold none; that is what so much traffic costs anybody.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use domicile::addr::home::Homes;
use domicile::addr::six_to_four::home_prefix;
use domicile::crypto::secret::Secret;
use domicile::crypto::suite::EspSuite;
use domicile::dataplane::event::UdpPath;
use domicile::dataplane::relay::{self, Limits as Rates, Rate, Relay, Roles, Verdict};
use domicile::dataplane::tables::{self, Outbound, Publisher, Reader};
use domicile::esp::{InboundSa, Limits, OutboundSa, SaParams};
use domicile::wire::ip::write_header;
use ipnet::Ipv6Net;

const COUNTS: [u32; 2] = [10, 100_000];
const LOCAL: Ipv6Addr = Ipv6Addr::new(0x2002, 0xc633, 0x6401, 1, 0, 0, 0, 1);

fn remote(at: u32) -> Ipv6Addr {
    Ipv6Addr::new(0x2002, 0xc633, 0x6402, (at >> 16) as u16, 0, at as u16, 0, 1)
}

/// Random as real ones are, and no two alike.
fn spi(at: u32) -> u32 {
    256 + at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % 0xffff_fe00
}

fn install(publisher: &mut Publisher, at: u32) {
    let suite = EspSuite::Aes256GcmIiv;
    let params = SaParams {
        spi: spi(at),
        local: LOCAL,
        remote: remote(at),
        suite,
        esn: true,
        key: Secret::new(vec![7; suite.keymat_len()]),
        limits: Limits::NONE,
    };
    let path = UdpPath::direct(
        SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 4500),
        SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + at), 4500),
    );
    let outbound = OutboundSa::new(params.clone()).expect("the key fits");
    publisher.install_inbound(Arc::new(InboundSa::new(params).expect("the key fits")));
    publisher.set_outbound(LOCAL, remote(at), Outbound::new(Arc::new(outbound), path, 1_380));
}

fn installed(count: u32) -> (Publisher, Reader) {
    let (mut publisher, reader) = tables::new();
    (0..count).for_each(|at| install(&mut publisher, at));
    (publisher, reader)
}

/// One packet after the other, of SAs that have nothing to do with each other.
fn in_turn(limit: u32) -> impl FnMut() -> u32 {
    let mut at = 0_u32;
    move || {
        at = (at + 7_919) % limit;
        at
    }
}

/// The SA of a packet, and one packet of 72 octets sealed with it.
fn outbound(group: &mut BenchmarkGroup<'_, WallTime>, reader: &Reader, name: &str, count: u32, used: u32) {
    let mut next = in_turn(used);
    group.bench_function(BenchmarkId::new(format!("outbound, {name}"), count), |bencher| {
        bencher.iter(|| reader.outbound(LOCAL, black_box(remote(next()))).expect("it is there"));
    });
    let mut out = [0; 128];
    group.bench_function(BenchmarkId::new(format!("outbound and seal, {name}"), count), |bencher| {
        bencher.iter(|| {
            let found = reader.outbound(LOCAL, black_box(remote(next()))).expect("it is there");
            let sequence = found.sa.assign(1).expect("numbers are left");
            found.sa.seal(sequence, 41, &[3; 72], &mut out)
        });
    });
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    for count in COUNTS {
        let (_publisher, reader) = installed(count);
        for (name, used) in [("few", 10), ("all", count)] {
            outbound(&mut group, &reader, name, count, used);
            let mut next = in_turn(used);
            group.bench_function(BenchmarkId::new(format!("inbound, {name}"), count), |bencher| {
                bencher.iter(|| reader.inbound(black_box(spi(next()))).expect("it is there"));
            });
        }
    }
}

/// Installing one more, as each rekey does.
fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for count in COUNTS {
        let (mut publisher, _reader) = installed(count);
        let mut next = in_turn(count);
        group.bench_function(BenchmarkId::new("one SA pair", count), |bencher| {
            bencher.iter(|| install(&mut publisher, next()));
        });
    }
}

const HOME: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

fn member(at: u32) -> (Ipv6Addr, SocketAddrV4) {
    let [a, b, c, ..] = home_prefix(HOME).addr().segments();
    let address = Ipv6Addr::new(a, b, c, 1, 0, (at >> 16) as u16 + 1, at as u16, 1);
    (address, SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + at), 4500))
}

/// A home agent forwards between two of its members: both have bindings.
fn relayed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay");
    let boundless = Rate { per_second: u64::MAX >> 8, burst: Duration::from_secs(1) };
    let limits = Rates { source: boundless, binding: boundless, ..Rates::default() };
    for count in COUNTS {
        let (mut publisher, reader) = relay::new();
        let homes = Homes::new(vec![], false);
        publisher.set_roles(Roles { local: [].into(), home: Some(home_prefix(HOME)), homes });
        publisher.bind_all((0..count).map(|at| (Ipv6Net::from(member(at).0), member(at).1)));
        let mut relay = Relay::new(reader, limits, [7; 16]);
        let mut packet = vec![0xab; 40 + 1_404];
        let ((source, from), (destination, _)) = (member(1), member(count - 1));
        let header = packet.first_chunk_mut().expect("room for a header");
        write_header(header, source, destination, 50, 64, 1_404);
        let mut now = Duration::ZERO;
        group.bench_function(BenchmarkId::new("decide and rewrite", count), |bencher| {
            bencher.iter(|| {
                now += Duration::from_micros(1);
                let verdict = relay.decide(black_box(&packet), from, now);
                let Verdict::Forward { to, hop_limit } = verdict else {
                    panic!("not forwarded: {verdict:?}")
                };
                relay::rewrite(&mut packet, black_box(hop_limit) + 1);
                to
            });
        });
    }
}

criterion_group!(benches, lookup, publish, relayed);
criterion_main!(benches);
