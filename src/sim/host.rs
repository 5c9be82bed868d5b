//! A machine of the simulation: a node, the data plane's functions as the workers call them, a TUN and a UDP socket
//! in memory.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::network::Datagram;
use crate::dataplane::batch::{PacketBuffer, SendBatch, SendReport, UdpSend};
use crate::dataplane::counters::RateLimit;
use crate::dataplane::event::{Control, Event as DataEvent, UdpPath};
use crate::dataplane::tables::{self, Reader};
use crate::dataplane::{inbound, inject, outbound};
use crate::node::{Config, Event, Node};

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

/// One machine.
pub struct Host {
    /// What runs on it.
    pub node: Node,
    /// Its permanent address.
    pub entity: Ipv6Addr,
    /// Its IPv4 address, perhaps behind a NAT.
    pub v4: Ipv4Addr,
    /// Datagrams that the machine sent; the world takes them.
    pub sent: Vec<Datagram>,
    /// Packets that came out of the tunnel; the world takes them.
    pub delivered: Vec<Vec<u8>>,
    /// ICMPv6 errors for our own applications; the world takes them.
    pub errors: Vec<Vec<u8>>,
    /// What the node told; the world takes it.
    pub events: Vec<Event>,
    config: Config,
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
        let (publisher, reader) = tables::new();
        Self {
            node: Node::new(config.clone(), publisher, seed, now),
            entity,
            v4,
            sent: Vec::new(),
            delivered: Vec::new(),
            errors: Vec::new(),
            events: Vec::new(),
            config,
            reader,
            unknown: RateLimit::new(UNKNOWN_SPI_PER_SECOND),
            booted: now,
            buffers: Buffers { batch: SendBatch::new(), packet: PacketBuffer::new() },
        }
    }

    /// `kill -9` and a new start: everything is forgotten.
    pub fn restart(&mut self, now: Instant, seed: [u8; 32]) {
        let (publisher, reader) = tables::new();
        self.node = Node::new(self.config.clone(), publisher, seed, now);
        self.reader = reader;
        self.unknown = RateLimit::new(UNKNOWN_SPI_PER_SECOND);
        self.booted = now;
    }

    /// The machine has another IPv4 address from now on.
    pub fn move_to(&mut self, now: Instant, v4: Ipv4Addr) {
        self.v4 = v4;
        self.act(|node, route| node.handle_local_change(now, route));
    }

    /// What the data plane sees.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// A command or an input; what follows from it is in the queues.
    pub fn act<T>(&mut self, act: impl FnOnce(&mut Node, &dyn Fn(Ipv4Addr) -> Option<Ipv4Addr>) -> T) -> T {
        let v4 = self.v4;
        let result = act(&mut self.node, &|_| Some(v4));
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
        let out = &mut self.buffers.packet;
        match inbound::process(&self.reader, &datagram.payload, path, 0, since_boot, out) {
            inbound::Verdict::Authentic { spi, path, inner, news } => {
                let packet = out.packet().to_vec();
                match inner {
                    Ok(inbound::Inner::Packet) => self.delivered.push(packet),
                    Ok(inbound::Inner::Mobility) => {
                        self.tell(now, DataEvent::Control { spi, path, what: Control::Mobility(packet) });
                    }
                    Ok(inbound::Inner::Path) => {
                        self.tell(now, DataEvent::Control { spi, path, what: Control::Path(packet) });
                    }
                    Err(_) => {}
                }
                if news.first {
                    self.tell(now, DataEvent::FirstPacket { spi });
                }
                if news.new_source {
                    self.tell(now, DataEvent::NewSource { spi, path });
                }
                if news.soft_limit {
                    self.tell(now, DataEvent::SoftLimit { spi });
                }
            }
            inbound::Verdict::UnknownSpi { spi, path } => {
                if self.unknown.allow(since_boot).is_some() {
                    self.tell(now, DataEvent::UnknownSpi { spi, path });
                }
            }
            inbound::Verdict::Ike { path, message } => {
                self.tell(now, DataEvent::Ike { path, message: message.to_vec() });
            }
            inbound::Verdict::Refused { .. } | inbound::Verdict::Relayed(_) | inbound::Verdict::Keepalive => {
            }
        }
        self.drain();
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.act(|node, route| node.handle_timeout(now, route));
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
        while let Some(event) = self.node.poll_event() {
            self.events.push(event);
        }
        // The kernel sends nothing from an address that it does not have.
        let v4 = self.v4;
        self.sent.retain(|datagram| *datagram.source.ip() == v4);
    }
}
