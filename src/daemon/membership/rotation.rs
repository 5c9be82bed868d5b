//! A new key for an entity: certified by its home while the old one still proves us, then taken into use.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::Membership;
use crate::crypto::identity::PublicKey;
use crate::daemon::config::edit::write_private;
use crate::daemon::config::{Config, Entity};
use crate::node::Node;
use crate::pki::{leaf, pem};

/// A home that does not answer, or refuses, is asked again after this long.
const AGAIN: Duration = Duration::from_secs(30);

fn entity_with_next(config: &Config, address: Ipv6Addr) -> Option<&Entity> {
    config.entities.iter().find(|entity| entity.address == address && entity.next.is_some())
}

/// The new key of an entity of ours, if this certificate is for that one.
pub(super) fn next_key(config: &Config, address: Ipv6Addr, der: &[u8]) -> Option<PublicKey> {
    let next = entity_with_next(config, address)?.next.as_ref()?.public();
    (leaf::read(der).ok()?.key == next).then_some(next)
}

impl Membership {
    /// Asks for certificates for new keys.
    pub(super) fn certify_next(&mut self, now: Instant, node: &mut Node, config: &Config) {
        for entity in &config.entities {
            let Some(next) = entity.next.as_ref().map(|next| next.public()) else { continue };
            if self.next_asked.get(next.as_bytes()).is_some_and(|at| *at + AGAIN > now) {
                continue;
            }
            if self.certify(now, node, config, entity.address, &next) {
                tracing::info!(
                    "asking the home of {} to certify its new key {}",
                    entity.name,
                    next.fingerprint()
                );
                self.next_asked.insert(*next.as_bytes(), now);
            }
        }
    }

    /// From the certificate on the new key is the present one; then the files follow, and the daemon.
    pub(super) fn rotate(&mut self, config: &Config, address: Ipv6Addr, der: &[u8]) {
        let Some(entity) = entity_with_next(config, address) else { return };
        let text = match pem::encode(der) {
            Ok(text) => text,
            Err(error) => {
                return tracing::warn!("the certificate for the new key of {address} is not good: {error}");
            }
        };
        let written = match &entity.certificate_file {
            Some(file) => write_private(file, text.as_bytes(), true),
            None => Ok(()),
        };
        match written.and_then(|()| entity.settle()) {
            Ok(()) => self.rotated = true,
            Err(error) => tracing::error!("the new key of {address} cannot be put in place: {error}"),
        }
    }

    /// Whether a new key is in its file and the configuration is to be read again.
    pub(in crate::daemon) fn take_rotated(&mut self) -> bool {
        std::mem::take(&mut self.rotated)
    }
}
