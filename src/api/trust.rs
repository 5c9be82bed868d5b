//! Requests and replies about trusted homes and remembered keys. Times are seconds since 1970.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

/// `GET /v1/trust`: one of these for each trusted home.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct TrustedHome {
    /// Its prefix, a /48.
    pub prefix: String,
    /// Its domain, if it has one.
    pub domain: Option<String>,
    /// Of its root key, as people compare it.
    pub fingerprint: String,
    /// First second of the root's validity.
    pub not_before: u64,
    /// Last second of the root's validity.
    pub not_after: u64,
    /// What a new key that the old one does not endorse means: `tell` or `strict`.
    pub pin: String,
    /// How many keys of its entities are remembered.
    pub keys: u64,
    /// This machine is this home, or has an address of it.
    pub own: bool,
}

/// `GET /v1/trust/keys`: one of these for each remembered key.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct RememberedKey {
    /// Whose.
    pub address: Ipv6Addr,
    /// In one line.
    pub public_key: String,
    /// As people compare it.
    pub fingerprint: String,
    /// When it last proved itself here.
    pub seen: u64,
}

/// `POST /v1/trust/forget`
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The address whose key is forgotten.
    pub address: Ipv6Addr,
}
