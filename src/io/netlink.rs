//! The machine's addresses, routes and rules, through netlink.
//!
//! Everything of ours lives in two routing tables and carries our protocol number, so that it can be found and removed:
//!
//! ```text
//! rule 4490  from LOCAL to REMOTE lookup main     each BYPASS policy, and before it, in the order of the policies,
//! rule 4490  from LOCAL to REMOTE goto 4491       what an earlier PROTECT or DISCARD keeps from it
//! rule 4491  nop
//! rule 4492  iif lo uidrange U-U lookup T         what a user says whose address is their own: table T is for them
//! rule 4495  iif TUN lookup 4501                  our addresses, for what comes out of the tunnel …
//! rule 4496  iif lo  lookup 4501                  … and for what this machine says to itself, but for nobody else:
//!                                                 a packet to a permanent address that arrives in clear on another
//!                                                 interface does not reach it
//! rule 4500  lookup 4500                          the tunnel
//! table 4500 PREFIX dev TUN src ENTITY metric 1024
//!            unreachable PREFIX metric 4294967294 fail closed: stays when the TUN goes
//! table 4501 local ADDRESS dev TUN                goes with the TUN: after a crash the address answers nobody
//! table T    the same PREFIXes and ADDRESSes, all with src = the user's own address
//! ```

mod change;
mod claim;
mod view;

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use futures_util::{StreamExt, TryStreamExt};
use ipnet::Ipv6Net;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RuleUidRange};
use rtnetlink::{
    AddressMessageBuilder, Handle, IpVersion, LinkUnspec, MulticastGroup, RouteMessageBuilder,
    new_connection, new_multicast_connection,
};
use tokio::sync::mpsc;

pub use view::View;

/// Our number in `rtm_protocol` and in rules: free in /etc/iproute2/rt_protos.
pub const PROTOCOL: u8 = 208;
/// Routes into the tunnel.
pub const TUNNEL_TABLE: u32 = 4500;
/// Our own addresses.
pub const LOCAL_TABLE: u32 = 4501;
/// Routes of the first user with an address of their own; the next one has the next table.
pub const OWNER_TABLES: u32 = 450_000;
const BYPASS_PRIORITY: u32 = 4490;
const OWNER_PRIORITY: u32 = 4492;
const LOCAL_PRIORITY: u32 = 4495;
const TUNNEL_PRIORITY: u32 = 4500;
const TUNNEL_METRIC: u32 = 1024;
const CLOSED_METRIC: u32 = u32::MAX - 1;
const LOCAL: u32 = 255;
/// Largest super-packet that the kernel hands over: cut, sealed and with all headers it still fits one UDP message with
/// UDP_SEGMENT, down to the smallest MTU (48 packets of 1,280 octets become 63,168).
const GSO_MAX_SIZE: u32 = 59_000;

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}")]
pub struct NetlinkError {
    what: String,
    error: String,
}

/// What happens between two prefixes before the tunnel takes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bypass {
    /// Local prefix.
    pub local: Ipv6Net,
    /// Remote prefix.
    pub remote: Ipv6Net,
    /// It is a BYPASS: left to the machine's own routes. Otherwise it is kept from a BYPASS that comes later.
    pub left_alone: bool,
}

/// What to set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name of the TUN device.
    pub interface: String,
    /// Its MTU.
    pub mtu: u16,
    /// Permanent addresses of this machine; the first one that belongs to everybody is the preferred source.
    pub addresses: Vec<Ipv6Addr>,
    /// Those of them that belong to one user, and the uid; a user speaks from the first one.
    pub owners: Vec<(Ipv6Addr, u32)>,
    /// Prefixes that lead into the tunnel.
    pub routed: Vec<Ipv6Net>,
    /// What is left alone, and what is kept from being left alone, in the order in which they are tried.
    pub bypassed: Vec<Bypass>,
}

impl Plan {
    /// Where a socket that asks for no address speaks from, unless its user has an address of their own.
    fn preferred_source(&self) -> Option<Ipv6Addr> {
        let shared = self.addresses.iter().find(|address| self.owner(**address).is_none());
        shared.or_else(|| self.addresses.first()).copied()
    }

    /// The users with an address of their own, and the address that each speaks from. Root may own one, the home
    /// agent's; unless it asks for that one it speaks from everybody's.
    pub fn speakers(&self) -> Vec<(Ipv6Addr, u32)> {
        let mut seen = std::collections::BTreeSet::from([0]);
        self.owners.iter().filter(|(_, uid)| seen.insert(*uid)).copied().collect()
    }

    fn owner(&self, address: Ipv6Addr) -> Option<u32> {
        self.owners.iter().find(|(owned, _)| *owned == address).map(|(_, uid)| *uid)
    }
}

/// The machine, through one netlink socket of the current network namespace.
pub struct Machine {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
    guard: Option<tokio::task::JoinHandle<()>>,
    /// The permanent addresses that the guard watches.
    claimed: claim::Claimed,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(guard) = &self.guard {
            guard.abort();
        }
    }
}

fn told<T, E: std::fmt::Display>(
    what: impl FnOnce() -> String,
    result: Result<T, E>,
) -> Result<T, NetlinkError> {
    result.map_err(|error| NetlinkError { what: what(), error: error.to_string() })
}

/// "Already there" and "not there any more" are what we wanted.
fn lenient(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(message))
            if matches!(
                message.to_io().raw_os_error(),
                Some(libc::EEXIST | libc::ESRCH | libc::ENOENT | libc::ENODEV | libc::EADDRNOTAVAIL)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

impl Machine {
    /// Opens the socket; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        Ok(Self { handle, task: tokio::spawn(connection), guard: None, claimed: claim::Claimed::default() })
    }

    /// Removes what an earlier run left: rules and routes by protocol number.
    pub async fn sweep(&self) -> Result<(), NetlinkError> {
        for rule in told(|| "listing rules".to_owned(), self.rules().await)? {
            told(|| "removing a rule".to_owned(), lenient(self.handle.rule().del(rule).execute().await))?;
        }
        for route in told(|| "listing routes".to_owned(), self.routes().await)? {
            told(|| "removing a route".to_owned(), lenient(self.handle.route().del(route).execute().await))?;
        }
        Ok(())
    }

    /// Sets everything up. The fail-closed routes come first.
    pub async fn set_up(&mut self, plan: &Plan) -> Result<(), NetlinkError> {
        for prefix in &plan.routed {
            let route = route(*prefix, TUNNEL_TABLE).kind(RouteType::Unreachable).priority(CLOSED_METRIC);
            self.add_route(&format!("route unreachable {prefix}"), route.build()).await?;
        }
        // Rules of one priority are tried in the order in which they were added.
        for Bypass { local, remote, left_alone } in &plan.bypassed {
            let between = Some((*local, *remote));
            let mut rule = rule(BYPASS_PRIORITY, RouteHeader::RT_TABLE_MAIN.into(), None, between);
            if !left_alone {
                // Whatever comes after the BYPASS rules.
                rule.header.action = RuleAction::Goto;
                rule.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Table(_)));
                rule.attributes.push(RuleAttribute::Goto(BYPASS_PRIORITY + 1));
            }
            self.add_rule(rule).await?;
        }
        if !plan.bypassed.is_empty() {
            let mut landing = rule(BYPASS_PRIORITY + 1, 0, None, None);
            landing.header.action = RuleAction::Nop;
            landing.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Table(_)));
            self.add_rule(landing).await?;
        }
        self.add_rule(rule(LOCAL_PRIORITY, LOCAL_TABLE, Some(&plan.interface), None)).await?;
        self.add_rule(rule(LOCAL_PRIORITY + 1, LOCAL_TABLE, Some("lo"), None)).await?;
        self.add_rule(rule(TUNNEL_PRIORITY, TUNNEL_TABLE, None, None)).await?;
        self.raise_loopback().await?;
        let index = self.raise(plan).await?;
        let guard = claim::guard(self.handle.clone(), self.claimed.clone());
        self.guard = Some(told(|| "watching IPv6 routes".to_owned(), guard)?);
        self.add_addresses(index, plan, &plan.addresses).await?;
        for prefix in &plan.routed {
            self.add_tunnel(plan, index, *prefix, TUNNEL_TABLE, plan.preferred_source()).await?;
        }
        for ((address, uid), table) in plan.speakers().into_iter().zip(OWNER_TABLES..) {
            for prefix in &plan.routed {
                self.add_tunnel(plan, index, *prefix, table, Some(address)).await?;
            }
            let mut rule = rule(OWNER_PRIORITY, table, Some("lo"), None);
            rule.attributes.push(RuleAttribute::UidRange(RuleUidRange { start: uid, end: uid }));
            self.add_rule(rule).await?;
        }
        Ok(())
    }

    /// Adds permanent addresses of a plan to the device, with their routes.
    async fn add_addresses(
        &self,
        index: u32,
        plan: &Plan,
        addresses: &[Ipv6Addr],
    ) -> Result<(), NetlinkError> {
        for address in addresses {
            self.add_address(index, *address).await?;
        }
        for address in addresses {
            // Whoever talks to another user's address talks from their own or from the one for everybody: left to itself
            // the kernel would take the destination (RFC 6724 §5 rule 1), which is not theirs.
            let source = plan.preferred_source().filter(|_| plan.owner(*address).is_some());
            self.add_local(index, *address, LOCAL_TABLE, source).await?;
            for ((own, _), table) in plan.speakers().into_iter().zip(OWNER_TABLES..) {
                self.add_local(index, *address, table, Some(own)).await?;
            }
            told(
                || format!("taking {address} off other interfaces"),
                claim::take_off(&self.handle, index, *address).await,
            )?;
        }
        // What comes later than that is the guard's.
        self.claimed.claim(addresses);
        Ok(())
    }

    /// Brings the device up without link-local address, router solicitations or advertisements.
    async fn raise(&self, plan: &Plan) -> Result<u32, NetlinkError> {
        let name = &plan.interface;
        let mut links = self.handle.link().get().match_name(name.clone()).execute();
        let link = told(|| format!("finding {name}"), links.try_next().await)?;
        let index = link.map_or(0, |link| link.header.index);
        for (knob, value) in [("accept_ra", "0"), ("router_solicitations", "0"), ("autoconf", "0")] {
            // Absent where IPv6 is compiled without it; the device then does not do it either.
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{knob}"), value);
        }
        // In a message of its own: together with IFF_UP the kernel would make the link-local address first.
        let quiet = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let quiet = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![quiet]))
            .build();
        told(|| format!("addrgenmode none on {name}"), self.handle.link().set(quiet).execute().await)?;
        let up = LinkUnspec::new_with_index(index).mtu(plan.mtu.into()).up().build();
        told(
            || format!("bringing {name} up with MTU {}", plan.mtu),
            self.handle.link().set(up).execute().await,
        )?;
        // A kernel that refuses hands over larger super-packets, each of which becomes two messages.
        let gso = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::GsoMaxSize(GSO_MAX_SIZE))
            .build();
        let _ = self.handle.link().set(gso).execute().await;
        Ok(index)
    }

    async fn add_address(&self, index: u32, address: Ipv6Addr) -> Result<(), NetlinkError> {
        let message = AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(address, 128).build();
        let mut request = self.handle.address().add(index, IpAddr::V6(address), 128).replace();
        *request.message_mut() = message;
        request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        told(|| format!("adding {address}"), request.execute().await)?;
        Ok(())
    }

    /// A route of ours for one of our addresses: the kernel's own answers on every interface.
    async fn add_local(
        &self,
        index: u32,
        address: Ipv6Addr,
        table: u32,
        source: Option<Ipv6Addr>,
    ) -> Result<(), NetlinkError> {
        let mut local = route(Ipv6Net::from(address), table).kind(RouteType::Local).output_interface(index);
        if let Some(source) = source {
            local = local.pref_source(source);
        }
        self.add_route(&format!("local route for {address}"), local.build()).await
    }

    async fn add_tunnel(
        &self,
        plan: &Plan,
        index: u32,
        prefix: Ipv6Net,
        table: u32,
        source: Option<Ipv6Addr>,
    ) -> Result<(), NetlinkError> {
        let what = format!("route {prefix} dev {}", plan.interface);
        self.add_route(&what, tunnel_route(index, prefix, table, source)).await
    }

    /// What a machine says to its own addresses goes by way of lo, also when the route names the TUN.
    async fn raise_loopback(&self) -> Result<(), NetlinkError> {
        let mut links = self.handle.link().get().match_name("lo".to_owned()).execute();
        let link = told(|| "finding lo".to_owned(), links.try_next().await)?;
        let index = link.map_or(1, |link| link.header.index);
        let up = LinkUnspec::new_with_index(index).up().build();
        told(|| "bringing lo up".to_owned(), self.handle.link().set(up).execute().await)
    }

    async fn add_route(&self, what: &str, route: RouteMessage) -> Result<(), NetlinkError> {
        told(|| format!("adding {what}"), lenient(self.handle.route().add(route).execute().await))
    }

    async fn add_rule(&self, rule: RuleMessage) -> Result<(), NetlinkError> {
        let mut request = self.handle.rule().add().v6();
        *request.message_mut() = rule;
        told(|| "adding a routing rule".to_owned(), lenient(request.execute().await))
    }

    async fn rules(&self) -> Result<Vec<RuleMessage>, rtnetlink::Error> {
        let ours = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
        let all: Vec<RuleMessage> = self.handle.rule().get(IpVersion::V6).execute().try_collect().await?;
        Ok(all.into_iter().filter(|rule| rule.attributes.contains(&ours)).collect())
    }

    async fn routes(&self) -> Result<Vec<RouteMessage>, rtnetlink::Error> {
        let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let all: Vec<RouteMessage> = self.handle.route().get(all).execute().try_collect().await?;
        let mut ours: Vec<RouteMessage> =
            all.into_iter().filter(|route| route.header.protocol == RouteProtocol::Other(PROTOCOL)).collect();
        for route in &mut ours {
            // What a dump adds and a deletion does not take.
            route.attributes.retain(|attribute| {
                !matches!(attribute, RouteAttribute::CacheInfo(_) | RouteAttribute::Metrics(_))
            });
        }
        Ok(ours)
    }
}

fn tunnel_route(index: u32, prefix: Ipv6Net, table: u32, source: Option<Ipv6Addr>) -> RouteMessage {
    let mut tunnel = route(prefix, table).output_interface(index).priority(TUNNEL_METRIC);
    if let Some(source) = source {
        tunnel = tunnel.pref_source(source);
    }
    tunnel.build()
}

fn route(prefix: Ipv6Net, table: u32) -> RouteMessageBuilder<Ipv6Addr> {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(prefix.network(), prefix.prefix_len())
        .table_id(table)
        .protocol(RouteProtocol::Other(PROTOCOL))
}

fn rule(
    priority: u32,
    table: u32,
    interface: Option<&str>,
    between: Option<(Ipv6Net, Ipv6Net)>,
) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = rtnetlink::packet_route::AddressFamily::Inet6;
    rule.header.action = RuleAction::ToTable;
    rule.attributes.push(RuleAttribute::Priority(priority));
    rule.attributes.push(RuleAttribute::Table(table));
    rule.attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    if let Some(interface) = interface {
        rule.attributes.push(RuleAttribute::Iifname(interface.to_owned()));
    }
    if let Some((local, remote)) = between {
        rule.header.src_len = local.prefix_len();
        rule.header.dst_len = remote.prefix_len();
        if local.prefix_len() > 0 {
            rule.attributes.push(RuleAttribute::Source(IpAddr::V6(local.network())));
        }
        if remote.prefix_len() > 0 {
            rule.attributes.push(RuleAttribute::Destination(IpAddr::V6(remote.network())));
        }
    }
    rule
}

/// Tells whenever IPv4 addresses, routes or links of the machine change: one unit per burst at most is waiting.
///
/// # Errors
/// When the kernel gives no netlink socket.
pub fn watch() -> io::Result<mpsc::Receiver<()>> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
    let (connection, _, mut messages) = new_multicast_connection(&groups)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(connection);
    tokio::spawn(async move {
        while messages.next().await.is_some() {
            // A full channel already says what there is to say.
            if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                return;
            }
        }
    });
    Ok(receiver)
}
