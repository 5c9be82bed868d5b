//! The few pieces of bpf(2) that `owners` and `steer` need: a hash map, programs of a few instructions, and links that
//! attach them to a control group for as long as this process lives.
#![expect(unsafe_code, reason = "system calls: each block says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_HASH: u32 = 1;
/// A 64-bit load whose constant is a map.
const PSEUDO_MAP_FD: u8 = 1;

/// One instruction, `struct bpf_insn`: operation, destination and source register (4 bits each), offset, constant.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Registers: 0 is what a function returns, 1 to 5 are its arguments, 6 to 9 survive calls, 10 points above the stack.
pub(super) type Register = u8;

const fn op(code: u8, to: Register, from: Register, offset: i16, immediate: i32) -> Instruction {
    #[cfg(target_endian = "little")]
    let registers = from << 4 | to;
    #[cfg(target_endian = "big")]
    let registers = to << 4 | from;
    Instruction { code, registers, offset, immediate }
}

/// `to = from`.
pub(super) const fn copy(to: Register, from: Register) -> Instruction {
    op(0xbf, to, from, 0, 0)
}

/// `to = from`, the lower 32 bits of it.
pub(super) const fn copy32(to: Register, from: Register) -> Instruction {
    op(0xbc, to, from, 0, 0)
}

/// `to = value`.
pub(super) const fn set(to: Register, value: i32) -> Instruction {
    op(0xb7, to, 0, 0, value)
}

/// `to += value`.
pub(super) const fn add(to: Register, value: i32) -> Instruction {
    op(0x07, to, 0, 0, value)
}

/// `to = *(u32 *)(from + offset)`.
pub(super) const fn load32(to: Register, from: Register, offset: i16) -> Instruction {
    op(0x61, to, from, offset, 0)
}

/// `to = *(u16 *)(from + offset)`.
pub(super) const fn load16(to: Register, from: Register, offset: i16) -> Instruction {
    op(0x69, to, from, offset, 0)
}

/// `to = *(u8 *)(from + offset)`.
pub(super) const fn load8(to: Register, from: Register, offset: i16) -> Instruction {
    op(0x71, to, from, offset, 0)
}

/// `to ^= from`.
pub(super) const fn xor(to: Register, from: Register) -> Instruction {
    op(0xaf, to, from, 0, 0)
}

/// `to *= value`, the lower 32 bits of it.
pub(super) const fn multiply32(to: Register, value: u32) -> Instruction {
    op(0x24, to, 0, 0, value.cast_signed())
}

/// `to >>= bits`, of its lower 32 bits.
pub(super) const fn shift32(to: Register, bits: i32) -> Instruction {
    op(0x74, to, 0, 0, bits)
}

/// Leaves out so many instructions when a register is equal to a constant.
pub(super) const fn skip_if(register: Register, value: i32, instructions: i16) -> Instruction {
    op(0x15, register, 0, instructions, value)
}

/// `*(u32 *)(to + offset) = from`.
pub(super) const fn store32(to: Register, offset: i16, from: Register) -> Instruction {
    op(0x63, to, from, offset, 0)
}

/// `*(u64 *)(to + offset) += from`, atomically.
pub(super) const fn count64(to: Register, offset: i16, from: Register) -> Instruction {
    op(0xdb, to, from, offset, 0)
}

/// Calls a function of the kernel, `enum bpf_func_id`.
pub(super) const fn call(function: i32) -> Instruction {
    op(0x85, 0, 0, 0, function)
}

/// Ends with register 0.
pub(super) const fn exit() -> Instruction {
    op(0x95, 0, 0, 0, 0)
}

/// A constant of 64 bits takes the place of two instructions.
pub(super) const fn set64(to: Register, value: u64) -> [Instruction; 2] {
    let (low, high) = (value as u32, (value >> 32) as u32);
    [op(0x18, to, 0, 0, low.cast_signed()), op(0, 0, 0, 0, high.cast_signed())]
}

/// A map takes the place of two instructions.
pub(super) fn set_map(to: Register, map: &Map) -> [Instruction; 2] {
    [op(0x18, to, PSEUDO_MAP_FD, 0, map.fd.as_raw_fd()), op(0, 0, 0, 0, 0)]
}

/// What a jump compares a register with.
#[derive(Clone, Copy, Debug)]
pub(super) enum If {
    /// A constant, when the register is equal to it.
    Is(i32),
    /// A constant, when the register is not equal to it.
    IsNot(i32),
    /// Another register, when they are equal.
    Same(Register),
    /// Another register, when they are not equal.
    Differs(Register),
}

/// A program under construction. Jumps lead forward, to one of its two ends.
#[derive(Default)]
pub(super) struct Program {
    instructions: Vec<Instruction>,
    /// Jumps to the end that lets through.
    allowing: Vec<usize>,
}

impl Program {
    pub(super) fn push(&mut self, instructions: impl IntoIterator<Item = Instruction>) {
        self.instructions.extend(instructions);
    }

    /// Lets through, when a register is what is said.
    pub(super) fn allow_if(&mut self, register: Register, what: If) {
        self.allowing.push(self.instructions.len());
        self.push([match what {
            If::Is(value) => op(0x15, register, 0, 0, value),
            If::IsNot(value) => op(0x55, register, 0, 0, value),
            If::Same(other) => op(0x1d, register, other, 0, 0),
            If::Differs(other) => op(0x5d, register, other, 0, 0),
        }]);
    }

    /// Whoever comes to the end is refused (0); the jumps lead behind it, where is let through (1).
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.push([set(0, 0), exit()]);
        let end = self.instructions.len();
        for from in self.allowing {
            if let Some(jump) = self.instructions.get_mut(from) {
                // Programs here have some dozens of instructions.
                jump.offset = i16::try_from(end - from - 1).unwrap_or(i16::MAX);
            }
        }
        self.instructions.extend([set(0, 1), exit()]);
        self.instructions
    }
}

/// One call of bpf(2).
fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads (and for none of our commands writes) as many octets as it is told, which is the size of
    // `attributes`; the types below are laid out like the parts of `union bpf_attr` that the commands use, without
    // padding between their fields, and the addresses in them are those of buffers that outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>() as libc::c_uint)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// One call of bpf(2) that gives a descriptor.
fn open<A>(command: libc::c_int, attributes: &mut A) -> io::Result<OwnedFd> {
    let fd = libc::c_int::try_from(bpf(command, attributes)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned `fd`, close-on-exec as bpf(2) does it, and it belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Addresses, each with a uid and a counter.
pub(super) struct Map {
    fd: OwnedFd,
}

/// What a map holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Value {
    pub(super) uid: u32,
    pub(super) zero: u32,
    pub(super) count: u64,
}

#[repr(C)]
struct Element {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Map {
    pub(super) fn new(entries: u32) -> io::Result<Self> {
        #[repr(C)]
        struct Create {
            kind: u32,
            key: u32,
            value: u32,
            entries: u32,
        }
        let mut create = Create { kind: MAP_TYPE_HASH, key: 16, value: size_of::<Value>() as u32, entries };
        Ok(Self { fd: open(MAP_CREATE, &mut create)? })
    }

    fn element(&self, key: &[u8; 16], value: *const Value) -> Element {
        Element {
            map: self.fd.as_raw_fd().cast_unsigned(),
            zero: 0,
            key: key.as_ptr() as u64,
            value: value as u64,
            flags: 0,
        }
    }

    pub(super) fn insert(&self, key: &[u8; 16], value: Value) -> io::Result<()> {
        bpf(MAP_UPDATE_ELEM, &mut self.element(key, &raw const value)).map(|_| ())
    }

    pub(super) fn get(&self, key: &[u8; 16]) -> io::Result<Value> {
        let mut value = Value::default();
        // The kernel writes one value of this map's value size there, while this call lasts.
        bpf(MAP_LOOKUP_ELEM, &mut self.element(key, &raw mut value)).map(|_| value)
    }
}

/// Loads a program of a type (`enum bpf_prog_type`) for an attachment (`enum bpf_attach_type`).
pub(super) fn load(kind: u32, attachment: u32, name: &str, program: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attachment: u32,
    }
    let mut terminated = [0; 16];
    // The last octet stays zero.
    for (place, octet) in terminated[..15].iter_mut().zip(name.bytes()) {
        *place = octet;
    }
    let mut load = Load {
        kind,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"MIT OR Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: terminated,
        interface: 0,
        attachment,
    };
    open(PROG_LOAD, &mut load)
}

/// Attaches a program to a control group, beside whatever is there, until the descriptor is closed.
pub(super) fn attach(program: &OwnedFd, group: BorrowedFd<'_>, attachment: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Link {
        program: u32,
        target: u32,
        attachment: u32,
        flags: u32,
    }
    let mut link = Link {
        program: program.as_raw_fd().cast_unsigned(),
        target: group.as_raw_fd().cast_unsigned(),
        attachment,
        flags: 0,
    };
    open(LINK_CREATE, &mut link)
}

/// The top of the hierarchy of control groups, where it is not mounted anywhere (`ip netns exec` hides it): through a
/// mount of our own that has no place in the file system. Needs CAP_SYS_ADMIN.
pub(super) fn mount_groups() -> io::Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: libc::c_int = 6;
    // Descriptors are small numbers.
    let owned = |result: libc::c_long| -> io::Result<OwnedFd> {
        let fd = super::sys::check(result as libc::c_int)?;
        // SAFETY: the kernel just returned `fd`, and it belongs to nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: the name is terminated; fsopen takes flags beside it: FSOPEN_CLOEXEC.
    let system = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), 1) })?;
    let (none, zero) = (std::ptr::null::<libc::c_char>(), 0 as libc::c_int);
    // SAFETY: this command of fsconfig takes no key and no value.
    let created = unsafe {
        libc::syscall(libc::SYS_fsconfig, system.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, zero)
    };
    super::sys::check(created as libc::c_int)?;
    // SAFETY: fsmount takes a descriptor, flags (FSMOUNT_CLOEXEC) and attributes; no pointer.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, system.as_raw_fd(), 1, zero) })
}

/// The number of this network namespace, which programs can ask for too (SO_NETNS_COOKIE, Linux 5.14).
pub(super) fn namespace_cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::net::UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets, the size of `cookie`, and both outlive the call.
    super::sys::check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    })?;
    Ok(cookie)
}
