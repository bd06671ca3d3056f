//! Why a message of IKEv1 led to no success.

use isthmus_wire::isakmp::NotifyType;

use crate::error::IkeError;
use crate::finding::FindingKind;

/// By blame; what was found out about it goes into the diary.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// A hash is wrong or missing: the message is not authentic.
    #[error("the hash of the message is wrong")]
    Hash,
    /// The ends do not suit each other.
    #[error("the ends do not suit each other")]
    Found(NotifyType, Box<FindingKind>),
    /// We are at fault.
    #[error("{0}")]
    Internal(#[from] IkeError),
    /// The bytes are no message, or were encrypted with another key.
    #[error("the message is malformed, or encrypted with another key")]
    Malformed,
    /// A payload that must be there is not.
    #[error("the payload {0} is missing")]
    Missing(&'static str),
    /// A public value, SPI or nonce is not valid.
    #[error("{0} is not valid")]
    Invalid(&'static str),
}

impl Fault {
    /// What the peer is told, if anything.
    pub(super) const fn notify_type(&self) -> Option<NotifyType> {
        match self {
            Self::Found(notify_type, _) => Some(*notify_type),
            Self::Hash | Self::Internal(_) => None,
            Self::Malformed | Self::Missing(_) => Some(NotifyType::PAYLOAD_MALFORMED),
            Self::Invalid(_) => Some(NotifyType::INVALID_KEY_INFORMATION),
        }
    }
}
