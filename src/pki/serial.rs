//! Serial numbers of certificates.

use std::fmt;

use serde::{Deserialize, Serialize};
use x509_cert::serial_number::SerialNumber;

use super::IssueError;

/// The serial number of a certificate in lower-case hexadecimal digits, two for each octet (RFC 5280 §4.1.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(String);

impl Serial {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn of(number: &SerialNumber) -> Self {
        Self(number.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Serial {
    /// From hexadecimal digits, as it is shown: at most 20 octets (RFC 5280 §4.1.2.2).
    pub fn parse(text: &str) -> Option<Self> {
        let good = (2..=40).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        good.then(|| Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 128 random bits behind an octet 1, so that the number is positive and always 17 octets long.
pub(super) fn from_random(random: [u8; 16]) -> Result<SerialNumber, IssueError> {
    let mut bytes = [1; 17];
    if let Some(tail) = bytes.last_chunk_mut() {
        *tail = random;
    }
    SerialNumber::new(&bytes).map_err(|_| IssueError::Encoding)
}
