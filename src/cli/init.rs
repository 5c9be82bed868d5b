//! `domicile init`: from nothing to a configuration that works.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::args::{Cli, InitArgs};
use super::exit::{FAILURE, Failed};
use crate::addr::plan::{FIRST_NODE, in_subnet};
use crate::addr::six_to_four::embedded_v4;
use crate::addr::special::special;
use crate::daemon::config::{self, DEFAULT_SOCKET, edit};

pub(super) fn run(cli: &Cli, args: &InitArgs) -> Result<(), Failed> {
    let path = &cli.config;
    if path.exists() {
        return Err(Failed::new(
            FAILURE,
            format!(
                "{} exists already, and nothing is overwritten: edit it, or name another file with --config",
                path.display()
            ),
        ));
    }
    let name = args.name.clone().unwrap_or_else(host_name);
    let address = address(args)?;
    let special_home = embedded_v4(address).and_then(special);
    if let Some(special) = special_home.filter(|_| !args.allow_special) {
        return Err(Failed::new(
            FAILURE,
            format!(
                "the home of {address} would be {} ({}), where nobody on the Internet can reach you: name your public address with --home, or add --allow-special for a laboratory or an intranet",
                special.name, special.source
            ),
        ));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(dir).map_err(|error| {
        Failed::new(
            FAILURE,
            format!("{} cannot be made: {error}: try sudo, or another place with --config", dir.display()),
        )
    })?;
    let key_file = format!("{name}.key");
    let key = super::key::generate(&dir.join(&key_file))?;
    let text = template(&name, address, &key_file, special_home.is_some(), &socket_for(path));
    edit::write_private(path, text.as_bytes(), false)
        .map_err(|error| Failed::new(FAILURE, format!("{} cannot be written: {error}", path.display())))?;
    config::load(path)?;
    println!("Wrote {} and the private key {}.", path.display(), dir.join(&key_file).display());
    println!();
    println!("This machine is {address}.");
    println!();
    println!("On the other machine, let it know us:");
    println!("  domicile peer add {name} {address} --public-key {}", key.public());
    println!("Here, let us know it:");
    println!("  domicile{} peer add NAME ADDRESS --public-key KEY", config_flag(path));
    println!("Then, on both:");
    println!("  sudo domicile{} up", config_flag(path));
    Ok(())
}

/// `--config FILE` when it is not the default.
fn config_flag(path: &Path) -> String {
    if path == Path::new(config::DEFAULT_PATH) {
        String::new()
    } else {
        format!(" --config {}", path.display())
    }
}

/// A configuration in an unusual place gets its control socket beside it, so that two do not meet.
fn socket_for(path: &Path) -> String {
    if path == Path::new(config::DEFAULT_PATH) {
        return DEFAULT_SOCKET.to_owned();
    }
    let beside = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).with_extension("sock");
    beside.display().to_string()
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
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
fn default_source() -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 88, 99, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    }
}

fn template(name: &str, address: Ipv6Addr, key_file: &str, special: bool, socket: &str) -> String {
    let special = if special {
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
control_socket = "{socket}"{special}

# Who this machine is: a permanent address and the key that proves it.
[[entity]]
name = "{name}"
address = "{address}"
key_file = "{key_file}"

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
