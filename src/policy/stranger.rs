//! Strangers: machines that ask to join without a code. Nothing but a key of their own proves them, so the key itself is
//! the identity: an ORCHIDv2 (RFC 7343), an IPv6 address that no packet is ever sent to.
//!
//! ```text
//! 2001:0020::/28 | 1 (SHA-256) | middle 96 bits of SHA-256(context | SubjectPublicKeyInfo)
//! ```

use std::net::Ipv6Addr;

use sha2::{Digest, Sha256};

use crate::crypto::identity::PublicKey;

/// ORCHIDv2's prefix with the number of the hash function behind it (RFC 7343 §2): 32 bits.
const PREFIX: u128 = 0x2001_0021 << 96;
/// Our Context ID (RFC 7343 §2): random, so that no other protocol's identifiers are ours.
const CONTEXT: [u8; 16] =
    [0x5d, 0x0f, 0x39, 0xc1, 0x8e, 0x72, 0x4b, 0xa6, 0xb3, 0x1c, 0xe4, 0x97, 0x20, 0xd8, 0x6a, 0x15];

/// The identity of a stranger with this key.
pub fn identity(key: &PublicKey) -> Ipv6Addr {
    let digest = Sha256::new().chain_update(CONTEXT).chain_update(key.to_spki_der()).finalize();
    let mut middle = [0; 16];
    // The middle 96 of 256 bits (RFC 7343 §2, Encode_96).
    middle[4..].copy_from_slice(&digest[10..22]);
    Ipv6Addr::from(PREFIX | u128::from_be_bytes(middle))
}

/// Does this identity stand for a key instead of an entity?
pub fn is_one(identity: Ipv6Addr) -> bool {
    u128::from(identity) >> 96 == PREFIX >> 96
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::PrivateKey;

    #[test]
    fn a_key_is_its_own_identity_in_the_prefix_of_rfc_7343() {
        let [one, two] = [1, 2].map(|seed| identity(&PrivateKey::from_seed(&[seed; 32]).public()));
        assert_ne!(one, two);
        assert!(is_one(one) && is_one(two));
        let orchids: ipnet::Ipv6Net = "2001:20::/28".parse().unwrap();
        assert!(orchids.contains(&one));
        // Bits 80 to 175 of the hash.
        let key = PrivateKey::from_seed(&[1; 32]).public();
        let mut input = CONTEXT.to_vec();
        input.extend(key.to_spki_der());
        let digest = Sha256::digest(&input);
        assert_eq!(one.octets()[4..], digest[10..22]);
    }

    #[test]
    fn entities_and_home_agents_are_no_strangers() {
        for entity in
            ["2002:c633:6401:1::10", "2002:c633:6401::1", "2001:20::1", "2001:22::1", "fd00::1", "::"]
        {
            assert!(!is_one(entity.parse().unwrap()), "{entity}");
        }
    }
}
