//! A home that moved says where it is now. The root key signs, so that the address stays permanent when the IPv4
//! address in it is gone.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::names::is_host_name;
use super::{Root, TrustError, UnixSeconds};
use crate::crypto::identity::{PrivateKey, SIGNATURE_LEN};

const LABEL: &[u8] = b"domicile redirect of a home, version 1\0";
/// Port of a locator that names none.
const PORT: u16 = crate::addr::home::PORT;

/// Locators in one redirect.
pub const MAX_LOCATORS: usize = 8;

/// Where a home answers: a host name or an IPv4 address, and a UDP port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locator {
    host: String,
    port: u16,
}

impl Locator {
    /// Host name or IPv4 address in text form.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// UDP port, never zero.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Locator {
    /// As a person writes it: `HOST:PORT`, or `HOST` alone where the usual port is meant.
    pub fn written(text: &str) -> Result<Self, TrustError> {
        if text.contains(':') { text.parse() } else { format!("{text}:{PORT}").parse() }
    }
}

impl FromStr for Locator {
    type Err = TrustError;

    fn from_str(text: &str) -> Result<Self, TrustError> {
        let (host, port) = text.rsplit_once(':').ok_or(TrustError::RedirectLocators)?;
        let known = host.parse::<Ipv4Addr>().is_ok() || is_host_name(host);
        match port.parse() {
            Ok(port @ 1..) if known => Ok(Self { host: host.to_owned(), port }),
            Ok(_) | Err(_) => Err(TrustError::RedirectLocators),
        }
    }
}

impl TryFrom<String> for Locator {
    type Error = TrustError;

    fn try_from(text: String) -> Result<Self, TrustError> {
        text.parse()
    }
}

impl From<Locator> for String {
    fn from(locator: Locator) -> Self {
        locator.to_string()
    }
}

/// Signed locators of a home. The one with the highest number is valid, and replaces all before it; without locators it
/// says that the home is where its address tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// The home's prefix.
    pub home: Ipv6Net,
    /// Larger than that of every redirect before it.
    pub number: u64,
    /// From then on it says nothing; 0: it has no end.
    pub until: UnixSeconds,
    /// In order of preference.
    pub locators: Vec<Locator>,
    /// Ed25519 by the root key, in base64.
    signature: String,
}

impl Redirect {
    /// Signs with the root key of the home.
    pub fn sign(
        home: Ipv6Net,
        number: u64,
        until: UnixSeconds,
        locators: Vec<Locator>,
        root: &PrivateKey,
    ) -> Result<Self, TrustError> {
        let signature = BASE64.encode(root.sign(&signed(home, number, until, &locators)?));
        Ok(Self { home, number, until, locators, signature })
    }

    /// Where the home is at this time, in order of preference; empty: where its address tells.
    pub fn in_force(&self, now: UnixSeconds) -> &[Locator] {
        if self.until == 0 || now < self.until { &self.locators } else { &[] }
    }

    /// Is it by this root?
    pub fn verify(&self, root: &Root) -> Result<(), TrustError> {
        let refused = TrustError::RedirectSignature(self.home);
        let signed = signed(self.home, self.number, self.until, &self.locators)?;
        // Longer than any signature: not even decoded.
        if self.signature.len() > 2 * SIGNATURE_LEN || root.prefix() != self.home {
            return Err(refused);
        }
        let signature = BASE64.decode(&self.signature).map_err(|_| refused.clone())?;
        root.key().verify(&signed, &signature).then_some(()).ok_or(refused)
    }
}

/// Label, prefix (16 octets), its length (1), number (8), end (8), count (1), then each locator with its length (2) in
/// front.
fn signed(
    home: Ipv6Net,
    number: u64,
    until: UnixSeconds,
    locators: &[Locator],
) -> Result<Vec<u8>, TrustError> {
    if locators.len() > MAX_LOCATORS {
        return Err(TrustError::RedirectLocators);
    }
    let count = locators.len() as u8;
    let (prefix, length) = (home.network().octets(), [home.prefix_len()]);
    let mut bytes = [LABEL, &prefix, &length, &number.to_be_bytes(), &until.to_be_bytes(), &[count]].concat();
    for locator in locators {
        let text = locator.to_string();
        bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    Ok(bytes)
}
