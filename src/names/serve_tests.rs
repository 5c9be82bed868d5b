use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::listen::{read_message, write_message};
use super::*;

struct OneName;

impl Table for OneName {
    fn address(&self, name: &str) -> Result<Option<Ipv6Addr>, Unavailable> {
        Ok((name == "web").then_some(Ipv6Addr::new(0x2002, 0xc633, 0x6401, 0x100, 0, 0, 0, 2)))
    }

    fn name(&self, _: Ipv6Addr) -> Result<Option<String>, Unavailable> {
        Ok(None)
    }
}

fn query(name: &str) -> Vec<u8> {
    let mut question = MessageBuilder::new_vec().question();
    question.push((Name::vec_from_str(name).unwrap(), Rtype::AAAA)).unwrap();
    question.finish()
}

async fn server() -> Server {
    let zone = Zone::new("home.example.org", "2002:c633:6401::/48".parse().unwrap()).unwrap();
    serve_at("[::1]:0".parse().unwrap(), zone, Arc::new(OneName)).await.unwrap()
}

fn answers(response: &[u8]) -> u16 {
    Message::from_slice(response).unwrap().header_counts().ancount()
}

async fn ask(socket: &UdpSocket, octets: &[u8]) -> Vec<u8> {
    socket.send(octets).await.unwrap();
    let mut buffer = [0; 2000];
    let length = timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await.unwrap().unwrap();
    buffer[..length].to_vec()
}

async fn udp_to(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("[::1]:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

#[tokio::test]
async fn datagrams_and_streams_are_answered() {
    let server = server().await;
    let socket = udp_to(server.address()).await;
    // What deserves no answer comes first: the next answer is that of the next query.
    socket.send(b"nonsense").await.unwrap();
    assert_eq!(answers(&ask(&socket, &query("web.home.example.org")).await), 1);

    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    for _ in 0..3 {
        write_message(&mut stream, &query("web.home.example.org")).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(answers(&read_message(&mut stream, 65_535).await.unwrap().unwrap()), 1);
    }
    // A query that is cut off because nobody needs so long a one is no query.
    let mut long = query("web.home.example.org");
    long.resize(5000, 0);
    assert_eq!(answers(&ask(&socket, &long).await), 1, "octets behind a message are no harm");
}

#[tokio::test]
async fn who_talks_nonsense_in_a_stream_loses_it_and_nobody_else_does() {
    let server = server().await;
    let mut bad = TcpStream::connect(server.address()).await.unwrap();
    let mut good = TcpStream::connect(server.address()).await.unwrap();
    bad.write_all(&[0xff; 100]).await.unwrap();
    let mut rest = Vec::new();
    // The end of the stream, or a reset: octets of it were not read.
    let ended = timeout(Duration::from_secs(20), bad.read_to_end(&mut rest)).await.unwrap();
    assert!(ended.is_err() || rest.is_empty());
    write_message(&mut good, &query("nobody.home.example.org")).await.unwrap();
    let answer = read_message(&mut good, 65_535).await.unwrap().unwrap();
    assert_eq!(Message::from_octets(answer).unwrap().header().rcode(), Rcode::NXDOMAIN);
}

#[tokio::test]
async fn silent_connections_make_room_for_others() {
    let server = server().await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    // In the backlog until the first of the others was silent for too long, which it soon is in tests.
    let mut late = TcpStream::connect(server.address()).await.unwrap();
    write_message(&mut late, &query("web.home.example.org")).await.unwrap();
    assert_eq!(answers(&read_message(&mut late, 65_535).await.unwrap().unwrap()), 1);
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let server = server().await;
    let address = server.address();
    drop(server);
    tokio::task::yield_now().await;
    for _ in 0..100 {
        if TcpStream::connect(address).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it still listens");
}
