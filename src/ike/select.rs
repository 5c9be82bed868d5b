//! Traffic selectors (RFC 7296 §2.9, §3.13): one permanent address on each side, any protocol and port.

use std::net::Ipv6Addr;

use crate::wire::ike::TrafficSelector;

/// The selector of one entity.
pub(super) fn single(address: Ipv6Addr) -> Vec<TrafficSelector> {
    vec![TrafficSelector::Ipv6 {
        protocol: 0,
        start_port: 0,
        end_port: u16::MAX,
        start: address,
        end: address,
    }]
}

/// Does one of these selectors take in all traffic of this address? Then it can be narrowed to [`single`].
pub(super) fn covers(selectors: &[TrafficSelector], address: Ipv6Addr) -> bool {
    selectors.iter().any(|selector| match selector {
        TrafficSelector::Ipv6 { protocol: 0, start_port: 0, end_port: u16::MAX, start, end } => {
            (*start..=*end).contains(&address)
        }
        TrafficSelector::Ipv6 { .. } | TrafficSelector::Other { .. } => false,
    })
}

/// Is this answer exactly what we offered?
pub(super) fn is_single(selectors: &[TrafficSelector], address: Ipv6Addr) -> bool {
    selectors == single(address)
}
