//! Certificates: what a home issues for its own /48, and what a node makes of those that it is shown.
//!
//! A home is a certificate authority with one Ed25519 key. Its root certificate permits its own prefix and its own
//! domain only; but constraints on a trust anchor bind nobody, so [`leaf::verify`] checks prefix and name itself,
//! after the path validation of the library. Leaves live for a day at most, which bounds what a revocation that did
//! not get through can cost.
//!
//! Nothing here reads a clock, asks for randomness or touches a file: the time is a number of seconds since 1970
//! ([`UnixSeconds`]), and random octets are passed in.

pub mod endorsement;
mod error;
pub mod export;
mod kind;
pub mod leaf;
mod names;
pub mod pem;
pub mod redirect;
pub mod request;
pub mod root;
mod serial;
mod signature;
pub mod trust;

#[cfg(test)]
mod tests;

pub use error::{IssueError, TrustError};
pub use kind::Kind;
pub use leaf::VerifiedLeaf;
pub use root::{Authority, LeafRequest, Root};
pub use serial::Serial;
pub use trust::TrustStore;

/// Seconds since 1970-01-01 00:00 UTC, without leap seconds.
pub type UnixSeconds = u64;

/// A leaf lives for at most this long, counted from its issue.
pub const MAX_LEAF_LIFETIME: UnixSeconds = 24 * 3600;

/// A leaf is valid from this long before its issue, for verifiers whose clock is slow.
pub const BACKDATE: UnixSeconds = 300;

/// Octets of a certificate that is looked at; ours have about 500.
pub const MAX_CERTIFICATE: usize = 4096;

/// Certificates besides the leaf that are looked at. The path from a leaf to its home's root has none at all, but
/// others send the root itself along.
pub const MAX_OTHERS: usize = 4;
