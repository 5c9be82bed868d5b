//! Two agents with hosts that move between sites, NATs, home agents that relay, a hostile network, a clock, and a book
//! of who may be sent how much.
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::path::{Agent, Config, Event, Path, Reason, datagram_len};
use crate::sim::nat::{Kind, Nat};
use crate::wire::path::{Body, Candidate, CandidateKind, Message};

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
/// The home agent of both.
const HOME: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(9, 9, 9, 9), 4500);
/// From a host to its home agent.
const HOME_DELAY: Duration = Duration::from_millis(25);
/// The node's challenge to its home agent, which also repairs a NAT that rebooted.
const HOME_KEEPALIVE: Duration = Duration::from_secs(20);
/// UDP payload of a data packet.
const DATA: usize = datagram_len(1380);
/// What the NAT-opening budget gives per address and Candidates message.
const PUNCH: u64 = 5 * datagram_len(20) as u64;

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[derive(Clone, Debug)]
pub(super) enum Payload {
    Message(Vec<u8>),
    Data,
}

/// In flight to a public address, to a host in the same local network, or through the home agents.
#[derive(Clone, Debug)]
enum Leg {
    Public { source: SocketAddrV4, destination: SocketAddrV4 },
    Local { site: usize, source: SocketAddrV4, destination: SocketAddrV4 },
    Relay { to: usize },
}

#[derive(Clone, Debug)]
enum Happening {
    Arrival { leg: Leg, payload: Payload, id: u64, from: usize },
    Data(usize),
    Home(usize),
    Bound(usize, u32),
}

pub(super) struct Host {
    pub(super) agent: Agent,
    pub(super) site: usize,
    pub(super) address: SocketAddrV4,
    /// Sends data.
    pub(super) talks: bool,
    /// What the home agent sees; `None` until the binding after a move.
    bound: Option<SocketAddrV4>,
    arrivals: u32,
    seen: BTreeSet<u64>,
    /// When data came last, and the longest pause since `watch`.
    last_data: Instant,
    pub(super) longest_gap: Duration,
    pub(super) direct_data: u64,
    pub(super) relayed_data: u64,
    /// Why its data changed its path, oldest first.
    pub(super) history: Vec<Reason>,
    began: Instant,
    /// Messages of path control that it sent.
    pub(super) control: u64,
    // The book.
    asked: BTreeMap<[u8; 8], SocketAddrV4>,
    answered: BTreeSet<SocketAddrV4>,
    granted: BTreeMap<SocketAddrV4, u64>,
    spent: BTreeMap<SocketAddrV4, u64>,
    generations: BTreeSet<u32>,
}

/// Copies what travels directly and sends it from an address of its own, ahead of the original.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attacker {
    pub(super) address: SocketAddrV4,
    /// Thousandths of the datagrams that are copied.
    pub(super) share: u32,
    /// Passes on what is sent to its address, in both directions.
    pub(super) forwards: bool,
}

pub(super) struct World {
    pub(super) now: Instant,
    rng: ChaCha20Rng,
    pub(super) hosts: [Host; 2],
    pub(super) sites: Vec<Nat>,
    queue: BTreeMap<(Instant, u64), Happening>,
    counter: u64,
    /// Thousandths.
    pub(super) loss: u32,
    pub(super) duplicate: u32,
    pub(super) jitter: Duration,
    pub(super) delay: Duration,
    /// No direct datagram passes.
    pub(super) blocked: bool,
    /// Nothing is relayed.
    pub(super) relay_down: bool,
    /// Larger direct datagrams vanish.
    pub(super) mtu: usize,
    pub(super) attacker: Option<Attacker>,
    /// Who last sent to the attacker's address, for forwarding.
    pub(super) data_pause: Duration,
    pub(super) verbose: bool,
}

impl World {
    /// Both hosts at their own sites, bound, silent.
    pub(super) fn new(seed: u64, sites: &[(Kind, bool)], at: [usize; 2], config: Config) -> Self {
        let now = Instant::now();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let sites = sites
            .iter()
            .enumerate()
            .map(|(index, (kind, hairpin))| {
                Nat::new(*kind, Ipv4Addr::new(20, 0, 0, index as u8 + 1), *hairpin)
            })
            .collect();
        let hosts = [A, B].map(|index| {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            Host {
                agent: Agent::new(config, seed),
                site: at[index],
                address: HOME,
                talks: false,
                bound: None,
                arrivals: 0,
                seen: BTreeSet::new(),
                last_data: now,
                longest_gap: Duration::ZERO,
                direct_data: 0,
                relayed_data: 0,
                history: vec![Reason::Start],
                began: now,
                control: 0,
                asked: BTreeMap::new(),
                answered: BTreeSet::new(),
                granted: BTreeMap::new(),
                spent: BTreeMap::new(),
                generations: BTreeSet::new(),
            }
        });
        let mut world = Self {
            now,
            rng,
            hosts,
            sites,
            queue: BTreeMap::new(),
            counter: 0,
            loss: 0,
            duplicate: 0,
            jitter: Duration::ZERO,
            delay: ms(15),
            blocked: false,
            relay_down: false,
            mtu: usize::MAX,
            attacker: None,
            data_pause: ms(100),
            verbose: std::env::var_os("DOMICILE_VERBOSE").is_some(),
        };
        for host in [A, B] {
            world.settle_at(host, at[host]);
            world.bind(host);
            let phase = ms(u64::from(world.rng.next_u32() % 100));
            world.schedule(world.now + phase, Happening::Data(host));
            world.schedule(world.now + HOME_KEEPALIVE + phase, Happening::Home(host));
        }
        world
    }

    /// Both talk.
    pub(super) fn talking(mut self) -> Self {
        self.hosts.iter_mut().for_each(|host| host.talks = true);
        self
    }

    pub(super) fn random(&mut self, below: u32) -> u32 {
        self.rng.next_u32() % below
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.counter += 1;
        self.queue.insert((at, self.counter), happening);
    }

    fn settle_at(&mut self, host: usize, site: usize) {
        let nat = &self.sites[site];
        // Two hosts at a public site are neighbours in its network.
        let ip = if nat.kind == Kind::Public {
            Ipv4Addr::new(20, 1, site as u8, host as u8 + 1)
        } else {
            Ipv4Addr::new(192, 168, site as u8, host as u8 + 10)
        };
        self.hosts[host].site = site;
        self.hosts[host].address = SocketAddrV4::new(ip, 4500);
        self.hosts[host].arrivals += 1;
        self.hosts[host].bound = None;
    }

    fn candidates(&self, host: usize) -> Vec<Candidate> {
        let host = &self.hosts[host];
        let interface = Candidate { kind: CandidateKind::Interface, address: host.address };
        let observed = host.bound.map(|address| Candidate { kind: CandidateKind::Observed, address });
        observed.into_iter().chain([interface]).collect()
    }

    fn bind(&mut self, host: usize) {
        let (site, inside) = (self.hosts[host].site, self.hosts[host].address);
        let nat = &mut self.sites[site];
        let seen = if nat.kind == Kind::Public { inside } else { nat.outbound(self.now, inside, HOME) };
        self.hosts[host].bound = Some(seen);
        let candidates = self.candidates(host);
        self.hosts[host].agent.handle_local_candidates(self.now, &candidates);
        self.drain(host);
    }

    /// The host is in another network from now on.
    pub(super) fn move_to(&mut self, host: usize, site: usize) {
        self.note(format_args!("{host} moves to site {site} {:?}", self.sites[site].kind));
        self.settle_at(host, site);
        let candidates = self.candidates(host);
        self.hosts[host].agent.handle_local_change(self.now, &candidates);
        self.drain(host);
        let arrivals = self.hosts[host].arrivals;
        self.schedule(self.now + 2 * HOME_DELAY, Happening::Bound(host, arrivals));
    }

    /// The host's agent is replaced: it was authenticated anew.
    pub(super) fn begin_anew(&mut self, host: usize) {
        self.note(format_args!("{host} begins anew"));
        let used = self.hosts[host].agent.used() + 1;
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let agent = Agent::new(Config::default(), seed);
        self.hosts[host].agent = agent.after(used);
        let candidates = self.candidates(host);
        self.hosts[host].agent.handle_local_candidates(self.now, &candidates);
        self.drain(host);
    }

    pub(super) fn reboot(&mut self, site: usize) {
        self.note(format_args!("NAT of site {site} reboots"));
        self.sites[site].reboot();
    }

    #[expect(clippy::print_stderr, reason = "the diary of one seed, when DOMICILE_VERBOSE asks for it")]
    fn note(&self, text: std::fmt::Arguments<'_>) {
        if self.verbose {
            eprintln!("{:10.3?} {text}", self.now - self.hosts[A].began);
        }
    }

    /// Runs until a point in time.
    pub(super) fn run_until(&mut self, end: Instant) {
        self.run_while(end, |_| true);
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until `end` or until the condition fails; true when it did.
    pub(super) fn run_while(&mut self, end: Instant, mut go_on: impl FnMut(&Self) -> bool) -> bool {
        loop {
            if !go_on(self) {
                return true;
            }
            let timers = [A, B].map(|host| self.hosts[host].agent.poll_timeout().map(|(at, _)| at));
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = timers.into_iter().flatten().chain(event).min().unwrap_or(end).max(self.now);
            if next > end {
                self.now = end;
                return false;
            }
            self.now = next;
            for host in [A, B] {
                if timers[host].is_some_and(|at| at <= next) {
                    self.hosts[host].agent.handle_timeout(next);
                    let left = self.hosts[host].agent.poll_timeout();
                    assert!(left.is_none_or(|(at, _)| at > next), "{left:?} is due again at once");
                    self.drain(host);
                }
            }
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= next) {
                let happening = entry.remove();
                self.happen(happening);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Data(host) => {
                self.schedule(self.now + self.data_pause, Happening::Data(host));
                if self.hosts[host].talks {
                    self.hosts[host].agent.handle_data_sent(self.now);
                    self.drain(host);
                    let path = self.hosts[host].agent.current();
                    self.send(host, path, Payload::Data);
                }
            }
            Happening::Home(host) => {
                self.schedule(self.now + HOME_KEEPALIVE, Happening::Home(host));
                if self.hosts[host].bound.is_some() {
                    self.bind(host);
                }
            }
            Happening::Bound(host, arrivals) => {
                if self.hosts[host].arrivals == arrivals {
                    self.bind(host);
                }
            }
            Happening::Arrival { leg, payload, id, from } => self.arrive(leg, payload, id, from),
        }
    }

    pub(super) fn drain(&mut self, host: usize) {
        while let Some(transmit) = self.hosts[host].agent.poll_transmit() {
            let bytes = transmit.message.to_bytes();
            self.hosts[host].control += 1;
            if let (Body::Challenge { token, .. }, Path::Direct { remote, .. }) =
                (transmit.message.body, transmit.path)
            {
                self.hosts[host].asked.insert(token, remote);
            }
            self.note(format_args!("{host} -> {:?}: {:?}", transmit.path, transmit.message));
            self.send(host, transmit.path, Payload::Message(bytes));
        }
        while let Some(Event::PathChanged { path, reason }) = self.hosts[host].agent.poll_event() {
            self.note(format_args!("{host} uses {path:?}: {reason}"));
            assert_eq!(path, self.hosts[host].agent.current());
            self.hosts[host].history.push(reason);
        }
    }

    /// Sends, and holds the sender to the book.
    fn send(&mut self, from: usize, path: Path, payload: Payload) {
        let octets = match &payload {
            Payload::Message(bytes) => datagram_len(bytes.len()),
            Payload::Data => DATA,
        };
        self.counter += 1;
        let id = self.counter;
        let Path::Direct { local, remote } = path else {
            let bound = self.hosts[from].bound.is_some();
            if bound && !self.relay_down && !self.chance(self.loss) {
                self.launch(3 * HOME_DELAY, Leg::Relay { to: 1 - from }, payload, id, from);
            }
            return;
        };
        let host = &mut self.hosts[from];
        assert!(
            local.is_none_or(|local| local == host.address),
            "sends from {local:?}, not its own any more"
        );
        assert!(remote.port() >= 1024 && !remote.ip().is_loopback() && !remote.ip().is_multicast());
        if !host.answered.contains(&remote) {
            assert!(!matches!(payload, Payload::Data), "data to {remote}, which never answered");
            let spent = host.spent.entry(remote).or_default();
            *spent += octets as u64;
            let granted = host.granted.get(&remote).copied().unwrap_or(0);
            assert!(*spent <= granted, "{spent} octets to {remote}, which was worth {granted}");
        }
        self.route(from, remote, octets, payload, id);
    }

    fn route(&mut self, from: usize, remote: SocketAddrV4, octets: usize, payload: Payload, id: u64) {
        let (site, inside) = (self.hosts[from].site, self.hosts[from].address);
        if self.blocked || octets > self.mtu {
            return;
        }
        let nat = &mut self.sites[site];
        if remote.ip().is_private() {
            // Another site's local address leads nowhere.
            if nat.kind != Kind::Public && remote.ip().octets()[2] == site as u8 {
                self.launch(
                    ms(1),
                    Leg::Local { site, source: inside, destination: remote },
                    payload,
                    id,
                    from,
                );
            }
            return;
        }
        let source = if nat.kind == Kind::Public { inside } else { nat.outbound(self.now, inside, remote) };
        if *remote.ip() == nat.outside && !nat.hairpin {
            return;
        }
        if self.chance(self.loss) {
            return;
        }
        if let Some(attacker) = self.attacker
            && attacker.share > 0
            && self.chance(attacker.share)
        {
            // The copy is faster than the original, whose sequence number is then used up.
            let leg = Leg::Public { source: attacker.address, destination: remote };
            self.counter += 1;
            let key = (self.now + self.delay / 2, self.counter);
            self.queue.insert(key, Happening::Arrival { leg, payload: payload.clone(), id, from });
        }
        self.launch(self.delay, Leg::Public { source, destination: remote }, payload, id, from);
    }

    fn launch(&mut self, delay: Duration, leg: Leg, payload: Payload, id: u64, from: usize) {
        let copies = if self.chance(self.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.jitter.as_micros() as u32;
            let extra = if jitter == 0 { 0 } else { self.random(jitter) };
            let at = self.now + delay + Duration::from_micros(u64::from(extra));
            self.schedule(at, Happening::Arrival { leg: leg.clone(), payload: payload.clone(), id, from });
        }
    }

    fn arrive(&mut self, leg: Leg, payload: Payload, id: u64, from: usize) {
        let (to, path) = match leg {
            Leg::Relay { to } => {
                let host = &self.hosts[to];
                let open = host.bound.is_some_and(|bound| self.leads_to(HOME, bound) == Some(to));
                if !open {
                    return;
                }
                (to, Path::Relayed)
            }
            Leg::Local { site, source, destination } => {
                let found = [A, B]
                    .into_iter()
                    .find(|host| self.hosts[*host].site == site && self.hosts[*host].address == destination);
                let Some(to) = found else { return };
                (to, Path::Direct { local: Some(destination), remote: source })
            }
            Leg::Public { source, destination } => {
                if let Some(attacker) = self.attacker.filter(|attacker| attacker.address == destination) {
                    self.forward(attacker, payload, id, from);
                    return;
                }
                let Some(to) = self.leads_to(source, destination) else { return };
                (to, Path::Direct { local: Some(self.hosts[to].address), remote: source })
            }
        };
        // The replay window of the SA; and what comes back to its sender has no SA here.
        if to != from && self.hosts[to].seen.insert(id) {
            self.deliver(to, path, payload);
        }
    }

    /// Which host a public address leads to, for packets from `source`.
    fn leads_to(&self, source: SocketAddrV4, destination: SocketAddrV4) -> Option<usize> {
        let nat = self.sites.iter().find(|nat| nat.kind != Kind::Public && nat.outside == *destination.ip());
        let inside = match nat {
            Some(nat) => nat.inbound(self.now, source, destination.port())?,
            None => destination,
        };
        [A, B].into_iter().find(|host| self.hosts[*host].address == inside)
    }

    /// The attacker passes it on from its own address to where the sender's peer really is.
    fn forward(&mut self, attacker: Attacker, payload: Payload, id: u64, from: usize) {
        let Some(real) = self.hosts[1 - from].bound.filter(|_| attacker.forwards) else { return };
        let leg = Leg::Public { source: attacker.address, destination: real };
        self.launch(self.delay / 4, leg, payload, id, from);
    }

    fn deliver(&mut self, to: usize, path: Path, payload: Payload) {
        let now = self.now;
        let host = &mut self.hosts[to];
        let octets = match &payload {
            Payload::Message(bytes) => datagram_len(bytes.len()),
            Payload::Data => DATA,
        };
        if let Path::Direct { remote, .. } = path {
            *host.granted.entry(remote).or_default() += 3 * octets as u64;
        }
        match payload {
            Payload::Data => {
                host.longest_gap = host.longest_gap.max(now - host.last_data);
                host.last_data = now;
                match path {
                    Path::Relayed => host.relayed_data += 1,
                    Path::Direct { remote, .. } => {
                        host.direct_data += 1;
                        // What the data plane reports as a new source.
                        let current = host.agent.current();
                        if !matches!(current, Path::Direct { remote: known, .. } if known == remote) {
                            host.agent.handle_datagram_seen(now, path, octets);
                        }
                    }
                }
            }
            Payload::Message(bytes) => {
                let message = Message::parse(&bytes).unwrap();
                match (message.body, path) {
                    // A repetition of a generation gives nothing.
                    (Body::Candidates { generation, list, .. }, _) if host.generations.insert(generation) => {
                        for candidate in list.as_slice() {
                            *host.granted.entry(candidate.address).or_default() += PUNCH;
                        }
                    }
                    // The token proves the address that was asked, whatever way the answer comes.
                    (Body::Response { token, .. }, _) => {
                        host.answered.extend(host.asked.remove(&token));
                    }
                    (Body::Candidates { .. } | Body::Challenge { .. }, _) => {}
                }
                self.note(format_args!("   {to} got from {path:?}: {message:?}"));
                self.hosts[to].agent.handle_message(now, path, octets, &message);
            }
        }
        self.drain(to);
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.random(1000) < thousandths
    }

    // What tests ask.

    pub(super) fn is_direct(&self, host: usize) -> bool {
        self.hosts[host].agent.current() != Path::Relayed
    }

    /// Whether the model says that a direct path exists.
    pub(super) fn can_meet(&self, lan: bool) -> bool {
        let [a, b] = [A, B].map(|host| self.hosts[host].site);
        let nat = &self.sites[a];
        if a != b {
            return nat.kind.can_meet(self.sites[b].kind);
        }
        nat.kind == Kind::Public || lan || nat.hairpin && nat.kind.can_meet(nat.kind)
    }

    /// Starts measuring the longest pause in received data.
    pub(super) fn watch(&mut self) {
        for host in &mut self.hosts {
            host.longest_gap = Duration::ZERO;
            host.last_data = self.now;
            host.direct_data = 0;
            host.relayed_data = 0;
            host.control = 0;
        }
    }

    /// Messages straight into an agent, as from a peer that makes its own rules.
    pub(super) fn inject(&mut self, to: usize, path: Path, message: Message) {
        self.deliver(to, path, Payload::Message(message.to_bytes()));
    }
}
