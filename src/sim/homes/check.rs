//! What must always hold: on the wire, at the home agents, and in the memory of every machine.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Instant;

use super::internet::Internet;
use super::model::most_bindings;
use super::plan::{Plan, Role};
use crate::mobility::Row;
use crate::sim::host::Host;
use crate::sim::network::Datagram as OnWire;
use crate::sim::observer::{Observer, packet};
use crate::wire::ip::{Ipv6View, NEXT_HEADER_ESP};
use crate::wire::relay;
use crate::wire::udp_encap::{Datagram, classify};

/// In every packet of an application: on the wire nobody may ever read it.
const CANARY: &[u8; 16] = b"sealed or absent";
/// Half-open SAs at a machine: the cookie threshold, and what one source may have beyond it.
const MAX_HALF_OPEN: usize = 64 + 16 * 16;
/// IKE SAs with one peer: old, new, and those of a collision.
const MAX_SAS_PER_PAIR: usize = 8;

/// A packet of an application: its number, then the canary.
pub(super) fn packet_of(from: Ipv6Addr, to: Ipv6Addr, number: u64, length: usize) -> Vec<u8> {
    let mut packet = packet(from, to, number, CANARY.len() + length);
    let at = packet.len() - CANARY.len();
    packet[at..].copy_from_slice(CANARY);
    packet
}

fn in_clear(octets: &[u8]) -> bool {
    octets.windows(CANARY.len()).any(|window| window == CANARY)
}

/// A machine hands this datagram of its own to the network.
pub(super) fn sent(observer: &mut Observer, datagram: &OnWire) -> Result<(), String> {
    if in_clear(&datagram.payload) {
        return Err(format!("{} sends a packet in clear to {}", datagram.source, datagram.destination));
    }
    let Ok(Datagram::Relayed(packet)) = classify(&datagram.payload) else {
        return observer.wire_carries(&datagram.payload);
    };
    let view =
        Ipv6View::new(packet).map_err(|error| format!("a malformed relayed packet was sent: {error}"))?;
    match (view.next_header(), relay::ike(&view)) {
        (NEXT_HEADER_ESP, _) => observer.wire_carries(view.payload()),
        (_, Some(message)) => observer.wire_carries(&[&[0; 4], message].concat()),
        (_, None) => Err("something that is neither ESP nor IKE was sent in relayed form".to_owned()),
    }
}

/// A home agent hands a datagram of somebody else to the network: `came` octets made it do so.
pub(super) fn forwarded(datagram: &OnWire, came: usize) -> Result<(), String> {
    if in_clear(&datagram.payload) {
        return Err(format!("{} forwards a packet in clear", datagram.source));
    }
    if datagram.payload.len() > came {
        return Err(format!("{} octets come out of a home agent for {came}", datagram.payload.len()));
    }
    match classify(&datagram.payload) {
        Ok(Datagram::Relayed(packet)) if Ipv6View::new(packet).is_ok() => Ok(()),
        Ok(_) | Err(_) => Err("a home agent forwards something that is not in relayed form".to_owned()),
    }
}

/// The newest state of every binding that a home ever had.
#[derive(Default)]
pub(super) struct Bindings(BTreeMap<Ipv6Addr, (u16, u64)>);

impl Bindings {
    /// No binding is older than it was: neither its number nor its place.
    pub(super) fn check(&mut self, rows: &[Row], internet: &Internet) -> Result<(), String> {
        for row in rows.iter().filter(|row| row.prefix.addr() == row.sender && row.prefix.prefix_len() == 128)
        {
            let Some(birth) = internet.birth(row.care_of) else {
                return Err(format!("{} is bound to {}, where nobody ever was", row.sender, row.care_of));
            };
            let (sequence, born) = *self.0.entry(row.sender).or_insert((row.sequence, birth));
            // RFC 6275 §9.5.1: modulo 2^16.
            if row.sequence.wrapping_sub(sequence) >= 1 << 15 {
                return Err(format!(
                    "the binding of {} went back from number {sequence} to {}",
                    row.sender, row.sequence
                ));
            }
            if birth < born {
                return Err(format!(
                    "the binding of {} went back to {}, an older place",
                    row.sender, row.care_of
                ));
            }
            self.0.insert(row.sender, (row.sequence, birth));
        }
        Ok(())
    }

    /// The home was killed: what its disk does not have it may forget.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Nobody makes a machine keep more than this.
pub(super) fn bounds(plan: &Plan, at: usize, host: &Host, now: Instant) -> Result<(), String> {
    let ike = host.node.ike();
    if ike.half_open() > MAX_HALF_OPEN {
        return Err(format!("{at} keeps {} half-open SAs", ike.half_open()));
    }
    let Some(machine) = plan.machines.get(at) else { return Ok(()) };
    let everybody: usize = plan.machines.iter().map(|machine| machine.entities.len()).sum();
    let pairs = everybody * machine.entities.len();
    if ike.len() - ike.half_open() > pairs * MAX_SAS_PER_PAIR {
        return Err(format!("{at} keeps {} IKE SAs", ike.len() - ike.half_open()));
    }
    let peers = host.node.remotes().len();
    if peers > everybody {
        return Err(format!("{at} remembers {peers} peers, and there are {everybody}"));
    }
    let bindings = host.node.binding_rows(now).len();
    if machine.role == Role::Home && bindings > most_bindings(plan, machine.home) {
        return Err(format!("{at} keeps {bindings} bindings"));
    }
    Ok(())
}
