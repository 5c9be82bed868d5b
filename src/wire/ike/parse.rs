//! From octets to a header and payloads (RFC 7296 §3).

use std::net::Ipv6Addr;

use super::reader::Reader;
use super::{
    Delete, Header, Identification, Notify, ParseError, Payload, Proposal, TrafficSelector, Transform,
    payload_type as pt,
};

/// Payloads in one message; real ones have about a dozen, CERTREQ lists a few more.
const MAX_PAYLOADS: usize = 64;
/// Proposals in one SA payload.
const MAX_PROPOSALS: usize = 32;
/// Transforms in one proposal.
const MAX_TRANSFORMS: usize = 64;
/// Selectors in one TS payload.
const MAX_SELECTORS: usize = 32;
/// Octets of the fixed header.
pub const HEADER_LEN: usize = 28;

impl Header {
    /// Reads the fixed header; the length field must equal the datagram's length.
    pub fn parse(message: &[u8]) -> Result<Self, ParseError> {
        let header = Self::parse_any_version(message)?;
        if header.version >> 4 != 2 {
            return Err(ParseError::Version(header.version >> 4));
        }
        if usize::try_from(header.length) != Ok(message.len()) {
            return Err(ParseError::Length);
        }
        Ok(header)
    }

    /// Reads the fixed header of a message that may be of another version: good enough to answer
    /// INVALID_MAJOR_VERSION (RFC 7296 §2.5), and for nothing else.
    pub fn parse_any_version(message: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(message);
        Ok(Self {
            initiator_spi: reader.u64()?,
            responder_spi: reader.u64()?,
            next_payload: reader.u8()?,
            version: reader.u8()?,
            exchange: reader.u8()?,
            flags: reader.u8()?,
            message_id: reader.u32()?,
            length: reader.u32()?,
        })
    }
}

/// A payload before its body is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawPayload<'a> {
    /// See [`payload_type`](super::payload_type).
    pub payload_type: u8,
    /// Type of the payload after this one; inside SK and SKF, of the first encrypted payload.
    pub next: u8,
    /// The critical bit (RFC 7296 §2.5).
    pub critical: bool,
    /// Everything after the generic header.
    pub body: &'a [u8],
}

/// Walks a payload chain without allocating. Ends after an SK or SKF payload, which is always the last one
/// (RFC 7296 §3.14).
pub struct RawPayloads<'a> {
    next: u8,
    reader: Reader<'a>,
    count: usize,
}

impl<'a> RawPayloads<'a> {
    /// `first` is the type of the first payload in `bytes`.
    pub fn new(first: u8, bytes: &'a [u8]) -> Self {
        Self { next: first, reader: Reader::new(bytes), count: 0 }
    }

    fn read(&mut self) -> Result<RawPayload<'a>, ParseError> {
        self.count += 1;
        if self.count > MAX_PAYLOADS {
            return Err(ParseError::TooMany);
        }
        let payload_type = self.next;
        let next = self.reader.u8()?;
        let critical = self.reader.u8()? & 0x80 != 0;
        let length = usize::from(self.reader.u16()?);
        let body = self.reader.take(length.checked_sub(4).ok_or(ParseError::Malformed(payload_type))?)?;
        self.next = if matches!(payload_type, pt::SK | pt::SKF) { pt::NONE } else { next };
        Ok(RawPayload { payload_type, next, critical, body })
    }
}

impl<'a> Iterator for RawPayloads<'a> {
    type Item = Result<RawPayload<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == pt::NONE {
            if self.reader.is_empty() {
                return None;
            }
            self.reader = Reader::new(&[]);
            return Some(Err(ParseError::Length));
        }
        let item = self.read();
        if item.is_err() {
            self.next = pt::NONE;
            self.reader = Reader::new(&[]);
        }
        Some(item)
    }
}

/// Parses a whole chain. Unknown payloads are kept as [`Payload::Other`] when they are not critical.
pub fn parse_payloads(first: u8, bytes: &[u8]) -> Result<Vec<Payload>, ParseError> {
    RawPayloads::new(first, bytes).map(|raw| parse_payload(&raw?)).collect()
}

fn parse_payload(raw: &RawPayload<'_>) -> Result<Payload, ParseError> {
    let body = raw.body;
    let malformed = |_| ParseError::Malformed(raw.payload_type);
    let coded = || body.split_first().ok_or(ParseError::Malformed(raw.payload_type));
    let parsed = match raw.payload_type {
        pt::SA => parse_sa(body).map(Payload::Sa),
        pt::KE => parse_ke(body),
        pt::ID_I => parse_id(body).map(Payload::IdInitiator),
        pt::ID_R => parse_id(body).map(Payload::IdResponder),
        pt::CERT => {
            coded().map(|(encoding, data)| Payload::Certificate { encoding: *encoding, data: data.to_vec() })
        }
        pt::CERTREQ => coded()
            .map(|(encoding, data)| Payload::CertificateRequest { encoding: *encoding, data: data.to_vec() }),
        pt::AUTH => parse_auth(body),
        pt::NONCE if (16..=256).contains(&body.len()) => Ok(Payload::Nonce(body.to_vec())),
        pt::NONCE => Err(ParseError::Malformed(pt::NONCE)),
        pt::NOTIFY => parse_notify(body).map(Payload::Notify),
        pt::DELETE => parse_delete(body).map(Payload::Delete),
        pt::VENDOR_ID => Ok(Payload::VendorId(body.to_vec())),
        pt::TS_I => parse_selectors(body).map(Payload::TsInitiator),
        pt::TS_R => parse_selectors(body).map(Payload::TsResponder),
        // Known to the RFC, unused by us: the critical bit is ignored for types that RFC 7296 defines (§2.5).
        pt::CP | pt::EAP => {
            Ok(Payload::Other { payload_type: raw.payload_type, critical: false, body: body.to_vec() })
        }
        other if raw.critical => return Err(ParseError::UnsupportedCritical(other)),
        other => Ok(Payload::Other { payload_type: other, critical: false, body: body.to_vec() }),
    };
    parsed.map_err(|error| if error == ParseError::TooMany { error } else { malformed(error) })
}

fn parse_sa(body: &[u8]) -> Result<Vec<Proposal>, ParseError> {
    let mut reader = Reader::new(body);
    let mut proposals = Vec::new();
    while !reader.is_empty() {
        if proposals.len() == MAX_PROPOSALS {
            return Err(ParseError::TooMany);
        }
        let more = reader.u8()?;
        let _reserved = reader.u8()?;
        let length = usize::from(reader.u16()?);
        let mut proposal = Reader::new(reader.take(length.checked_sub(4).ok_or(ParseError::Truncated)?)?);
        let number = proposal.u8()?;
        let protocol = proposal.u8()?;
        let spi_size = usize::from(proposal.u8()?);
        let count = usize::from(proposal.u8()?);
        let spi = proposal.take(spi_size)?.to_vec();
        let transforms = parse_transforms(&mut proposal, count)?;
        proposals.push(Proposal { number, protocol, spi, transforms });
        if (more == 0) != reader.is_empty() {
            return Err(ParseError::Malformed(pt::SA));
        }
    }
    Ok(proposals)
}

fn parse_transforms(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Transform>, ParseError> {
    if count > MAX_TRANSFORMS {
        return Err(ParseError::TooMany);
    }
    let mut transforms = Vec::new();
    for _ in 0..count {
        let _more = reader.u8()?;
        let _reserved = reader.u8()?;
        let length = usize::from(reader.u16()?);
        let mut transform = Reader::new(reader.take(length.checked_sub(4).ok_or(ParseError::Truncated)?)?);
        let kind = transform.u8()?;
        let _reserved = transform.u8()?;
        let id = transform.u16()?;
        let mut parsed = Transform { kind, id, key_length: None, unknown_attribute: false };
        while !transform.is_empty() {
            parse_attribute(&mut transform, &mut parsed)?;
        }
        transforms.push(parsed);
    }
    if !reader.is_empty() {
        return Err(ParseError::Malformed(pt::SA));
    }
    Ok(transforms)
}

/// RFC 7296 §3.3.5: the top bit tells type/value from type/length/value; 14 is Key Length.
fn parse_attribute(reader: &mut Reader<'_>, transform: &mut Transform) -> Result<(), ParseError> {
    match reader.u16()? {
        0x800e if transform.key_length.is_none() => transform.key_length = Some(reader.u16()?),
        fixed if fixed & 0x8000 != 0 => {
            reader.u16()?;
            transform.unknown_attribute = true;
        }
        _ => {
            let length = usize::from(reader.u16()?);
            reader.take(length)?;
            transform.unknown_attribute = true;
        }
    }
    Ok(())
}

fn parse_ke(body: &[u8]) -> Result<Payload, ParseError> {
    let mut reader = Reader::new(body);
    let group = reader.u16()?;
    reader.u16()?;
    Ok(Payload::KeyExchange { group, data: reader.rest().to_vec() })
}

fn parse_id(body: &[u8]) -> Result<Identification, ParseError> {
    let mut reader = Reader::new(body);
    let id_type = reader.u8()?;
    let reserved = reader.array()?;
    Ok(Identification { id_type, reserved, data: reader.rest().to_vec() })
}

fn parse_auth(body: &[u8]) -> Result<Payload, ParseError> {
    let mut reader = Reader::new(body);
    let method = reader.u8()?;
    reader.take(3)?;
    Ok(Payload::Auth { method, data: reader.rest().to_vec() })
}

fn parse_notify(body: &[u8]) -> Result<Notify, ParseError> {
    let mut reader = Reader::new(body);
    let protocol = reader.u8()?;
    let spi_size = usize::from(reader.u8()?);
    let kind = reader.u16()?;
    let spi = reader.take(spi_size)?.to_vec();
    Ok(Notify { protocol, spi, kind, data: reader.rest().to_vec() })
}

fn parse_delete(body: &[u8]) -> Result<Delete, ParseError> {
    let mut reader = Reader::new(body);
    let protocol = reader.u8()?;
    let spi_size = reader.u8()?;
    let count = usize::from(reader.u16()?);
    let expected = if protocol == 1 { 0 } else { 4 };
    if (spi_size != expected && count > 0) || reader.rest().len() != count * usize::from(spi_size) {
        return Err(ParseError::Malformed(pt::DELETE));
    }
    let mut spis = Vec::new();
    while !reader.is_empty() {
        spis.push(reader.u32()?);
    }
    Ok(Delete { protocol, spis })
}

fn parse_selectors(body: &[u8]) -> Result<Vec<TrafficSelector>, ParseError> {
    let mut reader = Reader::new(body);
    let count = usize::from(reader.u8()?);
    reader.take(3)?;
    if count > MAX_SELECTORS {
        return Err(ParseError::TooMany);
    }
    let mut selectors = Vec::new();
    for _ in 0..count {
        let ts_type = reader.u8()?;
        let protocol = reader.u8()?;
        let length = usize::from(reader.u16()?);
        let body = reader.take(length.checked_sub(4).ok_or(ParseError::Truncated)?)?;
        selectors.push(match ts_type {
            8 => parse_ipv6_selector(protocol, body)?,
            _ => TrafficSelector::Other { ts_type, protocol, body: body.to_vec() },
        });
    }
    if count == 0 || !reader.is_empty() {
        return Err(ParseError::Malformed(pt::TS_I));
    }
    Ok(selectors)
}

fn parse_ipv6_selector(protocol: u8, body: &[u8]) -> Result<TrafficSelector, ParseError> {
    let mut reader = Reader::new(body);
    let selector = TrafficSelector::Ipv6 {
        protocol,
        start_port: reader.u16()?,
        end_port: reader.u16()?,
        start: Ipv6Addr::from(reader.array::<16>()?),
        end: Ipv6Addr::from(reader.array::<16>()?),
    };
    if reader.is_empty() { Ok(selector) } else { Err(ParseError::Malformed(pt::TS_I)) }
}
