//! What an agreed pair of cipher and integrity algorithm needs: lengths, and the keys themselves.

use isthmus_types::{Cipher, Encryption, Integrity};
use zeroize::Zeroizing;

/// The cipher of an IKE or Child SA with the integrity algorithm that it needs, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CipherSuite {
    encryption: Encryption,
    integrity: Option<Integrity>,
}

/// The keys of one direction of one SA. Erased when dropped, never printed.
#[derive(Clone)]
pub struct KeyMaterial {
    encryption: Zeroizing<Vec<u8>>,
    integrity: Zeroizing<Vec<u8>>,
}

/// The suite or its keys do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    /// An AEAD was given an integrity algorithm.
    #[error("the cipher brings its own integrity protection")]
    IntegrityGiven,
    /// The backend asked does not have the cipher: a bug of this crate.
    #[error("the backend does not have the cipher")]
    Backend,
    /// A cipher that gives no integrity protection was left without one (RFC 4303 section 2.7 allows it, we do not).
    #[error("the cipher needs an integrity algorithm")]
    IntegrityMissing,
    /// A key has not the length that the suite asks for.
    #[error("a key has the wrong length")]
    KeyLength,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    NoRandom,
}

impl CipherSuite {
    /// Joins a cipher and an integrity algorithm.
    ///
    /// # Errors
    /// [`SuiteError::IntegrityGiven`] and [`SuiteError::IntegrityMissing`]: exactly the ciphers that are no AEAD
    /// take an integrity algorithm.
    pub const fn new(encryption: Encryption, integrity: Option<Integrity>) -> Result<Self, SuiteError> {
        match (encryption.is_aead(), integrity) {
            (true, Some(_)) => Err(SuiteError::IntegrityGiven),
            (false, None) => Err(SuiteError::IntegrityMissing),
            (true, None) | (false, Some(_)) => Ok(Self {
                encryption,
                integrity,
            }),
        }
    }

    /// The cipher.
    pub const fn encryption(self) -> Encryption {
        self.encryption
    }

    /// The integrity algorithm; none exactly when the cipher is an AEAD.
    pub const fn integrity(self) -> Option<Integrity> {
        self.integrity
    }

    /// Bytes of keying material that the cipher takes, with the 4-byte salt of an AEAD (RFC 4106 section 8.1,
    /// RFC 7634 section 2).
    pub const fn encryption_key_len(self) -> usize {
        let key = match self.encryption.key_bits() {
            Some(bits) => bits as usize / 8,
            None => match self.encryption.cipher() {
                Cipher::TripleDesCbc => 24,
                Cipher::AesCbc | Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 => 32,
            },
        };
        if self.encryption.is_aead() {
            key + SALT_LEN
        } else {
            key
        }
    }

    /// Bytes of keying material that the integrity algorithm takes; zero for an AEAD.
    pub const fn integrity_key_len(self) -> usize {
        match self.integrity {
            None => 0,
            Some(Integrity::HmacMd5_96) => 16,
            Some(Integrity::HmacSha1_96) => 20,
            Some(Integrity::HmacSha2_256_128) => 32,
            Some(Integrity::HmacSha2_384_192) => 48,
            Some(Integrity::HmacSha2_512_256) => 64,
        }
    }

    /// Bytes of the initialisation vector that stands before the ciphertext.
    pub const fn iv_len(self) -> usize {
        self.encryption.iv_len()
    }

    /// Bytes of the integrity check value that stands after the ciphertext.
    pub const fn icv_len(self) -> usize {
        match self.integrity {
            Some(integrity) => integrity.icv_len(),
            None => self.encryption.aead_icv_len(),
        }
    }

    /// The ciphertext's length is a multiple of this; one for an AEAD.
    pub const fn block_len(self) -> usize {
        self.encryption.block_len()
    }

    /// The length of an ESP packet's ciphertext is a multiple of this (RFC 4303 section 2.4).
    pub const fn esp_alignment(self) -> usize {
        self.encryption.esp_alignment()
    }
}

/// Bytes of the salt that an AEAD's nonce begins with; they end the encryption key.
pub(crate) const SALT_LEN: usize = 4;

impl KeyMaterial {
    /// Takes the keys of one direction, an AEAD's salt at the end of `encryption`.
    pub const fn new(encryption: Zeroizing<Vec<u8>>, integrity: Zeroizing<Vec<u8>>) -> Self {
        Self {
            encryption,
            integrity,
        }
    }

    /// The encryption key, with the salt of an AEAD at its end.
    pub fn encryption(&self) -> &[u8] {
        &self.encryption
    }

    /// The integrity key; empty for an AEAD.
    pub fn integrity(&self) -> &[u8] {
        &self.integrity
    }

    /// Whether the keys have the lengths that `suite` asks for.
    ///
    /// # Errors
    /// [`SuiteError::KeyLength`] if not.
    pub fn check(&self, suite: CipherSuite) -> Result<(), SuiteError> {
        if self.encryption.len() == suite.encryption_key_len()
            && self.integrity.len() == suite.integrity_key_len()
        {
            Ok(())
        } else {
            Err(SuiteError::KeyLength)
        }
    }
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[keys]")
    }
}

impl std::fmt::Display for CipherSuite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.integrity {
            Some(integrity) => write!(f, "{}-{integrity}", self.encryption),
            None => write!(f, "{}", self.encryption),
        }
    }
}
