use std::sync::atomic::{AtomicUsize, Ordering};

use domain::base::MessageBuilder;
use domain::rdata::{A, Cname};
use tokio::net::{TcpStream, UdpSocket};

use super::super::listen::{read_message, write_message};
use super::*;

const PREFIX: &str = "2002:c633:6401::/48";
const WEB: &str = "2002:c633:6401:100::2";

/// A server of somebody else: what it makes of queries, and how many there were.
struct Fake<F> {
    answer: F,
    asked: AtomicUsize,
}

impl<F: Fn(&Message<[u8]>) -> Option<Vec<u8>> + Send + Sync + 'static> Responder for Fake<F> {
    async fn respond(&self, query: Vec<u8>, _: Transport) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        (self.answer)(Message::from_slice(&query).unwrap())
    }
}

struct Running<F> {
    listener: Listener,
    fake: Arc<Fake<F>>,
}

impl<F> Running<F> {
    fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    fn asked(&self) -> usize {
        self.fake.asked.load(Ordering::Relaxed)
    }
}

async fn fake<F>(at: SocketAddr, answer: F) -> Running<F>
where
    F: Fn(&Message<[u8]>) -> Option<Vec<u8>> + Send + Sync + 'static,
{
    let fake = Arc::new(Fake { answer, asked: AtomicUsize::new(0) });
    let listener = Listener::start(at, Arc::clone(&fake)).await.unwrap();
    Running { listener, fake }
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn with_address(query: &Message<[u8]>, address: &str) -> Option<Vec<u8>> {
    let name = query.sole_question().unwrap().into_qname();
    let mut answer = MessageBuilder::new_vec().start_answer(query, Rcode::NOERROR).unwrap();
    match address.parse().unwrap() {
        std::net::IpAddr::V4(address) => answer.push((name, 60, A::new(address))).unwrap(),
        std::net::IpAddr::V6(address) => answer.push((name, 60, Aaaa::new(address))).unwrap(),
    }
    Some(answer.finish())
}

fn with_code(query: &Message<[u8]>, rcode: Rcode) -> Option<Vec<u8>> {
    Some(MessageBuilder::new_vec().start_answer(query, rcode).unwrap().finish())
}

fn home(domain: &str, prefix: &str, server: SocketAddr) -> Home {
    let home = HomeDomain { domain: domain.to_owned(), prefix: prefix.parse().unwrap(), search: false };
    Home::new(&home, server).unwrap()
}

/// A forwarder over these homes and resolvers, which have one port.
async fn stub(homes: Vec<Home>, resolvers: &[SocketAddr]) -> (Stub, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    let lines: String = resolvers.iter().map(|server| format!("nameserver {}\n", server.ip())).collect();
    std::fs::write(&file, lines).unwrap();
    let port = resolvers.first().map_or(PORT, SocketAddr::port);
    let resolvers = Resolvers::new(&file, &file).on_port(port);
    // Not where the fakes are: it never asks its own address.
    let at = "127.0.0.77:0".parse().unwrap();
    (Stub::start_with(at, homes, resolvers, [7; 32]).await.unwrap(), directory)
}

fn query(name: &str, rtype: Rtype) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x4242);
    let mut question = builder.question();
    question.push((Name::vec_from_str(name).unwrap(), rtype)).unwrap();
    question.finish()
}

async fn ask(stub: &Stub, name: &str, rtype: Rtype) -> Message<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(stub.address()).await.unwrap();
    socket.send(&query(name, rtype)).await.unwrap();
    let mut buffer = vec![0; 2000];
    let received = tokio::time::timeout(Duration::from_secs(30), socket.recv(&mut buffer));
    let length = received.await.unwrap().unwrap();
    buffer.truncate(length);
    assert!(super::super::exchange::is_reply(&buffer, &query(name, rtype)));
    Message::from_octets(buffer).unwrap()
}

fn outcome(reply: &Message<Vec<u8>>) -> (Rcode, u16) {
    (reply.header().rcode(), reply.header_counts().ancount())
}

#[tokio::test]
async fn each_home_is_asked_about_its_own_and_the_resolvers_about_the_rest() {
    let one = fake(anywhere(), |query| with_address(query, WEB)).await;
    let two = fake(anywhere(), |query| with_address(query, "2002:c633:6402:100::2")).await;
    let other = fake(anywhere(), |query| with_address(query, "192.0.2.1")).await;
    let homes = vec![
        home("sub.home.example.org", "2002:c633:6402::/48", two.address()),
        home("home.example.org", PREFIX, one.address()),
    ];
    let (stub, _directory) = stub(homes, &[other.address()]).await;
    for name in ["web.home.example.org", "WEB.HOME.EXAMPLE.ORG", "home.example.org"] {
        assert_eq!(outcome(&ask(&stub, name, Rtype::AAAA).await), (Rcode::NOERROR, 1));
    }
    assert_eq!(outcome(&ask(&stub, "web.sub.home.example.org", Rtype::AAAA).await), (Rcode::NOERROR, 1));
    for name in ["example.org", "xhome.example.org", "8.8.8.8.in-addr.arpa", "2.0.0.2.ip6.arpa"] {
        assert_eq!(outcome(&ask(&stub, name, Rtype::A).await), (Rcode::NOERROR, 1), "{name}");
    }
    // The reverse tree of its prefix is its own, too.
    let reverse = ask(&stub, "1.1.0.4.6.3.3.6.c.2.0.0.2.ip6.arpa", Rtype::AAAA).await;
    assert_eq!(outcome(&reverse), (Rcode::NOERROR, 1));
    assert_eq!((one.asked(), two.asked(), other.asked()), (4, 1, 4));

    // Later homes count as well; their servers are where homes have them, which is nowhere here.
    stub.set_homes(&[]).unwrap();
    assert_eq!(outcome(&ask(&stub, "web.home.example.org", Rtype::A).await), (Rcode::NOERROR, 1));
    assert_eq!((one.asked(), other.asked()), (4, 5));
}

#[tokio::test]
async fn a_home_that_says_more_than_it_may_is_not_believed() {
    for (what, said) in [("an IPv4 address", "198.51.100.1"), ("another's address", "2002:c633:6402::1")] {
        let bad = fake(anywhere(), move |query| with_address(query, said)).await;
        let (stub, _directory) = stub(vec![home("home.example.org", PREFIX, bad.address())], &[]).await;
        for rtype in [Rtype::A, Rtype::AAAA] {
            let reply = ask(&stub, "web.home.example.org", rtype).await;
            assert_eq!(outcome(&reply), (Rcode::SERVFAIL, 0), "{what}");
        }
    }
    let alias = |query: &Message<[u8]>| {
        let name = query.sole_question().unwrap().into_qname();
        let mut answer = MessageBuilder::new_vec().start_answer(query, Rcode::NOERROR).unwrap();
        let target: Name<Vec<u8>> = Name::vec_from_str("elsewhere.example").unwrap();
        answer.push((name, 60, Cname::new(target))).unwrap();
        Some(answer.finish())
    };
    let bad = fake(anywhere(), alias).await;
    let (stub, _directory) = stub(vec![home("home.example.org", PREFIX, bad.address())], &[]).await;
    assert_eq!(outcome(&ask(&stub, "web.home.example.org", Rtype::AAAA).await), (Rcode::SERVFAIL, 0));
}

#[tokio::test]
async fn the_next_resolver_answers_when_the_first_cannot() {
    let good = fake(anywhere(), |query| with_address(query, "192.0.2.1")).await;
    let at = |host: &str| SocketAddr::new(host.parse().unwrap(), good.address().port());
    let bad = fake(at("127.0.0.2"), |query| with_code(query, Rcode::SERVFAIL)).await;
    // Nobody listens at the first one.
    let (stub, _directory) = stub(vec![], &[at("127.0.0.3"), bad.address(), good.address()]).await;
    assert_eq!(outcome(&ask(&stub, "example.org", Rtype::A).await), (Rcode::NOERROR, 1));
    assert_eq!((bad.asked(), good.asked()), (1, 1));
}

#[tokio::test]
async fn without_an_answer_there_is_an_answer() {
    let (silent, _directory) = stub(vec![], &[]).await;
    assert_eq!(outcome(&ask(&silent, "example.org", Rtype::A).await), (Rcode::SERVFAIL, 0));
    let bad = fake(anywhere(), |query| with_code(query, Rcode::REFUSED)).await;
    let (stub, _directory) = stub(vec![], &[bad.address()]).await;
    assert_eq!(outcome(&ask(&stub, "example.org", Rtype::A).await), (Rcode::REFUSED, 0));
    assert_eq!(bad.asked(), 1);
}

#[tokio::test]
async fn streams_are_forwarded_in_streams() {
    let good = fake(anywhere(), |query| with_address(query, WEB)).await;
    let (stub, _directory) = stub(vec![home("home.example.org", PREFIX, good.address())], &[]).await;
    let mut stream = TcpStream::connect(stub.address()).await.unwrap();
    for _ in 0..2 {
        write_message(&mut stream, &query("web.home.example.org", Rtype::AAAA)).await.unwrap();
        let reply = read_message(&mut stream, 65_535).await.unwrap().unwrap();
        assert_eq!(outcome(&Message::from_octets(reply).unwrap()), (Rcode::NOERROR, 1));
    }
}

#[tokio::test]
async fn a_resolver_that_asks_us_back_is_stopped() {
    // It asks whoever it is told to, under a number of its own, and waits for the answer.
    struct Loop(Mutex<Option<SocketAddr>>, AtomicUsize);
    impl Responder for Loop {
        async fn respond(&self, query: Vec<u8>, transport: Transport) -> Option<Vec<u8>> {
            let at = self.0.lock().unwrap().unwrap();
            let id = self.1.fetch_add(1, Ordering::Relaxed);
            exchange(at, &query, u16::try_from(id).unwrap(), transport, Duration::from_secs(20)).await.ok()
        }
    }
    let circle = Arc::new(Loop(Mutex::default(), AtomicUsize::new(0)));
    let listener = Listener::start(anywhere(), Arc::clone(&circle)).await.unwrap();
    let (stub, _directory) = stub(vec![], &[listener.address()]).await;
    *circle.0.lock().unwrap() = Some(stub.address());
    assert_eq!(outcome(&ask(&stub, "example.org", Rtype::A).await), (Rcode::REFUSED, 0));
    assert!(circle.1.load(Ordering::Relaxed) <= 2 * SAME_QUESTION);
    assert!(stub.forwarder.in_flight.lock().unwrap().is_empty());
}

#[tokio::test]
async fn it_serves_this_machine_only() {
    let at = "0.0.0.0:0".parse().unwrap();
    let refused = Stub::start(at, &[], Resolvers::default(), [7; 32]).await;
    assert!(matches!(refused, Err(StubError::NotLoopback(_))));
    let (first, _directory) = stub(vec![], &[]).await;
    let second = Stub::start(first.address(), &[], Resolvers::default(), [7; 32]).await;
    assert!(matches!(second, Err(StubError::Bind { .. })));
}
