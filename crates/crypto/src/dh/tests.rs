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
