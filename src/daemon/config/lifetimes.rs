//! Timers and lifetimes: each within its bounds, and in an order in which an SA is replaced before it ends.

use std::time::Duration;

use toml::Spanned;

use super::check::Checker;
use super::file;
use crate::ike::Lifetimes;

const SECOND: Duration = Duration::from_secs(1);
/// No key should live longer; and no clock overflows.
const LONGEST_AGE: Duration = Duration::from_secs(365 * 86_400);
/// Longer silences than this are not noticed in time to matter.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

impl Checker<'_> {
    pub(super) fn lifetimes(&mut self, file: &file::File) -> Lifetimes {
        let default = Lifetimes::default();
        let (ike, esp) = (&file.ike, &file.esp);
        let ages = SECOND..=LONGEST_AGE;
        let ike_max = self.duration(&ike.maximum_age, 10 * SECOND..=LONGEST_AGE).unwrap_or(default.ike_max);
        let reauth = self.duration(&ike.reauthenticate, ages.clone());
        let ike_rekey = self.duration(&ike.rekey, ages.clone());
        let child_rekey = self.duration(&esp.rekey, ages);
        // What is not written keeps its share of what is.
        let reauth_or_default = reauth.unwrap_or_else(|| default.reauth.min(ike_max / 6 * 5));
        let share = (reauth_or_default / 5).max(SECOND);
        if reauth.is_some_and(|reauth| reauth >= ike_max) {
            self.too_long(
                &ike.reauthenticate,
                "reauthenticate must be shorter than maximum_age, or SAs end before they are replaced",
            );
        }
        if ike_rekey.is_some_and(|rekey| rekey >= ike_max) {
            self.too_long(
                &ike.rekey,
                "[ike] rekey must be shorter than maximum_age, or SAs end before they are rekeyed",
            );
        } else if ike_rekey.is_some_and(|rekey| rekey >= reauth_or_default) {
            self.too_long(&ike.rekey, "[ike] rekey must be shorter than reauthenticate, which replaces the SA before it is ever rekeyed");
        }
        if child_rekey.is_some_and(|rekey| rekey >= reauth_or_default) {
            self.too_long(&esp.rekey, "[esp] rekey must be shorter than [ike] reauthenticate, which replaces the SA before it is ever rekeyed");
        }
        let child_rekey = child_rekey.unwrap_or_else(|| default.child_rekey.min(share));
        Lifetimes {
            child_rekey,
            child_hard: child_rekey + (child_rekey / 10).max(30 * SECOND),
            ike_rekey: ike_rekey.unwrap_or_else(|| default.ike_rekey.min(share)),
            reauth: reauth_or_default,
            ike_max,
            jitter: self.number(&esp.jitter, default.jitter, 0.0..=0.5, "jitter", "0.1 is a tenth"),
            dpd: self.duration(&ike.dpd, SECOND..=LONGEST_PAUSE).unwrap_or(default.dpd),
            retransmit_first: self
                .duration(&ike.retransmit_first, Duration::from_millis(50)..=10 * SECOND)
                .unwrap_or(default.retransmit_first),
            retransmit_tries: self.number(
                &ike.retransmit_tries,
                default.retransmit_tries,
                1..=30,
                "retransmit_tries",
                "6 is usual",
            ),
            nat_keepalive: self
                .duration(&ike.nat_keepalive, SECOND..=LONGEST_PAUSE)
                .unwrap_or(default.nat_keepalive),
            child_bytes: self.number(
                &esp.rekey_bytes,
                u64::MAX,
                65_536..=u64::MAX,
                "rekey_bytes",
                "leave it out for no limit",
            ),
            child_packets: self.number(
                &esp.rekey_packets,
                u64::MAX,
                1_000..=u64::MAX,
                "rekey_packets",
                "leave it out for no limit",
            ),
        }
    }

    fn too_long(&mut self, text: &Option<Spanned<String>>, message: &str) {
        self.problems.at(text.as_ref().map(Spanned::span).unwrap_or_default(), message);
    }
}
