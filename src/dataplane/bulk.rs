//! Word that many packets go through at once: workers give it, whoever wants to know how much it is waits for it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// So many packets in one system call are many.
const MANY: u64 = 8;

/// A bell that rings once until it is listened for again, so that ringing costs workers next to nothing.
#[derive(Debug, Default)]
pub struct Bulk {
    rung: AtomicBool,
    heard: Notify,
}

impl Bulk {
    /// So many packets went through together.
    pub(super) fn note(&self, packets: u64) {
        // The load comes first: a line of the cache that nobody writes stays with every worker.
        if packets >= MANY && !self.rung.load(Ordering::Relaxed) && !self.rung.swap(true, Ordering::Relaxed) {
            self.heard.notify_one();
        }
    }

    /// Waits for the next time. One waits at most.
    pub async fn begins(&self) {
        self.rung.store(false, Ordering::Relaxed);
        self.heard.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_heard_once_each_time_and_not_for_a_few_packets() {
        let bulk = Bulk::default();
        let heard =
            async |bulk: &Bulk| tokio::time::timeout(Duration::from_secs(1), bulk.begins()).await.is_ok();
        bulk.note(MANY - 1);
        assert!(!heard(&bulk).await);
        bulk.note(MANY);
        bulk.note(MANY);
        assert!(heard(&bulk).await);
        assert!(!heard(&bulk).await);
        let (was_heard, ()) = tokio::join!(heard(&bulk), async { bulk.note(MANY) });
        assert!(was_heard);
    }
}
