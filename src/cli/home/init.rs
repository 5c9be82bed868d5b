//! `domicile home init`: from a machine with a public IPv4 address to a home.

use std::net::Ipv4Addr;
use std::path::Path;

use super::args::{HomeAddress, HomeInitArgs};
use crate::addr::plan::{FIRST_NODE, home_agent, in_prefix};
use crate::addr::six_to_four::embedded_v4;
use crate::addr::special::special;
use crate::cli::args::{Cli, InitArgs};
use crate::cli::exit::{FAILURE, Failed, USAGE};
use crate::cli::init;
use crate::cli::output::{say, write};
use crate::cli::render::age;
use crate::daemon::config::{self, HOME_DIRECTORY, edit};
use crate::daemon::home::HomeDesk;
use crate::daemon::system::{Standing, standing};
use crate::home::name;

pub(super) fn run(cli: &Cli, args: &HomeInitArgs) -> Result<(), Failed> {
    let path = &cli.config;
    if let Some(domain) = &args.domain {
        name::domain(domain).map_err(|error| Failed::new(USAGE, format!("--domain: {error}")))?;
    }
    let given = args.directory.as_ref().map(|directory| {
        let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
        whole.to_str().map(str::to_owned).ok_or_else(|| {
            Failed::new(USAGE, "--directory is not UTF-8, which the configuration is: choose another")
        })
    });
    let directory = given.transpose()?.unwrap_or_else(|| HOME_DIRECTORY.to_owned());
    let made = !path.exists();
    if made {
        let home = match args.address {
            HomeAddress::Given(home) => home,
            HomeAddress::Detect => init::default_source().ok_or_else(|| {
                let why =
                    "this machine has no IPv4 default route to learn its address from: name it with --address";
                Failed::new(FAILURE, why)
            })?,
        };
        refuse_special(home, args.allow_special)?;
        let node =
            InitArgs { name: None, home: Some(home), address: None, allow_special: args.allow_special };
        init::make(path, &node)?;
    }
    let undo = |failed: Failed| {
        if made && let Ok(config) = config::load(path) {
            init::unmake(path, &config);
        }
        failed
    };
    become_home(path, args, &directory).map_err(undo)
}

fn refuse_special(home: Ipv4Addr, allow: bool) -> Result<(), Failed> {
    match special(home).filter(|_| !allow) {
        None => Ok(()),
        Some(special) => Err(Failed::new(
            FAILURE,
            format!(
                "{home} is {} ({}), where nobody on the Internet can reach a home: name the public address with --address, or add --allow-special for a laboratory or an intranet",
                special.name, special.source
            ),
        )),
    }
}

/// An address that ends is no place for addresses that stay. Whether it is on another machine.
fn refuse_dynamic(home: Ipv4Addr, allow: bool) -> Result<bool, Failed> {
    match standing(home) {
        Ok(Standing::Leased(left)) if !allow => Err(Failed::new(
            FAILURE,
            format!(
                "{home} is on lease (it ends in {} unless it is renewed), and the addresses of a home stay only as long as its own does: get a fixed one, or add --allow-dynamic if your provider always gives this machine the same",
                age(left.as_secs_f64())
            ),
        )),
        Ok(standing) => Ok(standing == Standing::Elsewhere),
        // Where the kernel does not tell, nothing is known against it.
        Err(_) => Ok(false),
    }
}

fn become_home(path: &Path, args: &HomeInitArgs, directory: &str) -> Result<(), Failed> {
    let config = config::load(path)?;
    let entity = config.entities.first().ok_or_else(|| Failed::new(FAILURE, "there is no entity"))?;
    let home = embedded_v4(entity.address).ok_or_else(|| {
        Failed::new(
            FAILURE,
            format!(
                "{} in {} does not tell of an IPv4 address, so no home can be there",
                entity.address,
                path.display()
            ),
        )
    })?;
    if let HomeAddress::Given(other) = args.address
        && other != home
    {
        return Err(Failed::new(
            FAILURE,
            format!(
                "{} says that this machine is {}, whose home is {home} and not {other}: name another file with --config, or leave --address away",
                path.display(),
                entity.address
            ),
        ));
    }
    refuse_special(home, args.allow_special)?;
    let elsewhere = refuse_dynamic(home, args.allow_dynamic)?;
    if config.home_directory.is_some() {
        return Err(Failed::new(
            FAILURE,
            format!("{} has a [home_agent] already: this machine is a home", path.display()),
        ));
    }
    let place = path.parent().unwrap_or_else(|| Path::new(".")).join(directory);
    let prefix = crate::addr::six_to_four::home_prefix(home);
    let mut desk = HomeDesk::create(&place, prefix, args.domain.as_deref())?;
    let mut done = Ok(());
    // A machine that is its own first node keeps the address that it has.
    if entity.address == in_prefix(prefix, FIRST_NODE, 1) {
        let own = name::suggestion(&entity.name).unwrap_or_else(|| "server".to_owned());
        done = desk.add_own_node(&own, &entity.key.public()).map(|_| ()).map_err(Failed::from);
    }
    if let Err(failed) = done.and_then(|()| edit::add_home_agent(path, directory).map_err(Failed::from)) {
        let _ = std::fs::remove_dir_all(&place);
        return Err(failed);
    }
    if elsewhere {
        say(format_args!(
            "{home} is on no interface of this machine: whatever has it must pass UDP port {} on to here.",
            crate::addr::home::PORT
        ))?;
    }
    write(&format!(
        "This machine is the home of {prefix}; the home agent is {}.\n\
         Its registry and its root key are in {}: copy root.key to a safe place now.\n\
         Root fingerprint: {}\n\n\
         Then:\n  domicile home user add alice\n  domicile home invite alice\n  sudo domicile up\n",
        home_agent(home),
        place.display(),
        desk.authority().root().fingerprint(),
    ))
}
