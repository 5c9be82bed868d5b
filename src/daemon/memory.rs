//! What is trusted and remembered, as documents: of a running daemon, or of the file that an earlier one left.

use std::io;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::config::Config;
use super::state::StateFile;
use crate::api::trust::{RememberedKey, TrustedHome};
use crate::pki::trust::PinPolicy;
use crate::pki::{Root, TrustStore};

/// The homes that a configuration trusts. `own` is the root of the home that this machine is, if it is not among them.
pub fn homes(config: &Config, own: Option<&Root>, store: &TrustStore) -> Vec<TrustedHome> {
    let known = own.filter(|own| config.roots.iter().all(|root| root.prefix() != own.prefix()));
    config.roots.iter().chain(known).map(|root| home(config, own, root, store)).collect()
}

fn home(config: &Config, own: Option<&Root>, root: &Root, store: &TrustStore) -> TrustedHome {
    let prefix = root.prefix();
    let (not_before, not_after) = root.validity();
    let pin = match config.pin {
        PinPolicy::Tell => "tell",
        PinPolicy::Strict => "strict",
    };
    TrustedHome {
        prefix: prefix.to_string(),
        domain: root.domain().map(str::to_owned),
        fingerprint: root.fingerprint(),
        not_before,
        not_after,
        pin: pin.to_owned(),
        keys: store.keys().filter(|(address, ..)| prefix.contains(address)).count() as u64,
        own: own.is_some_and(|own| own.prefix() == prefix) || is_own(config, prefix),
    }
}

/// This machine is this home, or has an address of it.
pub fn is_own(config: &Config, prefix: Ipv6Net) -> bool {
    config.home_prefix == Some(prefix)
        || config.entities.iter().any(|entity| prefix.contains(&entity.address))
}

/// The remembered keys, in the order of their addresses.
pub fn keys(store: &TrustStore) -> Vec<RememberedKey> {
    let document = |(address, key, seen): (Ipv6Addr, crate::crypto::identity::PublicKey, u64)| {
        RememberedKey { address, public_key: key.to_string(), fingerprint: key.fingerprint(), seen }
    };
    store.keys().map(document).collect()
}

/// What the last daemon of this configuration remembered. None may be running.
pub fn kept(config: &Config) -> io::Result<TrustStore> {
    Ok(StateFile::open(&config.path)?.state.trust)
}

/// Forgets the key of an address in what the last daemon left; false when there was none. None may be running.
pub fn forget_kept(config: &Config, address: Ipv6Addr) -> io::Result<bool> {
    let mut file = StateFile::open(&config.path)?;
    let forgotten = file.state.trust.forget(address);
    if forgotten {
        file.save()?;
    }
    Ok(forgotten)
}
