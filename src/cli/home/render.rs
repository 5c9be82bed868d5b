//! The documents of a home for people.

use std::time::{Duration, UNIX_EPOCH};

use crate::api::home::{
    AuditDocument, EntityDetail, EntityDocument, HomeDocument, InvitationDocument, IssuedDocument,
    PendingDocument,
};
use crate::api::mobility::BindingDocument;
use crate::cli::render::{age, count, table};

/// Seconds since 1970 as `2026-07-01 12:00:00`, in UTC.
pub(in crate::cli) fn time(seconds: u64) -> String {
    // The year 9999 is the last that the format can show.
    let at = UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', "")
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

pub(super) fn home(home: &HomeDocument) -> String {
    let number = |number: u64, one, many| count(usize::try_from(number).unwrap_or(usize::MAX), one, many);
    format!(
        "prefix   {}\ndomain   {}\naddress  {}\nsince    {} UTC\nroot     {}\n{}, {}, {}, {}\n",
        home.prefix,
        home.domain.as_deref().unwrap_or("none"),
        home.address,
        time(home.created),
        home.root.as_deref().unwrap_or("unknown"),
        number(home.users, "user", "users"),
        number(home.devices, "device", "devices"),
        number(home.nodes, "node", "nodes"),
        number(home.services, "service", "services"),
    )
}

/// What belongs to an entity's kind, in one column.
fn place(entity: &EntityDocument) -> String {
    match (&entity.node, &entity.holder, entity.kind.as_str()) {
        (Some(node), _, _) if entity.moved => format!("moved to {node}"),
        (Some(node), _, _) => format!("on {node}"),
        (_, Some(holder), _) => format!("held by {holder}"),
        (_, None, "user") => "held by no device".to_owned(),
        (_, _, "node") => entity.prefix.clone(),
        _ => String::new(),
    }
}

pub(super) fn entities(list: &[EntityDocument]) -> String {
    let rows: Vec<[String; 6]> = list
        .iter()
        .map(|entity| {
            let key = if entity.fingerprint.is_some() || entity.kind == "user" { "" } else { "no key yet" };
            [
                entity.name.clone(),
                entity.kind.clone(),
                entity.address.to_string(),
                if entity.state == "active" { key.to_owned() } else { entity.state.clone() },
                place(entity),
                time(entity.created),
            ]
        })
        .collect();
    table(&["NAME", "KIND", "ADDRESS", "STATE", "WHERE", "SINCE (UTC)"], &rows)
}

pub(super) fn detail(detail: &EntityDetail) -> String {
    let entity = &detail.entity;
    let mut lines = vec![
        format!("{}  {}", entity.name, entity.kind),
        format!("  name         {}", entity.full_name.as_deref().unwrap_or(&entity.name)),
        format!("  address      {}", entity.address),
    ];
    let place = place(entity);
    if !place.is_empty() {
        lines.push(format!("  where        {place}"));
    }
    for (key, value) in [("public key", &entity.public_key), ("fingerprint", &entity.fingerprint)] {
        if let Some(value) = value {
            lines.push(format!("  {key:12} {value}"));
        }
    }
    lines.push(format!("  since        {} UTC", time(entity.created)));
    for name in detail.names.iter().filter(|name| name.until.is_some()) {
        lines.push(format!(
            "  was named    {} until {} UTC",
            name.name,
            time(name.until.unwrap_or_default())
        ));
    }
    for key in &detail.keys {
        if let (Some(until), Some(reason)) = (key.until, &key.reason) {
            lines.push(format!("  had key      {} until {} UTC ({reason})", key.fingerprint, time(until)));
        }
    }
    let mut text = lines.join("\n") + "\n";
    if !detail.members.is_empty() {
        text.push('\n');
        text.push_str(&entities(&detail.members));
    }
    text
}

pub(super) fn invitations(list: &[InvitationDocument]) -> String {
    let rows: Vec<[String; 6]> = list
        .iter()
        .map(|entry| {
            [
                entry.id.to_string(),
                entry.whom.clone(),
                or_dash(entry.device.as_deref()),
                entry.state.clone(),
                time(entry.expires),
                or_dash(entry.joined.as_deref()),
            ]
        })
        .collect();
    table(&["NUMBER", "FOR", "DEVICE", "STATE", "VALID UNTIL (UTC)", "JOINED"], &rows)
}

pub(super) fn pending(list: &[PendingDocument]) -> String {
    let rows: Vec<[String; 6]> = list
        .iter()
        .map(|entry| {
            [
                entry.id.to_string(),
                entry.fingerprint.clone(),
                entry.whom.clone(),
                or_dash(entry.device.as_deref()),
                entry.source.to_string(),
                time(entry.created),
            ]
        })
        .collect();
    table(&["NUMBER", "FINGERPRINT", "AS", "DEVICE", "FROM", "SINCE (UTC)"], &rows)
}

pub(super) fn bindings(list: &[BindingDocument], limit: u64) -> String {
    let rows: Vec<[String; 6]> = list
        .iter()
        .map(|entry| {
            let nat = match entry.behind_nat {
                Some(true) => "yes",
                Some(false) => "no",
                None => "unknown",
            };
            let place = match (entry.care_of, entry.tentative) {
                (None, Some(tentative)) => format!("{tentative}?"),
                (Some(care_of), Some(tentative)) => format!("{care_of}, soon {tentative}?"),
                (care_of, None) => care_of.map_or_else(|| "-".to_owned(), |care_of| care_of.to_string()),
            };
            [
                entry.prefix.clone(),
                entry.home_address.to_string(),
                place,
                nat.to_owned(),
                age(entry.remaining),
                entry.sequence.to_string(),
            ]
        })
        .collect();
    let mut text = table(&["PREFIX", "BOUND BY", "AT", "NAT", "ENDS IN", "SEQUENCE"], &rows);
    if rows.len() as u64 == limit {
        text.push_str("There may be more: name a prefix, or ask for more with -n.\n");
    }
    text
}

pub(super) fn log(list: &[AuditDocument]) -> String {
    let rows: Vec<[String; 6]> = list
        .iter()
        .map(|entry| {
            [
                entry.id.to_string(),
                time(entry.at),
                entry.who.clone(),
                entry.verb.clone(),
                entry.subject.clone(),
                entry.detail.clone(),
            ]
        })
        .collect();
    table(&["NUMBER", "WHEN (UTC)", "WHO", "WHAT", "WHOM", "DETAIL"], &rows)
}

pub(super) fn issued(list: &[IssuedDocument]) -> String {
    let rows: Vec<[String; 6]> = list
        .iter()
        .map(|entry| {
            [
                entry.sequence.to_string(),
                time(entry.at),
                entry.name.clone(),
                entry.address.to_string(),
                time(entry.not_after),
                entry.hash.chars().take(16).collect(),
            ]
        })
        .collect();
    table(&["NUMBER", "WHEN (UTC)", "NAME", "ADDRESS", "VALID UNTIL (UTC)", "HASH"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_places_are_readable() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(1_800_000_000), "2027-01-15 08:00:00");
        assert_eq!(time(u64::MAX), "9999-12-31 23:59:59");
        let service = EntityDocument {
            kind: "service".to_owned(),
            name: "web".to_owned(),
            full_name: None,
            address: "2002:c633:6401:100::2".parse().unwrap(),
            prefix: "2002:c633:6401:100::2/128".to_owned(),
            state: "active".to_owned(),
            user: None,
            node: Some("server2".to_owned()),
            moved: true,
            holder: None,
            public_key: None,
            fingerprint: None,
            created: 0,
            removed: None,
        };
        let text = entities(std::slice::from_ref(&service));
        assert!(
            text.contains("web   service  2002:c633:6401:100::2  no key yet  moved to server2"),
            "{text}"
        );
    }
}
