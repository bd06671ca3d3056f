//! Whether a peer's chain leads to an authority (RFC 5280 section 6).

use std::time::Duration;

use isthmus_types::Timestamp;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeId,
    KeyPurposeIdIter, RequiredEkuNotFoundContext, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy, anchor_from_trusted_cert, aws_lc_rs as algorithms,
};
use x509_cert::der::Encode as _;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5912;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::{Authorities, Certificate, CertificateRefusal, MAX_CERTIFICATES, VerifiedCertificate};
use crate::signature::{KeyError, PublicKey};

/// What certificates and revocation lists may be signed with.
const SIGNED_WITH: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Signature algorithms whose hash is broken.
const BROKEN: [(ObjectIdentifier, &str); 4] = [
    (rfc5912::MD_5_WITH_RSA_ENCRYPTION, "MD5"),
    (rfc5912::MD_2_WITH_RSA_ENCRYPTION, "MD2"),
    (rfc5912::SHA_1_WITH_RSA_ENCRYPTION, "SHA-1"),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"), "SHA-1"),
];

/// id-kp-ipsecIKE.
const IPSEC_IKE: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x11";

/// Purposes that suit an IKE peer (RFC 4945 section 5.1.3.12, and what the field's authorities issue): serverAuth,
/// clientAuth, the three of old IPsec, IKE, IKE intermediate, and any.
const PURPOSES: [&[u8]; 8] = [
    b"\x2b\x06\x01\x05\x05\x07\x03\x01",
    b"\x2b\x06\x01\x05\x05\x07\x03\x02",
    b"\x2b\x06\x01\x05\x05\x07\x03\x05",
    b"\x2b\x06\x01\x05\x05\x07\x03\x06",
    b"\x2b\x06\x01\x05\x05\x07\x03\x07",
    IPSEC_IKE,
    b"\x2b\x06\x01\x05\x05\x08\x02\x02",
    b"\x55\x1d\x25\x00",
];

/// A certificate that names purposes must name one that suits; one that names none suits any.
struct IkePurpose;

impl ExtendedKeyUsageValidator for IkePurpose {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let mut named = false;
        let mut suits = false;
        for purpose in &mut purposes {
            let purpose = purpose?;
            named = true;
            suits |= PURPOSES.iter().any(|known| KeyPurposeId::new(known) == purpose);
        }
        if named && !suits {
            Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext {
                required: webpki::KeyUsage::required_if_present(IPSEC_IKE),
                present: Vec::new(),
            }))
        } else {
            Ok(())
        }
    }
}

impl Authorities {
    /// Whether `chain`, the peer's certificate and in any order those above it, leads to an authority at `now`.
    ///
    /// Every certificate of the path must be valid, strong, allowed to be where it stands, and not be revoked by any
    /// list that we have. Where a list is required, there must be one in force for every certificate of the path.
    ///
    /// # Errors
    /// The [`CertificateRefusal`] that says why not.
    pub fn verify(&self, chain: &[&[u8]], now: Timestamp) -> Result<VerifiedCertificate, CertificateRefusal> {
        let (first, above) = chain.split_first().ok_or(CertificateRefusal::None)?;
        let leaf = Certificate::from_der(first)?;
        if above.len() >= MAX_CERTIFICATES {
            return Err(CertificateRefusal::TooLong {
                subject: leaf.subject().to_string(),
            });
        }
        let key = strong(&leaf)?;
        check_leaf_usage(&leaf)?;
        // One that is too weak or must not sign is as if it were not there, but explains why a path is missing.
        let mut between = Vec::new();
        let mut unusable = None;
        for der in above {
            let certificate = Certificate::from_der(der)?;
            match strong(&certificate).and_then(|_| check_signer_usage(&certificate)) {
                Ok(()) => between.push(certificate),
                Err(refusal) => unusable = unusable.or(Some(refusal)),
            }
        }
        match self.find_path(&leaf, &between, now) {
            Ok(()) => Ok(VerifiedCertificate {
                certificate: leaf,
                key,
            }),
            Err(error) => {
                let refusal = self.explain(&error, &leaf, &between, now);
                Err(match (refusal, unusable) {
                    (CertificateRefusal::UnknownIssuer { .. }, Some(unusable)) => unusable,
                    (refusal, _) => refusal,
                })
            }
        }
    }

    fn find_path(&self, leaf: &Certificate, between: &[Certificate], now: Timestamp) -> Result<(), Error> {
        let end = EndEntityCert::try_from(&leaf.der)?;
        let at = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        // An authority whose own time is over, or whose key is too weak, is none.
        let trusted: Vec<&Certificate> = self
            .certificates
            .iter()
            .filter(|certificate| is_in_force(certificate, now) && strong_key(certificate).is_ok())
            .collect();
        let anchors: Vec<TrustAnchor<'_>> = trusted
            .iter()
            .map(|certificate| anchor_from_trusted_cert(&certificate.der))
            .collect::<Result<_, _>>()?;
        let between: Vec<CertificateDer<'_>> = between
            .iter()
            .map(|certificate| certificate.der.clone())
            .collect();
        let lists: Vec<&CertRevocationList<'_>> = self.revocation_lists.iter().collect();
        let (status, expiration) = if self.require_revocation_list {
            (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce)
        } else {
            (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore)
        };
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            builder
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(status)
                .with_expiration_policy(expiration)
                .build()
        });
        let checked = revocation.is_some();
        end.verify_for_usage(SIGNED_WITH, &anchors, &between, at, IkePurpose, revocation, None)?;
        if self.require_revocation_list && !checked {
            return Err(Error::UnknownRevocationStatus);
        }
        Ok(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest of the library's many errors mean the same to a reader"
    )]
    fn explain(
        &self,
        error: &Error,
        leaf: &Certificate,
        between: &[Certificate],
        now: Timestamp,
    ) -> CertificateRefusal {
        let subject = leaf.subject().to_string();
        let issuer = leaf.issuer().to_string();
        let chain = || std::iter::once(leaf).chain(between);
        match error {
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } | Error::InvalidCertValidity => chain()
                .find_map(|certificate| out_of_force(certificate, now))
                .unwrap_or(CertificateRefusal::Malformed),
            Error::CertRevoked => {
                let revoked = chain()
                    .find(|certificate| self.revokes(certificate))
                    .unwrap_or(leaf);
                CertificateRefusal::Revoked {
                    subject: revoked.subject().to_string(),
                    serial: revoked.serial(),
                    issuer: revoked.issuer().to_string(),
                }
            }
            Error::UnknownRevocationStatus
            | Error::UnsupportedIndirectCrl
            | Error::UnsupportedDeltaCrl
            | Error::IssuerNotCrlSigner => CertificateRefusal::RevocationListMissing { subject, issuer },
            Error::CrlExpired { next_update, .. } => CertificateRefusal::RevocationListStale {
                subject,
                next_update: Timestamp(next_update.as_secs().saturating_mul(1000)),
            },
            Error::UnsupportedCriticalExtension => CertificateRefusal::UnsupportedExtension {
                detail: chain().find_map(unsupported_extension).unwrap_or_default(),
                subject,
            },
            Error::NameConstraintViolation
            | Error::MalformedNameConstraint
            | Error::InvalidNetworkMaskConstraint
            | Error::MaximumNameConstraintComparisonsExceeded => CertificateRefusal::NameConstraint {
                subject,
                names: leaf.describe_names(),
            },
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => CertificateRefusal::Purpose {
                subject,
                detail: "its extended key usage names other purposes".into(),
            },
            Error::CaUsedAsEndEntity => CertificateRefusal::Purpose {
                subject,
                detail: "it is an authority's".into(),
            },
            Error::PathLenConstraintViolated
            | Error::MaximumPathBuildCallsExceeded
            | Error::MaximumPathDepthExceeded
            | Error::MaximumSignatureChecksExceeded => CertificateRefusal::TooLong { subject },
            Error::InvalidSignatureForPublicKey
            | Error::InvalidCrlSignatureForPublicKey
            | Error::SignatureAlgorithmMismatch => CertificateRefusal::BadSignature { subject },
            Error::UnknownIssuer | Error::EndEntityUsedAsCa => {
                self.explain_unknown_issuer(leaf, between, now)
            }
            Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | Error::UnsupportedCrlSignatureAlgorithmContext(_)
            | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => CertificateRefusal::Weak {
                subject,
                detail: "it or one above it is signed with an algorithm that is not accepted".into(),
            },
            _ => CertificateRefusal::Malformed,
        }
    }

    /// A path may be missing because the authority at its end is not in force.
    fn explain_unknown_issuer(
        &self,
        leaf: &Certificate,
        between: &[Certificate],
        now: Timestamp,
    ) -> CertificateRefusal {
        let top = std::iter::once(leaf).chain(between);
        for issuer in top.map(Certificate::issuer) {
            let named = self
                .certificates
                .iter()
                .find(|authority| authority.subject() == issuer);
            if let Some(authority) = named
                && let Some(refusal) = out_of_force(authority, now).or_else(|| strong_key(authority).err())
            {
                return refusal;
            }
        }
        CertificateRefusal::UnknownIssuer {
            subject: leaf.subject().to_string(),
            issuer: leaf.issuer().to_string(),
        }
    }

    fn revokes(&self, certificate: &Certificate) -> bool {
        let tbs = certificate.parsed.tbs_certificate();
        let Ok(issuer) = tbs.issuer().to_der() else {
            return false;
        };
        let serial = tbs.serial_number().as_bytes();
        self.revocation_lists.iter().any(|list| {
            issuer.ends_with(list.issuer())
                && [serial, serial.strip_prefix(&[0]).unwrap_or(serial)]
                    .into_iter()
                    .any(|serial| matches!(list.find_serial(serial), Ok(Some(_))))
        })
    }
}

fn is_in_force(certificate: &Certificate, now: Timestamp) -> bool {
    out_of_force(certificate, now).is_none()
}

fn out_of_force(certificate: &Certificate, now: Timestamp) -> Option<CertificateRefusal> {
    let (from, until) = certificate.validity();
    let (from, until) = (
        Timestamp(from.saturating_mul(1000)),
        Timestamp(until.saturating_mul(1000).saturating_add(999)),
    );
    let subject = || certificate.subject().to_string();
    if now < from {
        Some(CertificateRefusal::NotYetValid {
            subject: subject(),
            not_before: from,
            now,
        })
    } else if now > until {
        Some(CertificateRefusal::Expired {
            subject: subject(),
            not_after: until,
            now,
        })
    } else {
        None
    }
}

/// The key of a certificate whose key and own signature can be relied on.
fn strong(certificate: &Certificate) -> Result<PublicKey, CertificateRefusal> {
    let signed_with = certificate.parsed.signature_algorithm().oid;
    if let Some((_, hash)) = BROKEN.iter().find(|(oid, _)| *oid == signed_with) {
        return Err(CertificateRefusal::Weak {
            subject: certificate.subject().to_string(),
            detail: format!("it is signed with {hash}"),
        });
    }
    strong_key(certificate)
}

fn strong_key(certificate: &Certificate) -> Result<PublicKey, CertificateRefusal> {
    PublicKey::new(certificate.parsed.tbs_certificate().subject_public_key_info()).map_err(
        |error| match error {
            KeyError::Malformed => CertificateRefusal::Malformed,
            KeyError::Unsupported | KeyError::Weak(_) => CertificateRefusal::Weak {
                subject: certificate.subject().to_string(),
                detail: error.to_string(),
            },
        },
    )
}

/// RFC 4945 section 5.1.3.2: where there is a key usage, it must allow signatures.
fn check_leaf_usage(certificate: &Certificate) -> Result<(), CertificateRefusal> {
    let usage = certificate
        .parsed
        .tbs_certificate()
        .get_extension::<KeyUsage>()
        .map_err(|_| CertificateRefusal::Malformed)?;
    match usage {
        Some((_, usage)) if !usage.digital_signature() && !usage.non_repudiation() => {
            Err(CertificateRefusal::Purpose {
                subject: certificate.subject().to_string(),
                detail: "its key usage does not allow signatures".into(),
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// RFC 5280 section 6.1.4: who signs certificates must be an authority and allowed to.
fn check_signer_usage(certificate: &Certificate) -> Result<(), CertificateRefusal> {
    let tbs = certificate.parsed.tbs_certificate();
    let constraints = tbs
        .get_extension::<BasicConstraints>()
        .map_err(|_| CertificateRefusal::Malformed)?;
    let usage = tbs
        .get_extension::<KeyUsage>()
        .map_err(|_| CertificateRefusal::Malformed)?;
    let is_authority = constraints.is_some_and(|(_, constraints)| constraints.ca);
    let may_sign = usage.is_none_or(|(_, usage)| usage.key_cert_sign());
    if is_authority && may_sign {
        Ok(())
    } else {
        Err(CertificateRefusal::Purpose {
            subject: certificate.subject().to_string(),
            detail: "it is no authority's, but stands where one must".into(),
        })
    }
}

fn unsupported_extension(certificate: &Certificate) -> Option<String> {
    // Those that the path validation knows (RFC 5280 section 4.2.1).
    const KNOWN: [ObjectIdentifier; 5] = [
        rfc5912::ID_CE_KEY_USAGE,
        rfc5912::ID_CE_SUBJECT_ALT_NAME,
        rfc5912::ID_CE_BASIC_CONSTRAINTS,
        rfc5912::ID_CE_NAME_CONSTRAINTS,
        rfc5912::ID_CE_EXT_KEY_USAGE,
    ];
    certificate
        .parsed
        .tbs_certificate()
        .extensions()?
        .iter()
        .find(|extension| extension.critical && !KNOWN.contains(&extension.extn_id))
        .map(|extension| format!(" ({} in {})", extension.extn_id, certificate.subject()))
}
