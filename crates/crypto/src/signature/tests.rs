use rcgen::{KeyPair as Generated, RsaKeySize};

use super::*;

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

fn key(pair: &Generated) -> SigningKey {
    SigningKey::from_pem(&Secret::new(pair.serialize_pem())).unwrap()
}

fn public(pair: &Generated) -> PublicKey {
    use rcgen::PublicKeyData as _;
    PublicKey::new(&SubjectPublicKeyInfoOwned::try_from(&pair.subject_public_key_info()[..]).unwrap())
        .unwrap()
}

/// RFC 7427 appendix A, as printed there.
#[test]
fn identifiers_are_those_of_rfc_7427() {
    let cases = [
        (Scheme::RsaPkcs1(Hash::Sha256), "300d06092a864886f70d01010b0500"),
        (Scheme::RsaPkcs1(Hash::Sha384), "300d06092a864886f70d01010c0500"),
        (Scheme::RsaPkcs1(Hash::Sha512), "300d06092a864886f70d01010d0500"),
        (Scheme::Ecdsa(Hash::Sha256), "300a06082a8648ce3d040302"),
        (Scheme::Ecdsa(Hash::Sha384), "300a06082a8648ce3d040303"),
        (Scheme::Ecdsa(Hash::Sha512), "300a06082a8648ce3d040304"),
        (Scheme::Ed25519, "300506032b6570"),
        (
            Scheme::RsaPss(Hash::Sha256),
            "304106092a864886f70d01010a3034a00f300d06096086480165030402010500
             a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120",
        ),
    ];
    for (scheme, expected) in cases {
        let expected = hex(expected);
        assert_eq!(identifier_of(scheme), expected, "{scheme:?}");
        assert_eq!(scheme_of(&expected), Identified::Scheme(scheme));
    }
}

#[test]
fn identifiers_over_sha_1_are_weak_and_stretched_ones_unknown() {
    for weak in [
        "300d06092a864886f70d0101050500",
        "300906072a8648ce3d0401",
        "300d06092a864886f70d01010a3000",
    ] {
        assert_eq!(scheme_of(&hex(weak)), Identified::Weak);
    }
    let pss = identifier_of(Scheme::RsaPss(Hash::Sha256));
    let mut other_salt = pss.clone();
    *other_salt.last_mut().unwrap() = 0x14;
    assert_eq!(scheme_of(&other_salt), Identified::Unknown);
    for index in 0..pss.len() {
        let mut changed = pss.clone();
        changed[index] ^= 1;
        assert_ne!(
            scheme_of(&changed),
            Identified::Scheme(Scheme::RsaPss(Hash::Sha256)),
            "{index}"
        );
        assert_eq!(scheme_of(&pss[..index]), Identified::Unknown);
    }
}

#[test]
fn every_kind_of_key_signs_and_checks_with_every_scheme_it_has() {
    let rsa = |size| Generated::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    let of = |algorithm| Generated::generate_for(algorithm).unwrap();
    let all = [
        (rsa(RsaKeySize::_2048), KeyKind::Rsa { bits: 2048 }),
        (rsa(RsaKeySize::_3072), KeyKind::Rsa { bits: 3072 }),
        (rsa(RsaKeySize::_4096), KeyKind::Rsa { bits: 4096 }),
        (of(&rcgen::PKCS_ECDSA_P256_SHA256), KeyKind::P256),
        (of(&rcgen::PKCS_ECDSA_P384_SHA384), KeyKind::P384),
        (of(&rcgen::PKCS_ECDSA_P521_SHA512), KeyKind::P521),
        (of(&rcgen::PKCS_ED25519), KeyKind::Ed25519),
    ];
    let schemes: Vec<Scheme> = Hash::ALL
        .into_iter()
        .flat_map(|hash| [Scheme::RsaPkcs1(hash), Scheme::RsaPss(hash), Scheme::Ecdsa(hash)])
        .chain([Scheme::Ed25519])
        .collect();
    let stranger = public(&of(&rcgen::PKCS_ED25519));
    for (pair, kind) in &all {
        let (private, public) = (key(pair), public(pair));
        assert_eq!((private.kind(), public.kind()), (*kind, *kind));
        assert!(private.belongs_to(&public));
        assert!(!private.belongs_to(&stranger));
        assert_eq!(format!("{private:?}"), format!("[{kind} key]"));
        let mut made = 0;
        for scheme in &schemes {
            let Ok(signature) = private.sign(*scheme, b"message") else {
                continue;
            };
            made += 1;
            assert_eq!(
                public.verify(*scheme, b"message", &signature),
                Ok(()),
                "{kind} {scheme:?}"
            );
            assert_eq!(
                public.verify(*scheme, b"massage", &signature),
                Err(SignatureError::Bad),
                "{kind} {scheme:?}"
            );
            let mut changed = signature.clone();
            *changed.last_mut().unwrap() ^= 1;
            assert!(public.verify(*scheme, b"message", &changed).is_err());
            assert!(public.verify(*scheme, b"message", &signature[1..]).is_err());
        }
        let expected = if matches!(kind, KeyKind::Rsa { .. }) { 6 } else { 1 };
        assert_eq!(made, expected, "{kind}");
        let scheme = private.scheme_for(&Hash::ALL, true).unwrap();
        assert!(private.sign(scheme, b"message").is_ok());
        assert_eq!(private.scheme_for(&[], false), None);
    }
}

#[test]
fn older_signatures_without_a_name_are_checked() {
    let pair = Generated::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let (private, public) = (key(&pair), public(&pair));
    for hash in Hash::ALL {
        let signature = private.sign(Scheme::RsaPkcs1(hash), b"message").unwrap();
        assert_eq!(public.verify_unnamed_rsa(b"message", &signature), Ok(()));
        assert_eq!(
            public.verify_unnamed_rsa(b"massage", &signature),
            Err(SignatureError::Bad)
        );
    }
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
    ] {
        let pair = Generated::generate_for(algorithm).unwrap();
        let (private, public) = (key(&pair), self::public(&pair));
        let signature = private.sign_fixed_ecdsa(b"message").unwrap();
        assert_eq!(public.verify_fixed_ecdsa(b"message", &signature), Ok(()));
        assert_eq!(
            public.verify_fixed_ecdsa(b"massage", &signature),
            Err(SignatureError::Bad)
        );
        assert_eq!(
            public.verify_unnamed_rsa(b"message", &signature),
            Err(SignatureError::OtherKeyKind)
        );
    }
}

fn rsa_of(bits: usize, exponent: u8) -> Result<KeyKind, KeyError> {
    let mut modulus = vec![0xff; bits / 8];
    modulus.insert(0, 0);
    let integer = |bytes: &[u8]| {
        let mut out = vec![2, 0x82];
        out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        out.extend_from_slice(bytes);
        out
    };
    let mut content = integer(&modulus);
    content.extend_from_slice(&[2, 3, 1, 0, exponent]);
    let mut key = vec![0x30, 0x82];
    key.extend_from_slice(&(content.len() as u16).to_be_bytes());
    key.extend_from_slice(&content);
    rsa_kind(&key)
}

#[test]
fn weak_and_odd_rsa_keys_are_refused() {
    assert_eq!(rsa_of(2048, 1), Ok(KeyKind::Rsa { bits: 2048 }));
    assert!(matches!(rsa_of(2040, 1), Err(KeyError::Weak(text)) if text.contains("2040 bits")));
    assert!(matches!(rsa_of(2048, 0), Err(KeyError::Weak(text)) if text.contains("65536")));
    assert_eq!(rsa_of(16_384, 1), Err(KeyError::Unsupported));
    assert_eq!(rsa_kind(b"\x30\x03\x02\x01"), Err(KeyError::Malformed));
    assert_eq!(rsa_kind(b""), Err(KeyError::Malformed));
}

#[test]
fn what_is_no_key_is_refused() {
    for text in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "key",
    ] {
        assert!(SigningKey::from_pem(&Secret::new(text.into())).is_err());
    }
}
