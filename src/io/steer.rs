//! Who of several workers gets what. On the UDP port the last octet of the SPI decides, modulo the number of sockets, so that each
//! SA is opened by one worker. All peers' SAs spread that way, and so do several SAs of one peer (RFC 9611), although all their
//! datagrams come from one address and port, by which the kernel alone would choose. At the TUN device it is the flow of a packet,
//! by the number that chooses its SA, too ([`FLOW_FACTOR`]).
#![expect(unsafe_code, reason = "system calls: each block says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::bpf::{
    self, Instruction, add, call, copy, exit, load8, load16, multiply32, set, shift32, skip_if, xor,
};
use super::sys::check;
use crate::wire::ip::{FLOW_FACTOR, HEADER_LEN, NEXT_HEADER_ESP, NEXT_HEADER_TCP, NEXT_HEADER_UDP};

/// Offset of the next header in an IPv6 header (RFC 8200 §3).
const NEXT_HEADER: i32 = 6;
/// Offset of the last octet of the SPI in ESP (RFC 4303 §2).
const SPI_END: u32 = 3;
/// Instructions of the program.
const LENGTH: usize = 11;

const fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// A classic BPF program over what is behind the UDP header; its result is the index of a socket, in the order in which
/// they were bound. Whatever is neither ESP nor ESP in relayed form goes to the first: IKE, whose marker reads as SPI 0, and
/// what is too short for a load, which ends the program with 0.
fn program(sockets: u32) -> [libc::sock_filter; LENGTH] {
    use libc::{
        BPF_A, BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MOD, BPF_RET,
    };
    let octet = |at: u32| op(BPF_LD | BPF_B | BPF_ABS, 0, 0, at);
    [
        octet(0),
        op(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xf0),
        // Nibble 6 is an IPv6 packet, the relayed form; anything else has its SPI in front.
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, 0x60),
        octet(NEXT_HEADER.cast_unsigned()),
        op(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, u32::from(NEXT_HEADER_ESP)),
        op(BPF_RET | BPF_K, 0, 0, 0),
        octet(HEADER_LEN as u32 + SPI_END),
        op(BPF_JMP | BPF_JA, 0, 0, 1),
        octet(SPI_END),
        op(BPF_ALU | BPF_MOD | BPF_K, 0, 0, sockets),
        op(BPF_RET | BPF_A, 0, 0, 0),
    ]
}

/// Lets the SPI choose among so many sockets on the port of this one.
///
/// # Errors
/// The kernel cannot do that (before Linux 4.5): it goes on to choose by the sender's address and port.
pub(super) fn by_spi(fd: BorrowedFd<'_>, sockets: u32) -> io::Result<()> {
    let mut program = program(sockets.max(1));
    let described = libc::sock_fprog { len: LENGTH as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads one `sock_fprog` and as many instructions as it says, all of which live on this stack
    // frame.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const described).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// BPF_PROG_TYPE_SOCKET_FILTER
const SOCKET_FILTER: u32 = 1;
/// bpf_skb_load_bytes: context, offset, where to, how many.
const LOAD_BYTES: i32 = 26;

/// The number of a packet's flow as [`crate::wire::ip::Ipv6View::flow`] has it for TCP and UDP; 0 for anything else. The kernel
/// takes it modulo the number of queues.
fn flow() -> Vec<Instruction> {
    // From the packet to 8 octets below the end of the stack.
    let read = |offset, count| {
        [copy(1, 6), set(2, offset), copy(3, 10), add(3, -8), set(4, count), call(LOAD_BYTES)]
    };
    let mut program = vec![copy(6, 1)];
    program.extend(read(NEXT_HEADER, 1));
    program.extend([load8(7, 10, -8), set(0, 0)]);
    program.extend([skip_if(7, NEXT_HEADER_TCP.into(), 2), skip_if(7, NEXT_HEADER_UDP.into(), 1), exit()]);
    program.extend(read(HEADER_LEN as i32, 4));
    program.extend([load16(0, 10, -8), load16(1, 10, -6), xor(0, 1)]);
    program.extend([multiply32(0, FLOW_FACTOR), shift32(0, 16), exit()]);
    program
}

/// Lets the flow choose the queue of a TUN device, both directions of it the same one.
///
/// # Errors
/// The kernel cannot do that, or does not let us: it goes on to choose the queue that the other direction of the flow was written to
/// last, so that a flow changes its queue, and perhaps its order, when its first answer comes.
pub(super) fn by_flow(tun: BorrowedFd<'_>) -> io::Result<()> {
    // _IOR('T', 224, int), as on all machines that we build for.
    const TUNSETSTEERINGEBPF: libc::c_ulong = 0x8004_54e0;
    let program = bpf::load(SOCKET_FILTER, 0, "domicile_flow", &flow())?;
    let fd: libc::c_int = program.as_raw_fd();
    // SAFETY: the kernel reads one `c_int`, which lives on this stack frame; the device keeps the program.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETSTEERINGEBPF as _, &raw const fd) })?;
    Ok(())
}
