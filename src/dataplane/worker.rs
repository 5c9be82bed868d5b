//! The worker threads: T (TUN to UDP), U (UDP to TUN) and, where there is one, a second U for the IKE-only socket on
//! port 500. They block in the sources' `wait` and nowhere else for long, and never wait for the control plane.

mod outbound;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use tokio::sync::mpsc;

use super::batch::{PacketBuffer, ReceiveBatch, SendBatch, Stop, TunRead, TunWrite, UdpReceive, UdpSend};
use super::counters::{Clock, Counters, DropReason, RateLimit, Summary, ViolationLog};
use super::event::{Control, Event, UdpPath};
use super::inbound::{self, Inner, News};
use super::queue::{self, EventQueue, MAX_CONTROL, MAX_IKE_MESSAGE};
use super::relay::{self, Relay, Relayed};
use super::tables::Reader;
use outbound::Outbound;

/// Unknown SPIs per second that the control plane is told of: enough for a peer that did not notice our restart.
const UNKNOWN_SPI_PER_SECOND: u32 = 16;

/// What the workers work on. Everything that waits must have been made with the stop signal of [`start`].
pub struct Edges<R, W, U, S> {
    /// Packets from the applications.
    pub tun_read: R,
    /// Packets to the applications: T answers with ICMPv6 errors there, U delivers.
    pub tun_write: W,
    /// Datagrams with ESP and marked IKE: our port 4500.
    pub udp_receive: U,
    /// Datagrams with unmarked IKE and nothing else: port 500.
    pub ike_receive: Option<U>,
    /// Where ESP leaves.
    pub udp_send: S,
    /// What decides about relayed packets.
    pub relay: Relay,
    /// Whether packets of a flow are joined for the TUN.
    pub coalesce: bool,
}

/// A worker ended although nobody asked it to.
#[derive(Clone, Debug)]
pub struct Failure {
    /// `tun`, `udp` or `ike`.
    pub worker: &'static str,
    /// Why, in words.
    pub error: String,
}

/// The running threads. Dropping it stops and joins them, too.
pub struct Workers {
    stop: Arc<dyn Stop>,
    threads: Vec<JoinHandle<()>>,
    failures: mpsc::Receiver<Failure>,
    summary: Summary,
}

/// Starts the threads; the receiver is the control plane's end of the event queue.
///
/// # Errors
/// The system has no room for another thread. Those already started are stopped.
pub fn start<R: TunRead, W: TunWrite + Clone, U: UdpReceive, S: UdpSend + Clone>(
    edges: Edges<R, W, U, S>,
    reader: &Reader,
    stop: Arc<dyn Stop>,
    clock: Clock,
) -> io::Result<(Workers, mpsc::Receiver<Event>)> {
    let (queue, events) = queue::new();
    // One place per worker: a failure is never lost.
    let (failed, failures) = mpsc::channel(3);
    let mut workers = Workers { stop, threads: Vec::new(), failures, summary: Summary::default() };
    let Edges { tun_read, tun_write, udp_receive, ike_receive, udp_send, relay, coalesce: _ } = edges;

    let desk = workers.desk(reader, &queue, clock);
    let outbound = Outbound::new(tun_read, tun_write.clone(), udp_send.clone(), desk);
    workers.spawn("tun", failed.clone(), move || outbound.run())?;

    workers.summary.add_relay(relay.counters());
    let inbound = Inbound {
        socket: udp_receive,
        tun: tun_write,
        desk: workers.desk(reader, &queue, clock),
        unknown: RateLimit::new(UNKNOWN_SPI_PER_SECOND),
        packet: PacketBuffer::new(),
        forward: Forward { relay, socket: udp_send, batch: SendBatch::new() },
    };
    workers.spawn("udp", failed.clone(), move || inbound.run())?;

    if let Some(socket) = ike_receive {
        let ike = IkeOnly { socket, desk: workers.desk(reader, &queue, clock) };
        workers.spawn("ike", failed, move || ike.run())?;
    }
    Ok((workers, events))
}

impl Workers {
    /// The counters of all workers; a clone stays valid after they ended.
    pub fn summary(&self) -> Summary {
        self.summary.clone()
    }

    /// Waits until a worker ends by itself; pending forever when none does. Safe to drop and call again.
    pub async fn failed(&mut self) -> Failure {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Stops and joins the threads: at once when they wait, after at most one batch when they work.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.stop.stop();
        for thread in mem::take(&mut self.threads) {
            // The thread catches its own panics: there is nothing to learn here.
            let _ = thread.join();
        }
    }

    fn desk(&mut self, reader: &Reader, queue: &EventQueue, clock: Clock) -> Desk {
        Desk {
            reader: reader.clone(),
            queue: queue.clone(),
            counters: self.summary.add_worker(),
            log: ViolationLog::new(),
            stop: Arc::clone(&self.stop),
            clock,
        }
    }

    fn spawn(
        &mut self,
        worker: &'static str,
        failed: mpsc::Sender<Failure>,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let body = move || {
            let error = match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked: this is a bug, and the lines above tell where".to_owned(),
            };
            let _ = failed.try_send(Failure { worker, error });
        };
        self.threads.push(thread::Builder::new().name(format!("data-{worker}")).spawn(body)?);
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.join();
    }
}

/// What every worker has on its desk.
struct Desk {
    reader: Reader,
    queue: EventQueue,
    counters: Arc<Counters>,
    log: ViolationLog,
    stop: Arc<dyn Stop>,
    clock: Clock,
}

impl Desk {
    fn tell(&self, event: Event) {
        self.counted(self.queue.tell(event));
    }

    fn counted(&self, taken: bool) {
        if !taken {
            self.counters.count_drop(DropReason::QueueFull);
        }
    }

    fn ike(&self, path: UdpPath, message: &[u8]) {
        if message.len() > MAX_IKE_MESSAGE {
            self.counters.count_drop(DropReason::IkeTooLong);
        } else {
            self.counted(self.queue.ike(path, message));
        }
    }
}

/// U: UDP to TUN.
struct Inbound<U, W, S> {
    socket: U,
    tun: W,
    desk: Desk,
    unknown: RateLimit,
    packet: PacketBuffer,
    forward: Forward<S>,
}

impl<U: UdpReceive, W: TunWrite, S: UdpSend> Inbound<U, W, S> {
    fn run(mut self) -> io::Result<()> {
        let mut batch = ReceiveBatch::new();
        while !self.desk.stop.is_stopped() {
            self.socket.wait()?;
            while !self.desk.stop.is_stopped() && self.socket.try_receive(&mut batch)? {
                self.desk.counters.count_drops(DropReason::Truncated, batch.lost());
                let now = (self.desk.clock)();
                for datagram in batch.datagrams() {
                    for payload in datagram.payloads() {
                        self.handle(payload, datagram.path, datagram.ecn, now);
                    }
                    self.forward.flush_if_due(&self.desk);
                }
                self.forward.flush(&self.desk);
            }
        }
        Ok(())
    }

    fn handle(&mut self, payload: &[u8], path: UdpPath, ecn: u8, now: Duration) {
        let verdict = inbound::process(&self.desk.reader, payload, path, ecn, now, &mut self.packet);
        let inbound::Verdict::Relayed(packet) = verdict else { return self.act(verdict, path, now) };
        if let Some(local) = self.forward.handle(&self.desk, packet, path, ecn, now) {
            let verdict = inbound::relayed(&self.desk.reader, local, path, now, &mut self.packet);
            self.act(verdict, path, now);
        }
    }

    fn act(&mut self, verdict: inbound::Verdict<'_>, path: UdpPath, now: Duration) {
        match verdict {
            inbound::Verdict::Authentic { spi, path, inner, news } => {
                match inner {
                    Ok(Inner::Packet) => self.deliver(),
                    Ok(Inner::Mobility) => self.control(spi, path, Control::Mobility),
                    Ok(Inner::Path) => self.control(spi, path, Control::Path),
                    Err(reason) => self.drop(reason, spi, path),
                }
                if !news.is_none() {
                    self.tell(spi, path, news);
                }
            }
            inbound::Verdict::UnknownSpi { spi, path } => {
                self.drop(DropReason::UnknownSpi, spi, path);
                if self.unknown.allow(now).is_some() {
                    self.desk.tell(Event::UnknownSpi { spi, path });
                }
            }
            inbound::Verdict::Refused { spi, reason } => self.drop(reason, spi, path),
            inbound::Verdict::Ike { path, message } => self.desk.ike(path, message),
            // Decided about above, and never the outcome of what was inside one.
            inbound::Verdict::Relayed(_) => {}
            inbound::Verdict::Keepalive => self.desk.counters.keepalive(),
        }
    }

    fn control(&self, spi: u32, path: UdpPath, what: impl FnOnce(Vec<u8>) -> Control) {
        let packet = self.packet.packet();
        if packet.len() > MAX_CONTROL {
            self.desk.counters.count_drop(DropReason::Dummy);
        } else {
            self.desk.counted(self.desk.queue.control(spi, path, || what(packet.to_vec())));
        }
    }

    fn deliver(&mut self) {
        let len = self.packet.packet().len();
        match self.tun.write(&mut self.packet) {
            Ok(()) => self.desk.counters.received(len),
            Err(_) => self.desk.counters.count_drop(DropReason::TunWrite),
        }
    }

    fn tell(&self, spi: u32, path: UdpPath, news: News) {
        if news.first {
            self.desk.tell(Event::FirstPacket { spi });
        }
        if news.new_source {
            self.desk.tell(Event::NewSource { spi, path });
        }
        if news.soft_limit {
            self.desk.tell(Event::SoftLimit { spi });
        }
    }

    fn drop(&mut self, reason: DropReason, spi: u32, path: UdpPath) {
        self.desk.counters.count_drop(reason);
        self.desk.log.note(self.desk.clock, reason, spi, &path.remote);
    }
}

/// Relayed packets: what is for us comes back, a home agent sends on the others without opening them.
struct Forward<S> {
    relay: Relay,
    socket: S,
    batch: SendBatch,
}

impl<S: UdpSend> Forward<S> {
    /// The packet, if it is for us.
    fn handle<'a>(
        &mut self,
        desk: &Desk,
        packet: &'a [u8],
        path: UdpPath,
        ecn: u8,
        now: Duration,
    ) -> Option<Relayed<'a>> {
        match self.relay.decide(packet, path.remote, now) {
            relay::Verdict::Forward { to, hop_limit } => {
                self.put(desk, UdpPath::direct(path.local, to), ecn, packet.len(), |room| {
                    room.copy_from_slice(packet);
                    relay::rewrite(room, hop_limit);
                    Some(packet.len())
                });
            }
            relay::Verdict::Unreachable => {
                self.put(desk, path, 0, packet.len(), |room| relay::unreachable(packet, room));
            }
            relay::Verdict::Local(relayed) => return Some(relayed),
            relay::Verdict::Refused(_) => {}
        }
        None
    }

    fn put(
        &mut self,
        desk: &Desk,
        path: UdpPath,
        ecn: u8,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) {
        if self.batch.reserve(len).is_none() {
            self.flush(desk);
        }
        // What arrived in a datagram fits an empty batch.
        let Some(mut room) = self.batch.reserve(len) else { return };
        if let Some(len) = write(room.room_mut()) {
            room.commit(path, ecn, len);
        }
    }

    /// Between super-datagrams: a batch that would be cut in the middle of the next one would make two messages of it.
    fn flush_if_due(&mut self, desk: &Desk) {
        if self.batch.is_due() {
            self.flush(desk);
        }
    }

    fn flush(&mut self, desk: &Desk) {
        if !self.batch.is_empty() {
            desk.counters.report(self.socket.send(&self.batch));
            self.batch.clear();
        }
    }
}

/// U for a socket that carries nothing but IKE without the non-ESP marker (RFC 7296 §2.23: port 500).
struct IkeOnly<U> {
    socket: U,
    desk: Desk,
}

impl<U: UdpReceive> IkeOnly<U> {
    fn run(mut self) -> io::Result<()> {
        let mut batch = ReceiveBatch::new();
        while !self.desk.stop.is_stopped() {
            self.socket.wait()?;
            while !self.desk.stop.is_stopped() && self.socket.try_receive(&mut batch)? {
                self.desk.counters.count_drops(DropReason::Truncated, batch.lost());
                for datagram in batch.datagrams() {
                    for payload in datagram.payloads() {
                        self.desk.ike(datagram.path, payload);
                    }
                }
            }
        }
        Ok(())
    }
}
