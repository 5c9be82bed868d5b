//! ESP (RFC 4303): one security association at a time. An [`OutboundSa`] assigns sequence numbers and seals, an
//! [`InboundSa`] checks replay and opens. Both are shared by reference between threads; neither allocates per packet.
//!
//! ```text
//!  SPI (4) | sequence number, low 32 bits (4) | IV (8 or 0) | payload | 1 2 3 … | pad length | next header | ICV (16)
//!                                                            '------ encrypted unless ENCR_NULL ------'
//! ```

mod cipher;
pub mod inbound;
pub mod outbound;
pub mod replay;
pub mod sa;

pub use inbound::{InboundSa, OpenError, Opened, Opener};
pub use outbound::{OutboundSa, Run, SealError};
pub use sa::{Limits, SaParams};

/// True in a build with the feature `bench-null-cipher`, where AES-256-GCM copies instead of encrypting and checks
/// nothing, so that the rest of the data plane can be measured. No other build is for use.
pub const IS_UNPROTECTED: bool = cfg!(feature = "bench-null-cipher");
