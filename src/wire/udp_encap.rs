//! What a datagram on our UDP port is, by its first bytes (RFC 3948 §2, §4; the relayed path in the spirit of RFC 5555).
//!
//! ```text
//! ff                    NAT keepalive, one octet
//! 00 00 00 00 …         non-ESP marker, then an IKE message
//! 6x …                  a whole IPv6 packet: the relayed path
//! anything else         ESP; the first four octets are the SPI
//! ```

use super::esp;

/// The four zero octets in front of IKE messages (RFC 3948 §2.2).
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// The keepalive's only octet (RFC 3948 §2.3).
pub const KEEPALIVE: u8 = 0xff;

/// A classified datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// Keeps a NAT mapping open; means nothing else.
    Keepalive,
    /// An IKE message, without the marker.
    Ike(&'a [u8]),
    /// An IPv6 packet.
    Relayed(&'a [u8]),
    /// ESP, from the SPI on.
    Esp {
        /// The SPI.
        spi: u32,
        /// The whole ESP packet.
        packet: &'a [u8],
    },
}

/// Too short to be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("datagram too short for ESP or IKE")]
pub struct Malformed;

/// Tells what a datagram is.
pub fn classify(datagram: &[u8]) -> Result<Datagram<'_>, Malformed> {
    if datagram == [KEEPALIVE] {
        return Ok(Datagram::Keepalive);
    }
    let (first, rest) = datagram.split_first_chunk::<4>().ok_or(Malformed)?;
    if *first == NON_ESP_MARKER {
        return Ok(Datagram::Ike(rest));
    }
    if first[0] >> 4 == 6 {
        return Ok(Datagram::Relayed(datagram));
    }
    if datagram.len() < esp::HEADER_LEN {
        return Err(Malformed);
    }
    Ok(Datagram::Esp { spi: u32::from_be_bytes(*first), packet: datagram })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was classified, as it was on the wire.
    fn rebuilt(datagram: Datagram<'_>) -> Vec<u8> {
        match datagram {
            Datagram::Keepalive => vec![KEEPALIVE],
            Datagram::Ike(message) => [&NON_ESP_MARKER, message].concat(),
            Datagram::Relayed(packet) | Datagram::Esp { packet, .. } => packet.to_vec(),
        }
    }

    proptest! {
        #[test]
        fn no_octet_is_lost_and_only_short_datagrams_are_refused(
            // Every first octet, so that each kind comes up often; with the rest zero half of the time.
            first: u8, zero: bool, tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut datagram = vec![first];
            datagram.extend(tail.iter().map(|octet| if zero { 0 } else { *octet }));
            match classify(&datagram) {
                Ok(kind) => prop_assert_eq!(rebuilt(kind), datagram),
                Err(Malformed) => prop_assert!(datagram.len() < esp::HEADER_LEN),
            }
        }

        #[test]
        fn what_we_receive_on_is_always_esp(
            // Small ones and those that begin with 5, 6 or 7 are where the rule has its edges.
            spi in prop_oneof![any::<u32>(), 0..1024u32, 0x5000_0000..0x8000_0000u32],
            tail in proptest::collection::vec(any::<u8>(), 4..40),
        ) {
            let datagram = [&spi.to_be_bytes()[..], &tail].concat();
            let as_esp = classify(&datagram) == Ok(Datagram::Esp { spi, packet: &datagram });
            if esp::spi_is_valid(spi) {
                prop_assert!(as_esp);
            } else {
                prop_assert!(!as_esp || (1..esp::MIN_SPI).contains(&spi));
            }
        }
    }

    #[test]
    fn each_kind_is_told_by_its_first_bytes() {
        assert_eq!(classify(&[0xff]), Ok(Datagram::Keepalive));
        assert_eq!(classify(&[0, 0, 0, 0, 9]), Ok(Datagram::Ike(&[9])));
        assert_eq!(classify(&[0x60, 1, 2, 3]), Ok(Datagram::Relayed(&[0x60, 1, 2, 3])));
        let esp = [0x12, 0x34, 0x56, 0x78, 0, 0, 0, 1];
        assert_eq!(classify(&esp), Ok(Datagram::Esp { spi: 0x1234_5678, packet: &esp }));
    }

    #[test]
    fn short_datagrams_are_refused() {
        for len in 0..4 {
            assert_eq!(classify(&vec![1; len]), Err(Malformed), "{len}");
        }
        assert_eq!(classify(&[1, 2, 3, 4, 5, 6, 7]), Err(Malformed));
        assert_eq!(classify(&[0xff, 0xff]), Err(Malformed));
    }
}
