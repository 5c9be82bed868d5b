//! The bodies of the fuzz targets. They live here so that the ordinary compiler checks them and the committed corpus is
//! replayed by an ordinary test (`tests/fuzz_corpus.rs`).

use crate::wire::icmpv6::{MAX_ERROR, Unreachable, packet_too_big, unreachable};
use crate::wire::ike::{HEADER_LEN, Header, encode_payloads, parse_payloads};
use crate::wire::ip::Ipv6View;
use crate::wire::udp_encap::{Datagram, classify};

/// Any datagram: classified, and what looks like IKE is parsed.
pub fn datagram(data: &[u8]) {
    match classify(data) {
        Ok(Datagram::Ike(message)) => ike_message(message),
        Ok(Datagram::Relayed(packet)) => ipv6(packet),
        Ok(Datagram::Keepalive | Datagram::Esp { .. }) | Err(_) => {}
    }
}

/// Any IKE message: what is understood and built again is understood the same way.
pub fn ike_message(data: &[u8]) {
    let Ok(header) = Header::parse(data) else { return };
    let Ok(payloads) = parse_payloads(header.next_payload, data.get(HEADER_LEN..).unwrap_or_default()) else {
        return;
    };
    let mut built = Vec::new();
    let first = encode_payloads(&payloads, &mut built);
    let again = parse_payloads(first, &built);
    // Unknown attributes and critical bits of known types are not kept, so a second round is the fixed point.
    let mut rebuilt = Vec::new();
    let Ok(again) = again else { return };
    encode_payloads(&again, &mut rebuilt);
    assert_eq!(rebuilt, built, "building is a fixed point");
}

/// Any packet from the TUN: read, and answered with each ICMPv6 error.
pub fn ipv6(data: &[u8]) {
    let mut out = [0; MAX_ERROR];
    let answers =
        [packet_too_big(1380, data, &mut out), unreachable(Unreachable::AddressUnreachable, data, &mut out)];
    for len in answers.into_iter().flatten() {
        assert!(Ipv6View::new(data).is_ok() && len <= MAX_ERROR, "only packets are answered");
    }
    if let Some(len) = answers[1] {
        assert!(Ipv6View::new(&out[..len]).is_ok(), "an answer is a packet");
    }
}
