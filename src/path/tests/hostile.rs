//! Spoofed sources, peers that make us send to others, floods.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::world::{A, Attacker, B, World, ms, secs};
use crate::path::{Config, Path, State};
use crate::sim::nat::Kind;
use crate::wire::path::{Body, Candidate, CandidateKind, CandidateList, Message};

const EVIL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(66, 6, 6, 6), 6666);

fn settled(seed: u64, kinds: [Kind; 2]) -> World {
    let config = Config::default();
    let mut world = World::new(seed, &[(kinds[A], false), (kinds[B], false)], [A, B], config).talking();
    world.run_for(secs(5));
    assert!(world.is_direct(A) && world.is_direct(B));
    world
}

fn peer(body: Body) -> Message {
    Message { moves: 0, in_use: true, body }
}

fn candidates(generation: u32, list: CandidateList) -> Message {
    peer(Body::Candidates { generation, acknowledged: 0, answer: false, list })
}

#[test]
fn no_path_is_stolen_by_copies_from_a_third_address() {
    for kinds in
        [[Kind::Public, Kind::Public], [Kind::Public, Kind::Port], [Kind::Independent, Kind::Symmetric]]
    {
        for (share, forwards) in [(300, false), (300, true), (900, true)] {
            for seed in 0..5 {
                let mut world = settled(seed, kinds);
                let before = [A, B].map(|host| world.hosts[host].agent.current());
                world.attacker = Some(Attacker { address: EVIL, share, forwards });
                let end = world.now + secs(60);
                let mut stolen = false;
                world.run_while(end, |world| {
                    stolen |= (world.hosts.iter()).any(|host| is_evil(host.agent.current()));
                    !stolen
                });
                assert!(!stolen, "{kinds:?}, {share} thousandths, forwards: {forwards}, seed {seed}");
                if share < 500 {
                    let after = [A, B].map(|host| world.hosts[host].agent.current());
                    assert_eq!(before, after, "{kinds:?}, forwards: {forwards}, seed {seed}");
                }
            }
        }
    }
}

fn is_evil(path: Path) -> bool {
    matches!(path, Path::Direct { remote, .. } if remote == EVIL)
}

#[test]
fn a_third_address_makes_the_old_one_be_asked_and_gets_three_times_what_came() {
    let mut world = settled(1, [Kind::Public, Kind::Public]);
    let now = world.now;
    let agent = &mut world.hosts[A].agent;
    let Path::Direct { remote: old, .. } = agent.current() else { panic!("relayed") };
    agent.handle_datagram_seen(now, Path::Direct { local: None, remote: EVIL }, 60);
    let mut asked = Vec::new();
    while let Some(transmit) = agent.poll_transmit() {
        let Path::Direct { remote, .. } = transmit.path else { panic!("relayed") };
        assert!(matches!(transmit.message.body, Body::Challenge { size: 20, .. }));
        asked.push(remote);
    }
    asked.sort();
    let mut expected = [old, EVIL];
    expected.sort();
    assert_eq!(asked, expected);
    // 60 octets are worth 180: three challenges of 56, and the address never answers.
    let mut sent = 1;
    for step in 1..100 {
        agent.handle_timeout(now + ms(100) * step);
        while let Some(transmit) = agent.poll_transmit() {
            sent += usize::from(is_evil(transmit.path));
        }
    }
    assert_eq!(sent, 3);
}

#[test]
fn a_response_proves_the_address_that_was_asked_and_nothing_without_its_token() {
    let mut world = settled(1, [Kind::Public, Kind::Public]);
    let now = world.now;
    let agent = &mut world.hosts[A].agent;
    let evil = Path::Direct { local: None, remote: EVIL };
    agent.handle_datagram_seen(now, evil, 1000);
    let token = std::iter::from_fn(|| agent.poll_transmit())
        .find_map(|transmit| {
            let Body::Challenge { token, .. } = transmit.message.body else { return None };
            is_evil(transmit.path).then_some(token)
        })
        .unwrap();
    let state =
        |agent: &crate::path::Agent| agent.paths().find(|path| is_evil(path.path)).map(|path| path.state);
    let other = Path::Direct { local: None, remote: SocketAddrV4::new(*EVIL.ip(), 7777) };
    agent.handle_message(now, evil, 64, &peer(Body::Response { token: [0; 8], observed: None }));
    assert_eq!(state(agent), Some(State::Opening));
    agent.handle_message(now, other, 64, &peer(Body::Response { token, observed: None }));
    assert_eq!(state(agent), Some(State::Proving));
    assert!(agent.paths().any(|path| path.state == State::Silent), "where it came from is not proven");
    // The same again means nothing.
    agent.handle_message(now, evil, 64, &peer(Body::Response { token, observed: None }));
    assert_eq!(state(agent), Some(State::Proving));
    assert!(!is_evil(agent.current()));
}

#[test]
fn a_peer_that_names_victims_makes_us_send_little() {
    let config = Config::default();
    let mut world = World::new(1, &[(Kind::Public, false), (Kind::Public, false)], [A, B], config);
    let victims: CandidateList = (1..=8)
        .map(|n| Candidate {
            kind: CandidateKind::Observed,
            address: SocketAddrV4::new([77, 7, 7, n].into(), 7000),
        })
        .collect();
    let start = world.now;
    let mut sent = 0;
    for generation in 1..=3000 {
        // A hundred a second; the book in `send` fails when any victim gets more than its budget.
        world.now = start + ms(10) * generation;
        let agent = &mut world.hosts[A].agent;
        agent.handle_message(world.now, Path::Relayed, 0, &candidates(generation, victims));
        while let Some(transmit) = agent.poll_transmit() {
            sent += usize::from(transmit.path != Path::Relayed);
        }
    }
    // Six generations at once, then one every two seconds for 30 s: 21 times 8 victims times 5 challenges.
    assert!((8 * 5..=21 * 8 * 5).contains(&sent), "{sent} challenges to victims");
}

#[test]
fn floods_of_sources_and_tokens_keep_memory_bounded() {
    let mut world = settled(1, [Kind::Public, Kind::Port]);
    let current = world.hosts[A].agent.current();
    let now = world.now;
    for n in 0..5000u32 {
        let source = Path::Direct { local: None, remote: SocketAddrV4::new((0x4d00_0000 + n).into(), 7000) };
        let agent = &mut world.hosts[A].agent;
        match n % 3 {
            0 => agent.handle_datagram_seen(now, source, 100),
            1 => {
                let challenge = Body::Challenge { token: u64::from(n).to_be_bytes(), size: 20 };
                agent.handle_message(now, source, 56, &peer(challenge));
            }
            _ => agent.handle_message(now, source, 88, &candidates(n, CandidateList::EMPTY)),
        }
        assert!(agent.paths().count() <= 16);
    }
    let agent = &mut world.hosts[A].agent;
    assert!(std::iter::from_fn(|| agent.poll_transmit()).count() <= 128);
    // An empty list withdraws every address that was named: the path may go, but to nobody that came with the flood.
    assert!(agent.current() == current || agent.current() == Path::Relayed);
}

#[test]
fn what_was_said_before_a_move_is_void() {
    let mut world = settled(1, [Kind::Public, Kind::Public]);
    let now = world.now;
    let Path::Direct { remote, .. } = world.hosts[A].agent.current() else { panic!("relayed") };
    let moved = Message { moves: 1, in_use: true, body: Body::Challenge { token: [1; 8], size: 20 } };
    let new = Path::Direct { local: None, remote: EVIL };
    world.inject(A, new, moved);
    assert_eq!(world.hosts[A].agent.current(), Path::Relayed);
    let late = Message { moves: 0, in_use: true, body: Body::Challenge { token: [2; 8], size: 20 } };
    let agent = &mut world.hosts[A].agent;
    agent.handle_message(now, Path::Direct { local: None, remote }, 56, &late);
    let sent: Vec<_> = std::iter::from_fn(|| agent.poll_transmit()).collect();
    assert!(matches!(sent[..], [only] if matches!(only.message.body, Body::Response { token: [2, ..], .. })));
    assert!(agent.paths().all(|path| path.path == new), "the old address is not learned again");
}

/// Anything in any order: the agent neither panics nor spins, and wakes up only for what is still to come.
#[test]
fn an_agent_survives_anything_that_an_authenticated_peer_can_say() {
    for seed in 0..300 {
        let mut world = settled(seed, [Kind::Public, Kind::Independent]);
        let mut tokens = vec![[0; 8]];
        for _ in 0..400 {
            let sources = [[66, 6, 6, 6], [20, 1, 0, 2], [127, 0, 0, 1], [255, 255, 255, 255], [10, 0, 0, 1]];
            let ip = sources[world.random(5) as usize];
            let remote = SocketAddrV4::new(ip.into(), [4500, 0, 53, 7000][world.random(4) as usize]);
            let local = (world.random(2) == 0).then_some(world.hosts[A].address);
            let path = [Path::Relayed, Path::Direct { local, remote }][world.random(2) as usize];
            let number = |world: &mut World| match world.random(4) {
                0 => u32::MAX,
                1 => 0,
                _ => world.random(50),
            };
            let observed = (world.random(2) == 0).then_some(remote);
            let kind = [CandidateKind::Interface, CandidateKind::Observed][world.random(2) as usize];
            let body = match world.random(4) {
                0 => Body::Candidates {
                    generation: number(&mut world),
                    acknowledged: number(&mut world),
                    answer: world.random(2) == 0,
                    list: (0..world.random(9)).map(|_| Candidate { kind, address: remote }).collect(),
                },
                1 => Body::Challenge { token: [7; 8], size: 1400 },
                _ => Body::Response { token: tokens[world.random(tokens.len() as u32) as usize], observed },
            };
            let moves = if world.random(50) == 0 { number(&mut world) } else { 0 };
            let message = Message { moves, in_use: world.random(2) == 0, body };
            let pause = [0, 1, 50, 2000, 130_000][(world.random(40) as usize).saturating_sub(35)];
            world.now += ms(pause);
            let octets = world.random(1500) as usize;
            let now = world.now;
            let agent = &mut world.hosts[A].agent;
            match octets {
                0..100 => agent.handle_datagram_seen(now, path, octets),
                100..150 => agent.handle_data_sent(now),
                150..200 => agent.handle_local_change(now, &[Candidate { kind, address: remote }]),
                200.. => agent.handle_message(now, path, octets, &message),
            }
            while let Some(transmit) = agent.poll_transmit() {
                if let Body::Challenge { token, .. } = transmit.message.body {
                    tokens.push(token);
                    let Path::Direct { remote, .. } = transmit.path else {
                        panic!("the relay was challenged")
                    };
                    assert!(
                        remote.port() >= 1024 && !remote.ip().is_loopback() && !remote.ip().is_broadcast()
                    );
                }
            }
            assert!(agent.poll_timeout().is_none_or(|(at, _)| at > now));
            let status = agent.paths().filter(|path| path.in_use).count();
            assert_eq!(status, usize::from(agent.current() != Path::Relayed));
            assert!(agent.paths().count() <= 16);
        }
    }
}
