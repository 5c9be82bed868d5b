//! Hosts that a person named, looked up without the C library: its answer could come from this very daemon.

use std::net::SocketAddrV4;

use super::system::random;
use crate::names::{LookupError, Resolvers, lookup_endpoint, lookup_ipv4};

/// Where `HOST:PORT` is, or `HOST` where there is a usual port. It blocks for seconds when resolvers are silent.
pub(super) fn endpoint(text: &str, usual_port: Option<u16>) -> Result<SocketAddrV4, LookupError> {
    lookup_endpoint(text, usual_port, &Resolvers::default(), number())
}

/// Of a query. Without randomness it would be guessed more easily, and nothing else: a home is known by its key.
fn number() -> u16 {
    random().map_or(0, |octets| u16::from_ne_bytes(*octets))
}

/// Every address of `HOST:PORT`, in no order.
pub(super) fn endpoints(text: &str) -> Result<Vec<SocketAddrV4>, LookupError> {
    let wrong = || LookupError::Endpoint(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let found = lookup_ipv4(host, &Resolvers::default(), number())?;
    Ok(found.into_iter().map(|address| SocketAddrV4::new(address, port)).collect())
}
