//! A certificate authority for tests. Keys are made for each test and never leave it.

use std::net::IpAddr;

use isthmus_types::{CertificateOptions, Secret, Timestamp};
pub use rcgen;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, RsaKeySize, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};

/// The date of tests, 2026-07-01: certificates are valid for years around it unless a test says otherwise.
pub const DATE: Timestamp = Timestamp(1_782_864_000_000);

/// Kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// Ed25519.
    Ed25519,
    /// ECDSA with P-256.
    P256,
    /// ECDSA with P-384.
    P384,
    /// ECDSA with P-521.
    P521,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
}

impl KeyChoice {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Ed25519,
        Self::P256,
        Self::P384,
        Self::P521,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// A new key.
    pub fn generate(self) -> KeyPair {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        let of = |algorithm: &'static SignatureAlgorithm| KeyPair::generate_for(algorithm);
        match self {
            Self::Ed25519 => of(&rcgen::PKCS_ED25519),
            Self::P256 => of(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => of(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::P521 => of(&rcgen::PKCS_ECDSA_P521_SHA512),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa3072 => rsa(RsaKeySize::_3072),
            Self::Rsa4096 => rsa(RsaKeySize::_4096),
        }
        .expect("the backend makes every kind of key")
    }
}

/// An authority with its key.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: Secret,
    /// Its DER.
    pub der: Vec<u8>,
}

impl Authority {
    /// A root with this common name.
    pub fn root(name: &str, key: KeyChoice) -> Self {
        Self::root_of(Self::parameters(name), key)
    }

    /// A root as `parameters` say.
    pub fn root_of(parameters: CertificateParams, key: KeyChoice) -> Self {
        Self(CertifiedIssuer::self_signed(parameters, key.generate()).expect("parameters make a certificate"))
    }

    /// An authority below this one.
    pub fn below(&self, name: &str, key: KeyChoice) -> Self {
        self.below_of(Self::parameters(name), key)
    }

    /// An authority below this one as `parameters` say.
    pub fn below_of(&self, parameters: CertificateParams, key: KeyChoice) -> Self {
        Self(
            CertifiedIssuer::signed_by(parameters, key.generate(), &self.0)
                .expect("parameters make a certificate"),
        )
    }

    /// What an authority's certificate says by default.
    pub fn parameters(name: &str) -> CertificateParams {
        let mut parameters = subject(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Its certificate's DER.
    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// A certificate for a gateway.
    pub fn issue(&self, parameters: &CertificateParams, key: KeyChoice) -> Issued {
        let key = key.generate();
        let certificate = parameters
            .signed_by(&key, &self.0)
            .expect("parameters make a certificate");
        Issued {
            certificate: certificate.pem(),
            key: Secret::new(key.serialize_pem()),
            der: certificate.der().to_vec(),
        }
    }

    /// The DER of a certificate over a key that may be anybody's.
    pub fn sign(&self, parameters: &CertificateParams, key: &impl rcgen::PublicKeyData) -> Vec<u8> {
        let certificate = parameters
            .signed_by(key, &self.0)
            .expect("parameters make a certificate");
        certificate.der().to_vec()
    }

    /// A revocation list in PEM that names `serials`, in force until `next_update` (year, month, day).
    pub fn revocation_list(&self, serials: &[u64], next_update: (i32, u8, u8)) -> String {
        let (year, month, day) = next_update;
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(year, month, day),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2025, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0)
            .and_then(|list| list.pem())
            .expect("parameters make a revocation list")
    }
}

/// What a gateway's certificate says by default: subject `CN=name,O=Isthmus`, no alternative name, valid from 2020 to 2040.
pub fn subject(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2040, 1, 1);
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Isthmus");
    subject.push(DnType::CommonName, name);
    parameters.distinguished_name = subject;
    parameters
}

/// As [`subject`] with an address as alternative name.
pub fn gateway(name: &str, address: IpAddr) -> CertificateParams {
    let mut parameters = subject(name);
    parameters.subject_alt_names.push(SanType::IpAddress(address));
    parameters
}

/// Options that present `own`, with `between` it and its root, and trust what `authority` issued.
pub fn options(own: &Issued, between: &[&Authority], authority: &Authority) -> CertificateOptions {
    let mut chain = own.certificate.clone();
    for authority in between {
        chain.push_str(&authority.pem());
    }
    CertificateOptions {
        chain,
        private_key: own.key.clone(),
        authorities: authority.pem(),
        revocation_lists: String::new(),
        require_revocation_list: false,
    }
}
