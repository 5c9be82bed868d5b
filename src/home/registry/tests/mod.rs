//! Tests of the registry, and what they share.

mod files;
mod joining;
mod kill;
mod model;
mod verbs;

use std::path::{Path, PathBuf};

use super::{Interface, Registry};
use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::home::entity::{By, Grant, Issued};
use crate::home::error::Error;

pub(super) const NOW: u64 = 1_800_000_000;

pub(super) fn by(now: u64) -> By<'static> {
    By { now, who: "a test" }
}

pub(super) fn key(number: u32) -> PublicKey {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_seed(&seed).public()
}

/// A certificate that says what it was granted for.
#[expect(clippy::unnecessary_wraps, reason = "it stands for an authority that may refuse")]
pub(super) fn issue(grant: &Grant) -> Result<Issued, String> {
    let certificate = format!("{} {} {}", grant.name, grant.address, grant.key).into_bytes();
    Ok(Issued { serial: "010203".to_owned(), not_before: NOW, not_after: NOW + 86_400, certificate })
}

pub(super) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn open(&self) -> Registry {
        open(&self.path("registry.db"))
    }
}

pub(super) fn open(path: &Path) -> Registry {
    let mut registry = Registry::open(path).unwrap();
    if matches!(registry.home(), Err(Error::NoHome)) {
        let prefix = "2002:c633:6401::/48".parse().unwrap();
        registry.init(by(NOW), prefix, Some("home.example.org")).unwrap();
    }
    registry
}

/// A home with alice, bob, two nodes and a service.
pub(super) fn furnished() -> (Place, Registry) {
    let place = Place::new();
    let mut registry = place.open();
    for user in ["alice", "bob"] {
        registry.user_add(by(NOW), user).unwrap();
    }
    for node in ["server1", "server2"] {
        registry.node_add(by(NOW), node).unwrap();
    }
    registry.service_add(by(NOW), "web", "server1", Interface::Next).unwrap();
    (place, registry)
}

/// Joins by code.
pub(super) fn join(
    registry: &mut Registry,
    whom: &str,
    label: &str,
    number: u32,
) -> crate::home::entity::Joined {
    let mut random = [3; 16];
    random[..4].copy_from_slice(&number.to_be_bytes());
    let (code, _) = registry.invite(by(NOW), random, whom, None, NOW + 3600).unwrap();
    registry.redeem(by(NOW), &code.lookup_id(), &key(number), Some(label), &mut issue).unwrap()
}
