//! Held against a splitter that builds every packet anew with etherparse.

use std::net::Ipv6Addr;

use etherparse::{IpNumber, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader};
use proptest::prelude::*;

use super::*;

/// A super-packet in parts, as an application might cause it.
#[derive(Clone, Debug)]
struct Super {
    ip: Ipv6Header,
    /// Extension headers: type, and its octets from the second one on.
    extensions: Vec<(u8, Vec<u8>)>,
    transport: Transport,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Transport {
    Tcp(Box<TcpHeader>),
    Udp(UdpHeader),
}

impl Super {
    fn start(&self) -> usize {
        HEADER_LEN + self.extensions.iter().map(|(_, octets)| 2 + octets.len()).sum::<usize>()
    }

    fn protocol(&self) -> Protocol {
        match self.transport {
            Transport::Tcp(_) => Protocol::Tcp,
            Transport::Udp(_) => Protocol::Udp,
        }
    }

    fn offset(&self) -> u16 {
        match self.transport {
            Transport::Tcp(_) => 16,
            Transport::Udp(_) => 6,
        }
    }

    fn partial(&self) -> PartialChecksum {
        PartialChecksum { start: self.start() as u16, offset: self.offset() }
    }

    /// Octets of a whole packet with this transport header, which has its checksum already.
    fn packet(&self, transport: &[u8], payload: &[u8]) -> Vec<u8> {
        let protocol = match self.transport {
            Transport::Tcp(_) => IpNumber::TCP,
            Transport::Udp(_) => IpNumber::UDP,
        };
        let mut kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
        kinds.push(protocol.0);
        let mut ip = self.ip.clone();
        ip.next_header = IpNumber(kinds[0]);
        ip.payload_length = (self.start() - HEADER_LEN + transport.len() + payload.len()) as u16;
        let mut packet = ip.to_bytes().to_vec();
        for ((_, octets), next) in self.extensions.iter().zip(&kinds[1..]) {
            packet.extend([*next, (octets.len() / 8) as u8]);
            packet.extend(octets);
        }
        packet.extend(transport);
        packet.extend(payload);
        packet
    }

    /// As the kernel hands it over: the checksum field holds the sum of the pseudo-header.
    fn begun(&self) -> Vec<u8> {
        let (mut transport, number) = match &self.transport {
            Transport::Tcp(tcp) => (tcp.to_bytes().to_vec(), 6),
            Transport::Udp(udp) => (udp.to_bytes().to_vec(), 17),
        };
        let len = transport.len() + self.payload.len();
        if matches!(self.transport, Transport::Udp(_)) {
            transport[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        }
        let pseudo =
            [&self.ip.source[..], &self.ip.destination, &(len as u32).to_be_bytes(), &[0, 0, 0, number]]
                .concat();
        let field = usize::from(self.offset());
        transport[field..field + 2].copy_from_slice(&checksum::sum(&pseudo).to_be_bytes());
        self.packet(&transport, &self.payload)
    }

    /// Every packet built from its parts.
    fn naively(&self, size: usize) -> Vec<Vec<u8>> {
        let mut chunks: Vec<&[u8]> = self.payload.chunks(size).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        let packet = |(index, chunk): (usize, &&[u8])| {
            let transport = match &self.transport {
                Transport::Tcp(tcp) => {
                    let mut tcp = tcp.clone();
                    tcp.sequence_number = tcp.sequence_number.wrapping_add((index * size) as u32);
                    tcp.fin &= index == last;
                    tcp.psh &= index == last;
                    tcp.cwr &= index == 0;
                    tcp.checksum = tcp.calc_checksum_ipv6(&self.ip, chunk).unwrap();
                    tcp.to_bytes().to_vec()
                }
                Transport::Udp(udp) => {
                    let (from, to) = (udp.source_port, udp.destination_port);
                    UdpHeader::with_ipv6_checksum(from, to, &self.ip, chunk).unwrap().to_bytes().to_vec()
                }
            };
            self.packet(&transport, chunk)
        };
        chunks.iter().enumerate().map(packet).collect()
    }
}

fn split(
    packet: &mut [u8],
    segments: Segments,
    partial: PartialChecksum,
) -> Result<Vec<Vec<u8>>, SplitError> {
    let mut split = Split::new(packet, segments, Some(partial))?;
    let (count, largest, octets) = (split.count(), split.largest(), split.octets());
    let mut packets = Vec::new();
    while let Some(packet) = split.advance() {
        packets.push(packet.to_vec());
    }
    assert_eq!(packets.len(), count);
    assert_eq!(packets.iter().map(Vec::len).sum::<usize>(), octets);
    assert_eq!(packets.iter().map(Vec::len).max(), Some(largest));
    Ok(packets)
}

fn tcp_headers() -> impl Strategy<Value = Transport> {
    let options = proptest::collection::vec(any::<[u8; 4]>(), 0..=10);
    (any::<[u16; 4]>(), any::<[u32; 2]>(), any::<[bool; 9]>(), options).prop_map(
        |([from, to, window, urgent], [sequence, acknowledgement], flags, options)| {
            let mut tcp = TcpHeader::new(from, to, sequence, window);
            tcp.acknowledgment_number = acknowledgement;
            tcp.urgent_pointer = urgent;
            [tcp.ns, tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack, tcp.urg, tcp.ece, tcp.cwr] = flags;
            tcp.set_options_raw(&options.concat()).unwrap();
            Transport::Tcp(Box::new(tcp))
        },
    )
}

fn udp_headers() -> impl Strategy<Value = Transport> {
    any::<[u16; 2]>().prop_map(|[source_port, destination_port]| {
        Transport::Udp(UdpHeader { source_port, destination_port, length: 0, checksum: 0 })
    })
}

fn extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let one = (prop_oneof![Just(0u8), Just(43), Just(60)], 0usize..4, any::<u8>())
        .prop_map(|(kind, eights, filling)| (kind, vec![filling; 6 + 8 * eights]));
    prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(one, 1..4)]
}

fn supers(longest: usize) -> impl Strategy<Value = Super> {
    let ip = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u8>(), 1u8.., 0u32..1 << 20);
    let payload = proptest::collection::vec(any::<u8>(), 0..longest);
    (ip, extensions(), prop_oneof![tcp_headers(), udp_headers()], payload).prop_map(
        |((source, destination, traffic_class, hop_limit, label), extensions, transport, payload)| Super {
            ip: Ipv6Header {
                source,
                destination,
                traffic_class,
                hop_limit,
                flow_label: Ipv6FlowLabel::try_new(label).unwrap(),
                ..Ipv6Header::default()
            },
            extensions,
            transport,
            payload,
        },
    )
}

fn tcp_super(payload: usize) -> Super {
    let mut tcp = TcpHeader::new(1, 2, 0xffff_fff0, 9);
    (tcp.fin, tcp.psh, tcp.cwr, tcp.ack) = (true, true, true, true);
    Super {
        ip: Ipv6Header {
            source: Ipv6Addr::LOCALHOST.octets(),
            traffic_class: 0b10,
            hop_limit: 64,
            ..Ipv6Header::default()
        },
        extensions: Vec::new(),
        transport: Transport::Tcp(Box::new(tcp)),
        payload: (0..payload).map(|octet| octet as u8).collect(),
    }
}

proptest! {
    #[test]
    fn as_packet_by_packet(whole in supers(600), size in 1u16..700) {
        let segments = Segments { protocol: whole.protocol(), size };
        let packets = split(&mut whole.begun(), segments, whole.partial());
        prop_assert_eq!(packets, Ok(whole.naively(usize::from(size))));
    }

    #[test]
    fn as_packet_by_packet_at_full_length(whole in supers(1), len in 60_000usize..65_200, size in 400u16..) {
        let payload = (0..len).map(|at| (at * 7 % 251) as u8).collect();
        let mut whole = Super { payload, ..whole };
        // What the headers leave of 65,535 octets.
        whole.payload.truncate(65_535 + 40 - whole.start() - 60);
        let segments = Segments { protocol: whole.protocol(), size };
        let packets = split(&mut whole.begun(), segments, whole.partial());
        prop_assert_eq!(packets, Ok(whole.naively(usize::from(size))));
    }

    #[test]
    fn a_begun_checksum_is_completed(whole in supers(600)) {
        let mut packet = whole.begun();
        complete(&mut packet, whole.partial()).unwrap();
        let expected = whole.naively(usize::MAX).remove(0);
        prop_assert_eq!(packet, expected);
    }

    #[test]
    fn nonsense_in_front_of_a_packet_is_refused_and_changes_nothing(
        mut packet in proptest::collection::vec(any::<u8>(), 0..200),
        start in prop_oneof![0u16..200, any::<u16>()], offset in prop_oneof![0u16..30, any::<u16>()], size: u16, tcp: bool,
    ) {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let (before, partial) = (packet.clone(), PartialChecksum { start, offset });
        if split(&mut packet, Segments { protocol, size }, partial).is_err() {
            prop_assert_eq!(&packet, &before);
        }
        let before = packet.clone();
        if complete(&mut packet, partial).is_err() {
            prop_assert_eq!(packet, before);
        }
    }

    #[test]
    fn wrong_fields_on_a_right_packet_never_go_wrong(
        whole in supers(300), start: u16, offset: u16, size: u16, tcp: bool, cut in 0usize..400,
    ) {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let mut packet = whole.begun();
        packet.truncate(cut);
        let right = whole.partial();
        for partial in [right, PartialChecksum { start, ..right }, PartialChecksum { offset, ..right }] {
            let _ = split(&mut packet.clone(), Segments { protocol, size }, partial);
            let _ = complete(&mut packet.clone(), partial);
        }
    }
}

#[test]
fn flags_stay_where_they_belong_and_the_number_wraps() {
    let whole = tcp_super(40);
    let packets =
        split(&mut whole.begun(), Segments { protocol: Protocol::Tcp, size: 16 }, whole.partial()).unwrap();
    let headers: Vec<_> =
        packets.iter().map(|packet| TcpHeader::from_slice(&packet[40..]).unwrap().0).collect();
    let flags: Vec<_> = headers.iter().map(|tcp| (tcp.cwr, tcp.psh, tcp.fin, tcp.ack)).collect();
    assert_eq!(flags, [(true, false, false, true), (false, false, false, true), (false, true, true, true)]);
    let numbers: Vec<_> = headers.iter().map(|tcp| tcp.sequence_number).collect();
    assert_eq!(numbers, [0xffff_fff0, 0, 16]);
    // The congestion field is in every packet (RFC 3168 §5).
    assert!(packets.iter().all(|packet| packet[1] >> 4 & 3 == 0b10));
}

#[test]
fn what_cannot_be_cut_is_named() {
    let whole = tcp_super(100);
    let segments = Segments { protocol: Protocol::Tcp, size: 10 };
    let right = whole.partial();
    let refused = |change: &dyn Fn(&mut Vec<u8>), segments, partial| {
        let mut packet = whole.begun();
        change(&mut packet);
        Split::new(&mut packet, segments, partial).err()
    };
    let as_it_is: &dyn Fn(&mut Vec<u8>) = &|_| {};
    assert_eq!(refused(as_it_is, segments, Some(right)), None);
    assert_eq!(refused(as_it_is, segments, None), Some(SplitError::NoChecksum));
    assert_eq!(refused(as_it_is, Segments { size: 0, ..segments }, Some(right)), Some(SplitError::Size));
    assert_eq!(
        refused(&|packet| packet.resize(MAX_PACKET + 1, 0), segments, Some(right)),
        Some(SplitError::Size)
    );
    let wrong = Some(PartialChecksum { offset: 6, ..right });
    assert_eq!(refused(as_it_is, segments, wrong), Some(SplitError::Checksum));
    for start in [0, 32, 41, 60, u16::MAX] {
        let wrong = Some(PartialChecksum { start, ..right });
        assert_eq!(refused(as_it_is, segments, wrong), Some(SplitError::Headers), "{start}");
    }
    let udp = Segments { protocol: Protocol::Udp, ..segments };
    let place = Some(PartialChecksum { offset: 6, ..right });
    assert_eq!(refused(as_it_is, udp, place), Some(SplitError::Headers));
    // A data offset below the header itself, and one beyond the packet.
    assert_eq!(refused(&|packet| packet[52] = 0x40, segments, Some(right)), Some(SplitError::Headers));
    let short: &dyn Fn(&mut Vec<u8>) = &|packet| {
        packet[52] = 0xf0;
        packet.truncate(90);
    };
    assert_eq!(refused(short, segments, Some(right)), Some(SplitError::Headers));
}

#[test]
fn a_fragment_and_an_authenticated_packet_are_never_cut() {
    for kind in [44, 50, 51, 59, 135] {
        let whole = Super { extensions: vec![(kind, vec![0; 6])], ..tcp_super(100) };
        let segments = Segments { protocol: Protocol::Tcp, size: 10 };
        assert_eq!(
            Split::new(&mut whole.begun(), segments, Some(whole.partial())).err(),
            Some(SplitError::Headers)
        );
    }
}

#[test]
fn a_udp_checksum_is_never_zero() {
    let udp = UdpHeader { source_port: 1, destination_port: 2, length: 0, checksum: 0 };
    let mut whole = Super { transport: Transport::Udp(udp), ..tcp_super(0) };
    whole.payload = vec![0; 4];
    // The first two octets make up for everything else.
    let sum = {
        let packet = &whole.naively(4)[0];
        u16::from_be_bytes([packet[46], packet[47]])
    };
    whole.payload[..2].copy_from_slice(&sum.to_be_bytes());
    whole.payload.extend([0; 4]);
    let segments = Segments { protocol: Protocol::Udp, size: 4 };
    let packets = split(&mut whole.begun(), segments, whole.partial()).unwrap();
    assert_eq!(packets[0][46..48], [0xff, 0xff]);
    assert_eq!(packets, whole.naively(4));
    whole.payload.truncate(4);
    let mut packet = whole.begun();
    complete(&mut packet, whole.partial()).unwrap();
    assert_eq!(packet[46..48], [0xff, 0xff]);
}

#[test]
fn a_tcp_checksum_may_be_zero() {
    let mut whole = tcp_super(4);
    whole.payload = vec![0; 4];
    // The first two octets make up for everything else.
    let sum = {
        let packet = &whole.naively(4)[0];
        [packet[56], packet[57]]
    };
    whole.payload[..2].copy_from_slice(&sum);
    let mut packet = whole.begun();
    complete(&mut packet, whole.partial()).unwrap();
    assert_eq!(packet[56..58], [0, 0]);
    let segments = Segments { protocol: Protocol::Tcp, size: 4 };
    assert_eq!(split(&mut whole.begun(), segments, whole.partial()), Ok(vec![packet]));
}

#[test]
fn a_begun_checksum_outside_the_packet_is_refused() {
    for (start, offset) in [(0, 6), (39, 6), (40, 99), (40, u16::MAX), (u16::MAX, 0), (140, 0)] {
        let mut packet = tcp_super(60).begun();
        assert_eq!(
            complete(&mut packet, PartialChecksum { start, offset }),
            Err(SplitError::Checksum),
            "{start} {offset}"
        );
    }
}
