//! Two whole machines on a hostile network, seed after seed. `DOMICILE_SEEDS=n` sets how many, `DOMICILE_SEED=n` runs
//! one of them and prints what happens, `DOMICILE_FROM=n` begins elsewhere than at 0.
#![expect(clippy::print_stdout, reason = "the result is for people")]
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::env;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use domicile::sim::world::{Report, World};

const SEEDS: u64 = 10_000;
/// After so many violations there is enough to look at.
const ENOUGH: usize = 20;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn run(seed: u64, start: Instant, trace: bool) -> Result<Report, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| World::run(seed, start, trace)));
    match outcome {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(violation)) => Err(format!("{}\n{violation}", violation.trace.join("\n"))),
        Err(_) => Err(format!("DOMICILE_SEED={seed}: it panicked, see above")),
    }
}

#[test]
fn every_seed_settles_and_breaks_no_rule() {
    let start = Instant::now();
    if let Some(seed) = number("DOMICILE_SEED") {
        let report = run(seed, start, true).unwrap_or_else(|violation| panic!("{violation}"));
        println!("{}\n{:?} {}", report.trace.join("\n"), report.datagrams, report.settled_after);
        return;
    }
    let count = number("DOMICILE_SEEDS").unwrap_or(SEEDS);
    let from = number("DOMICILE_FROM").unwrap_or(0);
    let next = AtomicU64::new(from);
    let violations = Mutex::new(Vec::new());
    let slowest = AtomicU64::new(0);
    let delivered = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || violations.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    match run(seed, start, false) {
                        Ok(report) => {
                            slowest.fetch_max(report.settled_after, Ordering::Relaxed);
                            delivered.fetch_add(report.delivered as u64, Ordering::Relaxed);
                        }
                        Err(violation) => violations.lock().unwrap().push(violation),
                    }
                }
            });
        }
    });
    let violations = violations.into_inner().unwrap();
    let ran = next.into_inner().min(from + count) - from;
    // Not by println, which the test harness keeps to itself when all is well.
    writeln!(
        std::io::stdout(),
        "{ran} seeds, {} violations in {:.1} s; {} packets delivered; the slowest settled after {} s",
        violations.len(),
        start.elapsed().as_secs_f64(),
        delivered.into_inner(),
        slowest.into_inner()
    )
    .unwrap();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
