//! One datagram inbound: from the socket into a packet for the TUN, as a function of the datagram and the published
//! tables (RFC 4301 §5.2).

use std::time::Duration;

use super::batch::PacketBuffer;
use super::counters::DropReason;
use super::ecn;
use super::event::{Relay, UdpPath};
use super::relay::{Payload, Relayed};
use super::tables::{Reader, Receiving};
use crate::esp::OpenError;
use crate::wire::ip::{HEADER_LEN, Ipv6View, NEXT_HEADER_IPV6, NEXT_HEADER_MOBILITY, NEXT_HEADER_NONE};
use crate::wire::path;
use crate::wire::udp_encap::{self, Datagram};

/// What happens to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// ESP that was authenticated.
    Authentic {
        /// SPI of the inbound SA.
        spi: u32,
        /// How it came.
        path: UdpPath,
        /// `Ok`: what is in the buffer. Otherwise it is dropped.
        inner: Result<Inner, DropReason>,
        /// What the control plane wants to know.
        news: News,
    },
    /// ESP that no SA of ours can open.
    UnknownSpi {
        /// The SPI.
        spi: u32,
        /// How it came.
        path: UdpPath,
    },
    /// Dropped before anything was proven.
    Refused {
        /// SPI of the SA that refused it; 0 when it was no ESP.
        spi: u32,
        /// Why.
        reason: DropReason,
    },
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

/// Classifies a datagram (RFC 3948 §2) and opens it if it is ESP; the inner packet goes to `out`. `ecn` is the ECN
/// field of the outer header.
pub fn process<'a>(
    reader: &Reader,
    datagram: &'a [u8],
    path: UdpPath,
    ecn: u8,
    now: Duration,
    out: &mut PacketBuffer,
) -> Verdict<'a> {
    match udp_encap::classify(datagram) {
        Ok(Datagram::Keepalive) => Verdict::Keepalive,
        Ok(Datagram::Ike(message)) => Verdict::Ike { path, message },
        Ok(Datagram::Relayed(packet)) => Verdict::Relayed(packet),
        Err(udp_encap::Malformed) => Verdict::Refused { spi: 0, reason: DropReason::Malformed },
        Ok(Datagram::Esp { spi, packet }) => match reader.inbound(spi) {
            Some(receiving) => open(&receiving, packet, path, ecn, now, out),
            None => Verdict::UnknownSpi { spi, path },
        },
    }
}

/// A relayed packet for one of our entities: its outer header is off, and everything below it is as on the direct path.
/// `path` is how the datagram came.
pub fn relayed<'a>(
    reader: &Reader,
    relayed: Relayed<'a>,
    path: UdpPath,
    now: Duration,
    out: &mut PacketBuffer,
) -> Verdict<'a> {
    let path = UdpPath { relay: Some(Relay { local: relayed.destination, remote: relayed.source }), ..path };
    match relayed.payload {
        Payload::Ike(message) => Verdict::Ike { path, message },
        Payload::IcmpError(_) => Verdict::Refused { spi: 0, reason: DropReason::Hint },
        Payload::Esp { spi, packet } => {
            let Some(receiving) = reader.inbound(spi) else { return Verdict::UnknownSpi { spi, path } };
            let params = receiving.sa.params();
            if (params.local, params.remote) != (relayed.destination, relayed.source) {
                return Verdict::Refused { spi, reason: DropReason::Selectors };
            }
            // Each home agent makes the outer IPv4 header anew: it says nothing about congestion further back.
            open(&receiving, packet, path, 0, now, out)
        }
    }
}

fn open<'a>(
    receiving: &Receiving,
    packet: &[u8],
    path: UdpPath,
    ecn: u8,
    now: Duration,
    out: &mut PacketBuffer,
) -> Verdict<'a> {
    let sa = &receiving.sa;
    let spi = sa.params().spi;
    let opened = match sa.open(packet, out.room_mut()) {
        Ok(opened) => opened,
        Err(error) => return Verdict::Refused { spi, reason: reason(error) },
    };
    out.set_len(opened.len);
    // From here on the packet is authentic: what follows may have consequences.
    let news = News {
        first: opened.first,
        new_source: receiving.is_news(path, now),
        soft_limit: sa.take_soft_limit(),
    };
    let inner = match opened.next_header {
        NEXT_HEADER_IPV6 => check_inner(receiving, ecn, out),
        NEXT_HEADER_NONE if out.packet().starts_with(&path::MAGIC) => Ok(Inner::Path),
        NEXT_HEADER_NONE => Err(DropReason::Dummy),
        _ => Err(DropReason::NextHeader),
    };
    Verdict::Authentic { spi, path, inner, news }
}

/// The inner packet must be whole and within the SA's selectors (RFC 4301 §5.2, step 4); traffic flow
/// confidentiality padding behind it is cut off (RFC 4303 §2.7).
fn check_inner(receiving: &Receiving, outer_ecn: u8, out: &mut PacketBuffer) -> Result<Inner, DropReason> {
    let packet = out.packet();
    if let Some(&[high, low]) = packet.get(4..6).and_then(|field| field.first_chunk()) {
        let whole = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
        out.set_len(whole.min(packet.len()));
    }
    let view = Ipv6View::new(out.packet()).map_err(|_| DropReason::Malformed)?;
    if view.hop_limit() == 0 {
        return Err(DropReason::Malformed);
    }
    let params = receiving.sa.params();
    if (view.source(), view.destination()) != (params.remote, params.local) {
        return Err(DropReason::Selectors);
    }
    let mobility = view.next_header() == NEXT_HEADER_MOBILITY;
    let before = ecn::of_traffic_class(view.traffic_class());
    let after = ecn::decapsulated(before, outer_ecn).ok_or(DropReason::Congestion)?;
    if after != before {
        ecn::set(out.packet_mut(), after);
    }
    Ok(if mobility { Inner::Mobility } else { Inner::Packet })
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
