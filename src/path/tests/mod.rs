//! Agents in a simulated network with NATs: see [`world`].

mod hostile;
mod pieces;
mod settle;
mod storms;
mod world;
