//! Bytes to meaning and back. No clock, no cryptography, no logging, no allocation while parsing.
//!
//! Contract: every parser takes a slice of any length and content and returns a typed error instead of
//! panicking; a view that was checked once never panics afterwards.

pub mod checksum;
pub mod echo;
pub mod esp;
pub mod icmpv6;
pub mod ike;
pub mod ip;
pub mod mobility;
pub mod path;
pub mod relay;
pub mod udp_encap;
