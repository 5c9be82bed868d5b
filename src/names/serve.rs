//! The home's DNS server: its zone on its own address inside the tunnel.
//!
//! It is bound to that one address, so it answers nobody on the Internet: what arrives there came out of the tunnel, or
//! from this machine.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;

use super::listen::{Listener, Responder};
use super::message::Transport;
use super::table::Table;
use super::zone::Zone;

/// Port of DNS.
pub const PORT: u16 = 53;

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
}

struct Home {
    zone: Zone,
    table: Arc<dyn Table + Send + Sync>,
}

impl Responder for Home {
    async fn respond(&self, query: Vec<u8>, transport: Transport) -> Option<Vec<u8>> {
        self.zone.answer(&query, transport, &*self.table)
    }
}

/// Serves a zone on port 53 of the home's address, which must be one of this machine's by now. In a tokio runtime.
///
/// # Errors
/// The address is not there, the port is taken, or there is no permission for it.
pub async fn serve(zone: Zone, table: Arc<dyn Table + Send + Sync>) -> io::Result<Server> {
    let at = SocketAddrV6::new(zone.agent(), PORT, 0, 0);
    serve_at(at.into(), zone, table).await
}

/// The same on another address, for tests.
pub async fn serve_at(at: SocketAddr, zone: Zone, table: Arc<dyn Table + Send + Sync>) -> io::Result<Server> {
    let listener = Listener::start(at, Arc::new(Home { zone, table })).await?;
    Ok(Server { listener })
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }
}
