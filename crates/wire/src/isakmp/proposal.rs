//! The security association payload (RFC 2408 sections 3.4 to 3.6, RFC 2407 section 4.6.1).

use super::{DOI_IPSEC, MAX_ATTRIBUTES, MAX_PROPOSALS, MAX_TRANSFORMS, ProtocolId};
use crate::ike::cursor::{Cursor, length_u16};
use crate::ike::substructure::{MORE_PROPOSALS, MORE_TRANSFORMS, fix_length, substructure};
use crate::ike::{DecodeError, Element};

/// SIT_IDENTITY_ONLY.
const SITUATION_IDENTITY: u32 = 1;
const BASIC: u16 = 0x8000;

/// What may protect an SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaPayload {
    /// Domain of interpretation.
    pub doi: u32,
    /// Situation, a bit field.
    pub situation: u32,
    /// The proposals.
    pub proposals: Vec<Proposal>,
}

/// A protocol with the ways to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its number; proposals with the same number belong together.
    pub number: u8,
    /// Protocol.
    pub protocol: ProtocolId,
    /// The sender's inbound SPI: empty (or a cookie) for ISAKMP, 4 bytes for ESP.
    pub spi: Vec<u8>,
    /// The ways, preferred first.
    pub transforms: Vec<Transform>,
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Its number within the proposal.
    pub number: u8,
    /// The algorithm, as numbered for the protocol.
    pub id: u8,
    /// Attributes.
    pub attributes: Vec<Attribute>,
}

/// A data attribute (RFC 2408 section 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Type and two bytes of value.
    Basic {
        /// Its type.
        kind: u16,
        /// Its value.
        value: u16,
    },
    /// Type, length and value.
    Variable {
        /// Its type.
        kind: u16,
        /// Its value.
        value: Vec<u8>,
    },
}

impl Attribute {
    /// An attribute with a number, in the short form where it fits.
    pub fn number(kind: u16, value: u32) -> Self {
        match u16::try_from(value) {
            Ok(value) => Self::Basic { kind, value },
            Err(_) => Self::Variable {
                kind,
                value: value.to_be_bytes().to_vec(),
            },
        }
    }

    /// Its type.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Basic { kind, .. } | Self::Variable { kind, .. } => *kind,
        }
    }

    /// Its value as a number, in either form; none beyond 64 bits.
    pub fn value(&self) -> Option<u64> {
        match self {
            Self::Basic { value, .. } => Some(u64::from(*value)),
            Self::Variable { value, .. } => {
                let significant = value.iter().position(|byte| *byte != 0).unwrap_or(value.len());
                let digits = value.get(significant..)?;
                (digits.len() <= 8).then(|| {
                    digits
                        .iter()
                        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
                })
            }
        }
    }

    /// Reads attributes that stand by themselves, as in a notification.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], or [`DecodeError::TooMany`] above [`MAX_ATTRIBUTES`].
    pub fn decode_list(bytes: &[u8]) -> Result<Vec<Self>, DecodeError> {
        decode_attributes(Cursor::new(bytes, Element::Attribute))
    }

    /// The bytes of attributes that stand by themselves.
    pub fn encode_list(attributes: &[Self]) -> Vec<u8> {
        let mut out = Vec::new();
        for attribute in attributes {
            attribute.encode(&mut out);
        }
        out
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Basic { kind, value } => {
                out.extend_from_slice(&(kind | BASIC).to_be_bytes());
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Variable { kind, value } => {
                out.extend_from_slice(&(kind & !BASIC).to_be_bytes());
                out.extend_from_slice(&length_u16(value.len()));
                out.extend_from_slice(value);
            }
        }
    }
}

impl SaPayload {
    /// Proposals for IPsec.
    pub const fn ipsec(proposals: Vec<Proposal>) -> Self {
        Self {
            doi: DOI_IPSEC,
            situation: SITUATION_IDENTITY,
            proposals,
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body, Element::Proposal);
        let doi = cursor.u32()?;
        let situation = cursor.u32()?;
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
        Ok(Self {
            doi,
            situation,
            proposals,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.doi.to_be_bytes());
        out.extend_from_slice(&self.situation.to_be_bytes());
        let last = self.proposals.len().saturating_sub(1);
        for (index, proposal) in self.proposals.iter().enumerate() {
            let start = out.len();
            let more = if index == last { 0 } else { MORE_PROPOSALS };
            let spi_len = u8::try_from(proposal.spi.len()).unwrap_or(u8::MAX);
            let count = u8::try_from(proposal.transforms.len()).unwrap_or(u8::MAX);
            out.extend_from_slice(&[more, 0, 0, 0]);
            out.extend_from_slice(&[proposal.number, proposal.protocol.0, spi_len, count]);
            out.extend_from_slice(&proposal.spi);
            let last = proposal.transforms.len().saturating_sub(1);
            for (index, transform) in proposal.transforms.iter().enumerate() {
                let start = out.len();
                let more = if index == last { 0 } else { MORE_TRANSFORMS };
                out.extend_from_slice(&[more, 0, 0, 0, transform.number, transform.id, 0, 0]);
                for attribute in &transform.attributes {
                    attribute.encode(out);
                }
                fix_length(out, start);
            }
            fix_length(out, start);
        }
    }
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
    let mut transforms = Vec::new();
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
    let number = cursor.u8()?;
    let id = cursor.u8()?;
    cursor.u16()?;
    let attributes = decode_attributes(cursor)?;
    Ok(Transform {
        number,
        id,
        attributes,
    })
}

fn decode_attributes(mut cursor: Cursor<'_>) -> Result<Vec<Attribute>, DecodeError> {
    let mut attributes = Vec::new();
    while !cursor.is_empty() {
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(DecodeError::TooMany(Element::Attribute));
        }
        let kind = cursor.u16()?;
        attributes.push(if kind & BASIC != 0 {
            Attribute::Basic {
                kind: kind & !BASIC,
                value: cursor.u16()?,
            }
        } else {
            let len = usize::from(cursor.u16()?);
            Attribute::Variable {
                kind,
                value: cursor.take(len)?.to_vec(),
            }
        });
    }
    Ok(attributes)
}
