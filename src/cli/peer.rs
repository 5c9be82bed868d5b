//! `domicile peer`

use std::time::Duration;

use hyper::Method;

use super::args::{Cli, PeerAddArgs, PeerVerb};
use super::client::{NO_BODY, ask};
use super::exit::{FAILURE, Failed, NOT_RUNNING};
use crate::api::Done;
use crate::daemon::config::{self, edit};
use crate::policy::pad::Proof;

pub(super) fn run(cli: &Cli, verb: &PeerVerb) -> Result<(), Failed> {
    match verb {
        PeerVerb::Add(args) => add(cli, args),
        PeerVerb::Remove { name } => {
            edit::remove_peer(&cli.config, name)?;
            println!("Removed {name} from {}.", cli.config.display());
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
        psk_file: args.psk_file.clone(),
        endpoint: args.endpoint.clone(),
        connect: args.connect.clone(),
    };
    edit::add_peer(&cli.config, &peer)?;
    println!("Added {} to {}.", args.name, cli.config.display());
    reload(cli)
}

/// A running daemon takes the change up; without one there is nothing to do.
fn reload(cli: &Cli) -> Result<(), Failed> {
    match ask(cli, Method::POST, "/v1/reload", NO_BODY, Duration::from_secs(5)) {
        Ok(Done { .. }) => {
            println!("The running daemon took it up.");
            Ok(())
        }
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
        println!("{}", serde_json::Value::Array(documents));
    } else {
        print!("{}", super::render::table(&["NAME", "ADDRESS", "ENDPOINT", "PROOF"], &rows));
    }
    Ok(())
}
