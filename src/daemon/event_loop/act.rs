//! What follows from events: routes of a home agent, documents that are answered, changes in the registry, what is kept.

use std::time::Instant;

use super::Daemon;
use crate::addr::plan::agent_of;
use crate::daemon::system::unix;
use crate::home::verbs::Effect;
use crate::node::Event;

impl Daemon {
    /// What must not wait for anything else.
    pub(super) fn act(&mut self, event: &Event) {
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

    pub(super) fn take_up_hosted(&mut self, now: Instant) {
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

    pub(super) fn save_state(&self) {
        if let Err(error) = self.desk.state.save() {
            tracing::error!("what is to be remembered cannot be written: {error}");
        }
    }

    /// A document is answered at once.
    pub(super) fn hear(&mut self, event: &Event) {
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
    pub(super) fn apply_effects(&mut self) {
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
    pub(super) fn keep_bindings(&mut self, now: Instant, all: bool) {
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
}
