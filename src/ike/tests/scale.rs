//! Many peers: what is idle is not looked at.
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::cell::Cell;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pair::{config, secs};
use crate::crypto::secret::Secret;
use crate::dataplane::event::UdpPath;
use crate::ike::Endpoint;
use crate::policy::pad::{Pad, Peer, Proof};

thread_local! {
    /// How often an SA was asked for its next deadline.
    pub(in crate::ike) static LOOKS: Cell<usize> = const { Cell::new(0) };
}

fn looks<T>(act: impl FnOnce() -> T) -> (usize, T) {
    let before = LOOKS.get();
    let result = act();
    (LOOKS.get() - before, result)
}

const PEERS: u16 = 1000;

fn address(peer: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2002, 0xc633, 0x6402, 1, 0, 0, 0, peer)
}

#[test]
fn of_a_thousand_peers_only_the_one_with_something_to_do_is_looked_at() {
    let mut now = Instant::now();
    let mut config = config(0, true);
    let psk = Secret::from(&b"correct horse battery staple"[..]);
    let peer = |number: u16| Peer {
        name: number.to_string(),
        address: address(number),
        proof: Proof::Psk(psk.clone()),
    };
    config.pad = Arc::new(Pad::new((0..PEERS).map(peer)));
    let local = config.entities[0].address;
    let mut endpoint = Endpoint::new(config, [1; 32], now);
    let first = now;
    for number in 0..PEERS {
        let remote = SocketAddrV4::new([10, 0, (number >> 8) as u8, number as u8].into(), 4500);
        let path = UdpPath::direct("198.51.100.1:4500".parse().unwrap(), remote);
        let (count, started) = looks(|| endpoint.initiate(now, local, address(number), path));
        assert!(started.is_ok() && count <= 4, "{count} looks to start peer {number}");
        now += Duration::from_micros(100);
    }
    while endpoint.poll_transmit().is_some() {}
    let (count, next) = looks(|| endpoint.poll_timeout());
    let (at, why) = next.unwrap();
    assert!(at > first && why == "IKE retransmission");
    assert_eq!(count, 1, "only the first one is asked");
    let (count, ()) = looks(|| endpoint.handle_timeout(at));
    assert!(count <= 4, "{count} looks for one retransmission");
    let mut sent = 0;
    while endpoint.poll_transmit().is_some() {
        sent += 1;
    }
    assert_eq!(sent, 1);
    endpoint.handle_timeout(now + secs(1));
    endpoint.sas.check();
    let other = endpoint.initiate(
        now,
        local,
        address(7),
        UdpPath::direct("198.51.100.1:4500".parse().unwrap(), "10.0.0.7:4500".parse().unwrap()),
    );
    assert_eq!(endpoint.len(), usize::from(PEERS), "an attempt that is under way is found: {other:?}");
}
