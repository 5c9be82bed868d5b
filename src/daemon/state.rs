//! What the daemon remembers between runs, in one file beside the configuration: sequence numbers of Binding Updates
//! and the key memory. Losing it costs a round trip per registration, and the memory of keys.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::edit::write_private;
use super::hosted::Hosted;
use crate::pki::TrustStore;

/// The file's content.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct State {
    /// By sender: all sequence numbers up to this one count as used (RFC 6275 §11.7.1).
    pub(super) sequences: BTreeMap<Ipv6Addr, u16>,
    /// What homes put on entities of this machine.
    pub(super) hosted: Hosted,
    /// Roots, keys, redirects and revocations.
    pub(super) trust: TrustStore,
}

/// The file.
pub(super) struct StateFile {
    path: PathBuf,
    pub(super) state: State,
}

impl StateFile {
    /// Opens the file that belongs to a configuration. One that cannot be read is told and put aside, never lost.
    pub(super) fn open(config: &Path) -> io::Result<Self> {
        let path = config.with_extension("state.json");
        let state = match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(state) => state,
                Err(error) => {
                    let aside = config.with_extension("state.json.unreadable");
                    std::fs::rename(&path, &aside)?;
                    tracing::warn!(
                        "{} is damaged ({error}) and was put aside as {}: remembered keys are forgotten",
                        path.display(),
                        aside.display()
                    );
                    State::default()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, state })
    }

    /// Writes it down, whole or not at all.
    pub(super) fn save(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(&self.state).map_err(io::Error::other)?;
        write_private(&self.path, &bytes, self.path.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_there_again_and_a_damaged_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("domicile.toml");
        let mut file = StateFile::open(&config).unwrap();
        file.state.sequences.insert(Ipv6Addr::LOCALHOST, 65_535);
        file.save().unwrap();
        file.save().unwrap();
        assert_eq!(StateFile::open(&config).unwrap().state.sequences.len(), 1);
        let path = dir.path().join("domicile.state.json");
        std::fs::write(&path, "{").unwrap();
        assert!(StateFile::open(&config).unwrap().state.sequences.is_empty());
        assert_eq!(std::fs::read(dir.path().join("domicile.state.json.unreadable")).unwrap(), b"{");
    }
}
