//! Protecting and opening whole messages: the Encrypted payload (RFC 7296 §3.14, RFC 5282) and, when a message is
//! too large, Encrypted Fragment payloads (RFC 7383 §2.5).
//!
//! ```text
//! IKE header (28) | next, flags, length (4) | [fragment number, total (4)] | IV (8) | ciphertext | ICV (16)
//! '-------------------- associated data (RFC 5282 §5.1) -----------------'
//! ```
//! The plaintext is the payload chain and a pad length octet, always 0.

use crate::crypto::aead::IkeAead;
use crate::crypto::prf::IkeKeys;
use crate::crypto::suite::IkeSuite;
use crate::wire::ike::{
    HEADER_LEN, Header, ParseError, Payload, RawPayloads, encode_payloads, payload_type as pt,
};

const GENERIC: usize = 4;
const FRAGMENT: usize = 4;
const IV: usize = 8;
const TAG: usize = 16;

/// Both directions of an IKE SA under its keys.
pub(super) struct Protection {
    seal: IkeAead,
    open: IkeAead,
    /// IV of the next sealed payload: a counter, so it never repeats under one key (RFC 5282 §3.1).
    next_iv: u64,
}

/// An opened message, or a part of one.
pub(super) enum Opened {
    /// All payloads: the type of the first and the chain.
    Whole(u8, Vec<u8>),
    /// One fragment.
    Part(Part),
}

/// One authenticated fragment (RFC 7383 §2.5).
pub(super) struct Part {
    pub(super) number: u16,
    pub(super) total: u16,
    /// Type of the first payload; meaningful in fragment 1 only.
    pub(super) first: u8,
    pub(super) plaintext: Vec<u8>,
}

impl Protection {
    /// Keys for the end that is (`initiator`) or is not the original initiator.
    pub(super) fn new(suite: IkeSuite, keys: &IkeKeys, initiator: bool) -> Option<Self> {
        let ours = IkeAead::new(suite, if initiator { &keys.sk_ei } else { &keys.sk_er })?;
        let theirs = IkeAead::new(suite, if initiator { &keys.sk_er } else { &keys.sk_ei })?;
        Some(Self { seal: ours, open: theirs, next_iv: 1 })
    }

    /// Seals payloads into one datagram, or into several when the message would exceed `limit` octets.
    pub(super) fn seal(
        &mut self,
        header: Header,
        payloads: &[Payload],
        limit: Option<usize>,
    ) -> Vec<Vec<u8>> {
        let mut chain = Vec::new();
        let first = encode_payloads(payloads, &mut chain);
        let whole = HEADER_LEN + GENERIC + IV + chain.len() + 1 + TAG;
        let room = limit
            .map_or(usize::MAX, |limit| limit.saturating_sub(HEADER_LEN + GENERIC + FRAGMENT + IV + 1 + TAG));
        if limit.is_none_or(|limit| whole <= limit) || room == 0 {
            return self.seal_one(header, first, None, chain).into_iter().collect();
        }
        let total = u16::try_from(chain.len().div_ceil(room)).unwrap_or(u16::MAX);
        (1..=total)
            .zip(chain.chunks(room))
            .filter_map(|(number, chunk)| {
                let first = if number == 1 { first } else { pt::NONE };
                self.seal_one(header, first, Some((number, total)), chunk.to_vec())
            })
            .collect()
    }

    fn seal_one(
        &mut self,
        mut header: Header,
        first: u8,
        part: Option<(u16, u16)>,
        mut plain: Vec<u8>,
    ) -> Option<Vec<u8>> {
        plain.push(0);
        let extra = if part.is_some() { FRAGMENT } else { 0 };
        let payload_len = GENERIC + extra + IV + plain.len() + TAG;
        header.next_payload = if part.is_some() { pt::SKF } else { pt::SK };
        header.length = u32::try_from(HEADER_LEN + payload_len).ok()?;
        let mut out = header.encode().to_vec();
        out.extend_from_slice(&[first, 0]);
        out.extend_from_slice(&u16::try_from(payload_len).ok()?.to_be_bytes());
        if let Some((number, total)) = part {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&total.to_be_bytes());
        }
        let iv = self.next_iv.to_be_bytes();
        self.next_iv = self.next_iv.checked_add(1)?;
        self.seal.seal(iv, &out, &mut plain).ok()?;
        out.extend_from_slice(&iv);
        out.extend_from_slice(&plain);
        Some(out)
    }

    /// Authenticates and decrypts. An error says nothing more than "not for this SA".
    pub(super) fn open(&self, header: &Header, message: &[u8]) -> Result<Opened, ParseError> {
        let body = message.get(HEADER_LEN..).ok_or(ParseError::Truncated)?;
        let mut encrypted = None;
        for raw in RawPayloads::new(header.next_payload, body) {
            let raw = raw?;
            if matches!(raw.payload_type, pt::SK | pt::SKF) {
                encrypted = Some(raw);
            }
        }
        let raw = encrypted.ok_or(ParseError::Malformed(pt::SK))?;
        let fragment = if raw.payload_type == pt::SKF { FRAGMENT } else { 0 };
        let aad_len = message.len() - raw.body.len() + fragment;
        let (aad, rest) = message.split_at_checked(aad_len).ok_or(ParseError::Truncated)?;
        let (iv, ciphertext) = rest.split_first_chunk::<IV>().ok_or(ParseError::Truncated)?;
        let mut plaintext = ciphertext.to_vec();
        self.open.open(*iv, aad, &mut plaintext).map_err(|_| ParseError::Malformed(pt::SK))?;
        let padding = usize::from(plaintext.pop().ok_or(ParseError::Truncated)?);
        let len = plaintext.len().checked_sub(padding).ok_or(ParseError::Malformed(pt::SK))?;
        plaintext.truncate(len);
        if fragment == 0 {
            return Ok(Opened::Whole(raw.next, plaintext));
        }
        let numbers = raw.body.first_chunk::<FRAGMENT>().ok_or(ParseError::Truncated)?;
        let number = u16::from_be_bytes([numbers[0], numbers[1]]);
        let total = u16::from_be_bytes([numbers[2], numbers[3]]);
        if number == 0 || number > total {
            return Err(ParseError::Malformed(pt::SKF));
        }
        Ok(Opened::Part(Part { number, total, first: raw.next, plaintext }))
    }
}
