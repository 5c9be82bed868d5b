//! The Mobility Header (RFC 6275 §6.1): bindings between a node and its home agent, as a whole inner IPv6 packet.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |               IPv6 header, next header 135, 40 octets           |
//! | Payload Proto |  Header Len   |   MH Type     |   Reserved    |
//! |           Checksum            |          message data …         |
//! ```
//!
//! Payload Proto is 59, Header Len counts 8 octets without the first 8, the checksum covers the IPv6 pseudo-header.
//! This is a profile: no Home Address destination option (the SA proves the home address), no alternate care-of address,
//! only home registrations. Our own messages and options have the experimental numbers of RFC 5096 and begin with
//! [`EXPERIMENT`].
//!
//! ```
//! use domicile::wire::mobility::{BindingUpdate, Lifetime, Message, UpdateFlags, build, parse};
//!
//! let (node, agent) = ("2002:c633:6401:100::1".parse()?, "2002:c633:6401::1".parse()?);
//! let mut update = BindingUpdate::new(7, Lifetime::from_secs(1800));
//! update.prefixes.push("2002:c633:6401:100::/64".parse()?)?;
//! update.flags.mobile_router = true;
//! let packet = build(node, agent, &Message::Update(update));
//! let inner = parse(&packet)?;
//! assert_eq!((inner.source, inner.destination), (node, agent));
//! assert_eq!(inner.message, Message::Update(update));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build;
mod options;
mod parse;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use ipnet::Ipv6Net;

pub use build::build;
pub use parse::{ParseError, parse};
pub use status::Status;

use super::ip::{HEADER_LEN, NEXT_HEADER_NONE};

/// Next header of the Mobility Header (RFC 6275 §6.1.1).
pub const NEXT_HEADER_MOBILITY: u8 = 135;
/// The first two octets of our experimental messages and options, so that another experiment is told apart.
pub const EXPERIMENT: u16 = 0xd0c1;
/// Mobile network prefixes in one Binding Update.
pub const MAX_PREFIXES: usize = 32;
/// Octets of the fixed part of a Mobility Header.
const MH_LEN: usize = 6;

/// MH Type (RFC 6275 §6.1, RFC 5096 §3).
pub mod mh_type {
    #![expect(missing_docs, reason = "the names are those of the registry")]
    pub const BINDING_UPDATE: u8 = 5;
    pub const BINDING_ACKNOWLEDGEMENT: u8 = 6;
    pub const EXPERIMENTAL: u8 = 11;
}

/// True for a packet that [`parse()`] is meant for.
pub fn is_mobility(packet: &[u8]) -> bool {
    packet.len() >= HEADER_LEN && packet.get(6) == Some(&NEXT_HEADER_MOBILITY)
}

/// A time in units of 4 seconds (RFC 6275 §6.1.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(pub u16);

impl Lifetime {
    /// In a Binding Update: delete the binding. In an acknowledgement: there is none.
    pub const ZERO: Self = Self(0);

    /// Rounded down to the unit, but never to zero unless `seconds` is; at most 262,140 s.
    pub fn from_secs(seconds: u32) -> Self {
        let units = (seconds / 4).max(u32::from(seconds != 0));
        Self(u16::try_from(units).unwrap_or(u16::MAX))
    }

    /// In seconds.
    pub fn as_secs(self) -> u32 {
        u32::from(self.0) * 4
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.as_secs()))
    }
}

/// Eight random octets that come back from whoever received them (RFC 9000 §8.2).
pub type Cookie = [u8; 8];

/// A Mobility Header message with its IPv6 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// What was said.
    pub message: Message,
}

/// A message.
#[expect(
    clippy::large_enum_variant,
    reason = "control plane only; a copy is cheaper than an allocation per message"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Binding Update (RFC 6275 §6.1.7).
    Update(BindingUpdate),
    /// Binding Acknowledgement (RFC 6275 §6.1.8).
    Acknowledgement(BindingAcknowledgement),
    /// Ours: "send this back".
    Challenge(Cookie),
    /// Ours: the challenge, sent back.
    Response {
        /// Of the challenge.
        cookie: Cookie,
        /// Where the challenge came from, as its receiver saw it; only the home agent tells.
        observed: Option<SocketAddrV4>,
    },
}

/// Flags of a Binding Update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateFlags {
    /// A: acknowledge this.
    pub acknowledge: bool,
    /// H: a home registration.
    pub home_registration: bool,
    /// L: link-local compatibility; means nothing here.
    pub link_local: bool,
    /// K: the IKE SA survives a move (RFC 6275 §6.1.7).
    pub key_management: bool,
    /// R: from a mobile router, with prefixes (RFC 3963 §4.1).
    pub mobile_router: bool,
    /// F: encapsulate in UDP whether there is a NAT or not (RFC 5555 §3.1.3).
    pub force_udp: bool,
}

/// Binding Update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingUpdate {
    /// Modulo 2^16.
    pub sequence: u16,
    /// How long; zero deletes.
    pub lifetime: Lifetime,
    /// Flags.
    pub flags: UpdateFlags,
    /// IPv4 care-of address (RFC 5555 §3.1.2): the node's own address, before any NAT.
    pub care_of: Option<Ipv4Addr>,
    /// IPv4 home address (RFC 5555 §3.1.1), as it was asked for. We never ask.
    pub ipv4_home: Option<Ipv4Home>,
    /// Mobile network prefixes (RFC 3963 §4.3).
    pub prefixes: Prefixes,
}

impl BindingUpdate {
    /// A home registration as we send it: A, H, K and F.
    pub fn new(sequence: u16, lifetime: Lifetime) -> Self {
        let flags = UpdateFlags {
            acknowledge: true,
            home_registration: true,
            link_local: false,
            key_management: true,
            mobile_router: false,
            force_udp: true,
        };
        Self { sequence, lifetime, flags, care_of: None, ipv4_home: None, prefixes: Prefixes::default() }
    }
}

/// IPv4 Home Address option (RFC 5555 §3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Home {
    /// 0.0.0.0 asks for one.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix_len: u8,
    /// P: a prefix is asked for.
    pub prefix_requested: bool,
}

/// Binding Acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingAcknowledgement {
    /// What became of the update.
    pub status: Status,
    /// K: the IKE SA survives a move.
    pub key_management: bool,
    /// R: the update's prefixes were taken, too (RFC 3963 §4.2).
    pub mobile_router: bool,
    /// Of the update; with status 135 the last one that was accepted.
    pub sequence: u16,
    /// What was granted.
    pub lifetime: Lifetime,
    /// Answer to an IPv4 home address (RFC 5555 §3.2.1).
    pub ipv4_home: Option<Ipv4HomeAck>,
    /// NAT detection (RFC 5555 §3.2.2).
    pub nat: Option<NatDetection>,
    /// Ours: where the update came from.
    pub observed: Option<SocketAddrV4>,
    /// Ours: the care-of address is tentative until this comes back in a Response.
    pub challenge: Option<Cookie>,
}

impl BindingAcknowledgement {
    /// An acknowledgement without options.
    pub fn new(status: Status, sequence: u16, lifetime: Lifetime) -> Self {
        Self {
            status,
            key_management: true,
            mobile_router: false,
            sequence,
            lifetime,
            ipv4_home: None,
            nat: None,
            observed: None,
            challenge: None,
        }
    }
}

/// IPv4 Address Acknowledgement option (RFC 5555 §3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4HomeAck {
    /// 0: granted; from 128 on: refused.
    pub status: u8,
    /// The address.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix_len: u8,
}

/// NAT Detection option (RFC 5555 §3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatDetection {
    /// F: UDP encapsulation is required. Always, with us.
    pub force_udp: bool,
    /// How often to refresh the NAT's mapping, in seconds.
    pub refresh: u32,
}

/// The prefixes of a Binding Update, at most [`MAX_PREFIXES`].
#[derive(Clone, Copy)]
pub struct Prefixes {
    nets: [Ipv6Net; MAX_PREFIXES],
    len: usize,
}

/// More than [`MAX_PREFIXES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_PREFIXES} prefixes do not go into one Binding Update: send several")]
pub struct TooManyPrefixes;

impl Prefixes {
    /// Adds one; host bits are cleared.
    pub fn push(&mut self, prefix: Ipv6Net) -> Result<(), TooManyPrefixes> {
        *self.nets.get_mut(self.len).ok_or(TooManyPrefixes)? = prefix.trunc();
        self.len += 1;
        Ok(())
    }
}

impl Default for Prefixes {
    fn default() -> Self {
        Self { nets: [Ipv6Net::default(); MAX_PREFIXES], len: 0 }
    }
}

impl std::ops::Deref for Prefixes {
    type Target = [Ipv6Net];

    fn deref(&self) -> &[Ipv6Net] {
        self.nets.get(..self.len).unwrap_or_default()
    }
}

impl PartialEq for Prefixes {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Prefixes {}

impl fmt::Debug for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
