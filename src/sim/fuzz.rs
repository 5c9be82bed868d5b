//! The bodies of the fuzz targets. They live here so that the ordinary compiler checks them and the committed corpus is
//! replayed by an ordinary test (`tests/fuzz_corpus.rs`).

use std::net::Ipv6Addr;

use crate::crypto::identity::PrivateKey;
use crate::crypto::secret::Secret;
use crate::crypto::suite::EspSuite;
use crate::esp::{InboundSa, Limits, OpenError, OutboundSa, SaParams};
use crate::pki;
use crate::wire::icmpv6::{MAX_ERROR, Unreachable, packet_too_big, unreachable};
use crate::wire::ike::{HEADER_LEN, Header, Payload, encode_payloads, parse_payloads};
use crate::wire::ip::{self, Ipv6View, NEXT_HEADER_IPV6, NEXT_HEADER_NONE};
use crate::wire::mobility;
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
    let Ok(mut payloads) = parse_payloads(header.next_payload, data.get(HEADER_LEN..).unwrap_or_default())
    else {
        return;
    };
    let mut built = Vec::new();
    let first = encode_payloads(&payloads, &mut built);
    // Unknown attributes are not built: they are only ever a reason not to choose a transform.
    for payload in &mut payloads {
        if let Payload::Sa(proposals) = payload {
            let transforms = proposals.iter_mut().flat_map(|proposal| &mut proposal.transforms);
            transforms.for_each(|transform| transform.unknown_attribute = false);
        }
    }
    assert_eq!(parse_payloads(first, &built), Ok(payloads), "what we build says the same");
}

/// The form of SA that the first octet of an input to [`esp_open`] names: suite, and ESN by the top bit.
fn esp_form(choice: u8) -> SaParams {
    let suite = EspSuite::ALL[usize::from(choice & 0x7f) % EspSuite::ALL.len()];
    SaParams {
        spi: 0x1234_5678,
        local: Ipv6Addr::LOCALHOST,
        remote: Ipv6Addr::LOCALHOST,
        suite,
        esn: choice & 0x80 != 0,
        key: Secret::new(vec![0x42; suite.keymat_len()]),
        limits: Limits::NONE,
    }
}

/// Any ESP packet behind an octet that names a form of SA: opened as it is; and sealed as if it were an inner packet,
/// spoiled, and opened again.
pub fn esp_open(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let pair = (OutboundSa::new(esp_form(*choice)), InboundSa::new(esp_form(*choice)));
    let (Some(outbound), Some(inbound)) = pair else { panic!("the key fits every suite") };
    // Room for the inner packet, padding and trailer.
    let mut out = vec![0; data.len() + 8];
    // Only authentic input gets through here: a seed.
    let fresh = InboundSa::new(esp_form(*choice));
    if let Some(Ok(opened)) = fresh.map(|sa| sa.open(data, &mut out)) {
        assert!(opened.len < data.len(), "header and ICV are gone");
    }

    let mut sealed = vec![0; outbound.sealed_len(data.len())];
    let sequence = outbound.assign(1).unwrap_or_default();
    assert_eq!(
        outbound.seal(sequence, NEXT_HEADER_IPV6, data, &mut sealed),
        Ok(sealed.len()),
        "room was made"
    );
    // Where, and which bit, is the input's own choice; the SPI is not looked at by an SA.
    let mixed =
        data.iter().fold(0_usize, |mixed, octet| mixed.wrapping_mul(31).wrapping_add(usize::from(*octet)));
    let at = mixed % sealed.len();
    sealed[at] ^= 1 << (mixed / sealed.len() % 8);
    assert!(inbound.open(&sealed, &mut out).is_err(), "a spoiled packet is refused");
    sealed[at] ^= 1 << (mixed / sealed.len() % 8);
    assert!(inbound.open(&sealed[..at], &mut out).is_err(), "a truncated packet is refused");
    assert_eq!(inbound.packets(), 0, "nothing changed before authentication");
    let opened = inbound.open(&sealed, &mut out);
    assert_eq!(opened.map(|opened| opened.len), Ok(data.len()), "the packet itself is accepted");
    assert_eq!(&out[..data.len()], data, "and is what was sealed");
    assert_eq!(inbound.open(&sealed, &mut out), Err(OpenError::Replayed), "once");
}

/// Inputs to [`esp_open`] that are authentic: an IPv6 packet and a dummy packet in every form, by name. They are
/// committed as corpus, where they hold the format on the wire in place.
pub fn esp_seeds() -> Vec<(String, Vec<u8>)> {
    let mut inner = vec![0; ip::HEADER_LEN + 5];
    if let Some(header) = inner.first_chunk_mut() {
        ip::write_header(header, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, NEXT_HEADER_NONE, 64, 5);
    }
    let packets = [("ipv6", NEXT_HEADER_IPV6, inner), ("dummy", NEXT_HEADER_NONE, Vec::new())];
    let choices = (0..5).flat_map(|suite| [suite, suite | 0x80]);
    let mut seeds = Vec::new();
    for choice in choices {
        for (name, next_header, inner) in &packets {
            let params = esp_form(choice);
            let name = format!("{}-{}-{name}", params.suite, if params.esn { "esn" } else { "short" });
            let Some(outbound) = OutboundSa::new(params) else { continue };
            let mut sealed = vec![0; outbound.sealed_len(inner.len())];
            let sequence = outbound.assign(1).unwrap_or_default();
            if outbound.seal(sequence, *next_header, inner, &mut sealed).is_ok() {
                seeds.push((name, [&[choice][..], &sealed].concat()));
            }
        }
    }
    seeds
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

/// Any inner packet with a Mobility Header: what is understood and built again is understood the same way. The checksum
/// is set right first, or no input would ever get past it.
pub fn mobility_header(data: &[u8]) {
    let mut packet = data.to_vec();
    if let Ok(view) = Ipv6View::new(data)
        && view.next_header() == mobility::NEXT_HEADER_MOBILITY
        && let Some(payload) = packet.get_mut(ip::HEADER_LEN..)
        && payload.len() >= 6
    {
        payload[4..6].fill(0);
        let sum = ip::checksum(view.source(), view.destination(), mobility::NEXT_HEADER_MOBILITY, payload);
        payload[4..6].copy_from_slice(&sum.to_be_bytes());
    }
    let Ok(inner) = mobility::parse(&packet) else { return };
    let built = mobility::build(inner.source, inner.destination, &inner.message);
    assert_eq!(mobility::parse(&built), Ok(inner), "building loses nothing");
}

/// Any certificate, request or file with some: read in every way, and never believed under a root that did not sign it.
pub fn certificate(data: &[u8]) {
    let _ = pki::request::requested_key(data);
    if let Ok(Ok(all)) = std::str::from_utf8(data).map(pki::pem::decode) {
        assert!(!all.is_empty() && all.len() <= pki::MAX_OTHERS + 1, "bounded");
    }
    if let Ok(root) = pki::Root::from_der(data) {
        assert_eq!(root.prefix().prefix_len(), 48, "a home has a /48");
        assert_eq!(pki::Root::from_der(root.der()), Ok(root), "what was read is read again");
    }
    let Ok(claimed) = pki::leaf::read(data) else { return };
    let prefix = ipnet::Ipv6Net::new(claimed.address, 48).map(|prefix| prefix.trunc());
    let key = PrivateKey::from_seed(&[0xfe; 32]);
    let Ok(prefix) = prefix else { return };
    let stranger = pki::Authority::create(key, prefix, None, claimed.not_before, [1; 16]);
    if let Ok(stranger) = stranger {
        let believed = pki::leaf::verify(data, &[data], stranger.root(), claimed.not_before, claimed.address);
        assert!(believed.is_err(), "this root signed nothing");
    }
}
