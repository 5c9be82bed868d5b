//! One datagram inbound: what it is, and from there to a packet for the TUN, as functions of the datagram and an SA of
//! the published tables (RFC 4301 §5.2).

use std::time::Duration;

use super::counters::DropReason;
use super::ecn;
use super::event::{Relay, UdpPath};
use super::relay::{Payload, Relayed};
use super::tables::Receiving;
use crate::esp::{OpenError, Opener};
use crate::wire::ip::{HEADER_LEN, Ipv6View, NEXT_HEADER_IPV6, NEXT_HEADER_MOBILITY, NEXT_HEADER_NONE};
use crate::wire::udp_encap::{self, Datagram};
use crate::wire::{echo, path};

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// ESP: look for its SA and open it with a [`Run`].
    Esp(Sealed<'a>),
    /// An IKE message without its marker or the headers of the relayed form.
    Ike {
        /// How it came.
        path: UdpPath,
        /// The message.
        message: &'a [u8],
    },
    /// A packet in relayed form: [`super::relay::Relay::decide`] says whether it may come from there and whose it is;
    /// what is for us goes to [`relayed`].
    Relayed(&'a [u8]),
    /// A NAT keepalive.
    Keepalive,
    /// Nothing that we understand.
    Refused(DropReason),
}

/// An ESP packet, not opened yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// Names the SA.
    pub spi: u32,
    /// From the SPI on.
    pub packet: &'a [u8],
    /// How it came.
    pub path: UdpPath,
    /// ECN field of the outer header.
    pub ecn: u8,
}

/// An ESP packet that was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authentic {
    /// `Ok`: what it holds. Otherwise it is dropped.
    pub inner: Result<Inner, DropReason>,
    /// Its octets.
    pub len: usize,
    /// What the control plane wants to know.
    pub news: News,
}

/// What an authenticated packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// An IPv6 packet for the TUN.
    Packet,
    /// An IPv6 packet for the control plane: a Mobility Header (RFC 6275 §6.1).
    Mobility,
    /// The body of a dummy packet that is a message of path control.
    Path,
    /// An IPv6 packet for the control plane: the answer to an echo of ours.
    Echo,
}

/// What an authenticated packet tells besides its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// It is the first one on its SA.
    pub first: bool,
    /// It came from another address than the one we send to, and that was not reported lately.
    pub new_source: bool,
    /// Its SA passed a soft limit; told once.
    pub soft_limit: bool,
}

impl News {
    /// True when there is nothing to tell.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Tells what a datagram is (RFC 3948 §2). `ecn` is the ECN field of the outer header.
pub fn classify(datagram: &[u8], path: UdpPath, ecn: u8) -> Content<'_> {
    match udp_encap::classify(datagram) {
        Ok(Datagram::Esp { spi, packet }) => Content::Esp(Sealed { spi, packet, path, ecn }),
        Ok(Datagram::Ike(message)) => Content::Ike { path, message },
        Ok(Datagram::Relayed(packet)) => Content::Relayed(packet),
        Ok(Datagram::Keepalive) => Content::Keepalive,
        Err(udp_encap::Malformed) => Content::Refused(DropReason::Malformed),
    }
}

/// The same for a relayed packet for one of our entities: its outer header is off, and everything below it is as on the
/// direct path. `path` is how the datagram came.
pub fn relayed(relayed: Relayed<'_>, path: UdpPath) -> Content<'_> {
    let path = UdpPath { relay: Some(Relay { local: relayed.destination, remote: relayed.source }), ..path };
    match relayed.payload {
        // Each home agent makes the outer IPv4 header anew: it says nothing about congestion further back.
        Payload::Esp { spi, packet } => Content::Esp(Sealed { spi, packet, path, ecn: 0 }),
        Payload::Ike(message) => Content::Ike { path, message },
        Payload::IcmpError(_) => Content::Refused(DropReason::Hint),
    }
}

/// Packets of one SA in a row: takes its replay window once. Only the data plane takes it, and it must not be kept for
/// longer than a batch, so that an SA that was removed is gone.
pub struct Run<'a> {
    receiving: &'a Receiving,
    opener: Opener<'a>,
}

impl<'a> Run<'a> {
    /// For the packets with the SPI of this SA.
    pub fn new(receiving: &'a Receiving) -> Self {
        Self { receiving, opener: receiving.sa.lock() }
    }

    /// Opens the next packet to the front of `room`, which must hold `sealed.packet.len()` octets.
    ///
    /// # Errors
    /// Nothing was proven, and what is in `room` means nothing.
    pub fn open(
        &mut self,
        sealed: Sealed<'_>,
        now: Duration,
        room: &mut [u8],
    ) -> Result<Authentic, DropReason> {
        let sa = &self.receiving.sa;
        let params = sa.params();
        let relay = sealed.path.relay;
        if relay.is_some_and(|relay| (relay.local, relay.remote) != (params.local, params.remote)) {
            return Err(DropReason::Selectors);
        }
        let opened = self.opener.open(sealed.packet, room).map_err(reason)?;
        // From here on the packet is authentic: what follows may have consequences.
        let news = News {
            first: opened.first,
            new_source: self.receiving.is_news(sealed.path, now),
            soft_limit: sa.take_soft_limit(),
        };
        let payload = room.get_mut(..opened.len).unwrap_or_default();
        let mut len = opened.len;
        let inner = match opened.next_header {
            NEXT_HEADER_IPV6 => {
                len = without_padding(payload);
                let packet = payload.get_mut(..len).unwrap_or_default();
                self.check_inner(sealed.ecn, packet)
            }
            NEXT_HEADER_NONE if payload.starts_with(&path::MAGIC) => Ok(Inner::Path),
            NEXT_HEADER_NONE => Err(DropReason::Dummy),
            _ => Err(DropReason::NextHeader),
        };
        Ok(Authentic { inner, len, news })
    }

    /// The inner packet must be whole and within the SA's selectors (RFC 4301 §5.2, step 4).
    fn check_inner(&self, outer_ecn: u8, packet: &mut [u8]) -> Result<Inner, DropReason> {
        let view = Ipv6View::new(packet).map_err(|_| DropReason::Malformed)?;
        if view.hop_limit() == 0 {
            return Err(DropReason::Malformed);
        }
        let params = self.receiving.sa.params();
        if (view.source(), view.destination()) != (params.remote, params.local) {
            return Err(DropReason::Selectors);
        }
        let inner = match view.next_header() {
            NEXT_HEADER_MOBILITY => Inner::Mobility,
            _ if echo::reply(&view).is_some() => Inner::Echo,
            _ => Inner::Packet,
        };
        let before = ecn::of_traffic_class(view.traffic_class());
        let after = ecn::decapsulated(before, outer_ecn).ok_or(DropReason::Congestion)?;
        if after != before {
            ecn::set(packet, after);
        }
        Ok(inner)
    }
}

/// The length of an IPv6 packet without the traffic flow confidentiality padding behind it (RFC 4303 §2.7).
fn without_padding(payload: &[u8]) -> usize {
    let Some(&[high, low]) = payload.get(4..6).and_then(|field| field.first_chunk()) else {
        return payload.len();
    };
    payload.len().min(HEADER_LEN + usize::from(u16::from_be_bytes([high, low])))
}

fn reason(error: OpenError) -> DropReason {
    match error {
        OpenError::Malformed => DropReason::Malformed,
        OpenError::Replayed => DropReason::Replayed,
        OpenError::TooOld => DropReason::TooOld,
        OpenError::Integrity => DropReason::Integrity,
        OpenError::Padding => DropReason::Padding,
    }
}
