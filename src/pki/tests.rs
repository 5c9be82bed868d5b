//! Certificates that are right, and every way in which one can be wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ipnet::Ipv6Net;
use proptest::prelude::*;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder, Result as BuildResult};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{Ia5String, OctetString};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{DateTime, Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use super::*;
use crate::crypto::identity::{PrivateKey, PublicKey};

const NOW: UnixSeconds = 1_800_000_000;
const HOME: &str = "2002:c633:6401::/48";
const ALICE: &str = "2002:c633:6401:1:0:1:0:10";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; 32])
}

fn home() -> Ipv6Net {
    HOME.parse().unwrap()
}

fn alice() -> Ipv6Addr {
    ALICE.parse().unwrap()
}

fn authority(seed: u8) -> Authority {
    Authority::create(key(seed), home(), Some("example.org"), NOW, [seed; 16]).unwrap()
}

fn request(name: Option<&str>) -> LeafRequest<'_> {
    LeafRequest { address: alice(), name, kind: Kind::Device, key: key(9).public(), lifetime: 3600 }
}

fn leaf_of(authority: &Authority) -> Vec<u8> {
    authority.issue(&request(Some("laptop.alice.example.org")), NOW, [7; 16]).unwrap().der
}

fn verify(leaf: &[u8], root: &Root, now: UnixSeconds) -> Result<VerifiedLeaf, TrustError> {
    leaf::verify(leaf, &[], root, now, alice())
}

/// A certificate with anything in it.
struct Forged {
    subject: String,
    issuer: String,
    names: Vec<GeneralName>,
    basic: BasicConstraints,
    usage: Option<KeyUsages>,
    purposes: Option<ExtendedKeyUsage>,
    unknown: bool,
    validity: (UnixSeconds, UnixSeconds),
    key: PublicKey,
}

impl Forged {
    /// Right in everything.
    fn right() -> Self {
        Self {
            subject: format!("CN={ALICE},OU=device"),
            issuer: "CN=domicile home 2002:c633:6401::".to_owned(),
            names: vec![GeneralName::from(IpAddr::V6(alice()))],
            basic: BasicConstraints { ca: false, path_len_constraint: None },
            usage: Some(KeyUsages::DigitalSignature),
            purposes: None,
            unknown: false,
            validity: (NOW - 10, NOW + 3600),
            key: key(9).public(),
        }
    }

    fn signed_by(self, key: &PrivateKey) -> Vec<u8> {
        let time = |at| Time::from(DateTime::from_unix_duration(Duration::from_secs(at)).unwrap());
        let validity = Validity::new(time(self.validity.0), time(self.validity.1));
        let spki = SubjectPublicKeyInfo::from_der(&self.key.to_spki_der()).unwrap();
        let signer = SigningKey::from_bytes(key.seed().expose().try_into().unwrap());
        let builder =
            CertificateBuilder::new(self, SerialNumber::new(&[5; 17]).unwrap(), validity, spki).unwrap();
        builder.build::<_, ed25519_dalek::Signature>(&signer).unwrap().to_der().unwrap()
    }
}

impl BuilderProfile for Forged {
    fn get_issuer(&self, _: &Name) -> Name {
        Name::from_str(&self.issuer).unwrap()
    }

    fn get_subject(&self) -> Name {
        Name::from_str(&self.subject).unwrap()
    }

    fn build_extensions(
        &self,
        subject: SubjectPublicKeyInfoRef<'_>,
        issuer: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> BuildResult<Vec<Extension>> {
        let issuer = SubjectKeyIdentifier::try_from(issuer)?.0;
        let issuer = AuthorityKeyIdentifier { key_identifier: Some(issuer), ..Default::default() };
        let subject = SubjectKeyIdentifier::try_from(subject)?;
        let mut all = vec![
            self.basic.to_extension(tbs.subject(), &[])?,
            issuer.to_extension(tbs.subject(), &[])?,
            subject.to_extension(tbs.subject(), &[])?,
        ];
        if let Some(usage) = self.usage {
            all.push(KeyUsage(usage.into()).to_extension(tbs.subject(), &[])?);
        }
        if let Some(purposes) = &self.purposes {
            all.push(purposes.to_extension(tbs.subject(), &[])?);
        }
        if !self.names.is_empty() {
            all.push(SubjectAltName(self.names.clone()).to_extension(tbs.subject(), &[])?);
        }
        if self.unknown {
            all.push(Extension {
                extn_id: ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1"),
                critical: true,
                extn_value: OctetString::new([5, 0])?,
            });
        }
        Ok(all)
    }
}

fn forged(change: impl FnOnce(&mut Forged)) -> Result<VerifiedLeaf, TrustError> {
    let mut forged = Forged::right();
    change(&mut forged);
    verify(&forged.signed_by(&key(1)), authority(1).root(), NOW)
}

#[test]
fn a_home_founds_itself_and_certifies_an_entity() {
    let home_authority = authority(1);
    let root = home_authority.root();
    assert_eq!((root.prefix(), root.domain(), root.key()), (home(), Some("example.org"), key(1).public()));
    assert_eq!(Root::from_der(root.der()).unwrap(), *root);

    let issued = home_authority.issue(&request(Some("laptop.alice.example.org")), NOW, [7; 16]).unwrap();
    let verified = verify(&issued.der, root, NOW).unwrap();
    assert_eq!(verified.address, alice());
    assert_eq!(verified.name.as_deref(), Some("laptop.alice.example.org"));
    assert_eq!((verified.kind, verified.key), (Kind::Device, key(9).public()));
    assert_eq!((verified.not_before, verified.not_after), (NOW - BACKDATE, NOW + 3600));
    assert_eq!(verified.serial, issued.serial);
    assert_eq!(verified.serial.as_str(), format!("01{}", "07".repeat(16)));
    assert!(issued.der.len() < 600, "{}", issued.der.len());

    let nameless = home_authority.issue(&request(None), NOW, [8; 16]).unwrap();
    assert_eq!(verify(&nameless.der, root, NOW).unwrap().name, None);
    // Peers often send the root along.
    assert!(leaf::verify(&issued.der, &[root.der()], root, NOW, alice()).is_ok());
}

#[test]
fn the_second_root_certificate_is_for_others_only() {
    let home_authority = authority(1);
    let plain = home_authority.root_without_constraints(NOW, [3; 16]).unwrap();
    assert_eq!(
        Root::from_der(&plain),
        Err(TrustError::NotARoot("its name constraints are not one IPv6 prefix and at most one domain"))
    );
}

#[test]
fn forging_nothing_is_accepted() {
    assert_eq!(forged(|_| {}).unwrap().address, alice());
}

#[test]
fn time_is_checked() {
    let home_authority = authority(1);
    let leaf = leaf_of(&home_authority);
    let at = |now| verify(&leaf, home_authority.root(), now);
    assert!(at(NOW - BACKDATE).is_ok() && at(NOW + 3600).is_ok());
    assert_eq!(at(NOW + 3601), Err(TrustError::Expired { ended: NOW + 3600, now: NOW + 3601 }));
    assert_eq!(at(NOW - 301), Err(TrustError::NotYetValid { from: NOW - 300, now: NOW - 301 }));
    let long = forged(|leaf| leaf.validity = (NOW - 10, NOW + 2 * 86_400));
    assert_eq!(long, Err(TrustError::LivesTooLong(2 * 86_400 + 10)));
    let far = NOW + 31 * 365 * 86_400;
    assert!(matches!(at(far), Err(TrustError::RootExpired { .. })));
}

#[test]
fn only_the_pinned_root_counts() {
    let (ours, theirs) = (authority(1), authority(2));
    assert_eq!(verify(&leaf_of(&theirs), ours.root(), NOW), Err(TrustError::UnknownIssuer(home())));
    let other_home: Ipv6Net = "2002:c633:6402::/48".parse().unwrap();
    let other = Authority::create(key(2), other_home, None, NOW, [2; 16]).unwrap();
    assert_eq!(
        verify(&leaf_of(&ours), other.root(), NOW),
        Err(TrustError::OutsideHome { address: alice(), home: other_home })
    );
    let foreign = Forged { issuer: "CN=domicile home 2002:c633:6402::".to_owned(), ..Forged::right() };
    assert_eq!(verify(&foreign.signed_by(&key(2)), ours.root(), NOW), Err(TrustError::UnknownIssuer(home())));
}

#[test]
fn an_address_outside_the_home_is_refused_whoever_asks() {
    let stranger: Ipv6Addr = "2002:c633:6402:1:0:1:0:10".parse().unwrap();
    let outside = Forged { names: vec![GeneralName::from(IpAddr::V6(stranger))], ..Forged::right() };
    let outside = outside.signed_by(&key(1));
    let root = authority(1);
    let refused = TrustError::OutsideHome { address: stranger, home: home() };
    assert_eq!(leaf::verify(&outside, &[], root.root(), NOW, stranger), Err(refused));
    // The library refuses it already; the name constraints of the root say so.
    assert_eq!(verify(&outside, root.root(), NOW), Err(TrustError::OtherName));
    let refused = root.issue(&LeafRequest { address: stranger, ..request(None) }, NOW, [1; 16]);
    assert!(matches!(refused, Err(IssueError::OutsideHome { .. })));
}

#[test]
fn a_leaf_has_exactly_the_asserted_address() {
    let bob: Ipv6Addr = "2002:c633:6401:1:0:2:0:1".parse().unwrap();
    let v6 = |address| GeneralName::from(IpAddr::V6(address));
    let v4 = GeneralName::from(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)));
    assert_eq!(
        forged(|leaf| leaf.names = vec![v6(bob)]),
        Err(TrustError::AnotherAddress { certified: bob, asserted: alice() })
    );
    assert_eq!(forged(|leaf| leaf.names.clear()), Err(TrustError::NoAddress));
    assert_eq!(forged(|leaf| leaf.names.push(v6(bob))), Err(TrustError::SeveralAddresses));
    assert_eq!(forged(|leaf| leaf.names.push(v6(alice()))), Err(TrustError::SeveralAddresses));
    // An IPv4 address violates the root's constraints, too.
    assert!(matches!(
        forged(|leaf| leaf.names = vec![v4]),
        Err(TrustError::Ipv4Address | TrustError::OtherName)
    ));
    let mail = GeneralName::Rfc822Name(Ia5String::new("alice@example.org").unwrap());
    assert_eq!(forged(|leaf| leaf.names.push(mail)), Err(TrustError::OtherName));
}

#[test]
fn a_name_is_in_the_domain_of_the_home() {
    let dns = |name| GeneralName::DnsName(Ia5String::new(name).unwrap());
    assert!(forged(|leaf| leaf.names.push(dns("web.example.org"))).is_ok());
    for wrong in ["web.example.com", "*.example.org", "badexample.org"] {
        assert!(forged(|leaf| leaf.names.push(dns(wrong))).is_err(), "{wrong}");
    }
    // A home without a domain has no constraint on names, and certifies none: the explicit check says so.
    let nameless = Authority::create(key(1), home(), None, NOW, [1; 16]).unwrap();
    let mut leaf = Forged::right();
    leaf.names.push(dns("www.bank.example"));
    assert_eq!(
        verify(&leaf.signed_by(&key(1)), nameless.root(), NOW),
        Err(TrustError::OutsideDomain("www.bank.example".to_owned()))
    );
    let issue = |name| authority(1).issue(&request(Some(name)), NOW, [1; 16]);
    assert_eq!(issue("web.example.com"), Err(IssueError::OutsideDomain("web.example.com".to_owned())));
    assert_eq!(issue("a,CN=b.example.org"), Err(IssueError::BadName("a,CN=b.example.org".to_owned())));
}

#[test]
fn the_kind_agrees_with_the_address() {
    for wrong in ["service", "user", "home", "king"] {
        assert_eq!(
            forged(|leaf| leaf.subject = format!("CN=x,OU={wrong}")),
            Err(TrustError::Kind(alice())),
            "{wrong}"
        );
    }
    assert_eq!(forged(|leaf| leaf.subject = "CN=x".to_owned()), Err(TrustError::Kind(alice())));
    let wrong = authority(1).issue(&LeafRequest { kind: Kind::Service, ..request(None) }, NOW, [1; 16]);
    assert_eq!(wrong, Err(IssueError::Kind { kind: Kind::Service, address: alice() }));
}

#[test]
fn nobody_signs_in_the_name_of_the_root() {
    let home_authority = authority(1);
    let root = home_authority.root();
    // A leaf signs a leaf.
    let middle = leaf_of(&home_authority);
    let below = Forged { issuer: "CN=laptop.alice.example.org,OU=device".to_owned(), ..Forged::right() };
    let below = below.signed_by(&key(9));
    let chained = leaf::verify(&below, &[&middle], root, NOW, alice());
    assert!(matches!(chained, Err(TrustError::Intermediate | TrustError::UnknownIssuer(_))), "{chained:?}");
    // An authority that the root signed: the path length of the root forbids it, and no library looks at that.
    let middle = Forged {
        subject: "CN=middle".to_owned(),
        basic: BasicConstraints { ca: true, path_len_constraint: None },
        usage: Some(KeyUsages::KeyCertSign),
        key: key(5).public(),
        names: Vec::new(),
        ..Forged::right()
    };
    let middle = middle.signed_by(&key(1));
    let below = Forged { issuer: "CN=middle".to_owned(), ..Forged::right() }.signed_by(&key(5));
    assert_eq!(leaf::verify(&below, &[&middle], root, NOW, alice()), Err(TrustError::Intermediate));
    // The root itself as a leaf.
    assert!(verify(root.der(), root, NOW).is_err());
    let authority_leaf = forged(|leaf| leaf.basic.ca = true);
    assert_eq!(authority_leaf, Err(TrustError::AuthorityAsLeaf));
}

#[test]
fn usage_and_unknown_extensions() {
    assert_eq!(forged(|leaf| leaf.usage = Some(KeyUsages::KeyAgreement)), Err(TrustError::Usage));
    assert_eq!(forged(|leaf| leaf.usage = None), Err(TrustError::Usage));
    let purpose = |oid| Some(ExtendedKeyUsage(vec![ObjectIdentifier::new_unwrap(oid)]));
    assert!(forged(|leaf| leaf.purposes = purpose("1.3.6.1.5.5.7.3.17")).is_ok());
    assert_eq!(forged(|leaf| leaf.purposes = purpose("1.3.6.1.5.5.7.3.1")), Err(TrustError::Usage));
    assert_eq!(forged(|leaf| leaf.unknown = true), Err(TrustError::CriticalExtension));
}

#[test]
fn sizes_are_bounded_before_anything_is_read() {
    let home_authority = authority(1);
    let (root, leaf) = (home_authority.root(), leaf_of(&home_authority));
    let large = vec![0x30; MAX_CERTIFICATE + 1];
    assert_eq!(verify(&large, root, NOW), Err(TrustError::Oversized(MAX_CERTIFICATE + 1)));
    let others = [large.as_slice()];
    assert_eq!(
        leaf::verify(&leaf, &others, root, NOW, alice()),
        Err(TrustError::Oversized(MAX_CERTIFICATE + 1))
    );
    let many = [leaf.as_slice(); MAX_OTHERS + 1];
    assert_eq!(leaf::verify(&leaf, &many, root, NOW, alice()), Err(TrustError::TooMany(MAX_OTHERS + 1)));
    assert_eq!(Root::from_der(&large), Err(TrustError::Oversized(MAX_CERTIFICATE + 1)));
}

proptest! {
    #[test]
    fn one_changed_octet_is_noticed(at: prop::sample::Index, change in 1..=255u8) {
        let home_authority = authority(1);
        let mut leaf = leaf_of(&home_authority);
        let at = at.index(leaf.len());
        leaf[at] ^= change;
        prop_assert!(verify(&leaf, home_authority.root(), NOW).is_err());
        let mut root = home_authority.root().der().to_vec();
        let at = at % root.len();
        root[at] ^= change;
        prop_assert!(Root::from_der(&root).is_err());
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..600), text in ".{0,300}") {
        prop_assert!(verify(&noise, authority(1).root(), NOW).is_err());
        prop_assert!(Root::from_der(&noise).is_err());
        prop_assert!(request::requested_key(&noise).is_err());
        prop_assert!(pem::decode(&text).is_err());
    }
}

#[test]
fn lifetimes_are_bounded_where_they_are_issued() {
    for lifetime in [0, MAX_LEAF_LIFETIME + 1, u64::MAX] {
        let refused = authority(1).issue(&LeafRequest { lifetime, ..request(None) }, NOW, [1; 16]);
        assert_eq!(refused, Err(IssueError::Lifetime(lifetime)));
    }
    let longest = LeafRequest { lifetime: MAX_LEAF_LIFETIME, ..request(None) };
    let leaf = authority(1).issue(&longest, NOW, [1; 16]).unwrap();
    assert!(verify(&leaf.der, authority(1).root(), NOW).is_ok());
    let never = authority(1).issue(&request(None), u64::MAX, [1; 16]);
    assert!(matches!(never, Err(IssueError::Time(_))));
}

#[test]
fn a_home_has_a_48_and_its_own_key() {
    for wrong in ["2002:c633:6401::/47", "2002:c633:6401:1::/64"] {
        let prefix: Ipv6Net = wrong.parse().unwrap();
        let refused = Authority::create(key(1), prefix, None, NOW, [1; 16]);
        assert_eq!(refused.unwrap_err(), IssueError::NotAHomePrefix(prefix));
    }
    let stolen = Authority::new(authority(1).root().clone(), key(2));
    assert!(matches!(stolen, Err(IssueError::AnotherKey { .. })));
    assert!(Authority::new(authority(1).root().clone(), key(1)).is_ok());
}

#[test]
fn pem_files_hold_leaf_and_key() {
    let leaf = leaf_of(&authority(1));
    let file = format!("text\n{}{}", *key(9).to_pem(), pem::encode(&leaf).unwrap());
    assert_eq!(pem::decode(&file).unwrap(), [leaf.as_slice()]);
    let block = pem::encode(&leaf).unwrap();
    assert_eq!(pem::decode(&block.repeat(MAX_OTHERS + 1)).unwrap().len(), MAX_OTHERS + 1);
    assert!(matches!(pem::decode(&block.repeat(MAX_OTHERS + 2)), Err(TrustError::TooMany(_))));
    assert_eq!(pem::decode(block.split_at(100).0), Err(TrustError::Malformed));
}

mod memory;
mod openssl;

/// What a home sends as our renewed certificate: neither another home's nor one for somebody else's key is taken.
#[test]
fn our_own_certificate_is_of_our_home_for_our_key() {
    let (home, other) = (authority(1), authority(2));
    let own =
        |leaf: &[u8], key: &PrivateKey| leaf::verify_own(leaf, home.root(), NOW, alice(), &key.public());
    assert_eq!(own(&leaf_of(&home), &key(9)).unwrap().address, alice());
    assert_eq!(own(&leaf_of(&home), &key(8)), Err(TrustError::AnotherKey(alice())));
    assert!(own(&leaf_of(&other), &key(9)).is_err());
}
