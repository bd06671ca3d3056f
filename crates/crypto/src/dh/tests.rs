use super::*;

#[test]
fn both_ends_agree_in_every_group() {
    for &group in DhGroup::ALL {
        let ours = PrivateKey::generate(group).unwrap();
        let theirs = PrivateKey::generate(group).unwrap();
        assert_eq!(ours.public().len(), public_len(group));
        let secret = ours.agree(theirs.public()).unwrap();
        assert_eq!(secret, theirs.agree(ours.public()).unwrap(), "{group}");
        assert_ne!(
            secret,
            ours.agree(PrivateKey::generate(group).unwrap().public()).unwrap()
        );
    }
}

#[test]
fn public_values_out_of_range_are_refused() {
    for (group, prime) in [
        (DhGroup::Modp1024, primes::MODP_1024),
        (DhGroup::Modp2048, primes::MODP_2048),
        (DhGroup::Modp4096, primes::MODP_4096),
    ] {
        let key = PrivateKey::generate(group).unwrap();
        let prime = hex::decode(prime).unwrap();
        let zero = vec![0; prime.len()];
        let small = |value: u8| {
            let mut bytes = zero.clone();
            *bytes.last_mut().unwrap() = value;
            bytes
        };
        let below = |difference: u8| {
            let mut bytes = prime.clone();
            *bytes.last_mut().unwrap() -= difference;
            bytes
        };
        for bad in [small(0), small(1), below(1), below(0), vec![0xff; prime.len()]] {
            assert_eq!(key.agree(&bad), Err(DhError::PublicValue));
        }
        assert!(key.agree(&small(2)).is_ok());
        assert!(key.agree(&below(2)).is_ok());
        assert_eq!(key.agree(&prime[1..]), Err(DhError::PublicValue));
    }
}

#[test]
fn points_off_the_curve_and_zero_secrets_are_refused() {
    for group in [DhGroup::Ecp256, DhGroup::Ecp384, DhGroup::Ecp521] {
        let key = PrivateKey::generate(group).unwrap();
        let mut point = PrivateKey::generate(group).unwrap().public().to_vec();
        *point.last_mut().unwrap() ^= 1;
        assert_eq!(key.agree(&point), Err(DhError::PublicValue));
        assert_eq!(key.agree(&vec![0; public_len(group)]), Err(DhError::PublicValue));
    }
    let key = PrivateKey::generate(DhGroup::X25519).unwrap();
    assert_eq!(key.agree(&[0; 32]), Err(DhError::PublicValue));
    let mut one = [0; 32];
    one[0] = 1;
    assert_eq!(key.agree(&one), Err(DhError::PublicValue));
}

#[test]
fn x25519_agrees_with_rfc_7748_section_6_1() {
    let alice = hex::decode("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a").unwrap();
    let bob = hex::decode("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb").unwrap();
    let alice = curve::CurveKey::from_bytes(DhGroup::X25519, &alice).unwrap();
    let bob = curve::CurveKey::from_bytes(DhGroup::X25519, &bob).unwrap();
    assert_eq!(
        hex::encode(alice.public().unwrap()),
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    );
    assert_eq!(
        hex::encode(alice.agree(&bob.public().unwrap()).unwrap()),
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    );
}

#[test]
fn ecp_256_agrees_with_rfc_5903_section_8_1() {
    let i = hex::decode("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433").unwrap();
    let r = hex::decode("c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53").unwrap();
    let initiator = curve::CurveKey::from_bytes(DhGroup::Ecp256, &i).unwrap();
    let responder = curve::CurveKey::from_bytes(DhGroup::Ecp256, &r).unwrap();
    assert_eq!(
        hex::encode(initiator.public().unwrap()),
        concat!(
            "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180",
            "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
        )
    );
    let secret = initiator.agree(&responder.public().unwrap()).unwrap();
    assert_eq!(
        hex::encode(&secret),
        "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"
    );
}

#[test]
fn small_exponents_in_modp_give_plain_powers_of_two() {
    // 2^10 = 1024 needs no reduction; 2^256 fills exactly 33 bytes.
    let modp = modp::Modp::of(DhGroup::Modp2048).unwrap();
    let public = modp::Exponent::from_bytes(modp, &[10]).public();
    assert_eq!(public.len(), 256);
    assert_eq!(&public[252..], [0, 0, 4, 0]);
    assert!(public[..252].iter().all(|byte| *byte == 0));
    let public = modp::Exponent::from_bytes(modp, &[1, 0]).public();
    assert_eq!(public[256 - 33], 1);
    assert!(public[256 - 32..].iter().all(|byte| *byte == 0));
}

#[test]
fn larger_curves_agree_with_rfc_5903_sections_8_2_and_8_3() {
    let cases = [
        (
            DhGroup::Ecp384,
            "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
            "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
            concat!(
                "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa",
                "9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
            ),
            "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
        ),
        (
            DhGroup::Ecp521,
            concat!(
                "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a0",
                "95aa85a30fe1c2952c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52",
            ),
            concat!(
                "0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e",
                "9c677d600b343757a3bdbf2a3163e4c2f869cca7458aa4a4effc311f5cb151685eb9",
            ),
            concat!(
                "0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbe",
                "e1e3bf42e00b8e380aeae57c2d107564941885942af5a7f4601723c4195d176ced3e",
                "017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10a",
                "d8a788015ac405d7799dc75e7b7d5b6cf2261a6a7f1507438bf01beb6ca3926f9582",
            ),
            concat!(
                "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04",
                "d1427e73ca4baa240a34786859810c06b3c715a3a8cc3151f2bee417996d19f3ddea",
            ),
        ),
    ];
    for (group, i, r, public, secret) in cases {
        let key = |text: &str| curve::CurveKey::from_bytes(group, &hex::decode(text).unwrap()).unwrap();
        let (initiator, responder) = (key(i), key(r));
        assert_eq!(hex::encode(initiator.public().unwrap()), public, "{group}");
        for (own, other) in [(&initiator, &responder), (&responder, &initiator)] {
            let agreed = own.agree(&other.public().unwrap()).unwrap();
            assert_eq!(hex::encode(&agreed), secret, "{group}");
        }
    }
}
