//! Peer Authorization Database (RFC 4301 §4.4.3): which key or PSK proves which permanent address.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::certificates::Certificates;
use super::stranger;
use crate::crypto::secret::Secret;

/// How a peer proves its address.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A raw Ed25519 public key (RFC 8420, RFC 7670): 32 octets.
    PublicKey([u8; 32]),
    /// A secret that both ends hold (RFC 7296 §2.15).
    Psk(Secret),
    /// A certificate of the trusted home that owns the address, and the key in it.
    Certificate,
    /// The key that the identity stands for, shown as it is (RFC 7670): it proves nothing else.
    Stranger,
}

impl Proof {
    /// Is it the same proof? (Of our own configuration: no secret of a stranger is compared here.)
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::PublicKey(one), Self::PublicKey(two)) => one == two,
            (Self::Psk(one), Self::Psk(two)) => one.expose() == two.expose(),
            (Self::Certificate, Self::Certificate) | (Self::Stranger, Self::Stranger) => true,
            (Self::PublicKey(_) | Self::Psk(_) | Self::Certificate | Self::Stranger, _) => false,
        }
    }
}

/// One peer that may speak to us.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The name that the configuration gives it.
    pub name: String,
    /// The permanent address, which is its IKE identity (ID_IPV6_ADDR).
    pub address: Ipv6Addr,
    /// What proves that address.
    pub proof: Proof,
}

/// All peers: the listed ones by permanent address, and whoever has a certificate of a trusted home.
#[derive(Clone, Debug, Default)]
pub struct Pad {
    peers: HashMap<Ipv6Addr, Peer>,
    certificates: Option<Arc<dyn Certificates>>,
    invitations: Option<Arc<dyn Invitations>>,
    strangers: bool,
}

/// Whoever holds a code to join with: where this machine is a home.
pub trait Invitations: std::fmt::Debug + Send + Sync {
    /// The secret that proves an open invitation, by the 16 octets of its lookup id, which stand in place of an address.
    fn psk(&self, lookup: Ipv6Addr) -> Option<Secret>;
}

impl Pad {
    /// Builds the database; a later entry for the same address replaces an earlier one (the configuration
    /// check refuses duplicates before this point).
    pub fn new(peers: impl IntoIterator<Item = Peer>) -> Self {
        Self {
            peers: peers.into_iter().map(|peer| (peer.address, peer)).collect(),
            certificates: None,
            invitations: None,
            strangers: false,
        }
    }

    /// The same with certificates, ours and those of trusted homes.
    #[must_use]
    pub fn with_certificates(self, certificates: Arc<dyn Certificates>) -> Self {
        Self { certificates: Some(certificates), ..self }
    }

    /// The same with open invitations.
    #[must_use]
    pub fn with_invitations(self, invitations: Arc<dyn Invitations>) -> Self {
        Self { invitations: Some(invitations), ..self }
    }

    /// The same, and strangers may come and ask to be let in.
    #[must_use]
    pub fn with_strangers(self) -> Self {
        Self { strangers: true, ..self }
    }

    /// May strangers ask to be let in?
    pub const fn takes_strangers(&self) -> bool {
        self.strangers
    }

    /// Who may prove this address, if anybody. A peer that is listed proves itself as it is listed there.
    pub fn find(&self, address: Ipv6Addr) -> Option<Cow<'_, Peer>> {
        if let Some(listed) = self.peers.get(&address) {
            return Some(Cow::Borrowed(listed));
        }
        let certified = self.certificates.as_ref().is_some_and(|certificates| certificates.accepts(address));
        if certified {
            return Some(Cow::Owned(Peer { name: address.to_string(), address, proof: Proof::Certificate }));
        }
        if stranger::is_one(address) {
            let stranger = Peer { name: "stranger".to_owned(), address, proof: Proof::Stranger };
            return self.strangers.then_some(Cow::Owned(stranger));
        }
        let psk = self.invitations.as_ref().and_then(|invitations| invitations.psk(address))?;
        Some(Cow::Owned(Peer { name: "invited".to_owned(), address, proof: Proof::Psk(psk) }))
    }

    /// Certificates, if this machine has to do with any.
    pub fn certificates(&self) -> Option<&dyn Certificates> {
        self.certificates.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, address: &str, proof: Proof) -> Peer {
        Peer { name: name.into(), address: address.parse().unwrap(), proof }
    }

    #[test]
    fn an_address_is_proven_by_its_own_entry_alone() {
        let pad = Pad::new([
            peer("alice", "2002:c633:6401:1::10", Proof::PublicKey([1; 32])),
            peer("bob", "2002:c633:6402:1::20", Proof::Psk(Secret::from(&b"horse"[..]))),
        ]);
        assert_eq!(pad.find("2002:c633:6401:1::10".parse().unwrap()).unwrap().name, "alice");
        assert!(matches!(pad.find("2002:c633:6402:1::20".parse().unwrap()).unwrap().proof, Proof::Psk(_)));
        assert!(pad.find("2002:c633:6402:1::21".parse().unwrap()).is_none());
        assert!(!format!("{pad:?}").contains("horse"));
    }

    #[test]
    fn strangers_come_where_they_may_and_only_as_their_key() {
        let key = crate::crypto::identity::PrivateKey::from_seed(&[1; 32]).public();
        let (who, entity) = (stranger::identity(&key), "2002:c633:6401:1::10".parse().unwrap());
        assert!(Pad::new([]).find(who).is_none());
        let pad = Pad::new([]).with_strangers();
        assert!(matches!(pad.find(who).unwrap().proof, Proof::Stranger));
        assert!(pad.find(entity).is_none());
    }

    #[test]
    fn a_later_entry_replaces_an_earlier_one() {
        let pad = Pad::new([
            peer("old", "2002:c633:6401:1::10", Proof::PublicKey([1; 32])),
            peer("new", "2002:c633:6401:1::10", Proof::PublicKey([2; 32])),
        ]);
        assert_eq!(pad.find("2002:c633:6401:1::10".parse().unwrap()).unwrap().name, "new");
    }
}
