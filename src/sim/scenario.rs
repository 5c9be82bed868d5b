//! What a seed means: the weather, the configuration of both machines and what happens to them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::network::Conditions;
use crate::crypto::identity::PrivateKey;
use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::ike::{self, Lifetimes, LocalEntity};
use crate::node::{Config, PeerConfig};
use crate::policy::pad::{Pad, Peer, Proof};
use crate::policy::spd::Action;
use crate::policy::spd::{Policy, Services, Spd};

/// The port of both machines.
pub const PORT: u16 = 4500;

/// What a rekey command may ask for.
pub const REKEYS: [&str; 3] = ["child", "ike", "reauth"];

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// An application of this machine sends so many packets at once.
    Burst(usize, u32),
    /// `connect` on this machine.
    Connect(usize),
    /// Both machines connect at once.
    ConnectBoth,
    /// `rekey` on this machine.
    Rekey(usize, &'static str),
    /// `rekey` on both at once.
    RekeyBoth(&'static str, &'static str),
    /// Everything with the peer is closed by this machine.
    Disconnect(usize),
    /// `kill -9` and a new start.
    Restart(usize),
    /// The mobile machine gets another address.
    Move,
    /// The NAT forgets its mappings.
    RebootNat,
    /// Nothing passes for so many milliseconds.
    Partition(u64),
    /// The attacker sends random octets.
    Garbage(u32),
    /// The attacker sends again what it recorded, some of it changed, from true or false addresses.
    Replay(u32),
    /// The attacker sends IKE_SA_INIT requests from many addresses.
    Flood(u32),
}

/// Whose applications talk in the calm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Those of both machines.
    Both,
    /// Those of both, but not for the first minute.
    AfterSilence,
    /// Those of the mobile machine, which can always call the other one.
    OnlyMobile,
}

/// Everything that a seed decides.
pub struct Scenario {
    /// The weather until it calms down.
    pub storm: Conditions,
    /// Both machines.
    pub configs: [Config; 2],
    /// Which machine moves, and is behind a NAT if there is one.
    pub mobile: usize,
    /// The mobile machine is behind a NAT.
    pub nat: bool,
    /// Lifetimes are so short that something is rekeyed all the time.
    pub short_lived: bool,
    /// Whose applications talk in the calm.
    pub talk: Talk,
    /// What happens, each after a pause.
    pub acts: Vec<(Duration, Act)>,
}

/// The permanent address of a machine.
pub fn entity(host: usize) -> Ipv6Addr {
    Ipv6Addr::new(0x2002, 0xc633, 0x6401 + host as u16, 1, 0, 0, 0, 0x10)
}

/// A machine's IPv4 address after `moves` moves.
pub fn address(host: usize, moves: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, host as u8 * 100 + 1 + moves)
}

/// What the NAT in front of that address shows.
pub fn outside(moves: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 1 + moves)
}

/// The dice of a seed.
pub struct Dice(ChaCha20Rng);

impl Dice {
    /// For this seed and purpose.
    pub fn new(seed: u64, purpose: u8) -> Self {
        let mut bytes = [purpose; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Self(ChaCha20Rng::from_seed(bytes))
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit.max(1)
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T], otherwise: T) -> T {
        of.get(self.below(of.len() as u64) as usize).copied().unwrap_or(otherwise)
    }

    /// Random octets.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A seed for something else.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    fn host(&mut self) -> usize {
        self.below(2) as usize
    }

    /// So many milliseconds, less than `to`.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    /// Lifetimes that end within a simulation.
    pub fn short_lifetimes(&mut self, usual: Lifetimes) -> Lifetimes {
        let child_rekey = self.millis(12_000, 40_000);
        let ike_rekey = self.millis(20_000, 60_000);
        let reauth = self.millis(60_000, 120_000);
        Lifetimes {
            child_rekey,
            child_hard: child_rekey * 3,
            ike_rekey,
            reauth,
            ike_max: reauth * 2,
            jitter: 0.05 * self.below(10) as f64,
            ..usual
        }
    }
}

impl Scenario {
    /// What this seed means.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let mobile = dice.host();
        let nat = dice.once_in(3);
        let short_lived = dice.once_in(2);
        let lifetimes = lifetimes(&mut dice, short_lived);
        let psk = dice.once_in(3);
        let readable = dice.once_in(8);
        let known = !nat && !dice.once_in(4);
        // Dice of their own, which leave the rest of a scenario as it is.
        let (several, bulk) = several(&mut Dice::new(seed, 3));
        let configs = [0, 1].map(|host| {
            let knows_peer = host == mobile || known;
            let spd = spd(readable);
            let ike = ike_config(&mut dice, host, psk, spd, lifetimes);
            let endpoint = SocketAddrV4::new(address(1 - host, 0), PORT);
            Config {
                ike,
                peers: vec![PeerConfig {
                    name: "other".to_owned(),
                    address: entity(1 - host),
                    endpoint: knows_peer.then_some(endpoint),
                    keep_up: dice.once_in(4),
                }],
                homes: Vec::new(),
                registrations: Vec::new(),
                home_agent: None,
                port: PORT,
                mtu: 1380,
                queues: several[host],
                bulk,
            }
        });
        let count = 8 + dice.below(13);
        let acts = (0..count).map(|_| (dice.millis(0, 7_000), act(&mut dice, mobile, nat))).collect();
        let talk = dice.pick(&[Talk::Both, Talk::Both, Talk::AfterSilence, Talk::OnlyMobile], Talk::Both);
        Self { storm: storm(&mut dice), talk, configs, mobile, nat, short_lived, acts }
    }
}

/// Queues of each machine, in every second scenario more than one, and how much is enough for another SA: here little is.
fn several(dice: &mut Dice) -> ([usize; 2], u64) {
    let several = dice.once_in(2);
    let mut queues = || if several { 1 + dice.below(4) as usize } else { 1 };
    ([queues(), queues()], 1 + dice.below(2_000))
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

fn lifetimes(dice: &mut Dice, short: bool) -> Lifetimes {
    let usual = Lifetimes { dpd: dice.millis(3_000, 15_000), ..Lifetimes::default() };
    if !short {
        return usual;
    }
    let short = dice.short_lifetimes(usual);
    // An eighth of it lies between the soft and the hard limit: room for what probes of the path add in a round trip.
    Lifetimes { child_packets: if dice.once_in(3) { 80 + dice.below(160) } else { u64::MAX }, ..short }
}

fn spd(readable: bool) -> Spd {
    let rule = Policy { action: Action::Protect(Services::IntegrityOnly), ..Policy::protect(Spd::HOMES) };
    Spd::with_defaults(readable.then_some(rule), [])
}

fn ike_config(dice: &mut Dice, host: usize, psk: bool, spd: Spd, lifetimes: Lifetimes) -> ike::Config {
    let key = |host: usize| PrivateKey::from_seed(&[host as u8 + 1; 32]);
    let other = 1 - host;
    let proof = if psk {
        Proof::Psk(Secret::from(&b"correct horse battery staple"[..]))
    } else {
        Proof::PublicKey(*key(other).public().as_bytes())
    };
    let mut ike_suites = vec![IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm];
    ike_suites.rotate_left(dice.below(2) as usize);
    // At least three of four, so that two machines always have a suite in common.
    let mut esp_suites = EspSuite::ALL[..4].to_vec();
    esp_suites.rotate_left(dice.below(4) as usize);
    esp_suites.truncate(3 + dice.below(2) as usize);
    ike::Config {
        entities: vec![LocalEntity { address: entity(host), signing_key: key(host).seed() }],
        pad: Arc::new(Pad::new([Peer { name: "other".to_owned(), address: entity(other), proof }])),
        spd: Arc::new(spd),
        ike_suites,
        // No roll of its own, which would change every scenario.
        esp_yields: esp_suites.len() == 4,
        esp_suites,
        esn: !dice.once_in(3),
        child_pfs: dice.once_in(3),
        lifetimes,
        cookie_threshold: dice.pick(&[0, 2, 64], 64),
        fragment_size: dice.pick(&[1280, 1280, 576, 320], 1280),
        keylog: true,
    }
}

fn act(dice: &mut Dice, mobile: usize, nat: bool) -> Act {
    let what = |dice: &mut Dice| dice.pick(&REKEYS, "child");
    let host = dice.host();
    match dice.below(20) {
        0 | 1 => Act::Burst(host, 1 + dice.below(60) as u32),
        2 => Act::Connect(host),
        3 => Act::ConnectBoth,
        4..=6 => Act::Rekey(host, what(dice)),
        7..=9 => {
            let one = what(dice);
            Act::RekeyBoth(one, if dice.once_in(2) { one } else { what(dice) })
        }
        10 => Act::Disconnect(host),
        11 | 12 => Act::Restart(host),
        13 => Act::Move,
        14 if nat => Act::RebootNat,
        14 => Act::Restart(mobile),
        15 => Act::Partition(500 + dice.below(20_000)),
        16 => Act::Garbage(1 + dice.below(50) as u32),
        17 | 18 => Act::Replay(1 + dice.below(100) as u32),
        _ => Act::Flood(1 + dice.below(150) as u32),
    }
}
