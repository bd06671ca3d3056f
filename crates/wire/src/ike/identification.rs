//! The identification payloads (RFC 7296 section 3.5).

use super::cursor::Cursor;
use super::{DecodeError, Element, IdType};

/// Who the sender claims to be. The whole body, with its reserved bytes as received, enters the AUTH computation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identification {
    /// Type of the identity.
    pub id_type: IdType,
    /// Reserved bytes: zero when we write, kept as received.
    pub reserved: [u8; 3],
    /// The identity.
    pub data: Vec<u8>,
}

impl Identification {
    /// An identity to send.
    pub const fn new(id_type: IdType, data: Vec<u8>) -> Self {
        Self {
            id_type,
            reserved: [0; 3],
            data,
        }
    }

    /// The payload's body, without the generic header.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.data.len());
        self.encode(&mut out);
        out
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body, Element::Identification);
        let id_type = IdType(cursor.u8()?);
        let reserved = [cursor.u8()?, cursor.u8()?, cursor.u8()?];
        Ok(Self {
            id_type,
            reserved,
            data: cursor.rest().to_vec(),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.id_type.0);
        out.extend_from_slice(&self.reserved);
        out.extend_from_slice(&self.data);
    }
}
