//! How wide the paths to others of us are: one [`PathMtu`] for each path that a pair of entities uses, and what it finds
//! becomes the limit in the data plane's table.
//!
//! Challenges and responses are those of path control, and pairs that have no path control (configured endpoints, home
//! agents) speak them, too. A peer that is not one of us sends a challenge back when it comes as an ICMPv6 echo; if not even
//! that, its paths keep the configured MTU (decision 0016).

use std::collections::VecDeque;
use std::time::Instant;

use rand_core::Rng;

use super::indexed::Timed;
use super::pair::PairKey;
use super::{Event, Inject, Node};
use crate::dataplane::event::UdpPath;
use crate::path::pmtu::PathMtu;
use crate::wire::echo;
use crate::wire::ip::{Ipv6View, NEXT_HEADER_IPV6, NEXT_HEADER_NONE};
use crate::wire::path::{Body, MIN_CHALLENGE, Message};

/// Paths of a pair that are remembered, the one in use included: who goes to and fro between relay and direct path
/// does not search anew each time.
const REMEMBERED: usize = 4;

/// Most for a peer that is not one of us, and may not answer: what an Ethernet carries.
const MAX_FOREIGN: u16 = 1438;

/// How a peer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// It is one of us.
    Challenges,
    /// It is not.
    Echoes,
}

impl Asking {
    /// The configured MTU, as far as such a peer may have it.
    fn most(self, configured: u16) -> u16 {
        match self {
            Self::Challenges => configured,
            Self::Echoes => configured.min(MAX_FOREIGN),
        }
    }
}

/// The paths of a pair.
pub(super) struct Widths {
    asking: Asking,
    /// The one in use first.
    known: VecDeque<(UdpPath, PathMtu)>,
    /// What the data plane was told last: the MTU, and whether not even that passes.
    told: Option<(u16, bool)>,
    /// The peer has the SA for certain: what we ask before that it cannot open.
    asks: bool,
    /// The peer answered, on whatever path.
    answered: bool,
}

impl Timed for Widths {
    fn deadline(&self) -> Option<Instant> {
        Some(self.in_use().filter(|_| self.asks)?.poll_timeout()?.0)
    }
}

impl Widths {
    fn new(asking: Asking) -> Self {
        Self { asking, known: VecDeque::with_capacity(1), told: None, asks: false, answered: false }
    }

    fn in_use(&self) -> Option<&PathMtu> {
        self.known.front().map(|(_, width)| width)
    }

    fn in_use_mut(&mut self) -> Option<&mut PathMtu> {
        self.known.front_mut().map(|(_, width)| width)
    }
}

impl Node {
    /// There is a child SA: the widths of its paths can be found, as soon as the peer has it, too.
    pub(super) fn begin_widths(&mut self, key: PairKey, asking: Asking, peer_has_it: bool) {
        let mut widths = self.widths.or_insert_with(key, || Widths::new(asking));
        widths.asking = asking;
        widths.asks |= peer_has_it;
    }

    /// The first packet came on this inbound SA: the peer has it.
    pub(super) fn width_heard(&mut self, now: Instant, spi: u32) {
        let child = self.by_spi.get(&spi).and_then(|id| self.children.get(id));
        let Some(key) = child.map(|child| child.pair) else { return };
        if let Some(mut widths) = self.widths.get_mut(&key) {
            widths.asks = true;
        }
        self.drain_widths(now, key);
    }

    /// The limit for packets of this pair on this path, which is the one in use from now on. Call
    /// [`Self::drain_widths`] when the child SA is the active one.
    pub(super) fn width_on(&mut self, now: Instant, key: PairKey, path: UdpPath) -> u16 {
        let configured = self.config.mtu;
        // What path control has seen pass before it chose the path.
        let seen = self.paths.get(&key).filter(|_| path.relay.is_none());
        let seen = seen.and_then(|paths| paths.agent.proven_size());
        let rtt = self.ike.list_between(now, key).find_map(|ike| ike.rtt);
        let Some(mut widths) = self.widths.get_mut(&key) else { return Asking::Echoes.most(configured) };
        let max = widths.asking.most(configured);
        let place = widths.known.iter().position(|(known, _)| *known == path);
        let known = place.and_then(|place| widths.known.remove(place)).map(|(_, width)| width);
        // It was proven anew: less than we remember is the truth, more is worth a search.
        let known = known.filter(|width| seen.is_none_or(|seen| seen == max || width.mtu() < max));
        let known = known.map(|mut width| {
            if place != Some(0) && seen == Some(max) {
                width.handle_wider(now);
            }
            width
        });
        let mut width = known.unwrap_or_else(|| match seen {
            Some(seen) => PathMtu::proven(now, max, seen, rtt),
            None => PathMtu::new(now, max, widths.in_use().map_or(max, PathMtu::mtu), rtt),
        });
        if widths.answered {
            width.handle_peer_answered();
        }
        let mtu = width.mtu();
        widths.told = Some((mtu, width.is_narrow()));
        widths.known.push_front((path, width));
        widths.known.truncate(REMEMBERED);
        mtu
    }

    /// Data was sent to this peer since the counters were last read.
    pub(super) fn widths_carry(&mut self, now: Instant, key: PairKey) {
        if let Some(width) = self.widths.get_mut(&key).as_deref_mut().and_then(Widths::in_use_mut) {
            width.handle_carried(now);
        }
        self.drain_widths(now, key);
    }

    /// This machine moved: what was found may have been another network's.
    pub(super) fn widths_moved(&mut self, now: Instant) {
        self.widths.for_each_mut(|widths| {
            widths.known.truncate(1);
            widths.in_use_mut().into_iter().for_each(|width| width.forget(now));
        });
    }

    pub(super) fn widths_timeout(&mut self, now: Instant) {
        for key in self.widths.due(now) {
            if let Some(width) = self.widths.get_mut(&key).as_deref_mut().and_then(Widths::in_use_mut) {
                width.handle_timeout(now);
            }
            self.drain_widths(now, key);
        }
    }

    /// A response came; false when it is not about the width of a path.
    pub(super) fn width_answered(&mut self, now: Instant, key: PairKey, token: [u8; 8]) -> bool {
        let Some(mut widths) = self.widths.get_mut(&key) else { return false };
        let taken = widths.known.iter_mut().any(|(_, width)| width.handle_response(now, token));
        widths.answered |= taken;
        drop(widths);
        if taken {
            self.drain_widths(now, key);
        }
        taken
    }

    /// A challenge of somebody with whom there is no path control: the response goes back the way that it came.
    pub(super) fn answer_challenge(&mut self, key: PairKey, from: UdpPath, token: [u8; 8]) {
        let relayed = self.active_child(key).map(|child| child.path).filter(|path| path.relay.is_some());
        let path = if from.relay.is_some() { relayed.unwrap_or(from) } else { from };
        let observed = from.relay.is_none().then_some(from.remote);
        let body = Body::Response { token, observed };
        self.send_dummy(key, path, &Message { moves: 0, in_use: false, body });
    }

    /// The socket did not take this packet because it is larger than the MTU of this machine's own link.
    pub fn handle_too_big(&mut self, now: Instant, inject: &Inject) {
        let params = inject.outbound.sa.params();
        let key = (params.local, params.remote);
        let Ok(size) = u16::try_from(inject.packet.len()) else { return };
        let Some(mut widths) = self.widths.get_mut(&key) else { return };
        if let Some((_, width)) = widths.known.front_mut().filter(|(path, _)| *path == inject.outbound.path) {
            width.handle_too_big(now, size);
        }
        drop(widths);
        self.drain_widths(now, key);
    }

    /// Sends what is to be sent and publishes what was found.
    pub(super) fn drain_widths(&mut self, now: Instant, key: PairKey) {
        loop {
            let mut token = [0; 8];
            self.rng.fill_bytes(&mut token);
            let Some(mut widths) = self.widths.get_mut(&key) else { return };
            let (asks, asking) = (widths.asks, widths.asking);
            let Some((path, width)) = widths.known.front_mut() else { return };
            let path = *path;
            let Some(size) = asks.then(|| width.poll_probe(now, token)).flatten() else { break };
            drop(widths);
            if asking == Asking::Echoes {
                self.send_echo(key, path, token, size);
                continue;
            }
            let body = Body::Challenge { token, size };
            let message = match self.paths.get(&key) {
                Some(paths) => paths.agent.message(now, body),
                None => Message { moves: 0, in_use: false, body },
            };
            self.send_dummy(key, path, &message);
        }
        self.publish_width(key);
    }

    fn publish_width(&mut self, key: PairKey) {
        let Some(mut widths) = self.widths.get_mut(&key) else { return };
        let Some((path, width)) = widths.known.front() else { return };
        let (path, mtu, narrow) = (*path, width.mtu(), width.is_narrow());
        if widths.told.replace((mtu, narrow)) == Some((mtu, narrow)) {
            return;
        }
        drop(widths);
        if self.active_child(key).is_none_or(|child| child.path != path) {
            return;
        }
        self.publish(key, mtu);
        self.events.push_back(Event::MtuChanged { remote: key.1, path, mtu, narrow });
    }

    /// A challenge as the data of an echo: `size` is that of the whole packet, or the least possible one.
    fn send_echo(&mut self, key: PairKey, path: UdpPath, token: [u8; 8], size: u16) {
        let size = size.saturating_sub(echo::HEADERS).max(MIN_CHALLENGE);
        let message = Message { moves: 0, in_use: false, body: Body::Challenge { token, size } };
        if let Some(packet) = echo::request(key.0, key.1, &message.to_bytes()) {
            self.send_own(key, |_| path, NEXT_HEADER_IPV6, packet);
        }
    }

    /// An echo came back.
    pub(super) fn handle_echo(&mut self, now: Instant, key: PairKey, packet: &[u8]) {
        let view = Ipv6View::new(packet).ok();
        let message = view.and_then(|view| Message::parse(echo::reply(&view)?).ok());
        if let Some(Message { body: Body::Challenge { token, .. }, .. }) = message
            && self.width_answered(now, key, token)
        {
            return;
        }
        self.count("path_unexpected");
    }

    /// Seals a message into a dummy packet.
    pub(super) fn send_dummy(&mut self, key: PairKey, path: UdpPath, message: &Message) {
        self.send_own(key, |_| path, NEXT_HEADER_NONE, message.to_bytes());
    }

    /// Sends what the control plane has to say to a peer inside its child SA. It is no data: whoever sends nothing else is
    /// idle. `way` makes the path of it out of the one in use.
    pub(super) fn send_own(
        &mut self,
        key: PairKey,
        way: impl FnOnce(UdpPath) -> UdpPath,
        next_header: u8,
        packet: Vec<u8>,
    ) {
        let Some(id) = self.pairs.get(&key).and_then(|pair| pair.active) else { return };
        let Some(child) = self.children.get_mut(&id) else { return };
        child.seen_octets = child.seen_octets.saturating_add(packet.len() as u64);
        // A challenge is as large as a packet may ever be: the limit for applications is not for it.
        let mut outbound = child.outbound_entry(u16::MAX);
        outbound.path = way(outbound.path);
        self.injects.push_back(Inject { outbound, next_header, packet });
    }

    /// What `status` shows: the limit, what was shown to pass, and how far the search has come.
    pub(super) fn width_status(&self, key: PairKey) -> (u16, Option<u16>, &'static str) {
        let widths = self.widths.get(&key);
        let Some((widths, width)) = widths.and_then(|widths| Some((widths, widths.in_use()?))) else {
            return (Asking::Echoes.most(self.config.mtu), None, "configured");
        };
        let proven = width.proven_size().filter(|proven| *proven == width.mtu());
        let state = match proven {
            Some(_) => "proven",
            None if width.is_narrow() => "narrow",
            None if widths.asking == Asking::Echoes && !widths.answered => "configured",
            None => "searching",
        };
        (width.mtu(), proven, state)
    }
}
