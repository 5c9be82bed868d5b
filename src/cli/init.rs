//! `domicile init`: from nothing to a configuration that works. Nothing is written before everything is known to be good.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::args::{Cli, InitArgs};
use super::exit::{FAILURE, Failed, PERMISSION, USAGE};
use super::output::write;
use crate::addr::home::{HomeError, Homes};
use crate::addr::plan::{FIRST_NODE, in_subnet};
use crate::addr::six_to_four::embedded_v4;
use crate::addr::special::special;
use crate::crypto::identity::PrivateKey;
use crate::daemon::config::{
    self, DEFAULT_PATH, DEFAULT_SOCKET, MAX_NAME, MAX_SOCKET_PATH, address_problem, edit, name_problem,
};

/// What will be written.
pub(super) struct Draft {
    name: String,
    address: Ipv6Addr,
    special: bool,
    dir: PathBuf,
    /// Beside the configuration.
    key_name: String,
    key_file: PathBuf,
    socket: String,
}

pub(super) fn run(cli: &Cli, args: &InitArgs) -> Result<(), Failed> {
    let path = &cli.config;
    let (draft, key) = make(path, args)?;
    let (name, address, flag) = (&draft.name, draft.address, config_flag(path));
    write(&format!(
        "Wrote {} and the private key {}.\n\nThis machine is {address}.\n\n\
         On the other machine, let it know us:\n  domicile peer add {name} {address} --public-key {}\n\
         Here, let us know it:\n  domicile{flag} peer add NAME ADDRESS --public-key KEY\n\
         Then, on both:\n  sudo domicile{flag} up\n",
        path.display(),
        draft.key_file.display(),
        key.public(),
    ))
}

/// Writes key and configuration, or nothing.
pub(super) fn make(path: &Path, args: &InitArgs) -> Result<(Draft, PrivateKey), Failed> {
    let draft = draft(path, args)?;
    std::fs::create_dir_all(&draft.dir).map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::PermissionDenied { PERMISSION } else { FAILURE };
        let dir = draft.dir.display();
        Failed::new(code, format!("{dir} cannot be made: {error}: try sudo, or another place with --config"))
    })?;
    let key = super::key::generate(&draft.key_file)?;
    let written = edit::write_private(path, template(&draft).as_bytes(), false)
        .map_err(|error| Failed::new(FAILURE, format!("{} cannot be written: {error}", path.display())))
        .and_then(|()| {
            config::load(path).map_err(|problems| {
                let _ = std::fs::remove_file(path);
                Failed::from(problems)
            })
        });
    if let Err(failed) = written {
        // A key without a configuration would only stand in the way of the next attempt.
        let _ = std::fs::remove_file(&draft.key_file);
        return Err(failed);
    }
    Ok((draft, key))
}

/// Takes back what [`make`] wrote a moment ago.
pub(super) fn unmake(path: &Path, config: &config::Config) {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    for entity in &config.entities {
        let _ = std::fs::remove_file(dir.join(format!("{}.key", entity.name)));
    }
    let _ = std::fs::remove_file(path);
}

/// Everything that can be refused is refused here.
fn draft(path: &Path, args: &InitArgs) -> Result<Draft, Failed> {
    refuse_existing(path, "edit it, or name another file with --config")?;
    let name = args.name.clone().unwrap_or_else(host_name);
    if let Some(problem) = name_problem(&name) {
        return Err(Failed::new(USAGE, format!("--name: {problem}")));
    }
    let address = address(args)?;
    let special = embedded_v4(address).and_then(special).is_some();
    if let Some(problem) = address_problem(address) {
        return Err(Failed::new(USAGE, format!("--address: {problem}")));
    }
    match Homes::new(Vec::new(), args.allow_special).endpoint(address) {
        Ok(_) => {}
        Err(HomeError::Special { special, .. }) => {
            return Err(Failed::new(
                FAILURE,
                format!(
                    "the home of {address} would be {} ({}), where nobody on the Internet can reach you: name your public address with --home, or add --allow-special for a laboratory or an intranet",
                    special.name, special.source
                ),
            ));
        }
        Err(HomeError::NoHome(_)) => {
            return Err(Failed::new(
                FAILURE,
                format!(
                    "{address} is not in 2002::/16, so it does not tell where its home is: write the configuration by hand, with a [[home]] entry (docs/example.toml has one)"
                ),
            ));
        }
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let key_name = format!("{name}.key");
    let key_file = dir.join(&key_name);
    let socket = socket_for(path)?;
    if key_file.file_name() == path.file_name() {
        return Err(Failed::new(
            USAGE,
            format!(
                "the private key would be {} as well: name the configuration differently",
                path.display()
            ),
        ));
    }
    refuse_existing(&key_file, "choose another --name, or move it away if nobody needs that key any more")?;
    Ok(Draft { name, address, special, dir: dir.to_owned(), key_name, key_file, socket })
}

/// A link that leads nowhere is in the way, too.
fn refuse_existing(path: &Path, remedy: &str) -> Result<(), Failed> {
    match path.symlink_metadata() {
        Ok(_) => Err(Failed::new(
            FAILURE,
            format!("{} exists already, and nothing is overwritten: {remedy}", path.display()),
        )),
        Err(_) => Ok(()),
    }
}

/// `--config FILE` when it is not the default, as a shell takes it.
pub(super) fn config_flag(path: &Path) -> String {
    if path == Path::new(DEFAULT_PATH) {
        return String::new();
    }
    let path = path.display().to_string();
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.+,:@%".contains(c));
    if plain { format!(" --config {path}") } else { format!(" --config '{}'", path.replace('\'', r"'\''")) }
}

/// A configuration in an unusual place gets its control socket beside it, so that two do not meet.
pub(super) fn socket_for(path: &Path) -> Result<String, Failed> {
    if path == Path::new(DEFAULT_PATH) {
        return Ok(DEFAULT_SOCKET.to_owned());
    }
    let refuse = |why: String| Err(Failed::new(USAGE, format!("--config {}: {why}", path.display())));
    let beside = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).with_extension("sock");
    match beside.to_str() {
        _ if beside.file_name() == path.file_name() || path.file_name().is_none() => {
            refuse("this cannot name a configuration: choose a name that ends in .toml".to_owned())
        }
        None => refuse("this path is not UTF-8, which the configuration is: choose another".to_owned()),
        Some(text) if text.len() > MAX_SOCKET_PATH => refuse(format!(
            "the control socket beside it would have a path of more than {MAX_SOCKET_PATH} octets: choose a shorter one"
        )),
        Some(text) => Ok(text.to_owned()),
    }
}

pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let name: String =
        name.chars().filter(plain).skip_while(|c| !c.is_ascii_alphanumeric()).take(MAX_NAME).collect();
    if name.is_empty() { "machine".to_owned() } else { name }
}

fn address(args: &InitArgs) -> Result<Ipv6Addr, Failed> {
    if let Some(address) = args.address {
        return Ok(address);
    }
    let home = match args.home {
        Some(home) => home,
        None => default_source().ok_or_else(|| {
            Failed::new(
                FAILURE,
                "this machine has no IPv4 default route to learn its address from: name it with --home",
            )
        })?,
    };
    Ok(in_subnet(home, FIRST_NODE, 1))
}

/// The address that we would speak to the Internet from. Nothing is sent.
pub(super) fn default_source() -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 88, 99, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    }
}

/// A text as TOML writes it, with its quotes.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn template(draft: &Draft) -> String {
    let (name, key_file, socket) = (quoted(&draft.name), quoted(&draft.key_name), quoted(&draft.socket));
    let address = draft.address;
    let special = if draft.special {
        "\n# Homes that are not on the Internet are accepted: a laboratory or an intranet.\nallow_special_homes = true"
    } else {
        ""
    };
    format!(
        r#"# domicile. 'domicile check' tells what is wrong with this file, and where.

[node]
# UDP port of IKE and ESP. Open it in your firewall.
port = 4500
# Answers IKE peers that start on port 500; 0 turns it off.
ike_port = 500
interface = "domicile0"
control_socket = {socket}{special}

# Who this machine is: a permanent address and the key that proves it.
[[entity]]
name = {name}
address = "{address}"
key_file = {key_file}

# Whom it talks to: 'domicile peer add' writes entries like this one.
# [[peer]]
# name = "server"
# address = "2002:c633:6401:100::1"
# public_key = "…"                    # 'domicile key show' over there; or psk_file = "server.psk"
# endpoint = "198.51.100.1:4500"      # only where the address does not tell; "none": it calls us
# connect = "start"                   # instead of "on-traffic"

# What is protected. Tried in order; behind these everything in 2002::/16 is protected.
# [[policy]]
# remote = "2002:c633:6402::/48"
# action = "protect"                  # or "discard", "bypass"
# services = "integrity"              # authenticated but readable, instead of "confidentiality"
"#
    )
}
