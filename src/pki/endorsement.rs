//! An old key vouches for its successor, so that a renewed device stays the same to those who remember it.

use std::net::Ipv6Addr;

use crate::crypto::identity::{PUBLIC_KEY_LEN, PrivateKey, PublicKey, SIGNATURE_LEN};

/// Keeps these signatures apart from those that the same key makes in IKE: there it signs an IKE_SA_INIT message of
/// ours, whose octet 17 is the version 0x20, and no letter.
const LABEL: &[u8] = b"domicile endorsement of a new key, version 1\0";

/// Octets of an endorsement on the wire: old key, new key, signature.
pub const ENDORSEMENT_LEN: usize = 2 * PUBLIC_KEY_LEN + SIGNATURE_LEN;

/// Endorsements that are looked at: as many generations of keys may pass between two meetings.
pub const MAX_ENDORSEMENTS: usize = 4;

/// `old` says that `new` is its successor at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// The key that vouches.
    pub old: PublicKey,
    /// The key that it vouches for.
    pub new: PublicKey,
    signature: [u8; SIGNATURE_LEN],
}

fn signed(address: Ipv6Addr, old: &PublicKey, new: &PublicKey) -> Vec<u8> {
    [LABEL, &address.octets(), old.as_bytes(), new.as_bytes()].concat()
}

impl Endorsement {
    /// Signs, before the old key is thrown away.
    pub fn sign(address: Ipv6Addr, old: &PrivateKey, new: PublicKey) -> Self {
        let signature = old.sign(&signed(address, &old.public(), &new));
        Self { old: old.public(), new, signature }
    }

    /// Is it genuine, for this address?
    pub fn verify(&self, address: Ipv6Addr) -> bool {
        self.old.verify(&signed(address, &self.old, &self.new), &self.signature)
    }

    /// 32 octets old key, 32 octets new key, 64 octets signature.
    pub fn to_bytes(&self) -> [u8; ENDORSEMENT_LEN] {
        let mut bytes = [0; ENDORSEMENT_LEN];
        let (old, rest) = bytes.split_at_mut(PUBLIC_KEY_LEN);
        let (new, signature) = rest.split_at_mut(PUBLIC_KEY_LEN);
        old.copy_from_slice(self.old.as_bytes());
        new.copy_from_slice(self.new.as_bytes());
        signature.copy_from_slice(&self.signature);
        bytes
    }

    /// The inverse. Not verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENDORSEMENT_LEN] = bytes.try_into().ok()?;
        let (old, rest) = bytes.split_at(PUBLIC_KEY_LEN);
        let (new, signature) = rest.split_at(PUBLIC_KEY_LEN);
        Some(Self {
            old: PublicKey::from_bytes(old).ok()?,
            new: PublicKey::from_bytes(new).ok()?,
            signature: signature.try_into().ok()?,
        })
    }
}

/// Does a chain of endorsements lead from the remembered key to the one that is shown?
pub fn leads(address: Ipv6Addr, from: PublicKey, to: PublicKey, endorsements: &[Endorsement]) -> bool {
    let mut key = from;
    // Each step uses one up, so no circle turns for ever.
    for _ in endorsements.iter().take(MAX_ENDORSEMENTS) {
        let next = endorsements
            .iter()
            .take(MAX_ENDORSEMENTS)
            .find(|endorsement| endorsement.old == key && endorsement.verify(address));
        let Some(next) = next else { return false };
        key = next.new;
        if key == to {
            return true;
        }
    }
    false
}
