//! The TUN device: layer 3, gone with the process that opened it.
//!
//! Where the kernel can, a packet is a super-packet with a `virtio_net_hdr` in front, both ways: one system call for up to
//! 64 KiB. Each step that a kernel refuses is left out: UDP, TCP, the header.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use super::steer;
use super::sys::{self, Readiness, StopEvent};
use super::vnet::{self, UnknownKind};
use crate::dataplane::batch::{PacketBuffer, TunRead, TunWrite};
use crate::dataplane::offload::{Accepts, Features, Offload};

const DEVICE: &str = "/dev/net/tun";

/// Longest name of a network device (IFNAMSIZ less the terminating zero).
const MAX_NAME: usize = 15;

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a name of a network device.
    #[error(
        "'{0}' cannot be the name of a TUN device: use 1 to {MAX_NAME} letters, digits, '-', '_' or '.', not '.' or '..'"
    )]
    Name(String),
    /// No device node.
    #[error(
        "{DEVICE} does not exist: load the kernel's tun module with 'modprobe tun', or pass the device into the container"
    )]
    Missing,
    /// No privilege.
    #[error("opening a TUN device needs CAP_NET_ADMIN: run as root, or give the program that capability")]
    Permission,
    /// Somebody has it.
    #[error(
        "the network device '{0}' exists already: stop the program that uses it, or choose another interface name"
    )]
    InUse(String),
    /// Anything else.
    #[error("the TUN device '{name}' cannot be opened through {DEVICE}: {source}")]
    Other {
        /// Name that was asked for.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// An open TUN device.
pub struct Tun {
    first: Arc<File>,
    /// Its other queues.
    others: Vec<Arc<File>>,
    name: String,
    /// Each packet has a `virtio_net_hdr` in front.
    header: bool,
    accepts: Accepts,
}

/// What the kernel may leave unfinished in what we read, the best first. ECN says that TCP super-packets with CWR may
/// come, too. Linux wants USO for both versions of IP or for none (6.2), although nothing of IPv4 comes this way.
const OFFLOADS: [(libc::c_uint, Accepts); 3] = [
    (TCP | libc::TUN_F_USO4 | libc::TUN_F_USO6, Accepts { tcp: true, udp: true }),
    (TCP, Accepts { tcp: true, udp: false }),
    (libc::TUN_F_CSUM, Accepts { tcp: false, udp: false }),
];
const TCP: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;

impl Tun {
    /// Creates the device, with the offloads that `features` allow and the kernel has. It has no address and is down; it
    /// disappears when the last handle is dropped.
    ///
    /// # Errors
    /// [`OpenError`], in words for a person.
    pub fn open(name: &str, features: Features) -> Result<Self, OpenError> {
        Self::open_queues(name, features, 1)
    }

    /// The same with so many queues, each for a worker of its own; fewer where the kernel has no more. All packets of a flow
    /// come from one of them.
    ///
    /// # Errors
    /// [`OpenError`], in words for a person.
    pub fn open_queues(name: &str, features: Features, queues: usize) -> Result<Self, OpenError> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(named) || [".", ".."].contains(&name)
        {
            return Err(OpenError::Name(name.to_owned()));
        }
        let several = queues > 1;
        let kind = |header| sys::TunKind { header, several, exists: false };
        let (file, header) = match attach(name, kind(features.tun_offload)) {
            // Whatever a kernel has against the header: without it every one of them works.
            Err(OpenError::Other { .. }) if features.tun_offload => (attach(name, kind(false))?, false),
            result => (result?, features.tun_offload),
        };
        let kind = sys::TunKind { header, several, exists: true };
        let others: Vec<_> = (1..queues).map_while(|_| attach(name, kind).ok().map(Arc::new)).collect();
        if !others.is_empty()
            && let Err(error) = steer::by_flow(file.as_fd())
        {
            tracing::debug!(%error, "the kernel chooses the queue of a flow, which it may change once");
        }
        let offloads = OFFLOADS.iter().filter(|_| header);
        let accepts = offloads
            .filter_map(|(bits, accepts)| sys::tun_set_offload(file.as_fd(), *bits).ok().map(|()| *accepts))
            .next();
        let accepts = accepts.unwrap_or_default();
        Ok(Self { first: Arc::new(file), others, name: name.to_owned(), header, accepts })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Packets from the applications, out of the first queue. The wait ends when `stop` is set.
    pub fn reader(&self, stop: StopEvent) -> TunReader {
        self.reader_of(&self.first, stop)
    }

    /// Packets to the applications, into the first queue.
    pub fn writer(&self) -> TunWriter {
        self.writer_of(&self.first)
    }

    /// Both for every queue, the first one included.
    pub fn queues(&self, stop: &StopEvent) -> impl Iterator<Item = (TunReader, TunWriter)> {
        let files = std::iter::once(&self.first).chain(&self.others);
        files.map(|file| (self.reader_of(file, stop.clone()), self.writer_of(file)))
    }

    fn reader_of(&self, file: &Arc<File>, stop: StopEvent) -> TunReader {
        TunReader { file: Arc::clone(file), header: self.header, stop }
    }

    fn writer_of(&self, file: &Arc<File>) -> TunWriter {
        TunWriter { file: Arc::clone(file), header: self.header, accepts: self.accepts }
    }
}

fn attach(name: &str, kind: sys::TunKind) -> Result<File, OpenError> {
    let other = |source| OpenError::Other { name: name.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => OpenError::Missing,
            Some(libc::EPERM | libc::EACCES) => OpenError::Permission,
            _ => other(error),
        })?;
    sys::tun_set_iff(file.as_fd(), name, kind).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission,
        // EINVAL: a device of that name exists and is no TUN; EBUSY: it is one.
        Some(libc::EBUSY | libc::EEXIST | libc::EINVAL) => OpenError::InUse(name.to_owned()),
        _ => other(error),
    })?;
    Ok(file)
}

/// The reading side.
pub struct TunReader {
    file: Arc<File>,
    header: bool,
    stop: StopEvent,
}

impl TunRead for TunReader {
    fn try_read(&mut self, buffer: &mut PacketBuffer) -> io::Result<bool> {
        let front = if self.header { vnet::HEADER_LEN } else { 0 };
        buffer.set_len(0);
        let len = loop {
            match (&*self.file).read(buffer.room_behind_mut(front)) {
                Ok(len) => break len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        };
        let mut offload = Ok(Offload::default());
        if self.header {
            let header = buffer.room_behind_mut(front).first_chunk().filter(|_| len >= front);
            offload = header.copied().map_or(Err(UnknownKind(0)), vnet::decode);
        }
        // A kind that nobody asked for leaves the buffer empty, which is no packet and counted as such.
        if let Ok(offload) = offload {
            buffer.set_len(len.saturating_sub(front));
            buffer.set_offload(offload);
        }
        Ok(true)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn wait(&mut self) -> io::Result<()> {
        match sys::wait_readable(self.file.as_fd(), None, &self.stop)? {
            [Readiness::Broken, _] => Err(io::Error::other("the TUN device was removed")),
            [Readiness::Readable | Readiness::Nothing, _] => Ok(()),
        }
    }
}

/// The writing side; clones write to the same device.
#[derive(Clone)]
pub struct TunWriter {
    file: Arc<File>,
    header: bool,
    accepts: Accepts,
}

impl TunWriter {
    /// Hands one packet to the machine: for the control plane, which has no buffer of its own.
    ///
    /// # Errors
    /// The device is down or gone, or its queue is full.
    pub fn write_packet(&self, packet: &[u8]) -> io::Result<()> {
        let front = if self.header { &[0; vnet::HEADER_LEN][..] } else { &[] };
        let written = (&*self.file).write_vectored(&[IoSlice::new(front), IoSlice::new(packet)])?;
        whole(written, front.len() + packet.len())
    }
}

impl TunWrite for TunWriter {
    fn write(&mut self, buffer: &mut PacketBuffer) -> io::Result<()> {
        if !self.header {
            return whole((&*self.file).write(buffer.packet())?, buffer.packet().len());
        }
        let (header, len) =
            (vnet::encode(buffer.offload(), buffer.packet()), vnet::HEADER_LEN + buffer.packet().len());
        let framed = buffer.room_behind_mut(vnet::HEADER_LEN).get_mut(..len).unwrap_or_default();
        if let Some(front) = framed.first_chunk_mut() {
            *front = header;
        }
        whole((&*self.file).write(framed)?, len)
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }
}

fn whole(written: usize, len: usize) -> io::Result<()> {
    if written == len { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused_before_the_kernel_sees_them() {
        for name in ["", "sixteen-letters-", "a/b", "a b", ".", "..", "tun%d", "a:1"] {
            assert!(matches!(Tun::open(name, Features::default()), Err(OpenError::Name(_))), "{name}");
        }
    }
}
