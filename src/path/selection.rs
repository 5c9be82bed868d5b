//! Which path carries the data: a pure ranking function.

use std::time::Duration;

use super::reason::Reason;

/// Another path of the same class must be faster by this much …
const MIN_GAIN: Duration = Duration::from_millis(5);
/// … and by this part of the current path's round-trip time.
const GAIN_PART: u32 = 5;

/// What kind of address a path leads to, in rising order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The peer's packets came from there, but the peer did not name it: behind a symmetric NAT there is no other way,
    /// but it may also be somebody who forwards packets that are not his (RFC 9000 §9.3.3).
    Learned,
    /// A public address that the peer named.
    Public,
    /// A local address that the peer named.
    Lan,
}

/// A direct path that is proven: the peer is there and packets of 1,280 octets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// The kind of its address.
    pub class: Class,
    /// Smoothed round-trip time.
    pub rtt: Duration,
}

/// The contender that shall carry the data, and why; `None` (the relay) only when there is no contender. `current` is
/// the index of the one that does now, if it is still among them. It stays unless another is of a better class, or of the
/// same class and clearly faster; an address that the peer did not name never displaces it.
pub fn choose(current: Option<usize>, contenders: &[Contender]) -> Option<(usize, Reason)> {
    let (best, winner) = contenders
        .iter()
        .enumerate()
        .min_by_key(|(_, contender)| (std::cmp::Reverse(contender.class), contender.rtt))?;
    let Some((current, now)) = current.and_then(|index| Some((index, contenders.get(index)?))) else {
        return Some((best, Reason::Proven));
    };
    let gain = (now.rtt / GAIN_PART).max(MIN_GAIN);
    if winner.class > now.class {
        Some((best, if winner.class == Class::Lan { Reason::Lan } else { Reason::Named }))
    } else if winner.class != Class::Learned && winner.rtt + gain <= now.rtt {
        Some((best, Reason::Faster))
    } else {
        Some((current, Reason::Proven))
    }
}
