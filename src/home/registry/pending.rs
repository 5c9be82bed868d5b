//! Requests to join without a code: they wait until somebody at the home compares fingerprints and decides.

use std::net::Ipv4Addr;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::enrol::enrol;
use super::entities::of_kind;
use super::{Registry, log, rows};
use crate::crypto::identity::PublicKey;
use crate::home::entity::{By, EntityId, Issue, Joined, Kind};
use crate::home::error::Error;
use crate::home::name;

/// Requests that may wait at once.
const WAITING_MAX: u64 = 64;
/// Of these, from one IPv4 address.
const WAITING_PER_SOURCE: u64 = 4;
/// New ones within a minute.
const PER_MINUTE: u64 = 20;
/// Seconds that a request waits.
const PATIENCE: u64 = 86_400;
/// Seconds that an answer stays to be fetched.
const ANSWER_KEPT: u64 = 86_400;

/// What a machine asks for. Nothing of it is authenticated except that it has the private key.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The key that it made.
    pub key: &'a PublicKey,
    /// As whom: a user, node or service.
    pub wanted: &'a str,
    /// What it calls itself.
    pub label: Option<&'a str>,
    /// Where it asks from.
    pub source: Ipv4Addr,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingState {
    /// Nobody has decided.
    Waiting,
    /// It was let in.
    Accepted,
    /// It was not.
    Refused,
}

impl PendingState {
    /// As the registry and the documents write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

/// A request as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its number.
    pub id: u64,
    /// Its key; the fingerprint is what both screens show.
    pub key: PublicKey,
    /// As whom it wants to join, as it said.
    pub wanted: String,
    /// What the machine calls itself.
    pub label: Option<String>,
    /// Where it asked from.
    pub source: Ipv4Addr,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub expires: u64,
    /// What became of it.
    pub state: PendingState,
}

/// What a machine that asks is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingAnswer {
    /// Ask again later.
    Waiting,
    /// Here it is.
    Accepted(Box<Joined>),
    /// Do not ask again.
    Refused,
}

fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<PendingState> {
    match row.get::<_, String>(column)?.as_str() {
        "waiting" => Ok(PendingState::Waiting),
        "accepted" => Ok(PendingState::Accepted),
        "refused" => Ok(PendingState::Refused),
        _ => Err(rows::strange(column)),
    }
}

fn pending(row: &Row<'_>) -> rusqlite::Result<Pending> {
    Ok(Pending {
        id: row.get(0)?,
        key: rows::key(row, 1)?.ok_or_else(|| rows::strange(1))?,
        wanted: row.get(2)?,
        label: row.get(3)?,
        source: Ipv4Addr::from(row.get::<_, [u8; 4]>(4)?),
        created: row.get(5)?,
        expires: row.get(6)?,
        state: state(row, 7)?,
    })
}

const COLUMNS: &str = "SELECT id, key, wanted, label, source, created, expires, state FROM pending";

/// Removes what has run out.
pub(super) fn sweep(tx: &Connection, now: u64) -> Result<usize, Error> {
    Ok(tx.execute("DELETE FROM pending WHERE expires <= ?1", [now])?)
}

/// The waiting request with this number or fingerprint.
fn waiting(tx: &Connection, now: u64, which: &str) -> Result<Pending, Error> {
    let mut query = tx.prepare(&format!("{COLUMNS} WHERE state = 'waiting' AND expires > ?1"))?;
    for row in query.query_map([now], pending)? {
        let row = row?;
        if row.id.to_string() == which || row.key.fingerprint().eq_ignore_ascii_case(which) {
            return Ok(row);
        }
    }
    Err(Error::NotPending(which.chars().filter(|c| !c.is_control()).take(64).collect()))
}

impl Registry {
    /// Leaves a request, or asks what became of it: a key has one. Bounded in number and rate, so that strangers can
    /// neither fill the disk nor bury an honest request.
    pub fn request(&mut self, now: u64, request: Request<'_>) -> Result<PendingAnswer, Error> {
        // A whole name is one label or, for a device that asks for itself, two: only labels are let in.
        let wanted = name::label(request.wanted)?;
        let label = request.label.and_then(name::suggestion);
        self.write(|tx| {
            sweep(tx, now)?;
            let known = tx
                .query_row(
                    "SELECT state, joined, answer FROM pending WHERE key = ?1",
                    [request.key.as_bytes()],
                    |row| {
                        Ok((state(row, 0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
                    },
                )
                .optional()?;
            match known {
                Some((PendingState::Waiting, ..)) => return Ok(PendingAnswer::Waiting),
                Some((PendingState::Accepted, Some(joined), Some(certificate))) => {
                    let entity = rows::by_id(tx, EntityId(joined))?;
                    let full_name = rows::home(tx)?.full_name(&entity.name);
                    let joined = Joined { entity, full_name, certificate, again: true };
                    return Ok(PendingAnswer::Accepted(Box::new(joined)));
                }
                Some((PendingState::Accepted | PendingState::Refused, ..)) => {
                    return Ok(PendingAnswer::Refused);
                }
                None => {}
            }
            let source = request.source.octets();
            let count = |condition: &str, value: &dyn rusqlite::ToSql| {
                tx.query_row(&format!("SELECT count(*) FROM pending WHERE {condition}"), [value], |row| {
                    row.get::<_, u64>(0)
                })
            };
            if count("state = 'waiting' AND ?1", &true)? >= WAITING_MAX
                || count("state = 'waiting' AND source = ?1", &source)? >= WAITING_PER_SOURCE
                || count("created > ?1", &now.saturating_sub(60))? >= PER_MINUTE
            {
                return Err(Error::Busy);
            }
            rows::home(tx)?;
            tx.execute(
                "INSERT INTO pending (key, wanted, label, source, created, expires, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting')",
                params![request.key.as_bytes(), wanted, label, source, now, now.saturating_add(PATIENCE)],
            )?;
            Ok(PendingAnswer::Waiting)
        })
    }

    /// The requests that wait, the oldest first.
    pub fn pending(&self, now: u64) -> Result<Vec<Pending>, Error> {
        let mut query =
            self.db.prepare(&format!("{COLUMNS} WHERE state = 'waiting' AND expires > ?1 ORDER BY id"))?;
        let rows = query.query_map([now], pending)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Lets a request in, by number or fingerprint; `whom` instead of whom it asked for. The machine fetches its
    /// certificate when it asks again.
    pub fn pending_accept(
        &mut self,
        by: By<'_>,
        which: &str,
        whom: Option<&str>,
        issue: Issue<'_>,
    ) -> Result<Joined, Error> {
        self.write(|tx| {
            let pending = waiting(tx, by.now, which)?;
            let kinds = [Kind::User, Kind::Node, Kind::Service];
            let target = rows::find(tx, whom.unwrap_or(&pending.wanted))?;
            let target = of_kind(target, &kinds, "user, node or service")?;
            let joined = enrol(tx, by, &target, pending.label.as_deref(), &pending.key, issue)?;
            decide(tx, by, &pending, PendingState::Accepted, Some(&joined))?;
            Ok(joined)
        })
    }

    /// Refuses a request, by number or fingerprint.
    pub fn pending_refuse(&mut self, by: By<'_>, which: &str) -> Result<Pending, Error> {
        self.write(|tx| {
            let pending = waiting(tx, by.now, which)?;
            decide(tx, by, &pending, PendingState::Refused, None)?;
            Ok(pending)
        })
    }
}

fn decide(
    tx: &Connection,
    by: By<'_>,
    pending: &Pending,
    state: PendingState,
    joined: Option<&Joined>,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE pending SET state = ?2, expires = ?3, joined = ?4, answer = ?5 WHERE id = ?1",
        params![
            pending.id,
            state.name(),
            by.now.saturating_add(ANSWER_KEPT),
            joined.map(|joined| joined.entity.id.0),
            joined.map(|joined| &joined.certificate)
        ],
    )?;
    log::audit(tx, by, &format!("pending {}", state.name()), &pending.wanted, &pending.key.fingerprint())
}
