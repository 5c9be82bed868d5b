//! The program around the cores: configuration, event loop, control socket, telemetry.

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
mod state;
mod suspend;
pub mod system;
pub mod telemetry;
pub mod trust;

pub use error::Error;
pub use event_loop::{Options, run};
pub use machine::may_administer;
