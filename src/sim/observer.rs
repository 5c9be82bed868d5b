//! Who sees everything: every packet of the applications, every datagram on the wire, every key. It finds what must
//! never be.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;

use crate::crypto::suite::EspSuite;
use crate::node::Event;
use crate::wire::ike::{HEADER_LEN, Header, flags, payload_type};
use crate::wire::ip::HEADER_LEN as IPV6_HEADER;
use crate::wire::udp_encap::{self, Datagram};

/// "For experimentation" (RFC 3692): our applications' next header.
const NEXT_HEADER: u8 = 253;

/// An IPv6 packet of an application, recognizable by its number.
pub fn packet(from: Ipv6Addr, to: Ipv6Addr, number: u64, length: usize) -> Vec<u8> {
    let payload: Vec<u8> =
        number.to_be_bytes().into_iter().chain((0..length).map(|at| (at as u64 ^ number) as u8)).collect();
    // Each is a flow of its own, by its label.
    let [.., a, b, c] = number.to_be_bytes();
    let mut packet = vec![0x60, a & 0x0f, b, c];
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[NEXT_HEADER, 64]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&payload);
    packet
}

/// The number of a packet that an application sent.
pub fn number(packet: &[u8]) -> Option<u64> {
    let number = packet.get(IPV6_HEADER..)?.first_chunk()?;
    Some(u64::from_be_bytes(*number))
}

/// One direction of an IKE SA: initiator's and responder's SPI, and whether the original initiator sends.
type IkeDirection = (u64, u64, bool);

/// What was seen.
#[derive(Default)]
pub struct Observer {
    /// What applications sent and nobody has got yet, by number.
    under_way: HashMap<u64, Vec<u8>>,
    delivered: HashSet<u64>,
    /// Nonces of IKE messages, and what was sealed under them.
    ike: HashMap<(IkeDirection, [u8; 8]), u64>,
    /// ESP keys by SPI and suite, as key logs tell them.
    esp_keys: HashMap<u32, (u64, EspSuite)>,
    spi_of_key: HashMap<u64, u32>,
    /// Nonces of ESP packets: key, and the sequence number or IV.
    esp: HashSet<(u64, u64)>,
    /// ESP packets, IKE datagrams and keepalives so far.
    pub counts: Counts,
}

/// Datagrams by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// ESP packets.
    pub esp: u64,
    /// IKE messages or fragments.
    pub ike: u64,
    /// NAT keepalives.
    pub keepalives: u64,
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl Observer {
    /// An application sends this.
    pub fn application_sends(&mut self, number: u64, packet: Vec<u8>) {
        self.under_way.insert(number, packet);
    }

    /// This came out of the tunnel at `at`: exactly what was sent, to where it was sent, once.
    pub fn tunnel_delivers(&mut self, at: Ipv6Addr, packet: &[u8]) -> Result<u64, String> {
        let number = number(packet).ok_or("a packet without number came out of the tunnel")?;
        if self.delivered.contains(&number) {
            return Err(format!("packet {number} was delivered twice"));
        }
        match self.under_way.remove(&number) {
            None => Err(format!("packet {number} was never sent")),
            Some(sent) if sent != packet => Err(format!("packet {number} came out changed")),
            Some(_) if packet.get(24..40) != Some(&at.octets()[..]) => {
                Err(format!("packet {number} came out at {at}, which it was not for"))
            }
            Some(_) => {
                self.delivered.insert(number);
                Ok(number)
            }
        }
    }

    /// Was it delivered?
    pub fn was_delivered(&self, number: u64) -> bool {
        self.delivered.contains(&number)
    }

    /// How many were.
    pub fn delivered(&self) -> usize {
        self.delivered.len()
    }

    /// A key log tells this. One key belongs to one SPI; an SPI that is used again has another key.
    pub fn key_logged(&mut self, event: &Event) -> Result<(), String> {
        let Event::ChildKeys { spi, suite, key, .. } = event else { return Ok(()) };
        let key = digest(key.expose());
        self.esp_keys.insert(*spi, (key, *suite));
        match self.spi_of_key.insert(key, *spi) {
            Some(other) if other != *spi => {
                Err(format!("SPIs {other:#010x} and {spi:#010x} have the same key"))
            }
            _ => Ok(()),
        }
    }

    /// A machine hands this datagram to the network.
    pub fn wire_carries(&mut self, payload: &[u8]) -> Result<(), String> {
        match udp_encap::classify(payload) {
            Ok(Datagram::Keepalive) => {
                self.counts.keepalives += 1;
                Ok(())
            }
            Ok(Datagram::Ike(message)) => {
                self.counts.ike += 1;
                self.ike_message(message)
            }
            Ok(Datagram::Esp { spi, packet }) => {
                self.counts.esp += 1;
                self.esp_packet(spi, packet)
            }
            Ok(Datagram::Relayed(_)) | Err(_) => {
                Err("something that is no IKE, ESP or keepalive was sent".to_owned())
            }
        }
    }

    /// A sealed message has a nonce of its own, or is a retransmission, octet for octet.
    fn ike_message(&mut self, message: &[u8]) -> Result<(), String> {
        let header =
            Header::parse(message).map_err(|error| format!("a malformed IKE message was sent: {error}"))?;
        let skip = match header.next_payload {
            payload_type::SK => 4,
            payload_type::SKF => 8,
            _ => return Ok(()),
        };
        let iv: [u8; 8] = *message
            .get(HEADER_LEN + skip..)
            .and_then(|rest| rest.first_chunk())
            .ok_or("a sealed IKE message without IV was sent")?;
        let direction = (header.initiator_spi, header.responder_spi, header.flags & flags::INITIATOR != 0);
        let content = digest(message);
        match self.ike.insert((direction, iv), content) {
            Some(before) if before != content => Err(format!(
                "two IKE messages under one key and nonce: SPIs {:#x} {:#x}, message {}",
                header.initiator_spi, header.responder_spi, header.message_id
            )),
            _ => Ok(()),
        }
    }

    /// ESP is never sent twice: each packet has a nonce of its own.
    fn esp_packet(&mut self, spi: u32, packet: &[u8]) -> Result<(), String> {
        let Some(&(key, suite)) = self.esp_keys.get(&spi) else {
            return Err(format!("ESP was sent on SPI {spi:#010x}, of which no key log tells"));
        };
        let field = if suite.iv_len() == 8 { packet.get(8..16) } else { packet.get(..8) };
        let nonce = field.and_then(|field| field.first_chunk()).ok_or("a truncated ESP packet was sent")?;
        if self.esp.insert((key, u64::from_be_bytes(*nonce))) {
            Ok(())
        } else {
            Err(format!("two ESP packets under one key and nonce: SPI {spi:#010x}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret;

    const SPI: u32 = 0x1234_5678;

    fn keyed(spi: u32, key: u8) -> Event {
        let (suite, key) = (EspSuite::Aes256Gcm, Secret::new(vec![key; 36]));
        Event::ChildKeys { spi, suite, key }
    }

    fn esp(spi: u32, sequence: u32, iv: u64) -> Vec<u8> {
        [&spi.to_be_bytes()[..], &sequence.to_be_bytes(), &iv.to_be_bytes(), &[0; 32]].concat()
    }

    #[test]
    fn a_repeated_esp_nonce_is_seen_even_under_another_spi() {
        let mut observer = Observer::default();
        assert!(observer.wire_carries(&esp(SPI, 1, 1)).is_err(), "no key yet");
        observer.key_logged(&keyed(SPI, 1)).unwrap();
        observer.wire_carries(&esp(SPI, 1, 1)).unwrap();
        observer.wire_carries(&esp(SPI, 2, 2)).unwrap();
        assert!(observer.wire_carries(&esp(SPI, 3, 2)).is_err());
        assert!(observer.key_logged(&keyed(SPI + 1, 1)).is_err());
        assert!(observer.wire_carries(&esp(SPI + 1, 9, 1)).is_err());
    }

    #[test]
    fn an_ike_nonce_may_repeat_only_with_the_same_message() {
        let mut message = vec![0; 4];
        message.extend_from_slice(&[1; 16]);
        message.extend_from_slice(&[payload_type::SK, 0x20, 37, flags::INITIATOR, 0, 0, 0, 2, 0, 0, 0, 64]);
        message.extend_from_slice(&[0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 1]);
        message.extend_from_slice(&[5; 24]);
        let mut observer = Observer::default();
        observer.wire_carries(&message).unwrap();
        observer.wire_carries(&message).unwrap();
        *message.last_mut().unwrap() ^= 1;
        assert!(observer.wire_carries(&message).unwrap_err().contains("one key and nonce"));
    }

    #[test]
    fn packets_come_out_once_unchanged_and_where_they_belong() {
        let (from, to) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        let sent = packet(from, to, 7, 20);
        let mut observer = Observer::default();
        assert!(observer.tunnel_delivers(to, &sent).is_err(), "never sent");
        for at in [from, to] {
            observer.application_sends(7, sent.clone());
            assert_eq!(observer.tunnel_delivers(at, &sent).is_ok(), at == to);
        }
        assert!(observer.tunnel_delivers(to, &sent).is_err(), "twice");
        observer.application_sends(8, packet(from, to, 8, 20));
        let mut changed = packet(from, to, 8, 20);
        *changed.last_mut().unwrap() ^= 1;
        assert!(observer.tunnel_delivers(to, &changed).is_err());
    }
}
