//! One query to one server and the answer to it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Header, Message};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::listen::{read_message, write_message};
use super::message::Transport;

/// The longest datagram that is taken; who can take more asks in a stream.
const LONGEST_DATAGRAM: usize = 8192;

/// Sends a query under another number and returns the answer under the number of the query. The socket is connected, so
/// the kernel drops what others send; its port and `id` are random, so they cannot guess (RFC 5452 §9).
pub(super) async fn exchange(
    server: SocketAddr,
    query: &[u8],
    id: u16,
    transport: Transport,
    wait: Duration,
) -> io::Result<Vec<u8>> {
    let mut asked = query.to_vec();
    set_id(&mut asked, id)?;
    let reply = async {
        match transport {
            Transport::Udp => in_datagrams(server, &asked).await,
            Transport::Tcp => in_a_stream(server, &asked).await,
        }
    };
    let mut reply = timeout(wait, reply).await??;
    set_id(&mut reply, Header::for_message_slice(query).id())?;
    Ok(reply)
}

async fn in_datagrams(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(any_address(server)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What fills the buffer was longer than it.
        let reply = buffer.get(..length).filter(|_| length < LONGEST_DATAGRAM);
        if let Some(reply) = reply.filter(|reply| is_reply(reply, query)) {
            return Ok(reply.to_vec());
        }
    }
}

async fn in_a_stream(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, query).await?;
    let reply = read_message(&mut stream, usize::from(u16::MAX)).await?;
    reply.filter(|reply| is_reply(reply, query)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

pub(super) fn any_address(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn set_id(message: &mut [u8], id: u16) -> io::Result<()> {
    if message.len() < size_of::<Header>() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Header::for_message_slice_mut(message).set_id(id);
    Ok(())
}

/// Whether a message answers a query: the same number, and the same question to the letter (RFC 5452 §9.1; the case of
/// its letters makes guessing harder still).
pub(super) fn is_reply(reply: &[u8], query: &[u8]) -> bool {
    let (Ok(reply), Ok(query)) = (Message::from_slice(reply), Message::from_slice(query)) else {
        return false;
    };
    let header = reply.header();
    if !header.qr() || header.id() != query.header().id() || header.opcode() != query.header().opcode() {
        return false;
    }
    if reply.header_counts().qdcount() == 0 {
        // Who could not read the question does not repeat it.
        return header.rcode() != Rcode::NOERROR;
    }
    reply.header_counts().qdcount() == query.header_counts().qdcount() && question(reply) == question(query)
}

/// The octets of the question section.
fn question(message: &Message<[u8]>) -> Option<&[u8]> {
    let end = message.answer().ok()?.pos();
    message.as_slice().get(size_of::<domain::base::HeaderSection>()..end)
}

#[cfg(test)]
mod tests {
    use domain::base::iana::Rtype;
    use domain::base::{MessageBuilder, Name};
    use proptest::prelude::*;

    use super::*;

    fn message(id: u16, response: bool, name: &str, rtype: Rtype) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(id);
        builder.header_mut().set_qr(response);
        let mut question = builder.question();
        question.push((Name::vec_from_str(name).unwrap(), rtype)).unwrap();
        question.finish()
    }

    #[test]
    fn an_answer_has_number_and_question_of_the_query() {
        let query = message(7, false, "WeB.example.org", Rtype::AAAA);
        assert!(is_reply(&message(7, true, "WeB.example.org", Rtype::AAAA), &query));
        for bad in [
            message(8, true, "WeB.example.org", Rtype::AAAA),
            message(7, false, "WeB.example.org", Rtype::AAAA),
            message(7, true, "web.example.org", Rtype::AAAA),
            message(7, true, "WeB.example.org", Rtype::A),
            message(7, true, "WeB.example.com", Rtype::AAAA),
            query[..11].to_vec(),
        ] {
            assert!(!is_reply(&bad, &query));
        }
        let mut unread = vec![0, 7, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(is_reply(&unread, &query));
        unread[3] = 0;
        assert!(!is_reply(&unread, &query));
    }

    proptest! {
        #[test]
        fn any_octets_are_no_harm(reply in proptest::collection::vec(any::<u8>(), 0..100)) {
            let query = message(7, false, "web.example.org", Rtype::AAAA);
            prop_assert!(!is_reply(&reply, &query) || reply[..2] == query[..2]);
        }
    }
}
