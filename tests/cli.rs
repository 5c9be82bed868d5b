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

    /// The program in this place, with these arguments.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domicile"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("DOMICILE_CONFIG", self.path("domicile.toml"))
            .env_remove("RUST_LOG");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What is in the directory.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A configuration in which each pair of texts was replaced.
    fn with(changes: &[(&str, &str)]) -> Self {
        let place = Self::initialised();
        let mut text = std::fs::read_to_string(place.path("domicile.toml")).unwrap();
        for (old, new) in changes {
            assert!(text.contains(old), "{old:?} is not in the template");
            text = text.replace(old, new);
        }
        std::fs::write(place.path("domicile.toml"), text).unwrap();
        place
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Fails with this code, and one sentence that has all the parts.
    fn fails(&self, args: &[&str], code: i32, parts: &[&str]) {
        Self::failed(args, self.run(args), code, parts);
    }

    fn failed(args: &[&str], output: Output, code: i32, parts: &[&str]) {
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
        2,
        &["belongs to \"right\" already"],
    );
    place.ok(&["peer", "remove", "right"]);
    place.fails(&["peer", "remove", "right"], 1, &["no peer \"right\""]);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let place = Place::initialised();
    place.fails(&["peer", "add", "x", OTHER, "--public-key", "rubbish"], 2, &["nothing was changed", "key"]);
    place.fails(&["peer", "add", "x", "rubbish", "--public-key", OTHER_KEY], 2, &["not an IPv6 address"]);
    place.fails(&["peer", "add", "x", OTHER], 2, &["public_key", "psk_file", "[[trust]]"]);
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
    place.fails(&["check", &place.path("")], 3, &["this is a directory"]);
    place.fails(&["check", env!("CARGO_BIN_EXE_domicile")], 3, &["not a text in UTF-8"]);
    place.fails(&["key", "show", "--entity", "x"], 3, &["left.key can be read by others"]);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    place.fails(&["key", "show", "--entity", "x"], 1, &["no entity \"x\"", "it has left"]);
    place.fails(&["--socket", &"x".repeat(200), "status"], 2, &["more than 107 octets"]);
}

#[test]
fn every_verb_refuses_what_it_does_not_know() {
    let place = Place::initialised();
    for verb in [
        "init",
        "key show",
        "key generate f",
        "address derive 8.8.8.8",
        "address explain ::1",
        "peer add a ::1 --public-key k",
        "peer remove a",
        "peer list",
        "up",
        "down",
        "reload",
        "status",
        "connect a",
        "disconnect a",
        "rekey a",
        "ping a",
        "check",
        "completions bash",
    ] {
        let mut args: Vec<&str> = verb.split(' ').collect();
        args.push("--bogus");
        place.fails(&args, 2, &["unexpected argument '--bogus'", "--help"]);
        args.pop();
        args.extend(["1", "2", "3"]);
        place.fails(&args, 2, &["--help"]);
    }
    assert_eq!(place.files(), ["domicile.toml", "left.key"]);
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
fn a_refused_init_leaves_nothing_behind() {
    let outer = Place::new();
    std::fs::create_dir(outer.path("inner")).unwrap();
    let config = outer.path("inner/domicile.toml");
    let long = "x".repeat(64);
    let here = "--home=8.8.8.8";
    for (args, code, parts) in [
        (&["--name", "../x", here][..], 2, &["--name", "is not a name"][..]),
        (&["--name", "/etc/x", here], 2, &["--name", "is not a name"]),
        (&["--name", "", here], 2, &["--name", "is not a name"]),
        (&["--name=-x", here], 2, &["--name", "is not a name"]),
        (&["--name", "a\nb", here], 2, &["\"a\\nb\" is not a name"]),
        (&["--name", &long, here], 2, &["1 to 63"]),
        (&["--address", "::1"], 2, &["--address", "cannot be a permanent address"]),
        (&["--address", "ff02::1"], 2, &["cannot be a permanent address"]),
        (&["--address", "fe80::1"], 2, &["cannot be a permanent address"]),
        (&["--address", "fd00::1"], 1, &["not in 2002::/16", "[[home]]"]),
        (&["--address", "2002:a00:1::1"], 1, &["private-use", "--allow-special"]),
        (&["--home", "127.0.0.1"], 1, &["--allow-special"]),
        (&["--home", "8.8.8.8", "--address", "2002:808:808::1"], 2, &["cannot be used with"]),
    ] {
        let args: Vec<&str> = ["--config", &config, "init"].into_iter().chain(args.iter().copied()).collect();
        outer.fails(&args, code, parts);
        assert_eq!(outer.files(), ["inner"], "{args:?}");
        assert_eq!(std::fs::read_dir(outer.path("inner")).unwrap().count(), 0, "{args:?} wrote something");
    }
    std::fs::write(outer.path("inner/left.key"), "mine").unwrap();
    outer.fails(&["--config", &config, "init", "--name", "left", here], 1, &["left.key exists already"]);
    assert_eq!(std::fs::read_to_string(outer.path("inner/left.key")).unwrap(), "mine");
    assert!(!Path::new(&config).exists());
    let key = outer.path("new.key");
    outer.fails(&["--config", &key, "init", "--name", "new", here], 2, &["would be", "as well"]);
    let deep = outer.path(&format!("{long}/{long}.toml"));
    outer.fails(&["--config", &deep, "init", "--name", "new", here], 2, &["107 octets"]);
    assert_eq!(outer.files(), ["inner"]);
    std::os::unix::fs::symlink("nowhere", outer.path("link.toml")).unwrap();
    let link = outer.path("link.toml");
    outer.fails(&["--config", &link, "init", "--name", "new", here], 1, &["link.toml exists already"]);
    assert_eq!(outer.files(), ["inner", "link.toml"]);
}

#[test]
fn init_works_in_a_place_with_a_difficult_name() {
    let place = Place::new();
    let config = place.path("it's \"quoted\" \\ here/my config.toml");
    let told = place.ok(&["--config", &config, "init", "--name", "left", "--home", "8.8.8.8"]);
    assert!(told.contains(r#"--config '"#) && told.contains(r"it'\''s"), "{told}");
    place.ok(&["check", &config]);
}

#[test]
fn times_are_seconds_and_nothing_else() {
    let place = Place::initialised();
    for value in ["nan", "inf", "-inf", "-1", "1e300", "soon", ""] {
        for args in [
            &["connect", "x", "--timeout"][..],
            &["status", "--watch"],
            &["ping", "x", "-i"],
            &["ping", "x", "-W"],
            &["ping", "x", "--interval"],
            &["ping", "x", "--wait"],
        ] {
            let mut args = args.to_vec();
            let last = args.pop().unwrap();
            // With '=' even "-inf" is a value.
            let both =
                if last.starts_with("--") { format!("{last}={value}") } else { format!("{last}{value}") };
            if value.is_empty() && !last.starts_with("--") {
                continue;
            }
            args.push(&both);
            place.fails(&args, 2, &["SECONDS"]);
        }
    }
    place.fails(&["connect", "x", "--timeout", "-1"], 2, &["write seconds from 0 to 600"]);
    place.fails(&["connect", "x", "--timeout", "601"], 2, &["write seconds from 0 to 600"]);
    place.fails(&["connect", "x", "--timeout", "0"], 5, &["no daemon is running"]);
    place.fails(&["ping", "x", "-c", "0"], 2, &["write a number from 1 to 1000000"]);
    place.fails(&["status", "--watch", "0.5"], 5, &["no daemon is running"]);
}

#[test]
fn no_duration_makes_check_panic() {
    for (section, line) in
        [("[esp]", "rekey = \"584542000000years\""), ("[ike]", "maximum_age = \"99999999999999999999h\"")]
    {
        let place = Place::with(&[("[node]", &format!("{section}\n{line}\n[node]"))]);
        place.fails(&["check"], 3, &["domicile.toml:4:", "is too long: write at most \"365d\""]);
        place.fails(&["peer", "list"], 3, &["is too long"]);
    }
}

#[test]
fn a_closed_pipe_is_no_mistake_and_a_full_disk_is_one_sentence() {
    let place = Place::initialised();
    let key = place.path("left.key");
    for args in [
        &["check"][..],
        &["key", "show"],
        &["key", "show", "--pem"],
        &["key", "show", "--fingerprint"],
        &["peer", "list"],
        &["peer", "list", "--json"],
        &["address", "derive", "8.8.8.8"],
        &["address", "explain", "2002:808:808::1"],
        &["completions", "bash"],
        &["--help"],
        &["ping", "--help"],
        &["help", "peer", "add"],
        &["--version"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(args).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?} into a closed pipe");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.command(args).stdout(full).output().unwrap();
        Place::failed(args, output, 7, &["cannot be written to standard output", "No space left"]);
    }
    // What changes something has done it all the same.
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let args = ["peer", "add", "right", OTHER, "--public-key", OTHER_KEY];
    Place::failed(&args, place.command(&args).stdout(full()).output().unwrap(), 7, &["cannot be written"]);
    assert!(place.ok(&["peer", "list"]).contains("right"));
    // With nowhere to complain there is still the exit code.
    let status = place.command(&["check", "/nowhere"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(3));
    let status = place.command(&["bogus"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(Path::new(&key).exists());
}

#[test]
fn a_peer_is_added_behind_a_link() {
    let place = Place::initialised();
    std::fs::create_dir(place.path("real")).unwrap();
    std::fs::rename(place.path("domicile.toml"), place.path("real/file.toml")).unwrap();
    std::os::unix::fs::symlink("real/file.toml", place.path("domicile.toml")).unwrap();
    place.ok(&["peer", "add", "right", OTHER, "--public-key", OTHER_KEY]);
    assert!(std::fs::symlink_metadata(place.path("domicile.toml")).unwrap().is_symlink());
    assert!(std::fs::read_to_string(place.path("real/file.toml")).unwrap().contains(OTHER_KEY));
    assert!(place.ok(&["peer", "list"]).contains("right"));
}

#[test]
fn what_cannot_work_is_refused() {
    let place = Place::initialised();
    let own = place.ok(&["key", "show"]);
    place.fails(
        &["peer", "add", "x", OTHER, "--public-key", own.trim()],
        2,
        &["this is the key of \"left\"", "domicile key show"],
    );
    let add = ["peer", "add", "x", OTHER, "--public-key", OTHER_KEY, "--endpoint"];
    place.fails(&[&add[..], &["9.9.9.9:0"]].concat(), 2, &["port 0 is no port"]);
    place.fails(&[&add[..], &["9.9.9.9"]].concat(), 2, &["is not IP:PORT"]);
    for level in ["bogus", "warning", ""] {
        place.fails(&["--log-level", level, "check"], 2, &["--log-level", "error, warn, info, debug, trace"]);
    }
    assert!(!place.ok(&["peer", "list"]).contains(OTHER));
}

#[test]
fn a_secret_is_found_from_where_the_user_stands() {
    let secret = |path: String| {
        std::fs::write(&path, "a secret of good length\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    let place = Place::initialised();
    let add = |name: &str, address: &str, file: &str, dir: &str| {
        let args = ["peer", "add", name, address, "--psk-file", file];
        place.command(&args).current_dir(place.path(dir)).output().unwrap()
    };
    std::fs::create_dir(place.path("sub")).unwrap();
    secret(place.path("beside.psk"));
    secret(place.path("sub/below.psk"));
    let told = add("a", "2002:909:909:1::1", "../beside.psk", "sub");
    assert!(told.status.success(), "{told:?}");
    assert!(add("b", "2002:909:909:1::2", "below.psk", "sub").status.success());
    assert!(add("c", "2002:909:909:1::3", "beside.psk", "sub").status.success(), "beside the configuration");
    let text = std::fs::read_to_string(place.path("domicile.toml")).unwrap();
    let real = std::fs::canonicalize(place.path("sub/below.psk")).unwrap();
    assert_eq!(text.matches("psk_file = \"beside.psk\"").count(), 2, "{text}");
    assert!(text.contains(&format!("psk_file = \"{}\"", real.display())), "{text}");
    place.fails(
        &["peer", "add", "d", OTHER, "--psk-file", "gone.psk"],
        1,
        &["gone.psk does not exist", "current directory"],
    );
    assert!(place.ok(&["peer", "add", "--help"]).contains("current directory"));
}

/// Without the capability `up` says so, before it touches anything. Should it ever get further, then only in a network
/// namespace of its own.
#[test]
fn up_needs_a_capability_and_says_so() {
    let place = Place::initialised();
    let mut command = if is_root() {
        let mut command = Command::new("unshare");
        command.args(["--net", "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]);
        command.arg(env!("CARGO_BIN_EXE_domicile"));
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_domicile"))
    };
    let output = command
        .args(["up", "--keylog", &place.path("keys")])
        .env("DOMICILE_CONFIG", place.path("domicile.toml"))
        .output()
        .unwrap();
    Place::failed(&["up"], output, 4, &["CAP_NET_ADMIN", "root"]);
    assert_eq!(place.files(), ["domicile.toml", "left.key"], "nothing was made");
}

#[test]
fn what_this_user_may_not_read_is_a_matter_of_permission() {
    let place = Place::initialised();
    let file = place.path("domicile.toml");
    let run = |args: &[&str]| {
        if !is_root() {
            return place.run(args);
        }
        let mut command = Command::new("setpriv");
        let caps = "-dac_override,-dac_read_search";
        command.args([&format!("--bounding-set={caps}"), &format!("--inh-caps={caps}"), "--"]);
        command.arg(env!("CARGO_BIN_EXE_domicile")).args(args).env("DOMICILE_CONFIG", &file);
        command.output().unwrap()
    };
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    for args in [&["check"][..], &["peer", "list"], &["peer", "remove", "x"], &["key", "show"], &["up"]] {
        Place::failed(args, run(args), 4, &["permission denied", "sudo"]);
    }
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// The example is what people copy: it must be valid as it is.
#[test]
fn the_documented_configuration_is_valid() {
    let place = Place::initialised();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/example.toml");
    std::fs::copy(example, place.path("domicile.toml")).unwrap();
    std::fs::rename(place.path("left.key"), place.path("server.key")).unwrap();
    std::fs::copy(place.path("server.key"), place.path("office.psk")).unwrap();
    assert!(place.ok(&["check"]).contains("is valid: 1 entity, 2 peers"));
}
