//! The simulation of the whole: homes and their home agents, machines behind NATs that move, a network that loses,
//! repeats, reorders, spoils and splits, `kill -9` with what is on the disk kept; and a reference model of who should
//! reach whom, directly or not.
//!
//! ```text
//! plan      a seed -> homes, sites (NATs), machines, who talks, what happens to them
//! people    a plan -> certificates, trust, policies: the configuration of every node
//! internet  datagrams between sites: NATs, weather, cut wires
//! model     who should reach whom, and which way
//! world     runs it: the storm, the calm, the watch
//! check     what must always hold
//! ```

mod check;
mod internet;
mod model;
mod people;
mod plan;
pub mod world;
