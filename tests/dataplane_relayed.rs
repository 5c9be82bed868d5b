//! The relayed form: what it puts around ESP, and what it lets in.

#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

mod dataplane_support;

use std::net::Ipv6Addr;
use std::time::Duration;

use dataplane_support::*;
use domicile::dataplane::batch::{PacketBuffer, SendBatch};
use domicile::dataplane::counters::DropReason;
use domicile::dataplane::event::{Relay, UdpPath};
use domicile::dataplane::inbound::{self, Inner, Verdict};
use domicile::dataplane::outbound;
use domicile::dataplane::tables::{self, Outbound, Reader};
use domicile::wire::relay::{self, OVERHEAD};

fn relayed_path() -> UdpPath {
    UdpPath { relay: Some(Relay { local: alice(), remote: bob() }), ..path() }
}

/// What alice sends by way of her home agent.
fn sent(inner: &[u8]) -> Vec<u8> {
    let (mut publisher, reader) = tables::new();
    publisher.set_policy(policy(&[]), vec![alice()]);
    let sa = outbound_sa(SPI, alice(), bob(), NO_LIMITS);
    publisher.set_outbound(alice(), bob(), Outbound { sa, path: relayed_path(), mtu: 1380 });
    let mut batch = SendBatch::new();
    let verdict = outbound::process(&reader, inner, &mut batch);
    assert!(matches!(verdict, outbound::Verdict::Sealed { .. }), "{verdict:?}");
    let datagram = batch.datagrams().next().unwrap();
    assert_eq!((datagram.path, datagram.ecn), (relayed_path(), 0));
    datagram.bytes.to_vec()
}

fn bobs_tables() -> Reader {
    let (mut publisher, reader) = tables::new();
    publisher.set_policy(policy(&[]), vec![bob()]);
    publisher.install_inbound(inbound_sa(SPI, bob(), alice(), NO_LIMITS));
    reader
}

fn arrives(reader: &Reader, datagram: &[u8], out: &mut PacketBuffer) -> Verdict<'static> {
    match inbound::process(reader, datagram, mirrored(path()), 3, Duration::ZERO, out) {
        Verdict::Authentic { spi, path, inner, news } => Verdict::Authentic { spi, path, inner, news },
        Verdict::Refused { spi, reason } => Verdict::Refused { spi, reason },
        Verdict::UnknownSpi { spi, path } => Verdict::UnknownSpi { spi, path },
        Verdict::Forward(_) => Verdict::Forward(&[]),
        Verdict::Ike { path, .. } => Verdict::Ike { path, message: &[] },
        Verdict::Keepalive => Verdict::Keepalive,
    }
}

#[test]
fn a_relayed_packet_arrives_as_it_went_and_tells_its_way() {
    let inner = packet(alice(), bob(), 100);
    let datagram = sent(&inner);
    assert_eq!(
        datagram.len(),
        OVERHEAD + outbound_sa(SPI, alice(), bob(), NO_LIMITS).sealed_len(inner.len())
    );
    let parsed = relay::parse(&datagram).unwrap();
    assert_eq!((parsed.source, parsed.destination), (alice(), bob()));
    let mut out = PacketBuffer::new();
    // The outer congestion mark (3) came from the last home agent's IPv4: it says nothing, and drops nothing.
    let Verdict::Authentic { spi, path, inner: Ok(Inner::Packet), .. } =
        arrives(&bobs_tables(), &datagram, &mut out)
    else {
        panic!("not taken")
    };
    assert_eq!(spi, SPI);
    assert_eq!(path.relay, Some(Relay { local: bob(), remote: alice() }));
    assert_eq!(out.packet(), inner);
}

#[test]
fn the_outer_addresses_must_be_the_two_of_the_sa() {
    let datagram = sent(&packet(alice(), bob(), 100));
    let other: Ipv6Addr = "2002:c633:6401:1::ee".parse().unwrap();
    let mut out = PacketBuffer::new();
    let mut forged = datagram.clone();
    forged[8..24].copy_from_slice(&other.octets());
    assert_eq!(
        arrives(&bobs_tables(), &forged, &mut out),
        Verdict::Refused { spi: SPI, reason: DropReason::Selectors }
    );
    let mut elsewhere = datagram.clone();
    elsewhere[24..40].copy_from_slice(&other.octets());
    assert_eq!(arrives(&bobs_tables(), &elsewhere, &mut out), Verdict::Forward(&[]));
    let mut fragment = datagram;
    fragment[6] = 44;
    assert_eq!(
        arrives(&bobs_tables(), &fragment, &mut out),
        Verdict::Refused { spi: 0, reason: DropReason::Relayed }
    );
}

#[test]
fn relayed_ike_is_told_with_its_way_back() {
    let message = relay::wrap_ike(alice(), bob(), b"hello").unwrap();
    let verdict = arrives(&bobs_tables(), &message, &mut PacketBuffer::new());
    let Verdict::Ike { path: way, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(way, UdpPath { relay: Some(Relay { local: bob(), remote: alice() }), ..mirrored(path()) });
}
