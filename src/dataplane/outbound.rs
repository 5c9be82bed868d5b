//! Packets outbound: from the TUN into a send batch, as a function of the packets and the published tables
//! (RFC 4301 §5.1).

use std::net::Ipv6Addr;
use std::sync::Arc;

use super::batch::{Reserved, SendBatch};
use super::counters::DropReason;
use super::ecn;
use super::split::Split;
use super::tables::{Outbound, Reader};
use crate::esp::{OutboundSa, SealError};
use crate::policy::spd::Action;
use crate::wire::ip::{Ipv6Error, Ipv6View, NEXT_HEADER_IPV6};

/// Smallest MTU that IPv6 may be told of (RFC 8200 §5).
pub const MIN_MTU: u16 = 1280;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the send batch.
    Sealed {
        /// SPI of an SA that passed a soft limit with this packet; told once per SA.
        soft_limit: Option<u32>,
    },
    /// The batch must be sent first: send it and ask again.
    Full,
    /// The sender must be told this MTU (RFC 4443 §3.2).
    TooBig {
        /// At least 1,280.
        mtu: u16,
    },
    /// There is a policy and no SA: the packet goes to the control plane.
    Acquire,
    /// The SA is used up (RFC 4303 §3.3.3).
    Exhausted {
        /// Its SPI, once per SA.
        tell: Option<u32>,
    },
    /// Dropped. [`DropReason::Discard`] is answered with administratively prohibited (RFC 4443 §3.1).
    Refused(DropReason),
}

/// Decides about `packet` and, where an SA protects it, seals it into `batch`.
pub fn process(reader: &Reader, packet: &[u8], batch: &mut SendBatch) -> Verdict {
    match look_up(reader, packet) {
        Ok(protected) => protected.seal(packet, batch),
        Err(verdict) => verdict,
    }
}

/// What seals packets between the two addresses of `packet`: one look for all that a super-packet stands for.
///
/// # Errors
/// The verdict about every one of them.
pub fn look_up(reader: &Reader, packet: &[u8]) -> Result<Protected, Verdict> {
    let view = match Ipv6View::new(packet) {
        Ok(view) if view.hop_limit() != 0 => view,
        Err(Ipv6Error::Version) => return Err(Verdict::Refused(DropReason::NotIpv6)),
        Ok(_) | Err(Ipv6Error::Truncated | Ipv6Error::Length) => {
            return Err(Verdict::Refused(malformed(packet)));
        }
    };
    // Only local permanent addresses and unicast destinations are ever in this table.
    match reader.outbound(view.source(), view.destination()) {
        Some(outbound) => {
            // Most have one SA, and need no more than that for it.
            let place = if outbound.additional.is_empty() { 0 } else { outbound.place_for(view.flow()) };
            Ok(Protected { outbound, place, ecn: ecn::of_traffic_class(view.traffic_class()) })
        }
        None => Err(without_sa(reader, view.source(), view.destination())),
    }
}

/// A short IPv4 packet is no malformed IPv6.
fn malformed(packet: &[u8]) -> DropReason {
    match packet.first() {
        Some(first) if first >> 4 != 6 => DropReason::NotIpv6,
        _ => DropReason::Malformed,
    }
}

/// An SA for packets between two addresses with the same ECN field.
pub struct Protected {
    outbound: Arc<Outbound>,
    /// Of the SA, found out once for all that a super-packet stands for.
    place: usize,
    ecn: u8,
}

impl Protected {
    fn sa(&self) -> &OutboundSa {
        self.outbound.sa_at(self.place)
    }

    fn seal(&self, packet: &[u8], batch: &mut SendBatch) -> Verdict {
        let mtu = self.mtu();
        if packet.len() > usize::from(mtu) {
            return Verdict::TooBig { mtu };
        }
        let sa = self.sa();
        let len = self.len(packet);
        // The room comes before the number: a number that is not used would look like a lost packet to the peer.
        let Some(room) = batch.reserve(len) else {
            // A packet of at most 65,535 octets always fits an empty batch; were it not so, asking again would not end.
            let fits = batch.could_hold(len);
            return if fits { Verdict::Full } else { Verdict::Refused(DropReason::TooBig) };
        };
        let sealed = sa
            .assign(1)
            .and_then(|sequence| self.put(room, |esp| sa.seal(sequence, NEXT_HEADER_IPV6, packet, esp)));
        self.verdict(sealed)
    }

    /// Seals every packet of a super-packet, in order. When the batch is full, `send` must send and clear it. The verdict
    /// is about all of them: nothing was sealed unless it is [`Verdict::Sealed`].
    pub fn seal_all(
        &self,
        split: &mut Split<'_>,
        batch: &mut SendBatch,
        mut send: impl FnMut(&mut SendBatch),
    ) -> Verdict {
        let mtu = self.mtu();
        if split.largest() > usize::from(mtu) {
            return Verdict::TooBig { mtu };
        }
        // No packet has more than 65,535 octets, so that every one fits an empty batch and every number is used.
        let count = u32::try_from(split.count()).unwrap_or(u32::MAX);
        let mut run = match self.sa().run(count, split.octets() as u64) {
            Ok(run) => run,
            Err(error) => return self.verdict(Err(error)),
        };
        while let Some(packet) = split.advance() {
            let len = self.len(packet);
            if batch.reserve(len).is_none() {
                send(batch);
            }
            let Some(room) = batch.reserve(len) else { return Verdict::Refused(DropReason::TooBig) };
            if let Err(error) = self.put(room, |esp| run.seal(NEXT_HEADER_IPV6, packet, esp)) {
                return self.verdict(Err(error));
            }
        }
        self.verdict(Ok(()))
    }

    fn mtu(&self) -> u16 {
        self.outbound.mtu.max(MIN_MTU)
    }

    /// Octets of the datagram that a packet becomes.
    fn len(&self, packet: &[u8]) -> usize {
        self.outbound.path.overhead() + self.sa().sealed_len(packet.len())
    }

    fn put(
        &self,
        mut room: Reserved<'_>,
        seal: impl FnOnce(&mut [u8]) -> Result<usize, SealError>,
    ) -> Result<(), SealError> {
        let path = self.outbound.path;
        let around = path.overhead();
        let len = seal(room.room_mut().get_mut(around..).unwrap_or_default())?;
        // RFC 6040 §4.1: normal mode, where the outer header carries the inner ECN field, and compatibility mode on the
        // relayed path, whose outer headers end at the first home agent.
        let relayed = path.relay.inspect(|relay| relay.write_header(room.room_mut()));
        room.commit(path, if relayed.is_some() { 0 } else { self.ecn }, around + len);
        Ok(())
    }

    fn verdict(&self, sealed: Result<(), SealError>) -> Verdict {
        let sa = self.sa();
        match sealed {
            Ok(()) => Verdict::Sealed { soft_limit: sa.take_soft_limit().then_some(sa.params().spi) },
            Err(SealError::Exhausted) => {
                Verdict::Exhausted { tell: sa.take_exhausted().then_some(sa.params().spi) }
            }
            Err(SealError::BufferTooShort) => Verdict::Refused(DropReason::TooBig),
        }
    }
}

fn without_sa(reader: &Reader, source: Ipv6Addr, destination: Ipv6Addr) -> Verdict {
    let to = destination;
    if to.is_multicast() || to.is_unspecified() || to.is_loopback() || to.is_unicast_link_local() {
        return Verdict::Refused(DropReason::NotUnicast);
    }
    match reader.decide(source, destination) {
        None => Verdict::Refused(DropReason::ForeignSource),
        Some(Action::Protect(_)) => Verdict::Acquire,
        Some(Action::Discard) => Verdict::Refused(DropReason::Discard),
        Some(Action::Bypass) => Verdict::Refused(DropReason::Bypass),
    }
}
