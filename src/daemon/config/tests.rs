use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::crypto::identity::PrivateKey;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("me.key");
        std::fs::write(&key, PrivateKey::from_seed(&[1; 32]).to_pem().as_bytes()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("domicile.toml")
    }

    fn check(&self, text: &str) -> Result<Config, String> {
        check_text(&self.path(), text).map_err(|problems| problems.to_string())
    }
}

const ENTITY: &str = r#"
[[entity]]
name = "me"
address = "2002:808:808:1::10"
key_file = "me.key"
"#;

fn peer(extra: &str) -> String {
    let key = PrivateKey::from_seed(&[2; 32]).public();
    format!(
        "{ENTITY}\n[[peer]]\nname = \"you\"\naddress = \"2002:909:909:1::20\"\npublic_key = \"{key}\"\n{extra}\n"
    )
}

#[test]
fn a_small_file_has_good_defaults() {
    let place = Place::new();
    let config = place.check(&peer("")).unwrap();
    assert_eq!(config.peers[0].endpoint, Some("9.9.9.9:4500".parse().unwrap()));
    assert_eq!((config.port, config.ike_port, config.mtu), (4500, 500, 1380));
    assert_eq!(config.routed(), ["2002::/16".parse().unwrap()]);
    let node = config.to_node(false);
    assert_eq!(node.peers.len(), 1);
    assert!(node.ike.pad.find("2002:909:909:1::20".parse().unwrap()).is_some());
}

#[test]
fn problems_have_a_place() {
    let place = Place::new();
    let cases = [
        (peer("endpont = \"x\""), ":11:1: unknown field `endpont`"),
        (peer("endpoint = \"1.2.3.4\""), ":11:12: \"1.2.3.4\" is not IP:PORT"),
        (peer("connect = \"never\""), ":11:11: connect = \"never\" is unknown"),
        (peer("[node]\nmtu = 9000"), ":12:7: mtu = 9000 is not between 1280 and 1400"),
        (peer("[ike]\nrekey = \"soon\""), ":12:9: \"soon\" is not a duration"),
        (peer("[ike]\nreauthenticate = \"48h\""), ":12:18: reauthenticate must be shorter"),
        (peer("[esp]\nsuites = [\"rot13\"]"), ":12:11: \"rot13\" is not a suite"),
        (
            peer("[[policy]]\nremote = \"2002::/15\"\naction = \"maybe\""),
            ":13:10: action = \"maybe\" is unknown",
        ),
        (peer("[[policy]]\nremote = \"2002:1::/16\"\naction = \"discard\""), ":12:10: 2002:1::/16 has bits"),
        (ENTITY.replace("me.key", "no.key"), ":5:12: "),
        (
            ENTITY.replace("2002:808:808:1::10", "2002:a00:1:1::10"),
            ":4:11: the home of 2002:a00:1:1::10 would be 10.0.0.1",
        ),
        (format!("{ENTITY}{ENTITY}"), ":9:11: 2002:808:808:1::10 belongs to \"me\" already"),
        (String::new(), "there is no [[entity]]"),
        ("[node\n".to_owned(), ":1:"),
    ];
    for (text, expected) in cases {
        let told = place.check(&text).unwrap_err();
        assert!(told.contains(expected), "{expected:?} is not in:\n{told}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let place = Place::new();
    let told = place.check(&peer("connect = \"x\"\n[node]\nmtu = 1\n[ike]\ndpd = \"1ms\"")).unwrap_err();
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    let place = Place::new();
    let key = place.dir.path().join("me.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = place.check(ENTITY).unwrap_err();
    assert!(told.contains("can be read by others") && told.contains("chmod 600"), "{told}");
}

#[test]
fn peers_are_added_and_removed_without_losing_a_comment() {
    let place = Place::new();
    std::fs::write(place.path(), format!("# mine\n{ENTITY}\n# the end\n")).unwrap();
    let new = edit::NewPeer {
        name: "you".into(),
        address: "2002:909:909:1::20".into(),
        public_key: Some(PrivateKey::from_seed(&[2; 32]).public().to_string()),
        ..edit::NewPeer::default()
    };
    edit::add_peer(&place.path(), &new).unwrap();
    let text = std::fs::read_to_string(place.path()).unwrap();
    assert!(text.contains("# mine") && text.contains("# the end") && text.contains("[[peer]]"), "{text}");
    assert!(load(&place.path()).is_ok());
    assert!(matches!(edit::add_peer(&place.path(), &new), Err(edit::EditError::Refused(_))));
    let bad = edit::NewPeer { name: "bad".into(), address: "nonsense".into(), ..new };
    assert!(matches!(edit::add_peer(&place.path(), &bad), Err(edit::EditError::Invalid(_))));
    edit::remove_peer(&place.path(), "you").unwrap();
    assert!(matches!(edit::remove_peer(&place.path(), "you"), Err(edit::EditError::Refused(_))));
    assert!(std::fs::read_to_string(place.path()).unwrap().contains("# mine"));
}
