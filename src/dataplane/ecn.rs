//! Explicit congestion notification through a tunnel (RFC 6040).

/// Congestion experienced (RFC 3168 §5); also the mask of the field.
const CE: u8 = 0b11;
/// Not ECN-capable.
const NOT_ECT: u8 = 0b00;

/// The ECN field in an IPv6 traffic class.
pub fn of_traffic_class(traffic_class: u8) -> u8 {
    traffic_class & CE
}

/// The ECN field of a packet that leaves the tunnel (RFC 6040 §4.2, figure 4); `None`: it must be dropped, because
/// congestion was marked and the packet cannot carry the mark.
pub fn decapsulated(inner: u8, outer: u8) -> Option<u8> {
    const ECT_0: u8 = 0b10;
    const ECT_1: u8 = 0b01;
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Writes the ECN field of an IPv6 packet; no checksum covers it.
pub fn set(packet: &mut [u8], ecn: u8) {
    if let Some(traffic) = packet.get_mut(1) {
        *traffic = (*traffic & !(CE << 4)) | ((ecn & CE) << 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecn_leaves_the_tunnel_as_rfc_6040_says() {
        let row = |inner| [0b00, 0b10, 0b01, 0b11].map(|outer| decapsulated(inner, outer));
        assert_eq!(row(0b00), [Some(0b00), Some(0b00), Some(0b00), None]);
        assert_eq!(row(0b10), [Some(0b10), Some(0b10), Some(0b01), Some(0b11)]);
        assert_eq!(row(0b01), [Some(0b01), Some(0b01), Some(0b01), Some(0b11)]);
        assert_eq!(row(0b11), [Some(0b11); 4]);
        let mut packet = [0x6f, 0xff, 1, 2];
        set(&mut packet, 0b01);
        assert_eq!(packet, [0x6f, 0xdf, 1, 2]);
    }
}
