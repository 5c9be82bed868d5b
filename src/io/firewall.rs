//! What nobody may send or receive under an address that is not theirs: one nftables table of our own, `ip6 domicile`,
//! which is always replaced as a whole in one transaction (decision 0011).
//!
//! ```text
//! input    not from the TUN and not from lo: a source that belongs into the tunnel is forged         counter clear
//! forward  into the TUN: our own addresses are not somebody else's                                   counter forwarded
//! output   a source that belongs into the tunnel is one of our addresses (lo included)               counter forged
//!          an address with an owner is spoken from by sockets of that owner and of root alone        counter other_uid
//!          … and by the kernel itself where it only answers                                          counter no_socket
//! ```
//!
//! The `ip6` family and not `inet`, so that ESP, which is IPv4, never passes through it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::process::{Command, Stdio};

use super::netlink::{Bypass, Plan};

/// Name of the table, in the family `ip6`.
pub const TABLE: &str = "domicile";

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// No `nft` on this machine.
    #[error("there is no nft on this machine: install the package nftables")]
    Missing,
    /// It could not be run.
    #[error("nft cannot be run: {0}")]
    Run(#[from] io::Error),
    /// The kernel or nft refused.
    #[error("nft refused the table {TABLE}: {0}")]
    Refused(String),
}

/// Replaces the table, or makes it.
///
/// # Errors
/// Nothing was changed.
pub fn install(plan: &Plan) -> Result<(), FirewallError> {
    run(&ruleset(plan))
}

/// Removes the table, if it is there.
///
/// # Errors
/// It is still there, if it was.
pub fn remove() -> Result<(), FirewallError> {
    run(&gone())
}

/// Deleting works only where something is, so the table is made first: in the same transaction.
fn gone() -> String {
    format!("table ip6 {TABLE} {{ }}\ndelete table ip6 {TABLE}\n")
}

/// One transaction of nft.
fn run(text: &str) -> Result<(), FirewallError> {
    // A daemon may have a path without the administrator's directories.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut nft = Command::new("nft")
        .env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"))
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            if missing { FirewallError::Missing } else { FirewallError::Run(error) }
        })?;
    if let Some(mut input) = nft.stdin.take() {
        // Should it end before it read everything, its exit status says why.
        let _ = input.write_all(text.as_bytes());
    }
    let output = nft.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
    Err(FirewallError::Refused(first.trim().to_owned()))
}

/// The whole table as nft(8) reads it. Writing to a String cannot fail.
fn ruleset(plan: &Plan) -> String {
    let mut out = gone();
    let _ = writeln!(out, "table ip6 {TABLE} {{");
    for counter in ["clear", "forwarded", "forged", "other_uid", "no_socket"] {
        let _ = writeln!(out, "counter {counter} {{ }}");
    }
    let addresses = || plan.addresses.iter().map(ToString::to_string);
    let tunnelled = plan.routed.iter().map(ToString::to_string).chain(addresses());
    set(&mut out, "tunnelled", "type ipv6_addr; flags interval; auto-merge;", tunnelled);
    set(&mut out, "entities", "type ipv6_addr;", addresses());
    set(&mut out, "owned", "type ipv6_addr;", plan.owners.iter().map(|(address, _)| address.to_string()));
    let pair = |address: &Ipv6Addr, uid: u32| format!("{address} . {uid}");
    let roots = plan.owners.iter().map(|(address, _)| pair(address, 0));
    let others = plan.owners.iter().filter(|(_, uid)| *uid != 0).map(|(address, uid)| pair(address, *uid));
    let owners = roots.chain(others);
    set(&mut out, "owners", "typeof ip6 saddr . meta skuid;", owners);

    let tun = &plan.interface;
    out.push_str("chain tunnel_only {\n");
    // Their hop limit of 255 says that they come from the neighbour who sends them (RFC 4861 §7.1).
    out.push_str("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n");
    out.push_str("ip6 saddr @tunnelled counter name clear drop\n}\n");
    let _ = writeln!(out, "chain input {{ type filter hook input priority filter - 10; policy accept;");
    let _ = writeln!(out, "iifname {{ \"{tun}\", \"lo\" }} accept");
    for Bypass { local, remote, left_alone } in &plan.bypassed {
        let verdict = if *left_alone { "accept" } else { "goto tunnel_only" };
        let _ = writeln!(out, "{}{verdict}", between("saddr", remote, "daddr", local));
    }
    out.push_str("goto tunnel_only\n}\n");

    out.push_str("chain forward { type filter hook forward priority filter - 10; policy accept;\n");
    let _ = writeln!(out, "oifname \"{tun}\" ip6 saddr @entities counter name forwarded drop\n}}");

    out.push_str("chain output { type filter hook output priority filter - 10; policy accept;\n");
    out.push_str("ip6 saddr @owned goto owned\n");
    // Anybody may bind to an address that is not the machine's (IPV6_FREEBIND needs no capability).
    out.push_str(
        "ip6 saddr @tunnelled ip6 saddr != @entities fib saddr type != local counter name forged drop\n}\n",
    );

    out.push_str("chain owned {\n");
    out.push_str("ip6 saddr . meta skuid @owners accept\n");
    // True for every socket with an owner; a packet without one leaves the rule here.
    out.push_str("meta skuid != 4294967295 counter name other_uid drop\n");
    // The kernel on its own: RST, what is left of a connection whose socket is closed or not accepted yet, SYN cookies.
    // A SYN alone would begin a connection.
    out.push_str("meta l4proto tcp tcp flags & (syn | ack) != syn accept\n");
    out.push_str("icmpv6 type != echo-request accept\n");
    out.push_str("counter name no_socket drop\n}\n}\n");
    out
}

fn set(out: &mut String, name: &str, kind: &str, elements: impl Iterator<Item = String>) {
    let elements: Vec<String> = elements.collect();
    let _ = write!(out, "set {name} {{ {kind} ");
    if !elements.is_empty() {
        let _ = write!(out, "elements = {{ {} }}", elements.join(", "));
    }
    out.push_str(" }\n");
}

/// Matches two prefixes; one that takes in everything matches without being named.
fn between(source: &str, from: &ipnet::Ipv6Net, destination: &str, to: &ipnet::Ipv6Net) -> String {
    [(source, from), (destination, to)]
        .into_iter()
        .filter(|(_, prefix)| prefix.prefix_len() > 0)
        .map(|(field, prefix)| format!("ip6 {field} {prefix} "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(owners: &[(&str, u32)], bypassed: &[(&str, &str)]) -> Plan {
        Plan {
            interface: "dom-1".to_owned(),
            mtu: 1380,
            addresses: ["2002:c633:6401:1::a", "fd00::1"].map(|text| text.parse().unwrap()).to_vec(),
            owners: owners.iter().map(|(text, uid)| (text.parse().unwrap(), *uid)).collect(),
            routed: vec!["2002::/16".parse().unwrap()],
            bypassed: bypassed
                .iter()
                .map(|(a, b)| Bypass {
                    local: a.parse().unwrap(),
                    remote: b.parse().unwrap(),
                    left_alone: true,
                })
                .collect(),
        }
    }

    #[test]
    fn the_table_is_replaced_in_one_transaction() {
        let text = ruleset(&plan(&[], &[]));
        assert!(
            text.starts_with("table ip6 domicile { }\ndelete table ip6 domicile\ntable ip6 domicile {\n")
        );
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn an_address_is_spoken_from_by_its_owner_and_by_root() {
        let text = ruleset(&plan(&[("2002:c633:6401:1::a", 1000)], &[]));
        assert!(
            text.contains("elements = { 2002:c633:6401:1::a . 0, 2002:c633:6401:1::a . 1000 }"),
            "{text}"
        );
        // The other address is everybody's.
        assert!(text.contains("set owned { type ipv6_addr; elements = { 2002:c633:6401:1::a } }"), "{text}");
        assert!(text.contains("elements = { 2002::/16, 2002:c633:6401:1::a, fd00::1 }"), "{text}");
    }

    #[test]
    fn what_is_roots_stands_there_once() {
        let text = ruleset(&plan(&[("2002:c633:6401:1::a", 0)], &[]));
        assert!(text.contains("elements = { 2002:c633:6401:1::a . 0 }"), "{text}");
    }

    #[test]
    fn nobody_owns_anything_without_uids() {
        let text = ruleset(&plan(&[], &[]));
        assert!(text.contains("set owners { typeof ip6 saddr . meta skuid;  }"), "{text}");
    }

    #[test]
    fn what_policy_leaves_alone_arrives_in_clear() {
        let text = ruleset(&plan(&[], &[("::/0", "2002:c633:6402::/48"), ("fd00::1/128", "2002:1::/32")]));
        let bypass = text.find("ip6 saddr 2002:c633:6402::/48 accept\n").unwrap();
        assert!(bypass < text.rfind("goto tunnel_only").unwrap());
        assert!(text.contains("ip6 saddr 2002:1::/32 ip6 daddr fd00::1/128 accept\n"));
    }
}
