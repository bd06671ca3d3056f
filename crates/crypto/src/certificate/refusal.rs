//! Why certificates are not accepted. Each sentence names what to look at.

use isthmus_types::Timestamp;

use crate::signature::KeyError;

/// Why a peer's certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// The signature on a certificate or revocation list is not that of its issuer.
    #[error(
        "a signature in the certificate chain of {subject} is not that of its issuer: the issuer has another key"
    )]
    BadSignature {
        /// The peer's certificate.
        subject: String,
    },
    /// A certificate is past its end.
    #[error("the certificate {subject} expired at {not_after}, now is {now}: renew it")]
    Expired {
        /// Whose.
        subject: String,
        /// Its end.
        not_after: Timestamp,
        /// The time that it was checked at.
        now: Timestamp,
    },
    /// It is no certificate.
    #[error("the peer sent a certificate that cannot be read")]
    Malformed,
    /// An authority does not let those below it carry such a name.
    #[error("an authority above the certificate {subject} forbids its names ({names})")]
    NameConstraint {
        /// The peer's certificate.
        subject: String,
        /// Its names.
        names: String,
    },
    /// None was sent.
    #[error("the peer sent no certificate: configure one there and have it sent always")]
    None,
    /// A certificate is used before its beginning.
    #[error("the certificate {subject} is valid from {not_before} only, now is {now}: compare the clocks")]
    NotYetValid {
        /// Whose.
        subject: String,
        /// Its beginning.
        not_before: Timestamp,
        /// The time that it was checked at.
        now: Timestamp,
    },
    /// It must not be used for this.
    #[error("the certificate {subject} must not be used for IKE: {detail}")]
    Purpose {
        /// Whose.
        subject: String,
        /// What says so.
        detail: String,
    },
    /// It was revoked.
    #[error("the certificate {subject} with serial number {serial} was revoked by {issuer}")]
    Revoked {
        /// Whose.
        subject: String,
        /// Its serial number, hexadecimal.
        serial: String,
        /// Who revoked it.
        issuer: String,
    },
    /// There is no revocation list of its authority, and one is required.
    #[error(
        "there is no usable revocation list for the certificate {subject} of {issuer}, and one is required"
    )]
    RevocationListMissing {
        /// The peer's certificate.
        subject: String,
        /// Who should have issued the list.
        issuer: String,
    },
    /// The revocation list of its authority is too old, and a valid one is required.
    #[error(
        "the revocation list for the certificate {subject} should have been replaced at {next_update}: fetch a new one"
    )]
    RevocationListStale {
        /// The peer's certificate.
        subject: String,
        /// When the next one was due.
        next_update: Timestamp,
    },
    /// The chain is longer, or leads in more circles, than is followed.
    #[error("the certificate chain of {subject} is too long")]
    TooLong {
        /// The peer's certificate.
        subject: String,
    },
    /// It does not come from an authority that we know.
    #[error("the certificate {subject} is issued by {issuer}, and no configured authority leads there")]
    UnknownIssuer {
        /// The peer's certificate.
        subject: String,
        /// Who issued it.
        issuer: String,
    },
    /// It has an extension that must be understood, and is not.
    #[error("a certificate in the chain of {subject} has a critical extension that is not supported{detail}")]
    UnsupportedExtension {
        /// The peer's certificate.
        subject: String,
        /// Its object identifier, if it is told.
        detail: String,
    },
    /// An algorithm that can be forged, or a key that can be broken.
    #[error("the certificate {subject} is too weak: {detail}")]
    Weak {
        /// Whose.
        subject: String,
        /// What of it.
        detail: String,
    },
    /// It does not give its holder the name that the peer presents.
    #[error("the peer presents {presented}, its certificate has {names}")]
    WrongName {
        /// The subject of the certificate.
        subject: String,
        /// What the peer calls itself.
        presented: String,
        /// The names of the certificate.
        names: String,
    },
}

impl CertificateRefusal {
    /// Whose certificate it is about, if that is known.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Malformed | Self::None => None,
            Self::BadSignature { subject }
            | Self::Expired { subject, .. }
            | Self::NameConstraint { subject, .. }
            | Self::NotYetValid { subject, .. }
            | Self::Purpose { subject, .. }
            | Self::Revoked { subject, .. }
            | Self::RevocationListMissing { subject, .. }
            | Self::RevocationListStale { subject, .. }
            | Self::TooLong { subject }
            | Self::UnknownIssuer { subject, .. }
            | Self::UnsupportedExtension { subject, .. }
            | Self::Weak { subject, .. }
            | Self::WrongName { subject, .. } => Some(subject),
        }
    }

    /// What was seen beyond the kind of refusal, in a few words that do not change from one try to the next.
    pub fn detail(&self) -> String {
        match self {
            Self::BadSignature { .. } => {
                "a signature in its chain is not that of the issuer: it has another key".into()
            }
            Self::Expired { not_after, .. } => format!("until {not_after}"),
            Self::Malformed => "it cannot be read".into(),
            Self::NameConstraint { names, .. } => names.clone(),
            Self::None => String::new(),
            Self::NotYetValid { not_before, .. } => format!("from {not_before}"),
            Self::Purpose { detail, .. } | Self::Weak { detail, .. } => detail.clone(),
            Self::Revoked { serial, issuer, .. } => format!("serial number {serial}, by {issuer}"),
            Self::RevocationListMissing { issuer, .. } | Self::UnknownIssuer { issuer, .. } => {
                format!("issued by {issuer}")
            }
            Self::RevocationListStale { next_update, .. } => format!("a newer one was due at {next_update}"),
            Self::TooLong { .. } => "its chain is too long".into(),
            Self::UnsupportedExtension { detail, .. } => detail.trim().to_owned(),
            Self::WrongName { presented, names, .. } => {
                format!("the peer is {presented}, the certificate has {names}")
            }
        }
    }
}

/// Why our own credentials or authorities cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A certificate cannot be read.
    #[error("a configured certificate cannot be read: it must be X.509 in PEM")]
    Certificate,
    /// The private key, or the key of our certificate, cannot be used.
    #[error("{0}")]
    Key(#[source] KeyError),
    /// There is no authority.
    #[error("no authority is configured for the peer's certificate")]
    NoAuthority,
    /// There is no certificate of ours.
    #[error("no certificate is configured")]
    NoCertificate,
    /// The private key is not that of the certificate.
    #[error("the configured private key is not that of our certificate {0}")]
    OtherKey(String),
    /// A revocation list cannot be read.
    #[error(
        "a configured revocation list cannot be read: it must be X.509 version 2 in PEM, with a next update"
    )]
    RevocationList,
}
