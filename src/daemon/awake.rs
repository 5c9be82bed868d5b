//! Keeps the CPUs awake while much is carried, where that helps (decision 0019).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::dataplane::counters::Summary;
use crate::io::wakefulness;

/// How long is looked at how much it is.
const PERIOD: Duration = Duration::from_millis(100);
/// So many packets in a period, in both directions together, are much: a quarter of a gigabit a second of large ones.
const MUCH: u64 = 2_000;
/// So many periods with less, and the CPUs may sleep.
const CALM: u32 = 5;

/// Watches until it is dropped.
pub(super) struct Watch {
    task: tokio::task::JoinHandle<()>,
    is_awake: Arc<AtomicBool>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Begins, if it helps on this machine.
    pub(super) fn start(summary: Summary) -> Option<Self> {
        if !wakefulness::can_help() {
            return None;
        }
        let is_awake = Arc::<AtomicBool>::default();
        let task = tokio::spawn(watch(summary, Arc::clone(&is_awake), || {
            let held = wakefulness::hold();
            held.inspect_err(
                |error| tracing::info!(%error, "idle CPUs halt while packets are carried, which is slower"),
            )
            .ok()
        }));
        Some(Self { task, is_awake })
    }

    /// Whether they are kept awake at the moment; `None`: it was tried, and may not be.
    pub(super) fn is_awake(&self) -> Option<bool> {
        (!self.task.is_finished()).then(|| self.is_awake.load(Ordering::Relaxed))
    }
}

/// Nothing is done, and no timer runs, until workers say that there is much at once. It ends when that cannot be.
async fn watch<Held>(summary: Summary, is_awake: Arc<AtomicBool>, hold: impl Fn() -> Option<Held>) {
    loop {
        summary.bulk().begins().await;
        let mut held = None;
        // One look is enough to see that it was no more than a super-packet now and then.
        let mut calm = CALM - 1;
        let mut carried = packets(&summary);
        while calm < CALM {
            tokio::time::sleep(PERIOD).await;
            let last = std::mem::replace(&mut carried, packets(&summary));
            if carried.saturating_sub(last) < MUCH {
                calm += 1;
            } else {
                calm = 0;
                held = held.or_else(&hold);
                if held.is_none() {
                    return;
                }
            }
            is_awake.store(held.is_some(), Ordering::Relaxed);
        }
        drop(held);
        is_awake.store(false, Ordering::Relaxed);
    }
}

fn packets(summary: &Summary) -> u64 {
    let totals = summary.totals();
    totals.datagrams_sent.wrapping_add(totals.received_packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_is_tried_once() {
        let mut summary = Summary::default();
        let worker = summary.add_worker();
        let is_awake = Arc::<AtomicBool>::default();
        let tries = Arc::<AtomicBool>::default();
        let hold = {
            let tries = Arc::clone(&tries);
            move || -> Option<()> {
                assert!(!tries.swap(true, Ordering::Relaxed), "tried again");
                None
            }
        };
        let task = tokio::spawn(watch(summary, Arc::clone(&is_awake), hold));
        let watch = Watch { task, is_awake };
        assert_eq!(watch.is_awake(), Some(false));
        for _ in 0..20 {
            let before = worker.received_packets();
            worker.received(MUCH, 1380 * MUCH);
            worker.end_batch(before);
            tokio::time::sleep(PERIOD).await;
        }
        assert_eq!((watch.is_awake(), tries.load(Ordering::Relaxed)), (None, true));
    }

    #[tokio::test(start_paused = true)]
    async fn awake_while_there_is_much_and_not_long_after() {
        let mut summary = Summary::default();
        let worker = summary.add_worker();
        let is_awake = Arc::<AtomicBool>::default();
        let request = Arc::new(());
        let hold = {
            let request = Arc::clone(&request);
            move || Some(Arc::clone(&request))
        };
        let task = tokio::spawn(watch(summary, Arc::clone(&is_awake), hold));
        // One is this test's, one is what makes others.
        let state = || (is_awake.load(Ordering::Relaxed), Arc::strong_count(&request) - 2);

        let batch = |packets| {
            let before = worker.received_packets();
            worker.received(packets, 1380 * packets);
            worker.end_batch(before);
        };
        // A super-packet now and then.
        for _ in 0..20 {
            batch(45);
            tokio::time::sleep(PERIOD).await;
            assert_eq!(state(), (false, 0));
        }
        // Bulk, with a pause that is too short.
        for _ in 0..20 {
            batch(MUCH);
            tokio::time::sleep(PERIOD).await;
        }
        assert_eq!(state(), (true, 1));
        tokio::time::sleep(PERIOD * (CALM - 2)).await;
        batch(MUCH);
        tokio::time::sleep(PERIOD * 2).await;
        assert_eq!(state(), (true, 1));
        // The end of it.
        tokio::time::sleep(PERIOD * (CALM + 2)).await;
        assert_eq!(state(), (false, 0));
        task.abort();
    }
}
