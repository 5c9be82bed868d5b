//! The keys of an entity over time. A new key waits beside the present one until the home has certified it; the old
//! ones stay, because they vouch for their successors with those who remember them.
//!
//! ```text
//! NAME.key        the present key
//! NAME.key.next   a new one, until it is certified ('domicile key rotate')
//! NAME.key.old    the last few before it, the oldest first
//! ```
//!
//! The new key is in force as soon as the certificate is for it: files are then put in order, also after a crash.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use zeroize::Zeroizing;

use super::check::Checker;
use super::edit::write_private;
use super::{Config, Entity};
use crate::crypto::identity::PrivateKey;
use crate::pki::endorsement::{Endorsement, MAX_ENDORSEMENTS};
use crate::pki::leaf;

const END: &str = "-----END PRIVATE KEY-----";

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}

/// Where a new key waits.
pub fn next_file(key_file: &Path) -> PathBuf {
    with_suffix(key_file, ".next")
}

/// Where the keys before the present one are.
pub fn old_file(key_file: &Path) -> PathBuf {
    with_suffix(key_file, ".old")
}

/// The keys of a file that need not be there.
fn read(file: &Path) -> io::Result<Vec<PrivateKey>> {
    let meta = match std::fs::metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        meta => meta?,
    };
    if meta.mode() & 0o077 != 0 {
        return Err(io::Error::other("it can be read by others: run 'chmod 600' on it"));
    }
    let text = Zeroizing::new(std::fs::read_to_string(file)?);
    let blocks = text.split_inclusive(END).filter(|block| block.contains(END));
    blocks
        .map(|block| PrivateKey::from_pem(block).map_err(|error| io::Error::other(error.to_string())))
        .collect()
}

/// Keys and certificate of an entity.
pub(super) struct Keys {
    pub(super) key: PrivateKey,
    pub(super) previous: Vec<PrivateKey>,
    pub(super) next: Option<PrivateKey>,
}

impl Checker<'_> {
    /// What lies beside a key. A certificate for the next key makes that the present one.
    pub(super) fn keys(
        &mut self,
        file: &Spanned<String>,
        key: PrivateKey,
        certificate: Option<&Path>,
    ) -> Keys {
        let path = super::beside(self.path, file.get_ref());
        let mut read = |path: PathBuf| {
            read(&path).unwrap_or_else(|error| {
                self.problems.at(file.span(), format!("{}: {error}", path.display()));
                Vec::new()
            })
        };
        let mut previous = read(old_file(&path));
        previous.retain(|old| old.public() != key.public());
        let next = read(next_file(&path)).into_iter().next().filter(|next| next.public() != key.public());
        let certified = || {
            let text = std::fs::read_to_string(certificate?).ok()?;
            let all = crate::pki::pem::decode(&text).ok()?;
            Some(leaf::read(all.first()?).ok()?.key)
        };
        match next {
            Some(next) if certified() == Some(next.public()) => {
                previous.push(key);
                Keys { key: next, previous, next: None }
            }
            next => Keys { key, previous, next },
        }
    }
}

impl Entity {
    /// What earlier keys say of their successors, up to the present one: the last few, the oldest first.
    pub fn endorsements(&self) -> Vec<Endorsement> {
        let chain: Vec<&PrivateKey> = self.previous.iter().chain([&self.key]).collect();
        let steps = chain.windows(2).filter_map(|pair| match pair {
            [old, new] => Some(Endorsement::sign(self.address, old, new.public())),
            _ => None,
        });
        let mut steps: Vec<Endorsement> = steps.collect();
        steps.drain(..steps.len().saturating_sub(MAX_ENDORSEMENTS));
        steps
    }

    /// The next key was certified: it takes the place of the present one, which goes to the old ones. Harmless when that
    /// was done.
    pub fn settle(&self) -> io::Result<()> {
        let Some(file) = &self.key_file else { return Ok(()) };
        let Some(next) = read(&next_file(file))?.into_iter().next() else { return Ok(()) };
        let mut old = read(&old_file(file))?;
        let present = read(file)?;
        let new = |key: &PrivateKey| old.iter().all(|other| other.public() != key.public());
        let fresh: Vec<PrivateKey> =
            present.into_iter().filter(|key| new(key) && key.public() != next.public()).collect();
        old.extend(fresh);
        let kept = old.len().saturating_sub(MAX_ENDORSEMENTS);
        let text: Zeroizing<String> =
            Zeroizing::new(old.iter().skip(kept).map(|key| key.to_pem().to_string()).collect());
        let old_file = old_file(file);
        write_private(&old_file, text.as_bytes(), old_file.exists())?;
        std::fs::rename(next_file(file), file)
    }
}

impl Config {
    /// Puts the files of keys in order whose successor was certified before the daemon could.
    pub fn settle_keys(&self) -> io::Result<()> {
        for entity in self.entities.iter().filter(|entity| entity.next.is_none()) {
            let Some(file) = &entity.key_file else { continue };
            if read(&next_file(file))?.iter().any(|next| next.public() == entity.key.public()) {
                entity.settle()?;
            }
        }
        Ok(())
    }
}
