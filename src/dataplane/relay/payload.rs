//! What a relayed packet may carry: ESP, IKE on UDP port 500, ICMPv6 errors. Nothing else, and no fragments.

use super::Refusal;
use crate::wire::esp;
use crate::wire::ip::{HEADER_LEN, Ipv6View, NEXT_HEADER_ESP, NEXT_HEADER_ICMPV6, NEXT_HEADER_UDP, checksum};
use crate::wire::relay::{self, IKE_PORT};

const NEXT_HEADER_FRAGMENT: u8 = 44;
/// The fixed header of an IKE message (RFC 7296 §3.1).
const IKE_HEADER: usize = 28;
/// Type, code, checksum, four octets of the type's own.
const ICMP_HEADER: usize = 8;

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Protocol 50.
    Esp {
        /// The SPI.
        spi: u32,
        /// From the SPI on.
        packet: &'a [u8],
    },
    /// An IKE message, without marker; the checksum was right.
    Ike(&'a [u8]),
    /// An ICMPv6 error (types 1 to 4), from its type on; the checksum was right. Nobody proved it: a hint.
    IcmpError(&'a [u8]),
}

/// Reads it.
pub(super) fn read<'a>(view: &Ipv6View<'a>) -> Result<Payload<'a>, Refusal> {
    let octets = view.payload();
    match view.next_header() {
        NEXT_HEADER_ESP => match octets.first_chunk::<4>() {
            Some(spi) if octets.len() >= esp::HEADER_LEN => {
                Ok(Payload::Esp { spi: u32::from_be_bytes(*spi), packet: octets })
            }
            Some(_) | None => Err(Refusal::Malformed),
        },
        NEXT_HEADER_UDP => ike(view, octets),
        NEXT_HEADER_ICMPV6 => match octets.first() {
            Some(1..=4) if octets.len() >= ICMP_HEADER + HEADER_LEN && is_intact(view) => {
                Ok(Payload::IcmpError(octets))
            }
            Some(1..=4) | None => Err(Refusal::Malformed),
            Some(_) => Err(Refusal::Protocol),
        },
        NEXT_HEADER_FRAGMENT => Err(Refusal::Fragment),
        _ => Err(Refusal::Protocol),
    }
}

fn ike<'a>(view: &Ipv6View<'a>, octets: &'a [u8]) -> Result<Payload<'a>, Refusal> {
    let [s1, s2, d1, d2] = *octets.first_chunk().ok_or(Refusal::Malformed)?;
    if [s1, s2] != IKE_PORT || [d1, d2] != IKE_PORT {
        return Err(Refusal::Protocol);
    }
    let message = relay::ike(view).filter(|message| message.len() >= IKE_HEADER);
    message.map(Payload::Ike).ok_or(Refusal::Malformed)
}

fn is_intact(view: &Ipv6View<'_>) -> bool {
    checksum(view.source(), view.destination(), view.next_header(), view.payload()) == 0
}
