//! After the storm: how long it takes until everything is as it should be, and that it stays so.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{Outcome, World};
use crate::path::Path;
use crate::sim::homes::model::{has_to_be_direct, may_talk};
use crate::sim::homes::plan::SHORT_LEAF;
use crate::sim::network::Conditions;

/// After this much calm everything has settled.
const SETTLE: u64 = 240;
/// It has settled when everything was right for so many seconds: longer than IKE waits before it closes the loser of two
/// SAs, which costs a packet where the ends disagree about which one that is.
const STEADY: u64 = 12;
/// The same where SAs live for seconds: one whose renewal the storm prevented ends only now.
const SHORT_LIVED_STEADY: u64 = 30;
/// For this long everything must then stay right.
const WATCH: u64 = 20;
/// Seconds for which a conversation may go the longer way in the watch: an SA that was to be authenticated anew in the
/// storm is so only now, and then begins relayed.
const STRAY: u32 = 5;
/// IKE datagrams and keepalives that a machine may send in the watch.
const CALM_DATAGRAMS: u64 = 60;

impl World {
    /// The calm and the watch: after how many seconds everything was right.
    pub(super) fn calm(&mut self) -> Outcome<u64> {
        self.note(|| "--- calm".to_owned());
        for (_, later) in std::mem::take(&mut self.later) {
            self.undo(later)?;
        }
        self.internet.mend();
        self.internet.weather = Conditions::CALM;
        self.pace = Duration::from_secs(1);
        let enough = if self.is_short_lived() { SHORT_LIVED_STEADY } else { STEADY };
        let (mut settled, mut steady) = (0, 0);
        let mut wrong = String::new();
        for second in 0..SETTLE {
            self.pass(Duration::from_secs(1))?;
            match self.unsettled() {
                None => steady += 1,
                Some(what) => {
                    self.note(|| format!("... {what}"));
                    (settled, steady, wrong) = (second + 1, 0, what);
                }
            }
            if steady == enough {
                break;
            }
        }
        if steady < enough {
            return Err(format!("after {SETTLE} s of calm {wrong}"));
        }
        self.watch()?;
        Ok(settled)
    }

    fn watch(&mut self) -> Outcome {
        self.note(|| "--- watch".to_owned());
        let before = self.observer.counts;
        let ends = self.plan.leaf == SHORT_LEAF;
        let time = if ends { SHORT_LEAF + WATCH } else { WATCH };
        let mut stray = 0;
        for _ in 0..time {
            self.pass(Duration::from_secs(1))?;
            if let Some(what) = self.undelivered() {
                return Err(format!("in the calm {what}"));
            }
            let astray = self.astray().filter(|_| !self.is_short_lived() && !ends);
            stray = if astray.is_some() { stray + 1 } else { 0 };
            if let Some(what) = astray.filter(|_| stray == STRAY) {
                return Err(format!("in the calm {what}"));
            }
        }
        let after = self.observer.counts;
        let sent = after.ike + after.keepalives - before.ike - before.keepalives;
        if !self.is_short_lived() && !ends && sent > CALM_DATAGRAMS * self.members.len() as u64 {
            return Err(format!("{sent} IKE datagrams in {WATCH} s of calm"));
        }
        Ok(())
    }

    /// Both ends are authenticated anew all the time, and then begin relayed.
    fn is_short_lived(&self) -> bool {
        self.plan.lifetimes.reauth < Duration::from_secs(3600)
    }

    fn unsettled(&self) -> Option<String> {
        self.undelivered().or_else(|| self.astray())
    }

    /// A packet that had to arrive by now, and did not.
    fn undelivered(&self) -> Option<String> {
        let lost = self.recent.iter().find(|sent| {
            let age = self.now - sent.at;
            age > Duration::from_secs(1) && !self.observer.was_delivered(sent.number)
        })?;
        Some(format!("packet {} from {} did not reach {}", lost.number, lost.from, lost.to))
    }

    /// A conversation that goes another way than it should.
    fn astray(&self) -> Option<String> {
        self.plan.conversations.iter().find_map(|(one, other)| {
            if !may_talk(&self.plan, *one, *other) {
                return None;
            }
            let places = [self.place(*one)?, self.place(*other)?];
            let direct = has_to_be_direct(&self.plan, [*one, *other], places)?;
            let ends = [(*one, *other), (*other, *one)];
            let (local, remote) =
                ends.into_iter().find(|(local, remote)| self.is_direct(*local, *remote) != direct)?;
            let (is, could) = if direct { ("relayed", "direct") } else { ("direct", "only be relayed") };
            Some(format!("{local} is {is} to {remote} and could be {could}: {places:?}"))
        })
    }

    fn is_direct(&self, local: Ipv6Addr, remote: Ipv6Addr) -> bool {
        let Some(at) = self.plan.owner(local) else { return false };
        matches!(self.members[at].host.node.way_between(local, remote), Some(Path::Direct { .. }))
    }

    /// Conversations that had to work, that go directly, and that had to fail.
    pub(super) fn tally(&self) -> [usize; 3] {
        let mut tally = [0; 3];
        for (one, other) in &self.plan.conversations {
            if may_talk(&self.plan, *one, *other) {
                tally[0] += 1;
                tally[1] += usize::from(self.is_direct(*one, *other) && self.is_direct(*other, *one));
            } else {
                tally[2] += 1;
            }
        }
        tally
    }
}
