//! A machine of the simulation: a node, the data plane's functions as the workers call them, a TUN, a UDP socket and a
//! disk in memory. The order of everything is that of the daemon's event loop.
#![expect(clippy::wildcard_enum_match_arm, reason = "a few kinds of events are picked out")]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::network::Datagram;
use crate::dataplane::batch::{PacketBuffer, SendBatch, SendReport, UdpSend};
use crate::dataplane::counters::RateLimit;
use crate::dataplane::event::{Control, Event as DataEvent, UdpPath};
use crate::dataplane::inbound::{self, Content, Inner, Run, Sealed};
use crate::dataplane::relay::{self, Limits, Relay, Roles};
use crate::dataplane::tables::{self, Reader};
use crate::dataplane::{inject, outbound};
use crate::mobility::{Change, Row};
use crate::node::{Authority, Config, Event, Node};

/// As the worker limits it.
const UNKNOWN_SPI_PER_SECOND: u32 = 16;

/// The socket as `inject` wants it.
#[derive(Default)]
struct Outlet(Mutex<Vec<Datagram>>);

impl UdpSend for Outlet {
    fn send(&self, batch: &SendBatch) -> SendReport {
        for datagram in batch.datagrams() {
            let _ = self.send_to(datagram.path, datagram.bytes);
        }
        SendReport::default()
    }

    fn send_to(&self, path: UdpPath, datagram: &[u8]) -> io::Result<()> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(Datagram { source: path.local, destination: path.remote, payload: datagram.to_vec() });
        Ok(())
    }
}

/// What survives `kill -9`.
#[derive(Default)]
pub struct Disk {
    /// Sequence numbers of Binding Updates, by sender.
    pub sequences: BTreeMap<Ipv6Addr, u16>,
    /// Bindings of a home, each with its end.
    pub bindings: BTreeMap<Ipv6Net, (Row, Instant)>,
}

/// What a machine is to relayed packets, and to bindings.
#[derive(Clone, Default)]
pub struct Part {
    /// What its workers are told.
    pub roles: Roles,
    /// It is a home: the registry, which says who may bind what.
    pub authority: Option<Arc<dyn Authority>>,
}

fn relay_of(part: &Part, seed: [u8; 32]) -> (relay::Publisher, Relay) {
    let (mut publisher, reader) = relay::new();
    publisher.set_roles(part.roles.clone());
    let mut key = [0; 16];
    key.copy_from_slice(&seed[..16]);
    (publisher, Relay::new(reader, Limits::default(), key))
}

/// One machine.
pub struct Host {
    /// What runs on it.
    pub node: Node,
    /// Its permanent address: the first one, if it has more.
    pub entity: Ipv6Addr,
    /// Its IPv4 address, perhaps behind a NAT.
    pub v4: Ipv4Addr,
    /// It has a network.
    pub online: bool,
    /// Datagrams that the machine sent; the world takes them.
    pub sent: Vec<Datagram>,
    /// Datagrams of others that it passed on as a home agent, or answered with an ICMPv6 error; the world takes them.
    pub forwarded: Vec<Datagram>,
    /// Packets that came out of the tunnel; the world takes them.
    pub delivered: Vec<Vec<u8>>,
    /// ICMPv6 errors for our own applications; the world takes them.
    pub errors: Vec<Vec<u8>>,
    /// What the node told; the world takes it.
    pub events: Vec<Event>,
    /// What it wrote down.
    pub disk: Disk,
    config: Config,
    part: Part,
    publisher: relay::Publisher,
    relay: Relay,
    reader: Reader,
    unknown: RateLimit,
    booted: Instant,
    buffers: Buffers,
}

struct Buffers {
    batch: SendBatch,
    packet: PacketBuffer,
}

impl Host {
    /// A machine that was just switched on.
    pub fn new(config: Config, entity: Ipv6Addr, v4: Ipv4Addr, seed: [u8; 32], now: Instant) -> Self {
        Self::with_part(config, Part::default(), entity, v4, seed, now)
    }

    /// The same of a machine that takes relayed packets, and is perhaps a home.
    pub fn with_part(
        config: Config,
        part: Part,
        entity: Ipv6Addr,
        v4: Ipv4Addr,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        let (tables, reader) = tables::new();
        let (publisher, relay) = relay_of(&part, seed);
        let mut host = Self {
            node: Node::new(config.clone(), tables, seed, now),
            entity,
            v4,
            online: true,
            sent: Vec::new(),
            forwarded: Vec::new(),
            delivered: Vec::new(),
            errors: Vec::new(),
            events: Vec::new(),
            disk: Disk::default(),
            config,
            part,
            publisher,
            relay,
            reader,
            unknown: RateLimit::new(UNKNOWN_SPI_PER_SECOND),
            booted: now,
            buffers: Buffers { batch: SendBatch::new(), packet: PacketBuffer::new() },
        };
        host.begin(now, seed);
        host
    }

    /// `kill -9` and a new start: everything is forgotten that is not on the disk.
    pub fn restart(&mut self, now: Instant, seed: [u8; 32]) {
        self.restart_with(self.config.clone(), now, seed);
    }

    /// The same with another configuration.
    pub fn restart_with(&mut self, mut config: Config, now: Instant, seed: [u8; 32]) {
        for registration in &mut config.registrations {
            registration.sequence = self.disk.sequences.get(&registration.sender).copied();
        }
        let (publisher, reader) = tables::new();
        self.node = Node::new(config.clone(), publisher, seed, now);
        self.config = config;
        self.reader = reader;
        (self.publisher, self.relay) = relay_of(&self.part, seed);
        self.unknown = RateLimit::new(UNKNOWN_SPI_PER_SECOND);
        self.booted = now;
        self.begin(now, seed);
    }

    /// What the daemon does between making a node and its first turn.
    fn begin(&mut self, now: Instant, seed: [u8; 32]) {
        if let Some(authority) = &self.part.authority {
            let rows = self
                .disk
                .bindings
                .values()
                .map(|(row, end)| Row { remaining: end.saturating_duration_since(now), ..*row });
            let mut another = seed;
            another.reverse();
            let routes = self.node.serve_home(now, Arc::clone(authority), another, rows);
            self.publisher.bind_all(routes);
        }
        self.local_change(now);
    }

    /// The machine has another IPv4 address from now on.
    pub fn move_to(&mut self, now: Instant, v4: Ipv4Addr) {
        self.v4 = v4;
        self.local_change(now);
    }

    /// The network came or went.
    pub fn set_online(&mut self, now: Instant, online: bool) {
        self.online = online;
        self.local_change(now);
    }

    fn local_change(&mut self, now: Instant) {
        let addresses = if self.online { vec![self.v4] } else { Vec::new() };
        self.node.set_local_addresses(addresses);
        self.act(|node, route| node.handle_local_change(now, route));
    }

    /// What the data plane sees.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// A command or an input; what follows from it is in the queues.
    pub fn act<T>(&mut self, act: impl FnOnce(&mut Node, &dyn Fn(Ipv4Addr) -> Option<Ipv4Addr>) -> T) -> T {
        let source = self.online.then_some(self.v4);
        let result = act(&mut self.node, &|_| source);
        self.drain();
        result
    }

    /// An application sends a packet.
    pub fn from_application(&mut self, now: Instant, packet: &[u8]) {
        let batch = &mut self.buffers.batch;
        batch.clear();
        let verdict = outbound::process(&self.reader, packet, batch);
        for datagram in batch.datagrams() {
            self.sent.push(Datagram {
                source: datagram.path.local,
                destination: datagram.path.remote,
                payload: datagram.bytes.to_vec(),
            });
        }
        let event = match verdict {
            outbound::Verdict::Sealed { soft_limit } => soft_limit.map(|spi| DataEvent::SoftLimit { spi }),
            outbound::Verdict::Acquire => Some(DataEvent::Acquire { packet: packet.to_vec() }),
            outbound::Verdict::Exhausted { tell } => tell.map(|spi| DataEvent::Exhausted { spi }),
            outbound::Verdict::Full | outbound::Verdict::TooBig { .. } | outbound::Verdict::Refused(_) => {
                None
            }
        };
        if let Some(event) = event {
            self.tell(now, event);
        }
        self.drain();
    }

    /// A datagram arrives at the socket.
    pub fn from_network(&mut self, now: Instant, datagram: &Datagram) {
        let path = UdpPath::direct(datagram.destination, datagram.source);
        let since_boot = now.saturating_duration_since(self.booted);
        let content = inbound::classify(&datagram.payload, path, 0);
        let Content::Relayed(packet) = content else { return self.take(now, content) };
        match self.relay.decide(packet, path.remote, since_boot) {
            relay::Verdict::Local(relayed) => self.take(now, inbound::relayed(relayed, path)),
            relay::Verdict::Forward { to, hop_limit } => {
                let mut payload = packet.to_vec();
                relay::rewrite(&mut payload, hop_limit);
                self.forwarded.push(Datagram { source: path.local, destination: to, payload });
            }
            relay::Verdict::Unreachable => {
                let mut payload = vec![0; packet.len()];
                if let Some(len) = relay::unreachable(packet, &mut payload) {
                    payload.truncate(len);
                    self.forwarded.push(Datagram { source: path.local, destination: path.remote, payload });
                }
            }
            relay::Verdict::Refused(_) => {}
        }
    }

    /// What the worker does with a datagram for this machine.
    fn take(&mut self, now: Instant, content: Content<'_>) {
        match content {
            Content::Esp(sealed) => self.open(now, sealed),
            Content::Ike { path, message } => {
                self.tell(now, DataEvent::Ike { path, message: message.to_vec() });
            }
            Content::Refused(_) | Content::Relayed(_) | Content::Keepalive => {}
        }
        self.drain();
    }

    fn open(&mut self, now: Instant, sealed: Sealed<'_>) {
        let Sealed { spi, path, .. } = sealed;
        let since_boot = now.saturating_duration_since(self.booted);
        let Some(receiving) = self.reader.inbound(spi) else {
            if self.unknown.allow(since_boot).is_some() {
                self.tell(now, DataEvent::UnknownSpi { spi, path });
            }
            return;
        };
        let room = self.buffers.packet.room_mut();
        let Ok(opened) = Run::new(&receiving).open(sealed, since_boot, room) else { return };
        let packet = room.get(..opened.len).unwrap_or_default().to_vec();
        let control = |what| DataEvent::Control { spi, path, what };
        match opened.inner {
            Ok(Inner::Packet) => self.delivered.push(packet),
            Ok(Inner::Mobility) => self.tell(now, control(Control::Mobility(packet))),
            Ok(Inner::Path) => self.tell(now, control(Control::Path(packet))),
            Ok(Inner::Echo) => self.tell(now, control(Control::Echo(packet))),
            Err(_) => {}
        }
        if opened.news.first {
            self.tell(now, DataEvent::FirstPacket { spi });
        }
        if opened.news.new_source {
            self.tell(now, DataEvent::NewSource { spi, path });
        }
        if opened.news.soft_limit {
            self.tell(now, DataEvent::SoftLimit { spi });
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.act(|node, route| node.handle_timeout(now, route));
        self.keep_bindings(now, false);
    }

    /// The first part of `down`: every correspondent is told.
    pub fn part(&mut self, now: Instant) {
        self.act(|node, _| node.part(now));
    }

    /// `down`: what is bound is taken back, and every peer is told. Let time pass, then [`restart`](Self::restart).
    pub fn goodbye(&mut self, now: Instant) {
        self.act(|node, _| node.deregister(now));
        self.keep_bindings(now, true);
        self.act(|node, _| node.shutdown(now));
    }

    /// Bindings of the home, to its registry.
    fn keep_bindings(&mut self, now: Instant, all: bool) {
        loop {
            let changes = self.node.take_binding_changes(now, all);
            if changes.is_empty() {
                return;
            }
            for change in changes {
                match change {
                    Change::Put(row) => {
                        self.disk.bindings.insert(row.prefix, (row, now + row.remaining));
                    }
                    Change::Delete(prefix) => {
                        self.disk.bindings.remove(&prefix);
                    }
                }
            }
        }
    }

    /// When it wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.node.poll_timeout()
    }

    /// How long it has been up.
    pub fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.booted)
    }

    fn tell(&mut self, now: Instant, event: DataEvent) {
        self.act(|node, route| node.handle_data_event(now, event, route));
    }

    fn drain(&mut self) {
        while let Some(event) = self.node.poll_event() {
            // Before anything is sent.
            match &event {
                Event::SequenceReserved { home_address, sequence } => {
                    self.disk.sequences.insert(*home_address, *sequence);
                }
                Event::Route { prefix, care_of: Some(care_of) } => self.publisher.bind(*prefix, *care_of),
                Event::Route { prefix, care_of: None } => self.publisher.unbind(*prefix),
                _ => {}
            }
            self.events.push(event);
        }
        while let Some(transmit) = self.node.poll_transmit() {
            let payload = transmit.datagram();
            let (source, destination) = (transmit.path.local, transmit.path.remote);
            self.sent.push(Datagram { source, destination, payload });
        }
        while let Some(waiting) = self.node.poll_inject() {
            let outlet = Outlet::default();
            // A packet that cannot be sealed any more is lost, as packets may be.
            let _ = inject::send_one(&waiting.outbound, waiting.next_header, &waiting.packet, &outlet);
            self.sent.append(&mut outlet.0.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        while let Some(error) = self.node.poll_tun() {
            self.errors.push(error);
        }
        // Without an address of its own a datagram gets the machine's; with one that the machine does not have, the
        // kernel sends nothing.
        let (v4, online) = (self.v4, self.online);
        for datagram in &mut self.sent {
            if datagram.source.ip().is_unspecified() {
                datagram.source.set_ip(v4);
            }
        }
        self.sent.retain(|datagram| online && *datagram.source.ip() == v4);
        self.forwarded.retain(|_| online);
    }
}
