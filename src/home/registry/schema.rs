//! Opening the file: settings, and migrations of older ones.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::home::error::Error;

/// Each migration takes the file from its index to the next version (`PRAGMA user_version`).
const MIGRATIONS: &[&str] = &[include_str!("sql/0001_initial.sql")];

/// "domi": tells our files from other programs' (`PRAGMA application_id`).
const APPLICATION_ID: i64 = 0x646f_6d69;

/// The version that this program writes.
pub(super) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Opens a registry and brings it to the newest version; a new file is readable by its owner alone.
pub(super) fn open(path: &Path) -> Result<Connection, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let io = |what| move |error| Error::Io { path: path.to_owned(), what, error };
    // SQLite gives its -wal and -shm files the mode of this one.
    std::fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(io("opening the registry"))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    prepare(&mut db, path).map_err(|error| in_words(error, path))?;
    Ok(db)
}

/// One that lives in memory alone: for tests and for comparing.
pub(super) fn in_memory() -> Result<Connection, Error> {
    let mut db = Connection::open_in_memory()?;
    prepare(&mut db, Path::new(":memory:"))?;
    Ok(db)
}

/// Settings and migrations for a copy in memory.
pub(super) fn prepare(db: &mut Connection, path: &Path) -> Result<(), Error> {
    configure(db)?;
    migrate(db, path)
}

fn configure(db: &Connection) -> Result<(), Error> {
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    // FULL: a commit returns when it is on the disk. Deleted secrets are overwritten.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA recursive_triggers = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
         PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(())
}

fn migrate(db: &mut Connection, path: &Path) -> Result<(), Error> {
    loop {
        // Two programs may open a new file at the same moment: the version is read inside the transaction.
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = version(&tx, path)?;
        let Some(migration) = usize::try_from(version).ok().and_then(|at| MIGRATIONS.get(at)) else {
            return Ok(());
        };
        tx.execute_batch(migration)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", version + 1)?;
        tx.commit()?;
    }
}

/// The version of a file, if it is a registry that we understand.
pub(super) fn version(db: &Connection, path: &Path) -> Result<i64, Error> {
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let foreign = |why: &str| Err(Error::Foreign { path: path.to_owned(), why: why.to_owned() });
    match (application, version, objects) {
        (0, 0, 0) => Ok(0),
        (APPLICATION_ID, found, _) if found > newest() => {
            Err(Error::Newer { path: path.to_owned(), found, known: newest() })
        }
        (APPLICATION_ID, 1.., 1..) => Ok(version),
        _ => foreign("it is the database of another program"),
    }
}

/// What SQLite says about a file that is none of its own, in words that help.
pub(super) fn in_words(error: Error, path: &Path) -> Error {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let code = if let Error::Store(error) = &error { error.sqlite_error_code() } else { None };
    if code == Some(NotADatabase) {
        return Error::Foreign { path: path.to_owned(), why: "it is no SQLite file".to_owned() };
    }
    if code == Some(DatabaseCorrupt) {
        return Error::Damaged { path: path.to_owned(), why: error.to_string() };
    }
    error
}

/// Checks everything that can be checked without knowing what was in it: pages, references, and that nobody changed
/// tables or triggers.
pub(super) fn check(db: &Connection, path: &Path) -> Result<(), Error> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let verdict: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(damaged(verdict));
    }
    if db.prepare("PRAGMA foreign_key_check")?.exists([])? {
        return Err(damaged("a row points to another one that is not there".to_owned()));
    }
    if objects(db)? != objects(&in_memory()?)? {
        return Err(damaged("its tables are not those that this program makes".to_owned()));
    }
    Ok(())
}

fn objects(db: &Connection) -> Result<Vec<(String, String, Option<String>)>, Error> {
    let mut query = db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
