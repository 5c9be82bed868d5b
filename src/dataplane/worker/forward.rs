//! What becomes of relayed packets: those for us come back, a home agent sends on the others without opening them.

use std::time::Duration;

use super::Desk;
use crate::dataplane::batch::{SendBatch, UdpSend};
use crate::dataplane::event::UdpPath;
use crate::dataplane::relay::{self, Relay, Relayed, Verdict};

/// The relay of U.
pub(super) struct Forward<S> {
    relay: Relay,
    /// What is known about the last packet of this batch.
    run: relay::Run,
    socket: S,
    batch: SendBatch,
}

impl<S: UdpSend> Forward<S> {
    pub(super) fn new(relay: Relay, socket: S) -> Self {
        Self { relay, run: relay::Run::default(), socket, batch: SendBatch::new() }
    }

    /// The packet, if it is for us.
    pub(super) fn handle<'a>(
        &mut self,
        desk: &Desk,
        packet: &'a [u8],
        path: UdpPath,
        ecn: u8,
        now: Duration,
    ) -> Option<Relayed<'a>> {
        match self.relay.decide_in(&mut self.run, packet, path.remote, now) {
            Verdict::Forward { to, hop_limit } => {
                self.put(desk, UdpPath::direct(path.local, to), ecn, packet.len(), |room| {
                    room.copy_from_slice(packet);
                    relay::rewrite(room, hop_limit);
                    Some(packet.len())
                });
            }
            Verdict::Unreachable => {
                self.put(desk, path, 0, packet.len(), |room| relay::unreachable(packet, room));
            }
            Verdict::Local(relayed) => return Some(relayed),
            Verdict::Refused(_) => {}
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
    pub(super) fn flush_if_due(&mut self, desk: &Desk) {
        if self.batch.is_due() {
            self.flush(desk);
        }
    }

    /// Sends what there is, and forgets what was looked up: tables may change now.
    pub(super) fn end_batch(&mut self, desk: &Desk) {
        self.run = relay::Run::default();
        self.flush(desk);
    }

    fn flush(&mut self, desk: &Desk) {
        if !self.batch.is_empty() {
            desk.counters.report(self.socket.send(&self.batch));
            self.batch.clear();
        }
    }
}
