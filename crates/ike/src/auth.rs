//! Identities and the proof of the pre-shared key (RFC 7296 sections 2.15 and 3.5).

use std::net::IpAddr;

use isthmus_crypto::prf::{constant_time_equal, prf};
use isthmus_types::{Prf, Secret};
use isthmus_wire::ike::{AuthMethod, AuthPayload, IdType, Identification};
use zeroize::Zeroizing;

use crate::config::IkeIdentity;
use crate::error::{AuthenticationFailure, IkeError};

const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// What one side proves to have sent.
pub(crate) struct SignedOctets<'a> {
    /// The side's last IKE_SA_INIT message, as sent.
    pub(crate) message: &'a [u8],
    /// The other side's nonce.
    pub(crate) other_nonce: &'a [u8],
    /// SK_pi or SK_pr of the side.
    pub(crate) prove_key: &'a [u8],
    /// Body of the side's identification payload, as sent.
    pub(crate) identity: &'a [u8],
}

pub(crate) fn make_proof(function: Prf, psk: &Secret, signed: &SignedOctets<'_>) -> AuthPayload {
    AuthPayload {
        method: AuthMethod::SHARED_KEY,
        data: proof(function, psk, signed).to_vec(),
    }
}

pub(crate) fn check_proof(
    function: Prf,
    psk: &Secret,
    signed: &SignedOctets<'_>,
    received: &AuthPayload,
) -> Result<(), IkeError> {
    // Computed in any case, so that the time taken does not tell why a proof is refused.
    let expected = proof(function, psk, signed);
    if received.method != AuthMethod::SHARED_KEY {
        return Err(IkeError::Authentication(AuthenticationFailure::Method));
    }
    if constant_time_equal(&expected, &received.data) {
        Ok(())
    } else {
        Err(IkeError::Authentication(AuthenticationFailure::Key))
    }
}

fn proof(function: Prf, psk: &Secret, signed: &SignedOctets<'_>) -> Zeroizing<Vec<u8>> {
    let key = prf(function, psk.reveal().as_bytes(), &[KEY_PAD]);
    let identity = prf(function, signed.prove_key, &[signed.identity]);
    prf(function, &key, &[signed.message, signed.other_nonce, &identity])
}

pub(crate) fn encode_identity(identity: &IkeIdentity) -> Identification {
    match identity {
        IkeIdentity::Address(IpAddr::V4(address)) => {
            Identification::new(IdType::IPV4_ADDR, address.octets().to_vec())
        }
        IkeIdentity::Address(IpAddr::V6(address)) => {
            Identification::new(IdType::IPV6_ADDR, address.octets().to_vec())
        }
        IkeIdentity::Email(text) => Identification::new(IdType::RFC822_ADDR, text.as_bytes().to_vec()),
        IkeIdentity::Fqdn(text) => Identification::new(IdType::FQDN, text.as_bytes().to_vec()),
        IkeIdentity::KeyId(bytes) => Identification::new(IdType::KEY_ID, bytes.clone()),
    }
}

/// Whether a received identity is the expected one: type and bytes.
pub(crate) fn is_identity(received: &Identification, expected: &IkeIdentity) -> bool {
    let expected = encode_identity(expected);
    received.id_type == expected.id_type && received.data == expected.data
}

/// A received identity in words. Bytes of the peer are escaped.
pub(crate) fn describe_identity(received: &Identification) -> String {
    let text = || {
        String::from_utf8_lossy(&received.data)
            .escape_default()
            .to_string()
    };
    let address = match received.id_type {
        IdType::IPV4_ADDR => <[u8; 4]>::try_from(received.data.as_slice())
            .map(IpAddr::from)
            .ok(),
        IdType::IPV6_ADDR => <[u8; 16]>::try_from(received.data.as_slice())
            .map(IpAddr::from)
            .ok(),
        _ => None,
    };
    match (address, received.id_type) {
        (Some(address), _) => format!("address {address}"),
        (None, IdType::FQDN) => format!("name {}", text()),
        (None, IdType::RFC822_ADDR) => format!("e-mail {}", text()),
        (None, IdType::KEY_ID) => IkeIdentity::KeyId(received.data.clone()).to_string(),
        (None, other) => format!("{other:?} {}", text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_of_different_types_never_match() {
        let address = IkeIdentity::Address("192.0.2.1".parse().unwrap());
        let name = IkeIdentity::Fqdn("192.0.2.1".into());
        assert!(is_identity(&encode_identity(&address), &address));
        assert!(!is_identity(&encode_identity(&name), &address));
        assert!(!is_identity(&encode_identity(&address), &name));
        assert!(!is_identity(
            &encode_identity(&IkeIdentity::Email("a@b".into())),
            &IkeIdentity::Fqdn("a@b".into())
        ));
    }

    #[test]
    fn a_proof_holds_only_for_its_key_and_octets() {
        let psk = Secret::new("secret".into());
        let signed = SignedOctets {
            message: b"message",
            other_nonce: b"nonce",
            prove_key: b"key",
            identity: b"identity",
        };
        let proof = make_proof(Prf::HmacSha2_256, &psk, &signed);
        assert!(check_proof(Prf::HmacSha2_256, &psk, &signed, &proof).is_ok());
        let other = Secret::new("Secret".into());
        assert_eq!(
            check_proof(Prf::HmacSha2_256, &other, &signed, &proof),
            Err(IkeError::Authentication(AuthenticationFailure::Key))
        );
        let changed = SignedOctets {
            other_nonce: b"noncf",
            ..signed
        };
        assert!(check_proof(Prf::HmacSha2_256, &psk, &changed, &proof).is_err());
    }

    #[test]
    fn bytes_of_the_peer_are_escaped() {
        let id = Identification::new(IdType::FQDN, b"a\nb\x1b[0m".to_vec());
        assert_eq!(describe_identity(&id), "name a\\nb\\u{1b}[0m");
    }
}
