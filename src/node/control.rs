//! What authenticated peers say to our control plane inside their child SAs.

use crate::dataplane::event::Control;

use super::Node;

impl Node {
    /// Nobody here listens to mobility or path messages yet: they are counted.
    pub(super) fn control(&mut self, what: &Control) {
        self.count(match what {
            Control::Mobility(_) => "mobility_unexpected",
            Control::Path(_) => "path_unexpected",
        });
    }
}
