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
    for part in list.chunks(IN_ONE_DOCUMENT) {
        if !node.tell(now, ike, Tell::Revoked { list: part.to_vec() }.to_bytes()) {
            tracing::debug!("a revocation could not be told now: the next SA hears of it");
            return;
        }
    }
}
