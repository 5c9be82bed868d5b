//! Two ends with real SAs, for the tests of the data plane.
#![allow(unreachable_pub, reason = "a support module is part of each test crate")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use domicile::crypto::secret::Secret;
use domicile::crypto::suite::EspSuite;
use domicile::dataplane::batch::{PacketBuffer, TunWrite};
use domicile::dataplane::counters::DropReason;
use domicile::dataplane::event::{self, UdpPath};
use domicile::dataplane::inbound::{Authentic, Content, Run};
use domicile::dataplane::relay;
use domicile::dataplane::tables::{self, Outbound, Publisher, Reader};
use domicile::esp::{InboundSa, Limits, OutboundSa, SaParams};
use domicile::io::udp::Udp;
use domicile::policy::spd::{Action, Policy, Services, Spd};
use etherparse::PacketBuilder;

pub const SPI: u32 = 0x1234_5678;
pub const NO_LIMITS: Limits =
    Limits { soft_bytes: u64::MAX, soft_packets: u64::MAX, hard_bytes: u64::MAX, hard_packets: u64::MAX };

pub fn alice() -> Ipv6Addr {
    "2002:c633:6401:1::a".parse().unwrap()
}

pub fn bob() -> Ipv6Addr {
    "2002:c633:6402:1::b".parse().unwrap()
}

pub fn path() -> UdpPath {
    UdpPath::direct("198.51.100.1:4500".parse().unwrap(), "198.51.100.2:4500".parse().unwrap())
}

pub fn mirrored(path: UdpPath) -> UdpPath {
    UdpPath::direct(path.remote, path.local)
}

/// What the applications receive.
#[derive(Clone)]
pub struct Apps(pub mpsc::Sender<Vec<u8>>);

impl TunWrite for Apps {
    fn write(&mut self, buffer: &mut PacketBuffer) -> io::Result<()> {
        self.0.send(buffer.packet().to_vec()).map_err(io::Error::other)
    }
}

/// Where a socket that is bound to every address is reached on loopback.
pub fn at(host: u8, udp: &Udp) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), udp.port())
}

/// A UDP packet that can be told apart: by its checksum, which nobody on the way looks at.
pub fn numbered(mut packet: Vec<u8>, number: u16) -> Vec<u8> {
    packet[46..48].copy_from_slice(&number.to_be_bytes());
    packet
}

/// Parameters of one direction, for the end with this address.
pub fn params(spi: u32, local: Ipv6Addr, remote: Ipv6Addr, limits: Limits) -> SaParams {
    let suite = EspSuite::Aes256Gcm;
    let key = Secret::new(vec![(spi & 0xff) as u8; suite.keymat_len()]);
    SaParams { spi, local, remote, suite, esn: true, key, limits }
}

pub fn outbound_sa(spi: u32, local: Ipv6Addr, remote: Ipv6Addr, limits: Limits) -> Arc<OutboundSa> {
    Arc::new(OutboundSa::new(params(spi, local, remote, limits)).unwrap())
}

pub fn inbound_sa(spi: u32, local: Ipv6Addr, remote: Ipv6Addr, limits: Limits) -> Arc<InboundSa> {
    Arc::new(InboundSa::new(params(spi, local, remote, limits)).unwrap())
}

/// Protects 2002:c633::/32 except what `more` says first.
pub fn policy(more: &[(&str, Action)]) -> Spd {
    let rule = |remote: &str, action| Policy {
        local: "2002:c633::/32".parse().unwrap(),
        remote: remote.parse().unwrap(),
        action,
    };
    let mut rules: Vec<_> = more.iter().map(|(remote, action)| rule(remote, *action)).collect();
    rules.push(rule("2002:c633::/32", Action::Protect(Services::Confidentiality)));
    Spd::new(rules)
}

/// Alice's tables: she sends to Bob on [`SPI`].
pub fn sender(limits: Limits, mtu: u16) -> (Publisher, Reader) {
    sender_on(path(), limits, mtu)
}

/// The same by way of Alice's home agent.
pub fn sender_by(path: UdpPath) -> (Publisher, Reader) {
    sender_on(path, NO_LIMITS, 1380)
}

fn sender_on(path: UdpPath, limits: Limits, mtu: u16) -> (Publisher, Reader) {
    let (mut publisher, reader) = tables::new();
    publisher.set_policy(policy(&[]), vec![alice()]);
    let sa = outbound_sa(SPI, alice(), bob(), limits);
    publisher.set_outbound(alice(), bob(), Outbound::new(sa, path, mtu));
    (publisher, reader)
}

/// The relayed path from Alice to Bob.
pub fn relayed_path() -> UdpPath {
    UdpPath { relay: Some(event::Relay { local: alice(), remote: bob() }), ..path() }
}

/// Of a process that has no entity and is no home: it refuses everything.
pub fn no_relay() -> relay::Relay {
    relay::Relay::new(relay::new().1, relay::Limits::default(), [0; 16])
}

/// Bob's tables: he receives from Alice on [`SPI`].
pub fn receiver(limits: Limits) -> (Publisher, Reader) {
    let (mut publisher, reader) = tables::new();
    publisher.set_policy(policy(&[]), vec![bob()]);
    publisher.install_inbound(inbound_sa(SPI, bob(), alice(), limits));
    (publisher, reader)
}

/// A UDP packet with `payload` octets.
pub fn packet(from: Ipv6Addr, to: Ipv6Addr, payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv6(from.octets(), to.octets(), 64).udp(1111, 2222);
    builder.write(&mut packet, &vec![0x5a; payload]).unwrap();
    packet
}

/// The same with this ECN field.
pub fn with_ecn(mut packet: Vec<u8>, ecn: u8) -> Vec<u8> {
    domicile::dataplane::ecn::set(&mut packet, ecn);
    packet
}

/// Opens a datagram's content into `out`, if it is ESP of an SA of ours.
pub fn open_content(
    reader: &Reader,
    content: Content<'_>,
    now: Duration,
    out: &mut PacketBuffer,
) -> Result<Authentic, DropReason> {
    out.set_len(0);
    let sealed = match content {
        Content::Esp(sealed) => sealed,
        Content::Refused(reason) => return Err(reason),
        Content::Ike { .. } | Content::Relayed(_) | Content::Keepalive => panic!("not ESP"),
    };
    let receiving = reader.inbound(sealed.spi).ok_or(DropReason::UnknownSpi)?;
    let authentic = Run::new(&receiving).open(sealed, now, out.room_mut())?;
    out.set_len(authentic.len);
    Ok(authentic)
}

/// Refuses to touch a namespace in which anything else lives.
pub fn only_in_a_namespace_of_its_own() {
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap();
    let others = devices.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:"));
    assert!(!others, "run this in a network namespace of its own");
}

/// Runs ip(8).
pub fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}
