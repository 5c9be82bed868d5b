//! The same certificates in the eyes of OpenSSL, where it is installed.
#![expect(clippy::print_stderr, reason = "a test that is skipped says why")]

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::pki::export::{StrongSwan, strongswan};

/// What OpenSSL says, or `None` when there is none.
fn openssl(dir: &Path, arguments: &[&str]) -> Option<(bool, String)> {
    let output = match Command::new("openssl").current_dir(dir).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: openssl cannot be run here ({error})");
            return None;
        }
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

fn write(dir: &Path, file: &str, der: &[u8]) {
    fs::write(dir.join(file), pem::encode(der).unwrap()).unwrap();
}

#[test]
fn openssl_agrees_on_what_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let home_authority = authority(1);
    write(dir, "root.pem", home_authority.root().der());
    write(dir, "plain.pem", &home_authority.root_without_constraints(NOW, [3; 16]).unwrap());
    write(dir, "leaf.pem", &leaf_of(&home_authority));
    let outside = GeneralName::from(IpAddr::V6("2002:c633:6402:1::1".parse().unwrap()));
    write(dir, "outside.pem", &Forged { names: vec![outside], ..Forged::right() }.signed_by(&key(1)));
    write(dir, "other.pem", &leaf_of(&authority(2)));
    let now = NOW.to_string();
    let verify =
        |root, leaf| openssl(dir, &["verify", "-x509_strict", "-attime", &now, "-CAfile", root, leaf]);
    for (root, leaf, valid) in [
        ("root.pem", "leaf.pem", true),
        ("plain.pem", "leaf.pem", true),
        ("root.pem", "outside.pem", false),
        ("plain.pem", "outside.pem", true),
        ("root.pem", "other.pem", false),
    ] {
        let Some((verdict, text)) = verify(root, leaf) else { return };
        assert_eq!(verdict, valid, "{leaf} under {root}: {text}");
    }
}

#[test]
fn openssl_reads_what_the_certificates_say() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "root.pem", authority(1).root().der());
    write(dir.path(), "leaf.pem", &leaf_of(&authority(1)));
    let Some((_, root)) = openssl(dir.path(), &["x509", "-in", "root.pem", "-noout", "-text"]) else {
        return;
    };
    for part in [
        "CA:TRUE, pathlen:0",
        "X509v3 Name Constraints: critical",
        "IP:2002:C633:6401:0:0:0:0:0/FFFF:FFFF:FFFF:0:0:0:0:0",
        "DNS:example.org",
        "Certificate Sign, CRL Sign",
    ] {
        assert!(root.contains(part), "{part} in {root}");
    }
    let Some((_, leaf)) = openssl(dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-text"]) else {
        return;
    };
    for part in [
        "Public Key Algorithm: ED25519",
        "CA:FALSE",
        "Digital Signature",
        "IP Address:2002:C633:6401:1:0:1:0:10, DNS:laptop.alice.example.org",
        "OU = device",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(leaf.contains(part), "{part} in {leaf}");
    }
    assert!(!leaf.contains("Extended Key Usage"));
}

#[test]
fn a_request_by_openssl_proves_its_key() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key.pem"), &*key(9).to_pem()).unwrap();
    let make = ["req", "-new", "-key", "key.pem", "-subj", "/CN=anything", "-out", "request.pem"];
    let Some((made, text)) = openssl(dir.path(), &make) else { return };
    assert!(made, "{text}");
    let pem = fs::read(dir.path().join("request.pem")).unwrap();
    assert_eq!(request::requested_key(&pem), Ok(key(9).public()));
    let convert = ["req", "-in", "request.pem", "-outform", "der", "-out", "request.der"];
    assert!(openssl(dir.path(), &convert).unwrap().0);
    let mut der = fs::read(dir.path().join("request.der")).unwrap();
    assert_eq!(request::requested_key(&der), Ok(key(9).public()));
    let last = der.len() - 1;
    der[last] ^= 1;
    assert_eq!(request::requested_key(&der), Err(IssueError::Request));
}

#[test]
fn an_export_for_strongswan_is_complete() {
    let home_authority = authority(1);
    let root = home_authority.root_without_constraints(NOW, [3; 16]).unwrap();
    let leaf = leaf_of(&home_authority);
    let machine = StrongSwan {
        name: "swan",
        root: &root,
        leaf: &leaf,
        key: Some(&key(9)),
        peer: "2002:c633:6402:1::20".parse().unwrap(),
        endpoint: Some("198.51.100.2"),
    };
    let files = strongswan(&machine).unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["x509ca/swan-home.pem", "x509/swan.pem", "conf.d/swan.conf", "private/swan.pem"]);
    assert!(files[3].secret && files[3].content.contains("PRIVATE KEY"));
    assert!(files[2].content.contains("id = 2002:c633:6401:1:0:1:0:10\n"));
    let without = strongswan(&StrongSwan { key: None, ..machine }).unwrap();
    assert!(without.iter().all(|file| !file.secret));
}
