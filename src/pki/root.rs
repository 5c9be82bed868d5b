//! The root of a home: reading it, making it, and issuing leaves under it.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ipnet::Ipv6Net;
use sha1::{Digest, Sha1};
use x509_cert::Certificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder, Result as BuildResult};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{Ia5String, OctetString};
use x509_cert::der::{DateTime, Decode, Encode};
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, NameConstraints, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use super::names::{is_host_name, is_within};
use super::{
    BACKDATE, IssueError, Kind, MAX_CERTIFICATE, MAX_LEAF_LIFETIME, Serial, TrustError, UnixSeconds, serial,
};
use crate::crypto::identity::{PrivateKey, PublicKey};

/// A root is valid for thirty years: it is pinned, and its key cannot be replaced silently anyway.
const ROOT_LIFETIME: UnixSeconds = 30 * 365 * 24 * 3600;

/// The root certificate of a home, checked to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    der: Vec<u8>,
    prefix: Ipv6Net,
    domain: Option<String>,
    key: PublicKey,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
}

impl Root {
    /// Reads a root certificate: self-signed with Ed25519, an authority with path length 0, whose name constraints
    /// permit exactly one /48 and at most one domain.
    pub fn from_der(der: &[u8]) -> Result<Self, TrustError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(TrustError::Oversized(der.len()));
        }
        let certificate = Certificate::from_der(der).map_err(|_| TrustError::Malformed)?;
        let tbs = certificate.tbs_certificate();
        let key = public_key(tbs).ok_or(TrustError::Key)?;
        let signed = tbs.to_der().map_err(|_| TrustError::Malformed)?;
        let algorithm = certificate.signature_algorithm();
        let self_signed = tbs.issuer() == tbs.subject()
            && algorithm == tbs.signature()
            && *algorithm == tbs.subject_public_key_info().algorithm
            && certificate.signature().as_bytes().is_some_and(|signature| key.verify(&signed, signature));
        if !self_signed {
            return Err(TrustError::NotARoot("it is not signed with its own key"));
        }
        let constraints = extension::<BasicConstraints>(tbs)?;
        if constraints != Some(BasicConstraints { ca: true, path_len_constraint: Some(0) }) {
            return Err(TrustError::NotARoot("it is not an authority with path length 0"));
        }
        if !extension::<KeyUsage>(tbs)?.is_some_and(|usage| usage.key_cert_sign()) {
            return Err(TrustError::NotARoot("its key usage does not include the signing of certificates"));
        }
        let (prefix, domain) = permitted(extension::<NameConstraints>(tbs)?)?;
        Ok(Self {
            der: der.to_vec(),
            prefix,
            domain,
            key,
            not_before: unix(tbs.validity().not_before),
            not_after: unix(tbs.validity().not_after),
        })
    }

    /// The certificate itself.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The /48 that this home may certify addresses of.
    pub const fn prefix(&self) -> Ipv6Net {
        self.prefix
    }

    /// The domain that this home may certify names of; `None`: no names at all.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The key that pins this home.
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// What two people compare.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint()
    }

    /// First and last second of its validity.
    pub const fn validity(&self) -> (UnixSeconds, UnixSeconds) {
        (self.not_before, self.not_after)
    }

    /// SHA-1 over the SubjectPublicKeyInfo: how CERTREQ names an authority (RFC 7296 §3.7).
    pub fn key_id(&self) -> [u8; 20] {
        key_id(&self.key)
    }
}

/// SHA-1 over the SubjectPublicKeyInfo of an authority (RFC 7296 §3.7). A name, not a proof.
pub fn key_id(key: &PublicKey) -> [u8; 20] {
    Sha1::digest(key.to_spki_der()).into()
}

/// What a home puts into a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRequest<'a> {
    /// The permanent address.
    pub address: Ipv6Addr,
    /// The full host name, when the entity has one.
    pub name: Option<&'a str>,
    /// What the entity is.
    pub kind: Kind,
    /// Its key.
    pub key: PublicKey,
    /// For how long, in seconds from now: at most [`MAX_LEAF_LIFETIME`].
    pub lifetime: UnixSeconds,
}

/// A leaf as it was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedLeaf {
    /// The certificate.
    pub der: Vec<u8>,
    /// Its serial number.
    pub serial: Serial,
    /// First second of its validity.
    pub not_before: UnixSeconds,
    /// Last second of its validity.
    pub not_after: UnixSeconds,
}

/// A home's certificate authority: its root and the key of it.
#[derive(Debug)]
pub struct Authority {
    root: Root,
    key: PrivateKey,
}

impl Authority {
    /// Founds a home: makes its self-signed root. `random` is for the serial number.
    pub fn create(
        key: PrivateKey,
        prefix: Ipv6Net,
        domain: Option<&str>,
        now: UnixSeconds,
        random: [u8; 16],
    ) -> Result<Self, IssueError> {
        check_home(prefix, domain)?;
        let der = root_der(&key, prefix, Some(constraints_of(prefix, domain)?), now, random)?;
        let root = Root::from_der(&der).map_err(|_| IssueError::Encoding)?;
        Ok(Self { root, key })
    }

    /// A home that was founded before.
    pub fn new(root: Root, key: PrivateKey) -> Result<Self, IssueError> {
        if root.key() != key.public() {
            return Err(IssueError::AnotherKey {
                certificate: root.fingerprint(),
                key: key.public().fingerprint(),
            });
        }
        Ok(Self { root, key })
    }

    /// Its root certificate.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// The key, for redirects.
    pub const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// A second certificate of the same key and subject without name constraints, for software that cannot parse IPv6
    /// ones and therefore refuses the root (strongSwan 5.9). Leaves are valid under both.
    pub fn root_without_constraints(
        &self,
        now: UnixSeconds,
        random: [u8; 16],
    ) -> Result<Vec<u8>, IssueError> {
        root_der(&self.key, self.root.prefix, None, now, random)
    }

    /// Issues a leaf. `random` is for the serial number, and must never be used twice.
    pub fn issue(
        &self,
        request: &LeafRequest<'_>,
        now: UnixSeconds,
        random: [u8; 16],
    ) -> Result<IssuedLeaf, IssueError> {
        let LeafRequest { address, name, kind, key, lifetime } = request;
        let home = self.root.prefix;
        if !home.contains(address) {
            return Err(IssueError::OutsideHome { address: *address, home });
        }
        if !kind.fits(*address) {
            return Err(IssueError::Kind { kind: *kind, address: *address });
        }
        if !(1..=MAX_LEAF_LIFETIME).contains(lifetime) {
            return Err(IssueError::Lifetime(*lifetime));
        }
        if let Some(name) = name {
            check_name(name)?;
            if !self.root.domain.as_deref().is_some_and(|domain| is_within(name, domain)) {
                return Err(IssueError::OutsideDomain((*name).to_owned()));
            }
        }
        let (not_before, not_after) = (now.saturating_sub(BACKDATE), now.saturating_add(*lifetime));
        let serial = serial::from_random(random)?;
        let mut names = vec![GeneralName::from(IpAddr::V6(*address))];
        if let Some(name) = name {
            names.push(GeneralName::DnsName(Ia5String::new(name).map_err(|_| IssueError::Encoding)?));
        }
        let common = name.map_or_else(|| address.to_string(), str::to_owned);
        let profile = Profile {
            subject: distinguished(&format!("CN={common},OU={kind}"))?,
            issuer: root_name(home)?,
            content: Content::Leaf(SubjectAltName(names)),
        };
        let der = build(profile, &serial, (not_before, not_after), key, &self.key)?;
        Ok(IssuedLeaf { der, serial: Serial::of(&serial), not_before, not_after })
    }
}

fn check_home(prefix: Ipv6Net, domain: Option<&str>) -> Result<(), IssueError> {
    if prefix.prefix_len() != 48 || prefix != prefix.trunc() {
        return Err(IssueError::NotAHomePrefix(prefix));
    }
    domain.map_or(Ok(()), check_name)
}

fn check_name(name: &str) -> Result<(), IssueError> {
    is_host_name(name).then_some(()).ok_or_else(|| IssueError::BadName(name.to_owned()))
}

/// The subject of a root. It follows from the prefix alone, so that both certificates of a home have the same.
fn root_name(prefix: Ipv6Net) -> Result<Name, IssueError> {
    distinguished(&format!("CN=domicile home {}", prefix.network()))
}

fn distinguished(text: &str) -> Result<Name, IssueError> {
    Name::from_str(text).map_err(|_| IssueError::Encoding)
}

/// RFC 5280 §4.2.1.10: an iPAddress constraint is address and mask.
fn constraints_of(prefix: Ipv6Net, domain: Option<&str>) -> Result<NameConstraints, IssueError> {
    let octets = [prefix.network().octets(), prefix.netmask().octets()].concat();
    let subtree = |base| GeneralSubtree { base, minimum: 0, maximum: None };
    let address = OctetString::new(octets).map_err(|_| IssueError::Encoding)?;
    let mut permitted = vec![subtree(GeneralName::IpAddress(address))];
    if let Some(domain) = domain {
        let domain = Ia5String::new(domain).map_err(|_| IssueError::Encoding)?;
        permitted.push(subtree(GeneralName::DnsName(domain)));
    }
    Ok(NameConstraints { permitted_subtrees: Some(permitted), excluded_subtrees: None })
}

/// The inverse of [`constraints_of`]; anything else is no root of a home.
fn permitted(constraints: Option<NameConstraints>) -> Result<(Ipv6Net, Option<String>), TrustError> {
    const WRONG: TrustError =
        TrustError::NotARoot("its name constraints are not one IPv6 prefix and at most one domain");
    let constraints = constraints.filter(|constraints| constraints.excluded_subtrees.is_none());
    let subtrees = constraints.and_then(|constraints| constraints.permitted_subtrees).ok_or(WRONG)?;
    let (mut prefix, mut domain) = (None, None);
    for subtree in subtrees.iter().take(3) {
        let before = match &subtree.base {
            GeneralName::IpAddress(octets) => {
                let octets: &[u8; 32] = octets.as_bytes().try_into().map_err(|_| WRONG)?;
                prefix.replace(prefix_of(octets).ok_or(WRONG)?).map(|_| ())
            }
            GeneralName::DnsName(name) if is_host_name(name.as_str()) => {
                domain.replace(name.as_str().to_owned()).map(|_| ())
            }
            GeneralName::DnsName(_)
            | GeneralName::OtherName(_)
            | GeneralName::Rfc822Name(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EdiPartyName(_)
            | GeneralName::UniformResourceIdentifier(_)
            | GeneralName::RegisteredId(_) => Some(()),
        };
        if before.is_some() || subtree.minimum != 0 || subtree.maximum.is_some() {
            return Err(WRONG);
        }
    }
    let prefix: Ipv6Net = prefix.ok_or(WRONG)?;
    if prefix.prefix_len() != 48 {
        return Err(TrustError::NotAHomePrefix(prefix));
    }
    Ok((prefix, domain))
}

fn prefix_of(octets: &[u8; 32]) -> Option<Ipv6Net> {
    let (address, mask) = octets.split_at(16);
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?);
    let mask = Ipv6Addr::from(<[u8; 16]>::try_from(mask).ok()?);
    let prefix = Ipv6Net::with_netmask(address, mask).ok()?;
    (prefix == prefix.trunc()).then_some(prefix)
}

fn root_der(
    key: &PrivateKey,
    prefix: Ipv6Net,
    constraints: Option<NameConstraints>,
    now: UnixSeconds,
    random: [u8; 16],
) -> Result<Vec<u8>, IssueError> {
    let name = root_name(prefix)?;
    let profile = Profile { subject: name.clone(), issuer: name, content: Content::Root(constraints) };
    let validity = (now.saturating_sub(BACKDATE), now.saturating_add(ROOT_LIFETIME));
    build(profile, &serial::from_random(random)?, validity, &key.public(), key)
}

fn build(
    profile: Profile,
    serial: &x509_cert::serial_number::SerialNumber,
    (not_before, not_after): (UnixSeconds, UnixSeconds),
    subject_key: &PublicKey,
    issuer_key: &PrivateKey,
) -> Result<Vec<u8>, IssueError> {
    let spki =
        SubjectPublicKeyInfo::from_der(&subject_key.to_spki_der()).map_err(|_| IssueError::Encoding)?;
    let validity = Validity::new(time(not_before)?, time(not_after)?);
    let seed = issuer_key.seed();
    let seed = seed.expose().try_into().map_err(|_| IssueError::Encoding)?;
    // Wiped on drop.
    let signer = SigningKey::from_bytes(seed);
    CertificateBuilder::new(profile, serial.clone(), validity, spki)
        .and_then(|builder| builder.build::<_, ed25519_dalek::Signature>(&signer))
        .and_then(|certificate| Ok(certificate.to_der()?))
        .map_err(|_| IssueError::Encoding)
}

/// UTCTime until 2049, GeneralizedTime after it (RFC 5280 §4.1.2.5).
fn time(at: UnixSeconds) -> Result<Time, IssueError> {
    DateTime::from_unix_duration(Duration::from_secs(at)).map(Time::from).map_err(|_| IssueError::Time(at))
}

pub(super) fn unix(time: Time) -> UnixSeconds {
    time.to_unix_duration().as_secs()
}

/// The Ed25519 key of a certificate.
pub(super) fn public_key(tbs: &TbsCertificate) -> Option<PublicKey> {
    let spki = tbs.subject_public_key_info().to_der().ok()?;
    PublicKey::from_spki_der(&spki).ok()
}

/// An extension that must not come twice.
pub(super) fn extension<'a, T>(tbs: &'a TbsCertificate) -> Result<Option<T>, TrustError>
where
    T: Decode<'a> + x509_cert::der::oid::AssociatedOid,
{
    let mut found = tbs.filter_extensions::<T>();
    let first = found.next().transpose().map_err(|_| TrustError::Malformed)?;
    if found.next().is_some() {
        return Err(TrustError::Malformed);
    }
    Ok(first.map(|(_, extension)| extension))
}

/// What distinguishes the two kinds of certificate.
enum Content {
    Root(Option<NameConstraints>),
    Leaf(SubjectAltName),
}

struct Profile {
    subject: Name,
    issuer: Name,
    content: Content,
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    /// RFC 4945 §5.1.3: key usage digitalSignature for IKE, no extended key usage.
    fn build_extensions(
        &self,
        subject_key: SubjectPublicKeyInfoRef<'_>,
        issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> BuildResult<Vec<Extension>> {
        let mut all = Vec::new();
        let issuer = SubjectKeyIdentifier::try_from(issuer_key)?;
        let authority = AuthorityKeyIdentifier { key_identifier: Some(issuer.0), ..Default::default() };
        let usage = match &self.content {
            Content::Root(_) => KeyUsages::KeyCertSign | KeyUsages::CRLSign,
            Content::Leaf(_) => KeyUsages::DigitalSignature.into(),
        };
        let basic = match &self.content {
            Content::Root(_) => BasicConstraints { ca: true, path_len_constraint: Some(0) },
            Content::Leaf(_) => BasicConstraints { ca: false, path_len_constraint: None },
        };
        all.push(basic.to_extension(tbs.subject(), &all)?);
        all.push(KeyUsage(usage).to_extension(tbs.subject(), &all)?);
        all.push(SubjectKeyIdentifier::try_from(subject_key)?.to_extension(tbs.subject(), &all)?);
        all.push(authority.to_extension(tbs.subject(), &all)?);
        match &self.content {
            Content::Root(None) => {}
            Content::Root(Some(constraints)) => all.push(constraints.to_extension(tbs.subject(), &all)?),
            Content::Leaf(names) => all.push(names.to_extension(tbs.subject(), &all)?),
        }
        Ok(all)
    }
}
