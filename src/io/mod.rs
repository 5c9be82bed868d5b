//! The edge of the program: TUN device, UDP sockets, the machine's routes and filters. The only module with `unsafe`,
//! and it stays in `sys`, `mmsg`, `bpf` and `steer`.

pub mod firewall;
pub mod lease;
pub mod netlink;
pub mod owners;
pub mod route;
pub mod sys;
pub mod tun;
pub mod udp;
pub mod vnet;
pub mod wakefulness;

mod bpf;
mod mmsg;
mod steer;
