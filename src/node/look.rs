//! What the simulation looks at, to hold it against what should be.

use std::net::Ipv6Addr;
use std::time::Instant;

use super::Node;
use crate::mobility::Row;
use crate::path::Path;

impl Node {
    /// Every binding of our home.
    pub fn binding_rows(&self, now: Instant) -> Vec<Row> {
        self.agent.as_ref().map(|agent| agent.rows(now).collect()).unwrap_or_default()
    }

    /// Which way path control sends what goes from one address to another; `None` where it has no say.
    pub fn way_between(&self, local: Ipv6Addr, remote: Ipv6Addr) -> Option<Path> {
        self.paths.get(&(local, remote)).map(|paths| paths.agent.current())
    }
}
