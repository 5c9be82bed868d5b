//! The AUTH payload (RFC 7296 §2.15, RFC 7427, RFC 8420).

use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::crypto::prf::{prf, psk_auth, psk_auth_verify};
use crate::crypto::secret::Secret;
use crate::policy::pad::Proof;
use crate::wire::ike::{Identification, Payload};

/// Shared Key Message Integrity Code.
const METHOD_PSK: u8 = 2;
/// Digital Signature (RFC 7427 §3).
const METHOD_SIGNATURE: u8 = 14;
/// Length and DER of AlgorithmIdentifier { id-Ed25519 } (RFC 8420 §A.1).
const ED25519: [u8; 8] = [7, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70];

/// What one end signs: its own first message, the other's nonce, and its identity under SK_p.
pub(super) struct SignedOctets<'a> {
    /// The sender's IKE_SA_INIT message, whole.
    pub(super) message: &'a [u8],
    /// The nonce of the other end.
    pub(super) nonce: &'a [u8],
    /// SK_pi or SK_pr of the sender.
    pub(super) sk_p: &'a Secret,
    /// The sender's identity.
    pub(super) id: &'a Identification,
}

impl SignedOctets<'_> {
    fn with<T>(&self, act: impl FnOnce(&[&[u8]]) -> T) -> T {
        let maced = prf(self.sk_p.expose(), &[&self.id.body()]);
        act(&[self.message, self.nonce, &*maced])
    }

    /// Our proof: by PSK when the peer is listed with one, otherwise by our key.
    pub(super) fn prove(&self, peer: &Proof, key: &Secret) -> Option<Payload> {
        match peer {
            Proof::Psk(psk) => {
                let data = self.with(|parts| psk_auth(psk, parts)).to_vec();
                Some(Payload::Auth { method: METHOD_PSK, data })
            }
            Proof::PublicKey(_) | Proof::Certificate | Proof::Stranger => {
                let key = PrivateKey::from_secret(key).ok()?;
                let mut data = ED25519.to_vec();
                data.extend_from_slice(&self.with(|parts| key.sign(&parts.concat())));
                Some(Payload::Auth { method: METHOD_SIGNATURE, data })
            }
        }
    }

    /// The peer's proof.
    pub(super) fn verify(&self, peer: &Proof, method: u8, data: &[u8]) -> Result<(), &'static str> {
        match peer {
            Proof::Psk(psk) if method == METHOD_PSK => {
                let proven = self.with(|parts| psk_auth_verify(psk, parts, data));
                proven.then_some(()).ok_or("the pre-shared key is another one at the other end")
            }
            Proof::PublicKey(key) if method == METHOD_SIGNATURE => {
                let signature = data
                    .strip_prefix(&ED25519)
                    .ok_or("the peer signs with another algorithm than Ed25519")?;
                let key = PublicKey::from_bytes(key)
                    .map_err(|_| "the public key listed for the peer is not valid")?;
                let proven = self.with(|parts| key.verify(&parts.concat(), signature));
                proven.then_some(()).ok_or("the peer's signature does not match the public key listed for it")
            }
            Proof::Psk(_) => Err("the peer is listed with a pre-shared key but proves itself another way"),
            Proof::PublicKey(_) => Err("the peer has to sign with its key but proves itself another way"),
            Proof::Certificate => Err("the peer's certificate was not looked at"),
            Proof::Stranger => Err("the stranger's key was not looked at"),
        }
    }
}
