//! A simulated hostile network on virtual time, for the sans-IO cores.

pub mod network;
