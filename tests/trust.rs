//! `domicile trust`, as the real program, without a daemon: what it takes, and above all what it refuses.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// A machine with an address of its own, at this IPv4 address.
    fn new(home: &str) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        machine.good(&["init", "--name", "node", "--home", home]);
        machine
    }

    /// A home, and its root in a file.
    fn home(home: &str, domain: &str) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        machine.good(&["home", "init", "--address", home, "--domain", domain]);
        std::fs::write(machine.path("root.pem"), machine.good(&["home", "root"])).unwrap();
        machine
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domicile"));
        command.arg("--config").arg(self.path("domicile.toml")).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Fails with this code and one sentence that has all the parts; the configuration stays what it was.
    fn bad(&self, code: i32, args: &[&str], parts: &[&str]) {
        let before = self.files();
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{args:?}: {part:?} is not in: {said}");
        }
        assert!(said.starts_with("domicile: ") && said.trim_end().lines().count() == 1, "{said}");
        assert_eq!(self.files(), before, "{args:?} changed something");
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.path("domicile.toml")).unwrap()
    }

    /// Names and contents of what is here, but for the registry.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let mut all: Vec<_> = files
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .collect();
        all.sort();
        all
    }

    fn trusted(&self) -> serde_json::Value {
        serde_json::from_str(&self.good(&["trust", "list", "--json"])).unwrap()
    }
}

fn fingerprint(home: &Machine) -> String {
    home.trusted()[0]["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn a_home_is_trusted_listed_and_trusted_no_longer() {
    let node = Machine::new("8.8.8.8");
    let home = Machine::home("9.9.9.9", "nine.example");
    let print = fingerprint(&home);
    assert_eq!(home.trusted()[0]["own"], true);
    let before = format!("{}\n# a comment of mine\n", node.config());
    std::fs::write(node.path("domicile.toml"), &before).unwrap();
    let said = node.good(&[
        "trust",
        "add",
        &home.path("root.pem"),
        "--fingerprint",
        &print.to_uppercase().replace('-', ":"),
    ]);
    for part in ["2002:909:909::/48", "nine.example", &print, "2002:909:909::1, at 9.9.9.9:4500", "Valid"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(before.lines().all(|line| node.config().contains(line)), "comments stay");
    assert!(node.config().contains(&format!("fingerprint = \"{print}\"")));
    let list = node.trusted();
    assert_eq!(list.as_array().unwrap().len(), 1);
    for (field, wanted) in [("prefix", "2002:909:909::/48"), ("domain", "nine.example"), ("pin", "tell")] {
        assert_eq!(list[0][field], wanted);
    }
    assert_eq!((&list[0]["keys"], &list[0]["own"]), (&0.into(), &false.into()));
    assert!(node.good(&["trust", "list"]).contains(&print));
    // Twice is once.
    let files = node.files();
    let again = node.good(&["trust", "add", &home.path("root.pem"), "--yes"]);
    assert!(again.contains("nothing was changed"), "{again}");
    assert_eq!(node.files(), files);
    for name in ["2002:909:909::/48", "2002:909:909:1::10", "nine.example", "Nine.Example."] {
        node.good(&["trust", "remove", name]);
        node.bad(1, &["trust", "remove", name], &["no trusted home is", "trust list"]);
        assert_eq!(node.trusted().as_array().unwrap().len(), 0);
        assert!(!std::fs::exists(node.path("home-2002-909-909.pem")).unwrap());
        node.good(&["trust", "add", &home.path("root.pem"), "--yes"]);
    }
}

#[test]
fn another_root_for_a_trusted_prefix_is_refused_unless_it_is_meant() {
    let node = Machine::new("8.8.8.8");
    let (home, imposter) =
        (Machine::home("9.9.9.9", "nine.example"), Machine::home("9.9.9.9", "nine.example"));
    let (print, other) = (fingerprint(&home), fingerprint(&imposter));
    assert_ne!(print, other);
    node.good(&["trust", "add", &home.path("root.pem"), "--fingerprint", &print]);
    let add = ["trust", "add", &imposter.path("root.pem"), "--yes"];
    node.bad(1, &add, &["trusts another root for 2002:909:909::/48", &print, &other, "--replace"]);
    // What was told is not what the file has.
    node.bad(
        1,
        &["trust", "add", &imposter.path("root.pem"), "--fingerprint", &print, "--replace"],
        &["not the root that you were told of"],
    );
    node.good(&[&add[..], &["--replace"]].concat());
    assert_eq!(fingerprint(&node), other);
    assert_eq!(node.trusted().as_array().unwrap().len(), 1);
    node.good(&["check"]);
    // A home does not trust another root of itself, and needs not be told of its own.
    home.bad(
        1,
        &["trust", "add", &imposter.path("root.pem"), "--yes", "--replace"],
        &["somebody else claims this home"],
    );
    home.bad(1, &["trust", "add", &home.path("root.pem"), "--yes"], &["itself"]);
    // The file behind a confirmed entry was exchanged.
    let files: Vec<String> = node.files().into_iter().map(|(name, _)| name).collect();
    let name = files.iter().find(|name| name.starts_with("home-")).unwrap();
    std::fs::copy(home.path("root.pem"), node.path(name)).unwrap();
    let output = node.run(&["check"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3));
    assert!(said.contains("another one than was trusted") && said.contains(&print), "{said}");
}

#[test]
fn what_is_no_root_of_a_reachable_home_is_refused() {
    let node = Machine::new("8.8.8.8");
    let home = Machine::home("9.9.9.9", "nine.example");
    let print = fingerprint(&home);
    let file = home.path("root.pem");
    node.bad(1, &["trust", "add", "/no/such/file", "--yes"], &["cannot be read", "domicile home root"]);
    node.bad(2, &["trust", "add", &file], &["nobody can be asked", "--fingerprint", "--yes"]);
    node.bad(2, &["trust", "add", &file, "--fingerprint", "abcd"], &["eight groups of four"]);
    node.bad(
        2,
        &["trust", "add", &file, "--fingerprint", &print.replace(|_: char| true, "g")],
        &["eight groups"],
    );
    node.bad(
        1,
        &["trust", "add", &file, "--fingerprint", &"0000-".repeat(8)],
        &["not the root that you were told of"],
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let write = |name: &str, text: &str| {
        let path = node.path(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    node.bad(1, &["trust", "add", &write("empty", ""), "--yes"], &["not a readable"]);
    node.bad(1, &["trust", "add", &write("half", &text[..text.len() / 2]), "--yes"], &["not a readable"]);
    node.bad(
        1,
        &["trust", "add", &write("two", &format!("{text}{text}")), "--yes"],
        &["2 certificates", "alone"],
    );
    std::fs::write(node.path("binary"), [0xff; 99]).unwrap();
    node.bad(1, &["trust", "add", &node.path("binary"), "--yes"], &["cannot be read"]);
    // A home in a laboratory is none on the Internet.
    let lab = Machine { dir: tempfile::tempdir().unwrap() };
    lab.good(&["home", "init", "--address", "10.0.0.1", "--allow-special"]);
    std::fs::write(lab.path("root.pem"), lab.good(&["home", "root"])).unwrap();
    node.bad(1, &["trust", "add", &lab.path("root.pem"), "--yes"], &["private-use", "allow_special_homes"]);
    for args in [
        &["trust"][..],
        &["trust", "add"],
        &["trust", "remove"],
        &["trust", "forget", "alice"],
        &["trust", "list", "x"],
    ] {
        assert_eq!(node.run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_root_comes_in_through_a_pipe() {
    let node = Machine::new("8.8.8.8");
    let home = Machine::home("9.9.9.9", "nine.example");
    let give = |args: &[&str]| {
        let mut child = node
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&std::fs::read(home.path("root.pem")).unwrap()).unwrap();
        child.wait_with_output().unwrap().status.code()
    };
    assert_eq!(give(&["trust", "add", "-"]), Some(2));
    assert_eq!(give(&["trust", "add", "-", "--fingerprint", &fingerprint(&home)]), Some(0));
    assert_eq!(node.trusted()[0]["fingerprint"], fingerprint(&home));
}

#[test]
fn a_remembered_key_is_seen_and_forgotten() {
    let node = Machine::new("8.8.8.8");
    let address = "2002:909:909:1::1001";
    assert_eq!(node.good(&["trust", "keys", "--json"]).trim(), "[]");
    node.bad(
        1,
        &["trust", "forget", address],
        &["no key of 2002:909:909:1::1001 is remembered", "trust keys"],
    );
    let key = "tu0NZNtXCJ44BPsh3t1yY+tT9GL26LlQsbdf5yC4gQ0=";
    let state = format!(
        r#"{{"sequences":{{}},"trust":{{"version":1,"homes":[],"keys":[{{"address":"{address}","key":"{key}","seen":1700000000}}]}}}}"#
    );
    std::fs::write(node.path("domicile.state.json"), state).unwrap();
    let keys: serde_json::Value = serde_json::from_str(&node.good(&["trust", "keys", "--json"])).unwrap();
    assert_eq!((&keys[0]["address"], &keys[0]["public_key"]), (&address.into(), &key.into()));
    assert!(node.good(&["trust", "keys"]).contains("2023-11-14"));
    node.good(&["trust", "forget", address]);
    node.bad(1, &["trust", "forget", address], &["no key of"]);
    assert_eq!(node.good(&["trust", "keys", "--json"]).trim(), "[]");
}

#[test]
fn a_key_is_rotated_where_a_home_certifies_it() {
    let node = Machine::new("8.8.8.8");
    node.bad(1, &["key", "rotate"], &["node has no certificate", "key generate"]);
    node.bad(1, &["key", "rotate", "--entity", "nobody"], &["there is no entity", "node"]);
    // The home's own node is certified by its registry.
    let home = Machine::home("9.9.9.9", "nine.example");
    let before = home.good(&["key", "show"]);
    let said = home.good(&["key", "rotate"]);
    assert!(said.contains("waits in") && said.contains(".key.next"), "{said}");
    assert_eq!(home.good(&["key", "show"]), before, "until it is certified");
    let waiting: Vec<_> = home.files().into_iter().filter(|(name, _)| name.ends_with(".key.next")).collect();
    let mode = std::fs::metadata(home.path(&waiting[0].0)).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    home.bad(1, &["key", "rotate"], &["has a new key already", "domicile up"]);
    assert_eq!(home.good(&["key", "show"]), before);
}
