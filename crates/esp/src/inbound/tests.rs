use isthmus_crypto::prf::prf;
use isthmus_types::{Encryption, Integrity, Prf};
use isthmus_wire::ip::{IPV4, NO_NEXT_HEADER};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::outbound::OutboundSa;
use crate::selector::TrafficRange;

fn suite(encryption: Encryption, integrity: Option<Integrity>) -> CipherSuite {
    CipherSuite::new(encryption, integrity).unwrap()
}

fn gcm() -> CipherSuite {
    suite(Encryption::Aes128Gcm16, None)
}

fn pair(suite: CipherSuite) -> (OutboundSa, InboundSa) {
    let keys = KeyMaterial::new(
        Zeroizing::new((0..suite.encryption_key_len() as u8).collect()),
        Zeroizing::new((0..suite.integrity_key_len() as u8).collect()),
    );
    let range = |text: &str| vec![TrafficRange::from_cidr(text.parse().unwrap())];
    let selectors = Selectors {
        local: range("10.2.0.0/16"),
        remote: range("10.1.0.0/16"),
    };
    (
        OutboundSa::new(0x0102_0304, suite, &keys).unwrap(),
        InboundSa::new(0x0102_0304, suite, &keys, selectors, 1024).unwrap(),
    )
}

fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet.extend(source);
    packet.extend(destination);
    packet.extend_from_slice(payload);
    packet
}

fn good(payload: &[u8]) -> Vec<u8> {
    ipv4([10, 1, 0, 1], [10, 2, 0, 1], 17, payload)
}

fn seal(sa: &mut OutboundSa, inner: &[u8], next_header: u8) -> Vec<u8> {
    let mut packet = vec![0; sa.sealed_len(inner.len())];
    let offset = sa.payload_offset();
    packet[offset..offset + inner.len()].copy_from_slice(inner);
    sa.seal(&mut packet, inner.len(), next_header).unwrap();
    packet
}

fn inner_of(packet: &[u8], arrival: Arrival) -> Vec<u8> {
    let Opened::Inner { offset, header } = arrival.opened else {
        panic!("a dummy");
    };
    packet[offset..offset + header.total_len].to_vec()
}

#[test]
fn every_suite_carries_packets_of_every_length() {
    for &encryption in Encryption::ALL {
        let integrities: Vec<Option<Integrity>> = if encryption.is_aead() {
            vec![None]
        } else {
            Integrity::ALL.iter().copied().map(Some).collect()
        };
        for integrity in integrities {
            let suite = suite(encryption, integrity);
            let (mut out, mut inbound) = pair(suite);
            for length in [0usize, 1, 2, 3, 13, 14, 15, 16, 100, 1400] {
                let inner = good(&vec![0x5a; length]);
                let mut packet = seal(&mut out, &inner, IPV4);
                let arrival = inbound.open(&mut packet, 0).unwrap();
                assert!(arrival.newest);
                assert_eq!(inner_of(&packet, arrival), inner, "{suite}, {length} bytes");
            }
        }
    }
}

#[test]
fn no_packet_passes_twice_and_forgeries_move_nothing() {
    let (mut out, mut inbound) = pair(gcm());
    let first = seal(&mut out, &good(b"1"), IPV4);
    let second = seal(&mut out, &good(b"2"), IPV4);
    assert!(inbound.open(&mut second.clone(), 0).unwrap().newest);
    assert!(!inbound.open(&mut first.clone(), 0).unwrap().newest);
    assert_eq!(inbound.open(&mut first.clone(), 0), Err(DropReason::Replayed));
    let mut forged = seal(&mut out, &good(b"3"), IPV4);
    forged[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(inbound.open(&mut forged, 0), Err(DropReason::IntegrityFailed));
    assert!(inbound.open(&mut seal(&mut out, &good(b"4"), IPV4), 0).is_ok());
}

#[test]
fn sequence_numbers_end_before_they_repeat() {
    let (mut out, mut inbound) = pair(gcm());
    out.skip_to(u64::from(u32::MAX) - 1);
    assert!(out.nears_exhaustion());
    let mut last = seal(&mut out, &good(b"last"), IPV4);
    assert!(inbound.open(&mut last, 0).is_ok());
    let mut packet = vec![0; out.sealed_len(21)];
    assert_eq!(
        out.seal(&mut packet, 21, IPV4),
        Err(DropReason::SequenceExhausted)
    );
    assert!(packet.iter().all(|byte| *byte == 0));
}

#[test]
fn packets_outside_the_selectors_are_dropped_after_opening() {
    let (mut out, mut inbound) = pair(gcm());
    for (source, destination) in [
        ([10, 3, 0, 1], [10, 2, 0, 1]),
        ([10, 1, 0, 1], [10, 4, 0, 1]),
        ([10, 2, 0, 1], [10, 1, 0, 1]),
    ] {
        let mut packet = seal(&mut out, &ipv4(source, destination, 6, &[0; 20]), IPV4);
        assert_eq!(inbound.open(&mut packet, 0), Err(DropReason::SelectorMismatch));
    }
}

#[test]
fn an_icmp_error_passes_if_the_packet_it_quotes_would() {
    let (mut out, mut inbound) = pair(gcm());
    let ours = ipv4([10, 2, 0, 1], [10, 1, 0, 1], 17, &[0; 8]);
    let mut error = vec![3, 1, 0, 0, 0, 0, 0, 0];
    error.extend_from_slice(&ours[..28]);
    let mut packet = seal(&mut out, &ipv4([192, 0, 2, 1], [10, 2, 0, 1], 1, &error), IPV4);
    assert!(inbound.open(&mut packet, 0).is_ok());
    let stranger = ipv4([10, 2, 0, 1], [10, 9, 0, 1], 17, &[0; 8]);
    error.truncate(8);
    error.extend_from_slice(&stranger);
    let mut packet = seal(&mut out, &ipv4([192, 0, 2, 1], [10, 2, 0, 1], 1, &error), IPV4);
    assert_eq!(inbound.open(&mut packet, 0), Err(DropReason::SelectorMismatch));
}

#[test]
fn dummies_and_flow_padding_come_off_and_lies_are_caught() {
    let (mut out, mut inbound) = pair(gcm());
    let mut dummy = seal(&mut out, &[0xaa; 33], NO_NEXT_HEADER);
    assert_eq!(inbound.open(&mut dummy, 0).unwrap().opened, Opened::Dummy);

    let mut padded = good(b"data");
    let inner = padded.clone();
    padded.extend([0; 77]);
    let mut packet = seal(&mut out, &padded, IPV4);
    let arrival = inbound.open(&mut packet, 0).unwrap();
    assert_eq!(inner_of(&packet, arrival), inner);

    let mut long = good(b"data");
    long[3] += 1;
    for (inner, next_header) in [(long, IPV4), (good(b"data"), 41), (vec![0x45; 3], IPV4)] {
        let mut packet = seal(&mut out, &inner, next_header);
        assert_eq!(inbound.open(&mut packet, 0), Err(DropReason::BadInnerPacket));
    }
}

#[test]
fn congestion_marks_reach_only_packets_that_take_part() {
    let (mut out, mut inbound) = pair(gcm());
    let mut packet = seal(&mut out, &good(b"x"), IPV4);
    assert_eq!(inbound.open(&mut packet, 3), Err(DropReason::Congestion));
    let mut capable = good(b"x");
    capable[1] = 2;
    let mut packet = seal(&mut out, &capable, IPV4);
    let arrival = inbound.open(&mut packet, 3).unwrap();
    assert_eq!(inner_of(&packet, arrival)[1], 3);
}

#[test]
fn the_table_finds_what_it_holds() {
    let mut table = InboundTable::default();
    assert!(table.is_empty());
    table.insert(pair(gcm()).1, "context");
    assert_eq!(
        table.find(0x0102_0304).map(|(_, context)| *context),
        Some("context")
    );
    assert!(table.find(0x0102_0305).is_none());
    assert!(table.remove(0x0102_0304).is_some());
    assert_eq!(table.len(), 0);
}

fn extended_pair(suite: CipherSuite) -> (OutboundSa, InboundSa) {
    let (out, inbound) = pair(suite);
    let numbers = SequenceNumbers::Extended;
    let lifetime = Lifetime::new(suite, numbers, None, None);
    (
        out.with_limits(numbers, lifetime),
        inbound.with_limits(numbers, lifetime),
    )
}

#[test]
fn extended_sequence_numbers_cross_the_low_half_and_short_ones_end_there() {
    for suite in [
        gcm(),
        suite(Encryption::ChaCha20Poly1305, None),
        suite(Encryption::Aes128Cbc, Some(Integrity::HmacSha2_256_128)),
        suite(Encryption::TripleDes, Some(Integrity::HmacSha1_96)),
    ] {
        let (mut out, mut inbound) = extended_pair(suite);
        out.skip_to((1 << 32) - 100);
        let mut held = Vec::new();
        for number in 0..200u32 {
            let inner = good(&number.to_be_bytes());
            let mut packet = seal(&mut out, &inner, IPV4);
            if number == 50 || number == 120 {
                held.push((packet, inner));
                continue;
            }
            let copy = packet.clone();
            let arrival = inbound.open(&mut packet, 0).unwrap();
            assert!(arrival.newest);
            assert_eq!(inner_of(&packet, arrival), inner, "{suite}, packet {number}");
            assert_eq!(inbound.open(&mut copy.clone(), 0), Err(DropReason::Replayed));
        }
        assert!(!out.nears_exhaustion());
        for (mut packet, inner) in held {
            let arrival = inbound.open(&mut packet, 0).unwrap();
            assert!(!arrival.newest);
            assert_eq!(inner_of(&packet, arrival), inner);
        }
    }
    let (mut out, _) = pair(gcm());
    out.skip_to((1 << 32) - 100);
    let mut packet = vec![0; out.sealed_len(20)];
    for _ in 0..99 {
        out.seal(&mut packet, 20, IPV4).unwrap();
    }
    assert_eq!(
        out.seal(&mut packet, 20, IPV4),
        Err(DropReason::SequenceExhausted)
    );
}

/// RFC 4106 section 5 and RFC 4303 section 2.2.1: what the check value covers, computed apart.
#[test]
fn the_high_half_is_authenticated_where_the_rfcs_say() {
    for suite in [
        gcm(),
        suite(Encryption::Aes128Cbc, Some(Integrity::HmacSha2_256_128)),
    ] {
        let (mut out, _) = extended_pair(suite);
        out.skip_to(0x0000_0007_0000_0041);
        let inner = good(b"high");
        let packet = seal(&mut out, &inner, IPV4);
        let (iv_len, icv_len) = (suite.iv_len(), suite.icv_len());
        let keys = KeyMaterial::new(
            Zeroizing::new((0..suite.encryption_key_len() as u8).collect()),
            Zeroizing::new((0..suite.integrity_key_len() as u8).collect()),
        );
        let opener = Opener::new(suite, &keys).unwrap();
        let mut data = packet[8 + iv_len..packet.len() - icv_len].to_vec();
        let icv = &packet[packet.len() - icv_len..];
        let iv = &packet[8..8 + iv_len];
        assert_eq!(packet[4..8], [0, 0, 0, 0x42]);
        if suite.encryption().is_aead() {
            let aad = [1, 2, 3, 4, 0, 0, 0, 7, 0, 0, 0, 0x42];
            opener.open(&aad, iv, &mut data, icv).unwrap();
            assert_eq!(data[..inner.len()], inner);
        } else {
            let signed = &packet[..packet.len() - icv_len];
            let mac = prf(Prf::HmacSha2_256, keys.integrity(), &[signed, &[0, 0, 0, 7]]);
            assert_eq!(mac[..icv_len], *icv);
        }
    }
}

#[test]
fn a_receiver_finds_the_sender_again_after_losing_nearly_all_low_halves() {
    let (mut out, mut inbound) = extended_pair(gcm());
    out.skip_to(0x1000);
    inbound
        .open(&mut seal(&mut out, &good(b"seen"), IPV4), 0)
        .unwrap();
    // All that follow are lost until the low half has passed its old value again.
    out.skip_to(0x1_0000_9000);
    let mut failures = 0;
    while inbound
        .open(&mut seal(&mut out, &good(b"lost"), IPV4), 0)
        .is_err()
    {
        failures += 1;
        assert!(failures <= FAILURES_BEFORE_RESYNC);
    }
    assert_eq!(failures, FAILURES_BEFORE_RESYNC);
    assert!(
        inbound
            .open(&mut seal(&mut out, &good(b"next"), IPV4), 0)
            .unwrap()
            .newest
    );

    for _ in 0..100 {
        let mut forged = seal(&mut out, &good(b"forged"), IPV4);
        forged[30] ^= 1;
        assert_eq!(inbound.open(&mut forged, 0), Err(DropReason::IntegrityFailed));
    }
    let top = inbound.window.top();
    assert!(
        inbound
            .open(&mut seal(&mut out, &good(b"still"), IPV4), 0)
            .is_ok()
    );
    assert_eq!(inbound.window.top(), top + 101);
}

#[test]
fn an_sa_asks_for_its_successor_and_then_ends() {
    let suite = gcm();
    for (bytes, packets) in [(None, Some(8)), (Some(8 * 30), None)] {
        let (out, inbound) = pair(suite);
        let lifetime = Lifetime::new(suite, SequenceNumbers::Short, bytes, packets);
        let mut out = out.with_limits(SequenceNumbers::Short, lifetime);
        let mut inbound = inbound.with_limits(SequenceNumbers::Short, lifetime);
        for number in 1..=10 {
            assert!(
                inbound
                    .open(&mut seal(&mut out, &good(&[0; 10]), IPV4), 0)
                    .is_ok()
            );
            assert_eq!(out.nears_exhaustion(), number >= 8, "{number}");
        }
        assert!(inbound.nears_exhaustion());
        assert!(out.is_exhausted());
        let mut packet = vec![0; out.sealed_len(30)];
        assert_eq!(out.seal(&mut packet, 30, IPV4), Err(DropReason::LifetimeExpired));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_none_are_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for suite in [gcm(), suite(Encryption::Aes256Cbc, Some(Integrity::HmacSha2_512_256))] {
            let (_, mut inbound) = pair(suite);
            prop_assert!(inbound.open(&mut bytes.clone(), 0).is_err());
        }
    }

    #[test]
    fn every_change_and_truncation_is_refused(length in 0usize..100, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (mut out, mut inbound) = pair(suite(Encryption::Aes128Cbc, Some(Integrity::HmacSha1_96)));
        let packet = seal(&mut out, &good(&vec![1; length]), IPV4);
        let mut changed = packet.clone();
        // The SPI is what the table looks up; here it is authenticated like the rest.
        changed[at.index(packet.len())] ^= 1 << bit;
        prop_assert!(inbound.open(&mut changed, 0).is_err());
        prop_assert!(inbound.open(&mut packet[..at.index(packet.len())].to_vec(), 0).is_err());
    }
}
