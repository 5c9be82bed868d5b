//! What is persisted of the bindings, in batches: a crash loses at most the last second, which costs nothing but a
//! Binding Update, because a node's next number is higher than any that was lost.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::Agent;
use super::cache::{Binding, Extra, Second, host};

/// Changes wait this long for company.
const DELAY: Duration = Duration::from_secs(1);
/// Changes of one batch.
const BATCH: usize = 4096;

/// A binding as it is stored, one for each prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub prefix: Ipv6Net,
    /// Whose it is; its own address is a /128 among the prefixes.
    pub sender: Ipv6Addr,
    /// Where it was proven to be.
    pub care_of: SocketAddrV4,
    /// Of the sender's last update.
    pub sequence: u16,
    /// How long it has still to live; store it as a time of day.
    pub remaining: Duration,
}

/// One change for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Insert, or replace what has this prefix.
    Put(Row),
    /// Delete what has this prefix, if there is anything.
    Delete(Ipv6Net),
}

/// Prefixes whose rows are out of date.
#[derive(Default)]
pub(super) struct Unsaved {
    prefixes: BTreeSet<Ipv6Net>,
    since: Option<Instant>,
}

impl Unsaved {
    pub(super) fn mark(&mut self, now: Instant, prefix: Ipv6Net) {
        self.prefixes.insert(prefix);
        self.since.get_or_insert(now);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| if self.prefixes.len() < BATCH { since + DELAY } else { since })
    }
}

impl Agent {
    /// The next batch for the store; empty when nothing is due. Call it until it is empty, each time `poll_timeout` is
    /// over; with `all` (the program ends) nothing waits.
    pub fn take_changes(&mut self, now: Instant, all: bool) -> Vec<Change> {
        if !all && self.unsaved.deadline().is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(prefix) = self.unsaved.prefixes.pop_first()
        {
            batch.push(self.row(now, prefix).map_or(Change::Delete(prefix), Change::Put));
        }
        // What is left has waited long enough.
        if self.unsaved.prefixes.is_empty() {
            self.unsaved.since = None;
        }
        batch
    }

    /// The row of a prefix, if it is bound to a proven address.
    fn row(&self, now: Instant, prefix: Ipv6Net) -> Option<Row> {
        let extra = self.cache.extra(prefix);
        let sender = match extra {
            Some(extra) => extra.sender,
            None => Some(prefix.addr()).filter(|_| prefix.prefix_len() == 128)?,
        };
        let binding = self.cache.binding(sender)?;
        let expires = extra.map_or_else(|| binding.expires(), |extra| extra.expires);
        let remaining = Duration::from_secs(u64::from(expires.checked_sub(self.second(now))?));
        Some(Row { prefix, sender, care_of: binding.care_of()?, sequence: binding.sequence, remaining })
    }

    /// Every row, for a first fill of the store or for `status`.
    pub fn rows(&self, now: Instant) -> impl Iterator<Item = Row> {
        let prefixes = self.cache.bindings().map(|(sender, _)| host(sender));
        let extras = self.cache.extras().map(|(prefix, _)| prefix);
        prefixes.chain(extras).filter_map(move |prefix| self.row(now, prefix))
    }

    /// Takes up what an earlier run stored; only into an agent without bindings. Rows whose time is over, and prefixes
    /// of senders that are not among them, are left out. No events: fill the data plane from
    /// [`routes`](Self::routes).
    pub fn restore(&mut self, now: Instant, rows: impl IntoIterator<Item = Row>) {
        let start = self.second(now);
        let (mut bindings, mut extras) = (Vec::new(), Vec::new());
        for row in rows {
            let seconds = Second::try_from(row.remaining.as_secs()).unwrap_or(Second::MAX);
            let expires = start.saturating_add(seconds.min(self.config.max_lifetime.as_secs()));
            if seconds == 0 {
                continue;
            }
            if row.prefix == host(row.sender) {
                bindings.push((row.sender, Binding::new(Some(row.care_of), row.sequence, expires)));
            } else {
                extras.push((row.prefix.trunc(), Extra { sender: row.sender, expires }));
            }
        }
        self.cache.fill(bindings, extras);
    }
}
