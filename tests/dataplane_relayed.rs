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
use domicile::dataplane::inbound::{self, Content, Inner};
use domicile::dataplane::outbound;
use domicile::dataplane::relay::{self, Limits, Roles};
use domicile::dataplane::tables::Reader;
use domicile::wire::ip::{Ipv6View, NEXT_HEADER_ESP};
use domicile::wire::relay::{OVERHEAD, wrap_ike};

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

/// What a datagram holds that came from the home of bob, who is a member there and no home himself; `None` when it must
/// not come from there.
fn arrives(datagram: &[u8]) -> Option<Content<'_>> {
    let (mut publisher, roles) = relay::new();
    let homes = Homes::new(Vec::new(), true);
    let from = UdpPath { remote: homes.endpoint(bob()).unwrap(), ..mirrored(path()) };
    publisher.set_roles(Roles { local: [bob()].into(), home: None, homes });
    let Content::Relayed(packet) = inbound::classify(datagram, from, 3) else {
        panic!("not in relayed form")
    };
    let mut relay = relay::Relay::new(roles, Limits::default(), [1; 16]);
    let relay::Verdict::Local(relayed) = relay.decide(packet, from.remote, Duration::ZERO) else {
        return None;
    };
    Some(inbound::relayed(relayed, from))
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
    let content = arrives(&datagram).unwrap();
    let Content::Esp(sealed) = content else { panic!("not taken") };
    assert_eq!(sealed.spi, SPI);
    assert_eq!(sealed.path.relay, Some(Relay { local: bob(), remote: alice() }));
    let authentic = open_content(&bobs_tables(), content, Duration::ZERO, &mut out).unwrap();
    assert_eq!(authentic.inner, Ok(Inner::Packet));
    assert_eq!(out.packet(), inner);
}

#[test]
fn the_outer_addresses_must_be_the_two_of_the_sa() {
    let datagram = sent(&packet(alice(), bob(), 100));
    let other: Ipv6Addr = "2002:c633:6401:1::ee".parse().unwrap();
    let mut out = PacketBuffer::new();
    let mut forged = datagram.clone();
    forged[8..24].copy_from_slice(&other.octets());
    let refused = open_content(&bobs_tables(), arrives(&forged).unwrap(), Duration::ZERO, &mut out);
    assert_eq!(refused, Err(DropReason::Selectors));
    let mut elsewhere = datagram.clone();
    elsewhere[24..40].copy_from_slice(&other.octets());
    assert_eq!(arrives(&elsewhere), None);
    let mut fragment = datagram;
    fragment[6] = 44;
    assert_eq!(arrives(&fragment), None);
}

#[test]
fn relayed_ike_is_told_with_its_way_back() {
    let message = wrap_ike(alice(), bob(), &[1; 28]).unwrap();
    let content = arrives(&message);
    let Some(Content::Ike { path: way, message }) = content else { panic!("{content:?}") };
    assert_eq!(message, [1; 28]);
    assert_eq!(way.relay, Some(Relay { local: bob(), remote: alice() }));
}
