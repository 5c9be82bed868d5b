//! The machine's forwarder: queries for a trusted home's names go to that home through the tunnel, all others to the
//! resolvers that the machine has anyway.
//!
//! It believes a home about its own domain and its own addresses only: an answer with an IPv4 address, with an address
//! of somebody else, or with anything that leads elsewhere is not passed on. So no name of a home can take a connection
//! past the tunnel (RFC 6724 ranks 2002::/16 below IPv4).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use domain::base::iana::{OptRcode, Rcode, Rtype};
use domain::base::{Message, Name, ParsedName, ToName};
use domain::rdata::{Aaaa, Ptr};
use ipnet::Ipv6Net;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::exchange::exchange;
use super::listen::{Listener, Responder};
use super::message::{NoQuery, Query, Transport, refuse};
use super::resolv_conf::Resolvers;
use super::serve::PORT;
use super::zone::{ZoneError, apex, reverse};
use crate::addr::plan::agent_of;

/// Where the forwarder listens unless told otherwise: an address that nobody else uses, so that port 53 is free there
/// (RFC 1122 §3.2.1.3: all of 127/8 is this machine).
pub const DEFAULT_STUB: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 53, 20, 2)), PORT);
/// How long a home is waited for, each time it is asked. The first packet may have to wait for its SA.
const HOME_WAITS: &[Duration] = &[Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(2)];
/// How long a resolver is waited for, in each round through all of them.
const WAITS: &[Duration] = &[Duration::from_secs(1), Duration::from_secs(2)];
/// The same question so many times at once is a resolver that asks us what we ask it.
const SAME_QUESTION: usize = 24;

/// A home whose names this machine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeDomain {
    /// Its domain, such as `home.example.org`.
    pub domain: String,
    /// Its /48.
    pub prefix: Ipv6Net,
    /// Complete short names with it (`web` means `web.home.example.org`): for the own home.
    pub search: bool,
}

/// A home that is asked.
#[derive(Debug)]
struct Home {
    domain: Name<Vec<u8>>,
    reverse: Name<Vec<u8>>,
    prefix: Ipv6Net,
    server: SocketAddr,
}

impl Home {
    fn new(of: &HomeDomain, server: SocketAddr) -> Result<Self, ZoneError> {
        Ok(Self { domain: apex(&of.domain)?, reverse: reverse(of.prefix)?, prefix: of.prefix, server })
    }

    fn owns(&self, name: &impl ToName) -> bool {
        name.ends_with(&self.domain) || name.ends_with(&self.reverse)
    }
}

/// Why there is no forwarder.
#[derive(Debug, thiserror::Error)]
pub enum StubError {
    /// Others could use it.
    #[error(
        "the forwarder for names cannot listen on {0}, where others would reach it: choose a loopback address"
    )]
    NotLoopback(SocketAddr),
    /// Taken, or not permitted.
    #[error(
        "the forwarder for names cannot listen on {at} ({error}): end what listens there, or choose another loopback address"
    )]
    Bind {
        /// Where.
        at: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A home that cannot be asked.
    #[error(transparent)]
    Home(#[from] ZoneError),
}

/// A running forwarder; it ends when this is dropped.
#[derive(Debug)]
pub struct Stub {
    listener: Listener,
    forwarder: Arc<Forwarder>,
}

#[derive(Debug)]
struct Forwarder {
    homes: ArcSwap<Vec<Home>>,
    resolvers: Resolvers,
    ids: Mutex<ChaCha20Rng>,
    in_flight: Mutex<HashMap<Vec<u8>, usize>>,
}

impl Stub {
    /// Listens. `seed` makes the numbers of the queries and must be random. In a tokio runtime.
    ///
    /// # Errors
    /// The address is no loopback address or taken, or a home's domain is none.
    pub async fn start(
        at: SocketAddr,
        homes: &[HomeDomain],
        resolvers: Resolvers,
        seed: [u8; 32],
    ) -> Result<Self, StubError> {
        Self::start_with(at, routes(homes)?, resolvers, seed).await
    }

    async fn start_with(
        at: SocketAddr,
        homes: Vec<Home>,
        resolvers: Resolvers,
        seed: [u8; 32],
    ) -> Result<Self, StubError> {
        if !at.ip().is_loopback() {
            return Err(StubError::NotLoopback(at));
        }
        let forwarder = Arc::new(Forwarder {
            homes: ArcSwap::from_pointee(homes),
            resolvers: resolvers.never(at.ip()),
            ids: Mutex::new(ChaCha20Rng::from_seed(seed)),
            in_flight: Mutex::default(),
        });
        let listener = Listener::start(at, Arc::clone(&forwarder))
            .await
            .map_err(|error| StubError::Bind { at, error })?;
        Ok(Self { listener, forwarder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Other homes from now on.
    ///
    /// # Errors
    /// One of their domains is none; then nothing changes.
    pub fn set_homes(&self, homes: &[HomeDomain]) -> Result<(), ZoneError> {
        self.forwarder.homes.store(Arc::new(routes(homes)?));
        Ok(())
    }
}

fn routes(homes: &[HomeDomain]) -> Result<Vec<Home>, ZoneError> {
    let at_home = |home: &HomeDomain| Home::new(home, (agent_of(home.prefix), PORT).into());
    let mut routes = homes.iter().map(at_home).collect::<Result<Vec<_>, _>>()?;
    // The longest domain is found first: one home's may be inside another's.
    routes.sort_by_key(|home| std::cmp::Reverse(home.domain.label_count()));
    Ok(routes)
}

impl Responder for Forwarder {
    async fn respond(&self, octets: Vec<u8>, transport: Transport) -> Option<Vec<u8>> {
        let query = match Query::parse(&octets) {
            Ok(query) => query,
            Err(NoQuery::Silence) => return None,
            Err(NoQuery::Refused(rcode)) => return refuse(&octets, rcode),
        };
        let Ok(name) = query.name() else { return Some(query.code(OptRcode::FORMERR)) };
        let Some(_entry) = self.enter(&name, query.qtype) else {
            return Some(query.code(OptRcode::REFUSED));
        };
        let homes = self.homes.load_full();
        let reply = if let Some(home) = homes.iter().find(|home| home.owns(&name)) {
            let reply = self.ask(&[home.server], HOME_WAITS, &octets, transport).await;
            reply.filter(|reply| is_credible(reply, home))
        } else {
            let prefixes: Vec<_> = homes.iter().map(|home| home.prefix).collect();
            self.ask(&self.resolvers.servers(&prefixes), WAITS, &octets, transport).await
        };
        Some(reply.unwrap_or_else(|| query.code(OptRcode::SERVFAIL)))
    }
}

impl Forwarder {
    /// The first good answer of the servers; one that says only that it has none if there is no other.
    async fn ask(
        &self,
        servers: &[SocketAddr],
        waits: &[Duration],
        query: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let mut excuse = None;
        for wait in waits {
            for server in servers {
                let id = self.id();
                match exchange(*server, query, id, transport, *wait).await {
                    Ok(reply) if is_an_answer(&reply) => return Some(reply),
                    Ok(reply) => excuse = Some(reply),
                    Err(error) => tracing::debug!(%server, %error, "a resolver does not answer"),
                }
            }
            if excuse.is_some() {
                break;
            }
        }
        excuse
    }

    fn id(&self) -> u16 {
        let bits = self.ids.lock().unwrap_or_else(PoisonError::into_inner).next_u32();
        u16::try_from(bits >> 16).unwrap_or_default()
    }

    /// Counts a question while it is worked on; `None`: it goes round in circles.
    fn enter(&self, name: &Name<Vec<u8>>, qtype: Rtype) -> Option<Entry<'_>> {
        let mut question = name.as_slice().to_ascii_lowercase();
        question.extend_from_slice(&qtype.to_int().to_be_bytes());
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let count = in_flight.entry(question.clone()).or_default();
        if *count >= SAME_QUESTION {
            tracing::warn!("a resolver that resolv.conf names asks this machine itself: take it out");
            return None;
        }
        *count += 1;
        Some(Entry { forwarder: self, question })
    }
}

/// A question that is worked on.
struct Entry<'a> {
    forwarder: &'a Forwarder,
    question: Vec<u8>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.forwarder.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_flight.get_mut(&self.question) {
            *count -= 1;
            if *count == 0 {
                in_flight.remove(&self.question);
            }
        }
    }
}

/// Whether a reply says something, if only that there is nothing.
fn is_an_answer(reply: &[u8]) -> bool {
    Message::from_slice(reply)
        .is_ok_and(|reply| matches!(reply.header().rcode(), Rcode::NOERROR | Rcode::NXDOMAIN))
}

/// Whether a home may say that.
fn is_credible(reply: &[u8], home: &Home) -> bool {
    let Ok(message) = Message::from_slice(reply) else { return false };
    let credible = message.iter().all(|record| {
        let Ok((record, _)) = record else { return false };
        match record.rtype() {
            Rtype::OPT => true,
            Rtype::AAAA => record.to_record::<Aaaa>().ok().flatten().is_some_and(|aaaa| {
                let address: Ipv6Addr = aaaa.data().addr();
                home.prefix.contains(&address) && home.owns(aaaa.owner())
            }),
            Rtype::PTR => record
                .to_record::<Ptr<ParsedName<_>>>()
                .ok()
                .flatten()
                .is_some_and(|ptr| home.owns(ptr.owner()) && home.owns(ptr.data().ptrdname())),
            Rtype::SOA | Rtype::NS => home.owns(&record.owner()),
            _ => false,
        }
    });
    if !credible {
        tracing::warn!("the home of {} says more than it may: its answer is not passed on", home.domain);
    }
    credible
}

#[cfg(test)]
#[path = "stub_tests.rs"]
mod tests;
