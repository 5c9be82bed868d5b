//! `domicile home`: what is asked of the registry. A running daemon answers; without one the registry is opened here.

mod args;
mod batch;
mod export;
mod init;
mod redirect;
pub(super) mod render;

use std::path::Path;
use std::time::Duration;

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(in crate::cli) use args::HomeVerb;
use args::{DeviceVerb, InvitationVerb, InviteArgs, ListArgs, NodeVerb, PendingVerb, ServiceVerb, UserVerb};

use super::args::Cli;
use super::client;
use super::exit::{FAILURE, Failed, NOT_RUNNING, USAGE};
use super::output::{say, write};
use crate::api::Done;
use crate::api::home::{BackupDocument, EntityDetail, EntityDocument, HomeRequest, InviteReply};
use crate::daemon::config;
use crate::daemon::home::{HomeDesk, HomeError, restore_without};

/// A backup of a large registry takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

impl From<HomeError> for Failed {
    fn from(error: HomeError) -> Self {
        Self::new(FAILURE, error.to_string())
    }
}

/// Asks the daemon; without one, the registry itself.
fn ask<T: DeserializeOwned>(cli: &Cli, request: HomeRequest) -> Result<T, Failed> {
    match client::ask(cli, Method::POST, "/v1/home", Some(&request), PATIENCE) {
        Err(failed) if failed.code == NOT_RUNNING => {}
        answered => return answered,
    }
    let mut desk = HomeDesk::open(&directory(cli)?)?;
    let config = config::load(&cli.config)?;
    desk.set_certificate_lifetime(config.certificate_lifetime);
    desk.set_allow_special(config.homes.allows_special());
    let outcome = desk
        .answer("command line", request)
        .map_err(|reply| Failed::new(FAILURE, format!("{}: {}", reply.stage, reply.error)))?;
    let strange =
        |error: serde_json::Error| Failed::new(FAILURE, format!("the answer cannot be read: {error}"));
    serde_json::to_value(&outcome.reply).and_then(serde_json::from_value).map_err(strange)
}

fn directory(cli: &Cli) -> Result<std::path::PathBuf, Failed> {
    let directory = config::load(&cli.config)?.home_directory;
    directory.ok_or_else(|| {
        Failed::new(
            FAILURE,
            format!(
                "{} has no [home_agent]: 'domicile home init' makes this machine a home",
                cli.config.display()
            ),
        )
    })
}

pub(super) fn run(cli: &Cli, verb: &HomeVerb) -> Result<(), Failed> {
    match verb {
        HomeVerb::Init(args) => init::run(cli, args),
        HomeVerb::Root => {
            let desk = HomeDesk::open(&directory(cli)?)?;
            let text = crate::pki::pem::encode(desk.authority().root().der());
            write(&text.map_err(|error| Failed::new(FAILURE, error.to_string()))?)
        }
        HomeVerb::Export(args) => export::run(cli, args),
        HomeVerb::Info(args) => show(cli, HomeRequest::Info {}, args.json, render::home),
        HomeVerb::User(verb) => user(cli, verb),
        HomeVerb::Node(verb) => node(cli, verb),
        HomeVerb::Service(verb) => service(cli, verb),
        HomeVerb::Device(verb) => device(cli, verb),
        HomeVerb::List(args) => list(cli, None, args),
        HomeVerb::Invite(args) => invite(cli, args),
        HomeVerb::Invitation(InvitationVerb::List(args)) => {
            show(cli, HomeRequest::Invitations {}, args.json, |list: &Vec<_>| render::invitations(list))
        }
        HomeVerb::Invitation(InvitationVerb::Withdraw { id }) => {
            done(cli, HomeRequest::InvitationWithdraw { id: *id })
        }
        HomeVerb::Pending(verb) => pending(cli, verb),
        HomeVerb::Take { device } => {
            let user: EntityDocument = ask(cli, HomeRequest::Take { device: device.clone() })?;
            let holder = user.holder.as_deref().unwrap_or("nobody");
            say(format_args!("{holder} has {}, the address of {}.", user.address, user.name))
        }
        HomeVerb::Bindings(args) => {
            let request = HomeRequest::Bindings { within: args.within.clone(), limit: args.lines };
            show(cli, request, args.json, |list: &Vec<_>| render::bindings(list, args.lines))
        }
        HomeVerb::Log(args) => {
            let request = HomeRequest::Log { before: args.before, limit: args.lines };
            show(cli, request, args.json, |list: &Vec<_>| render::log(list))
        }
        HomeVerb::Issued(args) if args.verify => done(cli, HomeRequest::IssuedVerify {}),
        HomeVerb::Issued(args) => {
            let request = HomeRequest::Issued { from: args.from, limit: args.lines };
            show(cli, request, args.json, |list: &Vec<_>| render::issued(list))
        }
        HomeVerb::Backup { file } => {
            let made: BackupDocument = ask(cli, HomeRequest::Backup { file: whole(file)? })?;
            say(format_args!(
                "Wrote {}: {}, {} entities, {} issued certificates. The root key is not in it.",
                file.display(),
                made.prefix,
                made.entities,
                made.issued
            ))
        }
        HomeVerb::Restore { file } => restore(cli, file),
        HomeVerb::Redirect(verb) => redirect::run(cli, verb),
    }
}

/// Prints a document, as it is or for people.
fn show<T: DeserializeOwned + Serialize>(
    cli: &Cli,
    request: HomeRequest,
    json: bool,
    render: impl Fn(&T) -> String,
) -> Result<(), Failed> {
    if json {
        return say(ask::<serde_json::Value>(cli, request)?);
    }
    write(&render(&ask(cli, request)?))
}

fn done(cli: &Cli, request: HomeRequest) -> Result<(), Failed> {
    let done: Done = ask(cli, request)?;
    say(done.message)
}

fn list(cli: &Cli, kind: Option<&str>, args: &ListArgs) -> Result<(), Failed> {
    let request = HomeRequest::List { kind: kind.map(str::to_owned), removed: args.removed };
    show(cli, request, args.json, |list: &Vec<_>| render::entities(list))
}

fn detail(cli: &Cli, args: &args::ShowArgs) -> Result<(), Failed> {
    show(cli, HomeRequest::Show { who: args.who.clone() }, args.json, |detail: &EntityDetail| {
        render::detail(detail)
    })
}

fn rename(cli: &Cli, args: &args::RenameArgs) -> Result<(), Failed> {
    let request = HomeRequest::Rename { who: args.who.clone(), to: args.to.clone() };
    let entity: EntityDocument = ask(cli, request)?;
    say(format_args!("{} is {} now.", entity.address, entity.name))
}

fn remove(cli: &Cli, kind: &str, who: &str) -> Result<(), Failed> {
    let request = HomeRequest::Remove { who: who.to_owned(), kind: Some(kind.to_owned()) };
    let gone: Vec<EntityDocument> = ask(cli, request)?;
    gone.iter().try_for_each(|entity| {
        say(format_args!("Removed {}: {} is never given out again.", entity.name, entity.address))
    })
}

/// Says who was added, and what comes next.
fn added(cli: &Cli, request: HomeRequest, next: &str) -> Result<(), Failed> {
    let entity: EntityDocument = ask(cli, request)?;
    let prefix = if entity.kind == "node" { format!(", and has {}", entity.prefix) } else { String::new() };
    let name = entity.full_name.as_ref().unwrap_or(&entity.name);
    say(format_args!("{name} is {}{prefix}.", entity.address))?;
    if next.is_empty() { Ok(()) } else { say(next) }
}

fn user(cli: &Cli, verb: &UserVerb) -> Result<(), Failed> {
    match verb {
        UserVerb::Add { name } => {
            let next = format!("'domicile home invite {name}' lets a device of hers join.");
            added(cli, HomeRequest::UserAdd { name: name.clone() }, &next)
        }
        UserVerb::List(args) => list(cli, Some("user"), args),
        UserVerb::Show(args) => detail(cli, args),
        UserVerb::Rename(args) => rename(cli, args),
        UserVerb::Remove { who } => remove(cli, "user", who),
    }
}

fn node(cli: &Cli, verb: &NodeVerb) -> Result<(), Failed> {
    match verb {
        NodeVerb::Add { name } => {
            let next = format!("'domicile home invite {name}' lets it join.");
            added(cli, HomeRequest::NodeAdd { name: name.clone() }, &next)
        }
        NodeVerb::List(args) => list(cli, Some("node"), args),
        NodeVerb::Show(args) => detail(cli, args),
        NodeVerb::Rename(args) => rename(cli, args),
        NodeVerb::Remove { who } => remove(cli, "node", who),
        NodeVerb::Key { who, public_key } => {
            let request = HomeRequest::KeySet { who: who.clone(), public_key: public_key.clone() };
            let entity: EntityDocument = ask(cli, request)?;
            say(format_args!("{} has the key {}.", entity.name, entity.fingerprint.unwrap_or_default()))
        }
    }
}

fn service(cli: &Cli, verb: &ServiceVerb) -> Result<(), Failed> {
    match verb {
        ServiceVerb::Add { name, from, node, random } => match (name, from) {
            (_, Some(file)) => batch::add(cli, file, node, *random),
            (name, None) => {
                let (name, node) = (name.clone().unwrap_or_default(), node.clone());
                added(cli, HomeRequest::ServiceAdd { name, node, random: *random }, "")
            }
        },
        ServiceVerb::List(args) => list(cli, Some("service"), args),
        ServiceVerb::Show(args) => detail(cli, args),
        ServiceVerb::Rename(args) => rename(cli, args),
        ServiceVerb::Move { service, node } => {
            let request = HomeRequest::Move { service: service.clone(), node: node.clone() };
            let entity: EntityDocument = ask(cli, request)?;
            say(format_args!(
                "{} runs on {} and keeps {}.",
                entity.name,
                entity.node.unwrap_or_default(),
                entity.address
            ))
        }
        ServiceVerb::Remove { who } => remove(cli, "service", who),
    }
}

fn device(cli: &Cli, verb: &DeviceVerb) -> Result<(), Failed> {
    match verb {
        DeviceVerb::List(args) => list(cli, Some("device"), args),
        DeviceVerb::Show(args) => detail(cli, args),
        DeviceVerb::Rename(args) => rename(cli, args),
        DeviceVerb::Revoke { device } => {
            let gone: EntityDocument = ask(cli, HomeRequest::DeviceRevoke { device: device.clone() })?;
            say(format_args!(
                "Revoked {}: the home knows its key no more; others may believe its certificate for up to a day.",
                gone.name
            ))
        }
    }
}

fn invite(cli: &Cli, args: &InviteArgs) -> Result<(), Failed> {
    let lifetime = args.valid.as_secs();
    let request = HomeRequest::Invite { whom: args.whom.clone(), device: args.device.clone(), lifetime };
    if args.json {
        return say(ask::<serde_json::Value>(cli, request)?);
    }
    let reply: InviteReply = ask(cli, request)?;
    if args.quiet {
        return say(&reply.code);
    }
    let invitation = &reply.invitation;
    let until = render::time(invitation.expires);
    write(&format!(
        "{}\n\nThe code for {}, valid once until {until} UTC. It is not shown again. On the machine that joins:\n  \
         domicile join HOST {}\n",
        reply.code, invitation.whom, reply.code
    ))
}

fn pending(cli: &Cli, verb: &PendingVerb) -> Result<(), Failed> {
    match verb {
        PendingVerb::List(args) => {
            show(cli, HomeRequest::Pending {}, args.json, |list: &Vec<_>| render::pending(list))
        }
        PendingVerb::Accept { which, whom } => {
            let request = HomeRequest::PendingAccept { which: which.clone(), whom: whom.clone() };
            let entity: EntityDocument = ask(cli, request)?;
            say(format_args!("{} is {}.", entity.full_name.as_ref().unwrap_or(&entity.name), entity.address))
        }
        PendingVerb::Refuse { which } => done(cli, HomeRequest::PendingRefuse { which: which.clone() }),
    }
}

/// A lost registry is brought back, too: root key and root certificate are enough.
fn restore(cli: &Cli, file: &Path) -> Result<(), Failed> {
    let request = HomeRequest::Restore { file: whole(file)? };
    match directory(cli) {
        Ok(directory) if HomeDesk::is_lost(&directory) => restore_without(&directory, file)?,
        Ok(_) | Err(_) => drop(ask::<BackupDocument>(cli, request)?),
    }
    say(format_args!(
        "Restored {}. What was changed since it was made is undone, revocations included; make a new backup now.",
        file.display()
    ))
}

/// The daemon has another current directory.
fn whole(file: &Path) -> Result<String, Failed> {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failed::new(USAGE, format!("{} is not UTF-8: rename the file", file.display())))
}
