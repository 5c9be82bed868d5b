//! All of it at once, for the daemon.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::resolv_conf::{Resolvers, interface_index};
use super::resolved::{Link, LinkNames, ResolvedError};
use super::serve::{Server, serve};
use super::stub::{DEFAULT_STUB, HomeDomain, Stub, StubError};
use super::table::Table;
use super::zone::{Zone, ZoneError, reverse};
use crate::addr::plan::agent_of;

/// What is to be started.
#[derive(Clone)]
pub struct Setup {
    /// The TUN device.
    pub interface: String,
    /// The homes whose names this machine knows: its own, and those that it trusts.
    pub homes: Vec<HomeDomain>,
    /// The home that this machine is, and its table of names.
    pub served: Option<(Zone, Arc<dyn Table + Send + Sync>)>,
    /// Where the forwarder listens: a loopback address, [`DEFAULT_STUB`] unless something else is there.
    pub stub: SocketAddr,
    /// The machine's own resolvers.
    pub resolvers: Resolvers,
    /// Random octets.
    pub seed: [u8; 32],
}

impl Setup {
    /// The usual one; `seed` must be random.
    pub fn new(interface: &str, seed: [u8; 32]) -> Self {
        Self {
            interface: interface.to_owned(),
            homes: Vec::new(),
            served: None,
            stub: DEFAULT_STUB,
            resolvers: Resolvers::default(),
            seed,
        }
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("homes", &self.homes).field("stub", &self.stub).finish_non_exhaustive()
    }
}

/// What does not work. None of it is a reason not to be up: addresses work without names.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The home's own server.
    #[error("the home's names cannot be served at {at} ({error}): end what uses port 53 there")]
    Serve {
        /// The home's address.
        at: IpAddr,
        /// Why not.
        error: io::Error,
    },
    /// The forwarder.
    #[error(transparent)]
    Stub(#[from] StubError),
    /// systemd-resolved.
    #[error(transparent)]
    Resolved(#[from] ResolvedError),
    /// A home's domain or prefix.
    #[error(transparent)]
    Home(#[from] ZoneError),
}

/// Names at work. They end when this is dropped; [`Names::stop`] also tells systemd-resolved.
#[derive(Debug)]
pub struct Names {
    server: Option<Server>,
    stub: Option<Stub>,
    interface: String,
    link: Option<Link>,
    /// The link knows the present homes.
    told: bool,
    resolvers: Resolvers,
    homes: Vec<HomeDomain>,
    problems: Vec<Error>,
}

/// Starts whatever there is to start: the home's server, the forwarder, systemd-resolved. Device and addresses must be up.
/// In a tokio runtime.
pub async fn start(setup: Setup) -> Names {
    let mut names = Names {
        server: None,
        stub: None,
        interface: setup.interface,
        link: None,
        told: false,
        resolvers: setup.resolvers.clone(),
        homes: Vec::new(),
        problems: Vec::new(),
    };
    if let Some((zone, table)) = setup.served {
        let at = zone.agent().into();
        match serve(zone, table).await {
            Ok(server) => names.server = Some(server),
            Err(error) => names.problems.push(Error::Serve { at, error }),
        }
    }
    match Stub::start(setup.stub, &setup.homes, setup.resolvers, setup.seed).await {
        Ok(stub) => names.stub = Some(stub),
        Err(error) => names.problems.push(error.into()),
    }
    names.open_link().await;
    if let Err(error) = names.set_homes(setup.homes).await {
        names.problems.push(error);
    }
    names
}

impl Names {
    /// What does not work, for the log.
    pub fn problems(&self) -> &[Error] {
        &self.problems
    }

    /// Where the forwarder listens.
    pub fn stub(&self) -> Option<SocketAddr> {
        self.stub.as_ref().map(Stub::address)
    }

    /// Other homes from now on: one was joined, trusted, or left.
    ///
    /// # Errors
    /// A domain is none, or systemd-resolved refuses.
    pub async fn set_homes(&mut self, homes: Vec<HomeDomain>) -> Result<(), Error> {
        if let Some(stub) = &self.stub {
            stub.set_homes(&homes)?;
        }
        let told = self.for_resolved(&homes)?;
        self.homes = homes;
        self.told = false;
        match (&self.link, told) {
            (Some(link), Some(names)) => link.set(&names).await?,
            (Some(link), None) => link.revert().await?,
            (None, _) => return Ok(()),
        }
        self.told = true;
        Ok(())
    }

    /// systemd-resolved does not know the homes: it refused, or it does not run.
    pub fn is_untold(&self) -> bool {
        !self.told
    }

    /// Tells systemd-resolved once more: it may have started since, or be ready now. Whether it knows the homes then.
    pub async fn try_again(&mut self) -> bool {
        self.open_link().await;
        let homes = self.homes.clone();
        if let Err(error) = self.set_homes(homes).await {
            tracing::debug!(%error, "systemd-resolved still does not take the homes");
        }
        self.told
    }

    async fn open_link(&mut self) {
        if let Some(index) = interface_index(&self.interface).filter(|_| self.link.is_none()) {
            self.link = Link::open(index).await;
        }
    }

    /// What systemd-resolved is told. A link has servers and domains, but not a server for each domain; so with
    /// several homes, and on a home, whose own address is no way into the tunnel, it asks the forwarder.
    fn for_resolved(&self, homes: &[HomeDomain]) -> Result<Option<LinkNames>, ZoneError> {
        let server = match homes {
            [] => return Ok(None),
            [home] if self.server.is_none() => (agent_of(home.prefix), super::serve::PORT).into(),
            _ => match self.stub() {
                Some(stub) => stub,
                None => return Ok(None),
            },
        };
        let mut domains = Vec::new();
        for home in homes {
            domains.push((home.domain.clone(), !home.search));
            domains.push((reverse(home.prefix)?.to_string(), true));
        }
        Ok(Some(LinkNames { server, domains }))
    }

    /// What the user has to do for names to work, if anything: one sentence with the one line. Nobody else writes it.
    pub fn advice(&self) -> Option<String> {
        let stub = self.stub()?;
        let through_resolved = self.link.is_some() && self.resolvers.names_resolved();
        if self.homes.is_empty() || through_resolved || self.resolvers.names(stub.ip()) {
            return None;
        }
        let file = self.resolvers.file().display();
        let domains: Vec<_> = self.homes.iter().map(|home| home.domain.as_str()).collect();
        let domains = domains.join(" and ");
        if stub.port() == super::serve::PORT {
            Some(format!(
                "programs do not ask for names in {domains} yet: put the line \"nameserver {}\" above the others in {file}",
                stub.ip()
            ))
        } else {
            Some(format!(
                "programs do not ask for names in {domains} yet: let the machine's resolver ask {stub} about them"
            ))
        }
    }

    /// Ends it, and lets systemd-resolved forget it.
    pub async fn stop(self) {
        if let Some(link) = &self.link
            && let Err(error) = link.revert().await
        {
            tracing::debug!(%error, "systemd-resolved forgets the link's names only when it goes");
        }
    }
}
