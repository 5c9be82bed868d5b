//! Belonging to a home: certificates that are renewed over the existing SA, documents from and to homes, revocations.

mod hosting;
mod moving;
mod renewal;
mod rotation;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::edit::write_private;
use super::config::{Config, Entity};
use super::home::SharedHome;
use super::hosted::Hosted;
use super::revocations::Revocations;
use crate::addr::plan::agent_of;
use crate::crypto::identity::PublicKey;
use crate::home::talk::{Ask, Revocation, Tell};
use crate::home::verbs::Effect;
use crate::ike::IkeId;
use crate::node::Node;
use crate::pki::{Root, Serial, leaf, pem};
use crate::policy::stranger;
use crate::policy::trust::Trust;
use hosting::Listing;
use rotation::next_key;

/// How often certificates are looked at, and a renewal that got no answer is asked for again.
const LOOK: Duration = Duration::from_secs(5);
/// How often the home's codes and requests are looked at.
const EXPIRE: Duration = Duration::from_secs(60);

/// Timers of all that.
pub(super) struct Membership {
    home: Option<SharedHome>,
    trust: Arc<Trust>,
    revocations: Revocations,
    next_look: Instant,
    next_expire: Instant,
    next_call: Instant,
    /// Own certificates whose end was told: `true` once it was there.
    warned: BTreeMap<(Ipv6Addr, u64), bool>,
    /// Renewals that were tried in vain, and how often.
    tried: BTreeMap<Ipv6Addr, u32>,
    /// What a home refused last, and when that was told.
    refused: Option<(String, Instant)>,
    /// What homes put on entities of ours, as they say it now; what is in use, and kept, is a copy of a moment ago
    /// ([`Self::take_hosted`]).
    hosted: Hosted,
    /// When that is to be taken up.
    take_up: Option<Instant>,
    /// What a home says right now, page by page, about one of our entities.
    listing: BTreeMap<Ipv6Addr, Listing>,
    /// Certificates that were asked for, and when.
    asked: BTreeMap<Ipv6Addr, Instant>,
    /// Entities of our home that are to be told that there is something else on them.
    changed: BTreeSet<Ipv6Addr>,
    /// When they are.
    tell: Option<Instant>,
    /// New keys whose certificate was asked for, and when.
    next_asked: BTreeMap<[u8; 32], Instant>,
    /// A new key is in its file: the configuration is to be read again.
    rotated: bool,
}

impl Membership {
    pub(super) fn new(
        home: Option<SharedHome>,
        trust: Arc<Trust>,
        hosted: Hosted,
        now: Instant,
        unix: u64,
    ) -> Self {
        let revocations = Revocations::new(home.clone(), Arc::clone(&trust), unix);
        Self {
            home,
            trust,
            revocations,
            next_look: now + LOOK,
            next_expire: now + EXPIRE,
            next_call: now,
            warned: BTreeMap::new(),
            tried: BTreeMap::new(),
            refused: None,
            hosted,
            take_up: None,
            listing: BTreeMap::new(),
            asked: BTreeMap::new(),
            changed: BTreeSet::new(),
            tell: None,
            next_asked: BTreeMap::new(),
            rotated: false,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let expire = self.home.is_some().then_some(self.next_expire.min(self.next_call));
        [expire, self.take_up, self.tell].into_iter().flatten().fold(self.next_look, Instant::min)
    }

    /// Certificates are looked at now: time passed that no timer saw.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next_look = now;
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, unix: u64, node: &mut Node, config: &Config) {
        if self.next_expire <= now {
            self.next_expire = now + EXPIRE;
            if let Some(home) = &self.home
                && let Err(error) = home.lock().expire()
            {
                tracing::error!("the registry cannot end what has run out: {error}");
            }
        }
        self.tell_changed(now, node, config);
        self.call_homes(now, unix, node, config);
        if self.next_look > now {
            return;
        }
        self.next_look = now + LOOK;
        let own = self.trust.own_certificates();
        self.warn(unix, &own);
        self.renew_due(now, unix, node, config, &own);
        self.list_again(now, node, config);
        self.certify_hosted(now, node, config);
        self.certify_next(now, node, config);
    }

    /// Gets a fresh certificate: from our own registry, or from the home agent over its SA.
    /// False when that cannot be asked now.
    fn renew(&mut self, now: Instant, node: &mut Node, config: &Config, address: Ipv6Addr) -> bool {
        let Some(key) = self.key_of(config, address) else { return true };
        self.certify(now, node, config, address, &key)
    }

    /// The same for a certain key.
    fn certify(
        &mut self,
        now: Instant,
        node: &mut Node,
        config: &Config,
        address: Ipv6Addr,
        key: &PublicKey,
    ) -> bool {
        if let (Some(home), Some(prefix)) = (&self.home, config.home_prefix)
            && prefix.contains(&address)
        {
            let agent = agent_of(prefix);
            let mut desk = home.lock();
            let leaf = if address == agent {
                desk.certify_agent(key)
            } else {
                desk.certify(self.hosted.host_of(address).unwrap_or(address), address, key)
            };
            drop(desk);
            match leaf {
                Ok(leaf) if next_key(config, address, &leaf).is_some() => self.rotate(config, address, &leaf),
                Ok(leaf) => self.take_up(now, config, address, leaf),
                Err(error) => tracing::warn!("the certificate of {address} cannot be renewed: {error}"),
            }
            return true;
        }
        let Some(root) = config.root_of(address) else { return true };
        let agent = agent_of(root.prefix());
        let host = self.hosted.host_of(address).or_else(|| node.sender_for(address));
        let Some(ike) = node.ike_with(host.unwrap_or(address), agent) else { return false };
        tracing::debug!("asking for a fresh certificate for {address}");
        node.tell(now, ike, Ask::Renew { subject: address, key: key.to_string() }.to_bytes())
    }

    /// The key that is to prove an address of ours: what is on an entity follows that one's key.
    fn key_of(&self, config: &Config, address: Ipv6Addr) -> Option<PublicKey> {
        let own = config.own_entity(address);
        let entity = own.or_else(|| config.own_entity(self.hosted.host_of(address)?));
        Some(entity?.key.public())
    }

    /// Uses a fresh certificate from now on, and keeps it where the old one was.
    fn take_up(&mut self, now: Instant, config: &Config, address: Ipv6Addr, leaf: Vec<u8>) {
        let entity = config.entities.iter().find(|entity| entity.address == address);
        if self.hosted.host_of(address).is_some() {
            self.hosted.certify(address, leaf.clone());
            self.take_up_certified(now, address);
            if entity.is_none() {
                return;
            }
        }
        let text = pem::encode(&leaf);
        let endorsements = entity.map(Entity::endorsements).unwrap_or_default();
        if let Err(error) = self.trust.set_own(leaf, endorsements) {
            tracing::warn!("the new certificate of {address} is not good: {error}");
            return;
        }
        tracing::info!("{address} has a fresh certificate");
        let file = entity.and_then(|entity| entity.certificate_file.as_ref());
        if let (Some(file), Ok(text)) = (file, text)
            && let Err(error) = write_private(file, text.as_bytes(), true)
        {
            tracing::warn!(
                "{} cannot be written ({error}): the fresh certificate lives in memory",
                file.display()
            );
        }
    }

    /// A document arrived over an IKE SA.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        unix: u64,
        node: &mut Node,
        config: &Config,
        from: (IkeId, Ipv6Addr, Ipv6Addr),
        document: &[u8],
    ) -> Vec<Effect> {
        let (ike, local, remote) = from;
        let ours = config.home_prefix.map(agent_of);
        if ours == Some(local)
            && config.root_of_agent(remote).is_some()
            && let Ok(Tell::Moved(redirect)) = Tell::parse(document)
        {
            // Another home has moved; what is no news is not passed on.
            let news = Some(redirect.home) != config.home_prefix && self.moved(&redirect);
            return news.then_some(Effect::Moved).into_iter().collect();
        }
        if let Some(home) = self.home.as_ref().filter(|_| ours == Some(local)) {
            let Some(path) = node.ike().path_of(ike) else { return Vec::new() };
            let (tell, effects) = home.lock().hear(remote, *path.remote.ip(), document);
            match &tell {
                Tell::Moved(_) => {}
                Tell::Joined(member) => tracing::info!("{} joined as {}", member.name, member.address),
                // Strangers come as they like.
                Tell::Refused { error } if stranger::is_one(remote) => {
                    tracing::debug!("a stranger was refused: {error}")
                }
                Tell::Refused { error } => tracing::warn!("a question was refused: {error}"),
                Tell::Waiting {} => tracing::debug!("somebody asks to be let in"),
                Tell::Done { message, .. } => tracing::info!("{message}"),
                Tell::Denied { error, .. } => tracing::warn!("{remote} was refused: {error}"),
                Tell::Renewed { .. }
                | Tell::Hosted { .. }
                | Tell::HostedChanged {}
                | Tell::Revoked { .. } => {}
            }
            node.tell(now, ike, tell.to_bytes());
            return effects;
        }
        let Some(root) = config.root_of_agent(remote) else {
            tracing::debug!("{remote} sent a document, and is no home agent");
            return Vec::new();
        };
        match Tell::parse(document) {
            Ok(Tell::Renewed { subject, certificate }) => {
                if self.renewed(now, config, root, unix, subject, certificate.0) {
                    self.certify_hosted(now, node, config);
                }
            }
            Ok(Tell::HostedChanged {}) => self.list(now, node, config, local),
            Ok(Tell::Hosted { addresses, more }) => {
                let home = root.prefix();
                self.page(now, node, config, (home, local), addresses, more);
            }
            Ok(Tell::Revoked { list }) => {
                for one in list {
                    if root.prefix().contains(&one.address) {
                        self.revoked(now, unix, node, &one);
                    } else {
                        tracing::warn!("{remote} revokes {}, which is not its own: ignored", one.address);
                    }
                }
            }
            Ok(Tell::Moved(redirect)) => {
                self.moved(&redirect);
            }
            Ok(Tell::Refused { error }) => self.tell_refusal(now, error),
            Ok(Tell::Joined(_) | Tell::Waiting {} | Tell::Done { .. } | Tell::Denied { .. }) => {}
            Err(error) => tracing::debug!(%error, "a document from {remote} is ignored"),
        }
        Vec::new()
    }

    /// A home sent a certificate. It is used if it is one of ours, made by this very home for our key or our next one.
    /// True: it is for the present key.
    fn renewed(
        &mut self,
        now: Instant,
        config: &Config,
        root: &Root,
        unix: u64,
        address: Ipv6Addr,
        leaf: Vec<u8>,
    ) -> bool {
        let next = next_key(config, address, &leaf);
        let Some(key) = next.or_else(|| self.key_of(config, address)) else {
            tracing::debug!("a certificate for {address}, which is not ours, is ignored");
            return false;
        };
        if let Err(error) = leaf::verify_own(&leaf, root, unix, address, &key) {
            tracing::warn!("the new certificate of {address} is not good: {error}");
            return false;
        }
        if next.is_some() {
            self.rotate(config, address, &leaf);
        } else {
            self.take_up(now, config, address, leaf);
        }
        next.is_none()
    }

    /// A home revoked one of its own.
    fn revoked(&self, now: Instant, unix: u64, node: &mut Node, one: &Revocation) {
        let Some(serial) = Serial::parse(&one.serial) else { return };
        let address = one.address;
        if self.trust.change(|store| store.revoke(unix, address, serial, one.not_after)) {
            tracing::warn!(
                "a certificate of {address} was revoked by its home: the security associations that rest on it end"
            );
            node.disconnect(now, address);
        }
    }

    /// The key of this address is not to be trusted any more.
    pub(super) fn spread_revocation(
        &mut self,
        now: Instant,
        unix: u64,
        node: &mut Node,
        config: &Config,
        address: Ipv6Addr,
    ) {
        if let Some(agent) = config.home_prefix.map(agent_of) {
            self.revocations.spread(now, unix, node, agent, address);
        }
    }

    /// Somebody has SAs with one of our entities now.
    pub(super) fn greet(
        &mut self,
        now: Instant,
        unix: u64,
        node: &mut Node,
        config: &Config,
        (local, remote): (Ipv6Addr, Ipv6Addr),
    ) {
        // Neither a stranger nor the holder of a code is told who was revoked.
        if config.root_of(remote).is_some() && config.home_prefix.map(agent_of) == Some(local) {
            self.revocations.greet(now, unix, node, local, remote);
        }
    }
}
