use super::*;
use crate::ike::{DecodeError, Element, HEADER_LEN, IkeSpi};

fn header() -> IsakmpHeader {
    IsakmpHeader {
        initiator_cookie: IkeSpi(0x0102_0304_0506_0708),
        responder_cookie: IkeSpi(0x1112_1314_1516_1718),
        next_payload: PayloadType::NONE,
        minor_version: 0,
        exchange: ExchangeType::QUICK,
        flags: IsakmpFlags::ENCRYPTION,
        message_id: 7,
        length: 0,
    }
}

/// Every kind of payload, with codepoints that we know and that we do not know.
fn payloads() -> Vec<Payload> {
    vec![
        Payload::Hash(vec![1; 20]),
        Payload::Sa(SaPayload::ipsec(vec![
            Proposal {
                number: 1,
                protocol: ProtocolId::ESP,
                spi: vec![1, 2, 3, 4],
                transforms: vec![
                    Transform {
                        number: 1,
                        id: 12,
                        attributes: vec![
                            Attribute::number(6, 256),
                            Attribute::number(2, 86_400),
                            Attribute::Variable {
                                kind: 99,
                                value: Vec::new(),
                            },
                        ],
                    },
                    Transform {
                        number: 2,
                        id: 250,
                        attributes: Vec::new(),
                    },
                ],
            },
            Proposal {
                number: 2,
                protocol: ProtocolId(77),
                spi: Vec::new(),
                transforms: Vec::new(),
            },
        ])),
        Payload::Ke(vec![5; 32]),
        Payload::Nonce(vec![6; 16]),
        Payload::Id(Identification {
            id_type: IdType::IPV4_ADDR_SUBNET,
            protocol: 17,
            port: 500,
            data: vec![10, 0, 0, 0, 255, 0, 0, 0],
        }),
        Payload::Notify(NotifyPayload::new(
            ProtocolId::ISAKMP,
            vec![9; 16],
            NotifyType::R_U_THERE,
            vec![0, 0, 0, 1],
        )),
        Payload::Delete(DeletePayload::one(ProtocolId::ESP, vec![1, 2, 3, 4])),
        Payload::VendorId(vec![3; 16]),
        Payload::NatD(vec![4; 20]),
        Payload::Other {
            payload_type: PayloadType(200),
            body: vec![1, 2],
        },
    ]
}

fn decode(message: &[u8]) -> Result<(IsakmpHeader, Chain), DecodeError> {
    let header = IsakmpHeader::decode(message)?;
    let chain = Chain::decode(header.next_payload, &message[HEADER_LEN..])?;
    Ok((header, chain))
}

#[test]
fn every_payload_survives_a_round_trip_and_its_place_is_told() {
    let payloads = payloads();
    let message = encode_message(header(), &payloads);
    let (read, chain) = decode(&message).unwrap();
    assert_eq!(read.message_id, 7);
    assert_eq!(chain.payloads, payloads);
    let content = &message[HEADER_LEN..];
    assert_eq!(chain.len, content.len());
    for (index, payload) in payloads.iter().enumerate() {
        let mut body = Vec::new();
        payload.encode_body(&mut body);
        assert_eq!(chain.body(index, content), Some(body.as_slice()));
    }
}

#[test]
fn bytes_after_the_last_payload_are_left_over() {
    let mut content = Vec::new();
    let first = encode_chain(&payloads(), &mut content);
    let len = content.len();
    content.extend_from_slice(&[0xaa; 15]);
    assert_eq!(Chain::decode(first, &content).unwrap().len, len);
}

#[test]
fn every_truncation_is_an_error() {
    let message = encode_message(header(), &payloads());
    for len in 0..message.len() {
        let mut cut = message[..len].to_vec();
        assert!(decode(&cut).is_err(), "{len}");
        if len >= HEADER_LEN {
            cut[24..28].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
            assert!(decode(&cut).is_err(), "{len} with a fitting length");
        }
    }
}

#[test]
fn no_changed_byte_panics_and_what_is_read_can_be_written() {
    let message = encode_message(header(), &payloads());
    for place in 0..message.len() {
        for value in [0, 1, 2, 3, 4, 8, 0x7f, 0x80, 0xff] {
            let mut changed = message.clone();
            changed[place] = value;
            if let Ok((header, chain)) = decode(&changed) {
                let again = encode_message(header, &chain.payloads);
                let (_, chain_again) = decode(&again).unwrap();
                assert_eq!(chain_again.payloads, chain.payloads);
            }
        }
    }
}

#[test]
fn limits_are_kept() {
    let many = vec![Payload::VendorId(vec![1]); MAX_PAYLOADS + 1];
    assert_eq!(
        decode(&encode_message(header(), &many)),
        Err(DecodeError::TooMany(Element::Message))
    );
    let mut spis = DeletePayload::one(ProtocolId::ESP, vec![0; 4]);
    spis.spis = vec![vec![0; 4]; MAX_DELETE_SPIS + 1];
    assert_eq!(
        decode(&encode_message(header(), &[Payload::Delete(spis)])),
        Err(DecodeError::TooMany(Element::Delete))
    );
    for len in [7, 257] {
        assert_eq!(
            decode(&encode_message(header(), &[Payload::Nonce(vec![0; len])])),
            Err(DecodeError::Malformed(Element::Nonce))
        );
    }
    let mut other = encode_message(header(), &[]);
    other[17] = 0x20;
    assert_eq!(decode(&other), Err(DecodeError::Version(2)));
}

#[test]
fn numbers_are_read_in_both_forms() {
    assert_eq!(Attribute::number(1, 65_535).value(), Some(65_535));
    assert_eq!(Attribute::number(1, 65_536).value(), Some(65_536));
    let variable = |value: &[u8]| Attribute::Variable {
        kind: 12,
        value: value.to_vec(),
    };
    assert_eq!(variable(&[0, 1, 0x51, 0x80]).value(), Some(86_400));
    assert_eq!(variable(&[]).value(), Some(0));
    assert_eq!(variable(&[0; 20]).value(), Some(0));
    assert_eq!(variable(&[1; 9]).value(), None);
}
