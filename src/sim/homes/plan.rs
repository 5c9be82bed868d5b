//! What a seed means: homes, sites, machines, who talks with whom, and what happens.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use ipnet::Ipv6Net;

use crate::addr::plan::{FIRST_NODE, device, home_agent, in_subnet};
use crate::addr::six_to_four::home_prefix;
use crate::ike::Lifetimes;
use crate::pki::MAX_LEAF_LIFETIME;
use crate::sim::nat::Kind;
use crate::sim::network::Conditions;
use crate::sim::scenario::{Dice, PORT};

/// Seconds that certificates are valid which end within the simulation: the third in which they are renewed is longer than
/// any storm.
pub(super) const SHORT_LEAF: u64 = 600;

/// What a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The home agent of its home, which may host something itself.
    Home,
    /// A user's device: one address.
    Device,
    /// A node with a /64 and a service in it.
    Server,
    /// Somebody who claims to be a member of a home, perhaps one that there is, with a certificate of a root of his own.
    Forger,
}

/// One machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) role: Role,
    /// Which home it belongs to.
    pub(super) home: usize,
    /// Where it begins.
    pub(super) site: usize,
    /// Its permanent addresses: the first one speaks with the home agent.
    pub(super) entities: Vec<Ipv6Addr>,
    /// Homes whose certificates it believes.
    pub(super) trusts: BTreeSet<usize>,
    /// Addresses that its policy discards.
    pub(super) refuses: BTreeSet<Ipv6Addr>,
}

impl Machine {
    /// What it binds besides its first address.
    pub(super) fn prefixes(&self) -> Vec<Ipv6Net> {
        match (self.role, self.entities.first()) {
            (Role::Server, Some(node)) => vec![Ipv6Net::new_assert(*node, 64).trunc()],
            (Role::Home | Role::Device | Role::Server | Role::Forger, _) => Vec::new(),
        }
    }
}

/// Something that happens. Machines and homes are named by their index among the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A machine is in another network from now on.
    Move(usize, usize),
    /// Two machines move at once.
    MoveBoth([(usize, usize); 2]),
    /// A machine has no network for so many milliseconds.
    Offline(usize, u64),
    /// A NAT forgets its mappings.
    RebootNat(usize),
    /// `kill -9` and a new start.
    Restart(usize),
    /// `down`, and `up` after so many milliseconds.
    DownAndUp(usize, u64),
    /// Nothing passes anywhere for so many milliseconds.
    Partition(u64),
    /// Nothing passes from or to a home for so many milliseconds.
    CutHome(usize, u64),
    /// `rekey` of a conversation.
    Rekey(usize, &'static str),
    /// Everything of a conversation is closed by one of its ends.
    Disconnect(usize),
    /// So many packets of a conversation at once.
    Burst(usize, u32),
    /// An attacker sends random octets from random addresses.
    Garbage(u32),
    /// An attacker sends again what was recorded, some of it changed, from true or false addresses.
    Replay(u32),
    /// The time of day jumped.
    ClockJump(usize),
}

/// Everything that a seed decides.
pub(super) struct Plan {
    pub(super) homes: Vec<Ipv4Addr>,
    /// The first sites are those of the homes.
    pub(super) sites: Vec<(Kind, bool)>,
    pub(super) machines: Vec<Machine>,
    /// Who sends to whom, both ways.
    pub(super) conversations: Vec<(Ipv6Addr, Ipv6Addr)>,
    pub(super) storm: Conditions,
    pub(super) acts: Vec<(Duration, Act)>,
    pub(super) lifetimes: Lifetimes,
    pub(super) child_pfs: bool,
    /// Queues of each machine's data plane.
    pub(super) queues: usize,
    /// Seconds that certificates are valid.
    pub(super) leaf: u64,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 11);
        let homes: Vec<Ipv4Addr> =
            (0..1 + dice.below(3)).map(|home| Ipv4Addr::new(50, 0, 0, home as u8 + 1)).collect();
        let mut sites = vec![(Kind::Public, false); homes.len()];
        for _ in 0..2 + dice.below(3) {
            sites.push((dice.pick(&Kind::ALL, Kind::Public), dice.once_in(2)));
        }
        let trusts = trusts(&mut dice, homes.len());
        let machines = machines(&mut dice, &homes, sites.len(), &trusts);
        let conversations = conversations(&mut dice, &homes, &machines);
        let mut machines = machines;
        if dice.once_in(4) {
            let forger = forger(&mut dice, &homes, sites.len(), &machines);
            machines.push(forger);
        }
        let storm = storm(&mut dice);
        let acts = if dice.once_in(8) {
            Vec::new()
        } else {
            let count = 1 + dice.below(12);
            let last = [conversations.len(), machines.len(), homes.len(), sites.len()];
            (0..count).map(|_| (dice.millis(0, 8_000), act(&mut dice, last))).collect()
        };
        let lifetimes = lifetimes(&mut dice);
        let child_pfs = dice.once_in(4);
        let leaf = if dice.once_in(10) { SHORT_LEAF } else { MAX_LEAF_LIFETIME };
        // Dice of its own, which leaves the rest of a plan as it is.
        let queues = Dice::new(seed, 13).pick(&[1, 1, 3], 1);
        Self { homes, sites, machines, conversations, storm, acts, lifetimes, child_pfs, queues, leaf }
    }

    /// The prefix of a home.
    pub(super) fn prefix(&self, home: usize) -> Ipv6Net {
        home_prefix(self.homes.get(home).copied().unwrap_or(Ipv4Addr::UNSPECIFIED))
    }

    /// Where a home agent answers.
    pub(super) fn endpoint(&self, home: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.homes.get(home).copied().unwrap_or(Ipv4Addr::UNSPECIFIED), PORT)
    }

    /// The permanent address of a home agent.
    pub(super) fn agent(&self, home: usize) -> Ipv6Addr {
        home_agent(self.homes.get(home).copied().unwrap_or(Ipv4Addr::UNSPECIFIED))
    }

    /// Whom forgers call, and where that is: whoever has a public address to begin with.
    pub(super) fn victims(&self) -> Vec<(Ipv6Addr, SocketAddrV4)> {
        let place = |at: usize, machine: &Machine| match machine.role {
            Role::Home => Some(self.endpoint(machine.home)),
            Role::Device | Role::Server => {
                let (kind, _) = *self.sites.get(machine.site)?;
                let v4 = address(kind, machine.site, at, 0);
                (kind == Kind::Public).then_some(SocketAddrV4::new(v4, PORT))
            }
            Role::Forger => None,
        };
        let machines = self.machines.iter().enumerate();
        machines
            .filter_map(|(at, machine)| Some((machine, place(at, machine)?)))
            .flat_map(|(machine, place)| machine.entities.iter().map(move |entity| (*entity, place)))
            .collect()
    }

    /// The machine that an address belongs to.
    pub(super) fn owner(&self, address: Ipv6Addr) -> Option<usize> {
        self.machines
            .iter()
            .position(|machine| machine.role != Role::Forger && machine.entities.contains(&address))
    }
}

/// The address of a machine in a site, another one at each visit.
pub(super) fn address(kind: Kind, site: usize, at: usize, visits: u8) -> Ipv4Addr {
    let host = at as u8 * 20 + visits % 20 + 1;
    if kind == Kind::Public {
        Ipv4Addr::new(20, 1, site as u8, host)
    } else {
        Ipv4Addr::new(192, 168, site as u8, host)
    }
}

/// Whom the machines of each home trust: mostly each other.
fn trusts(dice: &mut Dice, homes: usize) -> Vec<BTreeSet<usize>> {
    let trusting = |dice: &mut Dice, home| {
        (0..homes).filter(|other| *other == home || !dice.once_in(5)).collect::<BTreeSet<usize>>()
    };
    (0..homes).map(|home| trusting(dice, home)).collect()
}

fn machines(dice: &mut Dice, homes: &[Ipv4Addr], sites: usize, trusts: &[BTreeSet<usize>]) -> Vec<Machine> {
    let machine = |role, home: usize, site, entities| Machine {
        role,
        home,
        site,
        entities,
        trusts: trusts.get(home).cloned().unwrap_or_default(),
        refuses: BTreeSet::new(),
    };
    let mut machines: Vec<Machine> = Vec::new();
    for (home, v4) in homes.iter().enumerate() {
        let mut entities = vec![home_agent(*v4)];
        if dice.once_in(2) {
            entities.push(in_subnet(*v4, FIRST_NODE, 1));
        }
        machines.push(machine(Role::Home, home, home, entities));
    }
    let count = 2 + dice.below(3);
    for index in 0..count {
        let home = dice.below(homes.len() as u64) as usize;
        let site = homes.len() + dice.below((sites - homes.len()) as u64) as usize;
        let (role, entities) = if dice.once_in(3) {
            let subnet = FIRST_NODE + 1 + index as u16;
            (Role::Server, vec![in_subnet(homes[home], subnet, 1), in_subnet(homes[home], subnet, 5)])
        } else {
            (Role::Device, vec![device(homes[home], index as u32 + 1, 1)])
        };
        let mut machine = machine(role, home, site, entities);
        // Somebody trusts less than the others of the same home.
        machine.trusts.retain(|other| *other == home || !dice.once_in(10));
        machines.push(machine);
    }
    let everybody: Vec<Ipv6Addr> =
        machines.iter().flat_map(|machine| machine.entities.iter().copied()).collect();
    for machine in machines.iter_mut().filter(|machine| machine.role != Role::Home) {
        if dice.once_in(6) {
            let whom = dice.pick(&everybody, Ipv6Addr::UNSPECIFIED);
            if !machine.entities.contains(&whom) && !homes.iter().any(|home| home_agent(*home) == whom) {
                machine.refuses.insert(whom);
            }
        }
    }
    machines
}

fn forger(dice: &mut Dice, homes: &[Ipv4Addr], sites: usize, machines: &[Machine]) -> Machine {
    let home = dice.below(homes.len() as u64) as usize;
    let claimed = device(homes[home], 99, 1);
    let members: Vec<Ipv6Addr> = machines
        .iter()
        .filter(|machine| machine.role != Role::Home && machine.home == home)
        .filter_map(|machine| machine.entities.first().copied())
        .collect();
    let claimed = if dice.once_in(3) { claimed } else { dice.pick(&members, claimed) };
    Machine {
        role: Role::Forger,
        home,
        site: homes.len() + dice.below((sites - homes.len()) as u64) as usize,
        entities: vec![claimed],
        trusts: (0..homes.len()).collect(),
        refuses: BTreeSet::new(),
    }
}

/// Pairs of addresses of different machines: applications try everything, allowed or not.
fn conversations(dice: &mut Dice, homes: &[Ipv4Addr], machines: &[Machine]) -> Vec<(Ipv6Addr, Ipv6Addr)> {
    let mut pairs = Vec::new();
    for (index, one) in machines.iter().enumerate() {
        for other in machines.iter().skip(index + 1) {
            for local in &one.entities {
                for remote in &other.entities {
                    // A home agent is asked for names by its own users, and by nobody else.
                    let agents = |address| homes.iter().position(|home| home_agent(*home) == address);
                    let asks = |agent: Option<usize>, whose: usize| agent.is_none_or(|home| home == whose);
                    let both = agents(*local).is_some() && agents(*remote).is_some();
                    if !both && asks(agents(*local), other.home) && asks(agents(*remote), one.home) {
                        pairs.push((*local, *remote));
                    }
                }
            }
        }
    }
    let wanted = 2 + dice.below(4) as usize;
    while pairs.len() > wanted {
        pairs.swap_remove(dice.below(pairs.len() as u64) as usize);
    }
    pairs
}

fn storm(dice: &mut Dice) -> Conditions {
    let chance = |dice: &mut Dice, most: u64| if dice.once_in(3) { 0 } else { dice.below(most) as u32 };
    Conditions {
        loss: chance(dice, 300),
        duplicate: chance(dice, 200),
        corrupt: chance(dice, 50),
        delay: dice.millis(1, 150),
        jitter: dice.millis(0, 400),
        partition: false,
    }
}

fn lifetimes(dice: &mut Dice) -> Lifetimes {
    let usual = Lifetimes { dpd: dice.millis(3_000, 15_000), ..Lifetimes::default() };
    if dice.once_in(3) { dice.short_lifetimes(usual) } else { usual }
}

/// `last`: how many conversations, machines, homes and sites there are.
fn act(dice: &mut Dice, last: [usize; 4]) -> Act {
    let [conversations, machines, homes, sites] = last.map(|count| count as u64);
    let conversation = dice.below(conversations) as usize;
    let mover = (homes + dice.below(machines - homes)) as usize;
    let another = (homes + dice.below(machines - homes)) as usize;
    let site = |dice: &mut Dice| (homes + dice.below(sites - homes)) as usize;
    let what = dice.pick(&["child", "ike", "reauth"], "child");
    match dice.below(24) {
        0..=4 => Act::Move(mover, site(dice)),
        5 | 6 => Act::MoveBoth([(mover, site(dice)), (another, site(dice))]),
        7 => Act::Offline(mover, 300 + dice.below(20_000)),
        8 | 9 => Act::RebootNat(site(dice)),
        10 | 11 => Act::Restart(mover),
        12 | 13 => Act::Restart(dice.below(homes) as usize),
        14 => Act::DownAndUp(mover, 300 + dice.below(5_000)),
        15 => Act::Partition(500 + dice.below(20_000)),
        16 => Act::CutHome(dice.below(homes) as usize, 500 + dice.below(30_000)),
        17 => Act::Rekey(conversation, what),
        18 => Act::Disconnect(conversation),
        19 => Act::Burst(conversation, 1 + dice.below(60) as u32),
        20 => Act::Garbage(1 + dice.below(50) as u32),
        21 | 22 => Act::Replay(1 + dice.below(100) as u32),
        _ => Act::ClockJump(dice.below(machines) as usize),
    }
}
