//! UDP sockets over IPv4: one for ESP and IKE, one more for IKE on port 500.
//!
//! The don't-fragment bit is always set, with IP_PMTUDISC_PROBE: the kernel then neither fragments nor believes
//! ICMP messages about a path's MTU, which anybody can forge (RFC 8899 §3). A datagram above the interface's MTU is
//! refused with EMSGSIZE and counted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::sys::{self, Readiness, StopEvent};
use super::{mmsg, sys::set_ip_option};
use crate::dataplane::batch::{Outgoing, ReceiveBatch, SendBatch, SendReport, UdpReceive, UdpSend};
use crate::dataplane::event::UdpPath;
use crate::dataplane::offload::Features;

/// Octets of socket buffer asked for: at 8 Gbit/s 8 MiB are 8 ms, the time that a worker may lose its processor.
const SOCKET_BUFFER: usize = 8 << 20;

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
    socket: Arc<Socket>,
    port: u16,
}

impl Udp {
    /// Binds `address` (unspecified: every local address) and `port` (0: any; see [`Udp::port`]), with the offloads that
    /// `features` allow and the kernel has.
    ///
    /// # Errors
    /// [`BindError`], in words for a person.
    pub fn bind(address: Ipv4Addr, port: u16, _features: Features) -> Result<Self, BindError> {
        Self::try_bind(SocketAddrV4::new(address, port)).map_err(|source| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => BindError::InUse { port },
            Some(libc::EACCES | libc::EPERM) => BindError::Permission { port },
            _ => BindError::Other { port, source },
        })
    }

    fn try_bind(address: SocketAddrV4) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        set_ip_option(socket.as_fd(), libc::IP_PKTINFO, 1)?;
        set_ip_option(socket.as_fd(), libc::IP_RECVTOS, 1)?;
        set_ip_option(socket.as_fd(), libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
        sys::set_socket_buffers(socket.as_fd(), SOCKET_BUFFER);
        socket.set_write_timeout(Some(SEND_PATIENCE))?;
        socket.bind(&SocketAddr::V4(address).into())?;
        let port = match socket.local_addr()?.as_socket_ipv4() {
            Some(local) => local.port(),
            None => return Err(io::Error::other("the socket is not an IPv4 socket")),
        };
        Ok(Self { socket: Arc::new(socket), port })
    }

    /// The local port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The receiving side. The wait ends when `stop` is set.
    pub fn receiver(&self, stop: StopEvent) -> UdpReceiver {
        UdpReceiver { socket: Arc::clone(&self.socket), port: self.port, stop }
    }
}

impl UdpSend for Udp {
    fn send(&self, batch: &SendBatch) -> SendReport {
        let mut report = SendReport::default();
        let mut done = 0;
        while done < batch.len() {
            match mmsg::send(self.socket.as_fd(), batch.datagrams().skip(done), 0) {
                Ok(sent) => {
                    // Zero is impossible for a non-empty batch; one step keeps the loop finite all the same.
                    done += sent.max(1);
                    report.sent += sent as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The patience is for the whole batch: what is left would only wait once more.
                    report.congested += (batch.len() - done) as u64;
                    return report;
                }
                Err(error) => {
                    *blame(&mut report, &error) += 1;
                    done += 1;
                }
            }
        }
        report
    }

    fn send_to(&self, path: UdpPath, datagram: &[u8]) -> io::Result<()> {
        let one = Outgoing { path, ecn: 0, bytes: datagram };
        loop {
            match mmsg::send(self.socket.as_fd(), std::iter::once(one), libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(drop),
            }
        }
    }
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
    socket: Arc<Socket>,
    port: u16,
    stop: StopEvent,
}

impl UdpReceive for UdpReceiver {
    fn try_receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<bool> {
        match mmsg::receive(self.socket.as_fd(), self.port, batch) {
            Ok(count) => Ok(count != 0),
            Err(error) => match error.raw_os_error() {
                Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL) => Err(error),
                // Nothing there, or an error that a peer or a moment's shortage caused: it was taken with this call.
                _ => Ok(false),
            },
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        match sys::wait_readable(self.socket.as_fd(), &self.stop)? {
            Readiness::Readable | Readiness::Stopped => {}
            // Taking the pending error clears it.
            Readiness::Broken => drop(self.socket.take_error()?),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
