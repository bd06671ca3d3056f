//! Pseudo-random functions (RFC 7296 section 2.13): HMAC in full length, its expansion, and hashing.

use hmac::{Hmac, KeyInit, Mac};
use isthmus_types::Prf;
use md5::Md5;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::stack::{self, HASH};

/// Most output that [`prf_plus`] gives: 255 blocks.
const MAX_BLOCKS: usize = 255;

/// More output was asked for than prf+ can give (255 blocks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more keying material was asked for than the PRF can give")]
pub struct PrfLengthError;

/// Bytes of the function's output, which is also the length of keys made for it.
pub const fn prf_len(prf: Prf) -> usize {
    match prf {
        Prf::HmacMd5 => 16,
        Prf::HmacSha1 => 20,
        Prf::HmacSha2_256 => 32,
        Prf::HmacSha2_384 => 48,
        Prf::HmacSha2_512 => 64,
    }
}

/// `prf(key, parts[0] | parts[1] | …)`.
pub fn prf(prf: Prf, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let out = block(prf, key, parts);
    stack::erase::<HASH>();
    out
}

/// As [`prf`], but leaves the stack as it is.
fn block(function: Prf, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    match function {
        Prf::HmacMd5 => compute::<Hmac<Md5>>(key, parts),
        Prf::HmacSha1 => compute::<Hmac<Sha1>>(key, parts),
        Prf::HmacSha2_256 => compute::<Hmac<Sha256>>(key, parts),
        Prf::HmacSha2_384 => compute::<Hmac<Sha384>>(key, parts),
        Prf::HmacSha2_512 => compute::<Hmac<Sha512>>(key, parts),
    }
}

/// The first `len` bytes of `prf+(key, parts[0] | parts[1] | …)`.
///
/// # Errors
/// [`PrfLengthError`] if `len` exceeds 255 times the PRF's length.
pub fn prf_plus(
    function: Prf,
    key: &[u8],
    parts: &[&[u8]],
    len: usize,
) -> Result<Zeroizing<Vec<u8>>, PrfLengthError> {
    let block_len = prf_len(function);
    if len > MAX_BLOCKS * block_len {
        return Err(PrfLengthError);
    }
    // All blocks at once, so that no copy is left behind by growing.
    let mut out = Zeroizing::new(Vec::with_capacity(len + block_len));
    let mut last = Zeroizing::new(Vec::new());
    let mut number = 0u8;
    while out.len() < len {
        number = number.saturating_add(1);
        let counter = [number];
        let mut input: Vec<&[u8]> = Vec::with_capacity(parts.len() + 2);
        input.push(&last);
        input.extend_from_slice(parts);
        input.push(&counter);
        let next = block(function, key, &input);
        out.extend_from_slice(&next);
        last = next;
    }
    stack::erase::<HASH>();
    out.truncate(len);
    Ok(out)
}

/// Compares without telling by the time taken where the difference is. The lengths are not secret.
pub fn constant_time_equal(left: &[u8], right: &[u8]) -> bool {
    bool::from(left.ct_eq(right))
}

/// SHA-1 of the parts, for the NAT detection hashes (RFC 7296 section 2.23), which need no strength.
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// SHA-256 of the parts.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The hash function under the PRF, over the parts (IKEv1 takes it by itself: RFC 2409 section 5).
pub fn hash(function: Prf, parts: &[&[u8]]) -> Vec<u8> {
    match function {
        Prf::HmacMd5 => digest::<Md5>(parts),
        Prf::HmacSha1 => digest::<Sha1>(parts),
        Prf::HmacSha2_256 => digest::<Sha256>(parts),
        Prf::HmacSha2_384 => digest::<Sha384>(parts),
        Prf::HmacSha2_512 => digest::<Sha512>(parts),
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = D::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().to_vec()
}

#[inline(never)]
fn compute<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("an HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_vectors_of_rfc_4231_and_rfc_2202() {
        let key = b"Jefe";
        let data: &[&[u8]] = &[b"what do ya want ", b"for nothing?"];
        for (function, expected) in [
            (Prf::HmacMd5, "750c783e6ab0b503eaa86e310a5db738"),
            (Prf::HmacSha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (
                Prf::HmacSha2_256,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                Prf::HmacSha2_384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
            ),
            (
                Prf::HmacSha2_512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            let out = prf(function, key, data);
            assert_eq!(hex::encode(&out), expected);
            assert_eq!(out.len(), prf_len(function));
        }
    }

    #[test]
    fn expansion_chains_blocks_as_rfc_7296_says() {
        let (key, seed) = (b"key".as_slice(), b"seed".as_slice());
        let first = prf(Prf::HmacSha2_256, key, &[seed, &[1]]);
        let second = prf(Prf::HmacSha2_256, key, &[&first, seed, &[2]]);
        let third = prf(Prf::HmacSha2_256, key, &[&second, seed, &[3]]);
        let expected = [first.as_slice(), &second, &third].concat();
        for len in [0, 1, 31, 32, 33, 64, 70, 96] {
            let out = prf_plus(Prf::HmacSha2_256, key, &[b"se", b"ed"], len).unwrap();
            assert_eq!(out.as_slice(), &expected[..len]);
        }
    }

    #[test]
    fn expansion_ends_at_255_blocks() {
        assert_eq!(prf_plus(Prf::HmacSha1, b"", &[], 255 * 20).unwrap().len(), 5100);
        assert_eq!(
            prf_plus(Prf::HmacSha1, b"", &[], 255 * 20 + 1),
            Err(PrfLengthError)
        );
    }

    #[test]
    fn comparison_tells_equal_from_unequal() {
        assert!(constant_time_equal(b"abc", b"abc"));
        assert!(!constant_time_equal(b"abc", b"abd"));
        assert!(!constant_time_equal(b"abc", b"ab"));
    }

    #[test]
    fn every_hash_has_the_length_of_its_prf() {
        for function in Prf::ALL {
            assert_eq!(hash(*function, &[b"a", b"bc"]).len(), prf_len(*function));
            assert_eq!(hash(*function, &[b"a", b"bc"]), hash(*function, &[b"abc"]));
        }
        assert_eq!(
            hex::encode(hash(Prf::HmacMd5, &[b"abc"])),
            "900150983cd24fb0d6963f7d28e17f72"
        );
    }

    #[test]
    fn sha1_of_parts_is_sha1_of_the_whole() {
        assert_eq!(
            hex::encode(sha1(&[b"a", b"bc"])),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }
}
