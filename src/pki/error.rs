//! Why a certificate is not believed, and why one is not issued. Each is one sentence that can be shown to a person.
#![allow(missing_docs, reason = "the fields of a variant are explained in its own sentence")]

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::UnixSeconds;
use crate::crypto::identity::PublicKey;

/// Why a certificate, a root, a redirect or a key is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error(
        "the peer showed no certificate: let it join its home again, or list its key in a [[peer]] entry"
    )]
    Missing,
    #[error("this certificate has {0} octets, which is more than any honest one: refuse it")]
    Oversized(usize),
    #[error(
        "the peer sent {0} certificates besides its own, which is more than any honest one does: refuse them"
    )]
    TooMany(usize),
    #[error("this is not a readable X.509 certificate: ask its owner for it again")]
    Malformed,
    #[error("{0} is not a home prefix: a home has a /48")]
    NotAHomePrefix(Ipv6Net),
    #[error(
        "this certificate is not the root of a home, because {0}: ask for the file that `domicile home show` names"
    )]
    NotARoot(&'static str),
    #[error("no trusted home owns {0}: add its home with `domicile trust add`")]
    NoTrustedHome(Ipv6Addr),
    #[error("the root certificate of home {home} ended at {ended}, seconds since 1970: fetch its new one")]
    RootExpired { home: Ipv6Net, ended: UnixSeconds },
    #[error(
        "the certificate was not issued by the pinned root of {0}: somebody else claims this home, or its owner lost the key"
    )]
    UnknownIssuer(Ipv6Net),
    #[error("the signature of the certificate is false: it was changed on the way")]
    BadSignature,
    #[error(
        "the certificate was not signed by the root itself: a home signs its leaves with no key in between"
    )]
    Intermediate,
    #[error("the certificate is one of an authority, where that of an entity belongs")]
    AuthorityAsLeaf,
    #[error(
        "the certificate is valid only from {from}, and now is {now}, seconds since 1970: compare the clocks of both machines"
    )]
    NotYetValid { from: UnixSeconds, now: UnixSeconds },
    #[error(
        "the certificate ended at {ended}, and now is {now}, seconds since 1970: its owner's node has to renew it at its home"
    )]
    Expired { ended: UnixSeconds, now: UnixSeconds },
    #[error(
        "the certificate is made for {0} seconds, and a leaf lives for a day at most: its home breaks the rule that bounds revocation"
    )]
    LivesTooLong(UnixSeconds),
    #[error("the certificate of {0} is for another key than ours: its home mistook us for somebody else")]
    AnotherKey(Ipv6Addr),
    #[error("the certificate carries a critical extension that nobody here understands")]
    CriticalExtension,
    #[error(
        "the certificate may not be used for IKE: its key usage lacks digital signatures, or its extended key usage names other purposes"
    )]
    Usage,
    #[error("the certificate names no IPv6 address: a leaf has exactly one")]
    NoAddress,
    #[error("the certificate names more than one address: a leaf has exactly one")]
    SeveralAddresses,
    #[error("the certificate names an IPv4 address, and an entity is known by its permanent IPv6 address")]
    Ipv4Address,
    #[error("the certificate names something that is neither a permanent address nor one host name")]
    OtherName,
    #[error("the certificate is for {certified}, and the peer says that it is {asserted}")]
    AnotherAddress { certified: Ipv6Addr, asserted: Ipv6Addr },
    #[error("{address} is not in {home}, and a home certifies addresses of its own prefix only")]
    OutsideHome { address: Ipv6Addr, home: Ipv6Net },
    #[error("the name {0} is not in the domain of the home that certified it")]
    OutsideDomain(String),
    #[error(
        "the certificate does not say what {0} is: user, device, node, service or home, as its address tells"
    )]
    Kind(Ipv6Addr),
    #[error("the key in the certificate is not a usable Ed25519 key")]
    Key,
    #[error("the certificate of {0} was revoked by its home")]
    Revoked(Ipv6Addr),
    #[error(
        "another root claims {home}: pinned is {pinned}, shown was {shown}; if its owner really lost the key, remove the home with `domicile trust remove` and add it again"
    )]
    AnotherRoot { home: Ipv6Net, pinned: String, shown: String },
    #[error(
        "there are {0} pinned homes already, and no more are kept: remove some with `domicile trust remove`"
    )]
    TooManyHomes(usize),
    #[error(
        "{address} shows the new key {new} without an endorsement by the old one, and the configuration says pin = \"strict\": ask its owner, then `domicile trust forget {address}`"
    )]
    NewKey { address: Ipv6Addr, new: PublicKey },
    #[error("the redirect of {0} is not signed by its pinned root: ignore it")]
    RedirectSignature(Ipv6Net),
    #[error("the redirect of {home} has number {given}, and number {known} is known: it is an old one")]
    RedirectStale { home: Ipv6Net, given: u64, known: u64 },
    #[error("a redirect has at most eight locators, each a host name or IPv4 address and a port")]
    RedirectLocators,
    #[error("the kept trust is damaged at {0}: restore the file from a backup")]
    Store(String),
}

/// Why a certificate is not issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("{0} is not a home prefix: a home has a /48")]
    NotAHomePrefix(Ipv6Net),
    #[error("'{0}' is not a host name in lower-case letters, digits, hyphens and dots")]
    BadName(String),
    #[error("{address} is not in {home}: a home certifies addresses of its own prefix only")]
    OutsideHome { address: Ipv6Addr, home: Ipv6Net },
    #[error("{0} is not in the domain of this home")]
    OutsideDomain(String),
    #[error("a {kind} cannot have the address {address} by the plan of a home's subnets")]
    Kind { kind: super::Kind, address: Ipv6Addr },
    #[error("a leaf lives for one second to one day, not for {0} seconds")]
    Lifetime(UnixSeconds),
    #[error("{0} seconds since 1970 cannot be written into a certificate: set the clock of this machine")]
    Time(UnixSeconds),
    #[error("this key belongs to another home: the root certificate has {certificate}, the file has {key}")]
    AnotherKey { certificate: String, key: String },
    #[error("this is not a certificate request for an Ed25519 key, signed with that key")]
    Request,
    #[error("the certificate could not be encoded")]
    Encoding,
}
