//! Users, nodes, services, devices: adding, naming, moving, removing. Devices are added by joining (`enrol`).

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Registry, log, rows};
use crate::addr::plan::{FIRST_NODE, USERS, in_prefix};
use crate::crypto::identity::PublicKey;
use crate::home::entity::{By, Entity, EntityId, Kind};
use crate::home::error::Error;
use crate::home::name;

/// How a service's interface identifier is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The next number: short to read.
    Next,
    /// From 64 random bits: cannot be guessed.
    Random(u64),
}

/// A name that an entity had or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// The name.
    pub name: String,
    /// Seconds since 1970.
    pub since: u64,
    /// Seconds since 1970; `None`: it is the present one.
    pub until: Option<u64>,
}

/// A key that an entity had or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// The key.
    pub key: PublicKey,
    /// Seconds since 1970.
    pub since: u64,
    /// Seconds since 1970; `None`: it is the present one.
    pub until: Option<u64>,
    /// Why it ended: `replaced`, `removed` or `revoked`.
    pub reason: Option<String>,
}

/// Random interface identifiers have this bit, counted ones never reach it, and both fit a signed column.
const RANDOM_BIT: u64 = 1 << 62;

/// What kinds may carry as their last number, and their first one. Interface 1 of a node's /64 is the node itself.
const fn range(kind: Kind) -> (u64, u64) {
    match kind {
        Kind::User | Kind::Device => (1, u32::MAX as u64),
        Kind::Node => (FIRST_NODE as u64, u16::MAX as u64),
        Kind::Service => (2, u32::MAX as u64),
        // There is one, and it is no entity.
        Kind::Home => (1, 0),
    }
}

/// The next number of a kind, which nobody gets again.
fn take_number(tx: &Connection, kind: Kind, parent: i64) -> Result<u64, Error> {
    let (first, last) = range(kind);
    let number = tx.query_row(
        "INSERT INTO counter (kind, parent, next) VALUES (?1, ?2, ?3 + 1)
         ON CONFLICT DO UPDATE SET next = next + 1 RETURNING next - 1",
        params![kind.as_str(), parent, first],
        |row| row.get(0),
    )?;
    if number > last { Err(Error::Exhausted(kind)) } else { Ok(number) }
}

/// Who belongs to whom when something is added.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Home,
    User(&'a Entity),
    Node(&'a Entity, Interface),
}

/// Adds an entity under a checked whole name.
pub(super) fn add(
    tx: &Connection,
    by: By<'_>,
    kind: Kind,
    name: &str,
    place: Place<'_>,
) -> Result<Entity, Error> {
    let prefix = rows::home(tx)?.prefix;
    free(tx, name)?;
    let (owner, number, address) = match place {
        Place::Home => {
            let number = take_number(tx, kind, 0)?;
            let address = if kind == Kind::Node {
                in_prefix(prefix, u16::try_from(number).unwrap_or(u16::MAX), 1)
            } else {
                in_prefix(prefix, USERS, number << 32)
            };
            (None, number, address)
        }
        Place::User(user) => {
            let number = take_number(tx, kind, user.id.0)?;
            (Some(user.id.0), number, in_prefix(prefix, USERS, user.number << 32 | number))
        }
        Place::Node(node, interface) => {
            let number = match interface {
                Interface::Next => take_number(tx, kind, node.id.0)?,
                Interface::Random(bits) => bits & (RANDOM_BIT - 1) | RANDOM_BIT,
            };
            let subnet = u16::try_from(node.number).unwrap_or(u16::MAX);
            (Some(node.id.0), number, in_prefix(prefix, subnet, number))
        }
    };
    let node = owner.filter(|_| kind == Kind::Service);
    tx.execute(
        "INSERT INTO entity (kind, number, address, owner, node, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![kind.as_str(), number, address.octets(), owner, node, by.now],
    )?;
    let id = EntityId(tx.last_insert_rowid());
    set_name(tx, by, id, name)?;
    log::audit(tx, by, &format!("{kind} add"), name, &address.to_string())?;
    rows::by_id(tx, id)
}

/// Whether a whole name is free.
pub(super) fn free(tx: &Connection, name: &str) -> Result<(), Error> {
    let kind = tx.query_row(
        "SELECT e.kind FROM name n JOIN entity e ON e.id = n.entity WHERE n.name = ?1 AND n.until IS NULL",
        [name],
        |row| rows::kind(row, 0),
    );
    match kind.optional()? {
        Some(kind) => Err(Error::NameTaken { name: name.to_owned(), kind }),
        None => Ok(()),
    }
}

fn set_name(tx: &Connection, by: By<'_>, id: EntityId, name: &str) -> Result<(), Error> {
    tx.execute("UPDATE name SET until = ?2 WHERE entity = ?1 AND until IS NULL", params![id.0, by.now])?;
    tx.execute("INSERT INTO name (entity, name, since) VALUES (?1, ?2, ?3)", params![id.0, name, by.now])?;
    Ok(())
}

/// Ends the present key of an entity that goes. A device's and a node's key ends wherever else it stands, too (the
/// floating address, services); a service that shares the key of its node leaves that alone.
fn end_key(tx: &Connection, by: By<'_>, entity: &Entity, reason: &str) -> Result<(), Error> {
    let Some(key) = &entity.key else { return Ok(()) };
    let everywhere = matches!(entity.kind, Kind::Device | Kind::Node);
    tx.execute(
        "UPDATE key SET until = ?2, reason = CASE
             WHEN NOT ?4 AND EXISTS (SELECT 1 FROM key k WHERE k.key = ?1 AND k.until IS NULL AND k.entity <> ?5)
             THEN 'replaced' ELSE ?3 END
         WHERE key = ?1 AND until IS NULL AND (?4 OR entity = ?5)",
        params![key.as_bytes(), by.now, reason, everywhere, entity.id.0],
    )?;
    Ok(())
}

/// Forgets where somebody was reached: the next one there counts its sequence numbers anew.
fn unbind(tx: &Connection, entity: &Entity) -> Result<(), Error> {
    let prefix = entity.prefix();
    tx.execute(
        "DELETE FROM binding WHERE prefix = ?1 AND length = ?2",
        params![prefix.network().octets(), prefix.prefix_len()],
    )?;
    Ok(())
}

/// Makes `key` the present one.
pub(super) fn set_key(
    tx: &Connection,
    by: By<'_>,
    entity: &Entity,
    key: Option<&PublicKey>,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE key SET until = ?2, reason = 'replaced' WHERE entity = ?1 AND until IS NULL",
        params![entity.id.0, by.now],
    )?;
    if let Some(key) = key {
        tx.execute(
            "INSERT INTO key (entity, key, since) VALUES (?1, ?2, ?3)",
            params![entity.id.0, key.as_bytes(), by.now],
        )?;
    }
    Ok(())
}

/// Buries one entity: its name is free, its address is not.
fn bury(tx: &Connection, by: By<'_>, entity: &Entity, reason: &str) -> Result<(), Error> {
    end_key(tx, by, entity, reason)?;
    for user in rows::entities(tx, "holder = ?1", [entity.id.0])? {
        unbind(tx, &user)?;
    }
    tx.execute("UPDATE entity SET removed = ?2 WHERE id = ?1", params![entity.id.0, by.now])?;
    tx.execute(
        "UPDATE name SET until = ?2 WHERE entity = ?1 AND until IS NULL",
        params![entity.id.0, by.now],
    )?;
    tx.execute("DELETE FROM floating WHERE user = ?1 OR device = ?1", [entity.id.0])?;
    tx.execute(
        "UPDATE invitation SET state = 'withdrawn', psk = NULL WHERE entity = ?1 AND state = 'open'",
        [entity.id.0],
    )?;
    // Nobody gets an answer on its behalf any more, not even within the retry window.
    tx.execute("UPDATE invitation SET psk = NULL, answer = NULL WHERE joined = ?1", [entity.id.0])?;
    tx.execute("UPDATE pending SET answer = NULL WHERE joined = ?1", [entity.id.0])?;
    unbind(tx, entity)?;
    let verb = if reason == "revoked" { "revoke" } else { "remove" };
    log::audit(tx, by, &format!("{} {verb}", entity.kind), &entity.name, &entity.address.to_string())
}

pub(super) fn of_kind(entity: Entity, wanted: &[Kind], words: &'static str) -> Result<Entity, Error> {
    if wanted.contains(&entity.kind) {
        return Ok(entity);
    }
    Err(Error::WrongKind { name: entity.name, kind: entity.kind, wanted: words })
}

impl Registry {
    /// Adds a user; her address is the floating one.
    pub fn user_add(&mut self, by: By<'_>, name: &str) -> Result<Entity, Error> {
        let name = name::label(name)?;
        self.write(|tx| add(tx, by, Kind::User, &name, Place::Home))
    }

    /// Adds a node with a /64 of its own, whose first address it has itself.
    pub fn node_add(&mut self, by: By<'_>, name: &str) -> Result<Entity, Error> {
        let name = name::label(name)?;
        self.write(|tx| add(tx, by, Kind::Node, &name, Place::Home))
    }

    /// Adds a service in the /64 of a node.
    pub fn service_add(
        &mut self,
        by: By<'_>,
        name: &str,
        node: &str,
        interface: Interface,
    ) -> Result<Entity, Error> {
        let name = name::label(name)?;
        self.write(|tx| {
            let node = of_kind(rows::find(tx, node)?, &[Kind::Node], "node")?;
            add(tx, by, Kind::Service, &name, Place::Node(&node, interface))
        })
    }

    /// Everybody of a kind, in the order in which they were added.
    pub fn list(&self, kind: Option<Kind>, with_removed: bool) -> Result<Vec<Entity>, Error> {
        rows::entities(
            &self.db,
            "(?1 IS NULL OR kind = ?1) AND (?2 OR removed IS NULL)",
            params![kind.map(Kind::as_str), with_removed],
        )
    }

    /// How many active entities of a kind there are.
    pub fn count(&self, kind: Kind) -> Result<u64, Error> {
        let query = "SELECT count(*) FROM entity WHERE kind = ?1 AND removed IS NULL";
        Ok(self.db.query_row(query, [kind.as_str()], |row| row.get(0))?)
    }

    /// An entity by its row, active or not.
    pub fn by_id(&self, id: EntityId) -> Result<Entity, Error> {
        rows::by_id(&self.db, id)
    }

    /// An active entity by name, whole name or address.
    pub fn find(&self, text: &str) -> Result<Entity, Error> {
        rows::find(&self.db, text)
    }

    /// An active entity by its permanent address.
    pub fn by_address(&self, address: Ipv6Addr) -> Result<Option<Entity>, Error> {
        rows::by_address(&self.db, address)
    }

    /// The active devices of a user, or the active services on a node.
    pub fn members(&self, of: &Entity) -> Result<Vec<Entity>, Error> {
        rows::entities(
            &self.db,
            "removed IS NULL AND ((kind = 'device' AND owner = ?1) OR (kind = 'service' AND node = ?1))",
            [of.id.0],
        )
    }

    /// Its names, the oldest first.
    pub fn names(&self, of: &Entity) -> Result<Vec<NameEntry>, Error> {
        let mut query =
            self.db.prepare("SELECT name, since, until FROM name WHERE entity = ?1 ORDER BY id")?;
        let rows = query.query_map([of.id.0], |row| {
            Ok(NameEntry { name: row.get(0)?, since: row.get(1)?, until: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Its keys, the oldest first.
    pub fn keys(&self, of: &Entity) -> Result<Vec<KeyEntry>, Error> {
        let mut query =
            self.db.prepare("SELECT key, since, until, reason FROM key WHERE entity = ?1 ORDER BY id")?;
        let rows = query.query_map([of.id.0], |row| {
            let key = rows::key(row, 0)?.ok_or_else(|| rows::strange(0))?;
            Ok(KeyEntry { key, since: row.get(1)?, until: row.get(2)?, reason: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives an entity another name; the devices of a user follow (`laptop.alice`).
    pub fn rename(&mut self, by: By<'_>, who: &str, to: &str) -> Result<Entity, Error> {
        let label = name::label(to)?;
        self.write(|tx| {
            let entity = rows::find(tx, who)?;
            let new = match &entity.owner_name {
                Some(user) if entity.kind == Kind::Device => format!("{label}.{user}"),
                Some(_) | None => label,
            };
            if new == entity.name {
                return Ok(entity);
            }
            free(tx, &new)?;
            set_name(tx, by, entity.id, &new)?;
            if entity.kind == Kind::User {
                for device in
                    rows::entities(tx, "kind = 'device' AND owner = ?1 AND removed IS NULL", [entity.id.0])?
                {
                    let own = device.name.split('.').next().unwrap_or_default();
                    set_name(tx, by, device.id, &format!("{own}.{new}"))?;
                }
            }
            log::audit(tx, by, &format!("{} rename", entity.kind), &entity.name, &new)?;
            rows::by_id(tx, entity.id)
        })
    }

    /// Moves a service to another node. It keeps its address; its key ends, because the old node knows it.
    pub fn service_move(&mut self, by: By<'_>, service: &str, node: &str) -> Result<Entity, Error> {
        self.write(|tx| {
            let service = of_kind(rows::find(tx, service)?, &[Kind::Service], "service")?;
            let node = of_kind(rows::find(tx, node)?, &[Kind::Node], "node")?;
            if service.node == Some(node.id) {
                return Ok(service);
            }
            tx.execute("UPDATE entity SET node = ?2 WHERE id = ?1", params![service.id.0, node.id.0])?;
            set_key(tx, by, &service, None)?;
            unbind(tx, &service)?;
            log::audit(tx, by, "service move", &service.name, &node.name)?;
            rows::by_id(tx, service.id)
        })
    }

    /// Removes an entity for ever, with all devices of a user. Returns whoever is gone.
    pub fn remove(&mut self, by: By<'_>, who: &str) -> Result<Vec<Entity>, Error> {
        self.write(|tx| {
            let entity = rows::find(tx, who)?;
            if entity.kind == Kind::Node {
                let here = rows::entities(tx, "node = ?1 AND removed IS NULL", [entity.id.0])?;
                if !here.is_empty() {
                    let mut services: Vec<_> =
                        here.iter().take(3).map(|service| service.name.clone()).collect();
                    services.extend((here.len() > 3).then(|| format!("{} more", here.len() - 3)));
                    return Err(Error::NodeInUse { node: entity.name, services: services.join(", ") });
                }
            }
            let mut gone =
                rows::entities(tx, "kind = 'device' AND owner = ?1 AND removed IS NULL", [entity.id.0])?;
            gone.push(entity);
            for one in &gone {
                bury(tx, by, one, "removed")?;
            }
            Ok(gone)
        })
    }

    /// Removes a device whose key must not be trusted any more.
    pub fn device_revoke(&mut self, by: By<'_>, device: &str) -> Result<Entity, Error> {
        self.write(|tx| {
            let device = of_kind(rows::find(tx, device)?, &[Kind::Device], "device")?;
            bury(tx, by, &device, "revoked")?;
            Ok(device)
        })
    }

    /// Gives a user's floating address to one of her devices; returns the user. Whoever held it has it no more.
    pub fn take(&mut self, by: By<'_>, device: &str) -> Result<Entity, Error> {
        self.write(|tx| {
            let device = of_kind(rows::find(tx, device)?, &[Kind::Device], "device")?;
            let user = rows::by_id(tx, device.owner.ok_or(Error::NoHome)?)?;
            if user.holder == Some(device.id) {
                return Ok(user);
            }
            hold(tx, by, &user, &device)?;
            rows::by_id(tx, user.id)
        })
    }

    /// What the home put on an entity: the services that run on a node, the floating address that a device holds; by
    /// address.
    pub fn hosted(&self, on: Ipv6Addr) -> Result<Vec<Entity>, Error> {
        let Some(host) = self.by_address(on)? else { return Ok(Vec::new()) };
        let condition =
            "removed IS NULL AND ((kind = 'service' AND node = ?1) OR (kind = 'user' AND holder = ?1))";
        let mut hosted = rows::entities(&self.db, condition, [host.id.0])?;
        hosted.sort_by_key(|entity| entity.address);
        Ok(hosted)
    }

    /// The address of the node or device that an entity is on.
    pub fn host_of(&self, entity: &Entity) -> Result<Option<Ipv6Addr>, Error> {
        let host = entity.node.or(entity.holder);
        Ok(host.map(|host| self.by_id(host)).transpose()?.map(|host| host.address))
    }

    /// What an authenticated entity may bind (RFC 3963 §5.4.1, status 142 otherwise): its own address or /64, the
    /// services that moved to it, the floating address that it holds.
    pub fn bindable(&self, address: Ipv6Addr) -> Result<Vec<Ipv6Net>, Error> {
        let Some(entity) = self.by_address(address)? else { return Ok(Vec::new()) };
        let mut prefixes = match entity.kind {
            // Held by devices and never by itself.
            Kind::User | Kind::Home => Vec::new(),
            Kind::Device | Kind::Service | Kind::Node => vec![entity.prefix()],
        };
        let more = rows::entities(
            &self.db,
            "removed IS NULL AND ((kind = 'service' AND node = ?1 AND owner <> ?1) OR (kind = 'user' AND holder = ?1))",
            [entity.id.0],
        )?;
        prefixes.extend(more.iter().map(Entity::prefix));
        Ok(prefixes)
    }
}

/// Gives the floating address; the key that proved it ends, because the old holder knows it.
pub(super) fn hold(tx: &Connection, by: By<'_>, user: &Entity, device: &Entity) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO floating (user, device, since) VALUES (?1, ?2, ?3)
         ON CONFLICT (user) DO UPDATE SET device = excluded.device, since = excluded.since",
        params![user.id.0, device.id.0, by.now],
    )?;
    set_key(tx, by, user, None)?;
    unbind(tx, user)?;
    log::audit(tx, by, "take", &user.name, &device.name)
}
