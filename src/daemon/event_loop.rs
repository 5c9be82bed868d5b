//! The event loop: one thread, which owns the node and drives it.
#![expect(clippy::disallowed_methods, reason = "this is where the clock and the system's randomness come in")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::config::Config;
use super::control::{self, Call};
use super::error::Error;
use super::home::HomeDesk;
use super::keylog::KeyLog;
use super::machine::Edge;
use super::requests::Desk;
use super::trust::{self, JumpWatch};
use crate::api::Done;
use crate::dataplane::event::Event as DataEvent;
use crate::dataplane::tables;
use crate::io::netlink;
use crate::io::route::source_for;
use crate::node::{Event, Node};

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
    clock: JumpWatch,
    signals: Signals,
}

async fn serve(config: Config, options: Options) -> Result<(), Error> {
    let signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let keylog = options.keylog.as_deref().map(open_keylog).transpose()?;
    let home = config.home_directory.as_deref().map(HomeDesk::open).transpose()?;
    let (socket, calls) = control::open(&config.control_socket)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| std::io::Error::other(error.to_string()))?;
    let changes = netlink::watch()?;
    let (publisher, reader) = tables::new();
    let (edge, events) = Edge::open(&config, &reader).await?;
    let now = Instant::now();
    let trust = trust::empty();
    trust::apply(None, &config, &trust)?;
    let node = Node::new(config.to_node(keylog.is_some(), &trust), publisher, seed, now);
    let desk = Desk::new(config, trust, keylog.is_some(), now, edge.workers.summary(), home);
    for entity in &desk.config.entities {
        tracing::info!("{} is {} on {}", entity.name, entity.address, desk.config.interface);
    }
    tracing::info!(peers = desk.config.peers.len(), port = desk.config.port, "up");
    ready();
    let clock = JumpWatch::new(now);
    let mut daemon = Daemon { node, edge, desk, keylog, events, calls, changes, moved: None, clock, signals };
    let ended = daemon.turn().await;
    let Daemon { edge, desk, .. } = daemon;
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
            self.drain();
            if !self.desk.down.is_empty() {
                return self.goodbye().await;
            }
            match self.wake().await {
                Wake::Data(event) => self.handle_data(event),
                Wake::Call(call) => self.desk.answer(Instant::now(), &mut self.node, call),
                Wake::Moved => {
                    self.moved = None;
                    self.node.handle_local_change(Instant::now(), &source_for);
                }
                Wake::Timer => {
                    let now = Instant::now();
                    if self.clock.jumped(now) {
                        self.node.handle_clock_change(now);
                    }
                    self.node.handle_timeout(now, &source_for);
                    self.desk.expire(now);
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

    async fn wake(&mut self) -> Wake {
        let timer = self.node.poll_timeout().map(|(at, _)| at);
        let timer = [timer, self.desk.deadline()].into_iter().flatten().min();
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

    /// Everything that the node has to say leaves at once.
    fn drain(&mut self) {
        while let Some(transmit) = self.node.poll_transmit() {
            self.edge.transmit(&transmit);
        }
        while let Some(inject) = self.node.poll_inject() {
            self.edge.inject(&inject);
        }
        while let Some(packet) = self.node.poll_tun() {
            self.edge.answer(&packet);
        }
        while let Some(event) = self.node.poll_event() {
            self.desk.notice(Instant::now(), &event);
            self.tell(&event);
        }
        trust::tell(&self.desk.trust);
    }

    fn tell(&mut self, event: &Event) {
        let logged = match event {
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
            Event::SequenceReserved { .. } | Event::Route { .. } => Ok(()),
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
            Event::Document { remote, .. } => {
                tracing::debug!("{remote} sent a document that nobody here waits for");
                Ok(())
            }
            Event::IkeKeys { spi_i, spi_r, suite, sk_ei, sk_er } => {
                self.keylog.as_mut().map_or(Ok(()), |log| log.ike(*spi_i, *spi_r, *suite, sk_ei, sk_er))
            }
            Event::ChildKeys { source, destination, spi, suite, key } => {
                self.keylog.as_mut().map_or(Ok(()), |log| log.esp(*source, *destination, *spi, *suite, key))
            }
        };
        if let Err(error) = logged {
            tracing::warn!(%error, "the key log cannot be written");
        }
    }

    /// Says goodbye to every peer and waits a moment for the answers.
    async fn goodbye(&mut self) -> Result<(), Error> {
        let end = Instant::now() + GOODBYE;
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
