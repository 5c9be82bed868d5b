//! What happens after everything has settled: somebody is revoked, or leaves.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::{Outcome, World};
use crate::sim::homes::plan::Role;

/// What is revoked ends within this time at the home, and at whoever has an SA with it.
pub(super) const REVOKED: Duration = Duration::from_secs(5);
/// How long it is looked at what somebody who was revoked can still do.
const LOOK_ON: Duration = Duration::from_secs(30);

impl World {
    /// One of the ends, or none.
    pub(super) fn end(&mut self) -> Outcome {
        let candidates: Vec<usize> = (0..self.members.len())
            .filter(|at| matches!(self.plan.machines[*at].role, Role::Device | Role::Server))
            .collect();
        let who = self.dice.pick(&candidates, 0);
        match self.dice.below(3) {
            0 => self.somebody_is_revoked(who),
            1 => self.somebody_leaves(who),
            _ => Ok(()),
        }
    }

    fn somebody_is_revoked(&mut self, who: usize) -> Outcome {
        self.note(|| format!("--- {who} is revoked"));
        self.revoke(who)?;
        self.pass(REVOKED)?;
        self.is_unbound(who)?;
        // It goes on trying, and moves.
        let site = self.members[who].site;
        self.move_to(who, site)?;
        self.pass(LOOK_ON)?;
        self.is_unbound(who)
    }

    fn somebody_leaves(&mut self, who: usize) -> Outcome {
        self.note(|| format!("--- {who} goes down"));
        let entities = self.plan.machines[who].entities.clone();
        let home = self.plan.machines[who].home;
        let at_home = entities.first().is_none_or(|sender| self.both_know(*sender, self.plan.agent(home)));
        // An SA of which only one end knows cannot be taken leave of: its other end notices the silence.
        let others = self.members.iter().enumerate().filter(|(at, _)| *at != who);
        let everybody = others.flat_map(|(at, _)| self.plan.machines[at].entities.iter().copied());
        let known: Vec<(Ipv6Addr, Ipv6Addr)> = everybody
            .flat_map(|other| entities.iter().map(move |ours| (*ours, other)))
            .filter(|(ours, other)| self.both_know(*ours, *other))
            // The home agent takes the binding back first, and with it what is relayed to itself.
            .filter(|(_, other)| *other != self.plan.agent(home))
            .collect();
        self.goodbye(who)?;
        if at_home {
            self.is_unbound(who)?;
        }
        let left = known.into_iter().find(|(ours, other)| self.knows(*other, *ours));
        match left {
            Some((gone, other)) => Err(format!("{gone} said goodbye, and {other} has an SA with it")),
            None => Ok(()),
        }
    }

    fn knows(&self, ours: Ipv6Addr, remote: Ipv6Addr) -> bool {
        let at = self.plan.owner(ours);
        at.is_some_and(|at| self.members[at].host.node.ike_with(ours, remote).is_some())
    }

    /// Both ends have the same IKE SAs with each other, and some.
    fn both_know(&self, one: Ipv6Addr, other: Ipv6Addr) -> bool {
        let [here, there] = [(one, other), (other, one)].map(|pair| {
            let at = self.plan.owner(pair.0)?;
            let list = self.members[at].host.node.ike().list_between(self.now, pair);
            Some(list.map(|info| (info.spi_i, info.spi_r)).collect::<BTreeSet<_>>())
        });
        here == there && here.is_some_and(|list| !list.is_empty())
    }

    /// Nothing of this machine is bound at its home.
    fn is_unbound(&self, who: usize) -> Outcome {
        let machine = &self.plan.machines[who];
        let rows = self.members[machine.home].host.node.binding_rows(self.now);
        match rows.iter().find(|row| machine.entities.contains(&row.sender)) {
            Some(row) => Err(format!("{} is still bound to {}", row.prefix, row.care_of)),
            None => Ok(()),
        }
    }
}
