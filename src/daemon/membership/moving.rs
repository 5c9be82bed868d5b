//! Where homes are: told to members and to other homes, and heard from them.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::Membership;
use crate::addr::plan::agent_of;
use crate::daemon::config::Config;
use crate::home::talk::Tell;
use crate::io::route::source_for;
use crate::node::Node;
use crate::pki::redirect::Redirect;

/// How often a home that moved looks whether the homes that it trusts have heard of it.
const CALL: Duration = Duration::from_secs(60);
/// Redirects of other homes that are passed on to each member.
const PASSED_ON: usize = 8;

impl Membership {
    /// Somebody says where a home is now; the signature of its root counts, and not who says it. Was it news?
    pub(super) fn moved(&self, redirect: &Redirect) -> bool {
        let home = redirect.home;
        match self.trust.read(|store| store.judge_redirect(redirect)) {
            Ok(false) => false,
            Ok(true) => {
                let places: Vec<String> = redirect.locators.iter().map(ToString::to_string).collect();
                match places.as_slice() {
                    [] => tracing::info!("the home {home} says that it is where its address tells"),
                    places => tracing::info!("the home {home} says that it is at {} now", places.join(", ")),
                }
                if let Err(error) = self.trust.change(|store| store.redirect(redirect.clone())) {
                    tracing::warn!("{error}");
                }
                true
            }
            Err(error) => {
                tracing::warn!("{error}");
                false
            }
        }
    }

    /// Tells where this home is, and where others are that moved: everybody with an SA with our home agent, or the one
    /// who has just come.
    pub(in crate::daemon) fn tell_place(
        &mut self,
        now: Instant,
        node: &mut Node,
        config: &Config,
        whom: Option<Ipv6Addr>,
    ) {
        let (Some(home), Some(prefix)) = (&self.home, config.home_prefix) else { return };
        let own = home.lock().redirect();
        let others = self.trust.read(|store| {
            let moved = store.homes().filter(|home| home.root.prefix() != prefix);
            moved.filter_map(|home| home.redirect.clone()).take(PASSED_ON).collect::<Vec<_>>()
        });
        let agent = agent_of(prefix);
        let ikes = match whom {
            Some(remote) => node.ike_with(agent, remote).into_iter().collect(),
            None => node.ikes_of(agent),
        };
        for redirect in own.iter().chain(&others) {
            for ike in &ikes {
                node.tell(now, *ike, Tell::Moved(redirect.clone()).to_bytes());
            }
        }
        if whom.is_none() {
            self.next_call = now;
        }
    }

    /// A home that moved calls the homes that it trusts: what they relay comes from there and goes there from now on.
    pub(super) fn call_homes(&mut self, now: Instant, unix: u64, node: &mut Node, config: &Config) {
        if self.next_call > now {
            return;
        }
        self.next_call = now + CALL;
        let (Some(home), Some(prefix)) = (&self.home, config.home_prefix) else { return };
        let here = {
            let desk = home.lock();
            desk.redirect().is_some() && desk.moved_away(unix).is_none()
        };
        if !here {
            return;
        }
        let local = agent_of(prefix);
        for remote in config.roots.iter().map(|root| agent_of(root.prefix())).filter(|other| *other != local)
        {
            if node.ike_with(local, remote).is_none() {
                node.call(now, local, remote, &source_for);
            }
        }
    }
}
