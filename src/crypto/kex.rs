//! Key exchange 31: X25519 (RFC 7748, RFC 8031).

use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::secret::Secret;

/// IANA key exchange method (transform type 4): Curve25519.
pub const GROUP_X25519: u16 = 31;

/// Octets of a public value and of the shared secret (RFC 8031 §3.1).
pub const PUBLIC_LEN: usize = 32;

/// Why a peer's public value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KexError {
    /// A public value of the wrong length.
    #[error("the peer's X25519 public value has {0} octets instead of 32 (RFC 8031 §3.1)")]
    Length(usize),
    /// The shared secret is all zero: the peer sent a point of small order (RFC 7748 §6.1, RFC 8031 §2).
    #[error("the peer's X25519 public value gives the all-zero secret (RFC 8031 §2)")]
    AllZero,
}

/// An ephemeral key pair. The same pair may meet several candidate answers to one request (forged ones among them),
/// which is why agreeing does not consume it; it must not outlive its exchange. Wiped on drop.
pub struct KeyPair {
    secret: StaticSecret,
    public: [u8; PUBLIC_LEN],
}

impl KeyPair {
    /// A fresh pair.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut scalar = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *scalar);
        Self::from_scalar(&scalar)
    }

    /// The pair of 32 secret random octets.
    pub fn from_scalar(scalar: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*scalar);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, public }
    }

    /// What goes into the Key Exchange payload.
    pub fn public(&self) -> &[u8; PUBLIC_LEN] {
        &self.public
    }

    /// The shared secret g^ir, 32 octets (RFC 8031 §3.2).
    pub fn agree(&self, peer: &[u8]) -> Result<Secret, KexError> {
        let peer: [u8; PUBLIC_LEN] = peer.try_into().map_err(|_| KexError::Length(peer.len()))?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(peer));
        if !shared.was_contributory() {
            return Err(KexError::AllZero);
        }
        Ok(Secret::from(&shared.as_bytes()[..]))
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair(X25519)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> [u8; 32] {
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    // RFC 7748 §6.1.
    #[test]
    fn alice_and_bob_of_rfc_7748_agree() {
        let alice =
            KeyPair::from_scalar(&bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
        let bob =
            KeyPair::from_scalar(&bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
        assert_eq!(
            alice.public(),
            &bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
        );
        assert_eq!(bob.public(), &bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
        let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(alice.agree(bob.public()).unwrap().expose(), shared);
        assert_eq!(bob.agree(alice.public()).unwrap().expose(), shared);
    }

    #[test]
    fn both_ends_agree_and_wrong_values_are_refused() {
        let (a, b) = (KeyPair::from_scalar(&[1; 32]), KeyPair::from_scalar(&[2; 32]));
        assert_eq!(a.agree(b.public()).unwrap().expose(), b.agree(a.public()).unwrap().expose());
        assert_eq!(a.agree(&[9; 31]).unwrap_err(), KexError::Length(31));
        assert_eq!(a.agree(&[]).unwrap_err(), KexError::Length(0));
    }

    // RFC 7748 §6.1, RFC 8031 §2: points of small order give zero whatever our scalar is.
    #[test]
    fn points_of_small_order_are_refused() {
        let pair = KeyPair::from_scalar(&[7; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        let order_eight = bytes("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        let minus_one = bytes("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        for point in [[0; 32], one, order_eight, minus_one] {
            assert_eq!(pair.agree(&point).unwrap_err(), KexError::AllZero);
        }
    }
}
