//! `domicile status`

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use hyper::Method;

use super::args::{Cli, StatusArgs};
use super::client::{NO_BODY, ask};
use super::exit::{FAILURE, Failed};
use super::output::write;
use super::paths::write_paths;
use super::render::{age, bytes, count, table};
use super::verbs::request;
use crate::api::mobility::{HomeStatus, RegistrationStatus};
use crate::api::{
    CertificateStatus, ChildStatus, DataPlaneStatus, EntityStatus, IkeStatus, PeerStatus, Status,
};
use crate::daemon::system::unix;

/// More often than this the daemon would be busy telling.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(cli: &Cli, args: &StatusArgs) -> Result<(), Failed> {
    loop {
        let document: serde_json::Value = match &args.peer {
            None => ask(cli, Method::GET, "/v1/status", NO_BODY, PATIENCE)?,
            Some(peer) => ask(cli, Method::POST, "/v1/peer", Some(&request(peer)), PATIENCE)?,
        };
        let text = if args.json {
            // One document a line when there are many.
            if args.watch.is_some() { format!("{document}\n") } else { format!("{document:#}\n") }
        } else {
            let rendered = match &args.peer {
                None => serde_json::from_value(document).map(|status| render(&status)),
                Some(_) => serde_json::from_value(document).map(|peer| render_peer(&peer)),
            };
            rendered.map_err(|error| {
                Failed::new(
                    FAILURE,
                    format!("the daemon's status is not understood ({error}): is it another version?"),
                )
            })?
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

/// What is not as on most machines.
fn write_data_plane(out: &mut String, data_plane: &DataPlaneStatus) {
    let missing = data_plane.missing.join(", ");
    let _ = match (data_plane.queues, missing.is_empty()) {
        (0 | 1, true) => Ok(()),
        (0 | 1, false) => writeln!(out, "packets are carried without {missing}, which is slower"),
        (queues, true) => writeln!(out, "packets are carried by {queues} queues"),
        (queues, false) => {
            writeln!(out, "packets are carried by {queues} queues, without {missing}, which is slower")
        }
    };
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
    write_data_plane(&mut out, &status.data_plane);
    write_entities(&mut out, &status.entities);
    for entity in status.entities.iter().filter(|entity| entity.host.is_none()) {
        if let Some(certificate) = &entity.certificate {
            let _ = writeln!(out, "  {}: {}", entity.name, ends(certificate, unix()));
        }
    }
    write_registrations(&mut out, &status.registrations);
    if let Some(home) = &status.home {
        write_home(&mut out, home);
    }
    let peers: Vec<[String; 5]> = status.peers.iter().map(peer_row).collect();
    let _ = write!(out, "\n{}", table(&["PEER", "STATE", "SAS", "ADDRESS", "PATH"], &peers));
    for peer in &status.peers {
        if let Some(error) = &peer.last_error {
            let _ = writeln!(out, "  {}: {error}", peer.name);
        }
    }
    let shown = status.peers.iter().filter(|peer| peer.state != "idle" || !peer.ike.is_empty()).count();
    if let Some(more) = status.pairs.checked_sub(shown as u64).filter(|more| *more > 0 && shown >= 100) {
        let _ = writeln!(out, "  … and {more} more: 'domicile status PEER' shows one of them");
    }
    for peer in status.peers.iter().filter(|peer| !peer.ike.is_empty() || !peer.children.is_empty()) {
        write_peer(&mut out, peer, false);
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

/// One peer for a person.
fn render_peer(peer: &PeerStatus) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} is {}, {}", peer.name, peer.address, peer.state);
    if let Some(error) = &peer.last_error {
        let _ = writeln!(out, "  {error}");
    }
    write_peer(&mut out, peer, true);
    out
}

fn write_peer(out: &mut String, peer: &PeerStatus, whole: bool) {
    if !whole {
        let _ = writeln!(out, "\n{}", peer.name);
    }
    peer.paths.iter().for_each(|path| write_paths(out, path, whole));
    peer.ike.iter().for_each(|ike| write_ike(out, ike));
    peer.children.iter().for_each(|child| write_child(out, child));
}

fn write_registrations(out: &mut String, registrations: &[RegistrationStatus]) {
    if registrations.is_empty() {
        return;
    }
    let within = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), age);
    let rows: Vec<[String; 6]> = registrations
        .iter()
        .map(|one| {
            let nat = if one.behind_nat { " (NAT)" } else { "" };
            [
                one.home_address.to_string(),
                one.home_agent.to_string(),
                one.state.clone(),
                one.care_of.map_or_else(|| "-".to_owned(), |seen| format!("{seen}{nat}")),
                within(one.expires),
                within(one.refresh),
            ]
        })
        .collect();
    let head = ["REGISTERS", "WITH", "STATE", "SEEN AT", "ENDS IN", "RENEWED IN"];
    let _ = write!(out, "\n{}", table(&head, &rows));
    for (one, error) in registrations.iter().filter_map(|one| Some((one, one.last_error.as_ref()?))) {
        let _ = writeln!(out, "  {}: {error}", one.home_address);
    }
}

fn write_home(out: &mut String, home: &HomeStatus) {
    let number = |number: u64, one, many| count(usize::try_from(number).unwrap_or(usize::MAX), one, many);
    let _ = writeln!(
        out,
        "\nThis machine is the home {}: {} can be reached, {}, {}.",
        home.prefix,
        number(home.bindings, "entity", "entities"),
        number(home.prefixes, "bound prefix", "bound prefixes"),
        number(home.tentative, "care-of address not proven yet", "care-of addresses not proven yet"),
    );
}

/// A node may have a thousand services: many are counted.
fn write_entities(out: &mut String, entities: &[EntityStatus]) {
    const FEW: usize = 8;
    let hosted = entities.iter().filter(|entity| entity.host.is_some()).count();
    let shown = |entity: &&EntityStatus| entity.host.is_none() || hosted <= FEW;
    let rows: Vec<[String; 4]> = entities.iter().filter(shown).map(entity_row).collect();
    let _ = write!(out, "\n{}", table(&["ENTITY", "ADDRESS", "USER", "PUBLIC KEY"], &rows));
    if hosted > FEW {
        let _ = writeln!(
            out,
            "  … and {hosted} services and floating addresses that the home put on these: 'domicile status --json' lists them"
        );
    }
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
        let renewed = Duration::from_secs(certificate.renew_at.saturating_sub(now)).as_secs_f64();
        format!("its certificate is valid for another {}, and is renewed in {}", age(left), age(renewed))
    }
}

/// Two state columns: what the peer is to us, and what its SAs are doing.
fn peer_row(peer: &PeerStatus) -> [String; 5] {
    // Those that stand beside the active one are as ready as that.
    let children = peer.children.iter().filter(|child| child.state != "additional").count();
    let sas = match (peer.ike.len(), children) {
        (0, 0) => "none",
        (1, 1) => "ready",
        (0, _) | (_, 0) => "partial",
        _ => "rekeying",
    };
    let path = peer.paths.first().map_or_else(String::new, |path| format!("{} {}", path.kind, path.remote));
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
                host: None,
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
                paths: Vec::new(),
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
