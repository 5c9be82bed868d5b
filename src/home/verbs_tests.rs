use serde_json::{Value, json};

use super::*;
use crate::crypto::identity::PrivateKey;
use crate::home::entity::{Grant, Issued};
use crate::home::registry::Request;
use std::net::Ipv4Addr;

const BY: By<'static> = By { now: 1_800_000_000, who: "uid 0" };

struct Desk {
    _dir: tempfile::TempDir,
    registry: Registry,
    random: u8,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::open(&dir.path().join("home.db")).unwrap();
        registry.init(BY, "2002:c633:6401::/48".parse().unwrap(), Some("home.example.org")).unwrap();
        Self { _dir: dir, registry, random: 0 }
    }

    /// As the control socket does it: JSON in, JSON out.
    fn ask(&mut self, request: Value) -> (Value, Vec<Effect>) {
        let outcome = self.try_to(serde_json::from_value(request).unwrap()).unwrap();
        (serde_json::to_value(&outcome.reply).unwrap(), outcome.effects)
    }

    fn refused(&mut self, request: Value) -> ErrorReply {
        self.try_to(serde_json::from_value(request).unwrap()).unwrap_err()
    }

    fn try_to(&mut self, request: HomeRequest) -> Result<Outcome, ErrorReply> {
        self.random += 1;
        let mut issue = |grant: &Grant| {
            let certificate = grant.key.as_bytes().to_vec();
            Ok(Issued { serial: "01".to_owned(), not_before: 0, not_after: 1, certificate })
        };
        answer(&mut self.registry, BY, [self.random; RANDOM_LEN], request, &mut issue)
    }
}

#[test]
fn a_home_is_run_through_documents() {
    let mut desk = Desk::new();
    let (alice, effects) = desk.ask(json!({ "verb": "user-add", "name": "alice" }));
    assert_eq!(
        (&alice["address"], &alice["full_name"]),
        (&json!("2002:c633:6401:1:0:1::"), &json!("alice.home.example.org"))
    );
    assert_eq!(effects, [Effect::Changed]);
    desk.ask(json!({ "verb": "node-add", "name": "server1" }));
    desk.ask(json!({ "verb": "node-add", "name": "server2" }));
    let (web, _) = desk.ask(json!({ "verb": "service-add", "name": "web", "node": "server1" }));
    assert_eq!((&web["node"], &web["moved"]), (&json!("server1"), &json!(false)));
    let (hidden, _) =
        desk.ask(json!({ "verb": "service-add", "name": "db", "node": "server1", "random": true }));
    assert_eq!(hidden["address"], json!("2002:c633:6401:100:4505:505:505:505"));
    let (moved, effects) = desk.ask(json!({ "verb": "move", "service": "web", "node": "server2" }));
    assert_eq!(moved["moved"], json!(true));
    let address: Ipv6Addr = "2002:c633:6401:100::2".parse().unwrap();
    let [before, after] =
        ["2002:c633:6401:100::1", "2002:c633:6401:101::1"].map(|node| node.parse().unwrap());
    let hosted = [Effect::Hosted(before), Effect::Hosted(after)];
    let lost = [Effect::Changed, Effect::Cut(address), Effect::Unbind(address.into())];
    assert_eq!(effects, [&lost[..], &hosted[..]].concat());
    let (_, again) = desk.ask(json!({ "verb": "move", "service": "web", "node": "server2" }));
    let cuts = |effect: &Effect| matches!(effect, Effect::Cut(_) | Effect::Unbind(_));
    assert!(!again.iter().any(cuts), "it is there already: {again:?}");
    let (invite, _) =
        desk.ask(json!({ "verb": "invite", "whom": "alice", "device": "laptop", "lifetime": 3600 }));
    let code: crate::home::code::Code = invite["code"].as_str().unwrap().parse().unwrap();
    let key = PrivateKey::from_seed(&[1; 32]).public();
    let mut issue =
        |_: &Grant| Ok(Issued { serial: "02".to_owned(), not_before: 0, not_after: 1, certificate: vec![7] });
    desk.registry.redeem(BY, &code.lookup_id(), &key, None, &mut issue).unwrap();
    let (detail, _) = desk.ask(json!({ "verb": "show", "who": "alice" }));
    assert_eq!(detail["members"][0]["name"], json!("laptop.alice"));
    assert_eq!(
        (&detail["entity"]["holder"], &detail["names"][0]["name"]),
        (&json!("laptop.alice"), &json!("alice"))
    );
    let strongswan = PrivateKey::from_seed(&[3; 32]).public();
    let (node, effects) =
        desk.ask(json!({ "verb": "key-set", "who": "server2", "public_key": strongswan.to_pem() }));
    assert_eq!((&node["fingerprint"], effects.len()), (&json!(strongswan.fingerprint()), 2));
    // Somebody asks without a code.
    let other = PrivateKey::from_seed(&[2; 32]).public();
    let source = Ipv4Addr::new(192, 0, 2, 7);
    desk.registry
        .request(BY.now, Request { key: &other, wanted: "alice", label: Some("phone"), source })
        .unwrap();
    let (pending, _) = desk.ask(json!({ "verb": "pending" }));
    assert_eq!(pending[0]["fingerprint"], json!(other.fingerprint()));
    let (phone, _) = desk.ask(json!({ "verb": "pending-accept", "which": other.fingerprint() }));
    assert_eq!(phone["name"], json!("phone.alice"));
    let floating: Ipv6Addr = "2002:c633:6401:1:0:1::".parse().unwrap();
    let (_, effects) = desk.ask(json!({ "verb": "take", "device": "phone.alice" }));
    assert_eq!(effects[1], Effect::Cut(floating));
    assert_eq!(desk.ask(json!({ "verb": "take", "device": "phone.alice" })).1, [Effect::Changed]);
    let (_, effects) = desk.ask(json!({ "verb": "device-revoke", "device": "phone.alice" }));
    assert!(effects.contains(&Effect::Cut("2002:c633:6401:1:0:1:0:2".parse().unwrap())));
    let (gone, effects) = desk.ask(json!({ "verb": "remove", "who": "alice", "kind": "user" }));
    assert_eq!((gone.as_array().unwrap().len(), effects.len()), (2, 5));
    let (info, _) = desk.ask(json!({ "verb": "info" }));
    assert_eq!((&info["users"], &info["services"], &info["nodes"]), (&json!(0), &json!(2), &json!(2)));
    assert_eq!(
        desk.ask(json!({ "verb": "list", "kind": "device", "removed": true })).0.as_array().unwrap().len(),
        2
    );
    assert_eq!(
        desk.ask(json!({ "verb": "issued", "from": 2, "limit": 9 })).0[0]["name"],
        json!("phone.alice.home.example.org")
    );
    assert_eq!(desk.ask(json!({ "verb": "log", "limit": 1 })).0[0]["verb"], json!("user remove"));
    let done = desk.ask(json!({ "verb": "issued-verify" })).0;
    assert_eq!(done["message"], json!("2 certificates were issued, and the chain is whole"));
}

#[test]
fn refusals_say_what_to_do() {
    let mut desk = Desk::new();
    desk.ask(json!({ "verb": "user-add", "name": "alice" }));
    let cases = [
        (json!({ "verb": "user-add", "name": "alice" }), "name", "there is a user named \"alice\" already"),
        (json!({ "verb": "show", "who": "bob" }), "name", "nothing named \"bob\""),
        (json!({ "verb": "remove", "who": "alice", "kind": "node" }), "request", "\"alice\" is a user"),
        (
            json!({ "verb": "key-set", "who": "alice", "public_key": "x" }),
            "request",
            "this is not a public key",
        ),
        (json!({ "verb": "list", "kind": "cat" }), "request", "no entities of this kind"),
        (json!({ "verb": "backup", "file": "here.db" }), "request", "whole paths only"),
        (json!({ "verb": "restore", "file": "/no/such/file" }), "registry", "/no/such/file"),
        (json!({ "verb": "pending-refuse", "which": "7" }), "name", "no request to join waits under \"7\""),
        (json!({ "verb": "invitation-withdraw", "id": 7 }), "request", "there is no open invitation 7"),
        (json!({ "verb": "invite", "whom": "alice", "lifetime": u64::MAX }), "request", "at most 90 days"),
    ];
    for (request, stage, words) in cases {
        let error = desk.refused(request.clone());
        assert_eq!(error.stage, stage, "{request}");
        assert!(error.error.contains(words), "{}", error.error);
    }
    for wrong in
        [json!({ "verb": "fly" }), json!({ "verb": "info", "more": 1 }), json!({ "verb": "user-add" })]
    {
        assert!(serde_json::from_value::<HomeRequest>(wrong).is_err());
    }
}

#[test]
fn backup_and_restore_through_documents() {
    let mut desk = Desk::new();
    desk.ask(json!({ "verb": "user-add", "name": "alice" }));
    let file = desk._dir.path().join("backup.db").display().to_string();
    let (made, _) = desk.ask(json!({ "verb": "backup", "file": file }));
    desk.ask(json!({ "verb": "user-add", "name": "bob" }));
    let (restored, effects) = desk.ask(json!({ "verb": "restore", "file": file }));
    assert_eq!((made, effects), (restored, vec![Effect::Restored]));
    assert_eq!(desk.ask(json!({ "verb": "list" })).0.as_array().unwrap().len(), 1);
}
