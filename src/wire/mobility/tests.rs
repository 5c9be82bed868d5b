//! Octets as scapy and tshark read and write them, round trips, and refusals.

use proptest::prelude::*;

use super::*;
use crate::wire::ip::{checksum, write_header};

const NODE: Ipv6Addr = Ipv6Addr::new(0x2002, 0xc633, 0x6401, 0x100, 0, 0, 0, 1);
const AGENT: Ipv6Addr = Ipv6Addr::new(0x2002, 0xc633, 0x6401, 0, 0, 0, 0, 1);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A packet from an arbitrary Mobility Header, with the right checksum.
fn packet(mut payload: Vec<u8>) -> Vec<u8> {
    let mut packet = vec![0; HEADER_LEN];
    let len = u16::try_from(payload.len()).unwrap();
    write_header(packet.first_chunk_mut().unwrap(), NODE, AGENT, NEXT_HEADER_MOBILITY, 64, len);
    if payload.len() >= MH_LEN {
        payload[4..6].fill(0);
        let sum = checksum(NODE, AGENT, NEXT_HEADER_MOBILITY, &payload);
        payload[4..6].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend_from_slice(&payload);
    packet
}

/// A Binding Update with these options, padded by Pad1.
fn update_with(options: &[u8]) -> Vec<u8> {
    let mut payload = vec![59, 0, 5, 0, 0, 0, 0, 1, 0xc0, 0, 0, 9];
    payload.extend_from_slice(options);
    payload.resize(payload.len().next_multiple_of(8), 0);
    payload[1] = u8::try_from(payload.len() / 8 - 1).unwrap();
    packet(payload)
}

#[test]
fn a_binding_update_has_the_published_layout() {
    let mut update = BindingUpdate::new(0x1234, Lifetime::from_secs(1800));
    update.flags.mobile_router = true;
    update.prefixes.push("2002:c633:6401:100::/64".parse().unwrap()).unwrap();
    update.prefixes.push("2002:c633:6401:200::a/128".parse().unwrap()).unwrap();
    update.care_of = Some(Ipv4Addr::new(192, 168, 1, 20));
    // Made by scapy, and dissected field by field by tshark.
    let expected =
        hex("60000000 0040 87 40 2002c633640101000000000000000001 2002c633640100000000000000000001
         3b 07 05 00 b9a8 1234 d500 01c2
         06 12 00 40 2002c633640101000000000000000000 01 02 0000
         06 12 00 80 2002c63364010200000000000000000a
         20 06 0000 c0a80114");
    let message = Message::Update(update);
    assert_eq!(build(NODE, AGENT, &message), expected);
    assert_eq!(parse(&expected), Ok(Inner { source: NODE, destination: AGENT, message }));
}

#[test]
fn a_binding_acknowledgement_has_the_published_layout() {
    let mut acknowledgement =
        BindingAcknowledgement::new(Status::ACCEPTED, 0x1234, Lifetime::from_secs(1800));
    acknowledgement.mobile_router = true;
    acknowledgement.nat = Some(NatDetection { force_udp: true, refresh: 20 });
    acknowledgement.observed = Some("203.0.113.9:4500".parse().unwrap());
    acknowledgement.challenge = Some([1, 2, 3, 4, 5, 6, 7, 8]);
    // As above.
    let expected =
        hex("60000000 0030 87 40 2002c633640100000000000000000001 2002c633640101000000000000000001
         3b 05 06 00 4db6 00 c0 1234 01c2
         1f 06 8000 00000014
         12 0a d0c1 01 00 cb007109 1194
         12 0c d0c1 02 00 0102030405060708 01 00");
    let message = Message::Acknowledgement(acknowledgement);
    assert_eq!(build(AGENT, NODE, &message), expected);
    assert_eq!(parse(&expected), Ok(Inner { source: AGENT, destination: NODE, message }));
}

#[test]
fn the_experimental_messages_have_the_documented_layout() {
    let cookie = [1, 2, 3, 4, 5, 6, 7, 8];
    let body = |message| {
        let built = build(NODE, AGENT, &message);
        assert_eq!(parse(&built).map(|inner| inner.message), Ok(message));
        assert_eq!(checksum(NODE, AGENT, NEXT_HEADER_MOBILITY, &built[HEADER_LEN..]), 0);
        [&built[HEADER_LEN..HEADER_LEN + 4], &built[HEADER_LEN + 6..]].concat()
    };
    let challenge = body(Message::Challenge(cookie));
    assert_eq!(challenge, hex("3b 02 0b 00 d0c1 02 00 0102030405060708 01 04 00000000"));
    let observed = Some("203.0.113.9:4500".parse().unwrap());
    let response = body(Message::Response { cookie, observed });
    let expected = hex("3b 03 0b 00 d0c1 03 00 0102030405060708 12 0a d0c1 01 00 cb007109 1194 01 00");
    assert_eq!(response, expected);
}

#[test]
fn ipv4_home_addresses_are_read_and_written() {
    let address = Ipv4Addr::new(10, 1, 2, 3);
    let mut update = BindingUpdate::new(1, Lifetime(1));
    update.ipv4_home = Some(Ipv4Home { address, prefix_len: 24, prefix_requested: true });
    let built = build(NODE, AGENT, &Message::Update(update));
    assert_eq!(built[HEADER_LEN + 12..HEADER_LEN + 20], hex("1d 06 6200 0a010203"));
    assert_eq!(parse(&built).unwrap().message, Message::Update(update));
    let mut acknowledgement = BindingAcknowledgement::new(Status::ACCEPTED, 1, Lifetime(1));
    acknowledgement.ipv4_home = Some(Ipv4HomeAck { status: 129, address, prefix_len: 24 });
    let built = build(AGENT, NODE, &Message::Acknowledgement(acknowledgement));
    assert_eq!(built[HEADER_LEN + 12..HEADER_LEN + 20], hex("1e 06 81 60 0a010203"));
    assert_eq!(parse(&built).unwrap().message, Message::Acknowledgement(acknowledgement));
}

#[test]
fn padding_and_unknown_options_are_skipped() {
    let options = hex("00 01 00 01 03 090909 7f 02 0101 12 04 beef 01 00 20 06 0000 01020304");
    let Message::Update(update) = parse(&update_with(&options)).unwrap().message else { panic!() };
    assert_eq!((update.sequence, update.lifetime), (1, Lifetime(9)));
    assert_eq!(update.care_of, Some(Ipv4Addr::new(1, 2, 3, 4)));
    // An acknowledgement with another experiment's option, and with a kind of ours that comes later.
    let payload = hex("3b 03 06 00 0000 80 00 0007 0000 12 08 beef 0100 01020304 12 04 d0c1 6300 0000 0000");
    let Message::Acknowledgement(acknowledgement) = parse(&packet(payload)).unwrap().message else {
        panic!()
    };
    assert_eq!((acknowledgement.sequence, acknowledgement.observed), (7, None));
}

#[test]
fn whatever_is_wrong_is_named() {
    let refused = |packet: &[u8]| parse(packet).unwrap_err();
    let good = update_with(&[]);
    assert!(parse(&good).is_ok() && is_mobility(&good));
    let spoiled = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    assert_eq!(refused(&spoiled(6, 58)), ParseError::NotMobility);
    assert_eq!(refused(&spoiled(HEADER_LEN, 6)), ParseError::PayloadProtocol(6));
    assert_eq!(refused(&spoiled(HEADER_LEN + 1, 2)), ParseError::Length);
    assert_eq!(refused(&spoiled(HEADER_LEN + 6, 9)), ParseError::Checksum);
    assert_eq!(refused(&good[..50]), ParseError::Ip(crate::wire::ip::Ipv6Error::Length));
    let message = |text: &str| refused(&packet(hex(text)));
    assert_eq!(message("3b000100 00000000"), ParseError::UnknownType(1));
    for short in ["3b000500 00000000", "3b000600 00000000", "3b000b00 0000d0c1"] {
        assert_eq!(message(short), ParseError::Length);
    }
    for stranger in ["beef 0200", "d0c1 0900"] {
        let text = format!("3b02 0b00 0000 {stranger} 0102030405060708 000000000000");
        assert_eq!(message(&text), ParseError::UnknownExperiment);
    }
    let with = |options: &str| refused(&update_with(&hex(options)));
    assert_eq!(with("20 05 0000 010203"), ParseError::Option(32));
    assert_eq!(with("20 06 0000 01020304 20 06 0000 01020304"), ParseError::Duplicate(32));
    assert_eq!(with("1d 06 8400 01020304"), ParseError::Option(29));
    assert_eq!(with("06 12 00 81 00000000000000000000000000000000"), ParseError::Option(6));
    assert_eq!(with("06 11 00 40 000000000000000000000000000000"), ParseError::Option(6));
    assert_eq!(with("01 ff"), ParseError::Option(1));
    let prefixes = [&[6, 18, 0, 64][..], &[0x20; 16]].concat().repeat(MAX_PREFIXES + 1);
    assert_eq!(refused(&update_with(&prefixes)), ParseError::TooManyPrefixes);
    assert!(parse(&update_with(&prefixes[20..])).is_ok());
}

fn prefixes() -> impl Strategy<Value = Prefixes> {
    proptest::collection::vec((any::<u128>(), 0..=128u8), 0..=MAX_PREFIXES).prop_map(|list| {
        let mut prefixes = Prefixes::default();
        for (address, len) in list {
            prefixes.push(Ipv6Net::new(address.into(), len).unwrap()).unwrap();
        }
        prefixes
    })
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn endpoint() -> impl Strategy<Value = SocketAddrV4> {
    (v4(), any::<u16>()).prop_map(|(address, port)| SocketAddrV4::new(address, port))
}

prop_compose! {
    fn updates()(sequence: u16, lifetime: u16, bits: [bool; 6], care_of in proptest::option::of(v4()),
                 home in proptest::option::of((v4(), 0..=32u8, any::<bool>())), prefixes in prefixes()) -> BindingUpdate {
        let [acknowledge, home_registration, link_local, key_management, mobile_router, force_udp] = bits;
        let flags = UpdateFlags {
            acknowledge, home_registration, link_local, key_management, mobile_router, force_udp,
        };
        let ipv4_home = home.map(|(address, prefix_len, prefix_requested)| Ipv4Home {
            address, prefix_len, prefix_requested,
        });
        BindingUpdate { sequence, lifetime: Lifetime(lifetime), flags, care_of, ipv4_home, prefixes }
    }
}

prop_compose! {
    fn acknowledgements()(status: u8, key_management: bool, mobile_router: bool, sequence: u16, lifetime: u16,
                          home in proptest::option::of((any::<u8>(), v4(), 0..=32u8)),
                          nat in proptest::option::of((any::<bool>(), any::<u32>())),
                          observed in proptest::option::of(endpoint()),
                          challenge: Option<Cookie>) -> BindingAcknowledgement {
        BindingAcknowledgement {
            status: Status(status), key_management, mobile_router, sequence, lifetime: Lifetime(lifetime),
            ipv4_home: home.map(|(status, address, prefix_len)| Ipv4HomeAck { status, address, prefix_len }),
            nat: nat.map(|(force_udp, refresh)| NatDetection { force_udp, refresh }),
            observed, challenge,
        }
    }
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        updates().prop_map(Message::Update),
        acknowledgements().prop_map(Message::Acknowledgement),
        any::<Cookie>().prop_map(Message::Challenge),
        (any::<Cookie>(), proptest::option::of(endpoint()))
            .prop_map(|(cookie, observed)| Message::Response { cookie, observed }),
    ]
}

/// Type and content of an option that may or may not make sense.
fn option() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let kinds = prop_oneof![Just(0u8), Just(1), Just(6), Just(18), 29..33u8, any::<u8>()];
    let lens = prop_oneof![Just(6usize), Just(18), 0..20usize];
    (kinds, lens.prop_flat_map(|len| proptest::collection::vec(any::<u8>(), len)))
}

proptest! {
    #[test]
    fn every_message_survives_the_wire(source: u128, destination: u128, message in messages()) {
        let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
        let built = build(source, destination, &message);
        prop_assert!(built.len().is_multiple_of(8) && built.len() <= 900);
        prop_assert_eq!(parse(&built), Ok(Inner { source, destination, message }));
    }

    #[test]
    fn any_bytes_are_refused_or_understood_the_same_way_again(
        mh_type in prop_oneof![Just(5u8), Just(6), Just(11), any::<u8>()], start: [u8; 6],
        experiment: bool, kind in 0..5u8, options in proptest::collection::vec(option(), 0..8), cut in 0..80usize,
    ) {
        let mut payload = vec![59, 0, mh_type, 0, 0, 0];
        payload.extend_from_slice(&start);
        if experiment {
            payload[6..10].copy_from_slice(&[0xd0, 0xc1, kind, 0]);
        }
        for (kind, data) in options {
            payload.extend_from_slice(&[kind, u8::try_from(data.len())?]);
            payload.extend_from_slice(&data);
        }
        payload.resize((payload.len() - cut.min(payload.len() - 12)).next_multiple_of(8), 0);
        payload[1] = u8::try_from(payload.len() / 8 - 1)?;
        if let Ok(inner) = parse(&packet(payload)) {
            prop_assert_eq!(parse(&build(inner.source, inner.destination, &inner.message)), Ok(inner));
        }
    }

    #[test]
    fn no_cut_or_flip_of_a_message_is_taken(
        message in messages(), at: proptest::sample::Index, bit in 0..8u32, cut: bool,
    ) {
        let mut built = build(NODE, AGENT, &message);
        let at = at.index(built.len());
        if cut {
            built.truncate(at);
        } else {
            built[at] ^= 1 << bit;
        }
        // The checksum leaves out traffic class, flow label and hop limit.
        let unprotected = !cut && (at < 4 || at == 7);
        prop_assert!(parse(&built).is_err() || unprotected);
    }
}

#[test]
fn lifetimes_count_in_units_of_four_seconds() {
    let cases = [(0, 0), (1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (262_140, 65_535), (u32::MAX, 65_535)];
    for (seconds, units) in cases {
        assert_eq!(Lifetime::from_secs(seconds), Lifetime(units), "{seconds}");
    }
    assert_eq!(Lifetime(450).duration(), Duration::from_secs(1800));
}
