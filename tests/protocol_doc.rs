//! The tables of `docs/protocol.md` against the code: what nobody executes goes stale.
#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

use std::net::Ipv6Addr;

use domicile::crypto::secret::Secret;
use domicile::crypto::suite::EspSuite;
use domicile::esp::{Limits, OutboundSa, SaParams};
use domicile::wire::mobility::{self, BindingAcknowledgement, BindingUpdate, Lifetime, NatDetection, Status};
use domicile::wire::{path, relay};

const DOCUMENT: &str = include_str!("../docs/protocol.md");
/// IPv4 and UDP headers.
const OUTER: usize = 28;

/// The cells of each row of the table under this head, without its first two lines.
fn table(head: &str) -> Vec<Vec<String>> {
    let rows = DOCUMENT.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn datagram(suite: EspSuite, inner: usize) -> usize {
    let params = SaParams {
        spi: 256,
        local: Ipv6Addr::LOCALHOST,
        remote: Ipv6Addr::LOCALHOST,
        suite,
        esn: true,
        key: Secret::new(vec![1; suite.keymat_len()]),
        limits: Limits::NONE,
    };
    OUTER + OutboundSa::new(params).unwrap().sealed_len(inner)
}

#[test]
fn suites_are_described_as_they_are_in_the_order_of_preference() {
    let rows = table("| suite | ENCR |");
    assert_eq!(rows.len(), EspSuite::ALL.len());
    for (row, suite) in rows.iter().zip(EspSuite::ALL) {
        let number = |value: Option<u16>| value.map_or_else(String::new, |value| value.to_string());
        let wanted = [
            format!("`{suite}`"),
            suite.encryption_id().to_string(),
            number(suite.key_length_attribute()),
            number(suite.integrity_id()),
            suite.keymat_len().to_string(),
            suite.iv_len().to_string(),
        ];
        assert_eq!(row[..6], wanted);
    }
}

#[test]
fn sizes_add_up() {
    let rows = table("| inner packet | explicit IV |");
    assert_eq!(rows.len(), 6);
    for row in rows {
        let [inner, with_iv, without] = [0, 1, 2].map(|column| row[column].parse::<usize>().unwrap());
        for suite in EspSuite::ALL {
            let wanted = if suite.iv_len() == 0 { without } else { with_iv };
            assert_eq!(datagram(suite, inner), wanted, "{inner} octets under {suite}");
        }
    }
}

#[test]
fn the_largest_packets_are_the_largest() {
    for (suite, most, outer) in [
        (EspSuite::Aes256Gcm, 1438, 1500),
        (EspSuite::Aes256GcmIiv, 1446, 1500),
        (EspSuite::ChaCha20Poly1305, 1398, 1500 - 40),
    ] {
        assert!(datagram(suite, most) <= outer && datagram(suite, most + 1) > outer, "{suite}");
    }
}

#[test]
fn the_private_notifies_have_the_numbers_that_are_told() {
    use domicile::wire::ike::notify_type as nt;
    for (name, number) in [("DOMICILE", nt::DOMICILE), ("KEY_ENDORSEMENT", nt::KEY_ENDORSEMENT)] {
        let told = format!("`{name}` ({number})");
        assert!(DOCUMENT.contains(&told), "{told}");
    }
}

/// The octets of an example, without spaces; those of a checksum are `CCCC`.
fn example(message: &str) -> String {
    let rows = table("| message | octets |");
    let row = rows.iter().find(|row| row[0].starts_with(message)).unwrap();
    row[1].chars().filter(char::is_ascii_alphanumeric).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn examples_of_the_relayed_path_and_of_path_control_are_what_is_written() {
    let ends = ["2002:c000:20a:101::1", "2002:c000:20a:102::1"].map(|end| end.parse().unwrap());
    let mut header = [0; 40];
    relay::write_esp_header(&mut header, ends[0], ends[1], 48);
    assert_eq!(example("relayed:"), hex(&header));

    let (address, token) = ("198.51.100.7:4500".parse().unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let candidate = path::Candidate { kind: path::CandidateKind::Observed, address };
    let list = [candidate].into_iter().collect();
    let written = |in_use, body| hex(&path::Message { moves: 2, in_use, body }.to_bytes());
    let body = path::Body::Candidates { generation: 3, acknowledged: 4, answer: true, list };
    assert_eq!(example("Candidates:"), written(true, body));
    assert_eq!(example("Challenge:"), written(false, path::Body::Challenge { token, size: 24 }));
    assert_eq!(example("Response:"), written(true, path::Body::Response { token, observed: Some(address) }));
}

#[test]
fn examples_of_bindings_are_what_is_written() {
    let ends = ["2002:c000:20a:101::1", "2002:c000:20a::1"].map(|end| end.parse().unwrap());
    let written = |message| {
        let packet = hex(&mobility::build(ends[0], ends[1], &message)[40..]);
        format!("{}CCCC{}", &packet[..8], &packet[12..])
    };
    let (cookie, lifetime) = ([1, 2, 3, 4, 5, 6, 7, 8], Lifetime::from_secs(1800));
    let mut update = BindingUpdate::new(7, lifetime);
    update.flags.mobile_router = true;
    update.care_of = Some("10.0.0.2".parse().unwrap());
    update.prefixes.push("2002:c000:20a:101::/64".parse().unwrap()).unwrap();
    assert_eq!(example("Binding Update 7:"), written(mobility::Message::Update(update)));

    let mut acknowledgement = BindingAcknowledgement::new(Status::ACCEPTED, 7, lifetime);
    acknowledgement.nat = Some(NatDetection { force_udp: true, refresh: 20 });
    acknowledgement.observed = Some("198.51.100.7:4500".parse().unwrap());
    acknowledgement.challenge = Some(cookie);
    let message = mobility::Message::Acknowledgement(acknowledgement);
    assert_eq!(example("Binding Acknowledgement 7:"), written(message));
    let message = mobility::Message::Response { cookie, observed: None };
    assert_eq!(example("a node's response"), written(message));
}
