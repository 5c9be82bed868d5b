//! `domicile key`
#![expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]

use std::io::ErrorKind;
use std::path::Path;

use super::args::{Cli, KeyVerb};
use super::exit::{FAILURE, Failed, PERMISSION};
use super::output::{say, write};
use crate::crypto::identity::PrivateKey;
use crate::daemon::config::{self, edit};
use crate::daemon::system::random;

pub(super) fn run(cli: &Cli, verb: &KeyVerb) -> Result<(), Failed> {
    match verb {
        KeyVerb::Generate { file } => {
            let key = generate(file)?;
            say(key.public())
        }
        KeyVerb::Show { pem, fingerprint, entity } => {
            let config = config::load(&cli.config)?;
            let entity = match entity {
                Some(name) => {
                    config.entities.iter().find(|entity| entity.name == *name).ok_or_else(|| {
                        let names: Vec<_> =
                            config.entities.iter().map(|entity| entity.name.as_str()).collect();
                        Failed::new(
                            FAILURE,
                            format!(
                                "there is no entity \"{name}\" in {}: it has {}",
                                cli.config.display(),
                                names.join(", ")
                            ),
                        )
                    })?
                }
                None => config.entities.first().ok_or_else(|| Failed::new(FAILURE, "there is no entity"))?,
            };
            let public = entity.key.public();
            match (pem, fingerprint) {
                (true, _) => write(&public.to_pem()),
                (_, true) => say(public.fingerprint()),
                _ => say(public),
            }
        }
    }
}

/// A new private key in a new file that only its owner reads.
pub(super) fn generate(file: &Path) -> Result<PrivateKey, Failed> {
    let seed = random().map_err(|error| Failed::new(FAILURE, error.to_string()))?;
    let key = PrivateKey::from_seed(&seed);
    edit::write_private(file, key.to_pem().as_bytes(), false).map_err(|error| {
        let (code, what) = match error.kind() {
            ErrorKind::AlreadyExists => {
                (FAILURE, "exists already, and keys are never overwritten: choose another name".to_owned())
            }
            ErrorKind::PermissionDenied => {
                (PERMISSION, "may not be written by you: try sudo, or another directory".to_owned())
            }
            ErrorKind::NotFound => {
                (FAILURE, "cannot be made, because its directory does not exist".to_owned())
            }
            _ => (FAILURE, format!("cannot be written: {error}")),
        };
        Failed::new(code, format!("{} {what}", file.display()))
    })?;
    Ok(key)
}
