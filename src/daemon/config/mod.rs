//! The configuration file: TOML, checked as a whole. Every problem is told with file, line and column, what is wrong
//! and what to do; a file with a problem changes nothing.

mod belonging;
mod check;
pub mod edit;
mod file;
mod lifetimes;
mod owner;
mod problem;
mod read;
mod rotation;
#[cfg(test)]
mod tests;
mod trust;
mod values;

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv6Net;

pub use check::{MAX_QUEUES, MAX_SOCKET_PATH};
pub use problem::{Problem, Problems};
pub use rotation::{next_file, old_file};
pub use trust::same_fingerprint;
pub use values::{MAX_NAME, address_problem, name_problem};

use crate::addr::home::Homes;
use crate::crypto::identity::PrivateKey;
use crate::crypto::suite::{EspSuite, IkeSuite, has_fast_aes};
use crate::daemon::home::SharedHome;
use crate::dataplane::relay::Limits;
use crate::ike::{self, Lifetimes, LocalEntity};
use crate::io::netlink::Bypass;
use crate::node;
use crate::pki::Root;
use crate::pki::trust::PinPolicy;
use crate::policy::pad::{Pad, Peer, Proof};
use crate::policy::spd::{Action, Policy, Spd};
use crate::policy::trust::Trust;

/// Where the configuration is unless said otherwise.
pub const DEFAULT_PATH: &str = "/etc/domicile/domicile.toml";
/// Where the control socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/domicile/control.sock";

/// Where a home is kept, beside the configuration, unless that says otherwise.
pub const HOME_DIRECTORY: &str = "home";

/// A local entity.
#[derive(Clone, Debug)]
pub struct Entity {
    /// Its name.
    pub name: String,
    /// Its permanent address.
    pub address: Ipv6Addr,
    /// Its key.
    pub key: PrivateKey,
    /// Where that is kept.
    pub key_file: Option<PathBuf>,
    /// Its last keys, the oldest first: they vouch for this one.
    pub previous: Vec<PrivateKey>,
    /// A new key, which the home has not certified yet.
    pub next: Option<PrivateKey>,
    /// The certificate of that key that its home issued, in DER.
    pub certificate: Option<Vec<u8>>,
    /// Where that is kept.
    pub certificate_file: Option<PathBuf>,
    /// The only user who may use the address; `None`: everybody on the machine.
    pub uid: Option<u32>,
    /// The entity of this machine on which its home put it; `None`: one of the configuration.
    pub host: Option<Ipv6Addr>,
}

/// A peer.
#[derive(Clone, Debug)]
pub struct PeerEntry {
    /// Its name.
    pub name: String,
    /// Its permanent address.
    pub address: Ipv6Addr,
    /// What proves it.
    pub proof: Proof,
    /// Where it answers; `None`: it calls us.
    pub endpoint: Option<SocketAddrV4>,
    /// `connect = "start"`.
    pub keep_up: bool,
}

/// A `[[trust]]` entry as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustEntry {
    /// The home.
    pub prefix: Ipv6Net,
    /// `root`, as the file says it.
    pub file: String,
    /// The entry has the root's fingerprint: a person meant this root and no other, also in place of an earlier one.
    pub confirmed: bool,
}

/// A configuration without a problem.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub path: PathBuf,
    /// UDP port of IKE and ESP.
    pub port: u16,
    /// UDP port that answers IKE peers who start on 500; 0 is off.
    pub ike_port: u16,
    /// Name of the TUN device.
    pub interface: String,
    /// MTU of the TUN device.
    pub mtu: u16,
    /// Queues of TUN device and UDP port, each with two worker threads; read at start.
    pub queues: usize,
    /// Control socket.
    pub control_socket: PathBuf,
    /// Where this machine keeps its home, if it is one.
    pub home_directory: Option<PathBuf>,
    /// How long the certificates of that home are valid.
    pub certificate_lifetime: Duration,
    /// How much it relays, if it is a home.
    pub relay_limits: Limits,
    /// The prefix of that home, once it was opened.
    pub home_prefix: Option<Ipv6Net>,
    /// Where homes answer.
    pub homes: Homes,
    /// Those of them that are named by a host, `HOST:PORT`; unspecified in `homes` if it had no address just now.
    pub home_names: BTreeMap<Ipv6Net, String>,
    /// Local entities.
    pub entities: Vec<Entity>,
    /// Roots of trusted homes (`[[trust]]`); our own is among them once our home was opened.
    pub roots: Vec<Root>,
    /// How the file names those roots.
    pub trusted: Vec<TrustEntry>,
    /// What a new key of a known address means (`[node] pin`).
    pub pin: PinPolicy,
    /// Peers.
    pub peers: Vec<PeerEntry>,
    /// The policy, defaults included.
    pub spd: Arc<Spd>,
    /// IKE suites in order of preference.
    pub ike_suites: Vec<IkeSuite>,
    /// ESP suites in order of preference.
    pub esp_suites: Vec<EspSuite>,
    /// They are the default of a CPU to which all of them are cheap: an initiator's order counts more.
    pub esp_yields: bool,
    /// Offer and accept extended sequence numbers.
    pub esn: bool,
    /// A key exchange in child rekeys.
    pub pfs: bool,
    /// Timers.
    pub lifetimes: Lifetimes,
    /// Half-open SAs above which a cookie is demanded.
    pub cookie_threshold: usize,
    /// Largest IKE datagram.
    pub fragment_size: usize,
}

/// What the command line says in place of the file: whenever that is read.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Control socket.
    pub control_socket: Option<PathBuf>,
    /// Queues of TUN device and UDP port.
    pub queues: Option<usize>,
}

impl Told {
    /// Puts it into a configuration.
    pub fn apply(&self, config: &mut Config) {
        if let Some(socket) = &self.control_socket {
            config.control_socket.clone_from(socket);
        }
        config.queues = self.queues.unwrap_or(config.queues);
    }
}

/// Reads and checks a file; names of hosts are looked up.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let text = std::fs::read_to_string(path).map_err(|error| problem::unreadable(path, &error))?;
    check::check(path, &text, has_fast_aes())
}

/// Checks a text as if it stood in `path` (key files are looked for beside it).
pub fn check_text(path: &Path, text: &str) -> Result<Config, Problems> {
    check::check(path, text, has_fast_aes())
}

/// The control socket that a configuration names, even when the rest of it has problems.
pub fn socket_of(path: &Path) -> Option<PathBuf> {
    let table: toml::Table = std::fs::read_to_string(path).ok()?.parse().ok()?;
    table.get("node")?.get("control_socket")?.as_str().map(|socket| beside(path, socket))
}

/// A path that stands in a configuration: relative ones begin at the file's directory.
pub(crate) fn beside(config: &Path, path: &str) -> PathBuf {
    config.parent().unwrap_or_else(|| Path::new(".")).join(path)
}

impl Config {
    /// What the node is told. `trust` has been told of this configuration ([`crate::daemon::trust::apply`]).
    pub fn to_node(
        &self,
        keylog: bool,
        trust: &Arc<Trust>,
        home: Option<&SharedHome>,
        sequences: &BTreeMap<Ipv6Addr, u16>,
    ) -> node::Config {
        let pad = Pad::new(self.peers.iter().map(|peer| Peer {
            name: peer.name.clone(),
            address: peer.address,
            proof: peer.proof.clone(),
        }));
        let mut pad = pad.with_certificates(Arc::clone(trust) as _);
        if let Some(home) = home {
            pad = pad.with_invitations(Arc::new(home.clone())).with_strangers();
        }
        let entities = self
            .entities
            .iter()
            .map(|entity| LocalEntity { address: entity.address, signing_key: entity.key.seed() })
            .collect();
        node::Config {
            ike: ike::Config {
                entities,
                pad: Arc::new(pad),
                spd: Arc::clone(&self.spd),
                ike_suites: self.ike_suites.clone(),
                esp_suites: self.esp_suites.clone(),
                esp_yields: self.esp_yields,
                esn: self.esn,
                child_pfs: self.pfs,
                lifetimes: self.lifetimes,
                cookie_threshold: self.cookie_threshold,
                fragment_size: self.fragment_size,
                keylog,
            },
            peers: self
                .peers
                .iter()
                .map(|peer| node::PeerConfig {
                    name: peer.name.clone(),
                    address: peer.address,
                    endpoint: peer.endpoint,
                    keep_up: peer.keep_up,
                })
                .collect(),
            homes: self.trusted_homes(),
            registrations: self.registrations(sequences),
            home_agent: self.home_agent(),
            port: self.port,
            mtu: self.mtu,
            queues: self.queues,
            bulk: node::BULK,
        }
    }

    /// An entity that stands in the configuration.
    pub fn own_entity(&self, address: Ipv6Addr) -> Option<&Entity> {
        self.entities.iter().find(|entity| entity.host.is_none() && entity.address == address)
    }

    /// Replaces what homes put on entities of the configuration.
    pub fn set_hosted(&mut self, hosted: Vec<Entity>) {
        self.entities.retain(|entity| entity.host.is_none());
        self.entities.extend(hosted);
    }

    /// The prefixes that are routed into the tunnel: whatever a policy protects or discards, except everything
    /// (`::/0` in a policy means "of what is ours anyway").
    pub fn routed(&self) -> Vec<Ipv6Net> {
        let remotes = self
            .spd
            .policies()
            .iter()
            .filter(|policy| policy.action != Action::Bypass)
            .map(|policy| policy.remote)
            .filter(|remote| remote.prefix_len() > 0);
        Ipv6Net::aggregate(&remotes.collect())
    }

    /// The addresses that belong to one user each.
    pub fn owners(&self) -> Vec<(Ipv6Addr, u32)> {
        self.entities.iter().filter_map(|entity| Some((entity.address, entity.uid?))).collect()
    }

    /// Every policy up to the last BYPASS, in the order in which they are tried: what is between which prefixes, and
    /// whether it is left alone. A BYPASS takes nothing that an earlier policy has taken.
    pub fn bypassed(&self) -> Vec<Bypass> {
        let policies = self.spd.policies();
        let last = policies.iter().rposition(|policy| policy.action == Action::Bypass);
        let until = last.map_or(0, |last| last + 1);
        let entry = |policy: &Policy| Bypass {
            local: policy.local,
            remote: policy.remote,
            left_alone: policy.action == Action::Bypass,
        };
        policies.iter().take(until).map(entry).collect()
    }
}
