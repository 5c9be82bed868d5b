//! Permanent addresses that come and go while everything else stays.

use std::net::Ipv6Addr;

use futures_util::TryStreamExt;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteType};

use super::{Machine, NetlinkError, Plan, TUNNEL_TABLE, lenient, told, tunnel_route};

impl Machine {
    /// Brings the addresses of one plan to those of another; the plans differ in nothing else, but for owners whose users
    /// had an address before.
    pub async fn change(&self, old: &Plan, new: &Plan) -> Result<(), NetlinkError> {
        let name = &new.interface;
        let mut links = self.handle.link().get().match_name(name.clone()).execute();
        let link = told(|| format!("finding {name}"), links.try_next().await)?;
        let index = link.map_or(0, |link| link.header.index);
        let missing = |from: &Plan, these: &Plan| -> Vec<Ipv6Addr> {
            these.addresses.iter().filter(|address| !from.addresses.contains(address)).copied().collect()
        };
        self.add_addresses(index, new, &missing(old, new)).await?;
        if new.preferred_source() != old.preferred_source() {
            for prefix in &new.routed {
                let route = tunnel_route(index, *prefix, TUNNEL_TABLE, new.preferred_source());
                let replaced = self.handle.route().add(route).replace().execute().await;
                told(|| format!("replacing route {prefix} dev {name}"), lenient(replaced))?;
            }
        }
        self.remove_addresses(index, &missing(new, old)).await
    }

    async fn remove_addresses(&self, index: u32, addresses: &[Ipv6Addr]) -> Result<(), NetlinkError> {
        if addresses.is_empty() {
            return Ok(());
        }
        for route in told(|| "listing routes".to_owned(), self.routes().await)? {
            let ours = route.header.kind == RouteType::Local
                && route.attributes.iter().any(|attribute| {
                    matches!(attribute, RouteAttribute::Destination(RouteAddress::Inet6(to)) if addresses.contains(to))
                });
            if ours {
                let removed = self.handle.route().del(route).execute().await;
                told(|| "removing a local route".to_owned(), lenient(removed))?;
            }
        }
        for address in addresses {
            let message =
                AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(*address, 128).build();
            let removed = self.handle.address().del(message).execute().await;
            told(|| format!("removing {}", address), lenient(removed))?;
            self.claimed.release(*address);
        }
        Ok(())
    }
}
