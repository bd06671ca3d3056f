//! The notify payload (RFC 7296 section 3.10).

use super::cursor::Cursor;
use super::{DecodeError, Element, NotifyType, ProtocolId};

/// An error or a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyPayload {
    /// Protocol of the SA it is about.
    pub protocol: ProtocolId,
    /// SPI of the SA it is about; empty if it is about none or about the IKE SA.
    pub spi: Vec<u8>,
    /// What it says.
    pub notify_type: NotifyType,
    /// Data that belongs to the type.
    pub data: Vec<u8>,
}

impl NotifyPayload {
    /// A notify about no particular SA.
    pub const fn new(notify_type: NotifyType, data: Vec<u8>) -> Self {
        Self {
            protocol: ProtocolId::NONE,
            spi: Vec::new(),
            notify_type,
            data,
        }
    }

    /// A notify about the ESP SA with the sender's inbound SPI.
    pub fn about_esp(notify_type: NotifyType, spi: u32) -> Self {
        Self {
            protocol: ProtocolId::ESP,
            spi: spi.to_be_bytes().to_vec(),
            notify_type,
            data: Vec::new(),
        }
    }

    /// The SPI of an ESP or AH SA.
    pub fn spi_u32(&self) -> Option<u32> {
        self.spi.as_slice().try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body, Element::Notify);
        let protocol = ProtocolId(cursor.u8()?);
        let spi_len = usize::from(cursor.u8()?);
        let notify_type = NotifyType(cursor.u16()?);
        let spi = cursor.take(spi_len)?.to_vec();
        Ok(Self {
            protocol,
            spi,
            notify_type,
            data: cursor.rest().to_vec(),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let spi_len = u8::try_from(self.spi.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&[self.protocol.0, spi_len]);
        out.extend_from_slice(&self.notify_type.0.to_be_bytes());
        out.extend_from_slice(&self.spi);
        out.extend_from_slice(&self.data);
    }
}
