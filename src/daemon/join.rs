//! Joining a home by code, without a daemon: one IKE SA that the code's secret proves on both sides, one question, one
//! answer. Nothing of the machine is changed here.
#![expect(clippy::disallowed_methods, reason = "this is where the clock comes in")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::system::{random, unix};
use crate::crypto::identity::PrivateKey;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::dataplane::event::UdpPath;
use crate::home::code::Code;
use crate::home::talk::{Ask, Membership, Tell};
use crate::ike::{self, Endpoint, Event, Lifetimes, LocalEntity};
use crate::pki::{Root, leaf};
use crate::policy::pad::{Pad, Peer, Proof};
use crate::policy::spd::{Action, Policy, Services, Spd};
use crate::wire::udp_encap::{Datagram, classify};

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// Why it did not work. One sentence each.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The socket.
    #[error("the home at {0} cannot be reached: {1}")]
    Socket(SocketAddrV4, io::Error),
    /// Nobody answered, or the other end does not know this code.
    #[error("the home at {home} did not let us in: {why}")]
    Ike {
        /// Where.
        home: SocketAddrV4,
        /// Why, in words.
        why: String,
    },
    /// It said no.
    #[error("the home refused: {0}")]
    Refused(String),
    /// What it sent is not good.
    #[error("what the home at {0} sent is not good: {1}")]
    Answer(SocketAddrV4, String),
}

/// Joins: `agent` is the home agent's permanent address. The same key may ask again for ten minutes.
pub fn join(
    home: SocketAddrV4,
    agent: Ipv6Addr,
    code: &Code,
    key: &PrivateKey,
    label: Option<&str>,
    timeout: Duration,
) -> Result<Membership, JoinError> {
    let socket_error = |error| JoinError::Socket(home, error);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(socket_error)?;
    socket.connect(SocketAddr::V4(home)).map_err(socket_error)?;
    let local = match socket.local_addr().map_err(socket_error)? {
        SocketAddr::V4(local) => local,
        SocketAddr::V6(_) => return Err(JoinError::Socket(home, io::Error::other("not an IPv4 socket"))),
    };
    let ours = Ipv6Addr::from(*code.lookup_id().as_bytes());
    let seed = random().map_err(|error| socket_error(error.into()))?;
    let start = Instant::now();
    let mut endpoint = Endpoint::new(config(ours, agent, code, key), *seed, start);
    let path = UdpPath::direct(local, home);
    let refused = |why: String| JoinError::Ike { home, why };
    endpoint.initiate(start, ours, agent, path).map_err(|failure| refused(failure.to_string()))?;
    let mut talk = Talk { socket, endpoint, path, home, end: start + timeout, buffer: vec![0; 1 << 16] };
    let membership = talk.run(&Ask::join(&key.public(), label).to_bytes())?;
    check(&membership, agent, key).map_err(|why| JoinError::Answer(home, why))?;
    Ok(membership)
}

/// One SA between the code's lookup id and the home agent, which proves itself with the same secret.
fn config(ours: Ipv6Addr, agent: Ipv6Addr, code: &Code, key: &PrivateKey) -> ike::Config {
    let peer = Peer { name: "home".to_owned(), address: agent, proof: Proof::Psk(code.psk()) };
    let policy = Policy {
        local: Ipv6Net::from(ours),
        remote: Ipv6Net::from(agent),
        action: Action::Protect(Services::Confidentiality),
    };
    ike::Config {
        entities: vec![LocalEntity { address: ours, signing_key: key.seed() }],
        pad: Arc::new(Pad::new([peer])),
        spd: Arc::new(Spd::new(vec![policy])),
        ike_suites: vec![IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm],
        esp_suites: EspSuite::ALL.iter().copied().filter(|suite| suite.is_confidential()).collect(),
        esn: true,
        child_pfs: false,
        lifetimes: Lifetimes::default(),
        cookie_threshold: 64,
        fragment_size: 1280,
        keylog: false,
    }
}

struct Talk {
    socket: UdpSocket,
    endpoint: Endpoint,
    path: UdpPath,
    home: SocketAddrV4,
    end: Instant,
    buffer: Vec<u8>,
}

impl Talk {
    /// Asks once the SA is up; ends with the answer.
    fn run(&mut self, question: &[u8]) -> Result<Membership, JoinError> {
        loop {
            self.send();
            while let Some(event) = self.endpoint.poll_event() {
                match event {
                    Event::IkeEstablished(info) => {
                        self.endpoint.tell(Instant::now(), info.id, question.to_vec());
                    }
                    Event::Document { document, .. } => {
                        self.leave();
                        return self.answer(&document);
                    }
                    Event::InitiationFailed { failure, .. } => return Err(self.failed(&failure.to_string())),
                    Event::IkeClosed { .. } => return Err(self.failed("it closed the connection")),
                    Event::ChildReady(_)
                    | Event::ChildSend(_)
                    | Event::ChildClosed { .. }
                    | Event::PathChanged { .. }
                    | Event::IkeKeys { .. } => {}
                }
            }
            self.send();
            if Instant::now() >= self.end {
                return Err(self.failed("it does not answer"));
            }
            self.receive(self.end).map_err(|error| JoinError::Socket(self.home, error))?;
        }
    }

    fn failed(&self, why: &str) -> JoinError {
        JoinError::Ike { home: self.home, why: why.to_owned() }
    }

    fn answer(&self, document: &[u8]) -> Result<Membership, JoinError> {
        match Tell::parse(document) {
            Ok(Tell::Joined(membership)) => Ok(membership),
            Ok(Tell::Refused { error }) => Err(JoinError::Refused(error)),
            Ok(Tell::Renewed { .. } | Tell::Done { .. } | Tell::Revoked { .. }) => {
                Err(JoinError::Answer(self.home, "it answers another question".to_owned()))
            }
            Err(error) => Err(JoinError::Answer(self.home, error.to_string())),
        }
    }

    fn send(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            // What is lost is sent again.
            let _ = self.socket.send(&transmit.datagram());
        }
    }

    /// One datagram, or a deadline of the endpoint.
    fn receive(&mut self, end: Instant) -> io::Result<()> {
        let due = self.endpoint.poll_timeout().map_or(end, |(at, _)| at.min(end));
        let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(wait))?;
        match self.socket.recv(&mut self.buffer) {
            Ok(len) => {
                if let Ok(Datagram::Ike(message)) = classify(self.buffer.get(..len).unwrap_or_default()) {
                    self.endpoint.handle_datagram(Instant::now(), self.path, message);
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) => {}
            // Nobody listens there yet: it may start any moment.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
        self.endpoint.handle_timeout(Instant::now());
        Ok(())
    }

    /// The home is told that this SA is over.
    fn leave(&mut self) {
        let end = Instant::now() + GOODBYE;
        self.endpoint.close_all(Instant::now());
        self.send();
        while !self.endpoint.is_empty() && Instant::now() < end {
            if self.receive(end).is_err() {
                return;
            }
            self.send();
        }
    }
}

/// Is it a certificate for our key, of the home that we asked?
fn check(membership: &Membership, agent: Ipv6Addr, key: &PrivateKey) -> Result<(), String> {
    let root = Root::from_der(&membership.root.0).map_err(|error| error.to_string())?;
    if !root.prefix().contains(&agent) {
        return Err(format!("its root is that of {}", root.prefix()));
    }
    leaf::verify_own(&membership.certificate.0, &root, unix(), membership.address, &key.public())
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// Where a home answers: `HOST` or `HOST:PORT`, a name or an IPv4 address.
pub fn resolve(host: &str) -> io::Result<SocketAddrV4> {
    super::lookup::endpoint(host, Some(crate::addr::home::PORT)).map_err(io::Error::other)
}
