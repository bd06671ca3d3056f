//! What can go wrong with a message, by blame, and what the peer is told.

use isthmus_crypto::certificate::CertificateRefusal;
use isthmus_crypto::signature::SignatureError;
use isthmus_types::DhGroup;
use isthmus_wire::ike::{DecodeError, NotifyPayload, NotifyType, PayloadType};

use crate::algorithm::group_id;
use crate::status::DownReason;

/// Why a message led to no success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IkeError {
    /// The proof or an identity is wrong.
    #[error("authentication failed: {0}")]
    Authentication(AuthenticationFailure),
    /// We are at fault.
    #[error("internal: {0}")]
    Internal(&'static str),
    /// The bytes are no message.
    #[error("malformed message: {0}")]
    Malformed(DecodeError),
    /// Each end's configuration is valid, but they have nothing in common.
    #[error("{0}")]
    Mismatch(Mismatch),
    /// We do not want to, or not now.
    #[error("{0}")]
    Refused(Refusal),
    /// The message is well formed, but the peer must not send it.
    #[error("the peer violated the protocol: {0}")]
    Violation(Violation),
}

/// What is wrong with the proof or an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationFailure {
    /// The peer's certificate is not accepted.
    #[error("{0}")]
    Certificate(CertificateRefusal),
    /// The peer proved to know another key.
    #[error("the pre-shared keys differ")]
    Key,
    /// No connection has this peer identity.
    #[error("the peer calls itself {0}, which no connection expects")]
    Identity(String),
    /// The method is none that we support.
    #[error("the peer does not authenticate with a pre-shared key")]
    Method,
    /// What we are to prove ourselves with, or check the peer by, cannot be used.
    #[error("{0}")]
    OwnCredentials(String),
    /// The peer proves itself with a pre-shared key where a certificate is required.
    #[error("the peer authenticates with a pre-shared key, not with a certificate")]
    SharedKey,
    /// The certificate is good, but the proof is not that of its key.
    #[error("the proof of the peer {subject} is not accepted: {error}")]
    Signature {
        /// Whose certificate it is.
        subject: String,
        /// What is wrong with the proof.
        error: SignatureError,
    },
    /// The peer told us that our proof is wrong.
    #[error("the peer refused our key or identity")]
    ToldByPeer,
}

/// What the two ends do not have in common.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Child SA proposals.
    #[error("no ESP proposal in common: {0}")]
    Esp(String),
    /// IKE SA proposals.
    #[error("no IKE proposal in common: {0}")]
    Ike(String),
    /// The key exchange is in another group than the one we choose.
    #[error("the key exchange must use group {0}")]
    Group(DhGroup),
    /// Traffic selectors.
    #[error("the address ranges do not mirror each other: {0}")]
    Selectors(String),
}

/// What we do not want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The Child SA that it is about does not exist.
    #[error("the Child SA does not exist")]
    ChildNotFound {
        /// The SPI that the peer named.
        spi: u32,
    },
    /// There are enough Child SAs.
    #[error("no more Child SAs are accepted")]
    NoAdditionalSas,
    /// The request goes on with something that is not there (any more).
    #[error("the exchange that it goes on with is not known")]
    StateNotFound,
    /// There are enough Child SAs for the same traffic.
    #[error("no more Child SAs for the same traffic are accepted")]
    LaneLimit,
    /// It collides with what we are doing.
    #[error("it collides with an exchange under way")]
    Temporary,
}

/// What the peer must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The answer is not a subset of what was asked.
    #[error("the answer goes beyond the request")]
    BeyondRequest,
    /// A payload that is marked critical is unknown.
    #[error("the critical payload {0:?} is unknown")]
    CriticalPayload(PayloadType),
    /// A payload that there may be only one of.
    #[error("the payload {0:?} is there twice")]
    Duplicate(PayloadType),
    /// The integrity check or the padding is wrong.
    #[error("the message is not protected with the keys of the IKE SA")]
    Integrity,
    /// A payload that must be there is not.
    #[error("the payload {0:?} is missing")]
    Missing(PayloadType),
    /// The public value is not valid in its group.
    #[error("the public value of the key exchange is invalid")]
    PublicValue,
    /// The SPI cannot be used.
    #[error("the SPI is zero, reserved or in use")]
    Spi,
    /// The exchange is not expected in this state.
    #[error("the exchange is not expected now")]
    UnexpectedExchange,
}

impl IkeError {
    /// The notify that answers a request which led to this, if any.
    pub(crate) fn notify(&self) -> Option<NotifyPayload> {
        match self {
            Self::Authentication(_) => Some(empty(NotifyType::AUTHENTICATION_FAILED)),
            Self::Internal(_) => Some(empty(NotifyType::TEMPORARY_FAILURE)),
            Self::Malformed(_) => Some(empty(NotifyType::INVALID_SYNTAX)),
            Self::Mismatch(mismatch) => Some(mismatch.notify()),
            Self::Refused(refusal) => Some(refusal.notify()),
            Self::Violation(violation) => violation.notify(),
        }
    }

    /// How it shows in the state of a connection.
    pub(crate) const fn down_reason(&self) -> DownReason {
        match self {
            Self::Authentication(_) => DownReason::AuthenticationFailed,
            Self::Internal(_) | Self::Malformed(_) | Self::Violation(_) => DownReason::Internal,
            Self::Mismatch(Mismatch::Esp(_) | Mismatch::Group(_)) => DownReason::IpsecProposalMismatch,
            Self::Mismatch(Mismatch::Ike(_)) => DownReason::IkeProposalMismatch,
            Self::Mismatch(Mismatch::Selectors(_)) => DownReason::SelectorMismatch,
            Self::Refused(_) => DownReason::Negotiating,
        }
    }
}

impl Mismatch {
    fn notify(&self) -> NotifyPayload {
        match self {
            Self::Esp(_) | Self::Ike(_) => empty(NotifyType::NO_PROPOSAL_CHOSEN),
            Self::Group(group) => NotifyPayload::new(
                NotifyType::INVALID_KE_PAYLOAD,
                group_id(*group).0.to_be_bytes().to_vec(),
            ),
            Self::Selectors(_) => empty(NotifyType::TS_UNACCEPTABLE),
        }
    }
}

impl Refusal {
    fn notify(self) -> NotifyPayload {
        match self {
            Self::ChildNotFound { spi } => NotifyPayload::about_esp(NotifyType::CHILD_SA_NOT_FOUND, spi),
            Self::LaneLimit => empty(NotifyType::TS_MAX_QUEUE),
            Self::NoAdditionalSas => empty(NotifyType::NO_ADDITIONAL_SAS),
            Self::StateNotFound => empty(NotifyType::STATE_NOT_FOUND),
            Self::Temporary => empty(NotifyType::TEMPORARY_FAILURE),
        }
    }
}

impl Violation {
    fn notify(self) -> Option<NotifyPayload> {
        match self {
            Self::CriticalPayload(payload_type) => Some(NotifyPayload::new(
                NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD,
                vec![payload_type.0],
            )),
            Self::Integrity | Self::UnexpectedExchange => None,
            Self::BeyondRequest | Self::Duplicate(_) | Self::Missing(_) | Self::PublicValue | Self::Spi => {
                Some(empty(NotifyType::INVALID_SYNTAX))
            }
        }
    }
}

const fn empty(notify_type: NotifyType) -> NotifyPayload {
    NotifyPayload::new(notify_type, Vec::new())
}
