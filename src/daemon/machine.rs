//! The machine around the daemon: device, sockets, threads, routes. Made in an order that never leaks, taken down in
//! the reverse one.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use super::awake::Watch;
use super::config::Config;
use super::error::Error;
use super::speed::Speed;
use crate::dataplane::batch::{TunWrite as _, UdpSend};
use crate::dataplane::event::Event as DataEvent;
use crate::dataplane::inject::{self, InjectError};
use crate::dataplane::offload::Features;
use crate::dataplane::relay::Relay;
use crate::dataplane::tables::Reader;
use crate::dataplane::worker::{self, Workers};
use crate::ike::Transmit;
use crate::io::firewall;
use crate::io::netlink::{Machine, Plan, View};
use crate::io::owners::Owners;
use crate::io::sys::{self, StopEvent};
use crate::io::tun::{Tun, TunWriter};
use crate::io::udp::{self, Udp};
use crate::node::Inject;

/// Everything that is open while the daemon runs.
pub(super) struct Edge {
    netlink: Machine,
    plan: Plan,
    pub(super) workers: Workers,
    pub(super) speed: Arc<Speed>,
    tun: TunWriter,
    udp: Udp,
    ike: Option<Udp>,
    /// The table is there.
    filtered: bool,
    /// What holds users apart where they receive, if addresses have users.
    pub(super) owners: Option<Arc<Owners>>,
}

/// What to set up for a configuration.
pub(super) fn plan(config: &Config) -> Plan {
    Plan {
        interface: config.interface.clone(),
        mtu: config.mtu,
        addresses: config.entities.iter().map(|entity| entity.address).collect(),
        owners: config.owners(),
        routed: config.routed(),
        bypassed: config.bypassed(),
    }
}

/// What of a plan cannot change while the daemon runs: everything but addresses, and owners among those who have one.
pub(super) fn fixed(config: &Config) -> (Plan, Vec<(std::net::Ipv6Addr, u32)>) {
    let plan = plan(config);
    let speakers = plan.speakers();
    (Plan { addresses: Vec::new(), owners: Vec::new(), ..plan }, speakers)
}

/// Whether this process may change the machine's network.
///
/// # Errors
/// [`Error::Permission`] without CAP_NET_ADMIN.
pub fn may_administer() -> Result<(), Error> {
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap_or(false) {
        return Ok(());
    }
    Err(Error::Permission)
}

/// Refuses what nobody may send or receive under an address that is not theirs. Whether that could be done.
fn filter(plan: &Plan) -> Result<bool, Error> {
    match firewall::install(plan) {
        Ok(()) => Ok(true),
        Err(error) if plan.owners.is_empty() => {
            tracing::warn!(
                "datagrams in clear under a peer's address are not refused on other interfaces, because {error}"
            );
            Ok(false)
        }
        Err(error) => Err(Error::Owners(error.to_string())),
    }
}

fn hold_apart(plan: &Plan) -> Result<Option<Arc<Owners>>, Error> {
    if plan.owners.is_empty() {
        return Ok(None);
    }
    let owners = Owners::hold_apart(&plan.owners).map_err(|error| Error::Owners(error.to_string()))?;
    Ok(Some(Arc::new(owners)))
}

impl Edge {
    /// Sockets first (a second daemon fails here, before it touches anything), then what an earlier run left is swept,
    /// then device, routes and threads.
    pub(super) async fn open(
        config: &Config,
        reader: &Reader,
        relay: Relay,
        features: Features,
    ) -> Result<(Self, mpsc::Receiver<DataEvent>), Error> {
        may_administer()?;
        let (udp, others) = Udp::bind_several(Ipv4Addr::UNSPECIFIED, config.port, features, config.queues)?;
        let ike = match config.ike_port {
            0 => None,
            port => Some(Udp::bind(Ipv4Addr::UNSPECIFIED, port, features)?),
        };
        let mut netlink = Machine::open()?;
        let plan = plan(config);
        // Before there is any address to misuse; the table of an earlier run is replaced without a gap.
        let owners = hold_apart(&plan)?;
        let filtered = filter(&plan)?;
        netlink.sweep().await?;
        let set_up = match Tun::open_queues(&config.interface, features, 1 + others.len()) {
            Ok(tun) => netlink.set_up(&plan).await.map(|()| tun).map_err(Error::from),
            Err(error) => Err(error.into()),
        };
        let tun = match set_up {
            Ok(tun) => tun,
            Err(error) => {
                // Half a set-up is taken down again; the first error is the one worth telling.
                let _ = netlink.sweep().await;
                if filtered {
                    let _ = firewall::remove();
                }
                return Err(error);
            }
        };
        let stop = StopEvent::new()?;
        let queues: Vec<_> = tun
            .queues(&stop)
            .zip(std::iter::once(&udp).chain(&others))
            .map(|((tun_read, tun_write), udp)| worker::Queue {
                tun_read,
                tun_write,
                udp_receive: udp.receiver(stop.clone()),
                udp_send: udp.clone(),
            })
            .collect();
        let count = queues.len();
        if count < config.queues {
            tracing::warn!(count, wanted = config.queues, "the kernel has fewer queues than were asked for");
        }
        let sockets = queues.iter().map(|queue| queue.udp_send.clone()).collect();
        let edges = worker::Edges {
            queues,
            ike_receive: ike.as_ref().map(|ike| ike.receiver(stop.clone())),
            relay,
            coalesce: features.coalesce,
            single: thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1),
        };
        let (workers, events) = worker::start(edges, reader, Arc::new(stop), sys::monotonic)?;
        let awake = features.idle_polling.then(|| Watch::start(workers.summary())).flatten();
        let speed = Arc::new(Speed { features, accepts: tun.writer().accepts(), sockets, awake });
        Ok((Self { netlink, plan, workers, speed, tun: tun.writer(), udp, ike, filtered, owners }, events))
    }

    /// Entities came or went: the machine's addresses follow.
    pub(super) async fn follow(&mut self, config: &Config) -> Result<(), Error> {
        let new = plan(config);
        if new == self.plan {
            return Ok(());
        }
        // Before there is any address to misuse.
        if new.owners != self.plan.owners {
            self.owners = hold_apart(&new)?;
        }
        if self.filtered {
            filter(&new)?;
        }
        self.netlink.change(&self.plan, &new).await?;
        self.plan = new;
        Ok(())
    }

    /// Sends an IKE message: bare from port 500, behind the marker from ours (RFC 3948 §2.2).
    pub(super) fn transmit(&self, transmit: &Transmit) {
        let sent = match &self.ike {
            Some(ike) if transmit.path.local.port() == ike.port() => {
                ike.send_to(transmit.path, &transmit.message)
            }
            _ => self.udp.send_to(transmit.path, &transmit.datagram()),
        };
        if let Err(error) = sent {
            // It will be sent again; an address that just vanished is the usual reason.
            tracing::debug!(to = %transmit.path.remote, %error, "an IKE message could not be sent");
        }
    }

    /// False: it is larger than the MTU of the link that it would have left by.
    pub(super) fn inject(&self, inject: &Inject) -> bool {
        let sent = inject::send_one(&inject.outbound, inject.next_header, &inject.packet, &self.udp);
        if let Err(error) = &sent {
            tracing::debug!(%error, "a packet of the control plane, or one that waited for its SA, was not sent");
        }
        !matches!(sent, Err(InjectError::Send(error)) if udp::is_above_link_mtu(&error))
    }

    pub(super) fn answer(&self, packet: &[u8]) {
        if let Err(error) = self.tun.write_packet(packet) {
            tracing::debug!(%error, "an ICMPv6 error could not be delivered");
        }
    }

    /// The machine as IPv4 sees it; `None` when the kernel does not tell.
    pub(super) async fn view(&self) -> Option<View> {
        self.netlink.view().await.inspect_err(|error| tracing::warn!(%error, "where is this machine?")).ok()
    }

    /// Takes everything down: threads, device, routes and rules, and last the table.
    pub(super) async fn close(self) -> Result<(), Error> {
        self.workers.stop();
        drop(self.tun);
        self.netlink.sweep().await?;
        if self.filtered {
            firewall::remove().map_err(Error::Firewall)?;
        }
        Ok(())
    }
}
