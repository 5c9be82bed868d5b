//! Behind a NAT: a challenge after silence keeps the mapping open and notices when it changed. A bare `ff` would keep it
//! open, too, but could not repair a NAT that restarted.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use rand_core::Rng;

use super::{ClientEvent, Context};
use crate::wire::mobility::{Cookie, Message};

/// Challenges in a row without an answer until the node is told.
const TRIES: u32 = 4;
/// First pause between them; it doubles.
const RETRY: Duration = Duration::from_secs(1);
/// The same when there is a reason for doubt.
const DOUBT_RETRY: Duration = Duration::from_millis(250);
/// Heard this recently, a home agent is not doubted.
const FRESH: Duration = Duration::from_millis(500);

/// The keepalive towards one home agent.
#[derive(Default)]
pub(super) struct Keepalive {
    /// What the home agent asked for.
    pub(super) interval: Option<Duration>,
    heard: Option<Instant>,
    at: Option<Instant>,
    /// Asked out of turn, also where there is no NAT, until it answers or is given up.
    doubt: bool,
    /// Challenges that wait for an answer, oldest first: an answer to any of them will do.
    open: Vec<Cookie>,
}

impl Keepalive {
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// True when the cookie is one of ours.
    pub(super) fn answered(&mut self, cookie: Cookie) -> bool {
        let ours = self.open.contains(&cookie);
        if ours {
            self.open.clear();
            self.doubt = false;
            self.at = None; // `set_needed` counts anew
        }
        ours
    }

    /// Asks at once.
    pub(super) fn doubt(&mut self, now: Instant) {
        let fresh = self.heard.is_some_and(|heard| now < heard + FRESH);
        if !self.doubt && !fresh {
            self.doubt = true;
            self.open.clear();
            self.at = Some(now);
        }
    }

    pub(super) fn disarm(&mut self) {
        self.doubt = false;
        self.at = None;
        self.open.clear();
    }

    pub(super) fn set_needed(&mut self, now: Instant, needed: bool, ctx: &Context) {
        if !needed && !self.doubt {
            self.disarm();
        } else if self.at.is_none() {
            // A NAT that appeared just now, after a long silence: what told of it asks the home agent already.
            let quiet_until = self.heard.unwrap_or(now) + self.idle(ctx);
            self.at = Some(quiet_until.max(now + RETRY));
        }
    }

    fn idle(&self, ctx: &Context) -> Duration {
        self.interval.unwrap_or(ctx.config.keepalive)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, from: Ipv6Addr, to: Ipv6Addr, ctx: &mut Context) {
        if self.at.is_none_or(|at| now < at) {
            return;
        }
        // Traffic came meanwhile.
        let quiet_until = self.heard.map(|heard| heard + self.idle(ctx)).filter(|until| now < *until);
        if let Some(until) = quiet_until.filter(|_| !self.doubt) {
            self.open.clear();
            self.at = Some(until);
            return;
        }
        let tries = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        if tries == TRIES {
            ctx.events.push_back(ClientEvent::Unanswered { home_address: from });
            self.doubt = false;
        }
        let first = if self.doubt { DOUBT_RETRY } else { RETRY };
        // From then on at the ordinary pace, with the last few open.
        let pause = if tries < TRIES { first * 2u32.pow(tries) } else { self.idle(ctx) };
        if tries > TRIES {
            self.open.remove(0);
        }
        let mut cookie = Cookie::default();
        ctx.rng.fill_bytes(&mut cookie);
        self.open.push(cookie);
        ctx.send(from, to, &Message::Challenge(cookie));
        self.at = Some(now + pause);
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.at.map(|at| (at, "NAT keepalive to the home agent"))
    }
}
