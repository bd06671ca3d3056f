//! Key encapsulation for additional key exchanges (RFC 9370), by aws-lc-rs.
//!
//! The initiator makes a key pair and sends the encapsulation key; the responder answers with a ciphertext. Both then
//! hold the same secret. Lengths are exact, and the library does the input checks of FIPS 203 section 7. A forged
//! ciphertext of the right length gives another secret, not an error: the authentication that follows finds it.

use aws_lc_rs::kem;
use isthmus_types::AdditionalKeyExchange;
use zeroize::Zeroizing;

/// A private decapsulation key, for one exchange. Erased when dropped, never printed.
pub struct DecapsulationKey {
    method: AdditionalKeyExchange,
    key: kem::DecapsulationKey<kem::AlgorithmId>,
    public: Vec<u8>,
}

/// The responder's part of an exchange.
pub struct Encapsulated {
    /// What the initiator is sent.
    pub ciphertext: Vec<u8>,
    /// The secret that both will share.
    pub secret: Zeroizing<Vec<u8>>,
}

/// Why no secret was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KemError {
    /// The system gave no random bytes, or the library refused to make a key.
    #[error("no key pair could be made")]
    Generate,
    /// The peer's encapsulation key or ciphertext has the wrong length or fails the input check.
    #[error("the peer's part of the key exchange is invalid")]
    PeerPart,
}

const fn algorithm(method: AdditionalKeyExchange) -> &'static kem::Algorithm<kem::AlgorithmId> {
    match method {
        AdditionalKeyExchange::MlKem768 => &kem::ML_KEM_768,
    }
}

/// Bytes of what the initiator sends.
pub const fn encapsulation_key_len(method: AdditionalKeyExchange) -> usize {
    match method {
        AdditionalKeyExchange::MlKem768 => 1184,
    }
}

/// Bytes of what the responder answers.
pub const fn ciphertext_len(method: AdditionalKeyExchange) -> usize {
    match method {
        AdditionalKeyExchange::MlKem768 => 1088,
    }
}

impl DecapsulationKey {
    /// Makes a key pair with randomness of the operating system.
    ///
    /// # Errors
    /// [`KemError::Generate`].
    pub fn generate(method: AdditionalKeyExchange) -> Result<Self, KemError> {
        let key = kem::DecapsulationKey::generate(algorithm(method)).map_err(|_| KemError::Generate)?;
        let public = key
            .encapsulation_key()
            .and_then(|public| public.key_bytes().map(|bytes| bytes.as_ref().to_vec()))
            .map_err(|_| KemError::Generate)?;
        Ok(Self { method, key, public })
    }

    /// The method.
    pub const fn method(&self) -> AdditionalKeyExchange {
        self.method
    }

    /// The encapsulation key, as it stands in a KE payload.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The secret in the peer's ciphertext.
    ///
    /// # Errors
    /// [`KemError::PeerPart`] if the length is wrong.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, KemError> {
        if ciphertext.len() != ciphertext_len(self.method) {
            return Err(KemError::PeerPart);
        }
        self.key
            .decapsulate(ciphertext.into())
            .map(|secret| Zeroizing::new(secret.as_ref().to_vec()))
            .map_err(|_| KemError::PeerPart)
    }
}

impl std::fmt::Debug for DecapsulationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[decapsulation key of {}]", self.method)
    }
}

/// Makes a secret for the holder of the key behind `public`.
///
/// # Errors
/// [`KemError::PeerPart`] if the length is wrong or the key fails the modulus check of FIPS 203 section 7.2.
pub fn encapsulate(method: AdditionalKeyExchange, public: &[u8]) -> Result<Encapsulated, KemError> {
    if public.len() != encapsulation_key_len(method) {
        return Err(KemError::PeerPart);
    }
    let key = kem::EncapsulationKey::new(algorithm(method), public).map_err(|_| KemError::PeerPart)?;
    let (ciphertext, secret) = key.encapsulate().map_err(|_| KemError::PeerPart)?;
    Ok(Encapsulated {
        ciphertext: ciphertext.as_ref().to_vec(),
        secret: Zeroizing::new(secret.as_ref().to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: AdditionalKeyExchange = AdditionalKeyExchange::MlKem768;

    #[test]
    fn both_ends_share_a_secret_of_their_own() {
        let key = DecapsulationKey::generate(METHOD).unwrap();
        assert_eq!(key.public().len(), 1184);
        let one = encapsulate(METHOD, key.public()).unwrap();
        assert_eq!(one.ciphertext.len(), 1088);
        assert_eq!(one.secret.len(), 32);
        assert_eq!(key.decapsulate(&one.ciphertext).unwrap(), one.secret);
        let two = encapsulate(METHOD, key.public()).unwrap();
        assert_ne!(one.secret, two.secret);
    }

    #[test]
    fn other_lengths_are_refused() {
        let key = DecapsulationKey::generate(METHOD).unwrap();
        let Encapsulated { ciphertext, .. } = encapsulate(METHOD, key.public()).unwrap();
        for len in [0, 1, 32, 1087] {
            assert_eq!(key.decapsulate(&ciphertext[..len]), Err(KemError::PeerPart));
        }
        let longer = [ciphertext.as_slice(), &[0]].concat();
        assert_eq!(key.decapsulate(&longer), Err(KemError::PeerPart));
        for public in [&key.public()[..1183], &[key.public(), &[0]].concat()] {
            assert_eq!(encapsulate(METHOD, public).err(), Some(KemError::PeerPart));
        }
    }

    #[test]
    fn a_key_with_coefficients_above_the_modulus_is_refused() {
        let key = DecapsulationKey::generate(METHOD).unwrap();
        let mut public = key.public().to_vec();
        public[..3].copy_from_slice(&[0xff; 3]);
        assert_eq!(encapsulate(METHOD, &public).err(), Some(KemError::PeerPart));
    }

    #[test]
    fn a_forged_ciphertext_gives_another_secret() {
        let key = DecapsulationKey::generate(METHOD).unwrap();
        let Encapsulated {
            mut ciphertext,
            secret,
        } = encapsulate(METHOD, key.public()).unwrap();
        ciphertext[500] ^= 1;
        assert_ne!(key.decapsulate(&ciphertext).unwrap(), secret);
    }
}
