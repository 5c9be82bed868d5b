//! Agents in a simulated network with NATs: see [`world`].

mod hostile;
mod nat;
mod pieces;
mod settle;
mod storms;
mod world;
