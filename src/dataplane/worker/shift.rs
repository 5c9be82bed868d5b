//! Who reads the TUN.
//!
//! U does, while what comes from there is brief: it waits for datagrams and packets at once. What U delivers is often
//! answered at once (an echo, an acknowledgement), and U is awake then, while another thread would have to be woken, which costs
//! more than all the rest that is done for a small packet. Bulk is T's: a thread of its own, so that
//! sealing and opening go on side by side. With one CPU there is no T.
//!
//! The outbound side is handed over whole, so that there is one reader at a time, who reads, seals and sends: that keeps the order.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};

use super::outbound::Outbound;
use crate::dataplane::batch::{Stop, TunRead, TunWrite, UdpReceive, UdpSend, Woken};

/// So many turns with bulk in a row, and T takes over: one large answer is no reason to wake anybody.
const BULK: u32 = 8;

/// So many times in a row T was woken for something brief, and U takes over again.
const CALM: u32 = 64;

/// What a turn at the TUN found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// No packet.
    Nothing,
    /// A few small packets.
    Brief,
    /// A super-packet, or many small packets.
    Bulk,
}

/// The whole outbound side.
type Shift<R, W, S> = Box<Outbound<R, W, S>>;

/// U's part.
pub(super) struct Keeper<R, W, S> {
    outbound: Option<Shift<R, W, S>>,
    bulk: u32,
    /// Where it is handed to; `None`: there is no T, or nothing to hand over ever.
    helper: Option<SyncSender<Shift<R, W, S>>>,
    returned: Receiver<Shift<R, W, S>>,
    /// Readable when it was returned: U waits in `poll`.
    bell: UnixStream,
}

/// T.
pub(super) struct Helper<R, W, S> {
    given: Receiver<Shift<R, W, S>>,
    /// `None`: it has the TUN for good.
    back: Option<SyncSender<Shift<R, W, S>>>,
    bell: UnixStream,
    stop: Arc<dyn Stop>,
}

/// U's part and T.
type Division<R, W, S> = (Keeper<R, W, S>, Option<Helper<R, W, S>>);

/// Divides the work between U and T: T is there unless there is a `single` CPU, and has the TUN for good where that is
/// nothing that U could wait for.
///
/// # Errors
/// The process has no file descriptor left.
pub(super) fn divide<R: TunRead, W: TunWrite, S: UdpSend>(
    outbound: Outbound<R, W, S>,
    stop: Arc<dyn Stop>,
    single: bool,
) -> io::Result<Division<R, W, S>> {
    let (near, far) = UnixStream::pair()?;
    let (give, given) = mpsc::sync_channel(1);
    let (back, returned) = mpsc::sync_channel(1);
    let (is_shared, outbound) = (outbound.can_be_waited_for(), Box::new(outbound));
    let kept = if is_shared {
        Some(outbound)
    } else {
        // The channel is empty.
        let _ = give.try_send(outbound);
        None
    };
    let has_helper = !(is_shared && single);
    let giver = (is_shared && has_helper).then_some(give);
    let keeper = Keeper { outbound: kept, bulk: 0, helper: giver, returned, bell: near };
    let helper = Helper { given, back: is_shared.then_some(back), bell: far, stop };
    Ok((keeper, has_helper.then_some(helper)))
}

impl<R: TunRead, W: TunWrite, S: UdpSend> Keeper<R, W, S> {
    /// Sends what is there, within limits.
    ///
    /// # Errors
    /// The TUN is gone, or the thread that had it.
    pub(super) fn turn(&mut self) -> io::Result<Turn> {
        if self.outbound.is_none() {
            self.take_back()?;
        }
        let Some(outbound) = &mut self.outbound else { return Ok(Turn::Nothing) };
        let turn = outbound.turn()?;
        match turn {
            Turn::Nothing => {}
            Turn::Brief => self.bulk = 0,
            Turn::Bulk => {
                self.bulk += 1;
                if self.bulk >= BULK {
                    self.hand_over();
                }
            }
        }
        Ok(turn)
    }

    fn take_back(&mut self) -> io::Result<()> {
        self.outbound = self.returned.try_recv().ok();
        if self.outbound.is_some() {
            // The bell is rung right behind it.
            self.bell.read_exact(&mut [0])?;
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        self.bulk = 0;
        let Some(helper) = &self.helper else { return };
        if let Some(outbound) = self.outbound.take()
            && let Err(TrySendError::Full(kept) | TrySendError::Disconnected(kept)) =
                helper.try_send(outbound)
        {
            self.outbound = Some(kept);
        }
    }

    /// Waits until there is a datagram, a packet if the TUN is ours, or the TUN is ours again. True when it is about a
    /// datagram.
    ///
    /// # Errors
    /// The socket is gone, or the TUN, or the thread that had it.
    pub(super) fn wait(&self, socket: &mut impl UdpReceive) -> io::Result<bool> {
        let (woken, gone) = match &self.outbound {
            Some(outbound) => (outbound.wait_with(socket)?, "the TUN device was removed"),
            None => (socket.wait_with(self.bell.as_fd())?, "the thread that read the TUN device has ended"),
        };
        match woken {
            Woken::Datagram => Ok(true),
            Woken::Other => Ok(false),
            Woken::Gone => Err(io::Error::other(gone)),
        }
    }
}

impl<R: TunRead, W: TunWrite, S: UdpSend> Helper<R, W, S> {
    pub(super) fn run(mut self) -> io::Result<()> {
        // U ends when it is time to stop, and the channel with it.
        while let Ok(mut outbound) = self.given.recv() {
            let mut calm = 0;
            while self.back.is_none() || calm < CALM {
                outbound.wait()?;
                if self.stop.is_stopped() {
                    return Ok(());
                }
                calm = if outbound.drain()? == Turn::Bulk { 0 } else { calm.saturating_add(1) };
            }
            if let Some(back) = &self.back
                && back.try_send(outbound).is_ok()
            {
                self.bell.write_all(&[1])?;
            }
        }
        Ok(())
    }
}
