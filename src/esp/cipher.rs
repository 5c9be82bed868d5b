//! The cryptographic transforms of ESP: which octets are nonce, associated data and integrity input. Everything here
//! works from buffer to buffer in one pass and allocates nothing.

use aws_lc_rs::aead::{Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::crypto::suite::EspSuite;

use super::sa::SaParams;

/// Octets of SPI and sequence number.
pub(super) const HEADER_LEN: usize = 8;

/// Octets of ICV: a whole AEAD tag, or HMAC-SHA-256 truncated to 128 bits (RFC 4868 §2.3).
pub(super) const ICV_LEN: usize = 16;

/// Octets of explicit IV (RFC 4106 §3.1, RFC 7634 §2).
pub(super) const IV_LEN: usize = 8;

const KEY_LEN: usize = 32;
const SALT_LEN: usize = 4;

/// The transform refused: authentication failed, or (sealing) the lengths are impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CipherError;

/// A prepared key.
pub(super) enum Cipher {
    /// RFC 4106, RFC 7634, RFC 8750.
    Aead { key: Box<LessSafeKey>, salt: [u8; SALT_LEN] },
    /// ENCR_NULL with AUTH_HMAC_SHA2_256_128: the state after the key block, to be cloned for each packet.
    Integrity(Box<Hmac<Sha256>>),
    /// Neither encryption nor integrity: AES-256-GCM's place in a build for measurements.
    #[cfg(feature = "bench-null-cipher")]
    Nothing,
}

impl Cipher {
    /// `None` when the key length does not fit the suite.
    pub(super) fn new(params: &SaParams) -> Option<Self> {
        let keymat = params.key.expose();
        if keymat.len() != params.suite.keymat_len() {
            return None;
        }
        match params.suite {
            EspSuite::ChaCha20Poly1305 | EspSuite::ChaCha20Poly1305Iiv => {
                Self::aead(&CHACHA20_POLY1305, keymat)
            }
            #[cfg(feature = "bench-null-cipher")]
            EspSuite::Aes256Gcm | EspSuite::Aes256GcmIiv => Some(Self::Nothing),
            #[cfg(not(feature = "bench-null-cipher"))]
            EspSuite::Aes256Gcm | EspSuite::Aes256GcmIiv => Self::aead(&aws_lc_rs::aead::AES_256_GCM, keymat),
            EspSuite::NullHmacSha256 => {
                let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(keymat).ok()?;
                Some(Self::Integrity(Box::new(mac)))
            }
        }
    }

    fn aead(algorithm: &'static Algorithm, keymat: &[u8]) -> Option<Self> {
        let (key, salt) = keymat.split_at_checked(KEY_LEN)?;
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Self::Aead { key: Box::new(key), salt: salt.try_into().ok()? })
    }

    /// Writes `inner | trailer` protected, then the ICV, to `body`, which is exactly that long. `head` is what the
    /// packet has before it: header and explicit IV.
    pub(super) fn seal(
        &self,
        packet: Packet<'_>,
        inner: &[u8],
        trailer: &[u8],
        body: &mut [u8],
    ) -> Result<(), CipherError> {
        let (front, back) = body.split_at_mut_checked(inner.len()).ok_or(CipherError)?;
        match self {
            Self::Aead { key, salt } => key
                .seal_out_of_place_scatter(
                    packet.nonce(*salt),
                    Aad::from(packet.aad().as_ref()),
                    inner,
                    front,
                    trailer,
                    back,
                )
                .map_err(|_| CipherError),
            Self::Integrity(mac) => {
                let (tail, icv) = back.split_at_mut_checked(trailer.len()).ok_or(CipherError)?;
                front.copy_from_slice(inner);
                tail.copy_from_slice(trailer);
                let mut mac = Hmac::clone(mac);
                packet.authenticate(&mut mac, &[front, tail]);
                let digest = mac.finalize().into_bytes();
                icv.copy_from_slice(digest.get(..icv.len()).ok_or(CipherError)?);
                Ok(())
            }
            #[cfg(feature = "bench-null-cipher")]
            Self::Nothing => {
                let (tail, icv) = back.split_at_mut_checked(trailer.len()).ok_or(CipherError)?;
                front.copy_from_slice(inner);
                tail.copy_from_slice(trailer);
                icv.fill(0);
                Ok(())
            }
        }
    }

    /// Authenticates, and writes the plaintext (payload and trailer) to `out`, which is as long as `ciphertext`.
    pub(super) fn open(
        &self,
        packet: Packet<'_>,
        ciphertext: &[u8],
        icv: &[u8],
        out: &mut [u8],
    ) -> Result<(), CipherError> {
        match self {
            Self::Aead { key, salt } => key
                .open_separate_gather(
                    packet.nonce(*salt),
                    Aad::from(packet.aad().as_ref()),
                    ciphertext,
                    icv,
                    out,
                )
                .map_err(|_| CipherError),
            Self::Integrity(mac) => {
                let mut mac = Hmac::clone(mac);
                packet.authenticate(&mut mac, &[ciphertext]);
                // The comparison is in constant time.
                mac.verify_truncated_left(icv).map_err(|_| CipherError)?;
                out.copy_from_slice(ciphertext);
                Ok(())
            }
            #[cfg(feature = "bench-null-cipher")]
            Self::Nothing => {
                out.copy_from_slice(ciphertext);
                Ok(())
            }
        }
    }
}

/// What a transform needs to know of one packet besides its payload.
#[derive(Clone, Copy)]
pub(super) struct Packet<'a> {
    /// SPI and low half of the sequence number, as on the wire.
    pub(super) header: &'a [u8; HEADER_LEN],
    /// The high half of the sequence number with ESN, which is not on the wire (RFC 4303 §2.2.1).
    pub(super) high: Option<u32>,
    /// The IV of the packet, or the implicit one.
    pub(super) iv: [u8; IV_LEN],
}

impl Packet<'_> {
    /// Salt and IV (RFC 4106 §4, RFC 7634 §2, RFC 8750 §4).
    fn nonce(&self, salt: [u8; SALT_LEN]) -> Nonce {
        let mut nonce = [0; SALT_LEN + IV_LEN];
        let (front, back) = nonce.split_at_mut(SALT_LEN);
        front.copy_from_slice(&salt);
        back.copy_from_slice(&self.iv);
        Nonce::assume_unique_for_key(nonce)
    }

    /// SPI and sequence number: 8 octets, or 12 with the whole extended number (RFC 4106 §5, RFC 7634 §2.1).
    fn aad(&self) -> AssociatedData {
        let [s0, s1, s2, s3, l0, l1, l2, l3] = *self.header;
        match self.high {
            None => AssociatedData::Short(*self.header),
            Some(high) => {
                let [h0, h1, h2, h3] = high.to_be_bytes();
                AssociatedData::Extended([s0, s1, s2, s3, h0, h1, h2, h3, l0, l1, l2, l3])
            }
        }
    }

    /// A separate integrity algorithm covers the packet up to the ICV, then the high half, which is not sent
    /// (RFC 4303 §2.2.1, §3.3.2.1). ENCR_NULL has no IV.
    fn authenticate(&self, mac: &mut Hmac<Sha256>, body: &[&[u8]]) {
        mac.update(self.header);
        for part in body {
            mac.update(part);
        }
        if let Some(high) = self.high {
            mac.update(&high.to_be_bytes());
        }
    }
}

enum AssociatedData {
    Short([u8; 8]),
    Extended([u8; 12]),
}

impl AsRef<[u8]> for AssociatedData {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Short(octets) => octets,
            Self::Extended(octets) => octets,
        }
    }
}
