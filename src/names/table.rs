//! Where the zone finds who has which name and which address.

use std::net::Ipv6Addr;
use std::sync::{Mutex, PoisonError};

use crate::home::{Error, Registry};

/// The table cannot be asked now; who asked hears SERVFAIL and tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the home's table of names cannot be read")]
pub struct Unavailable;

/// Names of a home and their addresses.
///
/// The name of something with dots in it (`laptop.alice`) implies that the name behind the dot exists, too: nothing else
/// tells a name that does not exist from one under which others do (RFC 8020).
pub trait Table {
    /// The address of a name below the home's domain. It comes in lower case and consists of letters, digits, hyphens
    /// and, between its labels, dots.
    ///
    /// # Errors
    /// [`Unavailable`]: nobody knows now.
    fn address(&self, name: &str) -> Result<Option<Ipv6Addr>, Unavailable>;

    /// The name of an address, below the home's domain.
    ///
    /// # Errors
    /// [`Unavailable`]: nobody knows now.
    fn name(&self, address: Ipv6Addr) -> Result<Option<String>, Unavailable>;
}

impl Table for Registry {
    fn address(&self, name: &str) -> Result<Option<Ipv6Addr>, Unavailable> {
        match self.find(name) {
            // `find` takes whole names and addresses, too.
            Ok(entity) if entity.name == name => Ok(Some(entity.address)),
            Ok(_) | Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    fn name(&self, address: Ipv6Addr) -> Result<Option<String>, Unavailable> {
        let found = self.by_address(address).map_err(|error| unavailable(&error))?;
        Ok(found.map(|entity| entity.name))
    }
}

fn unavailable(error: &Error) -> Unavailable {
    tracing::warn!(%error, "a question for a name cannot be answered");
    Unavailable
}

impl<T: Table> Table for Mutex<T> {
    fn address(&self, name: &str) -> Result<Option<Ipv6Addr>, Unavailable> {
        self.lock().unwrap_or_else(PoisonError::into_inner).address(name)
    }

    fn name(&self, address: Ipv6Addr) -> Result<Option<String>, Unavailable> {
        self.lock().unwrap_or_else(PoisonError::into_inner).name(address)
    }
}
