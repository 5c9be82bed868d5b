//! IKEv2 messages (RFC 7296 §3): the types. Parsing and building live in the files beside this one.
//!
//! Parsing is bounded by the datagram: no count or length in a message makes us allocate more than a small
//! multiple of the bytes that arrived.

mod build;
mod error;
mod parse;
pub mod payload;
mod reader;
#[cfg(test)]
mod tests;

pub use build::{encode_message, encode_payloads};
pub use error::ParseError;
pub use parse::{HEADER_LEN, RawPayload, RawPayloads, parse_payloads};
pub use payload::*;

/// The version octet of every message that we send: major 2, minor 0.
pub const VERSION: u8 = 0x20;

/// Exchange types (RFC 7296 §3.1).
pub mod exchange {
    /// IKE_SA_INIT
    pub const IKE_SA_INIT: u8 = 34;
    /// IKE_AUTH
    pub const IKE_AUTH: u8 = 35;
    /// CREATE_CHILD_SA
    pub const CREATE_CHILD_SA: u8 = 36;
    /// INFORMATIONAL
    pub const INFORMATIONAL: u8 = 37;
}

/// Header flags (RFC 7296 §3.1).
pub mod flags {
    /// Sent by the original initiator of the IKE SA.
    pub const INITIATOR: u8 = 0x08;
    /// The sender could speak a higher major version.
    pub const VERSION: u8 = 0x10;
    /// This is a response.
    pub const RESPONSE: u8 = 0x20;
}

/// The fixed header (RFC 7296 §3.1), 28 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Initiator's SPI, never zero.
    pub initiator_spi: u64,
    /// Responder's SPI, zero in the first request.
    pub responder_spi: u64,
    /// Type of the first payload.
    pub next_payload: u8,
    /// Major version in the high nibble, minor in the low one; 0x20.
    pub version: u8,
    /// See [`exchange`]; an unknown value is kept.
    pub exchange: u8,
    /// See [`flags`].
    pub flags: u8,
    /// Message ID (RFC 7296 §2.2).
    pub message_id: u32,
    /// Length of the whole message in octets, header included.
    pub length: u32,
}
