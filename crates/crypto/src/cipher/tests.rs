use isthmus_types::{Encryption, Integrity};
use zeroize::Zeroizing;

use super::*;

fn keys(encryption: &[u8], integrity: &[u8]) -> KeyMaterial {
    KeyMaterial::new(
        Zeroizing::new(encryption.to_vec()),
        Zeroizing::new(integrity.to_vec()),
    )
}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

fn every_suite() -> Vec<CipherSuite> {
    let mut suites = Vec::new();
    for &encryption in Encryption::ALL {
        if encryption.is_aead() {
            suites.push(CipherSuite::new(encryption, None).unwrap());
        } else {
            for &integrity in Integrity::ALL {
                suites.push(CipherSuite::new(encryption, Some(integrity)).unwrap());
            }
        }
    }
    suites
}

fn some_keys(suite: CipherSuite) -> KeyMaterial {
    let encryption: Vec<u8> = (0..suite.encryption_key_len() as u8).collect();
    let integrity: Vec<u8> = (100..100 + suite.integrity_key_len() as u8).collect();
    keys(&encryption, &integrity)
}

#[test]
fn exactly_the_ciphers_that_are_no_aead_take_an_integrity_algorithm() {
    assert_eq!(
        CipherSuite::new(Encryption::Aes128Cbc, None),
        Err(SuiteError::IntegrityMissing)
    );
    assert_eq!(
        CipherSuite::new(Encryption::Aes128Gcm16, Some(Integrity::HmacSha1_96)),
        Err(SuiteError::IntegrityGiven)
    );
}

#[test]
fn every_suite_opens_what_it_sealed_and_nothing_else() {
    for suite in every_suite() {
        let material = some_keys(suite);
        let sealer = Sealer::new(suite, &material).unwrap();
        let opener = Opener::new(suite, &material).unwrap();
        let plain: Vec<u8> = (0..96).collect();
        let aad = [1u8, 2, 3, 4, 5, 6, 7, 8];
        let mut iv = vec![0u8; suite.iv_len()];
        sealer.make_iv(1, &mut iv).unwrap();
        let mut data = plain.clone();
        let mut icv = vec![0u8; suite.icv_len()];
        sealer.seal(&aad, &iv, &mut data, &mut icv).unwrap();
        assert_ne!(data, plain, "{suite}");

        let mut opened = vec![0u8; data.len()];
        opener.open_into(&aad, &iv, &data, &icv, &mut opened).unwrap();
        assert_eq!(opened, plain, "{suite}");
        let mut in_place = data.clone();
        opener.open(&aad, &iv, &mut in_place, &icv).unwrap();
        assert_eq!(in_place, plain, "{suite}");

        let mut parts = [aad.to_vec(), iv.clone(), data.clone(), icv.clone()];
        for part in 0..parts.len() {
            for index in 0..parts[part].len() {
                parts[part][index] ^= 0x40;
                let mut scratch = parts[2].clone();
                let [aad, iv, data, icv] = &parts;
                assert_eq!(opener.open(aad, iv, &mut scratch, icv), Err(OpenError), "{suite}");
                assert_eq!(
                    opener.open_into(aad, iv, data, icv, &mut scratch),
                    Err(OpenError),
                    "{suite}"
                );
                parts[part][index] ^= 0x40;
            }
        }
        assert_eq!(
            opener.open(&aad, &iv, &mut data, &icv[1..]),
            Err(OpenError),
            "{suite}"
        );
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for suite in every_suite() {
        let mut short = some_keys(suite).encryption().to_vec();
        short.pop();
        let material = keys(&short, some_keys(suite).integrity());
        assert_eq!(Sealer::new(suite, &material).err(), Some(SuiteError::KeyLength));
        assert_eq!(Opener::new(suite, &material).err(), Some(SuiteError::KeyLength));
        let sealer = Sealer::new(suite, &some_keys(suite)).unwrap();
        let mut icv = vec![0u8; suite.icv_len()];
        let mut data = vec![0u8; 48];
        assert_eq!(
            sealer.seal(b"", &vec![0; suite.iv_len() + 1], &mut data, &mut icv),
            Err(SealError)
        );
        assert_eq!(
            sealer.make_iv(0, &mut vec![0; suite.iv_len() - 1]),
            Err(SealError)
        );
        if suite.block_len() > 1 {
            assert_eq!(
                sealer.seal(b"", &vec![0; suite.iv_len()], &mut data[..47], &mut icv),
                Err(SealError)
            );
        }
    }
}

#[test]
fn cbc_ivs_differ_between_counters_and_between_sealers() {
    let suite = CipherSuite::new(Encryption::Aes128Cbc, Some(Integrity::HmacSha1_96)).unwrap();
    let make = |sealer: &Sealer, counter| {
        let mut iv = [0u8; 16];
        sealer.make_iv(counter, &mut iv).unwrap();
        iv
    };
    let first = Sealer::new(suite, &some_keys(suite)).unwrap();
    let second = Sealer::new(suite, &some_keys(suite)).unwrap();
    assert_ne!(make(&first, 1), make(&first, 2));
    assert_ne!(make(&first, 1), make(&second, 1));
}

/// GCM specification (McGrew, Viega), test case 4 with 60 bytes of plaintext, and its AES-192 and AES-256 kin
/// (cases 10 and 16), whose 12-byte nonce we write as salt and IV.
#[test]
fn aes_gcm_matches_its_published_test_cases() {
    let plain = bytes(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    );
    let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    let cases = [
        (
            Encryption::Aes128Gcm16,
            32,
            "42831ec2217774244b7221b784d0d49c",
            "5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            Encryption::Aes192Gcm16,
            48,
            "3980ca0b3c00e841eb06fac4872a2757",
            "2519498e80f1478f37ba55bd6d27618c",
        ),
        (
            Encryption::Aes256Gcm16,
            64,
            "522dc1f099567d07f47f37a32a84427d",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];
    for (encryption, digits, first_block, tag) in cases {
        let suite = CipherSuite::new(encryption, None).unwrap();
        let mut material = bytes(&key[..digits]);
        material.extend(bytes("cafebabe"));
        let sealer = Sealer::new(suite, &keys(&material, &[])).unwrap();
        let mut data = plain.clone();
        let mut icv = [0u8; 16];
        sealer
            .seal(&aad, &bytes("facedbaddecaf888"), &mut data, &mut icv)
            .unwrap();
        assert_eq!(hex::encode(&data[..16]), first_block);
        assert_eq!(hex::encode(icv), tag, "{encryption}");
    }
}

/// RFC 7634 appendix A: an ESP packet.
#[test]
fn chacha20_poly1305_matches_rfc_7634() {
    let suite = CipherSuite::new(Encryption::ChaCha20Poly1305, None).unwrap();
    let material = bytes("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3");
    let sealer = Sealer::new(suite, &keys(&material, &[])).unwrap();
    let mut data = bytes(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10
         0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
         2425262728292a2b2c2d2e2f3031323334353637 01020204",
    );
    let mut icv = [0u8; 16];
    sealer
        .seal(
            &bytes("0102030400000005"),
            &bytes("1011121314151617"),
            &mut data,
            &mut icv,
        )
        .unwrap();
    assert_eq!(
        data,
        bytes(
            "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6
             14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3
             cbec163fac469b502773f6fb94e664da9165b82829f641e0"
        )
    );
    assert_eq!(hex::encode(icv), "76aaa8266b7fb0f7b11b369907e1ad43");
}

/// RFC 3602 section 4, case 3 and NIST SP 800-38A F.2 (first block), checked through the decrypting side.
#[test]
fn aes_cbc_matches_published_vectors() {
    let cases = [
        (
            Encryption::Aes128Cbc,
            "2b7e151628aed2a6abf7158809cf4f3c",
            "7649abac8119b246cee98e9b12e9197d",
        ),
        (
            Encryption::Aes192Cbc,
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "4f021db243bc633d7178183a9fa071e8",
        ),
        (
            Encryption::Aes256Cbc,
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd6",
        ),
    ];
    for (encryption, key, expected) in cases {
        let suite = CipherSuite::new(encryption, Some(Integrity::HmacSha2_256_128)).unwrap();
        let sealer = Sealer::new(suite, &keys(&bytes(key), &[0; 32])).unwrap();
        let mut data = bytes("6bc1bee22e409f96e93d7e117393172a");
        let mut icv = [0u8; 16];
        sealer
            .seal(
                b"",
                &bytes("000102030405060708090a0b0c0d0e0f"),
                &mut data,
                &mut icv,
            )
            .unwrap();
        assert_eq!(hex::encode(data), expected);
    }
}

/// RFC 2202 and RFC 4231, the cases whose key has the algorithm's own length or whose text is short.
#[test]
fn truncated_hmacs_match_published_vectors() {
    let cases = [
        (Integrity::HmacMd5_96, vec![0x0b; 16], "9294727a3638bb1c13f48ef8"),
        (Integrity::HmacSha1_96, vec![0x0b; 20], "b617318655057264e28bc0b6"),
        (
            Integrity::HmacSha2_256_128,
            vec![0x0b; 20],
            "b0344c61d8db38535ca8afceaf0bf12b",
        ),
        (
            Integrity::HmacSha2_384_192,
            vec![0x0b; 20],
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec6",
        ),
        (
            Integrity::HmacSha2_512_256,
            vec![0x0b; 20],
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde",
        ),
    ];
    for (integrity, key, expected) in cases {
        let expected = bytes(expected);
        let mut icv = vec![0u8; expected.len()];
        let mac = Mac::new(integrity, &key);
        mac.sign(&[b"Hi ", b"", b"There"], &mut icv);
        assert_eq!(icv, expected, "{integrity}");
        mac.verify(&[b"Hi There"], &expected).unwrap();
        assert_eq!(mac.verify(&[b"Hi there"], &expected), Err(OpenError));
    }
}

/// RFC 4106 section 6 asks for the same cipher with the check value cut off: the published case, cut.
#[test]
fn aes_gcm_with_a_short_check_value_is_the_long_one_cut() {
    let cases = [
        (Encryption::Aes128Gcm8, 32, "5bc94fbc3221a5db"),
        (Encryption::Aes128Gcm12, 32, "5bc94fbc3221a5db94fae95a"),
        (Encryption::Aes192Gcm8, 48, "2519498e80f1478f"),
        (Encryption::Aes192Gcm12, 48, "2519498e80f1478f37ba55bd"),
        (Encryption::Aes256Gcm8, 64, "76fc6ece0f4e1768"),
        (Encryption::Aes256Gcm12, 64, "76fc6ece0f4e1768cddf8853"),
    ];
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    for (encryption, digits, tag) in cases {
        let suite = CipherSuite::new(encryption, None).unwrap();
        assert_eq!(suite.icv_len() * 2, tag.len());
        let mut material = bytes(&key[..digits]);
        material.extend(bytes("cafebabe"));
        let sealer = Sealer::new(suite, &keys(&material, &[])).unwrap();
        let mut data = bytes(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
             1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let mut icv = vec![0u8; suite.icv_len()];
        let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        sealer
            .seal(&aad, &bytes("facedbaddecaf888"), &mut data, &mut icv)
            .unwrap();
        assert_eq!(hex::encode(icv), tag, "{encryption}");
    }
}

/// draft-mcgrew-gcm-test-01: ESP packets. The first has a 64-bit sequence number.
#[test]
fn aes_gcm_matches_published_esp_packets() {
    let suite = |encryption| CipherSuite::new(encryption, None).unwrap();
    let material = bytes("4c80cdefbb5d10da906ac73c3613a634 2e443b68");
    let sealer = Sealer::new(suite(Encryption::Aes128Gcm16), &keys(&material, &[])).unwrap();
    let mut data = bytes(
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
         00000000045f736970045f756470037369700963796265726369747902646b00
         0021000101020201",
    );
    let mut icv = [0u8; 16];
    let header = [0, 0, 0x43, 0x21, 0, 0, 0, 0];
    sealer
        .seal_extended(
            &header,
            0x8765_4321,
            &bytes("4956ed7e3b244cfe"),
            &mut data,
            &mut icv,
        )
        .unwrap();
    assert_eq!(
        data,
        bytes(
            "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
             cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
             61bc17d768fd9732"
        )
    );
    assert_eq!(hex::encode(icv), "459018148f6cbe722fd04796562dfdb4");

    let material = bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c cafebabe");
    let sealer = Sealer::new(suite(Encryption::Aes192Gcm16), &keys(&material, &[])).unwrap();
    let mut data = bytes(
        "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e
         501016d075680001",
    );
    sealer
        .seal(
            &bytes("0000a5f80000000a"),
            &bytes("facedbaddecaf888"),
            &mut data,
            &mut icv,
        )
        .unwrap();
    assert_eq!(
        data,
        bytes(
            "a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0
             315b27452144cc77"
        )
    );
    assert_eq!(hex::encode(icv), "95457b9652037f5318027b5b4cd7a636");
}

/// RFC 3602 section 4, cases 1 and 2.
#[test]
fn aes_cbc_matches_rfc_3602() {
    let cases = [
        (
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            "53696e676c6520626c6f636b206d7367",
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ),
    ];
    let suite = CipherSuite::new(Encryption::Aes128Cbc, Some(Integrity::HmacSha2_256_128)).unwrap();
    for (key, iv, plain, expected) in cases {
        let sealer = Sealer::new(suite, &keys(&bytes(key), &[0; 32])).unwrap();
        let mut data = bytes(plain);
        sealer.seal(b"", &bytes(iv), &mut data, &mut [0u8; 16]).unwrap();
        assert_eq!(hex::encode(data), expected);
    }
}

/// RFC 4868 section 2.7.2, the first case of each: keys of the length that IPsec uses.
#[test]
fn truncated_sha_2_hmacs_match_rfc_4868() {
    let cases = [
        (
            Integrity::HmacSha2_256_128,
            32,
            "198a607eb44bfbc69903a0f1cf2bbdc5",
        ),
        (
            Integrity::HmacSha2_384_192,
            48,
            "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973",
        ),
        (
            Integrity::HmacSha2_512_256,
            64,
            "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
        ),
    ];
    for (integrity, length, expected) in cases {
        let mut icv = vec![0u8; expected.len() / 2];
        Mac::new(integrity, &vec![0x0b; length]).sign(&[b"Hi There"], &mut icv);
        assert_eq!(hex::encode(icv), expected, "{integrity}");
    }
}
