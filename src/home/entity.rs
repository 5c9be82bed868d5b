//! Who lives in a home, and the documents that a join needs.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::crypto::identity::PublicKey;
use crate::pki::{Authority, LeafRequest, UnixSeconds};

pub use crate::pki::Kind;

/// An entity's row in the registry; never used again either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityId(pub(in crate::home) i64);

/// Who asks for a change, and when: what the audit log says.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// Seconds since 1970.
    pub now: u64,
    /// For example `uid 0`, `a join code`, or an entity's name.
    pub who: &'a str,
}

/// What belongs to the home as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its /48.
    pub prefix: Ipv6Net,
    /// The domain that its names are in, if it has one; its root certificate names it, so it never changes either.
    pub domain: Option<String>,
    /// The address of the home agent and its services.
    pub infrastructure: Ipv6Addr,
    /// When it was made, seconds since 1970.
    pub created: u64,
}

impl Home {
    /// The whole name of an entity, if the home has a domain.
    pub fn full_name(&self, name: &str) -> Option<String> {
        self.domain.as_ref().map(|domain| format!("{name}.{domain}"))
    }
}

/// An entity as it is now. A removed one keeps its last name, so that logs can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Its row.
    pub id: EntityId,
    /// What it is.
    pub kind: Kind,
    /// Its name below the home's domain; a device's is `laptop.alice`.
    pub name: String,
    /// User number, device number, subnet of a node, interface identifier of a service.
    pub number: u64,
    /// Its permanent address.
    pub address: Ipv6Addr,
    /// False once it was removed.
    pub active: bool,
    /// A device's user; the node in whose /64 a service was numbered.
    pub owner: Option<EntityId>,
    /// The name of that one.
    pub owner_name: Option<String>,
    /// The node on which a service runs.
    pub node: Option<EntityId>,
    /// Its name.
    pub node_name: Option<String>,
    /// The key that proves it now.
    pub key: Option<PublicKey>,
    /// The device that holds a user's floating address.
    pub holder: Option<EntityId>,
    /// Its name.
    pub holder_name: Option<String>,
    /// When it was added, seconds since 1970.
    pub created: u64,
    /// When it was removed, seconds since 1970.
    pub removed: Option<u64>,
}

impl Entity {
    /// What is bound when it moves: a node's /64, everybody else's one address.
    pub fn prefix(&self) -> Ipv6Net {
        let length = if self.kind == Kind::Node { 64 } else { 128 };
        Ipv6Net::new_assert(self.address, length).trunc()
    }

    /// A service that runs on another node than the one whose /64 it is in: it needs a binding of its own.
    pub fn is_moved(&self) -> bool {
        self.node != self.owner && self.kind == Kind::Service
    }
}

/// What a certificate is to say; whoever issues it checks nothing of this again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The permanent address.
    pub address: Ipv6Addr,
    /// Name below the home's domain.
    pub name: String,
    /// Whole name, if the home has a domain.
    pub full_name: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// The key that is to prove it.
    pub key: PublicKey,
}

impl Grant {
    /// Lets the home's authority say it. `random` is for the serial number and must never be used twice.
    pub fn certificate(
        &self,
        authority: &Authority,
        now: UnixSeconds,
        lifetime: UnixSeconds,
        random: [u8; 16],
    ) -> Result<Issued, String> {
        let request = LeafRequest {
            address: self.address,
            name: self.full_name.as_deref(),
            kind: self.kind,
            key: self.key,
            lifetime,
        };
        let leaf = authority.issue(&request, now, random).map_err(|error| error.to_string())?;
        Ok(Issued {
            serial: leaf.serial.to_string(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            certificate: leaf.der,
        })
    }
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number in hexadecimal digits.
    pub serial: String,
    /// Seconds since 1970.
    pub not_before: u64,
    /// Seconds since 1970.
    pub not_after: u64,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
}

/// Makes a certificate inside the transaction that spends the code: when it fails, nothing has happened.
pub type Issue<'a> = &'a mut dyn FnMut(&Grant) -> Result<Issued, String>;

/// What a joining machine gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Who it is now.
    pub entity: Entity,
    /// Its whole name, if the home has a domain.
    pub full_name: Option<String>,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The same key asked before, and this is the same answer.
    pub again: bool,
}

/// What a binding is allowed for, and what the home agent keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// A /128, or a node's /64.
    pub prefix: Ipv6Net,
    /// Where it is reached now.
    pub care_of: std::net::SocketAddrV4,
    /// Of the last Binding Update (RFC 6275 §6.1.7).
    pub sequence: u16,
    /// End of its lifetime, seconds since 1970; in the past once it was deregistered, so that the sequence stays.
    pub ends: u64,
}
