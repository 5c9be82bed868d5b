//! The real program, as a person uses it: what works, and what it says when something does not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::Path;
use std::process::{Command, Output};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_domicile"))
            .args(args)
            .env("DOMICILE_CONFIG", self.path("domicile.toml"))
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Fails with this code, and one sentence that has all the parts.
    fn fails(&self, args: &[&str], code: i32, parts: &[&str]) {
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?} says: {said}");
        for part in parts {
            assert!(said.contains(part), "{args:?}: {part:?} is not in: {said}");
        }
        assert!(output.stdout.is_empty(), "mistakes go to standard error");
    }

    fn initialised() -> Self {
        let place = Self::new();
        place.ok(&["init", "--name", "left", "--home", "8.8.8.8"]);
        place
    }
}

const OTHER_KEY: &str = "tu0NZNtXCJ44BPsh3t1yY+tT9GL26LlQsbdf5yC4gQ0=";
const OTHER: &str = "2002:909:909:100::1";

#[test]
fn init_leads_to_a_configuration_that_works() {
    let place = Place::new();
    let told = place.ok(&["init", "--name", "left", "--home", "8.8.8.8"]);
    let key = place.ok(&["key", "show"]);
    assert!(told.contains("domicile peer add left 2002:808:808:100::1 --public-key"), "{told}");
    assert!(told.contains(key.trim()), "{told}");
    assert!(place.ok(&["check"]).contains("is valid: 1 entity, 0 peers"));
    let mode = |name: &str| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(place.path(name)).unwrap().permissions())
            & 0o777
    };
    assert_eq!((mode("left.key"), mode("domicile.toml")), (0o600, 0o600));
    assert!(place.ok(&["key", "show", "--pem"]).starts_with("-----BEGIN PUBLIC KEY-----"));
    place.fails(
        &["init", "--name", "left", "--home", "8.8.8.8"],
        1,
        &["exists already", "nothing is overwritten"],
    );
}

#[test]
fn init_refuses_homes_that_nobody_can_reach() {
    let place = Place::new();
    place.fails(&["init", "--home", "10.0.0.1"], 1, &["private-use", "RFC 1918", "--allow-special"]);
    place.ok(&["init", "--name", "lab", "--home", "10.0.0.1", "--allow-special"]);
    place.ok(&["check"]);
}

#[test]
fn peers_are_added_listed_and_removed() {
    let place = Place::initialised();
    place.ok(&["peer", "add", "right", OTHER, "--public-key", OTHER_KEY]);
    let list = place.ok(&["peer", "list"]);
    assert!(list.contains("right") && list.contains("9.9.9.9:4500") && list.contains(OTHER_KEY), "{list}");
    let json: serde_json::Value = serde_json::from_str(&place.ok(&["peer", "list", "--json"])).unwrap();
    assert_eq!(json[0]["address"], OTHER);
    place.fails(
        &["peer", "add", "right", OTHER, "--public-key", OTHER_KEY],
        1,
        &["a peer \"right\" already"],
    );
    place.fails(
        &["peer", "add", "again", OTHER, "--public-key", OTHER_KEY],
        3,
        &["belongs to \"right\" already"],
    );
    place.ok(&["peer", "remove", "right"]);
    place.fails(&["peer", "remove", "right"], 1, &["no peer \"right\""]);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let place = Place::initialised();
    place.fails(&["peer", "add", "x", OTHER, "--public-key", "rubbish"], 3, &["domicile.toml:", "key"]);
    place.fails(&["peer", "add", "x", "rubbish", "--public-key", OTHER_KEY], 3, &["not an IPv6 address"]);
    place.fails(&["peer", "add", "x", OTHER], 2, &["--public-key"]);
    let file = place.path("domicile.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("port = 4500", "prot = 4500")).unwrap();
    place.fails(&["check"], 3, &["domicile.toml:5:1", "unknown field `prot`"]);
    place.fails(&["up"], 3, &["domicile.toml:5:1"]);
    std::fs::write(&file, text.replace("left.key", "gone.key")).unwrap();
    place.fails(&["check"], 3, &["gone.key does not exist"]);
    std::fs::write(&file, &text).unwrap();
    let key = place.path("left.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    place.fails(&["check"], 3, &["can be read by others", "chmod 600"]);
    place.fails(&["check", "/does/not/exist"], 3, &["no such file", "domicile init"]);
}

#[test]
fn typing_errors_are_answered_with_a_hint() {
    let place = Place::new();
    place.fails(&["statsu"], 2, &["statsu", "status"]);
    place.fails(&["status", "--jsn"], 2, &["--jsn", "--json"]);
    place.fails(&["address", "derive", "300.1.1.1"], 2, &["300.1.1.1"]);
    place.fails(&["address", "derive", "8.8.8.8", "0xzz"], 2, &["not a number"]);
    place.fails(&["rekey"], 2, &["PEER"]);
    place.fails(&[], 2, &["Usage"]);
}

#[test]
fn without_a_daemon_every_request_says_so() {
    let place = Place::initialised();
    for args in [
        &["status"][..],
        &["down"],
        &["reload"],
        &["connect", "x"],
        &["disconnect", "x"],
        &["rekey", "x"],
        &["ping", "x"],
    ] {
        place.fails(args, 5, &["no daemon is running", "domicile up"]);
    }
}

#[test]
fn addresses_are_derived_and_explained() {
    let place = Place::new();
    assert_eq!(place.ok(&["address", "derive", "198.51.100.1"]), "2002:c633:6401::1\n");
    assert_eq!(place.ok(&["address", "derive", "198.51.100.1", "0x100", "0xa"]), "2002:c633:6401:100::a\n");
    let told = place.ok(&["address", "explain", "2002:c633:6401:1:0:7:0:3"]);
    assert!(told.contains("device 3 of user 7") && told.contains("198.51.100.1"), "{told}");
}

#[test]
fn help_teaches_and_completions_complete() {
    let place = Place::new();
    let help = place.ok(&["--help"]);
    assert!(help.contains("Exit codes") && help.contains("ping"), "{help}");
    assert!(place.ok(&["ping", "--help"]).contains("Stages"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.ok(&["completions", shell]).contains("domicile"));
    }
    assert!(place.ok(&["--version"]).starts_with("domicile "));
}

#[test]
fn the_documented_configuration_is_valid() {
    let place = Place::initialised();
    let docs =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let example = docs.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let example = example
        .replace("server.key", "left.key")
        .replace("public_key = \"…\"", &format!("public_key = \"{OTHER_KEY}\""))
        .replace("home.example.org:4500", "203.0.113.1:4500");
    std::fs::write(place.path("domicile.toml"), example).unwrap();
    place.ok(&["check"]);
}
