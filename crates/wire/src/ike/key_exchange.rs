//! The key exchange payload (RFC 7296 section 3.4).

use super::cursor::Cursor;
use super::{DecodeError, Element, TransformId};

/// A public value of the key exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KePayload {
    /// The key exchange method it belongs to.
    pub method: TransformId,
    /// The public value.
    pub data: Vec<u8>,
}

impl KePayload {
    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body, Element::KeyExchange);
        let method = TransformId(cursor.u16()?);
        cursor.take(2)?;
        Ok(Self {
            method,
            data: cursor.rest().to_vec(),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.method.0.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.data);
    }
}
