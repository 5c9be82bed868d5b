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
    /// An IKE message without its non-ESP marker. `path.local.port()` is 500 or our ESP port.
    Ike { path: UdpPath, message: Vec<u8> },
    /// A packet from the TUN that policy wants protected and that has no SA. The packet waits in the node.
    Acquire { packet: Vec<u8> },
    /// Authenticated ESP arrived from another address than the one we send to.
    NewSource { spi: u32, path: UdpPath },
    /// The first authenticated packet arrived on this inbound SA.
    FirstPacket { spi: u32 },
    /// An SA passed a soft limit (either direction); told once.
    SoftLimit { spi: u32 },
    /// An outbound SA stopped: hard limit or sequence numbers used up; told once.
    Exhausted { spi: u32 },
    /// ESP for an SPI that is not ours (after a restart, or hostile); rate-limited by the worker.
    UnknownSpi { spi: u32, path: UdpPath },
}
