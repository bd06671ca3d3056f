//! Digital signatures of IKE peers: RSA, ECDSA and Ed25519.
//!
//! A [`Scheme`] is what RFC 7427 names with an AlgorithmIdentifier. Nothing weaker than RSA with 2048 bits and SHA-2 is
//! made or accepted. A verification has a result type of its own, never a flag.

mod identifier;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair, VerificationAlgorithm,
};
use isthmus_types::Secret;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::oid::db::{rfc5912, rfc8410};
use x509_cert::der::{Decode, Reader, SecretDocument, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

pub use identifier::{Identified, identifier_of, scheme_of};

/// Fewest bits of an RSA modulus.
pub const MIN_RSA_BITS: usize = 2048;
/// Most bits of an RSA modulus: what the backend takes.
const MAX_RSA_BITS: usize = 8192;
/// Smallest public exponent of RSA.
const MIN_RSA_EXPONENT: u64 = 65_537;

/// A hash of the SHA-2 family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// Every value, preferred first.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// ECDSA; the signature is an Ecdsa-Sig-Value (RFC 3279 section 2.2.3).
    Ecdsa(Hash),
    /// Ed25519 (RFC 8420): the message itself is signed.
    Ed25519,
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(Hash),
    /// RSASSA-PSS with MGF1 over the same hash and a salt of its length.
    RsaPss(Hash),
}

/// Kind and size of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// RSA.
    Rsa {
        /// Bits of the modulus.
        bits: usize,
    },
}

/// A public key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    /// The content of the subjectPublicKey.
    bytes: Vec<u8>,
}

/// A private key. Never printed, erased by the library that holds it.
pub struct SigningKey {
    kind: KeyKind,
    pair: Pair,
}

enum Pair {
    Ecdsa {
        /// Makes Ecdsa-Sig-Values.
        asn1: EcdsaKeyPair,
        /// Makes pairs of numbers of fixed length (RFC 4754).
        fixed: EcdsaKeyPair,
    },
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("the key cannot be read: it must be PKCS #8 in PEM, not encrypted")]
    Malformed,
    /// It is of a kind that we do not know.
    #[error("the key is none of RSA, ECDSA on P-256, P-384 or P-521, Ed25519")]
    Unsupported,
    /// It is an RSA key of too few bits, or with a public exponent that is too small.
    #[error("{0}")]
    Weak(String),
}

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key's owner did not sign this.
    #[error("the signature is not that of the certificate's key")]
    Bad,
    /// The key cannot make signatures of this kind.
    #[error("the key of the certificate does not make signatures of this kind")]
    OtherKeyKind,
    /// It is correct, but over a hash that is broken.
    #[error("the signature is made with SHA-1")]
    Weak,
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::P256 => f.write_str("ECDSA P-256"),
            Self::P384 => f.write_str("ECDSA P-384"),
            Self::P521 => f.write_str("ECDSA P-521"),
            Self::Rsa { bits } => write!(f, "RSA with {bits} bits"),
        }
    }
}

impl PublicKey {
    /// Reads the key of a certificate.
    ///
    /// # Errors
    /// [`KeyError`] if it is malformed, weak, or of another kind than those of [`KeyKind`].
    pub fn new(info: &SubjectPublicKeyInfoOwned) -> Result<Self, KeyError> {
        let bytes = info
            .subject_public_key
            .as_bytes()
            .ok_or(KeyError::Malformed)?
            .to_vec();
        let kind = if info.algorithm.oid == rfc5912::RSA_ENCRYPTION {
            rsa_kind(&bytes)?
        } else if info.algorithm.oid == rfc5912::ID_EC_PUBLIC_KEY {
            let curve: ObjectIdentifier = info
                .algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.decode_as().ok())
                .ok_or(KeyError::Unsupported)?;
            curve_kind(curve)?
        } else if info.algorithm.oid == rfc8410::ID_ED_25519 {
            KeyKind::Ed25519
        } else {
            return Err(KeyError::Unsupported);
        };
        Ok(Self { kind, bytes })
    }

    /// Its kind.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether `signature` is one of this key over `message`.
    ///
    /// # Errors
    /// [`SignatureError::OtherKeyKind`] if the scheme does not fit the key, [`SignatureError::Bad`] if it was made by
    /// another key or over another message.
    pub fn verify(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let algorithm: &dyn VerificationAlgorithm = match (scheme, self.kind) {
            (Scheme::RsaPkcs1(Hash::Sha256), KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Scheme::RsaPkcs1(Hash::Sha384), KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Scheme::RsaPkcs1(Hash::Sha512), KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Scheme::RsaPss(Hash::Sha256), KeyKind::Rsa { .. }) => &signature::RSA_PSS_2048_8192_SHA256,
            (Scheme::RsaPss(Hash::Sha384), KeyKind::Rsa { .. }) => &signature::RSA_PSS_2048_8192_SHA384,
            (Scheme::RsaPss(Hash::Sha512), KeyKind::Rsa { .. }) => &signature::RSA_PSS_2048_8192_SHA512,
            (Scheme::Ecdsa(Hash::Sha256), KeyKind::P256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Scheme::Ecdsa(Hash::Sha384), KeyKind::P256) => &signature::ECDSA_P256_SHA384_ASN1,
            (Scheme::Ecdsa(Hash::Sha512), KeyKind::P256) => &signature::ECDSA_P256_SHA512_ASN1,
            (Scheme::Ecdsa(Hash::Sha256), KeyKind::P384) => &signature::ECDSA_P384_SHA256_ASN1,
            (Scheme::Ecdsa(Hash::Sha384), KeyKind::P384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Scheme::Ecdsa(Hash::Sha512), KeyKind::P384) => &signature::ECDSA_P384_SHA512_ASN1,
            (Scheme::Ecdsa(Hash::Sha256), KeyKind::P521) => &signature::ECDSA_P521_SHA256_ASN1,
            (Scheme::Ecdsa(Hash::Sha384), KeyKind::P521) => &signature::ECDSA_P521_SHA384_ASN1,
            (Scheme::Ecdsa(Hash::Sha512), KeyKind::P521) => &signature::ECDSA_P521_SHA512_ASN1,
            (Scheme::Ed25519, KeyKind::Ed25519) => &signature::ED25519,
            (Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) | Scheme::Ecdsa(_) | Scheme::Ed25519, _) => {
                return Err(SignatureError::OtherKeyKind);
            }
        };
        self.check(algorithm, message, signature)
    }

    /// As [`PublicKey::verify`] for the RSA signatures of RFC 7296 section 3.8, which do not say their hash.
    ///
    /// # Errors
    /// As [`PublicKey::verify`], and [`SignatureError::Weak`] if the hash is SHA-1.
    pub fn verify_unnamed_rsa(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        for hash in Hash::ALL {
            match self.verify(Scheme::RsaPkcs1(hash), message, signature) {
                Err(SignatureError::Bad) => {}
                decided @ (Ok(()) | Err(SignatureError::OtherKeyKind | SignatureError::Weak)) => {
                    return decided;
                }
            }
        }
        match self.check(
            &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            message,
            signature,
        ) {
            Ok(()) => Err(SignatureError::Weak),
            Err(error) => Err(error),
        }
    }

    /// As [`PublicKey::verify`] for the ECDSA signatures of RFC 4754: two numbers of fixed length, hash by curve.
    ///
    /// # Errors
    /// As [`PublicKey::verify`].
    pub fn verify_fixed_ecdsa(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let algorithm: &dyn VerificationAlgorithm = match self.kind {
            KeyKind::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            KeyKind::P384 => &signature::ECDSA_P384_SHA384_FIXED,
            KeyKind::P521 => &signature::ECDSA_P521_SHA512_FIXED,
            KeyKind::Ed25519 | KeyKind::Rsa { .. } => return Err(SignatureError::OtherKeyKind),
        };
        self.check(algorithm, message, signature)
    }

    fn check(
        &self,
        algorithm: &dyn VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        algorithm
            .verify_sig(&self.bytes, message, signature)
            .map_err(|_| SignatureError::Bad)
    }
}

impl SigningKey {
    /// Reads a PKCS #8 key in PEM.
    ///
    /// # Errors
    /// [`KeyError`] if it is malformed, weak, or of another kind than those of [`KeyKind`].
    pub fn from_pem(pem: &Secret) -> Result<Self, KeyError> {
        let (label, document) =
            SecretDocument::from_pem(pem.reveal().trim()).map_err(|_| KeyError::Malformed)?;
        if label != "PRIVATE KEY" {
            return Err(KeyError::Malformed);
        }
        let bytes = document.as_bytes();
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes) {
            return Ok(Self {
                kind: KeyKind::Ed25519,
                pair: Pair::Ed25519(pair),
            });
        }
        let curves: [(
            KeyKind,
            &'static EcdsaSigningAlgorithm,
            &'static EcdsaSigningAlgorithm,
        ); 3] = [
            (
                KeyKind::P256,
                &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
                &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            ),
            (
                KeyKind::P384,
                &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
                &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            ),
            (
                KeyKind::P521,
                &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
                &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
            ),
        ];
        for (kind, asn1, fixed) in curves {
            if let Ok(asn1) = EcdsaKeyPair::from_pkcs8(asn1, bytes) {
                let fixed = EcdsaKeyPair::from_pkcs8(fixed, bytes).map_err(|_| KeyError::Malformed)?;
                let pair = Pair::Ecdsa { asn1, fixed };
                return Ok(Self { kind, pair });
            }
        }
        let pair = RsaKeyPair::from_pkcs8(bytes).map_err(|_| KeyError::Unsupported)?;
        let kind = rsa_kind(pair.public_key().as_ref())?;
        Ok(Self {
            kind,
            pair: Pair::Rsa(pair),
        })
    }

    /// Its kind.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether `public` is the other half of it.
    pub fn belongs_to(&self, public: &PublicKey) -> bool {
        let ours = match &self.pair {
            Pair::Ecdsa { asn1, .. } => asn1.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        };
        self.kind == public.kind && ours == public.bytes
    }

    /// The scheme to sign with for a peer that knows the hashes `of_peer` and, where `identity`, messages without one
    /// (RFC 8420). None if the key makes no signature that the peer could check.
    pub fn scheme_for(&self, of_peer: &[Hash], identity: bool) -> Option<Scheme> {
        let knows = |hash: Hash| of_peer.contains(&hash);
        match self.kind {
            KeyKind::Ed25519 => identity.then_some(Scheme::Ed25519),
            KeyKind::P256 => knows(Hash::Sha256).then_some(Scheme::Ecdsa(Hash::Sha256)),
            KeyKind::P384 => knows(Hash::Sha384).then_some(Scheme::Ecdsa(Hash::Sha384)),
            KeyKind::P521 => knows(Hash::Sha512).then_some(Scheme::Ecdsa(Hash::Sha512)),
            // The older padding: every peer has it.
            KeyKind::Rsa { .. } => Hash::ALL
                .into_iter()
                .find(|hash| knows(*hash))
                .map(Scheme::RsaPkcs1),
        }
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// [`SignatureError::OtherKeyKind`] if the key does not make such signatures.
    pub fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        match (&self.pair, scheme) {
            (Pair::Ed25519(pair), Scheme::Ed25519) => Ok(pair.sign(message).as_ref().to_vec()),
            (Pair::Ecdsa { asn1, .. }, Scheme::Ecdsa(hash)) if hash == self.hash_of_curve() => {
                let signed = asn1
                    .sign(&SystemRandom::new(), message)
                    .map_err(|_| SignatureError::Bad)?;
                Ok(signed.as_ref().to_vec())
            }
            (Pair::Rsa(pair), Scheme::RsaPkcs1(_) | Scheme::RsaPss(_)) => {
                let encoding: &'static dyn signature::RsaEncoding = match scheme {
                    Scheme::RsaPkcs1(Hash::Sha256) => &signature::RSA_PKCS1_SHA256,
                    Scheme::RsaPkcs1(Hash::Sha384) => &signature::RSA_PKCS1_SHA384,
                    Scheme::RsaPkcs1(Hash::Sha512) => &signature::RSA_PKCS1_SHA512,
                    Scheme::RsaPss(Hash::Sha256) => &signature::RSA_PSS_SHA256,
                    Scheme::RsaPss(Hash::Sha384) => &signature::RSA_PSS_SHA384,
                    Scheme::RsaPss(Hash::Sha512) => &signature::RSA_PSS_SHA512,
                    Scheme::Ecdsa(_) | Scheme::Ed25519 => return Err(SignatureError::OtherKeyKind),
                };
                let mut signed = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signed)
                    .map_err(|_| SignatureError::Bad)?;
                Ok(signed)
            }
            (Pair::Ed25519(_) | Pair::Ecdsa { .. } | Pair::Rsa(_), _) => Err(SignatureError::OtherKeyKind),
        }
    }

    /// Signs `message` as RFC 4754 says: two numbers of fixed length, hash by curve.
    ///
    /// # Errors
    /// [`SignatureError::OtherKeyKind`] if it is no ECDSA key.
    pub fn sign_fixed_ecdsa(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        match &self.pair {
            Pair::Ecdsa { fixed, .. } => {
                let signed = fixed
                    .sign(&SystemRandom::new(), message)
                    .map_err(|_| SignatureError::Bad)?;
                Ok(signed.as_ref().to_vec())
            }
            Pair::Ed25519(_) | Pair::Rsa(_) => Err(SignatureError::OtherKeyKind),
        }
    }

    const fn hash_of_curve(&self) -> Hash {
        match self.kind {
            KeyKind::P384 => Hash::Sha384,
            KeyKind::P521 => Hash::Sha512,
            KeyKind::P256 | KeyKind::Ed25519 | KeyKind::Rsa { .. } => Hash::Sha256,
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} key]", self.kind)
    }
}

// RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER } (RFC 8017 appendix A.1.1).
fn rsa_kind(bytes: &[u8]) -> Result<KeyKind, KeyError> {
    let read = |bytes| -> Result<(usize, Option<u64>), x509_cert::der::Error> {
        let mut reader = SliceReader::new(bytes)?;
        let (modulus, exponent) = reader.sequence(|inner| -> Result<_, x509_cert::der::Error> {
            Ok((UintRef::decode(inner)?, UintRef::decode(inner)?))
        })?;
        reader.finish()?;
        let modulus = modulus.as_bytes();
        let unused = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        let exponent = exponent.as_bytes();
        let small = (exponent.len() <= 8).then(|| {
            exponent
                .iter()
                .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        });
        Ok((modulus.len() * 8 - unused, small))
    };
    let (bits, exponent) = read(bytes).map_err(|_| KeyError::Malformed)?;
    if bits < MIN_RSA_BITS {
        return Err(KeyError::Weak(format!(
            "the RSA key has {bits} bits, {MIN_RSA_BITS} are the least"
        )));
    }
    match exponent {
        Some(exponent) if exponent < MIN_RSA_EXPONENT || exponent % 2 == 0 => Err(KeyError::Weak(format!(
            "the RSA key has the public exponent {exponent}, {MIN_RSA_EXPONENT} is the least"
        ))),
        Some(_) if bits <= MAX_RSA_BITS => Ok(KeyKind::Rsa { bits }),
        Some(_) | None => Err(KeyError::Unsupported),
    }
}

fn curve_kind(curve: ObjectIdentifier) -> Result<KeyKind, KeyError> {
    if curve == rfc5912::SECP_256_R_1 {
        Ok(KeyKind::P256)
    } else if curve == rfc5912::SECP_384_R_1 {
        Ok(KeyKind::P384)
    } else if curve == rfc5912::SECP_521_R_1 {
        Ok(KeyKind::P521)
    } else {
        Err(KeyError::Unsupported)
    }
}

#[cfg(test)]
mod tests;
