//! Changing the file for the user: comments stay, the result is checked before it replaces the old file, and the
//! replacement is atomic.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::{Problem, Problems};

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It would not be valid afterwards, or is not now.
    #[error(transparent)]
    Invalid(#[from] Problems),
    /// The new entry has problems; the file has none.
    #[error("nothing was changed: {}", .0.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; "))]
    Entry(Vec<Problem>),
    /// What is to be removed is not there, or what is to be added is.
    #[error("{0}")]
    Refused(String),
    /// The file cannot be written.
    #[error("{path} cannot be written: {error}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
}

/// A peer to add.
#[derive(Clone, Debug, Default)]
pub struct NewPeer {
    /// Its name.
    pub name: String,
    /// Its permanent address, as the user wrote it.
    pub address: String,
    /// One line.
    pub public_key: Option<String>,
    /// A path.
    pub psk_file: Option<String>,
    /// `IP:PORT` or `none`.
    pub endpoint: Option<String>,
    /// `on-traffic` or `start`.
    pub connect: Option<String>,
}

/// Adds a `[[peer]]`.
pub fn add_peer(path: &Path, peer: &NewPeer) -> Result<(), EditError> {
    edit(path, |document| {
        let peers = entries(document, "peer")?;
        if peers.iter().any(|other| is_named(other, &peer.name)) {
            return Err(EditError::Refused(format!(
                "there is a peer \"{}\" already: 'domicile peer remove {}' first, or choose another name",
                peer.name, peer.name
            )));
        }
        let mut table = Table::new();
        table.insert("name", value(&peer.name));
        table.insert("address", value(&peer.address));
        let optional = [
            ("public_key", &peer.public_key),
            ("psk_file", &peer.psk_file),
            ("endpoint", &peer.endpoint),
            ("connect", &peer.connect),
        ];
        for (key, text) in optional {
            if let Some(text) = text {
                table.insert(key, value(text));
            }
        }
        peers.push(table);
        Ok(())
    })
}

/// Removes a `[[peer]]` by name.
pub fn remove_peer(path: &Path, name: &str) -> Result<(), EditError> {
    edit(path, |document| {
        remove(document, "peer", |peer| is_named(peer, name)).ok_or_else(|| {
            EditError::Refused(format!("there is no peer \"{name}\": 'domicile peer list' shows them"))
        })
    })
}

/// Trusts a home: `file` has its root. `instead` is the file of an entry for the same home that this one replaces.
pub fn set_trust(path: &Path, file: &str, fingerprint: &str, instead: Option<&str>) -> Result<(), EditError> {
    edit(path, |document| {
        let entries = entries(document, "trust")?;
        if let Some(old) = entries.iter_mut().find(|entry| instead.is_some_and(|name| has_root(entry, name)))
        {
            old.insert("root", value(file));
            old.insert("fingerprint", value(fingerprint));
            return Ok(());
        }
        let mut table = Table::new();
        table.insert("root", value(file));
        table.insert("fingerprint", value(fingerprint));
        entries.push(table);
        Ok(())
    })
}

/// Removes the `[[trust]]` entry that names this file.
pub fn remove_trust(path: &Path, file: &str) -> Result<(), EditError> {
    edit(path, |document| {
        remove(document, "trust", |entry| has_root(entry, file)).ok_or_else(|| {
            EditError::Refused(format!("there is no [[trust]] entry with root = \"{file}\" any more"))
        })
    })
}

/// Says that this machine is a home, which is kept in `directory`.
pub fn add_home_agent(path: &Path, directory: &str) -> Result<(), EditError> {
    edit(path, |document| {
        if document.contains_key("home_agent") {
            return Err(EditError::Refused(format!("{} has a [home_agent] already", path.display())));
        }
        let mut table = Table::new();
        table.insert("directory", value(directory));
        document.insert("home_agent", Item::Table(table));
        Ok(())
    })
}

/// Adds text at the end, if the whole is good then.
pub fn append(path: &Path, text: &str) -> Result<(), EditError> {
    let io = |error| EditError::Io { path: path.display().to_string(), error };
    let old = std::fs::read_to_string(path).map_err(|error| super::problem::unreadable(path, &error))?;
    super::check_text(path, &old)?;
    let new = format!("{}\n{text}", old.trim_end_matches('\n'));
    super::check_text(path, &new).map_err(|problems| EditError::Entry(problems.list))?;
    write_private(path, new.as_bytes(), true).map_err(io)
}

/// Key and certificate of an entity, where no other entity has the same.
pub fn entity_files(path: &Path, name: &str) -> Result<Vec<PathBuf>, EditError> {
    let text = std::fs::read_to_string(path).map_err(|error| super::problem::unreadable(path, &error))?;
    let document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| EditError::Refused(error.to_string()))?;
    let none = ArrayOfTables::new();
    let entities = document.get("entity").and_then(Item::as_array_of_tables).unwrap_or(&none);
    let files = |table: &Table| -> Vec<PathBuf> {
        let file = |key| table.get(key).and_then(Item::as_str).map(|file| super::beside(path, file));
        ["key_file", "certificate"].into_iter().filter_map(file).collect()
    };
    let others: Vec<PathBuf> =
        entities.iter().filter(|table| !is_named(table, name)).flat_map(files).collect();
    let own = entities.iter().filter(|table| is_named(table, name)).flat_map(files);
    Ok(own.filter(|file| !others.contains(file)).collect())
}

/// Removes an `[[entity]]` by name; its files stay.
pub fn remove_entity(path: &Path, name: &str) -> Result<(), EditError> {
    edit(path, |document| {
        remove(document, "entity", |entity| is_named(entity, name))
            .ok_or_else(|| EditError::Refused(format!("there is no entity \"{name}\" in {}", path.display())))
    })
}

/// The `[[key]]` entries, to add to.
fn entries<'a>(document: &'a mut DocumentMut, key: &str) -> Result<&'a mut ArrayOfTables, EditError> {
    let item = document.entry(key).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut()
        .ok_or_else(|| EditError::Refused(format!("'{key}' is not written as [[{key}]] in this file")))
}

/// Removes those `[[key]]` entries; none if there are none.
fn remove(document: &mut DocumentMut, key: &str, which: impl Fn(&Table) -> bool) -> Option<()> {
    let entries = document.get_mut(key)?.as_array_of_tables_mut()?;
    let before = entries.len();
    entries.retain(|entry| !which(entry));
    (entries.len() < before).then_some(())
}

fn is_named(peer: &Table, name: &str) -> bool {
    peer.get("name").and_then(Item::as_str) == Some(name)
}

fn has_root(entry: &Table, file: &str) -> bool {
    entry.get("root").and_then(Item::as_str) == Some(file)
}

fn edit(
    path: &Path,
    change: impl FnOnce(&mut DocumentMut) -> Result<(), EditError>,
) -> Result<(), EditError> {
    let io = |error| EditError::Io { path: path.display().to_string(), error };
    let text = std::fs::read_to_string(path).map_err(|error| super::problem::unreadable(path, &error))?;
    super::check_text(path, &text)?;
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| EditError::Refused(error.to_string()))?;
    change(&mut document)?;
    let changed = document.to_string();
    // The places of these problems are in a file that does not exist.
    super::check_text(path, &changed).map_err(|problems| EditError::Entry(problems.list))?;
    write_private(path, changed.as_bytes(), true).map_err(io)
}

/// Writes a file that only its owner reads, whole or not at all. Without `replace` an existing file is an error.
/// Otherwise a link stays what it is, and so do owner and mode of the file that it leads to.
pub fn write_private(path: &Path, bytes: &[u8], replace: bool) -> std::io::Result<()> {
    if !replace {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = std::fs::remove_file(path);
        }
        return written;
    }
    let target = std::fs::canonicalize(path)?;
    let old = std::fs::metadata(&target)?;
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = target.with_file_name(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = (|| {
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        // The umask has no say here.
        file.set_permissions(Permissions::from_mode(old.permissions().mode() & 0o777))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, &target)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
