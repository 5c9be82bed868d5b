//! From the file to a configuration: every value is understood, every relation between them holds, or there is a
//! problem with its place.
#![expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]

use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv6Net;
use toml::Spanned;
use zeroize::Zeroizing;

use super::problem::Collector;
use super::{Config, DEFAULT_SOCKET, Entity, PeerEntry, Problems, file};
use crate::addr::home::{HomeError, Homes};
use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::ike::Lifetimes;
use crate::policy::pad::Proof;
use crate::policy::spd::{Action, Policy, Services, Spd};

/// Default suites: the implicit-IV forms between two of us, the explicit ones with everybody else.
const ESP_SUITES: [EspSuite; 4] =
    [EspSuite::Aes256GcmIiv, EspSuite::ChaCha20Poly1305Iiv, EspSuite::Aes256Gcm, EspSuite::ChaCha20Poly1305];
const IKE_SUITES: [IkeSuite; 2] = [IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm];

pub(super) fn check(path: &Path, text: &str) -> Result<Config, Problems> {
    let mut problems = Collector::new(text);
    let file: file::File = toml::from_str(text).unwrap_or_else(|error| {
        let message = error.message().replace('\n', " ");
        match error.span() {
            Some(span) => problems.at(span, message),
            None => problems.whole(message),
        }
        file::File::default()
    });
    if !problems.is_empty() {
        problems.finish(path)?;
        problems = Collector::new(text);
    }
    let mut checker = Checker { path, problems, names: HashMap::new(), addresses: HashMap::new() };
    let homes = checker.homes(&file);
    let entities: Vec<Entity> =
        file.entity.iter().filter_map(|entity| checker.entity(entity, &homes)).collect();
    if file.entity.is_empty() {
        checker
            .problems
            .whole("there is no [[entity]]: this machine needs at least one, 'domicile init' makes it");
    }
    let peers: Vec<PeerEntry> = file.peer.iter().filter_map(|peer| checker.peer(peer, &homes)).collect();
    let configured: Vec<Policy> = file.policy.iter().filter_map(|policy| checker.policy(policy)).collect();
    let (port, ike_port) = checker.ports(&file.node);
    let interface = checker.interface(&file.node);
    let mtu = checker.number(&file.node.mtu, 1380, 1280..=1400, "mtu", "the relayed path fits 1380");
    let fragment_size =
        checker.number(&file.ike.fragment_size, 1280, 296..=1500, "fragment_size", "1280 fits everywhere");
    let lifetimes = checker.lifetimes(&file);
    let ike_suites = checker.suites(&file.ike.suites, &IKE_SUITES, &IKE_SUITES, IkeSuite::name, "ike");
    let esp_suites = checker.suites(&file.esp.suites, &ESP_SUITES, &ESP_SUITES, EspSuite::name, "esp");
    checker.problems.finish(path)?;
    let control_socket =
        file.node.control_socket.map_or_else(|| DEFAULT_SOCKET.into(), |socket| socket.into_inner().into());
    Ok(Config {
        path: path.to_owned(),
        port,
        ike_port,
        interface,
        mtu,
        control_socket,
        entities,
        peers,
        spd: Arc::new(Spd::with_defaults(configured, homes.prefixes())),
        ike_suites,
        esp_suites,
        esn: file.esp.extended_sequence_numbers.unwrap_or(true),
        pfs: file.esp.pfs,
        lifetimes,
        cookie_threshold: file.ike.cookie_threshold.map_or(64, Spanned::into_inner),
        fragment_size,
    })
}

struct Checker<'a> {
    path: &'a Path,
    problems: Collector<'a>,
    /// Names that were seen, and of what.
    names: HashMap<String, &'static str>,
    addresses: HashMap<Ipv6Addr, String>,
}

impl Checker<'_> {
    fn homes(&mut self, file: &file::File) -> Homes {
        let mut entries = Vec::new();
        for home in &file.home {
            let prefix = self.prefix(&home.prefix);
            let endpoint = self.endpoint(&home.endpoint);
            if let (Some(prefix), Some(endpoint)) = (prefix, endpoint) {
                if entries.iter().any(|(other, _)| *other == prefix) {
                    self.problems
                        .at(home.prefix.span(), format!("{prefix} has a [[home]] entry already: remove one"));
                }
                entries.push((prefix, endpoint));
            }
        }
        Homes::new(entries, file.node.allow_special_homes)
    }

    fn prefix(&mut self, text: &Spanned<String>) -> Option<Ipv6Net> {
        match text.get_ref().parse::<Ipv6Net>() {
            Ok(prefix) if prefix.trunc() == prefix => Some(prefix),
            Ok(prefix) => {
                self.problems.at(
                    text.span(),
                    format!("{prefix} has bits behind its length: write {}", prefix.trunc()),
                );
                None
            }
            Err(_) => match text.get_ref().parse::<Ipv6Addr>() {
                Ok(address) => Some(Ipv6Net::from(address)),
                Err(_) => {
                    self.problems.at(
                        text.span(),
                        format!(
                            "\"{}\" is not an IPv6 prefix: write it like 2002:c633:6401::/48",
                            text.get_ref()
                        ),
                    );
                    None
                }
            },
        }
    }

    fn endpoint(&mut self, text: &Spanned<String>) -> Option<SocketAddrV4> {
        if let Ok(endpoint) = text.get_ref().parse::<SocketAddrV4>() {
            return Some(endpoint);
        }
        let found = text.get_ref().to_socket_addrs().ok().and_then(|mut found| {
            found.find_map(|address| match address {
                SocketAddr::V4(address) => Some(address),
                SocketAddr::V6(_) => None,
            })
        });
        if found.is_none() {
            self.problems.at(
                text.span(),
                format!(
                    "\"{}\" is not IP:PORT and no host of that name has an IPv4 address: write it like 198.51.100.2:4500",
                    text.get_ref()
                ),
            );
        }
        found
    }

    fn address(&mut self, text: &Spanned<String>, owner: &str) -> Option<Ipv6Addr> {
        let Ok(address) = text.get_ref().parse::<Ipv6Addr>() else {
            self.problems.at(text.span(), format!("\"{}\" is not an IPv6 address", text.get_ref()));
            return None;
        };
        if address.is_multicast() || address.is_unspecified() || address.is_loopback() {
            self.problems.at(text.span(), format!("{address} cannot be a permanent address"));
            return None;
        }
        if let Some(other) = self.addresses.insert(address, owner.to_owned()) {
            self.problems.at(
                text.span(),
                format!("{address} belongs to \"{other}\" already: every address has one owner"),
            );
        }
        Some(address)
    }

    fn name(&mut self, text: &Spanned<String>, kind: &'static str) {
        let name = text.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
            self.problems.at(
                text.span(),
                format!("\"{name}\" is not a name: use 1 to 63 letters, digits, '-', '_' and '.'"),
            );
        }
        if let Some(other) = self.names.insert(name.clone(), kind) {
            self.problems.at(
                text.span(),
                format!("the name \"{name}\" is taken by another {other}: choose a different one"),
            );
        }
    }

    fn home_problem(&mut self, text: &Spanned<String>, error: HomeError) {
        self.problems.at(text.span(), error.to_string());
    }

    fn entity(&mut self, entity: &file::Entity, homes: &Homes) -> Option<Entity> {
        self.name(&entity.name, "entity");
        let address = self.address(&entity.address, entity.name.get_ref());
        if let Some(Err(error)) = address.map(|address| homes.endpoint(address)) {
            self.home_problem(&entity.address, error);
        }
        let key = self.secret_file(&entity.key_file, "'domicile key generate' makes one").and_then(|text| {
            let text = Zeroizing::new(String::from_utf8_lossy(text.expose()).into_owned());
            let key = PrivateKey::from_pem(&text);
            if let Err(error) = &key {
                self.problems.at(entity.key_file.span(), format!("{}: {error}", entity.key_file.get_ref()));
            }
            key.ok()
        });
        Some(Entity { name: entity.name.get_ref().clone(), address: address?, key: key? })
    }

    /// A file that only its owner may read, beside the configuration unless the path is absolute.
    fn secret_file(&mut self, file: &Spanned<String>, remedy: &str) -> Option<Secret> {
        let path = self.path.parent().unwrap_or_else(|| Path::new(".")).join(file.get_ref());
        let shown = path.display();
        let read =
            std::fs::metadata(&path).and_then(|meta| Ok((meta.permissions().mode(), std::fs::read(&path)?)));
        match read {
            Ok((mode, _)) if mode & 0o077 != 0 => {
                self.problems.at(
                    file.span(),
                    format!(
                        "{shown} can be read by others (mode {:o}): run 'chmod 600 {shown}'",
                        mode & 0o777
                    ),
                );
                None
            }
            Ok((_, bytes)) => Some(Secret::new(bytes)),
            Err(error) => {
                let what = match error.kind() {
                    std::io::ErrorKind::NotFound => "does not exist".to_owned(),
                    std::io::ErrorKind::PermissionDenied => "may not be read by you".to_owned(),
                    _ => error.to_string(),
                };
                self.problems.at(file.span(), format!("{shown} {what}: {remedy}"));
                None
            }
        }
    }

    fn peer(&mut self, peer: &file::Peer, homes: &Homes) -> Option<PeerEntry> {
        self.name(&peer.name, "peer");
        let address = self.address(&peer.address, peer.name.get_ref());
        let proof = self.proof(peer);
        let endpoint = match (&peer.endpoint, address) {
            (Some(text), _) if text.get_ref() == "none" => None,
            (Some(text), _) => self.endpoint(text),
            (None, Some(address)) => match homes.endpoint(address) {
                Ok(endpoint) => Some(endpoint),
                Err(error) => {
                    self.home_problem(&peer.address, error);
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
        Some(PeerEntry {
            name: peer.name.get_ref().clone(),
            address: address?,
            proof: proof?,
            endpoint,
            keep_up,
        })
    }

    fn proof(&mut self, peer: &file::Peer) -> Option<Proof> {
        match (&peer.public_key, &peer.psk_file) {
            (Some(text), None) => match text.get_ref().parse::<PublicKey>() {
                Ok(key) => Some(Proof::PublicKey(*key.as_bytes())),
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
            (None, None) => {
                self.problems.at(
                    peer.name.span(),
                    format!(
                        "peer \"{}\" needs a public_key (from 'domicile key show' there) or a psk_file",
                        peer.name.get_ref()
                    ),
                );
                None
            }
        }
    }

    fn policy(&mut self, policy: &file::Policy) -> Option<Policy> {
        let local = match &policy.local {
            Some(text) => self.prefix(text),
            None => Some(Ipv6Net::default()),
        };
        let remote = self.prefix(&policy.remote);
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
        let action = match policy.action.get_ref().as_str() {
            "protect" => Action::Protect(services),
            "discard" => Action::Discard,
            "bypass" => Action::Bypass,
            other => {
                let message =
                    format!("action = \"{other}\" is unknown: say \"protect\", \"discard\" or \"bypass\"");
                self.problems.at(policy.action.span(), message);
                return None;
            }
        };
        if let (Some(text), Action::Discard | Action::Bypass) = (&policy.services, action) {
            self.problems.at(text.span(), "services belong to action = \"protect\": remove them");
        }
        Some(Policy { local: local?, remote: remote?, action })
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

    fn number<N: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        value: &Option<Spanned<N>>,
        default: N,
        range: std::ops::RangeInclusive<N>,
        name: &str,
        hint: &str,
    ) -> N {
        let Some(text) = value else { return default };
        if !range.contains(text.get_ref()) {
            self.problems.at(
                text.span(),
                format!(
                    "{name} = {} is not between {} and {}: {hint}",
                    text.get_ref(),
                    range.start(),
                    range.end()
                ),
            );
        }
        *text.get_ref()
    }

    fn suites<S: Copy + PartialEq>(
        &mut self,
        given: &Option<Vec<Spanned<String>>>,
        known: &[S],
        default: &[S],
        name: fn(S) -> &'static str,
        section: &str,
    ) -> Vec<S> {
        let Some(given) = given else { return default.to_vec() };
        let mut suites = Vec::new();
        for text in given {
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
        if given.is_empty() {
            self.problems.whole(format!("[{section}] suites is empty: leave it out for the defaults"));
        }
        suites
    }

    fn duration(&mut self, text: &Option<Spanned<String>>, default: Duration, least: Duration) -> Duration {
        let Some(text) = text else { return default };
        match humantime::parse_duration(text.get_ref()) {
            Ok(duration) if duration >= least => duration,
            Ok(_) => {
                let message = format!(
                    "\"{}\" is too short: at least {}",
                    text.get_ref(),
                    humantime::format_duration(least)
                );
                self.problems.at(text.span(), message);
                default
            }
            Err(_) => {
                let message = format!(
                    "\"{}\" is not a duration: write it like \"90s\", \"15m\" or \"4h\"",
                    text.get_ref()
                );
                self.problems.at(text.span(), message);
                default
            }
        }
    }

    fn lifetimes(&mut self, file: &file::File) -> Lifetimes {
        let default = Lifetimes::default();
        let second = Duration::from_secs(1);
        let child_rekey = self.duration(&file.esp.rekey, default.child_rekey, second);
        let lifetimes = Lifetimes {
            child_rekey,
            child_hard: child_rekey + (child_rekey / 10).max(Duration::from_secs(30)),
            ike_rekey: self.duration(&file.ike.rekey, default.ike_rekey, second),
            reauth: self.duration(&file.ike.reauthenticate, default.reauth, second),
            ike_max: self.duration(&file.ike.maximum_age, default.ike_max, second),
            jitter: self.number(&file.esp.jitter, default.jitter, 0.0..=0.5, "jitter", "0.1 is a tenth"),
            dpd: self.duration(&file.ike.dpd, default.dpd, second),
            retransmit_first: self.duration(
                &file.ike.retransmit_first,
                default.retransmit_first,
                Duration::from_millis(50),
            ),
            retransmit_tries: self.number(
                &file.ike.retransmit_tries,
                default.retransmit_tries,
                1..=30,
                "retransmit_tries",
                "6 is usual",
            ),
            nat_keepalive: self.duration(&file.ike.nat_keepalive, default.nat_keepalive, second),
            child_bytes: self.number(
                &file.esp.rekey_bytes,
                u64::MAX,
                65_536..=u64::MAX,
                "rekey_bytes",
                "leave it out for no limit",
            ),
            child_packets: self.number(
                &file.esp.rekey_packets,
                u64::MAX,
                1_000..=u64::MAX,
                "rekey_packets",
                "leave it out for no limit",
            ),
        };
        if lifetimes.reauth >= lifetimes.ike_max {
            let span = file.ike.reauthenticate.as_ref().or(file.ike.maximum_age.as_ref()).map(Spanned::span);
            self.problems.at(
                span.unwrap_or_default(),
                "reauthenticate must be shorter than maximum_age, or SAs end before they are replaced",
            );
        }
        lifetimes
    }
}
