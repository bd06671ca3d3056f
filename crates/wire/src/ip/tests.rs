use super::*;

fn v4(payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = crate::checksum::of(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x6b, 0x80, 0, 0, 0, 0, next, 64];
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
    packet.extend_from_slice(&Ipv6Addr::UNSPECIFIED.octets());
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn reads_an_ipv4_header_and_its_ports() {
    let packet = v4(&[0x12, 0x34, 0x56, 0x78, 0, 8, 0, 0]);
    let header = IpHeader::decode(&packet).unwrap();
    assert_eq!(header.source, "10.0.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(header.destination, "10.0.0.2".parse::<IpAddr>().unwrap());
    assert_eq!((header.header_len, header.total_len), (20, 28));
    assert!(header.dont_fragment);
    assert_eq!(header.ports(&packet), Some((0x1234, 0x5678)));
    let mut trailing = packet.clone();
    trailing.extend([0; 40]);
    assert_eq!(IpHeader::decode(&trailing).unwrap().total_len, 28);
}

#[test]
fn follows_ipv6_extensions_up_to_a_limit() {
    let mut body = vec![UDP, 0, 0, 1, 0, 0, 0, 1];
    body.extend([0, 1, 0, 2, 0, 8, 0, 0]);
    let packet = v6(44, &body);
    let header = IpHeader::decode(&packet).unwrap();
    assert_eq!(header.protocol, UDP);
    assert_eq!(header.header_len, 48);
    assert_eq!(header.fragment, Fragment::First);
    assert_eq!(header.traffic_class, 0xb8);
    assert_eq!(header.ports(&packet), Some((1, 2)));

    let many: Vec<u8> = [60u8, 0, 0, 0, 0, 0, 0, 0].repeat(MAX_EXTENSIONS + 2);
    assert_eq!(IpHeader::decode(&v6(60, &many)), Err(IpError::Extensions));
}

#[test]
fn every_truncation_is_an_error_and_no_change_panics() {
    for packet in [
        v4(&[0; 24]),
        v6(60, &[UDP, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 8, 0, 0]),
    ] {
        for length in 0..packet.len() {
            assert!(IpHeader::decode(&packet[..length]).is_err(), "{length} bytes");
        }
        for index in 0..packet.len() {
            for value in 0..=255u8 {
                let mut changed = packet.clone();
                changed[index] = value;
                if let Ok(header) = IpHeader::decode(&changed) {
                    assert!(header.header_len <= header.total_len && header.total_len <= changed.len());
                    let _ = header.ports(&changed);
                }
            }
        }
    }
}

#[test]
fn a_new_traffic_class_keeps_the_checksum_right() {
    let mut packet = v4(&[]);
    set_traffic_class(&mut packet, 0xb9);
    assert_eq!(crate::checksum::of(&packet[..20]), 0);
    assert_eq!(IpHeader::decode(&packet).unwrap().traffic_class, 0xb9);
    let mut packet = v6(UDP, &[]);
    set_traffic_class(&mut packet, 0x2b);
    assert_eq!(IpHeader::decode(&packet).unwrap().traffic_class, 0x2b);
}

#[test]
fn a_quoted_packet_may_lack_its_end() {
    let packet = v4(&[0x12, 0x34, 0x56, 0x78, 0, 80, 0, 0, 9, 9, 9, 9, 9, 9]);
    let header = IpHeader::decode_quoted(&packet[..28]).unwrap();
    assert_eq!(header.total_len, 28);
    assert_eq!(header.ports(&packet[..28]), Some((0x1234, 0x5678)));
    assert!(IpHeader::decode_quoted(&packet[..19]).is_err());
}
