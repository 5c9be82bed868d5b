//! The TUN device: layer 3, packet by packet, gone with the process that opened it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use super::sys::{self, Readiness, StopEvent};
use crate::dataplane::batch::{PacketBuffer, TunRead, TunWrite};
use crate::dataplane::offload::Features;

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
    file: Arc<File>,
    name: String,
}

impl Tun {
    /// Creates the device, with the offloads that `features` allow and the kernel has. It has no address and is down; it
    /// disappears when the last handle is dropped.
    ///
    /// # Errors
    /// [`OpenError`], in words for a person.
    pub fn open(name: &str, _features: Features) -> Result<Self, OpenError> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(named) || [".", ".."].contains(&name)
        {
            return Err(OpenError::Name(name.to_owned()));
        }
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
        sys::tun_set_iff(file.as_fd(), name).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => OpenError::Permission,
            // EINVAL: a device of that name exists and is no TUN; EBUSY: it is one.
            Some(libc::EBUSY | libc::EEXIST | libc::EINVAL) => OpenError::InUse(name.to_owned()),
            _ => other(error),
        })?;
        Ok(Self { file: Arc::new(file), name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Packets from the applications. The wait ends when `stop` is set.
    pub fn reader(&self, stop: StopEvent) -> TunReader {
        TunReader { file: Arc::clone(&self.file), stop }
    }

    /// Packets to the applications.
    pub fn writer(&self) -> TunWriter {
        TunWriter { file: Arc::clone(&self.file) }
    }
}

/// The reading side.
pub struct TunReader {
    file: Arc<File>,
    stop: StopEvent,
}

impl TunRead for TunReader {
    fn try_read(&mut self, buffer: &mut PacketBuffer) -> io::Result<bool> {
        buffer.set_len(0);
        loop {
            match (&*self.file).read(buffer.room_mut()) {
                Ok(len) => {
                    buffer.set_len(len);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        match sys::wait_readable(self.file.as_fd(), &self.stop)? {
            Readiness::Readable | Readiness::Stopped => Ok(()),
            Readiness::Broken => Err(io::Error::other("the TUN device was removed")),
        }
    }
}

/// The writing side; clones write to the same device.
#[derive(Clone)]
pub struct TunWriter {
    file: Arc<File>,
}

impl TunWriter {
    /// Hands one packet to the machine: for the control plane, which has no buffer of its own.
    ///
    /// # Errors
    /// The device is down or gone, or its queue is full.
    pub fn write_packet(&self, packet: &[u8]) -> io::Result<()> {
        let written = (&*self.file).write(packet)?;
        if written == packet.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

impl TunWrite for TunWriter {
    fn write(&mut self, buffer: &mut PacketBuffer) -> io::Result<()> {
        self.write_packet(buffer.packet())
    }
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
