//! From the file to a configuration: every value is understood, every relation between them holds, or there is a
//! problem with its place.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use ipnet::Ipv6Net;
use toml::Spanned;
use zeroize::Zeroizing;

use super::problem::Collector;
use super::read::{Read, read};
use super::{Config, DEFAULT_SOCKET, Entity, PeerEntry, Problems, file};
use crate::addr::home::{HomeError, Homes};
use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::pki::Root;
use crate::policy::pad::Proof;
use crate::policy::spd::{Action, Policy, Services, Spd};

const IKE_SUITES: [IkeSuite; 2] = [IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm];
/// Octets of a Unix socket's path: `sun_path` with its final zero has 108 (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// More queues than this would be a machine that nobody has shown us; and each one has buffers.
pub const MAX_QUEUES: usize = 32;
/// So many at most without being told: then the network is the limit.
const USUAL_QUEUES: usize = 8;

/// `fast_aes` decides the order of suites where the file does not.
pub(super) fn check(path: &Path, text: &str, fast_aes: bool) -> Result<Config, Problems> {
    let mut problems = Collector::new(text);
    let mut read = read(text, &mut problems);
    let file = std::mem::take(&mut read.file);
    let mut checker = Checker {
        path,
        problems,
        read,
        names: HashMap::new(),
        addresses: HashMap::new(),
        own_keys: HashMap::new(),
        owners: HashMap::new(),
    };
    let (homes, home_names) = checker.homes(&file);
    let (roots, trusted) = checker.roots(&file.trust);
    let pin = checker.pin(&file.node);
    let entities: Vec<Entity> =
        file.entity.iter().filter_map(|entity| checker.entity(entity, &homes)).collect();
    if file.entity.is_empty() && !checker.read.was_told(&(0..0), "entity") {
        checker
            .problems
            .whole("there is no [[entity]]: this machine needs at least one, 'domicile init' makes it");
    }
    let peers: Vec<PeerEntry> =
        file.peer.iter().filter_map(|peer| checker.peer(peer, &homes, &roots)).collect();
    let configured: Vec<Policy> = file.policy.iter().filter_map(|policy| checker.policy(policy)).collect();
    let (port, ike_port) = checker.ports(&file.node);
    let interface = checker.interface(&file.node);
    let control_socket = checker.control_socket(&file.node);
    let home_directory = file.home_agent.as_ref().map(|agent| checker.home_directory(agent));
    let certificate_lifetime = checker.certificate_lifetime(file.home_agent.as_ref());
    let relay_limits = checker.relay_limits(file.home_agent.as_ref());
    let why = "1380 fits the relayed path, 1446 an Ethernet, more needs jumbo frames";
    let mtu = checker.number(&file.node.mtu, 1380, 1280..=9000, "mtu", why);
    let why = "two CPUs keep one busy";
    let queues = checker.number(&file.node.queues, usual_queues(), 1..=MAX_QUEUES, "queues", why);
    let fragment_size =
        checker.number(&file.ike.fragment_size, 1280, 296..=1500, "fragment_size", "1280 fits everywhere");
    let lifetimes = checker.lifetimes(&file);
    let ike_suites = checker.suites(&file.ike.suites, &IKE_SUITES, &IKE_SUITES, IkeSuite::name, "ike");
    let by_speed = EspSuite::by_speed(fast_aes);
    let esp_suites = checker.suites(&file.esp.suites, &by_speed, &by_speed, EspSuite::name, "esp");
    checker.problems.finish(path)?;
    Ok(Config {
        path: path.to_owned(),
        port,
        ike_port,
        interface,
        mtu,
        queues,
        control_socket,
        home_directory,
        certificate_lifetime,
        relay_limits,
        home_prefix: None,
        entities,
        roots,
        trusted,
        pin,
        peers,
        spd: Arc::new(Spd::with_defaults(configured, homes.prefixes())),
        homes,
        home_names,
        ike_suites,
        esp_suites,
        esp_yields: fast_aes && file.esp.suites.is_none(),
        esn: file.esp.extended_sequence_numbers.unwrap_or(true),
        pfs: file.esp.pfs,
        lifetimes,
        cookie_threshold: file.ike.cookie_threshold.map_or(64, Spanned::into_inner),
        fragment_size,
    })
}

/// One for every two CPUs that we may use.
fn usual_queues() -> usize {
    thread::available_parallelism().map_or(1, |cpus| (cpus.get() / 2).clamp(1, USUAL_QUEUES))
}

pub(super) struct Checker<'a> {
    pub(super) path: &'a Path,
    pub(super) problems: Collector<'a>,
    /// What was wrong with the file's form.
    pub(super) read: Read,
    /// Names that were seen, and of what.
    pub(super) names: HashMap<String, &'static str>,
    pub(super) addresses: HashMap<Ipv6Addr, String>,
    /// Public keys of the entities, and whose.
    own_keys: HashMap<[u8; 32], String>,
    /// Users with an address of their own, and which entity it is.
    pub(super) owners: HashMap<u32, String>,
}

impl Checker<'_> {
    fn homes(&mut self, file: &file::File) -> (Homes, BTreeMap<Ipv6Net, String>) {
        let mut entries = Vec::new();
        let mut names = BTreeMap::new();
        for home in &file.home {
            let (span, home) = (home.span(), home.get_ref());
            let like = "write it like 2002:c633:6401::/48";
            let prefix = self.required(&home.prefix, &span, "[[home]]", "prefix", like);
            let prefix = prefix.and_then(|text| Some((text.span(), self.prefix(text)?)));
            let like = "write where it answers, like 198.51.100.2:4500";
            let endpoint = self.required(&home.endpoint, &span, "[[home]]", "endpoint", like);
            let named = endpoint.filter(|text| self.is_home_name(text)).map(|text| text.get_ref().clone());
            let endpoint = endpoint.and_then(|text| self.home_endpoint(text));
            let Some((span, prefix)) = prefix else { continue };
            if let Some(named) = named {
                names.insert(prefix, named);
            }
            if entries.iter().any(|(other, _)| *other == prefix) {
                self.problems.at(span, format!("{prefix} has a [[home]] entry already: remove one"));
            }
            // Without a good endpoint it still counts as an entry: what relies on it is told no second time.
            let nobody = std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0);
            entries.push((prefix, endpoint.unwrap_or(nobody)));
        }
        (Homes::new(entries, file.node.allow_special_homes), names)
    }

    fn home_problem(&mut self, text: &Spanned<String>, error: HomeError) {
        self.problems.at(text.span(), error.to_string());
    }

    fn entity(&mut self, entity: &Spanned<file::Entity>, homes: &Homes) -> Option<Entity> {
        let (span, entity) = (entity.span(), entity.get_ref());
        let kind = "[[entity]]";
        let name = self.required(&entity.name, &span, kind, "name", "write the name of this machine");
        if let Some(name) = name {
            self.name(name, "entity");
        }
        let owner = name.map_or("", |name| name.get_ref());
        let like = "'domicile address derive' makes one from a home's IPv4 address";
        let address = self.required(&entity.address, &span, kind, "address", like).and_then(|text| {
            let address = self.address(text, owner)?;
            if let Err(error) = homes.endpoint(address) {
                self.home_problem(text, error);
            }
            Some(address)
        });
        let remedy = "'domicile key generate FILE' makes one";
        let key_file = self.required(&entity.key_file, &span, kind, "key_file", remedy);
        let key = key_file.and_then(|file| {
            let text = self.secret_file(file, remedy)?;
            let text = Zeroizing::new(String::from_utf8_lossy(text.expose()).into_owned());
            let key = PrivateKey::from_pem(&text);
            if let Err(error) = &key {
                self.problems.at(file.span(), format!("{}: {error}", file.get_ref()));
            }
            key.ok()
        });
        let certificate_file =
            entity.certificate.as_ref().map(|file| super::beside(self.path, file.get_ref()));
        let keys = key_file.zip(key).map(|(file, key)| self.keys(file, key, certificate_file.as_deref()));
        let key = keys.as_ref().map(|keys| &keys.key);
        if let Some(key) = key {
            self.own_keys.insert(*key.public().as_bytes(), owner.to_owned());
        }
        let public = key.map(PrivateKey::public);
        let certificate = self.certificate(entity.certificate.as_ref(), address, public);
        let key_file = key_file.map(|file| super::beside(self.path, file.get_ref()));
        let uid = self.owner(entity, owner);
        let keys = keys?;
        Some(Entity {
            name: owner.to_owned(),
            address: address?,
            key: keys.key,
            key_file,
            previous: keys.previous,
            next: keys.next,
            certificate,
            certificate_file,
            uid,
            host: None,
        })
    }

    fn peer(&mut self, peer: &Spanned<file::Peer>, homes: &Homes, roots: &[Root]) -> Option<PeerEntry> {
        let (span, peer) = (peer.span(), peer.get_ref());
        let kind = "[[peer]]";
        let name = self.required(&peer.name, &span, kind, "name", "choose one");
        if let Some(name) = name {
            self.name(name, "peer");
        }
        let owner = name.map_or("", |name| name.get_ref());
        let text = self.required(&peer.address, &span, kind, "address", "write its permanent IPv6 address");
        let address = text.and_then(|text| self.address(text, owner));
        let certified =
            address.is_some_and(|address| roots.iter().any(|root| root.prefix().contains(&address)));
        let proof = self.proof(peer, &span, certified);
        let endpoint = match (&peer.endpoint, text.zip(address)) {
            (Some(text), _) if text.get_ref() == "none" => None,
            (Some(text), _) => self.endpoint(text),
            (None, Some((text, address))) => match homes.endpoint(address) {
                Ok(endpoint) => Some(endpoint),
                Err(error) => {
                    self.home_problem(text, error);
                    None
                }
            },
            (None, None) => None,
        };
        let keep_up = match peer.connect.as_ref().map(|connect| (connect.get_ref().as_str(), connect.span()))
        {
            None | Some(("on-traffic", _)) => false,
            Some(("start", _)) => true,
            Some((other, span)) => {
                self.problems
                    .at(span, format!("connect = \"{other}\" is unknown: say \"on-traffic\" or \"start\""));
                false
            }
        };
        Some(PeerEntry { name: owner.to_owned(), address: address?, proof: proof?, endpoint, keep_up })
    }

    fn proof(&mut self, peer: &file::Peer, span: &std::ops::Range<usize>, certified: bool) -> Option<Proof> {
        match (&peer.public_key, &peer.psk_file) {
            (Some(text), None) => match text.get_ref().parse::<PublicKey>() {
                Ok(key) => {
                    if let Some(entity) = self.own_keys.get(key.as_bytes()) {
                        let message = format!(
                            "this is the key of \"{entity}\", which is this machine: run 'domicile key show' on the peer"
                        );
                        self.problems.at(text.span(), message);
                    }
                    Some(Proof::PublicKey(*key.as_bytes()))
                }
                Err(error) => {
                    self.problems.at(text.span(), error.to_string());
                    None
                }
            },
            (None, Some(file)) => {
                let secret = self.secret_file(file, "write the shared secret into it, one line")?;
                let trimmed = secret.expose().trim_ascii();
                if trimmed.len() < 16 {
                    self.problems.at(
                        file.span(),
                        format!(
                            "{} holds fewer than 16 octets: 'openssl rand -base64 32' makes a good secret",
                            file.get_ref()
                        ),
                    );
                }
                Some(Proof::Psk(Secret::from(trimmed)))
            }
            (Some(text), Some(_)) => {
                self.problems.at(text.span(), "a peer has either public_key or psk_file: remove one");
                None
            }
            (None, None) if certified => Some(Proof::Certificate),
            (None, None) => {
                self.no_proof(peer.name.as_ref(), span);
                None
            }
        }
    }

    fn policy(&mut self, policy: &Spanned<file::Policy>) -> Option<Policy> {
        let (span, policy) = (policy.span(), policy.get_ref());
        let local = match &policy.local {
            Some(text) => self.prefix(text),
            None => Some(Ipv6Net::default()),
        };
        let like = "write a prefix like 2002:c633:6401::/48, or ::/0 for everything";
        let remote = self.required(&policy.remote, &span, "[[policy]]", "remote", like);
        let remote = remote.and_then(|text| self.prefix(text));
        let services = match policy.services.as_ref().map(|text| (text.get_ref().as_str(), text.span())) {
            None | Some(("confidentiality", _)) => Services::Confidentiality,
            Some(("integrity", _)) => Services::IntegrityOnly,
            Some((other, span)) => {
                self.problems.at(
                    span,
                    format!("services = \"{other}\" is unknown: say \"confidentiality\" (the default) or \"integrity\""),
                );
                Services::Confidentiality
            }
        };
        let choice = "say \"protect\", \"discard\" or \"bypass\"";
        let text = self.required(&policy.action, &span, "[[policy]]", "action", choice)?;
        let action = match text.get_ref().as_str() {
            "protect" => Action::Protect(services),
            "discard" => Action::Discard,
            "bypass" => Action::Bypass,
            other => {
                self.problems.at(text.span(), format!("action = \"{other}\" is unknown: {choice}"));
                return None;
            }
        };
        if let (Some(text), Action::Discard | Action::Bypass) = (&policy.services, action) {
            self.problems.at(text.span(), "services belong to action = \"protect\": remove them");
        }
        Some(Policy { local: local?, remote: remote?, action })
    }

    fn control_socket(&mut self, node: &file::Node) -> PathBuf {
        let Some(text) = &node.control_socket else { return DEFAULT_SOCKET.into() };
        let socket = super::beside(self.path, text.get_ref());
        if text.get_ref().is_empty() || socket.as_os_str().len() > MAX_SOCKET_PATH {
            self.problems.at(
                text.span(),
                format!(
                    "control_socket is not the path of a socket: write 1 to {MAX_SOCKET_PATH} octets, like {DEFAULT_SOCKET}"
                ),
            );
        }
        socket
    }

    fn home_directory(&mut self, agent: &file::HomeAgent) -> PathBuf {
        let text = agent.directory.as_ref().map_or(super::HOME_DIRECTORY, |text| text.get_ref());
        if let Some(given) = agent.directory.as_ref().filter(|_| text.is_empty()) {
            self.problems.at(given.span(), "directory is empty: write where the home is kept, like \"home\"");
        }
        super::beside(self.path, text)
    }

    fn ports(&mut self, node: &file::Node) -> (u16, u16) {
        let port = node.port.as_ref().map_or(4500, |port| *port.get_ref());
        let ike_port = node.ike_port.as_ref().map_or(500, |port| *port.get_ref());
        if let Some(text) = node.port.as_ref().filter(|text| *text.get_ref() == 0) {
            self.problems.at(text.span(), "port = 0 is no port: 4500 is what peers expect");
        }
        if let Some(text) = node.port.as_ref().or(node.ike_port.as_ref()).filter(|_| port == ike_port) {
            self.problems.at(
                text.span(),
                "port and ike_port are the same: set ike_port = 0 to do without the second one",
            );
        }
        (port, ike_port)
    }

    fn interface(&mut self, node: &file::Node) -> String {
        let Some(text) = &node.interface else { return "domicile0".to_owned() };
        let name = text.get_ref();
        if name.is_empty()
            || name.len() > 15
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            self.problems.at(
                text.span(),
                format!("\"{name}\" cannot name an interface: use 1 to 15 letters, digits, '-' and '_'"),
            );
        }
        name.clone()
    }

    fn suites<S: Copy + PartialEq>(
        &mut self,
        given: &Option<Spanned<Vec<Spanned<String>>>>,
        known: &[S],
        default: &[S],
        name: fn(S) -> &'static str,
        section: &str,
    ) -> Vec<S> {
        let Some(given) = given else { return default.to_vec() };
        let mut suites = Vec::new();
        for text in given.get_ref() {
            match known.iter().find(|suite| name(**suite) == text.get_ref()) {
                Some(suite) if suites.contains(suite) => {
                    self.problems.at(text.span(), format!("\"{}\" stands here twice", text.get_ref()));
                }
                Some(suite) => suites.push(*suite),
                None => {
                    let names: Vec<&str> = known.iter().map(|suite| name(*suite)).collect();
                    self.problems.at(
                        text.span(),
                        format!(
                            "\"{}\" is not a suite for [{section}]: choose from {}",
                            text.get_ref(),
                            names.join(", ")
                        ),
                    );
                }
            }
        }
        if given.get_ref().is_empty() {
            let message = format!("[{section}] suites is empty: leave it out for the defaults");
            self.problems.at(given.span(), message);
        }
        suites
    }
}
