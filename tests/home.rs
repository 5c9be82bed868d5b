//! `domicile home`, as the real program, without a daemon.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output};

struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn run(&self, args: &[&str]) -> Output {
        let config = self.dir.path().join("etc/domicile.toml");
        Command::new(env!("CARGO_BIN_EXE_domicile"))
            .arg("--config")
            .arg(config)
            .arg("home")
            .args(args)
            .output()
            .unwrap()
    }

    /// What it printed; it has to succeed.
    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && error.is_empty(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its sentence; it has to fail with this exit code.
    fn bad(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{args:?}: {error}");
        error
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

#[test]
fn a_machine_becomes_a_home_and_a_lost_registry_comes_back() {
    let machine = Machine { dir: tempfile::tempdir().unwrap() };
    assert!(machine.bad(3, &["list"]).contains("there is no such file"));
    // Nothing is left of what is refused.
    assert!(machine.bad(1, &["init", "--address", "198.51.100.1"]).contains("--allow-special"));
    let lab = ["init", "--address", "198.51.100.1", "--allow-special", "--domain"];
    assert!(machine.bad(2, &[&lab[..], &["a..b"]].concat()).contains("--domain"));
    assert!(!Path::new(&machine.path("etc/domicile.toml")).exists());
    let made = machine.good(&[&lab[..], &["home.example.org"]].concat());
    assert!(made.contains("2002:c633:6401::/48") && made.contains("Root fingerprint"));
    assert!(machine.bad(1, &["init", "--allow-special"]).contains("[home_agent] already"));
    machine.good(&["user", "add", "alice"]);
    machine.good(&["node", "add", "server1"]);
    let web = machine.good(&["service", "add", "web", "--node", "server1"]);
    assert_eq!(web.trim(), "web.home.example.org is 2002:c633:6401:101::2.");
    assert!(machine.bad(1, &["user", "remove", "web"]).contains("\"web\" is a service"));
    let code = machine.good(&["invite", "alice", "--quiet"]);
    assert_eq!(code.trim().len(), 35);
    assert!(machine.good(&["invitation", "list"]).contains("open"));
    assert!(!machine.good(&["invitation", "list", "--json"]).contains(code.trim()));
    let backup = machine.path("backup.db");
    machine.good(&["backup", &backup]);
    let list = machine.good(&["list"]);
    for file in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        let _ = std::fs::remove_file(machine.path(&format!("etc/home/{file}")));
    }
    assert!(machine.bad(1, &["list"]).contains("domicile home restore"));
    machine.good(&["restore", &backup]);
    assert_eq!(machine.good(&["list"]), list);
    // What may have been given out since the backup is not given out again.
    let bob: serde_json::Value = {
        machine.good(&["user", "add", "bob"]);
        serde_json::from_str(&machine.good(&["user", "show", "bob", "--json"])).unwrap()
    };
    assert_ne!(bob["entity"]["address"], "2002:c633:6401:1:0:2::");
    assert!(machine.good(&["log", "-n", "2"]).contains("restore"));
    assert!(machine.good(&["issued", "--verify"]).contains("the chain is whole"));
}
