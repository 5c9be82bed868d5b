//! What comes out of a node besides datagrams.

use std::net::{Ipv6Addr, SocketAddrV4};

use ipnet::Ipv6Net;

use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::dataplane::event::UdpPath;
use crate::dataplane::tables::Outbound;
use crate::ike::IkeId;
use crate::wire::ip::NEXT_HEADER_IPV6;

/// A packet that waited for its SA: to be sealed and sent now.
pub struct Inject {
    /// How.
    pub outbound: Outbound,
    /// [`NEXT_HEADER_IPV6`], or a dummy packet's.
    pub next_header: u8,
    /// What.
    pub packet: Vec<u8>,
}

impl Inject {
    /// An IPv6 packet.
    pub(super) fn packet(outbound: Outbound, packet: Vec<u8>) -> Self {
        Self { outbound, next_header: NEXT_HEADER_IPV6, packet }
    }
}

/// Something that the driver logs, or that a waiting request is answered with.
#[derive(Clone, Debug)]
pub enum Event {
    /// Traffic with this peer can flow.
    PeerUp {
        /// Our permanent address.
        local: Ipv6Addr,
        /// The peer's permanent address.
        remote: Ipv6Addr,
    },
    /// The last SA with this peer is gone.
    PeerDown {
        /// Our permanent address.
        local: Ipv6Addr,
        /// The peer's permanent address.
        remote: Ipv6Addr,
        /// Why, in words.
        reason: String,
    },
    /// An attempt failed.
    PeerFailed {
        /// Our permanent address.
        local: Ipv6Addr,
        /// The peer's permanent address.
        remote: Ipv6Addr,
        /// Why, in one sentence.
        error: String,
    },
    /// The SAs with this peer travel another way now.
    PathChanged {
        /// The peer's permanent address.
        remote: Ipv6Addr,
        /// The new path.
        path: UdpPath,
        /// Why, where path control decided.
        reason: Option<String>,
    },
    /// Packets to this peer may be of another size now.
    MtuChanged {
        /// The peer's permanent address.
        remote: Ipv6Addr,
        /// The path that was found to be so wide.
        path: UdpPath,
        /// Octets of the largest inner packet.
        mtu: u16,
        /// Not even packets of that size pass: it is the least that IPv6 may be told.
        narrow: bool,
    },
    /// Persist this **before** any packet of the same turn is sent: after a crash numbers go on behind it.
    SequenceReserved {
        /// The sender of our Binding Updates.
        home_address: Ipv6Addr,
        /// All numbers up to this one count as used.
        sequence: u16,
    },
    /// We are reachable through our home agent.
    Registered {
        /// The sender.
        home_address: Ipv6Addr,
    },
    /// Our home agent sees us there.
    Observed {
        /// The sender.
        home_address: Ipv6Addr,
        /// Address and port, outside of any NAT.
        care_of: SocketAddrV4,
        /// It is not one of our own.
        behind_nat: bool,
    },
    /// We are not reachable through our home agent any more.
    RegistrationLost {
        /// The sender.
        home_address: Ipv6Addr,
        /// Why, in words.
        why: String,
    },
    /// A home that we know is reached elsewhere now: its home agent has proven itself there.
    HomeMoved {
        /// Which.
        prefix: Ipv6Net,
        /// Where it was until now.
        from: SocketAddrV4,
        /// Where it is.
        to: SocketAddrV4,
    },
    /// We are a home agent: relayed packets for this prefix go there, or nowhere any more.
    Route {
        /// What is bound.
        prefix: Ipv6Net,
        /// Where it is.
        care_of: Option<SocketAddrV4>,
    },
    /// Another of us sent a document over an IKE SA.
    Document {
        /// The SA, to answer on.
        ike: IkeId,
        /// Our permanent address.
        local: Ipv6Addr,
        /// The peer's permanent address: proven.
        remote: Ipv6Addr,
        /// Its content, of any form.
        document: Vec<u8>,
    },
    /// For the key log: what decrypts the messages of an IKE SA.
    IkeKeys {
        /// Initiator's SPI.
        spi_i: u64,
        /// Responder's SPI.
        spi_r: u64,
        /// AEAD.
        suite: IkeSuite,
        /// Key and salt, initiator to responder.
        sk_ei: Secret,
        /// Key and salt, responder to initiator.
        sk_er: Secret,
    },
    /// For the key log: one direction of a child SA.
    ChildKeys {
        /// SPI on the wire.
        spi: u32,
        /// Cipher suite.
        suite: EspSuite,
        /// Key and salt.
        key: Secret,
    },
}
