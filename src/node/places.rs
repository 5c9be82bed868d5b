//! Homes that move. A home has places where it may be reached, the preferred one first: where its root says that it is,
//! where the configuration says so, where its address tells. The one in use is left only for a place at which the home
//! agent has proven itself by the same root, so a wrong place costs its neighbours the few datagrams of an IKE attempt,
//! after ever longer pauses.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::config::HomeConfig;
use super::pair::{Attempt, Pair, PairKey};
use super::{Event, Node, RouteLookup};
use crate::addr::plan::agent_of;
use crate::dataplane::event::UdpPath;

/// A better place that did not answer is tried again after this long, then after twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LAST_PAUSE: Duration = Duration::from_secs(600);

/// What is under way, by home.
#[derive(Default)]
pub(super) struct Places {
    homes: BTreeMap<Ipv6Net, Search>,
    /// Where the last attempt of a sender to reach a home agent went.
    tried: BTreeMap<PairKey, SocketAddrV4>,
}

/// How a home is looked for.
struct Search {
    /// Where the next attempt goes while no SA is up.
    next: SocketAddrV4,
    /// While one is up: when a better place is tried, and the pause after that.
    again: Instant,
    pause: Duration,
    /// How many better places were tried.
    tries: usize,
}

impl Search {
    fn new(now: Instant, home: &HomeConfig) -> Self {
        let next = home.places.first().copied().unwrap_or(home.endpoint);
        Self { next, again: now, pause: FIRST_PAUSE, tries: 0 }
    }
}

impl Node {
    /// Replaces the places of homes, and which homes there are.
    pub fn set_homes(&mut self, now: Instant, homes: Vec<HomeConfig>) {
        let old = std::mem::take(&mut self.config.homes);
        self.take_homes(now, &old, homes);
        self.apply_registrations(now);
        self.drain(now);
    }

    /// Homes, and where they are reached now.
    pub fn homes(&self) -> &[HomeConfig] {
        &self.config.homes
    }

    /// Takes up homes; SAs with those that stay go on where they are until a better place answers.
    pub(super) fn take_homes(&mut self, now: Instant, old: &[HomeConfig], mut homes: Vec<HomeConfig>) {
        let mut searches = BTreeMap::new();
        let mut elsewhere = Vec::new();
        for home in &mut homes {
            let known = old.iter().find(|old| old.prefix == home.prefix);
            let search = self.places.homes.remove(&home.prefix);
            match (known, search) {
                (Some(known), Some(search)) if known.places == home.places => {
                    home.endpoint = known.endpoint;
                    searches.insert(home.prefix, search);
                }
                (known, _) => {
                    let search = Search::new(now, home);
                    home.endpoint = known.map_or(search.next, |known| known.endpoint);
                    elsewhere.push((home.prefix, search.next));
                    searches.insert(home.prefix, search);
                }
            }
        }
        self.config.homes = homes;
        self.places.homes = searches;
        for (prefix, next) in elsewhere {
            self.give_up_elsewhere(now, prefix, next);
        }
    }

    /// Attempts that are under way towards another place than the one that is wanted now.
    fn give_up_elsewhere(&mut self, now: Instant, prefix: Ipv6Net, next: SocketAddrV4) {
        for key in self.senders(prefix) {
            let Some(mut pair) = self.pairs.get_mut(&key) else { continue };
            let tried = self.places.tried.get(&key);
            if pair.active.is_none() && pair.attempt == Attempt::Running && tried != Some(&next) {
                self.ike.abandon(now, key.0, key.1);
                pair.attempt = Attempt::Idle;
            }
            pair.forgive(now);
        }
    }

    /// Who of us talks with the home agent of this home: whoever is registered there, and our own home agent, which
    /// relays to it.
    fn senders(&self, prefix: Ipv6Net) -> Vec<PairKey> {
        let senders = self.config.registrations.iter().map(|registration| registration.sender);
        let role =
            self.config.home_agent.iter().filter(|role| role.prefix != prefix).map(|role| role.address);
        senders
            .filter(|sender| prefix.contains(sender))
            .chain(role)
            .map(|sender| (sender, agent_of(prefix)))
            .collect()
    }

    /// Brings up an SA between these two, if none is there and the last attempt is long enough ago.
    pub fn call(&mut self, now: Instant, local: Ipv6Addr, remote: Ipv6Addr, route: RouteLookup<'_>) {
        let may = {
            let pair = self.pairs.or_insert_with((local, remote), || Pair::new(now));
            pair.active.is_none() && pair.may_try(now)
        };
        if may && let Err(error) = self.start(now, local, remote, route) {
            self.fail(now, (local, remote), error);
        }
        self.drain(now);
    }

    /// The way that is used between these two.
    fn path_in_use(&self, key: &PairKey) -> Option<UdpPath> {
        let active = self.pairs.get(key)?.active?;
        Some(self.children.get(&active)?.path)
    }

    /// Is there an SA with the home agent that goes there?
    fn is_up_at(&self, home: &HomeConfig, place: SocketAddrV4) -> bool {
        let there = |key: &PairKey| self.path_in_use(key).is_some_and(|path| path.remote == place);
        self.senders(home.prefix).iter().any(there)
    }

    /// Where an attempt to reach this home agent goes.
    pub(super) fn place_of(&self, home: &HomeConfig) -> SocketAddrV4 {
        self.places.homes.get(&home.prefix).map_or(home.endpoint, |search| search.next)
    }

    /// An attempt in direct form begins.
    pub(super) fn place_tried(&mut self, key: PairKey, place: SocketAddrV4) {
        if self.config.homes.iter().any(|home| home.agent == key.1) {
            self.places.tried.insert(key, place);
        }
    }

    /// An attempt came to nothing: the next one goes to the next place.
    pub(super) fn place_failed(&mut self, now: Instant, key: PairKey) {
        let Some(home) = self.config.homes.iter().find(|home| home.agent == key.1) else { return };
        let Some(search) = self.places.homes.get_mut(&home.prefix) else { return };
        let active = self.pairs.get(&key).is_some_and(|pair| pair.active.is_some());
        if active || self.places.tried.get(&key) != Some(&search.next) || home.places.is_empty() {
            return;
        }
        let at = home.places.iter().position(|place| *place == search.next);
        let at = at.map_or(0, |at| (at + 1) % home.places.len());
        search.next = home.places.get(at).copied().unwrap_or(home.endpoint);
        // Once around without a pause.
        if at != 0
            && let Some(mut pair) = self.pairs.get_mut(&key)
        {
            pair.forgive(now);
        }
    }

    /// A home agent has proven itself at this place.
    pub(super) fn home_reached(&mut self, now: Instant, key: PairKey, path: UdpPath) {
        let Some(at) = self.config.homes.iter().position(|home| home.agent == key.1) else { return };
        let Some(home) = self.config.homes.get(at).filter(|_| path.relay.is_none()) else { return };
        let rank = |place| home.places.iter().position(|other| *other == place);
        let (old, new) = (home.endpoint, path.remote);
        let Some(wanted) = rank(new) else { return };
        if new != old && rank(old).is_some_and(|rank| rank < wanted) && self.is_up_at(home, old) {
            return;
        }
        self.arrive(now, at, key, path);
    }

    /// This home is there from now on.
    fn arrive(&mut self, now: Instant, at: usize, key: PairKey, path: UdpPath) {
        let Some(home) = self.config.homes.get_mut(at) else { return };
        let (prefix, new) = (home.prefix, path.remote);
        let old = std::mem::replace(&mut home.endpoint, new);
        if let Some(search) = self.places.homes.get_mut(&prefix) {
            search.next = new;
            if new != old {
                (search.pause, search.tries) = (FIRST_PAUSE, 0);
            }
        }
        if new == old {
            return;
        }
        self.events.push_back(Event::HomeMoved { prefix, from: old, to: new });
        // What was relayed by way of the old place goes by way of the new one.
        let keys: Vec<PairKey> = self
            .paths
            .keys()
            .filter(|(local, remote)| match self.role_for(*local) {
                Some(role) => prefix.contains(remote) && !role.prefix.contains(remote),
                None => prefix.contains(local),
            })
            .copied()
            .collect();
        for key in keys {
            self.relay_moved(now, key, new);
        }
        for other in self.senders(prefix).into_iter().filter(|other| *other != key) {
            self.reach_home(now, other, UdpPath::direct(path.local, new));
        }
    }

    /// Goes from the SA of this sender with its home agent to one elsewhere, make-before-break.
    fn reach_home(&mut self, now: Instant, key: PairKey, path: UdpPath) {
        if self.path_in_use(&key).is_none_or(|used| used.remote == path.remote) {
            return;
        }
        if let Some(ike) = self.ike_with(key.0, key.1) {
            self.places.tried.insert(key, path.remote);
            self.ike.reach(now, ike, path);
        }
    }

    /// Homes that are in use at another place than the preferred one, who looks there for them, and when.
    fn searches(&self) -> impl Iterator<Item = (&HomeConfig, PairKey, Instant)> {
        self.config.homes.iter().filter_map(|home| {
            let search = self.places.homes.get(&home.prefix)?;
            if home.places.first().is_none_or(|first| *first == home.endpoint) {
                return None;
            }
            let senders = self.senders(home.prefix);
            let up = senders.iter().find(|key| self.path_in_use(key).is_some());
            // Who is registered there tries again and again without us; our home agent does not.
            let role = self.config.home_agent.as_ref().map(|role| role.address);
            let key = up.or_else(|| senders.iter().find(|key| Some(key.0) == role))?;
            Some((home, *key, search.again))
        })
    }

    pub(super) fn next_search(&self) -> Option<Instant> {
        self.searches().map(|(_, _, at)| at).min()
    }

    /// One sender looks whether the home is at a better place by now; the others follow it.
    pub(super) fn search(&mut self, now: Instant, route: RouteLookup<'_>) {
        let due: Vec<(Ipv6Net, PairKey)> = self
            .searches()
            .filter(|(_, _, at)| *at <= now)
            .map(|(home, key, _)| (home.prefix, key))
            .collect();
        for (prefix, key) in due {
            let Some(at) = self.config.homes.iter().position(|home| home.prefix == prefix) else { continue };
            let Some(home) = self.config.homes.get(at) else { continue };
            let Some(search) = self.places.homes.get(&prefix) else { continue };
            let better: Vec<SocketAddrV4> =
                home.places.iter().copied().take_while(|place| *place != home.endpoint).collect();
            let place = better.get(search.tries % better.len().max(1)).copied();
            // It called us from there.
            let there =
                self.path_in_use(&key).filter(|path| Some(path.remote) == place && path.relay.is_none());
            if let Some(path) = there {
                self.arrive(now, at, key, path);
                continue;
            }
            let Some(search) = self.places.homes.get_mut(&prefix) else { continue };
            search.tries += 1;
            if search.tries % better.len().max(1) == 0 {
                (search.again, search.pause) = (now + search.pause, (search.pause * 2).min(LAST_PAUSE));
            } else {
                search.again = now + FIRST_PAUSE;
            }
            let Some((place, source)) = place.and_then(|place| Some((place, route(*place.ip())?))) else {
                continue;
            };
            if self.path_in_use(&key).is_none() {
                self.call(now, key.0, key.1, route);
                continue;
            }
            self.reach_home(now, key, UdpPath::direct(SocketAddrV4::new(source, self.config.port), place));
        }
        self.drain(now);
    }
}
