//! What every IKE SA of an endpoint shares: configuration, randomness, queues, SPIs.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use super::config::{Config, LocalEntity};
use super::cookie::CookieJar;
use super::event::{ChildId, CloseReason, Event, IkeId, Transmit};
use super::rare::Rare;
use super::sa::Sa;
use super::strangers::Strangers;
use crate::crypto::secret::Secret;
use crate::crypto::suite::EspSuite;
use crate::dataplane::event::UdpPath;
use crate::policy::spd::Action;
use crate::wire::esp::spi_is_valid;

/// Late packets still find the inbound half of a deleted child SA for this long.
const DRAIN: Duration = Duration::from_secs(5);

/// Something that one SA asks of the endpoint.
pub(super) enum Deferred {
    /// A new IKE SA takes part from now on.
    Add(Box<Sa>),
    /// This SA was authenticated; `initial_contact`: the peer says that it has no other.
    Established { id: IkeId, initial_contact: bool },
    /// This SA is about to say goodbye because another one took its place: send on a child of that one.
    Leave { id: IkeId },
    /// The child of this SA that the additional ones stood beside is gone: one of them takes its place.
    Lead { id: IkeId },
    /// A child of this SA was deleted: its inbound half stays for a little while, if another child can be sent on.
    Drain { id: IkeId, child: ChildId, spi_in: u32, reason: CloseReason },
    /// This SA ends.
    Remove { id: IkeId, reason: CloseReason },
    /// This SA was rekeyed some time ago, and the peer has not deleted it.
    Retire { id: IkeId, heir: IkeId },
    /// Authenticate anew over this path; the old SA goes when the new one is up.
    Replace { id: IkeId, path: UdpPath },
}

/// The shared part of an endpoint.
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) rng: ChaCha20Rng,
    pub(super) cookies: CookieJar,
    pub(super) strangers: Strangers,
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) events: VecDeque<Event>,
    pub(super) deferred: VecDeque<Deferred>,
    /// Whose inbound child SPI this is.
    pub(super) inbound: HashMap<u32, IkeId>,
    /// Whose outbound child SPI this is. Peers choose these, so two may collide; the last one wins, which costs
    /// the other a liveness check at most.
    pub(super) outbound: HashMap<u32, IkeId>,
    /// Deleted children that still drain.
    pub(super) draining: BTreeMap<(Instant, ChildId), (u32, CloseReason)>,
    /// Pairs that got INITIAL_CONTACT from us.
    pub(super) contacted: BTreeSet<(Ipv6Addr, Ipv6Addr)>,
    /// Refusals of strangers, for the log.
    pub(super) refusals: Rare,
    next_ike: u64,
    next_child: u64,
}

impl Context {
    pub(super) fn new(config: Config, mut rng: ChaCha20Rng, now: Instant) -> Self {
        let cookies = CookieJar::new(now, random_secret(&mut rng));
        Self {
            config,
            rng,
            cookies,
            strangers: Strangers::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            deferred: VecDeque::new(),
            inbound: HashMap::new(),
            outbound: HashMap::new(),
            draining: BTreeMap::new(),
            contacted: BTreeSet::new(),
            refusals: Rare::new(now),
            next_ike: 1,
            next_child: 1,
        }
    }

    pub(super) fn next_ike_id(&mut self) -> IkeId {
        self.next_ike += 1;
        IkeId(self.next_ike)
    }

    pub(super) fn next_child_id(&mut self) -> ChildId {
        self.next_child += 1;
        ChildId(self.next_child)
    }

    pub(super) fn rotate_cookies(&mut self, now: Instant) {
        let rng = &mut self.rng;
        self.cookies.rotate(now, || random_secret(rng));
    }

    pub(super) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// A nonce of 32 octets: at least half the key size of the PRF and at least 128 bits (RFC 7296 §2.10).
    pub(super) fn nonce(&mut self) -> Vec<u8> {
        self.random::<32>().to_vec()
    }

    /// An IKE SPI: random, never zero.
    pub(super) fn ike_spi(&mut self) -> u64 {
        self.rng.next_u64().max(1)
    }

    /// An SPI to receive ESP on: random, at least 256 (RFC 4303 §2.1), first nibble not 6 (that is IPv6 on our port),
    /// unique in this process. It stays reserved for `owner` until its child is closed. `low`: its last octet.
    pub(super) fn reserve_spi(&mut self, owner: IkeId, low: Option<u8>) -> u32 {
        loop {
            let [high @ .., chance] = self.rng.next_u32().to_be_bytes();
            let [a, b, c] = high;
            let spi = u32::from_be_bytes([a, b, c, low.unwrap_or(chance)]);
            if spi_is_valid(spi) && !self.inbound.contains_key(&spi) {
                self.inbound.insert(spi, owner);
                return spi;
            }
        }
    }

    /// A duration shortened by chance.
    pub(super) fn jittered(&mut self, duration: Duration) -> Duration {
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        let cut = self.config.lifetimes.jitter.clamp(0.0, 0.5) * share;
        duration.mul_f64(1.0 - cut)
    }

    /// A pause between retransmissions, a tenth more or less: many SAs that fell silent together do not speak up together.
    pub(super) fn swayed(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(0.9) + self.chance(pause / 5)
    }

    /// A random duration below `limit`.
    pub(super) fn chance(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(f64::from(self.rng.next_u32()) / f64::from(u32::MAX))
    }

    pub(super) fn entity(&self, address: Ipv6Addr) -> Option<&LocalEntity> {
        self.config.entities.iter().find(|entity| entity.address == address)
    }

    /// The suites that policy allows between two entities; none at all when it does not protect their traffic.
    pub(super) fn esp_suites(&self, local: Ipv6Addr, remote: Ipv6Addr) -> Vec<EspSuite> {
        match self.config.spd.decide(local, remote) {
            Action::Protect(services) => services.suites(&self.config.esp_suites),
            Action::Discard | Action::Bypass => Vec::new(),
        }
    }

    pub(super) fn send(&mut self, path: UdpPath, datagrams: &[Vec<u8>]) {
        for message in datagrams {
            self.transmits.push_back(Transmit { path, message: message.clone(), keepalive: false });
        }
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// The child was deleted: its inbound half stays for a little while.
    pub(super) fn drain_child(&mut self, now: Instant, id: ChildId, spi_in: u32, reason: CloseReason) {
        self.draining.insert((now + DRAIN, id), (spi_in, reason));
    }

    /// The child is gone at once.
    pub(super) fn close_child(&mut self, id: ChildId, spi_in: u32, reason: CloseReason) {
        self.inbound.remove(&spi_in);
        self.emit(Event::ChildClosed { id, reason });
    }
}

fn random_secret(rng: &mut ChaCha20Rng) -> Secret {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    Secret::from(&bytes[..])
}
