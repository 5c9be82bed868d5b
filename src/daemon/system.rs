//! What the machine knows and a pure core is told: the time of day, and chance.
#![expect(clippy::disallowed_methods, reason = "this is where the clock and the system's randomness come in")]

use std::io;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

pub use crate::io::lease::{Standing, standing};

/// The system has no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness: {0}")]
pub struct NoRandomness(String);

impl From<NoRandomness> for io::Error {
    fn from(error: NoRandomness) -> Self {
        Self::other(error)
    }
}

/// Octets that nobody can guess; they are wiped.
///
/// # Errors
/// [`NoRandomness`]: nothing may be made of anything else instead.
pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomness> {
    let mut octets = Zeroizing::new([0; N]);
    getrandom::fill(&mut *octets).map_err(|error| NoRandomness(error.to_string()))?;
    Ok(octets)
}

/// Time since 1970.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970.
pub fn unix() -> u64 {
    since_1970().as_secs()
}
