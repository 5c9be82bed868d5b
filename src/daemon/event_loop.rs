//! The event loop: one thread, which owns the node and drives it.
#![expect(clippy::disallowed_methods, reason = "this is where the clock comes in")]

mod homes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::config::Config;
use super::control::{self, Call};
use super::error::Error;
use super::home::{self, HomeDesk, SharedHome};
use super::keylog::KeyLog;
use super::machine::Edge;
use super::membership::Membership;
use super::naming::{self, Naming};
use super::places::{self, Places};
use super::requests::Desk;
use super::state::StateFile;
use super::suspend::{Clocks, SleepWatch};
use super::system::{random, unix};
use super::trust;
use crate::addr::plan::agent_of;
use crate::api::Done;
use crate::dataplane::event::Event as DataEvent;
use crate::dataplane::relay;
use crate::dataplane::tables;
use crate::home::verbs::Effect;
use crate::io::netlink::{self, View};
use crate::io::route::source_for;
use crate::node::{Event, Node};
use homes::roles;

/// Events handled before timers, requests and signals get their turn.
const EVENTS_PER_TURN: usize = 256;
/// A burst of address changes is handled once, this long after its first one.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How long the goodbyes of `down` may take.
const GOODBYE: Duration = Duration::from_millis(300);

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Write keys to this file.
    pub keylog: Option<PathBuf>,
}

/// Runs until told to end.
///
/// # Errors
/// Why it did not start, or ended by itself.
pub fn run(config: Config, options: Options) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, options))
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// Why the loop turns.
enum Wake {
    Data(DataEvent),
    Call(Call),
    Moved,
    Timer,
    Found(places::Answer),
    Reload,
    End,
    Worker(Error),
}

struct Daemon {
    node: Node,
    edge: Edge,
    desk: Desk,
    keylog: Option<KeyLog>,
    events: mpsc::Receiver<DataEvent>,
    calls: mpsc::Receiver<Call>,
    changes: mpsc::Receiver<()>,
    /// When a burst of address changes is handled.
    moved: Option<Instant>,
    /// What the machine looked like when it moved last.
    view: Option<View>,
    sleep: SleepWatch,
    /// When the loop wants to wake up.
    due: Option<Instant>,
    signals: Signals,
    naming: Naming,
    membership: Membership,
    /// Where homes may be reached.
    places: Places,
    /// Whom relayed packets may come from, and where they go.
    relay: relay::Publisher,
}

async fn serve(config: Config, options: Options) -> Result<(), Error> {
    let signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let keylog = options.keylog.as_deref().map(open_keylog).transpose()?;
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
    let (edge, events) = Edge::open(&config, &reader, forward).await?;
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

impl Daemon {
    /// Turns until the end is asked for.
    async fn turn(&mut self) -> Result<(), Error> {
        loop {
            self.follow_reload().await;
            self.drain();
            if !self.desk.down.is_empty() {
                return self.goodbye().await;
            }
            match self.wake().await {
                Wake::Data(event) => self.handle_data(event),
                Wake::Call(call) => self.desk.answer(Instant::now(), &mut self.node, call),
                Wake::Moved => {
                    self.moved = None;
                    self.moved().await;
                }
                Wake::Timer => {
                    let now = Instant::now();
                    self.look_at_clocks(now);
                    self.node.handle_timeout(now, &source_for);
                    self.membership.handle_timeout(now, unix(), &mut self.node, &self.desk.config);
                    self.take_up_hosted(now);
                    self.keep_bindings(now, false);
                    self.desk.expire(now);
                    self.desk.errands.handle_timeout(now, &mut self.node);
                    self.places.handle_timeout(now);
                    self.follow_homes();
                }
                Wake::Found(answer) => {
                    self.places.take(Instant::now(), answer);
                    self.follow_homes();
                }
                Wake::Reload => match self.desk.reload(Instant::now(), &mut self.node) {
                    Ok(message) => tracing::info!("{message}"),
                    Err(reply) => tracing::error!("{}", reply.error),
                },
                Wake::End => return self.goodbye().await,
                Wake::Worker(error) => return Err(error),
            }
        }
    }

    /// What is not the node's follows a configuration that was read again.
    async fn follow_reload(&mut self) {
        if std::mem::take(&mut self.desk.reloaded) {
            if let Err(error) = self.edge.follow(&self.desk.config).await {
                tracing::error!("the machine's addresses are not those of the configuration: {error}");
            }
            self.desk.owners.clone_from(&self.edge.owners);
            self.naming.follow(&self.desk.config);
            self.follow_homes();
            self.follow_places();
        }
    }

    async fn wake(&mut self) -> Wake {
        let timer = self.node.poll_timeout().map(|(at, _)| at);
        let timer = [timer, self.desk.deadline(), Some(self.membership.deadline()), self.places.deadline()]
            .into_iter()
            .flatten()
            .min();
        self.due = timer;
        let far = Instant::now() + Duration::from_secs(3600);
        loop {
            tokio::select! {
                biased;
                _ = self.signals.interrupt.recv() => return Wake::End,
                _ = self.signals.terminate.recv() => return Wake::End,
                _ = self.signals.hangup.recv() => return Wake::Reload,
                failure = self.edge.workers.failed() => {
                    return Wake::Worker(Error::Worker { worker: failure.worker, reason: failure.error.to_string() });
                }
                Some(call) = self.calls.recv() => return Wake::Call(call),
                () = tokio::time::sleep_until(self.moved.unwrap_or(far).into()), if self.moved.is_some() => return Wake::Moved,
                Some(()) = self.changes.recv(), if self.moved.is_none() => {
                    self.moved = Some(Instant::now() + DEBOUNCE);
                }
                () = tokio::time::sleep_until(timer.unwrap_or(far).into()) => return Wake::Timer,
                Some(answer) = self.places.answer() => return Wake::Found(answer),
                Some(event) = self.events.recv() => return Wake::Data(event),
            }
        }
    }

    fn handle_data(&mut self, first: DataEvent) {
        let mut next = Some(first);
        let mut budget = EVENTS_PER_TURN;
        while let Some(event) = next {
            self.node.handle_data_event(Instant::now(), event, &source_for);
            self.drain();
            budget -= 1;
            next = if budget > 0 { self.events.try_recv().ok() } else { None };
        }
    }

    /// Everything that the node has to say leaves at once; what follows from a home's new place, too.
    fn drain(&mut self) {
        while self.drain_once() {
            self.follow_homes();
        }
    }

    /// Whether what is remembered changed.
    fn drain_once(&mut self) -> bool {
        let mut events = Vec::new();
        while let Some(event) = self.node.poll_event() {
            // Before anything is sent: sequence numbers are on the disk before they are used.
            self.act(&event);
            events.push(event);
        }
        self.send();
        for event in events {
            self.desk.notice(Instant::now(), &event);
            self.hear(&event);
            self.heed(&event);
            self.tell(&event);
        }
        self.take_up_hosted(Instant::now());
        trust::tell(&self.desk.trust);
        let changed = self.desk.trust.take_changed();
        let remembers = changed.is_some();
        if let Some(trust) = changed {
            self.desk.state.state.trust = trust;
            self.save_state();
        }
        self.apply_effects();
        remembers
    }

    fn send(&mut self) {
        while let Some(transmit) = self.node.poll_transmit() {
            self.edge.transmit(&transmit);
        }
        while let Some(inject) = self.node.poll_inject() {
            self.edge.inject(&inject);
        }
        while let Some(packet) = self.node.poll_tun() {
            self.edge.answer(&packet);
        }
    }

    /// What must not wait for anything else.
    fn act(&mut self, event: &Event) {
        if let Event::SequenceReserved { home_address, sequence } = event {
            self.desk.state.state.sequences.insert(*home_address, *sequence);
            self.save_state();
        }
        if let Event::Route { prefix, care_of } = event {
            match care_of {
                Some(care_of) => self.relay.bind(*prefix, *care_of),
                None => self.relay.unbind(*prefix),
            }
        }
    }

    fn take_up_hosted(&mut self, now: Instant) {
        if self.membership.take_rotated() {
            match self.desk.reload(now, &mut self.node) {
                Ok(_) => tracing::info!("a new key is in use"),
                Err(reply) => tracing::error!("a new key is in its file, but not in use: {}", reply.error),
            }
        }
        if let Some(hosted) = self.membership.take_hosted(now) {
            self.desk.set_hosted(now, &mut self.node, hosted);
            self.save_state();
        }
    }

    fn save_state(&self) {
        if let Err(error) = self.desk.state.save() {
            tracing::error!("what is to be remembered cannot be written: {error}");
        }
    }

    /// A document is answered at once.
    fn hear(&mut self, event: &Event) {
        if let Event::PeerUp { local, remote } = event {
            let config = &self.desk.config;
            let is_home = config
                .roots
                .iter()
                .any(|root| agent_of(root.prefix()) == *remote && root.prefix().contains(local));
            if is_home && config.own_entity(*local).is_some() {
                self.membership.list(Instant::now(), &mut self.node, config, *local);
                self.send();
            }
            let (now, pair) = (Instant::now(), (*local, *remote));
            self.membership.greet(now, unix(), &mut self.node, &self.desk.config, pair);
            self.send();
        }
        let Event::Document { ike, local, remote, document } = event else { return };
        if self.desk.errands.hear(*local, *remote, document) {
            return;
        }
        let from = (*ike, *local, *remote);
        let (now, config) = (Instant::now(), &self.desk.config);
        let effects = self.membership.hear(now, unix(), &mut self.node, config, from, document);
        self.desk.effects.extend(effects);
        self.send();
    }

    /// What changes in the registry mean for whoever is connected.
    fn apply_effects(&mut self) {
        let now = Instant::now();
        for effect in std::mem::take(&mut self.desk.effects) {
            match effect {
                Effect::Cut(address) => {
                    self.node.cut_off(now, address);
                    self.membership.spread_revocation(
                        now,
                        unix(),
                        &mut self.node,
                        &self.desk.config,
                        address,
                    );
                }
                Effect::Unbind(prefix) => self.node.unbind(now, prefix),
                Effect::Hosted(host) => self.membership.hosted_changed(now, [host]),
                Effect::Restored => {
                    let everybody = self.node.remotes_of(self.desk.config.home_prefix.map(agent_of));
                    self.membership.hosted_changed(now, everybody);
                }
                Effect::Moved => self.membership.tell_place(now, &mut self.node, &self.desk.config, None),
                // The registry itself is asked each time.
                Effect::Changed => {}
            }
            self.send();
        }
    }

    /// Bindings of the home, to the registry.
    fn keep_bindings(&mut self, now: Instant, all: bool) {
        loop {
            let changes = self.node.take_binding_changes(now, all);
            if changes.is_empty() {
                return;
            }
            if let Some(home) = &self.desk.home
                && let Err(error) = home.lock().keep_bindings(&changes)
            {
                tracing::error!("bindings cannot be kept: {error}");
                return;
            }
        }
    }

    /// The kernel told of addresses, routes or links, or the program just started. Much of what it tells is no news: a
    /// lease that was renewed, a link of somebody else.
    async fn moved(&mut self) {
        let view = self.edge.view().await;
        if view.is_some() && view == self.view {
            tracing::debug!("nothing of the machine's addresses and routes changed");
            return;
        }
        self.node.set_local_addresses(view.as_ref().map(View::addresses).unwrap_or_default());
        self.view = view;
        self.node.handle_local_change(Instant::now(), &source_for);
    }

    /// After a sleep everything that others know of us may be over, and what we know of them.
    fn look_at_clocks(&mut self, now: Instant) {
        let passed = self.sleep.look(Clocks::now(), self.due);
        if passed.clock_changed {
            self.node.handle_clock_change(now);
        }
        if let Some(slept) = passed.slept {
            tracing::info!(
                "nothing ran for {} s: bindings, paths and peers are looked at anew",
                slept.as_secs()
            );
            self.node.handle_resume(now);
            self.membership.hurry(now);
        }
    }

    fn tell(&mut self, event: &Event) {
        let logged = match event {
            // What names a code is not for the log.
            Event::PeerUp { remote, .. } | Event::PeerDown { remote, .. } if self.holds_a_code(*remote) => {
                Ok(())
            }
            Event::PeerUp { local, remote } => {
                tracing::info!(%local, "{remote} is up");
                Ok(())
            }
            Event::PeerDown { remote, reason, .. } => {
                tracing::info!("{remote} is down: {reason}");
                Ok(())
            }
            Event::PeerFailed { remote, error, .. } => {
                tracing::warn!("{remote} cannot be reached: {error}");
                Ok(())
            }
            Event::PathChanged { remote, path, reason } => {
                let kind = if path.relay.is_some() { "relayed" } else { "direct" };
                let reason = reason.as_deref().unwrap_or("its address changed");
                tracing::info!(from = %path.local, to = %path.remote, kind, "{remote} moved to another path: {reason}");
                Ok(())
            }
            Event::SequenceReserved { .. } | Event::Route { .. } | Event::Document { .. } => Ok(()),
            Event::HomeMoved { prefix, from, to } => {
                tracing::info!("the home {prefix} is at {to} now, and was at {from}");
                Ok(())
            }
            Event::Registered { home_address } => {
                tracing::info!("{home_address} is registered with its home agent");
                Ok(())
            }
            Event::Observed { home_address, care_of, behind_nat } => {
                tracing::info!(behind_nat, "the home agent sees {home_address} at {care_of}");
                Ok(())
            }
            Event::RegistrationLost { home_address, why } => {
                tracing::warn!("{home_address} is not reachable through its home agent: {why}");
                Ok(())
            }
            Event::IkeKeys { spi_i, spi_r, suite, sk_ei, sk_er } => {
                self.keylog.as_mut().map_or(Ok(()), |log| log.ike(*spi_i, *spi_r, *suite, sk_ei, sk_er))
            }
            Event::ChildKeys { spi, suite, key } => {
                self.keylog.as_mut().map_or(Ok(()), |log| log.esp(*spi, *suite, key))
            }
        };
        if let Err(error) = logged {
            tracing::warn!(%error, "the key log cannot be written");
        }
    }

    /// Whoever is neither listed nor of a trusted home came with a code.
    fn holds_a_code(&self, remote: std::net::Ipv6Addr) -> bool {
        let config = &self.desk.config;
        config.home_prefix.is_some()
            && config.peers.iter().all(|peer| peer.address != remote)
            && config.roots.iter().all(|root| !root.prefix().contains(&remote))
    }

    /// Says goodbye to every peer and waits a moment for the answers.
    async fn goodbye(&mut self) -> Result<(), Error> {
        let end = Instant::now() + GOODBYE;
        self.node.deregister(Instant::now());
        self.drain();
        self.keep_bindings(Instant::now(), true);
        self.node.shutdown(Instant::now());
        self.drain();
        while !self.node.is_quiet() {
            let event = tokio::time::timeout_at(end.into(), self.events.recv()).await;
            let Ok(Some(event)) = event else { break };
            self.handle_data(event);
        }
        Ok(())
    }
}
