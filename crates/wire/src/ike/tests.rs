use super::*;

fn header(exchange: ExchangeType) -> IkeHeader {
    IkeHeader {
        initiator_spi: IkeSpi(0x0102_0304_0506_0708),
        responder_spi: IkeSpi(0x1112_1314_1516_1718),
        next_payload: PayloadType::NONE,
        minor_version: 0,
        exchange,
        flags: IkeFlags::INITIATOR,
        message_id: 7,
        length: 0,
    }
}

fn proposals() -> Vec<Proposal> {
    vec![
        Proposal {
            number: 1,
            protocol: ProtocolId::ESP,
            spi: vec![1, 2, 3, 4],
            transforms: vec![
                Transform::with_key_length(TransformId::ENCR_AES_GCM_16, 256),
                Transform::new(TransformType::KE, TransformId(31)),
                Transform::new(TransformType::ESN, TransformId::ESN_NO),
            ],
        },
        Proposal {
            number: 2,
            protocol: ProtocolId(99),
            spi: Vec::new(),
            transforms: vec![Transform {
                transform_type: TransformType(77),
                id: TransformId(60_000),
                attributes: vec![
                    Attribute {
                        attribute_type: 0x8123,
                        value: vec![9, 9],
                    },
                    Attribute {
                        attribute_type: 0x0123,
                        value: vec![1, 2, 3, 4, 5],
                    },
                ],
            }],
        },
    ]
}

/// A chain for each kind of payload, with codepoints that we know and that we do not know.
fn chains() -> Vec<Vec<Payload>> {
    let v4 = TrafficSelector::addresses("10.1.0.0".parse().unwrap(), "10.1.255.255".parse().unwrap());
    let v6 = TrafficSelector::addresses("2001:db8::".parse().unwrap(), "2001:db8::ffff".parse().unwrap());
    let unknown = TrafficSelector::Unknown {
        ts_type: TsType(200),
        protocol: 6,
        data: vec![1, 2, 3],
    };
    vec![
        vec![
            Payload::Sa(proposals()),
            Payload::Ke(KePayload {
                method: TransformId(31),
                data: vec![5; 32],
            }),
            Payload::Nonce(vec![6; 32]),
        ],
        vec![
            Payload::IdInitiator(Identification::new(IdType::FQDN, b"a.example".to_vec())),
            Payload::IdResponder(Identification {
                id_type: IdType(250),
                reserved: [1, 2, 3],
                data: vec![0, 1],
            }),
            Payload::Auth(AuthPayload {
                method: AuthMethod(201),
                data: vec![7; 20],
            }),
        ],
        vec![
            Payload::TsInitiator(vec![v4.clone(), v6, unknown]),
            Payload::TsResponder(vec![v4]),
        ],
        vec![
            Payload::Notify(NotifyPayload::new(NotifyType::COOKIE, vec![1; 33])),
            Payload::Notify(NotifyPayload::about_esp(NotifyType(40_000), 0xdead_beef)),
            Payload::Delete(DeletePayload::ike()),
            Payload::Delete(DeletePayload::esp(&[256, 0xffff_ffff])),
        ],
        vec![
            Payload::VendorId(b"somebody".to_vec()),
            Payload::Other(RawPayload {
                payload_type: PayloadType(222),
                critical: true,
                body: vec![1, 2, 3],
            }),
            Payload::Certificate(CertificatePayload {
                encoding: CertificateEncoding::X509_SIGNATURE,
                data: vec![0x30, 0],
            }),
            Payload::CertificateRequest(CertificatePayload {
                encoding: CertificateEncoding::X509_SIGNATURE,
                data: Vec::new(),
            }),
        ],
    ]
}

#[test]
fn every_message_survives_a_round_trip() {
    for payloads in chains() {
        let bytes = encode_message(header(ExchangeType(240)), &payloads);
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.payloads, payloads);
        assert_eq!(message.header.exchange, ExchangeType(240));
        assert_eq!(encode_message(message.header, &message.payloads), bytes);
    }
}

#[test]
fn every_truncation_of_a_message_is_an_error() {
    for payloads in chains() {
        let bytes = encode_message(header(ExchangeType::IKE_SA_INIT), &payloads);
        for len in 0..bytes.len() {
            assert!(
                Message::decode(&bytes[..len]).is_err(),
                "{len} of {}",
                bytes.len()
            );
            if len >= HEADER_LEN {
                // The same with a header that tells the shorter length.
                let mut shorter = bytes[..len].to_vec();
                shorter[24..28].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
                assert!(Message::decode(&shorter).is_err(), "{len} of {}", bytes.len());
            }
        }
    }
}

#[test]
fn bytes_after_a_message_are_an_error() {
    for payloads in chains() {
        let mut bytes = encode_message(header(ExchangeType::IKE_SA_INIT), &payloads);
        bytes.push(0);
        assert!(Message::decode(&bytes).is_err());
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[24..28].copy_from_slice(&len.to_be_bytes());
        assert!(Message::decode(&bytes).is_err());
    }
}

#[test]
fn no_change_of_a_byte_panics_and_what_decodes_encodes_to_equal_values() {
    for payloads in chains() {
        let bytes = encode_message(header(ExchangeType::IKE_SA_INIT), &payloads);
        for index in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[index] = value;
                if let Ok(message) = Message::decode(&changed)
                    && message.encrypted.is_none()
                {
                    let again = encode_message(message.header, &message.payloads);
                    let reread = Message::decode(&again).unwrap();
                    assert_eq!(reread.payloads, message.payloads);
                }
            }
        }
    }
}

#[test]
fn tells_the_place_of_an_encrypted_payload() {
    let mut bytes = Vec::new();
    IkeHeader {
        next_payload: PayloadType::SK,
        length: 28 + 4 + 10,
        ..header(ExchangeType::IKE_AUTH)
    }
    .encode(&mut bytes);
    encode_generic_header(PayloadType::IDI, 10, &mut bytes);
    bytes.extend_from_slice(&[3; 10]);
    let message = Message::decode(&bytes).unwrap();
    assert_eq!(
        message.encrypted,
        Some(EncryptedPlace {
            payload_type: PayloadType::SK,
            first_inside: PayloadType::IDI,
            fragment: None,
            body: 32..42,
        })
    );
    for len in 0..bytes.len() {
        assert!(Message::decode(&bytes[..len]).is_err());
    }
}

fn fragment(number: u16, total: u16, body_len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    IkeHeader {
        next_payload: PayloadType::SKF,
        length: u32::try_from(28 + 4 + FRAGMENT_NUMBER_LEN + body_len).unwrap(),
        ..header(ExchangeType::IKE_AUTH)
    }
    .encode(&mut bytes);
    encode_generic_header(PayloadType::IDI, FRAGMENT_NUMBER_LEN + body_len, &mut bytes);
    encode_fragment_number(FragmentNumber { number, total }, &mut bytes);
    bytes.extend_from_slice(&vec![3; body_len]);
    bytes
}

#[test]
fn tells_the_number_of_a_fragment_and_the_place_of_its_body() {
    let bytes = fragment(2, 3, 10);
    assert_eq!(
        Message::decode(&bytes).unwrap().encrypted,
        Some(EncryptedPlace {
            payload_type: PayloadType::SKF,
            first_inside: PayloadType::IDI,
            fragment: Some(FragmentNumber { number: 2, total: 3 }),
            body: 36..46,
        })
    );
    for len in 0..bytes.len() {
        assert!(Message::decode(&bytes[..len]).is_err());
    }
    let mut short = fragment(1, 1, 0);
    short.truncate(34);
    short[24..28].copy_from_slice(&34u32.to_be_bytes());
    short[30..32].copy_from_slice(&6u16.to_be_bytes());
    assert_eq!(
        Message::decode(&short),
        Err(DecodeError::Truncated(Element::Encrypted))
    );
}

#[test]
fn fragment_numbers_that_cannot_be_are_refused() {
    for (number, total) in [(0, 0), (0, 3), (4, 3), (1, 0)] {
        assert_eq!(
            Message::decode(&fragment(number, total, 10)),
            Err(DecodeError::Malformed(Element::Encrypted)),
            "{number} of {total}"
        );
    }
}

#[test]
fn an_encrypted_payload_inside_a_chain_is_refused() {
    let mut bytes = Vec::new();
    encode_generic_header(PayloadType::NONE, 10, &mut bytes);
    bytes.extend_from_slice(&[3; 10]);
    assert_eq!(
        decode_chain(PayloadType::SK, &bytes),
        Err(DecodeError::Malformed(Element::Encrypted))
    );
}

#[test]
fn limits_hold() {
    let notify = Payload::Notify(NotifyPayload::new(NotifyType::COOKIE, Vec::new()));
    let bytes = encode_message(
        header(ExchangeType::INFORMATIONAL),
        &vec![notify.clone(); MAX_PAYLOADS],
    );
    assert!(Message::decode(&bytes).is_ok());
    let bytes = encode_message(
        header(ExchangeType::INFORMATIONAL),
        &vec![notify; MAX_PAYLOADS + 1],
    );
    assert_eq!(
        Message::decode(&bytes),
        Err(DecodeError::TooMany(Element::Message))
    );

    let proposal = proposals().remove(0);
    let too_many = vec![Payload::Sa(vec![proposal; MAX_PROPOSALS + 1])];
    let bytes = encode_message(header(ExchangeType::IKE_SA_INIT), &too_many);
    assert_eq!(
        Message::decode(&bytes),
        Err(DecodeError::TooMany(Element::Proposal))
    );

    let spis: Vec<u32> = (0..=u32::try_from(MAX_DELETE_SPIS).unwrap()).collect();
    let too_many = vec![Payload::Delete(DeletePayload::esp(&spis))];
    let bytes = encode_message(header(ExchangeType::INFORMATIONAL), &too_many);
    assert_eq!(
        Message::decode(&bytes),
        Err(DecodeError::TooMany(Element::Delete))
    );
}

#[test]
fn another_major_version_is_told_apart() {
    let mut bytes = encode_message(header(ExchangeType::IKE_SA_INIT), &[]);
    bytes[17] = 0x30;
    assert_eq!(Message::decode(&bytes), Err(DecodeError::Version(3)));
    bytes[17] = 0x2f;
    assert_eq!(Message::decode(&bytes).unwrap().header.minor_version, 15);
}

#[test]
fn short_and_long_nonces_are_refused() {
    for (len, ok) in [(15, false), (16, true), (256, true), (257, false)] {
        let bytes = encode_message(header(ExchangeType::IKE_SA_INIT), &[Payload::Nonce(vec![0; len])]);
        assert_eq!(Message::decode(&bytes).is_ok(), ok, "{len}");
    }
}

#[test]
fn an_attribute_that_is_no_key_length_makes_a_transform_unusable() {
    let mut transform = Transform::with_key_length(TransformId::ENCR_AES_CBC, 128);
    assert_eq!(transform.key_length(), Some(Some(128)));
    transform.attributes[0].attribute_type = 0x8001;
    assert_eq!(transform.key_length(), None);
    transform.attributes.clear();
    assert_eq!(transform.key_length(), Some(None));
}
