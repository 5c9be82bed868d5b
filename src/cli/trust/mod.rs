//! `domicile trust`: which homes are believed, and which keys are remembered.

mod args;

use std::io::{BufRead, IsTerminal, Read, Write};
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use ipnet::Ipv6Net;

use args::TrustAddArgs;
pub(in crate::cli) use args::TrustVerb;

use super::args::Cli;
use super::client::{NO_BODY, ask};
use super::exit::{FAILURE, Failed, NOT_RUNNING, USAGE};
use super::home::render::time;
use super::output::{say, write};
use super::render::table;
use super::request::fingerprint;
use crate::addr::plan::agent_of;
use crate::api::Done;
use crate::api::trust::{ForgetRequest, RememberedKey, TrustedHome};
use crate::daemon::config::{self, Config, TrustEntry, beside, edit, same_fingerprint};
use crate::daemon::{home, memory};
use crate::pki::{Root, pem};

/// Octets of a file with certificates.
const MAX_FILE: u64 = 64 * 1024;
/// Roots of one prefix that may lie beside each other.
const MAX_NAMES: u32 = 100;
const WAIT: Duration = Duration::from_secs(5);

pub(super) fn run(cli: &Cli, verb: &TrustVerb) -> Result<(), Failed> {
    match verb {
        TrustVerb::Add(args) => add(cli, args),
        TrustVerb::List { json } => list(cli, *json),
        TrustVerb::Remove { home } => remove(cli, home),
        TrustVerb::Keys { json } => keys(cli, *json),
        TrustVerb::Forget { address } => {
            let request = ForgetRequest { address: *address };
            match ask(cli, Method::POST, "/v1/trust/forget", Some(&request), WAIT) {
                Err(failed) if failed.code == NOT_RUNNING => {}
                answered => {
                    let Done { message } = answered?;
                    return say(format_args!("Daemon: {message}."));
                }
            }
            let config = config::load(&cli.config)?;
            if memory::forget_kept(&config, *address).map_err(|error| state_problem(cli, &error))? {
                return say(format_args!("Forgot the key of {address}."));
            }
            let why =
                format!("no key of {address} is remembered: 'domicile trust keys' lists those that are");
            Err(Failed::new(FAILURE, why))
        }
    }
}

fn state_problem(cli: &Cli, error: &std::io::Error) -> Failed {
    let path = cli.config.with_extension("state.json");
    Failed::new(FAILURE, format!("{} cannot be used: {error}", path.display()))
}

fn add(cli: &Cli, args: &TrustAddArgs) -> Result<(), Failed> {
    let path = &cli.config;
    if let Some(said) = &args.fingerprint {
        fingerprint(said)?;
    }
    let config = config::load(path)?;
    let root = read_root(&args.file)?;
    check(path, &config, &root, args)?;
    let old = config.trusted.iter().find(|entry| entry.prefix == root.prefix());
    let known = config.roots.iter().find(|known| known.prefix() == root.prefix());
    write(&describe(&config, &root))?;
    if known == Some(&root) && old.is_some_and(|old| old.confirmed) {
        return say("It is trusted already: nothing was changed.");
    }
    confirm(args, &root)?;
    let (file, fresh) = place(path, &root)?;
    let written = edit::set_trust(path, &file, &root.fingerprint(), old.map(|old| old.file.as_str()));
    if let Err(error) = written {
        if fresh {
            let _ = std::fs::remove_file(beside(path, &file));
        }
        return Err(error.into());
    }
    if let Some(old) = old.filter(|old| old.file != file) {
        clear_away(path, old);
    }
    say(format_args!("Trusted in {}.", path.display()))?;
    super::peer::reload(cli)
}

/// A root certificate, alone in its file; `-` is standard input.
fn read_root(file: &str) -> Result<Root, Failed> {
    let unreadable = |error: std::io::Error| {
        let what = if file == "-" { "standard input" } else { file };
        Failed::new(
            FAILURE,
            format!(
                "{what} cannot be read: {error}: name the file that 'domicile home root' of the other home printed"
            ),
        )
    };
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().lock().take(MAX_FILE).read_to_string(&mut text),
        file => std::fs::File::open(file).and_then(|opened| opened.take(MAX_FILE).read_to_string(&mut text)),
    };
    read.map_err(unreadable)?;
    let wrong = |why: String| Failed::new(FAILURE, format!("{file}: {why}"));
    let all = pem::decode(&text).map_err(|error| wrong(error.to_string()))?;
    let [der] = <[Vec<u8>; 1]>::try_from(all).map_err(|all| {
        wrong(format!("it has {} certificates: name a file with the root certificate alone", all.len()))
    })?;
    Root::from_der(&der).map_err(|error| wrong(error.to_string()))
}

/// Everything that can be refused before anybody is asked.
fn check(path: &Path, config: &Config, root: &Root, args: &TrustAddArgs) -> Result<(), Failed> {
    let prefix = root.prefix();
    let refuse = |why: String| Err(Failed::new(FAILURE, why));
    if let Some(said) = args.fingerprint.as_ref().filter(|said| !same_fingerprint(said, &root.fingerprint()))
    {
        return refuse(format!(
            "{} has the fingerprint {}, and not {said}: it is not the root that you were told of, do not trust it",
            args.file,
            root.fingerprint()
        ));
    }
    let (from, until) = root.validity();
    let now = crate::daemon::system::unix();
    if now < from || now > until {
        return refuse(format!(
            "the root of {prefix} is valid from {} to {} UTC, and now is {}: compare the clocks, or ask for a fresh one",
            time(from),
            time(until),
            time(now)
        ));
    }
    if let Err(error) = config.homes.endpoint(agent_of(prefix)) {
        return refuse(error.to_string());
    }
    if let Some(own) = own_root(config)?.filter(|own| own.prefix() == prefix) {
        return if own.key() == root.key() {
            refuse(format!("this machine is the home of {prefix} itself, and trusts it without being told"))
        } else {
            refuse(format!(
                "this machine is the home of {prefix}, and its root is {}, not {}: somebody else claims this home",
                own.fingerprint(),
                root.fingerprint()
            ))
        };
    }
    let other = config.roots.iter().find(|known| known.prefix() == prefix && known.key() != root.key());
    match other.filter(|_| !args.replace) {
        None => Ok(()),
        Some(known) => refuse(format!(
            "{} trusts another root for {prefix}: {} and not {}; if its owner says that the key was replaced, add --replace",
            path.display(),
            known.fingerprint(),
            root.fingerprint()
        )),
    }
}

/// The root of the home that this machine is.
fn own_root(config: &Config) -> Result<Option<Root>, Failed> {
    Ok(config.home_directory.as_deref().map(home::root_of).transpose()?)
}

fn describe(config: &Config, root: &Root) -> String {
    let agent = agent_of(root.prefix());
    let at = config.homes.endpoint(agent).map_or_else(|_| String::new(), |at| format!(", at {at}"));
    let (from, until) = root.validity();
    format!(
        "Home         {}\nDomain       {}\nHome agent   {agent}{at}\nFingerprint  {}\nValid        {} to {} UTC\n",
        root.prefix(),
        root.domain().unwrap_or("none"),
        root.fingerprint(),
        time(from),
        time(until),
    )
}

/// A person has to say that this is the right root.
fn confirm(args: &TrustAddArgs, root: &Root) -> Result<(), Failed> {
    if args.fingerprint.is_some() || args.yes {
        return Ok(());
    }
    if args.file == "-" || !std::io::stdin().is_terminal() {
        return Err(Failed::new(
            USAGE,
            "nobody can be asked here: add --fingerprint with what the owner of that home told you, or --yes",
        ));
    }
    let mut question = std::io::stderr().lock();
    let _ = write!(
        question,
        "Did its owner tell you this fingerprint? It is trusted for all of {} then. [y/N] ",
        root.prefix()
    );
    let _ = question.flush();
    let mut answer = String::new();
    let heard = std::io::stdin().lock().take(64).read_line(&mut answer);
    if heard.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(Failed::new(FAILURE, "nothing was changed"))
}

/// Puts the root beside the configuration, under a name that no other root has. Returns the name, and whether the file
/// is new.
fn place(path: &Path, root: &Root) -> Result<(String, bool), Failed> {
    let text = pem::encode(root.der()).map_err(|error| Failed::new(FAILURE, error.to_string()))?;
    let base = super::join::root_name(root.prefix());
    let stem = base.trim_end_matches(".pem");
    for number in 1..=MAX_NAMES {
        let name = if number == 1 { base.clone() } else { format!("{stem}-{number}.pem") };
        let file = beside(path, &name);
        match edit::write_private(&file, text.as_bytes(), false) {
            Ok(()) => return Ok((name, true)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if std::fs::read_to_string(&file).is_ok_and(|there| there == text) {
                    return Ok((name, false));
                }
            }
            Err(error) => return Err(unwritable(&file, &error)),
        }
    }
    Err(Failed::new(
        FAILURE,
        format!("there are {MAX_NAMES} files like {base} beside {}: remove some", path.display()),
    ))
}

fn unwritable(file: &Path, error: &std::io::Error) -> Failed {
    let code =
        if error.kind() == std::io::ErrorKind::PermissionDenied { super::exit::PERMISSION } else { FAILURE };
    Failed::new(code, format!("{} cannot be written: {error}", file.display()))
}

/// A root file that was put there by us, and that nothing names any more.
fn clear_away(path: &Path, old: &TrustEntry) {
    let ours = !old.file.contains('/') && old.file.starts_with("home-") && old.file.ends_with(".pem");
    if ours {
        let _ = std::fs::remove_file(beside(path, &old.file));
    }
}

fn remove(cli: &Cli, which: &str) -> Result<(), Failed> {
    let path = &cli.config;
    let config = config::load(path)?;
    let prefix = which.parse::<Ipv6Net>().map(|prefix| prefix.trunc());
    let address = which.parse::<Ipv6Addr>();
    let domain = which.trim_end_matches('.');
    let named = |root: &&Root| match (&prefix, &address) {
        (Ok(prefix), _) => root.prefix() == *prefix,
        (_, Ok(address)) => root.prefix().contains(address),
        _ => root.domain().is_some_and(|own| own.eq_ignore_ascii_case(domain)),
    };
    let root = config.roots.iter().find(named).ok_or_else(|| {
        Failed::new(FAILURE, format!("no trusted home is {which}: 'domicile trust list' shows them"))
    })?;
    let prefix = root.prefix();
    if let Some(entity) = config.entities.iter().find(|entity| prefix.contains(&entity.address)) {
        return Err(Failed::new(
            FAILURE,
            format!(
                "{} has its address {} from this home: without it nobody could reach it; remove that [[entity]] from {} first",
                entity.name,
                entity.address,
                path.display()
            ),
        ));
    }
    let entry = config.trusted.iter().find(|entry| entry.prefix == prefix);
    let entry = entry.ok_or_else(|| Failed::new(FAILURE, format!("{prefix} has no [[trust]] entry")))?;
    edit::remove_trust(path, &entry.file)?;
    clear_away(path, entry);
    say(format_args!("{prefix} is trusted no longer, and the keys of its entities are forgotten."))?;
    super::peer::reload(cli)
}

fn list(cli: &Cli, json: bool) -> Result<(), Failed> {
    let homes: Vec<TrustedHome> = match ask(cli, Method::GET, "/v1/trust", NO_BODY, WAIT) {
        Err(failed) if failed.code == NOT_RUNNING => {
            let config = config::load(&cli.config)?;
            let store = memory::kept(&config).map_err(|error| state_problem(cli, &error))?;
            memory::homes(&config, own_root(&config)?.as_ref(), &store)
        }
        answered => answered?,
    };
    if json {
        return say(serde_json::json!(homes));
    }
    let rows: Vec<[String; 6]> = homes
        .into_iter()
        .map(|home| {
            let domain = home.domain.unwrap_or_else(|| "-".to_owned());
            let prefix = if home.own { format!("{} (own)", home.prefix) } else { home.prefix };
            [prefix, domain, home.fingerprint, time(home.not_after), home.pin, home.keys.to_string()]
        })
        .collect();
    write(&table(&["HOME", "DOMAIN", "FINGERPRINT", "VALID UNTIL", "PIN", "KEYS"], &rows))
}

fn keys(cli: &Cli, json: bool) -> Result<(), Failed> {
    let keys: Vec<RememberedKey> = match ask(cli, Method::GET, "/v1/trust/keys", NO_BODY, WAIT) {
        Err(failed) if failed.code == NOT_RUNNING => {
            let config = config::load(&cli.config)?;
            memory::keys(&memory::kept(&config).map_err(|error| state_problem(cli, &error))?)
        }
        answered => answered?,
    };
    if json {
        return say(serde_json::json!(keys));
    }
    let rows: Vec<[String; 3]> =
        keys.into_iter().map(|key| [key.address.to_string(), key.fingerprint, time(key.seen)]).collect();
    write(&table(&["ADDRESS", "FINGERPRINT", "LAST PROVEN"], &rows))
}
