//! Every exchange, with each of its datagrams lost in turn, and repeated in turn: it ends as if nothing had happened.
#![expect(clippy::wildcard_enum_match_arm, reason = "most exchanges need nothing special")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::pair::*;
use crate::ike::window::Want;

/// What is tried, from two that are connected (or not yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    Handshake,
    Cookie,
    Fragments,
    RekeyChild(usize),
    AddChild(usize),
    RekeyIke(usize),
    Reauthenticate(usize),
    CloseIke(usize),
    ExpireChild(usize),
    Liveness(usize),
    Move(usize),
    Probe,
    Document,
}

const ALL: [Exchange; 20] = [
    Exchange::Handshake,
    Exchange::Cookie,
    Exchange::Fragments,
    Exchange::RekeyChild(A),
    Exchange::RekeyChild(B),
    Exchange::AddChild(A),
    Exchange::AddChild(B),
    Exchange::RekeyIke(A),
    Exchange::RekeyIke(B),
    Exchange::Reauthenticate(A),
    Exchange::Reauthenticate(B),
    Exchange::CloseIke(A),
    Exchange::CloseIke(B),
    Exchange::ExpireChild(A),
    Exchange::ExpireChild(B),
    Exchange::Liveness(A),
    Exchange::Move(A),
    Exchange::Move(B),
    Exchange::Probe,
    Exchange::Document,
];

impl Exchange {
    fn starts_connected(self) -> bool {
        !matches!(self, Self::Handshake | Self::Cookie | Self::Fragments)
    }

    fn setup(self) -> Setup {
        let change: fn(usize, &mut crate::ike::Config) = match self {
            Self::Cookie => |_, config| config.cookie_threshold = 0,
            Self::Fragments | Self::Document => |_, config| config.fragment_size = 300,
            _ => |_, config| config.child_pfs = true,
        };
        Setup { change, ..Setup::default() }
    }

    fn begin(self, pair: &mut Pair) {
        match self {
            Self::Handshake | Self::Cookie | Self::Fragments => pair.initiate(A),
            Self::RekeyChild(host) => {
                let child = pair.active(host).id;
                pair.act(host, |endpoint, now| endpoint.rekey_child(now, child));
            }
            Self::AddChild(host) => {
                let id = pair.ikes(host)[0].id;
                assert!(pair.act(host, |endpoint, now| endpoint.add_child(now, id, 1)));
            }
            Self::RekeyIke(host) => {
                let id = pair.ikes(host)[0].id;
                pair.act(host, |endpoint, now| endpoint.rekey_ike(now, id));
            }
            Self::Reauthenticate(host) => {
                let id = pair.ikes(host)[0].id;
                pair.act(host, |endpoint, now| endpoint.reauthenticate(now, id));
            }
            Self::CloseIke(host) => {
                let id = pair.ikes(host)[0].id;
                pair.act(host, |endpoint, now| endpoint.close(now, id));
            }
            Self::ExpireChild(host) => {
                let (id, child) = (pair.ikes(host)[0].id, pair.active(host).id);
                pair.act(host, |endpoint, now| {
                    endpoint.with(now, id, |sa, ctx| {
                        sa.children.get_mut(&child).unwrap().hard_at = now;
                        sa.age_children(ctx, now);
                        sa.pump(ctx, now);
                    });
                });
            }
            Self::Liveness(host) => {
                let id = pair.ikes(host)[0].id;
                pair.act(host, |endpoint, now| {
                    endpoint.with(now, id, |sa, ctx| {
                        sa.window.want(Want::Liveness);
                        sa.pump(ctx, now);
                    });
                });
            }
            Self::Move(host) => {
                let new = Ipv4Addr::new(203, 0, 113, 7);
                pair.hosts[host].v4 = new;
                pair.act(host, |endpoint, now| endpoint.handle_local_change(now, &|_| Some(new)));
            }
            Self::Probe => {
                // A NAT in front of A got another port, as B sees by its ESP.
                let child = pair.active(B).clone();
                let (inside, outside) = (pair.hosts[A].v4, Ipv4Addr::new(192, 0, 2, 1));
                pair.network.add_nat(inside, outside);
                let mut path = child.path;
                path.remote = "192.0.2.1:20001".parse().unwrap();
                let (from, now) = (pair.path(A), pair.now);
                let (source, destination) = (from.local, from.remote);
                let hole = crate::sim::network::Datagram { source, destination, payload: vec![0xff] };
                pair.network.send(now, hole);
                pair.act(B, |endpoint, now| endpoint.handle_new_source(now, child.spi_in, path));
            }
            Self::Document => {
                let id = pair.ikes(A)[0].id;
                assert!(pair.act(A, |endpoint, now| endpoint.tell(now, id, vec![7; 1000])));
            }
        }
    }

    fn check(self, pair: &Pair) {
        match self {
            Self::CloseIke(_) => {
                for host in [A, B] {
                    assert!(pair.hosts[host].endpoint.is_empty() && pair.hosts[host].children.is_empty());
                }
                return;
            }
            Self::ExpireChild(_) => {
                for host in [A, B] {
                    assert!(pair.hosts[host].children.is_empty() && pair.ikes(host).len() == 1);
                }
                return;
            }
            Self::AddChild(_) => return pair.assert_agreed_on(2),
            Self::Move(host) => {
                assert_eq!(*pair.ikes(1 - host)[0].path.remote.ip(), pair.hosts[host].v4);
            }
            Self::Probe => assert_eq!(pair.ikes(B)[0].path.remote, "192.0.2.1:20001".parse().unwrap()),
            Self::Document => assert_eq!(pair.hosts[B].documents, [vec![7; 1000]]),
            _ => {}
        }
        pair.assert_agreed();
    }
}

/// Runs the exchange, losing the datagram with this number or delivering it twice; gives how many there were.
fn run(exchange: Exchange, special: usize, twice: bool) -> usize {
    let mut pair = if exchange.starts_connected() {
        Pair::connected(exchange.setup())
    } else {
        Pair::new(exchange.setup())
    };
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    pair.lose = Some(Box::new(move |_| counter.fetch_add(1, Ordering::Relaxed) == special && !twice));
    exchange.begin(&mut pair);
    let mut repeated = false;
    for _ in 0..120 {
        pair.run(ms(250));
        if twice && !repeated && count.load(Ordering::Relaxed) > special {
            repeated = true;
            let at = pair.wire.len() - count.load(Ordering::Relaxed) + special;
            let (datagram, now) = (pair.wire[at].clone(), pair.now);
            pair.network.send(now, datagram);
        }
        pair.traffic();
    }
    exchange.check(&pair);
    count.load(Ordering::Relaxed)
}

#[test]
fn any_one_datagram_of_any_exchange_may_be_lost_or_come_again_late() {
    for exchange in ALL {
        let usual = run(exchange, usize::MAX, false);
        assert!(usual >= 2, "{exchange:?}: {usual} datagrams");
        for special in 0..usual {
            for twice in [false, true] {
                let told = std::panic::catch_unwind(|| run(exchange, special, twice));
                let what = if twice { "comes again late" } else { "is lost" };
                assert!(told.is_ok(), "{exchange:?}: datagram {special} of {usual} {what}");
            }
        }
    }
}
