//! Security associations from end to end: every suite, every length, every way to be refused.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::thread;

use domicile::crypto::aead::IkeAead;
use domicile::crypto::secret::Secret;
use domicile::crypto::suite::{EspSuite, IkeSuite};
use domicile::esp::{InboundSa, Limits, OpenError, OutboundSa, SaParams, SealError};
use proptest::prelude::*;

fn params(suite: EspSuite, esn: bool) -> SaParams {
    SaParams {
        spi: 0x1234_5678,
        local: "2002:c633:6401:1::10".parse().unwrap(),
        remote: "2002:c633:6402:1::20".parse().unwrap(),
        suite,
        esn,
        key: Secret::new((0..suite.keymat_len() as u8).collect()),
        limits: Limits::NONE,
    }
}

fn pair(suite: EspSuite, esn: bool) -> (OutboundSa, InboundSa) {
    (OutboundSa::new(params(suite, esn)).unwrap(), InboundSa::new(params(suite, esn)).unwrap())
}

fn seal(sa: &OutboundSa, next_header: u8, inner: &[u8]) -> Vec<u8> {
    let sequence = sa.assign(1).unwrap();
    let mut out = vec![0xee; sa.sealed_len(inner.len()) + 7];
    let len = sa.seal(sequence, next_header, inner, &mut out).unwrap();
    assert!(out[len..].iter().all(|octet| *octet == 0xee), "nothing behind the packet is touched");
    out.truncate(len);
    out
}

fn each_suite(test: impl Fn(EspSuite, bool)) {
    for suite in EspSuite::ALL {
        test(suite, false);
        test(suite, true);
    }
}

#[test]
fn every_length_comes_back_in_every_suite() {
    each_suite(|suite, esn| {
        let (outbound, inbound) = pair(suite, esn);
        let mut total = 0;
        for len in 0..=2_000_usize {
            let inner: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            let packet = seal(&outbound, 41, &inner);
            assert_eq!(packet.len(), 8 + suite.iv_len() + (len + 2).next_multiple_of(4) + 16);
            if len >= 16 {
                let in_clear = packet.windows(16).any(|at| at == &inner[..16]);
                assert_eq!(in_clear, !suite.is_confidential());
            }
            let mut out = vec![0; 2_100];
            let opened = inbound.open(&packet, &mut out).unwrap();
            assert_eq!(&out[..opened.len], inner);
            assert_eq!((opened.next_header, opened.sequence), (41, len as u64 + 1));
            assert_eq!(opened.first, len == 0);
            total += len as u64;
        }
        assert_eq!((outbound.packets(), outbound.bytes()), (2_001, total));
        assert_eq!((inbound.packets(), inbound.bytes()), (2_001, total));
    });
}

#[test]
fn a_change_of_any_octet_is_noticed_and_moves_nothing() {
    each_suite(|suite, esn| {
        let (outbound, inbound) = pair(suite, esn);
        let packet = seal(&outbound, 41, b"the quick brown fox jumps over the lazy dog");
        let mut out = [0; 100];
        for i in 0..packet.len() {
            let mut wrong = packet.clone();
            wrong[i] ^= 0x80;
            let error = inbound.open(&wrong, &mut out).unwrap_err();
            // With ESN a changed sequence number may mean one of the past.
            assert!(matches!(error, OpenError::Integrity | OpenError::TooOld), "{suite} {i}: {error}");
        }
        assert_eq!(inbound.packets(), 0);
        assert!(inbound.open(&packet, &mut out).unwrap().first);
        assert_eq!(inbound.open(&packet, &mut out), Err(OpenError::Replayed));
    });
}

#[test]
fn every_truncation_is_an_error() {
    each_suite(|suite, esn| {
        let (outbound, inbound) = pair(suite, esn);
        let packet = seal(&outbound, 41, &[7; 40]);
        let mut out = [0; 100];
        for len in 0..packet.len() {
            let error = inbound.open(&packet[..len], &mut out).unwrap_err();
            let short = len < 8 + suite.iv_len() + 4 + 16 || len % 4 != 0;
            assert_eq!(
                error,
                if short { OpenError::Malformed } else { OpenError::Integrity },
                "{suite} {len}"
            );
        }
        let long = [&packet[..], &[0; 4]].concat();
        assert_eq!(inbound.open(&long, &mut out), Err(OpenError::Integrity));
        assert_eq!(inbound.open(&packet, &mut out[..40]), Err(OpenError::Malformed));
        assert!(inbound.open(&packet, &mut out[..44]).is_ok());
    });
}

#[test]
fn only_the_same_key_suite_and_form_opens() {
    let packet = seal(&OutboundSa::new(params(EspSuite::Aes256Gcm, true)).unwrap(), 41, &[1; 64]);
    let mut out = [0; 200];
    let other_form = InboundSa::new(params(EspSuite::Aes256Gcm, false)).unwrap();
    assert_eq!(other_form.open(&packet, &mut out), Err(OpenError::Integrity));
    let other_suite = InboundSa::new(params(EspSuite::ChaCha20Poly1305, true)).unwrap();
    assert_eq!(other_suite.open(&packet, &mut out), Err(OpenError::Integrity));
    let mut wrong = params(EspSuite::Aes256Gcm, true);
    wrong.key = Secret::new(vec![9; 36]);
    assert_eq!(InboundSa::new(wrong).unwrap().open(&packet, &mut out), Err(OpenError::Integrity));
}

#[test]
fn keys_of_another_length_are_refused() {
    each_suite(|suite, esn| {
        for len in [0, 16, 31, 32, 33, 35, 36, 37, 64] {
            let mut params = params(suite, esn);
            params.key = Secret::new(vec![1; len]);
            assert_eq!(OutboundSa::new(params.clone()).is_some(), len == suite.keymat_len());
            assert_eq!(InboundSa::new(params).is_some(), len == suite.keymat_len());
        }
    });
}

/// What `OutboundSa` would never make: any trailer, authentic, by way of the integrity form.
fn with_trailer(body: &[u8]) -> Vec<u8> {
    let key: Vec<u8> = (0..32).collect();
    let text = [&0x1234_5678_u32.to_be_bytes()[..], &1_u32.to_be_bytes(), body].concat();
    let icv = domicile::crypto::prf::prf(&key, &[&text]);
    [&text[..], &icv[..16]].concat()
}

#[test]
fn padding_is_one_two_three_and_no_longer_than_the_packet() {
    let cases: [(&[u8], Result<usize, OpenError>); 8] = [
        (&[9, 9, 0, 41], Ok(2)),
        (&[9, 1, 1, 41], Ok(1)),
        (&[1, 2, 2, 41], Ok(0)),
        (&[1, 2, 3, 4, 5, 6, 6, 41], Ok(0)),
        (&[9, 9, 1, 41], Err(OpenError::Padding)),
        (&[9, 2, 1, 41], Err(OpenError::Padding)),
        (&[2, 1, 2, 41], Err(OpenError::Padding)),
        (&[1, 2, 3, 41], Err(OpenError::Padding)),
    ];
    for (body, expected) in cases {
        let inbound = InboundSa::new(params(EspSuite::NullHmacSha256, false)).unwrap();
        let packet = with_trailer(body);
        let mut out = [0; 16];
        assert_eq!(inbound.open(&packet, &mut out).map(|opened| opened.len), expected, "{body:?}");
        // Authentic, so it is marked either way.
        assert_eq!(inbound.open(&packet, &mut out), Err(OpenError::Replayed));
    }
    // The longest padding that there is.
    let longest: Vec<u8> = (1..=255).chain([255, 59]).collect();
    let packet = with_trailer(&[&[7; 3][..], &longest].concat());
    let inbound = InboundSa::new(params(EspSuite::NullHmacSha256, false)).unwrap();
    assert_eq!(inbound.open(&packet, &mut [0; 300]).unwrap().len, 3);
}

#[test]
fn sequence_numbers_are_never_given_twice() {
    let mut params = params(EspSuite::Aes256Gcm, false);
    params.limits.hard_packets = 50_000;
    let sa = OutboundSa::new(params).unwrap();
    let taken: Vec<u64> = thread::scope(|scope| {
        let workers: Vec<_> = (1..=4)
            .map(|count| {
                let sa = &sa;
                scope.spawn(move || {
                    let mut taken = Vec::new();
                    while let Ok(first) = sa.assign(count) {
                        taken.extend(first..first + u64::from(count));
                    }
                    taken
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len());
    assert_eq!(taken.iter().min(), Some(&1));
    assert_eq!(taken.iter().max(), Some(&50_000));
    assert_eq!(taken.len(), 50_000);
}

#[test]
fn the_counter_stops_before_it_wraps() {
    let sa = OutboundSa::new(params(EspSuite::Aes256Gcm, false)).unwrap();
    assert_eq!(sa.assign(u32::MAX - 3), Ok(1));
    assert_eq!(sa.assign(3), Err(SealError::Exhausted));
    assert_eq!(sa.assign(2), Ok(u64::from(u32::MAX) - 2));
    assert_eq!(sa.assign(1), Err(SealError::Exhausted));
    assert_eq!(sa.assign(u32::MAX), Err(SealError::Exhausted));
    assert_eq!(sa.packets(), u64::from(u32::MAX) - 1);
    let extended = OutboundSa::new(params(EspSuite::Aes256Gcm, true)).unwrap();
    assert_eq!(extended.assign(u32::MAX), Ok(1));
    assert_eq!(extended.assign(u32::MAX), Ok(1 << 32));
}

#[test]
fn what_was_not_assigned_is_not_sealed() {
    let sa = OutboundSa::new(params(EspSuite::Aes256Gcm, false)).unwrap();
    let mut out = [0; 100];
    for sequence in [0, 1, 2, u64::MAX] {
        assert_eq!(sa.seal(sequence, 41, &[0; 10], &mut out), Err(SealError::Exhausted));
    }
    sa.assign(1).unwrap();
    assert!(sa.seal(1, 41, &[0; 10], &mut out).is_ok());
    assert_eq!(sa.seal(1, 41, &[0; 10], &mut out[..43]), Err(SealError::BufferTooShort));
    assert_eq!(sa.sealed_len(usize::MAX), usize::MAX);
}

#[test]
fn a_run_is_the_same_packets_one_after_the_other() {
    each_suite(|suite, esn| {
        let (whole, single) = (pair(suite, esn).0, pair(suite, esn).0);
        seal(&whole, 41, b"before");
        seal(&single, 41, b"before");
        let packets: Vec<Vec<u8>> = [40, 1_400, 0, 7].map(|len| vec![len as u8; len]).to_vec();
        let mut run = whole.run(4, 1_447).unwrap();
        for inner in &packets {
            let mut out = vec![0; whole.sealed_len(inner.len())];
            let short = out.len() - 1;
            assert_eq!(run.seal(41, inner, &mut out[..short]), Err(SealError::BufferTooShort));
            assert_eq!(run.seal(41, inner, &mut out), Ok(out.len()));
            assert_eq!(out, seal(&single, 41, inner));
        }
        assert_eq!(run.seal(41, b"", &mut [0; 100]), Err(SealError::Exhausted));
        assert_eq!((whole.packets(), whole.bytes()), (single.packets(), single.bytes()));
        assert_eq!(seal(&whole, 41, b"after"), seal(&single, 41, b"after"));
    });
}

#[test]
fn a_run_keeps_to_the_limits() {
    let mut params = params(EspSuite::Aes256Gcm, true);
    params.limits = Limits { soft_bytes: 200, soft_packets: 3, hard_bytes: 350, hard_packets: 6 };
    let sa = OutboundSa::new(params).unwrap();
    let mut out = [0; 400];
    assert!(sa.run(7, 10).is_err() && sa.take_exhausted());
    let mut run = sa.run(3, 30).unwrap();
    assert_eq!(run.seal(41, &[0; 31], &mut out), Err(SealError::Exhausted), "more than was said");
    assert!(run.seal(41, &[0; 10], &mut out).is_ok());
    assert!(sa.take_soft_limit());
    assert!(sa.run(1, 321).is_err() && sa.run(1, 320).is_ok());
    assert_eq!((sa.packets(), sa.bytes()), (5, 350));
    assert!(sa.run(1, 0).is_err(), "nothing after the hard limit");
}

#[test]
fn limits_are_told_once_and_hard_ones_hold() {
    let mut params = params(EspSuite::Aes256Gcm, true);
    params.limits = Limits { soft_bytes: 200, soft_packets: 3, hard_bytes: 350, hard_packets: 6 };
    let (outbound, inbound) = (OutboundSa::new(params.clone()).unwrap(), InboundSa::new(params).unwrap());
    let mut out = [0; 200];
    for round in 1..=3 {
        assert!(!outbound.take_soft_limit() && !inbound.take_soft_limit());
        let packet = seal(&outbound, 41, &[0; 10]);
        inbound.open(&packet, &mut out).unwrap();
        assert_eq!(outbound.packets(), round);
    }
    assert!(outbound.take_soft_limit() && inbound.take_soft_limit());
    assert!(!outbound.take_soft_limit() && !inbound.take_soft_limit());
    assert!(!outbound.take_exhausted());
    assert_eq!(outbound.assign(4), Err(SealError::Exhausted));
    let first = outbound.assign(3).unwrap();
    assert_eq!(outbound.assign(1), Err(SealError::Exhausted));
    assert!(outbound.take_exhausted());
    assert!(!outbound.take_exhausted());
    // 30 octets so far: 320 more fit, 321 do not.
    let mut out = [0; 400];
    assert_eq!(outbound.seal(first, 41, &[0; 321], &mut out), Err(SealError::Exhausted));
    assert!(outbound.seal(first, 41, &[0; 320], &mut out).is_ok());
    assert_eq!(outbound.bytes(), 350);
    assert_eq!(outbound.seal(first + 1, 41, &[0; 1], &mut out), Err(SealError::Exhausted));
}

#[test]
fn a_rekey_is_asked_for_before_32_bit_numbers_run_out() {
    let sa = OutboundSa::new(params(EspSuite::Aes256Gcm, false)).unwrap();
    sa.assign(3_700_000_000).unwrap();
    assert!(!sa.take_soft_limit());
    sa.assign(100_000_000).unwrap();
    assert!(sa.take_soft_limit());
}

#[test]
fn one_lock_serves_a_batch() {
    let (outbound, inbound) = pair(EspSuite::ChaCha20Poly1305Iiv, true);
    let packets: Vec<_> = (0..64).map(|i| seal(&outbound, 41, &[i; 100])).collect();
    let mut opener = inbound.lock();
    let mut out = [0; 128];
    for (i, packet) in packets.iter().enumerate().rev() {
        assert_eq!(opener.open(packet, &mut out).unwrap().first, i == 63);
    }
    drop(opener);
    assert_eq!(inbound.open(&packets[0], &mut out), Err(OpenError::Replayed));
}

#[test]
fn extended_numbers_cross_the_wrap_of_the_low_half() {
    each_suite(|suite, esn| {
        if !esn {
            return;
        }
        let (outbound, inbound) = pair(suite, true);
        let mut out = [0; 64];
        // Seen from a window at zero a number just below 2^32 is one of the past: the receiver must have followed.
        outbound.assign(1 << 31).unwrap();
        inbound.open(&seal(&outbound, 41, b"abc"), &mut out).unwrap();
        outbound.assign((1 << 31) - 12).unwrap();
        let packets: Vec<_> = (0..20).map(|_| seal(&outbound, 41, b"abc")).collect();
        for packet in packets.iter().step_by(2).chain(packets.iter().skip(1).step_by(2)) {
            inbound.open(packet, &mut out).unwrap();
        }
        for packet in &packets {
            assert_eq!(inbound.open(packet, &mut out), Err(OpenError::Replayed));
        }
        assert_eq!((inbound.packets(), outbound.packets() >> 32), (21, 1));
    });
}

/// ESP as RFC 4303 and RFC 7634 have it, by the portable implementation: the oracle of the fast one.
fn by_the_portable_one(params: &SaParams, sequence: u64, next_header: u8, inner: &[u8]) -> Vec<u8> {
    let pad = (4 - (inner.len() + 2) % 4) % 4;
    let mut body = [inner, &[1, 2, 3][..pad], &[pad as u8, next_header]].concat();
    let (high, low) = ((sequence >> 32) as u32, sequence as u32);
    let header = [params.spi.to_be_bytes(), low.to_be_bytes()].concat();
    let aad = match params.esn {
        true => [params.spi.to_be_bytes(), high.to_be_bytes(), low.to_be_bytes()].concat(),
        false => header.clone(),
    };
    let iv = sequence.to_be_bytes();
    let key = IkeAead::new(IkeSuite::ChaCha20Poly1305, &params.key).unwrap();
    key.seal(iv, &aad, &mut body).unwrap();
    [&header[..], &iv[..params.suite.iv_len()], &body].concat()
}

/// One packet both ways: what we seal is what the portable one seals, and what that seals is opened.
fn hold_against_the_portable_one(params: &SaParams, skip: u32, next_header: u8, inner: &[u8]) {
    let (outbound, inbound) =
        (OutboundSa::new(params.clone()).unwrap(), InboundSa::new(params.clone()).unwrap());
    outbound.assign(skip).unwrap();
    let packet = seal(&outbound, next_header, inner);
    let theirs = by_the_portable_one(params, u64::from(skip) + 1, next_header, inner);
    assert_eq!(packet, theirs, "{} octets with {}", inner.len(), params.suite);
    let mut out = vec![0; inner.len() + 5];
    let opened = inbound.open(&theirs, &mut out).unwrap();
    assert_eq!((&out[..opened.len], opened.next_header), (inner, next_header));
}

#[test]
fn the_fast_chacha20_poly1305_is_the_portable_one_at_every_length() {
    let inner: Vec<u8> = (0..2_000_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    for suite in [EspSuite::ChaCha20Poly1305, EspSuite::ChaCha20Poly1305Iiv] {
        for esn in [false, true] {
            let params = params(suite, esn);
            (0..=inner.len()).for_each(|len| hold_against_the_portable_one(&params, 7, 41, &inner[..len]));
        }
    }
}

proptest! {
    #[test]
    fn the_fast_chacha20_poly1305_is_the_portable_one(
        key in proptest::collection::vec(any::<u8>(), 36),
        spi in 256_u32..,
        skip in 0_u32..u32::MAX - 1,
        inner in proptest::collection::vec(any::<u8>(), 0..2_000),
        next_header in any::<u8>(),
        esn in any::<bool>(),
        implicit in any::<bool>(),
    ) {
        let suite = if implicit { EspSuite::ChaCha20Poly1305Iiv } else { EspSuite::ChaCha20Poly1305 };
        let mut params = params(suite, esn);
        params.key = Secret::from(&key[..]);
        params.spi = spi;
        hold_against_the_portable_one(&params, skip, next_header, &inner);
    }

    #[test]
    fn garbage_never_opens_and_never_panics(
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        suite in proptest::sample::select(EspSuite::ALL.to_vec()),
        esn in any::<bool>(),
        room in 0_usize..300,
    ) {
        let inbound = InboundSa::new(params(suite, esn)).unwrap();
        prop_assert!(inbound.open(&garbage, &mut vec![0; room]).is_err());
        prop_assert_eq!(inbound.packets(), 0);
    }
}
