use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn transform() -> impl Strategy<Value = Transform> {
    (any::<u8>(), any::<u16>(), any::<Option<u16>>()).prop_map(|(kind, id, key_length)| Transform {
        kind,
        id,
        key_length,
        unknown_attribute: false,
    })
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let spi = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 4),
        prop::collection::vec(any::<u8>(), 8)
    ];
    (any::<u8>(), any::<u8>(), spi, prop::collection::vec(transform(), 0..8))
        .prop_map(|(number, protocol, spi, transforms)| Proposal { number, protocol, spi, transforms })
}

fn selector() -> impl Strategy<Value = TrafficSelector> {
    (any::<u8>(), any::<u16>(), any::<u16>(), any::<u128>(), any::<u128>()).prop_map(
        |(protocol, start_port, end_port, start, end)| TrafficSelector::Ipv6 {
            protocol,
            start_port,
            end_port,
            start: Ipv6Addr::from(start),
            end: Ipv6Addr::from(end),
        },
    )
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        prop::collection::vec(proposal(), 1..4).prop_map(Payload::Sa),
        (any::<u16>(), bytes(40)).prop_map(|(group, data)| Payload::KeyExchange { group, data }),
        (any::<u8>(), any::<[u8; 3]>(), bytes(20)).prop_map(|(id_type, reserved, data)| {
            Payload::IdInitiator(Identification { id_type, reserved, data })
        }),
        (any::<u8>(), any::<[u8; 3]>(), bytes(20)).prop_map(|(id_type, reserved, data)| {
            Payload::IdResponder(Identification { id_type, reserved, data })
        }),
        (any::<u8>(), bytes(80)).prop_map(|(method, data)| Payload::Auth { method, data }),
        (any::<u8>(), bytes(80)).prop_map(|(encoding, data)| Payload::Certificate { encoding, data }),
        prop::collection::vec(any::<u8>(), 16..=256).prop_map(Payload::Nonce),
        (any::<u8>(), bytes(9), any::<u16>(), bytes(40))
            .prop_map(|(protocol, spi, kind, data)| Payload::Notify(Notify { protocol, spi, kind, data })),
        prop::collection::vec(any::<u32>(), 0..4)
            .prop_map(|spis| Payload::Delete(Delete { protocol: 3, spis })),
        prop::collection::vec(selector(), 1..4).prop_map(Payload::TsInitiator),
        prop::collection::vec(selector(), 1..4).prop_map(Payload::TsResponder),
        bytes(30).prop_map(Payload::VendorId),
        (200_u8..250, bytes(30)).prop_map(|(payload_type, body)| Payload::Other {
            payload_type,
            critical: false,
            body
        }),
    ]
}

fn header() -> Header {
    Header {
        initiator_spi: 1,
        responder_spi: 2,
        next_payload: 0,
        version: 0x20,
        exchange: exchange::IKE_AUTH,
        flags: flags::INITIATOR,
        message_id: 7,
        length: 0,
    }
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(payloads in prop::collection::vec(payload(), 0..8)) {
        let message = encode_message(header(), &payloads);
        let read = Header::parse(&message)?;
        prop_assert_eq!(parse_payloads(read.next_payload, &message[HEADER_LEN..])?, payloads);
        prop_assert_eq!((read.initiator_spi, read.responder_spi, read.message_id), (1, 2, 7));
    }

    #[test]
    fn truncation_is_an_error_and_never_a_panic(payloads in prop::collection::vec(payload(), 1..4)) {
        let message = encode_message(header(), &payloads);
        for len in 0..message.len() {
            prop_assert!(Header::parse(&message[..len]).is_err(), "the length field says more");
            let _ = parse_payloads(message[16], message.get(HEADER_LEN..len).unwrap_or_default());
        }
    }

    #[test]
    fn noise_is_refused_or_bounded(first: u8, noise in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(payloads) = parse_payloads(first, &noise) {
            prop_assert!(payloads.len() <= noise.len() / 4 + 1);
        }
    }
}

#[test]
fn an_unknown_critical_payload_is_named() {
    let message =
        encode_message(header(), &[Payload::Other { payload_type: 222, critical: true, body: vec![1] }]);
    let error = parse_payloads(message[16], &message[HEADER_LEN..]).unwrap_err();
    assert_eq!(error.notify(), (notify_type::UNSUPPORTED_CRITICAL_PAYLOAD, vec![222]));
}

#[test]
fn headers_are_checked() {
    let mut message = encode_message(header(), &[]);
    assert!(Header::parse(&message).is_ok());
    message[17] = 0x30;
    assert_eq!(Header::parse(&message), Err(ParseError::Version(3)));
    message[17] = 0x20;
    message.push(0);
    assert_eq!(Header::parse(&message), Err(ParseError::Length));
}

#[test]
fn a_proposal_as_strongswan_sends_it() {
    // SA payload body: one IKE proposal, ENCR 28 without key length, PRF 5, KE 31.
    let body = [
        0, 0, 0, 32, 1, 1, 0, 3, // proposal 1, IKE, no SPI, three transforms
        3, 0, 0, 8, 1, 0, 0, 28, // ENCR_CHACHA20_POLY1305
        3, 0, 0, 8, 2, 0, 0, 5, // PRF_HMAC_SHA2_256
        0, 0, 0, 8, 4, 0, 0, 31, // Curve25519
    ];
    let mut chain = vec![0, 0, 0, 36];
    chain.extend_from_slice(&body);
    let payloads = parse_payloads(payload_type::SA, &chain).unwrap();
    let Payload::Sa(proposals) = &payloads[0] else { panic!("not an SA payload") };
    let ids: Vec<(u8, u16)> =
        proposals[0].transforms.iter().map(|transform| (transform.kind, transform.id)).collect();
    assert_eq!(ids, [(1, 28), (2, 5), (4, 31)]);
    let mut again = Vec::new();
    encode_payloads(&payloads, &mut again);
    assert_eq!(again, chain);
}
