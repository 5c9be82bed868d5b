//! The event loop: one thread, which owns the node and drives it.
#![expect(clippy::disallowed_methods, reason = "this is where the clock comes in")]

mod act;
mod homes;
mod start;
mod told;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::config::{Config, Told};
use super::control::Call;
use super::error::Error;
use super::keylog::KeyLog;
use super::machine::Edge;
use super::membership::Membership;
use super::naming::Naming;
use super::places::{self, Places};
use super::requests::Desk;
use super::suspend::{Clocks, SleepWatch};
use super::system::unix;
use super::trust;
use crate::dataplane::event::Event as DataEvent;
use crate::dataplane::offload::Features;
use crate::dataplane::relay;
use crate::io::netlink::View;
use crate::io::route::source_for;
use crate::node::Node;

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
    /// The offloads that the data plane may use.
    pub features: Features,
    /// What the command line says in place of the configuration.
    pub told: Told,
}

/// Runs until told to end.
///
/// # Errors
/// Why it did not start, or ended by itself.
pub fn run(config: Config, options: Options) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(start::serve(config, options))
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
            if !self.edge.inject(&inject) {
                self.node.handle_too_big(Instant::now(), &inject);
            }
        }
        while let Some(packet) = self.node.poll_tun() {
            self.edge.answer(&packet);
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

    /// Says goodbye to every peer and waits a moment for the answers.
    async fn goodbye(&mut self) -> Result<(), Error> {
        let end = Instant::now() + GOODBYE;
        // Relayed goodbyes pass only while we are bound.
        self.node.part(Instant::now());
        self.drain();
        while !self.node.has_parted() {
            let event = tokio::time::timeout_at((end - GOODBYE / 2).into(), self.events.recv()).await;
            let Ok(Some(event)) = event else { break };
            self.handle_data(event);
        }
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
