//! Which addresses are told to the peer, and which of the peer's are tried: pure functions.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::selection::Class;
use crate::wire::path::{Candidate, CandidateKind, CandidateList, MAX_CANDIDATES};

/// Ports below are other services' (RFC 6335 §6): nobody makes us send there.
const MIN_PORT: u16 = 1024;

/// When addresses of local networks (RFC 1918, RFC 6598) are told to the peer, and the peer's are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LanPolicy {
    /// When both ends have the same public address, by what their home agents see. The peer's half of that is the
    /// peer's own word, so a peer that knows our public address could learn our local ones.
    #[default]
    SamePublicAddress,
    /// Always: networks that are joined by private routes.
    Always,
    /// Never.
    Never,
}

impl LanPolicy {
    /// Whether local addresses count between these two lists.
    pub(super) fn allows(self, own: &[Candidate], peer: &[Candidate]) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::SamePublicAddress => {
                observed(own).any(|address| observed(peer).any(|other| other == address))
            }
        }
    }
}

fn observed(list: &[Candidate]) -> impl Iterator<Item = Ipv4Addr> {
    list.iter()
        .filter(|candidate| candidate.kind == CandidateKind::Observed)
        .map(|candidate| *candidate.address.ip())
}

/// A private-use or carrier-grade NAT address.
fn is_lan(address: Ipv4Addr) -> bool {
    // 100.64.0.0/10, RFC 6598.
    address.is_private() || (address.octets()[0] == 100 && address.octets()[1] >> 6 == 1)
}

/// Whether anything may be sent there at all: never loopback, link-local, multicast, broadcast, reserved, "this
/// network", or a low port.
pub(super) fn may_send_to(address: SocketAddrV4) -> bool {
    let ip = address.ip();
    let first = ip.octets()[0];
    address.port() >= MIN_PORT && first != 0 && first < 224 && !ip.is_loopback() && !ip.is_link_local()
}

/// How an address ranks that the peer names.
pub(super) fn class(address: SocketAddrV4) -> Class {
    if is_lan(*address.ip()) { Class::Lan } else { Class::Public }
}

fn usable(candidate: &Candidate, lan: bool) -> bool {
    may_send_to(candidate.address) && (lan || !is_lan(*candidate.address.ip()))
}

/// What is told to the peer: what the home agent sees first, each address once.
pub(super) fn advertised(own: &[Candidate], lan: bool) -> CandidateList {
    let of = |kind| own.iter().filter(move |candidate| candidate.kind == kind && usable(candidate, lan));
    let mut list = CandidateList::EMPTY;
    for candidate in of(CandidateKind::Observed).chain(of(CandidateKind::Interface)) {
        if list.as_slice().iter().all(|known| known.address != candidate.address) {
            // A full list drops what is left.
            list.push(*candidate);
        }
    }
    list
}

/// Which of the peer's addresses are tried: each once, and none that one of our own interfaces has.
pub(super) fn accepted(peer: &CandidateList, own: &[Candidate], lan: bool) -> Vec<SocketAddrV4> {
    let is_own = |address: &SocketAddrV4| {
        own.iter().any(|ours| ours.kind == CandidateKind::Interface && ours.address.ip() == address.ip())
    };
    let mut addresses = Vec::with_capacity(MAX_CANDIDATES);
    for candidate in peer.as_slice().iter().filter(|candidate| usable(candidate, lan)) {
        if !is_own(&candidate.address) && !addresses.contains(&candidate.address) {
            addresses.push(candidate.address);
        }
    }
    addresses
}
