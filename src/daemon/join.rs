//! Joining and leaving a home without a daemon: one IKE SA, one question, one answer. A code's secret proves both sides; without a code
//! the machine proves its key and nothing else, and the home its certificate. Nothing of the machine is changed here.
#![expect(clippy::disallowed_methods, reason = "this is where the clock comes in")]
#![expect(clippy::wildcard_enum_match_arm, reason = "one answer of many fits a question")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::system::{random, unix};
use crate::crypto::identity::PrivateKey;
use crate::crypto::suite::has_fast_aes;
use crate::dataplane::event::UdpPath;
use crate::home::code::Code;
use crate::home::talk::{About, Ask, Membership, Tell};
use crate::ike::{self, Endpoint, Event, Failure, LocalEntity};
use crate::pki::{Root, TrustError, TrustStore, UnixSeconds, leaf};
use crate::policy::certificates::{Certificates, Certified, OwnCertificate, Shown, TrustSpan};
use crate::policy::pad::{Pad, Peer, Proof};
use crate::policy::spd::{Action, Policy, Services, Spd};
use crate::policy::stranger;
use crate::wire::ike::notify_type as nt;
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
    /// Another home answers than the one that is meant.
    #[error(
        "whoever answers at {home} has a root with the fingerprint {found}, and not {wanted}: somebody may be in between"
    )]
    OtherRoot {
        /// Where.
        home: SocketAddrV4,
        /// That of the one who answers.
        found: String,
        /// That of the one who is meant.
        wanted: String,
    },
    /// What it sent is not good.
    #[error("what the home at {0} sent is not good: {1}")]
    Answer(SocketAddrV4, String),
}

/// Who asks where.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Where the home answers.
    pub home: SocketAddrV4,
    /// The home agent's permanent address.
    pub agent: Ipv6Addr,
    /// The machine's key.
    pub key: &'a PrivateKey,
    /// What the machine calls itself.
    pub label: Option<&'a str>,
    /// How long the home may take to answer.
    pub timeout: Duration,
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    /// Nobody has decided.
    Waiting,
    /// The machine belongs to the home.
    Joined(Box<Membership>),
}

/// Joins with a code. The same key may ask again for ten minutes.
pub fn join(asker: &Asker<'_>, code: &Code) -> Result<Membership, JoinError> {
    let ours = Ipv6Addr::from(*code.lookup_id().as_bytes());
    let peer = Peer { name: "home".to_owned(), address: asker.agent, proof: Proof::Psk(code.psk()) };
    let mut talk = Talk::begin(asker, ours, Pad::new([peer]))?;
    let question = Ask::join(&asker.key.public(), asker.label);
    talk.by_code = true;
    match talk.run(&question.to_bytes())? {
        Tell::Joined(membership) => {
            check(&membership, asker).map_err(|why| JoinError::Answer(asker.home, why))?;
            Ok(membership)
        }
        _ => Err(another_question(asker)),
    }
}

/// Leaves a home for good, as the entity `ours` whose certificate is valid. Gives what the home says.
pub fn leave(
    asker: &Asker<'_>,
    ours: Ipv6Addr,
    certificate: Vec<u8>,
    root: Root,
) -> Result<String, JoinError> {
    let bad = |error: TrustError| JoinError::Answer(asker.home, error.to_string());
    let trust = super::trust::remembered(TrustStore::default());
    trust.change(|store| store.pin(root)).map_err(bad)?;
    trust.set_own(certificate, Vec::new()).map_err(bad)?;
    let mut talk = Talk::begin(asker, ours, Pad::new([]).with_certificates(trust))?;
    match talk.run(&Ask::Leave {}.to_bytes())? {
        Tell::Done { about: About::Leave, message } => Ok(message),
        Tell::Denied { error, .. } => Err(JoinError::Refused(error)),
        _ => Err(another_question(asker)),
    }
}

fn another_question(asker: &Asker<'_>) -> JoinError {
    JoinError::Answer(asker.home, "it answers another question".to_owned())
}

/// Asks to be let in without a code, or what became of that. With `wanted_root`, a fingerprint, nothing is asked of any
/// other home. The root of whoever answers is for a person to compare.
pub fn request(
    asker: &Asker<'_>,
    wanted: &str,
    wanted_root: Option<&str>,
) -> Result<(Answer, Root), JoinError> {
    let ours = stranger::identity(&asker.key.public());
    let seen = Arc::new(Candidate::new(asker.agent, wanted_root));
    let pad = Pad::new([]).with_certificates(Arc::clone(&seen) as _);
    let question = Ask::request(&asker.key.public(), wanted, asker.label);
    let told = Talk::begin(asker, ours, pad).and_then(|mut talk| talk.run(&question.to_bytes()));
    let root = seen.root();
    if let (Some(root), Some(wanted)) = (&root, wanted_root)
        && root.fingerprint() != wanted
    {
        return Err(JoinError::OtherRoot {
            home: asker.home,
            found: root.fingerprint(),
            wanted: wanted.to_owned(),
        });
    }
    let answer = match told? {
        Tell::Joined(membership) => Answer::Joined(Box::new(membership)),
        Tell::Waiting {} => Answer::Waiting,
        _ => return Err(another_question(asker)),
    };
    let unproven = || JoinError::Answer(asker.home, "it shows no root".to_owned());
    let root = root.ok_or_else(unproven)?;
    if let Answer::Joined(membership) = &answer {
        check(membership, asker).map_err(|why| JoinError::Answer(asker.home, why))?;
        if membership.root.0 != root.der() {
            return Err(JoinError::Answer(asker.home, "it changed its root in between".to_owned()));
        }
    }
    Ok((answer, root))
}

/// What a stranger believes of a home: any root that owns the agent's address, or the one that is meant.
#[derive(Debug)]
struct Candidate {
    agent: Ipv6Addr,
    wanted: Option<String>,
    root: Mutex<Option<Root>>,
}

impl Candidate {
    fn new(agent: Ipv6Addr, wanted: Option<&str>) -> Self {
        Self { agent, wanted: wanted.map(str::to_owned), root: Mutex::default() }
    }

    fn root(&self) -> Option<Root> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Certificates for Candidate {
    fn unix(&self, _: Instant) -> UnixSeconds {
        unix()
    }

    fn own(&self, _: Instant, _: Ipv6Addr) -> Option<OwnCertificate> {
        None
    }

    fn accepts(&self, remote: Ipv6Addr) -> bool {
        remote == self.agent
    }

    fn authorities(&self, _: Option<Ipv6Addr>) -> Vec<[u8; 20]> {
        Vec::new()
    }

    fn verify(&self, _: Instant, remote: Ipv6Addr, shown: &Shown<'_>) -> Result<Certified, String> {
        let (Some(first), Some(root)) = (shown.certificates.first(), shown.certificates.get(1)) else {
            return Err("it does not show its certificate and its root".to_owned());
        };
        let root = Root::from_der(root).map_err(|error| error.to_string())?;
        let leaf = leaf::verify(first, &[], &root, unix(), remote).map_err(|error| error.to_string())?;
        let fits = self.wanted.as_ref().is_none_or(|wanted| root.fingerprint() == *wanted);
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(root);
        if !fits {
            return Err("its root is not the one that is meant".to_owned());
        }
        let span = TrustSpan { refresh: leaf.not_after, ends: leaf.not_after };
        Ok(Certified { key: *leaf.key.as_bytes(), span })
    }

    fn proven(&self, _: Instant, _: Ipv6Addr, _: &Certified, _: &Shown<'_>) {}
}

/// One SA between an identity of ours and the home agent.
fn config(asker: &Asker<'_>, ours: Ipv6Addr, pad: Pad) -> ike::Config {
    let policy = Policy {
        local: Ipv6Net::from(ours),
        remote: Ipv6Net::from(asker.agent),
        action: Action::Protect(Services::Confidentiality),
    };
    let entity = LocalEntity { address: ours, signing_key: asker.key.seed() };
    ike::Config::usual(vec![entity], pad, Spd::new(vec![policy]), has_fast_aes())
}

struct Talk {
    socket: UdpSocket,
    endpoint: Endpoint,
    path: UdpPath,
    home: SocketAddrV4,
    end: Instant,
    buffer: Vec<u8>,
    /// A code proves both ends, or should.
    by_code: bool,
}

impl Talk {
    fn begin(asker: &Asker<'_>, ours: Ipv6Addr, pad: Pad) -> Result<Self, JoinError> {
        let Asker { home, agent, timeout, .. } = *asker;
        let socket_error = |error| JoinError::Socket(home, error);
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(socket_error)?;
        socket.connect(SocketAddr::V4(home)).map_err(socket_error)?;
        let local = match socket.local_addr().map_err(socket_error)? {
            SocketAddr::V4(local) => local,
            SocketAddr::V6(_) => return Err(JoinError::Socket(home, io::Error::other("not an IPv4 socket"))),
        };
        let seed = random().map_err(|error| socket_error(error.into()))?;
        let start = Instant::now();
        let mut endpoint = Endpoint::new(config(asker, ours, pad), *seed, start);
        let path = UdpPath::direct(local, home);
        let refused = |failure: Failure| JoinError::Ike { home, why: failure.to_string() };
        endpoint.initiate(start, ours, agent, path).map_err(refused)?;
        let buffer = vec![0; 1 << 16];
        Ok(Self { socket, endpoint, path, home, end: start + timeout, buffer, by_code: false })
    }

    /// Asks once the SA is up; ends with the answer.
    fn run(&mut self, question: &[u8]) -> Result<Tell, JoinError> {
        loop {
            self.send();
            while let Some(event) = self.endpoint.poll_event() {
                match event {
                    Event::IkeEstablished(info) => {
                        self.endpoint.tell(Instant::now(), info.id, question.to_vec());
                    }
                    Event::Document { document, .. } => {
                        // What a home tells everybody who comes is of no interest here.
                        if let Some(told) = self.answer(&document)? {
                            self.leave();
                            return Ok(told);
                        }
                    }
                    Event::InitiationFailed { failure, .. } => {
                        // Whoever is refused here says so (RFC 7296 §2.21.2).
                        self.leave();
                        return Err(self.failed(&self.why(&failure)));
                    }
                    Event::IkeClosed { .. } => return Err(self.failed("it closed the connection")),
                    Event::ChildReady(_)
                    | Event::ChildSend { .. }
                    | Event::ChildStop(_)
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

    fn why(&self, failure: &Failure) -> String {
        match failure {
            Failure::Notify(nt::TEMPORARY_FAILURE) => {
                "it has too many strangers at the door: try again in a minute".to_owned()
            }
            Failure::Authentication(_) if self.by_code => {
                "it does not know this code: is it the home that made it, and is the code still good?"
                    .to_owned()
            }
            other => other.to_string(),
        }
    }

    fn failed(&self, why: &str) -> JoinError {
        JoinError::Ike { home: self.home, why: why.to_owned() }
    }

    fn answer(&mut self, document: &[u8]) -> Result<Option<Tell>, JoinError> {
        match Tell::parse(document) {
            Ok(Tell::Revoked { .. } | Tell::HostedChanged {}) => Ok(None),
            Ok(Tell::Refused { error }) => {
                self.leave();
                Err(JoinError::Refused(error))
            }
            Ok(told) => Ok(Some(told)),
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
fn check(membership: &Membership, asker: &Asker<'_>) -> Result<(), String> {
    let root = Root::from_der(&membership.root.0).map_err(|error| error.to_string())?;
    if !root.prefix().contains(&asker.agent) {
        return Err(format!("its root is that of {}", root.prefix()));
    }
    leaf::verify_own(&membership.certificate.0, &root, unix(), membership.address, &asker.key.public())
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// Where a home answers: `HOST` or `HOST:PORT`, a name or an IPv4 address.
pub fn resolve(host: &str) -> io::Result<SocketAddrV4> {
    super::lookup::endpoint(host, Some(crate::addr::home::PORT)).map_err(io::Error::other)
}
