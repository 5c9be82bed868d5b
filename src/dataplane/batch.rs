//! What the worker loops are generic over: sources and sinks of packets, and buffers that own their room.
//!
//! Everything here is shaped for batches and for super-packets, so that offloads change the implementations and
//! not the callers: a [`Datagram`] may be many datagrams of [`Datagram::stride`] octets each (UDP_GRO), a
//! [`SendBatch`] lays datagrams for one path out contiguously (UDP_SEGMENT), and a [`PacketBuffer`] has headroom in
//! front of the packet (a virtio header).

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::event::UdpPath;
use super::offload::{Accepts, Offload};

/// Largest IPv6 packet without a jumbogram: header and 65,535 octets.
pub const MAX_PACKET: usize = 40 + 65_535;

/// Octets in front of a packet in a [`PacketBuffer`]: room for a `virtio_net_hdr` (at most 12) and alignment.
pub const HEADROOM: usize = 16;

/// Datagrams in a [`SendBatch`]: two messages of [`MAX_SEGMENTS`] small ones, or a super-packet cut to the smallest MTU
/// with room to spare.
pub const SEND_DATAGRAMS: usize = 128;

/// Octets in a [`SendBatch`]: a super-packet of 65,575 octets cut to the smallest IPv6 MTU is 54 packets, around each of
/// which come up to 137 octets (headers repeated in each, ESP, the relayed form): 72,900. With what it was made from
/// that still fits a second-level cache.
const SEND_ROOM: usize = 80 << 10;

/// Datagrams in one message with UDP_SEGMENT: Linux took 64 (UDP_MAX_SEGMENTS) until 6.9, and 128 since.
pub const MAX_SEGMENTS: usize = 64;

/// Octets in one message with UDP_SEGMENT. 65,507 is what IPv4 can carry (RFC 768, RFC 791); the rest stays free for
/// whoever puts a header around the uncut super-datagram on its way (a tunnel, a bridge with tags).
const MAX_RUN: usize = 65_000;

/// A [`SendBatch`] with this much in it is best sent before the next super-packet, which could not end in the same
/// message: three quarters of a message, or as many datagrams as one takes.
const DUE: usize = MAX_RUN / 4 * 3;

/// Slots in a [`ReceiveBatch`].
pub const RECEIVE_SLOTS: usize = 32;

/// Slots that are offered while super-datagrams arrive: 8 of them are half of a second-level cache of 1 MiB, and the next
/// call for the same slots finds them there.
const SUPER_SLOTS: usize = 8;

/// Slots that are offered at least.
const LONE_SLOTS: usize = 2;

/// A mean length of what arrived above which [`SUPER_SLOTS`] are offered: more than one datagram of an Ethernet's size.
const SUPER_LEN: usize = 4 << 10;

/// Octets of a receive slot. UDP allows 65,507 octets of payload over IPv4, a super-datagram has no more than 65,535,
/// and a shorter slot would truncate them. The odd part keeps the beginnings of the slots, which is all that small
/// datagrams use, from falling on the same few lines of the first-level cache.
pub const SLOT: usize = (64 << 10) + 23 * 64;

/// One packet in a buffer that owns room in front of it and behind it, and what is still to be done to it.
pub struct PacketBuffer {
    bytes: Box<[u8]>,
    len: usize,
    offload: Offload,
}

impl PacketBuffer {
    /// An empty buffer with room for the largest packet.
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADROOM + MAX_PACKET].into_boxed_slice(), len: 0, offload: Offload::default() }
    }

    /// All the room for a packet. Write here, then say with [`Self::set_len`] how much it became.
    pub fn room_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(HEADROOM..).unwrap_or_default()
    }

    /// The last `front` octets of the headroom (at most [`HEADROOM`]) and all the room behind them, in one piece: for a
    /// header that a device has in front of its packets.
    pub fn room_behind_mut(&mut self, front: usize) -> &mut [u8] {
        self.bytes.get_mut(HEADROOM.saturating_sub(front)..).unwrap_or_default()
    }

    /// The packet is the first `len` octets of the room (at most all of it), whole and with a whole checksum.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(MAX_PACKET);
        self.offload = Offload::default();
    }

    /// Says what is still to be done to the packet: after [`Self::set_len`].
    pub fn set_offload(&mut self, offload: Offload) {
        self.offload = offload;
    }

    /// What is still to be done to the packet.
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// Replaces the packet with a copy; false (and empty) when it is longer than the room.
    pub fn copy_from(&mut self, packet: &[u8]) -> bool {
        self.set_len(0);
        let Some(room) = self.room_mut().get_mut(..packet.len()) else { return false };
        room.copy_from_slice(packet);
        self.set_len(packet.len());
        true
    }

    /// The packet.
    pub fn packet(&self) -> &[u8] {
        self.bytes.get(HEADROOM..HEADROOM + self.len).unwrap_or_default()
    }

    /// The packet, to be changed in place.
    pub fn packet_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(HEADROOM..HEADROOM + self.len).unwrap_or_default()
    }
}

impl Default for PacketBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A received datagram, or a super-datagram of equally long ones.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where it came to and where it came from.
    pub path: UdpPath,
    /// ECN field of the outer IPv4 header (RFC 3168 §5): the two low bits of its TOS octet.
    pub ecn: u8,
    /// UDP payload. Longer than `stride` when several datagrams of that length (the last may be shorter) arrived
    /// as one.
    pub bytes: &'a [u8],
    /// Length of each datagram in `bytes`; never 0.
    pub stride: usize,
}

impl<'a> Datagram<'a> {
    /// Every datagram in it, in the order of arrival. An empty datagram is one empty slice.
    pub fn payloads(self) -> impl Iterator<Item = &'a [u8]> {
        let empty = self.bytes.is_empty().then_some(self.bytes);
        empty.into_iter().chain(self.bytes.chunks(self.stride.max(1)))
    }
}

/// What a receive slot holds.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it came to and where it came from.
    pub path: UdpPath,
    /// ECN field of the outer header.
    pub ecn: u8,
    /// Octets in the slot.
    pub len: usize,
    /// Length of each datagram in the slot; `len` when there is only one.
    pub stride: usize,
}

/// Room for [`RECEIVE_SLOTS`] received datagrams or super-datagrams. The pages of a slot cost memory only once a
/// datagram was that long: 2 MiB at most.
///
/// How many slots are offered follows from what arrived last: few while super-datagrams come, so that they stay in the
/// cache; twice as many as were needed while single datagrams come, so that a system call takes many of a flood, and asking
/// for a lone one does not cost as much as asking for many.
pub struct ReceiveBatch {
    bytes: Box<[u8]>,
    arrivals: [Option<Arrival>; RECEIVE_SLOTS],
    slot: usize,
    offered: usize,
    lost: u64,
}

impl ReceiveBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::with_slots_of(SLOT)
    }

    /// The same with shorter slots, which a datagram may not fit.
    pub(crate) fn with_slots_of(slot: usize) -> Self {
        let slot = slot.max(1);
        Self {
            bytes: vec![0; RECEIVE_SLOTS * slot].into_boxed_slice(),
            arrivals: [None; RECEIVE_SLOTS],
            slot,
            offered: SUPER_SLOTS,
            lost: 0,
        }
    }

    /// Forgets what arrived.
    pub fn clear(&mut self) {
        let lengths = self.arrivals.iter().flatten().map(|arrival| arrival.len);
        let (count, octets) = lengths.fold((0, 0), |(count, octets), len| (count + 1, octets + len));
        if count != 0 {
            let singles = (2 * count).clamp(LONE_SLOTS, RECEIVE_SLOTS);
            self.offered = if octets > count * SUPER_LEN { SUPER_SLOTS } else { singles };
        }
        self.arrivals = [None; RECEIVE_SLOTS];
        self.lost = 0;
    }

    /// The slots to receive into, with [`SLOT`] octets each: at least one, at most [`RECEIVE_SLOTS`].
    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_exact_mut(self.slot).take(self.offered)
    }

    /// Says what slot `index` holds now; an index beyond the batch is ignored.
    pub fn arrived(&mut self, index: usize, arrival: Arrival) {
        if let Some(place) = self.arrivals.get_mut(index) {
            *place = Some(arrival);
        }
    }

    /// True when every slot that was offered was used, so that more may be there.
    pub fn is_full(&self) -> bool {
        let used = self.arrivals.iter().flatten().count() as u64 + self.lost;
        used >= self.offered as u64
    }

    /// Says that a slot holds nothing of use: the datagram was cut short, or nobody knows where it came to.
    pub fn spoiled(&mut self) {
        self.lost += 1;
    }

    /// How many slots were spoiled since the batch was cleared.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What arrived, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.bytes.chunks_exact(self.slot).zip(&self.arrivals).filter_map(|(slot, arrival)| {
            let Arrival { path, ecn, len, stride } = (*arrival)?;
            Some(Datagram { path, ecn, bytes: slot.get(..len)?, stride: stride.max(1) })
        })
    }
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// From where and to where.
    pub path: UdpPath,
    /// ECN field for the outer header.
    pub ecn: u8,
    /// UDP payload.
    pub bytes: &'a [u8],
}

/// Datagrams that one message can carry: the system cuts `bytes` every `segment` octets. They are alike in path and ECN
/// field and equally long, but the last of three or more, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// From where and to where.
    pub path: UdpPath,
    /// ECN field for the outer headers.
    pub ecn: u8,
    /// The UDP payloads, one behind the other.
    pub bytes: &'a [u8],
    /// Octets of each datagram but the last; 0 only for a single empty one.
    pub segment: usize,
    /// Number of datagrams, at least 1.
    pub count: usize,
}

/// A queue of datagrams as [`Run`]s, in order.
#[derive(Clone)]
pub struct Runs<'a> {
    bytes: &'a [u8],
    queue: &'a [Queued],
    most: usize,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let (first, others) = self.queue.split_first()?;
        let Range { start, mut end } = first.range.clone();
        let segment = first.range.len();
        let mut count = 1;
        for other in others {
            // An empty datagram cannot be a segment: neither the only length of a run nor its end.
            let len = other.range.len();
            // One behind a single longer one goes alone. Where the network is virtual a message can reach a narrow link whole, and
            // is lost there whole: with a probe of the path's MTU its companion would be, which says that small ones pass.
            let is_tail = len < segment && count == 1;
            let fits = count < self.most
                && !is_tail
                && (1..=segment).contains(&len)
                && other.range.start == end
                && other.range.end - start <= MAX_RUN
                && other.ecn == first.ecn
                && (other.path.local, other.path.remote) == (first.path.local, first.path.remote);
            if !fits {
                break;
            }
            end = other.range.end;
            count += 1;
            if len < segment {
                break;
            }
        }
        self.queue = self.queue.get(count..).unwrap_or_default();
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        Some(Run { path: first.path, ecn: first.ecn, bytes, segment, count })
    }
}

#[derive(Clone)]
struct Queued {
    path: UdpPath,
    ecn: u8,
    range: Range<usize>,
}

/// Datagrams that leave together, one behind the other in one buffer.
pub struct SendBatch {
    bytes: Box<[u8]>,
    used: usize,
    queue: Vec<Queued>,
}

impl SendBatch {
    /// An empty batch; allocates all that it will ever need.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; SEND_ROOM].into_boxed_slice(),
            used: 0,
            queue: Vec::with_capacity(SEND_DATAGRAMS),
        }
    }

    /// Room for one more datagram of at most `len` octets, or `None` when the batch must be sent first. Nothing is
    /// queued until [`Reserved::commit`].
    pub fn reserve(&mut self, len: usize) -> Option<Reserved<'_>> {
        let end = self.used.checked_add(len)?;
        (self.queue.len() < SEND_DATAGRAMS && end <= self.bytes.len())
            .then_some(Reserved { end, batch: self })
    }

    /// True when a datagram of `len` octets fits an empty batch.
    pub fn could_hold(&self, len: usize) -> bool {
        len <= self.bytes.len()
    }

    /// True when it is time to send although there may be more: what is added now would begin another message.
    pub fn is_due(&self) -> bool {
        self.used >= DUE || self.queue.len() >= MAX_SEGMENTS
    }

    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Number of datagrams.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Forgets the datagrams; the room stays.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.used = 0;
    }

    /// The datagrams, in the order in which they were committed.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = Outgoing<'_>> {
        self.queue.iter().map(|queued| Outgoing {
            path: queued.path,
            ecn: queued.ecn,
            bytes: self.bytes.get(queued.range.clone()).unwrap_or_default(),
        })
    }

    /// The datagrams with these indices as runs of at most `most`; with 1 each is a run of its own.
    pub fn runs(&self, which: Range<usize>, most: usize) -> Runs<'_> {
        Runs { bytes: &self.bytes, queue: self.queue.get(which).unwrap_or_default(), most }
    }
}

impl Default for SendBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// Room in a [`SendBatch`]. Dropping it without a commit leaves the batch as it was.
pub struct Reserved<'a> {
    batch: &'a mut SendBatch,
    end: usize,
}

impl Reserved<'_> {
    /// Where to write the datagram.
    pub fn room_mut(&mut self) -> &mut [u8] {
        self.batch.bytes.get_mut(self.batch.used..self.end).unwrap_or_default()
    }

    /// Queues the first `len` octets of the room (at most all of it).
    pub fn commit(self, path: UdpPath, ecn: u8, len: usize) {
        let end = self.end.min(self.batch.used + len);
        self.batch.queue.push(Queued { path, ecn, range: self.batch.used..end });
        self.batch.used = end;
    }
}

/// What became of a [`SendBatch`], in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Handed to the kernel.
    pub sent: u64,
    /// Larger than the path's MTU (EMSGSIZE): the do-not-fragment bit is set.
    pub too_big: u64,
    /// No route, or the local address is gone (ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, EINVAL).
    pub unreachable: u64,
    /// Forbidden by a packet filter (EPERM, EACCES).
    pub forbidden: u64,
    /// The send buffer stayed full, or memory was short.
    pub congested: u64,
    /// Anything else.
    pub failed: u64,
}

/// Where packets of this machine's applications come from.
pub trait TunRead: Send + 'static {
    /// Takes one packet without waiting; false when there is none.
    ///
    /// # Errors
    /// The device is gone or broken: the worker gives up.
    fn try_read(&mut self, buffer: &mut PacketBuffer) -> io::Result<bool>;

    /// What [`UdpReceive::wait_with`] can wait for; `None`, and a thread of its own waits with [`Self::wait`].
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Waits until a packet is there or the [`Stop`] that this source was made with is set.
    ///
    /// # Errors
    /// As [`Self::try_read`].
    fn wait(&mut self) -> io::Result<()>;
}

/// Where packets for this machine's applications go.
pub trait TunWrite: Send + 'static {
    /// Hands one packet to the machine. The buffer's headroom may be written to.
    ///
    /// # Errors
    /// The packet was not taken; later ones may be.
    fn write(&mut self, buffer: &mut PacketBuffer) -> io::Result<()>;

    /// Which super-packets it takes: none, unless it says so.
    fn accepts(&self) -> Accepts {
        Accepts::default()
    }
}

/// Where datagrams come from.
pub trait UdpReceive: Send + 'static {
    /// Takes what is there without waiting, at most one batch (the batch is cleared first); false when there was
    /// nothing.
    ///
    /// # Errors
    /// The socket is broken: the worker gives up. Errors that one peer can cause (ICMP) are not reported.
    fn try_receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<bool>;

    /// Waits until a datagram is there or the [`Stop`] that this source was made with is set.
    ///
    /// # Errors
    /// As [`Self::try_receive`].
    fn wait(&mut self) -> io::Result<()>;

    /// The same, or until `other` can be read. A source that cannot wait for anything else does not: whoever has a
    /// descriptor for it to wait for has a source that can.
    ///
    /// # Errors
    /// As [`Self::try_receive`].
    fn wait_with(&mut self, other: BorrowedFd<'_>) -> io::Result<Woken> {
        let _ = other;
        self.wait().map(|()| Woken::Datagram)
    }
}

/// What ended a wait for datagrams and for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A datagram, perhaps among others; or the [`Stop`].
    Datagram,
    /// The other descriptor can be read, and there is no datagram.
    Other,
    /// The other descriptor is broken: whatever was behind it is no more.
    Gone,
}

/// Where datagrams go. Shared by a worker and the control plane.
pub trait UdpSend: Send + Sync + 'static {
    /// Sends every datagram. One that cannot be sent never keeps the others back.
    fn send(&self, batch: &SendBatch) -> SendReport;

    /// Sends one datagram without waiting: for the control plane.
    ///
    /// # Errors
    /// The system's reason; the datagram is lost, as datagrams may be.
    fn send_to(&self, path: UdpPath, datagram: &[u8]) -> io::Result<()>;
}

/// Tells the workers to end. Setting it makes every `wait` of the sources that share it return at once.
pub trait Stop: Send + Sync + 'static {
    /// Sets it, for good.
    fn stop(&self);

    /// True once it was set.
    fn is_stopped(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> UdpPath {
        UdpPath::direct("192.0.2.1:4500".parse().unwrap(), "192.0.2.2:4500".parse().unwrap())
    }

    #[test]
    fn reserve_without_commit_leaves_no_trace() {
        let mut batch = SendBatch::new();
        batch.reserve(10).unwrap().room_mut().fill(7);
        assert!(batch.is_empty());
        let mut reserved = batch.reserve(10).unwrap();
        assert_eq!(reserved.room_mut().len(), 10);
        reserved.room_mut().fill(9);
        reserved.commit(path(), 1, 4);
        let sent: Vec<_> =
            batch.datagrams().map(|datagram| (datagram.ecn, datagram.bytes.to_vec())).collect();
        assert_eq!(sent, [(1, vec![9; 4])]);
    }

    #[test]
    fn a_batch_ends_by_count_and_by_octets() {
        let mut batch = SendBatch::new();
        for _ in 0..SEND_DATAGRAMS {
            batch.reserve(1).unwrap().commit(path(), 0, 1);
        }
        assert!(batch.reserve(1).is_none());
        batch.clear();
        assert!(batch.reserve(SEND_ROOM + 1).is_none());
        assert!(!batch.could_hold(SEND_ROOM + 1));
        batch.reserve(SEND_ROOM).unwrap().commit(path(), 0, SEND_ROOM);
        assert!(batch.reserve(1).is_none());
        assert!(batch.reserve(usize::MAX).is_none());
    }

    #[test]
    fn a_super_datagram_is_walked_by_its_stride() {
        let bytes = [1, 2, 3, 4, 5];
        let lengths = |bytes, stride| -> Vec<usize> {
            Datagram { path: path(), ecn: 0, bytes, stride }.payloads().map(<[u8]>::len).collect()
        };
        assert_eq!(lengths(&bytes, 2), [2, 2, 1]);
        assert_eq!(lengths(&bytes, 5), [5]);
        assert_eq!(lengths(&[], 1), [0]);
    }

    #[test]
    fn a_packet_keeps_its_headroom() {
        let mut buffer = PacketBuffer::new();
        assert!(buffer.copy_from(&[6; 100]));
        assert_eq!(buffer.packet(), [6; 100]);
        assert!(!buffer.copy_from(&vec![0; MAX_PACKET + 1]));
        assert!(buffer.packet().is_empty());
        assert_eq!(buffer.room_mut().len(), MAX_PACKET);
    }
}
