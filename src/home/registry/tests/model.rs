//! Random verbs against a simple model: nothing acknowledged is lost, no address comes twice.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::home::entity::Kind;

/// One verb; numbers choose among what is there.
#[derive(Clone, Debug)]
enum Verb {
    User(u8),
    Node(u8),
    Service(u8, usize, bool),
    Join(usize, u8),
    Rename(usize, u8),
    Move(usize, usize),
    Take(usize),
    Remove(usize),
    Revoke(usize),
    Certify(usize, usize),
    Restore,
    Backup,
    Reopen,
}

fn verb() -> impl Strategy<Value = Verb> {
    let name = 0..12u8;
    let who = any::<usize>();
    prop_oneof![
        3 => name.clone().prop_map(Verb::User),
        2 => name.clone().prop_map(Verb::Node),
        3 => (name.clone(), who, any::<bool>()).prop_map(|(name, node, random)| Verb::Service(name, node, random)),
        5 => (who, name.clone()).prop_map(|(whom, label)| Verb::Join(whom, label)),
        2 => (who, name).prop_map(|(who, name)| Verb::Rename(who, name)),
        2 => (who, who).prop_map(|(service, node)| Verb::Move(service, node)),
        2 => who.prop_map(Verb::Take),
        2 => who.prop_map(Verb::Remove),
        1 => who.prop_map(Verb::Revoke),
        2 => (who, who).prop_map(|(caller, subject)| Verb::Certify(caller, subject)),
        1 => Just(Verb::Restore),
        1 => Just(Verb::Backup),
        2 => Just(Verb::Reopen),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    kind: Kind,
    address: Ipv6Addr,
    /// A device's user, a service's node, a user's holder: by address, because names change.
    other: Option<Ipv6Addr>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    there: BTreeMap<String, Known>,
}

impl Model {
    fn name(&self, index: usize) -> Option<String> {
        self.there.keys().nth(index % self.there.len().max(1)).cloned()
    }

    fn of(&self, registry: &Registry) -> Self {
        let all = registry.list(None, true).unwrap();
        let address = |id| all.iter().find(|entity| Some(entity.id) == id).map(|entity| entity.address);
        let there = all.iter().filter(|entity| entity.active).map(|entity| {
            let other = match entity.kind {
                Kind::User => entity.holder,
                Kind::Device => entity.owner,
                Kind::Service => entity.node,
                Kind::Node | Kind::Home => None,
            };
            (entity.name.clone(), Known { kind: entity.kind, address: entity.address, other: address(other) })
        });
        Self { there: there.collect() }
    }

    fn bury(&mut self, name: &str) {
        let Some(gone) = self.there.remove(name) else { return };
        if gone.kind == Kind::User {
            self.there.retain(|_, known| known.kind != Kind::Device || known.other != Some(gone.address));
        }
        for known in self.there.values_mut().filter(|known| known.kind == Kind::User) {
            known.other = known.other.filter(|holder| *holder != gone.address);
        }
    }
}

struct World {
    place: Place,
    registry: Registry,
    model: Model,
    saved: Option<(Model, u32)>,
    /// Every address that was ever acknowledged.
    given: HashSet<Ipv6Addr>,
    keys: u32,
    backups: u32,
}

impl World {
    /// Something was added: it is new, and it is where it belongs.
    fn added(&mut self, name: &str, kind: Kind, address: Ipv6Addr, other: Option<Ipv6Addr>) {
        assert!(self.given.insert(address), "{address} was given out twice");
        assert!(self.registry.home().unwrap().prefix.contains(&address));
        let before = self.model.there.insert(name.to_owned(), Known { kind, address, other });
        assert!(before.is_none(), "two are named {name}");
    }

    fn kind(&self, name: &str) -> Kind {
        self.model.there[name].kind
    }

    fn act(&mut self, verb: Verb) {
        match verb {
            Verb::User(name) | Verb::Node(name) => {
                let name = format!("n{name}");
                let kind = if matches!(verb, Verb::User(_)) { Kind::User } else { Kind::Node };
                let added = if kind == Kind::User {
                    self.registry.user_add(by(NOW), &name)
                } else {
                    self.registry.node_add(by(NOW), &name)
                };
                match added {
                    Ok(entity) => self.added(&name, kind, entity.address, None),
                    Err(_) => assert!(self.model.there.contains_key(&name)),
                }
            }
            Verb::Service(name, node, random) => {
                let (name, Some(node)) = (format!("n{name}"), self.model.name(node)) else { return };
                let interface =
                    if random { Interface::Random(u64::from(self.keys) << 8 | 5) } else { Interface::Next };
                self.keys += 1;
                match self.registry.service_add(by(NOW), &name, &node, interface) {
                    Ok(entity) => {
                        let node = self.model.there[&node].address;
                        self.added(&name, Kind::Service, entity.address, Some(node));
                    }
                    Err(_) => assert!(self.kind(&node) != Kind::Node || self.model.there.contains_key(&name)),
                }
            }
            Verb::Join(whom, label) => self.join(whom, label),
            Verb::Rename(who, to) => self.rename(who, to),
            Verb::Move(service, node) => {
                let (Some(service), Some(node)) = (self.model.name(service), self.model.name(node)) else {
                    return;
                };
                let fits = self.kind(&service) == Kind::Service && self.kind(&node) == Kind::Node;
                let moved = self.registry.service_move(by(NOW), &service, &node);
                assert_eq!(moved.is_ok(), fits);
                if fits {
                    let to = self.model.there[&node].address;
                    self.model.there.get_mut(&service).unwrap().other = Some(to);
                }
            }
            Verb::Take(device) => {
                let Some(device) = self.model.name(device) else { return };
                let known = self.model.there[&device].clone();
                let taken = self.registry.take(by(NOW), &device);
                assert_eq!(taken.is_ok(), known.kind == Kind::Device);
                if let Ok(user) = taken {
                    assert_eq!(Some(user.address), known.other);
                    self.model.there.get_mut(&user.name).unwrap().other = Some(known.address);
                }
            }
            Verb::Remove(who) => {
                let Some(who) = self.model.name(who) else { return };
                let address = self.model.there[&who].address;
                let used = self.kind(&who) == Kind::Node
                    && self.model.there.values().any(|known| known.other == Some(address));
                assert_eq!(self.registry.remove(by(NOW), &who).is_ok(), !used);
                if !used {
                    self.model.bury(&who);
                }
            }
            Verb::Revoke(device) => {
                let Some(device) = self.model.name(device) else { return };
                let fits = self.kind(&device) == Kind::Device;
                assert_eq!(self.registry.device_revoke(by(NOW), &device).is_ok(), fits);
                if fits {
                    self.model.bury(&device);
                }
            }
            Verb::Certify(caller, subject) => self.certify(caller, subject),
            Verb::Backup => {
                self.backups += 1;
                let path = self.place.path(&format!("backup{}", self.backups));
                self.registry.backup(by(NOW), &path).unwrap();
                self.saved = Some((self.model.clone(), self.backups));
            }
            Verb::Restore => {
                let Some((model, number)) = self.saved.clone() else { return };
                let path = self.place.path(&format!("backup{number}"));
                self.registry.restore(by(NOW), &path).unwrap();
                self.model = model;
            }
            Verb::Reopen => self.registry = self.place.open(),
        }
    }

    fn join(&mut self, whom: usize, label: u8) {
        let Some(whom) = self.model.name(whom) else { return };
        self.keys += 1;
        let mut random = [0; 16];
        random[..4].copy_from_slice(&self.keys.to_be_bytes());
        let invited = self.registry.invite(by(NOW), random, &whom, None, NOW + 9);
        let known = self.model.there[&whom].clone();
        assert_eq!(invited.is_ok(), known.kind != Kind::Device);
        let Ok((code, _)) = invited else { return };
        let joined = self.registry.redeem(
            by(NOW),
            &code.lookup_id(),
            &key(self.keys),
            Some(&format!("n{label}")),
            &mut issue,
        );
        let joined = joined.unwrap().entity;
        if known.kind == Kind::User {
            self.added(&joined.name, Kind::Device, joined.address, Some(known.address));
            let user = self.model.there.get_mut(&whom).unwrap();
            user.other = user.other.or(Some(joined.address));
        } else {
            assert_eq!(joined.address, known.address);
        }
    }

    fn rename(&mut self, who: usize, to: u8) {
        let (Some(old), label) = (self.model.name(who), format!("n{to}")) else { return };
        let known = self.model.there[&old].clone();
        let new = match old.split_once('.') {
            Some((_, user)) => format!("{label}.{user}"),
            None => label.clone(),
        };
        let free = old == new || !self.model.there.contains_key(&new);
        let renamed = self.registry.rename(by(NOW), &old, &label);
        assert_eq!(renamed.is_ok(), free);
        if !free || old == new {
            return;
        }
        self.model.there.remove(&old);
        self.model.there.insert(new.clone(), known.clone());
        if known.kind == Kind::User {
            let of_hers = |other: &Known| other.kind == Kind::Device && other.other == Some(known.address);
            let hers: Vec<String> = self
                .model
                .there
                .iter()
                .filter(|(_, other)| of_hers(other))
                .map(|(name, _)| name.clone())
                .collect();
            for name in hers {
                let device = self.model.there.remove(&name).unwrap();
                let own = name.split('.').next().unwrap();
                self.model.there.insert(format!("{own}.{new}"), device);
            }
        }
    }

    fn certify(&mut self, caller: usize, subject: usize) {
        let (Some(caller), Some(subject)) = (self.model.name(caller), self.model.name(subject)) else {
            return;
        };
        let (from, to) = (self.model.there[&caller].clone(), self.model.there[&subject].clone());
        let hers = to.other == Some(from.address) && to.kind != Kind::Device;
        self.keys += 1;
        let certified = self.registry.certify(by(NOW), from.address, to.address, &key(self.keys), &mut issue);
        assert_eq!(certified.is_ok(), from.address == to.address || hers);
    }

    fn check(&self) {
        assert_eq!(self.model, self.model.of(&self.registry));
        assert!(self.registry.verify_issued().unwrap().is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn random_verbs_do_what_the_model_says(verbs in proptest::collection::vec(verb(), 1..60)) {
        let place = Place::new();
        let registry = place.open();
        let mut world = World {
            place, registry, model: Model::default(), saved: None, given: HashSet::new(), keys: 0, backups: 0,
        };
        for verb in verbs {
            world.act(verb);
            world.check();
        }
        world.registry = world.place.open();
        world.check();
    }
}
