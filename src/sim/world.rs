//! Two machines, a network, an attacker and a clock: runs what a seed means and checks what must always hold.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::host::Host;
use super::network::{Conditions, Datagram, Network};
use super::observer::{Counts, Observer, packet};
use super::scenario::{Act, Dice, PORT, Scenario, Talk, address, entity, outside};
use crate::node::Event;

/// Steps that one second of virtual time may take: more means that a timer spins.
const STEPS_PER_SECOND: u32 = 20_000;
/// The same when the network is calm and nobody attacks.
const CALM_STEPS_PER_SECOND: u32 = 400;
/// IKE datagrams, keepalives included, that both machines may send in a calm minute.
const CALM_DATAGRAMS_PER_MINUTE: u64 = 400;
/// After this much calm everything has settled.
const SETTLE: u64 = 120;
/// Applications may be silent at the beginning of the calm for this long, before everything has to settle.
const SILENCE: u64 = 60;
/// For this long everything must then be right.
const WATCH: u64 = 60;
/// Half-open SAs from one source address, as the endpoint limits them.
const HALF_OPEN_PER_SOURCE: usize = 16;
/// IKE SAs beside the half-open ones: old, new, and those of a collision.
const MAX_SAS: usize = 16;
/// Datagrams that the attacker remembers.
const RECORDED: usize = 256;

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Application packets that were delivered.
    pub delivered: usize,
    /// Datagrams on the wire.
    pub datagrams: Counts,
    /// Seconds of calm, with applications that talk, until the last packet was lost.
    pub settled_after: u64,
    /// What happened, when it was asked for.
    pub trace: Vec<String>,
}

/// Something that must never be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that shows it again.
    pub seed: u64,
    /// When, since the start.
    pub at: Duration,
    /// What.
    pub what: String,
    /// What happened before, when it was asked for.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64();
        write!(f, "DOMICILE_SEED={}: after {at:.3} s of virtual time {}", self.seed, self.what)
    }
}

/// Everything.
pub struct World {
    scenario: Scenario,
    hosts: [Host; 2],
    network: Network,
    observer: Observer,
    dice: Dice,
    start: Instant,
    now: Instant,
    /// Applications send their next packet.
    next_packet: Instant,
    pace: Duration,
    /// Whose applications send at that pace.
    talking: [bool; 2],
    number: u64,
    /// What the attacker has recorded.
    recorded: Vec<Datagram>,
    moves: u8,
    second: u64,
    steps: u32,
    steps_allowed: u32,
    trace: Option<Vec<String>>,
}

type Outcome<T = ()> = Result<T, String>;

impl World {
    /// Runs a seed. `start` is any moment; `trace` asks for a record of what happened.
    ///
    /// # Errors
    /// What was violated.
    pub fn run(seed: u64, start: Instant, trace: bool) -> Result<Report, Violation> {
        let mut world = Self::new(seed, start, trace);
        let outcome = world.play();
        let trace = world.trace.take().unwrap_or_default();
        match outcome {
            Ok(settled_after) => Ok(Report {
                delivered: world.observer.delivered(),
                datagrams: world.observer.counts,
                settled_after,
                trace,
            }),
            Err(what) => Err(Violation { seed, at: world.now - start, what, trace }),
        }
    }

    fn new(seed: u64, start: Instant, trace: bool) -> Self {
        let scenario = Scenario::new(seed);
        let mut dice = Dice::new(seed, 2);
        let mut network = Network::new(seed, scenario.storm);
        if scenario.nat {
            network.add_nat(address(scenario.mobile, 0), outside(0));
        }
        let hosts = [0, 1].map(|host| {
            Host::new(scenario.configs[host].clone(), entity(host), address(host, 0), dice.seed(), start)
        });
        Self {
            scenario,
            hosts,
            network,
            observer: Observer::default(),
            dice,
            start,
            now: start,
            next_packet: start,
            pace: Duration::from_millis(700),
            talking: [true, true],
            number: 0,
            recorded: Vec::new(),
            moves: 0,
            second: 0,
            steps: 0,
            steps_allowed: STEPS_PER_SECOND,
            trace: trace.then(Vec::new),
        }
    }

    /// The storm, the calm, and the check.
    fn play(&mut self) -> Outcome<u64> {
        self.describe();
        for (pause, act) in std::mem::take(&mut self.scenario.acts) {
            self.pass(pause)?;
            self.note(|| format!("--- {act:?}"));
            self.perform(act)?;
        }
        self.note(|| "--- calm".to_owned());
        self.network.set_conditions(Conditions::CALM);
        self.pace = Duration::from_secs(1);
        // What the storm delayed still arrives.
        self.pass(Duration::from_secs(2))?;
        self.steps_allowed = CALM_STEPS_PER_SECOND;
        if self.scenario.talk == Talk::AfterSilence {
            self.talking = [false, false];
            self.pass(Duration::from_secs(SILENCE))?;
        }
        self.talking = [0, 1].map(|at| self.scenario.talk != Talk::OnlyMobile || at == self.scenario.mobile);
        let mut settled = 0;
        let mut before = self.number;
        for second in 0..SETTLE {
            // Packets of the second before: those of this one may still be under way.
            let first = self.number;
            self.pass(Duration::from_secs(1))?;
            if (before..first).any(|number| !self.observer.was_delivered(number)) {
                settled = second;
            }
            before = first;
        }
        self.note(|| "--- watch".to_owned());
        self.watch()?;
        Ok(settled)
    }

    /// From here on nothing is lost and both ends agree.
    fn watch(&mut self) -> Outcome {
        let first = self.number;
        let before = self.observer.counts;
        let mut agreed = 0;
        let mut disagreement = None;
        for _ in 0..WATCH {
            self.pass(Duration::from_secs(1))?;
            match self.disagreement() {
                None => agreed += 1,
                Some(what) if self.scenario.short_lived => disagreement = Some(what),
                Some(what) => return Err(format!("the ends do not agree: {what}")),
            }
        }
        if agreed == 0 {
            return Err(format!("the ends never agree: {}", disagreement.unwrap_or_default()));
        }
        let last = self.number.saturating_sub(2);
        let lost: Vec<u64> = (first..last).filter(|number| !self.observer.was_delivered(*number)).collect();
        if !lost.is_empty() {
            return Err(format!(
                "{} of {} packets were lost in the calm: {lost:?}",
                lost.len(),
                last - first
            ));
        }
        let after = self.observer.counts;
        let sent = after.ike + after.keepalives - before.ike - before.keepalives;
        if sent > CALM_DATAGRAMS_PER_MINUTE * WATCH / 60 {
            return Err(format!("{sent} IKE datagrams in {WATCH} s of calm"));
        }
        Ok(())
    }

    /// What the two ends do not agree about.
    fn disagreement(&self) -> Option<String> {
        let mut views = Vec::new();
        for host in &self.hosts {
            let peers = host.node.peers(self.now, usize::MAX);
            let peer = peers.first()?;
            let ikes: BTreeSet<(String, String)> =
                peer.ike.iter().map(|ike| (ike.spi_i.clone(), ike.spi_r.clone())).collect();
            let children: BTreeSet<(String, String)> = peer
                .children
                .iter()
                .map(|child| (child.inbound.spi.clone(), child.outbound.spi.clone()))
                .collect();
            let ike = host.node.ike();
            let fit = (1..=self.children_allowed()).contains(&children.len());
            if ikes.len() != 1 || !fit || ike.len() != 1 || ike.half_open() != 0 {
                return Some(format!(
                    "{} has IKE SAs {ikes:?} ({} with pending ones, {} half-open) and children {children:?}",
                    host.entity,
                    ike.len(),
                    ike.half_open()
                ));
            }
            views.push((ikes, children));
        }
        let [(ikes_a, children_a), (ikes_b, children_b)] = views.as_slice() else { return None };
        let mirrored: BTreeSet<_> =
            children_b.iter().map(|(inbound, outbound)| (outbound.clone(), inbound.clone())).collect();
        let same = ikes_a == ikes_b && *children_a == mirrored;
        (!same).then(|| format!("{ikes_a:?} {children_a:?} against {ikes_b:?} {children_b:?}"))
    }

    /// One, or one for each queue; one more when both ends ask at once.
    fn children_allowed(&self) -> usize {
        match self.scenario.configs.each_ref().map(|config| config.queues).into_iter().max() {
            None | Some(0 | 1) => 1,
            Some(queues) => queues + 1,
        }
    }

    fn perform(&mut self, act: Act) -> Outcome {
        let now = self.now;
        let command = |world: &mut Self, at: usize, what: &str| {
            let remote = entity(1 - at);
            // A refused command is an ordinary outcome: there may be nothing to rekey, or nobody to call.
            let result = world.hosts[at].act(|node, route| match what {
                "connect" => node.connect(now, remote, route).map(|_| ()),
                "disconnect" => {
                    node.disconnect(now, remote);
                    Ok(())
                }
                what => node.rekey(now, remote, what),
            });
            if let Err(error) = result {
                world.note(|| format!("{at} refuses to {what}: {error}"));
            }
        };
        match act {
            Act::Burst(at, count) => {
                for _ in 0..count {
                    self.send_packet(at)?;
                }
            }
            Act::Connect(at) => command(self, at, "connect"),
            Act::ConnectBoth => [0, 1].into_iter().for_each(|at| command(self, at, "connect")),
            Act::Rekey(at, what) => command(self, at, what),
            Act::RekeyBoth(one, other) => {
                command(self, 0, one);
                command(self, 1, other);
            }
            Act::Disconnect(at) => command(self, at, "disconnect"),
            Act::Restart(at) => {
                let seed = self.dice.seed();
                self.hosts[at].restart(now, seed);
            }
            Act::Move => self.move_mobile(),
            Act::RebootNat => self.network.reboot_nat(self.hosts[self.scenario.mobile].v4),
            Act::Partition(millis) => {
                self.network.set_conditions(Conditions { partition: true, ..self.scenario.storm });
                self.pass(Duration::from_millis(millis))?;
                self.network.set_conditions(self.scenario.storm);
            }
            Act::Garbage(count) => self.garbage(count),
            Act::Replay(count) => self.replay(count),
            Act::Flood(count) => self.flood(count),
        }
        self.collect()
    }

    fn move_mobile(&mut self) {
        self.moves += 1;
        let (mobile, now) = (self.scenario.mobile, self.now);
        let v4 = address(mobile, self.moves);
        if self.scenario.nat {
            self.network.add_nat(v4, outside(self.moves));
        }
        self.hosts[mobile].move_to(now, v4);
    }

    fn garbage(&mut self, count: u32) {
        for _ in 0..count {
            let length = 1 + self.dice.below(200) as usize;
            let mut payload = self.dice.bytes(length);
            if self.dice.once_in(2) {
                payload.splice(..payload.len().min(4), [0; 4]);
            }
            self.inject(payload);
        }
    }

    fn replay(&mut self, count: u32) {
        for _ in 0..count {
            let chosen = self.dice.below(self.recorded.len() as u64) as usize;
            let Some(mut datagram) = self.recorded.get(chosen).cloned() else { return };
            if self.dice.once_in(3) {
                let at = self.dice.below(datagram.payload.len() as u64) as usize;
                if let Some(octet) = datagram.payload.get_mut(at) {
                    *octet ^= 1 << self.dice.below(8);
                }
            }
            if self.dice.once_in(2) {
                self.inject(datagram.payload);
            } else {
                self.network.send(self.now, datagram);
            }
        }
    }

    /// Requests that were recorded, each with an SPI and a source of its own.
    fn flood(&mut self, count: u32) {
        let template = self
            .recorded
            .iter()
            .find(|datagram| datagram.payload.get(22) == Some(&34) && datagram.payload.get(23) == Some(&8));
        let Some(template) = template.map(|datagram| datagram.payload.clone()) else { return };
        for _ in 0..count {
            let spi = self.dice.bytes(8);
            let mut payload = template.clone();
            payload.splice(4..12, spi);
            self.inject(payload);
        }
    }

    /// From a random address to a random machine.
    fn inject(&mut self, payload: Vec<u8>) {
        let ip = Ipv4Addr::new(192, 0, 2, self.dice.below(250) as u8);
        let source = SocketAddrV4::new(ip, 1024 + self.dice.below(60_000) as u16);
        let to = self.dice.below(2) as usize;
        let known = self.recorded.iter().rev().find(|datagram| {
            let behind_nat = self.scenario.nat && to == self.scenario.mobile;
            *datagram.source.ip() != self.hosts[to].v4 && behind_nat
        });
        let destination = match known {
            Some(datagram) => datagram.destination,
            None => SocketAddrV4::new(self.hosts[to].v4, PORT),
        };
        self.network.send(self.now, Datagram { source, destination, payload });
    }

    fn send_packet(&mut self, from: usize) -> Outcome {
        let length = self.dice.below(600) as usize;
        let packet = packet(entity(from), entity(1 - from), self.number, length);
        let number = self.number;
        self.observer.application_sends(number, packet.clone());
        self.note(|| format!("{from}: packet {number}"));
        self.number += 1;
        self.hosts[from].from_application(self.now, &packet);
        self.collect()
    }

    /// Lets time pass.
    fn pass(&mut self, duration: Duration) -> Outcome {
        let end = self.now + duration;
        loop {
            self.count_step()?;
            while let Some(datagram) = self.network.arrival(self.now) {
                self.deliver(&datagram)?;
            }
            if self.next_packet <= self.now {
                self.next_packet += self.pace;
                for at in 0..self.hosts.len() {
                    if self.talking[at] {
                        self.send_packet(at)?;
                    }
                }
            }
            for at in 0..self.hosts.len() {
                self.let_time_pass(at)?;
            }
            let timers = self.hosts.iter().filter_map(|host| host.poll_timeout()).map(|(at, _)| at);
            let others = [Some(self.next_packet), self.network.next_arrival()].into_iter().flatten();
            match timers.chain(others).min().filter(|at| *at <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
        }
        self.now = end;
        Ok(())
    }

    fn let_time_pass(&mut self, at: usize) -> Outcome {
        let due = |host: &Host, now| host.poll_timeout().filter(|(at, _)| *at <= now);
        if due(&self.hosts[at], self.now).is_none() {
            return Ok(());
        }
        self.hosts[at].handle_timeout(self.now);
        self.collect()?;
        match due(&self.hosts[at], self.now) {
            Some((_, why)) => Err(format!("{at} has a deadline in the past after handle_timeout: {why}")),
            None => Ok(()),
        }
    }

    fn count_step(&mut self) -> Outcome {
        let second = (self.now - self.start).as_secs();
        if second != self.second {
            (self.second, self.steps) = (second, 0);
        }
        self.steps += 1;
        if self.steps > self.steps_allowed {
            let timers: Vec<_> = self.hosts.iter().map(Host::poll_timeout).collect();
            return Err(format!("{} steps in one second, timers {timers:?}", self.steps));
        }
        Ok(())
    }

    fn deliver(&mut self, datagram: &Datagram) -> Outcome {
        let Some(host) = self.hosts.iter_mut().find(|host| host.v4 == *datagram.destination.ip()) else {
            return Ok(());
        };
        if datagram.destination.port() != PORT {
            return Ok(());
        }
        host.from_network(self.now, datagram);
        self.collect()
    }

    /// Takes what the machines did, shows it to the observer and gives it to the network.
    fn collect(&mut self) -> Outcome {
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            let (events, sent) = (std::mem::take(&mut host.events), std::mem::take(&mut host.sent));
            let (delivered, errors) = (std::mem::take(&mut host.delivered), std::mem::take(&mut host.errors));
            for event in events {
                self.observer.key_logged(&event)?;
                match event {
                    Event::IkeKeys { spi_i, spi_r, .. } => {
                        self.note(|| format!("{at}: has IKE SA {spi_i:016x} {spi_r:016x}"));
                    }
                    Event::ChildKeys { spi, .. } => self.note(|| format!("{at}: has ESP SA {spi:#010x}")),
                    Event::PeerUp { .. }
                    | Event::PeerDown { .. }
                    | Event::PeerFailed { .. }
                    | Event::Document { .. }
                    | Event::SequenceReserved { .. }
                    | Event::Registered { .. }
                    | Event::Observed { .. }
                    | Event::RegistrationLost { .. }
                    | Event::HomeMoved { .. }
                    | Event::Route { .. }
                    | Event::PathChanged { .. }
                    | Event::MtuChanged { .. } => self.note(|| format!("{at}: {event:?}")),
                }
            }
            for packet in delivered {
                let number = self.observer.tunnel_delivers(entity(at), &packet)?;
                self.note(|| format!("{at}: gets packet {number}"));
            }
            for error in errors {
                if error.get(6) != Some(&58) || error.get(24..40) != Some(&entity(at).octets()[..]) {
                    return Err(format!("{at} got something else than an ICMPv6 error"));
                }
            }
            for datagram in sent {
                self.observer.wire_carries(&datagram.payload)?;
                self.note(|| show(at, &datagram));
                self.record(&datagram);
                self.network.send(self.now, datagram);
            }
            self.check_bounds(at)?;
        }
        Ok(())
    }

    fn record(&mut self, datagram: &Datagram) {
        if self.recorded.len() < RECORDED {
            self.recorded.push(datagram.clone());
        } else if self.dice.once_in(4) {
            let at = self.dice.below(RECORDED as u64) as usize;
            self.recorded[at] = datagram.clone();
        }
    }

    /// Nobody makes a machine keep more than this.
    fn check_bounds(&self, at: usize) -> Outcome {
        let ike = self.hosts[at].node.ike();
        // Only true sources pass the cookie: the other machine's addresses.
        let sources = 1 + usize::from(self.moves);
        let most = self.scenario.configs[at].ike.cookie_threshold + sources * HALF_OPEN_PER_SOURCE;
        if ike.half_open() > most {
            return Err(format!("{at} keeps {} half-open SAs, {most} were allowed", ike.half_open()));
        }
        if ike.len() - ike.half_open() > MAX_SAS {
            return Err(format!("{at} keeps {} IKE SAs", ike.len() - ike.half_open()));
        }
        Ok(())
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let at = (self.now - self.start).as_secs_f64();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:9.3} {}", line()));
        }
    }

    fn describe(&mut self) {
        let scenario = &self.scenario;
        let ike = &scenario.configs[0].ike;
        let text = format!(
            "{:?} {:?} mobile {} nat {} short-lived {} cookies {} {:?}; keep up {:?} queues {:?} bulk {}",
            scenario.storm,
            scenario.talk,
            scenario.mobile,
            scenario.nat,
            scenario.short_lived,
            ike.cookie_threshold,
            ike.lifetimes,
            scenario.configs.each_ref().map(|config| config.peers.iter().any(|peer| peer.keep_up)),
            scenario.configs.each_ref().map(|config| config.queues),
            scenario.configs[0].bulk,
        );
        self.note(|| text);
    }
}

fn show(at: usize, datagram: &Datagram) -> String {
    let payload = &datagram.payload;
    let what = match payload.as_slice() {
        [0xff] => "keepalive".to_owned(),
        [0, 0, 0, 0, ike @ ..] => match crate::wire::ike::Header::parse(ike) {
            Ok(header) => format!(
                "IKE {:04x}/{:04x} exchange {} flags {:02x} message {} length {}",
                header.initiator_spi >> 48,
                header.responder_spi >> 48,
                header.exchange,
                header.flags,
                header.message_id,
                ike.len()
            ),
            Err(error) => format!("{error}"),
        },
        esp => format!(
            "ESP {:02x?} {:02x?}",
            esp.get(..4).unwrap_or_default(),
            esp.get(4..8).unwrap_or_default()
        ),
    };
    format!("{at}: {} -> {} {what}", datagram.source, datagram.destination)
}
