//! The program around the cores: configuration, event loop, control socket, telemetry.

mod awake;
pub mod config;
pub mod control;
pub mod errands;
mod error;
mod event_loop;
pub mod home;
mod hosted;
pub mod join;
mod keylog;
mod lookup;
mod machine;
mod membership;
pub mod memory;
mod naming;
mod places;
mod requests;
mod revocations;
mod speed;
mod state;
mod suspend;
pub mod system;
pub mod telemetry;
pub mod trust;

pub use error::Error;
pub use event_loop::{Options, run};
pub use machine::may_administer;

/// The version that `--version` and `status` say; a build that protects nothing says so here.
pub const VERSION: &str = if crate::esp::IS_UNPROTECTED {
    concat!(env!("CARGO_PKG_VERSION"), " (bench-null-cipher: for measurements, AES-256-GCM PROTECTS NOTHING)")
} else {
    env!("CARGO_PKG_VERSION")
};
