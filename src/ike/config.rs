//! What the endpoint is told at start and when the configuration changes.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::policy::pad::Pad;
use crate::policy::spd::Spd;

/// A local entity that may speak IKE.
#[derive(Clone, Debug)]
pub struct LocalEntity {
    /// Its permanent address and IKE identity.
    pub address: Ipv6Addr,
    /// Ed25519 private key seed (32 octets).
    pub signing_key: Secret,
}

/// Lifetimes and timers. Every rekey time is shortened by a random part of `jitter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lifetimes {
    /// A child SA is rekeyed at this age.
    pub child_rekey: Duration,
    /// A child SA ends at this age, whatever happened.
    pub child_hard: Duration,
    /// An IKE SA is rekeyed at this age.
    pub ike_rekey: Duration,
    /// An IKE SA is authenticated anew (make-before-break) at this age, and ends hard at `ike_max`.
    pub reauth: Duration,
    /// An IKE SA ends at this age since its authentication; rekeying does not extend it.
    pub ike_max: Duration,
    /// Largest share of a rekey time that chance takes away, 0.0 to 0.5.
    pub jitter: f64,
    /// Liveness check (RFC 7296 §2.4) after this much silence from the peer while we have something to say.
    pub dpd: Duration,
    /// First retransmission (RFC 7296 §2.4); doubles (times 1.8) each time.
    pub retransmit_first: Duration,
    /// Retransmissions of a request on an established SA before the peer is declared dead.
    pub retransmit_tries: u32,
    /// NAT keepalive interval when we are behind a NAT (RFC 3948 §4).
    pub nat_keepalive: Duration,
    /// Soft limits of a child SA by traffic, in inner octets and packets.
    pub child_bytes: u64,
    /// See `child_bytes`.
    pub child_packets: u64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            child_rekey: Duration::from_secs(3600),
            child_hard: Duration::from_secs(3960),
            ike_rekey: Duration::from_secs(4 * 3600),
            reauth: Duration::from_secs(20 * 3600),
            ike_max: Duration::from_secs(24 * 3600),
            jitter: 0.1,
            dpd: Duration::from_secs(15),
            retransmit_first: Duration::from_millis(500),
            retransmit_tries: 6,
            nat_keepalive: Duration::from_secs(20),
            child_bytes: u64::MAX,
            child_packets: u64::MAX,
        }
    }
}

/// Everything the endpoint knows besides its state.
#[derive(Clone, Debug)]
pub struct Config {
    /// Local entities.
    pub entities: Vec<LocalEntity>,
    /// Who may prove to be whom.
    pub pad: Arc<Pad>,
    /// What is protected, and by which services.
    pub spd: Arc<Spd>,
    /// IKE SA suites in order of preference.
    pub ike_suites: Vec<IkeSuite>,
    /// Child SA suites in order of preference (those with confidentiality; integrity-only is added by policy).
    pub esp_suites: Vec<EspSuite>,
    /// As responder the initiator's order decides among `esp_suites`, not ours: to our CPU all of them are cheap.
    pub esp_yields: bool,
    /// Offer and accept 64-bit sequence numbers.
    pub esn: bool,
    /// Add a key exchange to child rekeys (perfect forward secrecy).
    pub child_pfs: bool,
    /// Timers.
    pub lifetimes: Lifetimes,
    /// Half-open SAs above which COOKIE is demanded (RFC 7296 §2.6); 0 demands it always.
    pub cookie_threshold: usize,
    /// Largest IKE datagram before fragmentation (RFC 7383), outer IPv4 and UDP headers included.
    pub fragment_size: usize,
    /// Emit `Event::IkeKeys` and `Event::ChildKeys` for a key log.
    pub keylog: bool,
}

impl Config {
    /// What is usual for everything that need not be chosen; `fast_aes` says what this CPU is fast at.
    pub fn usual(entities: Vec<LocalEntity>, pad: Pad, spd: Spd, fast_aes: bool) -> Self {
        Self {
            entities,
            pad: Arc::new(pad),
            spd: Arc::new(spd),
            ike_suites: vec![IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm],
            esp_suites: EspSuite::by_speed(fast_aes).to_vec(),
            esp_yields: fast_aes,
            esn: true,
            child_pfs: false,
            lifetimes: Lifetimes::default(),
            cookie_threshold: 64,
            fragment_size: 1280,
            keylog: false,
        }
    }
}
