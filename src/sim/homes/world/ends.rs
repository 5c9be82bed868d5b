//! What happens after everything has settled: somebody is revoked, or leaves.

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
        self.goodbye(who)?;
        self.is_unbound(who)?;
        let mut left: Vec<&std::net::Ipv6Addr> = Vec::new();
        let entities = self.plan.machines[who].entities.clone();
        for (at, member) in self.members.iter().enumerate().filter(|(at, _)| *at != who) {
            left.extend(entities.iter().filter(|gone| {
                let ours = &self.plan.machines[at].entities;
                ours.iter().any(|ours| member.host.node.ike_with(*ours, **gone).is_some())
            }));
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} said goodbye, and some SA is left")) }
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
