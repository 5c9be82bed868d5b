//! `domicile key`
#![expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]

use std::io::ErrorKind;
use std::path::Path;

use super::args::{Cli, KeyVerb};
use super::exit::{FAILURE, Failed, PERMISSION, USAGE};
use super::output::{say, write};
use crate::crypto::identity::PrivateKey;
use crate::daemon::config::{self, Config, Entity, edit};
use crate::daemon::home;
use crate::daemon::system::random;

pub(super) fn run(cli: &Cli, verb: &KeyVerb) -> Result<(), Failed> {
    match verb {
        KeyVerb::Generate { file } => {
            let key = generate(file)?;
            say(key.public())
        }
        KeyVerb::Rotate { entity } => rotate(cli, entity.as_deref()),
        KeyVerb::Show { pem, fingerprint, entity } => {
            let config = config::load(&cli.config)?;
            let entity = chosen(cli, &config, entity.as_deref())?;
            let public = entity.key.public();
            match (pem, fingerprint) {
                (true, _) => write(&public.to_pem()),
                (_, true) => say(public.fingerprint()),
                _ => say(public),
            }
        }
    }
}

/// The entity of that name, or the first one.
fn chosen<'a>(cli: &Cli, config: &'a Config, name: Option<&str>) -> Result<&'a Entity, Failed> {
    let Some(name) = name else {
        return config.entities.first().ok_or_else(|| Failed::new(FAILURE, "there is no entity"));
    };
    config.entities.iter().find(|entity| entity.name == name).ok_or_else(|| {
        let names: Vec<_> = config.entities.iter().map(|entity| entity.name.as_str()).collect();
        let known = names.join(", ");
        Failed::new(
            FAILURE,
            format!("there is no entity \"{name}\" in {}: it has {known}", cli.config.display()),
        )
    })
}

/// Makes the key that the daemon gets certified and takes into use.
fn rotate(cli: &Cli, name: Option<&str>) -> Result<(), Failed> {
    let config = config::load(&cli.config)?;
    if name.is_none() && config.entities.len() > 1 {
        return Err(Failed::new(USAGE, "there are several entities: say which one with --entity"));
    }
    let entity = chosen(cli, &config, name)?;
    let own = config.home_directory.as_deref().map(home::root_of).transpose()?;
    let certified =
        entity.certificate.is_some() || own.is_some_and(|root| root.prefix().contains(&entity.address));
    let file = entity.key_file.as_ref().filter(|_| certified).ok_or_else(|| {
        Failed::new(
            FAILURE,
            format!(
                "{} has no certificate: peers know it by the key that they list, so make another with 'domicile key generate', and let them list it",
                entity.name
            ),
        )
    })?;
    let next = config::next_file(file);
    if let Some(waiting) = &entity.next {
        return Err(Failed::new(
            FAILURE,
            format!(
                "{} has a new key already, {}, which waits for its home in {}: 'domicile up' gets it certified, or remove that file",
                entity.name,
                waiting.public().fingerprint(),
                next.display()
            ),
        ));
    }
    let key = generate(&next)?;
    say(format_args!(
        "{} gets the key {}\nas soon as its home has certified it; until then it waits in {}.",
        entity.name,
        key.public().fingerprint(),
        next.display()
    ))?;
    super::peer::reload(cli)
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
