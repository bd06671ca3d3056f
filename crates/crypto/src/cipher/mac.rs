//! Truncated HMACs over pieces, from a keyed state that is cloned per message.

use hmac::{Hmac, KeyInit};
use isthmus_types::Integrity;
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use crate::cipher::OpenError;

pub(super) enum Mac {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl Mac {
    pub(super) fn new(integrity: Integrity, key: &[u8]) -> Self {
        match integrity {
            Integrity::HmacMd5_96 => Self::Md5(keyed(key)),
            Integrity::HmacSha1_96 => Self::Sha1(keyed(key)),
            Integrity::HmacSha2_256_128 => Self::Sha256(keyed(key)),
            Integrity::HmacSha2_384_192 => Self::Sha384(keyed(key)),
            Integrity::HmacSha2_512_256 => Self::Sha512(keyed(key)),
        }
    }

    /// Writes the leading `icv.len()` bytes of the MAC over `parts`.
    pub(super) fn sign(&self, parts: &[&[u8]], icv: &mut [u8]) {
        match self {
            Self::Md5(state) => sign_with(state, parts, icv),
            Self::Sha1(state) => sign_with(state, parts, icv),
            Self::Sha256(state) => sign_with(state, parts, icv),
            Self::Sha384(state) => sign_with(state, parts, icv),
            Self::Sha512(state) => sign_with(state, parts, icv),
        }
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, parts: &[&[u8]], icv: &[u8]) -> Result<(), OpenError> {
        let mut expected = [0u8; super::MAX_ICV_LEN];
        let expected = expected.get_mut(..icv.len()).ok_or(OpenError)?;
        self.sign(parts, expected);
        if bool::from(expected.ct_eq(icv)) {
            Ok(())
        } else {
            Err(OpenError)
        }
    }
}

fn keyed<M: KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("an HMAC takes a key of any length")
}

fn sign_with<M: hmac::Mac + Clone>(state: &M, parts: &[&[u8]], icv: &mut [u8]) {
    let mut state = state.clone();
    for part in parts {
        state.update(part);
    }
    let tag = state.finalize().into_bytes();
    icv.copy_from_slice(&tag[..icv.len()]);
}
