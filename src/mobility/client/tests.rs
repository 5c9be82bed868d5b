#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use super::*;
use crate::wire::mobility::{BindingAcknowledgement, BindingUpdate, Cookie, MAX_PREFIXES, NatDetection};

const DEVICE: Ipv6Addr = Ipv6Addr::new(0x2002, 0xc633, 0x6401, 1, 0, 7, 0, 1);
const AGENT: Ipv6Addr = Ipv6Addr::new(0x2002, 0xc633, 0x6401, 0, 0, 0, 0, 1);
const LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 20);

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn outside(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), port)
}

/// A client with one registration, and a home agent that the test plays.
struct Bench {
    client: Client,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(prefixes: &[Ipv6Net]) -> Self {
        Self::with_seed([3; 32], prefixes)
    }

    fn with_seed(seed: [u8; 32], prefixes: &[Ipv6Net]) -> Self {
        let start = Instant::now();
        let mut client = Client::new(ClientConfig::default(), seed, start);
        client.register(start, registration(prefixes));
        client.handle_address_change(start, &[LAN]);
        Self { client, start, now: start }
    }

    fn up(prefixes: &[Ipv6Net]) -> Self {
        let mut bench = Self::new(prefixes);
        bench.client.handle_session_up(bench.now, DEVICE, false);
        bench
    }

    /// Registered, and nothing left to poll.
    fn bound(prefixes: &[Ipv6Net]) -> Self {
        let mut bench = Self::up(prefixes);
        for update in bench.updates() {
            bench.acknowledge(&update);
        }
        bench.events();
        bench
    }

    fn messages(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.client.poll_transmit())
            .map(|transmit| {
                let inner = parse(&transmit.packet).unwrap();
                assert_eq!((inner.source, inner.destination), (transmit.home_address, transmit.home_agent));
                inner.message
            })
            .collect()
    }

    fn updates(&mut self) -> Vec<BindingUpdate> {
        let messages = self.messages();
        messages
            .into_iter()
            .map(|message| match message {
                Message::Update(update) => update,
                other @ (Message::Acknowledgement(_) | Message::Challenge(_) | Message::Response { .. }) => {
                    panic!("{other:?}")
                }
            })
            .collect()
    }

    fn update(&mut self) -> BindingUpdate {
        let updates = self.updates();
        assert_eq!(updates.len(), 1, "{updates:?}");
        updates[0]
    }

    fn events(&mut self) -> Vec<ClientEvent> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    fn news(&mut self) -> Vec<ClientEvent> {
        let mut events = self.events();
        events.retain(|event| !matches!(event, ClientEvent::SequenceReserved { .. }));
        events
    }

    /// Lets time pass up to the next deadline; how long that was.
    fn step(&mut self) -> Duration {
        let (at, reason) = self.client.poll_timeout().expect("something is due");
        let waited = at.saturating_duration_since(self.now);
        self.now = self.now.max(at);
        self.client.handle_timeout(self.now);
        let again = self.client.poll_timeout();
        assert!(again.is_none_or(|(next, _)| next > self.now), "{reason} does not rest: {again:?}");
        waited
    }

    fn say(&mut self, message: &Message) -> Result<(), Ignored> {
        self.client.handle_packet(self.now, &build(AGENT, DEVICE, message))
    }

    fn answer(&mut self, update: &BindingUpdate, status: Status, lifetime: Lifetime) -> Result<(), Ignored> {
        let acknowledgement = BindingAcknowledgement::new(status, update.sequence, lifetime);
        self.say(&Message::Acknowledgement(acknowledgement))
    }

    fn acknowledge(&mut self, update: &BindingUpdate) {
        self.answer(update, Status::ACCEPTED, update.lifetime).unwrap();
    }

    fn status(&self) -> RegistrationStatus {
        self.client.status().next().unwrap()
    }
}

fn registration(prefixes: &[Ipv6Net]) -> RegistrationConfig {
    RegistrationConfig {
        home_address: DEVICE,
        home_agent: AGENT,
        prefixes: prefixes.to_vec(),
        sequence: Some(100),
    }
}

#[test]
fn a_registration_says_where_we_are_and_what_is_bound() {
    let mut bench = Bench::new(&[net("2002:c633:6401:100::/64")]);
    assert_eq!(bench.client.poll_timeout(), None, "nothing without a session");
    bench.client.handle_session_up(bench.now, DEVICE, false);
    assert_eq!(
        bench.events(),
        [ClientEvent::SequenceReserved { home_address: DEVICE, sequence: 132 }],
        "told before anything is sent"
    );
    let update = bench.update();
    assert_eq!((update.sequence, update.lifetime, update.care_of), (101, Lifetime(450), Some(LAN)));
    assert_eq!(update.prefixes[..], [net("2002:c633:6401:100::/64")]);
    let flags = update.flags;
    assert!(flags.acknowledge && flags.home_registration && flags.key_management && flags.force_udp);
    assert!(flags.mobile_router && !flags.link_local);
    assert!(!bench.status().registered);
    bench.answer(&update, Status::ACCEPTED, Lifetime(100)).unwrap();
    let registered = ClientEvent::Registered {
        home_address: DEVICE,
        prefixes: vec![net("2002:c633:6401:100::/64")],
        lifetime: Lifetime(100),
    };
    assert_eq!(bench.events(), [registered]);
    assert!(bench.status().registered);
    assert_eq!(bench.status().expires, Some(bench.now + Duration::from_secs(400)));
    assert!(bench.messages().is_empty());
}

#[test]
fn unanswered_updates_are_repeated_as_the_rfc_says() {
    let mut bench = Bench::up(&[]);
    let mut numbers = vec![bench.update().sequence];
    let mut pauses = Vec::new();
    for _ in 0..8 {
        pauses.push(bench.step().as_millis());
        numbers.push(bench.update().sequence);
    }
    assert_eq!(pauses, [1500, 3000, 6000, 12_000, 24_000, 32_000, 32_000, 32_000]);
    assert_eq!(numbers, (101..110).collect::<Vec<u16>>(), "each with a number of its own (RFC 6275 11.8)");
    let unanswered = ClientEvent::Unanswered { home_address: DEVICE };
    assert_eq!(bench.news(), [unanswered], "told once");
}

#[test]
fn an_answer_to_any_copy_will_do() {
    let mut bench = Bench::up(&[]);
    let first = bench.update();
    bench.step();
    bench.step();
    assert_eq!(bench.updates().len(), 2);
    bench.acknowledge(&first);
    assert!(bench.status().registered);
    assert_eq!(bench.answer(&first, Status::ACCEPTED, Lifetime(9)), Err(Ignored::Unmatched), "but only once");
}

#[test]
fn an_answer_to_what_we_said_before_the_move_does_not_count() {
    let mut bench = Bench::up(&[]);
    let before = bench.update();
    bench.client.handle_address_change(bench.now, &[Ipv4Addr::new(10, 0, 0, 2)]);
    let after = bench.update();
    assert_eq!(after.care_of, Some(Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!(bench.answer(&before, Status::ACCEPTED, before.lifetime), Err(Ignored::Unmatched));
    bench.acknowledge(&after);
    assert!(bench.status().registered);
}

#[test]
fn bindings_are_refreshed_in_time_and_not_all_at_once() {
    let mut pauses = Vec::new();
    for seed in 0..50 {
        let mut bench = Bench::with_seed([seed; 32], &[]);
        bench.client.handle_session_up(bench.now, DEVICE, false);
        let update = bench.update();
        bench.answer(&update, Status::ACCEPTED, Lifetime::from_secs(1000)).unwrap();
        let pause = bench.step();
        assert!((600..=800).contains(&pause.as_secs()), "{pause:?}");
        bench.update();
        pauses.push(pause);
        // A binding that exists is repeated after INITIAL_BINDACK_TIMEOUT.
        assert_eq!(bench.step().as_millis(), 1000);
    }
    let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(*most - *least > Duration::from_secs(100));
}

#[test]
fn a_wrong_sequence_number_is_put_right_at_once() {
    let mut bench = Bench::up(&[]);
    let update = bench.update();
    bench.events();
    let mut refusal = BindingAcknowledgement::new(Status::SEQUENCE_OUT_OF_WINDOW, 40_000, Lifetime::ZERO);
    bench.say(&Message::Acknowledgement(refusal)).unwrap();
    let again = bench.update();
    assert_eq!(again.sequence, 40_001);
    let reserved = ClientEvent::SequenceReserved { home_address: DEVICE, sequence: 40_032 };
    assert_eq!(bench.events(), [reserved]);
    // Of a copy that was overtaken: its successor was taken, so there is nothing to put right.
    refusal.sequence = again.sequence;
    bench.say(&Message::Acknowledgement(refusal)).unwrap();
    assert!(bench.messages().is_empty());
    assert_eq!(bench.answer(&update, Status::ACCEPTED, Lifetime(9)), Err(Ignored::Unmatched));
    bench.acknowledge(&again);
    assert!(bench.status().registered);
}

#[test]
fn a_home_agent_that_always_objects_is_not_asked_without_end() {
    let mut bench = Bench::up(&[]);
    let mut sent = bench.updates().len();
    for turn in 0..100u16 {
        let number = turn.wrapping_mul(7919).wrapping_add(30_000);
        let refusal = BindingAcknowledgement::new(Status::SEQUENCE_OUT_OF_WINDOW, number, Lifetime::ZERO);
        let _ = bench.say(&Message::Acknowledgement(refusal));
        sent += bench.updates().len();
    }
    assert_eq!(sent, 3, "MAX_UPDATE_RATE");
}

#[test]
fn a_refusal_is_reported_and_tried_again_later() {
    let wanted = net("2002:c633:6401:200::/64");
    let mut bench = Bench::up(&[wanted]);
    let update = bench.update();
    bench.events();
    bench.answer(&update, Status::NOT_AUTHORIZED_FOR_PREFIX, Lifetime::ZERO).unwrap();
    let status = Status::NOT_AUTHORIZED_FOR_PREFIX;
    let refused = ClientEvent::Refused { home_address: DEVICE, prefixes: vec![wanted], status };
    assert_eq!(bench.events(), [refused]);
    assert_eq!(status.to_string(), "not authorised for the prefix (status 142)");
    assert_eq!((bench.status().registered, bench.status().refused), (false, Some(status)));
    assert!((45..=75).contains(&bench.step().as_secs()));
    let update = bench.update();
    bench.answer(&update, status, Lifetime::ZERO).unwrap();
    assert_eq!(bench.events(), [], "the same refusal is told once");
    bench.client.handle_address_change(bench.now, &[LAN]);
    let update = bench.update();
    bench.acknowledge(&update);
    assert!(matches!(bench.events()[..], [ClientEvent::Registered { .. }]));
}

#[test]
fn leaving_takes_everything_back() {
    let mut bench = Bench::bound(&[net("2002:c633:6401:100::/64")]);
    bench.client.deregister_all(bench.now);
    let update = bench.update();
    assert_eq!(
        (update.lifetime, update.prefixes.len(), update.flags.mobile_router),
        (Lifetime::ZERO, 0, false)
    );
    assert!(!bench.client.is_quiet());
    bench.acknowledge(&update);
    assert_eq!(bench.events(), [ClientEvent::Deregistered { home_address: DEVICE, acknowledged: true }]);
    assert!(bench.client.is_quiet() && bench.client.poll_timeout().is_none());
}

#[test]
fn leaving_does_not_wait_for_ever() {
    let mut bench = Bench::bound(&[]);
    bench.client.deregister(bench.now, DEVICE);
    let start = bench.now;
    while !bench.client.is_quiet() {
        bench.step();
    }
    assert_eq!(bench.updates().len(), 3);
    assert_eq!((bench.now - start).as_secs(), 7);
    assert_eq!(
        bench.news().last(),
        Some(&ClientEvent::Deregistered { home_address: DEVICE, acknowledged: false })
    );
    // Without a session there is nobody to tell.
    let mut bench = Bench::new(&[]);
    bench.client.deregister_all(bench.now);
    assert!(bench.client.is_quiet() && bench.messages().is_empty());
}

#[test]
fn any_number_of_services_is_bound_and_those_that_go_are_released() {
    let service = |number: u16| net(&format!("2002:c633:6401:{:x}::a/128", 0x200 + number));
    let many: Vec<Ipv6Net> = (0..70).map(service).collect();
    let mut bench = Bench::up(&many);
    let updates = bench.updates();
    let counts: Vec<usize> = updates.iter().map(|update| update.prefixes.len()).collect();
    assert_eq!(counts, [MAX_PREFIXES, MAX_PREFIXES, 6]);
    for update in &updates {
        bench.acknowledge(update);
    }
    assert!(bench.status().registered);
    bench.client.register(bench.now, registration(&many[..69]));
    let updates = bench.updates();
    assert_eq!(updates.len(), 2, "what stays the same is not said again");
    assert_eq!((updates[0].prefixes.len(), updates[0].lifetime), (5, Lifetime(450)));
    assert_eq!((&updates[1].prefixes[..], updates[1].lifetime), (&[service(69)][..], Lifetime::ZERO));
    // Wanted again before the release was heard: the release is not repeated.
    bench.client.register(bench.now, registration(&many));
    assert_eq!(bench.update().prefixes.len(), 6);
    while bench.now < bench.start + Duration::from_secs(60) {
        bench.step();
        assert!(bench.updates().iter().all(|update| update.lifetime > Lifetime::ZERO));
    }
}

#[test]
fn a_move_is_told_with_one_update_at_once_and_at_most_three_a_second() {
    let many: Vec<Ipv6Net> =
        (0..70).map(|number| net(&format!("2002:c633:6401:2::{number:x}/128"))).collect();
    let mut bench = Bench::bound(&many);
    bench.now += Duration::from_secs(10);
    for _ in 0..20 {
        bench.now += Duration::from_millis(10);
        bench.client.handle_address_change(bench.now, &[LAN]);
    }
    assert_eq!(bench.updates().len(), 3);
    bench.client.handle_address_change(bench.now, &[]);
    let last = Ipv4Addr::new(10, 9, 8, 7);
    bench.client.handle_address_change(bench.now, &[last]);
    assert!(bench.updates().is_empty());
    assert!(bench.step() <= Duration::from_secs(1));
    assert_eq!(bench.update().care_of, Some(last), "the last word is said");
}

#[test]
fn a_lost_binding_is_told_even_without_a_session() {
    let mut bench = Bench::bound(&[]);
    bench.client.handle_session_down(DEVICE);
    assert_eq!(bench.step().as_secs(), 1800);
    assert_eq!(bench.events(), [ClientEvent::Lost { home_address: DEVICE }]);
    assert!(bench.messages().is_empty() && bench.client.poll_timeout().is_none());
    bench.client.handle_session_up(bench.now, DEVICE, false);
    assert_eq!(bench.updates().len(), 1);
}

#[test]
fn a_herd_comes_back_spread_over_time() {
    let mut waits = Vec::new();
    for seed in 0..100 {
        let mut bench = Bench::with_seed([seed; 32], &[]);
        bench.client.handle_session_up(bench.now, DEVICE, true);
        waits.push(bench.step());
        assert_eq!(bench.updates().len(), 1);
        let mut bench = Bench::bound(&[]);
        bench.client.handle_home_restarted(bench.now, AGENT);
        assert!(bench.step() <= Duration::from_secs(5));
    }
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)));
    let late = waits.iter().filter(|wait| wait.as_millis() > 2500).count();
    assert!((30..70).contains(&late), "{late}");
}

#[test]
fn a_challenge_is_sent_back() {
    let mut bench = Bench::up(&[]);
    let update = bench.update();
    let mut acknowledgement = BindingAcknowledgement::new(Status::ACCEPTED, update.sequence, Lifetime(9));
    acknowledgement.challenge = Some([1; 8]);
    acknowledgement.observed = Some(outside(61_000));
    bench.events();
    bench.say(&Message::Acknowledgement(acknowledgement)).unwrap();
    assert_eq!(bench.messages(), [Message::Response { cookie: [1; 8], observed: None }]);
    let observed = ClientEvent::Observed { home_address: DEVICE, address: outside(61_000), behind_nat: true };
    assert_eq!(bench.events(), [observed]);
    assert!(!bench.status().registered, "only when the home agent has heard the response");
    assert_eq!(bench.step().as_secs(), 1);
    let update = bench.update();
    bench.acknowledge(&update);
    assert!(bench.status().registered);
    bench.say(&Message::Challenge([2; 8])).unwrap();
    assert_eq!(bench.messages(), [Message::Response { cookie: [2; 8], observed: None }]);
}

/// Bound through a NAT that is to be kept alive every 20 s.
fn behind_nat() -> Bench {
    let mut bench = Bench::up(&[]);
    let update = bench.update();
    let mut acknowledgement = BindingAcknowledgement::new(Status::ACCEPTED, update.sequence, update.lifetime);
    acknowledgement.observed = Some(outside(61_000));
    acknowledgement.nat = Some(NatDetection { force_udp: true, refresh: 20 });
    bench.say(&Message::Acknowledgement(acknowledgement)).unwrap();
    bench.events();
    bench
}

fn challenge(bench: &mut Bench) -> Cookie {
    match bench.messages()[..] {
        [Message::Challenge(cookie)] => cookie,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn behind_a_nat_silence_is_broken_by_a_challenge() {
    let mut bench = behind_nat();
    assert_eq!(bench.step().as_secs(), 20);
    let cookie = challenge(&mut bench);
    bench.say(&Message::Response { cookie, observed: Some(outside(61_000)) }).unwrap();
    assert_eq!((bench.events(), bench.messages()), (vec![], vec![]), "nothing changed");
    // What is heard puts it off.
    bench.now += Duration::from_secs(15);
    bench.client.handle_activity(bench.now, AGENT);
    assert_eq!(bench.step().as_secs(), 5);
    assert_eq!(bench.messages(), []);
    assert_eq!(bench.step().as_secs(), 15);
    challenge(&mut bench);
}

#[test]
fn a_nat_that_restarted_is_noticed_and_told() {
    let mut bench = behind_nat();
    bench.step();
    let cookie = challenge(&mut bench);
    let response = Message::Response { cookie, observed: Some(outside(2222)) };
    bench.say(&response).unwrap();
    let observed = ClientEvent::Observed { home_address: DEVICE, address: outside(2222), behind_nat: true };
    assert_eq!(bench.events(), [observed]);
    bench.update();
    assert_eq!(bench.say(&response), Err(Ignored::Unmatched), "a cookie counts once");
    // Cookies that were never ours move nothing.
    let forged = Message::Response { cookie: [0; 8], observed: Some(outside(1)) };
    assert_eq!(bench.say(&forged), Err(Ignored::Unmatched));
}

#[test]
fn a_silent_home_agent_is_reported_once_per_silence() {
    let mut bench = behind_nat();
    bench.step();
    let mut last = challenge(&mut bench);
    for _ in 0..10 {
        bench.step();
        last = challenge(&mut bench);
    }
    assert_eq!(bench.events(), [ClientEvent::Unanswered { home_address: DEVICE }]);
    bench.say(&Message::Response { cookie: last, observed: Some(outside(61_000)) }).unwrap();
    assert_eq!(bench.step().as_secs(), 20);
    for _ in 0..6 {
        bench.step();
    }
    assert_eq!(bench.events(), [ClientEvent::Unanswered { home_address: DEVICE }]);
}

#[test]
fn a_nat_that_appears_after_a_long_silence_is_not_due_in_the_past() {
    let mut bench = Bench::up(&[]);
    let update = bench.update();
    let mut acknowledgement = BindingAcknowledgement::new(Status::ACCEPTED, update.sequence, update.lifetime);
    acknowledgement.observed = Some(SocketAddrV4::new(LAN, 4500));
    bench.say(&Message::Acknowledgement(acknowledgement)).unwrap();
    bench.now += Duration::from_secs(60);
    bench.client.handle_address_change(bench.now, &[Ipv4Addr::new(10, 0, 0, 7)]);
    bench.update();
    bench.now += Duration::from_millis(100);
    bench.client.handle_timeout(bench.now);
    assert!(bench.client.poll_timeout().is_some_and(|(at, _)| at > bench.now), "it spins");
}

#[test]
fn without_a_nat_there_is_no_keepalive() {
    let mut bench = Bench::up(&[]);
    let update = bench.update();
    let mut acknowledgement = BindingAcknowledgement::new(Status::ACCEPTED, update.sequence, update.lifetime);
    acknowledgement.observed = Some(SocketAddrV4::new(LAN, 4500));
    bench.say(&Message::Acknowledgement(acknowledgement)).unwrap();
    assert!(bench.step().as_secs() > 1000);
    bench.update();
}

#[test]
fn strangers_and_nonsense_change_nothing() {
    let mut bench = Bench::up(&[]);
    let update = bench.update();
    let acknowledgement =
        Message::Acknowledgement(BindingAcknowledgement::new(Status::ACCEPTED, update.sequence, Lifetime(9)));
    let now = bench.now;
    let other = "2002:c633:6401::2".parse().unwrap();
    for (source, destination) in [(other, DEVICE), (AGENT, other), (DEVICE, AGENT)] {
        let packet = build(source, destination, &acknowledgement);
        assert_eq!(bench.client.handle_packet(now, &packet), Err(Ignored::Addresses));
    }
    assert_eq!(bench.say(&Message::Update(update)), Err(Ignored::Unexpected));
    assert!(matches!(bench.client.handle_packet(now, &[0x60; 41]), Err(Ignored::Malformed(_))));
    // Accepted for no time at all is no acceptance.
    bench.answer(&update, Status::ACCEPTED, Lifetime::ZERO).unwrap();
    assert_eq!(bench.status().refused, Some(Status::UNSPECIFIED));
}

#[test]
fn doubt_asks_the_home_agent_at_once_and_once() {
    let mut bench = Bench::bound(&[]);
    bench.now += Duration::from_secs(10);
    let challenges = |bench: &mut Bench| {
        let messages = bench.messages();
        assert!(messages.iter().all(|message| matches!(message, Message::Challenge(_))), "{messages:?}");
        messages
    };
    bench.client.handle_doubt(bench.now, AGENT);
    bench.client.handle_doubt(bench.now, AGENT);
    let [Message::Challenge(cookie)] = challenges(&mut bench)[..] else { panic!("not one challenge") };
    // Unanswered it is repeated quickly.
    assert!(bench.step() <= Duration::from_millis(250));
    assert_eq!(challenges(&mut bench).len(), 1);
    let answer = Message::Response { cookie, observed: Some(outside(4711)) };
    let packet = build(AGENT, DEVICE, &answer);
    bench.client.handle_packet(bench.now, &packet).unwrap();
    // What it observed is new: told at once.
    assert_eq!(bench.updates().len(), 1);
    // Heard just now, nobody is doubted.
    bench.client.handle_doubt(bench.now, AGENT);
    assert_eq!(bench.messages(), []);
}

#[test]
fn doubt_that_nobody_answers_is_told() {
    let mut bench = Bench::bound(&[]);
    bench.now += Duration::from_secs(10);
    let began = bench.now;
    bench.client.handle_doubt(bench.now, AGENT);
    let told = |bench: &mut Bench| bench.news().contains(&ClientEvent::Unanswered { home_address: DEVICE });
    while !told(&mut bench) {
        bench.step();
        assert!(bench.now < began + Duration::from_secs(5), "a silent home agent is not told of");
    }
}

#[test]
fn after_a_sleep_every_binding_is_told_anew_at_once() {
    let mut bench = Bench::bound(&[]);
    // The clock of timers stood still.
    bench.now += Duration::from_secs(2);
    bench.client.handle_resume(bench.now);
    let update = bench.update();
    assert!(update.lifetime > Lifetime::ZERO);
    // Lost on a link that is not up yet, it is told again after a second.
    assert!(bench.step() <= Duration::from_secs(1));
    assert_eq!(bench.updates().len(), 1);
}
