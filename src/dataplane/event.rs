//! What the workers tell the control plane. Everything goes through one bounded queue; when it is full the event is
//! dropped and counted, never waited for.

use std::net::SocketAddrV4;

/// A pair of UDP addresses: how a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpPath {
    /// Our address and port.
    pub local: SocketAddrV4,
    /// The other end's address and port.
    pub remote: SocketAddrV4,
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
