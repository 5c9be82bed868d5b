//! What a datagram on our UDP port is, by its first bytes (RFC 3948 §2, §4; the relayed path in the spirit of RFC 5555).
//!
//! ```text
//! ff                    NAT keepalive, one octet
//! 00 00 00 00 …         non-ESP marker, then an IKE message
//! 6x …                  a whole IPv6 packet: the relayed path
//! anything else         ESP; the first four octets are the SPI
//! ```

/// The four zero octets in front of IKE messages (RFC 3948 §2.2).
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// The keepalive's only octet (RFC 3948 §2.3).
pub const KEEPALIVE: u8 = 0xff;
/// SPI and sequence number.
const ESP_HEADER: usize = 8;

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
    if datagram.len() < ESP_HEADER {
        return Err(Malformed);
    }
    Ok(Datagram::Esp { spi: u32::from_be_bytes(*first), packet: datagram })
}

#[cfg(test)]
mod tests {
    use super::*;

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
