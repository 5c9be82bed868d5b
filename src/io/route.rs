//! What the kernel's routes say.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// The source address that the kernel would choose for `remote`, or `None` without a route. Connecting a UDP
/// socket makes the kernel decide and sends nothing.
pub fn source_for(remote: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Any port but 0 will do; 9 is the discard service.
    socket.connect((remote, 9)).ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(local) if !local.ip().is_unspecified() => Some(*local.ip()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback() {
        assert_eq!(source_for(Ipv4Addr::new(127, 1, 2, 3)), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(source_for(Ipv4Addr::BROADCAST), None);
    }
}
