//! Wrappers around cryptographic crates: no protocol state.

pub mod secret;
pub mod suite;
