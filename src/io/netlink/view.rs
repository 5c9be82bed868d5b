//! The machine as IPv4 sees it: what has to change before anybody can say that it moved.
#![expect(clippy::wildcard_enum_match_arm, reason = "a few attributes are picked out of many")]

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteNextHop};

use super::{Machine, NetlinkError, told};

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    destination: Option<Ipv4Addr>,
    length: u8,
    table: u32,
    metric: u32,
    gateway: Option<Ipv4Addr>,
    interface: u32,
    source: Option<Ipv4Addr>,
    /// Where a route with several next hops goes: gateway and interface of each.
    hops: Vec<(Option<Ipv4Addr>, u32)>,
}

impl Way {
    fn read(route: &RouteMessage) -> Self {
        let mut way = Self {
            length: route.header.destination_prefix_length,
            table: route.header.table.into(),
            ..Self::default()
        };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Destination(address) => way.destination = v4(address),
                RouteAttribute::Gateway(address) => way.gateway = v4(address),
                RouteAttribute::PrefSource(address) => way.source = v4(address),
                RouteAttribute::Oif(index) => way.interface = *index,
                RouteAttribute::Priority(metric) => way.metric = *metric,
                RouteAttribute::Table(table) => way.table = *table,
                RouteAttribute::MultiPath(hops) => way.hops = hops.iter().map(hop).collect(),
                _ => {}
            }
        }
        way
    }
}

fn hop(hop: &RouteNextHop) -> (Option<Ipv4Addr>, u32) {
    let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => v4(address),
        _ => None,
    });
    (gateway, hop.interface_index)
}

/// Addresses, the interfaces that have them, and routes. Equal views: nothing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Interface and address, in the kernel's order.
    addresses: Vec<(u32, Ipv4Addr)>,
    /// Those interfaces that have a carrier.
    alive: Vec<u32>,
    ways: Vec<Way>,
}

impl View {
    /// Addresses of the machine with a scope beyond one link, in the kernel's order.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        self.addresses.iter().map(|(_, address)| *address).collect()
    }
}

fn v4(address: &RouteAddress) -> Option<Ipv4Addr> {
    if let RouteAddress::Inet(address) = address { Some(*address) } else { None }
}

impl Machine {
    /// Looks at the machine.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn view(&self) -> Result<View, NetlinkError> {
        let all: Result<Vec<_>, _> = self.handle.address().get().execute().try_collect().await;
        let all = told(|| "listing addresses".to_owned(), all)?;
        let global = all.into_iter().filter(|address| address.header.scope == AddressScope::Universe);
        let addresses: Vec<(u32, Ipv4Addr)> = global
            .flat_map(|address| {
                address.attributes.into_iter().map(move |attribute| (address.header.index, attribute))
            })
            .filter_map(|(index, attribute)| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some((index, address)),
                _ => None,
            })
            .collect();
        let links: Result<Vec<_>, _> = self.handle.link().get().execute().try_collect().await;
        let mut alive: Vec<u32> = told(|| "listing interfaces".to_owned(), links)?
            .into_iter()
            .filter(|link| link.header.flags.contains(LinkFlags::LowerUp))
            .map(|link| link.header.index)
            .filter(|index| addresses.iter().any(|(has, _)| has == index))
            .collect();
        alive.sort_unstable();
        Ok(View { addresses, alive, ways: self.ways().await? })
    }

    /// Routes that the machine was told, in any order that stays the same.
    async fn ways(&self) -> Result<Vec<Way>, NetlinkError> {
        let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes: Result<Vec<_>, _> = self.handle.route().get(every).execute().try_collect().await;
        let mut ways = Vec::new();
        for route in told(|| "listing IPv4 routes".to_owned(), routes)? {
            let way = Way::read(&route);
            // The kernel makes those of the local table from the addresses.
            if way.table != super::LOCAL {
                ways.push(way);
            }
        }
        ways.sort_unstable();
        Ok(ways)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_gateway_or_interface_is_another_way_also_among_several() {
        let message = |attribute: RouteAttribute| {
            let mut message = RouteMessage::default();
            message.attributes = vec![RouteAttribute::Table(254), attribute];
            Way::read(&message)
        };
        let gateway = |last: u8| RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(192, 0, 2, last)));
        let hops = |last: u8, interface: u32| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = interface;
            hop.attributes = vec![gateway(last)];
            message(RouteAttribute::MultiPath(vec![RouteNextHop::default(), hop]))
        };
        let ways = [
            message(gateway(1)),
            message(gateway(2)),
            message(RouteAttribute::Oif(3)),
            hops(1, 4),
            hops(2, 4),
            hops(1, 5),
        ];
        for (at, way) in ways.iter().enumerate() {
            assert!(way.table == 254 && !ways[..at].contains(way), "{way:?}");
        }
        assert_eq!(hops(1, 4), hops(1, 4));
    }
}
