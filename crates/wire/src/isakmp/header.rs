//! The ISAKMP header (RFC 2408 section 3.1).

use super::{ExchangeType, PayloadType};
use crate::header::FixedHeader;
use crate::ike::{DecodeError, HEADER_LEN, IkeSpi};

/// The version byte that we write: major 1, minor 0.
pub const VERSION_1: u8 = 0x10;

/// Flags of a message. Bits that are not named are ignored on input and written as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsakmpFlags(pub u8);

impl IsakmpFlags {
    /// What follows the header is encrypted.
    pub const ENCRYPTION: Self = Self(0x01);
    /// The sender tells when its SA may be used.
    pub const COMMIT: Self = Self(0x02);
    /// Authenticated but not encrypted.
    pub const AUTHENTICATION_ONLY: Self = Self(0x04);
    /// No flag.
    pub const NONE: Self = Self(0);

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The header of a message. It is as long as that of IKEv2, [`HEADER_LEN`], and its cookies are what SPIs are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsakmpHeader {
    /// Cookie of the initiator of phase 1.
    pub initiator_cookie: IkeSpi,
    /// Cookie of the responder of phase 1.
    pub responder_cookie: IkeSpi,
    /// Type of the first payload.
    pub next_payload: PayloadType,
    /// Minor version, any.
    pub minor_version: u8,
    /// Exchange type.
    pub exchange: ExchangeType,
    /// Flags.
    pub flags: IsakmpFlags,
    /// Message id: zero in phase 1.
    pub message_id: u32,
    /// Length of the whole message, bytes.
    pub length: u32,
}

impl IsakmpHeader {
    /// Reads the header at the start of `bytes`, which must be exactly one message.
    ///
    /// # Errors
    /// [`DecodeError::Version`] for another major version, [`DecodeError::Truncated`] or [`DecodeError::Malformed`] if
    /// the length does not fit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fixed = FixedHeader::decode(bytes, 1)?;
        Ok(Self {
            initiator_cookie: fixed.initiator,
            responder_cookie: fixed.responder,
            next_payload: PayloadType(fixed.next_payload),
            minor_version: fixed.minor_version(),
            exchange: ExchangeType(fixed.exchange),
            flags: IsakmpFlags(fixed.flags),
            message_id: fixed.message_id,
            length: fixed.length,
        })
    }

    /// Appends the header to `out`, version 1.0 whatever `minor_version` says, for a message of `len` bytes in all.
    pub fn encode(&self, len: usize, out: &mut Vec<u8>) {
        debug_assert!(len >= HEADER_LEN, "the length covers the header");
        let fixed = FixedHeader {
            initiator: self.initiator_cookie,
            responder: self.responder_cookie,
            next_payload: self.next_payload.0,
            version: VERSION_1,
            exchange: self.exchange.0,
            flags: self.flags.0,
            message_id: self.message_id,
            length: u32::try_from(len).unwrap_or(u32::MAX),
        };
        fixed.encode(out);
    }
}
