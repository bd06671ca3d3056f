//! The certificate and certificate request payloads (RFC 7296 sections 3.6 and 3.7).

use super::cursor::Cursor;
use super::{CertificateEncoding, DecodeError, Element};

/// A certificate, or the authorities whose certificates the sender takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePayload {
    /// How it is written.
    pub encoding: CertificateEncoding,
    /// The certificate; in a request, the hashes of the authorities' keys one after the other.
    pub data: Vec<u8>,
}

impl CertificatePayload {
    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body, Element::Certificate);
        Ok(Self {
            encoding: CertificateEncoding(cursor.u8()?),
            data: cursor.rest().to_vec(),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.encoding.0);
        out.extend_from_slice(&self.data);
    }
}
