//! Published vectors through the whole of ESP and of the Encrypted payload.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use domicile::crypto::aead::IkeAead;
use domicile::crypto::secret::Secret;
use domicile::crypto::suite::{EspSuite, IkeSuite};
use domicile::esp::{InboundSa, Limits, OpenError, OutboundSa, SaParams};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn params(spi: u32, suite: EspSuite, esn: bool, key: &[u8]) -> SaParams {
    SaParams {
        spi,
        local: "2002:c633:6401:1::10".parse().unwrap(),
        remote: "2002:c633:6402:1::20".parse().unwrap(),
        suite,
        esn,
        key: Secret::from(key),
        limits: Limits::NONE,
    }
}

/// The keys of RFC 7634 appendix A and B: 80 … 9f, and the salt a0 … a3.
fn rfc7634_key() -> Vec<u8> {
    (0x80..=0xa3).collect()
}

const RFC7634_INNER: &str = "45000054 a6f20000 4001e778 c6336405 c0000205 08005b7a 3a080000 553bec10 00073627 \
    08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637";

const RFC7634_PACKET: &str = "01020304 00000005 10111213 14151617 \
    24039428 b97f417e 3c13753a 4f05087b 67c352e6 a7fab1b9 82d466ef 407ae5c6 14ee8099 d52844eb 61aa95df \
    ab4c02f7 2aa71e7c 4c4f64c9 befe2fac c638e8f3 cbec163f ac469b50 2773f6fb 94e664da 9165b828 29f641e0 \
    76aaa826 6b7fb0f7 b11b3699 07e1ad43";

// RFC 7634 appendix A.
#[test]
fn the_esp_packet_of_rfc_7634_opens() {
    let sa = InboundSa::new(params(0x0102_0304, EspSuite::ChaCha20Poly1305, false, &rfc7634_key())).unwrap();
    let mut out = [0; 200];
    let opened = sa.open(&hex(RFC7634_PACKET), &mut out).unwrap();
    assert_eq!(out[..opened.len], hex(RFC7634_INNER));
    assert_eq!((opened.next_header, opened.sequence, opened.first), (4, 5, true));
    assert_eq!(sa.open(&hex(RFC7634_PACKET), &mut out), Err(OpenError::Replayed));
}

// RFC 7634 appendix B.
#[test]
fn the_encrypted_payload_of_rfc_7634_is_sealed_and_opened() {
    let aead = IkeAead::new(IkeSuite::ChaCha20Poly1305, &Secret::new(rfc7634_key())).unwrap();
    let iv = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
    let aad = hex("c0c1c2c3c4c5c6c7 d0d1d2d3d4d5d6d7 2e202500 00000009 00000045 29000029");
    let plain = hex("0000000c 00004001 0000000a 00");
    let sealed = hex("61039470 1f8d017f 7c129248 89 6b71bfe2 5236efd7 cdc67066 906315b2");
    let mut buffer = plain.clone();
    aead.seal(iv, &aad, &mut buffer).unwrap();
    assert_eq!(buffer, sealed);
    aead.open(iv, &aad, &mut buffer).unwrap();
    assert_eq!(buffer, plain);
}

// draft-mcgrew-gcm-test-01 §4, the case with a 256-bit key.
#[test]
fn the_gcm_esp_packet_of_mcgrew_opens() {
    let key = hex("abbccddef00112233445566778899aab abbccddef00112233445566778899aab 11223344");
    let packet = hex("4a2cbfe3 00000002 01020304 05060708 \
        ff425c9b 724599df 7a3bcd51 0194e00d 6a78107f 1b0b1cbf 06efae9d 65a5d763 748a6379 85771d34 7f054565 \
        9f14e99d ef842d8e b335f4ee cfdbf831 824b4c49 15956c96");
    let inner = hex("45000030 69a64000 80062690 c0a80102 9389155e 0a9e008b 2dc57ee0 00000000 70024000 \
        20bf0000 020405b4 01010402");
    let sa = InboundSa::new(params(0x4a2c_bfe3, EspSuite::Aes256Gcm, false, &key)).unwrap();
    let mut out = [0; 64];
    let opened = sa.open(&packet, &mut out).unwrap();
    assert_eq!(out[..opened.len], inner);
    assert_eq!((opened.next_header, opened.sequence), (1, 2));
}

// The GCM specification's test case 16 (256-bit key) through the Encrypted payload.
#[test]
fn the_gcm_test_case_16_is_sealed() {
    let key = hex("feffe9928665731c6d6a8f9467308308 feffe9928665731c6d6a8f9467308308 cafebabe");
    let aead = IkeAead::new(IkeSuite::Aes256Gcm, &Secret::new(key)).unwrap();
    let mut buffer = hex("d9313225f88406e5a55909c5aff5269a 86a7a9531534f7da2e4c303d8a318a72 \
        1c3c0c95956809532fcf0e2449a6b525 b16aedf5aa0de657ba637b39");
    let iv = [0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88];
    aead.seal(iv, &hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), &mut buffer).unwrap();
    assert_eq!(
        buffer,
        hex(
            "522dc1f099567d07f47f37a32a84427d 643a8cdcbfe5c0c97598a2bd2555d1aa 8cb08e48590dbb3da7b08b1056828838 \
            c5f61e6393ba7a0abcc9f662 76fc6ece0f4e1768cddf8853bb2d551b"
        )
    );
}

/// The `sequence`-th packet of a fresh SA.
fn sealed(params: SaParams, sequence: u64, inner: &[u8]) -> Vec<u8> {
    let sa = OutboundSa::new(params).unwrap();
    let mut left = sequence;
    while left > 0 {
        let count = u32::try_from(left).unwrap_or(u32::MAX);
        sa.assign(count).unwrap();
        left -= u64::from(count);
    }
    let mut out = vec![0; sa.sealed_len(inner.len())];
    let len = sa.seal(sequence, 41, inner, &mut out).unwrap();
    assert_eq!(len, out.len());
    out
}

// RFC 8750 §4: with the sequence number as explicit IV the two forms of a suite have one nonce, and so differ in
// the IV field alone.
#[test]
fn the_implicit_iv_forms_are_the_explicit_ones_without_the_iv() {
    let pairs = [
        (EspSuite::ChaCha20Poly1305, EspSuite::ChaCha20Poly1305Iiv),
        (EspSuite::Aes256Gcm, EspSuite::Aes256GcmIiv),
    ];
    for (explicit, implicit) in pairs {
        for (esn, sequence) in [(false, 5), (false, 0xffff_fff0), (true, 5), (true, 0x3_0000_0007)] {
            let key = rfc7634_key();
            let with_iv = sealed(params(7_000, explicit, esn, &key), sequence, &hex(RFC7634_INNER));
            let without = sealed(params(7_000, implicit, esn, &key), sequence, &hex(RFC7634_INNER));
            assert_eq!(with_iv[8..16], sequence.to_be_bytes());
            assert_eq!([&with_iv[..8], &with_iv[16..]].concat(), without);
        }
    }
}

// The associated data of RFC 4106 §5 and RFC 7634 §2.1, sealed by the other implementation.
#[test]
fn the_associated_data_has_12_octets_with_esn() {
    let key = rfc7634_key();
    let sequence = 0x1_0000_0002_u64;
    let oracle = IkeAead::new(IkeSuite::ChaCha20Poly1305, &Secret::from(&key[..])).unwrap();
    let mut body = [&hex(RFC7634_INNER)[..], &[1, 2, 2, 41]].concat();
    oracle.seal(sequence.to_be_bytes(), &hex("00001b58 00000001 00000002"), &mut body).unwrap();
    let packet =
        sealed(params(0x1b58, EspSuite::ChaCha20Poly1305, true, &key), sequence, &hex(RFC7634_INNER));
    assert_eq!(packet, [&hex("00001b58 00000002 00000001 00000002")[..], &body].concat());
}

// RFC 4303 §2.2.1 and RFC 4868 §2.3: the ICV is the first half of the HMAC over the packet, then the high half of the
// extended number.
#[test]
fn the_integrity_form_authenticates_the_high_half() {
    use domicile::crypto::prf::prf;
    let key = [0x0b; 32];
    let inner = hex(RFC7634_INNER);
    let text = [&hex("00001b58 00000002")[..], &inner, &[1, 2, 2, 41]].concat();
    let packet = sealed(params(0x1b58, EspSuite::NullHmacSha256, false, &key), 2, &inner);
    assert_eq!(packet, [&text[..], &prf(&key, &[&text])[..16]].concat());
    let packet = sealed(params(0x1b58, EspSuite::NullHmacSha256, true, &key), 0x1_0000_0002, &inner);
    assert_eq!(packet, [&text[..], &prf(&key, &[&text, &[0, 0, 0, 1]])[..16]].concat());
}
