//! The edge of the program: TUN device, UDP sockets, the machine's routes. The only module with `unsafe`, and it
//! stays in `sys` and `mmsg`.

pub mod netlink;
pub mod route;
pub mod sys;
pub mod tun;
pub mod udp;

mod mmsg;
