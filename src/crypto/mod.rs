//! Wrappers around cryptographic crates: no protocol state.

pub mod aead;
pub mod identity;
pub mod kex;
pub mod prf;
pub mod secret;
pub mod suite;
