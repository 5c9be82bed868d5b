//! PRF_HMAC_SHA2_256 (RFC 4868) and IKEv2's key schedule (RFC 7296 §2.13 – §2.18), computed through HKDF (RFC 5869):
//! `prf(salt, ikm)` is HKDF-Extract, and `prf+(key, seed)` is HKDF-Expand with the seed as `info`, octet for octet.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::secret::Secret;
use super::suite::{EspSuite, IkeSuite};

/// IANA pseudorandom function (transform type 2) of everything here: PRF_HMAC_SHA2_256.
pub const PRF_HMAC_SHA2_256: u16 = 5;

/// Octets of output, and of preferred key (RFC 4868 §2.1.2).
pub const PRF_LEN: usize = 32;

/// The largest output of [`prf_plus`]: the block counter is one octet (RFC 7296 §2.13).
pub const PRF_PLUS_MAX: usize = 255 * PRF_LEN;

/// RFC 7296 §2.15: the pad that separates a PSK from other uses of the same secret; 17 octets, no terminator.
const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// Why a key could not be derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrfError {
    /// More output was asked for than `prf+` can give.
    #[error("prf+ cannot give {0} octets: the limit is 8160 (RFC 7296 §2.13)")]
    TooLong(usize),
    /// The key of `prf+` is shorter than the PRF's output.
    #[error("the key of prf+ has {0} octets: it needs at least 32 (RFC 7296 §2.13)")]
    ShortKey(usize),
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    #[expect(clippy::unwrap_used, reason = "HMAC takes a key of any length (RFC 2104 §2)")]
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac
}

/// `prf(key, parts[0] | parts[1] | …)`. Any key length is allowed.
pub fn prf(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; PRF_LEN]> {
    Zeroizing::new(mac(key, parts).finalize().into_bytes().into())
}

/// Compares `prf(key, parts…)` with what the peer sent, in constant time.
pub fn prf_verify(key: &[u8], parts: &[&[u8]], expected: &[u8]) -> bool {
    mac(key, parts).verify_slice(expected).is_ok()
}

/// `prf+(key, seed[0] | seed[1] | …)`, `len` octets of it (RFC 7296 §2.13).
pub fn prf_plus(key: &Secret, seed: &[&[u8]], len: usize) -> Result<Secret, PrfError> {
    if len > PRF_PLUS_MAX {
        return Err(PrfError::TooLong(len));
    }
    let hkdf = Hkdf::<Sha256>::from_prk(key.expose()).map_err(|_| PrfError::ShortKey(key.len()))?;
    let mut output = vec![0; len];
    hkdf.expand_multi_info(seed, &mut output).map_err(|_| PrfError::TooLong(len))?;
    Ok(Secret::new(output))
}

fn extract(salt: &[&[u8]], ikm: &[&[u8]]) -> Secret {
    let salt = Zeroizing::new(salt.concat());
    let ikm = Zeroizing::new(ikm.concat());
    let (mut prk, _) = Hkdf::<Sha256>::extract(Some(&salt), &ikm);
    let secret = Secret::from(prk.as_slice());
    zeroize::Zeroize::zeroize(prk.as_mut_slice());
    secret
}

/// SKEYSEED of the first exchange: `prf(Ni | Nr, g^ir)` (RFC 7296 §2.14).
pub fn skeyseed(nonce_i: &[u8], nonce_r: &[u8], shared: &Secret) -> Secret {
    extract(&[nonce_i, nonce_r], &[shared.expose()])
}

/// SKEYSEED of an IKE SA that replaces another: `prf(SK_d (old), g^ir (new) | Ni | Nr)` (RFC 7296 §2.18).
pub fn skeyseed_rekey(old_sk_d: &Secret, shared: &Secret, nonce_i: &[u8], nonce_r: &[u8]) -> Secret {
    extract(&[old_sk_d.expose()], &[shared.expose(), nonce_i, nonce_r])
}

/// The keys of an IKE SA under an AEAD. SK_ai and SK_ar do not exist (RFC 5282 §8).
#[derive(Clone, Debug)]
pub struct IkeKeys {
    /// Derives the keys of child SAs and of the next IKE SA.
    pub sk_d: Secret,
    /// Key and salt of what the initiator sends, 36 octets.
    pub sk_ei: Secret,
    /// Key and salt of what the responder sends, 36 octets.
    pub sk_er: Secret,
    /// MACs the initiator's identity into AUTH.
    pub sk_pi: Secret,
    /// MACs the responder's identity into AUTH.
    pub sk_pr: Secret,
}

/// `{SK_d | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)` (RFC 7296 §2.14).
pub fn ike_keys(
    suite: IkeSuite,
    skeyseed: &Secret,
    nonce_i: &[u8],
    nonce_r: &[u8],
    spi_i: u64,
    spi_r: u64,
) -> Result<IkeKeys, PrfError> {
    let encryption = suite.keymat_len();
    let seed = [nonce_i, nonce_r, &spi_i.to_be_bytes(), &spi_r.to_be_bytes()];
    let stream = prf_plus(skeyseed, &seed, 3 * PRF_LEN + 2 * encryption)?;
    let mut take = Taker(stream.expose());
    Ok(IkeKeys {
        sk_d: take.next(PRF_LEN),
        sk_ei: take.next(encryption),
        sk_er: take.next(encryption),
        sk_pi: take.next(PRF_LEN),
        sk_pr: take.next(PRF_LEN),
    })
}

/// The key material of a child SA pair, `suite.keymat_len()` octets for each direction.
#[derive(Clone, Debug)]
pub struct ChildKeys {
    /// What the initiator of the exchange sends with.
    pub initiator: Secret,
    /// What the responder of the exchange sends with.
    pub responder: Secret,
}

/// `KEYMAT = prf+(SK_d, [g^ir (new) |] Ni | Nr)`, initiator to responder first (RFC 7296 §2.17).
pub fn child_keys(
    suite: EspSuite,
    sk_d: &Secret,
    shared: Option<&Secret>,
    nonce_i: &[u8],
    nonce_r: &[u8],
) -> Result<ChildKeys, PrfError> {
    let one = suite.keymat_len();
    let seed = [shared.map_or(&[][..], Secret::expose), nonce_i, nonce_r];
    let stream = prf_plus(sk_d, &seed, 2 * one)?;
    let mut take = Taker(stream.expose());
    Ok(ChildKeys { initiator: take.next(one), responder: take.next(one) })
}

/// AUTH of a shared secret: `prf(prf(Shared Secret, "Key Pad for IKEv2"), signed octets)` (RFC 7296 §2.15).
pub fn psk_auth(psk: &Secret, signed_octets: &[&[u8]]) -> [u8; PRF_LEN] {
    *prf(&*prf(psk.expose(), &[KEY_PAD]), signed_octets)
}

/// Verifies [`psk_auth`] in constant time.
pub fn psk_auth_verify(psk: &Secret, signed_octets: &[&[u8]], auth: &[u8]) -> bool {
    prf_verify(&*prf(psk.expose(), &[KEY_PAD]), signed_octets, auth)
}

/// Cuts a key stream into consecutive keys.
struct Taker<'a>(&'a [u8]);

impl Taker<'_> {
    fn next(&mut self, len: usize) -> Secret {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        Secret::from(head)
    }
}

#[cfg(test)]
#[path = "prf_tests.rs"]
mod tests;
