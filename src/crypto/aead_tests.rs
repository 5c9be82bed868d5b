use super::*;

const SUITES: [IkeSuite; 2] = [IkeSuite::ChaCha20Poly1305, IkeSuite::Aes256Gcm];

#[test]
fn what_is_sealed_opens_and_nothing_else_does() {
    for suite in SUITES {
        let aead = IkeAead::new(suite, &Secret::new((0..36).collect())).unwrap();
        for len in [0, 1, 15, 16, 17, 100, 1300] {
            let plain: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut sealed = plain.clone();
            aead.seal([7; 8], b"header", &mut sealed).unwrap();
            assert_eq!(sealed.len(), plain.len() + TAG_LEN);
            for i in 0..sealed.len() {
                let mut wrong = sealed.clone();
                wrong[i] ^= 0x40;
                assert_eq!(aead.open([7; 8], b"header", &mut wrong), Err(AeadError));
            }
            assert_eq!(aead.open([8; 8], b"header", &mut sealed.clone()), Err(AeadError));
            assert_eq!(aead.open([7; 8], b"Header", &mut sealed.clone()), Err(AeadError));
            aead.open([7; 8], b"header", &mut sealed).unwrap();
            assert_eq!(sealed, plain);
        }
    }
}

#[test]
fn short_messages_and_wrong_keys_are_errors() {
    for suite in SUITES {
        for len in [0, 4, 32, 35, 37, 64] {
            assert!(IkeAead::new(suite, &Secret::new(vec![1; len])).is_none(), "{len}");
        }
        let aead = IkeAead::new(suite, &Secret::new(vec![1; suite.keymat_len()])).unwrap();
        for len in 0..TAG_LEN {
            assert_eq!(aead.open([0; 8], b"", &mut vec![0; len]), Err(AeadError));
        }
    }
}
