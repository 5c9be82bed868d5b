//! What one packet costs: `cargo bench --bench esp`. The sizes are a full inner packet and a bare acknowledgement.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use domicile::crypto::suite::EspSuite;
use domicile::esp::replay::ReplayWindow;
use domicile::esp::{InboundSa, OutboundSa};

mod support;
use support::params;

const SIZES: [usize; 2] = [72, 1_380];

fn outbound(suite: EspSuite) -> OutboundSa {
    OutboundSa::new(params(suite)).expect("the key fits")
}

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    for suite in EspSuite::ALL {
        for size in SIZES {
            let sa = outbound(suite);
            let (inner, mut out) = (vec![3; size], vec![0; 2_048]);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(suite.name(), size), |bencher| {
                bencher.iter(|| {
                    let sequence = sa.assign(1).expect("numbers are left");
                    sa.seal(sequence, 41, black_box(&inner), &mut out)
                });
            });
        }
    }
}

/// Each packet can be opened once, so a batch is sealed beforehand for a fresh SA.
fn open(criterion: &mut Criterion) {
    const BATCH: usize = 64;
    let mut group = criterion.benchmark_group("open");
    for suite in EspSuite::ALL {
        for size in SIZES {
            let sa = outbound(suite);
            let packets: Vec<Vec<u8>> = (0..BATCH)
                .map(|_| {
                    let mut packet = vec![0; sa.sealed_len(size)];
                    let sequence = sa.assign(1).expect("numbers are left");
                    sa.seal(sequence, 41, &vec![3; size], &mut packet).expect("the buffer fits");
                    packet
                })
                .collect();
            let mut out = vec![0; 2_048];
            group.throughput(Throughput::Bytes((size * BATCH) as u64));
            group.bench_function(BenchmarkId::new(suite.name(), size), |bencher| {
                bencher.iter_batched_ref(
                    || InboundSa::new(params(suite)).expect("the key fits"),
                    |sa| {
                        let mut opener = sa.lock();
                        for packet in &packets {
                            black_box(opener.open(packet, &mut out).expect("authentic and new"));
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.bench_function("in order", |bencher| {
        let (mut window, mut sequence) = (ReplayWindow::new(), 0);
        bencher.iter(|| {
            sequence += 1;
            window.commit(black_box(sequence))
        });
    });
    group.bench_function("every second packet late", |bencher| {
        let (mut window, mut sequence) = (ReplayWindow::new(), 64);
        bencher.iter(|| {
            sequence += 2;
            (window.commit(black_box(sequence)), window.commit(black_box(sequence - 63)))
        });
    });
}

criterion_group!(benches, seal, open, replay);
criterion_main!(benches);
