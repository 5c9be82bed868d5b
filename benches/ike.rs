//! What the control plane costs: `cargo bench --bench ike`. A message is parsed and built; a handshake is both ends of
//! IKE_SA_INIT and IKE_AUTH with Ed25519 keys, a rekey both ends of CREATE_CHILD_SA, without a network between them.
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::hint::black_box;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use domicile::crypto::identity::PrivateKey;
use domicile::dataplane::event::UdpPath;
use domicile::ike::{ChildId, Config, Endpoint, Event, LocalEntity};
use domicile::policy::pad::{Pad, Peer, Proof};
use domicile::policy::spd::Spd;
use domicile::wire::ike::{HEADER_LEN, Header, Payload, encode_message, parse_payloads};

const ADDRESSES: [&str; 2] = ["2002:c633:6401:1::10", "2002:c633:6402:1::20"];
const SOCKETS: [&str; 2] = ["198.51.100.1:4500", "198.51.100.2:4500"];

fn entity(host: usize) -> Ipv6Addr {
    ADDRESSES[host].parse().expect("an address")
}

fn path(from: usize) -> UdpPath {
    let socket = |host: usize| SOCKETS[host].parse::<SocketAddrV4>().expect("a socket address");
    UdpPath::direct(socket(from), socket(1 - from))
}

fn config(host: usize) -> Config {
    let key = |host: usize| PrivateKey::from_seed(&[host as u8 + 1; 32]);
    let other = 1 - host;
    let proof = Proof::PublicKey(*key(other).public().as_bytes());
    let ours = LocalEntity { address: entity(host), signing_key: key(host).seed() };
    let pad = Pad::new([Peer { name: "other".to_owned(), address: entity(other), proof }]);
    Config::usual(vec![ours], pad, Spd::with_defaults([], []), true)
}

/// Two ends and nothing between them.
struct Pair {
    ends: [Endpoint; 2],
    now: Instant,
    child: Option<ChildId>,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        Self { ends: [0, 1].map(|host| Endpoint::new(config(host), [host as u8; 32], now)), now, child: None }
    }

    /// Carries messages until nobody has one; gives the first.
    fn settle(&mut self) -> Option<Vec<u8>> {
        let mut first = None;
        loop {
            let mut quiet = true;
            for from in [0, 1] {
                while let Some(transmit) = self.ends[from].poll_transmit() {
                    quiet = false;
                    self.ends[1 - from].handle_datagram(self.now, path(1 - from), &transmit.message);
                    first.get_or_insert(transmit.message);
                }
                while let Some(event) = self.ends[from].poll_event() {
                    if let (0, Event::ChildReady(child)) = (from, event) {
                        self.child = Some(child.id);
                    }
                }
            }
            if quiet {
                return first;
            }
        }
    }

    fn connect(&mut self) -> Vec<u8> {
        self.ends[0].initiate(self.now, entity(0), entity(1), path(0)).expect("it may initiate");
        let first = self.settle().expect("a first message");
        assert!(self.child.is_some(), "a child SA came of it");
        first
    }
}

fn parse(message: &[u8]) -> (Header, Vec<Payload>) {
    let header = Header::parse(message).expect("a header");
    (header, parse_payloads(header.next_payload, &message[HEADER_LEN..]).expect("payloads"))
}

fn messages(criterion: &mut Criterion) {
    let message = Pair::new().connect();
    let (header, payloads) = parse(&message);
    let mut group = criterion.benchmark_group("IKE_SA_INIT request");
    group.throughput(Throughput::Bytes(message.len() as u64));
    group.bench_function("parse", |bencher| bencher.iter(|| parse(black_box(&message))));
    group.bench_function("build", |bencher| bencher.iter(|| encode_message(header, black_box(&payloads))));
}

fn exchanges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("both ends");
    group.bench_function("handshake", |bencher| {
        bencher.iter_batched_ref(Pair::new, Pair::connect, BatchSize::SmallInput);
    });
    group.bench_function("child rekey", |bencher| {
        let connected = || {
            let mut pair = Pair::new();
            pair.connect();
            pair
        };
        bencher.iter_batched_ref(
            connected,
            |pair| {
                let child = pair.child.take().expect("a child SA");
                pair.ends[0].rekey_child(pair.now, child);
                pair.settle();
                assert!(pair.child.is_some(), "another child SA came of it");
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, messages, exchanges);
criterion_main!(benches);
