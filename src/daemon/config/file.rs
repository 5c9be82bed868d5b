//! The file as it is written; `check` makes sense of it. Nothing is required here: what is missing is told with
//! everything else, by `check`.

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) node: Node,
    pub(super) entity: Vec<Spanned<Entity>>,
    pub(super) home: Vec<Spanned<Home>>,
    pub(super) trust: Vec<Spanned<Trust>>,
    pub(super) home_agent: Option<HomeAgent>,
    pub(super) peer: Vec<Spanned<Peer>>,
    pub(super) policy: Vec<Spanned<Policy>>,
    pub(super) ike: Ike,
    pub(super) esp: Esp,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Node {
    pub(super) port: Option<Spanned<u16>>,
    pub(super) ike_port: Option<Spanned<u16>>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) mtu: Option<Spanned<u16>>,
    pub(super) queues: Option<Spanned<usize>>,
    pub(super) control_socket: Option<Spanned<String>>,
    pub(super) allow_special_homes: bool,
    pub(super) pin: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Entity {
    pub(super) name: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<String>>,
    pub(super) key_file: Option<Spanned<String>>,
    pub(super) certificate: Option<Spanned<String>>,
    pub(super) uid: Option<Spanned<u32>>,
    pub(super) user: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Home {
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) endpoint: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Trust {
    pub(super) root: Option<Spanned<String>>,
    pub(super) fingerprint: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HomeAgent {
    pub(super) directory: Option<Spanned<String>>,
    pub(super) certificate_lifetime: Option<Spanned<String>>,
    pub(super) relay_member_bytes: Option<Spanned<u64>>,
    pub(super) relay_source_bytes: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Peer {
    pub(super) name: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<String>>,
    pub(super) public_key: Option<Spanned<String>>,
    pub(super) psk_file: Option<Spanned<String>>,
    pub(super) endpoint: Option<Spanned<String>>,
    pub(super) connect: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) local: Option<Spanned<String>>,
    pub(super) remote: Option<Spanned<String>>,
    pub(super) action: Option<Spanned<String>>,
    pub(super) services: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Ike {
    pub(super) suites: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) rekey: Option<Spanned<String>>,
    pub(super) reauthenticate: Option<Spanned<String>>,
    pub(super) maximum_age: Option<Spanned<String>>,
    pub(super) dpd: Option<Spanned<String>>,
    pub(super) retransmit_first: Option<Spanned<String>>,
    pub(super) retransmit_tries: Option<Spanned<u32>>,
    pub(super) nat_keepalive: Option<Spanned<String>>,
    pub(super) fragment_size: Option<Spanned<usize>>,
    pub(super) cookie_threshold: Option<Spanned<usize>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Esp {
    pub(super) suites: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) extended_sequence_numbers: Option<bool>,
    pub(super) pfs: bool,
    pub(super) rekey: Option<Spanned<String>>,
    pub(super) rekey_bytes: Option<Spanned<u64>>,
    pub(super) rekey_packets: Option<Spanned<u64>>,
    pub(super) jitter: Option<Spanned<f64>>,
}
