//! What our home revoked and others may still believe: told at once to everybody who has an SA with the home agent, and
//! later to whoever comes, also when it was revoked while no daemon ran. Every certificate ends within a day, and with
//! it the need to tell.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Instant;

use super::home::SharedHome;
use crate::home::talk::{Revocation, Tell};
use crate::ike::IkeId;
use crate::node::Node;
use crate::pki::Serial;
use crate::policy::trust::Trust;

/// In one document, which has room for more ([`crate::ike::MAX_DOCUMENT`]).
const IN_ONE_DOCUMENT: usize = 40;

/// The list of our home.
pub(super) struct Revocations {
    home: Option<SharedHome>,
    trust: Arc<Trust>,
    known: Vec<Revocation>,
}

impl Revocations {
    /// What the registry knows of earlier runs, and of what was done without a daemon.
    pub(super) fn new(home: Option<SharedHome>, trust: Arc<Trust>, unix: u64) -> Self {
        let mut list = Self { home, trust, known: Vec::new() };
        if let Some(home) = list.home.clone() {
            match home.lock().revoked_certificates() {
                Ok(revoked) => drop(list.add(unix, revoked)),
                Err(error) => tracing::error!("what was revoked before is not told to others: {error}"),
            }
        }
        list
    }

    /// Returns those that are new. The home itself believes them no longer, either.
    fn add(&mut self, unix: u64, revoked: Vec<Revocation>) -> Vec<Revocation> {
        self.known.retain(|one| one.not_after >= unix);
        let fresh: Vec<Revocation> = revoked.into_iter().filter(|one| !self.known.contains(one)).collect();
        for one in &fresh {
            if let Some(serial) = Serial::parse(&one.serial) {
                self.trust.change(|store| store.revoke(unix, one.address, serial, one.not_after));
            }
        }
        self.known.extend(fresh.iter().cloned());
        fresh
    }

    /// The key of this address is not to be trusted any more: tells everybody who has an SA with our home agent.
    pub(super) fn spread(
        &mut self,
        now: Instant,
        unix: u64,
        node: &mut Node,
        agent: Ipv6Addr,
        address: Ipv6Addr,
    ) {
        let Some(home) = &self.home else { return };
        let outdated = home.lock().outdated_certificates(address);
        match outdated {
            Ok(outdated) => {
                let fresh = self.add(unix, outdated);
                for ike in node.ikes_of(agent) {
                    send(now, node, ike, &fresh);
                }
            }
            Err(error) => tracing::error!("the revocation of {address} is not told to others: {error}"),
        }
    }

    /// Somebody has an SA with our home agent now: what was missed is told.
    pub(super) fn greet(
        &mut self,
        now: Instant,
        unix: u64,
        node: &mut Node,
        agent: Ipv6Addr,
        remote: Ipv6Addr,
    ) {
        self.known.retain(|one| one.not_after >= unix);
        if let Some(ike) = node.ike_with(agent, remote) {
            send(now, node, ike, &self.known);
        }
    }
}

fn send(now: Instant, node: &mut Node, ike: IkeId, list: &[Revocation]) {
    for document in documents(list) {
        if !node.tell(now, ike, document) {
            tracing::debug!("there is more that was revoked than this SA takes now");
            return;
        }
    }
}

/// The newest first: an SA takes a few documents at a time, and what was revoked last is believed longest.
fn documents(list: &[Revocation]) -> impl Iterator<Item = Vec<u8>> {
    list.rchunks(IN_ONE_DOCUMENT).map(|part| Tell::Revoked { list: part.to_vec() }.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_revoked_last_is_told_first_and_nothing_is_left_out() {
        let one = |number: u16| Revocation {
            address: Ipv6Addr::from([0x2002, 0xc633, 0x6401, 0xffff, 0xffff, 0xffff, 0xffff, number]),
            serial: "ff".repeat(20),
            not_after: u64::from(u32::MAX),
        };
        let list: Vec<Revocation> = (0..100).map(one).collect();
        let told: Vec<Vec<Revocation>> = documents(&list)
            .map(|document| {
                assert!(document.len() <= crate::ike::MAX_DOCUMENT);
                let Ok(Tell::Revoked { list }) = Tell::parse(&document) else { panic!("another document") };
                list
            })
            .collect();
        assert!(told[0].contains(&list[99]) && told[0].len() == IN_ONE_DOCUMENT);
        assert_eq!(told.into_iter().rev().flatten().collect::<Vec<_>>(), list);
    }
}
