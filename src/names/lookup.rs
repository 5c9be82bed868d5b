//! The daemon's own look-ups: of a home that is named by a host name.
//!
//! They go to the machine's own resolvers and never by way of the C library: that would ask our forwarder, or
//! systemd-resolved, which would ask it, and so a home's address would be looked up at that home.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::A;

use super::exchange::{any_address, is_reply};
use super::message::UDP_MAX;
use super::resolv_conf::{RESOLV_CONF, Resolvers};

const HOSTS: &str = "/etc/hosts";
/// How long each resolver is waited for, in each round through all of them.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// Why a host has no address.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Not a host name.
    #[error("\"{0}\" is neither an IPv4 address nor the name of a host: correct it")]
    Name(String),
    /// No port, or not one.
    #[error("\"{0}\" is not IP:PORT or HOST:PORT: write it like 198.51.100.2:4500")]
    Endpoint(String),
    /// Nobody to ask.
    #[error(
        "{RESOLV_CONF} names no resolver that could tell the address of {0}: add a nameserver line, or use an IPv4 address"
    )]
    NoResolver(String),
    /// It does not exist, or has no IPv4 address.
    #[error("{0} has no IPv4 address: correct the name, or use an address")]
    NoAddress(String),
    /// No resolver answered.
    #[error("no resolver tells the address of {name} ({reason}): see whether this machine is online")]
    Failed {
        /// The host.
        name: String,
        /// What the last of them said.
        reason: String,
    },
}

/// IPv4 addresses of a host: from its text, from /etc/hosts, or from the machine's own resolvers. `id` is random. It
/// blocks for seconds when they are silent: in a tokio runtime use `spawn_blocking`.
///
/// # Errors
/// There is none, or nobody who knows it.
pub fn lookup_ipv4(host: &str, resolvers: &Resolvers, id: u16) -> Result<Vec<Ipv4Addr>, LookupError> {
    lookup_in(host, Path::new(HOSTS), &resolvers.servers(&[]), id)
}

/// The same for `HOST:PORT`, or for `HOST` alone where there is a usual port.
///
/// # Errors
/// The port is none, or the host has no address.
pub fn lookup_endpoint(
    text: &str,
    usual_port: Option<u16>,
    resolvers: &Resolvers,
    id: u16,
) -> Result<SocketAddrV4, LookupError> {
    let wrong = || LookupError::Endpoint(text.to_owned());
    let (host, port) = match (text.rsplit_once(':'), usual_port) {
        (Some((host, port)), _) => (host, port.parse().map_err(|_| wrong())?),
        (None, Some(port)) => (text, port),
        (None, None) => return Err(wrong()),
    };
    let found = lookup_ipv4(host, resolvers, id)?;
    let address = found.first().ok_or_else(|| LookupError::NoAddress(host.to_owned()))?;
    Ok(SocketAddrV4::new(*address, port))
}

fn lookup_in(
    host: &str,
    hosts: &Path,
    servers: &[SocketAddr],
    id: u16,
) -> Result<Vec<Ipv4Addr>, LookupError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let query = query(host, id).ok_or_else(|| LookupError::Name(host.to_owned()))?;
    let known = std::fs::read_to_string(hosts).map(|text| in_hosts(&text, host)).unwrap_or_default();
    if !known.is_empty() {
        return Ok(known);
    }
    if servers.is_empty() {
        return Err(LookupError::NoResolver(host.to_owned()));
    }
    let mut reason = String::new();
    for wait in WAITS {
        for server in servers {
            match ask(*server, &query, wait) {
                Ok(Some(addresses)) if addresses.is_empty() => {
                    return Err(LookupError::NoAddress(host.to_owned()));
                }
                Ok(Some(addresses)) => return Ok(addresses),
                Ok(None) => reason = format!("{} refuses", server.ip()),
                Err(error) => reason = format!("{}: {error}", server.ip()),
            }
        }
    }
    Err(LookupError::Failed { name: host.to_owned(), reason })
}

fn query(host: &str, id: u16) -> Option<Vec<u8>> {
    let name = Name::vec_from_str(host).ok().filter(|name| !name.is_root())?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((name, Rtype::A)).ok()?;
    let mut additional = question.additional();
    additional
        .opt(|opt| {
            opt.set_udp_payload_size(UDP_MAX);
            Ok(())
        })
        .ok()?;
    Some(additional.finish())
}

/// `None`: it has no answer.
fn ask(server: SocketAddr, query: &[u8], wait: Duration) -> io::Result<Option<Vec<Ipv4Addr>>> {
    let socket = UdpSocket::bind(any_address(server))?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = [0; UDP_MAX as usize];
    let end = now() + wait;
    loop {
        let left = end.saturating_duration_since(now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        let Some(reply) = buffer.get(..length).filter(|reply| is_reply(reply, query)) else { continue };
        return Ok(addresses(reply));
    }
}

#[expect(clippy::disallowed_methods, reason = "a blocking look-up has a deadline of its own")]
fn now() -> Instant {
    Instant::now()
}

/// The addresses that an answer has, whatever aliases led to them.
fn addresses(reply: &[u8]) -> Option<Vec<Ipv4Addr>> {
    let message = Message::from_slice(reply).ok()?;
    match message.header().rcode() {
        Rcode::NOERROR => {}
        Rcode::NXDOMAIN => return Some(Vec::new()),
        _ => return None,
    }
    let records = message.answer().ok()?.limit_to_in::<A>();
    Some(records.flatten().map(|record| record.data().addr()).collect())
}

/// hosts(5).
fn in_hosts(text: &str, host: &str) -> Vec<Ipv4Addr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(query: &[u8], rcode: Rcode, addresses: &[[u8; 4]]) -> Vec<u8> {
        let asked = Message::from_slice(query).unwrap();
        let mut answer = MessageBuilder::new_vec().start_answer(asked, rcode).unwrap();
        let name = asked.sole_question().unwrap().into_qname();
        for [a, b, c, d] in addresses {
            answer.push((&name, 60, A::from_octets(*a, *b, *c, *d))).unwrap();
        }
        answer.finish()
    }

    /// A resolver that answers so many queries.
    fn resolver(answers: Vec<(Rcode, Vec<[u8; 4]>)>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            for (rcode, addresses) in answers {
                let mut buffer = [0; 2000];
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(b"noise", from).unwrap();
                socket.send_to(&reply(&buffer[..length], rcode, &addresses), from).unwrap();
            }
        });
        address
    }

    fn hosts() -> tempfile::NamedTempFile {
        let hosts = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(hosts.path(), "192.0.2.7 near Near.example # 192.0.2.8 far\n::1 near\n").unwrap();
        hosts
    }

    fn lookup(host: &str, servers: &[SocketAddr]) -> Result<Vec<Ipv4Addr>, LookupError> {
        lookup_in(host, hosts().path(), servers, 7)
    }

    #[test]
    fn an_address_a_line_of_hosts_and_a_resolver_tell() {
        let (first, second) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(lookup("192.0.2.1", &[]).unwrap(), [first]);
        assert_eq!(lookup("NEAR.example.", &[]).unwrap(), [second]);
        let bad = resolver(vec![(Rcode::SERVFAIL, vec![])]);
        let good = resolver(vec![(Rcode::NOERROR, vec![[192, 0, 2, 1], [192, 0, 2, 7]])]);
        assert_eq!(lookup("home.example.org", &[bad, good]).unwrap(), [first, second]);
    }

    #[test]
    fn what_is_not_there_is_said_in_a_sentence() {
        let nothing = resolver(vec![(Rcode::NXDOMAIN, vec![]), (Rcode::NOERROR, vec![])]);
        assert!(matches!(lookup("nobody.example", &[nothing]), Err(LookupError::NoAddress(_))));
        assert!(matches!(lookup("empty.example", &[nothing]), Err(LookupError::NoAddress(_))));
        assert!(matches!(lookup("far", &[]), Err(LookupError::NoResolver(_))));
        assert!(matches!(lookup("a..b", &[nothing]), Err(LookupError::Name(_))));
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(lookup("home.example.org", &[closed]), Err(LookupError::Failed { .. })));
    }

    #[test]
    fn an_endpoint_has_a_host_and_a_port() {
        let nobody = Resolvers::new(Path::new("/dev/null"), Path::new("/dev/null"));
        let endpoint =
            |text: &str, usual| lookup_endpoint(text, usual, &nobody, 7).ok().map(|found| found.to_string());
        assert_eq!(endpoint("192.0.2.1:4501", None).as_deref(), Some("192.0.2.1:4501"));
        assert_eq!(endpoint("192.0.2.1", Some(4500)).as_deref(), Some("192.0.2.1:4500"));
        for bad in ["192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", ":4500", "::1", "nobody.invalid:4500", ""] {
            assert_eq!(endpoint(bad, None), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_reply_is_read(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = addresses(&octets);
        }
    }
}
