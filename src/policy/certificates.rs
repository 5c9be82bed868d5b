//! What IKE asks about certificates. The answers are in [`super::trust`]; the trait keeps X.509 out of IKE.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Instant;

/// Seconds since 1970.
pub type UnixSeconds = u64;

/// A certificate of our own, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCertificate {
    /// The leaf in DER.
    pub leaf: Vec<u8>,
    /// The public key in it; it must be the one that signs.
    pub key: [u8; 32],
    /// Earlier keys' endorsements of it, oldest first, as they go on the wire.
    pub endorsements: Vec<Vec<u8>>,
    /// How long others may believe it.
    pub span: TrustSpan,
}

/// What a peer shows in IKE_AUTH. Everything is as it came from a stranger.
#[derive(Clone, Debug, Default)]
pub struct Shown<'a> {
    /// Certificates (encoding 4), its own first (RFC 7296 §3.6).
    pub certificates: Vec<&'a [u8]>,
    /// Endorsements of its key.
    pub endorsements: Vec<&'a [u8]>,
}

/// For how long an authentication by certificate may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustSpan {
    /// From here on it is time to authenticate anew: the owner has had the time to renew its certificate.
    pub refresh: UnixSeconds,
    /// The end of the certificate, and of all that rests on it.
    pub ends: UnixSeconds,
}

impl TrustSpan {
    /// The one that ends first of two.
    pub fn earlier(self, other: Self) -> Self {
        if other.ends < self.ends { other } else { self }
    }
}

/// A key that a valid certificate binds to an address. Whether the peer holds it, its signature has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The Ed25519 public key.
    pub key: [u8; 32],
    /// How long that may be believed.
    pub span: TrustSpan,
}

/// Certificates, ours and those of others.
pub trait Certificates: fmt::Debug + Send + Sync {
    /// The time of day.
    fn unix(&self, now: Instant) -> UnixSeconds;

    /// Our own certificate for a local entity, when it has one that is valid now.
    fn own(&self, now: Instant, local: Ipv6Addr) -> Option<OwnCertificate>;

    /// The root of the home that `local` is the agent of, in DER: shown to strangers, who do not know it yet.
    fn root(&self, local: Ipv6Addr) -> Option<Vec<u8>> {
        let _ = local;
        None
    }

    /// May this address be proven by a certificate: do we trust the home that owns it?
    fn accepts(&self, remote: Ipv6Addr) -> bool;

    /// Names of authorities for a CERTREQ (RFC 7296 §3.7: SHA-1 of their SubjectPublicKeyInfo): the one for `remote`,
    /// or with `None` a few that a stranger may be asked for.
    fn authorities(&self, remote: Option<Ipv6Addr>) -> Vec<[u8; 20]>;

    /// Is that a valid certificate of this address? An error is one sentence. Changes nothing.
    fn verify(&self, now: Instant, remote: Ipv6Addr, shown: &Shown<'_>) -> Result<Certified, String>;

    /// The peer has proven that it holds the key that [`verify`](Self::verify) found for it.
    fn proven(&self, now: Instant, remote: Ipv6Addr, certified: &Certified, shown: &Shown<'_>);
}
