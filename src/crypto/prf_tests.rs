use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// RFC 4231 §4.2, §4.3, §4.7 (a key longer than the block).
#[test]
fn hmac_sha_256_gives_the_vectors_of_rfc_4231() {
    let cases: [(&[u8], &[u8], &str); 3] = [
        (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ];
    for (key, data, expected) in cases {
        let (head, tail) = data.split_at(3);
        assert_eq!(hex(&*prf(key, &[data])), expected);
        assert_eq!(hex(&*prf(key, &[head, tail])), expected);
        assert!(prf_verify(key, &[data], &*prf(key, &[data])));
        assert!(!prf_verify(key, &[head], &*prf(key, &[data])));
        assert!(!prf_verify(key, &[data], &prf(key, &[data])[..31]));
    }
}

/// RFC 7296 §2.13 word by word, without HKDF.
fn prf_plus_by_the_book(key: &[u8], seed: &[u8], len: usize) -> Vec<u8> {
    let (mut output, mut block) = (Vec::new(), Vec::new());
    for counter in 1..=255_u8 {
        block = prf(key, &[&block, seed, &[counter]]).to_vec();
        output.extend_from_slice(&block);
    }
    output.truncate(len);
    output
}

#[test]
fn prf_plus_is_hkdf_expand() {
    let key = Secret::new(vec![7; 32]);
    for len in [0, 1, 31, 32, 33, 64, 168, PRF_PLUS_MAX] {
        let got = prf_plus(&key, &[b"nonce i", b"nonce r"], len).unwrap();
        assert_eq!(got.expose(), prf_plus_by_the_book(key.expose(), b"nonce inonce r", len), "{len}");
    }
}

#[test]
fn impossible_requests_are_errors() {
    let key = Secret::new(vec![7; 32]);
    assert_eq!(prf_plus(&key, &[b"s"], PRF_PLUS_MAX + 1).unwrap_err(), PrfError::TooLong(PRF_PLUS_MAX + 1));
    assert_eq!(prf_plus(&Secret::new(vec![7; 31]), &[b"s"], 1).unwrap_err(), PrfError::ShortKey(31));
    assert_eq!(prf_plus(&Secret::new(vec![]), &[b"s"], 1).unwrap_err(), PrfError::ShortKey(0));
}

// Nonces have 16 to 256 octets (RFC 7296 §3.9): the salt may be longer than a block of SHA-256.
#[test]
fn skeyseed_is_the_prf_of_the_nonces() {
    let shared = Secret::new(vec![3; 32]);
    for len in [16, 31, 32, 33, 128, 256] {
        let (ni, nr) = (vec![1; len], vec![2; len]);
        let salt = [&ni[..], &nr[..]].concat();
        assert_eq!(skeyseed(&ni, &nr, &shared).expose(), &prf(&salt, &[shared.expose()])[..]);
        let old = Secret::new(vec![9; 32]);
        assert_eq!(
            skeyseed_rekey(&old, &shared, &ni, &nr).expose(),
            &prf(old.expose(), &[shared.expose(), &ni, &nr])[..]
        );
    }
}

#[test]
fn ike_keys_are_cut_in_the_order_of_the_rfc() {
    let seed = Secret::new(vec![5; 32]);
    let book = prf_plus_by_the_book(
        seed.expose(),
        &[&b"ni"[..], b"nr", &[0, 0, 0, 0, 0, 0, 0, 1], &[0, 0, 0, 0, 0, 0, 0, 2]].concat(),
        168,
    );
    for suite in [IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm] {
        let keys = ike_keys(suite, &seed, b"ni", b"nr", 1, 2).unwrap();
        let all = [&keys.sk_d, &keys.sk_ei, &keys.sk_er, &keys.sk_pi, &keys.sk_pr];
        assert_eq!(all.map(Secret::len), [32, 36, 36, 32, 32]);
        assert_eq!(all.map(Secret::expose).concat(), book);
    }
}

#[test]
fn child_keys_begin_with_the_initiator() {
    let (sk_d, shared) = (Secret::new(vec![5; 32]), Secret::new(vec![6; 32]));
    for suite in EspSuite::ALL {
        let len = suite.keymat_len();
        let keys = child_keys(suite, &sk_d, None, b"ni", b"nr").unwrap();
        let book = prf_plus_by_the_book(sk_d.expose(), b"ninr", 2 * len);
        assert_eq!([keys.initiator.expose(), keys.responder.expose()].concat(), book);
        let keys = child_keys(suite, &sk_d, Some(&shared), b"ni", b"nr").unwrap();
        let book = prf_plus_by_the_book(sk_d.expose(), &[shared.expose(), b"ninr"].concat(), 2 * len);
        assert_eq!([keys.initiator.expose(), keys.responder.expose()].concat(), book);
    }
}

#[test]
fn psk_auth_is_padded() {
    let psk = Secret::from(&b"correct horse"[..]);
    let auth = psk_auth(&psk, &[b"signed ", b"octets"]);
    assert_eq!(auth, *prf(&*prf(b"correct horse", &[b"Key Pad for IKEv2"]), &[b"signed octets"]));
    assert!(psk_auth_verify(&psk, &[b"signed octets"], &auth));
    assert!(!psk_auth_verify(&psk, &[b"signed octet"], &auth));
    assert!(!psk_auth_verify(&Secret::from(&b"Correct horse"[..]), &[b"signed octets"], &auth));
    assert!(!psk_auth_verify(&psk, &[b"signed octets"], &[]));
}
