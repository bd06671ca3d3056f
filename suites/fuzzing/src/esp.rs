//! ESP packets, and the super-packets of the TUN device.

use isthmus_crypto::cipher::Sealer;
use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_esp::offload::{PacketRun, Splitter, UdpJoining, VnetHeader};
use isthmus_esp::{
    DropReason, InboundSa, Lifetime, Opened, OutboundSa, Selectors, SequenceNumbers, TrafficRange,
};
use isthmus_types::{Encryption, Integrity};
use isthmus_wire::esp::EspHeader;
use isthmus_wire::ip::{self, IPV4_HEADER_LEN, IpHeader};
use zeroize::Zeroizing;

use crate::input::Input;

const SPI: u32 = 0x1234_5678;

/// Datagrams of a stranger, who has no keys, and plaintexts of a peer, who has them.
pub fn esp_open(data: &[u8]) {
    let mut input = Input::new(data);
    let suite = suite(input.byte());
    let numbers = if input.byte() & 1 == 0 {
        SequenceNumbers::Short
    } else {
        SequenceNumbers::Extended
    };
    let keys = KeyMaterial::new(
        Zeroizing::new(vec![7; suite.encryption_key_len()]),
        Zeroizing::new(vec![9; suite.integrity_key_len()]),
    );
    let lifetime = Lifetime::new(suite, numbers, None, None);
    let mut inbound = InboundSa::new(SPI, suite, &keys, everything(), 64)
        .expect("the keys fit")
        .with_limits(numbers, lifetime);
    let mut outbound = OutboundSa::new(SPI, suite, &keys)
        .expect("the keys fit")
        .with_limits(numbers, lifetime);
    let sealer = Sealer::new(suite, &keys).expect("the keys fit");
    while !input.is_empty() {
        match input.byte() % 3 {
            0 => {
                let mut packet = input.block().to_vec();
                let outer = input.byte();
                assert!(
                    inbound.open(&mut packet, outer).is_err(),
                    "a stranger has no keys"
                );
            }
            1 => {
                let header = EspHeader {
                    spi: SPI,
                    sequence: u32::from(input.half()),
                };
                let outer = input.byte();
                let packet = seal(&sealer, header, numbers, input.block());
                open_twice(&mut inbound, numbers, &packet, outer);
            }
            _ => {
                let inner = input.block();
                let next_header = input.byte();
                let offset = outbound.payload_offset();
                let mut packet = vec![0; outbound.sealed_len(inner.len())];
                packet[offset..offset + inner.len()].copy_from_slice(inner);
                outbound
                    .seal(&mut packet, inner.len(), next_header)
                    .expect("it is young");
                if let Some(opened) = open_twice(&mut inbound, numbers, &packet, 0) {
                    assert!(inner.starts_with(&opened), "what comes out went in");
                }
            }
        }
    }
}

/// Opens a packet, and gives the inner one; the same packet never passes twice.
fn open_twice(
    inbound: &mut InboundSa,
    numbers: SequenceNumbers,
    packet: &[u8],
    outer: u8,
) -> Option<Vec<u8>> {
    let mut first = packet.to_vec();
    let result = inbound.open(&mut first, outer);
    let is_passed_over = match result {
        Err(DropReason::MalformedEsp | DropReason::Replayed) => true,
        // Below the window the next high half is taken for granted (RFC 4303 appendix A2.2).
        Err(DropReason::IntegrityFailed) => numbers == SequenceNumbers::Extended,
        Ok(_) | Err(_) => false,
    };
    if is_passed_over {
        return None;
    }
    let again = inbound.open(&mut packet.to_vec(), outer);
    assert_eq!(again, Err(DropReason::Replayed), "after {result:?}");
    match result.ok()?.opened {
        Opened::Dummy => None,
        Opened::Inner { offset, header } => {
            let inner = first
                .get(offset..offset + header.total_len)
                .expect("it lies inside");
            let read = IpHeader::decode(inner).expect("it is a packet");
            assert_eq!(read, header);
            Some(inner.to_vec())
        }
    }
}

fn seal(sealer: &Sealer, header: EspHeader, numbers: SequenceNumbers, plaintext: &[u8]) -> Vec<u8> {
    let suite = sealer.suite();
    let header_bytes = header.encode();
    let mut plaintext = plaintext.to_vec();
    // The trailer stays last: zeros go before.
    let missing = plaintext.len().next_multiple_of(suite.esp_alignment()) - plaintext.len();
    plaintext.splice(0..0, std::iter::repeat_n(0, missing));
    let mut iv = vec![0; suite.iv_len()];
    sealer
        .make_iv(u64::from(header.sequence), &mut iv)
        .expect("the length is right");
    let mut icv = vec![0; suite.icv_len()];
    match numbers {
        SequenceNumbers::Extended => sealer.seal_extended(&header_bytes, 0, &iv, &mut plaintext, &mut icv),
        SequenceNumbers::Short => sealer.seal(&header_bytes, &iv, &mut plaintext, &mut icv),
    }
    .expect("the lengths are right");
    [&header_bytes, &iv[..], &plaintext, &icv].concat()
}

fn suite(choice: u8) -> CipherSuite {
    let (encryption, integrity) = match choice % 4 {
        0 => (Encryption::Aes128Gcm16, None),
        1 => (Encryption::ChaCha20Poly1305, None),
        2 => (Encryption::Aes256Cbc, Some(Integrity::HmacSha2_256_128)),
        _ => (Encryption::Aes128Gcm12, None),
    };
    CipherSuite::new(encryption, integrity).expect("they belong together")
}

fn everything() -> Selectors {
    let ranges: Vec<TrafficRange> = ["0.0.0.0/0", "::/0"]
        .iter()
        .map(|cidr| TrafficRange::from_cidr(cidr.parse().expect("a constant range")))
        .collect();
    Selectors {
        local: ranges.clone(),
        remote: ranges,
    }
}

/// What the device reads is cut without a panic; packets that are joined and cut again are the same packets.
pub fn offload(data: &[u8]) {
    let mut input = Input::new(data);
    let packets: Vec<Vec<u8>> = if input.byte() & 1 == 0 {
        split(input.rest())
    } else {
        let mut packets = Vec::new();
        while !input.is_empty() {
            let block = input.block();
            if let Ok(header) = IpHeader::decode(block) {
                packets.push(block[..header.total_len].to_vec());
            }
        }
        packets
    };
    // What was cut may be no packet that can be read, such as one whose header lies about fragments.
    if packets.iter().any(|packet| IpHeader::decode(packet).is_err()) {
        return;
    }
    let again: Vec<Vec<u8>> = join(&packets).iter().flat_map(|write| split(write)).collect();
    let comparable = |packets: &[Vec<u8>]| {
        packets
            .iter()
            .map(|packet| without_identity(packet))
            .collect::<Vec<_>>()
    };
    assert_eq!(comparable(&again), comparable(&packets));
}

fn split(read: &[u8]) -> Vec<Vec<u8>> {
    let Ok(splitter) = Splitter::new(read) else {
        return Vec::new();
    };
    (0..splitter.count())
        .map(|index| {
            let mut piece = vec![0; splitter.len_of(index)];
            assert!(piece.len() <= splitter.longest());
            splitter.write(index, &mut piece);
            piece
        })
        .collect()
}

/// Joins as the receiving side does: each write to the device.
fn join(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut writes = Vec::new();
    let mut run: Option<(PacketRun, Vec<u8>)> = None;
    for packet in packets {
        let header = IpHeader::decode(packet).expect("a packet that was read before");
        if let Some((open, payloads)) = &mut run
            && open.join(&header, packet)
        {
            payloads.extend_from_slice(&packet[open.header_len()..]);
            continue;
        }
        writes.extend(run.take().map(write));
        match PacketRun::start(&header, packet, UdpJoining::Allowed) {
            Some(open) => {
                let payload = packet[open.header_len()..].to_vec();
                run = Some((open, payload));
            }
            None => writes.push([&VnetHeader::default().encode()[..], packet].concat()),
        }
    }
    writes.extend(run.take().map(write));
    writes
}

fn write((mut run, payloads): (PacketRun, Vec<u8>)) -> Vec<u8> {
    let (vnet, headers) = run.finish();
    [&vnet.encode(), headers, &payloads].concat()
}

/// The identification of an IPv4 packet that may not be fragmented means nothing (RFC 6864 section 4.1).
fn without_identity(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let may_not = IpHeader::decode(&packet)
        .is_ok_and(|header| header.version_protocol() == ip::IPV4 && header.dont_fragment);
    if may_not && packet.len() >= IPV4_HEADER_LEN {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}
