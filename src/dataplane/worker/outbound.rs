//! T: TUN to UDP.
//!
//! U may take a turn, too: what it delivers is often answered at once (an echo, an acknowledgement), and whoever delivered
//! it is awake already, while T would have to be woken. A lock keeps the order: whoever has it reads, seals and sends
//! before the next one reads. T never holds it while it waits, and U never waits for it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Desk;
use crate::dataplane::batch::{PacketBuffer, SendBatch, Stop, TunRead, TunWrite, UdpSend};
use crate::dataplane::counters::{DropReason, RateLimit};
use crate::dataplane::event::Event;
use crate::dataplane::offload::{Offload, PartialChecksum, Segments};
use crate::dataplane::outbound;
use crate::dataplane::split::{self, Split};
use crate::wire::icmpv6::{self, Unreachable};

/// ICMPv6 errors per second (RFC 4443 §2.4 f). They go only to our own applications, each of which needs one per
/// destination and path MTU.
const ICMP_PER_SECOND: u32 = 1000;

/// What U calls when there may be an answer to what it delivered.
pub(super) type Turn = Box<dyn FnMut() + Send>;

/// T.
pub(super) struct Worker<R, W, S> {
    /// Waits; `None` when there is only one reader.
    waiter: Option<R>,
    shared: Arc<Mutex<Outbound<R, W, S>>>,
    stop: Arc<dyn Stop>,
}

impl<R: TunRead, W: TunWrite, S: UdpSend> Worker<R, W, S> {
    /// T, and turns for U where the device allows it.
    pub(super) fn new(outbound: Outbound<R, W, S>) -> (Self, Option<Turn>) {
        let (waiter, stop) = (outbound.tun.another(), Arc::clone(&outbound.desk.stop));
        let shared = Arc::new(Mutex::new(outbound));
        let turn = waiter.is_some().then(|| {
            let shared = Arc::clone(&shared);
            Box::new(move || {
                if let Ok(mut outbound) = shared.try_lock() {
                    outbound.turn();
                }
            }) as Turn
        });
        (Self { waiter, shared, stop }, turn)
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.stop.is_stopped() {
            match &mut self.waiter {
                Some(waiter) => waiter.wait()?,
                None => self.outbound().tun.wait()?,
            }
            self.outbound().drain()?;
        }
        Ok(())
    }

    /// A panic of U ends the program; until then T does its work.
    fn outbound(&self) -> MutexGuard<'_, Outbound<R, W, S>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What T works with.
pub(super) struct Outbound<R, W, S> {
    tun: R,
    replies: W,
    socket: S,
    desk: Desk,
    icmp: RateLimit,
    packet: PacketBuffer,
    batch: SendBatch,
    reply: PacketBuffer,
}

impl<R: TunRead, W: TunWrite, S: UdpSend> Outbound<R, W, S> {
    pub(super) fn new(tun: R, replies: W, socket: S, desk: Desk) -> Self {
        Self {
            tun,
            replies,
            socket,
            desk,
            icmp: RateLimit::new(ICMP_PER_SECOND),
            packet: PacketBuffer::new(),
            batch: SendBatch::new(),
            reply: PacketBuffer::new(),
        }
    }

    /// Sends all that is there.
    fn drain(&mut self) -> io::Result<()> {
        // A batch leaves when it is full or when there is nothing more to put into it: never by a timer.
        while !self.desk.stop.is_stopped() && self.tun.try_read(&mut self.packet)? {
            self.handle();
            if self.batch.is_due() {
                self.flush();
            }
        }
        self.flush();
        Ok(())
    }

    /// Sends one packet or super-packet, if there is one. What is wrong with the device T will tell.
    fn turn(&mut self) {
        if let Ok(true) = self.tun.try_read(&mut self.packet) {
            self.handle();
            self.flush();
        }
    }

    fn handle(&mut self) {
        let Offload { segments, checksum } = self.packet.offload();
        match (segments, checksum) {
            (Some(segments), _) => self.many(segments, checksum),
            (None, None) => self.single(),
            (None, Some(partial)) => match split::complete(self.packet.packet_mut(), partial) {
                Ok(()) => self.single(),
                Err(_) => {
                    let found = outbound::look_up(&self.desk.reader, self.packet.packet()).err();
                    self.nonsense(found);
                }
            },
        }
    }

    fn single(&mut self) {
        let mut verdict = outbound::process(&self.desk.reader, self.packet.packet(), &mut self.batch);
        if verdict == outbound::Verdict::Full {
            self.flush();
            verdict = outbound::process(&self.desk.reader, self.packet.packet(), &mut self.batch);
        }
        if verdict == outbound::Verdict::Acquire {
            self.desk.counted(self.desk.queue.acquire(self.packet.packet()));
        } else {
            self.act(verdict, 1, self.packet.packet().len());
        }
    }

    /// A super-packet: what is found for one of its packets holds for all of them.
    fn many(&mut self, segments: Segments, checksum: Option<PartialChecksum>) {
        let found = outbound::look_up(&self.desk.reader, self.packet.packet());
        let Ok(mut split) = Split::new(self.packet.packet_mut(), segments, checksum) else {
            return self.nonsense(found.err());
        };
        let (count, octets) = (split.count(), split.octets());
        let verdict = match found {
            Ok(protected) => protected.seal_all(&mut split, &mut self.batch, |batch| {
                self.desk.counters.report(self.socket.send(batch));
                batch.clear();
            }),
            Err(outbound::Verdict::Acquire) => {
                while let Some(packet) = split.advance() {
                    self.desk.counted(self.desk.queue.acquire(packet));
                }
                return;
            }
            Err(verdict) => verdict,
        };
        self.act(verdict, count, octets);
    }

    /// What was said about a packet does not fit it: because it is none of ours, if `found` says so.
    fn nonsense(&mut self, found: Option<outbound::Verdict>) {
        if let Some(outbound::Verdict::Refused(reason)) = found {
            self.drop(reason, 1);
        } else {
            self.drop(DropReason::BadOffload, 1);
        }
    }

    /// Follows a verdict about `count` packets of `octets` in all.
    fn act(&mut self, verdict: outbound::Verdict, count: usize, octets: usize) {
        match verdict {
            outbound::Verdict::Sealed { soft_limit } => {
                self.desk.counters.sent(count as u64, octets as u64);
                if let Some(spi) = soft_limit {
                    self.desk.tell(Event::SoftLimit { spi });
                }
            }
            // The batch is empty now, and what fits no empty batch is refused: this cannot happen twice. What needs an SA
            // was queued.
            outbound::Verdict::Full | outbound::Verdict::Acquire => self.drop(DropReason::TooBig, count),
            outbound::Verdict::TooBig { mtu } => {
                self.drop(DropReason::TooBig, count);
                self.answer(|packet, out| icmpv6::packet_too_big(u32::from(mtu), packet, out));
            }
            outbound::Verdict::Exhausted { tell } => {
                self.drop(DropReason::Exhausted, count);
                if let Some(spi) = tell {
                    self.desk.tell(Event::Exhausted { spi });
                }
            }
            outbound::Verdict::Refused(reason) => {
                self.drop(reason, count);
                if reason == DropReason::Discard {
                    let why = Unreachable::AdministrativelyProhibited;
                    self.answer(|packet, out| icmpv6::unreachable(why, packet, out));
                }
            }
        }
    }

    fn drop(&mut self, reason: DropReason, count: usize) {
        self.desk.counters.count_drops(reason, count as u64);
        self.desk.log.note(self.desk.clock, reason, 0, &"the TUN device");
    }

    /// Answers the packet with the ICMPv6 error that `write` makes of it, if the rate allows and there may be one.
    fn answer(&mut self, write: impl FnOnce(&[u8], &mut [u8]) -> Option<usize>) {
        if self.icmp.allow((self.desk.clock)()).is_none() {
            return;
        }
        let Some(len) = write(self.packet.packet(), self.reply.room_mut()) else { return };
        self.reply.set_len(len);
        if self.replies.write(&mut self.reply).is_err() {
            self.desk.counters.count_drop(DropReason::TunWrite);
        }
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.desk.counters.report(self.socket.send(&self.batch));
            self.batch.clear();
        }
    }
}
