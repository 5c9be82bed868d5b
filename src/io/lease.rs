//! Whether an IPv4 address of this machine is here to stay, as far as the kernel knows.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::new_connection;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

/// What the kernel says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is on no interface: perhaps that of a NAT in front of this machine.
    Elsewhere,
    /// It was configured without an end.
    Permanent,
    /// It ends unless somebody (a DHCP client, most likely) renews it.
    Leased(Duration),
}

/// Asks the kernel; blocks for a moment.
///
/// # Errors
/// When the kernel gives no netlink socket or no answer.
pub fn standing(address: Ipv4Addr) -> io::Result<Standing> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection()?;
        let task = tokio::spawn(connection);
        let listed: Result<Vec<AddressMessage>, _> = handle.address().get().execute().try_collect().await;
        task.abort();
        let all = listed.map_err(io::Error::other)?;
        Ok(all.iter().find(|message| is(message, address)).map_or(Standing::Elsewhere, lifetime))
    })
}

fn is(message: &AddressMessage, address: Ipv4Addr) -> bool {
    message.attributes.contains(&AddressAttribute::Local(IpAddr::V4(address)))
}

/// `ifa_valid` is all ones where there is no end (`INFINITY_LIFE_TIME`).
fn lifetime(message: &AddressMessage) -> Standing {
    let valid = message.attributes.iter().find_map(|attribute| {
        if let AddressAttribute::CacheInfo(info) = attribute { Some(info.ifa_valid) } else { None }
    });
    match valid {
        None | Some(u32::MAX) => Standing::Permanent,
        Some(seconds) => Standing::Leased(Duration::from_secs(seconds.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_stays_and_a_stranger_is_elsewhere() {
        assert_eq!(standing(Ipv4Addr::LOCALHOST).unwrap(), Standing::Permanent);
        assert_eq!(standing(Ipv4Addr::new(203, 0, 113, 77)).unwrap(), Standing::Elsewhere);
    }
}
