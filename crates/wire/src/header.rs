//! The fixed header that IKEv1 (RFC 2408 section 3.1) and IKEv2 (RFC 7296 section 3.1) share, before its codepoints get their
//! meaning.

use crate::ike::cursor::Cursor;
use crate::ike::{DecodeError, Element, IkeSpi, MAX_MESSAGE_LEN};

/// The fields in the order in which they stand.
pub(crate) struct FixedHeader {
    pub(crate) initiator: IkeSpi,
    pub(crate) responder: IkeSpi,
    pub(crate) next_payload: u8,
    /// The major version in the upper half.
    pub(crate) version: u8,
    pub(crate) exchange: u8,
    pub(crate) flags: u8,
    pub(crate) message_id: u32,
    pub(crate) length: u32,
}

impl FixedHeader {
    /// Reads the header at the start of `bytes`, which must be exactly one message of the version `major`.
    pub(crate) fn decode(bytes: &[u8], major: u8) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_MESSAGE_LEN {
            return Err(DecodeError::TooMany(Element::Message));
        }
        let mut cursor = Cursor::new(bytes, Element::Header);
        let header = Self {
            initiator: IkeSpi(cursor.u64()?),
            responder: IkeSpi(cursor.u64()?),
            next_payload: cursor.u8()?,
            version: cursor.u8()?,
            exchange: cursor.u8()?,
            flags: cursor.u8()?,
            message_id: cursor.u32()?,
            length: cursor.u32()?,
        };
        if header.version >> 4 != major {
            return Err(DecodeError::Version(header.version >> 4));
        }
        match usize::try_from(header.length) {
            Ok(stated) if stated == bytes.len() => Ok(header),
            Ok(stated) if stated > bytes.len() => Err(DecodeError::Truncated(Element::Message)),
            Ok(_) | Err(_) => Err(DecodeError::Malformed(Element::Header)),
        }
    }

    /// The minor version.
    pub(crate) const fn minor_version(&self) -> u8 {
        self.version & 0x0f
    }

    /// Appends it to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.initiator.0.to_be_bytes());
        out.extend_from_slice(&self.responder.0.to_be_bytes());
        out.extend_from_slice(&[self.next_payload, self.version, self.exchange, self.flags]);
        out.extend_from_slice(&self.message_id.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
    }
}
