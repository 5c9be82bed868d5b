//! Two endpoints in one process, on virtual time.

mod collisions;
mod handshake;
mod hostile;
mod life;
mod moves;
mod pair;
