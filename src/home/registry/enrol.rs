//! Giving somebody a key: the part that joining by code, by approval, and renewal have in common.

use std::net::Ipv6Addr;

use rusqlite::{Connection, params};

use super::entities::{Place, add, free, hold, of_kind, set_key};
use super::{Registry, log, rows};
use crate::crypto::identity::PublicKey;
use crate::home::entity::{By, Entity, EntityId, Grant, Issue, Issued, Joined, Kind};
use crate::home::error::Error;
use crate::home::name;

/// Devices of one user that may be called the same before the number behind the name is refused.
const SAME_NAMES: u32 = 1000;

/// A key that was revoked proves nothing any more, and nobody proves himself with somebody else's.
fn usable(tx: &Connection, key: &PublicKey, theirs: &[EntityId]) -> Result<(), Error> {
    let mut query = tx.prepare("SELECT entity, reason FROM key WHERE key = ?1")?;
    let mut rows = query.query([key.as_bytes()])?;
    while let Some(row) = rows.next()? {
        let good = match row.get::<_, Option<String>>(1)?.as_deref() {
            None => theirs.contains(&rows::entity_id(row, 0)?),
            Some("replaced") => true,
            Some(_) => false,
        };
        if !good {
            return Err(Error::KeyRefused);
        }
    }
    Ok(())
}

/// Issues the certificate and notes it.
fn certificate(
    tx: &Connection,
    by: By<'_>,
    entity: Entity,
    key: &PublicKey,
    issue: Issue<'_>,
) -> Result<Joined, Error> {
    let full_name = rows::home(tx)?.full_name(&entity.name);
    let grant = Grant {
        address: entity.address,
        name: entity.name.clone(),
        full_name: full_name.clone(),
        kind: entity.kind,
        key: *key,
    };
    let issued = issue(&grant).map_err(Error::Issue)?;
    log::note_issued(tx, by.now, &grant, &issued)?;
    Ok(Joined { entity, full_name, certificate: issued.certificate, again: false })
}

/// A key joins: as a new device of a user, or as the node or service itself. A device that joins its user again with
/// the key that it has stays the same device.
pub(super) fn enrol(
    tx: &Connection,
    by: By<'_>,
    target: &Entity,
    label: Option<&str>,
    key: &PublicKey,
    issue: Issue<'_>,
) -> Result<Joined, Error> {
    let entity = match target.kind {
        Kind::User => {
            let there = rows::entities(
                tx,
                "kind = 'device' AND owner = ?1 AND removed IS NULL AND key = ?2",
                params![target.id.0, key.as_bytes()],
            )?;
            match there.into_iter().next() {
                Some(device) => device,
                None => {
                    usable(tx, key, &[])?;
                    let name = device_name(tx, target, label)?;
                    let device = add(tx, by, Kind::Device, &name, Place::User(target))?;
                    set_key(tx, by, &device, Some(key))?;
                    if target.holder.is_none() {
                        hold(tx, by, target, &device)?;
                    }
                    device
                }
            }
        }
        Kind::Device | Kind::Node | Kind::Service | Kind::Home => {
            usable(tx, key, &[target.id])?;
            if target.key.as_ref() != Some(key) {
                set_key(tx, by, target, Some(key))?;
            }
            target.clone()
        }
    };
    log::audit(tx, by, "join", &entity.name, &key.fingerprint())?;
    let entity = rows::by_id(tx, entity.id)?;
    certificate(tx, by, entity, key, issue)
}

/// `laptop.alice`, or `laptop-2.alice` if she has one already.
fn device_name(tx: &Connection, user: &Entity, label: Option<&str>) -> Result<String, Error> {
    let label = label.and_then(name::suggestion).unwrap_or_else(|| "device".to_owned());
    for number in 1..=SAME_NAMES {
        let own = if number == 1 {
            label.clone()
        } else {
            format!("{}-{number}", label.get(..58).unwrap_or(&label))
        };
        let whole = format!("{own}.{}", user.name);
        match free(tx, &whole) {
            Ok(()) => return Ok(whole),
            Err(Error::NameTaken { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::NameTaken { name: format!("{label}.{}", user.name), kind: Kind::Device })
}

impl Registry {
    /// Sets the key of a node or service that somebody at the home vouches for, without a join: this machine's own
    /// node, or other IPsec software.
    pub fn key_set(&mut self, by: By<'_>, who: &str, key: &PublicKey) -> Result<Entity, Error> {
        self.write(|tx| {
            let kinds = [Kind::Device, Kind::Node, Kind::Service];
            let entity = of_kind(rows::find(tx, who)?, &kinds, "device, node or service")?;
            usable(tx, key, &[entity.id])?;
            if entity.key.as_ref() != Some(key) {
                set_key(tx, by, &entity, Some(key))?;
                log::audit(tx, by, "key", &entity.name, &key.fingerprint())?;
            }
            rows::by_id(tx, entity.id)
        })
    }

    /// The certificate of the home agent itself, for [`Home::infrastructure`](crate::home::entity::Home).
    pub fn certify_home(&mut self, by: By<'_>, key: &PublicKey, issue: Issue<'_>) -> Result<Issued, Error> {
        self.write(|tx| {
            let home = rows::home(tx)?;
            let name = home.domain.as_deref().unwrap_or("home").to_owned();
            let grant = Grant {
                address: home.infrastructure,
                name,
                full_name: home.domain,
                kind: Kind::Home,
                key: *key,
            };
            let issued = issue(&grant).map_err(Error::Issue)?;
            log::note_issued(tx, by.now, &grant, &issued)?;
            Ok(issued)
        })
    }

    /// A certificate for `subject`, asked for by `caller` over an SA that its present key proved: for itself (with the
    /// same key or a new one), for a service on it, or for the floating address that it holds.
    pub fn certify(
        &mut self,
        by: By<'_>,
        caller: Ipv6Addr,
        subject: Ipv6Addr,
        key: &PublicKey,
        issue: Issue<'_>,
    ) -> Result<Joined, Error> {
        self.write(|tx| {
            let refused = Error::NotAuthorised { caller, subject };
            let (Some(from), Some(entity)) = (rows::by_address(tx, caller)?, rows::by_address(tx, subject)?)
            else {
                return Err(refused);
            };
            if ![Some(entity.id), entity.node, entity.holder].contains(&Some(from.id)) {
                return Err(refused);
            }
            usable(tx, key, &family(tx, &from)?)?;
            if entity.key.as_ref() != Some(key) {
                set_key(tx, by, &entity, Some(key))?;
                log::audit(tx, by, "key", &entity.name, &key.fingerprint())?;
            }
            let entity = rows::by_id(tx, entity.id)?;
            certificate(tx, by, entity, key, issue)
        })
    }
}

/// Those for whom an entity may use the same key: itself, its services, the floating address that it holds.
fn family(tx: &Connection, of: &Entity) -> Result<Vec<EntityId>, Error> {
    let more = rows::entities(tx, "(node = ?1 AND removed IS NULL) OR holder = ?1", [of.id.0])?;
    let user = of.owner.filter(|_| of.kind == Kind::Device);
    Ok(more.iter().map(|entity| entity.id).chain([of.id]).chain(user).collect())
}
