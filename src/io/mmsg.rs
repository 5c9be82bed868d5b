//! `recvmmsg` and `sendmmsg` with the control messages that a UDP endpoint on IPv4 needs: the local address
//! (IP_PKTINFO), the TOS octet, which carries ECN, and the length of the datagrams in a super-datagram (UDP_SEGMENT,
//! UDP_GRO).
#![expect(unsafe_code, reason = "system calls: each block says why it is sound")]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::sys::check;
use crate::dataplane::batch::{Arrival, RECEIVE_SLOTS, ReceiveBatch, Run};
use crate::dataplane::event::UdpPath;

/// Messages in one system call. The kernel takes up to 1,024; what counts is room for a whole [`ReceiveBatch`].
const MESSAGES: usize = RECEIVE_SLOTS;

/// Octets for the control messages of one datagram: `in_pktinfo` needs 32, the TOS 24 and the segment length 24, headers
/// included.
const CONTROL: usize = 96;

/// The ECN field of the TOS octet (RFC 3168 §5).
const ECN_MASK: u8 = 0b11;

/// Control messages must be aligned as `cmsghdr` is.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

/// Arguments for one system call; the pointers in `headers` lead to the other fields and to the datagrams. What is not
/// used is not even cleared: a call for one message costs as much as one message.
struct Call {
    headers: [MaybeUninit<libc::mmsghdr>; MESSAGES],
    vectors: [MaybeUninit<libc::iovec>; MESSAGES],
    names: [MaybeUninit<libc::sockaddr_in>; MESSAGES],
    controls: [MaybeUninit<Control>; MESSAGES],
    used: usize,
}

impl Call {
    fn new() -> Self {
        Self {
            headers: [const { MaybeUninit::uninit() }; MESSAGES],
            vectors: [const { MaybeUninit::uninit() }; MESSAGES],
            names: [const { MaybeUninit::uninit() }; MESSAGES],
            controls: [const { MaybeUninit::uninit() }; MESSAGES],
            used: 0,
        }
    }

    /// Adds a message: writes every field at the next index. `self` must not be moved from then on. False when there
    /// is no room. `write` fills the control messages and says how many octets they are.
    fn add(
        &mut self,
        base: *mut u8,
        len: usize,
        name: libc::sockaddr_in,
        write: impl FnOnce(&mut Control) -> usize,
    ) -> bool {
        let index = self.used;
        let (Some(header), Some(vector), Some(place), Some(control)) = (
            self.headers.get_mut(index),
            self.vectors.get_mut(index),
            self.names.get_mut(index),
            self.controls.get_mut(index),
        ) else {
            return false;
        };
        let control = control.write(Control([0; CONTROL]));
        let control_len = write(control);
        // SAFETY: `mmsghdr` is plain old data of integers and nullable pointers: all zeroes is valid.
        let header = &mut header.write(unsafe { mem::zeroed() }).msg_hdr;
        header.msg_iov = vector.write(libc::iovec { iov_base: base.cast(), iov_len: len });
        header.msg_iovlen = 1;
        header.msg_name = (&raw mut *place.write(name)).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control_len as _;
        self.used += 1;
        true
    }

    /// Header and name of each of the first `count` messages.
    fn answers(&self, count: usize) -> impl Iterator<Item = (&libc::mmsghdr, &libc::sockaddr_in)> {
        self.headers.iter().zip(&self.names).take(count.min(self.used)).map(|(header, name)| {
            // SAFETY: `add` wrote both at every index below `used`.
            unsafe { (header.assume_init_ref(), name.assume_init_ref()) }
        })
    }
}

/// Receives what is there, without waiting, into the slots of `batch`; returns how many slots were used. `port` is the
/// local one. What was cut short and what has no local address is spoiled.
pub(super) fn receive(fd: BorrowedFd<'_>, port: u16, batch: &mut ReceiveBatch) -> io::Result<usize> {
    batch.clear();
    let mut call = Call::new();
    let nobody = to_name(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    for slot in batch.slots_mut() {
        if !call.add(slot.as_mut_ptr(), slot.len(), nobody, |_| CONTROL) {
            break;
        }
    }
    // SAFETY: the first `used` headers point to an iovec, a name and a control buffer inside `call`, which is not
    // moved before the call returns, and to distinct slots of `batch`, which is borrowed exclusively; every length
    // is that of what it describes.
    let count = check(unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            call.headers.as_mut_ptr().cast(),
            call.used as libc::c_uint,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    })?;
    let count = usize::try_from(count).unwrap_or(0);
    for (index, (header, name)) in call.answers(count).enumerate() {
        let cut = header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
        let (Some(Told { local, ecn, stride }), false) = (read_control(&header.msg_hdr), cut) else {
            batch.spoiled();
            continue;
        };
        let path = UdpPath::direct(SocketAddrV4::new(local, port), from_name(name));
        let len = header.msg_len as usize;
        batch.arrived(index, Arrival { path, ecn, len, stride: stride.unwrap_or(len) });
    }
    Ok(count)
}

/// Sends runs from the front of `runs`, each as one message and as many as one system call takes; returns how many
/// left. An error is about the first of them.
pub(super) fn send<'a>(
    fd: BorrowedFd<'_>,
    runs: impl Iterator<Item = Run<'a>>,
    flags: libc::c_int,
) -> io::Result<usize> {
    let mut call = Call::new();
    for run in runs {
        let (base, len) = (run.bytes.as_ptr().cast_mut(), run.bytes.len());
        if !call.add(base, len, to_name(run.path.remote), |control| write_control(control, run)) {
            break;
        }
    }
    // SAFETY: the first `used` headers point to an iovec, a name and a control buffer inside `call`, which is not
    // moved before the call returns, and to datagrams that live for 'a; the kernel only reads from them, in spite
    // of the mutable pointer that the type of iovec asks for.
    let sent = check(unsafe {
        libc::sendmmsg(fd.as_raw_fd(), call.headers.as_mut_ptr().cast(), call.used as libc::c_uint, flags)
    })?;
    Ok(usize::try_from(sent).unwrap_or(0))
}

fn to_name(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: address.ip().to_bits().to_be() },
        sin_zero: [0; 8],
    }
}

fn from_name(name: &libc::sockaddr_in) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr)), u16::from_be(name.sin_port))
}

/// Writes the control messages of a run and returns their length; 0 when the kernel shall choose.
fn write_control(control: &mut Control, run: Run<'_>) -> usize {
    let mut writer = Writer::new(control);
    if !run.path.local.ip().is_unspecified() {
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: run.path.local.ip().to_bits().to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        writer.put(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
    }
    if run.ecn & ECN_MASK != 0 {
        writer.put(libc::IPPROTO_IP, libc::IP_TOS, libc::c_int::from(run.ecn & ECN_MASK));
    }
    // A run is no longer than 65,507 octets, so that the length of a segment fits.
    if let (2.., Ok(segment)) = (run.count, u16::try_from(run.segment)) {
        writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, segment);
    }
    writer.used
}

/// Writes control messages one behind the other.
struct Writer<'a> {
    control: &'a mut Control,
    used: usize,
}

impl<'a> Writer<'a> {
    fn new(control: &'a mut Control) -> Self {
        Self { control, used: 0 }
    }

    /// Writes one message; without room for it, nothing.
    fn put<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let len = size_of::<T>() as libc::c_uint;
        // SAFETY: both only compute with lengths.
        let (length, space) = unsafe { (libc::CMSG_LEN(len), libc::CMSG_SPACE(len) as usize) };
        let Some(room) = self.control.0.get_mut(self.used..self.used + space) else { return };
        let message: *mut libc::cmsghdr = room.as_mut_ptr().cast();
        // SAFETY: `room` holds a header and the payload; it is aligned for the header, as the buffer is and every
        // CMSG_SPACE keeps it; the payload may be unaligned for `T`, hence `write_unaligned`.
        unsafe {
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = length as _;
            std::ptr::write_unaligned(libc::CMSG_DATA(message).cast(), value);
        }
        self.used += space;
    }
}

/// What the control messages of a received datagram say.
struct Told {
    local: Ipv4Addr,
    ecn: u8,
    /// Octets of each datagram in a super-datagram.
    stride: Option<usize>,
}

/// Reads the control messages; without a local address there is nothing to answer from.
fn read_control(header: &libc::msghdr) -> Option<Told> {
    let (mut local, mut ecn, mut stride) = (None, 0, None);
    // SAFETY: the kernel filled the buffer that `header` describes and set its length.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header inside the buffer.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        // SAFETY: for these types the kernel writes an `in_pktinfo`, one octet and an `int`; they may be unaligned.
        unsafe {
            let data = libc::CMSG_DATA(message);
            if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) {
                let info: libc::in_pktinfo = std::ptr::read_unaligned(data.cast());
                local = Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)));
            } else if (level, kind) == (libc::IPPROTO_IP, libc::IP_TOS) {
                ecn = *data & ECN_MASK;
            } else if (level, kind) == (libc::SOL_UDP, libc::UDP_GRO) {
                let told: libc::c_int = std::ptr::read_unaligned(data.cast());
                stride = usize::try_from(told).ok().filter(|stride| *stride != 0);
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    Some(Told { local: local?, ecn, stride })
}
