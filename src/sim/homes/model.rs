//! The reference: who should reach whom, and which way. It knows configurations and NATs, and nothing of protocols.

use std::net::Ipv6Addr;

use super::plan::{Plan, Role};
use crate::sim::nat::Kind;

/// Where two machines are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) site: usize,
    pub(super) kind: Kind,
}

/// Do packets between these two addresses have to arrive, when the network does its part?
pub(super) fn may_talk(plan: &Plan, one: Ipv6Addr, other: Ipv6Addr) -> bool {
    let (Some(a), Some(b)) = (plan.owner(one), plan.owner(other)) else { return false };
    let (Some(first), Some(second)) = (plan.machines.get(a), plan.machines.get(b)) else { return false };
    // Each end believes the other's certificate, and neither end's policy discards the other.
    a != b
        && first.trusts.contains(&second.home)
        && second.trusts.contains(&first.home)
        && !first.refuses.contains(&other)
        && !second.refuses.contains(&one)
}

/// How a conversation has to travel once everything has settled; `None`: this is not path control's business.
pub(super) fn has_to_be_direct(plan: &Plan, ends: [Ipv6Addr; 2], places: [Place; 2]) -> Option<bool> {
    // With one's own home agent everything goes straight, and there is no other way.
    let agents: Vec<Ipv6Addr> = (0..plan.homes.len()).map(|home| plan.agent(home)).collect();
    if ends.iter().any(|end| agents.contains(end)) {
        return None;
    }
    Some(direct_possible(places))
}

/// Can two machines at these places reach each other, if both try?
pub(super) fn direct_possible([one, other]: [Place; 2]) -> bool {
    // In the same local network they see the same public address of theirs, and try the local ones.
    one.site == other.site || one.kind.can_meet(other.kind)
}

/// Records that a machine may make its home agent keep.
pub(super) fn most_bindings(plan: &Plan, home: usize) -> usize {
    plan.machines
        .iter()
        .filter(|machine| machine.home == home && matches!(machine.role, Role::Device | Role::Server))
        .map(|machine| 1 + machine.prefixes().len())
        .sum()
}
