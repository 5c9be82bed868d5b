//! From a configuration to a running daemon, and down again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::homes::roles;
use super::{Daemon, Options, Signals};
use crate::api::Done;
use crate::daemon::config::Config;
use crate::daemon::control;
use crate::daemon::error::Error;
use crate::daemon::home::{self, HomeDesk, SharedHome};
use crate::daemon::keylog::KeyLog;
use crate::daemon::machine::Edge;
use crate::daemon::membership::Membership;
use crate::daemon::naming;
use crate::daemon::places::Places;
use crate::daemon::requests::Desk;
use crate::daemon::state::StateFile;
use crate::daemon::suspend::{Clocks, SleepWatch};
use crate::daemon::system::{random, unix};
use crate::daemon::trust;
use crate::dataplane::{relay, tables};
use crate::esp;
use crate::io::netlink;
use crate::node::Node;

pub(super) async fn serve(config: Config, options: Options) -> Result<(), Error> {
    let signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let keylog = options.keylog.as_deref().map(open_keylog).transpose()?;
    if esp::IS_UNPROTECTED {
        tracing::warn!(
            "this build is for measurements and ESP with AES-256-GCM protects nothing: use one without bench-null-cipher"
        );
    }
    let home = config.home_directory.as_deref().map(HomeDesk::open).transpose()?.map(SharedHome::new);
    let mut config = config;
    if let Some(home) = &home {
        home::complete(&mut config, home)?;
    }
    let state = StateFile::open(&config.path).map_err(|error| Error::Path {
        path: config.path.with_extension("state.json"),
        what: "reading what is remembered",
        error,
    })?;
    config.settle_keys()?;
    config.set_hosted(state.state.hosted.entities(&config));
    let (socket, calls) = control::open(&config.control_socket)?;
    let changes = netlink::watch()?;
    let (publisher, reader) = tables::new();
    let (mut relay, relay_reader) = relay::new();
    relay.set_roles(roles(&config, &[]));
    let forward = relay::Relay::new(relay_reader, config.relay_limits, *random()?);
    let (edge, events) = Edge::open(&config, &reader, forward, options.features).await?;
    let mut overrides = options.told;
    if edge.speed.queues() != config.queues {
        // SAs go by queues: by those that there are.
        config.queues = edge.speed.queues();
        overrides.queues = Some(config.queues);
    }
    let now = Instant::now();
    let trust = trust::remembered(state.state.trust.clone());
    trust::apply(&config, &trust)?;
    let told = config.to_node(keylog.is_some(), &trust, home.as_ref(), &state.state.sequences);
    let mut node = Node::new(told, publisher, *random()?, now);
    if let Some(home) = &home {
        let rows = home.lock().restored_bindings()?;
        tracing::info!(bindings = rows.len(), "this machine is a home");
        relay.bind_all(node.serve_home(now, Arc::new(home.clone()), *random()?, rows));
    }
    let hosted = state.state.hosted.clone();
    let membership = Membership::new(home.clone(), Arc::clone(&trust), hosted, now, unix());
    let places = Places::new(Arc::clone(&trust));
    let mut desk = Desk::new(config, state, trust, keylog.is_some(), now, edge.workers.summary(), home);
    desk.owners = edge.owners.clone();
    desk.told = overrides;
    desk.speed = Some(Arc::clone(&edge.speed));
    for entity in &desk.config.entities {
        let whose = entity.uid.map_or_else(String::new, |uid| format!(", for uid {uid} alone"));
        tracing::info!("{} is {} on {}{whose}", entity.name, entity.address, desk.config.interface);
    }
    tracing::info!(peers = desk.config.peers.len(), port = desk.config.port, "up");
    ready();
    let sleep = SleepWatch::new(Clocks::now());
    let moved = None;
    let naming = naming::start(&desk.config, desk.home.as_ref(), *random()?);
    let mut daemon = Daemon {
        node,
        edge,
        desk,
        keylog,
        events,
        calls,
        changes,
        moved,
        view: None,
        sleep,
        due: None,
        signals,
        naming,
        membership,
        places,
        relay,
    };
    daemon.follow_homes();
    daemon.moved().await;
    let ended = daemon.turn().await;
    let Daemon { edge, desk, naming, .. } = daemon;
    naming.stop().await;
    let closed = edge.close().await;
    drop(socket);
    let done = serde_json::to_value(Done { message: "down".to_owned() }).unwrap_or_default();
    for reply in desk.down {
        let _ = reply.send(Ok(done.clone()));
    }
    // The answers leave through tasks of this runtime: let them.
    tokio::time::sleep(Duration::from_millis(20)).await;
    tracing::info!("down");
    ended.and(closed)
}

fn open_keylog(path: &std::path::Path) -> Result<KeyLog, Error> {
    let log = KeyLog::open(path).map_err(|error| Error::Path {
        path: path.to_owned(),
        what: "opening the key log",
        error,
    })?;
    tracing::warn!(
        "writing keys to {}: whoever reads that file can read everything said from now on",
        path.display()
    );
    Ok(log)
}

/// Tells systemd that we are up (sd_notify(3)); without systemd there is no socket.
fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Ok(socket) = std::os::unix::net::UnixDatagram::unbound() {
        let _ = socket.send_to(b"READY=1", path);
    }
}
