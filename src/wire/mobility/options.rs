//! Mobility options (RFC 6275 §6.2): `type, length, data`; Pad1 is a single zero octet.
//!
//! ```text
//!  6  18  reserved, prefix length, prefix (16)                        RFC 3963 §4.3
//! 18   n  experiment (2), kind, reserved, data                        RFC 5096 §4, ours
//! 29   6  prefix length (6 bits), P, reserved (9 bits), IPv4 (4)      RFC 5555 §3.1.1
//! 30   6  status, prefix length (6 bits), reserved (2 bits), IPv4     RFC 5555 §3.2.1
//! 31   6  F, reserved (15 bits), refresh time in seconds (4)          RFC 5555 §3.2.2
//! 32   6  reserved (2), IPv4 (4)                                      RFC 5555 §3.1.2
//! ```

pub(super) const PAD1: u8 = 0;
pub(super) const PADN: u8 = 1;
pub(super) const MOBILE_NETWORK_PREFIX: u8 = 6;
pub(super) const EXPERIMENTAL: u8 = 18;
pub(super) const IPV4_HOME_ADDRESS: u8 = 29;
pub(super) const IPV4_ADDRESS_ACK: u8 = 30;
pub(super) const NAT_DETECTION: u8 = 31;
pub(super) const IPV4_CARE_OF_ADDRESS: u8 = 32;

/// Kind of our experimental option: IPv4 address (4) and UDP port (2), as the home agent saw them.
pub(super) const KIND_OBSERVED: u8 = 1;
/// Kind of our experimental option: a cookie (8) to be sent back. Also kind of our experimental message.
pub(super) const KIND_CHALLENGE: u8 = 2;
/// Kind of our experimental message: the cookie, sent back.
pub(super) const KIND_RESPONSE: u8 = 3;
