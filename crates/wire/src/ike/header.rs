//! The IKE header (RFC 7296 section 3.1).

use super::{DecodeError, ExchangeType, PayloadType};
use crate::header::FixedHeader;

/// Bytes of the header.
pub const HEADER_LEN: usize = 28;
/// The version byte that we write: major 2, minor 0.
pub const VERSION_2: u8 = 0x20;

/// The SPI of one end of an IKE SA; zero means "not known yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeSpi(pub u64);

impl IkeSpi {
    /// The responder's SPI in the first message.
    pub const ZERO: Self = Self(0);
}

impl std::fmt::Debug for IkeSpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Flags of a message. Bits that are not named are ignored on input and written as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IkeFlags(pub u8);

impl IkeFlags {
    /// The sender is the original initiator of the IKE SA.
    pub const INITIATOR: Self = Self(0x08);
    /// The sender could speak a higher major version.
    pub const VERSION: Self = Self(0x10);
    /// The message is a response.
    pub const RESPONSE: Self = Self(0x20);
    /// No flag.
    pub const NONE: Self = Self(0);

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IkeHeader {
    /// SPI of the original initiator.
    pub initiator_spi: IkeSpi,
    /// SPI of the original responder.
    pub responder_spi: IkeSpi,
    /// Type of the first payload.
    pub next_payload: PayloadType,
    /// Minor version, any.
    pub minor_version: u8,
    /// Exchange type.
    pub exchange: ExchangeType,
    /// Flags.
    pub flags: IkeFlags,
    /// Message id.
    pub message_id: u32,
    /// Length of the whole message, bytes.
    pub length: u32,
}

impl IkeHeader {
    /// Reads the header at the start of `bytes`, which must be exactly one message.
    ///
    /// # Errors
    /// [`DecodeError::Version`] for another major version (nothing else of the message was looked at),
    /// [`DecodeError::Truncated`] or [`DecodeError::Malformed`] if the length does not fit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fixed = FixedHeader::decode(bytes, 2)?;
        Ok(Self {
            initiator_spi: fixed.initiator,
            responder_spi: fixed.responder,
            next_payload: PayloadType(fixed.next_payload),
            minor_version: fixed.minor_version(),
            exchange: ExchangeType(fixed.exchange),
            flags: IkeFlags(fixed.flags),
            message_id: fixed.message_id,
            length: fixed.length,
        })
    }

    /// Appends the header to `out`, version 2.0 whatever `minor_version` says.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fixed = FixedHeader {
            initiator: self.initiator_spi,
            responder: self.responder_spi,
            next_payload: self.next_payload.0,
            version: VERSION_2,
            exchange: self.exchange.0,
            flags: self.flags.0,
            message_id: self.message_id,
            length: self.length,
        };
        fixed.encode(out);
    }
}
