//! CBC without padding, over block ciphers whose key schedule is kept.

use aes::{Aes128Dec, Aes128Enc, Aes192Dec, Aes192Enc, Aes256Dec, Aes256Enc};
use cbc::cipher::{
    Array, Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit,
};
use cbc::{Decryptor, Encryptor};
use des::TdesEde3;
use isthmus_types::{Cipher, Encryption};

use crate::cipher::{OpenError, SealError};
use crate::suite::SuiteError;

pub(super) enum BlockEncrypt {
    Aes128(Aes128Enc),
    Aes192(Aes192Enc),
    Aes256(Aes256Enc),
    TripleDes(TdesEde3),
}

pub(super) enum BlockDecrypt {
    Aes128(Aes128Dec),
    Aes192(Aes192Dec),
    Aes256(Aes256Dec),
    TripleDes(TdesEde3),
}

impl BlockEncrypt {
    pub(super) fn new(encryption: Encryption, key: &[u8]) -> Result<Self, SuiteError> {
        Ok(match (encryption.cipher(), encryption.key_bits()) {
            (Cipher::AesCbc, Some(128)) => Self::Aes128(keyed(key)?),
            (Cipher::AesCbc, Some(192)) => Self::Aes192(keyed(key)?),
            (Cipher::AesCbc, _) => Self::Aes256(keyed(key)?),
            (Cipher::TripleDesCbc, _) => Self::TripleDes(keyed(key)?),
            (Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305, _) => return Err(SuiteError::IntegrityGiven),
        })
    }

    pub(super) fn encrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), SealError> {
        match self {
            Self::Aes128(cipher) => encrypt_chain(cipher, iv, data),
            Self::Aes192(cipher) => encrypt_chain(cipher, iv, data),
            Self::Aes256(cipher) => encrypt_chain(cipher, iv, data),
            Self::TripleDes(cipher) => encrypt_chain(cipher, iv, data),
        }
    }

    pub(super) fn encrypt_one(&self, block: &mut [u8]) -> Result<(), SealError> {
        let zero = [0u8; super::MAX_IV_LEN];
        self.encrypt(&zero[..block.len()], block)
    }
}

impl BlockDecrypt {
    pub(super) fn new(encryption: Encryption, key: &[u8]) -> Result<Self, SuiteError> {
        Ok(match (encryption.cipher(), encryption.key_bits()) {
            (Cipher::AesCbc, Some(128)) => Self::Aes128(keyed(key)?),
            (Cipher::AesCbc, Some(192)) => Self::Aes192(keyed(key)?),
            (Cipher::AesCbc, _) => Self::Aes256(keyed(key)?),
            (Cipher::TripleDesCbc, _) => Self::TripleDes(keyed(key)?),
            (Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305, _) => return Err(SuiteError::IntegrityGiven),
        })
    }

    pub(super) fn decrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), OpenError> {
        match self {
            Self::Aes128(cipher) => decrypt_chain(cipher, iv, data),
            Self::Aes192(cipher) => decrypt_chain(cipher, iv, data),
            Self::Aes256(cipher) => decrypt_chain(cipher, iv, data),
            Self::TripleDes(cipher) => decrypt_chain(cipher, iv, data),
        }
    }
}

fn keyed<C: KeyInit>(key: &[u8]) -> Result<C, SuiteError> {
    C::new_from_slice(key).map_err(|_| SuiteError::KeyLength)
}

fn encrypt_chain<C: BlockCipherEncrypt>(cipher: &C, iv: &[u8], data: &mut [u8]) -> Result<(), SealError> {
    let iv: &Block<C> = iv.try_into().map_err(|_| SealError)?;
    let (blocks, rest) = Array::slice_as_chunks_mut(data);
    if !rest.is_empty() {
        return Err(SealError);
    }
    Encryptor::<&C>::inner_iv_init(cipher, iv).encrypt_blocks(blocks);
    Ok(())
}

fn decrypt_chain<C: BlockCipherDecrypt>(cipher: &C, iv: &[u8], data: &mut [u8]) -> Result<(), OpenError> {
    let iv: &Block<C> = iv.try_into().map_err(|_| OpenError)?;
    let (blocks, rest) = Array::slice_as_chunks_mut(data);
    if !rest.is_empty() {
        return Err(OpenError);
    }
    Decryptor::<&C>::inner_iv_init(cipher, iv).decrypt_blocks(blocks);
    Ok(())
}
