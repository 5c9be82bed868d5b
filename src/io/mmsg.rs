//! `recvmmsg` and `sendmmsg` with the control messages that a UDP endpoint on IPv4 needs: the local address
//! (IP_PKTINFO) and the TOS octet, which carries ECN.
#![expect(unsafe_code, reason = "system calls: each block says why it is sound")]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::sys::check;
use crate::dataplane::batch::{Arrival, BATCH, Outgoing, ReceiveBatch};
use crate::dataplane::event::UdpPath;

/// Octets for the control messages of one datagram: `in_pktinfo` needs 32 and the TOS 24, headers included.
const CONTROL: usize = 64;

/// The ECN field of the TOS octet (RFC 3168 §5).
const ECN_MASK: u8 = 0b11;

/// Control messages must be aligned as `cmsghdr` is.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

/// Arguments for one system call on [`BATCH`] datagrams; the pointers in `headers` lead to the other fields and to
/// the datagrams.
struct Call {
    headers: [libc::mmsghdr; BATCH],
    vectors: [libc::iovec; BATCH],
    names: [libc::sockaddr_in; BATCH],
    controls: [Control; BATCH],
}

impl Call {
    fn zeroed() -> Self {
        // SAFETY: every field is plain old data of integers and nullable pointers: all zeroes is valid.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    /// Completes the header of one datagram. Must not be called before the last move of `self`.
    fn link(&mut self, index: usize, base: *mut u8, len: usize, control: usize) {
        let (Some(header), Some(vector), Some(name), Some(buffer)) = (
            self.headers.get_mut(index),
            self.vectors.get_mut(index),
            self.names.get_mut(index),
            self.controls.get_mut(index),
        ) else {
            return;
        };
        *vector = libc::iovec { iov_base: base.cast(), iov_len: len };
        let header = &mut header.msg_hdr;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_name = (&raw mut *name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_control = buffer.0.as_mut_ptr().cast();
        header.msg_controllen = control;
    }
}

/// Receives what is there, without waiting, into the slots of `batch`; returns how many. `port` is the local one.
/// Datagrams without a local address or cut short are left out.
pub(super) fn receive(fd: BorrowedFd<'_>, port: u16, batch: &mut ReceiveBatch) -> io::Result<usize> {
    batch.clear();
    let mut call = Call::zeroed();
    let mut slots = 0;
    for slot in batch.slots_mut().take(BATCH) {
        call.link(slots, slot.as_mut_ptr(), slot.len(), CONTROL);
        slots += 1;
    }
    // SAFETY: the first `slots` headers point to an iovec, a name and a control buffer inside `call`, which is not
    // moved before the call returns, and to distinct slots of `batch`, which is borrowed exclusively; every length
    // is that of what it describes.
    let count = check(unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            call.headers.as_mut_ptr(),
            slots as libc::c_uint,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    })?;
    let count = usize::try_from(count).unwrap_or(0);
    for (index, (header, name)) in call.headers.iter().zip(&call.names).take(count).enumerate() {
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let (Some((local, ecn)), false) = (read_control(&header.msg_hdr), truncated) else { continue };
        let path = UdpPath::direct(SocketAddrV4::new(local, port), from_name(name));
        let len = header.msg_len as usize;
        batch.arrived(index, Arrival { path, ecn, len, stride: len });
    }
    Ok(count)
}

/// Sends datagrams from the front of `datagrams`, at most [`BATCH`]; returns how many left. An error is about the
/// first of them.
pub(super) fn send<'a>(
    fd: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = Outgoing<'a>>,
    flags: libc::c_int,
) -> io::Result<usize> {
    let mut call = Call::zeroed();
    let mut count = 0;
    for datagram in datagrams.take(BATCH) {
        let (Some(name), Some(control)) = (call.names.get_mut(count), call.controls.get_mut(count)) else {
            break;
        };
        *name = to_name(datagram.path.remote);
        let control = write_control(control, datagram);
        call.link(count, datagram.bytes.as_ptr().cast_mut(), datagram.bytes.len(), control);
        count += 1;
    }
    // SAFETY: the first `count` headers point to an iovec, a name and a control buffer inside `call`, which is not
    // moved before the call returns, and to datagrams that live for 'a; the kernel only reads from them, in spite
    // of the mutable pointer that the type of iovec asks for.
    let sent = check(unsafe {
        libc::sendmmsg(fd.as_raw_fd(), call.headers.as_mut_ptr(), count as libc::c_uint, flags)
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

/// Writes the control messages of a datagram and returns their length; 0 when the kernel shall choose.
fn write_control(control: &mut Control, datagram: Outgoing<'_>) -> usize {
    // SAFETY: `msghdr` is plain old data, for which all zeroes is valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL;
    let mut used = 0;
    // SAFETY: the header describes the control buffer, which is aligned for `cmsghdr`.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    if !datagram.path.local.ip().is_unspecified() {
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: datagram.path.local.ip().to_bits().to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        // SAFETY: `message` is the first header of an empty buffer of `CONTROL` octets, which has room for it.
        used += unsafe { put(message, libc::IP_PKTINFO, info) };
        // SAFETY: the first message was just written, so that its length is valid.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    if datagram.ecn & ECN_MASK != 0 && !message.is_null() {
        // SAFETY: `message` is a header inside the buffer, and `CONTROL` has room for both messages.
        used += unsafe { put(message, libc::IP_TOS, libc::c_int::from(datagram.ecn & ECN_MASK)) };
    }
    used
}

/// Writes one control message of level IPPROTO_IP and returns the room that it takes.
///
/// # Safety
/// `message` must point into a control buffer with at least `CMSG_SPACE(size_of::<T>())` octets left.
unsafe fn put<T: Copy>(message: *mut libc::cmsghdr, kind: libc::c_int, value: T) -> usize {
    let len = size_of::<T>() as libc::c_uint;
    // SAFETY: the caller promises the room; the payload may be unaligned for `T`, hence `write_unaligned`.
    unsafe {
        (*message).cmsg_level = libc::IPPROTO_IP;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(len) as _;
        std::ptr::write_unaligned(libc::CMSG_DATA(message).cast(), value);
        libc::CMSG_SPACE(len) as usize
    }
}

/// Local address and ECN field of a received datagram; without a local address there is nothing to answer from.
fn read_control(header: &libc::msghdr) -> Option<(Ipv4Addr, u8)> {
    let (mut local, mut ecn) = (None, 0);
    // SAFETY: the kernel filled the buffer that `header` describes and set its length.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header inside the buffer.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        // SAFETY: for these types the kernel writes an `in_pktinfo` and one octet; they may be unaligned.
        unsafe {
            let data = libc::CMSG_DATA(message);
            if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) {
                let info: libc::in_pktinfo = std::ptr::read_unaligned(data.cast());
                local = Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)));
            } else if (level, kind) == (libc::IPPROTO_IP, libc::IP_TOS) {
                ecn = *data & ECN_MASK;
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    Some((local?, ecn))
}
