//! The Internet checksum (RFC 1071): ones' complement sums of 16-bit words in network order.
//!
//! A *sum* here is folded to 16 bits and not complemented. The field of a packet that is right makes the sum over
//! pseudo-header and packet `0xffff`; a checksum that is only begun (NEEDS_CSUM) is the sum of the pseudo-header.

/// The sum of octets; an odd last one counts as if a zero followed it.
pub fn sum(octets: &[u8]) -> u16 {
    // The sum does not depend on the order of octets within the words but for its own (RFC 1071 §2 B), so whole
    // machine words are added, 32 octets a turn in independent lanes, which a compiler turns into vector instructions.
    // No lane overflows: a packet is far below 2^32 turns.
    let (chunks, rest) = octets.as_chunks::<32>();
    let mut lanes = [0_u64; 8];
    for chunk in chunks {
        let (words, _) = chunk.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (pairs, last) = rest.as_chunks::<2>();
    let mut total = lanes.iter().sum::<u64>();
    total += pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum::<u64>();
    if let [last] = last {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u16::from_be_bytes(fold(total).to_ne_bytes())
}

/// Two sums added. What the second one covers must begin an even number of octets behind the start of the first.
pub fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    // With a carry the sum is at most 0xfffe.
    sum + u16::from(carry)
}

/// The sum of an IPv6 pseudo-header (RFC 8200 §8.1): `addresses` are source and destination as they stand in the fixed
/// header, `len` is the length of the upper-layer packet.
pub fn pseudo_header(addresses: &[u8; 32], next_header: u8, len: u32) -> u16 {
    add(sum(addresses), fold(u64::from(len) + u64::from(next_header)))
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Word by word, as RFC 1071 §4.1 does it.
    fn naive(octets: &[u8]) -> u16 {
        let words = octets.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        words.fold(0, |sum, word| {
            let sum: u32 = u32::from(sum) + u32::from(word);
            (sum & 0xffff) as u16 + (sum >> 16) as u16
        })
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0xab]), 0xab00);
        assert_eq!(sum(&[0xff; 65_535]), add(0xffff, 0xff00));
    }

    proptest! {
        #[test]
        fn lanes_sum_up_as_words_do(octets in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..150_usize) {
            prop_assert_eq!(sum(&octets), naive(&octets));
            // Unaligned, too; and in parts.
            let cut = (cut * 2).min(octets.len() / 2 * 2);
            prop_assert_eq!(sum(&octets[octets.len().min(1)..]), naive(&octets[octets.len().min(1)..]));
            prop_assert_eq!(add(sum(&octets[..cut]), sum(&octets[cut..])), naive(&octets));
        }

        #[test]
        fn the_pseudo_header_is_that_of_rfc_8200(addresses: [u8; 32], next_header: u8, len: u32) {
            let mut written = addresses.to_vec();
            written.extend_from_slice(&len.to_be_bytes());
            written.extend_from_slice(&[0, 0, 0, next_header]);
            prop_assert_eq!(pseudo_header(&addresses, next_header, len), naive(&written));
        }
    }
}
