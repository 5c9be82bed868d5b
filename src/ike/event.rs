//! What comes out of the endpoint.
#![allow(missing_docs, reason = "the fields of a variant are explained in its own comment")]

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::dataplane::event::UdpPath;
use crate::policy::certificates::TrustSpan;
use crate::wire::relay;
use crate::wire::udp_encap::NON_ESP_MARKER;

/// An IKE SA of this process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IkeId(pub u64);

/// A child SA pair of this process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildId(pub u64);

/// A datagram to send. When `path.local.port()` is not 500 the driver puts the non-ESP marker in front
/// (RFC 3948 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From where to where.
    pub path: UdpPath,
    /// The IKE message, or a single 0xff when `keepalive`.
    pub message: Vec<u8>,
    /// A NAT keepalive (RFC 3948 §2.3): sent as it is, without marker.
    pub keepalive: bool,
}

impl Transmit {
    /// What goes out of the ESP port: a keepalive as it is, a message in relayed form or behind the non-ESP marker.
    pub fn datagram(&self) -> Vec<u8> {
        match self.path.relay {
            _ if self.keepalive => self.message.clone(),
            // IKE messages are kept within a datagram: the empty one is never sent.
            Some(relay) => relay::wrap_ike(relay.local, relay.remote, &self.message).unwrap_or_default(),
            None => [&NON_ESP_MARKER[..], &self.message].concat(),
        }
    }
}

/// A child SA that was agreed on.
#[derive(Clone, Debug)]
pub struct ChildSa {
    /// Its number.
    pub id: ChildId,
    /// The IKE SA that made it.
    pub ike: IkeId,
    /// Local permanent address (the only local selector: /128, any protocol, any port).
    pub local: Ipv6Addr,
    /// Remote permanent address (the only remote selector).
    pub remote: Ipv6Addr,
    /// Cipher suite.
    pub suite: EspSuite,
    /// Extended sequence numbers.
    pub esn: bool,
    /// SPI that we receive on.
    pub spi_in: u32,
    /// SPI that the peer receives on.
    pub spi_out: u32,
    /// Key material of what we receive.
    pub key_in: Secret,
    /// Key material of what we send.
    pub key_out: Secret,
    /// Where its ESP goes.
    pub path: UdpPath,
    /// The child that this one replaces, which stays installed inbound until its own `ChildClosed`.
    pub replaces: Option<ChildId>,
    /// It is sent on beside others with the same selectors, for another resource (RFC 9611), and not instead of them.
    pub additional: bool,
    /// True: send on it at once. False (responder of a rekey): wait for `Event::ChildSend`.
    pub send_now: bool,
    /// The peer is a domicile too (its private status notify arrived).
    pub peer_is_domicile: bool,
}

/// What `status` tells of an IKE SA.
#[derive(Clone, Debug)]
pub struct IkeInfo {
    /// Its number.
    pub id: IkeId,
    /// Our identity.
    pub local: Ipv6Addr,
    /// The peer's identity.
    pub remote: Ipv6Addr,
    /// Initiator's SPI.
    pub spi_i: u64,
    /// Responder's SPI.
    pub spi_r: u64,
    /// We sent the IKE_SA_INIT request.
    pub initiator: bool,
    /// AEAD.
    pub suite: IkeSuite,
    /// Where it goes now.
    pub path: UdpPath,
    /// A NAT translates our address.
    pub nat_local: bool,
    /// A NAT translates the peer's address.
    pub nat_remote: bool,
    /// MOBIKE was agreed on (RFC 4555).
    pub mobike: bool,
    /// The peer is a domicile too.
    pub peer_is_domicile: bool,
    /// Smoothed round-trip time of exchanges, once one was measured without retransmission.
    pub rtt: Option<Duration>,
    /// Time since IKE_AUTH.
    pub age: Duration,
    /// When the certificates that it rests on want it authenticated anew, and when they end it.
    pub trust: Option<TrustSpan>,
}

/// Why an attempt to reach a peer failed, in words that can be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody answered.
    #[error("no answer from {remote} after {tries} tries")]
    Timeout { remote: std::net::SocketAddrV4, tries: u32 },
    /// The peer refused our proof, or we refused the peer's.
    #[error("authentication failed: {0}")]
    Authentication(String),
    /// No common cipher suite.
    #[error("no common cipher suite: the peer answered NO_PROPOSAL_CHOSEN")]
    NoProposalChosen,
    /// The peer refused our selectors.
    #[error("the peer refuses traffic between these addresses: TS_UNACCEPTABLE")]
    SelectorsRefused,
    /// The peer answered another error notify.
    #[error("the peer answered error {0}")]
    Notify(u16),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// No PAD entry for the address, or no local entity.
    #[error("{0} is not a configured peer")]
    UnknownPeer(Ipv6Addr),
}

/// Why an SA went away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// We were told to.
    Local,
    /// The peer sent DELETE.
    Peer,
    /// A newer SA took its place.
    Replaced,
    /// The peer stopped answering.
    DeadPeer,
    /// Its hard lifetime ended.
    Expired,
    /// INITIAL_CONTACT: the peer restarted.
    InitialContact,
    /// An error ended it.
    Failed(Failure),
}

/// Something that the node must act on, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// An IKE SA is authenticated.
    IkeEstablished(IkeInfo),
    /// Install inbound first, then outbound if `send_now`.
    ChildReady(Box<ChildSa>),
    /// Send on this child from now on: beside the others, or instead of what was sent on until now.
    ChildSend { id: ChildId, additional: bool },
    /// Send on this child no more; it is received on until it is closed. Nothing to one that is sent on no more.
    ChildStop(ChildId),
    /// Remove this child, both directions.
    ChildClosed { id: ChildId, reason: CloseReason },
    /// This IKE SA and its children travel this way from now on.
    PathChanged { ike: IkeId, children: Vec<ChildId>, path: UdpPath },
    /// The IKE SA is gone; its children were closed by events before this one.
    IkeClosed { id: IkeId, local: Ipv6Addr, remote: Ipv6Addr, reason: CloseReason },
    /// `initiate` came to nothing; nothing of it is left.
    InitiationFailed { local: Ipv6Addr, remote: Ipv6Addr, failure: Failure },
    /// Another of us sent a document.
    Document { ike: IkeId, local: Ipv6Addr, remote: Ipv6Addr, document: Vec<u8> },
    /// For the key log: what decrypts IKE messages of this SA (key and salt per direction).
    IkeKeys { spi_i: u64, spi_r: u64, suite: IkeSuite, sk_ei: Secret, sk_er: Secret },
}
