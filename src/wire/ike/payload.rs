//! Payloads of an IKEv2 message, parsed (RFC 7296 §3.2 – §3.16).
#![allow(missing_docs, reason = "the fields of a variant are explained in its own comment")]

use std::net::Ipv6Addr;

/// Payload types (RFC 7296 §3.2, RFC 7383 §2.5).
pub mod payload_type {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const NONE: u8 = 0;
    pub const SA: u8 = 33;
    pub const KE: u8 = 34;
    pub const ID_I: u8 = 35;
    pub const ID_R: u8 = 36;
    pub const CERT: u8 = 37;
    pub const CERTREQ: u8 = 38;
    pub const AUTH: u8 = 39;
    pub const NONCE: u8 = 40;
    pub const NOTIFY: u8 = 41;
    pub const DELETE: u8 = 42;
    pub const VENDOR_ID: u8 = 43;
    pub const TS_I: u8 = 44;
    pub const TS_R: u8 = 45;
    pub const SK: u8 = 46;
    pub const CP: u8 = 47;
    pub const EAP: u8 = 48;
    pub const SKF: u8 = 53;
}

/// One payload. What we do not understand keeps its type, so that the caller can answer
/// UNSUPPORTED_CRITICAL_PAYLOAD (RFC 7296 §2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Security Association: proposals in order of preference (§3.3).
    Sa(Vec<Proposal>),
    /// Key Exchange (§3.4): Diffie-Hellman group number and public value.
    KeyExchange { group: u16, data: Vec<u8> },
    /// Identification – Initiator (§3.5).
    IdInitiator(Identification),
    /// Identification – Responder (§3.5).
    IdResponder(Identification),
    /// Certificate (§3.6): encoding and data.
    Certificate { encoding: u8, data: Vec<u8> },
    /// Certificate Request (§3.7): encoding and authority data.
    CertificateRequest { encoding: u8, data: Vec<u8> },
    /// Authentication (§3.8): method and data.
    Auth { method: u8, data: Vec<u8> },
    /// Nonce (§3.9), 16 to 256 octets.
    Nonce(Vec<u8>),
    /// Notify (§3.10).
    Notify(Notify),
    /// Delete (§3.11).
    Delete(Delete),
    /// Vendor ID (§3.12).
    VendorId(Vec<u8>),
    /// Traffic Selectors – Initiator (§3.13).
    TsInitiator(Vec<TrafficSelector>),
    /// Traffic Selectors – Responder (§3.13).
    TsResponder(Vec<TrafficSelector>),
    /// Anything else, kept as it came.
    Other { payload_type: u8, critical: bool, body: Vec<u8> },
}

/// Certificate encoding "X.509 Certificate – Signature" (§3.6).
pub const CERT_X509_SIGNATURE: u8 = 4;
/// Certificate encoding "Raw Public Key" (RFC 7670 §3): a SubjectPublicKeyInfo.
pub const CERT_RAW_PUBLIC_KEY: u8 = 15;

/// One proposal of an SA payload (§3.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// 1, 2, 3, … in an offer; the chosen number in an answer.
    pub number: u8,
    /// 1 IKE, 2 AH, 3 ESP.
    pub protocol: u8,
    /// Empty (initial IKE SA), 8 octets (IKE rekey) or 4 octets (ESP).
    pub spi: Vec<u8>,
    /// Alternatives within a type; all types must be satisfied.
    pub transforms: Vec<Transform>,
}

/// One transform of a proposal (§3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transform {
    /// 1 ENCR, 2 PRF, 3 INTEG, 4 KE, 5 ESN.
    pub kind: u8,
    /// IANA identifier within the type.
    pub id: u16,
    /// Key Length attribute in bits (§3.3.5), when present.
    pub key_length: Option<u16>,
    /// An attribute that we do not know was present: such a transform must not be chosen (§3.3.6).
    pub unknown_attribute: bool,
}

/// Identification payload body (§3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identification {
    /// 5 is ID_IPV6_ADDR.
    pub id_type: u8,
    /// RESERVED: zero in ours, ignored in the peer's, but AUTH covers it as it came (§2.15).
    pub reserved: [u8; 3],
    /// 16 octets for ID_IPV6_ADDR.
    pub data: Vec<u8>,
}

impl Identification {
    /// ID_IPV6_ADDR.
    pub const IPV6_ADDR: u8 = 5;

    /// The identity of an entity: its permanent address.
    pub fn from_address(address: Ipv6Addr) -> Self {
        Self { id_type: Self::IPV6_ADDR, reserved: [0; 3], data: address.octets().to_vec() }
    }

    /// The permanent address, when this is a well-formed ID_IPV6_ADDR.
    pub fn address(&self) -> Option<Ipv6Addr> {
        let octets: [u8; 16] = self.data.as_slice().try_into().ok()?;
        (self.id_type == Self::IPV6_ADDR).then(|| Ipv6Addr::from(octets))
    }
}

/// Notify payload body (§3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// 0 none, 1 IKE, 2 AH, 3 ESP.
    pub protocol: u8,
    /// SPI that the notification is about; empty, 4 or 8 octets.
    pub spi: Vec<u8>,
    /// See [`notify_type`].
    pub kind: u16,
    /// Notification data.
    pub data: Vec<u8>,
}

/// Notify message types (IANA; RFC 7296 §3.10.1, RFC 4555, RFC 7383, RFC 7427, RFC 9611).
pub mod notify_type {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const UNSUPPORTED_CRITICAL_PAYLOAD: u16 = 1;
    pub const INVALID_IKE_SPI: u16 = 4;
    pub const INVALID_MAJOR_VERSION: u16 = 5;
    pub const INVALID_SYNTAX: u16 = 7;
    pub const INVALID_MESSAGE_ID: u16 = 9;
    pub const INVALID_SPI: u16 = 11;
    pub const NO_PROPOSAL_CHOSEN: u16 = 14;
    pub const INVALID_KE_PAYLOAD: u16 = 17;
    pub const AUTHENTICATION_FAILED: u16 = 24;
    pub const SINGLE_PAIR_REQUIRED: u16 = 34;
    pub const NO_ADDITIONAL_SAS: u16 = 35;
    pub const INTERNAL_ADDRESS_FAILURE: u16 = 36;
    pub const FAILED_CP_REQUIRED: u16 = 37;
    pub const TS_UNACCEPTABLE: u16 = 38;
    pub const INVALID_SELECTORS: u16 = 39;
    pub const UNACCEPTABLE_ADDRESSES: u16 = 40;
    pub const UNEXPECTED_NAT_DETECTED: u16 = 41;
    pub const TEMPORARY_FAILURE: u16 = 43;
    pub const CHILD_SA_NOT_FOUND: u16 = 44;
    pub const TS_MAX_QUEUE: u16 = 48;
    /// Below this value a notify is an error (§3.10.1).
    pub const FIRST_STATUS: u16 = 16384;
    pub const INITIAL_CONTACT: u16 = 16384;
    pub const SET_WINDOW_SIZE: u16 = 16385;
    pub const ADDITIONAL_TS_POSSIBLE: u16 = 16386;
    pub const NAT_DETECTION_SOURCE_IP: u16 = 16388;
    pub const NAT_DETECTION_DESTINATION_IP: u16 = 16389;
    pub const COOKIE: u16 = 16390;
    pub const USE_TRANSPORT_MODE: u16 = 16391;
    pub const REKEY_SA: u16 = 16393;
    pub const ESP_TFC_PADDING_NOT_SUPPORTED: u16 = 16394;
    pub const NON_FIRST_FRAGMENTS_ALSO: u16 = 16395;
    pub const MOBIKE_SUPPORTED: u16 = 16396;
    pub const ADDITIONAL_IP4_ADDRESS: u16 = 16397;
    pub const ADDITIONAL_IP6_ADDRESS: u16 = 16398;
    pub const NO_ADDITIONAL_ADDRESSES: u16 = 16399;
    pub const UPDATE_SA_ADDRESSES: u16 = 16400;
    pub const COOKIE2: u16 = 16401;
    pub const NO_NATS_ALLOWED: u16 = 16402;
    pub const CHILDLESS_IKEV2_SUPPORTED: u16 = 16418;
    pub const IKEV2_FRAGMENTATION_SUPPORTED: u16 = 16430;
    pub const SIGNATURE_HASH_ALGORITHMS: u16 = 16431;
    pub const SA_RESOURCE_INFO: u16 = 16444;
    /// Private status type: "the sender is a domicile"; data is one version octet, now 1, and the 20 octets that
    /// NAT_DETECTION_SOURCE_IP would truthfully have (RFC 7296 §2.23).
    pub const DOMICILE: u16 = 40960;
    /// A document between two of us, in INFORMATIONAL: join, certificates, revocations (private use).
    pub const DOMICILE_DOCUMENT: u16 = 40961;
    /// Private status type, in IKE_AUTH: an earlier key of the sender's entity endorses a later one; data are 128
    /// octets, old key, new key and signature. Several may come, oldest first.
    pub const KEY_ENDORSEMENT: u16 = 40963;
}

/// Delete payload body (§3.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// 1 IKE (no SPI), 2 AH, 3 ESP.
    pub protocol: u8,
    /// SPIs that the sender receives on; empty for IKE.
    pub spis: Vec<u32>,
}

/// One traffic selector (§3.13.1): TS_IPV6_ADDR_RANGE is kept apart; other types are kept unread so that they
/// can be ignored in narrowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrafficSelector {
    /// TS_IPV6_ADDR_RANGE (8).
    Ipv6 {
        /// IP protocol, 0 is any.
        protocol: u8,
        /// First port (or ICMP type and code).
        start_port: u16,
        /// Last port; 0..=65535 is any.
        end_port: u16,
        /// First address.
        start: Ipv6Addr,
        /// Last address.
        end: Ipv6Addr,
    },
    /// Another selector type, as it came (without its four-octet header).
    Other { ts_type: u8, protocol: u8, body: Vec<u8> },
}
