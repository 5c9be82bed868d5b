//! The command line: one file per verb. Every verb says in its help what it is for, with an example.

mod address;
mod args;
mod check;
mod client;
mod exit;
mod home;
mod init;
mod join;
mod key;
mod leave;
mod output;
mod paths;
mod peer;
mod ping;
mod render;
mod request;
mod status;
mod trust;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Verb};
use exit::Failed;

/// Parses the arguments, runs the verb, and maps the result to an exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap writes help and version to stdout, mistakes to stderr.
            return match error.print() {
                _ if error.use_stderr() => ExitCode::from(exit::USAGE),
                Ok(()) => ExitCode::from(exit::OK),
                Err(error) => end(&output::failed(&error)),
            };
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failed) => end(&failed),
    }
}

/// Problems of a configuration begin with their place, as editors read it; everything else says who speaks.
fn end(failed: &Failed) -> ExitCode {
    match (failed.message.as_str(), failed.code) {
        ("", _) => {}
        (message, exit::CONFIG) => output::complain(message),
        (message, _) => output::complain(format_args!("domicile: {message}")),
    }
    ExitCode::from(failed.code)
}

fn run(cli: &Cli) -> Result<(), Failed> {
    match &cli.verb {
        Verb::Init(args) => init::run(cli, args),
        Verb::Key(args) => key::run(cli, args),
        Verb::Address(args) => address::run(args),
        Verb::Peer(args) => peer::run(cli, args),
        Verb::Trust(verb) => trust::run(cli, verb),
        Verb::Join(args) => join::run(cli, args),
        Verb::Take(args) => leave::take(cli, args),
        Verb::Leave(args) => leave::run(cli, args),
        Verb::Home(verb) => home::run(cli, verb),
        Verb::Up(args) => verbs::up(cli, args),
        Verb::Down => verbs::down(cli),
        Verb::Reload => verbs::reload(cli),
        Verb::Status(args) => status::run(cli, args),
        Verb::Connect(args) => verbs::connect(cli, args),
        Verb::Disconnect(args) => verbs::disconnect(cli, args),
        Verb::Rekey(args) => verbs::rekey(cli, args),
        Verb::Ping(args) => ping::run(cli, args),
        Verb::Check(args) => check::run(cli, args),
        Verb::Completions(args) => verbs::completions(args),
    }
}
