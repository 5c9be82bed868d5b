//! IKEv2 (RFC 7296) as a sans-IO state machine.
//!
//! `Endpoint` takes `(now, input)` and is drained with `poll_transmit`, `poll_event` and `poll_timeout`, in this
//! order, after every input. It reads no clock, opens no socket and asks nobody for randomness: `now` and a seed
//! are passed in.

mod admission;
mod auth;
mod auth_data;
mod certificate;
mod child;
mod child_offer;
pub mod config;
mod context;
mod cookie;
mod document;
pub mod endpoint;
pub mod event;
mod fragment;
mod inform;
mod init;
mod lifetime;
mod message;
mod mobike;
mod nat;
mod proposal;
mod rare;
mod receive;
mod rekey;
mod resources;
mod rivals;
mod sa;
mod select;
mod strangers;
mod table;
#[cfg(test)]
mod tests;
mod timer;
mod window;

pub use config::{Config, Lifetimes, LocalEntity};
pub use document::MAX_DOCUMENT;
pub use endpoint::Endpoint;
pub use event::{ChildId, ChildSa, CloseReason, Event, Failure, IkeId, IkeInfo, Transmit};
pub use rare::Rare;
