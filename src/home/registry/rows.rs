//! Rows to meaning.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use ipnet::Ipv6Net;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use crate::crypto::identity::PublicKey;
use crate::home::entity::{Binding, Entity, EntityId, Home, Kind};
use crate::home::error::Error;

/// A value that no statement of ours can have written.
pub(super) fn strange(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(FromSqlError::InvalidType))
}

pub(super) fn address(row: &Row<'_>, column: usize) -> rusqlite::Result<Ipv6Addr> {
    Ok(Ipv6Addr::from(row.get::<_, [u8; 16]>(column)?))
}

pub(super) fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<PublicKey>> {
    let octets: Option<[u8; 32]> = row.get(column)?;
    octets.map(|octets| PublicKey::from_bytes(&octets).map_err(|_| strange(column))).transpose()
}

pub(super) fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<Kind> {
    row.get::<_, String>(column)?.parse().map_err(|()| strange(column))
}

pub(super) fn entity_id(row: &Row<'_>, column: usize) -> rusqlite::Result<EntityId> {
    row.get(column).map(EntityId)
}

/// The columns of `entity_now`, in its order.
pub(super) fn entity(row: &Row<'_>) -> rusqlite::Result<Entity> {
    let reference = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(EntityId));
    let removed: Option<u64> = row.get(13)?;
    Ok(Entity {
        id: entity_id(row, 0)?,
        kind: kind(row, 1)?,
        name: row.get(2)?,
        number: row.get(3)?,
        address: address(row, 4)?,
        active: removed.is_none(),
        owner: reference(5)?,
        owner_name: row.get(6)?,
        node: reference(7)?,
        node_name: row.get(8)?,
        key: key(row, 9)?,
        holder: reference(10)?,
        holder_name: row.get(11)?,
        created: row.get(12)?,
        removed,
    })
}

/// Entities by a condition on `entity_now`.
pub(super) fn entities(db: &Connection, condition: &str, params: impl Params) -> Result<Vec<Entity>, Error> {
    let mut query = db.prepare(&format!("SELECT * FROM entity_now WHERE {condition} ORDER BY id"))?;
    let rows = query.query_map(params, entity)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One entity by its row.
pub(super) fn by_id(db: &Connection, id: EntityId) -> Result<Entity, Error> {
    let found = db.query_row("SELECT * FROM entity_now WHERE id = ?1", [id.0], entity).optional()?;
    found.ok_or_else(|| Error::NotFound(format!("entity {}", id.0)))
}

/// An active entity by its permanent address.
pub(super) fn by_address(db: &Connection, address: Ipv6Addr) -> Result<Option<Entity>, Error> {
    let found = db.query_row(
        "SELECT * FROM entity_now WHERE address = ?1 AND removed IS NULL",
        [address.octets()],
        entity,
    );
    Ok(found.optional()?)
}

/// An active entity by name (short or whole) or address.
pub(super) fn find(db: &Connection, text: &str) -> Result<Entity, Error> {
    let missing = || Error::NotFound(text.chars().filter(|c| !c.is_control()).take(253).collect());
    if let Ok(wanted) = text.parse::<Ipv6Addr>() {
        return by_address(db, wanted)?.ok_or_else(missing);
    }
    let mut name = text.trim_end_matches('.').to_ascii_lowercase();
    if let Some(domain) = home(db)?.domain
        && let Some(short) = name.strip_suffix(&domain).and_then(|rest| rest.strip_suffix('.'))
    {
        name.truncate(short.len());
    }
    let id =
        db.query_row("SELECT entity FROM name WHERE name = ?1 AND until IS NULL", [&name], |row| row.get(0));
    by_id(db, EntityId(id.optional()?.ok_or_else(missing)?))
}

pub(super) fn home(db: &Connection) -> Result<Home, Error> {
    let found = db.query_row("SELECT prefix, domain, infrastructure, created FROM home", [], |row| {
        Ok(Home {
            prefix: Ipv6Net::new(address(row, 0)?, 48).map_err(|_| strange(0))?,
            domain: row.get(1)?,
            infrastructure: address(row, 2)?,
            created: row.get(3)?,
        })
    });
    found.optional()?.ok_or(Error::NoHome)
}

/// `prefix, length, address, port, sequence, ends`.
pub(super) fn binding(row: &Row<'_>) -> rusqlite::Result<Binding> {
    let octets: [u8; 4] = row.get(2)?;
    Ok(Binding {
        prefix: Ipv6Net::new(address(row, 0)?, row.get(1)?).map_err(|_| strange(1))?,
        care_of: SocketAddrV4::new(Ipv4Addr::from(octets), row.get(3)?),
        sequence: row.get(4)?,
        ends: row.get(5)?,
    })
}
