//! Trust and the configuration: roots and certificates that files name, the machine's clock, and what the user is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::system::{since_1970, unix};
use crate::pki::trust::PinPolicy;
use crate::pki::{TrustError, TrustStore, UnixSeconds};
use crate::policy::trust::{Trust, TrustNews, WallClock};

/// A clock that is further away from where it should be than this has jumped.
const JUMP: Duration = Duration::from_secs(2);

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

/// Tells what a configuration trusts, and which certificates are ours. What `old` named and `new` does not is gone. An
/// error changes nothing.
pub fn apply(old: Option<&Config>, new: &Config, trust: &Trust) -> Result<(), TrustError> {
    trust.change(|store| {
        let mut changed = store.clone();
        let gone = old.into_iter().flat_map(|old| &old.roots).map(|root| root.prefix());
        for prefix in gone.filter(|prefix| new.roots.iter().all(|root| root.prefix() != *prefix)) {
            changed.unpin(prefix);
        }
        for root in &new.roots {
            changed.pin(root.clone())?;
        }
        *store = changed;
        Ok(())
    })?;
    trust.set_policy(new.pin);
    let now = unix();
    for entity in &new.entities {
        let Some(certificate) = entity.certificate.clone() else {
            trust.remove_own(entity.address);
            continue;
        };
        let own = trust.set_own(certificate, Vec::new())?;
        if own.leaf.not_after <= now {
            tracing::warn!("the certificate of {} has ended: join its home again", entity.name);
        } else if own.renew_at <= now {
            tracing::warn!("the certificate of {} ends soon and has not been renewed", entity.name);
        }
    }
    Ok(())
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

/// Notices when the time of day jumps against the clock that timers use: the machine slept, or its clock was set.
pub(super) struct JumpWatch {
    anchor: (Instant, Duration),
}

impl JumpWatch {
    pub(super) fn new(now: Instant) -> Self {
        Self { anchor: (now, since_1970()) }
    }

    /// Did it jump since the last call?
    pub(super) fn jumped(&mut self, now: Instant) -> bool {
        let (then, unix) = self.anchor;
        self.anchor = (now, since_1970());
        let expected = unix + now.saturating_duration_since(then);
        self.anchor.1.abs_diff(expected) > JUMP
    }
}
