//! From a message to octets.

use std::net::{Ipv6Addr, SocketAddrV4};

use super::options::{
    EXPERIMENTAL, IPV4_ADDRESS_ACK, IPV4_CARE_OF_ADDRESS, IPV4_HOME_ADDRESS, KIND_CHALLENGE, KIND_OBSERVED,
    KIND_RESPONSE, MOBILE_NETWORK_PREFIX, NAT_DETECTION, PAD1, PADN,
};
use super::{
    BindingAcknowledgement, BindingUpdate, Cookie, EXPERIMENT, MH_LEN, Message, NEXT_HEADER_MOBILITY, mh_type,
};
use crate::wire::ip::{HEADER_LEN, NEXT_HEADER_NONE, checksum, write_header};

/// Hop limit of what we send: the SA makes it one hop.
const HOP_LIMIT: u8 = 64;

/// The whole inner packet: IPv6 header and Mobility Header, at most 900 octets.
pub fn build(source: Ipv6Addr, destination: Ipv6Addr, message: &Message) -> Vec<u8> {
    let mut writer = Writer(vec![0; HEADER_LEN + MH_LEN]);
    let mh_type = match message {
        Message::Update(update) => writer.update(update),
        Message::Acknowledgement(acknowledgement) => writer.acknowledgement(acknowledgement),
        Message::Challenge(cookie) => writer.experimental(KIND_CHALLENGE, cookie, None),
        Message::Response { cookie, observed } => writer.experimental(KIND_RESPONSE, cookie, *observed),
    };
    writer.align(8, 0);
    writer.finish(source, destination, mh_type)
}

/// A packet in the making. Offsets for alignment count from the Mobility Header's first octet.
struct Writer(Vec<u8>);

impl Writer {
    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn update(&mut self, update: &BindingUpdate) -> u8 {
        let flags = &update.flags;
        let bits = u16::from(flags.acknowledge) << 15
            | u16::from(flags.home_registration) << 14
            | u16::from(flags.link_local) << 13
            | u16::from(flags.key_management) << 12
            | u16::from(flags.mobile_router) << 10
            | u16::from(flags.force_udp) << 8;
        self.u16(update.sequence);
        self.u16(bits);
        self.u16(update.lifetime.0);
        for prefix in update.prefixes.iter() {
            self.align(8, 4); // RFC 3963 §4.3
            self.0.extend_from_slice(&[MOBILE_NETWORK_PREFIX, 18, 0, prefix.prefix_len()]);
            self.0.extend_from_slice(&prefix.network().octets());
        }
        if let Some(care_of) = update.care_of {
            self.align(4, 0);
            self.0.extend_from_slice(&[IPV4_CARE_OF_ADDRESS, 6, 0, 0]);
            self.0.extend_from_slice(&care_of.octets());
        }
        if let Some(home) = update.ipv4_home {
            self.align(4, 0);
            let bits = home.prefix_len << 2 | u8::from(home.prefix_requested) << 1;
            self.0.extend_from_slice(&[IPV4_HOME_ADDRESS, 6, bits, 0]);
            self.0.extend_from_slice(&home.address.octets());
        }
        mh_type::BINDING_UPDATE
    }

    fn acknowledgement(&mut self, acknowledgement: &BindingAcknowledgement) -> u8 {
        let flags =
            u8::from(acknowledgement.key_management) << 7 | u8::from(acknowledgement.mobile_router) << 6;
        self.0.extend_from_slice(&[acknowledgement.status.0, flags]);
        self.u16(acknowledgement.sequence);
        self.u16(acknowledgement.lifetime.0);
        if let Some(home) = acknowledgement.ipv4_home {
            self.align(4, 0);
            self.0.extend_from_slice(&[IPV4_ADDRESS_ACK, 6, home.status, home.prefix_len << 2]);
            self.0.extend_from_slice(&home.address.octets());
        }
        if let Some(nat) = acknowledgement.nat {
            self.align(4, 0);
            self.0.extend_from_slice(&[NAT_DETECTION, 6, u8::from(nat.force_udp) << 7, 0]);
            self.0.extend_from_slice(&nat.refresh.to_be_bytes());
        }
        if let Some(observed) = acknowledgement.observed {
            self.observed(observed);
        }
        if let Some(cookie) = acknowledgement.challenge {
            self.experimental_option(KIND_CHALLENGE, &cookie);
        }
        mh_type::BINDING_ACKNOWLEDGEMENT
    }

    fn experimental(&mut self, kind: u8, cookie: &Cookie, observed: Option<SocketAddrV4>) -> u8 {
        self.u16(EXPERIMENT);
        self.0.extend_from_slice(&[kind, 0]);
        self.0.extend_from_slice(cookie);
        if let Some(observed) = observed {
            self.observed(observed);
        }
        mh_type::EXPERIMENTAL
    }

    fn observed(&mut self, observed: SocketAddrV4) {
        let ([a, b, c, d], [high, low]) = (observed.ip().octets(), observed.port().to_be_bytes());
        self.experimental_option(KIND_OBSERVED, &[a, b, c, d, high, low]);
    }

    fn experimental_option(&mut self, kind: u8, data: &[u8]) {
        let len = u8::try_from(4 + data.len()).unwrap_or_default();
        self.0.extend_from_slice(&[EXPERIMENTAL, len]);
        self.u16(EXPERIMENT);
        self.0.extend_from_slice(&[kind, 0]);
        self.0.extend_from_slice(data);
    }

    /// Pads until the offset is `unit * n + rest` (RFC 6275 §6.2.2, §6.2.3).
    fn align(&mut self, unit: usize, rest: usize) {
        let offset = self.0.len() - HEADER_LEN;
        let pad = (unit + rest - offset % unit) % unit;
        match u8::try_from(pad).unwrap_or_default() {
            0 => {}
            1 => self.0.push(PAD1),
            pad => {
                self.0.extend_from_slice(&[PADN, pad - 2]);
                self.0.resize(self.0.len() + usize::from(pad) - 2, 0);
            }
        }
    }

    fn finish(mut self, source: Ipv6Addr, destination: Ipv6Addr, mh_type: u8) -> Vec<u8> {
        let payload_len = u16::try_from(self.0.len() - HEADER_LEN).unwrap_or(u16::MAX);
        let Some((header, payload)) = self.0.split_first_chunk_mut::<HEADER_LEN>() else { return self.0 };
        write_header(header, source, destination, NEXT_HEADER_MOBILITY, HOP_LIMIT, payload_len);
        let header_len = u8::try_from(payload.len() / 8 - 1).unwrap_or(u8::MAX);
        payload[..MH_LEN].copy_from_slice(&[NEXT_HEADER_NONE, header_len, mh_type, 0, 0, 0]);
        let sum = checksum(source, destination, NEXT_HEADER_MOBILITY, payload);
        payload[4..MH_LEN].copy_from_slice(&sum.to_be_bytes());
        self.0
    }
}
