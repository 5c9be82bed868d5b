//! How the packets of a pair went and go, for `status`.

use std::collections::VecDeque;
use std::time::Instant;

use crate::dataplane::event::UdpPath;

/// Changes that are kept.
const CAPACITY: usize = 16;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// When.
    pub(super) at: Instant,
    /// The path from then on.
    pub(super) path: UdpPath,
    /// Why.
    pub(super) reason: &'static str,
}

/// The last changes; the last of all is the path in use.
#[derive(Default)]
pub(super) struct History(VecDeque<Change>);

impl History {
    /// Data goes this way from now on. Another local address is no other path: the machine's routes choose it.
    pub(super) fn note(&mut self, at: Instant, path: UdpPath, reason: &'static str) {
        let same = |last: &Change| {
            (last.path.relay.is_some(), last.path.remote) == (path.relay.is_some(), path.remote)
        };
        if self.0.back().is_some_and(same) {
            return;
        }
        if self.0.len() == CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(Change { at, path, reason });
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Change> {
        self.0.iter()
    }

    pub(super) fn last(&self) -> Option<&Change> {
        self.0.back()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

    use super::*;

    #[test]
    fn the_last_sixteen_changes_are_kept() {
        let at = Instant::now();
        let mut history = History::default();
        let path = |port: u16| {
            let local = std::net::SocketAddrV4::new([192, 0, 2, 1].into(), 4500);
            UdpPath::direct(local, std::net::SocketAddrV4::new([192, 0, 2, 2].into(), port))
        };
        for port in 1..=100 {
            history.note(at, path(port), "first");
            history.note(at, path(port), "the same again");
        }
        assert_eq!(
            history.iter().map(|change| change.path.remote.port()).collect::<Vec<_>>(),
            (85..=100).collect::<Vec<_>>()
        );
        assert!(history.iter().all(|change| change.reason == "first"));
        assert_eq!(history.last().map(|change| change.path), Some(path(100)));
    }
}
