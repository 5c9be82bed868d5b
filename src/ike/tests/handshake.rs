//! The first four messages.

use super::pair::*;
use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::ike::Failure;
use crate::policy::pad::{Pad, Peer, Proof};
use crate::policy::spd::{Action, Policy, Services, Spd};
use std::sync::Arc;

#[test]
fn raw_keys_and_psk_both_prove_an_address() {
    for psk in [false, true] {
        let pair = Pair::connected(Setup { psk, ..Setup::default() });
        assert_eq!(pair.hosts[A].established, 1);
        assert!(pair.ikes(A)[0].peer_is_domicile && pair.ikes(A)[0].mobike && pair.ikes(B)[0].mobike);
        assert!(!pair.ikes(A)[0].nat_local && !pair.ikes(A)[0].nat_remote);
        assert!(pair.active(A).esn);
    }
}

#[test]
fn every_suite_is_agreed_on() {
    for suite in [IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm] {
        let change = match suite {
            IkeSuite::ChaCha20Poly1305 => |_: usize, config: &mut super::super::Config| {
                config.ike_suites = vec![IkeSuite::ChaCha20Poly1305];
            },
            IkeSuite::Aes256Gcm => |_: usize, config: &mut super::super::Config| {
                config.ike_suites = vec![IkeSuite::Aes256Gcm];
            },
        };
        let pair = Pair::connected(Setup { change, ..Setup::default() });
        assert_eq!(pair.ikes(B)[0].suite, suite);
    }
    let explicit = Pair::connected(Setup {
        change: |host, config| {
            if host == B {
                config.esp_suites = vec![EspSuite::ChaCha20Poly1305];
                config.esn = false;
            }
        },
        ..Setup::default()
    });
    assert_eq!(explicit.active(A).suite, EspSuite::ChaCha20Poly1305);
    assert!(!explicit.active(A).esn);
    let implicit = Pair::connected(Setup::default());
    assert_eq!(implicit.active(A).suite, EspSuite::Aes256GcmIiv);
}

#[test]
fn policy_can_ask_for_integrity_alone() {
    let pair = Pair::connected(Setup {
        change: |_, config| {
            config.spd = Arc::new(Spd::new(vec![Policy {
                local: "2002::/16".parse().unwrap(),
                remote: "2002::/16".parse().unwrap(),
                action: Action::Protect(Services::IntegrityOnly),
            }]));
        },
        ..Setup::default()
    });
    assert_eq!(pair.active(B).suite, EspSuite::NullHmacSha256);
}

fn failing(change: fn(usize, &mut super::super::Config), psk: bool) -> Pair {
    let mut pair = Pair::new(Setup { change, psk, ..Setup::default() });
    pair.initiate(A);
    pair.run(secs(90));
    for host in [A, B] {
        assert!(pair.hosts[host].children.is_empty(), "no child at {host}");
        assert!(pair.ikes(host).is_empty(), "no IKE SA at {host}");
    }
    assert_eq!(pair.hosts[A].failures.len(), 1, "{:?}", pair.hosts[A].failures);
    pair
}

#[test]
fn a_wrong_psk_is_refused() {
    let pair = failing(
        |host, config| {
            if host == B {
                let peer = config.pad.find("2002:c633:6401:1::10".parse().unwrap()).unwrap().into_owned();
                let proof = Proof::Psk(Secret::from(&b"another"[..]));
                config.pad = Arc::new(Pad::new([Peer { proof, ..peer }]));
            }
        },
        true,
    );
    assert!(matches!(pair.hosts[A].failures[0], Failure::Authentication(_)));
}

#[test]
fn a_wrong_key_is_refused_by_either_end() {
    let responder_refuses = failing(
        |host, config| {
            if host == B {
                let peer = config.pad.find("2002:c633:6401:1::10".parse().unwrap()).unwrap().into_owned();
                config.pad = Arc::new(Pad::new([Peer { proof: Proof::PublicKey([9; 32]), ..peer }]));
            }
        },
        false,
    );
    assert!(matches!(responder_refuses.hosts[A].failures[0], Failure::Authentication(_)));
    let initiator_refuses = failing(
        |host, config| {
            if host == A {
                let peer = config.pad.find("2002:c633:6402:1::20".parse().unwrap()).unwrap().into_owned();
                config.pad = Arc::new(Pad::new([Peer { proof: Proof::PublicKey([9; 32]), ..peer }]));
            }
        },
        false,
    );
    assert!(matches!(initiator_refuses.hosts[A].failures[0], Failure::Authentication(_)));
}

#[test]
fn a_stranger_is_refused() {
    let pair = failing(
        |host, config| {
            if host == B {
                config.pad = Arc::new(Pad::new([]));
            }
        },
        false,
    );
    assert!(matches!(pair.hosts[A].failures[0], Failure::Authentication(_)));
}

#[test]
fn different_suites_and_policies_are_told_apart() {
    let ike = failing(
        |host, config| config.ike_suites = vec![[IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm][host]],
        false,
    );
    assert_eq!(ike.hosts[A].failures[0], Failure::NoProposalChosen);
    let esp = failing(
        |host, config| config.esp_suites = vec![[EspSuite::ChaCha20Poly1305, EspSuite::Aes256Gcm][host]],
        false,
    );
    assert_eq!(esp.hosts[A].failures[0], Failure::NoProposalChosen);
    let policy = failing(
        |host, config| {
            if host == B {
                config.spd = Arc::new(Spd::new(Vec::new()));
            }
        },
        false,
    );
    assert_eq!(policy.hosts[A].failures[0], Failure::SelectorsRefused);
}

#[test]
fn nobody_there_is_a_timeout() {
    let mut pair = Pair::new(Setup::default());
    pair.network.set_conditions(crate::sim::network::Conditions {
        partition: true,
        ..crate::sim::network::Conditions::CALM
    });
    pair.initiate(A);
    pair.run(secs(60));
    assert!(matches!(pair.hosts[A].failures[0], Failure::Timeout { .. }));
    assert!(pair.hosts[A].endpoint.is_empty());
}

#[test]
fn a_cookie_is_demanded_and_given() {
    let pair = Pair::connected(Setup { change: |_, config| config.cookie_threshold = 0, ..Setup::default() });
    assert_eq!(pair.hosts[A].established, 1);
    assert!(pair.hosts[A].sent >= 3, "the first request came twice");
}

#[test]
fn small_fragments_carry_a_handshake() {
    let pair = Pair::connected(Setup { change: |_, config| config.fragment_size = 300, ..Setup::default() });
    assert!(pair.hosts[A].sent >= 3, "IKE_AUTH went in several datagrams");
}

#[test]
fn both_may_start_at_once() {
    for seed in 0..50 {
        let mut pair = Pair::new(Setup { seed, ..Setup::default() });
        pair.initiate(A);
        pair.run(ms(seed % 25));
        pair.initiate(B);
        for _ in 0..20 {
            pair.run(secs(1));
            pair.traffic();
        }
        pair.assert_agreed();
        if seed % 25 < 10 {
            assert!(pair.ikes(A)[0].initiator, "the lower address started the one that stays");
        }
    }
}
