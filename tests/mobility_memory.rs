//! What a binding costs: octets in the home agent and in the data plane's table, and the time to restore, renew and end
//! many of them. `BINDINGS=1000000 cargo test --release --test mobility_memory -- --nocapture` prints the figures for a million.

#![expect(clippy::disallowed_methods, reason = "what is measured is time")]
#![expect(clippy::print_stdout, reason = "the figures are for people")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domicile::addr::plan;
use domicile::dataplane::relay;
use domicile::mobility::{Agent, AgentConfig, OpenPolicy, Received, Row};
use domicile::wire::mobility::{BindingUpdate, Lifetime, Message, build};

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator can be written in no other way")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HOME: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

fn device(number: u32) -> Ipv6Addr {
    // Users come and go in no order.
    plan::device(HOME, number.wrapping_mul(0x9e37_79b1), 1)
}

fn care_of(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x0100_0000 + number), 4500)
}

struct Figures {
    what: &'static str,
    octets: usize,
    time: Duration,
}

fn measured<T>(what: &'static str, work: impl FnOnce() -> T) -> (T, Figures) {
    let (before, start) = (ALLOCATED.load(Ordering::Relaxed), Instant::now());
    let result = work();
    let octets = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before);
    (result, Figures { what, octets, time: start.elapsed() })
}

#[test]
fn a_binding_is_small() {
    let count: u32 = std::env::var("BINDINGS").map_or(50_000, |text| text.parse().expect("a number"));
    let now = Instant::now();
    let rows = || {
        (0..count).map(|number| Row {
            prefix: device(number).into(),
            sender: device(number),
            care_of: care_of(number),
            sequence: 1,
            remaining: Duration::from_secs(1000),
        })
    };
    let mut agent = Agent::new(AgentConfig::new(plan::home_agent(HOME)), [1; 32], now);
    let ((), restored) = measured("restore, agent", || agent.restore(now, rows()));
    let ((mut publisher, reader), table) = measured("restore, table", || {
        let (mut publisher, reader) = relay::new();
        publisher.bind_all(agent.routes());
        (publisher, reader)
    });
    assert_eq!(agent.len(), count as usize);
    assert_eq!(reader.care_of(device(count / 2)), Some(care_of(count / 2)));

    // Ten thousand of them move: update, challenge left out (IKE has proven the address), new route.
    let moving = count.min(10_000);
    let ((), moved) = measured("10,000 moves", || {
        for number in 0..moving {
            let (sender, from) = (device(number), care_of(number + count));
            let update = BindingUpdate::new(2, Lifetime::from_secs(1000));
            let packet = build(sender, plan::home_agent(HOME), &Message::Update(update));
            let received = Received { sender, from, proven: true, octets: 120, packet: &packet };
            agent.handle_packet(now, &received, &OpenPolicy).expect("taken");
            while agent.poll_transmit().is_some() {}
            while let Some(event) = agent.poll_event() {
                if let domicile::mobility::AgentEvent::Route { prefix, care_of } = event {
                    publisher.bind(prefix, care_of);
                }
            }
        }
    });
    while !agent.take_changes(now, true).is_empty() {}

    // The same number, one by one in no order, which leaves trees as full as they get in life.
    let mut grown = Agent::new(AgentConfig::new(plan::home_agent(HOME)), [1; 32], now);
    let ((), one_by_one) = measured("one by one, agent", || {
        for number in 0..count {
            let update = BindingUpdate::new(1, Lifetime::from_secs(1000));
            let packet = build(device(number), plan::home_agent(HOME), &Message::Update(update));
            let received = Received {
                sender: device(number),
                from: care_of(number),
                proven: true,
                octets: 120,
                packet: &packet,
            };
            grown.handle_packet(now, &received, &OpenPolicy).expect("taken");
            while grown.poll_transmit().is_some() || grown.poll_event().is_some() {}
            if number % 4096 == 0 {
                while !grown.take_changes(now, true).is_empty() {}
            }
        }
        while !grown.take_changes(now, true).is_empty() {}
    });
    let ((), ended) = measured("all end", || {
        let later = now + Duration::from_secs(2000);
        while !grown.is_empty() {
            grown.handle_timeout(later);
            while grown.poll_event().is_some() {}
            while !grown.take_changes(later, true).is_empty() {}
        }
    });
    println!("{count} bindings");
    for Figures { what, octets, time } in [&restored, &table, &one_by_one, &moved, &ended] {
        println!("  {what:18} {:>6.1} octets each, {time:.1?}", *octets as f64 / f64::from(count));
    }
    let each = |figures: &Figures| figures.octets / count as usize;
    assert!(each(&restored) <= 60 && each(&one_by_one) <= 90, "the agent's share has grown");
    assert!(each(&table) <= 40, "the table's share has grown");
}
