//! kill -9 in the middle of adding: whatever was acknowledged is there afterwards.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

const DIR: &str = "DOMICILE_TEST_KILL_DIR";

/// The other half: adds users and says so after each, until it is killed.
#[test]
#[ignore = "the test below runs it in a process of its own"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut registry = open(&PathBuf::from(dir).join("registry.db"));
    let start = registry.list(None, true).unwrap().len();
    let mut out = std::io::stdout();
    for number in start.. {
        let user = registry.user_add(by(NOW), &format!("user{number}")).unwrap();
        writeln!(out, "acknowledged {} {}", user.name, user.address).unwrap();
        out.flush().unwrap();
        if number % 3 == 0 {
            registry.remove(by(NOW), &user.name).unwrap();
            writeln!(out, "acknowledged {} removed", user.name).unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let place = Place::new();
    let (mut there, mut removed) = (Vec::new(), HashSet::new());
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "home::registry::tests::kill::child"])
            .env(DIR, place.path(""))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["acknowledged", name, what] = words[..] {
                match what {
                    "removed" => drop(removed.insert(name.to_owned())),
                    address => there.push((name.to_owned(), address.to_owned())),
                }
                seen += 1;
                if seen == 20 + round * 7 {
                    // SIGKILL; what it had written into the pipe is read until the end.
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(seen >= 20 + round * 7, "it ended by itself after {seen}");
        let registry = place.open();
        let all = registry.list(None, true).unwrap();
        let addresses: HashSet<_> = all.iter().map(|entity| entity.address).collect();
        assert_eq!(addresses.len(), all.len());
        for (name, address) in &there {
            let entity = all.iter().find(|entity| entity.address.to_string() == *address);
            let entity = entity.unwrap_or_else(|| panic!("{name} was acknowledged and is not there"));
            assert_eq!(entity.name, *name);
            assert!(!removed.contains(name) || !entity.active, "{name} was removed and is back");
        }
        super::super::schema::check(&registry.db, registry.path()).unwrap();
    }
    assert!(there.len() > 80);
}
