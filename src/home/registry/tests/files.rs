use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::home::entity::{Binding, Kind};
use crate::home::registry::check_backup;

#[test]
fn an_empty_file_becomes_a_registry_and_others_are_refused() {
    let place = Place::new();
    let path = place.path("empty.db");
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(Registry::open(&path).unwrap().home(), Err(Error::NoHome)));
    let fresh = place.path("fresh.db");
    drop(open(&fresh));
    assert_eq!(std::fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
    let registry = Registry::open(&fresh).unwrap();
    for file in ["fresh.db-wal", "fresh.db-shm"] {
        assert_eq!(std::fs::metadata(place.path(file)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let pragma = |name: &str| registry.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((pragma("foreign_keys"), pragma("synchronous"), pragma("user_version")), (1, 2, 1));
    let mode: String = registry.db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    registry.db.pragma_update(None, "user_version", 7).unwrap();
    drop(registry);
    assert_eq!(
        Registry::open(&fresh).unwrap_err().to_string(),
        format!(
            "{} was written by a newer domicile (registry version 7, this one knows 1): update domicile",
            fresh.display()
        )
    );
    let text = place.path("text.db");
    std::fs::write(&text, "this is no database, but it is long enough to be looked at as one\n".repeat(99))
        .unwrap();
    assert!(matches!(Registry::open(&text), Err(Error::Foreign { .. })));
    let other = place.path("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE music (title TEXT)").unwrap();
    assert!(matches!(Registry::open(&other), Err(Error::Foreign { .. })));
    assert!(matches!(Registry::open(&place.path("no/such/dir")), Err(Error::Io { .. })));
}

#[test]
fn the_prefix_is_a_48_and_stays() {
    let place = Place::new();
    let mut registry = place.open();
    let again = registry.init(by(NOW), "2002:c633:6402::/48".parse().unwrap(), None);
    assert!(matches!(again, Err(Error::HomeExists(_))));
    let mut other = Registry::open(&place.path("other.db")).unwrap();
    assert!(matches!(other.user_add(by(NOW), "alice"), Err(Error::NoHome)));
    for wrong in ["2002:c633:6402::/64", "2002:c633:6402:1::/48"] {
        assert!(matches!(other.init(by(NOW), wrong.parse().unwrap(), None), Err(Error::Prefix(_))));
    }
    assert!(other.init(by(NOW), "fd12:3456:789a::/48".parse().unwrap(), Some("-bad-")).is_err());
    other.init(by(NOW), "fd12:3456:789a::/48".parse().unwrap(), None).unwrap();
    let alice = other.user_add(by(NOW), "alice").unwrap();
    assert_eq!(alice.address.to_string(), "fd12:3456:789a:1:0:1::");
    assert_eq!(other.home().unwrap().full_name("alice"), None);
    let secret = other.secret("qcd", &[1; 32]).unwrap();
    assert_eq!(other.secret("qcd", &[2; 32]).unwrap().expose(), secret.expose());
}

#[test]
fn a_hundred_thousand_bindings_come_back() {
    let place = Place::new();
    let mut registry = place.open();
    let make = |number: u32, sequence: u16| Binding {
        prefix: ipnet::Ipv6Net::new(
            crate::addr::plan::device(Ipv4Addr::new(198, 51, 100, 1), number, 1),
            128,
        )
        .unwrap(),
        care_of: SocketAddrV4::new(Ipv4Addr::from(number), 4500),
        sequence,
        ends: NOW + u64::from(number),
    };
    let bindings: Vec<Binding> = (0..100_000).map(|number| make(number, 1)).collect();
    registry.bindings_change(&bindings, &[]).unwrap();
    registry.bindings_change(&[make(7, 65_535), make(9, 2)], &[bindings[8].prefix]).unwrap();

    drop(registry);
    let loaded = place.open().bindings().unwrap();
    let mut wanted = bindings;
    (wanted[7].sequence, wanted[9].sequence) = (65_535, 2);
    wanted.remove(8);
    assert!(loaded == wanted);
}

#[test]
fn a_move_forgets_the_binding_of_whoever_had_it() {
    let (_place, mut registry) = furnished();
    join(&mut registry, "alice", "laptop", 1);
    join(&mut registry, "alice", "phone", 2);
    let alice = registry.find("alice").unwrap();
    let bind =
        |prefix| Binding { prefix, care_of: "192.0.2.1:4500".parse().unwrap(), sequence: 1, ends: NOW };
    registry.bindings_change(&[bind(alice.prefix())], &[]).unwrap();
    registry.take(by(NOW), "phone.alice").unwrap();
    assert!(registry.bindings().unwrap().is_empty());
    registry.bindings_change(&[bind(alice.prefix())], &[]).unwrap();
    registry.device_revoke(by(NOW), "phone.alice").unwrap();
    assert!(registry.bindings().unwrap().is_empty());
}

#[test]
fn redirects_grow() {
    let (_place, mut registry) = furnished();
    assert_eq!(registry.redirect().unwrap(), None);
    let mut sign = |generation, locators: &[String]| Ok(format!("{generation} {locators:?}").into_bytes());
    let to = |place: &str| vec![place.to_owned()];
    registry.redirect_add(by(NOW), &to("203.0.113.1:4500"), &mut sign).unwrap();
    let second = registry.redirect_add(by(NOW), &to("new.example.org:4500"), &mut sign).unwrap();
    assert_eq!(second.generation, NOW + 1, "two in one second");
    assert_eq!(registry.redirect().unwrap(), Some(second));
    for wrong in [to(""), to("a b"), vec!["a:1".to_owned(); 9]] {
        assert!(registry.redirect_add(by(NOW), &wrong, &mut sign).is_err());
    }
    let back = registry.redirect_add(by(NOW + 60), &[], &mut sign).unwrap();
    assert_eq!((back.generation, back.locators.len()), (NOW + 60, 0));
    assert_eq!(registry.redirect().unwrap(), Some(back), "taken back");
}

#[test]
fn a_backup_is_checked_and_comes_back() {
    let (place, mut registry) = furnished();
    join(&mut registry, "alice", "laptop", 1);
    let (open_code, _) = registry.invite(by(NOW), [0x55; 16], "bob", None, NOW + 900).unwrap();
    let path = place.path("backup.db");
    let summary = registry.backup(by(NOW + 1), &path).unwrap();
    assert_eq!((summary.entities, summary.issued, summary.last_change), (6, 1, NOW + 1));
    assert_eq!(check_backup(&path).unwrap(), summary);
    assert!(matches!(registry.backup(by(NOW), &path), Err(Error::Exists(_))));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Life goes on, and then the backup is restored into the registry in use.
    let late = registry.user_add(by(NOW + 2), "carol").unwrap();
    let node = registry.node_add(by(NOW + 2), "server3").unwrap();
    let device = join(&mut registry, "alice", "phone", 2).entity;
    let issued = registry.issued(1, 100).unwrap();
    let lines = registry.audit(None, 1000).unwrap();
    registry.restore(by(NOW + 3), &path).unwrap();
    drop(registry);
    let mut registry = place.open();
    assert!(matches!(registry.find("carol"), Err(Error::NotFound(_))));
    assert!(registry.find("laptop.alice").is_ok() && registry.find("phone.alice").is_err());
    // Both logs are still there, and no address comes again.
    assert_eq!(registry.issued(1, 100).unwrap(), issued);
    assert_eq!(registry.verify_issued().unwrap(), Ok(2));
    let now = registry.audit(None, 1000).unwrap();
    assert_eq!(now[0].verb, "restore");
    assert_eq!(now[1..], lines[..]);
    assert_eq!(registry.user_add(by(NOW), "dora").unwrap().number, late.number + 1);
    assert_eq!(registry.node_add(by(NOW), "server4").unwrap().number, node.number + 1);
    assert_eq!(join(&mut registry, "alice", "tablet", 3).entity.number, device.number + 1);
    let spent = registry.redeem(by(NOW + 4), &open_code.lookup_id(), &key(4), None, &mut issue);
    assert!(matches!(spent, Err(Error::NoInvitation)));
    // The same backup in an empty place: whatever was given out since is unknown, so numbers are skipped.
    let mut empty = Registry::open(&place.path("second.db")).unwrap();
    empty.restore(by(NOW), &path).unwrap();
    assert!(empty.user_add(by(NOW), "dora").unwrap().number > 60_000);
    assert!(empty.node_add(by(NOW), "server9").unwrap().number > 0x1ff);
    assert_eq!(empty.list(Some(Kind::Device), false).unwrap().len(), 1);
}

#[test]
fn a_bad_backup_changes_nothing() {
    let (place, mut registry) = furnished();
    for number in 0..40 {
        registry.user_add(by(NOW), &format!("user{number}")).unwrap();
    }
    let path = place.path("backup.db");
    registry.backup(by(NOW), &path).unwrap();
    let before = registry.list(None, true).unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut refused = |what: &str, bytes: &[u8]| {
        let bad = place.path("bad.db");
        std::fs::write(&bad, bytes).unwrap();
        let error = registry.restore(by(NOW), &bad).expect_err(what);
        assert!(check_backup(&bad).is_err(), "{what}: {error}");
        assert_eq!(registry.list(None, true).unwrap(), before, "{what}");
    };
    refused("empty", b"");
    refused("cut", &good[..good.len() / 2]);
    refused("text", b"hello");
    // A page overwritten somewhere in the middle: damage, or at least not what it was.
    let mut spoiled = good.clone();
    let middle = good.len() / 2 / 4096 * 4096;
    spoiled[middle..middle + 4096].fill(0xff);
    refused("spoiled", &spoiled);
    // Somebody put a trigger into it.
    let tampered = place.path("tampered.db");
    std::fs::write(&tampered, &good).unwrap();
    rusqlite::Connection::open(&tampered)
        .unwrap()
        .execute_batch("CREATE TRIGGER evil AFTER INSERT ON audit BEGIN DELETE FROM binding; END")
        .unwrap();
    refused("tampered", &std::fs::read(&tampered).unwrap());
    let mut other = Registry::open(&place.path("other.db")).unwrap();
    other.init(by(NOW), "2002:c633:6402::/48".parse().unwrap(), None).unwrap();
    assert!(matches!(other.restore(by(NOW), &path), Err(Error::HomeExists(_))));
    assert!(matches!(registry.restore(by(NOW), &place.path("nowhere")), Err(Error::Io { .. })));
    // A copy of the file itself does as well, once the log is folded into it.
    drop(registry);
    let copied = place.path("copied.db");
    std::fs::copy(place.path("registry.db"), &copied).unwrap();
    assert_eq!(check_backup(&copied).unwrap().entities, 45);
}
