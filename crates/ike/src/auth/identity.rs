//! Identities (RFC 7296 section 3.5).

use std::net::IpAddr;

use isthmus_crypto::certificate::DistinguishedName;
use isthmus_wire::ike::{IdType, Identification};

use crate::config::IkeIdentity;

pub(crate) fn encode_identity(identity: &IkeIdentity) -> Identification {
    match identity {
        IkeIdentity::Address(IpAddr::V4(address)) => {
            Identification::new(IdType::IPV4_ADDR, address.octets().to_vec())
        }
        IkeIdentity::Address(IpAddr::V6(address)) => {
            Identification::new(IdType::IPV6_ADDR, address.octets().to_vec())
        }
        IkeIdentity::DistinguishedName(text) => Identification::new(
            IdType::DER_ASN1_DN,
            DistinguishedName::parse(text)
                .and_then(|name| name.to_der())
                .unwrap_or_default(),
        ),
        IkeIdentity::Email(text) => Identification::new(IdType::RFC822_ADDR, text.as_bytes().to_vec()),
        IkeIdentity::Fqdn(text) => Identification::new(IdType::FQDN, text.as_bytes().to_vec()),
        IkeIdentity::KeyId(bytes) => Identification::new(IdType::KEY_ID, bytes.clone()),
    }
}

/// Whether a received identity is the expected one: type and bytes, of distinguished names type and meaning.
pub(crate) fn is_identity(received: &Identification, expected: &IkeIdentity) -> bool {
    if let IkeIdentity::DistinguishedName(text) = expected {
        let expected = DistinguishedName::parse(text);
        return received.id_type == IdType::DER_ASN1_DN
            && expected.is_some()
            && DistinguishedName::from_der(&received.data) == expected;
    }
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
        (None, IdType::DER_ASN1_DN) => match DistinguishedName::from_der(&received.data) {
            Some(name) => format!("distinguished name {name}"),
            None => "a distinguished name that cannot be read".into(),
        },
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
    fn bytes_of_the_peer_are_escaped() {
        let id = Identification::new(IdType::FQDN, b"a\nb\x1b[0m".to_vec());
        assert_eq!(describe_identity(&id), "name a\\nb\\u{1b}[0m");
    }
}
