//! `domicile take` and `domicile leave`: what somebody at this machine wants of its home.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use ipnet::Ipv6Net;

use super::args::{Cli, LeaveArgs, TakeArgs};
use super::client::{NO_BODY, ask};
use super::exit::{FAILURE, Failed, NOT_RUNNING};
use super::output::say;
use crate::addr::plan::agent_of;
use crate::api::{Done, ErrandRequest};
use crate::daemon::config::{self, Config, edit};
use crate::daemon::errands::who;
use crate::daemon::home::root_of;
use crate::daemon::join::{Asker, leave};
use crate::home::talk::About;

const SHORT: Duration = Duration::from_secs(5);

fn request(entity: Option<&String>, timeout: Duration) -> ErrandRequest {
    ErrandRequest { entity: entity.cloned(), timeout: Some(timeout.as_secs_f64()) }
}

/// The user's floating address comes to this device.
pub(super) fn take(cli: &Cli, args: &TakeArgs) -> Result<(), Failed> {
    let body = request(args.entity.as_ref(), args.timeout);
    ask(cli, Method::POST, "/v1/take", Some(&body), args.timeout).and_then(|done: Done| say(&done.message))
}

/// An entity leaves its home: there first, then here.
pub(super) fn run(cli: &Cli, args: &LeaveArgs) -> Result<(), Failed> {
    let config = config::load(&cli.config)?;
    let (address, home) = chosen(&config, args)?;
    let entity = config.entities.iter().find(|entity| entity.address == address);
    let name = entity.map(|entity| entity.name.clone()).unwrap_or_default();
    if !args.offline {
        let said = tell_home(cli, args, &config, (&name, address, home)).map_err(|failed| {
            let more = "nothing was changed here; 'domicile leave --offline' forgets it here alone";
            Failed::new(failed.code, format!("{} ({more})", failed.message))
        })?;
        say(said)?;
    }
    for moved in forget(cli, &config, &name)? {
        say(moved)?;
    }
    if args.offline {
        say(format_args!(
            "The home {home} still knows {address}: until somebody there gives 'domicile home device revoke' (or 'home node remove'), its key stays good."
        ))?;
    }
    Ok(())
}

fn chosen(config: &Config, args: &LeaveArgs) -> Result<(Ipv6Addr, Ipv6Net), Failed> {
    let own = config.home_directory.as_deref().map(root_of).transpose()?.map(|root| root.prefix());
    let entities: Vec<_> =
        config.entities.iter().map(|entity| (entity.name.as_str(), entity.address)).collect();
    let roots = config.roots.iter().map(|root| root.prefix());
    let homes: Vec<_> = roots.filter(|home| Some(*home) != own).collect();
    who(About::Leave, args.entity.as_deref(), &entities, &homes).map_err(|error| Failed::new(FAILURE, error))
}

/// Through the daemon, which has an SA with the home; without one, over an SA of our own.
fn tell_home(
    cli: &Cli,
    args: &LeaveArgs,
    config: &Config,
    (name, address, home): (&String, Ipv6Addr, Ipv6Net),
) -> Result<String, Failed> {
    let body = request(Some(name), args.timeout);
    match ask(cli, Method::POST, "/v1/leave", Some(&body), args.timeout) {
        Ok(Done { message }) => return Ok(message),
        Err(failed) if failed.code == NOT_RUNNING => {}
        Err(failed) => return Err(failed),
    }
    let failed = |error: &dyn std::fmt::Display| Failed::new(FAILURE, error.to_string());
    let agent = agent_of(home);
    let entity = config.entities.iter().find(|entity| entity.address == address);
    let root = config.roots.iter().find(|root| root.prefix() == home).cloned();
    let (Some(entity), Some(root)) = (entity, root) else { return Err(failed(&"it is gone already")) };
    let Some(certificate) = entity.certificate.clone() else {
        return Err(failed(&format!("{name} has no certificate with which it could speak to its home")));
    };
    let endpoint = config.homes.endpoint(agent).map_err(|error| failed(&error))?;
    let asker = Asker { home: endpoint, agent, key: &entity.key, label: None, timeout: args.timeout };
    leave(&asker, address, certificate, root).map_err(|error| failed(&error))
}

/// Nothing that a person entered is lost: files are moved aside. A daemon that has nothing left to do ends.
/// Gives what is where now, in words.
fn forget(cli: &Cli, config: &Config, name: &str) -> Result<Vec<String>, Failed> {
    let files = edit::entity_files(&cli.config, name)?;
    let mut moved = Vec::new();
    let running = |result: Result<Done, Failed>| match result {
        Err(failed) if failed.code != NOT_RUNNING => Err(failed),
        Ok(_) | Err(_) => Ok(()),
    };
    if config.entities.len() == 1 && config.home_directory.is_none() {
        running(ask(cli, Method::POST, "/v1/down", NO_BODY, SHORT))?;
        moved.push(archive(&cli.config)?);
        let state = cli.config.with_extension("state.json");
        if state.exists() {
            moved.push(archive(&state)?);
        }
    } else {
        let copy = free(&cli.config);
        let text = std::fs::read(&cli.config).map_err(|error| unmoved(&cli.config, &error))?;
        edit::write_private(&copy, &text, false).map_err(|error| unmoved(&cli.config, &error))?;
        edit::remove_entity(&cli.config, name)?;
        moved.push(format!("What {} was is {} now.", cli.config.display(), copy.display()));
        running(ask(cli, Method::POST, "/v1/reload", NO_BODY, SHORT))?;
    }
    for file in files.iter().filter(|file| file.exists()) {
        moved.push(archive(file)?);
    }
    Ok(moved)
}

fn unmoved(file: &Path, error: &std::io::Error) -> Failed {
    Failed::new(FAILURE, format!("{} cannot be moved aside: {error}", file.display()))
}

/// A name beside it that is free.
fn free(file: &Path) -> PathBuf {
    let beside = |number: u32| {
        let mut name = file.as_os_str().to_owned();
        name.push(if number == 1 { ".left".to_owned() } else { format!(".left.{number}") });
        PathBuf::from(name)
    };
    let mut number = 1;
    while beside(number).symlink_metadata().is_ok() {
        number += 1;
    }
    beside(number)
}

fn archive(file: &Path) -> Result<String, Failed> {
    let to = free(file);
    std::fs::rename(file, &to).map_err(|error| unmoved(file, &error))?;
    Ok(format!("{} is {} now.", file.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_moved_over_anything() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("laptop.key");
        for (number, name) in ["laptop.key.left", "laptop.key.left.2", "laptop.key.left.3"].iter().enumerate()
        {
            std::fs::write(&file, number.to_string()).unwrap();
            let to = dir.path().join(name);
            assert_eq!(archive(&file).unwrap(), format!("{} is {} now.", file.display(), to.display()));
            assert_eq!(std::fs::read_to_string(to).unwrap(), number.to_string());
        }
        assert!(archive(&file).is_err());
    }
}
