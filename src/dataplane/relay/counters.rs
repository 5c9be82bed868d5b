//! What a relay counts, by reason. One writer, any reader.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a datagram was not relayed. `status` shows these names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
        }

        impl Refusal {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that `status` and logs use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

refusals! {
    /// Not a whole IPv6 packet, or what it carries is cut short or has a wrong checksum.
    Malformed => "relay_malformed",
    /// An IPv6 fragment.
    Fragment => "relay_fragment",
    /// Neither ESP nor IKE nor an ICMPv6 error.
    Protocol => "relay_protocol",
    /// The hop limit is used up.
    HopLimit => "relay_hop_limit",
    /// Neither end is ours.
    Transit => "relay_transit",
    /// The source is an entity of this very process.
    OwnSource => "relay_own_source",
    /// The source is in our prefix, but not bound.
    UnboundSource => "relay_unbound_source",
    /// It did not come from the source's care-of address.
    NotCareOf => "relay_not_care_of",
    /// It did not come from the home that it must come from.
    NotHome => "relay_not_home",
    /// Source or destination has no home that could be known.
    NoHome => "relay_no_home",
    /// The destination's home is ourselves, but its prefix is not.
    Loop => "relay_loop",
    /// Nobody is bound at the destination, and it was not the time to say so.
    Unbound => "relay_unbound",
    /// Too much from that IPv4 address.
    SourceRate => "relay_source_rate",
    /// Too much from or to that binding.
    BindingRate => "relay_binding_rate",
    /// Too many IKE messages and ICMPv6 errors.
    ControlRate => "relay_control_rate",
}

/// The counters of one relay.
#[derive(Default)]
pub struct Counters {
    refused: [AtomicU64; Refusal::ALL.len()],
    forwarded: [AtomicU64; 2],
    delivered: [AtomicU64; 2],
    unreachable: AtomicU64,
}

/// There is one writer: a plain add will do.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

fn pass([packets, octets]: &[AtomicU64; 2], len: usize) {
    bump(packets, 1);
    bump(octets, len as u64);
}

impl Counters {
    pub(super) fn refused(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal as usize) {
            bump(counter, 1);
        }
    }

    pub(super) fn forwarded(&self, len: usize) {
        pass(&self.forwarded, len);
    }

    pub(super) fn delivered(&self, len: usize) {
        pass(&self.delivered, len);
    }

    pub(super) fn answered(&self) {
        bump(&self.unreachable, 1);
    }

    /// Datagrams refused for this reason.
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.refused.get(refusal as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// What was passed on, delivered and answered, and is not zero.
    pub fn passed(&self) -> BTreeMap<&'static str, u64> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("relay_forwarded_packets", read(&self.forwarded[0])),
            ("relay_forwarded_bytes", read(&self.forwarded[1])),
            ("relay_delivered_packets", read(&self.delivered[0])),
            ("relay_delivered_bytes", read(&self.delivered[1])),
            ("relay_unreachable", read(&self.unreachable)),
        ]
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .collect()
    }
}
