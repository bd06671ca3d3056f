//! Chains of payloads (RFC 2408 section 3.2).

use std::ops::Range;

use super::{IsakmpHeader, MAX_PAYLOADS, Payload, PayloadType};
use crate::ike::cursor::{Cursor, length_u16};
use crate::ike::{DecodeError, Element, GENERIC_HEADER_LEN, HEADER_LEN};

/// The payloads of a message, and where they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The payloads in their order.
    pub payloads: Vec<Payload>,
    /// For each payload its place in the bytes, with its generic header.
    pub places: Vec<Range<usize>>,
    /// Bytes of the whole chain.
    pub len: usize,
}

impl Chain {
    /// Reads a chain whose first payload is of type `first`. Bytes may be left over: see [`Chain::len`].
    ///
    /// # Errors
    /// A [`DecodeError`] if a header, length, count or structure is not as the RFCs say.
    pub fn decode(first: PayloadType, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut chain = Self::default();
        let mut next = first;
        let mut cursor = Cursor::new(bytes, Element::GenericHeader);
        while next != PayloadType::NONE {
            if chain.payloads.len() == MAX_PAYLOADS {
                return Err(DecodeError::TooMany(Element::Message));
            }
            let current = next;
            next = PayloadType(cursor.u8()?);
            // Reserved, and zero: what was decrypted with a wrong key shows here first.
            if cursor.u8()? != 0 {
                return Err(DecodeError::Malformed(Element::GenericHeader));
            }
            let length = usize::from(cursor.u16()?);
            let body_len = length
                .checked_sub(GENERIC_HEADER_LEN)
                .ok_or(DecodeError::Malformed(Element::GenericHeader))?;
            let body = cursor.take(body_len)?;
            chain.payloads.push(Payload::decode(current, body)?);
            chain.places.push(chain.len..chain.len + length);
            chain.len += length;
        }
        Ok(chain)
    }

    /// The body of the payload with this index, as it stands in `bytes`.
    pub fn body<'a>(&self, index: usize, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let place = self.places.get(index)?;
        bytes.get(place.start + GENERIC_HEADER_LEN..place.end)
    }
}

/// Appends the payloads as a chain to `out` and returns the type of the first.
pub fn encode_chain(payloads: &[Payload], out: &mut Vec<u8>) -> PayloadType {
    for (index, payload) in payloads.iter().enumerate() {
        let next = payloads
            .get(index + 1)
            .map_or(PayloadType::NONE, Payload::payload_type);
        let start = out.len();
        out.extend_from_slice(&[next.0, 0, 0, 0]);
        payload.encode_body(out);
        let length = length_u16(out.len() - start);
        if let Some(place) = out.get_mut(start + 2..start + 4) {
            place.copy_from_slice(&length);
        }
    }
    payloads.first().map_or(PayloadType::NONE, Payload::payload_type)
}

/// Writes a message in clear. The header's `next_payload` and `length` are filled in.
pub fn encode_message(header: IsakmpHeader, payloads: &[Payload]) -> Vec<u8> {
    let mut chain = Vec::new();
    let next_payload = encode_chain(payloads, &mut chain);
    let mut out = Vec::with_capacity(HEADER_LEN + chain.len());
    IsakmpHeader {
        next_payload,
        ..header
    }
    .encode(HEADER_LEN + chain.len(), &mut out);
    out.extend_from_slice(&chain);
    out
}
