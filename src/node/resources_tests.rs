//! Two machines, one of which sends much and has several queues (RFC 9611).
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dataplane::tables::Outbound;
use crate::ike::{CloseReason, Lifetimes};
use crate::node::Config;
use crate::sim::host::Host;
use crate::sim::observer::packet;
use crate::sim::scenario::{Scenario, address, entity};

/// What the first machine sends in a second, and more than what it takes.
const PACKETS: usize = 12;
const BULK: u64 = 1000;

pub(super) struct Two {
    pub(super) hosts: [Host; 2],
    pub(super) now: Instant,
    /// Longer datagrams are lost.
    pub(super) width: usize,
    number: u64,
}

impl Two {
    /// Both with so many queues.
    pub(super) fn new(queues: usize, change: impl Fn(&mut Config)) -> Self {
        let now = Instant::now();
        let mut configs = Scenario::new(1).configs;
        configs.iter_mut().for_each(|config| config.queues = queues);
        let hosts = [0, 1].map(|at| {
            let mut config = configs[at].clone();
            config.bulk = BULK;
            config.ike.lifetimes = Lifetimes::default();
            config.ike.esn = true;
            change(&mut config);
            for peer in &mut config.peers {
                peer.endpoint = Some(std::net::SocketAddrV4::new(address(1 - at, 0), 4500));
                peer.keep_up = false;
            }
            Host::new(config, entity(at), address(at, 0), [at as u8 + 1; 32], now)
        });
        Self { hosts, now, width: usize::MAX, number: 0 }
    }

    /// Everything that is under way arrives.
    pub(super) fn deliver(&mut self) {
        loop {
            let sent: Vec<_> =
                self.hosts.iter_mut().flat_map(|host| std::mem::take(&mut host.sent)).collect();
            if sent.is_empty() {
                return;
            }
            for datagram in sent.into_iter().filter(|datagram| datagram.payload.len() <= self.width) {
                let to = self.hosts.iter_mut().find(|host| host.v4 == *datagram.destination.ip());
                to.into_iter().for_each(|host| host.from_network(self.now, &datagram));
            }
        }
    }

    /// One machine sends a packet of the next flow.
    pub(super) fn send(&mut self, from: usize, length: usize) {
        self.number += 1;
        let packet = packet(entity(from), entity(1 - from), self.number, length);
        self.hosts[from].from_application(self.now, &packet);
        self.deliver();
    }

    /// Time passes, and each second the first machine sends so many packets, the other one a single one.
    fn pass(&mut self, seconds: u64, packets: usize) {
        for _ in 0..seconds {
            (0..packets).for_each(|_| self.send(0, 500));
            self.send(1, 500);
            self.pass_a_second(|_| ());
        }
    }

    /// A second passes; `meanwhile` acts whenever everything has arrived that was under way.
    pub(super) fn pass_a_second(&mut self, mut meanwhile: impl FnMut(&mut Self)) {
        let end = self.now + Duration::from_secs(1);
        loop {
            self.deliver();
            meanwhile(self);
            let next = self.hosts.iter().filter_map(Host::poll_timeout).map(|(at, _)| at).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.hosts.iter_mut().for_each(|host| host.handle_timeout(self.now));
        }
        self.now = end;
    }

    fn outbound(&self, at: usize) -> Arc<Outbound> {
        self.hosts[at].reader().outbound(entity(at), entity(1 - at)).expect("it is sent on")
    }

    /// SPIs that a machine sends on, in the order of flows.
    fn spis(&self, at: usize) -> Vec<u32> {
        let outbound = self.outbound(at);
        let additional = outbound.additional.iter();
        std::iter::once(&outbound.sa).chain(additional).map(|sa| sa.params().spi).collect()
    }

    fn states(&self, at: usize, state: &str) -> usize {
        let peers = self.hosts[at].node.peers(self.now, 10);
        peers[0].children.iter().filter(|child| child.state == state).count()
    }
}

/// The first machine has so many queues, and an SA for each.
fn spread(queues: usize) -> Two {
    let mut two = Two::new(queues, |_| {});
    two.pass(12, PACKETS);
    assert_eq!(two.spis(0).len(), queues);
    two
}

/// The last octet of each, counted from the first; they grow up to 255, and then get smaller.
fn places(spis: &[u32]) -> Vec<i32> {
    let octet = |spi: &u32| i32::from(spi.to_be_bytes()[3]);
    spis.iter().map(|spi| octet(spi) - octet(&spis[0])).collect()
}

#[test]
fn a_pair_that_sends_much_gets_an_sa_for_each_queue() {
    let two = spread(4);
    let outbound = two.outbound(0);
    for flow in 0..4 {
        assert!(
            outbound.sa_at(outbound.place_for(flow)).packets() > 5,
            "every fourth flow goes by the SA of {flow}"
        );
    }
    assert_eq!((two.states(0, "active"), two.states(0, "additional"), two.states(0, "draining")), (1, 3, 0));
    // The other end sends on them, too.
    assert_eq!((two.spis(1).len(), two.states(1, "additional")), (4, 3));
    for at in [0, 1] {
        assert_eq!(places(&two.spis(at)), [0, 1, 2, 3], "the receiver's workers share them");
    }
    assert_eq!(two.hosts[1].delivered.len(), 12 * PACKETS, "nothing was lost");
}

#[test]
fn the_other_end_sends_on_them_whatever_we_send_by() {
    let mut two = Two::new(4, |_| {});
    for _ in 0..12 {
        for _ in 0..PACKETS {
            // However many SAs there are, it is the first one's.
            two.number = two.number.next_multiple_of(12) + 11;
            two.send(0, 500);
        }
        two.pass(1, 0);
    }
    assert!(two.outbound(0).additional.iter().all(|sa| sa.packets() == 1));
    assert_eq!((two.spis(0).len(), two.spis(1).len()), (4, 4));
}

#[test]
fn no_pair_gets_more_than_eight() {
    assert_eq!(spread(8).spis(0).len(), 8);
    let mut two = Two::new(32, |_| {});
    two.pass(20, 40);
    assert_eq!(two.spis(0).len(), 8);
}

#[test]
fn one_queue_and_little_to_send_need_no_more_than_one() {
    let mut alone = Two::new(1, |_| {});
    alone.pass(20, PACKETS);
    let mut little = Two::new(4, |_| {});
    little.pass(20, 1);
    for two in [alone, little] {
        assert_eq!((two.spis(0).len(), two.spis(1).len()), (1, 1));
    }
}

#[test]
fn successors_take_the_places_of_their_predecessors() {
    for host in [0, 1] {
        let mut two = spread(4);
        let before = [two.spis(0), two.spis(1)];
        for what in ["child", "ike", "child"] {
            let now = two.now;
            two.hosts[host].act(|node, _| node.rekey(now, entity(1 - host), what)).unwrap();
            two.deliver();
            // At once, before anything is sent on the new ones.
            let after = two.spis(host);
            assert_eq!(after.len(), 4);
            two.pass(10, PACKETS);
        }
        for at in [0, 1] {
            let after = two.spis(at);
            assert!(after.iter().all(|spi| !before[at].contains(spi)), "all were replaced");
            assert_eq!(places(&after), places(&before[at]));
        }
    }
}

#[test]
fn what_nobody_uses_any_more_goes_and_the_others_keep_their_order() {
    let mut two = Two::new(4, |config| {
        config.ike.lifetimes =
            Lifetimes { child_rekey: Duration::from_secs(60), jitter: 0.0, ..Lifetimes::default() };
    });
    two.pass(10, PACKETS);
    assert_eq!(places(&two.spis(0)), [0, 1, 2, 3]);
    // Too little for one more; the flows of two of them are silent from now on.
    for _ in 0..200 {
        for flow in [0, 2] {
            two.number += 3;
            two.number += (flow + 7 - two.number % 4) % 4;
            two.send(0, 10);
            assert_eq!(two.number % 4, flow);
        }
        two.pass(1, 0);
    }
    let left = places(&two.spis(0));
    assert!(left.len() < 4 && left.is_sorted() && left[0] == 0, "{left:?}");
    assert_eq!(two.spis(0).len(), two.spis(1).len());
}

#[test]
fn a_new_ike_sa_begins_with_one() {
    let mut two = spread(3);
    let now = two.now;
    two.hosts[0].act(|node, _| node.rekey(now, entity(1), "reauth")).unwrap();
    two.deliver();
    assert_eq!(two.spis(0).len(), 1, "what the old one has is not mixed with it");
    two.pass(20, PACKETS);
    assert_eq!((two.spis(0).len(), two.states(0, "draining")), (3, 0));
}

#[test]
fn one_of_them_takes_the_place_of_the_active_one_and_the_last_one_ends_it() {
    let mut two = spread(3);
    for left in [2, 1] {
        let (key, now) = ((entity(0), entity(1)), two.now);
        let before = two.spis(0);
        two.hosts[0].act(|node, _| {
            let active = node.pairs.get(&key).and_then(|pair| pair.active).unwrap();
            node.remove(now, active, &CloseReason::Peer);
        });
        assert_eq!(two.spis(0), before[1..], "{left}");
    }
    let now = two.now;
    two.hosts[0].act(|node, _| node.disconnect(now, entity(1)));
    two.deliver();
    assert!(two.hosts[0].reader().outbound(entity(0), entity(1)).is_none());
}

#[test]
fn all_of_them_move_together() {
    let mut two = spread(4);
    let (now, v4) = (two.now, Ipv4Addr::new(198, 51, 100, 77));
    two.hosts[0].move_to(now, v4);
    assert_eq!((two.spis(0).len(), *two.outbound(0).path.local.ip()), (4, v4));
    two.deliver();
    assert_eq!((two.spis(1).len(), *two.outbound(1).path.remote.ip()), (4, v4));
}
