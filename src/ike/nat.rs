//! NAT detection (RFC 7296 §2.23): SHA-1 over SPIs, address and port.

use std::net::SocketAddrV4;

use sha1::{Digest, Sha1};

use crate::wire::ike::{Notify, Payload, notify_type};

/// `SHA-1(SPIi | SPIr | IP | port)`.
pub(super) fn hash(spi_i: u64, spi_r: u64, address: SocketAddrV4) -> [u8; 20] {
    let mut sha = Sha1::new();
    sha.update(spi_i.to_be_bytes());
    sha.update(spi_r.to_be_bytes());
    sha.update(address.ip().octets());
    sha.update(address.port().to_be_bytes());
    sha.finalize().into()
}

/// The two payloads that we send. The source hash never matches (`chance`), so that every peer believes in a NAT and
/// encapsulates ESP in UDP, which is the only way we speak.
pub(super) fn payloads(spi_i: u64, spi_r: u64, remote: SocketAddrV4, chance: [u8; 20]) -> [Payload; 2] {
    [
        status(notify_type::NAT_DETECTION_SOURCE_IP, chance.to_vec()),
        status(notify_type::NAT_DETECTION_DESTINATION_IP, hash(spi_i, spi_r, remote).to_vec()),
    ]
}

/// A status notify without SPI.
pub(super) fn status(kind: u16, data: Vec<u8>) -> Payload {
    Payload::Notify(Notify { protocol: 0, spi: Vec::new(), kind, data })
}
