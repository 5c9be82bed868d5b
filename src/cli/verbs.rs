//! The verbs that are one request each, `up`, and completions.

use std::time::Duration;

use clap::CommandFactory;
use hyper::Method;

use super::args::{Cli, CompletionsArgs, PeerArg, RekeyArgs, UpArgs};
use super::client::{NO_BODY, ask};
use super::exit::Failed;
use crate::api::{ConnectReply, Done, PeerRequest};
use crate::daemon::{self, Options, config};

const SHORT: Duration = Duration::from_secs(5);

pub(super) fn up(cli: &Cli, args: &UpArgs) -> Result<(), Failed> {
    daemon::telemetry::start(&cli.log_level);
    let mut config = config::load(&cli.config)?;
    if let Some(socket) = &cli.socket {
        config.control_socket.clone_from(socket);
    }
    Ok(daemon::run(config, Options { keylog: args.keylog.clone() })?)
}

fn tell(done: &Done) {
    println!("{}", done.message);
}

pub(super) fn down(cli: &Cli) -> Result<(), Failed> {
    ask(cli, Method::POST, "/v1/down", NO_BODY, SHORT).map(|done: Done| tell(&done))
}

pub(super) fn reload(cli: &Cli) -> Result<(), Failed> {
    ask(cli, Method::POST, "/v1/reload", NO_BODY, SHORT).map(|done: Done| tell(&done))
}

pub(super) fn request(peer: &str) -> PeerRequest {
    PeerRequest { peer: peer.to_owned(), what: None, timeout: None }
}

/// Brings up the SAs with a peer.
pub(super) fn bring_up(cli: &Cli, peer: &str, timeout: f64) -> Result<ConnectReply, Failed> {
    let timeout = timeout.clamp(0.1, 600.0);
    let body = PeerRequest { timeout: Some(timeout), ..request(peer) };
    ask(cli, Method::POST, "/v1/connect", Some(&body), Duration::from_secs_f64(timeout))
}

pub(super) fn connect(cli: &Cli, args: &PeerArg) -> Result<(), Failed> {
    let reply = bring_up(cli, &args.peer, args.timeout)?;
    if reply.existing {
        println!("{} is up already, from {}", reply.address, reply.local);
    } else {
        println!("{} is up after {:.0} ms, from {}", reply.address, reply.elapsed * 1e3, reply.local);
    }
    Ok(())
}

pub(super) fn disconnect(cli: &Cli, args: &PeerArg) -> Result<(), Failed> {
    ask(cli, Method::POST, "/v1/disconnect", Some(&request(&args.peer)), SHORT).map(|done: Done| tell(&done))
}

pub(super) fn rekey(cli: &Cli, args: &RekeyArgs) -> Result<(), Failed> {
    let what = match (args.ike, args.reauth) {
        (true, _) => "ike",
        (_, true) => "reauth",
        _ => "child",
    };
    let body = PeerRequest { what: Some(what.to_owned()), ..request(&args.peer) };
    ask(cli, Method::POST, "/v1/rekey", Some(&body), SHORT).map(|done: Done| tell(&done))
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failed> {
    clap_complete::generate(args.shell, &mut Cli::command(), "domicile", &mut std::io::stdout());
    Ok(())
}
