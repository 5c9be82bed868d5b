//! The harness: two endpoints, a network, a clock; and a stand-in for the node that keeps the children.
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crypto::identity::PrivateKey;
use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::dataplane::event::{Relay, UdpPath};
use crate::ike::window::Want;
use crate::ike::{
    ChildId, ChildSa, CloseReason, Config, Endpoint, Event, Failure, IkeId, IkeInfo, Lifetimes, LocalEntity,
};
use crate::policy::pad::{Pad, Peer, Proof};
use crate::policy::spd::Spd;
use crate::sim::network::{Conditions, Datagram, Network};
use crate::wire::ike::{Header, flags};

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
const PORT: u16 = 4500;

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// One machine.
pub(super) struct Host {
    pub(super) endpoint: Endpoint,
    pub(super) config: Config,
    pub(super) v4: Ipv4Addr,
    pub(super) entity: Ipv6Addr,
    pub(super) children: BTreeMap<ChildId, ChildSa>,
    pub(super) active: Option<ChildId>,
    /// Additional ones that are sent on.
    pub(super) beside: Vec<ChildId>,
    pub(super) closed: Vec<(ChildId, CloseReason)>,
    pub(super) ike_closed: Vec<CloseReason>,
    pub(super) failures: Vec<Failure>,
    pub(super) paths: Vec<UdpPath>,
    /// Children that path changes named.
    pub(super) moved_children: Vec<ChildId>,
    pub(super) documents: Vec<Vec<u8>>,
    pub(super) established: usize,
    pub(super) sent: usize,
    pub(super) keepalives: usize,
    /// Responses that arrived, by initiator's SPI and message ID: what allows the next request (RFC 7296 §2.3).
    answered: BTreeSet<(u64, u32)>,
}

/// Says of a datagram that was just sent whether it is lost.
type Loss = Box<dyn FnMut(&Datagram) -> bool>;

impl Host {
    /// The window is one: a request goes out only when the one before it was answered (RFC 7296 §2.3).
    fn check_window(&self, message: &[u8]) {
        let header = Header::parse(message).expect("a well-formed message");
        let before = header.message_id.checked_sub(1);
        if let Some(before) = before.filter(|_| header.flags & flags::RESPONSE == 0) {
            let answered = self.answered.contains(&(header.initiator_spi, before));
            assert!(answered, "request {} goes out while {before} is unanswered", header.message_id);
        }
    }

    fn send_on(&mut self, id: ChildId, additional: bool) {
        let old = self.children[&id].replaces;
        self.beside.retain(|other| *other != id && Some(*other) != old);
        if additional && self.active.is_some() {
            self.beside.push(id);
        } else {
            self.active = Some(id);
        }
    }

    /// What was announced and not closed is exactly what the endpoint has, and no SPI is reserved for anything else.
    fn check_books(&self) {
        let endpoint = &self.endpoint;
        endpoint.sas.check();
        let alive = endpoint.sas.values().flat_map(|sa| sa.children.keys());
        let draining = endpoint.ctx.draining.keys().map(|(_, child)| child);
        let kept: BTreeSet<ChildId> = alive.chain(draining).copied().collect();
        let announced: BTreeSet<ChildId> = self.children.keys().copied().collect();
        assert_eq!(announced, kept, "children announced and not closed; children kept");
        let offered = endpoint.sas.values().filter_map(|sa| sa.offered);
        let spis: BTreeSet<u32> = self.children.values().map(|child| child.spi_in).chain(offered).collect();
        let reserved: BTreeSet<u32> = endpoint.ctx.inbound.keys().copied().collect();
        assert_eq!(spis, reserved, "SPIs in use or offered; SPIs reserved");
    }
}

/// Two of them.
pub(super) struct Pair {
    pub(super) hosts: [Host; 2],
    pub(super) network: Network,
    pub(super) now: Instant,
    /// Everything arrives in relayed form.
    pub(super) relayed: bool,
    /// Every datagram that was sent, for eavesdropping.
    pub(super) wire: Vec<Datagram>,
    /// Datagrams that are lost on purpose, besides what the network does.
    pub(super) lose: Option<Loss>,
    seed: u64,
}

/// How a pair is set up.
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) conditions: Conditions,
    pub(super) psk: bool,
    pub(super) change: fn(usize, &mut Config),
}

impl Default for Setup {
    fn default() -> Self {
        Self { seed: 1, conditions: Conditions::CALM, psk: false, change: |_, _| {} }
    }
}

fn entity(host: usize) -> Ipv6Addr {
    ["2002:c633:6401:1::10", "2002:c633:6402:1::20"][host].parse().unwrap()
}

fn key(host: usize) -> PrivateKey {
    PrivateKey::from_seed(&[host as u8 + 1; 32])
}

pub(super) fn config(host: usize, psk: bool) -> Config {
    let other = 1 - host;
    let proof = if psk {
        Proof::Psk(Secret::from(&b"correct horse battery staple"[..]))
    } else {
        Proof::PublicKey(*key(other).public().as_bytes())
    };
    Config {
        entities: vec![LocalEntity { address: entity(host), signing_key: key(host).seed() }],
        pad: Arc::new(Pad::new([Peer { name: "other".to_owned(), address: entity(other), proof }])),
        spd: Arc::new(Spd::with_defaults([], [])),
        ike_suites: vec![IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm],
        esp_suites: EspSuite::ALL[..4].to_vec(),
        esp_yields: false,
        esn: true,
        child_pfs: false,
        lifetimes: Lifetimes::default(),
        cookie_threshold: 64,
        fragment_size: 1280,
        keylog: true,
    }
}

impl Pair {
    pub(super) fn new(setup: Setup) -> Self {
        let now = Instant::now();
        let hosts = [A, B].map(|host| {
            let mut config = config(host, setup.psk);
            (setup.change)(host, &mut config);
            let mut seed = [host as u8; 32];
            seed[..8].copy_from_slice(&setup.seed.to_be_bytes());
            Host {
                endpoint: Endpoint::new(config.clone(), seed, now),
                config,
                v4: Ipv4Addr::new(198, 51, 100, host as u8 + 1),
                entity: entity(host),
                children: BTreeMap::new(),
                active: None,
                beside: Vec::new(),
                closed: Vec::new(),
                ike_closed: Vec::new(),
                failures: Vec::new(),
                paths: Vec::new(),
                moved_children: Vec::new(),
                documents: Vec::new(),
                established: 0,
                sent: 0,
                keepalives: 0,
                answered: BTreeSet::new(),
            }
        });
        Self {
            hosts,
            network: Network::new(setup.seed, setup.conditions),
            now,
            relayed: false,
            wire: Vec::new(),
            lose: None,
            seed: setup.seed,
        }
    }

    /// Two that have shaken hands.
    pub(super) fn connected(setup: Setup) -> Self {
        let mut pair = Self::new(setup);
        pair.initiate(A);
        pair.run(secs(5));
        pair.assert_agreed();
        pair
    }

    pub(super) fn path(&self, from: usize) -> UdpPath {
        UdpPath::direct(
            SocketAddrV4::new(self.hosts[from].v4, PORT),
            SocketAddrV4::new(self.hosts[1 - from].v4, PORT),
        )
    }

    pub(super) fn initiate(&mut self, from: usize) {
        let path = self.path(from);
        let (local, remote, now) = (self.hosts[from].entity, self.hosts[1 - from].entity, self.now);
        self.hosts[from].endpoint.initiate(now, local, remote, path).unwrap();
        self.drain(from);
    }

    pub(super) fn act<T>(&mut self, host: usize, act: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let now = self.now;
        let result = act(&mut self.hosts[host].endpoint, now);
        self.drain(host);
        result
    }

    /// kill -9 and restart.
    pub(super) fn restart(&mut self, host: usize) {
        self.seed += 1;
        let mut seed = [host as u8 + 100; 32];
        seed[..8].copy_from_slice(&self.seed.to_be_bytes());
        let config = self.hosts[host].config.clone();
        self.hosts[host].endpoint = Endpoint::new(config, seed, self.now);
        self.hosts[host].children.clear();
        self.hosts[host].active = None;
        self.hosts[host].beside.clear();
        self.hosts[host].answered.clear();
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 100_000, "nothing settles");
            while let Some(datagram) = self.network.arrival(self.now) {
                self.deliver(&datagram);
            }
            let timers = self.hosts.iter().filter_map(|host| host.endpoint.poll_timeout()).map(|(at, _)| at);
            let next = timers.chain(self.network.next_arrival()).min().filter(|at| *at <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            for host in [A, B] {
                self.act(host, |endpoint, now| endpoint.handle_timeout(now));
                let overdue = self.hosts[host].endpoint.poll_timeout().filter(|(at, _)| *at <= self.now);
                assert!(overdue.is_none(), "a deadline in the past after handle_timeout: {overdue:?}");
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let host = [A, B].into_iter().find(|host| self.hosts[*host].v4 == *datagram.destination.ip());
        let Some(host) = host else { return };
        let relay = Relay { local: self.hosts[host].entity, remote: self.hosts[1 - host].entity };
        let direct = UdpPath::direct(datagram.destination, datagram.source);
        let path = UdpPath { relay: self.relayed.then_some(relay), ..direct };
        if let Ok(header) = Header::parse(&datagram.payload)
            && header.flags & flags::RESPONSE != 0
        {
            self.hosts[host].answered.insert((header.initiator_spi, header.message_id));
        }
        self.act(host, |endpoint, now| endpoint.handle_datagram(now, path, &datagram.payload));
    }

    /// ESP in both directions, as the node reports it.
    pub(super) fn traffic(&mut self) {
        for host in [A, B] {
            let sending = self.hosts[host].active.into_iter().chain(self.hosts[host].beside.clone());
            sending.for_each(|id| self.traffic_on(host, id));
        }
    }

    /// The same on one child.
    pub(super) fn traffic_on(&mut self, host: usize, id: ChildId) {
        let Some(spi) = self.hosts[host].children.get(&id).map(|child| child.spi_out) else { return };
        self.act(host, |endpoint, now| endpoint.handle_sent(now, spi));
        let other = 1 - host;
        if self.hosts[other].children.values().any(|theirs| theirs.spi_in == spi) {
            self.act(other, |endpoint, now| {
                endpoint.handle_traffic(now, spi);
                endpoint.handle_first_packet(now, spi);
            });
        }
    }

    fn drain(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        while let Some(transmit) = host.endpoint.poll_transmit() {
            host.keepalives += usize::from(transmit.keepalive);
            if transmit.keepalive || *transmit.path.local.ip() != host.v4 {
                continue;
            }
            host.sent += 1;
            host.check_window(&transmit.message);
            let datagram = Datagram {
                source: transmit.path.local,
                destination: transmit.path.remote,
                payload: transmit.message,
            };
            self.wire.push(datagram.clone());
            if !self.lose.as_mut().is_some_and(|lose| lose(&datagram)) {
                self.network.send(self.now, datagram);
            }
        }
        while let Some(event) = host.endpoint.poll_event() {
            match event {
                Event::IkeEstablished(_) => host.established += 1,
                Event::ChildReady(child) => {
                    assert!(child.spi_in >= 256 && child.spi_in >> 28 != 6);
                    let (id, additional, send) = (child.id, child.additional, child.send_now);
                    assert!(host.children.insert(id, *child).is_none(), "an identity is used again");
                    if send || host.active.is_none() {
                        host.send_on(id, additional);
                    }
                }
                Event::ChildSend { id, additional } => {
                    assert!(host.children.contains_key(&id), "ChildSend for a child that is not there");
                    host.send_on(id, additional);
                }
                Event::ChildStop(id) => host.beside.retain(|other| *other != id),
                Event::ChildClosed { id, reason } => {
                    assert!(host.children.remove(&id).is_some(), "{id:?} is closed twice ({reason:?})");
                    host.closed.push((id, reason));
                    host.beside.retain(|other| *other != id);
                    if host.active == Some(id) {
                        host.active = host.children.keys().next_back().copied();
                    }
                }
                Event::PathChanged { path, children, .. } => {
                    host.paths.push(path);
                    host.moved_children.extend(children);
                }
                Event::IkeClosed { reason, .. } => host.ike_closed.push(reason),
                Event::InitiationFailed { failure, .. } => host.failures.push(failure),
                Event::Document { document, .. } => host.documents.push(document),
                Event::IkeKeys { .. } => {}
            }
        }
        host.check_books();
    }

    pub(super) fn ikes(&self, host: usize) -> Vec<IkeInfo> {
        self.hosts[host].endpoint.list(self.now)
    }

    /// The only IKE SA of a host.
    pub(super) fn ike(&self, host: usize) -> IkeId {
        self.ikes(host)[0].id
    }

    /// Only the policy of a peer would do this; ours deletes what was replaced, has expired or was not used.
    pub(super) fn delete_child(&mut self, host: usize, child: ChildId) {
        let id = self.ike(host);
        self.act(host, |endpoint, now| {
            endpoint.with(now, id, |sa, ctx| {
                sa.window.want(Want::DeleteChild(child, CloseReason::Local));
                sa.pump(ctx, now);
            });
        });
    }

    /// Time for whatever is under way, with traffic both ways.
    pub(super) fn settle(&mut self) {
        for _ in 0..90 {
            self.run(ms(500));
            self.traffic();
        }
    }

    /// Six rounds on a network that loses, repeats, spoils and delays, and then time to settle.
    pub(super) fn in_a_storm(&mut self, mut round: impl FnMut(&mut Self, usize)) {
        let bad = Conditions { loss: 200, duplicate: 100, corrupt: 50, jitter: ms(40), ..Conditions::CALM };
        self.network.set_conditions(bad);
        for at in 0..6 {
            round(self, at);
            self.run(secs(2));
            self.traffic();
        }
        self.network.set_conditions(Conditions::CALM);
        self.settle();
        self.settle();
    }

    pub(super) fn active(&self, host: usize) -> &ChildSa {
        &self.hosts[host].children[&self.hosts[host].active.expect("an active child")]
    }

    /// Both ends have the same SAs with the same keys, exactly one of each kind, and send on what the other receives.
    pub(super) fn assert_agreed(&self) {
        self.assert_agreed_on(1);
    }

    /// The same with so many children: one, and additional ones.
    pub(super) fn assert_agreed_on(&self, children: usize) {
        for host in [A, B] {
            let (us, them) = (&self.hosts[host], &self.hosts[1 - host]);
            assert_eq!(self.ikes(host).len(), 1, "IKE SAs of host {host}");
            assert_eq!(us.children.len(), children, "children of host {host}");
            assert_eq!(us.beside.len(), children - 1, "additional children that host {host} sends on");
            assert!(us.active.is_some_and(|active| !us.beside.contains(&active)));
            for child in us.children.values() {
                let twin =
                    them.children.values().find(|twin| twin.spi_in == child.spi_out).expect("the other half");
                assert_eq!(twin.spi_out, child.spi_in);
                assert_eq!(twin.key_in.expose(), child.key_out.expose());
                assert_eq!(twin.key_out.expose(), child.key_in.expose());
                assert_eq!((twin.suite, twin.esn), (child.suite, child.esn));
                assert_ne!(child.key_in.expose(), child.key_out.expose());
            }
        }
        assert_eq!(self.active(A).spi_out, self.active(B).spi_in);
        let spis: BTreeSet<u64> = [A, B].iter().map(|host| self.ikes(*host)[0].spi_i).collect();
        assert_eq!(spis.len(), 1, "both ends have the same IKE SA");
    }
}
