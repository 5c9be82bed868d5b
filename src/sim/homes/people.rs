//! From a plan to what the machines know: keys, certificates, trust, policies, the registry of each home.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ipnet::Ipv6Net;

use super::plan::{Machine, Plan, Role};
use crate::addr::home::Homes;
use crate::addr::plan::USERS;
use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::dataplane::relay::Roles;
use crate::home::talk::Revocation;
use crate::ike::{self, LocalEntity};
use crate::mobility::CareOfPolicy;
use crate::node::{self, HomeAgentConfig, HomeConfig, PeerConfig, Registration};
use crate::pki::{Authority, Kind, LeafRequest, MAX_LEAF_LIFETIME, TrustStore};
use crate::policy::pad::Pad;
use crate::policy::spd::{Action, Policy, Services, Spd};
use crate::policy::trust::{AnchoredClock, Trust};
use crate::sim::host::Part;
use crate::sim::scenario::{Dice, PORT};

/// The time of day at the start.
pub(super) const EPOCH: u64 = 1_800_000_000;

/// The registry of a home, as far as bindings ask it.
#[derive(Default)]
pub(super) struct Registry(Mutex<BTreeMap<Ipv6Addr, Vec<Ipv6Net>>>);

impl Registry {
    fn remove(&self, sender: Ipv6Addr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&sender);
    }
}

impl node::Authority for Registry {
    fn may_bind(&self, sender: Ipv6Addr, prefix: Ipv6Net) -> bool {
        let allowed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        allowed.get(&sender).is_some_and(|mine| mine.iter().any(|net| net.contains(&prefix)))
    }
}

/// Everything that the machines know, beside what they find out.
pub(super) struct People {
    /// Certificate authorities, by home.
    authorities: Vec<Authority>,
    /// Registries, by home.
    registries: Vec<Arc<Registry>>,
    keys: BTreeMap<Ipv6Addr, PrivateKey>,
    /// The last certificate of everybody.
    leaves: BTreeMap<Ipv6Addr, Vec<u8>>,
    /// Every certificate, as it would be revoked.
    issued: Vec<Revocation>,
    /// What was revoked, by home.
    revoked: BTreeMap<usize, Vec<Revocation>>,
    lifetime: u64,
    /// What somebody made himself who belongs to no home: his key, and a certificate for whom he claims to be.
    forged: Option<(PrivateKey, Vec<u8>)>,
    start: Instant,
}

fn kind(machine: &Machine, entity: Ipv6Addr) -> Kind {
    let first = machine.entities.first() == Some(&entity);
    match (machine.role, first) {
        (Role::Home, true) => Kind::Home,
        (Role::Device, _) => Kind::Device,
        (Role::Forger, _) if entity.segments()[3] == USERS => Kind::Device,
        (Role::Home, false) | (Role::Server, true) | (Role::Forger, _) => Kind::Node,
        (Role::Server, false) => Kind::Service,
    }
}

impl People {
    /// Homes are founded, everybody gets a certificate of the own home. An error is a mistake in the plan.
    pub(super) fn new(plan: &Plan, dice: &mut Dice, start: Instant) -> Result<Self, String> {
        let mut authorities = Vec::new();
        let mut registries = Vec::new();
        for home in 0..plan.homes.len() {
            let key = PrivateKey::from_seed(&dice.seed());
            let founded = Authority::create(key, plan.prefix(home), None, EPOCH, random(dice));
            authorities.push(founded.map_err(|error| error.to_string())?);
            let members =
                plan.machines.iter().filter(|machine| machine.home == home && machine.role != Role::Forger);
            let allowed = members.filter_map(|machine| {
                let sender = *machine.entities.first()?;
                Some((sender, [vec![Ipv6Net::from(sender)], machine.prefixes()].concat()))
            });
            registries.push(Arc::new(Registry(Mutex::new(allowed.collect()))));
        }
        let mut people = Self {
            authorities,
            registries,
            keys: BTreeMap::new(),
            leaves: BTreeMap::new(),
            issued: Vec::new(),
            revoked: BTreeMap::new(),
            lifetime: plan.leaf,
            forged: None,
            start,
        };
        for machine in &plan.machines {
            if machine.role == Role::Forger {
                people.forge(plan, machine, dice)?;
                continue;
            }
            for entity in &machine.entities {
                people.keys.insert(*entity, PrivateKey::from_seed(&dice.seed()));
                people.issue(machine, *entity, EPOCH, dice)?;
            }
        }
        Ok(people)
    }

    fn forge(&mut self, plan: &Plan, machine: &Machine, dice: &mut Dice) -> Result<(), String> {
        let address = *machine.entities.first().ok_or("a forger who claims to be nobody")?;
        let key = PrivateKey::from_seed(&dice.seed());
        let root = PrivateKey::from_seed(&dice.seed());
        let founded = Authority::create(root, plan.prefix(machine.home), None, EPOCH, random(dice));
        let authority = founded.map_err(|error| error.to_string())?;
        let request = LeafRequest {
            address,
            name: None,
            kind: kind(machine, address),
            key: key.public(),
            lifetime: MAX_LEAF_LIFETIME,
        };
        let leaf = authority.issue(&request, EPOCH, random(dice)).map_err(|error| error.to_string())?;
        self.forged = Some((key, leaf.der));
        Ok(())
    }

    /// A certificate for somebody of a home, from now on.
    pub(super) fn issue(
        &mut self,
        machine: &Machine,
        address: Ipv6Addr,
        unix: u64,
        dice: &mut Dice,
    ) -> Result<Vec<u8>, String> {
        let request = LeafRequest {
            address,
            name: None,
            kind: kind(machine, address),
            key: self.key(address),
            lifetime: self.lifetime,
        };
        let authority = self.authorities.get(machine.home).ok_or("a machine without a home")?;
        let leaf = authority.issue(&request, unix, random(dice)).map_err(|error| error.to_string())?;
        self.issued.push(Revocation { address, serial: leaf.serial.to_string(), not_after: leaf.not_after });
        self.leaves.insert(address, leaf.der.clone());
        Ok(leaf.der)
    }

    /// Somebody's public key.
    pub(super) fn key(&self, address: Ipv6Addr) -> PublicKey {
        self.keys.get(&address).map_or_else(|| PrivateKey::from_seed(&[0; 32]).public(), PrivateKey::public)
    }

    /// The certificates of this address are revoked, and it may bind nothing any more.
    pub(super) fn revoke(&mut self, home: usize, address: Ipv6Addr) -> Vec<Revocation> {
        if let Some(registry) = self.registries.get(home) {
            registry.remove(address);
        }
        let list: Vec<Revocation> =
            self.issued.iter().filter(|one| one.address == address).cloned().collect();
        self.revoked.entry(home).or_default().extend(list.iter().cloned());
        list
    }

    /// What a home revoked.
    pub(super) fn revoked(&self, home: usize) -> Vec<Revocation> {
        self.revoked.get(&home).cloned().unwrap_or_default()
    }

    /// What a machine trusts, with the memory of an earlier run.
    pub(super) fn trust(&self, machine: &Machine, store: TrustStore) -> Result<Arc<Trust>, String> {
        let clock = AnchoredClock { at: self.start, unix: EPOCH };
        let trust = Trust::new(store, crate::pki::trust::PinPolicy::Tell, Box::new(clock));
        let roots = machine.trusts.iter().filter_map(|home| self.authorities.get(*home));
        for root in roots.map(|authority| authority.root().clone()) {
            trust.change(|store| store.pin(root)).map_err(|error| error.to_string())?;
        }
        for entity in &machine.entities {
            let forged = self.forged.as_ref().filter(|_| machine.role == Role::Forger);
            let leaf = forged.map_or_else(|| self.leaves.get(entity), |(_, leaf)| Some(leaf));
            let leaf = leaf.cloned().unwrap_or_default();
            trust.set_own(leaf, Vec::new()).map_err(|error| error.to_string())?;
        }
        Ok(Arc::new(trust))
    }

    /// The configuration of a machine.
    pub(super) fn config(&self, plan: &Plan, machine: &Machine, trust: Arc<Trust>) -> node::Config {
        let forged = self.forged.as_ref().filter(|_| machine.role == Role::Forger).map(|(key, _)| key);
        let key = |entity| forged.or_else(|| self.keys.get(entity));
        let keys = machine.entities.iter().filter_map(|entity| Some((*entity, key(entity)?)));
        let victims = if forged.is_some() { plan.victims() } else { Vec::new() };
        let home_agent = (machine.role == Role::Home).then(|| HomeAgentConfig {
            prefix: plan.prefix(machine.home),
            address: plan.agent(machine.home),
            care_of: CareOfPolicy::default(),
        });
        let sender = machine.entities.first().copied().filter(|_| machine.role != Role::Home);
        node::Config {
            ike: ike::Config {
                entities: keys
                    .map(|(address, key)| LocalEntity { address, signing_key: key.seed() })
                    .collect(),
                pad: Arc::new(Pad::new([]).with_certificates(trust)),
                spd: Arc::new(spd(plan, machine)),
                ike_suites: vec![IkeSuite::ChaCha20Poly1305],
                esp_suites: vec![EspSuite::ChaCha20Poly1305, EspSuite::Aes256Gcm],
                esp_yields: false,
                esn: true,
                child_pfs: plan.child_pfs,
                lifetimes: plan.lifetimes,
                cookie_threshold: 64,
                fragment_size: 1280,
                keylog: true,
            },
            peers: victims
                .into_iter()
                .map(|(address, endpoint)| PeerConfig {
                    name: address.to_string(),
                    address,
                    endpoint: Some(endpoint),
                    keep_up: true,
                })
                .collect(),
            homes: machine.trusts.iter().map(|home| home_config(plan, *home)).collect(),
            registrations: sender
                .into_iter()
                .map(|sender| Registration { sender, prefixes: machine.prefixes(), sequence: None })
                .collect(),
            home_agent,
            port: PORT,
            mtu: 1380,
            queues: plan.queues,
            // Here little is enough for one more SA.
            bulk: 500,
        }
    }

    /// What this machine is to relayed packets, and to bindings.
    pub(super) fn part(&self, plan: &Plan, machine: &Machine) -> Part {
        let is_home = machine.role == Role::Home;
        let registry = self.registries.get(machine.home).filter(|_| is_home);
        Part {
            authority: registry.map(|registry| Arc::clone(registry) as _),
            roles: Roles {
                local: machine.entities.iter().copied().collect(),
                home: is_home.then(|| plan.prefix(machine.home)),
                homes: Homes::new(Vec::new(), false),
            },
        }
    }
}

fn random(dice: &mut Dice) -> [u8; 16] {
    let mut octets = [0; 16];
    octets.copy_from_slice(&dice.seed()[..16]);
    octets
}

fn home_config(plan: &Plan, home: usize) -> HomeConfig {
    let endpoint = plan.endpoint(home);
    HomeConfig { prefix: plan.prefix(home), agent: plan.agent(home), endpoint, places: vec![endpoint] }
}

fn spd(plan: &Plan, machine: &Machine) -> Spd {
    let anybody = Ipv6Net::default();
    let refused = machine.refuses.iter().map(|remote| Policy {
        local: anybody,
        remote: Ipv6Net::from(*remote),
        action: Action::Discard,
    });
    let mut spd = Spd::with_defaults(refused, []);
    if machine.role == Role::Home {
        let joining = Policy {
            local: Ipv6Net::from(plan.agent(machine.home)),
            remote: anybody,
            action: Action::Protect(Services::Confidentiality),
        };
        spd = Spd::new(spd.policies().iter().cloned().chain([joining]).collect());
    }
    spd
}
