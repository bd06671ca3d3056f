//! The delete payload (RFC 7296 section 3.11).

use super::cursor::{Cursor, length_u16};
use super::{DecodeError, Element, MAX_DELETE_SPIS, ProtocolId};

/// SAs that the sender has removed from its inbound side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletePayload {
    /// Protocol of the SAs.
    pub protocol: ProtocolId,
    /// Bytes of each SPI: 0 for IKE, 4 for ESP and AH.
    pub spi_len: u8,
    /// The sender's inbound SPIs, one after the other.
    pub spis: Vec<Vec<u8>>,
}

impl DeletePayload {
    /// Deletes the IKE SA that the message is sent on.
    pub const fn ike() -> Self {
        Self {
            protocol: ProtocolId::IKE,
            spi_len: 0,
            spis: Vec::new(),
        }
    }

    /// Deletes ESP SAs by the sender's inbound SPIs.
    pub fn esp(spis: &[u32]) -> Self {
        Self {
            protocol: ProtocolId::ESP,
            spi_len: 4,
            spis: spis.iter().map(|spi| spi.to_be_bytes().to_vec()).collect(),
        }
    }

    /// The SPIs of an ESP or AH delete; none for other lengths.
    pub fn spis_u32(&self) -> impl Iterator<Item = u32> + '_ {
        self.spis
            .iter()
            .filter_map(|spi| spi.as_slice().try_into().ok().map(u32::from_be_bytes))
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body, Element::Delete);
        let protocol = ProtocolId(cursor.u8()?);
        let spi_len = cursor.u8()?;
        let count = usize::from(cursor.u16()?);
        if count > MAX_DELETE_SPIS {
            return Err(DecodeError::TooMany(Element::Delete));
        }
        if spi_len == 0 && count != 0 {
            return Err(DecodeError::Malformed(Element::Delete));
        }
        let mut spis = Vec::with_capacity(count);
        for _ in 0..count {
            spis.push(cursor.take(usize::from(spi_len))?.to_vec());
        }
        cursor.finish()?;
        Ok(Self {
            protocol,
            spi_len,
            spis,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.protocol.0, self.spi_len]);
        out.extend_from_slice(&length_u16(self.spis.len()));
        for spi in &self.spis {
            out.extend_from_slice(spi);
        }
    }
}
