//! Single values: each is understood, or there is a problem with its place and a remedy.
#![expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ipnet::Ipv6Net;
use toml::Spanned;

use super::check::Checker;
use crate::crypto::secret::Secret;
use crate::daemon::lookup;
use crate::names::LookupError;

/// Octets of a name.
pub const MAX_NAME: usize = 63;

/// Why a text cannot name an entity or a peer.
pub fn name_problem(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (name.len() > MAX_NAME || !begins || !name.chars().all(plain)).then(|| {
        format!(
            "\"{}\" is not a name: use 1 to {MAX_NAME} letters, digits, '-', '_' and '.', beginning with a letter or digit",
            name.escape_debug()
        )
    })
}

/// Why an address cannot be a permanent one.
pub fn address_problem(address: Ipv6Addr) -> Option<String> {
    let link_local = address.is_unicast_link_local();
    (address.is_multicast() || address.is_unspecified() || address.is_loopback() || link_local)
        .then(|| format!("{address} cannot be a permanent address: it is not global unicast"))
}

/// Where a UDP datagram can be sent to.
fn endpoint_problem(endpoint: SocketAddrV4) -> Option<String> {
    if endpoint.port() == 0 {
        return Some("port 0 is no port: peers listen on 4500".to_owned());
    }
    let ip = endpoint.ip();
    (ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast())
        .then(|| format!("{ip} is nobody's address: write the one where the peer can be reached"))
}

/// A duration as a person writes it: the largest unit that leaves no rest.
fn plain(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let fits = units.into_iter().find(|(unit, _)| millis.is_multiple_of(*unit));
    fits.map_or_else(String::new, |(unit, name)| format!("{}{name}", millis / unit))
}

impl Checker<'_> {
    /// A key that has to be there.
    pub(super) fn required<'a, T>(
        &mut self,
        value: &'a Option<T>,
        table: &Range<usize>,
        kind: &str,
        key: &str,
        remedy: &str,
    ) -> Option<&'a T> {
        if value.is_none() && !self.read.was_told(table, key) {
            self.problems.at(table.clone(), format!("this {kind} has no {key}: {remedy}"));
        }
        value.as_ref()
    }

    pub(super) fn prefix(&mut self, text: &Spanned<String>) -> Option<Ipv6Net> {
        match text.get_ref().parse::<Ipv6Net>() {
            Ok(prefix) if prefix.trunc() == prefix => Some(prefix),
            Ok(prefix) => {
                self.problems.at(
                    text.span(),
                    format!("{prefix} has bits behind its length: write {}", prefix.trunc()),
                );
                None
            }
            Err(_) => match text.get_ref().parse::<Ipv6Addr>() {
                Ok(address) => Some(Ipv6Net::from(address)),
                Err(_) => {
                    self.problems.at(
                        text.span(),
                        format!(
                            "\"{}\" is not an IPv6 prefix: write it like 2002:c633:6401::/48",
                            text.get_ref()
                        ),
                    );
                    None
                }
            },
        }
    }

    pub(super) fn endpoint(&mut self, text: &Spanned<String>) -> Option<SocketAddrV4> {
        let found = match text.get_ref().parse() {
            Ok(endpoint) => Ok(endpoint),
            Err(_) => lookup::endpoint(text.get_ref(), None),
        };
        let endpoint = found.map_err(|error| self.problems.at(text.span(), error.to_string())).ok()?;
        if let Some(problem) = endpoint_problem(endpoint) {
            self.problems.at(text.span(), problem);
            return None;
        }
        Some(endpoint)
    }

    /// Where a home answers. That its host name has no address just now is no problem of the file: it is looked up again.
    pub(super) fn home_endpoint(&mut self, text: &Spanned<String>) -> Option<SocketAddrV4> {
        if self.is_home_name(text)
            && let Err(LookupError::NoAddress(_) | LookupError::NoResolver(_) | LookupError::Failed { .. }) =
                lookup::endpoint(text.get_ref(), None)
        {
            return None;
        }
        self.endpoint(text)
    }

    /// Is it the name of a host, with a port?
    pub(super) fn is_home_name(&self, text: &Spanned<String>) -> bool {
        let parts = text.get_ref().rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        matches!(parts, Some((host, Ok(1..))) if !host.is_empty() && host.parse::<Ipv4Addr>().is_err())
    }

    pub(super) fn address(&mut self, text: &Spanned<String>, owner: &str) -> Option<Ipv6Addr> {
        let Ok(address) = text.get_ref().parse::<Ipv6Addr>() else {
            self.problems.at(
                text.span(),
                format!("\"{}\" is not an IPv6 address: write it like 2002:c633:6401:100::1", text.get_ref()),
            );
            return None;
        };
        if let Some(problem) = address_problem(address) {
            self.problems.at(text.span(), problem);
            return None;
        }
        if let Some(other) = self.addresses.insert(address, owner.to_owned()) {
            self.problems.at(
                text.span(),
                format!("{address} belongs to \"{other}\" already: every address has one owner"),
            );
        }
        Some(address)
    }

    pub(super) fn name(&mut self, text: &Spanned<String>, kind: &'static str) {
        let name = text.get_ref();
        if let Some(problem) = name_problem(name) {
            self.problems.at(text.span(), problem);
        }
        if let Some(other) = self.names.insert(name.clone(), kind) {
            self.problems.at(
                text.span(),
                format!("the name \"{name}\" is taken by another {other}: choose a different one"),
            );
        }
    }

    /// A file that only its owner may read, beside the configuration unless the path is absolute.
    pub(super) fn secret_file(&mut self, file: &Spanned<String>, remedy: &str) -> Option<Secret> {
        let path = super::beside(self.path, file.get_ref());
        let shown = path.display();
        let read =
            std::fs::metadata(&path).and_then(|meta| Ok((meta.permissions().mode(), std::fs::read(&path)?)));
        match read {
            Ok((mode, _)) if mode & 0o077 != 0 => {
                self.problems.at(
                    file.span(),
                    format!(
                        "{shown} can be read by others (mode {:o}): run 'chmod 600 {shown}'",
                        mode & 0o777
                    ),
                );
                None
            }
            Ok((_, bytes)) => Some(Secret::new(bytes)),
            Err(error) => {
                let what = match error.kind() {
                    std::io::ErrorKind::NotFound => "does not exist".to_owned(),
                    std::io::ErrorKind::PermissionDenied => "may not be read by you".to_owned(),
                    _ => error.to_string(),
                };
                self.problems.at(file.span(), format!("{shown} {what}: {remedy}"));
                None
            }
        }
    }

    pub(super) fn number<N: Copy + PartialOrd + Display>(
        &mut self,
        value: &Option<Spanned<N>>,
        default: N,
        range: RangeInclusive<N>,
        name: &str,
        hint: &str,
    ) -> N {
        let Some(text) = value else { return default };
        if !range.contains(text.get_ref()) {
            self.problems.at(
                text.span(),
                format!(
                    "{name} = {} is not between {} and {}: {hint}",
                    text.get_ref(),
                    range.start(),
                    range.end()
                ),
            );
        }
        *text.get_ref()
    }

    /// A duration, if there is one and it is good.
    pub(super) fn duration(
        &mut self,
        text: &Option<Spanned<String>>,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = text.as_ref()?;
        let written = text.get_ref();
        let message = match humantime::parse_duration(written) {
            Ok(duration) if range.contains(&duration) => return Some(duration),
            Ok(duration) if duration < *range.start() => {
                format!("\"{written}\" is too short: write at least \"{}\"", plain(*range.start()))
            }
            Ok(_) | Err(humantime::DurationError::NumberOverflow) => {
                format!("\"{written}\" is too long: write at most \"{}\"", plain(*range.end()))
            }
            Err(_) => format!("\"{written}\" is not a duration: write it like \"90s\", \"15m\" or \"4h\""),
        };
        self.problems.at(text.span(), message);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_as_they_are_written() {
        let shown =
            [50, 1000, 90_000, 7_200_000, 365 * 86_400_000].map(|ms| plain(Duration::from_millis(ms)));
        assert_eq!(shown, ["50ms", "1s", "90s", "2h", "365d"]);
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "left.example", "9", "a-b_c"] {
            assert_eq!(name_problem(good), None);
        }
        for bad in ["", "../x", "-x", ".x", "a b", "ä", "a\n", &"x".repeat(64)] {
            assert!(name_problem(bad).is_some_and(|said| !said.contains('\n')), "{bad:?}");
        }
    }
}
