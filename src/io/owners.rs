//! What nobody may receive under another user's address, and that nobody binds to it: two programs of a few
//! instructions at the control group that everybody is in (decision 0011).
//!
//! nftables sees who sends, but not who receives: on input it knows no socket's user. So a socket that listens on `::`
//! would get what is for an address of somebody else. The kernel asks these programs where it hands a packet to a
//! socket, and in bind(2):
//!
//! ```text
//! receive   destination has an owner, and the socket is neither the owner's nor root's: dropped, counted
//! bind      address has an owner, and the caller is neither the owner nor root: EPERM
//! ```
//!
//! Both do so in our network namespace only. They go when this process ends; then the TUN and the addresses go too.

use std::fs::File;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::bpf::{
    If, Instruction, Map, Program, Value, add, attach, call, copy, copy32, count64, load, load32,
    mount_groups, namespace_cookie, set, set_map, set64, store32,
};

/// `enum bpf_prog_type` and `enum bpf_attach_type`.
const CGROUP_SKB: u32 = 8;
const CGROUP_INET_INGRESS: u32 = 0;
const CGROUP_SOCK_ADDR: u32 = 18;
const CGROUP_INET6_BIND: u32 = 9;

/// `enum bpf_func_id`.
const MAP_LOOKUP_ELEM: i32 = 1;
const GET_CURRENT_UID_GID: i32 = 15;
const SKB_LOAD_BYTES: i32 = 26;
const GET_SOCKET_UID: i32 = 47;
const GET_NETNS_COOKIE: i32 = 122;

/// Offset of `protocol` in `struct __sk_buff`, of `user_ip6` in `struct bpf_sock_addr`, of the destination in IPv6.
const PROTOCOL: i16 = 16;
const USER_IP6: i16 = 8;
const DESTINATION: i32 = 24;
/// ETH_P_IPV6 as it stands in a packet.
const IPV6: i32 = u16::from_ne_bytes([0x86, 0xdd]) as i32;
/// Where programs put an address: at the top of their stack, which register 10 points above.
const KEY: i16 = -16;
/// Offset of the counter in [`Value`].
const COUNT: i16 = 8;

/// Why users cannot be held apart where they receive.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error} (Linux 5.14 with CONFIG_CGROUP_BPF, cgroup2, CAP_BPF and CAP_NET_ADMIN are needed)")]
pub struct OwnersError {
    what: &'static str,
    error: io::Error,
}

/// Holds users apart for as long as it lives.
pub struct Owners {
    map: Map,
    addresses: Vec<Ipv6Addr>,
    _links: [OwnedFd; 2],
}

impl Owners {
    /// From now on each address answers its user alone, and root.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn hold_apart(owners: &[(Ipv6Addr, u32)]) -> Result<Self, OwnersError> {
        let told = |what| move |error| OwnersError { what, error };
        let group = group().map_err(told("opening the control group of everybody"))?;
        let cookie = namespace_cookie().map_err(told("asking for this network namespace"))?;
        let map = map(owners).map_err(told("making a BPF map"))?;
        let load_receive =
            |cookie| load(CGROUP_SKB, CGROUP_INET_INGRESS, "domicile_recv", &receive(&map, cookie));
        // Before Linux 6.15 such a program cannot ask for its network namespace. Permanent addresses are unique, so that
        // it then rightly speaks for the whole machine.
        let program = load_receive(Some(cookie))
            .or_else(|_| load_receive(None))
            .map_err(told("loading a BPF program"))?;
        let receive =
            attach(&program, group.as_fd(), CGROUP_INET_INGRESS).map_err(told("attaching a BPF program"))?;
        let program = load(CGROUP_SOCK_ADDR, CGROUP_INET6_BIND, "domicile_bind", &bind(&map, cookie))
            .map_err(told("loading a BPF program"))?;
        let bind =
            attach(&program, group.as_fd(), CGROUP_INET6_BIND).map_err(told("attaching a BPF program"))?;
        let addresses = owners.iter().map(|(address, _)| *address).collect();
        Ok(Self { map, addresses, _links: [receive, bind] })
    }

    /// Packets that were not handed to somebody else's socket.
    pub fn refused(&self) -> u64 {
        let counts = self.addresses.iter().map(|address| self.map.get(&address.octets()));
        counts.filter_map(Result::ok).map(|value| value.count).sum()
    }
}

fn map(owners: &[(Ipv6Addr, u32)]) -> io::Result<Map> {
    let map = Map::new(u32::try_from(owners.len().max(1)).map_err(io::Error::other)?)?;
    for (address, uid) in owners {
        map.insert(&address.octets(), Value { uid: *uid, ..Value::default() })?;
    }
    Ok(map)
}

/// The group at the top, of which every process is a member.
fn group() -> io::Result<OwnedFd> {
    match top_group(&std::fs::read_to_string("/proc/self/mountinfo")?) {
        Some(path) => Ok(File::open(path)?.into()),
        None => mount_groups(),
    }
}

/// Fields of proc_pid_mountinfo(5): number, parent, device, root, mount point, …, "-", type.
fn top_group(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (kind.starts_with("cgroup2 ") && root == "/").then(|| point.into())
    })
}

/// Lets other network namespaces through. The context is in register 6.
fn ours_only(program: &mut Program, cookie: Option<u64>) {
    let Some(cookie) = cookie else { return };
    program.push([copy(1, 6), call(GET_NETNS_COOKIE)]);
    program.push(set64(1, cookie));
    program.allow_if(0, If::Differs(1));
}

/// Lets addresses without owner through: the one at [`KEY`]. Leaves the map's value in register 8.
fn owned_only(program: &mut Program, map: &Map) {
    program.push(set_map(1, map));
    program.push([copy(2, 10), add(2, KEY.into()), call(MAP_LOOKUP_ELEM)]);
    program.allow_if(0, If::Is(0));
    program.push([copy(8, 0)]);
}

/// Lets the owner and root through. The uid is in register 7, the map's value in 8.
fn owner_only(program: &mut Program) {
    program.allow_if(7, If::Is(0));
    program.push([load32(1, 8, 0)]);
    program.allow_if(7, If::Same(1));
}

/// Runs for each packet that a socket is to receive, with the packet as the context.
fn receive(map: &Map, cookie: Option<u64>) -> Vec<Instruction> {
    let mut program = Program::default();
    program.push([copy(6, 1), load32(1, 6, PROTOCOL)]);
    program.allow_if(1, If::IsNot(IPV6));
    ours_only(&mut program, cookie);
    program.push([copy(1, 6), set(2, DESTINATION), copy(3, 10), add(3, KEY.into()), set(4, 16)]);
    program.push([call(SKB_LOAD_BYTES)]);
    // A packet without a whole IPv6 header got here nowhere; it reaches nobody who could tell whom it is for.
    program.allow_if(0, If::IsNot(0));
    owned_only(&mut program, map);
    program.push([copy(1, 6), call(GET_SOCKET_UID), copy32(7, 0)]);
    owner_only(&mut program);
    program.push([set(1, 1), count64(8, COUNT, 1)]);
    program.finish()
}

/// Runs in bind(2), with the address as the context.
fn bind(map: &Map, cookie: u64) -> Vec<Instruction> {
    let mut program = Program::default();
    program.push([copy(6, 1)]);
    ours_only(&mut program, Some(cookie));
    for word in 0..4 {
        program.push([load32(1, 6, USER_IP6 + 4 * word), store32(10, KEY + 4 * word, 1)]);
    }
    owned_only(&mut program, map);
    program.push([call(GET_CURRENT_UID_GID), copy32(7, 0)]);
    owner_only(&mut program);
    program.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_everybody_is_found() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            40 31 0:38 /system.slice /mnt rw - cgroup2 cgroup2 rw\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(top_group(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(top_group("garbage\n1 2 - cgroup2"), None);
        assert_eq!(top_group(""), None);
    }
}
