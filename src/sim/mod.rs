//! A simulated hostile network on virtual time, for the sans-IO cores, and two machines on it.

pub mod fuzz;
pub mod host;
pub mod network;
pub mod observer;
pub mod scenario;
pub mod world;
