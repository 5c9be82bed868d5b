//! Permanent addresses answer only what comes out of the tunnel (decision 0006): the kernel's own local route for each
//! of them has to go, and to stay away.
//!
//! The kernel makes that route from a work item (`addrconf_dad_work`), some time *after* it acknowledged the address,
//! and makes it anew when somebody adds the address again. So a deletion that finds nothing proves nothing.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};

use super::{LOCAL, PROTOCOL, lenient};

/// The work item runs within microseconds on an idle machine; this is for a busy one. What comes later still, the
/// guard removes.
const PATIENCE: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// Waits for the kernel's local route of a new address and removes it.
pub(super) async fn take_off(handle: &Handle, index: u32, address: Ipv6Addr) -> Result<(), rtnetlink::Error> {
    let route = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(address, 128)
        .table_id(LOCAL)
        .kind(RouteType::Local)
        .protocol(RouteProtocol::Kernel)
        .output_interface(index)
        .build();
    for _ in 0..PATIENCE {
        match handle.route().del(route.clone()).execute().await {
            Err(rtnetlink::Error::NetlinkError(message))
                if message.to_io().raw_os_error() == Some(libc::ESRCH) =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
    Ok(())
}

/// The permanent addresses of this machine, as of now.
#[derive(Clone, Default)]
pub(super) struct Claimed(Arc<Mutex<BTreeSet<Ipv6Addr>>>);

impl Claimed {
    pub(super) fn claim(&self, addresses: &[Ipv6Addr]) {
        self.lock().extend(addresses);
    }

    pub(super) fn release(&self, address: Ipv6Addr) {
        self.lock().remove(&address);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Ipv6Addr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes such a route whenever it comes back. Ends with the runtime.
pub(super) fn guard(handle: Handle, claimed: Claimed) -> io::Result<tokio::task::JoinHandle<()>> {
    let (connection, _, mut messages) = new_multicast_connection(&[MulticastGroup::Ipv6Route])?;
    tokio::spawn(connection);
    Ok(tokio::spawn(async move {
        while let Some((message, _)) = messages.next().await {
            let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) = message.payload else {
                continue;
            };
            let kernels = is_kernels(&route, &claimed.lock());
            if kernels {
                tracing::info!(
                    "the kernel made a permanent address reachable on every interface; taken back"
                );
                if let Err(error) = lenient(handle.route().del(route).execute().await) {
                    tracing::error!(%error, "a permanent address answers neighbours in clear; restart domicile");
                }
            }
        }
    }))
}

/// Is it a local route for one of ours that is not our own?
fn is_kernels(route: &RouteMessage, addresses: &BTreeSet<Ipv6Addr>) -> bool {
    let ours = route.attributes.iter().any(|attribute| {
        matches!(attribute, RouteAttribute::Destination(RouteAddress::Inet6(to)) if addresses.contains(to))
    });
    ours && route.header.kind == RouteType::Local && route.header.protocol != RouteProtocol::Other(PROTOCOL)
}

#[cfg(test)]
mod tests {
    use super::super::route;
    use super::*;

    #[test]
    fn only_a_local_route_for_our_own_address_that_is_not_ours_is_taken_back() {
        let (ours, other): (Ipv6Addr, Ipv6Addr) =
            ("2002:c633:6401:1::a".parse().unwrap(), "fd00::1".parse().unwrap());
        let claimed = BTreeSet::from([ours]);
        let local = |address: Ipv6Addr, protocol| {
            route(address.into(), LOCAL).kind(RouteType::Local).protocol(protocol).build()
        };
        let (kernel, own) = (RouteProtocol::Kernel, RouteProtocol::Other(PROTOCOL));
        assert!(is_kernels(&local(ours, kernel), &claimed));
        assert!(!is_kernels(&local(ours, own), &claimed));
        assert!(!is_kernels(&local(other, kernel), &claimed));
        assert!(!is_kernels(&route(ours.into(), LOCAL).protocol(kernel).build(), &claimed));
    }
}
