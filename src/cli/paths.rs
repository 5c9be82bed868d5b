//! Which way packets go, why, and how they went before: for `status` and `ping`.

use std::fmt::Write;

use super::render::age;
use crate::api::paths::{PathChange, PathsStatus};

/// The path in use, in one line without its end.
pub(super) fn in_use(path: &PathsStatus) -> String {
    let rtt = path.rtt.map_or_else(String::new, |rtt| format!(", rtt {:.1} ms", rtt * 1e3));
    let mtu = match path.mtu_state.as_str() {
        "proven" => path.mtu.to_string(),
        "narrow" => format!("{0}, but packets of {0} octets are lost", path.mtu),
        state => format!("{} ({state})", path.mtu),
    };
    format!("{} {} for {}: {}{rtt}, MTU {mtu}", path.kind, path.remote, age(path.age), path.reason)
}

/// What went before it, the newest first, at most so many; one line each.
pub(super) fn before(path: &PathsStatus, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let later = path.history.iter().skip(1).map(|change| change.age);
    let ended: Vec<(&PathChange, f64)> = path.history.iter().zip(later).collect();
    for (change, until) in ended.iter().rev().take(most) {
        lines.push(format!("{} {} until {} ago: {}", change.kind, change.remote, age(*until), change.reason));
    }
    if ended.len() > most {
        lines.push(format!("… and {} earlier ones", ended.len() - most));
    }
    lines
}

/// Everything about the paths of one peer. Writing to a String cannot fail.
pub(super) fn write_paths(out: &mut String, path: &PathsStatus, whole: bool) {
    /// Earlier paths that the list of all peers shows.
    const FEW: usize = 3;
    let _ = writeln!(out, "  path   {}", in_use(path));
    for line in before(path, if whole { usize::MAX } else { FEW }) {
        let _ = writeln!(out, "         before: {line}");
    }
    if !whole {
        return;
    }
    for candidate in &path.candidates {
        let rtt = candidate.rtt.map_or_else(String::new, |rtt| format!(", rtt {:.1} ms", rtt * 1e3));
        let seen = candidate.seen_as.map_or_else(String::new, |address| format!(", sees us at {address}"));
        let used = if candidate.in_use { ", in use" } else { "" };
        let _ = writeln!(
            out,
            "         candidate {} ({}): {}{used}{rtt}{seen}",
            candidate.address, candidate.kind, candidate.state
        );
    }
    if !path.offered.is_empty() {
        let offered: Vec<String> = path.offered.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "         we offer  {}", offered.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_what_was_before_comes_first() {
        let change = |age: f64, kind: &str, reason: &str| PathChange {
            age,
            kind: kind.to_owned(),
            remote: "192.0.2.1:4500".parse().unwrap(),
            reason: reason.to_owned(),
        };
        let path = PathsStatus {
            local: "2002:c633:6401:1::10".parse().unwrap(),
            kind: "direct".to_owned(),
            remote: "203.0.113.2:40000".parse().unwrap(),
            reason: "a direct path was proven".to_owned(),
            age: 5.0,
            mtu: 1380,
            mtu_state: "proven".to_owned(),
            proven_mtu: Some(1380),
            rtt: Some(0.0015),
            history: vec![
                change(200.0, "relayed", "conversations start relayed"),
                change(100.0, "direct", "a direct path was proven"),
                change(60.0, "relayed", "the direct path stopped answering"),
                change(5.0, "direct", "a direct path was proven"),
            ],
            candidates: Vec::new(),
            offered: vec!["10.0.0.1:4500".parse().unwrap()],
        };
        let mut text = String::new();
        write_paths(&mut text, &path, true);
        let wanted =
            "  path   direct 203.0.113.2:40000 for 5s: a direct path was proven, rtt 1.5 ms, MTU 1380
         before: relayed 192.0.2.1:4500 until 5s ago: the direct path stopped answering
         before: direct 192.0.2.1:4500 until 1m 0s ago: a direct path was proven
         before: relayed 192.0.2.1:4500 until 1m 40s ago: conversations start relayed
         we offer  10.0.0.1:4500
";
        assert_eq!(text, wanted);
        assert_eq!(before(&path, 1).last().map(String::as_str), Some("… and 2 earlier ones"));
    }
}
