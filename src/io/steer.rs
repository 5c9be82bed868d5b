//! Which of several sockets on one port gets a datagram: the last octet of the SPI decides, modulo their number, so that each SA
//! is opened by one worker however many share the port. All peers' SAs spread that way, and so do several SAs of one peer (RFC 9611), although all their
//! datagrams come from one address and port, by which the kernel alone would choose.
#![expect(unsafe_code, reason = "a system call: the block says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::sys::check;
use crate::wire::ip::{HEADER_LEN, NEXT_HEADER_ESP};

/// Offset of the next header in an IPv6 header (RFC 8200 §3).
const NEXT_HEADER: u32 = 6;
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
        octet(NEXT_HEADER),
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
