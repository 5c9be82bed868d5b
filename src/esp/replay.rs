//! The anti-replay window (RFC 4303 §3.4.3, appendix A), and the guess of the high half of an extended sequence number.
//!
//! The window is a ring of 64-bit blocks in RFC 6479's manner: a bit's place is the sequence number modulo the ring,
//! so nothing is ever shifted. RFC 6479 clears whole blocks and keeps a spare one for that; here only the bits that
//! were passed over are cleared, so the ring needs no spare and the window is exact.

/// Sequence numbers behind the highest one that are still told apart: at 8 Gbit/s 4,096 packets are 5 ms.
pub const WINDOW: u64 = 65_536;

const BLOCK: u64 = u64::BITS as u64;

/// The smallest ring: 128 octets. It doubles with the sequence numbers up to the whole window (8 KiB), so that a
/// hundred thousand quiet SAs stay small.
const SMALLEST: u64 = 1_024;

/// Why a sequence number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Accepted before, or zero, which no sender uses (RFC 4303 §3.3.3).
    Replayed,
    /// Left of the window.
    TooOld,
}

/// The sequence numbers that were accepted. [`check`](Self::check) before the authentication, then
/// [`commit`](Self::commit): nothing unauthentic may ever move it.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    /// The highest number accepted; 0 before the first one.
    top: u64,
    /// A power of two of bits, at least `min(top + 1, WINDOW)` of them; bit `s % len` is set when `s` in
    /// `top - len < s <= top` was accepted. Empty before the first packet.
    blocks: Vec<u64>,
}

impl ReplayWindow {
    /// Nothing accepted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest sequence number that was accepted; 0 before the first one.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// The whole sequence number of a packet that carries `low` (RFC 4303 appendix A2.2): the one nearest to the
    /// window. A number before the beginning of time is too old; one after its end was never sent.
    pub fn extend(&self, low: u32) -> Result<u64, Stale> {
        let (top_high, top_low) = (self.top >> 32, self.top & 0xffff_ffff);
        let low = u64::from(low);
        // The lower edge of the window, modulo 2^32.
        let bottom = top_low.wrapping_sub(WINDOW - 1) & 0xffff_ffff;
        let high = if top_low >= WINDOW - 1 {
            // Case A: the window lies within one subspace; a low number is one of the next.
            if low >= bottom { Some(top_high) } else { Some(top_high + 1) }
        } else {
            // Case B: the window reaches into the subspace before.
            if low >= bottom { top_high.checked_sub(1) } else { Some(top_high) }
        };
        high.filter(|high| *high <= u64::from(u32::MAX)).map(|high| high << 32 | low).ok_or(Stale::TooOld)
    }

    /// May this number still be accepted?
    pub fn check(&self, sequence: u64) -> Result<(), Stale> {
        if sequence > self.top {
            return Ok(());
        }
        if self.top - sequence >= WINDOW {
            return Err(Stale::TooOld);
        }
        if sequence == 0 || self.is_set(sequence) {
            return Err(Stale::Replayed);
        }
        Ok(())
    }

    /// Marks a number whose packet was authenticated; checks it once more.
    pub fn commit(&mut self, sequence: u64) -> Result<(), Stale> {
        self.check(sequence)?;
        if sequence > self.top {
            self.grow(sequence);
            self.clear_between(self.top, sequence);
            self.top = sequence;
        }
        let (block, bit) = self.place(sequence);
        if let Some(block) = self.blocks.get_mut(block) {
            *block |= bit;
        }
        Ok(())
    }

    fn place(&self, sequence: u64) -> (usize, u64) {
        let mask = (self.blocks.len() as u64 * BLOCK).wrapping_sub(1);
        (((sequence & mask) / BLOCK) as usize, 1 << (sequence % BLOCK))
    }

    fn is_set(&self, sequence: u64) -> bool {
        let (block, bit) = self.place(sequence);
        self.blocks.get(block).is_some_and(|block| block & bit != 0)
    }

    /// Makes room for `top`. Before the ring has its full size no number ever wrapped around in it, so what is there
    /// stays where it is.
    fn grow(&mut self, top: u64) {
        let bits = top.saturating_add(1).clamp(SMALLEST, WINDOW).next_power_of_two();
        let blocks = (bits / BLOCK) as usize;
        if blocks > self.blocks.len() {
            self.blocks.resize(blocks, 0);
        }
    }

    /// Clears the places of the numbers strictly between `old` and `new`, block by block: they held numbers that now
    /// leave the window. The place of `new` itself is set by the caller.
    fn clear_between(&mut self, old: u64, new: u64) {
        let ring = self.blocks.len() as u64 * BLOCK;
        if new - old >= ring {
            self.blocks.fill(0);
            return;
        }
        let mut next = old + 1;
        while next < new {
            let (block, _) = self.place(next);
            let start = next % BLOCK;
            let count = (BLOCK - start).min(new - next);
            let bits = (u64::MAX >> (BLOCK - count)) << start;
            if let Some(block) = self.blocks.get_mut(block) {
                *block &= !bits;
            }
            next += count;
        }
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
