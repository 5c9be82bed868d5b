//! Whatever goes in comes out: packet by packet, octet by octet, in order, once a naive splitter has cut it again.
#![expect(clippy::wildcard_enum_match_arm, reason = "an oddity matters in one place each")]

use proptest::prelude::*;

use super::*;
use crate::dataplane::batch::MAX_PACKET;
use crate::dataplane::ecn;
use crate::wire::ip::{self, NEXT_HEADER_ICMPV6};

const ALL: Accepts = Accepts { tcp: true, udp: true };
const FIN: u8 = 0x01;

/// What was written to the TUN.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    packet: Vec<u8>,
    offload: Offload,
    joined: Joined,
}

/// A coalescer, and what it delivered.
struct Rig {
    coalescer: Coalescer,
    written: Vec<Written>,
}

impl Rig {
    fn new(accepts: Accepts) -> Self {
        Self { coalescer: Coalescer::new(accepts), written: Vec::new() }
    }

    fn sink(written: &mut Vec<Written>) -> impl FnMut(&mut PacketBuffer, Joined) {
        |buffer, joined| {
            written.push(Written { packet: buffer.packet().to_vec(), offload: buffer.offload(), joined });
        }
    }

    /// As if `packet` had been decrypted, padding and trailer behind it.
    fn open(&mut self, packet: &[u8], trailer: usize) {
        let room = self.coalescer.room(packet.len() + trailer, &mut Self::sink(&mut self.written));
        room[..packet.len()].copy_from_slice(packet);
        room[packet.len()..packet.len() + trailer].fill(0xee);
        assert_eq!(self.coalescer.opened(packet.len()), packet);
    }

    fn keep(&mut self, packet: &[u8]) {
        self.open(packet, 19);
        self.coalescer.keep(packet.len(), &mut Self::sink(&mut self.written));
    }

    fn flush(&mut self) {
        self.coalescer.flush(&mut Self::sink(&mut self.written));
    }

    /// All packets at once; what came out.
    fn run(accepts: Accepts, packets: &[Vec<u8>]) -> Vec<Written> {
        let mut rig = Self::new(accepts);
        packets.iter().for_each(|packet| rig.keep(packet));
        rig.flush();
        rig.written
    }
}

/// An IPv6 packet with the right checksum, as the octets say: of TCP, of UDP.
fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let field = HEADER_LEN + if packet[6] == NEXT_HEADER_TCP { 16 } else { 6 };
    packet[field..field + 2].fill(0);
    let view = Ipv6View::new(&packet).unwrap();
    let sum = ip::checksum(view.source(), view.destination(), view.next_header(), view.payload());
    let sum = if sum == 0 && packet[6] == NEXT_HEADER_UDP { 0xffff } else { sum };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn ipv6(next_header: u8, upper: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER_LEN];
    let (from, to) = ("2002:c633:6401:1::a".parse().unwrap(), "2002:c633:6402:1::b".parse().unwrap());
    let len = u16::try_from(upper.len()).unwrap();
    ip::write_header(packet.first_chunk_mut().unwrap(), from, to, next_header, 64, len);
    packet.extend_from_slice(upper);
    packet
}

/// Payload that tells where it is from.
fn payload(from: u32, len: usize) -> impl Iterator<Item = u8> {
    (0..len).map(move |at| {
        let at = from.wrapping_add(at as u32);
        (at ^ at >> 8) as u8
    })
}

/// A segment with a time stamp option, from port `port`.
fn tcp(port: u16, sequence: u32, len: usize) -> Vec<u8> {
    let mut upper = port.to_be_bytes().to_vec();
    upper.extend_from_slice(&443_u16.to_be_bytes());
    upper.extend_from_slice(&sequence.to_be_bytes());
    upper.extend_from_slice(&[0, 0, 0, 9, 0x80, ACK, 1, 0, 0, 0, 0, 0]);
    upper.extend_from_slice(&[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 8]);
    upper.extend(payload(sequence, len));
    with_checksum(ipv6(NEXT_HEADER_TCP, &upper))
}

fn udp(port: u16, number: u32, len: usize) -> Vec<u8> {
    let mut upper = port.to_be_bytes().to_vec();
    upper.extend_from_slice(&53_u16.to_be_bytes());
    upper.extend_from_slice(&u16::try_from(UDP_HEADER + len).unwrap().to_be_bytes());
    upper.extend_from_slice(&[0, 0]);
    upper.extend(payload(number, len));
    with_checksum(ipv6(NEXT_HEADER_UDP, &upper))
}

/// `count` segments in a row of `size` octets each.
fn stream(count: u32, size: u32) -> Vec<Vec<u8>> {
    (0..count).map(|at| tcp(1, at * size, size as usize)).collect()
}

fn flagged(mut packet: Vec<u8>, flags: u8) -> Vec<u8> {
    packet[FLAGS] |= flags;
    with_checksum(packet)
}

/// What the kernel makes of it: cut as the header says, every checksum computed in full.
fn split(written: &Written) -> Vec<Vec<u8>> {
    let (packet, offload) = (&written.packet, written.offload);
    let view = Ipv6View::new(packet).unwrap();
    let Some(Segments { protocol, size }) = offload.segments else {
        assert_eq!(offload, Offload::default());
        return vec![packet.clone()];
    };
    // What tun_get_user and virtio_net_hdr_to_skb ask for.
    let (next_header, field, headers) = match protocol {
        Protocol::Tcp => (NEXT_HEADER_TCP, 16, HEADER_LEN + usize::from(packet[HEADER_LEN + 12] >> 4) * 4),
        Protocol::Udp => (NEXT_HEADER_UDP, 6, HEADER_LEN + UDP_HEADER),
    };
    let partial = offload.checksum.unwrap();
    assert_eq!((usize::from(partial.start), usize::from(partial.offset)), (HEADER_LEN, field));
    assert_eq!(view.next_header(), next_header);
    assert!(
        size > 0 && size < 0xffff && packet.len() <= MAX_SUPER && packet.len() > headers + usize::from(size)
    );
    let begun = !ip::checksum(view.source(), view.destination(), next_header, &[]);
    let begun = checksum::add(begun, u16::try_from(view.payload().len()).unwrap());
    let at = HEADER_LEN + field;
    assert_eq!(packet[at..at + 2], begun.to_be_bytes(), "the sum of the pseudo-header");
    if protocol == Protocol::Udp {
        assert_eq!(packet[44..46], packet[4..6]);
        assert!(packet[headers..].len().div_ceil(usize::from(size)) <= 64);
    }

    let parts = packet[headers..].chunks(usize::from(size));
    let last = parts.len() - 1;
    let cut = parts.enumerate().map(|(index, part)| {
        let mut single = [&packet[..headers], part].concat();
        let len = u16::try_from(single.len() - HEADER_LEN).unwrap().to_be_bytes();
        single[4..6].copy_from_slice(&len);
        if protocol == Protocol::Udp {
            single[44..46].copy_from_slice(&len);
        } else {
            let first = u32::from_be_bytes(single[44..48].try_into().unwrap());
            let sequence = first.wrapping_add(index as u32 * u32::from(size));
            single[44..48].copy_from_slice(&sequence.to_be_bytes());
            if index != last {
                single[FLAGS] &= !(PSH | FIN);
            }
        }
        with_checksum(single)
    });
    cut.collect()
}

fn all_split(written: &[Written]) -> Vec<Vec<u8>> {
    for write in written {
        let parts = split(write);
        let octets = parts.iter().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(write.joined, Joined { packets: parts.len() as u64, octets });
    }
    written.iter().flat_map(split).collect()
}

/// How many packets each write stands for.
fn sizes(written: &[Written]) -> Vec<u64> {
    written.iter().map(|write| write.joined.packets).collect()
}

#[test]
fn what_a_sender_segmented_becomes_one_write_again() {
    let mut packets = stream(45, 1308);
    packets.push(flagged(tcp(1, 45 * 1308, 700), PSH));
    let written = Rig::run(ALL, &packets);
    assert_eq!(sizes(&written), [46]);
    assert_eq!(written[0].packet[FLAGS], ACK | PSH);
    assert_eq!(written[0].offload.segments, Some(Segments { protocol: Protocol::Tcp, size: 1308 }));
    assert_eq!(all_split(&written), packets);
}

#[test]
fn nothing_is_joined_that_the_device_does_not_take() {
    let packets = [stream(5, 100), (0..5).map(|at| udp(7, at, 100)).collect()].concat();
    for (accepts, expected) in [
        (Accepts::default(), vec![1; 10]),
        (Accepts { tcp: true, udp: false }, vec![5, 1, 1, 1, 1, 1]),
        (Accepts { tcp: false, udp: true }, vec![1, 1, 1, 1, 1, 5]),
        (ALL, vec![5, 5]),
    ] {
        let written = Rig::run(accepts, &packets);
        assert_eq!(sizes(&written), expected);
        assert_eq!(all_split(&written), packets);
    }
}

#[test]
fn a_super_packet_ends_at_64_kib_and_a_udp_one_at_64_datagrams() {
    let packets = stream(100, 1320);
    let written = Rig::run(ALL, &packets);
    assert_eq!(sizes(&written), [49, 49, 2]);
    assert_eq!(all_split(&written), packets);
    let packets: Vec<_> = (0..150).map(|at| udp(7, at, 64)).collect();
    assert_eq!(sizes(&Rig::run(ALL, &packets)), [64, 64, 22]);
    // Two that just fit, two that just do not.
    for (size, expected) in [(32_731, vec![2]), (32_732, vec![1, 1])] {
        let packets = stream(2, size);
        let written = Rig::run(ALL, &packets);
        assert_eq!(sizes(&written), expected, "{size}");
        assert_eq!(all_split(&written), packets);
    }
}

/// One segment among three that differs: [joined before it or with it, after it].
#[test]
fn each_difference_ends_a_super_packet() {
    let set = |at: usize, value: u8| {
        move |mut packet: Vec<u8>| {
            packet[at] = value;
            with_checksum(packet)
        }
    };
    let damaged = |at: usize| {
        move |mut packet: Vec<u8>| {
            packet[at] ^= 1;
            packet
        }
    };
    type Change = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;
    let changes: Vec<(&str, Change, [u64; 3])> = vec![
        ("nothing", Box::new(|packet| packet), [4, 0, 0]),
        ("traffic class", Box::new(set(0, 0x61)), [2, 1, 1]),
        ("ECN", Box::new(set(1, 0x30)), [2, 1, 1]),
        ("flow label", Box::new(set(3, 5)), [2, 1, 1]),
        ("hop limit", Box::new(set(7, 63)), [2, 1, 1]),
        ("source", Box::new(set(23, 0xb)), [2, 1, 1]),
        ("destination", Box::new(set(39, 0xc)), [2, 1, 1]),
        ("port", Box::new(set(43, 2)), [2, 1, 1]),
        ("sequence", Box::new(set(44, 2)), [2, 1, 1]),
        ("acknowledgement", Box::new(set(51, 8)), [2, 1, 1]),
        ("reserved bits", Box::new(set(52, 0x81)), [2, 1, 1]),
        ("shorter options", Box::new(set(52, 0x70)), [2, 1, 1]),
        ("window", Box::new(set(54, 2)), [2, 1, 1]),
        ("urgent pointer", Box::new(set(59, 2)), [2, 1, 1]),
        ("time stamp", Box::new(set(67, 2)), [2, 1, 1]),
        ("PSH", Box::new(set(FLAGS, ACK | PSH)), [3, 1, 0]),
        ("payload damaged", Box::new(damaged(80)), [2, 1, 1]),
        ("checksum damaged", Box::new(damaged(56)), [2, 1, 1]),
    ];
    for (what, change, expected) in changes {
        let mut packets = stream(4, 200);
        packets[2] = change(packets[2].clone());
        let written = Rig::run(ALL, &packets);
        let expected: Vec<_> = expected.into_iter().filter(|packets| *packets != 0).collect();
        assert_eq!(sizes(&written), expected, "{what}");
        assert_eq!(all_split(&written), packets, "{what}");
    }
    for flag in [0x01, 0x02, 0x04, 0x20, 0x40, 0x80] {
        let mut packets = stream(4, 200);
        packets[2] = flagged(packets[2].clone(), flag);
        assert_eq!(sizes(&Rig::run(ALL, &packets)), [2, 1, 1], "flag {flag:#x}");
    }
    let mut no_ack = stream(4, 200);
    no_ack[2][FLAGS] = 0;
    no_ack[2] = with_checksum(no_ack[2].clone());
    assert_eq!(sizes(&Rig::run(ALL, &no_ack)), [2, 1, 1]);
}

#[test]
fn a_packet_with_a_wrong_checksum_is_left_to_the_kernel() {
    for make in [tcp, udp] {
        for at in 0..4_usize {
            let mut packets: Vec<_> = (0..4).map(|index| make(1, index * 200, 200)).collect();
            packets[at][150] ^= 0x80;
            let written = Rig::run(ALL, &packets);
            assert!(written.iter().any(|write| write.packet == packets[at] && write.joined.packets == 1));
            assert_eq!(all_split(&written), packets);
        }
    }
}

#[test]
fn what_cannot_be_joined_is_delivered_at_once_and_in_order() {
    let hop_by_hop = |inner: &[u8]| {
        let next = inner[6];
        ipv6(0, &[&[next, 0, 1, 4, 0, 0, 0, 0][..], &inner[HEADER_LEN..]].concat())
    };
    let fragment = |inner: &[u8]| {
        let next = inner[6];
        ipv6(44, &[&[next, 0, 0, 1, 0, 0, 0, 9][..], &inner[HEADER_LEN..]].concat())
    };
    let mut no_checksum = udp(7, 0, 50);
    no_checksum[46..48].fill(0);
    let mut wrong_length = udp(7, 0, 50);
    wrong_length[45] -= 1;
    let mut short_header = tcp(1, 0, 50);
    short_header[52] = 0x40;
    let mut long_header = tcp(1, 0, 4);
    long_header[52] = 0xf0;
    for packet in [
        tcp(1, 0, 0),
        udp(7, 0, 0),
        hop_by_hop(&tcp(1, 0, 50)),
        fragment(&tcp(1, 0, 50)),
        fragment(&udp(7, 0, 50)),
        no_checksum,
        with_checksum(wrong_length),
        with_checksum(short_header),
        with_checksum(long_header),
        ipv6(NEXT_HEADER_ICMPV6, &[128, 0, 0, 0, 0, 1, 0, 1]),
        ipv6(NEXT_HEADER_TCP, &[0; 19]),
        ipv6(NEXT_HEADER_UDP, &[0; 7]),
        ipv6(NEXT_HEADER_TCP, &[]),
        flagged(tcp(1, 0, 50), PSH),
    ] {
        let mut rig = Rig::new(ALL);
        rig.keep(&packet);
        assert_eq!(sizes(&rig.written), [1], "{packet:?}");
        rig.keep(&packet);
        assert_eq!(all_split(&rig.written), [packet.clone(), packet.clone()]);
        rig.keep(&stream(2, 90)[0]);
        rig.keep(&packet);
        assert_eq!(rig.written.len(), 4);
        rig.keep(&stream(2, 90)[1]);
        rig.flush();
        let expected = [packet.clone(), packet.clone(), tcp(1, 0, 90), packet, tcp(1, 90, 90)];
        assert_eq!(all_split(&rig.written), expected);
    }
}

#[test]
fn what_was_opened_and_not_kept_leaves_no_trace() {
    let packets = stream(6, 50);
    let mut rig = Rig::new(ALL);
    for packet in &packets {
        rig.open(&[0xaa; 500], 7);
        rig.open(&[0xbb; 3], 0);
        rig.keep(packet);
        rig.open(&[0xcc; 60_000], 7);
    }
    rig.flush();
    assert_eq!(sizes(&rig.written), [6]);
    assert_eq!(all_split(&rig.written), packets);
}

#[test]
fn there_is_always_room_for_the_largest_packet() {
    let mut rig = Rig::new(ALL);
    let largest = ipv6(NEXT_HEADER_ICMPV6, &[7; 65_535]);
    assert_eq!(largest.len(), MAX_PACKET);
    rig.keep(&tcp(1, 0, 1000));
    let room = rig.coalescer.room(MAX_PACKET, &mut Rig::sink(&mut rig.written));
    room[..MAX_PACKET].copy_from_slice(&largest);
    assert_eq!(sizes(&rig.written), [1]);
    rig.coalescer.keep(MAX_PACKET, &mut Rig::sink(&mut rig.written));
    assert_eq!(rig.written[1].packet, largest);
}

/// What arrives next.
#[derive(Clone, Debug)]
enum Step {
    /// The next packet of a flow; a share of the flow's size.
    Next { flow: usize, share: usize, oddity: Oddity },
    /// Something that does not authenticate.
    Noise(usize),
    /// A packet that is for the control plane.
    Dummy(usize),
    /// The batch is worked off.
    Flush,
}

#[derive(Clone, Copy, Debug)]
enum Oddity {
    None,
    Push,
    Flags(u8),
    Lost,
    Again,
    Damaged(usize),
    Ecn(u8),
    Octet(usize, u8),
    Extension,
    Fragment,
    Jumbo,
    Empty,
}

fn step() -> impl Strategy<Value = Step> {
    let oddity = prop_oneof![
        30 => Just(Oddity::None),
        3 => Just(Oddity::Push),
        1 => any::<u8>().prop_map(Oddity::Flags),
        1 => Just(Oddity::Lost),
        1 => Just(Oddity::Again),
        1 => (0..2000_usize).prop_map(Oddity::Damaged),
        1 => (0..4_u8).prop_map(Oddity::Ecn),
        2 => (0..72_usize, any::<u8>()).prop_map(|(at, value)| Oddity::Octet(at, value)),
        1 => Just(Oddity::Extension),
        1 => Just(Oddity::Fragment),
        1 => Just(Oddity::Jumbo),
        1 => Just(Oddity::Empty),
    ];
    let flow = prop_oneof![6 => Just(0_usize), 2 => Just(1), 3 => Just(2), 1 => Just(3)];
    let share = prop_oneof![8 => Just(100_usize), 1 => 1..130_usize];
    prop_oneof![
        40 => (flow, share, oddity).prop_map(|(flow, share, oddity)| Step::Next { flow, share, oddity }),
        2 => (0..3000_usize).prop_map(Step::Noise),
        1 => (0..100_usize).prop_map(Step::Dummy),
        2 => Just(Step::Flush),
    ]
}

/// The next packet of a flow: two of TCP, two of UDP.
fn next_packet(flow: usize, size: usize, share: usize, oddity: Oddity, state: &mut [u32; 4]) -> Vec<u8> {
    let len = match oddity {
        Oddity::Jumbo => size * 40,
        Oddity::Empty => 0,
        _ => size * share / 100,
    };
    let len = len.min(60_000);
    let number = &mut state[flow];
    match oddity {
        Oddity::Lost => *number = number.wrapping_add(1000),
        Oddity::Again => *number = number.wrapping_sub(len as u32),
        _ => {}
    }
    let mut packet = if flow < 2 { tcp(flow as u16, *number, len) } else { udp(flow as u16, *number, len) };
    *number = number.wrapping_add(len as u32);
    match oddity {
        Oddity::Push if flow < 2 => packet = flagged(packet, PSH),
        Oddity::Flags(flags) if flow < 2 => packet = flagged(packet, flags),
        Oddity::Damaged(at) => {
            let at = HEADER_LEN + at % (packet.len() - HEADER_LEN);
            packet[at] ^= 0x40;
        }
        Oddity::Ecn(mark) => ecn::set(&mut packet, mark),
        Oddity::Octet(at, value) if (6..packet.len()).contains(&at) && at != 6 => packet[at] = value,
        Oddity::Extension => {
            let upper = [&[packet[6], 0, 1, 4, 0, 0, 0, 0][..], &packet[HEADER_LEN..]].concat();
            packet = ipv6(60, &upper);
        }
        Oddity::Fragment => {
            let upper = [&[packet[6], 0, 0, 1, 0, 0, 0, 9][..], &packet[HEADER_LEN..]].concat();
            packet = ipv6(44, &upper);
        }
        _ => {}
    }
    packet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_is_joined_is_what_went_in(
        steps in proptest::collection::vec(step(), 1..120), start: u32, size in prop_oneof![Just(1308_usize), 1..1400_usize],
        tcp: bool, udp: bool,
    ) {
        let mut rig = Rig::new(Accepts { tcp, udp });
        let mut state = [start, 5, 6, 7];
        let mut sent = Vec::new();
        for step in steps {
            match step {
                Step::Next { flow, share, oddity } => {
                    let packet = next_packet(flow, size, share, oddity, &mut state);
                    rig.keep(&packet);
                    sent.push(packet);
                }
                Step::Noise(len) => rig.open(&vec![0xd5; len], 16),
                Step::Dummy(len) => rig.open(&vec![0; len], 2),
                Step::Flush => {
                    rig.flush();
                    prop_assert_eq!(rig.written.iter().map(|write| write.joined.packets).sum::<u64>(), sent.len() as u64);
                }
            }
        }
        rig.flush();
        prop_assert_eq!(all_split(&rig.written), sent);
        for write in &rig.written {
            if let Some(Segments { protocol, .. }) = write.offload.segments {
                let taken = if protocol == Protocol::Tcp { tcp } else { udp };
                prop_assert!(taken);
            }
        }
    }
}
