//! `domicile status`

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use hyper::Method;

use super::args::{Cli, StatusArgs};
use super::client::{NO_BODY, ask};
use super::exit::{FAILURE, Failed};
use super::output::write;
use super::render::{age, bytes, table};
use crate::api::{CertificateStatus, ChildStatus, EntityStatus, IkeStatus, PeerStatus, Status};
use crate::daemon::system::unix;

/// More often than this the daemon would be busy telling.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

pub(super) fn run(cli: &Cli, args: &StatusArgs) -> Result<(), Failed> {
    loop {
        let document: serde_json::Value =
            ask(cli, Method::GET, "/v1/status", NO_BODY, Duration::from_secs(5))?;
        let text = if args.json {
            // One document a line when there are many.
            if args.watch.is_some() { format!("{document}\n") } else { format!("{document:#}\n") }
        } else {
            let status: Status = serde_json::from_value(document).map_err(|error| {
                Failed::new(
                    FAILURE,
                    format!("the daemon's status is not understood ({error}): is it another version?"),
                )
            })?;
            render(&status)
        };
        let Some(pause) = args.watch else { return write(&text) };
        if !args.json && std::io::stdout().is_terminal() {
            // Clear the screen and go home (ECMA-48).
            write("\x1b[2J\x1b[H")?;
        }
        write(&text)?;
        std::thread::sleep(pause.max(LEAST_PAUSE));
    }
}

/// The whole status for a person. Writing to a String cannot fail.
fn render(status: &Status) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "domicile {} is up for {}: {}, MTU {}, UDP port {}, process {}",
        status.version,
        age(status.uptime),
        status.interface,
        status.mtu,
        status.port,
        status.pid
    );
    let entities: Vec<[String; 4]> = status.entities.iter().map(entity_row).collect();
    let _ = write!(out, "\n{}", table(&["ENTITY", "ADDRESS", "USER", "PUBLIC KEY"], &entities));
    for entity in &status.entities {
        if let Some(certificate) = &entity.certificate {
            let _ = writeln!(out, "  {}: {}", entity.name, ends(certificate, unix()));
        }
    }
    let peers: Vec<[String; 5]> = status.peers.iter().map(peer_row).collect();
    let _ = write!(out, "\n{}", table(&["PEER", "STATE", "SAS", "ADDRESS", "PATH"], &peers));
    for peer in &status.peers {
        if let Some(error) = &peer.last_error {
            let _ = writeln!(out, "  {}: {error}", peer.name);
        }
    }
    for peer in status.peers.iter().filter(|peer| !peer.ike.is_empty() || !peer.children.is_empty()) {
        let _ = writeln!(out, "\n{}", peer.name);
        peer.ike.iter().for_each(|ike| write_ike(&mut out, ike));
        peer.children.iter().for_each(|child| write_child(&mut out, child));
    }
    for (what, counts) in [("RELAYED", &status.relayed), ("DROPPED", &status.drops)] {
        let rows: Vec<[String; 2]> =
            counts.iter().map(|(reason, count)| [reason.clone(), count.to_string()]).collect();
        if !rows.is_empty() {
            let _ = write!(out, "\n{}", table(&[what, "COUNT"], &rows));
        }
    }
    out
}

fn entity_row(entity: &EntityStatus) -> [String; 4] {
    let user = entity.uid.map_or_else(|| "everybody".to_owned(), |uid| format!("uid {uid}"));
    [entity.name.clone(), entity.address.to_string(), user, entity.public_key.clone()]
}

/// When a certificate ends, and whether that is a reason to worry.
fn ends(certificate: &CertificateStatus, now: u64) -> String {
    let left = Duration::from_secs(certificate.not_after.saturating_sub(now)).as_secs_f64();
    if certificate.not_after <= now {
        "its certificate has ended: the home that renews it was not reachable".to_owned()
    } else if certificate.renew_at + (certificate.not_after - certificate.renew_at) / 2 <= now {
        format!("its certificate ends in {} and was not renewed: is its home reachable?", age(left))
    } else {
        format!("its certificate is valid for another {}", age(left))
    }
}

/// Two state columns: what the peer is to us, and what its SAs are doing.
fn peer_row(peer: &PeerStatus) -> [String; 5] {
    let sas = match (peer.ike.len(), peer.children.len()) {
        (0, 0) => "none",
        (1, 1) => "ready",
        (0, _) | (_, 0) => "partial",
        _ => "rekeying",
    };
    let path =
        peer.ike.first().map_or_else(String::new, |ike| format!("{} {}", ike.path_kind, ike.path_remote));
    [peer.name.clone(), peer.state.clone(), sas.to_owned(), peer.address.to_string(), path]
}

fn write_ike(out: &mut String, ike: &IkeStatus) {
    let nat = match (ike.nat_local, ike.nat_remote) {
        (false, false) => "no NAT",
        (true, false) => "we are behind a NAT",
        (false, true) => "the peer is behind a NAT",
        (true, true) => "NATs at both ends",
    };
    let rtt = ike.rtt.map_or_else(|| "rtt unknown".to_owned(), |rtt| format!("rtt {:.1} ms", rtt * 1e3));
    let _ = writeln!(
        out,
        "  ike    {}_i {}_r{}, {}, age {}, {rtt}",
        ike.spi_i,
        ike.spi_r,
        if ike.initiator { "" } else { " (the peer started it)" },
        ike.suite,
        age(ike.age)
    );
    let _ = writeln!(
        out,
        "         {} {} -> {}, {nat}{}{}",
        ike.path_kind,
        ike.path_local,
        ike.path_remote,
        if ike.mobike { ", MOBIKE" } else { "" },
        if ike.peer_is_domicile { ", domicile" } else { "" }
    );
}

fn write_child(out: &mut String, child: &ChildStatus) {
    let _ = writeln!(
        out,
        "  child  {}, {}, {}, {} sequence numbers, age {}",
        child.state,
        child.suite,
        child.services,
        if child.esn { "64-bit" } else { "32-bit" },
        age(child.age)
    );
    for (name, sa) in [("in ", &child.inbound), ("out", &child.outbound)] {
        let _ = writeln!(
            out,
            "    {name}  ({}, {}, {})  {} packets, {}",
            sa.destination,
            sa.protocol,
            sa.spi,
            sa.packets,
            bytes(sa.bytes)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SaStatus;

    #[test]
    fn a_status_shows_the_triple_and_why_something_failed() {
        let sa = |spi: &str| SaStatus {
            destination: "2002:c633:6401:1::10".parse().unwrap(),
            protocol: "esp".to_owned(),
            spi: spi.to_owned(),
            packets: 7,
            bytes: 2048,
        };
        let status = Status {
            entities: vec![EntityStatus {
                name: "me".to_owned(),
                address: "2002:c633:6401:1::10".parse().unwrap(),
                public_key: "KEY".to_owned(),
                certificate: None,
                uid: Some(1000),
            }],
            peers: vec![PeerStatus {
                name: "you".to_owned(),
                address: "2002:c633:6402:1::20".parse().unwrap(),
                state: "failed".to_owned(),
                last_error: Some("nobody home".to_owned()),
                ike: Vec::new(),
                children: vec![ChildStatus {
                    inbound: sa("0x00001000"),
                    outbound: sa("0x00002000"),
                    suite: "aes-256-gcm".to_owned(),
                    services: "confidentiality".to_owned(),
                    esn: true,
                    state: "active".to_owned(),
                    age: 3.0,
                }],
            }],
            drops: [("replayed".to_owned(), 3)].into(),
            ..Status::default()
        };
        let text = render(&status);
        for part in [
            "(2002:c633:6401:1::10, esp, 0x00001000)  7 packets, 2.0 KiB",
            "nobody home",
            "uid 1000",
            "replayed",
            "64-bit",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }
}
