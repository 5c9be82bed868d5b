//! A home: who has which permanent address under its /48, who may join, and what was issued.
//!
//! [`registry::Registry`] keeps all of it in one file. No
//! network, no clock and no randomness of its own: the time (seconds since 1970) and random octets come in.
//!
//! A change is acknowledged when the call returns, and what was acknowledged is on the disk: a kill at any instant
//! loses none of it, and no address is ever given out twice, not even after its entity was removed.

pub mod code;
pub mod entity;
pub mod error;
pub mod name;
pub mod registry;
pub mod talk;
pub mod verbs;

pub use entity::{By, Entity, EntityId, Grant, Issued, Kind};
pub use error::Error;
pub use registry::Registry;
