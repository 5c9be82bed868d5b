//! The key log: what Wireshark and tshark need to decrypt IKE and ESP. Each line is what `tshark -o` takes; without the
//! `uat:TABLE:` in front it is a line of the file of that name in Wireshark's profile.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};

/// An open key log.
pub(super) struct KeyLog(File);

impl KeyLog {
    /// Opens for appending; the file is readable by its owner only, also when it was there before.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(Self(file))
    }

    pub(super) fn ike(
        &mut self,
        spi_i: u64,
        spi_r: u64,
        suite: IkeSuite,
        ei: &Secret,
        er: &Secret,
    ) -> io::Result<()> {
        self.0.write_all(ike_line(spi_i, spi_r, suite, ei, er).as_bytes())
    }

    pub(super) fn esp(&mut self, spi: u32, suite: EspSuite, key: &Secret) -> io::Result<()> {
        self.0.write_all(esp_lines(spi, suite, key).as_bytes())
    }
}

fn hex(secret: &Secret) -> String {
    secret.expose().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Wireshark's `ikev2_decryption_table`: the AEAD's salt is part of its key.
fn ike_line(spi_i: u64, spi_r: u64, suite: IkeSuite, ei: &Secret, er: &Secret) -> String {
    let algorithm = match suite {
        IkeSuite::Aes256Gcm => "AES-GCM-256 with 16 octet ICV [RFC5282]",
        IkeSuite::ChaCha20Poly1305 => "CHACHA20_POLY1305 [RFC7634]",
    };
    format!(
        "uat:ikev2_decryption_table:{spi_i:016x},{spi_r:016x},{},{},\"{algorithm}\",,,\"NONE [RFC4306]\"\n",
        hex(ei),
        hex(er)
    )
}

/// Wireshark's `esp_sa`: whatever the addresses, because an SA moves, and on the relayed path they are IPv6.
fn esp_lines(spi: u32, suite: EspSuite, key: &Secret) -> String {
    let key = hex(key);
    let algorithms = match suite {
        EspSuite::Aes256Gcm | EspSuite::Aes256GcmIiv => {
            format!("\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{key}\",\"NULL\",\"\"")
        }
        EspSuite::ChaCha20Poly1305 | EspSuite::ChaCha20Poly1305Iiv => {
            format!("\"ChaCha20 with Poly1305 [RFC7634]\",\"0x{key}\",\"NULL\",\"\"")
        }
        EspSuite::NullHmacSha256 => format!("\"NULL\",\"\",\"HMAC-SHA-256-128 [RFC4868]\",\"0x{key}\""),
    };
    ["IPv4", "IPv6"]
        .map(|ip| format!("uat:esp_sa:\"{ip}\",\"*\",\"*\",\"0x{spi:08x}\",{algorithms}\n"))
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_tshark_takes() {
        let key = Secret::new(vec![0xab; 36]);
        assert_eq!(
            ike_line(1, 2, IkeSuite::Aes256Gcm, &key, &key),
            format!(
                "uat:ikev2_decryption_table:0000000000000001,0000000000000002,{k},{k},\"AES-GCM-256 with 16 octet ICV [RFC5282]\",,,\"NONE [RFC4306]\"\n",
                k = "ab".repeat(36)
            )
        );
        let rest = format!(
            "\"*\",\"*\",\"0x00001234\",\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{}\",\"NULL\",\"\"",
            "ab".repeat(36)
        );
        assert_eq!(
            esp_lines(0x1234, EspSuite::Aes256Gcm, &key),
            format!("uat:esp_sa:\"IPv4\",{rest}\nuat:esp_sa:\"IPv6\",{rest}\n")
        );
    }

    #[test]
    fn the_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, "old\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let key = Secret::new(vec![1; 36]);
        let mut log = KeyLog::open(&path).unwrap();
        log.ike(1, 2, IkeSuite::ChaCha20Poly1305, &key, &key).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }
}
