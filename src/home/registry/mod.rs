//! The registry of a home: one SQLite file, and the only place that knows it is one.
//!
//! Every verb that changes something is one transaction and returns when it is on the disk (WAL, `synchronous=FULL`);
//! with it goes a line of the audit log. Rows that gave out an address, a name or a key are never deleted, which
//! triggers in the file hold against everybody who writes into it through SQL.
//!
//! The calls block on the disk for a few milliseconds; [`Registry`] can be moved to a thread of its own.

mod backup;
mod bindings;
mod enrol;
mod entities;
mod invitations;
mod log;
mod pending;
mod redirects;
mod rows;
mod schema;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use ipnet::Ipv6Net;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

pub use backup::{BackupSummary, check_backup};
pub use entities::{Interface, KeyEntry, NameEntry};
pub use invitations::{Invitation, InvitationState, RETRY_WINDOW};
pub use log::{AuditEntry, ChainFault, IssuedEntry, chain_start, verify_chain};
pub use pending::{Pending, PendingAnswer, PendingState, Request};
pub use redirects::{Redirect, Sign};

use super::entity::{By, Home};
use super::error::Error;
use super::name;
use crate::addr::plan::agent_of;
use crate::crypto::secret::Secret;

/// Octets of a kept secret.
pub const SECRET_LEN: usize = 32;

/// The registry of one home.
pub struct Registry {
    db: Connection,
    path: PathBuf,
}

impl Registry {
    /// Opens a file; one that is not there is made, an older one is brought up to date.
    ///
    /// # Errors
    /// It cannot be opened, is something else, or is from a newer version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { db: schema::open(path)?, path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the home. Its prefix and domain never change: its root certificate names both.
    pub fn init(&mut self, by: By<'_>, prefix: Ipv6Net, domain: Option<&str>) -> Result<Home, Error> {
        if prefix.prefix_len() != 48 || prefix.trunc() != prefix {
            return Err(Error::Prefix(prefix));
        }
        let home = Home {
            prefix,
            domain: domain.map(name::domain).transpose()?,
            infrastructure: agent_of(prefix),
            created: by.now,
        };
        self.write(|tx| {
            match rows::home(tx) {
                Err(Error::NoHome) => {}
                Ok(there) => return Err(Error::HomeExists(there.prefix)),
                Err(error) => return Err(error),
            }
            tx.execute(
                "INSERT INTO home (id, prefix, domain, infrastructure, created) VALUES (1, ?1, ?2, ?3, ?4)",
                params![prefix.network().octets(), home.domain, home.infrastructure.octets(), by.now],
            )?;
            log::audit(tx, by, "home init", &prefix.to_string(), home.domain.as_deref().unwrap_or_default())
        })?;
        Ok(home)
    }

    /// The home itself.
    pub fn home(&self) -> Result<Home, Error> {
        rows::home(&self.db)
    }

    /// A secret that survives restarts, such as the key of quick crash detection tokens (RFC 6290): the kept one, or
    /// `fresh` from now on.
    pub fn secret(&mut self, name: &str, fresh: &[u8; SECRET_LEN]) -> Result<Secret, Error> {
        self.write(|tx| {
            let kept = tx.query_row("SELECT value FROM secret WHERE name = ?1", [name], |row| row.get(0));
            if let Some(kept) = kept.optional()? {
                return Ok(Secret::new(kept));
            }
            tx.execute("INSERT INTO secret (name, value) VALUES (?1, ?2)", params![name, fresh])?;
            Ok(Secret::from(&fresh[..]))
        })
    }

    /// One transaction: all of it or nothing.
    fn write<T>(&mut self, change: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&tx)?;
        tx.commit()?;
        Ok(value)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("path", &self.path).finish_non_exhaustive()
    }
}
