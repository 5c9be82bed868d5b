use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// RFC 8410 §10.1 and §10.3: one key in all its forms.
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
    -----END PUBLIC KEY-----\n";
const PRIVATE_V1: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

// RFC 8032 §7.1, TEST 1 and TEST 2.
#[test]
fn signatures_are_those_of_rfc_8032() {
    let cases = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
             d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
             387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ];
    for (seed, public, message, signature) in cases {
        let key = PrivateKey::from_secret(&Secret::new(hex(seed))).unwrap();
        assert_eq!(key.public().as_bytes()[..], hex(public));
        assert_eq!(key.sign(&hex(message))[..], hex(signature));
        assert!(key.public().verify(&hex(message), &hex(signature)));
        assert!(!key.public().verify(b"another message", &hex(signature)));
        assert!(!key.public().verify(&hex(message), &hex(signature)[..63]));
        assert!(!key.public().verify(&hex(message), &[]));
    }
}

#[test]
fn the_key_of_rfc_8410_is_read_and_written() {
    let private = PrivateKey::from_pem(PRIVATE_V1).unwrap();
    assert_eq!(*private.to_pem(), PRIVATE_V1);
    assert_eq!(private.public().to_pem(), PUBLIC);
    assert_eq!(PUBLIC.parse::<PublicKey>().unwrap(), private.public());
    assert_eq!(
        format!("\n{}\n\n", PUBLIC.replace('\n', "\r\n")).parse::<PublicKey>().unwrap(),
        private.public()
    );
    assert_eq!(PrivateKey::from_secret(&private.seed()).unwrap().public(), private.public());
}

#[test]
fn a_private_key_with_its_public_half_is_read_and_checked() {
    let private = PrivateKey::from_pem(PRIVATE_V1).unwrap();
    let second = private.0.to_pkcs8_pem(LineEnding::LF).unwrap();
    assert_ne!(*second, PRIVATE_V1);
    assert_eq!(PrivateKey::from_pem(&second).unwrap().public(), private.public());
    let wrong =
        KeypairBytes { secret_key: [1; 32], public_key: Some(PublicKeyBytes(*private.public().as_bytes())) };
    let wrong = wrong.to_pkcs8_pem(LineEnding::LF).unwrap();
    assert_eq!(PrivateKey::from_pem(&wrong).unwrap_err(), KeyError::NotAPrivateKey);
}

#[test]
fn one_line_has_44_characters_and_comes_back() {
    let public = PrivateKey::from_seed(&[3; 32]).public();
    let line = public.to_string();
    assert_eq!(line.len(), 44);
    assert_eq!(line.parse::<PublicKey>().unwrap(), public);
    assert_eq!(format!("  {line}\n").parse::<PublicKey>().unwrap(), public);
    assert_eq!(format!("{public:?}"), format!("PublicKey({line})"));
}

#[test]
fn spki_is_44_octets_and_nothing_else_is_taken() {
    let public = PrivateKey::from_seed(&[3; 32]).public();
    let der = public.to_spki_der();
    assert_eq!(der[..], *PublicKeyBytes(*public.as_bytes()).to_public_key_der().unwrap().as_bytes());
    assert_eq!(PublicKey::from_spki_der(&der).unwrap(), public);
    assert_eq!(PublicKey::from_spki_der(&der[..43]).unwrap_err(), KeyError::Length(31));
    assert_eq!(PublicKey::from_spki_der(&[&der[..], &[0]].concat()).unwrap_err(), KeyError::Length(33));
    assert_eq!(PublicKey::from_spki_der(&der[1..]).unwrap_err(), KeyError::NotEd25519Public);
    assert_eq!(PublicKey::from_spki_der(&[]).unwrap_err(), KeyError::NotEd25519Public);
}

#[test]
fn the_fingerprint_is_the_head_of_sha_256_over_the_spki() {
    let fingerprint = PUBLIC.parse::<PublicKey>().unwrap().fingerprint();
    // openssl pkey -pubin -in rfc8410.pem -outform der | sha256sum
    assert_eq!(fingerprint, "a1e9-1560-54e0-4fac-899a-e9f2-7513-2cdc");
}

#[test]
fn each_mistake_has_its_own_sentence() {
    let public = PrivateKey::from_seed(&[3; 32]).public();
    let cases: [(&str, KeyError); 8] = [
        ("", KeyError::Length(0)),
        ("hello, world", KeyError::NotAPublicKey),
        ("AAAA", KeyError::Length(3)),
        (&public.to_string()[..43], KeyError::NotAPublicKey),
        (PRIVATE_V1, KeyError::PrivateGiven),
        (
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----",
            KeyError::NotEd25519Public,
        ),
        ("-----BEGIN PUBLIC KEY-----", KeyError::NotEd25519Public),
        // The neutral element and a y that is no point.
        ("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", KeyError::InvalidPoint),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<PublicKey>().unwrap_err(), error, "{text}");
        assert!(!error.to_string().contains('\n'));
    }
    assert_eq!(PublicKey::from_bytes(&[2; 32]).unwrap_err(), KeyError::InvalidPoint);
    assert_eq!(PrivateKey::from_pem(PUBLIC).unwrap_err(), KeyError::PublicGiven);
    for text in ["", "hello", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n"]
    {
        assert_eq!(PrivateKey::from_pem(text).unwrap_err(), KeyError::NotAPrivateKey, "{text}");
    }
}

#[test]
fn debug_does_not_tell_the_secret() {
    let key = PrivateKey::from_seed(&[3; 32]);
    assert!(!format!("{key:?}").contains(&BASE64.encode([3; 32])));
    assert!(!format!("{key:?}").contains("3, 3, 3"));
}
