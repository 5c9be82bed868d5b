#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use proptest::prelude::*;

use super::*;

const AGENT: Ipv6Addr = Ipv6Addr::new(0x2002, 0xc633, 0x6401, 0, 0, 0, 0, 1);
const DEVICE: Ipv6Addr = Ipv6Addr::new(0x2002, 0xc633, 0x6401, 1, 0, 7, 0, 1);
const NODE: Ipv6Addr = Ipv6Addr::new(0x2002, 0xc633, 0x6401, 0x100, 0, 0, 0, 1);

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

/// Entities may bind what begins with their own subnet, and anything in 2002:c633:6401:f000::/52; care-of addresses are
/// public.
struct TestPolicy;

impl Policy for TestPolicy {
    fn may_bind(&self, sender: Ipv6Addr, prefix: Ipv6Net) -> bool {
        let own = sender.segments()[..4] == prefix.addr().segments()[..4] && prefix.prefix_len() >= 64;
        own || net("2002:c633:6401:f000::/52").contains(&prefix)
    }

    fn allows(&self, care_of: SocketAddrV4) -> bool {
        CareOfPolicy::default().allows(care_of)
    }
}

struct Bench {
    agent: Agent,
    now: Instant,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        Self { agent: Agent::new(AgentConfig::new(AGENT), [9; 32], start), now: start, start }
    }

    fn hand(
        &mut self,
        sender: Ipv6Addr,
        from: SocketAddrV4,
        proven: bool,
        message: &Message,
    ) -> Result<(), Ignored> {
        let packet = build(sender, AGENT, message);
        let received = Received { sender, from, proven, octets: packet.len() + 30, packet: &packet };
        self.agent.handle_packet(self.now, &received, &TestPolicy)
    }

    /// An update; the acknowledgement, if one was sent to where it came from.
    fn update(
        &mut self,
        sender: Ipv6Addr,
        from: SocketAddrV4,
        update: &BindingUpdate,
    ) -> Option<BindingAcknowledgement> {
        self.hand(sender, from, false, &Message::Update(*update)).unwrap();
        let sent = self.sent();
        match sent[..] {
            [(to, Message::Acknowledgement(acknowledgement))] if to == from => Some(acknowledgement),
            [] => None,
            ref other => panic!("{other:?}"),
        }
    }

    /// Registers and answers the challenge.
    fn bind(&mut self, sender: Ipv6Addr, from: SocketAddrV4, update: &BindingUpdate) {
        let acknowledgement = self.update(sender, from, update).unwrap();
        assert_eq!(acknowledgement.status, Status::ACCEPTED);
        if let Some(cookie) = acknowledgement.challenge {
            self.hand(sender, from, false, &Message::Response { cookie, observed: None }).unwrap();
        }
        assert_eq!(self.agent.care_of(sender), Some(from));
        self.sent();
    }

    fn sent(&mut self) -> Vec<(SocketAddrV4, Message)> {
        std::iter::from_fn(|| self.agent.poll_transmit())
            .map(|transmit| (transmit.care_of, parse(&transmit.packet).unwrap().message))
            .collect()
    }

    fn events(&mut self) -> Vec<AgentEvent> {
        std::iter::from_fn(|| self.agent.poll_event()).collect()
    }

    fn wait(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some((at, _)) = self.agent.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.agent.handle_timeout(self.now);
            while !self.agent.take_changes(self.now, false).is_empty() {}
            assert!(self.agent.poll_timeout().is_none_or(|(next, _)| next > self.now));
        }
        self.now = end;
    }
}

fn update(sequence: u16, seconds: u32) -> BindingUpdate {
    BindingUpdate::new(sequence, Lifetime::from_secs(seconds))
}

fn with(mut update: BindingUpdate, prefixes: &[&str]) -> BindingUpdate {
    for prefix in prefixes {
        update.prefixes.push(net(prefix)).unwrap();
    }
    update.flags.mobile_router = !prefixes.is_empty();
    update
}

#[test]
fn nothing_goes_to_an_address_before_it_answers() {
    let mut bench = Bench::new();
    let (old, new) = (at("203.0.114.1:5000"), at("203.0.114.2:6000"));
    let first = bench.update(DEVICE, old, &update(1, 400)).unwrap();
    assert_eq!((first.status, first.lifetime, first.sequence), (Status::ACCEPTED, Lifetime(100), 1));
    assert_eq!((first.observed, first.nat), (Some(old), Some(NatDetection { force_udp: true, refresh: 20 })));
    assert_eq!((bench.agent.care_of(DEVICE), bench.events()), (None, vec![]));
    // A wrong cookie proves nothing, nor does another entity with the right one.
    let response = |cookie| Message::Response { cookie, observed: None };
    let cookie = first.challenge.unwrap();
    assert_eq!(bench.hand(DEVICE, old, false, &response([0; 8])), Err(Ignored::Unmatched));
    assert_eq!(bench.hand(NODE, old, false, &response(cookie)), Err(Ignored::Unmatched));
    bench.hand(DEVICE, old, false, &response(cookie)).unwrap();
    let moved = |care_of| AgentEvent::Moved { sender: DEVICE, care_of };
    let route = |care_of| AgentEvent::Route { prefix: host(DEVICE), care_of };
    assert_eq!(bench.events(), [moved(old), route(old)]);
    assert_eq!(bench.hand(DEVICE, old, false, &response(cookie)), Err(Ignored::Unmatched), "once");

    let counts = Message::Acknowledgement(BindingAcknowledgement { challenge: None, ..first });
    assert_eq!(bench.sent(), [(old, counts)]);

    let second = bench.update(DEVICE, new, &update(2, 400)).unwrap();
    assert_eq!(bench.agent.care_of(DEVICE), Some(old), "the old one stays");
    assert_eq!(bench.events(), []);
    bench.hand(DEVICE, new, false, &response(second.challenge.unwrap())).unwrap();
    assert_eq!(bench.events(), [moved(new), route(new)]);
    assert_eq!(bench.sent().len(), 1);

    // A refresh from there is a matter of one exchange, and changes nothing for the data plane.
    let third = bench.update(DEVICE, new, &update(3, 400)).unwrap();
    assert_eq!((third.challenge, bench.events()), (None, vec![]));
}

#[test]
fn an_address_that_ike_has_proven_is_taken_at_once() {
    let mut bench = Bench::new();
    let from = at("203.0.114.1:5000");
    bench.hand(DEVICE, from, true, &Message::Update(update(1, 400))).unwrap();
    let [(to, Message::Acknowledgement(acknowledgement))] = bench.sent()[..] else { panic!() };
    assert_eq!((to, acknowledgement.challenge), (from, None));
    assert_eq!(bench.agent.care_of(DEVICE), Some(from));
}

#[test]
fn a_victim_gets_a_few_small_packets_and_then_silence() {
    let mut bench = Bench::new();
    let (home, victim) = (at("203.0.114.1:5000"), at("203.0.115.9:7777"));
    bench.bind(DEVICE, home, &update(1, 4000));
    bench.events();
    // An on-path attacker passes one authentic update on, with the victim's address on it.
    let packet = build(DEVICE, AGENT, &Message::Update(update(2, 4000)));
    let octets = packet.len() + 30;
    let received = Received { sender: DEVICE, from: victim, proven: false, octets, packet: &packet };
    bench.agent.handle_packet(bench.now, &received, &TestPolicy).unwrap();
    let mut total = 0;
    let mut challenges = 0;
    for _ in 0..100 {
        while let Some(transmit) = bench.agent.poll_transmit() {
            assert_eq!(transmit.care_of, victim);
            total += transmit.packet.len() + 40;
            challenges += 1;
        }
        bench.wait(1);
    }
    assert!(total <= 2 * octets, "{total}");
    assert!((1..4).contains(&challenges), "{challenges}");
    assert_eq!((bench.agent.care_of(DEVICE), bench.events()), (Some(home), vec![]), "and nothing changed");
}

#[test]
fn what_never_answered_is_forgotten() {
    let mut bench = Bench::new();
    bench.update(DEVICE, at("203.0.114.1:5000"), &update(1, 4000)).unwrap();
    assert_eq!(bench.agent.len(), 1);
    bench.wait(60);
    assert_eq!((bench.agent.len(), bench.agent.poll_timeout()), (0, None));
    assert!(bench.agent.take_changes(bench.now, true).is_empty(), "and was never stored");
}

#[test]
fn addresses_that_policy_forbids_hear_nothing() {
    for forbidden in ["203.0.114.1:1023", "10.0.0.1:5000", "127.0.0.1:5000", "224.0.0.1:5000"] {
        let mut bench = Bench::new();
        let from = at(forbidden);
        assert_eq!(bench.update(DEVICE, from, &update(1, 400)), None, "{forbidden}");
        let status = Status::INVALID_CARE_OF_ADDRESS;
        assert_eq!(bench.events(), [AgentEvent::Refused { sender: DEVICE, from, status }]);
        assert!(bench.agent.is_empty());
        // Who is bound already is told there, and stays bound.
        let good = at("203.0.114.1:5000");
        bench.bind(DEVICE, good, &update(1, 400));
        bench.hand(DEVICE, from, false, &Message::Update(update(2, 400))).unwrap();
        let [(to, Message::Acknowledgement(acknowledgement))] = bench.sent()[..] else { panic!() };
        assert_eq!((to, acknowledgement.status), (good, status));
        assert_eq!(bench.hand(DEVICE, from, false, &Message::Challenge([1; 8])), Ok(()));
        assert!(bench.sent().is_empty());
        assert_eq!(bench.agent.care_of(DEVICE), Some(good));
    }
}

#[test]
fn sequence_numbers_only_go_up() {
    let mut bench = Bench::new();
    let (here, there) = (at("203.0.114.1:5000"), at("203.0.114.2:5000"));
    bench.bind(DEVICE, here, &update(0xfff0, 400));
    bench.events();
    for old in [0xfff0, 0xffef, 0x8000, 0x7ff0] {
        let refused = bench.update(DEVICE, there, &update(old, 400)).unwrap();
        assert_eq!((refused.status, refused.sequence), (Status::SEQUENCE_OUT_OF_WINDOW, 0xfff0), "{old}");
    }
    assert_eq!(bench.agent.care_of(DEVICE), Some(here));
    assert_eq!(bench.update(DEVICE, here, &update(3, 400)).unwrap().status, Status::ACCEPTED);
}

#[test]
fn only_what_the_home_allows_is_bound() {
    let mut bench = Bench::new();
    let from = at("203.0.114.1:5000");
    let own = "2002:c633:6401:100::/64";
    let cases = [
        (with(update(1, 400), &[own, "2002:c633:6401:200::/64"]), Status::NOT_AUTHORIZED_FOR_PREFIX),
        (with(update(1, 400), &["2002:c633:6401::/48"]), Status::NOT_AUTHORIZED_FOR_PREFIX),
        (BindingUpdate { flags: update(1, 1).flags, ..with(update(1, 400), &[own]) }, Status::INVALID_PREFIX),
        (
            BindingUpdate { flags: with(update(1, 1), &[own]).flags, ..update(1, 400) },
            Status::FORWARDING_SETUP_FAILED,
        ),
    ];
    for (update, status) in cases {
        let acknowledgement = bench.update(NODE, from, &update).unwrap();
        assert_eq!((acknowledgement.status, acknowledgement.lifetime), (status, Lifetime::ZERO));
        assert!(bench.agent.is_empty() && bench.sent().is_empty(), "nothing of it was done");
    }
    // An entity that the home does not know (any more).
    struct Nobody;
    impl Policy for Nobody {
        fn may_bind(&self, _: Ipv6Addr, _: Ipv6Net) -> bool {
            false
        }
        fn allows(&self, _: SocketAddrV4) -> bool {
            true
        }
    }
    let packet = build(NODE, AGENT, &Message::Update(update(1, 400)));
    let received = Received { sender: NODE, from, proven: true, octets: 100, packet: &packet };
    bench.agent.handle_packet(bench.now, &received, &Nobody).unwrap();
    let [(_, Message::Acknowledgement(refusal))] = bench.sent()[..] else { panic!() };
    assert_eq!(refusal.status, Status::PROHIBITED);
}

#[test]
fn the_longest_match_decides() {
    let mut bench = Bench::new();
    let (server, other, laptop) = (at("203.0.114.1:5000"), at("203.0.114.2:5000"), at("203.0.114.3:5000"));
    let second: Ipv6Addr = "2002:c633:6401:101::1".parse().unwrap();
    bench.bind(NODE, server, &with(update(1, 400), &["2002:c633:6401:100::/64", "2002:c633:6401:f100::/56"]));
    // A service of a thousand moved to another node.
    let moved: Ipv6Addr = "2002:c633:6401:f123::a".parse().unwrap();
    bench.bind(second, other, &with(update(1, 400), &["2002:c633:6401:f123::a/128"]));
    bench.bind(DEVICE, laptop, &update(1, 400));
    let lookup = |bench: &Bench, text: &str| bench.agent.lookup(text.parse().unwrap());
    assert_eq!(lookup(&bench, "2002:c633:6401:100::77"), Some((NODE, server)));
    assert_eq!(lookup(&bench, "2002:c633:6401:f123::b"), Some((NODE, server)));
    assert_eq!(bench.agent.lookup(moved), Some((second, other)));
    assert_eq!(bench.agent.lookup(DEVICE), Some((DEVICE, laptop)));
    assert_eq!(lookup(&bench, "2002:c633:6401:300::1"), None);
    // The node moves: everything that it bound goes along.
    bench.events();
    let new = at("203.0.115.1:5000");
    bench.bind(NODE, new, &update(2, 400));
    let prefixes: Vec<Ipv6Net> = bench
        .events()
        .into_iter()
        .filter_map(|event| match event {
            AgentEvent::Route { prefix, care_of } if care_of == new => Some(prefix),
            AgentEvent::Route { .. }
            | AgentEvent::Unroute { .. }
            | AgentEvent::Moved { .. }
            | AgentEvent::Refused { .. } => None,
        })
        .collect();
    assert_eq!(prefixes, [host(NODE), net("2002:c633:6401:100::/64"), net("2002:c633:6401:f100::/56")]);
    assert_eq!(bench.agent.lookup(moved), Some((second, other)));
    // The service goes back.
    bench.bind(second, other, &with(update(2, 0), &["2002:c633:6401:f123::a/128"]));
    assert_eq!(bench.agent.lookup(moved), Some((NODE, new)));
}

#[test]
fn a_prefix_has_one_owner_and_the_last_one_counts() {
    let mut bench = Bench::new();
    let floating = "2002:c633:6401:f000::1/128";
    let other: Ipv6Addr = "2002:c633:6401:1:0:7:0:2".parse().unwrap();
    let (one, two) = (at("203.0.114.1:5000"), at("203.0.114.2:5000"));
    bench.bind(DEVICE, one, &with(update(1, 400), &[floating]));
    bench.bind(other, two, &with(update(1, 400), &[floating]));
    assert_eq!(bench.agent.lookup(net(floating).addr()), Some((other, two)));
    bench.events();
    // The first one leaves: that is not its address any more.
    bench.hand(DEVICE, one, false, &Message::Update(update(2, 0))).unwrap();
    assert_eq!(bench.agent.lookup(net(floating).addr()), Some((other, two)));
    assert_eq!(bench.events(), [AgentEvent::Unroute { prefix: host(DEVICE) }]);
    bench.agent.remove_prefix(bench.now, net(floating));
    assert_eq!(bench.events(), [AgentEvent::Unroute { prefix: net(floating) }]);
}

#[test]
fn bindings_end_when_their_time_is_over_and_not_before() {
    let mut bench = Bench::new();
    let from = at("203.0.114.1:5000");
    bench.bind(NODE, from, &with(update(1, 400), &["2002:c633:6401:100::/64"]));
    bench.bind(DEVICE, from, &update(1, 800));
    bench.wait(300);
    // Only the node's own address is renewed.
    bench.bind(NODE, from, &update(2, 400));
    bench.events();
    bench.wait(100);
    assert_eq!(bench.events(), []);
    bench.wait(2);
    assert_eq!(bench.events(), [AgentEvent::Unroute { prefix: net("2002:c633:6401:100::/64") }]);
    bench.wait(300);
    assert_eq!(bench.events(), [AgentEvent::Unroute { prefix: host(NODE) }]);
    assert_eq!(bench.agent.care_of(DEVICE), Some(from));
    bench.wait(100);
    assert_eq!(bench.events(), [AgentEvent::Unroute { prefix: host(DEVICE) }]);
    assert_eq!((bench.agent.len(), bench.agent.poll_timeout()), (0, None));
}

#[test]
fn more_is_granted_to_nobody() {
    let mut bench = Bench::new();
    let granted = bench.update(DEVICE, at("203.0.114.1:5000"), &update(1, 200_000)).unwrap().lifetime;
    assert_eq!(granted, Lifetime::from_secs(3600));
}

#[test]
fn who_leaves_is_gone_and_a_late_copy_does_not_bring_it_back() {
    let mut bench = Bench::new();
    let from = at("203.0.114.1:5000");
    bench.bind(NODE, from, &with(update(1, 400), &["2002:c633:6401:100::/64"]));
    bench.events();
    let acknowledgement = bench.update(NODE, from, &update(3, 0)).unwrap();
    assert_eq!((acknowledgement.status, acknowledgement.lifetime), (Status::ACCEPTED, Lifetime::ZERO));
    let gone = |prefix| AgentEvent::Unroute { prefix };
    assert_eq!(bench.events(), [gone(net("2002:c633:6401:100::/64")), gone(host(NODE))]);
    let late = bench.update(NODE, from, &update(2, 400)).unwrap();
    assert_eq!(late.status, Status::SEQUENCE_OUT_OF_WINDOW);
    assert_eq!(bench.agent.care_of(NODE), None);
    bench.wait(61);
    assert!(bench.agent.is_empty());
}

#[test]
fn a_revoked_entity_is_cut_at_once() {
    let mut bench = Bench::new();
    let from = at("203.0.114.1:5000");
    bench.bind(DEVICE, from, &update(1, 400));
    bench.update(DEVICE, at("203.0.114.2:5000"), &update(2, 400)).unwrap();
    bench.events();
    bench.agent.remove(bench.now, DEVICE);
    assert_eq!(bench.events(), [AgentEvent::Unroute { prefix: host(DEVICE) }]);
    assert!(bench.agent.is_empty());
    bench.wait(60);
    assert!(bench.sent().is_empty(), "no challenge is left either");
}

#[test]
fn a_full_home_says_so() {
    let mut bench = Bench::new();
    bench.agent.config.max_bindings = 3;
    bench.agent.config.max_prefixes = 1;
    let from = at("203.0.114.1:5000");
    let two = with(update(1, 400), &["2002:c633:6401:100::/65", "2002:c633:6401:100:8000::/65"]);
    assert_eq!(bench.update(NODE, from, &two).unwrap().status, Status::INSUFFICIENT_RESOURCES);
    bench.bind(NODE, from, &with(update(1, 400), &["2002:c633:6401:100::/64"]));
    bench.bind(DEVICE, from, &update(1, 400));
    let other = "2002:c633:6401:1:0:7:0:2".parse().unwrap();
    assert_eq!(bench.update(other, from, &update(1, 400)).unwrap().status, Status::INSUFFICIENT_RESOURCES);
    bench.bind(NODE, from, &with(update(2, 400), &["2002:c633:6401:100::/64"]));
}

#[test]
fn challenges_of_nodes_are_answered_with_what_was_seen() {
    let mut bench = Bench::new();
    let from = at("203.0.114.1:5000");
    bench.hand(DEVICE, from, false, &Message::Challenge([4; 8])).unwrap();
    assert_eq!(bench.sent(), [(from, Message::Response { cookie: [4; 8], observed: Some(from) })]);
}

#[test]
fn nonsense_changes_nothing() {
    let mut bench = Bench::new();
    let from = at("203.0.114.1:5000");
    let mut plain = update(1, 400);
    plain.flags.home_registration = false;
    assert_eq!(bench.hand(DEVICE, from, true, &Message::Update(plain)), Err(Ignored::Unexpected));
    let acknowledgement = BindingAcknowledgement::new(Status::ACCEPTED, 1, Lifetime(1));
    assert_eq!(
        bench.hand(DEVICE, from, true, &Message::Acknowledgement(acknowledgement)),
        Err(Ignored::Unexpected)
    );
    let packet = build(DEVICE, AGENT, &Message::Update(update(1, 400)));
    let received = Received { sender: NODE, from, proven: true, octets: 100, packet: &packet };
    assert_eq!(bench.agent.handle_packet(bench.now, &received, &TestPolicy), Err(Ignored::Addresses));
    assert!(bench.agent.is_empty() && bench.sent().is_empty());
}

/// A store as the caller keeps it.
#[derive(Default)]
struct Store(BTreeMap<Ipv6Net, Row>);

impl Store {
    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(row) => drop(self.0.insert(row.prefix, row)),
                Change::Delete(prefix) => drop(self.0.remove(&prefix)),
            }
        }
    }
}

#[test]
fn a_restart_finds_everything_again() {
    let mut bench = Bench::new();
    let mut store = Store::default();
    let (one, two) = (at("203.0.114.1:5000"), at("203.0.114.2:5000"));
    bench.bind(NODE, one, &with(update(7, 400), &["2002:c633:6401:100::/64"]));
    bench.bind(DEVICE, two, &update(9, 400));
    assert!(bench.agent.take_changes(bench.now, false).is_empty(), "changes wait for company");
    bench.now += Duration::from_secs(1);
    store.apply(bench.agent.take_changes(bench.now, false));
    assert_eq!(store.0.len(), 3);
    assert!(bench.agent.take_changes(bench.now, true).is_empty());
    assert_eq!(bench.agent.rows(bench.now).count(), 3);

    let mut restarted = Bench::new();
    restarted.agent.restore(restarted.now, store.0.values().copied());
    assert_eq!(restarted.events(), []);
    let mut routes: Vec<_> = restarted.agent.routes().collect();
    routes.sort();
    assert_eq!(routes, [(host(DEVICE), two), (net("2002:c633:6401:100::/64"), one), (host(NODE), one)]);
    assert!(
        restarted.agent.take_changes(restarted.now, true).is_empty(),
        "what came from the store is in it"
    );
    // The sequence number is known, and so is the proven address.
    let late = restarted.update(DEVICE, two, &update(9, 400)).unwrap();
    assert_eq!((late.status, late.sequence), (Status::SEQUENCE_OUT_OF_WINDOW, 9));
    assert_eq!(restarted.update(DEVICE, two, &update(10, 400)).unwrap().challenge, None);
    restarted.hand(NODE, one, false, &Message::Update(update(8, 0))).unwrap();
    store.apply(restarted.agent.take_changes(restarted.now, true));
    assert_eq!(store.0.keys().copied().collect::<Vec<_>>(), [host(DEVICE)]);
    restarted.wait(402);
    assert!(restarted.agent.routes().next().is_none());
    // Time that passed while the agent was down counts; prefixes without their sender are left out.
    let over = Row { remaining: Duration::ZERO, ..store.0[&host(DEVICE)] };
    let orphan = Row { prefix: net("2002:c633:6401:100::/64"), sender: NODE, ..over };
    let mut empty = Bench::new();
    empty.agent.restore(empty.now, [over, Row { remaining: Duration::from_secs(9), ..orphan }]);
    assert!(empty.agent.is_empty());
}

#[test]
fn many_bindings_that_end_together_do_not_stop_the_agent() {
    let mut bench = Bench::new();
    let rows = (0..10_000u32).map(|number| {
        let sender = Ipv6Addr::from(u128::from(DEVICE) + (u128::from(number) << 32));
        let care_of = SocketAddrV4::new(0xcb00_7200u32.wrapping_add(number).into(), 5000);
        Row { prefix: host(sender), sender, care_of, sequence: 1, remaining: Duration::from_secs(10) }
    });
    bench.agent.restore(bench.now, rows);
    bench.now += Duration::from_secs(11);
    let mut calls = 0;
    while let Some((at, _)) = bench.agent.poll_timeout().filter(|(at, _)| *at <= bench.now) {
        let before = bench.agent.len();
        bench.agent.handle_timeout(bench.now.max(at));
        while !bench.agent.take_changes(bench.now, true).is_empty() {}
        assert!(before - bench.agent.len() <= EXPIRE_AT_ONCE);
        calls += 1;
    }
    assert_eq!((bench.agent.len(), bench.events().len(), calls), (0, 10_000, 3));
}

/// What anybody may do to the agent.
#[derive(Clone, Debug)]
enum Step {
    Update { sender: u8, from: u8, ahead: u16, seconds: u32, prefixes: Vec<u8>, proven: bool },
    Answer { sender: u8, right: bool },
    Remove { sender: u8 },
    Wait { millis: u64 },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3u8, 0..4u8, prop_oneof![4 => 1..3u16, 1 => any::<u16>()],
              prop_oneof![3 => 4..900u32, 1 => Just(0)], proptest::collection::vec(0..4u8, 0..3),
              proptest::bool::weighted(0.2))
            .prop_map(|(sender, from, ahead, seconds, prefixes, proven)|
                Step::Update { sender, from, ahead, seconds, prefixes, proven }),
        5 => (0..3u8, proptest::bool::weighted(0.8)).prop_map(|(sender, right)| Step::Answer { sender, right }),
        1 => (0..3u8).prop_map(|sender| Step::Remove { sender }),
        4 => (0..200_000u64).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

fn sender(number: u8) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(NODE) + (u128::from(number) << 64))
}

proptest! {
    /// Whatever happens: routes, events, look-ups and the store tell the same; no address that was not proven is ever
    /// used; and no address gets more than three times what came from it before it is proven.
    #[test]
    fn all_views_agree_and_nothing_is_amplified(steps in steps()) {
        let mut bench = Bench::new();
        let (mut store, mut routes) = (Store::default(), BTreeMap::<Ipv6Net, SocketAddrV4>::new());
        let mut numbers = [100u16; 3];
        let mut cookies: [Option<Cookie>; 3] = [None; 3];
        let mut proven: BTreeSet<(Ipv6Addr, SocketAddrV4)> = BTreeSet::new();
        let (mut heard, mut said) = (BTreeMap::<SocketAddrV4, usize>::new(), BTreeMap::<SocketAddrV4, usize>::new());
        let places = [at("203.0.114.1:5000"), at("203.0.114.2:5000"), at("203.0.114.3:5000"), at("203.0.114.1:53")];
        let services = ["2002:c633:6401:f000::1/128", "2002:c633:6401:f000::/64", "2002:c633:6401:f100::/56",
                        "2002:c633:6401:101::1/128"];
        for step in steps {
            match step {
                Step::Update { sender: who, from, ahead, seconds, prefixes, proven: by_ike } => {
                    let number = &mut numbers[usize::from(who)];
                    *number = number.wrapping_add(ahead);
                    let list: Vec<&str> = prefixes.iter().map(|at| services[usize::from(*at)]).collect();
                    let from = places[usize::from(from)];
                    let packet = build(sender(who), AGENT, &Message::Update(with(update(*number, seconds), &list)));
                    let octets = packet.len() + 30;
                    *heard.entry(from).or_default() += octets;
                    let received = Received { sender: sender(who), from, proven: by_ike, octets, packet: &packet };
                    bench.agent.handle_packet(bench.now, &received, &TestPolicy).unwrap();
                    if by_ike {
                        proven.insert((sender(who), from));
                    }
                }
                Step::Answer { sender: who, right } => {
                    let cookie = cookies[usize::from(who)].filter(|_| right).unwrap_or_default();
                    let open = bench.agent.tentative.get(&sender(who)).map(|tentative| tentative.care_of);
                    let response = Message::Response { cookie, observed: None };
                    if bench.hand(sender(who), places[0], false, &response).is_ok() {
                        proven.insert((sender(who), open.unwrap()));
                    }
                }
                Step::Remove { sender: who } => bench.agent.remove(bench.now, sender(who)),
                Step::Wait { millis } => {
                    bench.now += Duration::from_millis(millis);
                    bench.agent.handle_timeout(bench.now);
                }
                Step::Restart => {
                    store.apply(bench.agent.take_changes(bench.now, true));
                    let rows: Vec<Row> = store.0.values().copied().collect();
                    let mut agent = Agent::new(AgentConfig::new(AGENT), [8; 32], bench.now);
                    agent.restore(bench.now, rows);
                    bench.agent = agent;
                    routes = bench.agent.routes().collect();
                    store.0.retain(|prefix, _| routes.contains_key(prefix));
                }
            }
            while let Some(transmit) = bench.agent.poll_transmit() {
                *said.entry(transmit.care_of).or_default() += transmit.packet.len() + 40;
                let who = (0..3u8).find(|who| sender(*who) == transmit.home_address).unwrap();
                let cookie = match parse(&transmit.packet).unwrap().message {
                    Message::Acknowledgement(acknowledgement) => acknowledgement.challenge,
                    Message::Challenge(cookie) => Some(cookie),
                    other @ (Message::Update(_) | Message::Response { .. }) => {
                        return Err(TestCaseError::fail(format!("{other:?}")));
                    }
                };
                cookies[usize::from(who)] = cookie.or_else(|| cookies[usize::from(who)]);
            }
            for event in bench.events() {
                match event {
                    AgentEvent::Route { prefix, care_of } => drop(routes.insert(prefix, care_of)),
                    AgentEvent::Unroute { prefix } => drop(routes.remove(&prefix)),
                    AgentEvent::Moved { sender, care_of } => prop_assert!(proven.contains(&(sender, care_of))),
                    AgentEvent::Refused { .. } => {}
                }
            }
            let now: BTreeMap<_, _> = bench.agent.routes().collect();
            prop_assert_eq!(&now, &routes, "events and routes");
            for (prefix, care_of) in &now {
                let found = bench.agent.lookup(prefix.addr()).map(|(who, _)| who);
                prop_assert!(prefix.prefix_len() < 128 || bench.agent.lookup(prefix.addr()).map(|(_, at)| at) == Some(*care_of));
                prop_assert!(found.is_some());
                prop_assert!(care_of.port() >= 1024);
            }
            let unproven = said.iter().filter(|(address, _)| proven.iter().all(|(_, at)| at != *address));
            for (address, octets) in unproven {
                prop_assert!(*octets <= 3 * heard.get(address).copied().unwrap_or_default(), "{address}");
            }
        }
        store.apply(bench.agent.take_changes(bench.now, true));
        let rows: BTreeMap<Ipv6Net, Row> = bench.agent.rows(bench.now).map(|row| (row.prefix, row)).collect();
        prop_assert_eq!(rows.keys().collect::<Vec<_>>(), store.0.keys().collect::<Vec<_>>());
        for (prefix, row) in rows {
            prop_assert_eq!((row.sender, row.care_of), (store.0[&prefix].sender, store.0[&prefix].care_of));
            prop_assert!(proven.contains(&(row.sender, row.care_of)));
        }
        // At the end everything ends.
        bench.wait(4000);
        prop_assert!(bench.agent.is_empty() && bench.agent.poll_timeout().is_none());
        let _ = bench.start;
    }
}

#[test]
fn the_totals_are_what_a_look_at_every_binding_gives() {
    let mut bench = Bench::new();
    let all: Ipv6Net = net("2002:c633:6401::/48");
    let check = |bench: &Bench| {
        let rows: Vec<_> = bench.agent.bindings_within(bench.now, all).collect();
        let own = |row: &&BindingStatus| row.prefix == host(row.sender);
        let totals = bench.agent.totals();
        assert_eq!(totals.reachable, rows.iter().filter(own).filter(|row| row.care_of.is_some()).count());
        assert_eq!(totals.tentative, rows.iter().filter(own).filter(|row| row.tentative.is_some()).count());
        totals
    };
    let told = |mut update: BindingUpdate, thinks: [u8; 4]| {
        update.care_of = Some(thinks.into());
        update
    };
    let (nat, open) = (at("203.0.114.1:5000"), at("203.0.114.2:4500"));
    bench.bind(DEVICE, nat, &told(update(1, 400), [192, 168, 1, 20]));
    bench.bind(NODE, open, &told(with(update(1, 400), &["2002:c633:6401:100::/64"]), [203, 0, 114, 2]));
    assert_eq!(check(&bench), Totals { reachable: 2, prefixes: 1, tentative: 0 });
    let rows: Vec<_> = bench.agent.bindings_within(bench.now, all).collect();
    assert_eq!(
        rows.iter().map(|row| row.behind_nat).collect::<Vec<_>>(),
        [Some(true), Some(false), Some(false)]
    );
    assert!(rows.iter().all(|row| (399..=401).contains(&row.remaining.as_secs())), "{rows:?}");
    // Only what is inside is shown.
    let inside: Vec<_> = bench.agent.bindings_within(bench.now, net("2002:c633:6401:100::/64")).collect();
    assert_eq!(
        inside.iter().map(|row| row.prefix).collect::<Vec<_>>(),
        [host(NODE), net("2002:c633:6401:100::/64")]
    );
    // A move is tentative until it is answered; a released binding is not shown.
    bench.update(DEVICE, open, &update(2, 400));
    assert_eq!(check(&bench), Totals { reachable: 2, prefixes: 1, tentative: 1 });
    bench.update(NODE, open, &update(2, 0));
    assert_eq!(check(&bench), Totals { reachable: 1, prefixes: 0, tentative: 1 });
    bench.wait(3600);
    assert_eq!(check(&bench), Totals::default());
}
