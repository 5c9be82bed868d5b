//! A new key for an entity: certified by its home while the old one still proves us, then taken into use.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::Membership;
use crate::daemon::config::edit::write_private;
use crate::daemon::config::{Config, Entity};
use crate::node::Node;
use crate::pki::{Root, leaf, pem};

/// A home that does not answer, or refuses, is asked again after this long.
const AGAIN: Duration = Duration::from_secs(30);

fn entity_with_next(config: &Config, address: Ipv6Addr) -> Option<&Entity> {
    config.entities.iter().find(|entity| entity.address == address && entity.next.is_some())
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

    /// Is this certificate for the new key of an entity of ours?
    pub(super) fn rotates(&self, config: &Config, address: Ipv6Addr, der: &[u8]) -> bool {
        let next = entity_with_next(config, address).and_then(|entity| entity.next.as_ref());
        next.is_some_and(|next| leaf::read(der).is_ok_and(|leaf| leaf.key == next.public()))
    }

    /// The home sent one: is it good?
    pub(super) fn rotate_for(
        &mut self,
        config: &Config,
        root: &Root,
        unix: u64,
        address: Ipv6Addr,
        der: &[u8],
    ) {
        let next = entity_with_next(config, address).and_then(|entity| entity.next.as_ref());
        let Some(next) = next.map(|next| next.public()) else { return };
        match leaf::verify_own(der, root, unix, address, &next) {
            Ok(_) => self.rotate(config, address, der),
            Err(error) => tracing::warn!("the certificate for the new key of {address} is not good: {error}"),
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
