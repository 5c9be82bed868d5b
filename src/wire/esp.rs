//! The front of an ESP packet (RFC 4303 §2), as far as it shares a UDP port with IKE and with relayed IPv6. What
//! follows it depends on the cipher suite and belongs to `esp`.
//!
//! ```text
//! | SPI, 4 octets | sequence number, low 32 bits, 4 octets | IV (explicit forms only) | …
//! ```

/// Octets of SPI and sequence number.
pub const HEADER_LEN: usize = 8;

/// 0 is the non-ESP marker (RFC 3948 §2.2), 1 to 255 are reserved by IANA (RFC 4303 §2.1).
pub const MIN_SPI: u32 = 256;

/// May we receive on this SPI? It is not reserved, and its first nibble is not 6, which on our port is the version of
/// an IPv6 packet. A peer may choose its own SPIs otherwise: it need not know the relayed path.
pub const fn spi_is_valid(spi: u32) -> bool {
    spi >= MIN_SPI && spi >> 28 != 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_values_and_the_version_of_ipv6_are_left_out() {
        for spi in [0, 1, 255, 0x6000_0000, 0x6fff_ffff] {
            assert!(!spi_is_valid(spi), "{spi:#x}");
        }
        for spi in [256, 0x5fff_ffff, 0x7000_0000, u32::MAX] {
            assert!(spi_is_valid(spi), "{spi:#x}");
        }
    }
}
