//! Messages and payload chains (RFC 7296 sections 3.1, 3.2 and 3.14).

use std::ops::Range;

use super::cursor::{Cursor, length_u16};
use super::proposal::{decode_proposals, encode_proposals};
use super::selector::{decode_selectors, encode_selectors};
use super::{
    AuthPayload, CertificatePayload, DecodeError, DeletePayload, Element, HEADER_LEN, Identification,
    IkeHeader, KePayload, MAX_PAYLOADS, NotifyPayload, PayloadType, Proposal, TrafficSelector,
};

/// Bytes of the header that each payload begins with.
pub const GENERIC_HEADER_LEN: usize = 4;
/// Bytes of the fragment number that an SKF payload has beside.
pub const FRAGMENT_NUMBER_LEN: usize = 4;
const CRITICAL: u8 = 0x80;
/// Nonces are 16 to 256 bytes (RFC 7296 section 3.9).
const NONCE_LEN: std::ops::RangeInclusive<usize> = 16..=256;

/// One payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// AUTH.
    Auth(AuthPayload),
    /// CERT.
    Certificate(CertificatePayload),
    /// CERTREQ.
    CertificateRequest(CertificatePayload),
    /// Delete.
    Delete(DeletePayload),
    /// IDi.
    IdInitiator(Identification),
    /// IDr.
    IdResponder(Identification),
    /// KE.
    Ke(KePayload),
    /// Nonce, 16 to 256 bytes.
    Nonce(Vec<u8>),
    /// Notify.
    Notify(NotifyPayload),
    /// A type that this module does not read, with its bytes.
    Other(RawPayload),
    /// SA.
    Sa(Vec<Proposal>),
    /// TSi.
    TsInitiator(Vec<TrafficSelector>),
    /// TSr.
    TsResponder(Vec<TrafficSelector>),
    /// Vendor ID.
    VendorId(Vec<u8>),
}

/// A payload that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPayload {
    /// Its type.
    pub payload_type: PayloadType,
    /// Whether a receiver that does not know the type must refuse the message.
    pub critical: bool,
    /// Its body.
    pub body: Vec<u8>,
}

/// Where an encrypted payload stands in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedPlace {
    /// [`PayloadType::SK`], or [`PayloadType::SKF`] (RFC 7383).
    pub payload_type: PayloadType,
    /// Type of the first payload inside; in all fragments but the first it says nothing.
    pub first_inside: PayloadType,
    /// Which fragment of its message an SKF payload is; none for SK.
    pub fragment: Option<FragmentNumber>,
    /// The IV, the ciphertext and the ICV. All bytes before it are authenticated with it.
    pub body: Range<usize>,
}

/// Place of a fragment in its message (RFC 7383 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentNumber {
    /// From one on.
    pub number: u16,
    /// Number of fragments, at least [`FragmentNumber::number`].
    pub total: u16,
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The header.
    pub header: IkeHeader,
    /// The payloads in clear.
    pub payloads: Vec<Payload>,
    /// The encrypted payload, always the last.
    pub encrypted: Option<EncryptedPlace>,
}

impl Message {
    /// Reads exactly one message.
    ///
    /// # Errors
    /// A [`DecodeError`] if any header, length, count or structure in clear is not as RFC 7296 says.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header = IkeHeader::decode(bytes)?;
        let body = bytes
            .get(HEADER_LEN..)
            .ok_or(DecodeError::Truncated(Element::Header))?;
        let mut payloads = Vec::new();
        let mut encrypted = None;
        let mut next = header.next_payload;
        let mut cursor = Cursor::new(body, Element::GenericHeader);
        let mut count = 0;
        while next != PayloadType::NONE {
            count += 1;
            if count > MAX_PAYLOADS {
                return Err(DecodeError::TooMany(Element::Message));
            }
            let current = next;
            let (following, critical, content) = take_payload(&mut cursor)?;
            next = following;
            if current == PayloadType::SK || current == PayloadType::SKF {
                // The type of the next payload is the first inside: nothing may follow.
                if !cursor.is_empty() {
                    return Err(DecodeError::TrailingBytes(Element::Encrypted));
                }
                let (fragment, content) = if current == PayloadType::SKF {
                    let (fragment, rest) = take_fragment_number(content)?;
                    (Some(fragment), rest)
                } else {
                    (None, content)
                };
                encrypted = Some(EncryptedPlace {
                    payload_type: current,
                    first_inside: following,
                    fragment,
                    body: bytes.len() - content.len()..bytes.len(),
                });
                break;
            }
            payloads.push(decode_payload(current, critical, content)?);
        }
        if encrypted.is_none() && !cursor.is_empty() {
            return Err(DecodeError::TrailingBytes(Element::Message));
        }
        Ok(Self {
            header,
            payloads,
            encrypted,
        })
    }
}

/// Reads a chain of payloads, such as the decrypted content of an encrypted payload without its padding.
///
/// # Errors
/// A [`DecodeError`] if a header, length, count or structure is not as RFC 7296 says, or if an encrypted payload
/// stands in the chain.
pub fn decode_chain(first: PayloadType, bytes: &[u8]) -> Result<Vec<Payload>, DecodeError> {
    let mut payloads = Vec::new();
    let mut next = first;
    let mut cursor = Cursor::new(bytes, Element::GenericHeader);
    while next != PayloadType::NONE {
        if payloads.len() == MAX_PAYLOADS {
            return Err(DecodeError::TooMany(Element::Message));
        }
        let current = next;
        let (following, critical, content) = take_payload(&mut cursor)?;
        if current == PayloadType::SK || current == PayloadType::SKF {
            return Err(DecodeError::Malformed(Element::Encrypted));
        }
        payloads.push(decode_payload(current, critical, content)?);
        next = following;
    }
    if cursor.is_empty() {
        Ok(payloads)
    } else {
        Err(DecodeError::TrailingBytes(Element::Message))
    }
}

/// Appends the payloads as a chain to `out` and returns the type of the first.
pub fn encode_chain(payloads: &[Payload], out: &mut Vec<u8>) -> PayloadType {
    for (index, payload) in payloads.iter().enumerate() {
        let next = payloads
            .get(index + 1)
            .map_or(PayloadType::NONE, Payload::payload_type);
        let start = out.len();
        let critical = match payload {
            Payload::Other(raw) if raw.critical => CRITICAL,
            Payload::Other(_)
            | Payload::Auth(_)
            | Payload::Certificate(_)
            | Payload::CertificateRequest(_)
            | Payload::Delete(_)
            | Payload::IdInitiator(_)
            | Payload::IdResponder(_)
            | Payload::Ke(_)
            | Payload::Nonce(_)
            | Payload::Notify(_)
            | Payload::Sa(_)
            | Payload::TsInitiator(_)
            | Payload::TsResponder(_)
            | Payload::VendorId(_) => 0,
        };
        out.extend_from_slice(&[next.0, critical, 0, 0]);
        payload.encode_body(out);
        let length = length_u16(out.len() - start);
        if let Some(place) = out.get_mut(start + 2..start + 4) {
            place.copy_from_slice(&length);
        }
    }
    payloads.first().map_or(PayloadType::NONE, Payload::payload_type)
}

/// Appends a generic payload header for a body of `body_len` bytes.
pub fn encode_generic_header(next: PayloadType, body_len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&[next.0, 0]);
    out.extend_from_slice(&length_u16(GENERIC_HEADER_LEN + body_len));
}

/// Appends the fragment number that an SKF payload's body begins with.
pub fn encode_fragment_number(fragment: FragmentNumber, out: &mut Vec<u8>) {
    out.extend_from_slice(&fragment.number.to_be_bytes());
    out.extend_from_slice(&fragment.total.to_be_bytes());
}

/// Writes a message in clear. The header's `next_payload` and `length` are filled in.
pub fn encode_message(header: IkeHeader, payloads: &[Payload]) -> Vec<u8> {
    let mut chain = Vec::new();
    let next_payload = encode_chain(payloads, &mut chain);
    let mut out = Vec::with_capacity(HEADER_LEN + chain.len());
    IkeHeader {
        next_payload,
        length: u32::try_from(HEADER_LEN + chain.len()).unwrap_or(u32::MAX),
        ..header
    }
    .encode(&mut out);
    out.extend_from_slice(&chain);
    out
}

impl Payload {
    /// Its type.
    pub const fn payload_type(&self) -> PayloadType {
        match self {
            Self::Auth(_) => PayloadType::AUTH,
            Self::Certificate(_) => PayloadType::CERT,
            Self::CertificateRequest(_) => PayloadType::CERTREQ,
            Self::Delete(_) => PayloadType::DELETE,
            Self::IdInitiator(_) => PayloadType::IDI,
            Self::IdResponder(_) => PayloadType::IDR,
            Self::Ke(_) => PayloadType::KE,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::NOTIFY,
            Self::Other(raw) => raw.payload_type,
            Self::Sa(_) => PayloadType::SA,
            Self::TsInitiator(_) => PayloadType::TSI,
            Self::TsResponder(_) => PayloadType::TSR,
            Self::VendorId(_) => PayloadType::VENDOR_ID,
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Auth(auth) => auth.encode(out),
            Self::Certificate(certificate) | Self::CertificateRequest(certificate) => certificate.encode(out),
            Self::Delete(delete) => delete.encode(out),
            Self::IdInitiator(id) | Self::IdResponder(id) => id.encode(out),
            Self::Ke(ke) => ke.encode(out),
            Self::Nonce(bytes) | Self::VendorId(bytes) => out.extend_from_slice(bytes),
            Self::Notify(notify) => notify.encode(out),
            Self::Other(raw) => out.extend_from_slice(&raw.body),
            Self::Sa(proposals) => encode_proposals(proposals, out),
            Self::TsInitiator(selectors) | Self::TsResponder(selectors) => encode_selectors(selectors, out),
        }
    }
}

fn take_fragment_number(content: &[u8]) -> Result<(FragmentNumber, &[u8]), DecodeError> {
    let mut cursor = Cursor::new(content, Element::Encrypted);
    let fragment = FragmentNumber {
        number: cursor.u16()?,
        total: cursor.u16()?,
    };
    if fragment.number == 0 || fragment.number > fragment.total {
        return Err(DecodeError::Malformed(Element::Encrypted));
    }
    Ok((fragment, cursor.rest()))
}

fn take_payload<'a>(cursor: &mut Cursor<'a>) -> Result<(PayloadType, bool, &'a [u8]), DecodeError> {
    let next = PayloadType(cursor.u8()?);
    let critical = cursor.u8()? & CRITICAL != 0;
    let length = usize::from(cursor.u16()?);
    let body_len = length
        .checked_sub(GENERIC_HEADER_LEN)
        .ok_or(DecodeError::Malformed(Element::GenericHeader))?;
    Ok((next, critical, cursor.take(body_len)?))
}

fn decode_payload(payload_type: PayloadType, critical: bool, body: &[u8]) -> Result<Payload, DecodeError> {
    Ok(match payload_type {
        PayloadType::AUTH => Payload::Auth(AuthPayload::decode(body)?),
        PayloadType::CERT => Payload::Certificate(CertificatePayload::decode(body)?),
        PayloadType::CERTREQ => Payload::CertificateRequest(CertificatePayload::decode(body)?),
        PayloadType::DELETE => Payload::Delete(DeletePayload::decode(body)?),
        PayloadType::IDI => Payload::IdInitiator(Identification::decode(body)?),
        PayloadType::IDR => Payload::IdResponder(Identification::decode(body)?),
        PayloadType::KE => Payload::Ke(KePayload::decode(body)?),
        PayloadType::NONCE if NONCE_LEN.contains(&body.len()) => Payload::Nonce(body.to_vec()),
        PayloadType::NONCE => return Err(DecodeError::Malformed(Element::Nonce)),
        PayloadType::NOTIFY => Payload::Notify(NotifyPayload::decode(body)?),
        PayloadType::SA => Payload::Sa(decode_proposals(body)?),
        PayloadType::TSI => Payload::TsInitiator(decode_selectors(body)?),
        PayloadType::TSR => Payload::TsResponder(decode_selectors(body)?),
        PayloadType::VENDOR_ID => Payload::VendorId(body.to_vec()),
        _ => Payload::Other(RawPayload {
            payload_type,
            critical,
            body: body.to_vec(),
        }),
    })
}
