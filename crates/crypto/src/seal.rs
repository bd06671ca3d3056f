//! Sealing of secrets at rest: AES-256-GCM under one installation key, each value bound to where it stands.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Bytes of a [`SealingKey`].
pub const SEALING_KEY_LEN: usize = 32;

const VERSION: u8 = 1;
const TAG_LEN: usize = 16;

/// The key that seals stored secrets. Erased when dropped, never printed.
///
/// A nonce is drawn at random for each value, so one key may seal at most 2^32 values (NIST SP 800-38D section 8.3).
pub struct SealingKey {
    bytes: Zeroizing<[u8; SEALING_KEY_LEN]>,
    key: LessSafeKey,
}

/// Why a value was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// Altered, sealed with another key, or sealed for another place.
    #[error("the sealed value does not belong to this key and place")]
    Mismatch,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    NoRandom,
}

impl SealingKey {
    /// Takes a key that was made by [`SealingKey::generate`].
    pub fn from_bytes(bytes: [u8; SEALING_KEY_LEN]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let key = UnboundKey::new(&AES_256_GCM, &bytes[..]).expect("32 bytes are an AES-256 key");
        Self {
            bytes,
            key: LessSafeKey::new(key),
        }
    }

    /// Makes a new key.
    ///
    /// # Errors
    /// [`SealingError::NoRandom`].
    pub fn generate() -> Result<Self, SealingError> {
        let mut bytes = Zeroizing::new([0u8; SEALING_KEY_LEN]);
        getrandom::fill(&mut bytes[..]).map_err(|_| SealingError::NoRandom)?;
        Ok(Self::from_bytes(*bytes))
    }

    /// The key itself, for the caller to keep in a file that only root can read.
    pub fn reveal(&self) -> &[u8; SEALING_KEY_LEN] {
        &self.bytes
    }

    /// Encrypts `plaintext`. `context` names the place where it will stand (such as table, row and column): it
    /// opens only there.
    ///
    /// # Errors
    /// [`SealingError::NoRandom`].
    pub fn seal(&self, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealingError> {
        let mut nonce = [0u8; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SealingError::NoRandom)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plaintext.len() + TAG_LEN);
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context),
                &mut sealed[1 + NONCE_LEN..],
            )
            .map_err(|_| SealingError::Mismatch)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Decrypts what [`SealingKey::seal`] made with the same `context`.
    ///
    /// # Errors
    /// [`SealingError::Mismatch`] if key, context or content differ.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let (&version, rest) = sealed.split_first().ok_or(SealingError::Mismatch)?;
        let (nonce, rest) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealingError::Mismatch)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(SealingError::Mismatch)?;
        if version != VERSION {
            return Err(SealingError::Mismatch);
        }
        let mut plaintext = Zeroizing::new(vec![0u8; ciphertext.len()]);
        self.key
            .open_separate_gather(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(context),
                ciphertext,
                tag,
                &mut plaintext,
            )
            .map_err(|_| SealingError::Mismatch)?;
        Ok(plaintext)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[sealing key]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_it_sealed_and_only_in_its_place() {
        let key = SealingKey::generate().unwrap();
        let sealed = key.seal(b"connection/1/psk", b"hunter2").unwrap();
        assert_eq!(
            key.open(b"connection/1/psk", &sealed).unwrap().as_slice(),
            b"hunter2"
        );
        assert_eq!(
            SealingKey::from_bytes(*key.reveal())
                .open(b"connection/1/psk", &sealed)
                .unwrap()
                .as_slice(),
            b"hunter2"
        );
        assert_eq!(
            key.open(b"connection/2/psk", &sealed),
            Err(SealingError::Mismatch)
        );
        assert_eq!(
            SealingKey::generate().unwrap().open(b"connection/1/psk", &sealed),
            Err(SealingError::Mismatch)
        );
    }

    #[test]
    fn every_change_and_every_truncation_is_refused() {
        let key = SealingKey::from_bytes([7; 32]);
        let sealed = key.seal(b"place", b"a secret").unwrap();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(
                key.open(b"place", &changed),
                Err(SealingError::Mismatch),
                "byte {index}"
            );
            assert_eq!(key.open(b"place", &sealed[..index]), Err(SealingError::Mismatch));
        }
    }

    #[test]
    fn equal_secrets_look_different_and_the_key_is_never_printed() {
        let key = SealingKey::from_bytes([7; 32]);
        assert_ne!(key.seal(b"", b"same").unwrap(), key.seal(b"", b"same").unwrap());
        assert_eq!(format!("{key:?}"), "[sealing key]");
    }
}
