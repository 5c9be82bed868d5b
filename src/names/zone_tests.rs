use std::collections::HashMap;
use std::net::Ipv6Addr;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name, ToName};
use domain::rdata::{AllRecordData, ZoneRecordData};
use proptest::prelude::*;

use super::message::{NoQuery, Query, UDP_MAX};
use super::*;

const DOMAIN: &str = "home.example.org";
const REVERSE: &str = "1.0.4.6.3.3.6.c.2.0.0.2.ip6.arpa";
const AGENT: &str = "2002:c633:6401::1";
/// What a response may have beyond its query: SOA or PTR, the larger of them, and an OPT record.
const GROWTH: usize = 120;

struct Names(HashMap<String, Ipv6Addr>);

impl Table for Names {
    fn address(&self, name: &str) -> Result<Option<Ipv6Addr>, Unavailable> {
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)),
            "{name}"
        );
        if name == "broken" { Err(Unavailable) } else { Ok(self.0.get(name).copied()) }
    }

    fn name(&self, address: Ipv6Addr) -> Result<Option<String>, Unavailable> {
        Ok(self.0.iter().find(|(_, of)| **of == address).map(|(name, _)| name.clone()))
    }
}

fn names() -> Names {
    let entries = [
        ("web", "2002:c633:6401:100::2"),
        ("alice", "2002:c633:6401:1:0:1::"),
        ("laptop.alice", "2002:c633:6401:1:0:1:0:3"),
    ];
    Names(entries.map(|(name, address)| (name.to_owned(), address.parse().unwrap())).into())
}

fn zone() -> Zone {
    Zone::new(DOMAIN, "2002:c633:6401::/48".parse().unwrap()).unwrap()
}

/// A query; `edns`: the size that its OPT record tells.
fn query(name: &str, rtype: Rtype, edns: Option<u16>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((Name::vec_from_str(name).unwrap(), rtype)).unwrap();
    let mut additional = question.additional();
    if let Some(size) = edns {
        additional
            .opt(|opt| {
                opt.set_udp_payload_size(size);
                opt.set_dnssec_ok(true);
                Ok(())
            })
            .unwrap();
    }
    additional.finish()
}

/// Records of a section as text, for example `web.home.example.org. AAAA 2002:… 60`.
struct Read {
    rcode: OptRcode,
    authoritative: bool,
    answer: Vec<String>,
    authority: Vec<String>,
}

fn read(response: &[u8]) -> Read {
    let message = Message::from_octets(response).unwrap();
    let text = |section: domain::base::message::RecordSection<'_, &[u8]>| {
        section
            .limit_to::<ZoneRecordData<_, _>>()
            .map(|record| {
                let record = record.unwrap();
                let (owner, ttl) = (record.owner().fmt_with_dot().to_string(), record.ttl().as_secs());
                format!("{owner} {} {} {ttl}", record.rtype(), record.data())
            })
            .collect::<Vec<_>>()
    };
    Read {
        rcode: message.opt_rcode(),
        authoritative: message.header().aa(),
        answer: text(message.answer().unwrap()),
        authority: text(message.authority().unwrap()),
    }
}

fn ask(name: &str, rtype: Rtype) -> Read {
    let asked = query(name, rtype, Some(1232));
    let response = zone().answer(&asked, Transport::Udp, &names()).unwrap();
    assert!(response.len() <= asked.len() + GROWTH, "{} octets for {}", response.len(), asked.len());
    let header = Message::from_slice(&response).unwrap().header();
    assert!(header.qr() && header.rd() && !header.ra() && !header.tc() && header.id() == 0x1234);
    read(&response)
}

fn is_no_data(read: &Read, apex: &str) -> bool {
    let soa = format!("{apex}. SOA ns.{DOMAIN}. root.{DOMAIN}. 1 3600 600 86400 30 30");
    read.rcode == OptRcode::NOERROR && read.authoritative && read.answer.is_empty() && read.authority == [soa]
}

#[test]
fn names_have_their_addresses_and_addresses_their_names() {
    let all = [
        ("web.home.example.org", "2002:c633:6401:100::2"),
        ("alice.home.example.org", "2002:c633:6401:1:0:1::"),
        ("laptop.alice.home.example.org", "2002:c633:6401:1:0:1:0:3"),
        ("home.example.org", AGENT),
    ];
    for (name, address) in all {
        let read = ask(name, Rtype::AAAA);
        assert_eq!(read.answer, [format!("{name}. AAAA {address} 60")]);
        assert!(read.authoritative && read.authority.is_empty() && read.rcode == OptRcode::NOERROR);
        let reverse: Name<Vec<u8>> = Name::reverse_from_addr(address.parse().unwrap()).unwrap();
        let reverse = reverse.to_string();
        assert_eq!(ask(&reverse, Rtype::PTR).answer, [format!("{reverse}. PTR {name}. 60")]);
        assert_eq!(ask(name, Rtype::ANY).answer.len(), 1);
    }
    assert_eq!(
        ask("ns.home.example.org", Rtype::AAAA).answer,
        [format!("ns.home.example.org. AAAA {AGENT} 60")]
    );
}

#[test]
fn there_is_never_an_ipv4_address() {
    for name in ["web.home.example.org", "alice.home.example.org", "home.example.org", "ns.home.example.org"]
    {
        for rtype in [Rtype::A, Rtype::HTTPS, Rtype::SVCB, Rtype::CNAME, Rtype::TXT, Rtype::MX] {
            assert!(is_no_data(&ask(name, rtype), DOMAIN), "{name} {rtype}");
        }
    }
}

#[test]
fn both_trees_have_a_top() {
    for apex in [DOMAIN, REVERSE] {
        assert_eq!(ask(apex, Rtype::NS).answer, [format!("{apex}. NS ns.{DOMAIN}. 60")]);
        assert_eq!(
            ask(apex, Rtype::SOA).answer,
            [format!("{apex}. SOA ns.{DOMAIN}. root.{DOMAIN}. 1 3600 600 86400 30 60")]
        );
    }
    assert!(is_no_data(&ask(REVERSE, Rtype::PTR), REVERSE));
}

#[test]
fn a_name_that_is_not_there_is_told_apart_from_one_that_has_nothing() {
    let nobody = format!("9.{}0.0.1.0.{REVERSE}", "0.".repeat(15));
    let long = format!("0.9.{}0.0.1.0.{REVERSE}", "0.".repeat(15));
    let missing = ["nobody.home.example.org", "x.web.home.example.org", "_tcp.web.home.example.org"];
    for name in missing.into_iter().chain([
        nobody.as_str(),
        long.as_str(),
        &format!("g.{REVERSE}"),
        &format!("10.{REVERSE}"),
    ]) {
        for rtype in [Rtype::AAAA, Rtype::A, Rtype::PTR] {
            let read = ask(name, rtype);
            assert_eq!(read.rcode, OptRcode::NXDOMAIN, "{name}");
            assert!(read.authoritative && read.answer.is_empty() && read.authority.len() == 1);
        }
    }
    // RFC 8020, RFC 9156: a resolver that goes down the tree step by step must not be stopped.
    for name in [format!("1.0.0.0.{REVERSE}"), format!("7.{REVERSE}")] {
        assert!(is_no_data(&ask(&name, Rtype::PTR), REVERSE), "{name}");
    }
    assert_eq!(ask("broken.home.example.org", Rtype::AAAA).rcode, OptRcode::SERVFAIL);
}

#[test]
fn a_dot_inside_a_label_is_not_a_dot() {
    let read = ask("laptop\\.alice.home.example.org", Rtype::AAAA);
    assert_eq!(read.rcode, OptRcode::NXDOMAIN);
}

#[test]
fn everything_else_is_refused() {
    for name in [
        "example.org",
        "org",
        ".",
        "xhome.example.org",
        "home.example.org.evil",
        "8.8.8.8.in-addr.arpa",
        "0.2.0.0.2.ip6.arpa",
    ] {
        let read = ask(name, Rtype::AAAA);
        assert_eq!((read.rcode, read.authoritative), (OptRcode::REFUSED, false), "{name}");
        assert!(read.answer.is_empty() && read.authority.is_empty());
    }
    assert_eq!(ask(DOMAIN, Rtype::AXFR).rcode, OptRcode::REFUSED);
    assert_eq!(ask(DOMAIN, Rtype::IXFR).rcode, OptRcode::REFUSED);
    let mut chaos = query("web.home.example.org", Rtype::AAAA, None);
    *chaos.last_mut().unwrap() = u8::try_from(Class::CH.to_int()).unwrap();
    assert_eq!(read(&zone().answer(&chaos, Transport::Udp, &names()).unwrap()).rcode, OptRcode::REFUSED);
}

#[test]
fn the_case_of_the_question_is_kept() {
    let asked = query("LaPtOp.aLiCe.HoMe.ExAmPlE.oRg", Rtype::AAAA, None);
    let response = zone().answer(&asked, Transport::Udp, &names()).unwrap();
    // Question and owner are the same octets: the owner is a pointer to the question.
    assert_eq!(response[12..asked.len()], asked[12..]);
    let message = Message::from_octets(&response[..]).unwrap();
    let record = message.answer().unwrap().next().unwrap().unwrap();
    let owner = record.owner().to_vec();
    assert_eq!(owner.as_slice(), Name::vec_from_str("LaPtOp.aLiCe.HoMe.ExAmPlE.oRg").unwrap().as_slice());
    let wanted: Ipv6Addr = "2002:c633:6401:1:0:1:0:3".parse().unwrap();
    assert!(response.ends_with(&wanted.octets()));
}

#[test]
fn edns_is_answered_with_edns_and_only_then() {
    let answer = |octets: &[u8]| zone().answer(octets, Transport::Udp, &names()).unwrap();
    let with = answer(&query("web.home.example.org", Rtype::AAAA, Some(4096)));
    let message = Message::from_octets(&with[..]).unwrap();
    let opt = message.opt().unwrap();
    assert_eq!((opt.udp_payload_size(), opt.version(), opt.dnssec_ok()), (UDP_MAX, 0, true));
    let without = answer(&query("web.home.example.org", Rtype::AAAA, None));
    assert_eq!(Message::from_octets(&without[..]).unwrap().header_counts().arcount(), 0);

    let mut later = query("web.home.example.org", Rtype::AAAA, Some(4096));
    let version = later.len() - 5;
    later[version] = 1;
    let refused = read(&answer(&later));
    assert_eq!(refused.rcode, OptRcode::BADVERS);
    assert!(refused.answer.is_empty());

    let mut twice = query("web.home.example.org", Rtype::AAAA, Some(4096));
    twice.extend_from_within(twice.len() - 11..);
    twice[11] = 2;
    assert_eq!(read(&answer(&twice)).rcode, OptRcode::FORMERR);
}

#[test]
fn what_does_not_fit_is_left_out_and_said_to_be() {
    let octets = query("web.home.example.org", Rtype::AAAA, Some(512));
    let query = Query::parse(&octets).unwrap();
    assert_eq!((query.limit(Transport::Udp), query.limit(Transport::Tcp)), (512, 65_535));
    let whole = zone().answer_query(&query, 512, &names());
    let truncated = zone().answer_query(&query, whole.len() - 1, &names());
    assert!(truncated.len() < whole.len());
    let message = Message::from_octets(&truncated[..]).unwrap();
    assert!(message.header().tc() && message.header_counts().ancount() == 0 && message.opt().is_some());
    assert!(!Message::from_octets(&whole[..]).unwrap().header().tc());
    for (told, limit) in [(None, 512), (Some(0), 512), (Some(1000), 1000), (Some(65_535), 1232)] {
        let octets = self::query(DOMAIN, Rtype::SOA, told);
        assert_eq!(Query::parse(&octets).unwrap().limit(Transport::Udp), limit);
    }
}

#[test]
fn what_is_no_query_is_not_answered_and_what_cannot_be_read_is_refused() {
    let good = query("web.home.example.org", Rtype::AAAA, None);
    assert_eq!(zone().answer(&good[..11], Transport::Udp, &names()), None);
    let mut response = good.clone();
    response[2] |= 0x80;
    assert_eq!(zone().answer(&response, Transport::Udp, &names()), None);
    assert_eq!(Query::parse(&response).unwrap_err(), NoQuery::Silence);

    let rcode = |octets: &[u8]| {
        let answer = zone().answer(octets, Transport::Udp, &names()).unwrap();
        assert_eq!((answer.len(), &answer[..2]), (12, &octets[..2]));
        Message::from_octets(answer).unwrap().header().rcode()
    };
    assert_eq!(rcode(&good[..good.len() - 1]), Rcode::FORMERR);
    for count in [0, 2] {
        let mut questions = good.clone();
        questions[5] = count;
        assert_eq!(rcode(&questions), Rcode::FORMERR);
    }
    let mut looped = good.clone();
    looped[12..14].copy_from_slice(&[0xc0, 12]);
    assert_eq!(rcode(&looped), Rcode::FORMERR);
    for opcode in [Opcode::NOTIFY, Opcode::UPDATE] {
        let mut other = good.clone();
        other[2] |= opcode.to_int() << 3;
        assert_eq!(rcode(&other), Rcode::NOTIMP);
    }
}

#[test]
fn a_zone_needs_a_domain_and_a_48() {
    let prefix = "2002:c633:6401::/48".parse().unwrap();
    for bad in ["", ".", "a..b", &"a".repeat(64), &format!("{}org", "abcdefg.".repeat(31))] {
        assert!(matches!(Zone::new(bad, prefix), Err(ZoneError::Domain { .. })), "{bad}");
    }
    let short = "2002:c633::/32".parse().unwrap();
    assert_eq!(Zone::new(DOMAIN, short).unwrap_err(), ZoneError::Prefix(short));
    let ula = Zone::new("Lab.Example.", "fd12:3456:789a::/48".parse().unwrap()).unwrap();
    assert_eq!(ula.agent(), "fd12:3456:789a::1".parse::<Ipv6Addr>().unwrap());
    let asked = query("a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa", Rtype::NS, None);
    let answer = read(&ula.answer(&asked, Transport::Tcp, &names()).unwrap()).answer;
    assert_eq!(answer, ["a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa. NS ns.lab.example. 60"]);
}

#[test]
fn a_registry_of_a_thousand_services_is_a_table() {
    use crate::home::registry::Interface;
    use crate::home::{By, Registry};
    let directory = tempfile::tempdir().unwrap();
    let mut registry = Registry::open(&directory.path().join("home.db")).unwrap();
    let by = By { now: 1, who: "test" };
    registry.init(by, "2002:c633:6401::/48".parse().unwrap(), Some(DOMAIN)).unwrap();
    registry.node_add(by, "server").unwrap();
    let services: Vec<_> = (0..1000)
        .map(|n| registry.service_add(by, &format!("web{n}"), "server", Interface::Next).unwrap())
        .collect();
    let registry = std::sync::Mutex::new(registry);
    let ask = |name: &str, rtype| {
        read(&zone().answer(&query(name, rtype, None), Transport::Udp, &registry).unwrap())
    };
    for service in services.iter().step_by(37) {
        let (name, address) = (format!("{}.{DOMAIN}", service.name), service.address);
        assert_eq!(ask(&name, Rtype::AAAA).answer, [format!("{name}. AAAA {address} 60")]);
        let reverse: Name<Vec<u8>> = Name::reverse_from_addr(address.into()).unwrap();
        assert_eq!(ask(&reverse.to_string(), Rtype::PTR).answer, [format!("{reverse}. PTR {name}. 60")]);
    }
    registry.lock().unwrap().remove(by, "web37").unwrap();
    for gone in ["web37.home.example.org", "web1.home.example.org.home.example.org", "1000.home.example.org"]
    {
        assert_eq!(ask(gone, Rtype::AAAA).rcode, OptRcode::NXDOMAIN, "{gone}");
    }
}

/// Whatever comes in: an answer is well formed, belongs to the query, fits, and is not much longer than it.
fn is_fit(octets: &[u8], transport: Transport) {
    let Some(response) = zone().answer(octets, transport, &names()) else { return };
    assert!(octets.len() >= 12 && octets[2] & 0x80 == 0, "answered what is no query");
    assert!(response[..2] == octets[..2] && response[2] & 0x80 != 0);
    assert!(
        response.len() <= 12.max(octets.len() + GROWTH),
        "{} octets for {}",
        response.len(),
        octets.len()
    );
    assert!(transport == Transport::Tcp || response.len() <= usize::from(UDP_MAX));
    let message = Message::from_octets(&response[..]).unwrap();
    let mut records = 0;
    for record in message.iter() {
        let (record, _) = record.unwrap();
        record.to_record::<AllRecordData<_, _>>().unwrap().unwrap();
        assert!(record.rtype() != Rtype::A);
        records += 1;
    }
    assert!(records <= 2);
}

proptest! {
    #[test]
    fn octets_do_no_harm(octets in proptest::collection::vec(any::<u8>(), 0..600), tcp: bool) {
        is_fit(&octets, if tcp { Transport::Tcp } else { Transport::Udp });
    }

    #[test]
    fn queries_that_chance_has_changed_do_no_harm(
        name in "([a-z0-9_-]{1,20}\\.){0,4}(home\\.example\\.org|ip6\\.arpa|1\\.0\\.4\\.6\\.3\\.3\\.6\\.c\\.2\\.0\\.0\\.2\\.ip6\\.arpa)",
        rtype: u16, edns: Option<u16>, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()), tcp: bool,
    ) {
        let mut octets = query(&name, Rtype::from_int(rtype), edns);
        for (at, value) in changes {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        if let Some(cut) = cut {
            octets.truncate(cut.index(octets.len()));
        }
        is_fit(&octets, if tcp { Transport::Tcp } else { Transport::Udp });
    }

    #[test]
    fn every_address_of_the_home_leads_back(low: u128) {
        let zone = zone();
        let address = Ipv6Addr::from(u128::from(zone.agent()) & !0xffff_ffff_ffff_ffff_ffff | low >> 48);
        let table = Names([("that".to_owned(), address)].into());
        let reverse: Name<Vec<u8>> = Name::reverse_from_addr(address.into()).unwrap();
        let asked = query(&reverse.to_string().to_ascii_uppercase(), Rtype::PTR, None);
        let answer = read(&zone.answer(&asked, Transport::Udp, &table).unwrap()).answer;
        let name = if address == zone.agent() { DOMAIN.to_owned() } else { format!("that.{DOMAIN}") };
        prop_assert_eq!(answer.len(), 1);
        prop_assert!(answer[0].ends_with(&format!(" PTR {name}. 60")), "{}", answer[0]);
    }
}
