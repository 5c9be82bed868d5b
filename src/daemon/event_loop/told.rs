//! What happened, in words for the log; keys for the key log.

use super::Daemon;
use crate::node::Event;

impl Daemon {
    pub(super) fn tell(&mut self, event: &Event) {
        let logged = match event {
            // What names a code is not for the log.
            Event::PeerUp { remote, .. } | Event::PeerDown { remote, .. } if self.holds_a_code(*remote) => {
                Ok(())
            }
            Event::PeerUp { local, remote } => {
                tracing::info!(%local, "{remote} is up");
                Ok(())
            }
            Event::PeerDown { remote, reason, .. } => {
                tracing::info!("{remote} is down: {reason}");
                Ok(())
            }
            Event::PeerFailed { remote, error, .. } => {
                tracing::warn!("{remote} cannot be reached: {error}");
                Ok(())
            }
            Event::PathChanged { remote, path, reason } => {
                let kind = if path.relay.is_some() { "relayed" } else { "direct" };
                let reason = reason.as_deref().unwrap_or("its address changed");
                tracing::info!(from = %path.local, to = %path.remote, kind, "{remote} moved to another path: {reason}");
                Ok(())
            }
            Event::MtuChanged { remote, path, mtu, narrow: true } => {
                tracing::warn!(to = %path.remote, "packets of {mtu} octets to {remote} are lost, and IPv6 needs as much: the network there is too narrow for the tunnel");
                Ok(())
            }
            Event::MtuChanged { remote, path, mtu, narrow: false } => {
                tracing::info!(to = %path.remote, "packets to {remote} have at most {mtu} octets now");
                Ok(())
            }
            Event::SequenceReserved { .. } | Event::Route { .. } | Event::Document { .. } => Ok(()),
            Event::HomeMoved { prefix, from, to } => {
                tracing::info!("the home {prefix} is at {to} now, and was at {from}");
                Ok(())
            }
            Event::Registered { home_address } => {
                tracing::info!("{home_address} is registered with its home agent");
                Ok(())
            }
            Event::Observed { home_address, care_of, behind_nat } => {
                tracing::info!(behind_nat, "the home agent sees {home_address} at {care_of}");
                Ok(())
            }
            Event::RegistrationLost { home_address, why } => {
                tracing::warn!("{home_address} is not reachable through its home agent: {why}");
                Ok(())
            }
            Event::IkeKeys { spi_i, spi_r, suite, sk_ei, sk_er } => {
                self.keylog.as_mut().map_or(Ok(()), |log| log.ike(*spi_i, *spi_r, *suite, sk_ei, sk_er))
            }
            Event::ChildKeys { spi, suite, key } => {
                self.keylog.as_mut().map_or(Ok(()), |log| log.esp(*spi, *suite, key))
            }
        };
        if let Err(error) = logged {
            tracing::warn!(%error, "the key log cannot be written");
        }
    }

    /// Whoever is neither listed nor of a trusted home came with a code.
    pub(super) fn holds_a_code(&self, remote: std::net::Ipv6Addr) -> bool {
        let config = &self.desk.config;
        config.home_prefix.is_some()
            && config.peers.iter().all(|peer| peer.address != remote)
            && config.root_of(remote).is_none()
    }
}
