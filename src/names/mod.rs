//! Names: what a home answers about its own domain, and how a machine comes to ask it.
//!
//! [`Zone`] is the home's part: one query in, one response out, no socket and no clock. [`Table`] is where it finds who
//! has which name and address; the registry of a home is one. [`serve()`] puts it on the home's address in the tunnel.
//!
//! [`Stub`] is the machine's part: a forwarder on loopback that asks each home about its own domain and the machine's
//! earlier resolvers about everything else. systemd-resolved, where it runs, is told over D-Bus; elsewhere
//! [`Names::advice`] has the one line for resolv.conf. [`lookup_ipv4`] is for the daemon itself, which must not depend on
//! any of this.
//!
//! ```no_run
//! use std::sync::{Arc, Mutex};
//! use domicile::home::Registry;
//! use domicile::names::{HomeDomain, Setup, Zone, start};
//!
//! # async fn up(registry: Registry, seed: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
//! let own = registry.home()?;
//! let domain = own.domain.ok_or("a home without a domain has no names")?;
//! let mut setup = Setup::new("domicile0", seed);
//! // On the home itself: what it answers. The registry may be shared with whoever changes it.
//! let table = Arc::new(Mutex::new(registry));
//! setup.served = Some((Zone::new(&domain, own.prefix)?, table));
//! // On every machine: its own home, and the homes that it trusts.
//! setup.homes = vec![HomeDomain { domain, prefix: own.prefix, search: true }];
//! // When device and addresses are up:
//! let names = start(setup).await;
//! for problem in names.problems() {
//!     tracing::warn!("{problem}");
//! }
//! if let Some(advice) = names.advice() {
//!     tracing::info!("{advice}");
//! }
//! // … and before the device goes:
//! names.stop().await;
//! # Ok(())
//! # }
//! ```

mod exchange;
mod listen;
mod lookup;
mod message;
mod resolv_conf;
mod resolved;
mod serve;
mod start;
mod stub;
mod table;
mod zone;

#[cfg(test)]
mod serve_tests;
#[cfg(test)]
mod zone_tests;

pub use lookup::{LookupError, lookup_endpoint, lookup_ipv4};
pub use message::Transport;
pub use resolv_conf::{RESOLV_CONF, Resolvers};
pub use resolved::ResolvedError;
pub use serve::{PORT, Server, serve, serve_at};
pub use start::{Error, Names, Setup, start};
pub use stub::{DEFAULT_STUB, HomeDomain, Stub, StubError};
pub use table::{Table, Unavailable};
pub use zone::{Zone, ZoneError};
