//! ESP (RFC 4303): one security association at a time. An [`OutboundSa`] assigns sequence numbers and seals, an
//! [`InboundSa`] checks replay and opens. Both are shared by reference between threads; neither allocates per packet.

pub mod sa;

pub use sa::{InboundSa, Limits, OpenError, Opened, OutboundSa, SaParams, SealError};
