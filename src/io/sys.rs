//! Safe forms of the few system calls that the standard library does not have.
#![expect(unsafe_code, reason = "system calls: each block says why it is sound")]
#![expect(clippy::disallowed_methods, reason = "the edge of the program reads the clock")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::dataplane::batch::Stop;

/// Time since the first call in this process, never going back: the clock that the workers are given.
pub fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Time since the machine started, sleep included (clock_gettime(2): CLOCK_BOOTTIME).
pub fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec on this stack frame that the kernel writes.
    let read = check(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) });
    // Every Linux since 2.6.39 has this clock.
    let whole = read.ok().and_then(|_| u64::try_from(time.tv_sec).ok());
    Duration::new(whole.unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// A stop signal that also wakes whoever waits in `poll`: an eventfd that is written once and never read.
#[derive(Clone)]
pub struct StopEvent {
    inner: Arc<StopInner>,
}

struct StopInner {
    set: AtomicBool,
    event: File,
}

impl StopEvent {
    /// A signal that is not set.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: `fd` was just returned by the kernel and belongs to nobody else.
        let event = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self { inner: Arc::new(StopInner { set: AtomicBool::new(false), event }) })
    }
}

impl Stop for StopEvent {
    fn stop(&self) {
        self.inner.set.store(true, Ordering::Release);
        // The write can fail only when the counter is full, and then the descriptor is readable anyway.
        let _ = io::Write::write(&mut &self.inner.event, &1u64.to_ne_bytes());
    }

    fn is_stopped(&self) -> bool {
        self.inner.set.load(Ordering::Acquire)
    }
}

/// What a wait found of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Nothing: another one ended the wait, or the stop signal is set.
    Nothing,
    /// There is something to read.
    Readable,
    /// The descriptor has an error pending or its device is gone.
    Broken,
}

/// Waits until `fd` can be read, or `other`, or `stop` is set; says what it found of the two.
pub(super) fn wait_readable(
    fd: BorrowedFd<'_>,
    other: Option<BorrowedFd<'_>>,
    stop: &StopEvent,
) -> io::Result<[Readiness; 2]> {
    // A negative descriptor is none.
    let poll = |fd: Option<RawFd>| libc::pollfd { fd: fd.unwrap_or(-1), events: libc::POLLIN, revents: 0 };
    let raw = |fd: BorrowedFd<'_>| fd.as_raw_fd();
    let mut fds = [poll(Some(raw(fd))), poll(other.map(raw)), poll(Some(stop.inner.event.as_raw_fd()))];
    loop {
        // SAFETY: `fds` is an array of three initialised pollfd that outlives the call.
        match check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) }) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let [one, two, _] = fds;
    Ok([one, two].map(|polled| match polled.revents {
        0 => Readiness::Nothing,
        events if events & libc::POLLIN != 0 => Readiness::Readable,
        _ => Readiness::Broken,
    }))
}

/// What kind of TUN device a descriptor shall be of.
#[derive(Clone, Copy)]
pub(super) struct TunKind {
    /// Each packet has a `virtio_net_hdr` of 10 octets in front, little-endian on every machine.
    pub(super) header: bool,
    /// It has several queues, each with a descriptor.
    pub(super) several: bool,
    /// This is one more queue of it. Otherwise it must not exist yet.
    pub(super) exists: bool,
}

/// Makes an open `/dev/net/tun` the device `name` or a queue of it, without packet information in front of packets. It goes
/// when the last descriptor is closed.
pub(super) fn tun_set_iff(fd: BorrowedFd<'_>, name: &str, kind: TunKind) -> io::Result<()> {
    // SAFETY: `ifreq` is plain old data, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed() as libc::c_char;
    }
    let vnet = if kind.header { libc::IFF_VNET_HDR } else { 0 };
    let queues = if kind.several { libc::IFF_MULTI_QUEUE } else { 0 };
    let new = if kind.exists { 0 } else { libc::IFF_TUN_EXCL };
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | vnet | queues | new;
    request.ifr_ifru.ifru_flags = (flags & 0xffff) as u16 as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives on this stack frame and whose name is
    // terminated, being shorter than its field.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    if kind.header && !kind.exists {
        let (len, yes): (libc::c_int, libc::c_int) = (10, 1);
        // SAFETY: each of them reads one `c_int`, which lives on this stack frame.
        unsafe {
            check(libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len))?;
            check(libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETLE, &raw const yes))?;
        }
    }
    Ok(())
}

/// Which packets the kernel may leave unfinished for the reader of a TUN with a `virtio_net_hdr`: bits of TUN_F_….
pub(super) fn tun_set_offload(fd: BorrowedFd<'_>, offloads: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })?;
    Ok(())
}

/// Sets an integer option of level IPPROTO_IP.
pub(super) fn set_ip_option(fd: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_IP, option, value)
}

/// Sets an integer option of level SOL_UDP.
pub(super) fn set_udp_option(fd: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    set_option(fd, libc::SOL_UDP, option, value)
}

/// Sets an integer option of level SOL_SOCKET.
#[cfg(test)]
pub(super) fn set_socket_option(
    fd: BorrowedFd<'_>,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, option, value)
}

/// Asks for socket buffers of this many octets: beyond the system's limit where we may, else as much as it gives.
/// A smaller buffer only costs packets under load, so that nothing here is an error.
pub(super) fn set_socket_buffers(fd: BorrowedFd<'_>, octets: usize) {
    let octets = libc::c_int::try_from(octets).unwrap_or(libc::c_int::MAX);
    for (forced, limited) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        if set_option(fd, libc::SOL_SOCKET, forced, octets).is_err() {
            let _ = set_option(fd, libc::SOL_SOCKET, limited, octets);
        }
    }
}

fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the kernel reads one `c_int`, which lives on this stack frame, and is told its size.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Turns the -1 of a system call into its error.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sets the file mode creation mask of the process; gives the old one.
pub fn umask(mask: libc::mode_t) -> libc::mode_t {
    // SAFETY: umask(2) cannot fail and touches no memory of ours.
    unsafe { libc::umask(mask) }
}

/// The user that this process runs as.
pub fn own_uid() -> libc::uid_t {
    // SAFETY: geteuid(2) cannot fail and touches no memory of ours.
    unsafe { libc::geteuid() }
}

/// The number of a user account, wherever the system keeps its accounts (nsswitch.conf(5)); `None`: there is none.
///
/// # Errors
/// The accounts cannot be read.
pub fn uid_of(name: &str) -> io::Result<Option<libc::uid_t>> {
    let Ok(name) = std::ffi::CString::new(name) else { return Ok(None) };
    // An entry in a directory service can be long; beyond this it is not one of a person.
    for size in [4096, 65_536, 1_048_576] {
        // SAFETY: `passwd` is plain old data, for which all zeroes is valid.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        let mut buffer = vec![0; size];
        // SAFETY: `name` is terminated, the buffer has the length that is told, and everything outlives the call.
        let code = unsafe {
            libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        match code {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(entry.pw_uid)),
            libc::ERANGE => {}
            // What getpwnam(3) says systems answer for a name that does not exist.
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
    Err(io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn accounts_have_numbers() {
        assert_eq!(uid_of("root").unwrap(), Some(0));
        assert_eq!(uid_of("no such user").unwrap(), None);
        assert_eq!(uid_of("a\0b").unwrap(), None);
    }

    #[test]
    fn stop_wakes_every_waiter_at_once() {
        let stop = StopEvent::new().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let (stop, socket) = (stop.clone(), socket.try_clone().unwrap());
                std::thread::spawn(move || wait_readable(socket.as_fd(), None, &stop).unwrap())
            })
            .collect();
        std::thread::sleep(Duration::from_millis(20));
        let asked = Instant::now();
        stop.stop();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), [Readiness::Nothing; 2]);
        }
        assert!(stop.is_stopped());
        assert!(asked.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_wait_for_two_tells_them_apart() {
        let stop = StopEvent::new().unwrap();
        let (one, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let wait = || wait_readable(socket.as_fd(), Some(one.as_fd()), &stop).unwrap();
        io::Write::write_all(&mut far, &[1]).unwrap();
        assert_eq!(wait(), [Readiness::Nothing, Readiness::Readable]);
        socket.send_to(&[1], socket.local_addr().unwrap()).unwrap();
        assert_eq!(wait(), [Readiness::Readable; 2]);
        io::Read::read_exact(&mut &one, &mut [0]).unwrap();
        assert_eq!(wait(), [Readiness::Readable, Readiness::Nothing]);
    }
}
