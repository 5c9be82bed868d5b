//! The relayed path (RFC 3056's idea in UDP, as in RFC 5555): what becomes of a datagram that is a whole IPv6 packet.
//!
//! ```text
//!  node A -> home agent of A -> home agent of B -> node B
//!
//!  who receives                accepts a packet only from
//!  home agent of the source    the proven care-of address in the source's binding
//!  home agent of the           the home of the source: the IPv4 address in it, or its [[home]] endpoint (RFC 3964 §5.1)
//!    destination only
//!  node                        the home of the destination: its own
//! ```
//!
//! So nobody can use a home to send under another's name, or to reflect. A home agent forwards only what has an end in
//! its own prefix, only ESP, IKE and ICMPv6 errors, and takes one from the hop limit. It sends one datagram at most for
//! each one that it receives, and none that is longer.
//!
//! Published state: the roles of this process change rarely and are one snapshot; bindings change all the time and are
//! in [`table`]. A worker has a [`Relay`] of its own; all of them pay from the same buckets, which need no lock. Nothing is
//! allocated per packet.
//!
//! ```
//! use std::time::Duration;
//! use domicile::addr::home::Homes;
//! use domicile::dataplane::relay::{self, Limits, Relay, Roles, Verdict};
//! # let mut packet = [0; 60];
//! # let header = packet.first_chunk_mut().ok_or("60 octets")?;
//! # let (a, b) = ("2002:808:808:1:0:7:0:1".parse()?, "2002:909:909:1:0:7:0:1".parse()?);
//! # domicile::wire::ip::write_header(header, a, b, 50, 64, 20);
//! let (mut publisher, reader) = relay::new();
//! let homes = Homes::new(vec![], false);
//! publisher.set_roles(Roles { local: [].into(), home: Some("2002:808:808::/48".parse()?), homes });
//! publisher.bind("2002:808:808:1:0:7:0:1/128".parse()?, "1.2.3.4:61000".parse()?); // mobility::AgentEvent::Route
//!
//! let mut relay = Relay::new(reader, Limits::default(), [7; 16]); // one for each worker
//! let verdict = relay.decide(&packet, "1.2.3.4:61000".parse()?, Duration::ZERO);
//! let Verdict::Forward { to, hop_limit } = verdict else { return Err("refused".into()) };
//! assert_eq!(to, "9.9.9.9:4500".parse()?);
//! relay::rewrite(&mut packet, hop_limit); // and send it
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod counters;
mod limit;
mod payload;
pub mod table;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use ipnet::Ipv6Net;

use crate::addr::home::Homes;
use crate::wire::icmpv6::{self, Unreachable};
use crate::wire::ip::Ipv6View;
pub use counters::{Counters, Refusal};
use limit::{Buckets, Class};
pub use limit::{Limits, Rate};
pub use payload::Payload;
use table::{Bindings, Bound};

/// What this process is.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Permanent addresses of its own entities, and the home agent's.
    pub local: HashSet<Ipv6Addr>,
    /// The prefix that it is the home agent of.
    pub home: Option<Ipv6Net>,
    /// Where other homes are.
    pub homes: Homes,
}

impl Roles {
    fn is_home_of(&self, address: Ipv6Addr) -> bool {
        self.home.is_some_and(|prefix| prefix.contains(&address))
    }
}

struct Shared {
    roles: ArcSwap<Roles>,
    bindings: Bindings,
}

/// The control plane's handle: every call publishes.
pub struct Publisher {
    shared: Arc<Shared>,
    lengths: table::Lengths,
}

/// The workers' handle.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// No role and no binding: everything is refused.
pub fn new() -> (Publisher, Reader) {
    let shared = Arc::new(Shared { roles: ArcSwap::default(), bindings: Bindings::new() });
    (Publisher { shared: Arc::clone(&shared), lengths: table::Lengths::default() }, Reader { shared })
}

impl Publisher {
    /// Replaces the roles.
    pub fn set_roles(&mut self, roles: Roles) {
        self.shared.roles.store(Arc::new(roles));
    }

    /// This prefix is reached there, and what comes from it comes from there. The address must be proven.
    pub fn bind(&mut self, prefix: Ipv6Net, care_of: SocketAddrV4) {
        self.shared.bindings.set(prefix, Some(care_of), &mut self.lengths);
    }

    /// There is no binding for this prefix any more.
    pub fn unbind(&mut self, prefix: Ipv6Net) {
        self.shared.bindings.set(prefix, None, &mut self.lengths);
    }

    /// Replaces all bindings: much faster than one by one. For each prefix the last one counts.
    pub fn bind_all(&mut self, bindings: impl IntoIterator<Item = (Ipv6Net, SocketAddrV4)>) {
        self.shared.bindings.fill(bindings, &mut self.lengths);
    }
}

impl Reader {
    fn roles(&self) -> Guard<Arc<Roles>> {
        self.shared.roles.load()
    }

    /// Where the longest match for an address is.
    pub fn care_of(&self, address: Ipv6Addr) -> Option<SocketAddrV4> {
        self.shared.bindings.lookup(address).map(|bound| bound.care_of)
    }

    /// Where a relayed packet of our own goes first: to our home agent; or, where we are that ourselves, on from there.
    ///
    /// # Errors
    /// [`Refusal::Unbound`], [`Refusal::NoHome`], [`Refusal::Loop`].
    pub fn first_hop(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Result<SocketAddrV4, Refusal> {
        let roles = self.roles();
        if roles.is_home_of(source) || roles.is_home_of(destination) {
            return next_hop(&roles, &self.shared.bindings, destination).map(|(to, _)| to);
        }
        roles.homes.endpoint(source).map_err(|_| Refusal::NoHome)
    }
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Set the hop limit with [`rewrite`] and send the datagram there.
    Forward {
        /// A proven care-of address, or the home of the destination.
        to: SocketAddrV4,
        /// One less than it was.
        hop_limit: u8,
    },
    /// For an entity of this process.
    Local(Relayed<'a>),
    /// Nobody is bound there: send what [`unreachable()`] writes back to where the datagram came from.
    Unreachable,
    /// Nothing.
    Refused(Refusal),
}

/// A packet for an entity of this process, from where such packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// Outer source: must be the remote end of the SA.
    pub source: Ipv6Addr,
    /// Outer destination: must be the local end of the SA.
    pub destination: Ipv6Addr,
    /// What it carries.
    pub payload: Payload<'a>,
}

/// Sets the hop limit of a packet that is forwarded.
pub fn rewrite(packet: &mut [u8], hop_limit: u8) {
    if let Some(field) = packet.get_mut(7) {
        *field = hop_limit;
    }
}

/// Writes the answer to a packet for an unbound address into `out`; never longer than the packet, because its sender may
/// have lied about its address. `None`: say nothing.
pub fn unreachable(packet: &[u8], out: &mut [u8]) -> Option<usize> {
    icmpv6::unreachable_within(Unreachable::AddressUnreachable, packet, packet.len(), out)
}

/// The relay of one worker.
pub struct Relay {
    reader: Reader,
    buckets: Arc<Buckets>,
    counters: Arc<Counters>,
}

impl Relay {
    /// `seed`: random, so that nobody can aim at another's bucket.
    pub fn new(reader: Reader, limits: Limits, seed: [u8; 16]) -> Self {
        let buckets = Arc::new(Buckets::new(limits, seed));
        Self { reader, buckets, counters: Arc::default() }
    }

    /// The relay of another worker: the limits are for both together.
    pub fn for_another_worker(&self) -> Self {
        let (reader, buckets) = (self.reader.clone(), Arc::clone(&self.buckets));
        Self { reader, buckets, counters: Arc::default() }
    }

    /// What this worker's relay did.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Decides about a datagram that begins with nibble 6 and came from `from`. `now` counts from any moment.
    pub fn decide<'a>(&mut self, datagram: &'a [u8], from: SocketAddrV4, now: Duration) -> Verdict<'a> {
        self.decide_in(&mut Run::default(), datagram, from, now)
    }

    /// The same for one of many datagrams that arrived together: what is found out about one is used for those that
    /// follow it with the same addresses. Limits and counters take each alone.
    pub fn decide_in<'a>(
        &mut self,
        run: &mut Run,
        datagram: &'a [u8],
        from: SocketAddrV4,
        now: Duration,
    ) -> Verdict<'a> {
        match self.judge(run, datagram, from, now) {
            Ok(verdict) => {
                match verdict {
                    Verdict::Forward { .. } => self.counters.forwarded(datagram.len()),
                    Verdict::Local(_) => self.counters.delivered(datagram.len()),
                    Verdict::Unreachable => self.counters.answered(),
                    Verdict::Refused(_) => {}
                }
                verdict
            }
            Err(refusal) => {
                self.counters.refused(refusal);
                Verdict::Refused(refusal)
            }
        }
    }

    fn judge<'a>(
        &self,
        run: &mut Run,
        datagram: &'a [u8],
        from: SocketAddrV4,
        now: Duration,
    ) -> Result<Verdict<'a>, Refusal> {
        let view = Ipv6View::new(datagram).map_err(|_| Refusal::Malformed)?;
        let payload = payload::read(&view)?;
        let (source, destination) = (view.source(), view.destination());
        let Route { sender, target } = run.route(&self.reader, source, destination, from)?;
        let buckets = &self.buckets;
        buckets.take(Class::Source, u64::from(u32::from(*from.ip())), datagram.len(), now)?;
        // What somebody may ask of us besides data, per binding at home and per /64 elsewhere.
        if !matches!(payload, Payload::Esp { .. }) {
            buckets.take(Class::Control, sender.unwrap_or_else(|| table::subnet(source)), 1, now)?;
        }
        if let Some(bound) = sender {
            buckets.take(Class::Binding, bound, datagram.len(), now)?;
        }
        if target == Target::Local {
            return Ok(Verdict::Local(Relayed { source, destination, payload }));
        }
        let hop_limit = view.hop_limit().checked_sub(1).filter(|left| *left != 0).ok_or(Refusal::HopLimit)?;
        match target {
            Target::Next { to, bound } => {
                if let Some(bound) = bound {
                    buckets.take(Class::Binding, bound, datagram.len(), now)?;
                }
                Ok(Verdict::Forward { to, hop_limit })
            }
            Target::Nowhere(Refusal::Unbound) if !matches!(payload, Payload::IcmpError(_)) => {
                buckets.take(Class::Unreachable, 0, 1, now).map_err(|_| Refusal::Unbound)?;
                Ok(Verdict::Unreachable)
            }
            Target::Nowhere(refusal) => Err(refusal),
            // Answered above.
            Target::Local => Err(Refusal::Transit),
        }
    }
}

/// What was found out about the last datagram. Forget it with the batch: the tables change meanwhile.
#[derive(Default)]
pub struct Run {
    last: Option<(Ends, Result<Route, Refusal>)>,
}

/// What a route depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    from: SocketAddrV4,
}

/// What is the same for all packets from one place with the same addresses.
#[derive(Clone, Copy)]
struct Route {
    /// The source's binding, where we are its home.
    sender: Option<u64>,
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// An entity of this process.
    Local,
    /// There, and by way of this binding of ours.
    Next { to: SocketAddrV4, bound: Option<u64> },
    /// There is no way.
    Nowhere(Refusal),
}

impl Run {
    fn route(
        &mut self,
        reader: &Reader,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        from: SocketAddrV4,
    ) -> Result<Route, Refusal> {
        let ends = Ends { source, destination, from };
        if let Some((known, route)) = self.last
            && known == ends
        {
            return route;
        }
        let route = ends.route(reader);
        self.last = Some((ends, route));
        route
    }
}

impl Ends {
    fn route(self, reader: &Reader) -> Result<Route, Refusal> {
        let Self { source, destination, from } = self;
        let roles = reader.roles();
        let bindings = &reader.shared.bindings;
        let sender = authenticate(&roles, bindings, source, destination, from)?.map(|bound| bound.key);
        let target = if roles.local.contains(&destination) {
            Target::Local
        } else {
            match next_hop(&roles, bindings, destination) {
                Ok((to, bound)) => Target::Next { to, bound: bound.map(|bound| bound.key) },
                Err(refusal) => Target::Nowhere(refusal),
            }
        };
        Ok(Route { sender, target })
    }
}

/// Is this where packets from that source may come from? The source's binding, where we are its home.
fn authenticate(
    roles: &Roles,
    bindings: &Bindings,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    from: SocketAddrV4,
) -> Result<Option<Bound>, Refusal> {
    if roles.local.contains(&source) {
        return Err(Refusal::OwnSource);
    }
    if roles.is_home_of(source) {
        let bound = bindings.lookup(source).ok_or(Refusal::UnboundSource)?;
        return if bound.care_of == from { Ok(Some(bound)) } else { Err(Refusal::NotCareOf) };
    }
    let home = if roles.is_home_of(destination) {
        source
    } else if roles.local.contains(&destination) {
        destination
    } else {
        return Err(Refusal::Transit);
    };
    match roles.homes.endpoint(home) {
        Ok(endpoint) if endpoint == from => Ok(None),
        Ok(_) => Err(Refusal::NotHome),
        Err(_) => Err(Refusal::NoHome),
    }
}

/// Where a packet goes from a home agent.
fn next_hop(
    roles: &Roles,
    bindings: &Bindings,
    destination: Ipv6Addr,
) -> Result<(SocketAddrV4, Option<Bound>), Refusal> {
    if roles.is_home_of(destination) {
        let bound = bindings.lookup(destination).ok_or(Refusal::Unbound)?;
        return Ok((bound.care_of, Some(bound)));
    }
    let to = roles.homes.endpoint(destination).map_err(|_| Refusal::NoHome)?;
    let own = roles.home.and_then(|prefix| roles.homes.endpoint(prefix.addr()).ok());
    if own == Some(to) { Err(Refusal::Loop) } else { Ok((to, None)) }
}
