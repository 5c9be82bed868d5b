//! What stands in front of each packet of a TUN with IFF_VNET_HDR (linux/virtio_net.h), all fields little-endian
//! because of TUNSETVNETLE:
//!
//! ```text
//!  0       1         2        4         6           8             10
//! | flags | gso_type | hdr_len | gso_size | csum_start | csum_offset | packet …
//! ```

use crate::dataplane::offload::{Offload, PartialChecksum, Protocol, Segments};

/// Octets of a `virtio_net_hdr`.
pub const HEADER_LEN: usize = 10;

/// The checksum is begun only.
const NEEDS_CSUM: u8 = 1;

/// VIRTIO_NET_HDR_GSO_NONE
const GSO_NONE: u8 = 0;
/// VIRTIO_NET_HDR_GSO_TCPV6
const GSO_TCPV6: u8 = 4;
/// VIRTIO_NET_HDR_GSO_UDP_L4
const GSO_UDP_L4: u8 = 5;
/// A flag beside the type: the first packet answers a congestion mark (CWR).
const GSO_ECN: u8 = 0x80;

/// Octets of a UDP header.
const UDP_HEADER: u16 = 8;
/// Where a TCP header has its length, in the high half of the octet, and its flags.
const TCP_LENGTH: usize = 12;
const TCP_FLAGS: usize = 13;
const TCP_CWR: u8 = 0x80;

/// A kind of super-packet that was never asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKind(
    /// VIRTIO_NET_HDR_GSO_… without its flag.
    pub u8,
);

/// What is still to be done to the packet behind this header. `hdr_len` is not believed (its authors do not promise
/// anything about it), and DATA_VALID needs nothing.
///
/// # Errors
/// A kind that is not ours.
pub fn decode(header: [u8; HEADER_LEN]) -> Result<Offload, UnknownKind> {
    let [flags, kind, _, _, s0, s1, c0, c1, o0, o1] = header;
    let protocol = match kind & !GSO_ECN {
        GSO_NONE => None,
        GSO_TCPV6 => Some(Protocol::Tcp),
        GSO_UDP_L4 => Some(Protocol::Udp),
        kind => return Err(UnknownKind(kind)),
    };
    let checksum =
        PartialChecksum { start: u16::from_le_bytes([c0, c1]), offset: u16::from_le_bytes([o0, o1]) };
    Ok(Offload {
        segments: protocol.map(|protocol| Segments { protocol, size: u16::from_le_bytes([s0, s1]) }),
        checksum: (flags & NEEDS_CSUM != 0).then_some(checksum),
    })
}

/// The header for a packet.
pub fn encode(offload: Offload, packet: &[u8]) -> [u8; HEADER_LEN] {
    let Offload { segments, checksum } = offload;
    let transport = checksum.map_or(0, |partial| usize::from(partial.start));
    let octet = |at: usize| packet.get(transport + at).copied().unwrap_or(0);
    let (kind, size, header) = match segments {
        None => (GSO_NONE, 0, 0),
        Some(Segments { protocol: Protocol::Udp, size }) => (GSO_UDP_L4, size, UDP_HEADER),
        Some(Segments { protocol: Protocol::Tcp, size }) => {
            let ecn = if octet(TCP_FLAGS) & TCP_CWR != 0 { GSO_ECN } else { 0 };
            (GSO_TCPV6 | ecn, size, u16::from(octet(TCP_LENGTH) >> 4) * 4)
        }
    };
    // The kernel keeps this much in one piece and the rest in pages; without it, it looks for 64 KiB in one piece.
    let headers = match (segments, checksum) {
        (Some(_), Some(partial)) => partial.start.saturating_add(header),
        _ => 0,
    };
    let PartialChecksum { start, offset } = checksum.unwrap_or(PartialChecksum { start: 0, offset: 0 });
    let flags = if checksum.is_some() { NEEDS_CSUM } else { 0 };
    let [h0, h1] = headers.to_le_bytes();
    let [s0, s1] = size.to_le_bytes();
    let [c0, c1] = start.to_le_bytes();
    let [o0, o1] = offset.to_le_bytes();
    [flags, kind, h0, h1, s0, s1, c0, c1, o0, o1]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        let mut packet = [0; 100];
        packet[40 + 12] = 0x80;
        let offload = Offload {
            segments: Some(Segments { protocol: Protocol::Tcp, size: 0x0512 }),
            checksum: Some(PartialChecksum { start: 40, offset: 16 }),
        };
        assert_eq!(encode(offload, &packet), [1, 4, 72, 0, 0x12, 0x05, 40, 0, 16, 0]);
        packet[40 + 13] = 0x80;
        assert_eq!(encode(offload, &packet), [1, 0x84, 72, 0, 0x12, 0x05, 40, 0, 16, 0]);
        let offload = Offload { segments: Some(Segments { protocol: Protocol::Udp, size: 7 }), ..offload };
        assert_eq!(encode(offload, &packet), [1, 5, 48, 0, 7, 0, 40, 0, 16, 0]);
        assert_eq!(encode(Offload::default(), &packet), [0; 10]);
        assert_eq!(decode([0; 10]), Ok(Offload::default()));
        // DATA_VALID: the checksum is whole.
        assert_eq!(decode([2, 0, 9, 9, 9, 9, 9, 9, 9, 9]), Ok(Offload::default()));
        // TCPv4, UFO and what nobody knows.
        for kind in [1, 3, 2, 0x7f] {
            assert_eq!(decode([0, kind, 0, 0, 0, 0, 0, 0, 0, 0]), Err(UnknownKind(kind)));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            segments in proptest::option::of((any::<bool>(), any::<u16>())),
            checksum in proptest::option::of((any::<u16>(), any::<u16>())),
            packet in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let protocol = |tcp| if tcp { Protocol::Tcp } else { Protocol::Udp };
            let offload = Offload {
                segments: segments.map(|(tcp, size)| Segments { protocol: protocol(tcp), size }),
                checksum: checksum.map(|(start, offset)| PartialChecksum { start, offset }),
            };
            prop_assert_eq!(decode(encode(offload, &packet)), Ok(offload));
        }
    }
}
