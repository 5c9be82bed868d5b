//! TUN to UDP: what the thread does that has the TUN (see [`super::shift`]).

use std::io;

use super::Desk;
use super::shift::Turn;
use crate::dataplane::batch::{PacketBuffer, SendBatch, TunRead, TunWrite, UdpReceive, UdpSend, Woken};
use crate::dataplane::counters::{DropReason, RateLimit};
use crate::dataplane::event::Event;
use crate::dataplane::offload::{Offload, PartialChecksum, Segments};
use crate::dataplane::outbound;
use crate::dataplane::split::{self, Split};
use crate::wire::icmpv6::{self, Unreachable};

/// ICMPv6 errors per second (RFC 4443 §2.4 f). They go only to our own applications, each of which needs one per
/// destination and path MTU.
const ICMP_PER_SECOND: u32 = 1000;

/// Packets in one turn of U, which has datagrams to open, too.
const PER_TURN: usize = 32;

/// More packets than this at once are bulk.
const BRIEF: usize = 4;

/// Where packets come from, what they become, and where they go.
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

    /// Whether another thread can wait for packets beside what it waits for.
    pub(super) fn can_be_waited_for(&self) -> bool {
        self.tun.descriptor().is_some()
    }

    /// Waits for packets.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.tun.wait()
    }

    /// Waits for packets and for datagrams.
    pub(super) fn wait_with(&self, socket: &mut impl UdpReceive) -> io::Result<Woken> {
        match self.tun.descriptor() {
            Some(tun) => socket.wait_with(tun),
            None => socket.wait().map(|()| Woken::Datagram),
        }
    }

    /// Sends all that is there.
    pub(super) fn drain(&mut self) -> io::Result<Turn> {
        self.send(None)
    }

    /// Sends what is there, but not for long.
    pub(super) fn turn(&mut self) -> io::Result<Turn> {
        self.send(Some(PER_TURN))
    }

    /// With a limit it ends at so many packets, or when a whole message has left.
    fn send(&mut self, limit: Option<usize>) -> io::Result<Turn> {
        let (mut count, mut is_bulk) = (0, false);
        // A batch leaves when it is full or when there is nothing more to put into it: never by a timer.
        while limit.is_none_or(|most| count < most)
            && !self.desk.stop.is_stopped()
            && self.tun.try_read(&mut self.packet)?
        {
            count += 1;
            is_bulk |= self.packet.offload().segments.is_some();
            self.handle();
            if count == 1 && !is_bulk {
                // A lone packet does not wait until it is known that it is alone.
                self.flush();
            }
            if self.batch.is_due() {
                self.flush();
                if limit.is_some() {
                    break;
                }
            }
        }
        self.flush();
        Ok(match count {
            0 => Turn::Nothing,
            1..=BRIEF if !is_bulk => Turn::Brief,
            _ => Turn::Bulk,
        })
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
