//! Pins, redirects, keys and revocations.

use super::*;
use crate::pki::endorsement::{ENDORSEMENT_LEN, Endorsement};
use crate::pki::redirect::{Locator, Redirect};
use crate::pki::trust::{KeyNews, PinPolicy, Pinned};

fn locators(all: &[&str]) -> Vec<Locator> {
    all.iter().map(|text| text.parse().unwrap()).collect()
}

fn store() -> TrustStore {
    let mut store = TrustStore::default();
    assert_eq!(store.pin(authority(1).root().clone()), Ok(Pinned::New));
    store
}

#[test]
fn another_root_for_a_known_prefix_is_refused() {
    let mut store = store();
    let before = store.clone();
    let refused = store.pin(authority(2).root().clone());
    assert!(matches!(refused, Err(TrustError::AnotherRoot { home: at, .. }) if at == home()));
    assert_eq!(store, before);
    // The same key with another certificate is the same home.
    let renewed = Authority::create(key(1), home(), None, NOW + 5, [9; 16]).unwrap();
    assert_eq!(store.pin(renewed.root().clone()), Ok(Pinned::Known));
    assert_eq!(store.home_of(alice()).unwrap().root.domain(), None);
    // Removed by a person, and added again.
    assert!(store.unpin(home()) && !store.unpin(home()));
    assert_eq!(store.pin(authority(2).root().clone()), Ok(Pinned::New));
}

#[test]
fn a_leaf_is_verified_under_the_pinned_root_and_until_it_is_revoked() {
    let mut store = store();
    let leaf = leaf_of(&authority(1));
    let verified = store.verify(&leaf, &[], NOW, alice()).unwrap();
    assert!(store.revoke(NOW, alice(), verified.serial.clone(), verified.not_after));
    assert!(!store.revoke(NOW, alice(), verified.serial.clone(), verified.not_after));
    assert_eq!(store.verify(&leaf, &[], NOW, alice()), Err(TrustError::Revoked(alice())));
    assert!(!store.revoke(verified.not_after + 1, alice(), verified.serial, verified.not_after));
    let stranger = "2002:c633:6402:1::1".parse().unwrap();
    assert_eq!(store.verify(&leaf, &[], NOW, stranger), Err(TrustError::NoTrustedHome(stranger)));
}

#[test]
fn a_home_that_moved_is_followed_by_its_signature_and_number() {
    let mut store = store();
    let sign = |number, at: &[&str], root| {
        Redirect::sign(home(), number, NOW + 9, locators(at), &key(root)).unwrap()
    };
    let second = sign(2, &["203.0.113.9:4500", "home.example.org:4500"], 1);
    assert_eq!(store.redirect(second.clone()), Ok(true));
    assert_eq!(store.redirect(second), Ok(false));
    let stale = TrustError::RedirectStale { home: home(), given: 1, known: 2 };
    assert_eq!(store.redirect(sign(1, &["203.0.113.1:4500"], 1)), Err(stale));
    let other = store.redirect(sign(2, &["203.0.113.1:4500"], 1));
    assert!(matches!(other, Err(TrustError::RedirectStale { .. })), "the same number says one thing only");
    assert_eq!(store.redirect(sign(3, &["203.0.113.1:4500"], 2)), Err(TrustError::RedirectSignature(home())));
    let mut changed = sign(3, &["203.0.113.1:4500"], 1);
    changed.number = 4;
    assert_eq!(store.redirect(changed), Err(TrustError::RedirectSignature(home())));
    let mut changed = sign(3, &["203.0.113.1:4500"], 1);
    changed.locators = locators(&["203.0.113.66:4500"]);
    assert_eq!(store.redirect(changed), Err(TrustError::RedirectSignature(home())));
    let mut changed = sign(3, &["203.0.113.1:4500"], 1);
    changed.until += 1;
    assert_eq!(
        store.redirect(changed),
        Err(TrustError::RedirectSignature(home())),
        "nobody else lengthens it"
    );
    // Of another home, even one that is trusted and signed by its own root.
    let other = "2002:c633:6402::/48".parse().unwrap();
    let foreign = Redirect::sign(other, 9, 0, locators(&["203.0.113.66:4500"]), &key(1)).unwrap();
    assert!(matches!(store.redirect(foreign), Err(TrustError::NoTrustedHome(_))));
    let kept = store.redirect_of(home()).unwrap();
    assert_eq!(kept.in_force(NOW), locators(&["203.0.113.9:4500", "home.example.org:4500"]));
    assert!(kept.in_force(NOW + 9).is_empty(), "it ends by itself");
    // The home takes it back with another one, which is not replaced by what was before.
    let back = sign(4, &[], 1);
    assert_eq!(store.redirect(back), Ok(true));
    assert!(store.redirect(sign(3, &["203.0.113.1:4500"], 1)).is_err());
    assert!(store.redirect_of(home()).unwrap().in_force(NOW).is_empty());
    assert!(Redirect::sign(home(), 1, 0, locators(&["203.0.113.1:1"; 9]), &key(1)).is_err());
    assert_eq!(Locator::written("203.0.113.1"), "203.0.113.1:4500".parse());
    assert_eq!(Locator::written("home.example.org:4501"), "home.example.org:4501".parse());
    for wrong in ["203.0.113.1", "203.0.113.1:0", "host:4500", ":4500", "a b.c:1", "[::1]:4500"] {
        assert!(wrong.parse::<Locator>().is_err(), "{wrong}");
    }
}

#[test]
fn a_new_key_needs_the_word_of_the_old_one() {
    let mut store = store();
    let judge = |store: &TrustStore, key: u8, chain: &[Endorsement], policy| {
        store.judge(alice(), super::key(key).public(), chain, policy)
    };
    let strict = PinPolicy::Strict;
    assert_eq!(judge(&store, 9, &[], strict), Ok(KeyNews::First));
    assert!(store.remember(NOW, alice(), key(9).public()));
    assert!(!store.remember(NOW + 1, alice(), key(9).public()));
    assert_eq!(judge(&store, 9, &[], strict), Ok(KeyNews::Known));

    let old = key(9).public();
    assert_eq!(judge(&store, 10, &[], PinPolicy::Tell), Ok(KeyNews::Changed { old }));
    let refused = TrustError::NewKey { address: alice(), new: key(10).public() };
    assert_eq!(judge(&store, 10, &[], strict), Err(refused.clone()));
    let step = |from, to: u8| Endorsement::sign(alice(), &key(from), key(to).public());
    assert_eq!(judge(&store, 10, &[step(9, 10)], strict), Ok(KeyNews::Endorsed));
    assert_eq!(judge(&store, 11, &[step(10, 11), step(9, 10)], strict), Ok(KeyNews::Endorsed));
    // For another address, by another key, for another key, in a circle, too long a chain.
    let elsewhere = Endorsement::sign("2002:c633:6401:1::2".parse().unwrap(), &key(9), key(10).public());
    for chain in [vec![elsewhere], vec![step(8, 10)], vec![step(9, 12)], vec![step(9, 12), step(12, 9)]] {
        assert_eq!(judge(&store, 10, &chain, strict), Err(refused.clone()));
    }
    let long: Vec<_> = (9..14).map(|from| step(from, from + 1)).collect();
    assert!(judge(&store, 14, &long, strict).is_err());
    assert!(store.remember(NOW, alice(), key(10).public()));
    assert_eq!(store.remembered(alice()), Some(key(10).public()));
    assert!(store.forget(alice()) && !store.forget(alice()));
}

#[test]
fn endorsements_travel() {
    let endorsement = Endorsement::sign(alice(), &key(9), key(10).public());
    let bytes = endorsement.to_bytes();
    assert_eq!(Endorsement::from_bytes(&bytes), Some(endorsement));
    assert_eq!(Endorsement::from_bytes(&bytes[1..]), None);
    for at in 0..ENDORSEMENT_LEN {
        let mut changed = bytes;
        changed[at] ^= 1;
        assert!(Endorsement::from_bytes(&changed).is_none_or(|changed| !changed.verify(alice())), "{at}");
    }
}

#[test]
fn the_memory_survives_a_restart_and_notices_damage() {
    let mut store = store();
    store.redirect(Redirect::sign(home(), 1, 0, locators(&["203.0.113.9:4500"]), &key(1)).unwrap()).unwrap();
    store.remember(NOW, alice(), key(9).public());
    let verified = store.verify(&leaf_of(&authority(1)), &[], NOW, alice()).unwrap();
    store.revoke(NOW, alice(), verified.serial, verified.not_after);
    let text = serde_json::to_string(&store).unwrap();
    assert_eq!(serde_json::from_str::<TrustStore>(&text).unwrap(), store);
    let toml = toml::to_string(&store).unwrap();
    assert_eq!(toml::from_str::<TrustStore>(&toml).unwrap(), store);
    for (from, to) in [("203.0.113.9", "203.0.113.8"), ("\"version\":1", "\"version\":2"), ("BEGIN", "BEGUN")]
    {
        let damaged = text.replace(from, to);
        assert_ne!(damaged, text);
        assert!(serde_json::from_str::<TrustStore>(&damaged).is_err(), "{from}");
    }
}
