//! From payloads to octets (RFC 7296 §3). What we build ourselves always fits: lengths are ours.

use super::{
    Delete, HEADER_LEN, Header, Identification, Notify, Payload, Proposal, TrafficSelector, Transform,
    payload_type as pt,
};

impl Payload {
    /// IANA payload type.
    pub fn payload_type(&self) -> u8 {
        match self {
            Self::Sa(_) => pt::SA,
            Self::KeyExchange { .. } => pt::KE,
            Self::IdInitiator(_) => pt::ID_I,
            Self::IdResponder(_) => pt::ID_R,
            Self::Certificate { .. } => pt::CERT,
            Self::CertificateRequest { .. } => pt::CERTREQ,
            Self::Auth { .. } => pt::AUTH,
            Self::Nonce(_) => pt::NONCE,
            Self::Notify(_) => pt::NOTIFY,
            Self::Delete(_) => pt::DELETE,
            Self::VendorId(_) => pt::VENDOR_ID,
            Self::TsInitiator(_) => pt::TS_I,
            Self::TsResponder(_) => pt::TS_R,
            Self::Other { payload_type, .. } => *payload_type,
        }
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sa(proposals) => write_sa(proposals, out),
            Self::KeyExchange { group, data } => {
                out.extend_from_slice(&group.to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(data);
            }
            Self::IdInitiator(id) | Self::IdResponder(id) => out.extend_from_slice(&id.body()),
            Self::Certificate { encoding, data } | Self::CertificateRequest { encoding, data } => {
                out.push(*encoding);
                out.extend_from_slice(data);
            }
            Self::Auth { method, data } => {
                out.extend_from_slice(&[*method, 0, 0, 0]);
                out.extend_from_slice(data);
            }
            Self::Nonce(data) | Self::VendorId(data) => out.extend_from_slice(data),
            Self::Notify(notify) => write_notify(notify, out),
            Self::Delete(delete) => write_delete(delete, out),
            Self::TsInitiator(selectors) | Self::TsResponder(selectors) => write_selectors(selectors, out),
            Self::Other { body, .. } => out.extend_from_slice(body),
        }
    }
}

impl Identification {
    /// The payload body, as it is on the wire, which is what AUTH covers (RFC 7296 §2.15).
    pub fn body(&self) -> Vec<u8> {
        let mut body = vec![self.id_type];
        body.extend_from_slice(&self.reserved);
        body.extend_from_slice(&self.data);
        body
    }
}

/// Appends a payload chain; returns the type of its first payload (0 for none).
pub fn encode_payloads(payloads: &[Payload], out: &mut Vec<u8>) -> u8 {
    let mut types = payloads.iter().map(Payload::payload_type);
    let first = types.next().unwrap_or(pt::NONE);
    for payload in payloads {
        let start = out.len();
        let critical = matches!(payload, Payload::Other { critical: true, .. });
        out.extend_from_slice(&[types.next().unwrap_or(pt::NONE), if critical { 0x80 } else { 0 }, 0, 0]);
        payload.write_body(out);
        patch_length(out, start, start + 2);
    }
    first
}

/// A whole message in clear: IKE_SA_INIT, and error notifies outside any SA. `next_payload` and `length` of `header`
/// are filled in.
pub fn encode_message(mut header: Header, payloads: &[Payload]) -> Vec<u8> {
    let mut out = vec![0; HEADER_LEN];
    header.next_payload = encode_payloads(payloads, &mut out);
    header.length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out.splice(..HEADER_LEN, header.encode());
    out
}

impl Header {
    /// The 28 octets.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(&self.initiator_spi.to_be_bytes());
        out[8..16].copy_from_slice(&self.responder_spi.to_be_bytes());
        out[16] = self.next_payload;
        out[17] = self.version;
        out[18] = self.exchange;
        out[19] = self.flags;
        out[20..24].copy_from_slice(&self.message_id.to_be_bytes());
        out[24..].copy_from_slice(&self.length.to_be_bytes());
        out
    }
}

/// Writes the distance from `start` to the end of `out` into the two octets at `at`.
fn patch_length(out: &mut [u8], start: usize, at: usize) {
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

fn write_sa(proposals: &[Proposal], out: &mut Vec<u8>) {
    for (index, proposal) in proposals.iter().enumerate() {
        let start = out.len();
        let more = if index + 1 == proposals.len() { 0 } else { 2 };
        out.extend_from_slice(&[more, 0, 0, 0, proposal.number, proposal.protocol]);
        out.extend_from_slice(&[proposal.spi.len() as u8, proposal.transforms.len() as u8]);
        out.extend_from_slice(&proposal.spi);
        for (index, transform) in proposal.transforms.iter().enumerate() {
            write_transform(transform, index + 1 == proposal.transforms.len(), out);
        }
        patch_length(out, start, start + 2);
    }
}

fn write_transform(transform: &Transform, last: bool, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[if last { 0 } else { 3 }, 0, 0, 0, transform.kind, 0]);
    out.extend_from_slice(&transform.id.to_be_bytes());
    if let Some(bits) = transform.key_length {
        out.extend_from_slice(&[0x80, 14]);
        out.extend_from_slice(&bits.to_be_bytes());
    }
    patch_length(out, start, start + 2);
}

fn write_notify(notify: &Notify, out: &mut Vec<u8>) {
    out.extend_from_slice(&[notify.protocol, notify.spi.len() as u8]);
    out.extend_from_slice(&notify.kind.to_be_bytes());
    out.extend_from_slice(&notify.spi);
    out.extend_from_slice(&notify.data);
}

fn write_delete(delete: &Delete, out: &mut Vec<u8>) {
    let spi_size = if delete.protocol == 1 { 0 } else { 4 };
    out.extend_from_slice(&[delete.protocol, spi_size]);
    out.extend_from_slice(&(delete.spis.len() as u16).to_be_bytes());
    for spi in &delete.spis {
        out.extend_from_slice(&spi.to_be_bytes());
    }
}

fn write_selectors(selectors: &[TrafficSelector], out: &mut Vec<u8>) {
    out.extend_from_slice(&[selectors.len() as u8, 0, 0, 0]);
    for selector in selectors {
        let start = out.len();
        match selector {
            TrafficSelector::Ipv6 { protocol, start_port, end_port, start: first, end } => {
                out.extend_from_slice(&[8, *protocol, 0, 0]);
                out.extend_from_slice(&start_port.to_be_bytes());
                out.extend_from_slice(&end_port.to_be_bytes());
                out.extend_from_slice(&first.octets());
                out.extend_from_slice(&end.octets());
            }
            TrafficSelector::Other { ts_type, protocol, body } => {
                out.extend_from_slice(&[*ts_type, *protocol, 0, 0]);
                out.extend_from_slice(body);
            }
        }
        patch_length(out, start, start + 2);
    }
}
