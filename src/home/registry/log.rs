//! Two logs that only grow: who did what, and which certificates were issued.
//!
//! The second is chained and public, so that a home that certified a key behind its users' backs can be caught:
//!
//! ```text
//! hash(0) = SHA-256("domicile issued log" | prefix, 16 octets)
//! hash(n) = SHA-256(hash(n-1) | n:8 | at:8 | address:16 | len:4 name | len:4 kind | key:32 | len:4 serial
//!                   | not before:8 | not after:8 | SHA-256(certificate):32)                    (network byte order)
//! ```

use std::net::Ipv6Addr;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use sha2::{Digest, Sha256};

use super::{Registry, rows};
use crate::crypto::identity::PublicKey;
use crate::home::entity::{By, Grant, Issued, Kind};
use crate::home::error::Error;

/// Characters of a field of the audit log.
const FIELD_MAX: usize = 300;
/// Rows of one answer.
const PAGE: u64 = 1000;

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Grows by one.
    pub id: u64,
    /// Seconds since 1970.
    pub at: u64,
    /// Who did it.
    pub who: String,
    /// What.
    pub verb: String,
    /// To whom.
    pub subject: String,
    /// With what.
    pub detail: String,
}

/// A certificate in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedEntry {
    /// From 1, without gaps.
    pub sequence: u64,
    /// Seconds since 1970.
    pub at: u64,
    /// For which address.
    pub address: Ipv6Addr,
    /// Whole name; the short one in a home without a domain.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Certified key.
    pub key: PublicKey,
    /// Serial number in hexadecimal digits.
    pub serial: String,
    /// Seconds since 1970.
    pub not_before: u64,
    /// Seconds since 1970.
    pub not_after: u64,
    /// SHA-256 of the certificate's DER.
    pub certificate: [u8; 32],
    /// Hash of the entry before.
    pub prev: [u8; 32],
    /// Hash of this one.
    pub hash: [u8; 32],
}

/// Where the chain is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log of issued certificates was changed at entry {0}: do not trust this home's registry before you know why"
)]
pub struct ChainFault(pub u64);

/// What the first entry of a home's chain continues.
pub fn chain_start(prefix: Ipv6Addr) -> [u8; 32] {
    Sha256::new().chain_update(b"domicile issued log").chain_update(prefix.octets()).finalize().into()
}

impl IssuedEntry {
    /// The hash that this entry should have.
    pub fn expected_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let sized = |hash: &mut Sha256, octets: &[u8]| {
            hash.update(u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(octets);
        };
        hash.update(self.prev);
        hash.update(self.sequence.to_be_bytes());
        hash.update(self.at.to_be_bytes());
        hash.update(self.address.octets());
        sized(&mut hash, self.name.as_bytes());
        sized(&mut hash, self.kind.as_str().as_bytes());
        hash.update(self.key.as_bytes());
        sized(&mut hash, self.serial.as_bytes());
        hash.update(self.not_before.to_be_bytes());
        hash.update(self.not_after.to_be_bytes());
        hash.update(self.certificate);
        hash.finalize().into()
    }
}

/// Checks entries that continue `prev`, the first of which has the number `first`; returns the last hash.
pub fn verify_chain<'a>(
    prev: [u8; 32],
    first: u64,
    entries: impl IntoIterator<Item = &'a IssuedEntry>,
) -> Result<[u8; 32], ChainFault> {
    let (mut hash, mut sequence) = (prev, first);
    for entry in entries {
        if entry.sequence != sequence || entry.prev != hash || entry.expected_hash() != entry.hash {
            return Err(ChainFault(sequence));
        }
        (hash, sequence) = (entry.hash, sequence + 1);
    }
    Ok(hash)
}

/// A line for the audit log, within the transaction that it tells of.
pub(super) fn audit(
    tx: &Connection,
    by: By<'_>,
    verb: &str,
    subject: &str,
    detail: &str,
) -> Result<(), Error> {
    let cut = |text: &str| text.chars().filter(|c| !c.is_control()).take(FIELD_MAX).collect::<String>();
    tx.execute(
        "INSERT INTO audit (at, who, verb, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![by.now, cut(by.who), verb, cut(subject), cut(detail)],
    )?;
    Ok(())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<IssuedEntry> {
    Ok(IssuedEntry {
        sequence: row.get(0)?,
        at: row.get(1)?,
        address: rows::address(row, 2)?,
        name: row.get(3)?,
        kind: rows::kind(row, 4)?,
        key: rows::key(row, 5)?.ok_or_else(|| rows::strange(5))?,
        serial: row.get(6)?,
        not_before: row.get(7)?,
        not_after: row.get(8)?,
        certificate: row.get(9)?,
        prev: row.get(10)?,
        hash: row.get(11)?,
    })
}

pub(super) fn put_entry(tx: &Connection, entry: &IssuedEntry) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO issued (sequence, at, address, name, kind, key, serial, not_before, not_after, certificate, prev,
         hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            entry.sequence,
            entry.at,
            entry.address.octets(),
            entry.name,
            entry.kind.as_str(),
            entry.key.as_bytes(),
            entry.serial,
            entry.not_before,
            entry.not_after,
            entry.certificate,
            entry.prev,
            entry.hash
        ],
    )?;
    Ok(())
}

/// Notes a certificate, within the transaction that issues it.
pub(super) fn note_issued(tx: &Connection, now: u64, grant: &Grant, issued: &Issued) -> Result<(), Error> {
    let last = tx
        .query_row("SELECT sequence, hash FROM issued ORDER BY sequence DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, u64>(0)?, row.get(1)?))
        })
        .optional()?;
    let (last, prev) = match last {
        Some(last) => last,
        None => (0, chain_start(rows::home(tx)?.prefix.network())),
    };
    let mut entry = IssuedEntry {
        sequence: last + 1,
        at: now,
        address: grant.address,
        name: grant.full_name.clone().unwrap_or_else(|| grant.name.clone()),
        kind: grant.kind,
        key: grant.key,
        serial: issued.serial.clone(),
        not_before: issued.not_before,
        not_after: issued.not_after,
        certificate: Sha256::digest(&issued.certificate).into(),
        prev,
        hash: [0; 32],
    };
    entry.hash = entry.expected_hash();
    put_entry(tx, &entry)
}

/// Entries of the log from number `from` on.
pub(super) fn issued_from(db: &Connection, from: u64, limit: u64) -> Result<Vec<IssuedEntry>, Error> {
    let mut query = db.prepare("SELECT * FROM issued WHERE sequence >= ?1 ORDER BY sequence LIMIT ?2")?;
    let rows = query.query_map(params![from, limit], entry)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Walks the whole chain; returns how many entries it has.
pub(super) fn verify(db: &Connection) -> Result<Result<u64, ChainFault>, Error> {
    let (mut hash, mut next) = (chain_start(rows::home(db)?.prefix.network()), 1);
    loop {
        let page = issued_from(db, next, PAGE)?;
        if page.is_empty() {
            return Ok(Ok(next - 1));
        }
        match verify_chain(hash, next, &page) {
            Ok(last) => hash = last,
            Err(fault) => return Ok(Err(fault)),
        }
        next += page.len() as u64;
    }
}

pub(super) fn audit_after(db: &Connection, after: u64) -> Result<Vec<AuditEntry>, Error> {
    let mut query = db.prepare("SELECT * FROM audit WHERE id > ?1 ORDER BY id")?;
    let rows = query.query_map([after], audit_entry)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn audit_entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        id: row.get(0)?,
        at: row.get(1)?,
        who: row.get(2)?,
        verb: row.get(3)?,
        subject: row.get(4)?,
        detail: row.get(5)?,
    })
}

impl Registry {
    /// The last entries of the audit log before entry `before` (`None`: the newest), the newest first, at most 1,000.
    pub fn audit(&self, before: Option<u64>, limit: u64) -> Result<Vec<AuditEntry>, Error> {
        let mut query =
            self.db.prepare("SELECT * FROM audit WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2")?;
        let rows = query.query_map(params![before, limit.min(PAGE)], audit_entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A line about something that happened beside the registry, such as a start of the home agent.
    pub fn audit_note(&mut self, by: By<'_>, verb: &str, subject: &str, detail: &str) -> Result<(), Error> {
        self.write(|tx| audit(tx, by, verb, subject, detail))
    }

    /// Entries of the log of certificates from number `from` (1 is the first), at most 1,000.
    pub fn issued(&self, from: u64, limit: u64) -> Result<Vec<IssuedEntry>, Error> {
        issued_from(&self.db, from, limit.min(PAGE))
    }

    /// Certificates of an address that have not ended, for keys that are not its present one: whose, serial number, end.
    pub fn outdated_certificates(
        &self,
        now: u64,
        address: Ipv6Addr,
    ) -> Result<Vec<(Ipv6Addr, String, u64)>, Error> {
        self.certificates(
            "i.address = ?2 AND NOT EXISTS (SELECT 1 FROM entity e JOIN key k ON k.entity = e.id
             WHERE e.address = i.address AND e.removed IS NULL AND k.key = i.key AND k.until IS NULL)",
            params![now, address.octets()],
        )
    }

    /// Certificates that have not ended, of everybody who was removed or revoked or has no key at present.
    pub fn revoked_certificates(&self, now: u64) -> Result<Vec<(Ipv6Addr, String, u64)>, Error> {
        self.certificates(
            "EXISTS (SELECT 1 FROM entity e WHERE e.address = i.address AND (e.removed IS NOT NULL
             OR NOT EXISTS (SELECT 1 FROM key k WHERE k.entity = e.id AND k.until IS NULL)))",
            params![now],
        )
    }

    fn certificates(&self, which: &str, with: &[&dyn ToSql]) -> Result<Vec<(Ipv6Addr, String, u64)>, Error> {
        let query = format!(
            "SELECT i.address, i.serial, i.not_after FROM issued i WHERE i.not_after > ?1 AND {which} ORDER BY i.sequence"
        );
        let mut query = self.db.prepare(&query)?;
        let rows = query.query_map(with, |row| Ok((rows::address(row, 0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Checks the whole chain; returns how many entries it has, or where it is broken.
    pub fn verify_issued(&self) -> Result<Result<u64, ChainFault>, Error> {
        verify(&self.db)
    }
}
