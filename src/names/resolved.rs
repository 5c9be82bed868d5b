//! systemd-resolved, told over D-Bus which names of this link are whose (org.freedesktop.resolve1(5)).
//!
//! It keeps what it is told for as long as the link exists, also over a restart of its own; when the link goes, so does
//! that. So a crash leaves nothing behind.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;
use zbus::Connection;
use zbus::connection::Builder;

use super::serve::PORT;

/// A bus that takes longer is as good as none.
const PATIENCE: Duration = Duration::from_secs(3);
const SERVICE: &str = "org.freedesktop.resolve1";
const PATH: &str = "/org/freedesktop/resolve1";
const MANAGER: &str = "org.freedesktop.resolve1.Manager";

/// Why systemd-resolved could not be told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolvedError {
    /// It said no, or the bus did.
    #[error(
        "systemd-resolved cannot be told which names are in the tunnel ({0}): see `resolvectl status` and its journal"
    )]
    Refused(zbus::Error),
    /// Nothing came back.
    #[error("systemd-resolved does not answer on the system bus: see `systemctl status systemd-resolved`")]
    Silent,
}

impl From<zbus::Error> for ResolvedError {
    fn from(error: zbus::Error) -> Self {
        Self::Refused(error)
    }
}

/// What a link is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkNames {
    /// Who is asked.
    pub(super) server: SocketAddr,
    /// About which domains; true: and nothing else about them, that is, short names are not completed with them.
    pub(super) domains: Vec<(String, bool)>,
}

/// A link that systemd-resolved knows.
#[derive(Debug)]
pub(super) struct Link {
    bus: Connection,
    index: i32,
}

/// The bus is a file and reaches into every network namespace; link numbers are those of the machine's own.
fn in_the_machines_namespace() -> bool {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    namespace("1").is_none_or(|first| namespace("self") == Some(first))
}

impl Link {
    /// `None`: systemd-resolved is not running, or there is no system bus.
    pub(super) async fn open(index: u32) -> Option<Self> {
        if !in_the_machines_namespace() {
            // Its links are others than ours: in a network namespace there is no resolved to be told.
            return None;
        }
        let connect = async {
            let bus = Builder::system().method_timeout(PATIENCE).build().await?;
            let dbus = "org.freedesktop.DBus";
            let path = "/org/freedesktop/DBus";
            let reply = bus.call_method(Some(dbus), path, Some(dbus), "NameHasOwner", &(SERVICE,)).await?;
            Ok::<_, zbus::Error>((bus, reply.body().deserialize::<bool>()?))
        };
        match timeout(PATIENCE, connect).await {
            Ok(Ok((bus, true))) => Some(Self { bus, index: i32::try_from(index).ok()? }),
            Ok(Ok((_, false))) => None,
            Ok(Err(error)) => {
                tracing::debug!(%error, "there is no system bus");
                None
            }
            Err(_) => {
                tracing::debug!("the system bus does not answer");
                None
            }
        }
    }

    /// Tells it.
    pub(super) async fn set(&self, names: &LinkNames) -> Result<(), ResolvedError> {
        let told = timeout(PATIENCE, self.tell(names)).await.unwrap_or(Err(ResolvedError::Silent));
        if told.is_err() {
            // Half of it would be worse than none.
            let _ = self.revert().await;
        }
        told
    }

    async fn tell(&self, names: &LinkNames) -> Result<(), ResolvedError> {
        let (family, octets) = raw(names.server.ip());
        if names.server.port() == PORT {
            self.call("SetLinkDNS", &(self.index, vec![(family, octets)])).await?;
        } else {
            let server = (family, octets, names.server.port(), "");
            self.call("SetLinkDNSEx", &(self.index, vec![server])).await?;
        }
        let domains: Vec<_> = names.domains.iter().map(|(domain, only)| (domain.as_str(), *only)).collect();
        self.call("SetLinkDomains", &(self.index, domains)).await?;
        // Nothing else is asked here, and what comes through the tunnel needs no other protection. Older versions do
        // not know all of this; none of it keeps names from working.
        self.try_call("SetLinkDefaultRoute", &(self.index, false)).await;
        for method in ["SetLinkDNSSEC", "SetLinkDNSOverTLS", "SetLinkLLMNR", "SetLinkMulticastDNS"] {
            self.try_call(method, &(self.index, "no")).await;
        }
        Ok(())
    }

    /// Takes back whatever it was told.
    pub(super) async fn revert(&self) -> Result<(), ResolvedError> {
        timeout(PATIENCE, self.call("RevertLink", &self.index)).await.unwrap_or(Err(ResolvedError::Silent))
    }

    async fn call<B>(&self, method: &str, body: &B) -> Result<(), ResolvedError>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.bus.call_method(Some(SERVICE), PATH, Some(MANAGER), method, body).await?;
        Ok(())
    }

    async fn try_call<B>(&self, method: &str, body: &B)
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        if let Err(error) = self.call(method, body).await {
            tracing::debug!(%error, method, "systemd-resolved refuses a setting");
        }
    }
}

/// Address family and octets.
fn raw(address: IpAddr) -> (i32, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    }
}
