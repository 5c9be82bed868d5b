//! Stateless cookies (RFC 7296 §2.6): proof that the initiator receives at the address it claims, before we keep state.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use crate::crypto::prf::prf;
use crate::crypto::secret::Secret;

/// A secret serves this long; its predecessor is still accepted for as long again.
const LIFETIME: Duration = Duration::from_secs(60);

/// The rotating secret.
pub(super) struct CookieJar {
    version: u8,
    current: Secret,
    previous: Option<Secret>,
    rotated: Instant,
}

impl CookieJar {
    pub(super) fn new(now: Instant, secret: Secret) -> Self {
        Self { version: 0, current: secret, previous: None, rotated: now }
    }

    /// Changes the secret when its time is over. `fresh` is asked for randomness only then.
    pub(super) fn rotate(&mut self, now: Instant, fresh: impl FnOnce() -> Secret) {
        let age = now.saturating_duration_since(self.rotated);
        if age >= LIFETIME {
            let old = std::mem::replace(&mut self.current, fresh());
            self.previous = (age < LIFETIME * 2).then_some(old);
            self.version = self.version.wrapping_add(1);
            self.rotated = now;
        }
    }

    /// `version | prf(secret, Ni | IPi | port | SPIi)`.
    pub(super) fn bake(&self, nonce: &[u8], from: SocketAddrV4, spi_i: u64) -> Vec<u8> {
        cookie(self.version, &self.current, nonce, from, spi_i)
    }

    /// Is this one of ours, and fresh?
    pub(super) fn accepts(&self, given: &[u8], nonce: &[u8], from: SocketAddrV4, spi_i: u64) -> bool {
        let secret = match given.first() {
            Some(version) if *version == self.version => Some(&self.current),
            Some(version) if *version == self.version.wrapping_sub(1) => self.previous.as_ref(),
            Some(_) | None => None,
        };
        secret.is_some_and(|secret| {
            let version = given.first().copied().unwrap_or_default();
            cookie(version, secret, nonce, from, spi_i).ct_eq(given).into()
        })
    }
}

fn cookie(version: u8, secret: &Secret, nonce: &[u8], from: SocketAddrV4, spi_i: u64) -> Vec<u8> {
    let parts: [&[u8]; 4] = [nonce, &from.ip().octets(), &from.port().to_be_bytes(), &spi_i.to_be_bytes()];
    let mut cookie = vec![version];
    cookie.extend_from_slice(&*prf(secret.expose(), &parts));
    cookie
}
