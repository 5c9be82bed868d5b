//! Why a message is refused, and which notify that leads to (RFC 7296 §2.21).

use super::notify_type;

/// A message that is not well-formed IKEv2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer octets than the structure needs.
    #[error("truncated IKE message")]
    Truncated,
    /// The header's length is not the datagram's.
    #[error("IKE length field does not match the datagram")]
    Length,
    /// Another major version than 2.
    #[error("IKE major version {0} is not supported")]
    Version(u8),
    /// A field has a value that the RFC forbids.
    #[error("malformed IKE payload of type {0}")]
    Malformed(u8),
    /// More payloads, proposals, transforms or selectors than anybody needs.
    #[error("too many elements in an IKE message")]
    TooMany,
    /// A payload that we do not understand and that the sender marked critical (RFC 7296 §2.5).
    #[error("unsupported critical payload of type {0}")]
    UnsupportedCritical(u8),
}

impl ParseError {
    /// The error notify that tells the peer, with its data.
    pub fn notify(self) -> (u16, Vec<u8>) {
        match self {
            Self::Version(_) => (notify_type::INVALID_MAJOR_VERSION, Vec::new()),
            Self::UnsupportedCritical(payload) => (notify_type::UNSUPPORTED_CRITICAL_PAYLOAD, vec![payload]),
            Self::Truncated | Self::Length | Self::Malformed(_) | Self::TooMany => {
                (notify_type::INVALID_SYNTAX, Vec::new())
            }
        }
    }
}
