//! The program around the cores: configuration, event loop, control socket, telemetry.

pub mod config;
