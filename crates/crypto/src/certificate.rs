//! X.509 certificates as IKE uses them (RFC 5280, RFC 4945): ours, the authorities that we trust, and whether a peer's
//! chain leads to one of them.
//!
//! Nothing is ever fetched: what a certificate points to (revocation lists, other certificates) is not read from there.
//! The key that authenticates is taken from the very certificate that was verified.

mod name;
mod refusal;
mod verify;

use std::net::IpAddr;

use isthmus_types::{Secret, Timestamp};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use sha1::{Digest as _, Sha1};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

pub use name::DistinguishedName;
pub use refusal::{CertificateRefusal, CredentialsError};

use crate::signature::{PublicKey, SigningKey};

/// Most certificates that are taken from a peer.
pub const MAX_CERTIFICATES: usize = 8;
/// Bytes of a key hash in a certificate request.
pub const KEY_HASH_LEN: usize = 20;

/// A name of a certificate's holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// An address.
    Address(IpAddr),
    /// The subject.
    DistinguishedName(DistinguishedName),
    /// An e-mail address.
    Email(String),
    /// A domain name.
    Fqdn(String),
}

/// A certificate that was read, not yet trusted.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: CertificateDer<'static>,
    parsed: x509_cert::Certificate,
}

/// Our certificate with its key, and the certificates between it and its authority.
pub struct Credentials {
    chain: Vec<Certificate>,
    key: SigningKey,
}

/// The authorities that a peer's certificate must come from, and what they have revoked.
pub struct Authorities {
    certificates: Vec<Certificate>,
    revocation_lists: Vec<CertRevocationList<'static>>,
    require_revocation_list: bool,
}

/// A peer's certificate that leads to an authority.
#[derive(Clone, Debug)]
pub struct VerifiedCertificate {
    certificate: Certificate,
    key: PublicKey,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`CertificateRefusal::Malformed`] if it is no DER of a certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateRefusal> {
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| CertificateRefusal::Malformed)?;
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            parsed,
        })
    }

    /// The first certificate of a PEM text.
    pub fn first_of_pem(pem: &str) -> Option<Self> {
        certificates(pem).ok()?.into_iter().next()
    }

    /// Its DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The name of its holder.
    pub fn subject(&self) -> DistinguishedName {
        DistinguishedName::of(self.parsed.tbs_certificate().subject())
    }

    /// Who signed it.
    pub fn issuer(&self) -> DistinguishedName {
        DistinguishedName::of(self.parsed.tbs_certificate().issuer())
    }

    /// Its serial number, hexadecimal.
    pub fn serial(&self) -> String {
        hexadecimal(self.parsed.tbs_certificate().serial_number().as_bytes())
    }

    /// Every name that it gives to its holder: the subject, then the alternative names that IKE knows.
    pub fn names(&self) -> Vec<CertificateName> {
        let subject = self.subject();
        let mut names = Vec::new();
        if !subject.is_empty() {
            names.push(CertificateName::DistinguishedName(subject));
        }
        let alternatives = self
            .parsed
            .tbs_certificate()
            .get_extension::<SubjectAltName>()
            .ok()
            .flatten();
        for name in alternatives.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::DnsName(name) => names.push(CertificateName::Fqdn(name.to_string())),
                GeneralName::Rfc822Name(name) => names.push(CertificateName::Email(name.to_string())),
                GeneralName::IpAddress(bytes) => {
                    names.extend(address(bytes.as_bytes()).map(CertificateName::Address));
                }
                GeneralName::OtherName(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EdiPartyName(_)
                | GeneralName::UniformResourceIdentifier(_)
                | GeneralName::RegisteredId(_) => {}
            }
        }
        names
    }

    /// Whether it gives `name` to its holder. Domain names are compared whole and without regard to case; patterns
    /// with `*` match nothing but themselves.
    pub fn has_name(&self, name: &CertificateName) -> bool {
        self.names().iter().any(|own| match (own, name) {
            (CertificateName::Address(own), CertificateName::Address(name)) => own == name,
            (CertificateName::DistinguishedName(own), CertificateName::DistinguishedName(name)) => {
                own == name
            }
            (CertificateName::Email(own), CertificateName::Email(name))
            | (CertificateName::Fqdn(own), CertificateName::Fqdn(name)) => own.eq_ignore_ascii_case(name),
            (
                CertificateName::Address(_)
                | CertificateName::DistinguishedName(_)
                | CertificateName::Email(_)
                | CertificateName::Fqdn(_),
                _,
            ) => false,
        })
    }

    /// Its names in words. Text of the certificate is escaped.
    pub fn describe_names(&self) -> String {
        let names: Vec<String> = self.names().iter().map(ToString::to_string).collect();
        if names.is_empty() {
            "no name".into()
        } else {
            names.join(", ")
        }
    }

    /// SHA-1 of its public key with algorithm, as a certificate request names it (RFC 7296 section 3.7).
    ///
    /// # Errors
    /// [`CertificateRefusal::Malformed`] if the key cannot be written again.
    pub fn key_hash(&self) -> Result<[u8; KEY_HASH_LEN], CertificateRefusal> {
        let info = self.parsed.tbs_certificate().subject_public_key_info();
        let der = info.to_der().map_err(|_| CertificateRefusal::Malformed)?;
        Ok(Sha1::digest(&der).into())
    }

    /// When it ends.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp(self.validity().1.saturating_mul(1000))
    }

    /// Seconds since 1970 from and until which it is valid.
    fn validity(&self) -> (u64, u64) {
        let validity = self.parsed.tbs_certificate().validity();
        (
            validity.not_before.to_unix_duration().as_secs(),
            validity.not_after.to_unix_duration().as_secs(),
        )
    }
}

impl Credentials {
    /// Reads our certificate, those above it, and its key.
    ///
    /// # Errors
    /// [`CredentialsError`] if something cannot be read, is weak, or the key is not that of the first certificate.
    pub fn from_pem(chain: &str, key: &Secret) -> Result<Self, CredentialsError> {
        let chain = certificates(chain)?;
        let leaf = chain.first().ok_or(CredentialsError::NoCertificate)?;
        let key = SigningKey::from_pem(key).map_err(CredentialsError::Key)?;
        let public = PublicKey::new(leaf.parsed.tbs_certificate().subject_public_key_info())
            .map_err(CredentialsError::Key)?;
        if !key.belongs_to(&public) {
            return Err(CredentialsError::OtherKey(leaf.subject().to_string()));
        }
        Ok(Self { chain, key })
    }

    /// Our certificate.
    ///
    /// # Errors
    /// Never for credentials that were read.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.chain.first()
    }

    /// What to send: our certificate and those between it and its authority, without the authority itself.
    pub fn sent(&self) -> impl Iterator<Item = &Certificate> {
        self.chain
            .iter()
            .enumerate()
            .filter(|(index, certificate)| *index == 0 || certificate.subject() != certificate.issuer())
            .map(|(_, certificate)| certificate)
    }

    /// The key.
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }
}

impl Authorities {
    /// Reads authorities and revocation lists.
    ///
    /// # Errors
    /// [`CredentialsError`] if something cannot be read or there is no authority.
    pub fn from_pem(
        authorities: &str,
        revocation_lists: &str,
        require_revocation_list: bool,
    ) -> Result<Self, CredentialsError> {
        let certificates = certificates(authorities)?;
        if certificates.is_empty() {
            return Err(CredentialsError::NoAuthority);
        }
        let revocation_lists = CertificateRevocationListDer::pem_slice_iter(revocation_lists.as_bytes())
            .map(|der| {
                let der = der.map_err(|_| CredentialsError::RevocationList)?;
                let list =
                    OwnedCertRevocationList::from_der(&der).map_err(|_| CredentialsError::RevocationList)?;
                Ok(CertRevocationList::from(list))
            })
            .collect::<Result<Vec<_>, CredentialsError>>()?;
        Ok(Self {
            certificates,
            revocation_lists,
            require_revocation_list,
        })
    }

    /// The authorities.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

impl VerifiedCertificate {
    /// The certificate.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its key.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl std::fmt::Display for CertificateName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "address {address}"),
            Self::DistinguishedName(name) => write!(f, "distinguished name {name}"),
            Self::Email(text) => write!(f, "e-mail {}", text.escape_default()),
            Self::Fqdn(text) => write!(f, "name {}", text.escape_default()),
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("key", &self.key)
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities")
            .field("certificates", &self.certificates.len())
            .field("revocation_lists", &self.revocation_lists.len())
            .finish_non_exhaustive()
    }
}

fn certificates(pem: &str) -> Result<Vec<Certificate>, CredentialsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|der| {
            let der = der.map_err(|_| CredentialsError::Certificate)?;
            Certificate::from_der(&der).map_err(|_| CredentialsError::Certificate)
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
