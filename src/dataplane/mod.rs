//! The data plane: published tables of SAs and pure functions over them, run by worker threads that never wait
//! for the control plane.
//!
//! ```text
//!  TUN -> T: outbound::process (tables, seal) -> SendBatch -> UDP 4500
//!  TUN <- coalesce <- U: inbound (classify, tables, open, selectors) <- ReceiveBatch <- UDP 4500
//!                          '-> queue (IKE, acquire, news about SAs) -> control plane
//! ```
//!
//! A driver starts them like this, and stops them with [`worker::Workers::stop`] (or by dropping it), which returns
//! within a batch's time:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::net::Ipv4Addr;
//! use std::sync::Arc;
//!
//! use domicile::dataplane::offload::Features;
//! use domicile::dataplane::relay::{self, Limits, Relay};
//! use domicile::dataplane::{tables, worker};
//! use domicile::io::{sys, tun::Tun, udp::Udp};
//!
//! let (publisher, reader) = tables::new(); // the publisher goes to `Node::new`
//! let (relay_publisher, relay_reader) = relay::new(); // its roles say whom relayed packets may come from
//! let stop = sys::StopEvent::new()?; // wakes everything that waits below
//! let tun = Tun::open("dom0", Features::default())?; // then addresses, MTU, up: netlink
//! let udp = Udp::bind(Ipv4Addr::UNSPECIFIED, 4500, Features::default())?;
//! let ike = Udp::bind(Ipv4Addr::UNSPECIFIED, 500, Features::default())?;
//! let queue = worker::Queue {
//!     tun_read: tun.reader(stop.clone()),
//!     tun_write: tun.writer(),
//!     udp_receive: udp.receiver(stop.clone()),
//!     udp_send: udp.clone(),
//! };
//! let edges = worker::Edges {
//!     queues: vec![queue], // more of them on a large machine
//!     ike_receive: Some(ike.receiver(stop.clone())),
//!     relay: Relay::new(relay_reader, Limits::default(), [7; 16]), // a random seed
//!     coalesce: true,
//!     single: false,
//! };
//! let (mut workers, mut events) = worker::start(edges, &reader, Arc::new(stop), sys::monotonic)?;
//! // tokio::select! { event = events.recv() => …, failure = workers.failed() => … }
//! // IKE leaves with udp.send_to(path, …) or ike.send_to(path, …); waiting packets with inject::send_one.
//! workers.stop();
//! # drop((publisher, relay_publisher, events)); Ok(()) }
//! ```

pub mod batch;
pub mod bulk;
pub mod coalesce;
pub mod counters;
pub mod ecn;
pub mod event;
pub mod inbound;
pub mod inject;
pub mod offload;
pub mod outbound;
pub mod queue;
pub mod relay;
pub mod split;
pub mod tables;
pub mod worker;
