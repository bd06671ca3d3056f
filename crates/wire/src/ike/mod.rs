//! IKEv2 messages (RFC 7296 section 3) as bytes and as values.
//!
//! [`Message::decode`] reads a datagram (without the non-ESP marker) through one bounded cursor: every count and
//! length that the peer states is checked against the bytes that are there and against the limits in this module.
//! An encrypted payload is returned as the place where it stands; its content is decoded with [`decode_chain`] once
//! the caller has verified and decrypted it. [`encode_chain`] and [`IkeHeader::encode`] write messages.
//!
//! Codepoints are integer newtypes, and payloads of an unknown type keep their bytes: what we do not know
//! survives. IKEv1 has its own module, [`crate::isakmp`].

mod authentication;
mod certificate;
pub(crate) mod codepoint;
pub(crate) mod cursor;
mod delete;
mod header;
mod identification;
mod key_exchange;
mod message;
mod notify;
mod proposal;
mod selector;
pub(crate) mod substructure;

pub use authentication::AuthPayload;
pub use certificate::CertificatePayload;
pub use codepoint::{
    AuthMethod, CertificateEncoding, ExchangeType, HashAlgorithm, IdType, NotifyType, PayloadType,
    ProtocolId, TransformId, TransformType, TsType,
};
pub use delete::DeletePayload;
pub use header::{HEADER_LEN, IkeFlags, IkeHeader, IkeSpi, VERSION_2};
pub use identification::Identification;
pub use key_exchange::KePayload;
pub use message::{
    EncryptedPlace, FRAGMENT_NUMBER_LEN, FragmentNumber, GENERIC_HEADER_LEN, Message, Payload, RawPayload,
    decode_chain, encode_chain, encode_fragment_number, encode_generic_header, encode_message,
};
pub use notify::NotifyPayload;
pub use proposal::{Attribute, Proposal, Transform};
pub use selector::TrafficSelector;

/// Longest message that is read, bytes.
pub const MAX_MESSAGE_LEN: usize = 65_535;
/// Most payloads of one message or encrypted chain.
pub const MAX_PAYLOADS: usize = 64;
/// Most proposals of one security association payload.
pub const MAX_PROPOSALS: usize = 32;
/// Most transforms of one proposal.
pub const MAX_TRANSFORMS: usize = 64;
/// Most attributes of one transform.
pub const MAX_ATTRIBUTES: usize = 8;
/// Most traffic selectors of one payload.
pub const MAX_SELECTORS: usize = 32;
/// Most SPIs of one delete payload.
pub const MAX_DELETE_SPIS: usize = 64;

/// What was wrong with bytes that should have been an IKE message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// More items than the limit allows.
    TooMany(Element),
    /// The bytes ended inside the element.
    Truncated(Element),
    /// Bytes are left over after the element.
    TrailingBytes(Element),
    /// A length or value that the element cannot have.
    Malformed(Element),
    /// A major version that is not 2 (the header is well formed as far as that can be told).
    Version(u8),
}

/// The part of a message that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Data attribute of a transform.
    Attribute,
    /// AUTH payload.
    Authentication,
    /// CERT or CERTREQ payload.
    Certificate,
    /// Delete payload.
    Delete,
    /// Encrypted payload.
    Encrypted,
    /// Generic payload header.
    GenericHeader,
    /// IKE header.
    Header,
    /// IDi or IDr payload.
    Identification,
    /// KE payload.
    KeyExchange,
    /// The whole message.
    Message,
    /// Nonce payload.
    Nonce,
    /// Notify payload.
    Notify,
    /// Proposal substructure.
    Proposal,
    /// TSi or TSr payload.
    TrafficSelector,
    /// Transform substructure.
    Transform,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooMany(element) => write!(f, "too many items in {element:?}"),
            Self::Truncated(element) => write!(f, "{element:?} is truncated"),
            Self::TrailingBytes(element) => write!(f, "bytes are left over after {element:?}"),
            Self::Malformed(element) => write!(f, "{element:?} is malformed"),
            Self::Version(version) => write!(f, "major version {version} is not 2"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests;
