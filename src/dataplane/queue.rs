//! The one bounded queue from the workers to the control plane.

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::event::{Control, Event, UdpPath};

/// Events that may wait. The control plane handles one in well under a millisecond, so that a full queue is about
/// half a second of work.
pub const CAPACITY: usize = 1024;

/// Places that acquiring packets leave free: what the data plane tells about SAs is never more than a few events
/// per SA, but a rekey depends on it.
const RESERVED_FOR_SAS: usize = 128;

/// Places that IKE messages leave free, so that a flood of them from outside keeps neither our own applications'
/// packets nor the news about SAs from the control plane.
const RESERVED_FROM_IKE: usize = 384;

/// Longest IKE message that is passed on. RFC 7296 §2 asks for 3,000 octets; certificates and fragments of foreign
/// peers stay below this, too. Bounds the queue's memory to about 10 MiB.
pub const MAX_IKE_MESSAGE: usize = 16 << 10;

/// Longest control packet that is passed on: a path's MTU is proven with packets as large as the configuration takes.
pub const MAX_CONTROL: usize = 9 << 10;

/// The workers' end; clones lead to the same queue.
#[derive(Clone)]
pub struct EventQueue {
    sender: Sender<Event>,
}

/// A queue and the control plane's end of it.
pub fn new() -> (EventQueue, Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (EventQueue { sender }, receiver)
}

impl EventQueue {
    /// News about an SA. False: the queue is full, and the event is lost.
    #[must_use]
    pub fn tell(&self, event: Event) -> bool {
        self.sender.try_send(event).is_ok()
    }

    /// A packet that needs an SA. Copies it only when there is a place.
    #[must_use]
    pub fn acquire(&self, packet: &[u8]) -> bool {
        self.sender.capacity() > RESERVED_FOR_SAS && self.tell(Event::Acquire { packet: packet.to_vec() })
    }

    /// What an authenticated peer says to the control plane; it may not keep our own packets from it either.
    #[must_use]
    pub fn control(&self, spi: u32, path: UdpPath, what: impl FnOnce() -> Control) -> bool {
        self.sender.capacity() > RESERVED_FROM_IKE && self.tell(Event::Control { spi, path, what: what() })
    }

    /// An IKE message. Copies it only when there is a place.
    #[must_use]
    pub fn ike(&self, path: UdpPath, message: &[u8]) -> bool {
        self.sender.capacity() > RESERVED_FROM_IKE
            && self.tell(Event::Ike { path, message: message.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_ike_leaves_room_for_the_rest() {
        let path = UdpPath::direct("192.0.2.1:4500".parse().unwrap(), "192.0.2.2:4500".parse().unwrap());
        let (queue, mut receiver) = new();
        let taken = (0..10 * CAPACITY).filter(|_| queue.ike(path, b"flood")).count();
        assert_eq!(taken, CAPACITY - RESERVED_FROM_IKE);
        let taken = (0..10 * CAPACITY).filter(|_| queue.acquire(b"packet")).count();
        assert_eq!(taken, RESERVED_FROM_IKE - RESERVED_FOR_SAS);
        assert!(queue.tell(Event::FirstPacket { spi: 1 }));
        assert!(matches!(receiver.try_recv(), Ok(Event::Ike { .. })));
    }

    #[test]
    fn a_queue_that_nobody_reads_any_more_takes_nothing() {
        let (queue, receiver) = new();
        drop(receiver);
        assert!(!queue.tell(Event::FirstPacket { spi: 1 }));
        assert!(!queue.acquire(b"packet"));
    }
}
