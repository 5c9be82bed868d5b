//! The worker threads: for each queue a U (UDP to TUN, and TUN to UDP while that is brief) and a T (TUN to UDP when it is
//! much) and, where there is one, a U for the IKE-only socket on port 500. They block in the sources' `wait` and nowhere else
//! for long, and never wait for the control plane.

mod forward;
mod inbound;
mod outbound;
mod shift;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::{io, mem};

use tokio::sync::mpsc;

use super::batch::{ReceiveBatch, Stop, TunRead, TunWrite, UdpReceive, UdpSend};
use super::counters::{Clock, Counters, DropReason, Summary, ViolationLog};
use super::event::{Event, UdpPath};
use super::queue::{self, EventQueue, MAX_IKE_MESSAGE};
use super::relay::Relay;
use super::tables::Reader;
use forward::Forward;
use inbound::{IkeOnly, Inbound};
use outbound::Outbound;

/// What the workers work on. Everything that waits must have been made with the stop signal of [`start`].
pub struct Edges<R, W, U, S> {
    /// One on a small machine. A flow keeps to one of them, and so does an SA.
    pub queues: Vec<Queue<R, W, U, S>>,
    /// Datagrams with unmarked IKE and nothing else: port 500.
    pub ike_receive: Option<U>,
    /// What decides about relayed packets.
    pub relay: Relay,
    /// Whether packets of a flow are joined for the TUN.
    pub coalesce: bool,
    /// There is one CPU: one thread does both directions.
    pub single: bool,
}

/// What one U and one T work on.
pub struct Queue<R, W, U, S> {
    /// Packets from the applications.
    pub tun_read: R,
    /// Packets to the applications: T answers with ICMPv6 errors there, U delivers.
    pub tun_write: W,
    /// Datagrams with ESP and marked IKE: our port 4500.
    pub udp_receive: U,
    /// Where ESP leaves.
    pub udp_send: S,
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
    let Edges { queues, ike_receive, relay, coalesce, single } = edges;
    // One place per worker: a failure is never lost.
    let (failed, failures) = mpsc::channel(2 * queues.len() + 1);
    let mut workers = Workers { stop, threads: Vec::new(), failures, summary: Summary::default() };

    for Queue { tun_read, tun_write, udp_receive, udp_send } in queues {
        let desk = workers.desk(reader, &queue, clock);
        let outbound = Outbound::new(tun_read, tun_write.clone(), udp_send.clone(), desk);
        let (keeper, helper) = shift::divide(outbound, Arc::clone(&workers.stop), single)?;
        if let Some(helper) = helper {
            workers.spawn("tun", failed.clone(), move || helper.run())?;
        }
        let relay = relay.for_another_worker();
        workers.summary.add_relay(relay.counters());
        let (forward, desk) = (Forward::new(relay, udp_send), workers.desk(reader, &queue, clock));
        let inbound = Inbound::new(udp_receive, tun_write, coalesce, desk, forward, keeper);
        workers.spawn("udp", failed.clone(), move || inbound.run())?;
    }
    if let Some(socket) = ike_receive {
        let ike = IkeOnly::new(socket, workers.desk(reader, &queue, clock));
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
    /// Takes the next batch without waiting; false when there is none, or when it is time to stop.
    fn receive(&self, socket: &mut impl UdpReceive, batch: &mut ReceiveBatch) -> io::Result<bool> {
        let received = !self.stop.is_stopped() && socket.try_receive(batch)?;
        if received {
            self.counters.count_drops(DropReason::Truncated, batch.lost());
        }
        Ok(received)
    }

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
