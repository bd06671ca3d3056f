//! CBC without an integrity check: what IKEv1 puts around its messages, whose hashes are inside.

use isthmus_types::Encryption;

use crate::cipher::block::{BlockDecrypt, BlockEncrypt};
use crate::cipher::{OpenError, SealError};
use crate::stack::{self, KEY_SCHEDULE};
use crate::suite::SuiteError;

/// A block cipher in CBC mode with the IV chosen by the caller (RFC 2409 appendix B).
pub struct BareCbc {
    encrypt: Box<BlockEncrypt>,
    decrypt: Box<BlockDecrypt>,
}

impl BareCbc {
    /// Prepares `key`.
    ///
    /// # Errors
    /// [`SuiteError::KeyLength`] if the key does not fit, [`SuiteError::IntegrityGiven`] for an AEAD.
    pub fn new(encryption: Encryption, key: &[u8]) -> Result<Self, SuiteError> {
        let made = Self::make(encryption, key);
        stack::erase::<KEY_SCHEDULE>();
        made
    }

    #[inline(never)]
    fn make(encryption: Encryption, key: &[u8]) -> Result<Self, SuiteError> {
        Ok(Self {
            encrypt: Box::new(BlockEncrypt::new(encryption, key)?),
            decrypt: Box::new(BlockDecrypt::new(encryption, key)?),
        })
    }

    /// Encrypts whole blocks in place.
    ///
    /// # Errors
    /// [`SealError`] if a length does not fit.
    pub fn encrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), SealError> {
        self.encrypt.encrypt(iv, data)
    }

    /// Decrypts whole blocks in place. Nothing tells whether the result is what was encrypted.
    ///
    /// # Errors
    /// [`OpenError`] if a length does not fit.
    pub fn decrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), OpenError> {
        self.decrypt.decrypt(iv, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encrypted_is_decrypted_with_the_same_iv_only() {
        for (encryption, key_len, block) in [
            (Encryption::TripleDes, 24, 8),
            (Encryption::Aes128Cbc, 16, 16),
            (Encryption::Aes192Cbc, 24, 16),
            (Encryption::Aes256Cbc, 32, 16),
        ] {
            let key: Vec<u8> = (1..=key_len).collect();
            let cbc = BareCbc::new(encryption, &key).unwrap();
            let mut data = vec![7; 48];
            cbc.encrypt(&vec![1; block], &mut data).unwrap();
            assert_ne!(data, [7; 48]);
            let mut other = data.clone();
            cbc.decrypt(&vec![2; block], &mut other).unwrap();
            assert_ne!(other, [7; 48]);
            cbc.decrypt(&vec![1; block], &mut data).unwrap();
            assert_eq!(data, [7; 48]);
            assert!(cbc.encrypt(&vec![1; block], &mut [0; 17]).is_err());
            assert!(BareCbc::new(encryption, &key[1..]).is_err());
        }
        assert!(BareCbc::new(Encryption::Aes128Gcm16, &[0; 20]).is_err());
    }
}
