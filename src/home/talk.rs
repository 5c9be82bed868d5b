//! What nodes and their home tell each other in documents over their IKE SA (JSON; see [`crate::ike::Endpoint::tell`]).
//! Every question is idempotent: whoever gets no answer asks again.

use std::net::Ipv6Addr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};

use crate::crypto::identity::PublicKey;
use crate::pki::redirect::Redirect;

/// From a machine to the home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Spend the code whose PSK proved this SA.
    Join {
        /// The machine's public key.
        key: String,
        /// What the machine calls itself.
        label: Option<String>,
    },
    /// A stranger, whose key proved this SA, asks to be let in, or what became of that.
    Request {
        /// Its public key.
        key: String,
        /// As whom: a user, node or service of the home.
        wanted: String,
        /// What the machine calls itself.
        label: Option<String>,
    },
    /// A fresh certificate: for the sender, a service on it, or the floating address that it holds.
    Renew {
        /// For whom.
        subject: Ipv6Addr,
        /// For which key.
        key: String,
    },
    /// What is on the sender: services of a node, the floating address that a device holds.
    Hosted {
        /// Those after this address.
        after: Option<Ipv6Addr>,
    },
    /// Give the user's floating address to the sender.
    Take {},
    /// The sender leaves for good.
    Leave {},
}

/// From the home to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Tell {
    /// The answer to [`Ask::Join`], and to an [`Ask::Request`] that was accepted.
    Joined(Membership),
    /// The answer to [`Ask::Request`] until somebody at the home decides.
    Waiting {},
    /// The answer to [`Ask::Renew`].
    Renewed {
        /// For whom.
        subject: Ipv6Addr,
        /// The leaf.
        certificate: Der,
    },
    /// The answer to [`Ask::Hosted`], by address.
    Hosted {
        /// As many as fit.
        addresses: Vec<HostedAddress>,
        /// There are others after the last one.
        more: bool,
    },
    /// Unasked: what is on the entity changed; ask [`Ask::Hosted`].
    HostedChanged {},
    /// The answer to [`Ask::Take`] or [`Ask::Leave`].
    Done {
        /// Which of them.
        about: About,
        /// What was done, in one sentence.
        message: String,
    },
    /// An [`Ask::Take`] or [`Ask::Leave`] was refused.
    Denied {
        /// Which of them.
        about: About,
        /// Why, in one sentence.
        error: String,
    },
    /// The answer to anything else that was refused.
    Refused {
        /// Why, in one sentence.
        error: String,
    },
    /// Unasked: these certificates are not to be trusted any more.
    Revoked {
        /// Some of them; there may be more documents.
        list: Vec<Revocation>,
    },
    /// Unasked: the home is reached elsewhere now. The signature counts, and not who says it.
    Moved(Redirect),
}

/// A certificate that its home revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Whose.
    pub address: Ipv6Addr,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// When it would have ended, seconds since 1970.
    pub not_after: u64,
}

/// What somebody at a machine asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// [`Ask::Take`]
    Take,
    /// [`Ask::Leave`]
    Leave,
}

/// What a machine gets when it joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Its permanent address.
    pub address: Ipv6Addr,
    /// Its name at home.
    pub name: String,
    /// Its whole name, if the home has a domain.
    pub full_name: Option<String>,
    /// Its certificate.
    pub certificate: Der,
    /// The home's root certificate.
    pub root: Der,
}

/// An address that the home put on another entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostedAddress {
    /// The permanent address.
    pub address: Ipv6Addr,
    /// Its name at home.
    pub name: String,
}

/// How many of them one document carries: names have at most 253 octets, so they fit [`crate::ike::MAX_DOCUMENT`].
pub const HOSTED_PAGE: usize = 20;

/// A certificate in DER, in base64 on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Der(pub Vec<u8>);

impl std::fmt::Debug for Der {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Der({} octets)", self.0.len())
    }
}

impl Serialize for Der {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What was sent is not a document that we know.
#[derive(Debug, thiserror::Error)]
#[error("not a document of ours: {0}")]
pub struct NotOurs(#[from] serde_json::Error);

impl Ask {
    /// Asks to join.
    pub fn join(key: &PublicKey, label: Option<&str>) -> Self {
        Self::Join { key: key.to_string(), label: label.map(str::to_owned) }
    }

    /// Asks to be let in without a code.
    pub fn request(key: &PublicKey, wanted: &str, label: Option<&str>) -> Self {
        Self::Request { key: key.to_string(), wanted: wanted.to_owned(), label: label.map(str::to_owned) }
    }

    /// Reads what a machine sent.
    pub fn parse(document: &[u8]) -> Result<Self, NotOurs> {
        Ok(serde_json::from_slice(document)?)
    }

    /// As it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Tell {
    /// Reads what a home sent.
    pub fn parse(document: &[u8]) -> Result<Self, NotOurs> {
        Ok(serde_json::from_slice(document)?)
    }

    /// As it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ike::MAX_DOCUMENT;

    #[test]
    fn documents_come_back_and_strange_ones_are_refused() {
        let asks = [
            Ask::Join { key: "k".into(), label: None },
            Ask::Request { key: "k".into(), wanted: "alice".into(), label: None },
            Ask::Renew { subject: Ipv6Addr::LOCALHOST, key: "k".into() },
            Ask::Hosted { after: Some(Ipv6Addr::LOCALHOST) },
            Ask::Take {},
            Ask::Leave {},
        ];
        for ask in asks {
            assert_eq!(Ask::parse(&ask.to_bytes()).unwrap(), ask);
        }
        let joined = Tell::Joined(Membership {
            address: Ipv6Addr::LOCALHOST,
            name: "a".repeat(63),
            full_name: Some("b".repeat(250)),
            certificate: Der(vec![1; 2048]),
            root: Der(vec![2; 2048]),
        });
        let longest = HostedAddress { address: Ipv6Addr::from([0xff; 16]), name: "a".repeat(253) };
        let page = Tell::Hosted { addresses: vec![longest; HOSTED_PAGE], more: true };
        assert!(page.to_bytes().len() < MAX_DOCUMENT, "a page of the longest names fits");
        assert_eq!(Tell::parse(&page.to_bytes()).unwrap(), page);
        let bytes = joined.to_bytes();
        assert!(bytes.len() < MAX_DOCUMENT, "certificates of the largest size fit");
        assert_eq!(Tell::parse(&bytes).unwrap(), joined);
        let one = Revocation {
            address: Ipv6Addr::from_bits(u128::MAX),
            serial: "f".repeat(40),
            not_after: u64::MAX,
        };
        let revoked = Tell::Revoked { list: vec![one; 40] };
        assert!(revoked.to_bytes().len() < MAX_DOCUMENT, "forty revocations fit");
        assert_eq!(Tell::parse(&revoked.to_bytes()).unwrap(), revoked);
        for strange in
            [&b""[..], b"{}", b"\xff", b"{\"take\":{\"more\":1}}", b"{\"joined\":{\"root\":\"!\"}}"]
        {
            assert!(Ask::parse(strange).is_err());
            assert!(Tell::parse(strange).is_err());
        }
    }
}
