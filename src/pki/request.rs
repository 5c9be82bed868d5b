//! Certificate requests (PKCS#10, RFC 2986), for software that keeps its key to itself.

use x509_cert::der::{Decode, DecodePem, Encode};
use x509_cert::request::CertReq;

use super::{IssueError, MAX_CERTIFICATE};
use crate::crypto::identity::PublicKey;

/// The key that a request in DER or PEM asks a certificate for, proven by the request's own signature. Names in the
/// request are ignored: the home knows them better.
pub fn requested_key(request: &[u8]) -> Result<PublicKey, IssueError> {
    if request.len() > MAX_CERTIFICATE {
        return Err(IssueError::Request);
    }
    let request =
        if request.starts_with(b"-----") { CertReq::from_pem(request) } else { CertReq::from_der(request) };
    let request = request.map_err(|_| IssueError::Request)?;
    let spki = request.info.public_key.to_der().map_err(|_| IssueError::Request)?;
    let key = PublicKey::from_spki_der(&spki).map_err(|_| IssueError::Request)?;
    let signed = request.info.to_der().map_err(|_| IssueError::Request)?;
    let proven = request.signature.as_bytes().is_some_and(|signature| key.verify(&signed, signature));
    proven.then_some(key).ok_or(IssueError::Request)
}
