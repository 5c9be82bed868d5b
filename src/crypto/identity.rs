//! Ed25519 identities (RFC 8032): the key that proves a permanent address in IKEv2 (RFC 8420), in the files that
//! OpenSSL and strongSwan read and write (RFC 8410), and in one line of text.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes, PublicKeyBytes,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::secret::Secret;

/// Octets of a public key.
pub const PUBLIC_KEY_LEN: usize = 32;

/// Octets of a private key's seed.
pub const SEED_LEN: usize = 32;

/// Octets of a signature (RFC 8032 §5.1.6).
pub const SIGNATURE_LEN: usize = 64;

/// The SubjectPublicKeyInfo of Ed25519 (RFC 8410 §4) is these 12 octets and the key itself.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a key is refused. Each is one sentence that can be shown to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither the one-line form nor PEM.
    #[error(
        "this is not a public key: give the 44 characters that `domicile key show` prints, or a PEM file that \
         begins with `-----BEGIN PUBLIC KEY-----`"
    )]
    NotAPublicKey,
    /// A private key where a public one belongs.
    #[error(
        "this is a private key, which nobody else may see: give the public key that `domicile key show` prints"
    )]
    PrivateGiven,
    /// PEM, but of something else than an Ed25519 public key.
    #[error(
        "this PEM block is not an Ed25519 public key: make one with `openssl pkey -in PRIVATE.pem -pubout`, from a \
         key of `openssl genpkey -algorithm ed25519`"
    )]
    NotEd25519Public,
    /// A public key in the place of a private one.
    #[error("this is a public key: the private key begins with `-----BEGIN PRIVATE KEY-----`")]
    PublicGiven,
    /// Not an unencrypted PKCS#8 Ed25519 key.
    #[error(
        "this is not an unencrypted Ed25519 private key in PKCS#8 PEM: make one with `domicile init` or with \
         `openssl genpkey -algorithm ed25519`"
    )]
    NotAPrivateKey,
    /// The octets are no point of the curve, or one of small order, for which anybody can forge signatures.
    #[error("this public key is not a usable Ed25519 key: ask its owner for it again")]
    InvalidPoint,
    /// A raw key of the wrong length.
    #[error("an Ed25519 key has 32 octets, and this one has {0}")]
    Length(usize),
}

/// A public key that was checked to be a usable point. `Display` is the one-line form: base64 of the 32 octets, 44
/// characters. `FromStr` takes that form or PEM.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; PUBLIC_KEY_LEN]);

impl PublicKey {
    /// From the raw 32 octets.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; PUBLIC_KEY_LEN] = bytes.try_into().map_err(|_| KeyError::Length(bytes.len()))?;
        let point = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::InvalidPoint)?;
        if point.is_weak() {
            return Err(KeyError::InvalidPoint);
        }
        Ok(Self(bytes))
    }

    /// The raw 32 octets.
    pub const fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        &self.0
    }

    /// SubjectPublicKeyInfo in PEM: what strongSwan's `swanctl/pubkey/` takes.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(KeyError::PrivateGiven);
        }
        let PublicKeyBytes(bytes) =
            PublicKeyBytes::from_public_key_pem(pem.trim()).map_err(|_| KeyError::NotEd25519Public)?;
        Self::from_bytes(&bytes)
    }

    /// SubjectPublicKeyInfo in PEM, with a final line end.
    pub fn to_pem(&self) -> String {
        #[expect(clippy::unwrap_used, reason = "an SPKI of constant shape and length always encodes")]
        PublicKeyBytes(self.0).to_public_key_pem(LineEnding::LF).unwrap()
    }

    /// SubjectPublicKeyInfo in DER, 44 octets: the content of a raw public key CERT payload (RFC 7670 §3).
    pub fn to_spki_der(&self) -> [u8; 44] {
        let mut der = [0; 44];
        let (prefix, key) = der.split_at_mut(SPKI_PREFIX.len());
        prefix.copy_from_slice(&SPKI_PREFIX);
        key.copy_from_slice(&self.0);
        der
    }

    /// The inverse of [`to_spki_der`](Self::to_spki_der); anything else is refused.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_bytes(der.strip_prefix(&SPKI_PREFIX).ok_or(KeyError::NotEd25519Public)?)
    }

    /// Strict verification (RFC 8032 §5.1.7 without the cofactor, no small-order points, no malleability).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(&self.0), Signature::from_slice(signature))
        else {
            return false;
        };
        key.verify_strict(message, &signature).is_ok()
    }

    /// What two people compare: the first 128 bits of SHA-256 over the SubjectPublicKeyInfo, as eight groups of four
    /// hexadecimal digits. `openssl pkey -pubin -in KEY.pem -outform der | sha256sum` begins with the same digits.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.to_spki_der());
        let groups: Vec<String> = digest
            .chunks_exact(2)
            .take(8)
            .map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        groups.join("-")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.contains("-----BEGIN ") {
            return Self::from_pem(text);
        }
        let bytes = BASE64.decode(text.trim()).map_err(|_| KeyError::NotAPublicKey)?;
        Self::from_bytes(&bytes)
    }
}

/// A private key. Wiped on drop, redacted by `Debug`.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// From 32 secret random octets, which are the whole key (RFC 8032 §5.1.5).
    pub fn from_seed(seed: &[u8; SEED_LEN]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// From a secret of 32 octets.
    pub fn from_secret(seed: &Secret) -> Result<Self, KeyError> {
        let seed: &[u8; SEED_LEN] = seed.expose().try_into().map_err(|_| KeyError::Length(seed.len()))?;
        Ok(Self::from_seed(seed))
    }

    /// The seed: 32 octets.
    pub fn seed(&self) -> Secret {
        Secret::from(&self.0.as_bytes()[..])
    }

    /// Unencrypted PKCS#8 in PEM (RFC 5208, RFC 8410 §7), with or without the public key inside.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.contains("-----BEGIN PUBLIC KEY-----") && !pem.contains("PRIVATE KEY-----") {
            return Err(KeyError::PublicGiven);
        }
        SigningKey::from_pkcs8_pem(pem.trim()).map(Self).map_err(|_| KeyError::NotAPrivateKey)
    }

    /// Unencrypted PKCS#8 in PEM, version 1 (without the public key): the form that every OpenSSL and strongSwan reads.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        #[expect(
            clippy::unwrap_used,
            reason = "a PKCS#8 document of constant shape and length always encodes"
        )]
        bytes.to_pkcs8_pem(LineEnding::LF).unwrap()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// A pure Ed25519 signature (RFC 8420 §2: no prehash, hash function "Identity").
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
