//! Copies of the registry while it is in use, and back.
//!
//! A backup is older than what it replaces. So a restore keeps counters and both logs of the registry in use, if that
//! went on from the backup, and otherwise skips numbers that may have been given out since; it withdraws the codes that
//! were open then (they may have been used since), and drops the bindings, which nodes renew by themselves.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::log::{AuditEntry, IssuedEntry};
use super::{Registry, log, rows, schema};
use crate::home::entity::By;
use crate::home::error::Error;

/// How many numbers a restore skips: more than are given out between two backups. Subnets of nodes are few (65,280).
const SKIPPED: [(&str, u64); 4] =
    [("user", 1 << 16), ("device", 1 << 12), ("service", 1 << 16), ("node", 256)];
/// What else may hold the lock while a backup is copied: as long as `busy_timeout`.
const TRIES: u32 = 50;

/// What is in a backup that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// Prefix of its home.
    pub prefix: ipnet::Ipv6Net,
    /// Active entities.
    pub entities: u64,
    /// Certificates in its log.
    pub issued: u64,
    /// The last change that it knows, seconds since 1970.
    pub last_change: u64,
}

fn copy(from: &Connection, to: &mut Connection) -> Result<(), Error> {
    let backup = Backup::new(from, to)?;
    for _ in 0..TRIES {
        // All pages in one step: one transaction on the other side.
        if backup.step(-1)? == StepResult::Done {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err(Error::Invalid("the registry is in use by another program: try again".to_owned()))
}

/// Where a file is written before it gets its name.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn read_only(path: &Path) -> Result<Connection, Error> {
    let io = |error| Error::Io { path: path.to_owned(), what: "opening the backup", error };
    File::open(path).map_err(io)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    Ok(db)
}

/// Loads a backup into memory, brings it to the newest version there and checks everything.
fn load(path: &Path) -> Result<(Connection, BackupSummary), Error> {
    let load = || {
        let from = read_only(path)?;
        if schema::version(&from, path)? == 0 {
            return Err(Error::Foreign { path: path.to_owned(), why: "it is empty".to_owned() });
        }
        let mut db = Connection::open_in_memory()?;
        copy(&from, &mut db)?;
        schema::prepare(&mut db, path)?;
        schema::check(&db, path)?;
        let summary = summary(&db, path)?;
        Ok((db, summary))
    };
    load().map_err(|error| schema::in_words(error, path))
}

fn summary(db: &Connection, path: &Path) -> Result<BackupSummary, Error> {
    let number = |query: &str| db.query_row(query, [], |row| row.get(0));
    let issued =
        log::verify(db)?.map_err(|fault| Error::Damaged { path: path.to_owned(), why: fault.to_string() })?;
    Ok(BackupSummary {
        prefix: rows::home(db)?.prefix,
        entities: number("SELECT count(*) FROM entity WHERE removed IS NULL")?,
        issued,
        last_change: number("SELECT ifnull(max(at), 0) FROM audit")?,
    })
}

/// Checks a backup without touching anything: pages, references, tables, the chain of certificates.
pub fn check_backup(path: &Path) -> Result<BackupSummary, Error> {
    Ok(load(path)?.1)
}

impl Registry {
    /// Writes a copy to a file that is not there yet, whole or not at all, and reads it again to check it.
    pub fn backup(&mut self, by: By<'_>, path: &Path) -> Result<BackupSummary, Error> {
        let io = |what| move |error| Error::Io { path: path.to_owned(), what, error };
        if path.try_exists().map_err(io("looking for the file"))? {
            return Err(Error::Exists(path.to_owned()));
        }
        self.write(|tx| log::audit(tx, by, "backup", &path.display().to_string(), ""))?;
        let new = beside(path);
        let written = (|| {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
            file.map_err(io("writing the backup"))?;
            let mut to = Connection::open(&new)?;
            copy(&self.db, &mut to)?;
            // One file is easier to carry than three.
            to.pragma_update(None, "journal_mode", "DELETE")?;
            drop(to);
            File::open(&new).and_then(|file| file.sync_all()).map_err(io("writing the backup"))?;
            let summary = check_backup(&new)?;
            // Unlike a rename this never replaces a file that came in between.
            std::fs::hard_link(&new, path).map_err(io("naming the backup"))?;
            let dir =
                path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("naming the backup"))?;
            Ok(summary)
        })();
        let _ = std::fs::remove_file(&new);
        written
    }

    /// Replaces everything with a backup of the same home, in one transaction. What was changed since then is undone,
    /// revocations included.
    pub fn restore(&mut self, by: By<'_>, path: &Path) -> Result<BackupSummary, Error> {
        let (mut backup, summary) = load(path)?;
        match rows::home(&self.db) {
            Ok(home) if home.prefix != summary.prefix => return Err(Error::HomeExists(home.prefix)),
            Ok(_) | Err(Error::NoHome) => {}
            Err(error) => return Err(error),
        }
        let later = Later::after(&self.db, &backup)?;
        let tx = backup.transaction_with_behavior(TransactionBehavior::Immediate)?;
        later.put(&tx)?;
        for (kind, skipped) in SKIPPED.into_iter().filter(|_| !later.complete) {
            tx.execute("UPDATE counter SET next = next + ?2 WHERE kind = ?1", params![kind, skipped])?;
        }
        tx.execute("UPDATE invitation SET state = 'withdrawn', psk = NULL WHERE state = 'open'", [])?;
        tx.execute("UPDATE invitation SET psk = NULL, answer = NULL", [])?;
        tx.execute("DELETE FROM pending", [])?;
        tx.execute("DELETE FROM binding", [])?;
        log::audit(
            &tx,
            by,
            "restore",
            &path.display().to_string(),
            &format!("state of {}", summary.last_change),
        )?;
        tx.commit()?;
        copy(&backup, &mut self.db)?;
        Ok(summary)
    }
}

/// What the registry in use knows and the backup does not: what has to outlive a restore.
struct Later {
    /// The registry in use went on from the backup, so that its counters say all that was given out.
    complete: bool,
    counters: Vec<(String, i64, u64)>,
    audit: Vec<AuditEntry>,
    issued: Vec<IssuedEntry>,
}

impl Later {
    fn after(live: &Connection, backup: &Connection) -> Result<Self, Error> {
        let mut query = live.prepare("SELECT kind, parent, next FROM counter")?;
        let counters = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let counters = counters.collect::<Result<_, _>>()?;
        let end = |db: &Connection, table: &str, id: &str| {
            db.query_row(&format!("SELECT ifnull(max({id}), 0) FROM {table}"), [], |row| row.get::<_, u64>(0))
        };
        // A log goes on from another one if it has the other one's last line.
        let last = end(backup, "audit", "id")?;
        let same = |db| log::audit_after(db, last.saturating_sub(1)).map(|lines| lines.into_iter().next());
        let complete = last > 0 && same(live)? == same(backup)?;
        let audit = if complete { log::audit_after(live, last)? } else { Vec::new() };
        let last = end(backup, "issued", "sequence")?;
        let same = |db| log::issued_from(db, last, 1);
        let goes_on = if last == 0 { rows::home(live).is_ok() } else { same(live)? == same(backup)? };
        let issued =
            if goes_on { log::issued_from(live, last + 1, u64::from(u32::MAX))? } else { Vec::new() };
        Ok(Self { complete, counters, audit, issued })
    }

    fn put(&self, tx: &Connection) -> Result<(), Error> {
        for (kind, parent, next) in &self.counters {
            tx.execute(
                "INSERT INTO counter (kind, parent, next) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET next = max(next, excluded.next)",
                params![kind, parent, next],
            )?;
        }
        for line in &self.audit {
            tx.execute(
                "INSERT INTO audit (id, at, who, verb, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![line.id, line.at, line.who, line.verb, line.subject, line.detail],
            )?;
        }
        self.issued.iter().try_for_each(|entry| log::put_entry(tx, entry))
    }
}
