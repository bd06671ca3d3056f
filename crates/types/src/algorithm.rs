//! Names of the IKE and ESP algorithms that policies choose from.
//!
//! The serialised words are stable: they stand in the database and in host plans. Protocol numbers belong to `wire`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Version of the Internet Key Exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IkeVersion {
    /// RFC 2409.
    V1,
    /// RFC 7296.
    V2,
}

macro_rules! algorithms {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable word for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value that `word` names.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    )+};
}

algorithms! {
    /// Encryption of IKE messages or ESP packets, with its key length.
    Encryption {
        /// Triple DES, CBC (RFC 2451). Obsolete.
        TripleDes = "3des",
        /// AES-128, CBC (RFC 3602).
        Aes128Cbc = "aes128",
        /// AES-192, CBC.
        Aes192Cbc = "aes192",
        /// AES-256, CBC.
        Aes256Cbc = "aes256",
        /// AES-128-GCM with an 8-byte ICV (RFC 4106).
        Aes128Gcm8 = "aes128gcm8",
        /// AES-192-GCM with an 8-byte ICV.
        Aes192Gcm8 = "aes192gcm8",
        /// AES-256-GCM with an 8-byte ICV.
        Aes256Gcm8 = "aes256gcm8",
        /// AES-128-GCM with a 12-byte ICV (RFC 4106).
        Aes128Gcm12 = "aes128gcm12",
        /// AES-192-GCM with a 12-byte ICV.
        Aes192Gcm12 = "aes192gcm12",
        /// AES-256-GCM with a 12-byte ICV.
        Aes256Gcm12 = "aes256gcm12",
        /// AES-128-GCM with a 16-byte ICV (RFC 4106, RFC 5282).
        Aes128Gcm16 = "aes128gcm16",
        /// AES-192-GCM with a 16-byte ICV.
        Aes192Gcm16 = "aes192gcm16",
        /// AES-256-GCM with a 16-byte ICV.
        Aes256Gcm16 = "aes256gcm16",
        /// ChaCha20-Poly1305 (RFC 7634).
        ChaCha20Poly1305 = "chacha20poly1305",
    }
    /// Integrity protection of messages whose encryption gives none.
    Integrity {
        /// HMAC-MD5-96 (RFC 2403). Obsolete.
        HmacMd5_96 = "md5",
        /// HMAC-SHA1-96 (RFC 2404).
        HmacSha1_96 = "sha1",
        /// HMAC-SHA2-256-128 (RFC 4868).
        HmacSha2_256_128 = "sha256",
        /// HMAC-SHA2-384-192 (RFC 4868).
        HmacSha2_384_192 = "sha384",
        /// HMAC-SHA2-512-256 (RFC 4868).
        HmacSha2_512_256 = "sha512",
    }
    /// Pseudo-random function of the IKE SA.
    Prf {
        /// HMAC-MD5. Obsolete.
        HmacMd5 = "prfmd5",
        /// HMAC-SHA1.
        HmacSha1 = "prfsha1",
        /// HMAC-SHA2-256.
        HmacSha2_256 = "prfsha256",
        /// HMAC-SHA2-384.
        HmacSha2_384 = "prfsha384",
        /// HMAC-SHA2-512.
        HmacSha2_512 = "prfsha512",
    }
    /// Diffie-Hellman group (IANA "Key Exchange Method" number in the doc of each).
    DhGroup {
        /// 2: 1024-bit MODP. Obsolete.
        Modp1024 = "modp1024",
        /// 5: 1536-bit MODP. Obsolete.
        Modp1536 = "modp1536",
        /// 14: 2048-bit MODP (RFC 3526).
        Modp2048 = "modp2048",
        /// 15: 3072-bit MODP.
        Modp3072 = "modp3072",
        /// 16: 4096-bit MODP.
        Modp4096 = "modp4096",
        /// 17: 6144-bit MODP.
        Modp6144 = "modp6144",
        /// 18: 8192-bit MODP.
        Modp8192 = "modp8192",
        /// 19: NIST P-256 (RFC 5903).
        Ecp256 = "ecp256",
        /// 20: NIST P-384.
        Ecp384 = "ecp384",
        /// 21: NIST P-521.
        Ecp521 = "ecp521",
        /// 31: Curve25519 (RFC 8031).
        X25519 = "x25519",
    }
    /// Key exchange done beside the Diffie-Hellman one (RFC 9370).
    AdditionalKeyExchange {
        /// 36: ML-KEM-768 (FIPS 203).
        MlKem768 = "mlkem768",
    }
}

/// A cipher without its key length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// Triple DES in CBC mode.
    TripleDesCbc,
    /// AES in CBC mode.
    AesCbc,
    /// AES in GCM mode.
    AesGcm {
        /// Bytes of the integrity check value.
        icv_len: u8,
    },
    /// ChaCha20 with Poly1305.
    ChaCha20Poly1305,
}

impl Encryption {
    /// The cipher without its key length.
    pub const fn cipher(self) -> Cipher {
        match self {
            Self::TripleDes => Cipher::TripleDesCbc,
            Self::Aes128Cbc | Self::Aes192Cbc | Self::Aes256Cbc => Cipher::AesCbc,
            Self::Aes128Gcm8 | Self::Aes192Gcm8 | Self::Aes256Gcm8 => Cipher::AesGcm { icv_len: 8 },
            Self::Aes128Gcm12 | Self::Aes192Gcm12 | Self::Aes256Gcm12 => Cipher::AesGcm { icv_len: 12 },
            Self::Aes128Gcm16 | Self::Aes192Gcm16 | Self::Aes256Gcm16 => Cipher::AesGcm { icv_len: 16 },
            Self::ChaCha20Poly1305 => Cipher::ChaCha20Poly1305,
        }
    }

    /// Bits of the key where the cipher takes keys of several lengths; none where it takes one only.
    pub const fn key_bits(self) -> Option<u16> {
        match self {
            Self::Aes128Cbc | Self::Aes128Gcm8 | Self::Aes128Gcm12 | Self::Aes128Gcm16 => Some(128),
            Self::Aes192Cbc | Self::Aes192Gcm8 | Self::Aes192Gcm12 | Self::Aes192Gcm16 => Some(192),
            Self::Aes256Cbc | Self::Aes256Gcm8 | Self::Aes256Gcm12 | Self::Aes256Gcm16 => Some(256),
            Self::TripleDes | Self::ChaCha20Poly1305 => None,
        }
    }

    /// Whether the cipher brings its own integrity protection.
    pub const fn is_aead(self) -> bool {
        match self.cipher() {
            Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 => true,
            Cipher::TripleDesCbc | Cipher::AesCbc => false,
        }
    }

    /// Bytes of the integrity check value that the cipher itself makes: zero for one that is no AEAD.
    pub const fn aead_icv_len(self) -> usize {
        match self.cipher() {
            Cipher::TripleDesCbc | Cipher::AesCbc => 0,
            Cipher::AesGcm { icv_len } => icv_len as usize,
            Cipher::ChaCha20Poly1305 => 16,
        }
    }

    /// Bytes of the initialisation vector that stands before the ciphertext (RFC 2451, 3602, 4106, 7634).
    pub const fn iv_len(self) -> usize {
        match self.cipher() {
            Cipher::TripleDesCbc | Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 => 8,
            Cipher::AesCbc => 16,
        }
    }

    /// The ciphertext's length is a multiple of this; one for an AEAD.
    pub const fn block_len(self) -> usize {
        match self.cipher() {
            Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 => 1,
            Cipher::TripleDesCbc => 8,
            Cipher::AesCbc => 16,
        }
    }

    /// The length of an ESP packet's ciphertext is a multiple of this (RFC 4303 section 2.4).
    pub const fn esp_alignment(self) -> usize {
        if self.block_len() < 4 { 4 } else { self.block_len() }
    }
}

impl Integrity {
    /// Bytes of the integrity check value that stands after the ciphertext.
    pub const fn icv_len(self) -> usize {
        match self {
            Self::HmacMd5_96 | Self::HmacSha1_96 => 12,
            Self::HmacSha2_256_128 => 16,
            Self::HmacSha2_384_192 => 24,
            Self::HmacSha2_512_256 => 32,
        }
    }

    /// The PRF that is made of the same hash function. IKEv1 negotiates the hash alone, and many devices choose both with
    /// one word.
    pub const fn prf(self) -> Prf {
        match self {
            Self::HmacMd5_96 => Prf::HmacMd5,
            Self::HmacSha1_96 => Prf::HmacSha1,
            Self::HmacSha2_256_128 => Prf::HmacSha2_256,
            Self::HmacSha2_384_192 => Prf::HmacSha2_384,
            Self::HmacSha2_512_256 => Prf::HmacSha2_512,
        }
    }
}

impl DhGroup {
    /// The number that the group is known by (IANA "Key Exchange Method").
    pub const fn number(self) -> u16 {
        match self {
            Self::Modp1024 => 2,
            Self::Modp1536 => 5,
            Self::Modp2048 => 14,
            Self::Modp3072 => 15,
            Self::Modp4096 => 16,
            Self::Modp6144 => 17,
            Self::Modp8192 => 18,
            Self::Ecp256 => 19,
            Self::Ecp384 => 20,
            Self::Ecp521 => 21,
            Self::X25519 => 31,
        }
    }
}

/// One IKE SA proposal: every listed value of a kind is acceptable, the first is preferred.
///
/// `integrity` is empty exactly when every listed cipher is an AEAD; ciphers of both kinds never share a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkeProposal {
    /// Ciphers.
    pub encryption: Vec<Encryption>,
    /// Integrity algorithms.
    pub integrity: Vec<Integrity>,
    /// Pseudo-random functions.
    pub prf: Vec<Prf>,
    /// Diffie-Hellman groups.
    pub dh: Vec<DhGroup>,
    /// Key exchanges beside it, all of them to be done in this order (RFC 9370).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional: Vec<AdditionalKeyExchange>,
}

/// One Child SA proposal: every listed value of a kind is acceptable, the first is preferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EspProposal {
    /// Ciphers.
    pub encryption: Vec<Encryption>,
    /// Integrity algorithms; empty exactly when every listed cipher is an AEAD.
    pub integrity: Vec<Integrity>,
    /// Groups for perfect forward secrecy; empty means that rekeys do no Diffie-Hellman exchange of their own.
    pub pfs: Vec<DhGroup>,
    /// Key exchanges beside that for perfect forward secrecy, all of them to be done in this order (RFC 9370).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional: Vec<AdditionalKeyExchange>,
}
