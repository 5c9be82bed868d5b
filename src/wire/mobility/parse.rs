//! From octets to a message. Nothing is allocated; unknown options are skipped (RFC 6275 §6.2.1).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use ipnet::Ipv6Net;

use super::options::{
    EXPERIMENTAL, IPV4_ADDRESS_ACK, IPV4_CARE_OF_ADDRESS, IPV4_HOME_ADDRESS, KIND_CHALLENGE, KIND_OBSERVED,
    KIND_RESPONSE, MOBILE_NETWORK_PREFIX, NAT_DETECTION, PAD1,
};
use super::{
    BindingAcknowledgement, BindingUpdate, Cookie, EXPERIMENT, Inner, Ipv4Home, Ipv4HomeAck, Lifetime,
    MH_LEN, Message, NEXT_HEADER_MOBILITY, NEXT_HEADER_NONE, NatDetection, Status, UpdateFlags, mh_type,
};
use crate::wire::ip::{Ipv6Error, Ipv6View, checksum};

/// Why a packet is not a message for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a whole IPv6 packet.
    #[error(transparent)]
    Ip(#[from] Ipv6Error),
    /// The next header is not 135.
    #[error("no Mobility Header")]
    NotMobility,
    /// Shorter than its type needs, or Header Len does not match.
    #[error("the Mobility Header's length is wrong")]
    Length,
    /// Something follows the header (RFC 6275 §9.2 asks for 59).
    #[error("payload protocol {0} after the Mobility Header")]
    PayloadProtocol(u8),
    /// The checksum is wrong.
    #[error("wrong checksum of the Mobility Header")]
    Checksum,
    /// A type that we do not speak.
    #[error("unknown Mobility Header type {0}")]
    UnknownType(u8),
    /// Another experiment, or a kind of ours that we do not know.
    #[error("unknown experimental mobility message")]
    UnknownExperiment,
    /// An option with a wrong length or value.
    #[error("malformed mobility option {0}")]
    Option(u8),
    /// An option that may be there once.
    #[error("mobility option {0} twice")]
    Duplicate(u8),
    /// More than [`MAX_PREFIXES`](super::MAX_PREFIXES).
    #[error("too many mobile network prefixes")]
    TooManyPrefixes,
}

/// Reads a whole inner packet.
pub fn parse(packet: &[u8]) -> Result<Inner, ParseError> {
    let view = Ipv6View::new(packet)?;
    if view.next_header() != NEXT_HEADER_MOBILITY {
        return Err(ParseError::NotMobility);
    }
    let payload = view.payload();
    let (&[protocol, header_len, mh_type, _reserved, _, _], data) =
        payload.split_first_chunk::<MH_LEN>().ok_or(ParseError::Length)?;
    if (usize::from(header_len) + 1) * 8 != payload.len() {
        return Err(ParseError::Length);
    }
    if protocol != NEXT_HEADER_NONE {
        return Err(ParseError::PayloadProtocol(protocol));
    }
    if checksum(view.source(), view.destination(), NEXT_HEADER_MOBILITY, payload) != 0 {
        return Err(ParseError::Checksum);
    }
    let message = match mh_type {
        mh_type::BINDING_UPDATE => Message::Update(update(data)?),
        mh_type::BINDING_ACKNOWLEDGEMENT => Message::Acknowledgement(acknowledgement(data)?),
        mh_type::EXPERIMENTAL => experimental(data)?,
        other => return Err(ParseError::UnknownType(other)),
    };
    Ok(Inner { source: view.source(), destination: view.destination(), message })
}

fn update(data: &[u8]) -> Result<BindingUpdate, ParseError> {
    let (&[s0, s1, f0, f1, l0, l1], rest) = data.split_first_chunk().ok_or(ParseError::Length)?;
    let bits = u16::from_be_bytes([f0, f1]);
    let mut update = BindingUpdate::new(u16::from_be_bytes([s0, s1]), Lifetime(u16::from_be_bytes([l0, l1])));
    update.flags = UpdateFlags {
        acknowledge: bits >> 15 & 1 != 0,
        home_registration: bits >> 14 & 1 != 0,
        link_local: bits >> 13 & 1 != 0,
        key_management: bits >> 12 & 1 != 0,
        mobile_router: bits >> 10 & 1 != 0,
        force_udp: bits >> 8 & 1 != 0,
    };
    for option in Options(rest) {
        let (kind, data) = option?;
        match kind {
            MOBILE_NETWORK_PREFIX => {
                update.prefixes.push(prefix(data)?).map_err(|_| ParseError::TooManyPrefixes)?;
            }
            IPV4_CARE_OF_ADDRESS => {
                let [_, _, address @ ..] = six(kind, data)?;
                once(kind, &mut update.care_of, Ipv4Addr::from(address))?;
            }
            IPV4_HOME_ADDRESS => {
                let [bits, _, address @ ..] = six(kind, data)?;
                let home = Ipv4Home {
                    address: Ipv4Addr::from(address),
                    prefix_len: v4_prefix_len(kind, bits)?,
                    prefix_requested: bits & 2 != 0,
                };
                once(kind, &mut update.ipv4_home, home)?;
            }
            _ => {}
        }
    }
    Ok(update)
}

fn acknowledgement(data: &[u8]) -> Result<BindingAcknowledgement, ParseError> {
    let (&[status, flags, s0, s1, l0, l1], rest) = data.split_first_chunk().ok_or(ParseError::Length)?;
    let (sequence, lifetime) = (u16::from_be_bytes([s0, s1]), Lifetime(u16::from_be_bytes([l0, l1])));
    let mut acknowledgement = BindingAcknowledgement::new(Status(status), sequence, lifetime);
    acknowledgement.key_management = flags & 0x80 != 0;
    acknowledgement.mobile_router = flags & 0x40 != 0;
    for option in Options(rest) {
        let (kind, data) = option?;
        match kind {
            IPV4_ADDRESS_ACK => {
                let [status, bits, address @ ..] = six(kind, data)?;
                let home = Ipv4HomeAck {
                    status,
                    address: Ipv4Addr::from(address),
                    prefix_len: v4_prefix_len(kind, bits)?,
                };
                once(kind, &mut acknowledgement.ipv4_home, home)?;
            }
            NAT_DETECTION => {
                let [bits, _, refresh @ ..] = six(kind, data)?;
                let nat = NatDetection { force_udp: bits & 0x80 != 0, refresh: u32::from_be_bytes(refresh) };
                once(kind, &mut acknowledgement.nat, nat)?;
            }
            EXPERIMENTAL => match ours(data)? {
                Some(Ours::Observed(observed)) => once(kind, &mut acknowledgement.observed, observed)?,
                Some(Ours::Challenge(cookie)) => once(kind, &mut acknowledgement.challenge, cookie)?,
                None => {}
            },
            _ => {}
        }
    }
    Ok(acknowledgement)
}

fn experimental(data: &[u8]) -> Result<Message, ParseError> {
    let (&[e0, e1, kind, _reserved], rest) = data.split_first_chunk().ok_or(ParseError::Length)?;
    if u16::from_be_bytes([e0, e1]) != EXPERIMENT {
        return Err(ParseError::UnknownExperiment);
    }
    let (cookie, rest) = rest.split_first_chunk().ok_or(ParseError::Length)?;
    let mut observed = None;
    for option in Options(rest) {
        let (kind, data) = option?;
        if kind == EXPERIMENTAL
            && let Some(Ours::Observed(address)) = ours(data)?
        {
            once(kind, &mut observed, address)?;
        }
    }
    match kind {
        KIND_CHALLENGE => Ok(Message::Challenge(*cookie)),
        KIND_RESPONSE => Ok(Message::Response { cookie: *cookie, observed }),
        _ => Err(ParseError::UnknownExperiment),
    }
}

/// Our experimental options.
enum Ours {
    Observed(SocketAddrV4),
    Challenge(Cookie),
}

/// `None`: another experiment's, or a kind that we do not know.
fn ours(data: &[u8]) -> Result<Option<Ours>, ParseError> {
    let Some((&[e0, e1, kind, _reserved], data)) = data.split_first_chunk() else { return Ok(None) };
    if u16::from_be_bytes([e0, e1]) != EXPERIMENT {
        return Ok(None);
    }
    match kind {
        KIND_OBSERVED => {
            let [a, b, c, d, high, low] = six(EXPERIMENTAL, data)?;
            let address = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
            Ok(Some(Ours::Observed(address)))
        }
        KIND_CHALLENGE => {
            let cookie = Cookie::try_from(data).map_err(|_| ParseError::Option(EXPERIMENTAL))?;
            Ok(Some(Ours::Challenge(cookie)))
        }
        _ => Ok(None),
    }
}

fn prefix(data: &[u8]) -> Result<Ipv6Net, ParseError> {
    let malformed = ParseError::Option(MOBILE_NETWORK_PREFIX);
    let &[_reserved, len, ref network @ ..] = <&[u8; 18]>::try_from(data).map_err(|_| malformed)?;
    let network = <[u8; 16]>::try_from(&network[..]).map_err(|_| malformed)?;
    Ok(Ipv6Net::new(Ipv6Addr::from(network), len).map_err(|_| malformed)?.trunc())
}

fn v4_prefix_len(kind: u8, bits: u8) -> Result<u8, ParseError> {
    let len = bits >> 2;
    if len <= 32 { Ok(len) } else { Err(ParseError::Option(kind)) }
}

fn six(kind: u8, data: &[u8]) -> Result<[u8; 6], ParseError> {
    data.try_into().map_err(|_| ParseError::Option(kind))
}

fn once<T>(kind: u8, place: &mut Option<T>, value: T) -> Result<(), ParseError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(ParseError::Duplicate(kind)),
    }
}

/// Walks options, padding left out. Ends after an error.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u8, &'a [u8]), ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&kind, rest) = self.0.split_first()?;
            if kind == PAD1 {
                self.0 = rest;
                continue;
            }
            let option = rest.split_first().and_then(|(len, data)| data.split_at_checked(usize::from(*len)));
            let Some((data, rest)) = option else {
                self.0 = &[];
                return Some(Err(ParseError::Option(kind)));
            };
            self.0 = rest;
            if kind != super::options::PADN {
                return Some(Ok((kind, data)));
            }
        }
    }
}
