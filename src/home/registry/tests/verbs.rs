use super::*;
use crate::home::entity::Kind;

fn address(text: &str) -> std::net::Ipv6Addr {
    text.parse().unwrap()
}

#[test]
fn everybody_gets_the_address_of_the_plan() {
    let (_place, mut registry) = furnished();
    let at = |name: &str| registry.find(name).unwrap().address;
    assert_eq!(at("alice"), address("2002:c633:6401:1:0:1::"));
    assert_eq!(at("bob"), address("2002:c633:6401:1:0:2::"));
    assert_eq!(at("server1"), address("2002:c633:6401:100::1"));
    assert_eq!(at("Server2.home.example.org."), address("2002:c633:6401:101::1"));
    assert_eq!(at("web"), address("2002:c633:6401:100::2"));
    assert_eq!(registry.find("2002:c633:6401:100::2").unwrap().name, "web");
    let laptop = join(&mut registry, "alice", "Laptop.lan", 1);
    assert_eq!(laptop.entity.address, address("2002:c633:6401:1:0:1:0:1"));
    assert_eq!(
        (laptop.entity.name.as_str(), laptop.full_name.as_deref()),
        ("laptop.alice", Some("laptop.alice.home.example.org"))
    );
    let hidden = registry.service_add(by(NOW), "db", "server1", Interface::Random(u64::MAX)).unwrap();
    assert_eq!(hidden.address, address("2002:c633:6401:100:7fff:ffff:ffff:ffff"));
    assert!(matches!(
        registry.service_add(by(NOW), "db2", "server1", Interface::Random(u64::MAX)),
        Err(Error::Store(_))
    ));
    assert_eq!(registry.list(Some(Kind::Service), false).unwrap().len(), 2);
}

#[test]
fn an_address_is_never_given_out_again_and_a_name_is() {
    let (_place, mut registry) = furnished();
    let old = registry.find("web").unwrap();
    let gone = registry.remove(by(NOW), "web").unwrap();
    assert_eq!(gone.len(), 1);
    assert!(matches!(registry.find("web"), Err(Error::NotFound(_))));
    assert!(registry.by_address(old.address).unwrap().is_none());
    let new = registry.service_add(by(NOW), "web", "server1", Interface::Next).unwrap();
    assert_ne!(new.address, old.address);
    let removed = registry.list(None, true).unwrap().into_iter().find(|entity| entity.id == old.id).unwrap();
    assert!(!removed.active && removed.name == "web" && removed.address == old.address);
    // Not even by hand.
    for statement in [
        "DELETE FROM entity",
        "UPDATE entity SET removed = NULL",
        "UPDATE entity SET address = zeroblob(16)",
        "UPDATE counter SET next = 1",
        "DELETE FROM counter",
        "DELETE FROM name",
        "DELETE FROM key",
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit",
        "UPDATE home SET prefix = zeroblob(16)",
        "INSERT OR REPLACE INTO audit SELECT id, at, 'nobody', verb, subject, detail FROM audit",
    ] {
        registry.db.execute("INSERT INTO key (entity, key, since) VALUES (1, zeroblob(32), 0)", []).ok();
        assert!(registry.db.execute(statement, []).is_err(), "{statement}");
    }
}

#[test]
fn names_are_checked_and_unique() {
    let (_place, mut registry) = furnished();
    assert!(matches!(registry.user_add(by(NOW), "Web"), Err(Error::NameTaken { kind: Kind::Service, .. })));
    assert!(matches!(registry.user_add(by(NOW), "localhost"), Err(Error::Name(_))));
    assert!(matches!(registry.node_add(by(NOW), "a.b"), Err(Error::Name(_))));
    assert!(matches!(registry.rename(by(NOW), "alice", "bob"), Err(Error::NameTaken { .. })));
    join(&mut registry, "alice", "laptop", 1);
    join(&mut registry, "alice", "laptop", 2);
    join(&mut registry, "bob", "laptop", 3);
    assert_eq!(registry.rename(by(NOW + 1), "alice", "carol").unwrap().name, "carol");
    let names: Vec<String> =
        registry.list(Some(Kind::Device), false).unwrap().into_iter().map(|device| device.name).collect();
    assert_eq!(names, ["laptop.carol", "laptop-2.carol", "laptop.bob"]);
    assert_eq!(registry.rename(by(NOW + 2), "laptop-2.carol", "phone").unwrap().name, "phone.carol");
    let carol = registry.find("carol").unwrap();
    let history: Vec<String> = registry.names(&carol).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(history, ["alice", "carol"]);
    assert_eq!(registry.names(&carol).unwrap()[0].until, Some(NOW + 1));
    registry.user_add(by(NOW), "alice").unwrap();
}

#[test]
fn a_service_moves_and_keeps_its_address() {
    let (_place, mut registry) = furnished();
    let nodes = [registry.find("server1").unwrap(), registry.find("server2").unwrap()];
    join(&mut registry, "server1", "", 1);
    let before = registry.find("web").unwrap();
    let secret = key(9);
    registry.certify(by(NOW), nodes[0].address, before.address, &secret, &mut issue).unwrap();
    let bindable = |registry: &Registry, node: usize| registry.bindable(nodes[node].address).unwrap();
    assert_eq!(bindable(&registry, 1), ["2002:c633:6401:101::/64".parse().unwrap()]);
    let moved = registry.service_move(by(NOW), "web", "server2").unwrap();
    assert!(moved.is_moved() && moved.address == before.address && moved.key.is_none());
    assert_eq!(
        bindable(&registry, 1),
        ["2002:c633:6401:101::/64".parse().unwrap(), "2002:c633:6401:100::2/128".parse().unwrap()]
    );
    assert_eq!(bindable(&registry, 0), ["2002:c633:6401:100::/64".parse().unwrap()]);
    // Its old node has no say any more, and its new one has.
    let refused = registry.certify(by(NOW), nodes[0].address, before.address, &secret, &mut issue);
    assert!(matches!(refused, Err(Error::NotAuthorised { .. })));
    registry.certify(by(NOW), nodes[1].address, before.address, &key(10), &mut issue).unwrap();
    assert!(matches!(registry.remove(by(NOW), "server2"), Err(Error::NodeInUse { .. })));
    registry.remove(by(NOW), "server1").unwrap();
    assert!(!registry.service_move(by(NOW), "web", "server2").unwrap().name.is_empty());
    registry.remove(by(NOW), "web").unwrap();
    registry.remove(by(NOW), "server2").unwrap();
    assert!(matches!(registry.service_move(by(NOW), "alice", "bob"), Err(Error::WrongKind { .. })));
}

#[test]
fn one_device_holds_the_floating_address_until_another_takes_it() {
    let (_place, mut registry) = furnished();
    let first = join(&mut registry, "alice", "laptop", 1).entity;
    let second = join(&mut registry, "alice", "phone", 2).entity;
    let alice = registry.find("alice").unwrap();
    assert_eq!(alice.holder, Some(first.id));
    let certify = |registry: &mut Registry, device: &crate::home::Entity, number| {
        registry.certify(by(NOW), device.address, alice.address, &key(number), &mut issue)
    };
    certify(&mut registry, &first, 1).unwrap();
    assert!(matches!(certify(&mut registry, &second, 2), Err(Error::NotAuthorised { .. })));
    assert_eq!(registry.bindable(first.address).unwrap().len(), 2);
    let alice = registry.take(by(NOW), "phone.alice").unwrap();
    assert_eq!((alice.holder, alice.key), (Some(second.id), None));
    assert_eq!(registry.bindable(first.address).unwrap().len(), 1);
    assert!(matches!(certify(&mut registry, &first, 1), Err(Error::NotAuthorised { .. })));
    // Not with somebody else's key either.
    assert!(matches!(certify(&mut registry, &second, 1), Err(Error::KeyRefused)));
    certify(&mut registry, &second, 2).unwrap();
    // The holder goes, and the address is free; its key ends there, too.
    registry.device_revoke(by(NOW), "phone.alice").unwrap();
    let alice = registry.find("alice").unwrap();
    assert_eq!((alice.holder, alice.key), (None, None));
    registry.take(by(NOW), "laptop.alice").unwrap();
    certify(&mut registry, &first, 1).unwrap();
    assert!(matches!(registry.take(by(NOW), "web"), Err(Error::WrongKind { .. })));
}

#[test]
fn a_service_that_shares_the_key_of_its_node_goes_alone() {
    let (_place, mut registry) = furnished();
    let node = join(&mut registry, "server1", "", 1).entity;
    let web = registry.find("web").unwrap();
    registry.certify(by(NOW), node.address, web.address, &key(1), &mut issue).unwrap();
    registry.remove(by(NOW), "web").unwrap();
    assert_eq!(registry.find("server1").unwrap().key, Some(key(1)));
    registry.certify(by(NOW), node.address, node.address, &key(1), &mut issue).unwrap();
}

#[test]
fn removing_a_user_removes_her_devices_and_codes() {
    let (_place, mut registry) = furnished();
    let device = join(&mut registry, "alice", "laptop", 1).entity;
    let (code, _) = registry.invite(by(NOW), [9; 16], "alice", None, NOW + 60).unwrap();
    let gone = registry.remove(by(NOW), "alice").unwrap();
    assert_eq!(gone.len(), 2);
    assert!(registry.by_address(device.address).unwrap().is_none());
    let late = registry.redeem(by(NOW), &code.lookup_id(), &key(2), None, &mut issue);
    assert!(matches!(late, Err(Error::NoInvitation)));
    let again = registry.certify(by(NOW), device.address, device.address, &key(1), &mut issue);
    assert!(matches!(again, Err(Error::NotAuthorised { .. })));
}

#[test]
fn every_change_leaves_a_line() {
    let (_place, mut registry) = furnished();
    join(&mut registry, "alice", "laptop", 1);
    registry.device_revoke(By { now: NOW + 5, who: "uid 0" }, "laptop.alice").unwrap();
    let lines = registry.audit(None, 3).unwrap();
    assert_eq!(
        (lines[0].at, lines[0].who.as_str(), lines[0].verb.as_str()),
        (NOW + 5, "uid 0", "device revoke")
    );
    assert_eq!(
        registry.audit(Some(lines[2].id), 1000).unwrap().len() + 3,
        registry.audit(None, 1000).unwrap().len()
    );
    registry.audit_note(By { now: NOW, who: &"x\n".repeat(9999) }, "note", "\u{7}", "").unwrap();
    assert_eq!(registry.audit(None, 1).unwrap()[0].who.len(), 300);
}

#[test]
fn numbers_end_and_do_not_wrap() {
    let (_place, mut registry) = furnished();
    registry.db.execute("UPDATE counter SET next = 65535 WHERE kind = 'node'", []).unwrap();
    assert_eq!(registry.node_add(by(NOW), "last").unwrap().address, address("2002:c633:6401:ffff::1"));
    for _ in 0..2 {
        assert!(matches!(registry.node_add(by(NOW), "late"), Err(Error::Exhausted(Kind::Node))));
    }
    registry.db.execute("UPDATE counter SET next = 4294967295 WHERE kind = 'user'", []).unwrap();
    assert_eq!(registry.user_add(by(NOW), "u").unwrap().address, address("2002:c633:6401:1:ffff:ffff::"));
    assert!(matches!(registry.user_add(by(NOW), "v"), Err(Error::Exhausted(Kind::User))));
}
