//! The verbs that are one request each, `up`, and completions.

use std::time::Duration;

use clap::CommandFactory;
use hyper::Method;

use super::args::{Cli, CompletionsArgs, ConnectArgs, PeerArg, RekeyArgs, UpArgs};
use super::client::{NO_BODY, ask};
use super::exit::Failed;
use super::output::{say, write};
use crate::api::{ConnectReply, Done, PeerRequest};
use crate::daemon::config::{self, Told};
use crate::daemon::{self, Options};
use crate::dataplane::offload::Features;

const SHORT: Duration = Duration::from_secs(5);

pub(super) fn up(cli: &Cli, args: &UpArgs) -> Result<(), Failed> {
    daemon::telemetry::start(cli.log_level.name());
    let mut config = config::load(&cli.config)?;
    let told = Told { control_socket: cli.socket.clone(), queues: args.queues };
    told.apply(&mut config);
    daemon::may_administer()?;
    let features = args.without.iter().fold(Features::default(), |features, off| features.without(*off));
    Ok(daemon::run(config, Options { keylog: args.keylog.clone(), features, told })?)
}

fn tell(done: &Done) -> Result<(), Failed> {
    say(&done.message)
}

pub(super) fn down(cli: &Cli) -> Result<(), Failed> {
    ask(cli, Method::POST, "/v1/down", NO_BODY, SHORT).and_then(|done: Done| tell(&done))
}

pub(super) fn reload(cli: &Cli) -> Result<(), Failed> {
    ask(cli, Method::POST, "/v1/reload", NO_BODY, SHORT).and_then(|done: Done| tell(&done))
}

pub(super) fn request(peer: &str) -> PeerRequest {
    PeerRequest { peer: peer.to_owned(), what: None, timeout: None }
}

/// Brings up the SAs with a peer.
pub(super) fn bring_up(cli: &Cli, peer: &str, timeout: Duration) -> Result<ConnectReply, Failed> {
    let body = PeerRequest { timeout: Some(timeout.as_secs_f64()), ..request(peer) };
    ask(cli, Method::POST, "/v1/connect", Some(&body), timeout)
}

pub(super) fn connect(cli: &Cli, args: &ConnectArgs) -> Result<(), Failed> {
    let reply = bring_up(cli, &args.peer, args.timeout)?;
    if reply.existing {
        say(format_args!("{} is up already, from {}", reply.address, reply.local))
    } else {
        say(format_args!("{} is up after {:.0} ms, from {}", reply.address, reply.elapsed * 1e3, reply.local))
    }
}

pub(super) fn disconnect(cli: &Cli, args: &PeerArg) -> Result<(), Failed> {
    ask(cli, Method::POST, "/v1/disconnect", Some(&request(&args.peer)), SHORT)
        .and_then(|done: Done| tell(&done))
}

pub(super) fn rekey(cli: &Cli, args: &RekeyArgs) -> Result<(), Failed> {
    let what = match (args.ike, args.reauth) {
        (true, _) => "ike",
        (_, true) => "reauth",
        _ => "child",
    };
    let body = PeerRequest { what: Some(what.to_owned()), ..request(&args.peer) };
    ask(cli, Method::POST, "/v1/rekey", Some(&body), SHORT).and_then(|done: Done| tell(&done))
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failed> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "domicile", &mut script);
    write(&String::from_utf8_lossy(&script))
}
