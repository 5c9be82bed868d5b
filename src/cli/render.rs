//! Numbers and tables for people.

use std::fmt::Write;

/// "1 peer", "2 peers".
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Octets with a binary unit.
pub(super) fn bytes(octets: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = octets as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{octets} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Seconds as "5s", "3m 20s", "2h 5m", "4d 1h".
pub(super) fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Columns as wide as their widest cell.
pub(super) fn table<const N: usize>(header: &[&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut out = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(out, "{cell:width$}  ");
        }
        text.push_str(out.trim_end());
        text.push('\n');
    };
    line(*header);
    for row in rows {
        line(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(age(5.9), "5s");
        assert_eq!(age(200.0), "3m 20s");
        assert_eq!(age(7500.0), "2h 5m");
        assert_eq!(age(90_000.0), "1d 1h");
        assert_eq!(count(1, "peer", "peers"), "1 peer");
    }

    #[test]
    fn columns_line_up() {
        let text =
            table(&["A", "B"], &[["long".to_owned(), "x".to_owned()], ["y".to_owned(), "z".to_owned()]]);
        assert_eq!(text, "A     B\nlong  x\ny     z\n");
    }
}
