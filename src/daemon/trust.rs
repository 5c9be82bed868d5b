//! Trust and the configuration: roots and certificates that files name, the machine's clock, and what the user is told.

use std::sync::Arc;
use std::time::Instant;

use ipnet::Ipv6Net;

use super::config::Config;
use super::system::unix;
use crate::addr::plan::agent_of;
use crate::pki::trust::{Home, PinPolicy};
use crate::pki::{Root, TrustError, TrustStore, UnixSeconds, leaf};
use crate::policy::trust::{Trust, TrustNews, WallClock};

/// The machine's clock.
#[derive(Debug)]
struct SystemClock;

impl WallClock for SystemClock {
    fn unix(&self, _: Instant) -> UnixSeconds {
        unix()
    }
}

/// With the memory of an earlier run.
pub fn remembered(store: TrustStore) -> Arc<Trust> {
    Arc::new(Trust::new(store, PinPolicy::Tell, Box::new(SystemClock)))
}

/// Tells what a configuration trusts, and which certificates are ours. Homes that it does not name are trusted no longer,
/// also when the file was changed while no daemon ran. Returns the homes whose root was replaced, because a person
/// confirmed another one. An error changes nothing.
pub fn apply(new: &Config, trust: &Trust) -> Result<Vec<Ipv6Net>, TrustError> {
    let replaced = trust.change(|store| {
        let mut changed = store.clone();
        let named = |home: &Home| new.roots.iter().any(|root| root.prefix() == home.root.prefix());
        let gone: Vec<Ipv6Net> =
            store.homes().filter(|home| !named(home)).map(|home| home.root.prefix()).collect();
        for prefix in gone {
            changed.unpin(prefix);
        }
        let confirmed =
            |root: &Root| new.trusted.iter().any(|entry| entry.confirmed && entry.prefix == root.prefix());
        let mut replaced = Vec::new();
        for root in &new.roots {
            let other = changed
                .homes()
                .any(|home| home.root.prefix() == root.prefix() && home.root.key() != root.key());
            if other && confirmed(root) {
                changed.unpin(root.prefix());
                replaced.push(root.prefix());
            }
            changed.pin(root.clone())?;
        }
        *store = changed;
        Ok::<_, TrustError>(replaced)
    })?;
    for root in &new.roots {
        if let Err(error) = new.homes.endpoint(agent_of(root.prefix())) {
            tracing::warn!("{error}");
        }
    }
    trust.set_policy(new.pin);
    let known = trust.own_certificates();
    for own in &known {
        if new.entities.iter().all(|entity| entity.address != own.leaf.address) {
            trust.remove_own(own.leaf.address);
        }
    }
    let now = unix();
    for entity in &new.entities {
        let Some(certificate) = entity.certificate.clone() else {
            trust.remove_own(entity.address);
            continue;
        };
        // Renewed since the configuration was read.
        let fresher = known.iter().any(|own| {
            (own.leaf.address, own.leaf.key) == (entity.address, entity.key.public())
                && leaf::read(&certificate).is_ok_and(|leaf| leaf.not_after < own.leaf.not_after)
        });
        if fresher {
            continue;
        }
        let own = trust.set_own(certificate, entity.endorsements())?;
        if own.leaf.not_after <= now {
            tracing::warn!("the certificate of {} has ended: join its home again", entity.name);
        } else if own.renew_at <= now {
            tracing::warn!("the certificate of {} ends soon and has not been renewed", entity.name);
        }
    }
    Ok(replaced)
}

/// What the key memory noticed, in words.
pub(super) fn tell(trust: &Trust) {
    for news in trust.take_news() {
        match news {
            TrustNews::First { address, key } => {
                tracing::info!("{address} is known from now on by its key {}", key.fingerprint());
            }
            TrustNews::Endorsed { address, key } => {
                tracing::info!("{address} has a new key {}, which its old one endorses", key.fingerprint());
            }
            TrustNews::Changed { address, old, key } => tracing::warn!(
                "{address} has the new key {}, and nothing but its home vouches for it; until now it had {}: ask its owner",
                key.fingerprint(),
                old.fingerprint()
            ),
        }
    }
}
