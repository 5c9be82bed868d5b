//! Status codes of Binding Acknowledgements.

use std::fmt;

/// Status of a Binding Acknowledgement: below 128 accepted, from 128 on refused (RFC 6275 §6.1.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u8);

impl Status {
    /// Accepted.
    pub const ACCEPTED: Self = Self(0);
    /// Refused without a reason.
    pub const UNSPECIFIED: Self = Self(128);
    /// Refused by policy.
    pub const PROHIBITED: Self = Self(129);
    /// The home agent is full.
    pub const INSUFFICIENT_RESOURCES: Self = Self(130);
    /// Not for this address's home.
    pub const NOT_HOME_AGENT: Self = Self(133);
    /// The sequence number is not above the last one; the acknowledgement names that.
    pub const SEQUENCE_OUT_OF_WINDOW: Self = Self(135);
    /// A prefix is malformed or may not be a mobile network prefix (RFC 3963 §6.6).
    pub const INVALID_PREFIX: Self = Self(141);
    /// The sender may not have that prefix (RFC 3963 §6.6).
    pub const NOT_AUTHORIZED_FOR_PREFIX: Self = Self(142);
    /// R without a prefix, and none is known (RFC 3963 §6.6).
    pub const FORWARDING_SETUP_FAILED: Self = Self(143);
    /// The care-of address cannot be used (RFC 6275 §6.1.8).
    pub const INVALID_CARE_OF_ADDRESS: Self = Self(174);

    /// Was the update accepted?
    pub const fn is_accepted(self) -> bool {
        self.0 < 128
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            0 => "accepted",
            1 => "accepted, prefix discovery necessary",
            128 => "reason unspecified",
            129 => "administratively prohibited",
            130 => "insufficient resources",
            131 => "home registration not supported",
            132 => "not home subnet",
            133 => "not home agent for this address",
            134 => "duplicate address detection failed",
            135 => "sequence number out of window",
            139 => "registration type change disallowed",
            140 => "mobile router operation not permitted",
            141 => "invalid prefix",
            142 => "not authorised for the prefix",
            143 => "forwarding setup failed",
            174 => "invalid care-of address",
            code if code < 128 => "accepted with an unknown status",
            _ => "refused with an unknown status",
        };
        write!(f, "{text} (status {})", self.0)
    }
}
