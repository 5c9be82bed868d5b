//! What several benchmarks need.

use std::net::Ipv6Addr;

use domicile::crypto::secret::Secret;
use domicile::crypto::suite::EspSuite;
use domicile::esp::{Limits, SaParams};

/// Either half of an SA with extended sequence numbers and without limits.
pub(crate) fn params(suite: EspSuite) -> SaParams {
    SaParams {
        spi: 0x1234_5678,
        local: Ipv6Addr::LOCALHOST,
        remote: Ipv6Addr::LOCALHOST,
        suite,
        esn: true,
        key: Secret::new(vec![7; suite.keymat_len()]),
        limits: Limits::NONE,
    }
}
