//! AES-GCM with check values shorter than 16 bytes (RFC 4106 section 6), for peers that ask for nothing better.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::{U8, U12};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::{AesGcm, KeyInit, Nonce, Tag, TagSize};
use isthmus_types::Cipher;
use zeroize::Zeroize;

use crate::cipher::{OpenError, SealError};
use crate::suite::{CipherSuite, KeyMaterial, SALT_LEN, SuiteError};

/// The key of one direction, its schedule, and the salt.
pub(super) struct ShortTag {
    key: Key,
    salt: [u8; SALT_LEN],
}

enum Key {
    Aes128Tag8(AesGcm<Aes128, U12, U8>),
    Aes192Tag8(AesGcm<Aes192, U12, U8>),
    Aes256Tag8(AesGcm<Aes256, U12, U8>),
    Aes128Tag12(AesGcm<Aes128, U12, U12>),
    Aes192Tag12(AesGcm<Aes192, U12, U12>),
    Aes256Tag12(AesGcm<Aes256, U12, U12>),
}

impl ShortTag {
    /// Whether the suite is one of these.
    pub(super) const fn is_for(suite: CipherSuite) -> bool {
        matches!(suite.encryption().aead_icv_len(), 8 | 12)
    }

    pub(super) fn new(suite: CipherSuite, keys: &KeyMaterial) -> Result<Self, SuiteError> {
        let (key, salt) = keys
            .encryption()
            .split_last_chunk::<SALT_LEN>()
            .ok_or(SuiteError::KeyLength)?;
        let encryption = suite.encryption();
        let key = match (encryption.cipher(), encryption.key_bits()) {
            (Cipher::AesGcm { icv_len: 8 }, Some(128)) => Key::Aes128Tag8(keyed(key)?),
            (Cipher::AesGcm { icv_len: 8 }, Some(192)) => Key::Aes192Tag8(keyed(key)?),
            (Cipher::AesGcm { icv_len: 8 }, _) => Key::Aes256Tag8(keyed(key)?),
            (Cipher::AesGcm { icv_len: 12 }, Some(128)) => Key::Aes128Tag12(keyed(key)?),
            (Cipher::AesGcm { icv_len: 12 }, Some(192)) => Key::Aes192Tag12(keyed(key)?),
            (Cipher::AesGcm { icv_len: 12 }, _) => Key::Aes256Tag12(keyed(key)?),
            (Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 | Cipher::AesCbc | Cipher::TripleDesCbc, _) => {
                return Err(SuiteError::Backend);
            }
        };
        Ok(Self { key, salt: *salt })
    }

    pub(super) fn seal(
        &self,
        aad: &[u8],
        iv: &[u8],
        data: &mut [u8],
        icv: &mut [u8],
    ) -> Result<(), SealError> {
        let nonce = self.nonce(iv).ok_or(SealError)?;
        match &self.key {
            Key::Aes128Tag8(key) => seal(key, &nonce, aad, data, icv),
            Key::Aes192Tag8(key) => seal(key, &nonce, aad, data, icv),
            Key::Aes256Tag8(key) => seal(key, &nonce, aad, data, icv),
            Key::Aes128Tag12(key) => seal(key, &nonce, aad, data, icv),
            Key::Aes192Tag12(key) => seal(key, &nonce, aad, data, icv),
            Key::Aes256Tag12(key) => seal(key, &nonce, aad, data, icv),
        }
    }

    pub(super) fn open(&self, aad: &[u8], iv: &[u8], data: &mut [u8], icv: &[u8]) -> Result<(), OpenError> {
        let nonce = self.nonce(iv).ok_or(OpenError)?;
        match &self.key {
            Key::Aes128Tag8(key) => open(key, &nonce, aad, data, icv),
            Key::Aes192Tag8(key) => open(key, &nonce, aad, data, icv),
            Key::Aes256Tag8(key) => open(key, &nonce, aad, data, icv),
            Key::Aes128Tag12(key) => open(key, &nonce, aad, data, icv),
            Key::Aes192Tag12(key) => open(key, &nonce, aad, data, icv),
            Key::Aes256Tag12(key) => open(key, &nonce, aad, data, icv),
        }
    }

    fn nonce(&self, iv: &[u8]) -> Option<Nonce<U12>> {
        let iv: [u8; 8] = iv.try_into().ok()?;
        let mut nonce = Nonce::<U12>::default();
        let (salt, rest) = nonce.split_at_mut(SALT_LEN);
        salt.copy_from_slice(&self.salt);
        rest.copy_from_slice(&iv);
        Some(nonce)
    }
}

impl Drop for ShortTag {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

fn keyed<K: KeyInit>(key: &[u8]) -> Result<K, SuiteError> {
    K::new_from_slice(key).map_err(|_| SuiteError::KeyLength)
}

fn seal<K, T>(
    key: &K,
    nonce: &Nonce<U12>,
    aad: &[u8],
    data: &mut [u8],
    icv: &mut [u8],
) -> Result<(), SealError>
where
    T: TagSize,
    K: AeadInOut<NonceSize = U12, TagSize = T>,
{
    let tag = key
        .encrypt_inout_detached(nonce, aad, InOutBuf::from(data))
        .map_err(|_| SealError)?;
    if icv.len() != tag.len() {
        return Err(SealError);
    }
    icv.copy_from_slice(&tag);
    Ok(())
}

fn open<K, T>(key: &K, nonce: &Nonce<U12>, aad: &[u8], data: &mut [u8], icv: &[u8]) -> Result<(), OpenError>
where
    T: TagSize,
    K: AeadInOut<NonceSize = U12, TagSize = T>,
{
    let tag: &Tag<T> = icv.try_into().map_err(|_| OpenError)?;
    key.decrypt_inout_detached(nonce, aad, InOutBuf::from(data), tag)
        .map_err(|_| OpenError)
}
