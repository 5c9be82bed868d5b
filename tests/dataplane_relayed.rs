//! The relayed form: what it puts around ESP, and what it lets in.

#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

mod dataplane_support;

use std::net::Ipv6Addr;
use std::time::Duration;

use dataplane_support::*;
use domicile::addr::home::Homes;
use domicile::dataplane::batch::{PacketBuffer, SendBatch};
use domicile::dataplane::counters::DropReason;
use domicile::dataplane::event::{Relay, UdpPath};
use domicile::dataplane::inbound::{self, Inner, Verdict};
use domicile::dataplane::outbound;
use domicile::dataplane::relay::{self, Limits, Roles};
use domicile::dataplane::tables::Reader;
use domicile::wire::ip::Ipv6View;
use domicile::wire::relay::{NEXT_HEADER_ESP, OVERHEAD, wrap_ike};

/// What alice sends by way of her home agent.
fn sent(inner: &[u8]) -> Vec<u8> {
    let (_publisher, reader) = sender_by(relayed_path());
    let mut batch = SendBatch::new();
    let verdict = outbound::process(&reader, inner, &mut batch);
    assert!(matches!(verdict, outbound::Verdict::Sealed { .. }), "{verdict:?}");
    let datagram = batch.datagrams().next().unwrap();
    assert_eq!((datagram.path, datagram.ecn), (relayed_path(), 0));
    datagram.bytes.to_vec()
}

fn bobs_tables() -> Reader {
    receiver(NO_LIMITS).1
}

/// What becomes of a datagram that came from the home of bob, who is a member there and no home himself.
fn arrives(reader: &Reader, datagram: &[u8], out: &mut PacketBuffer) -> Verdict<'static> {
    let (mut publisher, roles) = relay::new();
    let homes = Homes::new(Vec::new(), true);
    let from = UdpPath { remote: homes.endpoint(bob()).unwrap(), ..mirrored(path()) };
    publisher.set_roles(Roles { local: [bob()].into(), home: None, homes });
    let Verdict::Relayed(packet) = inbound::process(reader, datagram, from, 3, Duration::ZERO, out) else {
        panic!("not in relayed form")
    };
    let mut relay = relay::Relay::new(roles, Limits::default(), [1; 16]);
    let relay::Verdict::Local(relayed) = relay.decide(packet, from.remote, Duration::ZERO) else {
        return Verdict::Relayed(&[]);
    };
    match inbound::relayed(reader, relayed, from, Duration::ZERO, out) {
        Verdict::Authentic { spi, path, inner, news } => Verdict::Authentic { spi, path, inner, news },
        Verdict::Refused { spi, reason } => Verdict::Refused { spi, reason },
        Verdict::UnknownSpi { spi, path } => Verdict::UnknownSpi { spi, path },
        Verdict::Relayed(_) => panic!("relayed twice"),
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
    let view = Ipv6View::new(&datagram).unwrap();
    assert_eq!((view.source(), view.destination(), view.next_header()), (alice(), bob(), NEXT_HEADER_ESP));
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
    assert_eq!(arrives(&bobs_tables(), &elsewhere, &mut out), Verdict::Relayed(&[]));
    let mut fragment = datagram;
    fragment[6] = 44;
    assert_eq!(arrives(&bobs_tables(), &fragment, &mut out), Verdict::Relayed(&[]));
}

#[test]
fn relayed_ike_is_told_with_its_way_back() {
    let message = wrap_ike(alice(), bob(), &[1; 28]).unwrap();
    let verdict = arrives(&bobs_tables(), &message, &mut PacketBuffer::new());
    let Verdict::Ike { path: way, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(way.relay, Some(Relay { local: bob(), remote: alice() }));
}
