//! The tables of `docs/protocol.md` against the code: what nobody executes goes stale.
#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests by clippy's measure")]

use std::net::Ipv6Addr;

use domicile::crypto::secret::Secret;
use domicile::crypto::suite::EspSuite;
use domicile::esp::{Limits, OutboundSa, SaParams};

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
