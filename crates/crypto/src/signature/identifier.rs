//! The AlgorithmIdentifiers of RFC 7427 appendix A. Received ones are compared with those that we would write: nothing
//! of them is interpreted, so no parameter can be stretched.

use super::{Hash, Scheme};

const SHA1_WITH_RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00";
const ECDSA_WITH_SHA1: &[u8] = b"\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x04\x01";
const ED25519: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";
const RSA_PKCS1: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01";
const ECDSA_WITH_SHA2: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x03";
const SHA2: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02";
const NULL: &[u8] = b"\x05\x00";
/// RSASSA-PSS without parameters: SHA-1 throughout (RFC 4055 section 3.1).
const PSS_DEFAULTS: [&[u8]; 2] = [
    b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x00",
    b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a",
];

/// What an AlgorithmIdentifier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identified {
    /// A scheme that is accepted.
    Scheme(Scheme),
    /// Something with parameters or algorithms that we do not take.
    Unknown,
    /// A scheme over SHA-1.
    Weak,
}

/// The DER of the AlgorithmIdentifier of `scheme`.
pub fn identifier_of(scheme: Scheme) -> Vec<u8> {
    match scheme {
        Scheme::Ecdsa(hash) => sequence(&[&oid(ECDSA_WITH_SHA2, ecdsa_arc(hash))]),
        Scheme::Ed25519 => ED25519.to_vec(),
        Scheme::RsaPkcs1(hash) => sequence(&[&oid(RSA_PKCS1, rsa_arc(hash)), NULL]),
        Scheme::RsaPss(hash) => pss(hash, NULL, NULL, &[]),
    }
}

/// What the DER of an AlgorithmIdentifier names.
pub fn scheme_of(identifier: &[u8]) -> Identified {
    let plain = Hash::ALL
        .into_iter()
        .flat_map(|hash| [Scheme::RsaPkcs1(hash), Scheme::Ecdsa(hash)])
        .chain([Scheme::Ed25519]);
    for scheme in plain {
        if identifier == identifier_of(scheme) {
            return Identified::Scheme(scheme);
        }
    }
    // Each NULL may be left out (RFC 4055 section 2.1), the trailer may be written though it is the default.
    let trailer = context(3, &[2, 1, 1]);
    for hash in Hash::ALL {
        for outer in [NULL, &[]] {
            for inner in [NULL, &[]] {
                if [&[][..], &trailer]
                    .into_iter()
                    .any(|trailer| identifier == pss(hash, outer, inner, trailer))
                {
                    return Identified::Scheme(Scheme::RsaPss(hash));
                }
            }
        }
    }
    if identifier == SHA1_WITH_RSA || identifier == ECDSA_WITH_SHA1 || PSS_DEFAULTS.contains(&identifier) {
        Identified::Weak
    } else {
        Identified::Unknown
    }
}

// RSASSA-PSS-params (RFC 4055 section 3.1): hash [0], mask generation [1], length of the salt [2], trailer [3].
fn pss(hash: Hash, outer: &[u8], inner: &[u8], trailer: &[u8]) -> Vec<u8> {
    let digest = oid(SHA2, digest_arc(hash));
    let mask = sequence(&[&oid(RSA_PKCS1, 8), &sequence(&[&digest, inner])]);
    let salt = match hash {
        Hash::Sha256 => 32,
        Hash::Sha384 => 48,
        Hash::Sha512 => 64,
    };
    let parameters = sequence(&[
        &context(0, &sequence(&[&digest, outer])),
        &context(1, &mask),
        &context(2, &[2, 1, salt]),
        trailer,
    ]);
    sequence(&[&oid(RSA_PKCS1, 10), &parameters])
}

// Every element here is shorter than 128 bytes: its length is one byte.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, content.len() as u8];
    out.extend_from_slice(content);
    out
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

fn context(number: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | number, content)
}

fn oid(prefix: &[u8], last: u8) -> Vec<u8> {
    element(6, &[prefix, &[last]].concat())
}

const fn rsa_arc(hash: Hash) -> u8 {
    match hash {
        Hash::Sha256 => 11,
        Hash::Sha384 => 12,
        Hash::Sha512 => 13,
    }
}

const fn ecdsa_arc(hash: Hash) -> u8 {
    match hash {
        Hash::Sha256 => 2,
        Hash::Sha384 => 3,
        Hash::Sha512 => 4,
    }
}

const fn digest_arc(hash: Hash) -> u8 {
    match hash {
        Hash::Sha256 => 1,
        Hash::Sha384 => 2,
        Hash::Sha512 => 3,
    }
}
