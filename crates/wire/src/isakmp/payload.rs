//! The payloads of IKEv1 (RFC 2408 sections 3.7 to 3.16, RFC 2407 section 4.6).

use super::{DOI_IPSEC, IdType, MAX_DELETE_SPIS, NotifyType, PayloadType, ProtocolId, SaPayload};
use crate::ike::cursor::{Cursor, length_u16};
use crate::ike::{DecodeError, Element};

/// Nonces are 8 to 256 bytes (RFC 2409 section 5).
const NONCE_LEN: std::ops::RangeInclusive<usize> = 8..=256;

/// One payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Delete.
    Delete(DeletePayload),
    /// Hash.
    Hash(Vec<u8>),
    /// Identification.
    Id(Identification),
    /// Key exchange: the public value.
    Ke(Vec<u8>),
    /// NAT detection: a hash of an address.
    NatD(Vec<u8>),
    /// Nonce, 8 to 256 bytes.
    Nonce(Vec<u8>),
    /// Notification.
    Notify(NotifyPayload),
    /// A type that this module does not read, with its bytes.
    Other {
        /// Its type.
        payload_type: PayloadType,
        /// Its body.
        body: Vec<u8>,
    },
    /// Security association.
    Sa(SaPayload),
    /// Vendor ID.
    VendorId(Vec<u8>),
}

/// Who somebody is, or what traffic an SA carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identification {
    /// Type.
    pub id_type: IdType,
    /// IP protocol, or zero.
    pub protocol: u8,
    /// Port, or zero.
    pub port: u16,
    /// The identity in the form of its type.
    pub data: Vec<u8>,
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyPayload {
    /// Domain of interpretation.
    pub doi: u32,
    /// Protocol of the SA that it is about.
    pub protocol: ProtocolId,
    /// SPI of that SA: both cookies for ISAKMP.
    pub spi: Vec<u8>,
    /// What it says.
    pub notify_type: NotifyType,
    /// More about it.
    pub data: Vec<u8>,
}

/// SAs that the sender has removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletePayload {
    /// Domain of interpretation.
    pub doi: u32,
    /// Protocol of the SAs.
    pub protocol: ProtocolId,
    /// Bytes of each SPI.
    pub spi_len: u8,
    /// The sender's inbound SPIs, or both cookies of an ISAKMP SA.
    pub spis: Vec<Vec<u8>>,
}

impl NotifyPayload {
    /// A notification of the IPsec domain.
    pub const fn new(protocol: ProtocolId, spi: Vec<u8>, notify_type: NotifyType, data: Vec<u8>) -> Self {
        Self {
            doi: DOI_IPSEC,
            protocol,
            spi,
            notify_type,
            data,
        }
    }
}

impl DeletePayload {
    /// Deletes one SA.
    pub fn one(protocol: ProtocolId, spi: Vec<u8>) -> Self {
        Self {
            doi: DOI_IPSEC,
            protocol,
            spi_len: u8::try_from(spi.len()).unwrap_or(u8::MAX),
            spis: vec![spi],
        }
    }
}

impl Payload {
    /// Its type.
    pub const fn payload_type(&self) -> PayloadType {
        match self {
            Self::Delete(_) => PayloadType::DELETE,
            Self::Hash(_) => PayloadType::HASH,
            Self::Id(_) => PayloadType::ID,
            Self::Ke(_) => PayloadType::KE,
            Self::NatD(_) => PayloadType::NAT_D,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::NOTIFY,
            Self::Other { payload_type, .. } => *payload_type,
            Self::Sa(_) => PayloadType::SA,
            Self::VendorId(_) => PayloadType::VENDOR_ID,
        }
    }

    pub(super) fn decode(payload_type: PayloadType, body: &[u8]) -> Result<Self, DecodeError> {
        Ok(match payload_type {
            PayloadType::DELETE => Self::Delete(decode_delete(body)?),
            PayloadType::HASH => Self::Hash(body.to_vec()),
            PayloadType::ID => Self::Id(decode_identification(body)?),
            PayloadType::KE => Self::Ke(body.to_vec()),
            PayloadType::NAT_D => Self::NatD(body.to_vec()),
            PayloadType::NONCE if NONCE_LEN.contains(&body.len()) => Self::Nonce(body.to_vec()),
            PayloadType::NONCE => return Err(DecodeError::Malformed(Element::Nonce)),
            PayloadType::NOTIFY => Self::Notify(decode_notify(body)?),
            PayloadType::SA => Self::Sa(SaPayload::decode(body)?),
            PayloadType::VENDOR_ID => Self::VendorId(body.to_vec()),
            _ => Self::Other {
                payload_type,
                body: body.to_vec(),
            },
        })
    }

    /// Appends the body, without the generic header.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Delete(delete) => {
                out.extend_from_slice(&delete.doi.to_be_bytes());
                out.extend_from_slice(&[delete.protocol.0, delete.spi_len]);
                out.extend_from_slice(&length_u16(delete.spis.len()));
                for spi in &delete.spis {
                    out.extend_from_slice(spi);
                }
            }
            Self::Hash(body)
            | Self::Ke(body)
            | Self::NatD(body)
            | Self::Nonce(body)
            | Self::Other { body, .. }
            | Self::VendorId(body) => out.extend_from_slice(body),
            Self::Id(id) => {
                out.extend_from_slice(&[id.id_type.0, id.protocol]);
                out.extend_from_slice(&id.port.to_be_bytes());
                out.extend_from_slice(&id.data);
            }
            Self::Notify(notify) => {
                let spi_len = u8::try_from(notify.spi.len()).unwrap_or(u8::MAX);
                out.extend_from_slice(&notify.doi.to_be_bytes());
                out.extend_from_slice(&[notify.protocol.0, spi_len]);
                out.extend_from_slice(&notify.notify_type.0.to_be_bytes());
                out.extend_from_slice(&notify.spi);
                out.extend_from_slice(&notify.data);
            }
            Self::Sa(sa) => sa.encode(out),
        }
    }
}

fn decode_identification(body: &[u8]) -> Result<Identification, DecodeError> {
    let mut cursor = Cursor::new(body, Element::Identification);
    Ok(Identification {
        id_type: IdType(cursor.u8()?),
        protocol: cursor.u8()?,
        port: cursor.u16()?,
        data: cursor.rest().to_vec(),
    })
}

fn decode_notify(body: &[u8]) -> Result<NotifyPayload, DecodeError> {
    let mut cursor = Cursor::new(body, Element::Notify);
    let doi = cursor.u32()?;
    let protocol = ProtocolId(cursor.u8()?);
    let spi_len = usize::from(cursor.u8()?);
    let notify_type = NotifyType(cursor.u16()?);
    Ok(NotifyPayload {
        doi,
        protocol,
        notify_type,
        spi: cursor.take(spi_len)?.to_vec(),
        data: cursor.rest().to_vec(),
    })
}

fn decode_delete(body: &[u8]) -> Result<DeletePayload, DecodeError> {
    let mut cursor = Cursor::new(body, Element::Delete);
    let doi = cursor.u32()?;
    let protocol = ProtocolId(cursor.u8()?);
    let spi_len = cursor.u8()?;
    let count = usize::from(cursor.u16()?);
    if count > MAX_DELETE_SPIS {
        return Err(DecodeError::TooMany(Element::Delete));
    }
    if spi_len == 0 && count != 0 {
        return Err(DecodeError::Malformed(Element::Delete));
    }
    let mut spis = Vec::new();
    for _ in 0..count {
        spis.push(cursor.take(usize::from(spi_len))?.to_vec());
    }
    cursor.finish()?;
    Ok(DeletePayload {
        doi,
        protocol,
        spi_len,
        spis,
    })
}
