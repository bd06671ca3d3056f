//! Diffie-Hellman key exchange in the encodings that IKE uses.
//!
//! MODP groups (RFC 3526, RFC 2409) in constant time with short exponents, NIST curves (RFC 5903: the public value
//! is `x | y`, the secret is `x`) and Curve25519 (RFC 8031). Public values and MODP secrets always have the full
//! length of the group.

mod curve;
mod modp;
mod primes;

use isthmus_types::DhGroup;
use zeroize::Zeroizing;

use crate::stack::{self, KEY_SCHEDULE, POWER};

/// A private value, for one exchange. Erased when dropped, never printed.
pub struct PrivateKey {
    group: DhGroup,
    public: Vec<u8>,
    kind: Kind,
}

enum Kind {
    Modp(modp::Exponent),
    Curve(curve::CurveKey),
}

/// Why no secret was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DhError {
    /// The system gave no random bytes, or the library refused to make a key.
    #[error("no private value could be made")]
    Generate,
    /// The peer's public value has the wrong length, is out of range, is not on the curve or gives a zero secret
    /// (RFC 6989).
    #[error("the peer's public value is not valid in the group")]
    PublicValue,
}

/// Bytes of a public value of the group.
pub const fn public_len(group: DhGroup) -> usize {
    match group {
        DhGroup::Modp1024 => 128,
        DhGroup::Modp1536 => 192,
        DhGroup::Modp2048 => 256,
        DhGroup::Modp3072 => 384,
        DhGroup::Modp4096 => 512,
        DhGroup::Modp6144 => 768,
        DhGroup::Modp8192 => 1024,
        DhGroup::Ecp256 => 64,
        DhGroup::Ecp384 => 96,
        DhGroup::Ecp521 => 132,
        DhGroup::X25519 => 32,
    }
}

impl PrivateKey {
    /// Makes a private value with randomness of the operating system, and its public value.
    ///
    /// # Errors
    /// [`DhError::Generate`].
    pub fn generate(group: DhGroup) -> Result<Self, DhError> {
        let made = Self::make(group);
        erase_stack(group);
        made
    }

    #[inline(never)]
    fn make(group: DhGroup) -> Result<Self, DhError> {
        let (kind, public) = if let Some(modp) = modp::Modp::of(group) {
            let exponent = modp::Exponent::generate(modp)?;
            let public = exponent.public();
            (Kind::Modp(exponent), public)
        } else {
            let key = curve::CurveKey::generate(group)?;
            let public = key.public()?;
            (Kind::Curve(key), public)
        };
        Ok(Self { group, public, kind })
    }

    /// The group.
    pub const fn group(&self) -> DhGroup {
        self.group
    }

    /// The public value, as it stands in a KE payload.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The secret shared with the holder of the private value behind `peer_public`.
    ///
    /// # Errors
    /// [`DhError::PublicValue`].
    pub fn agree(&self, peer_public: &[u8]) -> Result<Zeroizing<Vec<u8>>, DhError> {
        if peer_public.len() != public_len(self.group) {
            return Err(DhError::PublicValue);
        }
        let secret = self.secret(peer_public);
        erase_stack(self.group);
        secret
    }

    #[inline(never)]
    fn secret(&self, peer_public: &[u8]) -> Result<Zeroizing<Vec<u8>>, DhError> {
        match &self.kind {
            Kind::Modp(exponent) => exponent.agree(peer_public),
            Kind::Curve(key) => key.agree(peer_public),
        }
    }
}

/// Powers and points are computed on the stack.
fn erase_stack(group: DhGroup) {
    if modp::Modp::of(group).is_some() {
        stack::erase::<POWER>();
    } else {
        stack::erase::<KEY_SCHEDULE>();
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[private key of {}]", self.group)
    }
}

#[cfg(test)]
mod tests;
