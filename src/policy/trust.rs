//! Trust at work: the memory of roots and keys, our own certificates, and the clock, behind what IKE asks
//! ([`Certificates`]) and what the daemon changes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::certificates::{Certificates, Certified, OwnCertificate, Shown, TrustSpan, UnixSeconds};
use crate::crypto::identity::PublicKey;
use crate::pki::endorsement::{Endorsement, MAX_ENDORSEMENTS};
use crate::pki::trust::{KeyNews, PinPolicy};
use crate::pki::{TrustError, TrustStore, VerifiedLeaf, leaf};

/// Authorities that a stranger is told of in IKE_SA_INIT, which must stay small.
const MAX_SHOWN: usize = 8;
/// News that nobody has fetched; older ones are dropped, the memory itself is not.
const MAX_NEWS: usize = 256;

/// Tells the time of day. It may jump; [`Instant`] does not, but stands still while the machine sleeps.
pub trait WallClock: fmt::Debug + Send + Sync {
    /// Seconds since 1970 at `now`.
    fn unix(&self, now: Instant) -> UnixSeconds;
}

/// A clock that was right once: for tests and simulations.
#[derive(Clone, Copy, Debug)]
pub struct AnchoredClock {
    /// A moment.
    pub at: Instant,
    /// What the time was then.
    pub unix: UnixSeconds,
}

impl WallClock for AnchoredClock {
    fn unix(&self, now: Instant) -> UnixSeconds {
        self.unix + now.saturating_duration_since(self.at).as_secs()
    }
}

/// Something that the user is told, or that is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustNews {
    /// An address was met for the first time.
    First {
        /// Whose.
        address: Ipv6Addr,
        /// Its key.
        key: PublicKey,
    },
    /// A known address has a new key, and its old one vouches for it.
    Endorsed {
        /// Whose.
        address: Ipv6Addr,
        /// The new key.
        key: PublicKey,
    },
    /// A known address has a new key, on its home's word alone.
    Changed {
        /// Whose.
        address: Ipv6Addr,
        /// The key until now.
        old: PublicKey,
        /// The new key.
        key: PublicKey,
    },
}

/// A certificate of ours, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnStatus {
    /// What it says.
    pub leaf: VerifiedLeaf,
    /// From here on it is to be renewed: two thirds of its life.
    pub renew_at: UnixSeconds,
}

/// The whole of it. Shared by the IKE endpoint and the daemon; every call is short.
#[derive(Debug)]
pub struct Trust {
    clock: Box<dyn WallClock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    store: TrustStore,
    policy: PinPolicy,
    own: BTreeMap<Ipv6Addr, Own>,
    news: VecDeque<TrustNews>,
    /// The store differs from what was last fetched to be written down.
    changed: bool,
}

#[derive(Debug)]
struct Own {
    der: Vec<u8>,
    leaf: VerifiedLeaf,
    endorsements: Vec<Endorsement>,
}

impl Trust {
    /// With the memory of an earlier run, or an empty one.
    pub fn new(store: TrustStore, policy: PinPolicy, clock: Box<dyn WallClock>) -> Self {
        Self { clock, state: Mutex::new(State { store, policy, ..State::default() }) }
    }

    /// Looks at the memory.
    pub fn read<T>(&self, look: impl FnOnce(&TrustStore) -> T) -> T {
        look(&self.lock().store)
    }

    /// Changes the memory: pins, redirects, revocations. It counts as changed, whatever `change` did. SAs that are up
    /// notice when the configuration is set again (a home that is trusted no longer) or when they authenticate anew (a
    /// certificate that was revoked): whoever revokes also closes them.
    pub fn change<T>(&self, change: impl FnOnce(&mut TrustStore) -> T) -> T {
        let mut state = self.lock();
        state.changed = true;
        change(&mut state.store)
    }

    /// The memory, if it changed since the last call: to be written down.
    pub fn take_changed(&self) -> Option<TrustStore> {
        let mut state = self.lock();
        std::mem::take(&mut state.changed).then(|| state.store.clone())
    }

    /// What the user is to be told.
    pub fn take_news(&self) -> Vec<TrustNews> {
        self.lock().news.drain(..).collect()
    }

    /// `pin = "strict"`, or not.
    pub fn set_policy(&self, policy: PinPolicy) {
        self.lock().policy = policy;
    }

    /// Takes a certificate of ours into use, in place of an earlier one for the same address. SAs that rest on the
    /// earlier one are authenticated anew before it ends. Of `endorsements`, oldest first, the last few are shown.
    pub fn set_own(&self, der: Vec<u8>, mut endorsements: Vec<Endorsement>) -> Result<OwnStatus, TrustError> {
        let leaf = leaf::read(&der)?;
        endorsements.drain(..endorsements.len().saturating_sub(MAX_ENDORSEMENTS));
        let status = OwnStatus { renew_at: share_of_life(&leaf, 2, 3), leaf: leaf.clone() };
        self.lock().own.insert(leaf.address, Own { der, leaf, endorsements });
        Ok(status)
    }

    /// Shows no certificate for this address any more.
    pub fn remove_own(&self, address: Ipv6Addr) -> bool {
        self.lock().own.remove(&address).is_some()
    }

    /// Our certificates.
    pub fn own_certificates(&self) -> Vec<OwnStatus> {
        let state = self.lock();
        let status =
            |own: &Own| OwnStatus { leaf: own.leaf.clone(), renew_at: share_of_life(&own.leaf, 2, 3) };
        state.own.values().map(status).collect()
    }

    /// Nothing is half done when a holder of the lock panics: each change is one call of the store.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Certificates for Trust {
    fn unix(&self, now: Instant) -> UnixSeconds {
        self.clock.unix(now)
    }

    fn own(&self, now: Instant, local: Ipv6Addr) -> Option<OwnCertificate> {
        let unix = self.clock.unix(now);
        let state = self.lock();
        let own = state.own.get(&local).filter(|own| own.leaf.not_after > unix)?;
        Some(OwnCertificate {
            leaf: own.der.clone(),
            key: *own.leaf.key.as_bytes(),
            endorsements: own.endorsements.iter().map(|one| one.to_bytes().to_vec()).collect(),
            span: span(&own.leaf, unix),
        })
    }

    fn root(&self, local: Ipv6Addr) -> Option<Vec<u8>> {
        self.lock().store.home_of(local).map(|home| home.root.der().to_vec())
    }

    fn accepts(&self, remote: Ipv6Addr) -> bool {
        self.lock().store.home_of(remote).is_some()
    }

    fn authorities(&self, remote: Option<Ipv6Addr>) -> Vec<[u8; 20]> {
        let state = self.lock();
        match remote {
            Some(remote) => state.store.home_of(remote).map(|home| home.root.key_id()).into_iter().collect(),
            None => state.store.homes().take(MAX_SHOWN).map(|home| home.root.key_id()).collect(),
        }
    }

    fn verify(&self, now: Instant, remote: Ipv6Addr, shown: &Shown<'_>) -> Result<Certified, String> {
        let unix = self.clock.unix(now);
        let state = self.lock();
        let (leaf, others) =
            shown.certificates.split_first().ok_or_else(|| TrustError::Missing.to_string())?;
        let leaf = state.store.verify(leaf, others, unix, remote).map_err(|error| error.to_string())?;
        let endorsements = endorsements(shown);
        state
            .store
            .judge(remote, leaf.key, &endorsements, state.policy)
            .map_err(|error| error.to_string())?;
        Ok(Certified { key: *leaf.key.as_bytes(), span: span(&leaf, unix) })
    }

    fn proven(&self, now: Instant, remote: Ipv6Addr, certified: &Certified, shown: &Shown<'_>) {
        let Ok(key) = PublicKey::from_bytes(&certified.key) else { return };
        let unix = self.clock.unix(now);
        let mut state = self.lock();
        let Ok(news) = state.store.judge(remote, key, &endorsements(shown), PinPolicy::Tell) else { return };
        let news = match news {
            KeyNews::Known => None,
            KeyNews::First => Some(TrustNews::First { address: remote, key }),
            KeyNews::Endorsed => Some(TrustNews::Endorsed { address: remote, key }),
            KeyNews::Changed { old } => Some(TrustNews::Changed { address: remote, old, key }),
        };
        state.changed |= state.store.remember(unix, remote, key);
        if state.news.len() >= MAX_NEWS {
            state.news.pop_front();
        }
        state.news.extend(news);
    }
}

fn endorsements(shown: &Shown<'_>) -> Vec<Endorsement> {
    shown
        .endorsements
        .iter()
        .take(MAX_ENDORSEMENTS)
        .filter_map(|bytes| Endorsement::from_bytes(bytes))
        .collect()
}

/// The moment at which so many parts of the time from its issue to its end are over.
fn share_of_life(leaf: &VerifiedLeaf, parts: u64, of: u64) -> UnixSeconds {
    let issued = leaf.issued();
    issued + leaf.not_after.saturating_sub(issued) * parts / of
}

/// Authentication is repeated when five sixths are over, because owners renew at two thirds. Later than that, half of
/// what is left is waited for.
fn span(leaf: &VerifiedLeaf, now: UnixSeconds) -> TrustSpan {
    let half = now + leaf.not_after.saturating_sub(now) / 2;
    let planned = share_of_life(leaf, 5, 6);
    TrustSpan { refresh: if planned > now { planned } else { half }, ends: leaf.not_after }
}
