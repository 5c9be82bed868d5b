//! The data plane: published tables of SAs and pure functions over them, run by worker threads that never wait
//! for the control plane.

pub mod batch;
pub mod counters;
pub mod event;
pub mod tables;
