//! Sealing and opening of packets and messages in place, with the keys of one direction of one SA.
//!
//! One call covers both kinds of suite. What is authenticated is `aad | iv | data`: an AEAD takes `aad` as its
//! associated data (its nonce covers the IV) and an HMAC runs over all three in this order. So for ESP `aad` is
//! the SPI and the sequence number, and for an IKE message everything before the IV. Padding is the caller's.
//! No call allocates.

mod bare;
mod block;
mod mac;
mod short_tag;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use isthmus_types::Cipher;
use zeroize::Zeroize;

pub use crate::cipher::bare::BareCbc;
use crate::cipher::block::{BlockDecrypt, BlockEncrypt};
use crate::cipher::mac::Mac;
use crate::cipher::short_tag::ShortTag;
use crate::stack::{self, KEY_SCHEDULE};
use crate::suite::{CipherSuite, KeyMaterial, SALT_LEN, SuiteError};

/// Longest initialisation vector of any suite, bytes.
pub const MAX_IV_LEN: usize = 16;
/// Longest integrity check value of any suite, bytes.
pub const MAX_ICV_LEN: usize = 32;

/// Encrypts and authenticates.
pub struct Sealer {
    suite: CipherSuite,
    state: SealState,
}

/// Verifies and decrypts.
pub struct Opener {
    suite: CipherSuite,
    state: OpenState,
}

/// A length does not fit the suite: an API misuse, nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the initialisation vector, data or check value has the wrong length")]
pub struct SealError;

/// The data is not what the holder of the keys sealed. Nothing more is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the integrity check failed")]
pub struct OpenError;

enum SealState {
    Aead(Box<AeadKey>),
    Block {
        cipher: Box<BlockEncrypt>,
        iv: Box<BlockEncrypt>,
        mac: Box<Mac>,
    },
    ShortTag(Box<ShortTag>),
}

enum OpenState {
    Aead(Box<AeadKey>),
    Block {
        cipher: Box<BlockDecrypt>,
        mac: Box<Mac>,
    },
    ShortTag(Box<ShortTag>),
}

struct AeadKey {
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

impl Sealer {
    /// Prepares `keys` for `suite`.
    ///
    /// # Errors
    /// [`SuiteError::KeyLength`] if the keys do not fit the suite. [`SuiteError::NoRandom`] for a CBC suite
    /// if the system gives no random bytes.
    pub fn new(suite: CipherSuite, keys: &KeyMaterial) -> Result<Self, SuiteError> {
        let made = Self::make(suite, keys);
        stack::erase::<KEY_SCHEDULE>();
        made
    }

    #[inline(never)]
    fn make(suite: CipherSuite, keys: &KeyMaterial) -> Result<Self, SuiteError> {
        keys.check(suite)?;
        let state = match suite.integrity() {
            None if ShortTag::is_for(suite) => SealState::ShortTag(Box::new(ShortTag::new(suite, keys)?)),
            None => SealState::Aead(Box::new(AeadKey::new(suite, keys)?)),
            Some(integrity) => {
                let mut iv_key = [0u8; 32];
                getrandom::fill(&mut iv_key).map_err(|_| SuiteError::NoRandom)?;
                let iv = BlockEncrypt::new(suite.encryption(), &iv_key[..suite.encryption_key_len()]);
                iv_key.zeroize();
                SealState::Block {
                    cipher: Box::new(BlockEncrypt::new(suite.encryption(), keys.encryption())?),
                    iv: Box::new(iv?),
                    mac: Box::new(Mac::new(integrity, keys.integrity())),
                }
            }
        };
        Ok(Self { suite, state })
    }

    /// The suite.
    pub const fn suite(&self) -> CipherSuite {
        self.suite
    }

    /// Writes an initialisation vector made from `counter`, which must never repeat under the same keys.
    ///
    /// For an AEAD it is the counter itself. For CBC it is the counter encrypted under a random key of its own, so
    /// that it cannot be predicted (RFC 3602 section 2.1).
    ///
    /// # Errors
    /// [`SealError`] if `iv` has not the suite's length.
    pub fn make_iv(&self, counter: u64, iv: &mut [u8]) -> Result<(), SealError> {
        if iv.len() != self.suite.iv_len() {
            return Err(SealError);
        }
        let split = iv.len() - 8;
        iv[..split].fill(0);
        iv[split..].copy_from_slice(&counter.to_be_bytes());
        match &self.state {
            SealState::Aead(_) | SealState::ShortTag(_) => Ok(()),
            SealState::Block { iv: cipher, .. } => cipher.encrypt_one(iv),
        }
    }

    /// Encrypts `data` in place and writes the check value over `aad | iv | data` to `icv`.
    ///
    /// # Errors
    /// [`SealError`] if `iv` or `icv` has not the suite's length, or `data` is no multiple of its block length.
    pub fn seal(&self, aad: &[u8], iv: &[u8], data: &mut [u8], icv: &mut [u8]) -> Result<(), SealError> {
        self.seal_with_tail(aad, iv, data, &[], icv)
    }

    /// As [`Sealer::seal`] for an ESP packet with a 64-bit sequence number (RFC 4303 section 2.2.1), whose high half
    /// is authenticated but not sent. `header` is the SPI and the low half.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_extended(
        &self,
        header: &[u8; 8],
        high: u32,
        iv: &[u8],
        data: &mut [u8],
        icv: &mut [u8],
    ) -> Result<(), SealError> {
        let high = high.to_be_bytes();
        match &self.state {
            SealState::Aead(_) | SealState::ShortTag(_) => {
                self.seal(&extended_header(header, high), iv, data, icv)
            }
            SealState::Block { .. } => self.seal_with_tail(header, iv, data, &high, icv),
        }
    }

    fn seal_with_tail(
        &self,
        aad: &[u8],
        iv: &[u8],
        data: &mut [u8],
        tail: &[u8],
        icv: &mut [u8],
    ) -> Result<(), SealError> {
        if icv.len() != self.suite.icv_len() {
            return Err(SealError);
        }
        match &self.state {
            SealState::Aead(key) => {
                let nonce = key.nonce(iv).ok_or(SealError)?;
                let tag = key
                    .key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), data)
                    .map_err(|_| SealError)?;
                icv.copy_from_slice(tag.as_ref());
                Ok(())
            }
            SealState::Block { cipher, mac, .. } => {
                cipher.encrypt(iv, data)?;
                mac.sign(&[aad, iv, data, tail], icv);
                Ok(())
            }
            SealState::ShortTag(key) => key.seal(aad, iv, data, icv),
        }
    }
}

impl Opener {
    /// Prepares `keys` for `suite`.
    ///
    /// # Errors
    /// [`SuiteError::KeyLength`] if the keys do not fit the suite.
    pub fn new(suite: CipherSuite, keys: &KeyMaterial) -> Result<Self, SuiteError> {
        let made = Self::make(suite, keys);
        stack::erase::<KEY_SCHEDULE>();
        made
    }

    #[inline(never)]
    fn make(suite: CipherSuite, keys: &KeyMaterial) -> Result<Self, SuiteError> {
        keys.check(suite)?;
        let state = match suite.integrity() {
            None if ShortTag::is_for(suite) => OpenState::ShortTag(Box::new(ShortTag::new(suite, keys)?)),
            None => OpenState::Aead(Box::new(AeadKey::new(suite, keys)?)),
            Some(integrity) => OpenState::Block {
                cipher: Box::new(BlockDecrypt::new(suite.encryption(), keys.encryption())?),
                mac: Box::new(Mac::new(integrity, keys.integrity())),
            },
        };
        Ok(Self { suite, state })
    }

    /// The suite.
    pub const fn suite(&self) -> CipherSuite {
        self.suite
    }

    /// Verifies `icv` over `aad | iv | data`, then decrypts `data` in place.
    ///
    /// # Errors
    /// [`OpenError`] if the check fails or a length does not fit; `data` is then unspecified and must not be used.
    pub fn open(&self, aad: &[u8], iv: &[u8], data: &mut [u8], icv: &[u8]) -> Result<(), OpenError> {
        self.open_with_tail(aad, iv, data, &[], icv)
    }

    /// As [`Opener::open`] for an ESP packet that [`Sealer::seal_extended`] made.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub fn open_extended(
        &self,
        header: &[u8; 8],
        high: u32,
        iv: &[u8],
        data: &mut [u8],
        icv: &[u8],
    ) -> Result<(), OpenError> {
        let high = high.to_be_bytes();
        match &self.state {
            OpenState::Aead(_) | OpenState::ShortTag(_) => {
                self.open(&extended_header(header, high), iv, data, icv)
            }
            OpenState::Block { .. } => self.open_with_tail(header, iv, data, &high, icv),
        }
    }

    fn open_with_tail(
        &self,
        aad: &[u8],
        iv: &[u8],
        data: &mut [u8],
        tail: &[u8],
        icv: &[u8],
    ) -> Result<(), OpenError> {
        if icv.len() != self.suite.icv_len() {
            return Err(OpenError);
        }
        match &self.state {
            OpenState::Aead(key) => {
                let nonce = key.nonce(iv).ok_or(OpenError)?;
                key.key
                    .open_in_place_separate_tag(nonce, Aad::from(aad), icv, data)
                    .map_err(|_| OpenError)?;
                Ok(())
            }
            OpenState::Block { cipher, mac } => {
                mac.verify(&[aad, iv, data, tail], icv)?;
                cipher.decrypt(iv, data)
            }
            OpenState::ShortTag(key) => key.open(aad, iv, data, icv),
        }
    }

    /// As [`Opener::open`], from `sealed` into `data` of the same length.
    ///
    /// # Errors
    /// [`OpenError`] if the check fails or a length does not fit; `data` is then unspecified and must not be used.
    pub fn open_into(
        &self,
        aad: &[u8],
        iv: &[u8],
        sealed: &[u8],
        icv: &[u8],
        data: &mut [u8],
    ) -> Result<(), OpenError> {
        if icv.len() != self.suite.icv_len() || sealed.len() != data.len() {
            return Err(OpenError);
        }
        match &self.state {
            OpenState::Aead(key) => {
                let nonce = key.nonce(iv).ok_or(OpenError)?;
                key.key
                    .open_separate_gather(nonce, Aad::from(aad), sealed, icv, data)
                    .map_err(|_| OpenError)
            }
            OpenState::Block { cipher, mac } => {
                mac.verify(&[aad, iv, sealed], icv)?;
                data.copy_from_slice(sealed);
                cipher.decrypt(iv, data)
            }
            OpenState::ShortTag(key) => {
                data.copy_from_slice(sealed);
                key.open(aad, iv, data, icv)
            }
        }
    }
}

/// What an AEAD authenticates of an ESP packet with a 64-bit sequence number: SPI, high half, low half (RFC 4106
/// section 5).
const fn extended_header(header: &[u8; 8], high: [u8; 4]) -> [u8; 12] {
    [
        header[0], header[1], header[2], header[3], high[0], high[1], high[2], high[3], header[4], header[5],
        header[6], header[7],
    ]
}

impl AeadKey {
    fn new(suite: CipherSuite, keys: &KeyMaterial) -> Result<Self, SuiteError> {
        let encryption = suite.encryption();
        let algorithm = match (encryption.cipher(), encryption.key_bits()) {
            (Cipher::AesGcm { icv_len: 16 }, Some(128)) => &aead::AES_128_GCM,
            (Cipher::AesGcm { icv_len: 16 }, Some(192)) => &aead::AES_192_GCM,
            (Cipher::AesGcm { icv_len: 16 }, _) => &aead::AES_256_GCM,
            (Cipher::ChaCha20Poly1305, _) => &aead::CHACHA20_POLY1305,
            (Cipher::AesGcm { .. } | Cipher::AesCbc | Cipher::TripleDesCbc, _) => {
                return Err(SuiteError::Backend);
            }
        };
        let (key, salt) = keys
            .encryption()
            .split_last_chunk::<SALT_LEN>()
            .ok_or(SuiteError::KeyLength)?;
        let key = UnboundKey::new(algorithm, key).map_err(|_| SuiteError::KeyLength)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            salt: *salt,
        })
    }

    fn nonce(&self, iv: &[u8]) -> Option<Nonce> {
        let iv: [u8; 8] = iv.try_into().ok()?;
        let mut nonce = [0u8; aead::NONCE_LEN];
        nonce[..SALT_LEN].copy_from_slice(&self.salt);
        nonce[SALT_LEN..].copy_from_slice(&iv);
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

/// The state erases itself; a cipher may have spilled round keys to the stack of the thread that has used it.
impl Drop for Sealer {
    fn drop(&mut self) {
        stack::erase::<KEY_SCHEDULE>();
    }
}

/// As that of [`Sealer`].
impl Drop for Opener {
    fn drop(&mut self) {
        stack::erase::<KEY_SCHEDULE>();
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

#[cfg(test)]
mod tests;
