//! The binding cache. Made for a million bindings: ordered trees of small records (no rehashing pause), deadlines in a
//! tree of their own (nothing is ever scanned), and everything that is rare beside the records.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use ipnet::Ipv6Net;

/// Seconds since the agent's start.
pub(super) type Second = u32;

/// What one sender has told: 12 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    address: Ipv4Addr,
    /// 0: no care-of address is proven, or the binding was released and only its sequence number is remembered.
    port: u16,
    pub(super) sequence: u16,
    /// When it ends, and above that what is known of a NAT.
    end: Second,
}

/// Bits of [`Binding::end`]; the rest is enough for 34 years.
const NAT_KNOWN: Second = 1 << 31;
const NAT: Second = 1 << 30;
const LATEST: Second = NAT - 1;

impl Binding {
    pub(super) fn new(care_of: Option<SocketAddrV4>, sequence: u16, expires: Second) -> Self {
        let mut binding =
            Self { address: Ipv4Addr::UNSPECIFIED, port: 0, sequence, end: expires.min(LATEST) };
        binding.set_care_of(care_of);
        binding
    }

    pub(super) fn expires(&self) -> Second {
        self.end & LATEST
    }

    /// Whether there is a NAT in front of the care-of address; `None` when the sender did not say where it thinks it is.
    pub(super) fn behind_nat(&self) -> Option<bool> {
        (self.end & NAT_KNOWN != 0).then_some(self.end & NAT != 0)
    }

    pub(super) fn with_nat(mut self, nat: Option<bool>) -> Self {
        self.end &= LATEST;
        self.end |= match nat {
            None => 0,
            Some(false) => NAT_KNOWN,
            Some(true) => NAT_KNOWN | NAT,
        };
        self
    }

    pub(super) fn care_of(&self) -> Option<SocketAddrV4> {
        (self.port != 0).then(|| SocketAddrV4::new(self.address, self.port))
    }

    fn set_care_of(&mut self, care_of: Option<SocketAddrV4>) {
        self.address = care_of.map_or(Ipv4Addr::UNSPECIFIED, |address| *address.ip());
        self.port = care_of.map_or(0, |address| address.port());
    }
}

/// A prefix besides the sender's own address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extra {
    pub(super) sender: Ipv6Addr,
    pub(super) expires: Second,
}

/// What became different for the data plane and the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) prefix: Ipv6Net,
    /// `None`: not reachable any more.
    pub(super) care_of: Option<SocketAddrV4>,
    /// The way is another one than before; otherwise only lifetime or sequence number are new.
    pub(super) route: bool,
}

/// The bindings of all senders.
#[derive(Default)]
pub(super) struct Cache {
    bindings: BTreeMap<Ipv6Addr, Binding>,
    deadlines: BTreeSet<(Second, Ipv6Addr)>,
    extras: BTreeMap<Ipv6Net, Extra>,
    extra_deadlines: BTreeSet<(Second, Ipv6Net)>,
    owned: BTreeSet<(Ipv6Addr, Ipv6Net)>,
    /// How many senders have a proven care-of address.
    proven: usize,
    /// How many extras there are of each length.
    lengths: BTreeMap<u8, usize>,
    pub(super) changed: Vec<Changed>,
}

/// An address as a prefix.
pub(super) fn host(address: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::from(address)
}

impl Cache {
    pub(super) fn len(&self) -> usize {
        self.bindings.len() + self.extras.len()
    }

    pub(super) fn proven(&self) -> usize {
        self.proven
    }

    pub(super) fn extras_len(&self) -> usize {
        self.extras.len()
    }

    pub(super) fn binding(&self, sender: Ipv6Addr) -> Option<&Binding> {
        self.bindings.get(&sender)
    }

    pub(super) fn extra(&self, prefix: Ipv6Net) -> Option<&Extra> {
        self.extras.get(&prefix)
    }

    pub(super) fn extras_of(&self, sender: Ipv6Addr) -> impl Iterator<Item = Ipv6Net> {
        let least = Ipv6Net::default();
        self.owned
            .range((sender, least)..)
            .take_while(move |(owner, _)| *owner == sender)
            .map(|(_, prefix)| *prefix)
    }

    pub(super) fn bindings(&self) -> impl Iterator<Item = (Ipv6Addr, &Binding)> {
        self.bindings.iter().map(|(sender, binding)| (*sender, binding))
    }

    pub(super) fn extras(&self) -> impl Iterator<Item = (Ipv6Net, &Extra)> {
        self.extras.iter().map(|(prefix, extra)| (*prefix, extra))
    }

    /// What is bound inside a prefix, in order: single addresses of senders first.
    pub(super) fn within(&self, prefix: Ipv6Net) -> impl Iterator<Item = Ipv6Net> {
        let (first, last) = (prefix.network(), prefix.broadcast());
        let hosts = self.bindings.range(first..=last).map(|(sender, _)| host(*sender));
        let extras = self.extras.range(Ipv6Net::new_assert(first, 0)..=Ipv6Net::new_assert(last, 128));
        hosts.chain(extras.map(|(prefix, _)| *prefix).filter(move |extra| prefix.contains(extra)))
    }

    /// Who is responsible for an address, by the longest match, and where that is.
    pub(super) fn lookup(&self, address: Ipv6Addr) -> Option<(Ipv6Addr, SocketAddrV4)> {
        if let Some(care_of) = self.bindings.get(&address).and_then(Binding::care_of) {
            return Some((address, care_of));
        }
        self.lengths.keys().rev().find_map(|len| {
            let prefix = Ipv6Net::new(address, *len).ok()?.trunc();
            let sender = self.extras.get(&prefix)?.sender;
            Some((sender, self.bindings.get(&sender)?.care_of()?))
        })
    }

    fn note(&mut self, prefix: Ipv6Net, care_of: Option<SocketAddrV4>, route: bool) {
        self.changed.push(Changed { prefix, care_of, route });
    }

    /// Writes a sender's record. Whoever else held its address as a prefix loses it.
    pub(super) fn set(&mut self, sender: Ipv6Addr, binding: Binding) {
        self.remove_extra(host(sender));
        let old = self.bindings.insert(sender, binding);
        if let Some(old) = old {
            self.deadlines.remove(&(old.expires(), sender));
        }
        self.deadlines.insert((binding.expires(), sender));
        let before = old.and_then(|old| old.care_of());
        let moved = before != binding.care_of();
        self.proven += usize::from(binding.care_of().is_some());
        self.proven -= usize::from(before.is_some());
        if before.is_some() || binding.care_of().is_some() {
            self.note(host(sender), binding.care_of(), moved);
        }
        if moved {
            let extras: Vec<Ipv6Net> = self.extras_of(sender).collect();
            for prefix in extras {
                self.note(prefix, binding.care_of(), true);
            }
        }
    }

    /// Gives a prefix to a sender that has a record. Whoever held it loses it.
    pub(super) fn set_extra(&mut self, prefix: Ipv6Net, sender: Ipv6Addr, expires: Second) {
        let care_of = self.bindings.get(&sender).and_then(Binding::care_of);
        if let Some(address) = single(prefix)
            && address == sender
        {
            return; // its record says it already
        }
        let old = self.extras.insert(prefix, Extra { sender, expires });
        if let Some(old) = old {
            self.extra_deadlines.remove(&(old.expires, prefix));
            self.owned.remove(&(old.sender, prefix));
        } else {
            *self.lengths.entry(prefix.prefix_len()).or_default() += 1;
        }
        self.extra_deadlines.insert((expires, prefix));
        self.owned.insert((sender, prefix));
        let other = single(prefix).is_some_and(|address| self.remove(address));
        let stolen = other || old.is_some_and(|old| old.sender != sender);
        if care_of.is_some() || stolen {
            self.note(prefix, care_of, stolen || old.is_none());
        }
    }

    /// Forgets a sender and all that it bound. False when there was nothing.
    pub(super) fn remove(&mut self, sender: Ipv6Addr) -> bool {
        let Some(old) = self.bindings.remove(&sender) else { return false };
        self.deadlines.remove(&(old.expires(), sender));
        self.proven -= usize::from(old.care_of().is_some());
        let extras: Vec<Ipv6Net> = self.extras_of(sender).collect();
        for prefix in extras {
            self.remove_extra(prefix);
        }
        // The address itself may be somebody's prefix by now.
        if old.care_of().is_some() && !self.extras.contains_key(&host(sender)) {
            self.note(host(sender), None, true);
        }
        true
    }

    /// Takes a prefix from whoever holds it.
    pub(super) fn remove_extra(&mut self, prefix: Ipv6Net) {
        let Some(old) = self.extras.remove(&prefix) else { return };
        self.extra_deadlines.remove(&(old.expires, prefix));
        self.owned.remove(&(old.sender, prefix));
        if let Some(count) = self.lengths.get_mut(&prefix.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.prefix_len());
            }
        }
        self.note(prefix, None, true);
    }

    /// Forgets what ended before `now`, at most `limit` records; true when more are left.
    pub(super) fn expire(&mut self, now: Second, limit: usize) -> bool {
        for _ in 0..limit {
            let sender = self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, sender)| *sender);
            let prefix = self.extra_deadlines.first().filter(|(at, _)| *at <= now).map(|(_, prefix)| *prefix);
            match (sender, prefix) {
                (None, None) => return false,
                (Some(sender), _) => drop(self.remove(sender)),
                (None, Some(prefix)) => self.remove_extra(prefix),
            }
        }
        self.next_deadline().is_some_and(|at| at <= now)
    }

    pub(super) fn next_deadline(&self) -> Option<Second> {
        let senders = self.deadlines.first().map(|(at, _)| *at);
        let extras = self.extra_deadlines.first().map(|(at, _)| *at);
        senders.into_iter().chain(extras).min()
    }

    /// Everything at once, into an empty cache: trees that are built in order are full.
    pub(super) fn fill(&mut self, mut bindings: Vec<(Ipv6Addr, Binding)>, extras: Vec<(Ipv6Net, Extra)>) {
        bindings.sort_unstable_by_key(|(sender, _)| *sender);
        let mut deadlines: Vec<(Second, Ipv6Addr)> =
            bindings.iter().map(|(sender, binding)| (binding.expires(), *sender)).collect();
        deadlines.sort_unstable();
        self.deadlines = deadlines.into_iter().collect();
        self.bindings = bindings.into_iter().collect();
        self.proven = self.bindings.values().filter(|binding| binding.care_of().is_some()).count();
        for (prefix, extra) in extras {
            if self.bindings.contains_key(&extra.sender) {
                self.set_extra(prefix, extra.sender, extra.expires);
            }
        }
        self.changed = Vec::new();
    }
}

/// The address of a /128.
fn single(prefix: Ipv6Net) -> Option<Ipv6Addr> {
    (prefix.prefix_len() == 128).then(|| prefix.addr())
}
