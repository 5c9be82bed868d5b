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
    let node = config.to_node(
        false,
        &crate::daemon::trust::remembered(crate::pki::TrustStore::default()),
        None,
        &BTreeMap::new(),
    );
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
        (peer("[node]\nmtu = 9001"), ":12:7: mtu = 9001 is not between 1280 and 9000"),
        (peer("[node]\nqueues = 0"), ":12:10: queues = 0 is not between 1 and 32"),
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
fn one_mistake_hides_no_other() {
    let place = Place::new();
    let text = r#"
colour = "green"
[node]
prot = 4500
mtu = "wide"
port = 70000
[[entity]]
name = "me"
adress = "2002:808:808:1::10"
key_file = 7
[[peer]]
name = "you"
address = "nonsense"
[peer.more]
[[policy]]
action = "maybe"
[ike]
suites = [1, "rot13"]
rekey = "soon"
[policies]
"#;
    let told = place.check(text).unwrap_err();
    let wanted = [
        ":2:1: unknown field `colour`",
        ":4:1: unknown field `prot`",
        ":5:7: mtu cannot be string \"wide\": write a number from 0 to 65535",
        ":6:8: port cannot be integer `70000`: write a number from 0 to 65535",
        ":7:1: this [[entity]] has no address",
        ":9:1: unknown field `adress`",
        ":10:12: key_file cannot be integer `7`: write a text in quotes",
        ":12:8: peer \"you\" needs a public_key",
        ":13:11: \"nonsense\" is not an IPv6 address",
        ":14:7: unknown field `more`",
        ":15:1: this [[policy]] has no remote",
        ":16:10: action = \"maybe\" is unknown",
        ":18:11: suites cannot be integer `1`: write a text in quotes",
        ":18:14: \"rot13\" is not a suite",
        ":19:9: \"soon\" is not a duration",
        ":20:2: unknown field `policies`",
    ];
    for (line, wanted) in told.lines().zip(wanted) {
        assert!(line.contains(wanted), "{wanted:?} is not in {line:?} of:\n{told}");
    }
    assert_eq!(told.lines().count(), wanted.len(), "{told}");
}

#[test]
fn what_is_not_toml_hides_nothing_behind_it() {
    let place = Place::new();
    let told = place.check("[node]\nport = = 3\nmtu = 1\nmtu = 2\n[[peer]\nx = 1\n").unwrap_err();
    for wanted in
        [":2:8: ", ":3:7: mtu = 1 is not between", ":4:1: duplicate key", ":5:", ":6:1: unknown field `x`"]
    {
        assert!(told.contains(wanted), "{wanted:?} is not in:\n{told}");
    }
    assert!(!told.contains("there is no [[entity]]"), "what is missing may have been misread:\n{told}");
}

#[test]
fn two_brackets_where_there_can_be_several() {
    let told = Place::new().check("[entity]\nname = \"me\"\n").unwrap_err();
    assert!(
        told.contains(":1:1: there can be several of these: write [[entity]] with two brackets"),
        "{told}"
    );
}

#[test]
fn no_duration_is_too_long_for_a_clock() {
    let place = Place::new();
    for key in [
        "ike.rekey",
        "ike.reauthenticate",
        "ike.maximum_age",
        "ike.dpd",
        "ike.retransmit_first",
        "ike.nat_keepalive",
        "esp.rekey",
    ] {
        for value in ["300000000000years", "999999999999999999999999s", "18446744073709551615s", "2years"] {
            let told = place.check(&format!("{key} = \"{value}\"\n{}", peer(""))).unwrap_err();
            assert!(told.contains(&format!("\"{value}\" is too long: write at most")), "{key}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
        let told = place.check(&format!("{key} = \"0s\"\n{}", peer(""))).unwrap_err();
        assert!(told.contains("is too short: write at least"), "{key}: {told}");
    }
    assert!(place.check(&peer("[ike]\nmaximum_age = \"365d\"")).is_ok());
    for jitter in ["nan", "inf", "-0.1", "0.6"] {
        let told = place.check(&peer(&format!("[esp]\njitter = {jitter}"))).unwrap_err();
        assert!(told.contains("is not between 0 and 0.5"), "{told}");
    }
}

#[test]
fn an_sa_is_replaced_before_it_ends() {
    let place = Place::new();
    for (text, wanted) in [
        ("[ike]\nrekey = \"24h\"", ":12:9: [ike] rekey must be shorter than maximum_age"),
        ("[ike]\nrekey = \"30h\"\nreauthenticate=\"40h\"\nmaximum_age = \"48h\"", ""),
        ("[ike]\nrekey = \"20h\"", ":12:9: [ike] rekey must be shorter than reauthenticate"),
        ("[ike]\nrekey = \"2h\"\nreauthenticate = \"1h\"", ":12:9: [ike] rekey must be shorter than reauth"),
        ("[ike]\nreauthenticate = \"1h\"\n[esp]\nrekey = \"1h\"", ":14:9: [esp] rekey must be shorter than"),
        ("[ike]\nreauthenticate = \"1h\"\nmaximum_age = \"1h\"", ":12:18: reauthenticate must be shorter"),
    ] {
        match place.check(&peer(text)) {
            Ok(_) => assert_eq!(wanted, "", "{text} was accepted"),
            Err(told) => {
                assert!(told.contains(wanted) && told.lines().count() == 1, "{wanted:?} is not in: {told}")
            }
        }
    }
}

#[test]
fn lifetimes_that_are_not_written_follow_those_that_are() {
    let place = Place::new();
    let of = |text: &str| place.check(&peer(text)).unwrap().lifetimes;
    assert_eq!(of(""), Lifetimes::default());
    let short = of("[ike]\nmaximum_age = \"1h\"");
    assert!(
        short.ike_rekey < short.reauth && short.child_rekey < short.reauth && short.reauth < short.ike_max
    );
}

#[test]
fn what_cannot_work_is_refused() {
    let place = Place::new();
    let own = PrivateKey::from_seed(&[1; 32]).public();
    let other = PrivateKey::from_seed(&[2; 32]).public();
    let long = "x".repeat(200);
    for (text, wanted) in [
        (peer("endpoint = \"9.9.9.9:0\""), ":11:12: port 0 is no port"),
        (peer("endpoint = \"0.0.0.0:4500\""), ":11:12: 0.0.0.0 is nobody's address"),
        (
            peer("[[home]]\nprefix = \"2002:909:909::/48\"\nendpoint = \"9.9.9.9:0\""),
            ":13:12: port 0 is no port",
        ),
        (
            peer("").replace(&other.to_string(), &own.to_string()),
            ":10:14: this is the key of \"me\", which is this machine",
        ),
        (
            peer(&format!("[node]\ncontrol_socket = \"/{long}\"")),
            ":12:18: control_socket is not the path of a socket",
        ),
        (ENTITY.replace("\"me\"", "\"-me\""), ":3:8: \"-me\" is not a name"),
        (ENTITY.replace("2002:808:808:1::10", "fe80::1"), ":4:11: fe80::1 cannot be a permanent address"),
    ] {
        let told = place.check(&text).unwrap_err();
        assert!(told.contains(wanted) && told.lines().count() == 1, "{wanted:?} is not in:\n{told}");
    }
}

#[test]
fn the_cpu_decides_the_order_of_suites_where_the_file_does_not() {
    let place = Place::new();
    let order = |text: &str, fast_aes: bool| {
        let config = check::check(&place.path(), text, fast_aes).unwrap();
        (config.esp_suites.iter().map(|suite| suite.name()).collect::<Vec<_>>().join(" "), config.esp_yields)
    };
    let told = |text: &str, yields: bool| (text.to_owned(), yields);
    let aes = "aes-256-gcm-iiv chacha20-poly1305-iiv aes-256-gcm chacha20-poly1305";
    let chacha = "chacha20-poly1305-iiv aes-256-gcm-iiv chacha20-poly1305 aes-256-gcm";
    assert_eq!(order(&peer(""), true), told(aes, true));
    assert_eq!(order(&peer(""), false), told(chacha, false));
    let configured = peer("[esp]\nsuites = [\"chacha20-poly1305\", \"aes-256-gcm\"]");
    for fast_aes in [true, false] {
        assert_eq!(order(&configured, fast_aes), told("chacha20-poly1305 aes-256-gcm", false));
    }
    let config = check::check(&place.path(), &peer(""), true).unwrap();
    let trust = crate::daemon::trust::remembered(crate::pki::TrustStore::default());
    let node = config.to_node(false, &trust, None, &BTreeMap::new());
    assert_eq!((node.ike.esp_suites, node.ike.esp_yields), (config.esp_suites, true));
}

proptest::proptest! {
    /// Whatever happens to a file, checking it ends in an answer.
    #[test]
    fn no_text_is_too_strange(cuts in proptest::collection::vec((0..1000usize, 0..8usize, ".{0,6}"), 0..6)) {
        let mut text = peer("[ike]\nrekey = \"1h\"\nsuites = [\"aes-256-gcm\"]\n[node]\nport = 1\n[[policy]]\nremote = \"::/0\"");
        for (at, len, new) in cuts {
            let from = text.floor_char_boundary(at % (text.len() + 1));
            let to = text.ceil_char_boundary((from + len).min(text.len()));
            text.replace_range(from..to, &new);
        }
        if let Err(problems) = check_text(Path::new("/nowhere/domicile.toml"), &text) {
            proptest::prop_assert!(!problems.list.is_empty());
        }
    }
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
fn a_file_behind_a_link_is_changed_where_it_is() {
    let place = Place::new();
    let target = place.dir.path().join("elsewhere").join("real.toml");
    std::fs::create_dir(target.parent().unwrap()).unwrap();
    std::fs::write(&target, ENTITY.replace("me.key", place.dir.path().join("me.key").to_str().unwrap()))
        .unwrap();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o664)).unwrap();
    std::os::unix::fs::symlink("elsewhere/real.toml", place.path()).unwrap();
    let new = edit::NewPeer {
        name: "you".into(),
        address: "2002:909:909:1::20".into(),
        public_key: Some(PrivateKey::from_seed(&[2; 32]).public().to_string()),
        ..edit::NewPeer::default()
    };
    edit::add_peer(&place.path(), &new).unwrap();
    assert!(std::fs::symlink_metadata(place.path()).unwrap().is_symlink());
    assert!(std::fs::read_to_string(&target).unwrap().contains("[[peer]]"));
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o664);
    let left = std::fs::read_dir(target.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "nothing is left beside it");
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
    assert!(matches!(edit::add_peer(&place.path(), &bad), Err(edit::EditError::Entry(_))));
    edit::remove_peer(&place.path(), "you").unwrap();
    assert!(matches!(edit::remove_peer(&place.path(), "you"), Err(edit::EditError::Refused(_))));
    assert!(std::fs::read_to_string(place.path()).unwrap().contains("# mine"));
}

#[test]
fn an_entity_is_removed_and_files_that_others_have_too_stay() {
    let place = Place::new();
    let entity = |name: &str, number: u8, certificate: &str| {
        format!(
            "[[entity]]\nname = \"{name}\"\naddress = \"2002:909:909:1:0:1:0:{number}\"\nkey_file = \"me.key\"\n{certificate}\n"
        )
    };
    let text = format!("# mine\n{ENTITY}\n{}", entity("second", 2, "certificate = \"second.pem\""));
    std::fs::write(place.path(), &text).unwrap();
    let files = edit::entity_files(&place.path(), "second").unwrap();
    assert_eq!(files, [place.path().parent().unwrap().join("second.pem")]);
    assert!(edit::entity_files(&place.path(), "third").unwrap().is_empty());
    // A file with problems is left as it is: the certificate is not there.
    assert!(edit::remove_entity(&place.path(), "second").is_err());
    let text = format!("# mine\n{ENTITY}\n{}", entity("second", 2, ""));
    std::fs::write(place.path(), text).unwrap();
    edit::remove_entity(&place.path(), "second").unwrap();
    assert!(matches!(edit::remove_entity(&place.path(), "second"), Err(edit::EditError::Refused(_))));
    let left = std::fs::read_to_string(place.path()).unwrap();
    assert!(left.contains("# mine") && !left.contains("second"), "{left}");
    // Never the last one.
    assert!(load(&place.path()).is_ok());
}

const EXAMPLE: &str = include_str!("../../../docs/example.toml");

#[test]
fn the_example_has_every_key_that_there_is() {
    for section in [
        "",
        "[node]",
        "[[entity]]",
        "[[home]]",
        "[[trust]]",
        "[home_agent]",
        "[[peer]]",
        "[[policy]]",
        "[ike]",
        "[esp]",
    ] {
        let told = Place::new().check(&format!("{section}\nzzz = 1\n")).unwrap_err();
        let known = told.lines().find_map(|line| line.split_once("unknown field `zzz`, expected")).unwrap().1;
        let part = EXAMPLE.split(section).skip(1).map(|rest| rest.split("\n[").next().unwrap_or_default());
        let part: String = if section.is_empty() { EXAMPLE.to_owned() } else { part.collect() };
        for key in known.split('`').skip(1).step_by(2) {
            let line = |line: &str| {
                line.trim_start_matches("# ").trim_matches(['[', ']']).split(" = ").next() == Some(key)
            };
            assert!(part.lines().any(line), "{section} {key} is not in docs/example.toml");
        }
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let place = Place::new();
    let beside = |name: &str, text: &[u8]| {
        std::fs::write(place.dir.path().join(name), text).unwrap();
        std::fs::set_permissions(place.dir.path().join(name), std::fs::Permissions::from_mode(0o600))
            .unwrap();
    };
    beside("server.key", PrivateKey::from_seed(&[1; 32]).to_pem().as_bytes());
    beside("office.psk", b"a secret of good length");
    let shown = place.check(EXAMPLE).unwrap();
    let mut default = place.check(&peer("")).unwrap();
    (default.entities, default.peers, default.spd) =
        (shown.entities.clone(), shown.peers.clone(), Arc::clone(&shown.spd));
    default.home_directory.clone_from(&shown.home_directory);
    default.homes = shown.homes.clone();
    assert_eq!(format!("{shown:?}"), format!("{default:?}"));
}

mod certificates {
    use super::*;
    use crate::pki::{Authority, Kind, LeafRequest, TrustError, pem};
    use crate::policy::certificates::Certificates as _;
    use crate::policy::pad::Proof;

    const TRUST: &str = "\n[[trust]]\nroot = \"root.pem\"\n";

    /// Any time: the check of a configuration does not look at the clock.
    const NOW: u64 = 1_800_000_000;

    fn authority(seed: u8) -> Authority {
        let prefix = "2002:808:808::/48".parse().unwrap();
        Authority::create(PrivateKey::from_seed(&[seed; 32]), prefix, None, NOW, [seed; 16]).unwrap()
    }

    fn leaf(address: &str, key: u8) -> Vec<u8> {
        let key = PrivateKey::from_seed(&[key; 32]).public();
        let address = address.parse().unwrap();
        let request = LeafRequest { address, name: None, kind: Kind::Device, key, lifetime: 3600 };
        authority(1).issue(&request, NOW, [3; 16]).unwrap().der
    }

    fn place(leaf: &[u8]) -> Place {
        let place = Place::new();
        let write = |file: &str, der: &[u8]| {
            std::fs::write(place.dir.path().join(file), pem::encode(der).unwrap()).unwrap();
        };
        write("root.pem", authority(1).root().der());
        write("other.pem", authority(2).root().der());
        write("me.pem", leaf);
        place
    }

    fn certified() -> String {
        format!("{ENTITY}certificate = \"me.pem\"\n{TRUST}")
    }

    #[test]
    fn a_certificate_and_a_trusted_home() {
        let place = place(&leaf("2002:808:808:1::10", 1));
        let other = "\n[[peer]]\nname = \"you\"\naddress = \"2002:808:808:1::20\"\n";
        let config = place.check(&(certified() + other)).unwrap();
        assert!(matches!(config.peers[0].proof, Proof::Certificate));
        let trust = crate::daemon::trust::remembered(crate::pki::TrustStore::default());
        crate::daemon::trust::apply(&config, &trust).unwrap();
        assert_eq!(trust.own_certificates()[0].leaf.address, config.entities[0].address);
        let unlisted = "2002:808:808:1::30".parse().unwrap();
        let node = config.to_node(false, &trust, None, &BTreeMap::new());
        assert!(trust.accepts(unlisted) && node.ike.pad.find(unlisted).is_some());
        // Another root for the same prefix changes nothing; a home that is no longer named is forgotten.
        let false_home = place.check(&certified().replace("root.pem", "other.pem")).unwrap();
        let refused = crate::daemon::trust::apply(&false_home, &trust);
        assert!(matches!(refused, Err(TrustError::AnotherRoot { .. })));
        assert!(trust.accepts(unlisted));
        // With its fingerprint it is meant, and takes the place of the first.
        let meant = format!(
            "{}fingerprint = \"{}\"\n",
            certified().replace("root.pem", "other.pem"),
            authority(2).root().fingerprint()
        );
        let replaced = crate::daemon::trust::apply(&place.check(&meant).unwrap(), &trust).unwrap();
        assert_eq!(replaced, [authority(2).root().prefix()]);
        assert_eq!(trust.read(|store| store.homes().next().unwrap().root.key()), authority(2).root().key());
        let plain = place.check(ENTITY).unwrap();
        crate::daemon::trust::apply(&plain, &trust).unwrap();
        assert!(!trust.accepts(unlisted) && trust.own_certificates().is_empty());
    }

    /// A new key waits until the certificate is for it; from then on it is the key, whatever has become of the files.
    #[test]
    fn a_key_follows_another_and_the_old_ones_vouch_for_it() {
        use crate::pki::endorsement::leads;
        let place = place(&leaf("2002:808:808:1::10", 1));
        let path = |name: &str| place.dir.path().join(name);
        let key = |seed: u8| PrivateKey::from_seed(&[seed; 32]).public();
        let wait = |seed: u8| {
            std::fs::write(path("me.key.next"), PrivateKey::from_seed(&[seed; 32]).to_pem().as_bytes())
                .unwrap();
            std::fs::set_permissions(path("me.key.next"), std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let entity = || place.check(&certified()).unwrap().entities.remove(0);
        assert!(entity().endorsements().is_empty() && entity().next.is_none());
        for seed in 2..8 {
            wait(seed);
            let before = entity();
            assert_eq!(before.key.public(), key(seed - 1));
            assert_eq!(before.next.map(|next| next.public()), Some(key(seed)));
            // It was certified, and then the power went.
            std::fs::write(path("me.pem"), pem::encode(&leaf("2002:808:808:1::10", seed)).unwrap()).unwrap();
            let torn = entity();
            assert_eq!((torn.key.public(), torn.next.is_none()), (key(seed), true));
            place.check(&certified()).unwrap().settle_keys().unwrap();
            assert!(!path("me.key.next").exists());
            let after = entity();
            let endorsements = after.endorsements();
            let vouches = |old: u8| leads(after.address, key(old), key(seed), &endorsements);
            assert!((seed.saturating_sub(4).max(1)..seed).all(vouches), "the last four vouch for it");
            assert!(!vouches(99) && (seed < 6 || !vouches(seed - 5)));
            assert_eq!(torn.endorsements(), endorsements);
            for name in ["me.key", "me.key.old"] {
                let mode = std::fs::metadata(path(name)).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{name}");
            }
        }
        std::fs::set_permissions(path("me.key.old"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let told = place.check(&certified()).unwrap_err();
        assert!(told.contains("me.key.old: it can be read by others"), "{told}");
    }

    #[test]
    fn files_that_do_not_fit_are_told() {
        let good = leaf("2002:808:808:1::10", 1);
        for (leaf, change, wanted) in [
            (
                leaf("2002:808:808:1::11", 1),
                None,
                ":6:15: the certificate in me.pem is for 2002:808:808:1::11",
            ),
            (leaf("2002:808:808:1::10", 2), None, ":6:15: the certificate in me.pem is for another key"),
            (good.clone(), Some(("me.pem", "no.pem")), "no.pem: No such file"),
            (
                good.clone(),
                Some(("me.pem", "me.key")),
                ":6:15: me.key: this is not a readable X.509 certificate",
            ),
            (good.clone(), Some(("me.pem", "root.pem")), ":6:15: root.pem: "),
            (
                good.clone(),
                Some(("root.pem", "me.pem")),
                ":9:8: me.pem: this certificate is not the root of a home",
            ),
            (good.clone(), Some(("root = ", "roof = ")), "unknown field `roof`"),
            (
                good.clone(),
                Some(("root = ", "fingerprint = \"0000\"\nroot = ")),
                ": the root in root.pem has the fingerprint",
            ),
            (
                good.clone(),
                Some(("[[trust]]", "[node]\npin = \"loose\"\n[[trust]]")),
                ":9:7: pin = \"loose\" is unknown",
            ),
            (
                good.clone(),
                Some(("[[trust]]", "[[trust]]\nroot = \"other.pem\"\n[[trust]]")),
                "has a [[trust]] entry already",
            ),
        ] {
            let text = change.map_or_else(certified, |(from, to)| certified().replace(from, to));
            let told = place(&leaf).check(&text).unwrap_err();
            assert!(told.contains(wanted), "{wanted:?} is not in:\n{told}");
        }
        let elsewhere = "\n[[peer]]\nname = \"you\"\naddress = \"2002:909:909:1::20\"\n";
        let told = place(&good).check(&(certified() + elsewhere)).unwrap_err();
        assert!(told.contains("peer \"you\" needs a public_key") && told.contains("[[trust]]"), "{told}");
    }
}

#[test]
fn an_address_belongs_to_one_user() {
    let place = Place::new();
    assert_eq!(place.check(ENTITY).unwrap().owners(), []);
    let config = place.check(&format!("{ENTITY}uid = 1000")).unwrap();
    assert_eq!(config.owners(), [("2002:808:808:1::10".parse().unwrap(), 1000)]);
    let second = "[[entity]]\nname = \"other\"\naddress = \"2002:808:808:1::11\"\nkey_file = \"me.key\"\n";
    let config = place.check(&format!("{ENTITY}uid = 1000\n{second}uid = 1001")).unwrap();
    assert_eq!(config.owners().len(), 2);
    let cases = [
        (format!("{ENTITY}uid = 0"), ":6:7: root cannot own an address"),
        (format!("{ENTITY}user = \"root\""), ":6:8: root cannot own an address"),
        (format!("{ENTITY}uid = 4294967295"), "is nobody's number"),
        (format!("{ENTITY}uid = -1"), ":6:7: uid cannot be integer `-1`"),
        (format!("{ENTITY}user = \"no such user\""), ":6:8: this machine has no user \"no such user\""),
        (format!("{ENTITY}uid = 1000\nuser = \"root\""), ":7:8: an entity has either uid or user"),
        (format!("{ENTITY}uid = 1000\n{second}uid = 1000"), ":11:7: uid 1000 owns \"me\" already"),
    ];
    for (text, expected) in cases {
        let said = place.check(&text).unwrap_err();
        assert!(said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn nobody_is_reached_at_a_home_or_at_ourselves() {
    let place = Place::new();
    let entry = "[[home]]\nprefix = \"fd00:1::/48\"\nendpoint = \"7.7.7.7:4500\"\n";
    let mut config = place.check(&format!("{ENTITY}{entry}")).unwrap();
    config.home_prefix = Some("2002:808:808::/48".parse().unwrap());
    let care_of = config.home_agent().unwrap().care_of;
    for (address, allowed) in [("8.8.8.8:4500", false), ("7.7.7.7:4500", false), ("1.1.1.1:4500", true)] {
        assert_eq!(care_of.allows(address.parse().unwrap()), allowed, "{address}");
    }
}

#[test]
fn a_home_says_how_much_it_relays() {
    let place = Place::new();
    let limits = |lines: &str| place.check(&format!("{ENTITY}\n[home_agent]\n{lines}\n"));
    assert_eq!(limits("").unwrap().relay_limits, Limits::default());
    let given = limits("relay_member_bytes = 20000\nrelay_source_bytes = 30000").unwrap().relay_limits;
    assert_eq!((given.binding.per_second, given.source.per_second), (20_000, 30_000));
    let refused = limits("relay_member_bytes = 0").unwrap_err();
    assert!(refused.contains("relay_member_bytes = 0 is not between"), "{refused}");
}
