//! Proposals and transforms of the security association payload (RFC 7296 section 3.3).

use super::cursor::{Cursor, length_u16};
use super::substructure::{MORE_PROPOSALS, MORE_TRANSFORMS, fix_length, substructure};
use super::{
    DecodeError, Element, MAX_ATTRIBUTES, MAX_PROPOSALS, MAX_TRANSFORMS, ProtocolId, TransformId,
    TransformType,
};

/// Attribute type of a key length, with its "type/value" bit.
const KEY_LENGTH: u16 = 0x800e;

/// One way to protect an SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its number; an answer repeats the number of the one it chose.
    pub number: u8,
    /// Protocol of the SA.
    pub protocol: ProtocolId,
    /// The sender's inbound SPI: empty at the start of an IKE SA, 8 bytes in its rekey, 4 bytes for ESP.
    pub spi: Vec<u8>,
    /// The transforms: one of each type is to be chosen.
    pub transforms: Vec<Transform>,
}

/// One algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Kind of the algorithm.
    pub transform_type: TransformType,
    /// The algorithm.
    pub id: TransformId,
    /// Its parameters.
    pub attributes: Vec<Attribute>,
}

/// A parameter of a transform. Both encodings of RFC 7296 section 3.3.5 are kept as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Type, with the format bit 0x8000 for a value of two bytes.
    pub attribute_type: u16,
    /// The value: exactly two bytes if the format bit is set.
    pub value: Vec<u8>,
}

impl Transform {
    /// A transform without attributes.
    pub const fn new(transform_type: TransformType, id: TransformId) -> Self {
        Self {
            transform_type,
            id,
            attributes: Vec::new(),
        }
    }

    /// A cipher with a key length in bits.
    pub fn with_key_length(id: TransformId, bits: u16) -> Self {
        Self {
            transform_type: TransformType::ENCR,
            id,
            attributes: vec![Attribute {
                attribute_type: KEY_LENGTH,
                value: bits.to_be_bytes().to_vec(),
            }],
        }
    }

    /// The key length in bits. The outer option is none if there is an attribute other than one key length: such a
    /// transform must not be chosen (RFC 7296 section 3.3.6).
    pub fn key_length(&self) -> Option<Option<u16>> {
        match self.attributes.as_slice() {
            [] => Some(None),
            [attribute] if attribute.attribute_type == KEY_LENGTH => attribute
                .value
                .as_slice()
                .try_into()
                .ok()
                .map(|value| Some(u16::from_be_bytes(value))),
            [_, ..] => None,
        }
    }
}

/// Reads the body of an SA payload.
pub(super) fn decode_proposals(body: &[u8]) -> Result<Vec<Proposal>, DecodeError> {
    let mut cursor = Cursor::new(body, Element::Proposal);
    let mut proposals = Vec::new();
    loop {
        if proposals.len() == MAX_PROPOSALS {
            return Err(DecodeError::TooMany(Element::Proposal));
        }
        let (more, content) = substructure(&mut cursor, Element::Proposal)?;
        proposals.push(decode_proposal(content)?);
        match more {
            0 => break,
            MORE_PROPOSALS => {}
            _ => return Err(DecodeError::Malformed(Element::Proposal)),
        }
    }
    cursor.finish()?;
    Ok(proposals)
}

fn decode_proposal(content: &[u8]) -> Result<Proposal, DecodeError> {
    let mut cursor = Cursor::new(content, Element::Proposal);
    let number = cursor.u8()?;
    let protocol = ProtocolId(cursor.u8()?);
    let spi_len = usize::from(cursor.u8()?);
    let count = usize::from(cursor.u8()?);
    if count > MAX_TRANSFORMS {
        return Err(DecodeError::TooMany(Element::Transform));
    }
    let spi = cursor.take(spi_len)?.to_vec();
    let mut transforms = Vec::with_capacity(count);
    for index in 0..count {
        let (more, content) = substructure(&mut cursor, Element::Transform)?;
        let expected = if index + 1 == count { 0 } else { MORE_TRANSFORMS };
        if more != expected {
            return Err(DecodeError::Malformed(Element::Transform));
        }
        transforms.push(decode_transform(content)?);
    }
    cursor.finish()?;
    Ok(Proposal {
        number,
        protocol,
        spi,
        transforms,
    })
}

fn decode_transform(content: &[u8]) -> Result<Transform, DecodeError> {
    let mut cursor = Cursor::new(content, Element::Transform);
    let transform_type = TransformType(cursor.u8()?);
    cursor.u8()?;
    let id = TransformId(cursor.u16()?);
    let mut attributes = Vec::new();
    while !cursor.is_empty() {
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(DecodeError::TooMany(Element::Attribute));
        }
        let attribute_type = cursor.u16()?;
        let len = if attribute_type & 0x8000 != 0 {
            2
        } else {
            usize::from(cursor.u16()?)
        };
        attributes.push(Attribute {
            attribute_type,
            value: cursor.take(len)?.to_vec(),
        });
    }
    Ok(Transform {
        transform_type,
        id,
        attributes,
    })
}

/// Appends the body of an SA payload.
pub(super) fn encode_proposals(proposals: &[Proposal], out: &mut Vec<u8>) {
    for (index, proposal) in proposals.iter().enumerate() {
        let more = if index + 1 == proposals.len() {
            0
        } else {
            MORE_PROPOSALS
        };
        let start = out.len();
        let spi_len = u8::try_from(proposal.spi.len()).unwrap_or(u8::MAX);
        let count = u8::try_from(proposal.transforms.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&[more, 0, 0, 0]);
        out.extend_from_slice(&[proposal.number, proposal.protocol.0, spi_len, count]);
        out.extend_from_slice(&proposal.spi);
        for (index, transform) in proposal.transforms.iter().enumerate() {
            let more = if index + 1 == proposal.transforms.len() {
                0
            } else {
                MORE_TRANSFORMS
            };
            encode_transform(transform, more, out);
        }
        fix_length(out, start);
    }
}

fn encode_transform(transform: &Transform, more: u8, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[more, 0, 0, 0, transform.transform_type.0, 0]);
    out.extend_from_slice(&transform.id.0.to_be_bytes());
    for attribute in &transform.attributes {
        out.extend_from_slice(&attribute.attribute_type.to_be_bytes());
        if attribute.attribute_type & 0x8000 == 0 {
            out.extend_from_slice(&length_u16(attribute.value.len()));
        }
        out.extend_from_slice(&attribute.value);
    }
    fix_length(out, start);
}
