//! Verifying the certificate that a peer shows: path validation by a library, then what constraints on a trust anchor
//! cannot enforce.

use std::net::Ipv6Addr;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use sha1::{Digest, Sha1};
use webpki::{EndEntityCert, KeyUsage as Purpose, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc4519::ORGANIZATIONAL_UNIT_NAME;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, KeyUsage, SubjectAltName};

use super::names::{is_host_name, is_within};
use super::root::{extension, public_key, unix};
use super::signature::Ed25519;
use super::{
    BACKDATE, Kind, MAX_CERTIFICATE, MAX_LEAF_LIFETIME, MAX_OTHERS, Root, Serial, TrustError, UnixSeconds,
};
use crate::crypto::identity::PublicKey;

/// id-kp-ipsecIKE, 1.3.6.1.5.5.7.3.17 (RFC 4945 §5.1.3.12), without tag and length.
const IPSEC_IKE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 17];

/// What a leaf proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedLeaf {
    /// The permanent address.
    pub address: Ipv6Addr,
    /// The host name.
    pub name: Option<String>,
    /// What the entity is.
    pub kind: Kind,
    /// Its key.
    pub key: PublicKey,
    /// First second of the certificate's validity.
    pub not_before: UnixSeconds,
    /// Last second of it.
    pub not_after: UnixSeconds,
    /// Its serial number.
    pub serial: Serial,
}

impl VerifiedLeaf {
    /// When it was issued, as far as that can be told: homes backdate their leaves.
    pub const fn issued(&self) -> UnixSeconds {
        let issued = self.not_before.saturating_add(BACKDATE);
        if issued < self.not_after { issued } else { self.not_before }
    }
}

/// What a certificate claims, before anybody has believed it: for `status`, and for renewal of one's own.
pub fn read(der: &[u8]) -> Result<VerifiedLeaf, TrustError> {
    if der.len() > MAX_CERTIFICATE {
        return Err(TrustError::Oversized(der.len()));
    }
    let certificate = Certificate::from_der(der).map_err(|_| TrustError::Malformed)?;
    let tbs = certificate.tbs_certificate();
    if !extension::<KeyUsage>(tbs)?.is_some_and(|usage| usage.digital_signature()) {
        return Err(TrustError::Usage);
    }
    let names = extension::<SubjectAltName>(tbs)?.ok_or(TrustError::NoAddress)?;
    let (address, name) = names_of(&names)?;
    Ok(VerifiedLeaf {
        address,
        name,
        kind: kind_of(tbs).filter(|kind| kind.fits(address)).ok_or(TrustError::Kind(address))?,
        key: public_key(tbs).ok_or(TrustError::Key)?,
        not_before: unix(tbs.validity().not_before),
        not_after: unix(tbs.validity().not_after),
        serial: Serial::of(tbs.serial_number()),
    })
}

/// Is `leaf` a valid certificate of the home `root` for exactly `expected`, at `now`? `others` are the certificates
/// that the peer sent along.
///
/// Everything here comes from a stranger: sizes are bounded before anything is parsed.
pub fn verify(
    leaf: &[u8],
    others: &[&[u8]],
    root: &Root,
    now: UnixSeconds,
    expected: Ipv6Addr,
) -> Result<VerifiedLeaf, TrustError> {
    if others.len() > MAX_OTHERS {
        return Err(TrustError::TooMany(others.len()));
    }
    if let Some(large) = [leaf].iter().chain(others).map(|der| der.len()).find(|len| *len > MAX_CERTIFICATE) {
        return Err(TrustError::Oversized(large));
    }
    let home = root.prefix();
    if !home.contains(&expected) {
        return Err(TrustError::OutsideHome { address: expected, home });
    }
    validate_path(leaf, others, root, now)?;

    let verified = read(leaf)?;
    if !home.contains(&verified.address) {
        return Err(TrustError::OutsideHome { address: verified.address, home });
    }
    if verified.address != expected {
        return Err(TrustError::AnotherAddress { certified: verified.address, asserted: expected });
    }
    let inside = |name: &String| root.domain().is_some_and(|domain| is_within(name, domain));
    if let Some(name) = verified.name.as_ref().filter(|name| !inside(name)) {
        return Err(TrustError::OutsideDomain(name.clone()));
    }
    let life = verified.not_after.saturating_sub(verified.not_before);
    if life > MAX_LEAF_LIFETIME + BACKDATE {
        return Err(TrustError::LivesTooLong(life));
    }
    Ok(verified)
}

/// Is `leaf` what the home `root` gave us: a valid certificate for this address and this key of ours?
pub fn verify_own(
    leaf: &[u8],
    root: &Root,
    now: UnixSeconds,
    address: Ipv6Addr,
    key: &PublicKey,
) -> Result<VerifiedLeaf, TrustError> {
    let verified = verify(leaf, &[], root, now, address)?;
    if verified.key == *key { Ok(verified) } else { Err(TrustError::AnotherKey(address)) }
}

/// RFC 5280 §6 by the library, under this one root; then the root's own validity and path length, which path
/// validation takes from no trust anchor (§6.1.1, §6.2).
fn validate_path(leaf: &[u8], others: &[&[u8]], root: &Root, now: UnixSeconds) -> Result<(), TrustError> {
    let (from, until) = root.validity();
    if now < from {
        return Err(TrustError::NotYetValid { from, now });
    }
    if now > until {
        return Err(TrustError::RootExpired { home: root.prefix(), ended: until });
    }
    let home = root.prefix();
    let blame = |error| blame(error, home);
    let root_der = CertificateDer::from(root.der());
    let anchors = [anchor_from_trusted_cert(&root_der).map_err(blame)?];
    let leaf_der = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf_der).map_err(blame)?;
    let others: Vec<CertificateDer<'_>> = others.iter().map(|der| CertificateDer::from(*der)).collect();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let purpose = Purpose::required_if_present(IPSEC_IKE);
    let path = leaf
        .verify_for_usage(&[&Ed25519], &anchors, &others, time, purpose, None, None)
        .map_err(blame)
        .map_err(|error| named_issuer(error, &leaf_der, root))?;
    if path.intermediate_certificates().next().is_some() {
        return Err(TrustError::Intermediate);
    }
    Ok(())
}

/// Another home with the same name has signed, which the certificate itself says.
fn named_issuer(error: TrustError, leaf: &[u8], root: &Root) -> TrustError {
    if error != TrustError::BadSignature {
        return error;
    }
    let said = Certificate::from_der(leaf)
        .ok()
        .and_then(|leaf| extension::<AuthorityKeyIdentifier>(leaf.tbs_certificate()).ok()?)
        .and_then(|authority| authority.key_identifier);
    // RFC 5280 §4.2.1.2, method 1: what our homes put there.
    let pinned = Sha1::digest(root.key().as_bytes());
    if said.is_some_and(|said| said.as_bytes() != pinned.as_slice()) {
        return TrustError::UnknownIssuer(root.prefix());
    }
    error
}

/// The library's verdict in our words.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors are non-exhaustive")]
fn blame(error: webpki::Error, home: ipnet::Ipv6Net) -> TrustError {
    use webpki::Error;
    match error {
        Error::CertExpired { time, not_after } => {
            TrustError::Expired { ended: not_after.as_secs(), now: time.as_secs() }
        }
        Error::CertNotValidYet { time, not_before } => {
            TrustError::NotYetValid { from: not_before.as_secs(), now: time.as_secs() }
        }
        Error::UnknownIssuer => TrustError::UnknownIssuer(home),
        Error::EndEntityUsedAsCa => TrustError::Intermediate,
        Error::CaUsedAsEndEntity => TrustError::AuthorityAsLeaf,
        Error::InvalidSignatureForPublicKey | Error::SignatureAlgorithmMismatch => TrustError::BadSignature,
        Error::NameConstraintViolation => TrustError::OtherName,
        Error::UnsupportedCriticalExtension => TrustError::CriticalExtension,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => TrustError::Usage,
        _ => TrustError::Malformed,
    }
}

/// Exactly one IPv6 address and at most one host name.
fn names_of(names: &SubjectAltName) -> Result<(Ipv6Addr, Option<String>), TrustError> {
    let (mut address, mut host) = (None, None);
    for name in &names.0 {
        match name {
            GeneralName::IpAddress(octets) => {
                let octets: [u8; 16] = match octets.as_bytes() {
                    octets if octets.len() == 4 => return Err(TrustError::Ipv4Address),
                    octets => octets.try_into().map_err(|_| TrustError::Malformed)?,
                };
                if address.replace(Ipv6Addr::from(octets)).is_some() {
                    return Err(TrustError::SeveralAddresses);
                }
            }
            GeneralName::DnsName(name) if host.is_none() && is_host_name(name.as_str()) => {
                host = Some(name.as_str().to_owned());
            }
            GeneralName::DnsName(_)
            | GeneralName::OtherName(_)
            | GeneralName::Rfc822Name(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EdiPartyName(_)
            | GeneralName::UniformResourceIdentifier(_)
            | GeneralName::RegisteredId(_) => return Err(TrustError::OtherName),
        }
    }
    Ok((address.ok_or(TrustError::NoAddress)?, host))
}

fn kind_of(tbs: &TbsCertificate) -> Option<Kind> {
    let unit: DirectoryString = tbs.subject().by_oid(ORGANIZATIONAL_UNIT_NAME).ok()??;
    unit.value().parse().ok()
}
