//! `domicile key`
#![expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]
#![expect(clippy::disallowed_methods, reason = "a new key comes from the system's randomness")]

use std::path::Path;

use zeroize::Zeroizing;

use super::args::{Cli, KeyVerb};
use super::exit::{FAILURE, Failed};
use crate::crypto::identity::PrivateKey;
use crate::daemon::config::{self, edit};

pub(super) fn run(cli: &Cli, verb: &KeyVerb) -> Result<(), Failed> {
    match verb {
        KeyVerb::Generate { file } => {
            let key = generate(file)?;
            println!("{}", key.public());
            Ok(())
        }
        KeyVerb::Show { pem, fingerprint, entity } => {
            let config = config::load(&cli.config)?;
            let entity = match entity {
                Some(name) => {
                    config.entities.iter().find(|entity| entity.name == *name).ok_or_else(|| {
                        Failed::new(
                            FAILURE,
                            format!("there is no entity \"{name}\" in {}", cli.config.display()),
                        )
                    })?
                }
                None => config.entities.first().ok_or_else(|| Failed::new(FAILURE, "there is no entity"))?,
            };
            let public = entity.key.public();
            match (pem, fingerprint) {
                (true, _) => print!("{}", public.to_pem()),
                (_, true) => println!("{}", public.fingerprint()),
                _ => println!("{public}"),
            }
            Ok(())
        }
    }
}

/// A new private key in a new file that only its owner reads.
pub(super) fn generate(file: &Path) -> Result<PrivateKey, Failed> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)
        .map_err(|error| Failed::new(FAILURE, format!("the system gives no randomness: {error}")))?;
    let key = PrivateKey::from_seed(&seed);
    edit::write_private(file, key.to_pem().as_bytes(), false).map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                "exists already, and keys are never overwritten: choose another name".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => {
                "may not be written by you: try sudo, or another place with --config".to_owned()
            }
            _ => format!("cannot be written: {error}"),
        };
        Failed::new(FAILURE, format!("{} {what}", file.display()))
    })?;
    Ok(key)
}
