//! NAT detection (RFC 7296 §2.23): SHA-1 over SPIs, address and port.
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of payload is picked out of a message")]

use std::net::SocketAddrV4;

use sha1::{Digest, Sha1};

use super::inform::find;
use crate::dataplane::event::UdpPath;
use crate::wire::ike::{Notify, Payload, notify_type};

/// Version octet of the DOMICILE notify.
const DOMICILE_VERSION: u8 = 1;

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

/// DOMICILE: who we are, and the true source hash, because NAT_DETECTION_SOURCE_IP deliberately is not.
pub(super) fn truth(spi_i: u64, spi_r: u64, local: SocketAddrV4) -> Payload {
    let mut data = vec![DOMICILE_VERSION];
    data.extend_from_slice(&hash(spi_i, spi_r, local));
    status(notify_type::DOMICILE, data)
}

/// Is the sender a domicile?
pub(super) fn is_domicile(payloads: &[Payload]) -> bool {
    find(payloads, notify_type::DOMICILE).is_some_and(|notify| notify.data.first() == Some(&DOMICILE_VERSION))
}

/// Whose address is translated; `None` where a message does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) ours: Option<bool>,
    pub(super) theirs: Option<bool>,
}

/// What a message that came over `path` tells.
pub(super) fn detect(payloads: &[Payload], spi_i: u64, spi_r: u64, path: UdpPath) -> Translated {
    let ours = hash(spi_i, spi_r, path.local);
    let theirs = hash(spi_i, spi_r, path.remote);
    let true_source =
        find(payloads, notify_type::DOMICILE).map(|notify| notify.data.get(1..) != Some(&theirs));
    Translated {
        ours: differs(payloads, notify_type::NAT_DETECTION_DESTINATION_IP, ours),
        theirs: true_source.or_else(|| differs(payloads, notify_type::NAT_DETECTION_SOURCE_IP, theirs)),
    }
}

/// There is such a notify, and none of them has this hash: a sender may not know which of its addresses it is
/// (RFC 7296 §2.23).
fn differs(payloads: &[Payload], kind: u16, expected: [u8; 20]) -> Option<bool> {
    let mut hashes = payloads
        .iter()
        .filter_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind == kind => Some(notify.data.as_slice()),
            _ => None,
        })
        .peekable();
    hashes.peek()?;
    Some(hashes.all(|hash| hash != expected))
}

/// A status notify without SPI.
pub(super) fn status(kind: u16, data: Vec<u8>) -> Payload {
    Payload::Notify(Notify { protocol: 0, spi: Vec::new(), kind, data })
}
