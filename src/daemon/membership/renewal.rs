//! Certificates of ours that end: when they are renewed, and when a person hears that they are not.

use std::time::{Duration, Instant};

use super::Membership;
use crate::daemon::config::Config;
use crate::node::Node;
use crate::policy::trust::OwnStatus;

/// A renewal that was tried so often in vain, for a minute, is told.
const TRIES: u32 = 12;
/// The same refusal is told again after this long.
const REFUSED_AGAIN: Duration = Duration::from_secs(300);

impl Membership {
    /// Tells of certificates that should have been renewed long ago: once when half of the time for it is over, once at
    /// the end.
    pub(super) fn warn(&mut self, unix: u64, own: &[OwnStatus]) {
        self.warned.retain(|(address, end), _| {
            own.iter().any(|own| own.leaf.address == *address && own.leaf.not_after == *end)
        });
        for own in own {
            let (address, end) = (own.leaf.address, own.leaf.not_after);
            let ended = end <= unix;
            if own.renew_at + end.saturating_sub(own.renew_at) / 2 > unix
                || self.warned.get(&(address, end)).is_some_and(|told| *told >= ended)
            {
                continue;
            }
            self.warned.insert((address, end), ended);
            if ended {
                tracing::error!(
                    "the certificate of {address} has ended, because its home did not renew it: peers that know no key of it refuse it"
                );
            } else {
                tracing::warn!(
                    "the certificate of {address} ends in {} s, and its home has not renewed it: is it reachable?",
                    end - unix
                );
            }
        }
    }

    /// Asks for what is due.
    pub(super) fn renew_due(
        &mut self,
        now: Instant,
        unix: u64,
        node: &mut Node,
        config: &Config,
        own: &[OwnStatus],
    ) {
        self.tried
            .retain(|address, _| own.iter().any(|own| own.leaf.address == *address && own.renew_at <= unix));
        for own in own.iter().filter(|own| own.renew_at <= unix) {
            self.renew(now, node, config, own.leaf.address);
            let tried = self.tried.entry(own.leaf.address).or_default();
            *tried = tried.saturating_add(1);
            if *tried == TRIES {
                tracing::warn!(
                    "the certificate of {} is to be renewed, and {TRIES} times its home has not done it: it ends in {} s",
                    own.leaf.address,
                    own.leaf.not_after.saturating_sub(unix)
                );
            }
        }
    }

    /// What is asked for again and again is refused again and again: that is told now and then.
    pub(super) fn tell_refusal(&mut self, now: Instant, error: String) {
        let told =
            self.refused.as_ref().is_some_and(|(said, at)| *said == error && *at + REFUSED_AGAIN > now);
        if !told {
            tracing::warn!("the home refused: {error}");
            self.refused = Some((error, now));
        }
    }
}
