//! UDP and TCP towards whoever asks (RFC 1035 §4.2, RFC 7766). Everything is bounded: queries at a time, connections at
//! a time, how long one may be silent, and how much it may ask.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::message::Transport;

/// Queries in datagrams that are worked on at a time; more are dropped, and asked again by who asked.
const QUERIES: usize = 256;
/// Connections at a time; more wait in the kernel's backlog.
const CONNECTIONS: usize = 64;
/// A connection ends after so many queries: others want its place, too.
const PER_CONNECTION: usize = 200;
/// A connection ends after so much silence, or when an answer is not taken for so long (RFC 7766 §6.2.3).
const SILENCE: Duration = Duration::from_millis(if cfg!(test) { 1_000 } else { 10_000 });
/// Longer than any query that makes sense; the rest is cut off and makes the query unreadable.
const LONGEST_QUERY: usize = 4096;
/// After an error of the socket itself, such as no memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Whoever has the answers.
pub(super) trait Responder: Send + Sync + 'static {
    /// The answer to one query, if it deserves one.
    fn respond(&self, query: Vec<u8>, transport: Transport) -> impl Future<Output = Option<Vec<u8>>> + Send;
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddr,
    tasks: [AbortHandle; 2],
}

impl Listener {
    /// Binds one address for UDP and TCP. Port 0 takes any that is free for both.
    pub(super) async fn start(at: SocketAddr, responder: Arc<impl Responder>) -> io::Result<Self> {
        let tcp = TcpListener::bind(at).await?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address).await?;
        let datagrams = tokio::spawn(datagrams(Arc::new(udp), Arc::clone(&responder)));
        let streams = tokio::spawn(streams(tcp, responder));
        Ok(Self { address, tasks: [datagrams.abort_handle(), streams.abort_handle()] })
    }

    /// Where.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn datagrams(socket: Arc<UdpSocket>, responder: Arc<impl Responder>) {
    let mut buffer = vec![0; LONGEST_QUERY];
    let mut tasks = JoinSet::new();
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a question cannot be received");
                sleep(PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= QUERIES {
            continue;
        }
        let Some(query) = buffer.get(..length).map(<[u8]>::to_vec) else { continue };
        let (socket, responder) = (Arc::clone(&socket), Arc::clone(&responder));
        tasks.spawn(async move {
            if let Some(answer) = responder.respond(query, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, from).await
            {
                tracing::debug!(%from, %error, "an answer cannot be sent");
            }
        });
    }
}

async fn streams(listener: TcpListener, responder: Arc<impl Responder>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let responder = Arc::clone(&responder);
        tasks.spawn(async move {
            // Who is slow, says nonsense or goes away loses the connection; there is nobody to tell.
            let _ = converse(stream, &*responder).await;
            drop(place);
        });
    }
}

async fn converse(mut stream: TcpStream, responder: &impl Responder) -> io::Result<()> {
    for _ in 0..PER_CONNECTION {
        let Some(query) = timeout(SILENCE, read_message(&mut stream, LONGEST_QUERY)).await?? else { break };
        let Some(answer) = responder.respond(query, Transport::Tcp).await else { break };
        timeout(SILENCE, write_message(&mut stream, &answer)).await??;
    }
    Ok(())
}

/// A message behind its length (RFC 1035 §4.2.2); `None`: the other end has said all it had to.
pub(super) async fn read_message(stream: &mut TcpStream, longest: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::from(u16::from_be_bytes(length));
    if length > longest {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes a message behind its length, in one piece (RFC 7766 §8).
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}
