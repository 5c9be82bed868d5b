//! Where a conversation settles, and how long it takes.

use super::world::{A, B, World, ms, secs};
use crate::path::{Config, LanPolicy, Path, Reason, State};
use crate::sim::nat::Kind;
use crate::wire::path::{Candidate, CandidateKind};

/// Both talk, each at a site of its own.
fn apart(seed: u64, kinds: [Kind; 2]) -> World {
    World::new(seed, &[(kinds[A], false), (kinds[B], false)], [A, B], Config::default()).talking()
}

fn both_direct(world: &World) -> bool {
    world.is_direct(A) && world.is_direct(B)
}

fn settled(kinds: [Kind; 2]) -> World {
    let mut world = apart(7, kinds);
    let end = world.now + secs(10);
    assert!(world.run_while(end, |world| !both_direct(world)), "{kinds:?} stayed relayed");
    world.run_for(secs(5));
    world.watch();
    world
}

#[test]
fn every_pair_of_nats_goes_direct_exactly_when_it_can() {
    for a in Kind::ALL {
        for b in Kind::ALL {
            for seed in 0..4 {
                let mut world = apart(seed, [a, b]);
                let end = world.now + secs(2);
                let direct = world.run_while(end, |world| !both_direct(world));
                assert_eq!(direct, a.can_meet(b), "{a:?} and {b:?}, seed {seed}");
                world.run_for(ms(300));
                world.watch();
                world.run_for(secs(180));
                if direct {
                    assert_eq!(world.hosts[A].relayed_data + world.hosts[B].relayed_data, 0, "{a:?}, {b:?}");
                } else {
                    let used = [A, B].map(|host| world.hosts[host].history.len());
                    assert_eq!(used, [1, 1], "{a:?} and {b:?} tried what cannot work");
                }
                let gap = world.hosts[A].longest_gap.max(world.hosts[B].longest_gap);
                assert!(gap < ms(200), "{a:?} and {b:?}: {gap:?} without data");
            }
        }
    }
}

#[test]
fn agents_that_begin_anew_one_after_the_other_find_each_other_again() {
    for first in [A, B] {
        let mut world = settled([Kind::Port, Kind::Address]);
        for host in [first, 1 - first] {
            world.begin_anew(host);
            world.run_for(secs(7));
        }
        let end = world.now + secs(5);
        assert!(world.run_while(end, |world| !both_direct(world)), "they stayed relayed");
    }
}

#[test]
fn the_first_direct_packet_leaves_within_three_relayed_round_trips() {
    for kinds in [[Kind::Public, Kind::Public], [Kind::Port, Kind::Port], [Kind::Symmetric, Kind::Address]] {
        let mut world = apart(1, kinds);
        let start = world.now;
        world.run_while(start + secs(5), |world| !both_direct(world));
        // Data begins within 100 ms; a relayed round trip takes 150 ms.
        assert!(world.now - start < ms(100 + 3 * 150), "{kinds:?}: {:?}", world.now - start);
    }
}

#[test]
fn behind_the_same_nat_the_local_path_is_taken() {
    for hairpin in [false, true] {
        for kind in [Kind::Independent, Kind::Port, Kind::Symmetric] {
            let mut world = World::new(3, &[(kind, hairpin)], [0, 0], Config::default()).talking();
            world.run_for(secs(3));
            for host in [A, B] {
                let expected = world.hosts[1 - host].address;
                let current = world.hosts[host].agent.current();
                assert!(
                    matches!(current, Path::Direct { remote, .. } if remote == expected),
                    "{kind:?}, hairpin {hairpin}: {current:?}"
                );
            }
        }
    }
}

#[test]
fn without_local_addresses_the_same_nat_needs_hairpin() {
    let config = Config { lan: LanPolicy::Never, ..Config::default() };
    for hairpin in [false, true] {
        let mut world = World::new(3, &[(Kind::Port, hairpin)], [0, 0], config).talking();
        world.run_for(secs(30));
        assert_eq!(both_direct(&world), hairpin);
        for host in [A, B] {
            assert!(world.hosts[host].agent.paths().all(|path| {
                !matches!(path.path, Path::Direct { remote, .. } if remote.ip().is_private())
            }));
        }
    }
}

#[test]
fn a_path_that_full_size_packets_do_not_pass_is_not_used() {
    let mut world = apart(5, [Kind::Public, Kind::Port]);
    world.mtu = 1300;
    world.run_for(secs(30));
    for host in [A, B] {
        let agent = &world.hosts[host].agent;
        assert_eq!(world.hosts[host].history, [Reason::Start]);
        assert!(agent.paths().any(|path| path.state == State::Narrow));
    }
    world.mtu = usize::MAX;
    let end = world.now + secs(80);
    assert!(world.run_while(end, |world| !both_direct(world)), "it became wider and nobody noticed");
}

#[test]
fn a_path_that_becomes_too_narrow_is_left_for_the_relay() {
    let mut world = settled([Kind::Public, Kind::Port]);
    world.mtu = 1300;
    let end = world.now + secs(8 + 5 + 1);
    assert!(world.run_while(end, |world| world.is_direct(A) || world.is_direct(B)), "data vanishes");
    world.run_for(secs(1));
    world.watch();
    world.run_for(secs(60));
    for host in &world.hosts {
        assert_eq!(host.history.last().copied(), Some(Reason::Narrow));
        assert!(host.longest_gap < ms(200), "{:?} without data", host.longest_gap);
    }
}

#[test]
fn a_dead_path_is_left_for_the_relay_and_taken_again_when_it_lives() {
    // The challenge before may have been answered a moment ago, or a second.
    for phase in 0..5 {
        let mut world = settled([Kind::Port, Kind::Port]);
        world.run_for(ms(200) * phase);
        world.watch();
        world.blocked = true;
        let died = world.now;
        // One second until the next challenge, four waits of at most the round-trip time of 30 ms and its margin.
        let end = died + ms(1000 + 4 * 60);
        assert!(world.run_while(end, |world| world.is_direct(A) || world.is_direct(B)), "still direct");
        world.run_for(secs(60));
        assert!(!world.is_direct(A) && !world.is_direct(B));
        let gap = world.hosts[A].longest_gap.max(world.hosts[B].longest_gap);
        assert!(gap < ms(1000 + 4 * 60 + 300), "{gap:?} without data");
        assert_eq!(world.hosts[A].history.last().copied(), Some(Reason::Unanswered));
        world.blocked = false;
        let end = world.now + secs(80);
        assert!(world.run_while(end, |world| !both_direct(world)), "not direct again");
    }
}

#[test]
fn a_path_that_dies_in_one_direction_is_noticed_by_whoever_sends_there() {
    let mut world = settled([Kind::Public, Kind::Public]);
    world.hosts[B].talks = false;
    world.run_for(secs(5));
    world.blocked = true;
    let died = world.now;
    assert!(world.run_while(died + ms(1300), |world| world.is_direct(A)), "A sends into the void");
}

#[test]
fn loss_alone_rarely_ends_a_path() {
    let mut changes = 0;
    for seed in 0..20 {
        let mut world = apart(seed, [Kind::Port, Kind::Port]);
        world.run_for(secs(5));
        world.loss = 50;
        world.run_for(secs(300));
        changes += world.hosts[A].history.len() + world.hosts[B].history.len() - 4;
    }
    // 12,000 challenges, each lost with its answer once in ten times: four in a row about once.
    assert!(changes <= 12, "{changes} changes of path in 100 minutes at 5 % loss");
}

#[test]
fn a_new_generation_leaves_addresses_alone_that_no_list_ever_named() {
    let mut world = settled([Kind::Symmetric, Kind::Address]);
    let before = world.hosts[B].history.len();
    let mut candidates: Vec<_> = world.hosts[A].agent.locals.clone();
    candidates.push(Candidate { kind: CandidateKind::Interface, address: "20.7.7.7:4500".parse().unwrap() });
    let now = world.now;
    world.hosts[A].agent.handle_local_candidates(now, &candidates);
    world.drain(A);
    world.run_for(secs(5));
    let agent = &world.hosts[B].agent;
    assert!(agent.paths().any(|path| path.state == State::Silent), "the new address was not even tried");
    assert_eq!(world.hosts[B].history.len(), before, "the path behind a symmetric NAT was dropped");
}

#[test]
fn path_control_itself_costs_little() {
    let mut relayed = apart(3, [Kind::Symmetric, Kind::Port]);
    relayed.run_for(secs(600));
    // Rounds after 2, 4, 8, 16, 32 and then every 60 s from each end, some with two generations: two lists and
    // five challenges to one address from either side.
    let sent = relayed.hosts[A].control + relayed.hosts[B].control;
    assert!((100..600).contains(&sent), "{sent} messages in ten minutes over the relay");
    let mut direct = settled([Kind::Port, Kind::Port]);
    direct.run_for(secs(600));
    for host in &direct.hosts {
        // A challenge and a response every second, and the time of the answer.
        assert!((1000..=1205).contains(&host.control), "{} messages in ten minutes", host.control);
    }
}

#[test]
fn idle_paths_are_kept_for_two_minutes_and_then_left() {
    for kinds in [[Kind::Port, Kind::Port], [Kind::Symmetric, Kind::Address]] {
        let mut world = settled(kinds);
        let mappings = [A, B].map(|host| world.hosts[host].agent.current());
        world.hosts.iter_mut().for_each(|host| host.talks = false);
        world.run_for(secs(110));
        assert_eq!(
            [A, B].map(|host| world.hosts[host].agent.current()),
            mappings,
            "kept while NATs forget after 45 s"
        );
        // The peer's last challenge that said "in use" counts as use for another two minutes.
        world.run_for(secs(150));
        for host in [A, B] {
            let agent = &world.hosts[host].agent;
            assert_eq!(agent.current(), Path::Relayed);
            assert_eq!(world.hosts[host].history.last().copied(), Some(Reason::Idle));
            assert_eq!(agent.poll_timeout(), None, "nothing is left that wakes anybody");
        }
        world.hosts[A].talks = true;
        let end = world.now + secs(2);
        assert!(world.run_while(end, |world| !both_direct(world)), "it does not begin anew");
    }
}

#[test]
fn one_who_only_receives_has_a_direct_path_too() {
    for kinds in [[Kind::Port, Kind::Port], [Kind::Symmetric, Kind::Address]] {
        for talker in [A, B] {
            let mut world = apart(2, kinds);
            world.hosts[1 - talker].talks = false;
            world.run_for(secs(200));
            assert!(both_direct(&world), "{kinds:?}");
        }
    }
}

/// Where hosts move to: six sites.
const SITES: [(Kind, bool); 6] = [
    (Kind::Port, false),
    (Kind::Port, false),
    (Kind::Public, false),
    (Kind::Symmetric, false),
    (Kind::Address, true),
    (Kind::Port, false),
];

#[test]
fn whoever_moves_is_reached_again_after_one_exchange() {
    for (moving, site) in [(A, 2), (B, 2), (A, 4), (B, 4), (A, 5), (B, 5)] {
        let mut world = World::new(11, &SITES, [0, 1], Config::default()).talking();
        world.run_for(secs(5));
        assert!(both_direct(&world));
        world.watch();
        world.move_to(moving, site);
        assert!(!world.is_direct(moving), "sending goes on over the relay at once");
        let end = world.now + secs(3);
        assert!(world.run_while(end, |world| !both_direct(world)), "{moving} to {site}");
        world.run_for(secs(1));
        let gap = world.hosts[A].longest_gap.max(world.hosts[B].longest_gap);
        // Data leaves every 100 ms; binding 50 ms, relay 75 ms, and what was under way is lost.
        assert!(gap < ms(100 + 50 + 75 + 100), "{moving} to {site}: {gap:?} without data");
    }
}

#[test]
fn both_move_at_once() {
    for sites in [[2, 5], [5, 4], [4, 5], [5, 2], [2, 3], [4, 4], [3, 5]] {
        let mut world = World::new(13, &SITES, [0, 1], Config::default()).talking();
        world.run_for(secs(5));
        world.watch();
        world.move_to(A, sites[A]);
        world.move_to(B, sites[B]);
        world.run_for(secs(3));
        assert_eq!(both_direct(&world), world.can_meet(true), "{sites:?}");
        let gap = world.hosts[A].longest_gap.max(world.hosts[B].longest_gap);
        assert!(gap < ms(100 + 50 + 75 + 100), "{sites:?}: {gap:?} without data");
    }
}

#[test]
fn a_move_is_noticed_without_the_relay_when_the_other_end_can_be_reached() {
    let mut world = World::new(17, &SITES, [0, 2], Config::default()).talking();
    world.run_for(secs(5));
    world.relay_down = true;
    world.move_to(A, 5);
    let end = world.now + ms(300);
    assert!(world.run_while(end, |world| !both_direct(world)), "{:?}", world.hosts[B].agent.current());
    let reasons = &world.hosts[B].history;
    assert!(reasons.ends_with(&[Reason::PeerMoved, Reason::Proven]), "{reasons:?}");
}

#[test]
fn a_nat_that_reboots_is_survived() {
    for kinds in [[Kind::Port, Kind::Port], [Kind::Public, Kind::Port], [Kind::Symmetric, Kind::Address]] {
        for site in [A, B] {
            let mut world = settled(kinds);
            world.reboot(site);
            world.run_for(secs(3));
            world.watch();
            // The binding at the home agent is repaired by its next challenge, after 20 s at most.
            world.run_for(secs(25));
            let end = world.now + secs(20);
            assert!(world.run_while(end, |world| !both_direct(world)), "{kinds:?}, NAT {site}");
        }
    }
}

#[test]
fn after_a_sleep_the_path_in_use_is_asked_at_once() {
    let mut world = settled([Kind::Port, Kind::Port]);
    // Nobody talks, so that the next challenge would be many seconds away.
    world.hosts[A].talks = false;
    world.hosts[B].talks = false;
    world.run_for(secs(3));
    world.blocked = true;
    let now = world.now;
    world.hosts[A].agent.handle_doubt(now);
    let end = now + ms(4 * 1000);
    assert!(world.run_while(end, |world| world.is_direct(A)), "a path that died meanwhile is still in use");
    assert_eq!(world.hosts[A].history.last().copied(), Some(Reason::Unanswered));
}
