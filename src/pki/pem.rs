//! Certificates in PEM (RFC 7468): the form of files.

use x509_cert::der::Document;
use x509_cert::der::pem::LineEnding;

use super::{MAX_CERTIFICATE, MAX_OTHERS, TrustError};

const LABEL: &str = "CERTIFICATE";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// One certificate as a PEM block with a final line end.
pub fn encode(der: &[u8]) -> Result<String, TrustError> {
    let document = Document::try_from(der).map_err(|_| TrustError::Malformed)?;
    document.to_pem(LABEL, LineEnding::LF).map_err(|_| TrustError::Malformed)
}

/// Every certificate of a file, in order: the leaf comes first, as everywhere. Text around the blocks and blocks of
/// other kinds are passed over, since files often hold key and certificate. At least one certificate, at most one more
/// than [`MAX_OTHERS`].
pub fn decode(text: &str) -> Result<Vec<Vec<u8>>, TrustError> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((_, from)) = rest.split_once(BEGIN) {
        if all.len() > MAX_OTHERS {
            return Err(TrustError::TooMany(all.len()));
        }
        let (body, after) = from.split_once(END).ok_or(TrustError::Malformed)?;
        if body.len() > 2 * MAX_CERTIFICATE {
            return Err(TrustError::Oversized(body.len()));
        }
        let block = format!("{BEGIN}{body}{END}\n");
        let (label, document) = Document::from_pem(&block).map_err(|_| TrustError::Malformed)?;
        if label != LABEL {
            return Err(TrustError::Malformed);
        }
        all.push(document.into_vec());
        rest = after;
    }
    if all.is_empty() {
        return Err(TrustError::Malformed);
    }
    Ok(all)
}
