//! What the worker loops are generic over: sources and sinks of packets, and buffers that own their room.
//!
//! Everything here is shaped for batches and for super-packets, so that offloads change the implementations and
//! not the callers: a [`Datagram`] may be many datagrams of [`Datagram::stride`] octets each (UDP_GRO), a
//! [`SendBatch`] lays datagrams for one path out contiguously (UDP_SEGMENT), and a [`PacketBuffer`] has headroom in
//! front of the packet (a virtio header).

use std::io;
use std::ops::Range;

use super::event::UdpPath;
use super::offload::{Accepts, Offload};

/// Largest IPv6 packet without a jumbogram: header and 65,535 octets.
pub const MAX_PACKET: usize = 40 + 65_535;

/// Octets in front of a packet in a [`PacketBuffer`]: room for a `virtio_net_hdr` (at most 12) and alignment.
pub const HEADROOM: usize = 16;

/// Datagrams in one batch, either way. At 1,500 octets each 32 of them are one 48 KiB send, which still fits the
/// second-level cache together with what they were made from.
pub const BATCH: usize = 32;

/// Octets of a receive slot: UDP allows 65,507 octets of payload over IPv4, and a shorter slot would silently
/// truncate a super-datagram.
pub const SLOT: usize = 1 << 16;

/// Octets in a [`SendBatch`]: the largest packet with ESP around it fits an empty one, and so do [`BATCH`] sealed
/// packets of an Ethernet's size.
const SEND_ROOM: usize = MAX_PACKET + 512;

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

/// Room for [`BATCH`] received datagrams. The pages of a slot cost memory only once a datagram was that long.
pub struct ReceiveBatch {
    bytes: Box<[u8]>,
    arrivals: [Option<Arrival>; BATCH],
}

impl ReceiveBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self { bytes: vec![0; BATCH * SLOT].into_boxed_slice(), arrivals: [None; BATCH] }
    }

    /// Forgets what arrived.
    pub fn clear(&mut self) {
        self.arrivals = [None; BATCH];
    }

    /// The slots to receive into, [`BATCH`] of them with [`SLOT`] octets each.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_exact_mut(SLOT)
    }

    /// Says what slot `index` holds now; an index beyond the batch is ignored.
    pub fn arrived(&mut self, index: usize, arrival: Arrival) {
        if let Some(place) = self.arrivals.get_mut(index) {
            *place = Some(arrival);
        }
    }

    /// What arrived, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.bytes.chunks_exact(SLOT).zip(&self.arrivals).filter_map(|(slot, arrival)| {
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
        Self { bytes: vec![0; SEND_ROOM].into_boxed_slice(), used: 0, queue: Vec::with_capacity(BATCH) }
    }

    /// Room for one more datagram of at most `len` octets, or `None` when the batch must be sent first. Nothing is
    /// queued until [`Reserved::commit`].
    pub fn reserve(&mut self, len: usize) -> Option<Reserved<'_>> {
        let end = self.used.checked_add(len)?;
        (self.queue.len() < BATCH && end <= self.bytes.len()).then_some(Reserved { end, batch: self })
    }

    /// True when a datagram of `len` octets fits an empty batch.
    pub fn could_hold(&self, len: usize) -> bool {
        len <= self.bytes.len()
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
        for _ in 0..BATCH {
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
