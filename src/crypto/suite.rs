//! Cipher suites by their IANA transform identifiers ("Internet Key Exchange Version 2 (IKEv2) Parameters").

use std::fmt;

/// True when this CPU has instructions for both halves of AES-GCM, the cipher and the carry-less multiplication, which
/// make it several times as fast as ChaCha20-Poly1305; in software it is several times as slow.
pub fn has_fast_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

/// AEAD of an IKE SA (RFC 5282, RFC 7634 §3). The IV is always explicit, 8 octets; the tag is 16 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IkeSuite {
    /// ENCR_CHACHA20_POLY1305 (28): 32 octets of key, 4 of salt.
    ChaCha20Poly1305,
    /// ENCR_AES_GCM_16 (20) with a 256-bit key: 32 octets of key, 4 of salt.
    Aes256Gcm,
}

/// Protection of a child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EspSuite {
    /// ENCR_CHACHA20_POLY1305 (28), RFC 7634: explicit 8-octet IV.
    ChaCha20Poly1305,
    /// ENCR_AES_GCM_16 (20) with a 256-bit key, RFC 4106: explicit 8-octet IV.
    Aes256Gcm,
    /// ENCR_CHACHA20_POLY1305_IIV (31), RFC 8750: the sequence number is the IV.
    ChaCha20Poly1305Iiv,
    /// ENCR_AES_GCM_16_IIV (30) with a 256-bit key, RFC 8750: the sequence number is the IV.
    Aes256GcmIiv,
    /// ENCR_NULL (11, RFC 2410) with AUTH_HMAC_SHA2_256_128 (12, RFC 4868): integrity alone.
    NullHmacSha256,
}

impl EspSuite {
    /// Every suite, in the order of preference of a CPU with instructions for AES-GCM.
    pub const ALL: [Self; 5] = [
        Self::Aes256GcmIiv,
        Self::ChaCha20Poly1305Iiv,
        Self::Aes256Gcm,
        Self::ChaCha20Poly1305,
        Self::NullHmacSha256,
    ];

    /// The confidential suites in default order: the implicit-IV forms between two of us, the explicit ones with
    /// everybody else, and of each the faster cipher first; see [`has_fast_aes`].
    pub const fn by_speed(fast_aes: bool) -> [Self; 4] {
        if fast_aes {
            [Self::Aes256GcmIiv, Self::ChaCha20Poly1305Iiv, Self::Aes256Gcm, Self::ChaCha20Poly1305]
        } else {
            [Self::ChaCha20Poly1305Iiv, Self::Aes256GcmIiv, Self::ChaCha20Poly1305, Self::Aes256Gcm]
        }
    }

    /// IANA encryption transform (type 1).
    pub const fn encryption_id(self) -> u16 {
        match self {
            Self::ChaCha20Poly1305 => 28,
            Self::Aes256Gcm => 20,
            Self::ChaCha20Poly1305Iiv => 31,
            Self::Aes256GcmIiv => 30,
            Self::NullHmacSha256 => 11,
        }
    }

    /// Key Length attribute in bits: required for 20 and 30, forbidden for the others.
    pub const fn key_length_attribute(self) -> Option<u16> {
        match self {
            Self::Aes256Gcm | Self::Aes256GcmIiv => Some(256),
            Self::ChaCha20Poly1305 | Self::ChaCha20Poly1305Iiv | Self::NullHmacSha256 => None,
        }
    }

    /// IANA integrity transform (type 3); none for an AEAD.
    pub const fn integrity_id(self) -> Option<u16> {
        match self {
            Self::NullHmacSha256 => Some(12),
            Self::ChaCha20Poly1305 | Self::Aes256Gcm | Self::ChaCha20Poly1305Iiv | Self::Aes256GcmIiv => None,
        }
    }

    /// Octets of KEYMAT for one direction: key and 4-octet salt for an AEAD (RFC 4106 §8.1, RFC 7634 §2),
    /// the integrity key for ENCR_NULL (RFC 4868 §2.1.1).
    pub const fn keymat_len(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 | Self::Aes256Gcm | Self::ChaCha20Poly1305Iiv | Self::Aes256GcmIiv => 36,
            Self::NullHmacSha256 => 32,
        }
    }

    /// Octets of IV on the wire.
    pub const fn iv_len(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 | Self::Aes256Gcm => 8,
            Self::ChaCha20Poly1305Iiv | Self::Aes256GcmIiv | Self::NullHmacSha256 => 0,
        }
    }

    /// Octets of integrity check value on the wire.
    pub const fn icv_len(self) -> usize {
        16
    }

    /// True when the payload is hidden as well as authenticated.
    pub const fn is_confidential(self) -> bool {
        !matches!(self, Self::NullHmacSha256)
    }

    /// The name that `status`, logs and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305Iiv => "chacha20-poly1305-iiv",
            Self::Aes256GcmIiv => "aes-256-gcm-iiv",
            Self::NullHmacSha256 => "null-hmac-sha2-256-128",
        }
    }
}

impl IkeSuite {
    /// IANA encryption transform (type 1).
    pub const fn encryption_id(self) -> u16 {
        match self {
            Self::ChaCha20Poly1305 => 28,
            Self::Aes256Gcm => 20,
        }
    }

    /// Key Length attribute in bits: required for AES, forbidden for ChaCha20.
    pub const fn key_length_attribute(self) -> Option<u16> {
        match self {
            Self::Aes256Gcm => Some(256),
            Self::ChaCha20Poly1305 => None,
        }
    }

    /// Octets of SK_ei and of SK_er: key and 4-octet salt (RFC 5282 §7.1, RFC 7634 §2).
    pub const fn keymat_len(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 | Self::Aes256Gcm => 36,
        }
    }

    /// The name that `status`, logs and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::Aes256Gcm => "aes-256-gcm",
        }
    }
}

impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
