//! Requests and replies of the control socket (HTTP and JSON over a Unix socket); the command line prints the same
//! documents with `--json`. Durations are seconds as decimals, SPIs are hexadecimal strings.

pub mod home;
pub mod mobility;
pub mod paths;
pub mod trust;

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

/// `GET /v1/status`
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since start.
    pub uptime: f64,
    /// Name of the TUN device.
    pub interface: String,
    /// MTU of the TUN device.
    pub mtu: u16,
    /// UDP port of ESP and IKE.
    pub port: u16,
    /// How packets are carried.
    #[serde(default)]
    pub data_plane: DataPlaneStatus,
    /// Local entities.
    pub entities: Vec<EntityStatus>,
    /// Configured peers, and whoever else has an SA or wants one: 100 of those at most.
    pub peers: Vec<PeerStatus>,
    /// How many pairs of an entity of ours and a peer there are, shown or not.
    #[serde(default)]
    pub pairs: u64,
    /// Where this machine is registered.
    #[serde(default)]
    pub registrations: Vec<mobility::RegistrationStatus>,
    /// The home that this machine is.
    #[serde(default)]
    pub home: Option<mobility::HomeStatus>,
    /// Policies in the order in which they are tried.
    pub policies: Vec<PolicyStatus>,
    /// Dropped packets by reason; reasons that never happened are left out.
    pub drops: BTreeMap<String, u64>,
    /// Packets and octets in relayed form that were passed on or taken, and "unreachable" answers.
    #[serde(default)]
    pub relayed: BTreeMap<String, u64>,
}

/// How packets are carried: it changes the speed and nothing else.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct DataPlaneStatus {
    /// Queues of TUN device and UDP port, each with workers of its own.
    pub queues: usize,
    /// Offloads in use, by the names that `up --without` takes.
    pub offloads: Vec<String>,
    /// The others: not wanted, or the kernel or the network device has none.
    pub missing: Vec<String>,
    /// Whether idle CPUs are kept from halting at the moment, because much is carried; `None`: never on this machine, or
    /// it is not wanted, or it was tried and may not be.
    #[serde(default)]
    pub idle_polling: Option<bool>,
}

/// A local entity.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct EntityStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its permanent address.
    pub address: Ipv6Addr,
    /// Its public key, in the form that `peer add` takes.
    pub public_key: String,
    /// The certificate of its home.
    #[serde(default)]
    pub certificate: Option<CertificateStatus>,
    /// The only user who may use the address; `None`: everybody on the machine.
    #[serde(default)]
    pub uid: Option<u32>,
    /// The entity of this machine on which its home put it: a service on its node, a floating address on a device; `None`:
    /// one of the configuration.
    #[serde(default)]
    pub host: Option<Ipv6Addr>,
}

/// A certificate of ours. Times are seconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct CertificateStatus {
    /// Serial number in hexadecimal digits.
    pub serial: String,
    /// Host name.
    pub name: Option<String>,
    /// `user`, `device`, `node`, `service` or `home`.
    pub kind: String,
    /// First second of its validity.
    pub not_before: u64,
    /// Last second of its validity.
    pub not_after: u64,
    /// When it is to be renewed.
    pub renew_at: u64,
}

/// One peer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct PeerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its permanent address.
    pub address: Ipv6Addr,
    /// `idle`, `connecting`, `established` or `failed`.
    pub state: String,
    /// Why the last attempt failed, in one sentence.
    pub last_error: Option<String>,
    /// IKE SAs with this peer (more than one only while one replaces another).
    pub ike: Vec<IkeStatus>,
    /// Child SAs with this peer.
    pub children: Vec<ChildStatus>,
    /// Which way packets go, one for each entity of ours that is connected with this peer.
    #[serde(default)]
    pub paths: Vec<paths::PathsStatus>,
}

/// One IKE SA.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct IkeStatus {
    /// Initiator's SPI, 16 hexadecimal digits.
    pub spi_i: String,
    /// Responder's SPI, 16 hexadecimal digits.
    pub spi_r: String,
    /// We started it.
    pub initiator: bool,
    /// The local entity's permanent address.
    pub local: Ipv6Addr,
    /// AEAD by name.
    pub suite: String,
    /// Our UDP address.
    pub path_local: SocketAddrV4,
    /// The peer's UDP address.
    pub path_remote: SocketAddrV4,
    /// `direct` or `relayed`.
    pub path_kind: String,
    /// A NAT translates our address.
    pub nat_local: bool,
    /// A NAT translates the peer's address.
    pub nat_remote: bool,
    /// MOBIKE was agreed on.
    pub mobike: bool,
    /// The peer is a domicile.
    pub peer_is_domicile: bool,
    /// Round-trip time of exchanges in seconds.
    pub rtt: Option<f64>,
    /// Seconds since it was authenticated.
    pub age: f64,
    /// When it ends with the certificates that it rests on, in seconds since 1970.
    #[serde(default)]
    pub trusted_until: Option<u64>,
}

/// One child SA pair.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ChildStatus {
    /// What we receive on.
    pub inbound: SaStatus,
    /// What we send on.
    pub outbound: SaStatus,
    /// Cipher suite by name.
    pub suite: String,
    /// `confidentiality` or `integrity`.
    pub services: String,
    /// Extended sequence numbers.
    pub esn: bool,
    /// `active` (we send on it), `additional` (we send on it beside the active one, RFC 9611) or `draining` (only received
    /// on, until it is deleted).
    pub state: String,
    /// Seconds since it was installed.
    pub age: f64,
}

/// One direction: the triple and its counters.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct SaStatus {
    /// Destination of the triple: a permanent address.
    pub destination: Ipv6Addr,
    /// Protocol of the triple: always `esp`.
    pub protocol: String,
    /// SPI of the triple, `0x` and 8 hexadecimal digits.
    pub spi: String,
    /// Packets since it was installed.
    pub packets: u64,
    /// Inner octets since it was installed.
    pub bytes: u64,
}

/// One policy.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct PolicyStatus {
    /// Local prefix.
    pub local: String,
    /// Remote prefix.
    pub remote: String,
    /// `protect`, `discard` or `bypass`.
    pub action: String,
    /// `confidentiality` or `integrity`, for `protect`.
    pub services: Option<String>,
}

/// `POST /v1/peer`, `/v1/connect`, `/v1/disconnect`, `/v1/rekey`: which peer (name or address) and, for `rekey`, what.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct PeerRequest {
    /// A name of the configuration or a permanent address.
    pub peer: String,
    /// For `rekey`: `child` (default), `ike` or `reauth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// For `connect`: how long to wait for the SA, in seconds (default 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
}

/// `POST /v1/take` and `/v1/leave`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ErrandRequest {
    /// Which entity of the configuration; needed where several could be meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// How long to wait for the home, in seconds (default 15).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
}

/// Reply to `POST /v1/connect`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ConnectReply {
    /// The peer's permanent address.
    pub address: Ipv6Addr,
    /// Our permanent address towards it.
    pub local: Ipv6Addr,
    /// It was up already.
    pub existing: bool,
    /// Seconds until it was up.
    pub elapsed: f64,
}

/// Any reply with a status other than 2xx. The sentence says what is wrong, where, and what to do.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ErrorReply {
    /// Stage that failed: `name`, `policy`, `ike`, `sa`, `configuration`, `request`, `internal`.
    pub stage: String,
    /// One sentence.
    pub error: String,
}

/// `POST /v1/down` and `/v1/reload` reply with this.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Done {
    /// What was done, in one sentence.
    pub message: String,
}
