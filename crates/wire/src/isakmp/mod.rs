//! IKEv1 messages (ISAKMP: RFC 2408, with RFC 2407, 2409 and 3947) as bytes and as values.
//!
//! [`IsakmpHeader::decode`] reads the header of a datagram; what follows is a chain of payloads, in clear or encrypted.
//! [`Chain::decode`] reads the chain through one bounded cursor and tells where each payload stands, because the
//! hashes of IKEv1 run over payloads exactly as sent. An encrypted chain ends where its last payload ends: what comes
//! after is padding.
//!
//! Codepoints are integer newtypes, and payloads of an unknown type keep their bytes.

mod chain;
mod codepoint;
mod header;
mod payload;
mod proposal;

pub use chain::{Chain, encode_chain, encode_message};
pub use codepoint::{ExchangeType, IdType, NotifyType, PayloadType, ProtocolId};
pub use header::{IsakmpFlags, IsakmpHeader, VERSION_1};
pub use payload::{DeletePayload, Identification, NotifyPayload, Payload};
pub use proposal::{Attribute, Proposal, SaPayload, Transform};

/// Domain of interpretation: IPsec (RFC 2407).
pub const DOI_IPSEC: u32 = 1;
/// Most payloads of one message.
pub const MAX_PAYLOADS: usize = 64;
/// Most proposals of one security association payload.
pub const MAX_PROPOSALS: usize = 32;
/// Most transforms of one proposal.
pub const MAX_TRANSFORMS: usize = 255;
/// Most attributes of one transform.
pub const MAX_ATTRIBUTES: usize = 16;
/// Most SPIs of one delete payload.
pub const MAX_DELETE_SPIS: usize = 64;

#[cfg(test)]
mod tests;
