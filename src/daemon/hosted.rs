//! What homes put on entities of this machine: the services of a node, the floating address that a device holds. The
//! home says which they are; each is proven by the key of the entity that it is on, with a certificate of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::config::{Config, Entity};
use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::home::talk::{Der, HostedAddress};
use crate::pki::leaf;

/// On one entity; whatever a home says beyond it is not taken up.
pub(super) const MAX_HOSTED: usize = 4096;

/// Everything that is on entities of this machine, by the entity that it is on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Hosted(BTreeMap<Ipv6Addr, BTreeMap<Ipv6Addr, Address>>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    name: String,
    certificate: Option<Der>,
    #[serde(skip)]
    certified: CertifiedKey,
}

/// The key in a certificate, once it was read: with a thousand services, each certificate is asked for its key a thousand
/// times. It follows from the certificate, and makes no difference.
#[derive(Clone, Debug, Default)]
struct CertifiedKey(OnceLock<Option<PublicKey>>);

impl PartialEq for CertifiedKey {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for CertifiedKey {}

impl Hosted {
    /// The home said what is on `host` now. Whether that is news.
    pub(super) fn replace(&mut self, host: Ipv6Addr, addresses: Vec<HostedAddress>) -> bool {
        let mut before = self.0.remove(&host).unwrap_or_default();
        let mut changed = false;
        let mut after = BTreeMap::new();
        for HostedAddress { address, name } in addresses {
            let known = before.remove(&address);
            changed |= known.as_ref().is_none_or(|known| known.name != name);
            let (certificate, certified) =
                known.map(|known| (known.certificate, known.certified)).unwrap_or_default();
            after.insert(address, Address { name, certificate, certified });
        }
        changed |= !before.is_empty();
        if !after.is_empty() {
            self.0.insert(host, after);
        }
        changed
    }

    /// Forgets what is on entities that this machine has no more.
    pub(super) fn keep(&mut self, config: &Config) {
        self.0.retain(|host, _| config.own_entity(*host).is_some());
    }

    /// The entity that an address is on.
    pub(super) fn host_of(&self, address: Ipv6Addr) -> Option<Ipv6Addr> {
        self.0.iter().find(|(_, on)| on.contains_key(&address)).map(|(host, _)| *host)
    }

    /// A certificate arrived, which was verified.
    pub(super) fn certify(&mut self, address: Ipv6Addr, certificate: Vec<u8>) {
        if let Some(known) = self.0.values_mut().find_map(|on| on.get_mut(&address)) {
            known.certificate = Some(Der(certificate));
            known.certified = CertifiedKey::default();
        }
    }

    /// Those with a certificate for a key of the entity that they are on: this machine answers for them.
    pub(super) fn entities(&self, config: &Config) -> Vec<Entity> {
        self.with_hosts(config)
            .filter_map(|(host, address, hosted)| {
                // Until the home has certified it for the entity's new key, the old one goes on.
                let certified = hosted.certified_key()?;
                let mut keys: Vec<&PrivateKey> = host.previous.iter().chain([&host.key]).collect();
                let which = keys.iter().rposition(|key| key.public() == certified)?;
                keys.truncate(which + 1);
                let key = keys.pop()?.clone();
                Some(Entity {
                    name: hosted.name.clone(),
                    address,
                    key,
                    key_file: None,
                    previous: keys.into_iter().cloned().collect(),
                    next: None,
                    certificate: hosted.certificate.as_ref().map(|der| der.0.clone()),
                    certificate_file: None,
                    // What is on an entity belongs to its user.
                    uid: host.uid,
                    host: Some(host.address),
                })
            })
            .collect()
    }

    /// Those without one for its present key.
    pub(super) fn wanted(&self, config: &Config) -> Vec<Ipv6Addr> {
        let keys: BTreeMap<Ipv6Addr, PublicKey> =
            self.0.keys().filter_map(|host| Some((*host, config.own_entity(*host)?.key.public()))).collect();
        self.with_hosts(config)
            .filter(|(host, _, hosted)| hosted.certified_key().as_ref() != keys.get(&host.address))
            .map(|(_, address, _)| address)
            .collect()
    }

    fn with_hosts<'a>(
        &'a self,
        config: &'a Config,
    ) -> impl Iterator<Item = (&'a Entity, Ipv6Addr, &'a Address)> {
        let own: BTreeSet<Ipv6Addr> = config
            .entities
            .iter()
            .filter(|entity| entity.host.is_none())
            .map(|entity| entity.address)
            .collect();
        self.0.iter().filter_map(|(host, on)| Some((config.own_entity(*host)?, on))).flat_map(
            move |(host, on)| {
                // What the configuration itself names comes first.
                let others: Vec<_> = on.iter().filter(|(address, _)| !own.contains(*address)).collect();
                others.into_iter().map(move |(address, hosted)| (host, *address, hosted))
            },
        )
    }
}

impl Address {
    fn certified_key(&self) -> Option<PublicKey> {
        let read = || Some(leaf::read(&self.certificate.as_ref()?.0).ok()?.key);
        *self.certified.0.get_or_init(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(address: u16, name: &str) -> HostedAddress {
        HostedAddress {
            address: Ipv6Addr::from([0x2002, 1, 1, 0x100, 0, 0, 0, address]),
            name: name.to_owned(),
        }
    }

    #[test]
    fn certificates_stay_with_what_stays() {
        let host = Ipv6Addr::from([0x2002, 1, 1, 0x100, 0, 0, 0, 1]);
        let mut hosted = Hosted::default();
        assert!(!hosted.replace(host, Vec::new()), "nothing was there and nothing came");
        assert!(hosted.replace(host, vec![on(2, "web"), on(3, "wiki")]));
        hosted.certify(on(2, "").address, vec![1]);
        hosted.certify(on(9, "").address, vec![1]);
        assert!(!hosted.replace(host, vec![on(2, "web"), on(3, "wiki")]), "the same again");
        assert_eq!(hosted.host_of(on(3, "").address), Some(host));
        assert!(hosted.replace(host, vec![on(2, "web")]), "one went");
        assert_eq!(hosted.host_of(on(3, "").address), None);
        let kept =
            hosted.0.get(&host).and_then(|on| on.values().next()).and_then(|web| web.certificate.clone());
        assert_eq!(kept, Some(Der(vec![1])));
        assert!(hosted.replace(host, vec![on(2, "shop")]), "a new name");
        let text = serde_json::to_string(&hosted).unwrap();
        assert_eq!(serde_json::from_str::<Hosted>(&text).unwrap(), hosted);
        assert!(hosted.replace(host, Vec::new()));
        assert_eq!(hosted, Hosted::default());
    }
}
