//! `domicile home redirect`: where the home is reached now.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::super::args::Cli;
use super::super::exit::Failed;
use super::super::output::{say, write};
use super::args::Json;
use super::{ask, render};
use crate::api::home::{HomeRequest, RedirectDocument};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RedirectVerb {
    /// Say where the home is reached now: signed by its root, told to its members, kept by them
    #[command(
        after_help = "Example: domicile home redirect set 203.0.113.5\n\nTo move a home to another machine: 'home backup' here; root.key, root.pem, the configuration and its keys to the new machine; 'home restore' and 'up' there; then this, here. Members follow without a restart once the new place proves to be the home. From then on this machine gives out nothing and keeps no bindings: it tells whoever comes where the home is. Run it on the new machine as well, so that a redirect with --for does not end while this machine is off.\n\nA machine is the home if one of the places is an address of its own; --here says so of a machine behind a port forward."
    )]
    Set(SetArgs),
    /// Show where the home says that it is
    #[command(after_help = "Example: domicile home redirect show")]
    Show(Json),
    /// Take it back: the home is where its address tells
    #[command(
        after_help = "Example: domicile home redirect clear\n\nRun it where the home is: its members are told over their connections."
    )]
    Clear,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SetArgs {
    /// A public address and the port if it is not 4500, the preferred one first; at most eight
    #[arg(required = true, value_name = "IPV4[:PORT]", num_args = 1..=8)]
    places: Vec<String>,
    /// For how long, like 30d; members return to the address that their own addresses tell when it is over [default: until
    /// the next one]
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    lifetime: Option<Duration>,
    /// This machine is reached there, though the address is not its own: a router forwards the port
    #[arg(long)]
    here: bool,
}

pub(super) fn run(cli: &Cli, verb: &RedirectVerb) -> Result<(), Failed> {
    match verb {
        RedirectVerb::Set(args) => {
            let lifetime = args.lifetime.map(|lifetime| lifetime.as_secs());
            let request = HomeRequest::RedirectSet { places: args.places.clone(), lifetime, here: args.here };
            write(&text(&ask(cli, request)?))
        }
        RedirectVerb::Show(args) if args.json => {
            say(ask::<serde_json::Value>(cli, HomeRequest::Redirect {})?)
        }
        RedirectVerb::Show(_) => write(&text(&ask(cli, HomeRequest::Redirect {})?)),
        RedirectVerb::Clear => write(&text(&ask(cli, HomeRequest::RedirectClear {})?)),
    }
}

fn text(document: &RedirectDocument) -> String {
    if document.places.is_empty() {
        return "The home is where its address tells.\n".to_owned();
    }
    let until =
        document.until.map_or_else(String::new, |until| format!(" until {} UTC", render::time(until)));
    let role = if document.here {
        "This machine is the home."
    } else {
        "This machine only tells whoever comes where the home is."
    };
    let since = render::time(document.since);
    format!("The home is at {}{until}, signed {since} UTC.\n{role}\n", document.places.join(", "))
}
