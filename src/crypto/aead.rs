//! The AEAD of an IKE SA (RFC 5282, RFC 7634 §3). An Encrypted payload is `IV (8) | ciphertext | tag (16)`, the nonce
//! is `salt (4) | IV (8)`, and the associated data is everything in the message before the IV.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};

use super::secret::Secret;
use super::suite::IkeSuite;

/// Octets of explicit IV, never used twice under one key.
pub const IV_LEN: usize = 8;

/// Octets of authentication tag.
pub const TAG_LEN: usize = 16;

const KEY_LEN: usize = 32;
const SALT_LEN: usize = 4;

/// Sealing or opening failed. On open: the message is not authentic, or shorter than its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the integrity check of the Encrypted payload failed")]
pub struct AeadError;

/// One direction of an IKE SA, keyed with SK_ei or SK_er.
pub struct IkeAead {
    key: Key,
    salt: [u8; SALT_LEN],
}

enum Key {
    ChaCha20Poly1305(Box<ChaCha20Poly1305>),
    Aes256Gcm(Box<LessSafeKey>),
}

impl IkeAead {
    /// Takes key and salt, 36 octets; `None` with any other length.
    pub fn new(suite: IkeSuite, key_and_salt: &Secret) -> Option<Self> {
        let (key, salt) = key_and_salt.expose().split_at_checked(KEY_LEN)?;
        let salt = salt.try_into().ok()?;
        let key = match suite {
            IkeSuite::ChaCha20Poly1305 => {
                Key::ChaCha20Poly1305(Box::new(ChaCha20Poly1305::new_from_slice(key).ok()?))
            }
            IkeSuite::Aes256Gcm => {
                Key::Aes256Gcm(Box::new(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?)))
            }
        };
        Some(Self { key, salt })
    }

    fn nonce(&self, iv: [u8; IV_LEN]) -> [u8; 12] {
        let mut nonce = [0; 12];
        let (salt, rest) = nonce.split_at_mut(SALT_LEN);
        salt.copy_from_slice(&self.salt);
        rest.copy_from_slice(&iv);
        nonce
    }

    /// Encrypts `buffer` where it is and appends the tag. The IV must never come twice. Fails only for lengths that no
    /// IKE message has; then `buffer` must not be sent.
    pub fn seal(&self, iv: [u8; IV_LEN], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), AeadError> {
        let nonce = self.nonce(iv);
        match &self.key {
            Key::ChaCha20Poly1305(key) => {
                key.encrypt_in_place(&nonce.into(), aad, buffer).map_err(|_| AeadError)
            }
            Key::Aes256Gcm(key) => key
                .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), buffer)
                .map_err(|_| AeadError),
        }
    }

    /// Verifies and decrypts `ciphertext | tag` where it is and takes the tag off. After an error the content of
    /// `buffer` means nothing.
    pub fn open(&self, iv: [u8; IV_LEN], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), AeadError> {
        let nonce = self.nonce(iv);
        match &self.key {
            Key::ChaCha20Poly1305(key) => {
                key.decrypt_in_place(&nonce.into(), aad, buffer).map_err(|_| AeadError)
            }
            Key::Aes256Gcm(key) => {
                let len = key
                    .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), buffer)
                    .map_err(|_| AeadError)?
                    .len();
                buffer.truncate(len);
                Ok(())
            }
        }
    }
}

impl std::fmt::Debug for IkeAead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.key {
            Key::ChaCha20Poly1305(_) => "IkeAead(ChaCha20Poly1305)",
            Key::Aes256Gcm(_) => "IkeAead(Aes256Gcm)",
        })
    }
}

#[cfg(test)]
#[path = "aead_tests.rs"]
mod tests;
