//! The suite that is good for both ends: RFC 7296 §2.7 lets the responder choose.

use super::pair::*;
use crate::crypto::suite::EspSuite;
use crate::ike::Config;

type Change = fn(usize, &mut Config);

/// What an end does whose configuration names no suites.
fn default_of(fast_aes: bool, config: &mut Config) {
    config.esp_suites = EspSuite::by_speed(fast_aes).to_vec();
    config.esp_yields = fast_aes;
}

fn configured(suites: &[EspSuite], config: &mut Config) {
    config.esp_suites = suites.to_vec();
    config.esp_yields = false;
}

/// `A` initiates; then each end rekeys once.
fn agreed(change: Change) -> EspSuite {
    let mut pair = Pair::connected(Setup { change, ..Setup::default() });
    let suite = pair.active(A).suite;
    for host in [A, B] {
        let child = pair.active(host).id;
        pair.act(host, |endpoint, now| endpoint.rekey_child(now, child));
        pair.run(secs(1));
        pair.traffic();
        pair.run(secs(60));
        pair.assert_agreed();
        assert_ne!(pair.active(host).id, child, "it was rekeyed");
        assert_eq!(pair.active(host).suite, suite, "a rekey changes nothing");
    }
    suite
}

#[test]
fn one_end_without_fast_aes_is_enough_for_chacha20() {
    let cases: [(Change, EspSuite); 4] = [
        (|_, config| default_of(true, config), EspSuite::Aes256GcmIiv),
        (|host, config| default_of(host == A, config), EspSuite::ChaCha20Poly1305Iiv),
        (|host, config| default_of(host == B, config), EspSuite::ChaCha20Poly1305Iiv),
        (|_, config| default_of(false, config), EspSuite::ChaCha20Poly1305Iiv),
    ];
    for (at, (change, suite)) in cases.into_iter().enumerate() {
        assert_eq!(agreed(change), suite, "case {at}");
    }
}

#[test]
fn a_configured_list_wins_over_the_order_of_a_fast_cpu() {
    const LISTS: [EspSuite; 2] = [EspSuite::ChaCha20Poly1305, EspSuite::Aes256Gcm];
    let cases: [(Change, EspSuite); 4] = [
        (
            |host, config| if host == A { configured(&LISTS, config) } else { default_of(true, config) },
            EspSuite::ChaCha20Poly1305,
        ),
        (
            |host, config| if host == B { configured(&LISTS, config) } else { default_of(true, config) },
            EspSuite::ChaCha20Poly1305,
        ),
        // An end that names one suite gets no other, whatever the CPUs are.
        (
            |host, config| {
                if host == A { configured(&LISTS[1..], config) } else { default_of(false, config) }
            },
            EspSuite::Aes256Gcm,
        ),
        (
            |host, config| {
                if host == B { configured(&LISTS[1..], config) } else { default_of(false, config) }
            },
            EspSuite::Aes256Gcm,
        ),
    ];
    for (at, (change, suite)) in cases.into_iter().enumerate() {
        assert_eq!(agreed(change), suite, "case {at}");
    }
}
