//! The endpoint: every IKE SA of one process.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use super::config::Config;
use super::event::{ChildId, Event, Failure, IkeId, IkeInfo, Transmit};
use crate::dataplane::event::UdpPath;

/// All IKE SAs of this process. Method families: `handle_*` inputs, commands, `poll_*` outputs. After every input
/// or command drain `poll_transmit`, then `poll_event`, then arm a timer for `poll_timeout`.
pub struct Endpoint {}

impl Endpoint {
    /// A fresh endpoint. `seed` must come from the system's random source and never be used twice.
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        let _ = (config, seed, now);
        todo!()
    }

    /// Replaces the configuration. SAs whose peer, key or policy is gone are closed.
    pub fn set_config(&mut self, now: Instant, config: Config) {
        let _ = (now, config);
        todo!()
    }

    /// An IKE message arrived (without non-ESP marker).
    pub fn handle_datagram(&mut self, now: Instant, path: UdpPath, message: &[u8]) {
        let _ = (now, path, message);
        todo!()
    }

    /// Time passed. Harmless when early.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Authentic traffic arrived on this inbound SPI for the first time (a rekeyed child may now be sent on).
    pub fn handle_first_packet(&mut self, now: Instant, spi_in: u32) {
        let _ = (now, spi_in);
        todo!()
    }

    /// Authentic ESP arrived on this SPI recently: proof of life.
    pub fn handle_traffic(&mut self, now: Instant, spi_in: u32) {
        let _ = (now, spi_in);
        todo!()
    }

    /// We sent on this child recently and expect to hear something: arms the liveness check.
    pub fn handle_sent(&mut self, now: Instant, spi_out: u32) {
        let _ = (now, spi_out);
        todo!()
    }

    /// Authentic ESP for this SPI came from another address: probe it (COOKIE2), and move there if it answers.
    pub fn handle_new_source(&mut self, now: Instant, spi_in: u32, path: UdpPath) {
        let _ = (now, spi_in, path);
        todo!()
    }

    /// A child passed a soft limit: rekey it. `spi` is inbound or outbound.
    pub fn handle_soft_limit(&mut self, now: Instant, spi: u32) {
        let _ = (now, spi);
        todo!()
    }

    /// The machine's IPv4 addresses changed; `route` tells the source address for a destination, if any.
    /// SAs whose local address changed move by MOBIKE, or are initiated anew.
    pub fn handle_local_change(&mut self, now: Instant, route: &dyn Fn(Ipv4Addr) -> Option<Ipv4Addr>) {
        let _ = (now, route);
        todo!()
    }

    /// Starts (or finds) an IKE SA with one child between these two entities.
    pub fn initiate(
        &mut self,
        now: Instant,
        local: Ipv6Addr,
        remote: Ipv6Addr,
        path: UdpPath,
    ) -> Result<IkeId, Failure> {
        let _ = (now, local, remote, path);
        todo!()
    }

    /// Replaces a child SA now.
    pub fn rekey_child(&mut self, now: Instant, child: ChildId) {
        let _ = (now, child);
        todo!()
    }

    /// Replaces the IKE SA now; its children move.
    pub fn rekey_ike(&mut self, now: Instant, ike: IkeId) {
        let _ = (now, ike);
        todo!()
    }

    /// Authenticates anew, make-before-break.
    pub fn reauthenticate(&mut self, now: Instant, ike: IkeId) {
        let _ = (now, ike);
        todo!()
    }

    /// Says goodbye (DELETE) and forgets the SA.
    pub fn close(&mut self, now: Instant, ike: IkeId) {
        let _ = (now, ike);
        todo!()
    }

    /// `close` for every SA: what `down` does.
    pub fn close_all(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Every established IKE SA.
    pub fn list(&self, now: Instant) -> Vec<IkeInfo> {
        let _ = now;
        todo!()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        todo!()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// When `handle_timeout` wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        todo!()
    }
}
