//! What a node remembers of others: the root of each home that it trusts, where homes moved to, the key of each
//! address that it met, and what was revoked. A plain structure; whoever keeps it writes it down with serde.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::endorsement::{Endorsement, leads};
use super::redirect::Redirect;
use super::{Root, Serial, TrustError, UnixSeconds, VerifiedLeaf, leaf, pem};
use crate::crypto::identity::PublicKey;

/// Pinned homes. Each is a decision of a person.
const MAX_HOMES: usize = 1024;
/// Remembered keys, about 100 octets each; beyond this the one that was not seen for longest is forgotten.
const MAX_KEYS: usize = 65_536;
/// Revoked certificates that have not ended by themselves yet.
const MAX_REVOKED: usize = 65_536;

/// What happens when a known address shows a new key that its old key does not endorse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinPolicy {
    /// Believe the home, and tell the user.
    #[default]
    Tell,
    /// Refuse the peer (`pin = "strict"`).
    Strict,
}

/// What pinning a root did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// The home is trusted from now on.
    New,
    /// It was pinned with the same key already; the certificate was replaced.
    Known,
}

/// What the key memory says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyNews {
    /// Never met.
    First,
    /// The one that is remembered.
    Known,
    /// A new one, endorsed by the remembered one.
    Endorsed,
    /// A new one, on the home's word alone: the user is told.
    Changed {
        /// What was remembered.
        old: PublicKey,
    },
}

/// A trusted home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its root, pinned by the key.
    pub root: Root,
    /// Where it moved to, with its own signature.
    pub redirect: Option<Redirect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remembered {
    key: PublicKey,
    seen: UnixSeconds,
}

/// The whole memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct TrustStore {
    homes: BTreeMap<Ipv6Net, Home>,
    keys: BTreeMap<Ipv6Addr, Remembered>,
    /// When the revoked certificate ends by itself.
    revoked: BTreeMap<(Ipv6Addr, Serial), UnixSeconds>,
}

impl TrustStore {
    /// Trusts a home from now on. Another root for a known prefix is refused, whatever it says.
    pub fn pin(&mut self, root: Root) -> Result<Pinned, TrustError> {
        let home = root.prefix();
        if let Some(known) = self.homes.get_mut(&home) {
            if known.root.key() != root.key() {
                return Err(TrustError::AnotherRoot {
                    home,
                    pinned: known.root.fingerprint(),
                    shown: root.fingerprint(),
                });
            }
            known.root = root;
            return Ok(Pinned::Known);
        }
        if self.homes.len() >= MAX_HOMES {
            return Err(TrustError::TooManyHomes(self.homes.len()));
        }
        self.homes.insert(home, Home { root, redirect: None });
        Ok(Pinned::New)
    }

    /// Trusts a home no longer, and forgets the keys of its entities. False when it was not pinned.
    pub fn unpin(&mut self, home: Ipv6Net) -> bool {
        self.keys.retain(|address, _| !home.contains(address));
        self.revoked.retain(|(address, _), _| !home.contains(address));
        self.homes.remove(&home).is_some()
    }

    /// Every trusted home.
    pub fn homes(&self) -> impl Iterator<Item = &Home> {
        self.homes.values()
    }

    /// The trusted home that owns an address.
    pub fn home_of(&self, address: Ipv6Addr) -> Option<&Home> {
        let prefix = Ipv6Net::new(address, 48).ok()?.trunc();
        self.homes.get(&prefix)
    }

    /// Where a home says that it is now, with its signature.
    pub fn redirect_of(&self, home: Ipv6Net) -> Option<&Redirect> {
        self.homes.get(&home)?.redirect.as_ref()
    }

    /// Is this a redirect by the pinned root of its home, and newer than the known one? `Ok(false)`: the known one.
    pub fn judge_redirect(&self, redirect: &Redirect) -> Result<bool, TrustError> {
        let home = self
            .homes
            .get(&redirect.home)
            .ok_or_else(|| TrustError::NoTrustedHome(redirect.home.network()))?;
        redirect.verify(&home.root)?;
        match home.redirect.as_ref() {
            Some(known) if known == redirect => Ok(false),
            Some(known) if known.number >= redirect.number => Err(TrustError::RedirectStale {
                home: redirect.home,
                given: redirect.number,
                known: known.number,
            }),
            Some(_) | None => Ok(true),
        }
    }

    /// A home moved: keeps its locators when its pinned root signed them. `Ok(false)`: known already.
    pub fn redirect(&mut self, redirect: Redirect) -> Result<bool, TrustError> {
        let new = self.judge_redirect(&redirect)?;
        if let Some(home) = self.homes.get_mut(&redirect.home).filter(|_| new) {
            home.redirect = Some(redirect);
        }
        Ok(new)
    }

    /// Is this the certificate of that address, under the pinned root of its home, and not revoked?
    pub fn verify(
        &self,
        leaf: &[u8],
        others: &[&[u8]],
        now: UnixSeconds,
        address: Ipv6Addr,
    ) -> Result<VerifiedLeaf, TrustError> {
        let home = self.home_of(address).ok_or(TrustError::NoTrustedHome(address))?;
        let verified = leaf::verify(leaf, others, &home.root, now, address)?;
        if self.revoked.contains_key(&(address, verified.serial.clone())) {
            return Err(TrustError::Revoked(address));
        }
        Ok(verified)
    }

    /// What the memory says of a key that a valid certificate binds to an address. Changes nothing: only a peer that
    /// has proven to hold the key may change what is remembered ([`remember`](Self::remember)).
    pub fn judge(
        &self,
        address: Ipv6Addr,
        key: PublicKey,
        endorsements: &[Endorsement],
        policy: PinPolicy,
    ) -> Result<KeyNews, TrustError> {
        let Some(known) = self.keys.get(&address) else { return Ok(KeyNews::First) };
        if known.key == key {
            return Ok(KeyNews::Known);
        }
        if leads(address, known.key, key, endorsements) {
            return Ok(KeyNews::Endorsed);
        }
        match policy {
            PinPolicy::Tell => Ok(KeyNews::Changed { old: known.key }),
            PinPolicy::Strict => Err(TrustError::NewKey { address, new: key }),
        }
    }

    /// The holder of this key has proven to be there. Returns whether something worth writing down changed.
    pub fn remember(&mut self, now: UnixSeconds, address: Ipv6Addr, key: PublicKey) -> bool {
        let before = self.keys.insert(address, Remembered { key, seen: now });
        if self.keys.len() > MAX_KEYS {
            let oldest = self.keys.iter().min_by_key(|(_, known)| known.seen).map(|(address, _)| *address);
            oldest.map(|oldest| self.keys.remove(&oldest));
        }
        before.is_none_or(|before| before.key != key)
    }

    /// Every remembered key: whose, which, and when it last proved itself; in the order of addresses.
    pub fn keys(&self) -> impl Iterator<Item = (Ipv6Addr, PublicKey, UnixSeconds)> {
        self.keys.iter().map(|(address, known)| (*address, known.key, known.seen))
    }

    /// The key that is remembered for an address.
    pub fn remembered(&self, address: Ipv6Addr) -> Option<PublicKey> {
        self.keys.get(&address).map(|known| known.key)
    }

    /// Forgets the key of an address: what a person does who was told that a new key is right.
    pub fn forget(&mut self, address: Ipv6Addr) -> bool {
        self.keys.remove(&address).is_some()
    }

    /// The home of this address revoked a certificate, which would otherwise be valid until `not_after`. Whoever calls
    /// this has heard it from that home itself. False when nothing changed, which includes a memory full of others.
    pub fn revoke(
        &mut self,
        now: UnixSeconds,
        address: Ipv6Addr,
        serial: Serial,
        not_after: UnixSeconds,
    ) -> bool {
        self.revoked.retain(|_, until| *until >= now);
        if not_after < now || self.revoked.len() >= MAX_REVOKED {
            return false;
        }
        self.revoked.insert((address, serial), not_after).is_none()
    }
}

/// The form on disk.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    version: u32,
    homes: Vec<StoredHome>,
    #[serde(default)]
    keys: Vec<StoredKey>,
    #[serde(default)]
    revoked: Vec<StoredRevocation>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredHome {
    root: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redirect: Option<Redirect>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    address: Ipv6Addr,
    key: String,
    seen: UnixSeconds,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredRevocation {
    address: Ipv6Addr,
    serial: Serial,
    not_after: UnixSeconds,
}

const STORED_VERSION: u32 = 1;

impl From<TrustStore> for Stored {
    fn from(store: TrustStore) -> Self {
        let homes = store.homes.into_values().map(|home| {
            // A root that was read once is DER, and every DER document has a PEM form.
            StoredHome { root: pem::encode(home.root.der()).unwrap_or_default(), redirect: home.redirect }
        });
        let keys = store.keys.into_iter().map(|(address, known)| StoredKey {
            address,
            key: known.key.to_string(),
            seen: known.seen,
        });
        let revoked = store.revoked.into_iter().map(|((address, serial), not_after)| StoredRevocation {
            address,
            serial,
            not_after,
        });
        Self {
            version: STORED_VERSION,
            homes: homes.collect(),
            keys: keys.collect(),
            revoked: revoked.collect(),
        }
    }
}

impl TryFrom<Stored> for TrustStore {
    type Error = TrustError;

    /// Everything is checked again: what was kept may have been changed.
    fn try_from(stored: Stored) -> Result<Self, TrustError> {
        if stored.version != STORED_VERSION {
            return Err(TrustError::Store(format!("version {}", stored.version)));
        }
        let mut store = Self::default();
        for home in stored.homes {
            let [root] = <[Vec<u8>; 1]>::try_from(pem::decode(&home.root)?)
                .map_err(|_| TrustError::Store("a home with several roots".to_owned()))?;
            store.pin(Root::from_der(&root)?)?;
            if let Some(redirect) = home.redirect {
                store.redirect(redirect)?;
            }
        }
        for entry in stored.keys.into_iter().take(MAX_KEYS) {
            let key =
                entry.key.parse().map_err(|_| TrustError::Store(format!("key of {}", entry.address)))?;
            store.keys.insert(entry.address, Remembered { key, seen: entry.seen });
        }
        let revoked = stored.revoked.into_iter().take(MAX_REVOKED);
        store.revoked.extend(revoked.map(|entry| ((entry.address, entry.serial), entry.not_after)));
        Ok(store)
    }
}
