//! A simulated hostile network on virtual time, for the sans-IO cores, and machines on it.
//!
//! [`world`] is two machines and what IKE and ESP owe each other; [`homes`] is the whole: homes, their home agents, and
//! machines behind NATs that move, against a model of who should reach whom.

pub mod fuzz;
pub mod homes;
pub mod host;
pub mod nat;
pub mod network;
pub mod observer;
pub mod scenario;
pub mod world;
