//! `domicile peer`

use std::path::Path;
use std::time::Duration;

use hyper::Method;

use super::args::{Cli, PeerAddArgs, PeerVerb};
use super::client::{NO_BODY, ask};
use super::exit::{FAILURE, Failed, NOT_RUNNING};
use super::output::{say, write};
use crate::api::Done;
use crate::daemon::config::{self, edit};
use crate::policy::pad::Proof;

pub(super) fn run(cli: &Cli, verb: &PeerVerb) -> Result<(), Failed> {
    match verb {
        PeerVerb::Add(args) => add(cli, args),
        PeerVerb::Remove { name } => {
            edit::remove_peer(&cli.config, name)?;
            say(format_args!("Removed {name} from {}.", cli.config.display()))?;
            reload(cli)
        }
        PeerVerb::List { json } => list(cli, *json),
    }
}

fn add(cli: &Cli, args: &PeerAddArgs) -> Result<(), Failed> {
    let peer = edit::NewPeer {
        name: args.name.clone(),
        address: args.address.clone(),
        public_key: args.public_key.clone(),
        psk_file: args.psk_file.as_deref().map(|file| psk_file(&cli.config, file)).transpose()?,
        endpoint: args.endpoint.clone(),
        connect: args.connect.clone(),
    };
    edit::add_peer(&cli.config, &peer)?;
    say(format_args!("Added {} to {}.", args.name, cli.config.display()))?;
    reload(cli)
}

/// How the configuration names a file that was named on the command line: relative paths begin at the current
/// directory here and at the configuration's directory there.
fn psk_file(config: &Path, given: &str) -> Result<String, Failed> {
    let missing = |shown: &Path| {
        Failed::new(
            FAILURE,
            format!(
                "{} does not exist: --psk-file is looked for in the current directory, then beside {}",
                shown.display(),
                config.display()
            ),
        )
    };
    let dir = config.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let here = std::path::absolute(given).map_err(|_| missing(Path::new(given)))?;
    if !here.exists() {
        return if dir.join(given).exists() { Ok(given.to_owned()) } else { Err(missing(&here)) };
    }
    let (home, name) = (here.parent().and_then(|parent| parent.canonicalize().ok()), here.file_name());
    let (Some(home), Some(name)) = (home, name) else { return Err(missing(&here)) };
    let path = if dir.canonicalize().is_ok_and(|dir| dir == home) { name.into() } else { home.join(name) };
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failed::new(
            FAILURE,
            format!("{} is not UTF-8, which the configuration is: rename it", path.display()),
        )
    })
}

/// A running daemon takes the change up; without one there is nothing to do.
pub(super) fn reload(cli: &Cli) -> Result<(), Failed> {
    match ask(cli, Method::POST, "/v1/reload", NO_BODY, Duration::from_secs(5)) {
        Ok(Done { .. }) => say("The running daemon took it up."),
        Err(failed) if failed.code == NOT_RUNNING => Ok(()),
        Err(failed) => Err(Failed::new(
            FAILURE,
            format!("the file was changed, but the running daemon did not take it up: {}", failed.message),
        )),
    }
}

fn list(cli: &Cli, json: bool) -> Result<(), Failed> {
    let config = config::load(&cli.config)?;
    let rows: Vec<[String; 4]> = config
        .peers
        .iter()
        .map(|peer| {
            let proof = match &peer.proof {
                Proof::PublicKey(key) => crate::crypto::identity::PublicKey::from_bytes(key)
                    .map_or_else(|_| String::new(), |key| key.to_string()),
                Proof::Psk(_) => "pre-shared key".to_owned(),
                Proof::Certificate => "certificate".to_owned(),
                Proof::Stranger => "none".to_owned(),
            };
            let endpoint = peer.endpoint.map_or_else(|| "none".to_owned(), |endpoint| endpoint.to_string());
            [peer.name.clone(), peer.address.to_string(), endpoint, proof]
        })
        .collect();
    if json {
        let documents: Vec<serde_json::Value> = rows
            .iter()
            .map(|[name, address, endpoint, proof]| serde_json::json!({ "name": name, "address": address, "endpoint": endpoint, "proof": proof }))
            .collect();
        say(serde_json::Value::Array(documents))
    } else {
        write(&super::render::table(&["NAME", "ADDRESS", "ENDPOINT", "PROOF"], &rows))
    }
}
