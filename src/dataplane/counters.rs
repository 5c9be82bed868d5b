//! What the workers count, and how often they may log. A worker writes to counters of its own; the control plane
//! reads all of them without locks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::batch::SendReport;
use super::bulk::Bulk;
use super::relay::{self, Refusal};

/// Time since some moment before the start of the workers, the same for all of them, never going back.
pub type Clock = fn() -> Duration;

macro_rules! drops {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a packet was dropped. `status` shows these names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that `status` and logs use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

drops! {
    /// Out: not a whole IPv6 packet, or its hop limit is 0. In: not ESP, or not a whole IPv6 packet inside.
    Malformed => "malformed",
    /// Out: not IPv6.
    NotIpv6 => "not_ipv6",
    /// Out: what the kernel says about a super-packet or a checksum to complete does not fit the packet.
    BadOffload => "bad_offload",
    /// Out: the source is not one of our permanent addresses.
    ForeignSource => "foreign_source",
    /// Out: the destination is multicast, unspecified, loopback or link-local.
    NotUnicast => "not_unicast",
    /// Out: larger than the path allows; answered with Packet Too Big.
    TooBig => "too_big",
    /// Out: no policy or an explicit DISCARD; answered with administratively prohibited.
    Discard => "discard",
    /// Out: the policy says BYPASS, but the packet was routed to us.
    Bypass => "bypass",
    /// The control plane's queue was full.
    QueueFull => "queue_full",
    /// Out: the SA is used up and no other one is there yet.
    Exhausted => "exhausted",
    /// In: seen before.
    Replayed => "replayed",
    /// In: older than the replay window.
    TooOld => "too_old",
    /// In: the integrity check value is wrong.
    Integrity => "integrity",
    /// In: authentic, but with bad padding.
    Padding => "padding",
    /// In: no SA with this SPI.
    UnknownSpi => "unknown_spi",
    /// In: authentic, but the inner addresses are not those of the SA.
    Selectors => "selectors",
    /// In: authentic, but neither IPv6 nor a dummy.
    NextHeader => "next_header",
    /// In: congestion was marked on the way, but the inner packet cannot carry the mark (RFC 6040 §4.2).
    Congestion => "congestion",
    /// In: an authentic dummy packet (RFC 4303 §2.6): not a fault.
    Dummy => "dummy",
    /// In: a relayed ICMPv6 error: nobody proved it, and nothing depends on it.
    Hint => "hint",
    /// In: an IKE message longer than any that we understand.
    IkeTooLong => "ike_too_long",
    /// In: the datagram was cut short on receipt, or came without its local address.
    Truncated => "truncated",
    /// The TUN refused a packet.
    TunWrite => "tun_write",
    /// The outer datagram was larger than the path's MTU.
    SendTooBig => "send_too_big",
    /// No route for the outer datagram.
    SendUnreachable => "send_unreachable",
    /// A packet filter forbade the outer datagram.
    SendForbidden => "send_forbidden",
    /// The send buffer stayed full.
    SendCongested => "send_congested",
    /// The outer datagram could not be sent for another reason.
    SendFailed => "send_failed",
}

impl DropReason {
    /// True when somebody broke a rule: worth a line in the log.
    pub const fn is_violation(self) -> bool {
        matches!(
            self,
            Self::ForeignSource
                | Self::Replayed
                | Self::Integrity
                | Self::Padding
                | Self::Selectors
                | Self::NextHeader
        )
    }
}

/// Packets and inner octets that went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets sealed.
    pub sent_packets: u64,
    /// Their inner octets.
    pub sent_bytes: u64,
    /// Packets opened and delivered.
    pub received_packets: u64,
    /// Their inner octets.
    pub received_bytes: u64,
    /// Datagrams that reached the outer socket.
    pub datagrams_sent: u64,
    /// NAT keepalives received.
    pub keepalives: u64,
}

/// The counters of one worker. Only that worker writes, so an increment is a load and a store; anybody reads.
#[derive(Default)]
pub struct Counters {
    drops: [AtomicU64; DropReason::ALL.len()],
    sent: Traffic,
    received: Traffic,
    datagrams_sent: AtomicU64,
    keepalives: AtomicU64,
    /// The same for all workers.
    bulk: Arc<Bulk>,
}

#[derive(Default)]
struct Traffic {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    fn add(&self, packets: u64, bytes: u64) {
        bump(&self.packets, packets);
        bump(&self.bytes, bytes);
    }
}

/// A read-modify-write is not needed with one writer; a plain add is free on every machine.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl Counters {
    /// Counts a dropped packet.
    pub fn count_drop(&self, reason: DropReason) {
        self.count_drops(reason, 1);
    }

    /// Counts dropped packets.
    pub fn count_drops(&self, reason: DropReason, count: u64) {
        if let Some(counter) = self.drops.get(reason as usize) {
            bump(counter, count);
        }
    }

    /// Counts sealed packets and their inner octets.
    pub fn sent(&self, packets: u64, octets: u64) {
        self.sent.add(packets, octets);
    }

    /// Counts delivered packets and their inner octets.
    pub fn received(&self, packets: u64, octets: u64) {
        self.received.add(packets, octets);
    }

    /// Packets delivered.
    pub fn received_packets(&self) -> u64 {
        self.received.packets.load(Ordering::Relaxed)
    }

    /// A batch was worked off; `before` it, so many packets had been delivered.
    pub fn end_batch(&self, before: u64) {
        self.bulk.note(self.received_packets().wrapping_sub(before));
    }

    /// Counts a NAT keepalive.
    pub fn keepalive(&self) {
        bump(&self.keepalives, 1);
    }

    /// Counts what the socket did.
    pub fn report(&self, report: SendReport) {
        bump(&self.datagrams_sent, report.sent);
        self.bulk.note(report.sent);
        self.count_drops(DropReason::SendTooBig, report.too_big);
        self.count_drops(DropReason::SendUnreachable, report.unreachable);
        self.count_drops(DropReason::SendForbidden, report.forbidden);
        self.count_drops(DropReason::SendCongested, report.congested);
        self.count_drops(DropReason::SendFailed, report.failed);
    }

    /// Packets dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// What went through.
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            sent_packets: read(&self.sent.packets),
            sent_bytes: read(&self.sent.bytes),
            received_packets: read(&self.received.packets),
            received_bytes: read(&self.received.bytes),
            datagrams_sent: read(&self.datagrams_sent),
            keepalives: read(&self.keepalives),
        }
    }
}

/// The counters of all workers, for the control plane.
#[derive(Clone, Default)]
pub struct Summary {
    workers: Vec<Arc<Counters>>,
    relays: Vec<Arc<relay::Counters>>,
    bulk: Arc<Bulk>,
}

impl Summary {
    /// Counters for one more worker.
    pub fn add_worker(&mut self) -> Arc<Counters> {
        let counters = Arc::new(Counters { bulk: Arc::clone(&self.bulk), ..Counters::default() });
        self.workers.push(Arc::clone(&counters));
        counters
    }

    /// What the workers say when they carry many packets at once.
    pub fn bulk(&self) -> &Bulk {
        &self.bulk
    }

    /// One more relay.
    pub fn add_relay(&mut self, counters: Arc<relay::Counters>) {
        self.relays.push(counters);
    }

    /// Dropped packets by reason, those that a relay refused among them; reasons that never happened are left out.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let dropped = DropReason::ALL.iter().map(|reason| {
            (reason.name(), self.workers.iter().map(|worker| worker.dropped(*reason)).sum::<u64>())
        });
        let refused = Refusal::ALL
            .iter()
            .map(|refusal| (refusal.name(), self.relays.iter().map(|relay| relay.of(*refusal)).sum()));
        dropped
            .chain(refused)
            .filter(|(_, count)| *count != 0)
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect()
    }

    /// What the relays passed on, delivered and answered; what never happened is left out.
    pub fn relayed(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (name, count) in self.relays.iter().flat_map(|relay| relay.passed()) {
            *sums.entry(name).or_default() += count;
        }
        sums
    }

    /// What went through all of them.
    pub fn totals(&self) -> Totals {
        self.workers.iter().map(|worker| worker.totals()).fold(Totals::default(), |sum, one| Totals {
            sent_packets: sum.sent_packets + one.sent_packets,
            sent_bytes: sum.sent_bytes + one.sent_bytes,
            received_packets: sum.received_packets + one.received_packets,
            received_bytes: sum.received_bytes + one.received_bytes,
            datagrams_sent: sum.datagrams_sent + one.datagrams_sent,
            keepalives: sum.keepalives + one.keepalives,
        })
    }
}

/// Lets through `burst` things per second, counted in whole seconds of the caller's clock.
#[derive(Clone, Debug)]
pub struct RateLimit {
    burst: u32,
    second: u64,
    used: u32,
    suppressed: u64,
}

impl RateLimit {
    /// A limit of `burst` per second.
    pub const fn new(burst: u32) -> Self {
        Self { burst, second: 0, used: 0, suppressed: 0 }
    }

    /// `Some(n)` when this one may pass; `n` were held back since the last one that passed.
    pub fn allow(&mut self, now: Duration) -> Option<u64> {
        if self.second != now.as_secs() {
            self.second = now.as_secs();
            self.used = 0;
        }
        if self.used >= self.burst {
            self.suppressed += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Violations that a worker logs per second.
const LOGGED_PER_SECOND: u32 = 2;

/// Logs rule violations at a limited rate; everything else only at TRACE.
#[derive(Clone, Debug)]
pub struct ViolationLog {
    limit: RateLimit,
}

impl ViolationLog {
    /// Nothing logged yet.
    pub const fn new() -> Self {
        Self { limit: RateLimit::new(LOGGED_PER_SECOND) }
    }

    /// A packet was dropped. `spi` is 0 where there is none, `from` tells which side it came from; the clock is
    /// read only where it matters.
    pub fn note(&mut self, clock: Clock, reason: DropReason, spi: u32, from: &dyn Display) {
        if !reason.is_violation() {
            tracing::trace!(reason = reason.name(), spi, %from, "packet dropped");
        } else if let Some(suppressed) = self.limit.allow(clock()) {
            tracing::warn!(reason = reason.name(), spi = format_args!("{spi:#010x}"), %from, suppressed, "packet dropped");
        }
    }
}

impl Default for ViolationLog {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_snake_case() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let mut summary = Summary::default();
        let (first, second) = (summary.add_worker(), summary.add_worker());
        for reason in DropReason::ALL {
            first.count_drop(*reason);
        }
        second.count_drop(DropReason::Replayed);
        let drops = summary.drops();
        assert_eq!(drops.len(), DropReason::ALL.len());
        assert_eq!(drops["replayed"], 2);
        assert_eq!(drops["integrity"], 1);
    }

    #[test]
    fn the_limit_opens_again_each_second() {
        let mut limit = RateLimit::new(2);
        let at = Duration::from_millis;
        assert_eq!(
            [limit.allow(at(5_100)), limit.allow(at(5_200)), limit.allow(at(5_900))],
            [Some(0), Some(0), None]
        );
        assert_eq!(limit.allow(at(6_000)), Some(1));
    }
}
