//! ESP packets between two daemons of strongSwan, recorded with their keys by `crates/netlab/examples/record.rs`: each opens,
//! holds the echo message that was sent, is what we would have sealed, and opens no more when a bit of it differs.

#![expect(clippy::unwrap_used, reason = "a test: what is wrong shall stop it")]

use std::collections::BTreeMap;

use isthmus_crypto::cipher::Sealer;
use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_esp::{DropReason, InboundSa, Opened, Selectors, TrafficRange};
use isthmus_types::{Cidr, Encryption, Integrity};
use isthmus_wire::esp::{ESP_HEADER_LEN, EspHeader};
use isthmus_wire::ip::IpHeader;
use zeroize::Zeroizing;

const ICMP: u8 = 1;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// One recorded tunnel.
struct Recording {
    suite: CipherSuite,
    /// SPI and keys of each direction of each Child SA, with whether the initiator sends on it.
    directions: Vec<(u32, KeyMaterial, bool)>,
    /// With whether the initiator sent it.
    packets: Vec<(Vec<u8>, bool)>,
}

#[test]
fn packets_of_aes_256_gcm_open() {
    check(
        include_str!("../../ike/tests/recordings/ikev2-aes256gcm16-ecp256.txt"),
        4,
    );
}

#[test]
fn packets_of_aes_128_cbc_with_sha_256_open_before_and_after_rekeys() {
    check(
        include_str!("../../ike/tests/recordings/ikev2-aes128-sha256-modp2048.txt"),
        16,
    );
}

#[test]
fn packets_of_chacha20_poly1305_open() {
    check(
        include_str!("../../ike/tests/recordings/ikev2-chacha20-x25519.txt"),
        8,
    );
}

#[test]
fn packets_of_ikev1_with_aes_128_cbc_and_sha_1_open() {
    check(
        include_str!("../../ike/tests/recordings/ikev1-aes128-sha1-modp1024.txt"),
        8,
    );
    check(
        include_str!("../../ike/tests/recordings/ikev1-aes128-sha1-modp2048-pfs.txt"),
        8,
    );
}

#[test]
fn packets_of_ikev1_with_aes_256_cbc_and_sha_1_open() {
    check(
        include_str!("../../ike/tests/recordings/ikev1-aes256-sha1-modp1024-pfs.txt"),
        4,
    );
}

fn check(text: &str, expected: usize) {
    let recording = Recording::read(text);
    assert_eq!(recording.packets.len(), expected);
    let mut last_window: BTreeMap<u32, InboundSa> = BTreeMap::new();
    for (packet, from_initiator) in &recording.packets {
        let spi = EspHeader::decode(packet).unwrap().spi;
        let (_, keys, sent_by_initiator) = recording
            .directions
            .iter()
            .find(|direction| direction.0 == spi)
            .expect("a Child SA with that SPI");
        assert_eq!(from_initiator, sent_by_initiator);
        let sa = || InboundSa::new(spi, recording.suite, keys, selectors(*from_initiator), 64).unwrap();

        let mut opened = packet.clone();
        let arrival = sa().open(&mut opened, 0).unwrap();
        let Opened::Inner { offset, header } = arrival.opened else {
            panic!("a dummy packet");
        };
        is_echo(
            &opened[offset..offset + header.total_len],
            header,
            *from_initiator,
        );
        resealed(recording.suite, keys, packet, &opened);

        for at in 0..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            // The number 0 is never sent: the window refuses it first.
            let expected = if EspHeader::decode(&changed).unwrap().sequence == 0 {
                DropReason::Replayed
            } else {
                DropReason::IntegrityFailed
            };
            let refusal = sa().open(&mut changed, 0).unwrap_err();
            assert_eq!(refusal, expected, "byte {at}");
        }
        for length in 0..packet.len() {
            assert!(
                sa().open(&mut packet[..length].to_vec(), 0).is_err(),
                "{length} bytes"
            );
        }
        let kept = last_window.entry(spi).or_insert_with(sa);
        assert!(kept.open(&mut packet.clone(), 0).is_ok());
        assert_eq!(kept.open(&mut packet.clone(), 0), Err(DropReason::Replayed));
    }
    // All of them were used.
    assert_eq!(last_window.len(), recording.directions.len());
}

/// The hosts behind the gateways ask and answer.
fn is_echo(packet: &[u8], header: IpHeader, from_initiator: bool) {
    let (near, far) = ("10.1.0.10".parse().unwrap(), "10.2.0.10".parse().unwrap());
    let (source, destination, kind) = if from_initiator {
        (near, far, ECHO_REQUEST)
    } else {
        (far, near, ECHO_REPLY)
    };
    assert_eq!(
        (header.source, header.destination, header.protocol),
        (source, destination, ICMP)
    );
    let message = &packet[header.header_len..];
    assert_eq!((message[0], message[1]), (kind, 0));
    let sum: u32 = message
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    assert_eq!(
        (sum & 0xffff) + (sum >> 16),
        0xffff,
        "the checksum of the message"
    );
}

/// Sealing what was opened with the same IV gives the packet back, byte for byte.
fn resealed(suite: CipherSuite, keys: &KeyMaterial, packet: &[u8], opened: &[u8]) {
    let (header, rest) = packet.split_at(ESP_HEADER_LEN);
    let (iv, sealed) = rest.split_at(suite.iv_len());
    let length = sealed.len() - suite.icv_len();
    let offset = ESP_HEADER_LEN + suite.iv_len();
    let mut data = opened[offset..offset + length].to_vec();
    let mut icv = vec![0; suite.icv_len()];
    let sealer = Sealer::new(suite, keys).unwrap();
    sealer.seal(header, iv, &mut data, &mut icv).unwrap();
    assert_eq!([header, iv, &data, &icv].concat(), packet);
}

fn selectors(from_initiator: bool) -> Selectors {
    let range = |text: &str| vec![TrafficRange::from_cidr(text.parse::<Cidr>().unwrap())];
    let (left, right) = (range("10.1.0.0/24"), range("10.2.0.0/24"));
    if from_initiator {
        Selectors {
            local: right,
            remote: left,
        }
    } else {
        Selectors {
            local: left,
            remote: right,
        }
    }
}

impl Recording {
    fn read(text: &str) -> Self {
        let facts = |word: &str| {
            let word = format!("{word} ");
            text.lines()
                .filter_map(move |line| line.strip_prefix(&word))
                .collect::<Vec<_>>()
        };
        let words: Vec<&str> = facts("esp")[0].split('-').collect();
        let encryption = words.iter().find_map(|word| Encryption::from_word(word)).unwrap();
        let integrity = words.iter().find_map(|word| Integrity::from_word(word));
        let initiator = facts("initiator")[0];
        let key = |word: &str, number: usize| {
            let values = facts(&format!("log {word}"));
            Zeroizing::new(values.get(number).map(|value| bytes(value)).unwrap_or_default())
        };
        let spi = |text| u32::from_str_radix(text, 16).unwrap();
        let directions = facts("child")
            .iter()
            .enumerate()
            .flat_map(|(number, line)| {
                let (inbound, outbound) = line.split_once(' ').unwrap();
                [(inbound, "responder"), (outbound, "initiator")].map(|(text, sender)| {
                    let keys = KeyMaterial::new(
                        key(&format!("child-encryption-{sender}"), number),
                        key(&format!("child-integrity-{sender}"), number),
                    );
                    (spi(text), keys, sender == "initiator")
                })
            })
            .collect();
        let packets = facts("packet")
            .iter()
            .filter_map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let payload = bytes(words[2]);
                // Four zero bytes stand before messages of IKE (RFC 3948 section 2.2).
                let is_esp = words[0].ends_with(":4500") && !payload.starts_with(&[0; 4]);
                is_esp.then(|| (payload, words[0].starts_with(initiator)))
            })
            .collect();
        Self {
            suite: CipherSuite::new(encryption, integrity).unwrap(),
            directions,
            packets,
        }
    }
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
