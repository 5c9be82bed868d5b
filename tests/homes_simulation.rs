//! Homes, machines behind NATs that move, a hostile network: seed after seed, at least 2,000 and as many as fit some minutes.
//! `DOMICILE_HOME_SEEDS=n` sets how many, `DOMICILE_HOME_SEED=n` runs one of them and prints what happens, `DOMICILE_HOME_FROM=n` begins elsewhere than at 0.
#![expect(clippy::print_stdout, reason = "the result is for people")]
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::env;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use domicile::sim::homes::world::{Report, World};

/// Unless told how many.
const SEEDS: u64 = 2_000;
/// More of them are for whoever looks for something.
const MOST_SEEDS: u64 = 12_000;
const BUDGET: Duration = Duration::from_secs(240);
/// After so many violations there is enough to look at.
const ENOUGH: usize = 20;
/// Lines of the record of a violation.
const SHOWN: usize = 60;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn run(seed: u64, start: Instant, trace: bool) -> Result<Report, (String, Vec<String>)> {
    match catch_unwind(AssertUnwindSafe(|| World::run(seed, start, trace))) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(mut violation)) => {
            let trace = std::mem::take(&mut violation.trace);
            Err((violation.to_string().replace("DOMICILE_SEED", "DOMICILE_HOME_SEED"), trace))
        }
        Err(_) => Err((format!("DOMICILE_HOME_SEED={seed}: it panicked, see above"), Vec::new())),
    }
}

#[derive(Default)]
struct Sums {
    slowest: u64,
    settled: Vec<u64>,
    delivered: usize,
    conversations: [usize; 3],
}

#[test]
fn whoever_may_talk_talks_and_nobody_else() {
    let start = Instant::now();
    if let Some(seed) = number("DOMICILE_HOME_SEED") {
        match run(seed, start, true) {
            Ok(report) => {
                println!("{}\n{:?} {}", report.trace.join("\n"), report.datagrams, report.settled_after)
            }
            Err((violation, trace)) => panic!("{}\n{violation}", trace.join("\n")),
        }
        return;
    }
    let count = number("DOMICILE_HOME_SEEDS");
    // With a number these and no others.
    let enough = |done: u64| match count {
        Some(count) => done >= count,
        None => done >= MOST_SEEDS || done >= SEEDS && start.elapsed() >= BUDGET,
    };
    let from = number("DOMICILE_HOME_FROM").unwrap_or(0);
    let next = AtomicU64::new(from);
    let violations = Mutex::new(Vec::new());
    let sums = Mutex::new(Sums::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if enough(seed - from) || violations.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    match run(seed, start, false) {
                        Ok(report) => {
                            let mut sums = sums.lock().unwrap();
                            sums.slowest = sums.slowest.max(report.settled_after);
                            sums.settled.push(report.settled_after);
                            sums.delivered += report.delivered;
                            for (sum, count) in sums.conversations.iter_mut().zip(report.conversations) {
                                *sum += count;
                            }
                        }
                        Err((violation, _)) => violations.lock().unwrap().push((seed, violation)),
                    }
                }
            });
        }
    });
    let mut violations = violations.into_inner().unwrap();
    let mut sums = sums.into_inner().unwrap();
    let ran = sums.settled.len() + violations.len();
    sums.settled.sort_unstable();
    let part =
        |thousandths: usize| sums.settled.get(sums.settled.len() * thousandths / 1000).copied().unwrap_or(0);
    let [worked, direct, refused] = sums.conversations;
    // Not by println, which the test harness keeps to itself when all is well.
    writeln!(
        std::io::stdout(),
        "{ran} seeds, {} violations in {:.1} s; {} packets delivered; {worked} conversations worked, {direct} of them \
         directly, {refused} were refused; settled after {} s (median), {} s (99 %), {} s (slowest)",
        violations.len(),
        start.elapsed().as_secs_f64(),
        sums.delivered,
        part(500),
        part(990),
        sums.slowest,
    )
    .unwrap();
    violations.sort();
    // The same seed does the same again: the end of its record tells what led there.
    if let Some((seed, _)) = violations.first()
        && let Err((_, trace)) = run(*seed, start, true)
    {
        println!("{}", trace.get(trace.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n"));
    }
    let lines: Vec<String> = violations.into_iter().map(|(_, violation)| violation).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
