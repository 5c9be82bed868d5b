//! UDP sockets over IPv4: one for ESP and IKE, one more for IKE on port 500.
//!
//! The don't-fragment bit is always set, with IP_PMTUDISC_PROBE: the kernel then neither fragments nor believes
//! ICMP messages about a path's MTU, which anybody can forge (RFC 8899 §3). A datagram above the interface's MTU is
//! refused with EMSGSIZE and counted.
//!
//! Runs of datagrams leave as one message (UDP_SEGMENT) and arrive as one (UDP_GRO), where the kernel can. Both only
//! change how fast it goes: a run that is refused as a whole, for whatever reason, is sent again datagram by datagram,
//! so that each has the fate that it would have had alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::sys::{self, Readiness, StopEvent};
use super::{mmsg, steer, sys::set_ip_option};
use crate::dataplane::batch::{
    MAX_SEGMENTS, ReceiveBatch, Run, SendBatch, SendReport, UdpReceive, UdpSend, Woken,
};
use crate::dataplane::event::UdpPath;
use crate::dataplane::offload::Features;

/// Octets of socket buffer asked for: at 8 Gbit/s 8 MiB are 8 ms, the time that a worker may lose its processor.
const SOCKET_BUFFER: usize = 8 << 20;

/// So long datagrams leave one by one after the system refused a run of them: what was refused by one network device is
/// taken by another one.
const SEGMENTATION_PAUSE: Duration = Duration::from_secs(60);

/// How long a worker may wait for room in the send buffer: well below the 100 ms within which it must stop.
const SEND_PATIENCE: Duration = Duration::from_millis(40);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has the port.
    #[error(
        "UDP port {port} is in use: stop the other IPsec program (or another domicile) on this machine, or choose another port"
    )]
    InUse {
        /// The port.
        port: u16,
    },
    /// A privileged port.
    #[error(
        "UDP port {port} needs CAP_NET_BIND_SERVICE: run as root, give the program that capability, or choose a port above 1023"
    )]
    Permission {
        /// The port.
        port: u16,
    },
    /// Anything else.
    #[error("the UDP socket on port {port} cannot be opened: {source}")]
    Other {
        /// The port.
        port: u16,
        /// The system's reason.
        source: io::Error,
    },
}

/// A bound socket. Clones share it: workers and the control plane may send at once.
#[derive(Clone)]
pub struct Udp {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    socket: Socket,
    /// From when on runs leave as one message, in milliseconds of our clock: 0 until the system refuses one, `u64::MAX`
    /// where that cannot be.
    segments_from: AtomicU64,
    /// Runs arrive as one message.
    joins: bool,
}

impl Udp {
    /// Binds `address` (unspecified: every local address) and `port` (0: any; see [`Udp::port`]), with the offloads that
    /// `features` allow and the kernel has.
    ///
    /// # Errors
    /// [`BindError`], in words for a person.
    pub fn bind(address: Ipv4Addr, port: u16, features: Features) -> Result<Self, BindError> {
        let address = SocketAddrV4::new(address, port);
        Self::try_bind(address, features, false).map_err(|source| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => BindError::InUse { port },
            Some(libc::EACCES | libc::EPERM) => BindError::Permission { port },
            _ => BindError::Other { port, source },
        })
    }

    /// Binds up to `count` sockets to one port, for as many workers: one, and the others. An incoming datagram goes to one
    /// of them, by its SPI (anything but ESP goes to the first). What a kernel cannot share is fewer sockets.
    ///
    /// # Errors
    /// [`BindError`] about the first one, which is bound alone: a port that somebody has is not shared with him.
    pub fn bind_several(
        address: Ipv4Addr,
        port: u16,
        features: Features,
        count: usize,
    ) -> Result<(Self, Vec<Self>), BindError> {
        let first = Self::bind(address, port, features)?;
        let mut others = Vec::new();
        if count > 1 && first.shared.socket.set_reuse_port(true).is_ok() {
            let shared = SocketAddrV4::new(address, first.port);
            others.extend((1..count).map_while(|_| Self::try_bind(shared, features, true).ok()));
        }
        if let Ok(more @ 1..) = u32::try_from(others.len()) {
            // Without it the sender's address and port choose: an SA still has one worker, unless it moves.
            let _ = steer::by_spi(first.shared.socket.as_fd(), more + 1);
        }
        Ok((first, others))
    }

    fn try_bind(address: SocketAddrV4, features: Features, shared: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        set_ip_option(socket.as_fd(), libc::IP_PKTINFO, 1)?;
        set_ip_option(socket.as_fd(), libc::IP_RECVTOS, 1)?;
        set_ip_option(socket.as_fd(), libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
        sys::set_socket_buffers(socket.as_fd(), SOCKET_BUFFER);
        socket.set_write_timeout(Some(SEND_PATIENCE))?;
        // Since Linux 5.0. An older kernel gives single datagrams, which is all that is lost.
        let joins = features.udp_gro && sys::set_udp_option(socket.as_fd(), libc::UDP_GRO, 1).is_ok();
        socket.bind(&SocketAddr::V4(address).into())?;
        let port = match socket.local_addr()?.as_socket_ipv4() {
            Some(local) => local.port(),
            None => return Err(io::Error::other("the socket is not an IPv4 socket")),
        };
        // Since Linux 4.18. An older kernel ignores the control message and would send a run as one large datagram.
        let segmentation =
            features.udp_gso && sys::set_udp_option(socket.as_fd(), libc::UDP_SEGMENT, 0).is_ok();
        let segments_from = AtomicU64::new(if segmentation { 0 } else { u64::MAX });
        Ok(Self { shared: Arc::new(Shared { socket, segments_from, joins }), port })
    }

    /// True while runs of datagrams leave as one message: false without the feature, without the kernel's help, and
    /// for a minute after it was refused.
    pub fn segments(&self) -> bool {
        match self.shared.segments_from.load(Ordering::Relaxed) {
            0 => true,
            u64::MAX => false,
            from => from <= millis(sys::monotonic()),
        }
    }

    /// True when runs of datagrams arrive as one message.
    pub fn joins(&self) -> bool {
        self.shared.joins
    }

    /// The local port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Pauses segmentation: a system that refuses it would refuse each message first.
    fn without_segmentation(&self, error: &io::Error) {
        let until = millis(sys::monotonic() + SEGMENTATION_PAUSE);
        if self.shared.segments_from.swap(until, Ordering::Relaxed) == 0 {
            let port = self.port;
            tracing::warn!(port, %error, "the system refuses UDP segmentation offload: datagrams leave one by one, which is slower");
        }
    }

    /// The receiving side. The wait ends when `stop` is set.
    pub fn receiver(&self, stop: StopEvent) -> UdpReceiver {
        UdpReceiver { shared: Arc::clone(&self.shared), port: self.port, stop }
    }
}

impl UdpSend for Udp {
    fn send(&self, batch: &SendBatch) -> SendReport {
        let mut report = SendReport::default();
        let mut done = 0;
        // Up to here datagrams go one by one, because they were refused as a run; and whether they go at all tells
        // whether segmentation is to blame.
        let mut single_until = 0;
        let mut suspect = None;
        while done < batch.len() {
            let runs = if done < single_until {
                batch.runs(done..single_until, 1)
            } else {
                batch.runs(done..batch.len(), if self.segments() { MAX_SEGMENTS } else { 1 })
            };
            match mmsg::send(self.shared.socket.as_fd(), runs.clone(), 0) {
                Ok(sent) => {
                    if let Some(error) = suspect.take() {
                        self.without_segmentation(&error);
                    }
                    let sent: usize = runs.take(sent).map(|run| run.count).sum();
                    report.sent += sent as u64;
                    // Zero is impossible for a non-empty batch; one step keeps the loop finite all the same.
                    done += sent.max(1);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The patience is for the whole batch: what is left would only wait once more.
                    report.congested += (batch.len() - done) as u64;
                    return report;
                }
                Err(error) => {
                    let together: usize = runs.take(1).map(|run| run.count).sum();
                    if together > 1 {
                        single_until = done + together;
                        // EIO: no checksum offload, or IPsec of the kernel on the way. EINVAL: among many things.
                        let by_segmentation = matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL));
                        suspect = by_segmentation.then_some(error);
                    } else {
                        // Alone it is refused, too: a lost local address and, until Linux 6.14, a segment larger than
                        // the MTU are EINVAL as well.
                        suspect = None;
                        *blame(&mut report, &error) += 1;
                        done += 1;
                    }
                }
            }
        }
        report
    }

    fn send_to(&self, path: UdpPath, datagram: &[u8]) -> io::Result<()> {
        let one = Run { path, ecn: 0, bytes: datagram, segment: datagram.len(), count: 1 };
        loop {
            match mmsg::send(self.shared.socket.as_fd(), std::iter::once(one), libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(drop),
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}

/// This machine's own link does not take so large a datagram.
pub fn is_above_link_mtu(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// The counter for an error of the first datagram.
fn blame<'a>(report: &'a mut SendReport, error: &io::Error) -> &'a mut u64 {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => &mut report.too_big,
        // EINVAL: the local address in IP_PKTINFO is not ours any more.
        Some(
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL | libc::EINVAL,
        ) => &mut report.unreachable,
        Some(libc::EPERM | libc::EACCES) => &mut report.forbidden,
        Some(libc::ENOBUFS | libc::ENOMEM) => &mut report.congested,
        _ => &mut report.failed,
    }
}

/// The receiving side of a [`Udp`].
pub struct UdpReceiver {
    shared: Arc<Shared>,
    port: u16,
    stop: StopEvent,
}

impl UdpReceiver {
    /// Taking a pending error clears it.
    fn clear(&self, found: Readiness) -> io::Result<()> {
        if found == Readiness::Broken {
            self.shared.socket.take_error()?;
        }
        Ok(())
    }
}

impl UdpReceive for UdpReceiver {
    fn try_receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<bool> {
        match mmsg::receive(self.shared.socket.as_fd(), self.port, batch) {
            Ok(count) => Ok(count != 0),
            Err(error) => match error.raw_os_error() {
                Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL) => Err(error),
                // Nothing there, or an error that a peer or a moment's shortage caused: it was taken with this call.
                _ => Ok(false),
            },
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let [found, _] = sys::wait_readable(self.shared.socket.as_fd(), None, &self.stop)?;
        self.clear(found)
    }

    fn wait_with(&mut self, other: BorrowedFd<'_>) -> io::Result<Woken> {
        let [found, beside] = sys::wait_readable(self.shared.socket.as_fd(), Some(other), &self.stop)?;
        self.clear(found)?;
        Ok(match (found, beside) {
            (_, Readiness::Broken) => Woken::Gone,
            (Readiness::Nothing, Readiness::Readable) => Woken::Other,
            _ => Woken::Datagram,
        })
    }
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "udp_offload_tests.rs"]
mod offload_tests;
