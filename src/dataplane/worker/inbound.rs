//! U: UDP to TUN.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Desk;
use super::forward::Forward;
use super::shift::{Keeper, Turn};
use crate::dataplane::batch::{PacketBuffer, ReceiveBatch, TunRead, TunWrite, UdpReceive, UdpSend};
use crate::dataplane::coalesce::{Coalescer, Joined};
use crate::dataplane::counters::{Counters, DropReason, RateLimit};
use crate::dataplane::event::{Control, Event, UdpPath};
use crate::dataplane::inbound::{self, Authentic, Content, Inner, News, Run, Sealed};
use crate::dataplane::offload::{Accepts, Protocol};
use crate::dataplane::queue::MAX_CONTROL;
use crate::dataplane::tables::Receiving;

/// Unknown SPIs per second that the control plane is told of: enough for a peer that did not notice our restart.
const UNKNOWN_SPI_PER_SECOND: u32 = 16;

/// A datagram, and what its outer headers said.
struct Payload<'a> {
    octets: &'a [u8],
    path: UdpPath,
    ecn: u8,
    /// It is the first one of a super-datagram.
    is_first: bool,
}

/// U.
pub(super) struct Inbound<U, R, W, S> {
    socket: U,
    delivery: Delivery<W>,
    desk: Desk,
    unknown: RateLimit,
    forward: Forward<S>,
    keeper: Keeper<R, W, S>,
}

impl<U: UdpReceive, R: TunRead, W: TunWrite, S: UdpSend> Inbound<U, R, W, S> {
    pub(super) fn new(
        socket: U,
        tun: W,
        coalesce: bool,
        desk: Desk,
        forward: Forward<S>,
        keeper: Keeper<R, W, S>,
    ) -> Self {
        let delivery = Delivery::new(tun, coalesce, Arc::clone(&desk.counters));
        Self { socket, delivery, desk, unknown: RateLimit::new(UNKNOWN_SPI_PER_SECOND), forward, keeper }
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let mut batch = ReceiveBatch::new();
        // Whether it is worth asking the socket: not when it is known that only the TUN has something.
        let mut is_expected = true;
        while !self.desk.stop.is_stopped() {
            let received = is_expected && self.desk.receive(&mut self.socket, &mut batch)?;
            is_expected = true;
            if received {
                let before = self.desk.counters.received_packets();
                self.work_off(&batch, (self.desk.clock)());
                // What is held leaves with the batch: never by a timer.
                self.delivery.flush();
                self.desk.counters.end_batch(before);
                self.forward.end_batch(&self.desk);
            }
            // Whoever was woken by what was just done may be waiting for this very CPU: no look more than there is reason for.
            let is_more = received && batch.is_full();
            if self.keeper.turn()? != Turn::Bulk && !is_more {
                is_expected = match self.keeper.wait(&mut self.socket) {
                    // T may end before us.
                    Err(_) if self.desk.stop.is_stopped() => return Ok(()),
                    result => result?,
                };
            }
        }
        Ok(())
    }

    fn work_off(&mut self, batch: &ReceiveBatch, now: Duration) {
        let mut payloads = batch.datagrams().flat_map(|datagram| {
            let (path, ecn) = (datagram.path, datagram.ecn);
            let octets = datagram.payloads().enumerate();
            octets.map(move |(at, octets)| Payload { octets, path, ecn, is_first: at == 0 })
        });
        let mut next = self.next_sealed(&mut payloads, now);
        while let Some(sealed) = next {
            next = if let Some(receiving) = self.desk.reader.inbound(sealed.spi) {
                self.open_run(&receiving, sealed, &mut payloads, now)
            } else {
                self.unknown_spi(sealed, now);
                self.next_sealed(&mut payloads, now)
            };
        }
    }

    /// Opens packets for as long as they are for the same SA: `sealed` and those that follow. Returns the next one.
    fn open_run<'a>(
        &mut self,
        receiving: &Receiving,
        mut sealed: Sealed<'a>,
        payloads: &mut impl Iterator<Item = Payload<'a>>,
        now: Duration,
    ) -> Option<Sealed<'a>> {
        let mut run = Run::new(receiving);
        loop {
            self.open(&mut run, sealed, now);
            match self.next_sealed(payloads, now) {
                Some(next) if next.spi == sealed.spi => sealed = next,
                next => return next,
            }
        }
    }

    /// The next ESP packet for us; what comes before it is dealt with.
    fn next_sealed<'a>(
        &mut self,
        payloads: &mut impl Iterator<Item = Payload<'a>>,
        now: Duration,
    ) -> Option<Sealed<'a>> {
        payloads.find_map(|Payload { octets, path, ecn, is_first }| {
            if is_first {
                self.forward.flush_if_due(&self.desk);
            }
            let mut content = inbound::classify(octets, path, ecn);
            if let Content::Relayed(packet) = content {
                let local = self.forward.handle(&self.desk, packet, path, ecn, now)?;
                content = inbound::relayed(local, path);
            }
            match content {
                Content::Esp(sealed) => return Some(sealed),
                Content::Ike { path, message } => self.desk.ike(path, message),
                Content::Keepalive => self.desk.counters.keepalive(),
                Content::Refused(reason) => self.drop(reason, 0, path),
                // Decided about above, and never what was inside one.
                Content::Relayed(_) => {}
            }
            None
        })
    }

    fn open(&mut self, run: &mut Run<'_>, sealed: Sealed<'_>, now: Duration) {
        let Sealed { spi, path, packet, .. } = sealed;
        let Authentic { inner, len, news } = match run.open(sealed, now, self.delivery.room(packet.len())) {
            Ok(authentic) => authentic,
            Err(reason) => return self.drop(reason, spi, path),
        };
        match inner {
            Ok(Inner::Packet) => self.delivery.keep(len),
            Ok(Inner::Mobility) => self.control(spi, path, len, Control::Mobility),
            Ok(Inner::Path) => self.control(spi, path, len, Control::Path),
            Ok(Inner::Echo) => self.control(spi, path, len, Control::Echo),
            Err(reason) => self.drop(reason, spi, path),
        }
        if !news.is_none() {
            self.tell(spi, path, news);
        }
    }

    fn control(&mut self, spi: u32, path: UdpPath, len: usize, what: impl FnOnce(Vec<u8>) -> Control) {
        if len > MAX_CONTROL {
            self.desk.counters.count_drop(DropReason::Dummy);
        } else {
            let packet = self.delivery.coalescer.opened(len);
            self.desk.counted(self.desk.queue.control(spi, path, || what(packet.to_vec())));
        }
    }

    fn unknown_spi(&mut self, sealed: Sealed<'_>, now: Duration) {
        let Sealed { spi, path, .. } = sealed;
        self.drop(DropReason::UnknownSpi, spi, path);
        if self.unknown.allow(now).is_some() {
            self.desk.tell(Event::UnknownSpi { spi, path });
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

/// From opened packets to the TUN.
struct Delivery<W> {
    tun: W,
    coalescer: Coalescer,
    counters: Arc<Counters>,
    refused: Option<Protocol>,
}

impl<W: TunWrite> Delivery<W> {
    fn new(tun: W, coalesce: bool, counters: Arc<Counters>) -> Self {
        let accepts = if coalesce { tun.accepts() } else { Accepts::default() };
        Self { tun, coalescer: Coalescer::new(accepts), counters, refused: None }
    }

    fn room(&mut self, len: usize) -> &mut [u8] {
        let Self { tun, coalescer, counters, refused } = self;
        coalescer.room(len, &mut |buffer, joined| write(tun, counters, refused, buffer, joined))
    }

    fn keep(&mut self, len: usize) {
        let Self { tun, coalescer, counters, refused } = self;
        coalescer.keep(len, &mut |buffer, joined| write(tun, counters, refused, buffer, joined));
    }

    fn flush(&mut self) {
        let Self { tun, coalescer, counters, refused } = self;
        coalescer.flush(&mut |buffer, joined| write(tun, counters, refused, buffer, joined));
        // A kernel that does not take what it said that it would gets no more of it: this batch is all that is lost.
        if let Some(protocol) = refused.take() {
            coalescer.without(protocol);
        }
    }
}

fn write(
    tun: &mut impl TunWrite,
    counters: &Counters,
    refused: &mut Option<Protocol>,
    buffer: &mut PacketBuffer,
    joined: Joined,
) {
    match tun.write(buffer) {
        Ok(()) => counters.received(joined.packets, joined.octets),
        Err(error) => {
            counters.count_drops(DropReason::TunWrite, joined.packets);
            let segments = buffer.offload().segments;
            if let Some(segments) = segments
                && error.kind() == io::ErrorKind::InvalidInput
            {
                *refused = Some(segments.protocol);
            }
        }
    }
}

/// U for a socket that carries nothing but IKE without the non-ESP marker (RFC 7296 §2.23: port 500).
pub(super) struct IkeOnly<U> {
    socket: U,
    desk: Desk,
}

impl<U: UdpReceive> IkeOnly<U> {
    pub(super) fn new(socket: U, desk: Desk) -> Self {
        Self { socket, desk }
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let mut batch = ReceiveBatch::new();
        while !self.desk.stop.is_stopped() {
            self.socket.wait()?;
            while self.desk.receive(&mut self.socket, &mut batch)? {
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
