//! From a packet without SA to an attempt (RFC 4301 §4.4.1: the SPD asks key management for an SA).

use std::net::Ipv6Addr;
use std::time::Instant;

use super::pair::{Attempt, Pair, PairKey};
use super::{Event, Inject, Node, RouteLookup};
use crate::dataplane::event::UdpPath;
use crate::wire::icmpv6::{self, Unreachable};
use crate::wire::ip::Ipv6View;

/// ICMPv6 errors that wait for the TUN: more are dropped, applications try again anyway.
const TUN_QUEUE: usize = 64;

impl Node {
    /// A packet needs an SA: use one that came up meanwhile, or keep it and start IKE. Only listed peers are
    /// called; everything else is answered "administratively prohibited", so that applications fail at once.
    pub(super) fn acquire(&mut self, now: Instant, packet: Vec<u8>, route: RouteLookup<'_>) {
        let Ok(view) = Ipv6View::new(&packet) else {
            self.count("malformed");
            return;
        };
        let (local, remote) = (view.source(), view.destination());
        if self.peer(remote).is_none() {
            self.count("unknown_peer");
            if self.refusals.may_say(now) {
                tracing::warn!(
                    "{remote} is no listed peer, and its home is not trusted: 'domicile peer add' or 'domicile trust add' lets packets go there"
                );
            }
            self.refuse(&packet, Unreachable::AdministrativelyProhibited);
            return;
        }
        // It came up meanwhile.
        if let Some(child) = self.active_child((local, remote)) {
            let (mtu, ..) = self.width_status((local, remote));
            let outbound = child.outbound_entry(mtu);
            if packet.len() > usize::from(mtu) {
                self.answer(|buffer| icmpv6::packet_too_big(u32::from(mtu), &packet, buffer));
            } else {
                self.injects.push_back(Inject::packet(outbound, packet));
            }
            return;
        }
        let mut pair = self.pairs.or_insert_with((local, remote), || Pair::new(now));
        let running = pair.attempt == Attempt::Running;
        if !pair.may_try(now) && !running {
            drop(pair);
            self.count("backing_off");
            self.refuse(&packet, Unreachable::AddressUnreachable);
            return;
        }
        let waits = pair.wait(packet).is_ok();
        drop(pair);
        if !waits {
            self.count("waiting_full");
            return;
        }
        if !running && let Err(error) = self.start(now, local, remote, route) {
            self.fail(now, (local, remote), error);
        }
    }

    /// ESP for an SPI that we do not have comes from where a listed peer lives: it still uses an SA from before our
    /// restart, so a fresh one is wanted. The hint is not authenticated, so it starts at most one attempt at a time,
    /// with the ordinary pauses, towards configured endpoints only.
    pub(super) fn unknown_spi(&mut self, now: Instant, path: UdpPath, route: RouteLookup<'_>) {
        let candidates: Vec<Ipv6Addr> = self
            .config
            .peers
            .iter()
            .filter(|peer| peer.endpoint == Some(path.remote))
            .map(|peer| peer.address)
            .collect();
        for remote in candidates {
            let Some(local) = self.local_for(remote) else { continue };
            let pair = self.pairs.or_insert_with((local, remote), || Pair::new(now));
            if !pair.installed.is_empty() || !pair.may_try(now) {
                continue;
            }
            drop(pair);
            if let Err(error) = self.start(now, local, remote, route) {
                self.fail(now, (local, remote), error);
            }
        }
    }

    /// An attempt came to nothing: whoever waited is told, and the next attempt waits longer.
    pub(super) fn fail(&mut self, now: Instant, key: PairKey, error: String) {
        let Some(mut pair) = self.pairs.get_mut(&key) else { return };
        pair.failed(now, error.clone());
        let waiting = pair.take_waiting();
        drop(pair);
        for packet in waiting {
            self.count("no_sa");
            self.refuse(&packet, Unreachable::AddressUnreachable);
        }
        self.place_failed(now, key);
        self.events.push_back(Event::PeerFailed { local: key.0, remote: key.1, error });
    }

    fn refuse(&mut self, packet: &[u8], reason: Unreachable) {
        self.answer(|buffer| icmpv6::unreachable(reason, packet, buffer));
    }

    /// An ICMPv6 error for an application of ours, as `write` makes it, if there may be one.
    fn answer(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        if self.tun.len() >= TUN_QUEUE {
            return;
        }
        let mut buffer = vec![0; icmpv6::MAX_ERROR];
        if let Some(len) = write(&mut buffer) {
            buffer.truncate(len);
            self.tun.push_back(buffer);
        }
    }
}
