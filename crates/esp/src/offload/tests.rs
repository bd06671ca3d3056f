use std::net::IpAddr;

use isthmus_wire::checksum::Checksum;
use isthmus_wire::ip::{self, IpHeader};
use isthmus_wire::tcp::{ACK, CWR, FIN, PSH};
use proptest::prelude::*;

use super::*;
use crate::DropReason;

/// A TCP or UDP packet with right checksums.
fn packet(v6: bool, protocol: u8, upper_header: &[u8], payload: &[u8], id: u16) -> Vec<u8> {
    let upper_len = upper_header.len() + payload.len();
    let mut packet = if v6 {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        packet[4..6].copy_from_slice(&(upper_len as u16).to_be_bytes());
        packet.extend([0xfd; 16]);
        packet.extend([0xfc; 16]);
        packet
    } else {
        let mut packet = vec![
            0x45, 2, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 1, 0, 2, 10, 2, 0, 3,
        ];
        packet[2..4].copy_from_slice(&((20 + upper_len) as u16).to_be_bytes());
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        let sum = isthmus_wire::checksum::of(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    let at = packet.len();
    packet.extend_from_slice(upper_header);
    packet.extend_from_slice(payload);
    let sum = upper_sum(&packet);
    let offset = if protocol == ip::TCP { 16 } else { 6 };
    packet[at + offset..at + offset + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn upper_sum(packet: &[u8]) -> u16 {
    let header = IpHeader::decode(packet).unwrap();
    let upper = &packet[header.header_len..];
    Checksum::new()
        .pseudo_header(
            header.source,
            header.destination,
            header.protocol,
            upper.len() as u32,
        )
        .bytes(upper)
        .finish()
}

fn tcp_header(sequence: u32, flags: u8, options: &[u8]) -> Vec<u8> {
    let mut header = vec![0x1f, 0x90, 0x04, 0xd2];
    header.extend(sequence.to_be_bytes());
    header.extend(77u32.to_be_bytes());
    header.extend([
        ((20 + options.len()) as u8 / 4) << 4,
        flags,
        0x20,
        0x00,
        0,
        0,
        0,
        0,
    ]);
    header.extend_from_slice(options);
    header
}

fn udp_header(port: u16, length: usize) -> Vec<u8> {
    let mut header = vec![0, 53];
    header.extend(port.to_be_bytes());
    header.extend((length as u16).to_be_bytes());
    header.extend([0, 0]);
    header
}

fn split(read: &[u8]) -> Vec<Vec<u8>> {
    let splitter = Splitter::new(read).unwrap();
    (0..splitter.count())
        .map(|index| {
            let mut piece = vec![0u8; splitter.len_of(index)];
            splitter.write(index, &mut piece);
            piece
        })
        .collect()
}

/// Joins as the receiving side does; returns each write to the device.
fn merge(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut writes = Vec::new();
    let mut run: Option<(PacketRun, Vec<u8>)> = None;
    let flush = |run: &mut Option<(PacketRun, Vec<u8>)>, writes: &mut Vec<Vec<u8>>| {
        if let Some((mut run, payloads)) = run.take() {
            let (vnet, headers) = run.finish();
            writes.push([&vnet.encode(), headers, &payloads].concat());
        }
    };
    for packet in packets {
        let header = IpHeader::decode(packet).unwrap();
        if let Some((open, payloads)) = &mut run
            && open.join(&header, packet)
        {
            payloads.extend_from_slice(&packet[open.header_len()..]);
            continue;
        }
        flush(&mut run, &mut writes);
        match PacketRun::start(&header, packet, UdpJoining::Allowed) {
            Some(open) => {
                let payload = packet[open.header_len()..].to_vec();
                run = Some((open, payload));
            }
            None => writes.push([&VnetHeader::default().encode()[..], packet].concat()),
        }
    }
    flush(&mut run, &mut writes);
    writes
}

proptest! {
    #[test]
    fn cutting_what_was_joined_gives_the_same_packets(
        v6 in any::<bool>(),
        options in prop_oneof![Just(0usize), Just(12)],
        start in any::<u32>(),
        first_id in any::<u16>(),
        lengths in proptest::collection::vec(
            (prop_oneof![4 => Just(700usize), 1 => 1usize..1400], 0u8..10, 0u8..30), 1..60),
    ) {
        let mut sequence = start;
        let mut packets = Vec::new();
        for (number, (length, flags, fault)) in lengths.into_iter().enumerate() {
            let flags = match flags { 0 => ACK | PSH, 1 => ACK | FIN, _ => ACK };
            let payload: Vec<u8> = (0..length).map(|byte| (byte * 31 + number) as u8).collect();
            let header = tcp_header(sequence, flags, &vec![1; options]);
            let mut made = packet(v6, ip::TCP, &header, &payload, first_id.wrapping_add(number as u16));
            if fault == 0 {
                let last = made.len() - 1;
                made[last] ^= 1;
            }
            sequence = sequence.wrapping_add(length as u32);
            if fault == 1 {
                sequence = sequence.wrapping_add(1);
            }
            packets.push(made);
        }
        let again: Vec<Vec<u8>> = merge(&packets).iter().flat_map(|write| split(write)).collect();
        prop_assert_eq!(again, packets);
    }

    #[test]
    fn cutting_what_was_joined_gives_the_same_datagrams(
        v6 in any::<bool>(),
        first_id in any::<u16>(),
        lengths in proptest::collection::vec(
            (prop_oneof![6 => Just(64usize), 1 => 0usize..200, 1 => Just(1400)], 0u8..30), 1..200),
    ) {
        let packets: Vec<Vec<u8>> = lengths.into_iter().enumerate().map(|(number, (length, fault))| {
            let payload: Vec<u8> = (0..length).map(|byte| (byte * 31 + number) as u8).collect();
            let stated = length + if fault == 0 { 7 } else { 8 };
            let port = if fault == 1 { 4791 } else { 4790 };
            let mut made = packet(
                v6, ip::UDP, &udp_header(port, stated), &payload, first_id.wrapping_add(number as u16));
            let at = if v6 { 40 } else { 20 };
            match fault {
                2 => made[at + 6..at + 8].fill(0),
                3 => made[at + 6] ^= 1,
                _ => {}
            }
            made
        }).collect();
        let again: Vec<Vec<u8>> = merge(&packets).iter().flat_map(|write| split(write)).collect();
        prop_assert_eq!(again, packets);
    }

    #[test]
    fn a_cut_super_packet_has_right_sums_and_all_the_data(
        v6 in any::<bool>(), length in 1usize..20_000, gso in 1u16..1500, flags in any::<u8>(),
    ) {
        let payload: Vec<u8> = (0..length).map(|byte| (byte * 7) as u8).collect();
        let whole = packet(v6, ip::TCP, &tcp_header(9, flags | ACK, &[]), &payload, 65_530);
        let vnet = VnetHeader { flags: NEEDS_CHECKSUM, gso_type: GSO_TCPV4, gso_size: gso, ..VnetHeader::default() };
        let pieces = split(&[&vnet.encode()[..], &whole].concat());
        prop_assert_eq!(pieces.len(), length.div_ceil(usize::from(gso)));
        let mut data = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let header = IpHeader::decode(piece).unwrap();
            prop_assert_eq!(header.total_len, piece.len());
            prop_assert_eq!(upper_sum(piece), 0);
            let found = piece[header.header_len + 13];
            let last = index + 1 == pieces.len();
            prop_assert_eq!(found & (PSH | FIN), if last { flags & (PSH | FIN) } else { 0 });
            prop_assert_eq!(found & CWR, if index == 0 { flags & CWR } else { 0 });
            data.extend_from_slice(&piece[header.header_len + 20..]);
        }
        prop_assert_eq!(data, payload);
    }

    #[test]
    fn no_bytes_from_the_device_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), v6 in any::<bool>()) {
        let mut bytes = bytes;
        if let Some(first) = bytes.get_mut(VNET_HEADER_LEN) {
            *first = if v6 { 0x60 } else { 0x45 };
        }
        if bytes.len() > 20 && !v6 {
            let total = (bytes.len() - VNET_HEADER_LEN) as u16;
            bytes[12..14].copy_from_slice(&total.to_be_bytes());
            bytes[1] &= 7;
        }
        if Splitter::new(&bytes).is_ok() {
            split(&bytes);
        }
        if bytes.len() > VNET_HEADER_LEN && let Ok(header) = IpHeader::decode(&bytes[VNET_HEADER_LEN..]) {
            let _ = PacketRun::start(&header, &bytes[VNET_HEADER_LEN..], UdpJoining::Allowed);
        }
    }
}

#[test]
fn a_stream_of_full_segments_becomes_one_write() {
    let packets: Vec<Vec<u8>> = (0..40u32)
        .map(|n| {
            packet(
                false,
                ip::TCP,
                &tcp_header(n * 1400, ACK, &[1; 12]),
                &[7; 1400],
                n as u16,
            )
        })
        .collect();
    let writes = merge(&packets);
    assert_eq!(writes.len(), 1);
    let vnet = VnetHeader::decode(writes[0].first_chunk().unwrap());
    assert_eq!(
        (vnet.gso_type, vnet.gso_size, vnet.header_len),
        (GSO_TCPV4, 1400, 52)
    );
    assert_eq!(VnetHeader::decode(&vnet.encode()), vnet);
}

#[test]
fn datagrams_of_one_length_become_writes_of_64() {
    let datagrams: Vec<Vec<u8>> = (0..130)
        .map(|n| packet(false, ip::UDP, &udp_header(9, 72), &[7; 64], n))
        .collect();
    let writes = merge(&datagrams);
    let counts: Vec<usize> = writes.iter().map(|write| split(write).len()).collect();
    assert_eq!(counts, [64, 64, 2]);
    let vnet = VnetHeader::decode(writes[0].first_chunk().unwrap());
    assert_eq!((vnet.gso_type, vnet.gso_size, vnet.header_len), (GSO_UDP, 64, 28));
    assert_eq!((vnet.checksum_start, vnet.checksum_offset), (20, 6));
}

#[test]
fn datagrams_for_a_device_that_cannot_cut_them_are_not_joined() {
    let datagram = packet(false, ip::UDP, &udp_header(9, 72), &[7; 64], 1);
    let header = IpHeader::decode(&datagram).unwrap();
    assert!(PacketRun::start(&header, &datagram, UdpJoining::Refused).is_none());
}

#[test]
fn fragments_share_the_flow_of_their_addresses() {
    let whole = packet(false, ip::UDP, &udp_header(9, 72), &[7; 64], 1);
    let run = PacketRun::start(&IpHeader::decode(&whole).unwrap(), &whole, UdpJoining::Allowed).unwrap();
    let mut fragment = whole.clone();
    fragment[7] = 3;
    let header = IpHeader::decode(&fragment).unwrap();
    assert!(run.shares_flow(&header, &fragment));
    let other = packet(false, ip::UDP, &udp_header(10, 72), &[7; 64], 2);
    assert!(!run.shares_flow(&IpHeader::decode(&other).unwrap(), &other));
}

#[test]
fn udp_datagrams_are_cut_with_their_own_lengths_and_sums() {
    for v6 in [false, true] {
        let mut upper = vec![0, 53, 0, 54];
        upper.extend((8 + 2500u16).to_be_bytes());
        upper.extend([0, 0]);
        let whole = packet(v6, ip::UDP, &upper, &[3; 2500], 1);
        let vnet = VnetHeader {
            flags: NEEDS_CHECKSUM,
            gso_type: GSO_UDP,
            gso_size: 1000,
            ..VnetHeader::default()
        };
        let pieces = split(&[&vnet.encode()[..], &whole].concat());
        let lengths: Vec<u16> = pieces
            .iter()
            .map(|piece| {
                let at = IpHeader::decode(piece).unwrap().header_len;
                assert_eq!(upper_sum(piece), 0);
                u16::from_be_bytes([piece[at + 4], piece[at + 5]])
            })
            .collect();
        assert_eq!(lengths, [1008, 1008, 508]);
    }
}

#[test]
fn a_missing_checksum_is_filled_in() {
    let whole = packet(false, ip::TCP, &tcp_header(1, ACK, &[]), b"hello", 1);
    let header = IpHeader::decode(&whole).unwrap();
    let mut lacking = whole.clone();
    let partial = Checksum::new()
        .pseudo_header(header.source, header.destination, ip::TCP, 25)
        .folded();
    lacking[36..38].copy_from_slice(&partial.to_be_bytes());
    let vnet = VnetHeader {
        flags: NEEDS_CHECKSUM,
        checksum_start: 20,
        checksum_offset: 16,
        ..VnetHeader::default()
    };
    assert_eq!(split(&[&vnet.encode()[..], &lacking].concat()), [whole]);
}

#[test]
fn other_kinds_of_offload_are_refused() {
    let whole = packet(false, ip::TCP, &tcp_header(1, ACK, &[]), b"hello", 1);
    let vnet = VnetHeader {
        gso_type: 3,
        gso_size: 2,
        ..VnetHeader::default()
    };
    assert_eq!(
        Splitter::new(&[&vnet.encode()[..], &whole].concat()).err(),
        Some(DropReason::UnsupportedOffload)
    );
    let unspecified: IpAddr = "0.0.0.0".parse().unwrap();
    assert_ne!(IpHeader::decode(&whole).unwrap().source, unspecified);
}
