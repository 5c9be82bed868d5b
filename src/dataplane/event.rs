//! What the workers tell the control plane. Everything goes through one bounded queue; when it is full the event is
//! dropped and counted, never waited for.

use std::net::{Ipv6Addr, SocketAddrV4};

use crate::wire::relay;

/// How a datagram travels: between two UDP addresses, as it is or in relayed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpPath {
    /// Our address and port.
    pub local: SocketAddrV4,
    /// The other end's address and port; on the relayed path, the home agent's.
    pub remote: SocketAddrV4,
    /// The relayed path: what stands in the IPv6 header around ESP or IKE.
    pub relay: Option<Relay>,
}

/// The two permanent addresses of a relayed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Relay {
    /// Ours.
    pub local: Ipv6Addr,
    /// The peer's.
    pub remote: Ipv6Addr,
}

impl Relay {
    /// Writes the IPv6 header in front of the ESP that lies behind the first [`relay::OVERHEAD`] octets.
    pub fn write_header(self, datagram: &mut [u8]) {
        let len = u16::try_from(datagram.len().saturating_sub(relay::OVERHEAD)).unwrap_or(u16::MAX);
        if let Some(header) = datagram.first_chunk_mut() {
            relay::write_esp_header(header, self.local, self.remote, len);
        }
    }
}

impl UdpPath {
    /// Octets between the UDP header and ESP.
    pub fn overhead(self) -> usize {
        if self.relay.is_some() { relay::OVERHEAD } else { 0 }
    }

    /// Straight from one UDP address to the other.
    pub fn direct(local: SocketAddrV4, remote: SocketAddrV4) -> Self {
        Self { local, remote, relay: None }
    }
}

/// What travels in a child SA and is not for the TUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// An IPv6 packet with a Mobility Header (RFC 6275 §6.1), within the SA's selectors.
    Mobility(Vec<u8>),
    /// The body of a dummy packet (RFC 4303 §2.6) that is a message of path control between two of us.
    Path(Vec<u8>),
    /// The answer to an echo of ours (`wire::echo`), from a peer that is not one of us.
    Echo(Vec<u8>),
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An IKE message.
    Ike {
        /// How it came; `local.port()` is 500 or our ESP port.
        path: UdpPath,
        /// The message without its non-ESP marker.
        message: Vec<u8>,
    },
    /// What an authenticated peer says to our control plane.
    Control {
        /// SPI of the inbound SA.
        spi: u32,
        /// How it came.
        path: UdpPath,
        /// What.
        what: Control,
    },
    /// A packet from the TUN that policy wants protected and that has no SA.
    Acquire {
        /// The IPv6 packet: it waits in the node.
        packet: Vec<u8>,
    },
    /// Authenticated ESP arrived from another address than the one we send to.
    NewSource {
        /// SPI of the inbound SA.
        spi: u32,
        /// How it came.
        path: UdpPath,
    },
    /// The first authenticated packet arrived on this inbound SA.
    FirstPacket {
        /// SPI of the inbound SA.
        spi: u32,
    },
    /// An SA passed a soft limit; told once.
    SoftLimit {
        /// SPI of the SA, inbound or outbound.
        spi: u32,
    },
    /// An outbound SA stopped: hard limit or sequence numbers used up; told once.
    Exhausted {
        /// SPI of the outbound SA.
        spi: u32,
    },
    /// ESP for an SPI that is not ours (after a restart, or hostile); rate-limited by the worker.
    UnknownSpi {
        /// The SPI.
        spi: u32,
        /// How it came.
        path: UdpPath,
    },
}
