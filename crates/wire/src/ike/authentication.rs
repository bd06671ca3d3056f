//! The authentication payload (RFC 7296 section 3.8).

use super::cursor::Cursor;
use super::{AuthMethod, DecodeError, Element};

/// Proof that the sender knows the secret of its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthPayload {
    /// How the proof was made.
    pub method: AuthMethod,
    /// The proof.
    pub data: Vec<u8>,
}

impl AuthPayload {
    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body, Element::Authentication);
        let method = AuthMethod(cursor.u8()?);
        cursor.take(3)?;
        Ok(Self {
            method,
            data: cursor.rest().to_vec(),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.method.0, 0, 0, 0]);
        out.extend_from_slice(&self.data);
    }
}
