//! The home while the daemon runs: its own credentials, whom it lets in, what it answers, what it keeps of bindings.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::Ipv6Net;

use super::{HomeDesk, HomeError, issue};
use crate::api::home::HomeRequest;
use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::crypto::secret::Secret;
use crate::daemon::config::{Config, Entity};
use crate::daemon::system::{random, unix};
use crate::home::code::LookupId;
use crate::home::entity::{Binding, By, Grant, Joined};
use crate::home::registry::{PendingAnswer, Request};
use crate::home::talk::{About, Ask, Der, HOSTED_PAGE, HostedAddress, Membership, Revocation, Tell};
use crate::home::verbs::{Effect, HomeReply, Outcome};
use crate::io::sys;
use crate::mobility::{Change, Row};
use crate::names::{Table, Unavailable};
use crate::node;
use crate::policy::pad::Invitations;
use crate::policy::spd::{Action, Policy, Services, Spd};
use crate::policy::stranger;

/// How the home agent is called among the entities of this machine.
const AGENT_NAME: &str = "home-agent";

/// The home, shared by the event loop, IKE's questions and DNS. Every hold of the lock is one short transaction.
#[derive(Clone, Debug)]
pub struct SharedHome(Arc<Mutex<HomeDesk>>);

impl SharedHome {
    /// Shares a home.
    pub fn new(desk: HomeDesk) -> Self {
        Self(Arc::new(Mutex::new(desk)))
    }

    /// The home. A holder that panicked left no half of a transaction behind.
    pub fn lock(&self) -> MutexGuard<'_, HomeDesk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Invitations for SharedHome {
    fn psk(&self, lookup: Ipv6Addr) -> Option<Secret> {
        let id = LookupId::from_bytes(&lookup.octets())?;
        self.lock().registry.invitation_psk(unix(), &id).ok()
    }
}

impl Table for SharedHome {
    fn address(&self, name: &str) -> Result<Option<Ipv6Addr>, Unavailable> {
        self.lock().registry.address(name)
    }

    fn name(&self, address: Ipv6Addr) -> Result<Option<String>, Unavailable> {
        self.lock().registry.name(address)
    }
}

impl node::Authority for SharedHome {
    fn may_bind(&self, sender: Ipv6Addr, prefix: Ipv6Net) -> bool {
        let desk = self.lock();
        if let Some(place) = desk.moved_away(unix()) {
            tracing::info!("{sender} is not bound here: this home is at {place} now");
            return false;
        }
        match desk.registry.bindable(sender) {
            Ok(allowed) => allowed.iter().any(|mine| mine.contains(&prefix)),
            Err(error) => {
                tracing::error!(%error, "the registry cannot be asked: a binding is refused");
                false
            }
        }
    }
}

/// Completes the configuration of a machine that is a home: the home agent is one of its entities, everything of the
/// home that it hosts has a certificate, its own root is trusted, and strangers may reach the home agent with a code.
pub fn complete(config: &mut Config, home: &SharedHome) -> Result<(), HomeError> {
    let mut desk = home.lock();
    desk.set_certificate_lifetime(config.certificate_lifetime);
    desk.set_allow_special(config.homes.allows_special());
    let info = desk.registry.home()?;
    let key = desk.agent_key()?;
    let certificate = Some(desk.certify_agent(&key.public())?);
    for entity in config.entities.iter_mut().filter(|entity| info.prefix.contains(&entity.address)) {
        match desk.certify(entity.address, entity.address, &entity.key.public()) {
            Ok(leaf) => entity.certificate = Some(leaf),
            Err(error) => {
                tracing::warn!("{} has no certificate of this home: {error}", entity.name);
            }
        }
    }
    config.entities.push(Entity {
        name: AGENT_NAME.to_owned(),
        address: info.infrastructure,
        key,
        key_file: None,
        previous: Vec::new(),
        next: None,
        certificate,
        certificate_file: None,
        // Where users are held apart, nobody but the daemon answers for the home.
        uid: (!config.owners().is_empty()).then(sys::own_uid),
        host: None,
    });
    if config.roots.iter().all(|root| root.prefix() != info.prefix) {
        config.roots.push(desk.authority.root().clone());
    }
    config.home_prefix = Some(info.prefix);
    let joining = Policy {
        local: Ipv6Net::from(info.infrastructure),
        remote: Ipv6Net::default(),
        action: Action::Protect(Services::Confidentiality),
    };
    config.spd = Arc::new(Spd::new(config.spd.policies().iter().cloned().chain([joining]).collect()));
    Ok(())
}

impl HomeDesk {
    /// The home agent's key: made once, kept in the registry.
    fn agent_key(&mut self) -> Result<PrivateKey, HomeError> {
        let fresh = random()?;
        let seed = self.registry.secret("home agent key", &fresh)?;
        let mut octets = zeroize::Zeroizing::new([0; 32]);
        let whole = octets.len().min(seed.expose().len());
        octets[..whole].copy_from_slice(&seed.expose()[..whole]);
        Ok(PrivateKey::from_seed(&octets))
    }

    /// A fresh certificate for the home agent.
    pub fn certify_agent(&mut self, key: &PublicKey) -> Result<Vec<u8>, HomeError> {
        let (authority, lifetime, now) = (&self.authority, self.lifetime, unix());
        let mut make = |grant: &Grant| issue(authority, lifetime, grant, now);
        let by = By { now, who: "home agent" };
        Ok(self.registry.certify_home(by, key, &mut make)?.certificate)
    }

    /// A fresh certificate for somebody of this home, asked for by `caller`.
    pub fn certify(
        &mut self,
        caller: Ipv6Addr,
        subject: Ipv6Addr,
        key: &PublicKey,
    ) -> Result<Vec<u8>, HomeError> {
        let (authority, lifetime, now) = (&self.authority, self.lifetime, unix());
        let mut make = |grant: &Grant| issue(authority, lifetime, grant, now);
        let who = caller.to_string();
        let by = By { now, who: &who };
        Ok(self.registry.certify(by, caller, subject, key, &mut make)?.certificate)
    }

    /// Answers what came from `source` over the SA that `remote` proved: an address of this home, the lookup id of a code,
    /// or a stranger's key.
    pub fn hear(&mut self, remote: Ipv6Addr, source: Ipv4Addr, document: &[u8]) -> (Tell, Vec<Effect>) {
        if let Some(place) = self.moved_away(unix()) {
            let error = format!("this home is at {place} now: ask there");
            return (Tell::Refused { error }, Vec::new());
        }
        let answer = match Ask::parse(document) {
            Err(error) => return (Tell::Refused { error: error.to_string() }, Vec::new()),
            Ok(Ask::Request { key, wanted, label }) => {
                self.request(remote, source, &key, &wanted, label.as_deref()).map(|tell| (tell, vec![]))
            }
            Ok(_) if stranger::is_one(remote) => {
                Err("a stranger may ask to be let in, and nothing else".to_owned())
            }
            Ok(Ask::Join { key, label }) => {
                self.join(remote, &key, label.as_deref()).map(|tell| (tell, vec![]))
            }
            Ok(Ask::Renew { subject, key }) => parse_key(&key)
                .and_then(|key| self.certify(remote, subject, &key).map_err(|error| error.to_string()))
                .map(|leaf| (Tell::Renewed { subject, certificate: Der(leaf) }, vec![])),
            Ok(Ask::Hosted { after }) => self.page(remote, after).map(|tell| (tell, vec![])),
            Ok(Ask::Take {}) => return self.errand(About::Take, remote),
            Ok(Ask::Leave {}) => return self.errand(About::Leave, remote),
        };
        answer.unwrap_or_else(|error| (Tell::Refused { error }, Vec::new()))
    }

    fn join(&mut self, remote: Ipv6Addr, key: &str, label: Option<&str>) -> Result<Tell, String> {
        let key = parse_key(key)?;
        let lookup = LookupId::from_bytes(&remote.octets()).ok_or("this is no lookup id")?;
        let (authority, lifetime, now) = (&self.authority, self.lifetime, unix());
        let mut make = |grant: &Grant| issue(authority, lifetime, grant, now);
        let by = By { now, who: "join by code" };
        let joined =
            self.registry.redeem(by, &lookup, &key, label, &mut make).map_err(|error| error.to_string())?;
        Ok(self.joined(joined))
    }

    /// Its key proved the SA, so nobody leaves a request for somebody else's key, or fetches the answer to it.
    fn request(
        &mut self,
        remote: Ipv6Addr,
        source: Ipv4Addr,
        key: &str,
        wanted: &str,
        label: Option<&str>,
    ) -> Result<Tell, String> {
        let key = parse_key(key)?;
        if stranger::identity(&key) != remote {
            return Err("whoever asks to be let in proves the key with which it asks".to_owned());
        }
        let request = Request { key: &key, wanted, label, source };
        match self.registry.request(unix(), request).map_err(|error| error.to_string())? {
            PendingAnswer::Waiting => Ok(Tell::Waiting {}),
            PendingAnswer::Accepted(joined) => Ok(self.joined(*joined)),
            PendingAnswer::Refused => Err("somebody at the home refused this request".to_owned()),
        }
    }

    fn joined(&self, joined: Joined) -> Tell {
        Tell::Joined(Membership {
            address: joined.entity.address,
            name: joined.entity.name,
            full_name: joined.full_name,
            certificate: Der(joined.certificate),
            root: Der(self.authority.root().der().to_vec()),
        })
    }

    /// The same as somebody at the home could do, and with the same consequences.
    fn errand(&mut self, about: About, remote: Ipv6Addr) -> (Tell, Vec<Effect>) {
        let who = remote.to_string();
        let request = match about {
            About::Take => HomeRequest::Take { device: who.clone() },
            About::Leave => HomeRequest::Remove { who: who.clone(), kind: None },
        };
        match self.answer(&who, request) {
            Ok(Outcome { reply, effects }) => {
                let message = if let HomeReply::Entity(user) = reply {
                    format!("{remote} holds {}, the address of {}", user.address, user.name)
                } else {
                    format!("{remote} has left its home")
                };
                (Tell::Done { about, message }, effects)
            }
            Err(refused) => (Tell::Denied { about, error: refused.error }, Vec::new()),
        }
    }

    /// What is on an entity of this home, by address.
    pub fn hosted(&self, on: Ipv6Addr) -> Result<Vec<HostedAddress>, HomeError> {
        let hosted = self.registry.hosted(on)?.into_iter();
        Ok(hosted.map(|entity| HostedAddress { address: entity.address, name: entity.name }).collect())
    }

    fn page(&self, on: Ipv6Addr, after: Option<Ipv6Addr>) -> Result<Tell, String> {
        let mut addresses = self.hosted(on).map_err(|error| error.to_string())?;
        addresses.retain(|hosted| after.is_none_or(|after| hosted.address > after));
        let more = addresses.len() > HOSTED_PAGE;
        addresses.truncate(HOSTED_PAGE);
        Ok(Tell::Hosted { addresses, more })
    }

    /// Bindings of an earlier run.
    pub fn restored_bindings(&self) -> Result<Vec<Row>, HomeError> {
        let now = unix();
        if self.moved_away(now).is_some() {
            return Ok(Vec::new());
        }
        let rows = self.registry.bindings()?.into_iter().filter_map(|binding| {
            let remaining = Duration::from_secs(binding.ends.checked_sub(now)?);
            let sender = self.sender_of(binding.prefix)?;
            let Binding { prefix, care_of, sequence, .. } = binding;
            Some(Row { prefix, sender, care_of, sequence, remaining })
        });
        Ok(rows.collect())
    }

    /// Who binds a prefix: a node for its /64 and what moved to it, everybody else for itself.
    fn sender_of(&self, prefix: Ipv6Net) -> Option<Ipv6Addr> {
        if prefix.prefix_len() == 64 {
            let node = Ipv6Addr::from_bits(prefix.network().to_bits() | 1);
            return self.registry.by_address(node).ok()?.map(|node| node.address);
        }
        Some(prefix.addr())
    }

    /// Keeps what changed, in one transaction.
    pub fn keep_bindings(&mut self, changes: &[Change]) -> Result<(), HomeError> {
        let now = unix();
        let mut gone = Vec::new();
        let mut kept = Vec::new();
        for change in changes {
            match change {
                Change::Delete(prefix) => gone.push(*prefix),
                Change::Put(row) => kept.push(Binding {
                    prefix: row.prefix,
                    care_of: row.care_of,
                    sequence: row.sequence,
                    ends: now + row.remaining.as_secs(),
                }),
            }
        }
        Ok(self.registry.bindings_change(&kept, &gone)?)
    }

    /// Certificates of an address that others may still believe, for keys that it has no more.
    pub fn outdated_certificates(&self, address: Ipv6Addr) -> Result<Vec<Revocation>, HomeError> {
        Ok(revocations(self.registry.outdated_certificates(unix(), address)?))
    }

    /// Certificates that others may still believe, of everybody who has no key any more.
    pub fn revoked_certificates(&self) -> Result<Vec<Revocation>, HomeError> {
        Ok(revocations(self.registry.revoked_certificates(unix())?))
    }

    /// Ends what has run out: codes, retry windows, pending requests.
    pub fn expire(&mut self) -> Result<(), HomeError> {
        self.registry.expire(unix())?;
        Ok(())
    }
}

fn revocations(all: Vec<(Ipv6Addr, String, u64)>) -> Vec<Revocation> {
    let one = |(address, serial, not_after)| Revocation { address, serial, not_after };
    all.into_iter().map(one).collect()
}

fn parse_key(text: &str) -> Result<PublicKey, String> {
    text.parse().map_err(|error: crate::crypto::identity::KeyError| error.to_string())
}
