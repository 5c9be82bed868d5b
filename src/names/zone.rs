//! A home's zone: authoritative for its domain and for the reverse tree of its /48, and for nothing else.
//!
//! ```text
//! home.example.org               SOA, NS, AAAA (the home agent)
//! ns.home.example.org            AAAA (the home agent)
//! alice.home.example.org         AAAA (her floating address)
//! laptop.alice.home.example.org  AAAA (that device)
//! 1.0.4.6.3.3.6.c.2.0.0.2.ip6.arpa           SOA, NS; below it a PTR for each of those addresses
//! ```
//!
//! There is no A record anywhere: RFC 6724 ranks 2002::/16 below IPv4, and one would take connections past the tunnel.
//!
//! Names between the reverse apex and a whole address always exist and are empty: so nobody can walk the tree to find
//! who is there (RFC 8020 makes NXDOMAIN say that there is nothing below).

use std::net::Ipv6Addr;

use domain::base::iana::{Class, OptRcode, Rtype};
use domain::base::message_builder::{AnswerBuilder, PushError};
use domain::base::name::Label;
use domain::base::{Name, NameBuilder, RelativeName, Serial, ToName, Ttl};
use domain::rdata::{Aaaa, Ns, Ptr, Soa};
use ipnet::Ipv6Net;

use super::message::{Builder, NoQuery, Query, Transport, refuse};
use super::table::{Table, Unavailable};
use crate::addr::plan::agent_of;

/// How long an answer is kept: a moved or removed name is gone after it.
const POSITIVE: Ttl = Ttl::from_secs(60);
/// How long "there is nothing" is kept (RFC 2308 §5): a new name is seen after it.
const NEGATIVE: Ttl = Ttl::from_secs(30);
/// Nobody copies the zone, so nobody compares its serial number, refreshes or expires it.
const SERIAL: Serial = Serial(1);
const REFRESH: Ttl = Ttl::from_secs(3600);
const RETRY: Ttl = Ttl::from_secs(600);
const EXPIRE: Ttl = Ttl::from_secs(86_400);
/// Labels of an address in the reverse tree (RFC 3596 §2.5): one for each four bits.
const NIBBLES: usize = 32;

/// Why there is no zone for a domain and a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// Not a domain, or too long for names in it.
    #[error("\"{domain}\" cannot be the domain of a home ({reason}): use one like home.example.org")]
    Domain {
        /// What it is.
        domain: String,
        /// Why it is none.
        reason: String,
    },
    /// The home has a /48, whatever it is called.
    #[error("{0} is not the prefix of a home: that is a /48")]
    Prefix(Ipv6Net),
}

/// What a home says about its names.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Name<Vec<u8>>,
    reverse: Name<Vec<u8>>,
    agent: Ipv6Addr,
    prefix: Ipv6Net,
    name_server: Name<Vec<u8>>,
    mailbox: Name<Vec<u8>>,
}

/// What a name is.
enum Found {
    /// The top of one of the two trees.
    Apex,
    /// It has an address.
    Address(Ipv6Addr),
    /// It is an address and has a name.
    Pointer(Name<Vec<u8>>),
    /// It exists and has nothing.
    Empty,
    /// It does not exist.
    Nothing,
}

impl Zone {
    /// A zone for a home's domain and its /48.
    ///
    /// # Errors
    /// The one is not a domain or the other no /48.
    pub fn new(domain: &str, prefix: Ipv6Net) -> Result<Self, ZoneError> {
        let apex = apex(domain)?;
        let below = |label: &str| {
            let mut builder = NameBuilder::new_vec();
            let name =
                builder.append_label(label.as_bytes()).ok().and_then(|()| builder.append_origin(&apex).ok());
            name.ok_or_else(|| refused(domain, "it is too long for names in it"))
        };
        Ok(Self {
            reverse: reverse(prefix)?,
            agent: agent_of(prefix),
            prefix,
            name_server: below("ns")?,
            mailbox: below("root")?,
            domain: apex.clone(),
        })
    }

    /// The address of the home agent: the zone is served there.
    pub fn agent(&self) -> Ipv6Addr {
        self.agent
    }

    /// Answers a query. `None`: it deserves no answer, because it is none.
    pub fn answer(&self, octets: &[u8], transport: Transport, table: &dyn Table) -> Option<Vec<u8>> {
        let query = match Query::parse(octets) {
            Ok(query) => query,
            Err(NoQuery::Silence) => return None,
            Err(NoQuery::Refused(rcode)) => return refuse(octets, rcode),
        };
        Some(self.answer_query(&query, query.limit(transport), table))
    }

    pub(super) fn answer_query(&self, query: &Query<'_>, limit: usize, table: &dyn Table) -> Vec<u8> {
        if query.has_unknown_edns() {
            return query.code(OptRcode::BADVERS);
        }
        let transfer = query.qtype == Rtype::AXFR || query.qtype == Rtype::IXFR;
        let Ok(name) = query.name() else { return query.code(OptRcode::FORMERR) };
        let tree = if name.ends_with(&self.domain) {
            Some(&self.domain)
        } else if name.ends_with(&self.reverse) {
            Some(&self.reverse)
        } else {
            None
        };
        let Some(apex) = tree.filter(|_| query.qclass == Class::IN && !transfer) else {
            return query.code(OptRcode::REFUSED);
        };
        match self.find(&name, apex, table) {
            Ok(found) => self.compose(query, limit, &name, apex, &found),
            Err(Unavailable) => query.code(OptRcode::SERVFAIL),
        }
    }

    fn find(
        &self,
        name: &Name<Vec<u8>>,
        apex: &Name<Vec<u8>>,
        table: &dyn Table,
    ) -> Result<Found, Unavailable> {
        let below = name.label_count().saturating_sub(apex.label_count());
        let labels = || name.iter().take(below);
        if below == 0 {
            return Ok(Found::Apex);
        }
        if apex == &self.reverse {
            return self.find_reverse(labels(), below, table);
        }
        if name == &self.name_server {
            return Ok(Found::Address(self.agent));
        }
        let Some(relative) = relative(labels()) else { return Ok(Found::Nothing) };
        Ok(table.address(&relative)?.map_or(Found::Nothing, Found::Address))
    }

    fn find_reverse<'a>(
        &self,
        labels: impl Iterator<Item = &'a Label>,
        below: usize,
        table: &dyn Table,
    ) -> Result<Found, Unavailable> {
        let mut bits: u128 = 0;
        // The lowest four bits come first.
        for (index, label) in labels.enumerate() {
            let digit = match label.as_slice() {
                [digit] => char::from(*digit).to_digit(16),
                _ => None,
            };
            let Some(digit) = digit.filter(|_| index < NIBBLES) else { return Ok(Found::Nothing) };
            bits |= u128::from(digit) << (4 * index);
        }
        let whole = NIBBLES - usize::from(self.prefix.prefix_len()) / 4;
        if below != whole {
            return Ok(if below < whole { Found::Empty } else { Found::Nothing });
        }
        let address = Ipv6Addr::from(u128::from(self.prefix.network()) | bits);
        if address == self.agent {
            return Ok(Found::Pointer(self.domain.clone()));
        }
        let Some(name) = table.name(address)? else { return Ok(Found::Nothing) };
        let whole = RelativeName::vec_from_str(&name).ok().and_then(|name| {
            let mut builder = NameBuilder::new_vec();
            builder.append_name(&name).ok()?;
            builder.append_origin(&self.domain).ok()
        });
        Ok(whole.map_or(Found::Empty, Found::Pointer))
    }

    fn compose(
        &self,
        query: &Query<'_>,
        limit: usize,
        name: &Name<Vec<u8>>,
        apex: &Name<Vec<u8>>,
        found: &Found,
    ) -> Vec<u8> {
        let rcode = if matches!(found, Found::Nothing) { OptRcode::NXDOMAIN } else { OptRcode::NOERROR };
        query.respond(limit, rcode, true, |mut answer| {
            if self.push_answer(&mut answer, query.qtype, name, apex, found)? {
                return Ok(answer.additional());
            }
            let mut authority = answer.authority();
            // RFC 2308 §3: the negative time to live is the lesser of the record's own and its last field.
            authority.push((apex, Class::IN, NEGATIVE, self.soa()))?;
            Ok(authority.additional())
        })
    }

    /// Whether there was something to say.
    fn push_answer(
        &self,
        answer: &mut AnswerBuilder<Builder>,
        qtype: Rtype,
        name: &Name<Vec<u8>>,
        apex: &Name<Vec<u8>>,
        found: &Found,
    ) -> Result<bool, PushError> {
        // RFC 8482 §4.1: whoever asks for everything gets one set of records.
        let wants = |rtype| qtype == rtype || qtype == Rtype::ANY;
        let address = match found {
            Found::Address(address) => Some(*address),
            Found::Apex if apex == &self.domain => Some(self.agent),
            Found::Apex | Found::Pointer(_) | Found::Empty | Found::Nothing => None,
        };
        match (found, address) {
            (_, Some(address)) if wants(Rtype::AAAA) => {
                answer.push((name, Class::IN, POSITIVE, Aaaa::new(address)))?;
            }
            (Found::Pointer(target), _) if wants(Rtype::PTR) => {
                answer.push((name, Class::IN, POSITIVE, Ptr::new(target)))?;
            }
            (Found::Apex, _) if wants(Rtype::SOA) => {
                answer.push((name, Class::IN, POSITIVE, self.soa()))?;
            }
            (Found::Apex, _) if qtype == Rtype::NS => {
                answer.push((name, Class::IN, POSITIVE, Ns::new(&self.name_server)))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn soa(&self) -> Soa<&Name<Vec<u8>>> {
        Soa::new(&self.name_server, &self.mailbox, SERIAL, REFRESH, RETRY, EXPIRE, NEGATIVE)
    }
}

fn refused(domain: &str, reason: &str) -> ZoneError {
    ZoneError::Domain { domain: domain.to_owned(), reason: reason.to_owned() }
}

/// A domain as a name, in lower case.
pub(super) fn apex(domain: &str) -> Result<Name<Vec<u8>>, ZoneError> {
    let text = domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase();
    let apex = Name::vec_from_str(&text).map_err(|error| refused(domain, &error.to_string()))?;
    if apex.is_root() { Err(refused(domain, "it is empty")) } else { Ok(apex) }
}

/// `1.0.4.6.3.3.6.c.2.0.0.2.ip6.arpa` for `2002:c633:6401::/48`.
pub(super) fn reverse(prefix: Ipv6Net) -> Result<Name<Vec<u8>>, ZoneError> {
    let wrong = ZoneError::Prefix(prefix);
    if prefix.prefix_len() != 48 || prefix.trunc() != prefix {
        return Err(wrong);
    }
    let whole = Name::<Vec<u8>>::reverse_from_addr(prefix.network().into());
    let Ok(mut whole) = whole else { return Err(wrong) };
    whole.make_canonical();
    let labels = NIBBLES - usize::from(prefix.prefix_len()) / 4;
    whole.iter_suffixes().nth(labels).map(|suffix| suffix.to_vec()).ok_or(wrong)
}

/// Labels as the table knows them, in lower case; `None`: no name of a home looks like that.
fn relative<'a>(labels: impl Iterator<Item = &'a Label>) -> Option<String> {
    let mut text = String::new();
    for label in labels {
        // A label may contain a dot; a name in the table never has one inside a label.
        if !label.as_slice().iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.as_slice().iter().map(|octet| char::from(octet.to_ascii_lowercase())));
    }
    Some(text)
}
