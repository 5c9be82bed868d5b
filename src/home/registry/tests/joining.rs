use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::home::code::{Code, LookupId};
use crate::home::registry::{
    InvitationState, PendingAnswer, RETRY_WINDOW, Request, chain_start, verify_chain,
};

#[test]
fn a_code_works_once_and_the_same_key_may_ask_again() {
    let (place, mut registry) = furnished();
    let (code, invitation) = registry.invite(by(NOW), [5; 16], "alice", Some("laptop"), NOW + 100).unwrap();
    assert_eq!(invitation.state, InvitationState::Open);
    let lookup = code.lookup_id();
    assert_eq!(registry.invitation_psk(NOW, &lookup).unwrap().expose(), code.psk().expose());
    // What the home keeps lets nobody in.
    for name in ["registry.db", "registry.db-wal"] {
        let file = std::fs::read(place.path(name)).unwrap();
        for secret in [&[5; 16][..], lookup.as_bytes(), code.psk().expose()] {
            assert!(!file.windows(secret.len()).any(|window| window == secret));
        }
    }
    let redeem = |registry: &mut Registry, now, number| {
        registry.redeem(by(now), &lookup, &key(number), Some("ignored"), &mut issue)
    };
    let first = redeem(&mut registry, NOW + 99, 1).unwrap();
    assert_eq!((first.entity.name.as_str(), first.again), ("laptop.alice", false));
    assert!(matches!(redeem(&mut registry, NOW + 99, 2), Err(Error::Spent)));
    drop(registry);
    let mut registry = place.open();
    let again = redeem(&mut registry, NOW + 99 + RETRY_WINDOW - 1, 1).unwrap();
    assert_eq!((&again.entity, &again.certificate, again.again), (&first.entity, &first.certificate, true));
    assert!(registry.invitation_psk(NOW + 99, &lookup).is_ok());
    assert!(matches!(redeem(&mut registry, NOW + 99 + RETRY_WINDOW, 1), Err(Error::Spent)));
    assert_eq!(registry.expire(NOW + 99 + RETRY_WINDOW).unwrap(), 1);
    assert!(registry.invitation_psk(NOW + 100, &lookup).is_err());
    let listed = registry.invitations().unwrap();
    assert_eq!(
        (listed[0].state, listed[0].joined.as_deref()),
        (InvitationState::Spent, Some("laptop.alice"))
    );
    assert_eq!(registry.issued(1, 10).unwrap().len(), 1);
}

#[test]
fn a_code_expires_is_withdrawn_or_unknown() {
    let (_place, mut registry) = furnished();
    let (code, _) = registry.invite(by(NOW), [5; 16], "alice", None, NOW + 100).unwrap();
    let redeem = |registry: &mut Registry, now, lookup: &LookupId| {
        registry.redeem(by(now), lookup, &key(1), None, &mut issue)
    };
    for (now, sweeps) in [(NOW + 100, 1), (NOW + 100, 0)] {
        assert!(matches!(redeem(&mut registry, now, &code.lookup_id()), Err(Error::Expired)));
        assert!(matches!(registry.invitation_psk(now, &code.lookup_id()), Err(Error::Expired)));
        assert_eq!(registry.expire(now).unwrap(), sweeps);
    }
    let (code, invitation) = registry.invite(by(NOW), [6; 16], "server1", None, NOW + 100).unwrap();
    registry.invitation_withdraw(by(NOW), invitation.id).unwrap();
    assert!(registry.invitation_withdraw(by(NOW), invitation.id).is_err());
    assert!(matches!(redeem(&mut registry, NOW, &code.lookup_id()), Err(Error::NoInvitation)));
    assert!(matches!(redeem(&mut registry, NOW, &Code::new([7; 16]).lookup_id()), Err(Error::NoInvitation)));
    assert!(registry.invite(by(NOW), [8; 16], "alice", None, NOW).is_err());
    assert!(registry.invite(by(NOW), [8; 16], "alice", None, u64::MAX).is_err());
    assert!(registry.invite(by(NOW), [8; 16], "server1", Some("laptop"), NOW + 9).is_err());
    // A year later there is no trace.
    registry.expire(NOW + 365 * 86_400).unwrap();
    assert!(registry.invitations().unwrap().is_empty());
}

#[test]
fn when_no_certificate_can_be_made_nothing_has_happened() {
    let (_place, mut registry) = furnished();
    let (code, _) = registry.invite(by(NOW), [5; 16], "alice", None, NOW + 100).unwrap();
    let lines = registry.audit(None, 1000).unwrap().len();
    let mut fail = |_: &Grant| Err("no root key".to_owned());
    let failed = registry.redeem(by(NOW), &code.lookup_id(), &key(1), None, &mut fail);
    assert_eq!(failed.unwrap_err().to_string(), "no certificate could be issued: no root key");
    assert_eq!(registry.audit(None, 1000).unwrap().len(), lines);
    assert!(registry.find("device.alice").is_err());
    let joined = registry.redeem(by(NOW), &code.lookup_id(), &key(1), None, &mut issue).unwrap();
    assert_eq!((joined.entity.number, joined.entity.name.as_str()), (1, "device.alice"));
}

#[test]
fn a_node_that_joins_again_replaces_its_key_and_a_revoked_key_is_dead() {
    let (_place, mut registry) = furnished();
    let first = join(&mut registry, "server1", "", 1).entity;
    let second = join(&mut registry, "server1", "", 2).entity;
    assert_eq!((first.address, second.key), (second.address, Some(key(2))));
    let keys = registry.keys(&second).unwrap();
    assert_eq!((keys.len(), keys[0].reason.as_deref()), (2, Some("replaced")));
    // Somebody else's key is refused.
    let redeem = |registry: &mut Registry, random, whom: &str, number| {
        let (code, _) = registry.invite(by(NOW), [random; 16], whom, None, NOW + 9).unwrap();
        registry.redeem(by(NOW), &code.lookup_id(), &key(number), None, &mut issue)
    };
    assert!(matches!(redeem(&mut registry, 10, "server2", 2), Err(Error::KeyRefused)));
    assert!(matches!(redeem(&mut registry, 11, "alice", 2), Err(Error::KeyRefused)));
    join(&mut registry, "alice", "laptop", 3);
    registry.device_revoke(by(NOW), "laptop.alice").unwrap();
    assert!(matches!(redeem(&mut registry, 12, "alice", 3), Err(Error::KeyRefused)));
    // A device that joins again with its key is the same device.
    let one = redeem(&mut registry, 13, "alice", 4).unwrap();
    let two = redeem(&mut registry, 14, "alice", 4).unwrap();
    assert_eq!((one.entity.id, one.again, two.again), (two.entity.id, false, false));
    // Within its retry window the answer of a revoked device is gone.
    let (code, _) = registry.invite(by(NOW), [15; 16], "bob", None, NOW + 9).unwrap();
    registry.redeem(by(NOW), &code.lookup_id(), &key(5), Some("pc"), &mut issue).unwrap();
    registry.device_revoke(by(NOW), "pc.bob").unwrap();
    let late = registry.redeem(by(NOW), &code.lookup_id(), &key(5), Some("pc"), &mut issue);
    assert!(matches!(late, Err(Error::Spent)));
}

#[test]
fn what_was_revoked_is_known_until_it_ends() {
    let (place, mut registry) = furnished();
    let laptop = join(&mut registry, "alice", "laptop", 1).entity.address;
    let node = join(&mut registry, "server1", "", 2).entity.address;
    let addresses = |registry: &Registry, now| -> Vec<Ipv6Addr> {
        registry.revoked_certificates(now).unwrap().into_iter().map(|(address, ..)| address).collect()
    };
    assert!(addresses(&registry, NOW).is_empty());
    assert!(registry.outdated_certificates(NOW, node).unwrap().is_empty());
    // A new key: the certificate for the old one is outdated, that for the new one is not.
    join(&mut registry, "server1", "", 3);
    assert_eq!(registry.outdated_certificates(NOW, node).unwrap().len(), 1);
    assert!(addresses(&registry, NOW).is_empty(), "its owner replaced it");
    registry.device_revoke(by(NOW), "laptop.alice").unwrap();
    let end = NOW + 86_400;
    assert_eq!(registry.revoked_certificates(NOW).unwrap(), [(laptop, "010203".to_owned(), end)]);
    assert_eq!(registry.outdated_certificates(NOW, laptop).unwrap().len(), 1);
    drop(registry);
    let registry = place.open();
    assert_eq!((addresses(&registry, end - 1), addresses(&registry, end)), (vec![laptop], vec![]));
}

fn ask(registry: &mut Registry, now: u64, number: u32, source: u8) -> Result<PendingAnswer, Error> {
    let source = Ipv4Addr::new(192, 0, 2, source);
    registry.request(now, Request { key: &key(number), wanted: "alice", label: Some("Phone!"), source })
}

#[test]
fn a_request_waits_until_somebody_decides() {
    let (_place, mut registry) = furnished();
    for number in 1..=2 {
        assert_eq!(ask(&mut registry, NOW, number, 1).unwrap(), PendingAnswer::Waiting);
        assert_eq!(ask(&mut registry, NOW, number, 1).unwrap(), PendingAnswer::Waiting);
    }
    let list = registry.pending(NOW).unwrap();
    assert_eq!((list.len(), list[0].label.as_deref(), list[0].wanted.as_str()), (2, Some("phone"), "alice"));
    let fingerprint = key(1).fingerprint();
    let accepted = registry.pending_accept(by(NOW), &fingerprint, None, &mut issue).unwrap();
    assert_eq!(accepted.entity.name, "phone.alice");
    registry.pending_refuse(by(NOW), &list[1].id.to_string()).unwrap();
    assert!(registry.pending(NOW).unwrap().is_empty());
    let PendingAnswer::Accepted(fetched) = ask(&mut registry, NOW + 60, 1, 9).unwrap() else { panic!() };
    assert_eq!((&fetched.certificate, fetched.again), (&accepted.certificate, true));
    assert_eq!(ask(&mut registry, NOW, 2, 1).unwrap(), PendingAnswer::Refused);
    assert!(matches!(registry.pending_refuse(by(NOW), &fingerprint), Err(Error::NotPending(_))));
    // As somebody else than it asked for.
    ask(&mut registry, NOW, 3, 1).unwrap();
    let other = registry.pending_accept(by(NOW), &key(3).fingerprint(), Some("bob"), &mut issue).unwrap();
    assert_eq!(other.entity.name, "phone.bob");
    // Nobody decided for a day.
    ask(&mut registry, NOW, 4, 1).unwrap();
    let late = registry.pending_accept(by(NOW + 86_400), &key(4).fingerprint(), None, &mut issue);
    assert!(matches!(late, Err(Error::NotPending(_))));
    registry.expire(NOW + 86_400).unwrap();
    assert!(registry.pending(NOW).unwrap().is_empty());
}

#[test]
fn strangers_cannot_fill_the_list() {
    let (_place, mut registry) = furnished();
    let mut number = 0;
    let mut flood = |registry: &mut Registry, now, source| {
        let mut left = 0;
        for _ in 0..30 {
            number += 1;
            match ask(registry, now, number, source) {
                Ok(_) => left += 1,
                Err(Error::Busy) => {}
                Err(other) => panic!("{other}"),
            }
        }
        left
    };
    assert_eq!(flood(&mut registry, NOW, 1), 4);
    assert_eq!((2..20).map(|source| flood(&mut registry, NOW + 1, source)).sum::<usize>(), 16);
    let later: usize =
        (20..90).map(|source| flood(&mut registry, NOW + u64::from(source) * 61, source)).sum();
    assert_eq!(later, 64 - 20);
    assert_eq!(registry.pending(NOW).unwrap().len(), 64);
    assert!(
        registry
            .request(NOW, Request { key: &key(1), wanted: "a b", label: None, source: Ipv4Addr::LOCALHOST })
            .is_err()
    );
}

#[test]
fn the_log_of_certificates_is_a_chain() {
    let (_place, mut registry) = furnished();
    for number in 0..5 {
        join(&mut registry, "alice", "laptop", number);
    }
    let mut entries = registry.issued(1, 100).unwrap();
    assert_eq!(entries.len(), 5);
    assert_eq!(registry.verify_issued().unwrap(), Ok(5));
    let start = chain_start(registry.home().unwrap().prefix.network());
    assert_eq!(verify_chain(start, 1, &entries), Ok(entries[4].hash));
    assert_eq!(verify_chain(entries[1].hash, 3, &entries[2..]), Ok(entries[4].hash));
    entries[2].not_after += 1;
    assert_eq!(verify_chain(start, 1, &entries).unwrap_err().0, 3);
    entries.remove(2);
    assert_eq!(verify_chain(start, 1, &entries).unwrap_err().0, 3);
    assert!(registry.db.execute("UPDATE issued SET at = 0", []).is_err());
    assert!(registry.db.execute("DELETE FROM issued", []).is_err());
    // Whoever gets around the triggers is found.
    registry
        .db
        .execute_batch("DROP TRIGGER issued_fixed; UPDATE issued SET at = 0 WHERE sequence = 4")
        .unwrap();
    assert_eq!(registry.verify_issued().unwrap().unwrap_err().0, 4);
}

#[test]
fn the_authority_of_the_home_certifies_who_joins() {
    let (_place, mut registry) = furnished();
    let home = registry.home().unwrap();
    let root = PrivateKey::from_seed(&[8; 32]);
    let domain = home.domain.as_deref();
    let authority = crate::pki::Authority::create(root, home.prefix, domain, NOW, [1; 16]).unwrap();
    let mut number = 1;
    let mut issue = |grant: &Grant| {
        number += 1;
        grant.certificate(&authority, NOW, 3600, [number; 16])
    };
    let (code, _) = registry.invite(by(NOW), [5; 16], "alice", None, NOW + 9).unwrap();
    let joined = registry.redeem(by(NOW), &code.lookup_id(), &key(1), Some("laptop"), &mut issue).unwrap();
    let leaf = crate::pki::leaf::read(&joined.certificate).unwrap();
    assert_eq!((leaf.address, leaf.key), (joined.entity.address, key(1)));
    let alice = registry.find("alice").unwrap();
    registry.certify(by(NOW), joined.entity.address, alice.address, &key(1), &mut issue).unwrap();
    registry.certify_home(by(NOW), &key(2), &mut issue).unwrap();
    let names: Vec<String> = registry.issued(1, 9).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["laptop.alice.home.example.org", "alice.home.example.org", "home.example.org"]);
    assert_eq!(registry.verify_issued().unwrap(), Ok(3));
}
