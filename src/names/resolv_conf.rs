//! The machine's own resolvers, as resolv.conf(5) names them, without any that lead back here or into the tunnel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

use ipnet::Ipv6Net;

use super::serve::PORT;
use super::stub::DEFAULT_STUB;

/// Where resolv.conf is.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved writes the resolvers that it asks itself (systemd-resolved.service(8)).
const RESOLVED_UPLINKS: &str = "/run/systemd/resolve/resolv.conf";
/// Where systemd-resolved listens.
const RESOLVED_STUBS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)];
/// More are not asked; glibc asks as many.
const SERVERS: usize = 3;

/// Where the machine's own resolvers are found. The files are read whenever they are needed, so that a change of network
/// is seen.
#[derive(Clone, Debug)]
pub struct Resolvers {
    file: PathBuf,
    uplinks: PathBuf,
    own: Vec<IpAddr>,
    port: u16,
}

impl Default for Resolvers {
    fn default() -> Self {
        Self::new(Path::new(RESOLV_CONF), Path::new(RESOLVED_UPLINKS))
    }
}

impl Resolvers {
    /// Resolvers from other files.
    pub fn new(file: &Path, uplinks: &Path) -> Self {
        Self { file: file.to_owned(), uplinks: uplinks.to_owned(), own: vec![DEFAULT_STUB.ip()], port: PORT }
    }

    /// Servers that answer on another port than 53.
    #[cfg(test)]
    pub(super) fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Never these, either: a forwarder that listens there would ask itself.
    pub(super) fn never(mut self, own: IpAddr) -> Self {
        self.own.push(own);
        self
    }

    /// The resolvers, in order. None of them is a forwarder of ours, is in a home, or asks systemd-resolved, which would
    /// ask us for our domains.
    pub(super) fn servers(&self, homes: &[Ipv6Net]) -> Vec<SocketAddr> {
        let mut named = read(&self.file);
        if named.iter().any(|server| is_resolved(server.ip())) {
            named.retain(|server| !is_resolved(server.ip()));
            named.extend(read(&self.uplinks).into_iter().filter(|server| !is_resolved(server.ip())));
        }
        named.retain(|server| !self.own.contains(&server.ip()) && !is_inside(server.ip(), homes));
        named.truncate(SERVERS);
        for server in &mut named {
            server.set_port(self.port);
        }
        named
    }

    /// Whether programs on this machine that read the file ask `server`.
    pub(super) fn names(&self, server: IpAddr) -> bool {
        read(&self.file).iter().any(|named| named.ip() == server)
    }

    /// Whether they ask systemd-resolved.
    pub(super) fn names_resolved(&self) -> bool {
        read(&self.file).iter().any(|named| is_resolved(named.ip()))
    }

    /// The file that lists them.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn is_resolved(server: IpAddr) -> bool {
    matches!(server, IpAddr::V4(server) if RESOLVED_STUBS.contains(&server))
}

/// 2002::/16 is in the tunnel, whoever's home it is.
fn is_inside(server: IpAddr, homes: &[Ipv6Net]) -> bool {
    match server {
        IpAddr::V6(server) => {
            server.segments().first() == Some(&0x2002) || homes.iter().any(|home| home.contains(&server))
        }
        IpAddr::V4(_) => false,
    }
}

fn read(file: &Path) -> Vec<SocketAddr> {
    std::fs::read_to_string(file).map(|text| parse(&text)).unwrap_or_default()
}

/// The `nameserver` lines. What is not understood is passed over, as the C library does.
fn parse(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(server) = words.next().and_then(server) else { continue };
        if !server.ip().is_unspecified() && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    let (address, zone) = text.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let zone = zone.parse().ok().or_else(|| interface_index(zone))?;
    Some(SocketAddrV6::new(address, PORT, 0, zone).into())
}

/// The number of an interface.
pub(super) fn interface_index(name: &str) -> Option<u32> {
    if name.contains('/') {
        return None;
    }
    std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(resolv_conf: &str, uplinks: &str, own: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("resolv.conf"), directory.path().join("uplinks"));
        std::fs::write(&file, resolv_conf).unwrap();
        std::fs::write(&other, uplinks).unwrap();
        let resolvers = Resolvers::new(&file, &other).never(own.parse().unwrap());
        let homes = ["fd12:3456:789a::/48".parse().unwrap()];
        resolvers.servers(&homes).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_lines_of_others_count() {
        let text = "# nameserver 9.9.9.9\n; nameserver 9.9.9.9\nsearch lan\nnameserver 192.0.2.53 # office\n\
                    \tnameserver\t2001:db8::53\nnameserver\nnameserver elsewhere\nnameserver 0.0.0.0\n\
                    nameservers 9.9.9.9\nnameserver fe80::1%1\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n";
        assert_eq!(
            servers(text, "", "127.0.0.99"),
            ["192.0.2.53:53", "[2001:db8::53]:53", "[fe80::1%1]:53"],
            "three at most"
        );
        assert_eq!(servers("", "nameserver 192.0.2.53", "127.0.0.99"), Vec::<String>::new());
    }

    #[test]
    fn none_leads_back() {
        let text = "nameserver 127.53.20.2\nnameserver 127.0.0.99\nnameserver 2002:c633:6401::1\n\
                    nameserver fd12:3456:789a::1\nnameserver 127.0.0.1\n";
        assert_eq!(servers(text, "nameserver 9.9.9.9", "127.0.0.99"), ["127.0.0.1:53"]);
    }

    #[test]
    fn behind_systemd_resolved_its_own_resolvers_are_asked() {
        let uplinks = "nameserver 2002:c633:6401::1\nnameserver 192.0.2.53\nnameserver 127.0.0.53\nsearch .";
        for stub in ["127.0.0.53", "127.0.0.54"] {
            assert_eq!(servers(&format!("nameserver {stub}"), uplinks, "127.0.0.99"), ["192.0.2.53:53"]);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(nameserver |[0-9a-f:.%\\n #]|\\PC){0,200}") {
            prop_assert!(parse(&text).iter().all(|server| server.port() == PORT && !server.ip().is_unspecified()));
        }
    }
}
