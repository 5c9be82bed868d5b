//! What the control socket asks of a running daemon.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use tokio::sync::oneshot;

use super::config::{self, Config, Told};
use super::control::{Call, Reply, Request};
use super::errands::Errands;
use super::home::{self, SharedHome};
use super::hosted::Hosted;
use super::speed::Speed;
use super::state::StateFile;
use super::trust;
use super::{machine, memory};
use crate::api::home::HomeRequest;
use crate::api::trust::ForgetRequest;
use crate::api::{
    CertificateStatus, ConnectReply, Done, EntityStatus, ErrorReply, PeerRequest, PolicyStatus, Status,
};
use crate::dataplane::counters::Summary;
use crate::home::talk::About;
use crate::home::verbs::Effect;
use crate::io::owners::Owners;
use crate::io::route::source_for;
use crate::node::{Event, Node};
use crate::pki::TrustError;
use crate::policy::pad::Proof;
use crate::policy::spd::Action;
use crate::policy::trust::{OwnStatus, Trust};

/// Peers that no file names and that `status` shows: a home has as many as it has members.
const OTHER_PEERS: usize = 100;
/// Bindings that one request gets.
const MOST_BINDINGS: u64 = 10_000;
/// How long `connect` waits unless told otherwise, and at most.
const CONNECT_TIMEOUT: f64 = 10.0;
const LONGEST_TIMEOUT: f64 = 600.0;

/// A `connect` that waits for its SA.
struct Waiting {
    local: Option<Ipv6Addr>,
    remote: Ipv6Addr,
    since: Instant,
    until: Instant,
    reply: oneshot::Sender<Reply>,
}

/// The daemon's state that requests read and change, beside the node.
pub(super) struct Desk {
    pub(super) config: Config,
    /// What the command line says in place of it.
    pub(super) told: Told,
    pub(super) trust: Arc<Trust>,
    pub(super) keylog: bool,
    /// What is remembered between runs.
    pub(super) state: StateFile,
    /// The configuration was read again: the event loop has not acted on it yet.
    pub(super) reloaded: bool,
    pub(super) started: Instant,
    pub(super) summary: Summary,
    /// The home that this machine is.
    pub(super) home: Option<SharedHome>,
    /// What changes in the registry mean for whoever is connected: for the event loop.
    pub(super) effects: Vec<Effect>,
    /// What holds users apart where they receive, if addresses have users.
    pub(super) owners: Option<Arc<Owners>>,
    /// How fast the data plane can be.
    pub(super) speed: Option<Arc<Speed>>,
    waiting: Vec<Waiting>,
    /// What our homes are asked for.
    pub(super) errands: Errands,
    /// Who asked to end, and gets its answer when everything is taken down.
    pub(super) down: Vec<oneshot::Sender<Reply>>,
}

fn refusal(stage: &str, error: impl Into<String>) -> ErrorReply {
    ErrorReply { stage: stage.to_owned(), error: error.into() }
}

fn no_home() -> ErrorReply {
    refusal("request", "this machine is no home: 'domicile home init' makes it one, before 'domicile up'")
}

fn certificate_status(own: &OwnStatus) -> CertificateStatus {
    CertificateStatus {
        serial: own.leaf.serial.to_string(),
        name: own.leaf.name.clone(),
        kind: own.leaf.kind.to_string(),
        not_before: own.leaf.not_before,
        not_after: own.leaf.not_after,
        renew_at: own.renew_at,
    }
}

fn document(value: &impl serde::Serialize) -> Reply {
    serde_json::to_value(value).map_err(|error| refusal("internal", error.to_string()))
}

impl Desk {
    pub(super) fn new(
        config: Config,
        state: StateFile,
        trust: Arc<Trust>,
        keylog: bool,
        started: Instant,
        summary: Summary,
        home: Option<SharedHome>,
    ) -> Self {
        Self {
            config,
            told: Told::default(),
            state,
            reloaded: false,
            trust,
            keylog,
            started,
            summary,
            home,
            effects: Vec::new(),
            owners: None,
            speed: None,
            waiting: Vec::new(),
            errands: Errands::default(),
            down: Vec::new(),
        }
    }

    /// Answers a request, now or later.
    pub(super) fn answer(&mut self, now: Instant, node: &mut Node, call: Call) {
        let Call { request, reply } = call;
        let answer = match request {
            Request::Status => document(&self.status(now, node)),
            Request::Peer(request) => {
                self.find(&request.peer).and_then(|remote| document(&node.peer_status(now, remote)))
            }
            Request::Connect(request) => return self.connect(now, node, &request, reply),
            Request::Disconnect(request) => self.find(&request.peer).and_then(|remote| {
                node.disconnect(now, remote);
                document(&Done {
                    message: format!("closed every security association with {}", request.peer),
                })
            }),
            Request::Rekey(request) => self.find(&request.peer).and_then(|remote| {
                let what = request.what.as_deref().unwrap_or("child");
                node.rekey(now, remote, what).map_err(|error| refusal("sa", error))?;
                document(&Done { message: format!("rekeying ({what}) with {}", request.peer) })
            }),
            Request::Home(HomeRequest::Bindings { within, limit }) => {
                self.bindings(now, node, within.as_deref(), limit)
            }
            Request::Home(request) => self.home(request),
            Request::Trust => document(&self.trust.read(|store| memory::homes(&self.config, None, store))),
            Request::TrustKeys => document(&self.trust.read(memory::keys)),
            Request::Forget(request) => self.forget(&request),
            Request::Take(request) => {
                return self.errands.begin(now, node, &self.config, (About::Take, &request), reply);
            }
            Request::Leave(request) => {
                return self.errands.begin(now, node, &self.config, (About::Leave, &request), reply);
            }
            Request::Reload => self.reload(now, node).and_then(|message| document(&Done { message })),
            Request::Down => {
                self.down.push(reply);
                return;
            }
        };
        // Whoever hung up does not need the answer.
        let _ = reply.send(answer);
    }

    /// Who is where: the node knows, and the registry only what it was told last.
    fn bindings(&self, now: Instant, node: &Node, within: Option<&str>, limit: u64) -> Reply {
        if self.home.is_none() {
            return Err(no_home());
        }
        let prefix = |text: &str| {
            let prefix = text.parse::<Ipv6Net>().or_else(|_| text.parse::<Ipv6Addr>().map(Ipv6Net::from));
            prefix.map_err(|_| {
                refusal(
                    "request",
                    format!(
                        "\"{text}\" is no IPv6 prefix and no address: say for example 2002:c633:6401:100::/64"
                    ),
                )
            })
        };
        let within = within.map(prefix).transpose()?;
        let limit = usize::try_from(limit.min(MOST_BINDINGS)).unwrap_or_default();
        document(&node.bindings(now, within, limit))
    }

    /// What a home is asked for, and what that means for this node.
    fn home(&mut self, request: HomeRequest) -> Reply {
        let home = self.home.as_ref().ok_or_else(no_home)?;
        let outcome = home.lock().answer("control socket", request)?;
        self.effects.extend(outcome.effects);
        document(&outcome.reply)
    }

    /// A person says that a new key is right.
    fn forget(&self, request: &ForgetRequest) -> Reply {
        let address = request.address;
        if !self.trust.change(|store| store.forget(address)) {
            return Err(refusal(
                "name",
                format!("no key of {address} is remembered: 'domicile trust keys' lists those that are"),
            ));
        }
        document(&Done {
            message: format!(
                "forgot the key of {address}: the next one that its home certifies is remembered instead"
            ),
        })
    }

    /// A name of the configuration or an address.
    fn find(&self, peer: &str) -> Result<Ipv6Addr, ErrorReply> {
        let named = self.config.peers.iter().find(|entry| entry.name == peer).map(|entry| entry.address);
        named.or_else(|| peer.parse().ok()).ok_or_else(|| {
            refusal("name", format!("there is no peer \"{peer}\": 'domicile peer list' shows the names"))
        })
    }

    fn connect(
        &mut self,
        now: Instant,
        node: &mut Node,
        request: &PeerRequest,
        reply: oneshot::Sender<Reply>,
    ) {
        let remote = match self.find(&request.peer) {
            Ok(remote) => remote,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let timeout = request.timeout.unwrap_or(CONNECT_TIMEOUT).clamp(0.1, LONGEST_TIMEOUT);
        let answer = match node.connect(now, remote, &source_for) {
            Ok(Some(local)) => {
                document(&ConnectReply { address: remote, local, existing: true, elapsed: 0.0 })
            }
            Ok(None) => {
                let until = now + Duration::from_secs_f64(timeout);
                self.waiting.push(Waiting { local: None, remote, since: now, until, reply });
                return;
            }
            Err(error) => {
                let stage = if error.contains("[[policy]]") { "policy" } else { "ike" };
                Err(refusal(stage, error))
            }
        };
        let _ = reply.send(answer);
    }

    /// Something happened that a waiting `connect` may be waiting for.
    pub(super) fn notice(&mut self, now: Instant, event: &Event) {
        let (remote, outcome) = match event {
            Event::PeerUp { local, remote } => (*remote, Ok(*local)),
            Event::PeerFailed { remote, error, .. } => (*remote, Err(error.clone())),
            Event::PeerDown { .. }
            | Event::PathChanged { .. }
            | Event::MtuChanged { .. }
            | Event::Document { .. }
            | Event::SequenceReserved { .. }
            | Event::Registered { .. }
            | Event::Observed { .. }
            | Event::RegistrationLost { .. }
            | Event::HomeMoved { .. }
            | Event::Route { .. }
            | Event::IkeKeys { .. }
            | Event::ChildKeys { .. } => return,
        };
        for waiting in self.waiting.extract_if(.., |waiting| waiting.remote == remote) {
            let reply = match &outcome {
                Ok(local) => document(&ConnectReply {
                    address: remote,
                    local: waiting.local.unwrap_or(*local),
                    existing: false,
                    elapsed: now.saturating_duration_since(waiting.since).as_secs_f64(),
                }),
                Err(error) => Err(refusal("ike", error.clone())),
            };
            let _ = waiting.reply.send(reply);
        }
    }

    /// Answers who waited long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        for waiting in self.waiting.extract_if(.., |waiting| waiting.until <= now) {
            let after = waiting.until.saturating_duration_since(waiting.since).as_secs_f64();
            let _ = waiting.reply.send(Err(refusal(
                "ike",
                format!(
                    "{} has not answered after {after:.0} s; the attempt goes on in the background",
                    waiting.remote
                ),
            )));
        }
    }

    /// When `expire` wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).chain(self.errands.deadline()).min()
    }

    /// Reads the configuration again. A file with problems changes nothing.
    pub(super) fn reload(&mut self, now: Instant, node: &mut Node) -> Result<String, ErrorReply> {
        let mut new = config::load(&self.config.path).map_err(|problems| {
            refusal(
                "configuration",
                format!("nothing was changed, because the configuration has problems:\n{problems}"),
            )
        })?;
        self.told.apply(&mut new);
        if let Some(home) = self.home.as_ref().filter(|_| new.home_directory == self.config.home_directory) {
            home::complete(&mut new, home)
                .map_err(|error| refusal("internal", format!("nothing was changed: {error}")))?;
        }
        let fixed = |config: &Config| {
            let files = (config.control_socket.clone(), config.home_directory.clone());
            (config.port, config.ike_port, config.queues, files, config.relay_limits)
        };
        if let Err(error) = new.settle_keys() {
            tracing::warn!("the files of a new key cannot be put in order: {error}");
        }
        let hosted = self.state.state.hosted.entities(&new);
        new.set_hosted(hosted);
        if fixed(&new) != fixed(&self.config) || machine::fixed(&new) != machine::fixed(&self.config) {
            return Err(refusal(
                "request",
                "nothing was changed: new ports, queues, interface, routed prefixes, relay limits, users with an address or a home need 'domicile down' and 'domicile up'",
            ));
        }
        self.take_up(now, node, new)
            .map_err(|error| refusal("request", format!("nothing was changed: {error}")))?;
        Ok(format!("{} was read again", self.config.path.display()))
    }

    /// Homes put other addresses on entities of this machine.
    pub(super) fn set_hosted(&mut self, now: Instant, node: &mut Node, hosted: Hosted) {
        let mut new = self.config.clone();
        new.set_hosted(hosted.entities(&new));
        self.state.state.hosted = hosted;
        if let Err(error) = self.take_up(now, node, new) {
            tracing::warn!("what the home put on this machine is not taken up: {error}");
        }
    }

    fn take_up(&mut self, now: Instant, node: &mut Node, new: Config) -> Result<(), TrustError> {
        let replaced = trust::apply(&new, &self.trust)?;
        let sequences = &self.state.state.sequences;
        node.set_config(now, new.to_node(self.keylog, &self.trust, self.home.as_ref(), sequences));
        // Homes that are trusted no longer went with the configuration; what rests on a root that was replaced goes here.
        let certified = |address: &Ipv6Addr| {
            new.peers.iter().all(|peer| peer.address != *address || matches!(peer.proof, Proof::Certificate))
        };
        let doomed: Vec<Ipv6Addr> = node
            .remotes()
            .into_iter()
            .filter(|address| replaced.iter().any(|home| home.contains(address)) && certified(address))
            .collect();
        for address in doomed {
            node.disconnect(now, address);
        }
        // Whoever talks to an entity with a new key gets to know it now, while the old one is remembered.
        for entity in &new.entities {
            let before = self.config.entities.iter().find(|before| before.address == entity.address);
            if before.is_some_and(|before| before.key.public() != entity.key.public()) {
                node.reauthenticate(now, entity.address);
            }
        }
        self.config = new;
        self.reloaded = true;
        Ok(())
    }

    fn status(&self, now: Instant, node: &Node) -> Status {
        let mut drops = self.summary.drops();
        for (reason, count) in node.drops() {
            *drops.entry(reason).or_default() += count;
        }
        if let Some(refused) = self.owners.as_ref().map(|owners| owners.refused()).filter(|count| *count > 0)
        {
            drops.insert("other_user".to_owned(), refused);
        }
        let certificates = self.trust.own_certificates();
        let entities = self.config.entities.iter().map(|entity| EntityStatus {
            name: entity.name.clone(),
            address: entity.address,
            public_key: entity.key.public().to_string(),
            uid: entity.uid,
            host: entity.host,
            certificate: certificates
                .iter()
                .find(|own| own.leaf.address == entity.address)
                .map(certificate_status),
        });
        let policies = self.config.spd.policies().iter().map(|policy| PolicyStatus {
            local: policy.local.to_string(),
            remote: policy.remote.to_string(),
            action: policy.action.name().to_owned(),
            services: match policy.action {
                Action::Protect(services) => Some(services.name().to_owned()),
                Action::Discard | Action::Bypass => None,
            },
        });
        Status {
            version: crate::daemon::VERSION.to_owned(),
            pid: std::process::id(),
            uptime: now.saturating_duration_since(self.started).as_secs_f64(),
            interface: self.config.interface.clone(),
            mtu: self.config.mtu,
            port: self.config.port,
            data_plane: self.speed.as_ref().map(|speed| speed.status()).unwrap_or_default(),
            entities: entities.collect(),
            peers: node.peers(now, OTHER_PEERS),
            pairs: node.pair_count() as u64,
            registrations: node.registrations(now),
            home: node.home_status(),
            policies: policies.collect(),
            drops,
            relayed: self
                .summary
                .relayed()
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        }
    }
}
