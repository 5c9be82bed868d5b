//! Two endpoints in one process, on virtual time.

mod asking;
mod certificates;
mod collisions;
mod documents;
mod endings;
mod handshake;
mod hostile;
mod leaving;
mod life;
mod loss;
mod moves;
mod pair;
mod pieces;
mod refusals;
mod resources;
pub(super) mod scale;
mod speed;
mod strangers;
mod vectors;
