//! NIST curves and Curve25519, by aws-lc-rs, which checks points and refuses a zero secret.

use aws_lc_rs::agreement::{self, Algorithm, PrivateKey, UnparsedPublicKey};
use isthmus_types::DhGroup;
use zeroize::Zeroizing;

use super::DhError;

/// First byte of an uncompressed point, which IKE leaves out.
const UNCOMPRESSED: u8 = 0x04;

pub(super) struct CurveKey {
    key: PrivateKey,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Coordinates,
    Opaque,
}

impl CurveKey {
    pub(super) fn generate(group: DhGroup) -> Result<Self, DhError> {
        let (algorithm, form) = algorithm(group).ok_or(DhError::Generate)?;
        let key = PrivateKey::generate(algorithm).map_err(|_| DhError::Generate)?;
        Ok(Self { key, form })
    }

    #[cfg(test)]
    pub(super) fn from_bytes(group: DhGroup, bytes: &[u8]) -> Result<Self, DhError> {
        let (algorithm, form) = algorithm(group).ok_or(DhError::Generate)?;
        let key = PrivateKey::from_private_key(algorithm, bytes).map_err(|_| DhError::Generate)?;
        Ok(Self { key, form })
    }

    pub(super) fn public(&self) -> Result<Vec<u8>, DhError> {
        let public = self.key.compute_public_key().map_err(|_| DhError::Generate)?;
        match self.form {
            Form::Opaque => Ok(public.as_ref().to_vec()),
            Form::Coordinates => public
                .as_ref()
                .strip_prefix(&[UNCOMPRESSED])
                .map(<[u8]>::to_vec)
                .ok_or(DhError::Generate),
        }
    }

    pub(super) fn agree(&self, peer_public: &[u8]) -> Result<Zeroizing<Vec<u8>>, DhError> {
        let encoded = match self.form {
            Form::Opaque => peer_public.to_vec(),
            Form::Coordinates => [&[UNCOMPRESSED], peer_public].concat(),
        };
        let peer = UnparsedPublicKey::new(self.key.algorithm(), &encoded);
        agreement::agree(&self.key, peer, DhError::PublicValue, |secret| {
            if secret.iter().fold(0, |all, byte| all | byte) == 0 {
                return Err(DhError::PublicValue);
            }
            Ok(Zeroizing::new(secret.to_vec()))
        })
    }
}

fn algorithm(group: DhGroup) -> Option<(&'static Algorithm, Form)> {
    match group {
        DhGroup::Ecp256 => Some((&agreement::ECDH_P256, Form::Coordinates)),
        DhGroup::Ecp384 => Some((&agreement::ECDH_P384, Form::Coordinates)),
        DhGroup::Ecp521 => Some((&agreement::ECDH_P521, Form::Coordinates)),
        DhGroup::X25519 => Some((&agreement::X25519, Form::Opaque)),
        DhGroup::Modp1024
        | DhGroup::Modp1536
        | DhGroup::Modp2048
        | DhGroup::Modp3072
        | DhGroup::Modp4096
        | DhGroup::Modp6144
        | DhGroup::Modp8192 => None,
    }
}
