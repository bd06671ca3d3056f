//! Algorithms by name and by IANA number, and what was agreed on.

use isthmus_crypto::suite::CipherSuite;
use isthmus_types::{AdditionalKeyExchange, Cipher, DhGroup, Encryption, Integrity, Prf};
use isthmus_wire::ike::{Transform, TransformId, TransformType};

/// What an IKE SA agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IkeSuite {
    /// Cipher and integrity of the messages.
    pub cipher: CipherSuite,
    /// Pseudo-random function.
    pub prf: Prf,
    /// Key exchange group.
    pub dh: DhGroup,
    /// Key exchanges beside it.
    pub additional: AdditionalKeyExchanges,
}

/// What a Child SA agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspSuite {
    /// Cipher and integrity of the packets.
    pub cipher: CipherSuite,
    /// Group of its own key exchange; none for the first child and without perfect forward secrecy.
    pub pfs: Option<DhGroup>,
    /// Key exchanges beside it.
    pub additional: AdditionalKeyExchanges,
    /// Width of the sequence numbers.
    pub sequence_numbers: SequenceNumbers,
}

/// Key exchanges beside the first one, in the order in which they are done (RFC 9370).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdditionalKeyExchanges {
    steps: [Option<AdditionalKeyExchange>; ADDITIONAL_TYPES.len()],
}

/// Transform types of additional key exchanges, in the order of the exchanges.
pub(crate) const ADDITIONAL_TYPES: [TransformType; 7] = [
    TransformType::ADDKE1,
    TransformType::ADDKE2,
    TransformType::ADDKE3,
    TransformType::ADDKE4,
    TransformType::ADDKE5,
    TransformType::ADDKE6,
    TransformType::ADDKE7,
];

impl AdditionalKeyExchanges {
    /// The first seven of `steps`.
    pub(crate) fn new(steps: &[AdditionalKeyExchange]) -> Self {
        let mut all = Self::default();
        for (place, step) in all.steps.iter_mut().zip(steps) {
            *place = Some(*step);
        }
        all
    }

    /// The exchange that comes after `done` ones.
    pub(crate) fn after(&self, done: usize) -> Option<AdditionalKeyExchange> {
        self.steps.get(done).copied().flatten()
    }

    /// In the order in which they are done.
    pub fn iter(&self) -> impl Iterator<Item = AdditionalKeyExchange> {
        self.steps.iter().copied().flatten()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.steps[0].is_none()
    }
}

impl std::fmt::Display for AdditionalKeyExchanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().try_for_each(|step| write!(f, "-{step}"))
    }
}

/// Width of ESP sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceNumbers {
    /// 64 bits, of which 32 are sent.
    Extended,
    /// 32 bits.
    Short,
}

impl std::fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}{}", self.cipher, self.prf, self.dh, self.additional)
    }
}

impl std::fmt::Display for EspSuite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cipher)?;
        if let Some(group) = self.pfs {
            write!(f, "-{group}{}", self.additional)?;
        }
        match self.sequence_numbers {
            SequenceNumbers::Extended => f.write_str("-esn"),
            SequenceNumbers::Short => Ok(()),
        }
    }
}

pub(crate) fn encryption_transform(encryption: Encryption) -> Transform {
    let id = match encryption.cipher() {
        Cipher::TripleDesCbc => TransformId::ENCR_3DES,
        Cipher::AesCbc => TransformId::ENCR_AES_CBC,
        Cipher::AesGcm { icv_len: 8 } => TransformId::ENCR_AES_GCM_8,
        Cipher::AesGcm { icv_len: 12 } => TransformId::ENCR_AES_GCM_12,
        Cipher::AesGcm { .. } => TransformId::ENCR_AES_GCM_16,
        Cipher::ChaCha20Poly1305 => TransformId::ENCR_CHACHA20_POLY1305,
    };
    match encryption.key_bits() {
        Some(bits) => Transform::with_key_length(id, bits),
        None => Transform::new(TransformType::ENCR, id),
    }
}

pub(crate) const fn integrity_id(integrity: Integrity) -> TransformId {
    match integrity {
        Integrity::HmacMd5_96 => TransformId::AUTH_HMAC_MD5_96,
        Integrity::HmacSha1_96 => TransformId::AUTH_HMAC_SHA1_96,
        Integrity::HmacSha2_256_128 => TransformId::AUTH_HMAC_SHA2_256_128,
        Integrity::HmacSha2_384_192 => TransformId::AUTH_HMAC_SHA2_384_192,
        Integrity::HmacSha2_512_256 => TransformId::AUTH_HMAC_SHA2_512_256,
    }
}

pub(crate) const fn prf_id(prf: Prf) -> TransformId {
    match prf {
        Prf::HmacMd5 => TransformId::PRF_HMAC_MD5,
        Prf::HmacSha1 => TransformId::PRF_HMAC_SHA1,
        Prf::HmacSha2_256 => TransformId::PRF_HMAC_SHA2_256,
        Prf::HmacSha2_384 => TransformId::PRF_HMAC_SHA2_384,
        Prf::HmacSha2_512 => TransformId::PRF_HMAC_SHA2_512,
    }
}

pub(crate) const fn group_id(group: DhGroup) -> TransformId {
    TransformId(group.number())
}

pub(crate) const fn additional_id(method: AdditionalKeyExchange) -> TransformId {
    match method {
        AdditionalKeyExchange::MlKem768 => TransformId::KE_ML_KEM_768,
    }
}

pub(crate) fn group_of(id: TransformId) -> Option<DhGroup> {
    DhGroup::ALL.iter().copied().find(|group| group_id(*group) == id)
}

pub(crate) const fn sequence_numbers_id(width: SequenceNumbers) -> TransformId {
    match width {
        SequenceNumbers::Extended => TransformId::ESN_YES,
        SequenceNumbers::Short => TransformId::ESN_NO,
    }
}

/// A transform in words, for evidence sentences.
pub(crate) fn describe_transform(transform: &Transform) -> String {
    let id = transform.id;
    let known = match transform.transform_type {
        TransformType::ENCR => Encryption::ALL
            .iter()
            .find(|encryption| same_cipher(&encryption_transform(**encryption), transform))
            .map(ToString::to_string),
        TransformType::INTEG => Integrity::ALL
            .iter()
            .find(|integrity| integrity_id(**integrity) == id)
            .map(ToString::to_string),
        TransformType::PRF => Prf::ALL
            .iter()
            .find(|prf| prf_id(**prf) == id)
            .map(ToString::to_string),
        TransformType::KE => group_of(id).map(|group| group.to_string()),
        additional if ADDITIONAL_TYPES.contains(&additional) => AdditionalKeyExchange::ALL
            .iter()
            .find(|method| additional_id(**method) == id)
            .map(ToString::to_string),
        _ => None,
    };
    known.unwrap_or_else(|| format!("{:?} {}", transform.transform_type, id.0))
}

/// Whether two cipher transforms are the same algorithm with the same key length.
pub(crate) fn same_cipher(left: &Transform, right: &Transform) -> bool {
    left.id == right.id && left.key_length().is_some() && left.key_length() == right.key_length()
}
