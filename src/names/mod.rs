//! Names: what a home answers about its own domain, and how a machine comes to ask it.
//!
//! [`Zone`] is the home's part: one query in, one response out, no socket and no clock. [`Table`] is where it finds who
//! has which name and address; the registry of a home is one.

mod listen;
mod message;
mod serve;
mod table;
mod zone;

#[cfg(test)]
mod serve_tests;
#[cfg(test)]
mod zone_tests;

pub use message::Transport;
pub use serve::{PORT, Server, serve, serve_at};
pub use table::{Table, Unavailable};
pub use zone::{Zone, ZoneError};
