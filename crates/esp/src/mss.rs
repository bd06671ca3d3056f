//! Clamping the maximum segment size that a TCP handshake announces (RFC 9293 section 3.7.1) to what fits a tunnel.

use std::net::IpAddr;

use isthmus_wire::checksum;
use isthmus_wire::ip::{self, Fragment, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader};
use isthmus_wire::tcp::{TCP_CHECKSUM_OFFSET, TCP_HEADER_LEN, TcpHeader};

const SYN: u8 = 0x02;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Lowers the maximum segment size that `packet` announces, if it does, so that no segment makes a packet of more than
/// `mtu` bytes. `packet` has a correct checksum before and after.
pub fn clamp(packet: &mut [u8], header: &IpHeader, mtu: usize) {
    if header.protocol != ip::TCP || header.fragment == Fragment::Later {
        return;
    }
    let Some(segment) = packet.get_mut(header.header_len..header.total_len) else {
        return;
    };
    if segment.get(13).is_none_or(|flags| flags & SYN == 0) {
        return;
    }
    let fixed = match header.source {
        IpAddr::V4(_) => IPV4_HEADER_LEN,
        IpAddr::V6(_) => IPV6_HEADER_LEN,
    };
    let most = mtu.saturating_sub(fixed + TCP_HEADER_LEN);
    clamp_segment(segment, u16::try_from(most).unwrap_or(u16::MAX));
}

fn clamp_segment(segment: &mut [u8], most: u16) {
    let Ok(tcp) = TcpHeader::decode(segment) else {
        return;
    };
    let mut at = TCP_HEADER_LEN;
    while at < tcp.header_len {
        let option = &segment[at..tcp.header_len];
        at += match *option {
            [NO_OPERATION, ..] => 1,
            [MAXIMUM_SEGMENT_SIZE, 4, high, low, ..] => {
                let found = u16::from_be_bytes([high, low]);
                if found > most {
                    put(segment, at + 2, found, most);
                }
                return;
            }
            [END, ..] | [_, 0 | 1, ..] | [_] | [] => return,
            [_, len, ..] => usize::from(len),
        };
    }
}

fn put(segment: &mut [u8], at: usize, old: u16, new: u16) {
    segment[at..at + 2].copy_from_slice(&new.to_be_bytes());
    // At an odd place the value's bytes belong to two words of the sum, with their places swapped.
    let (old, new) = if at.is_multiple_of(2) {
        (old, new)
    } else {
        (old.swap_bytes(), new.swap_bytes())
    };
    let field = TCP_CHECKSUM_OFFSET..TCP_CHECKSUM_OFFSET + 2;
    let sum = u16::from_be_bytes([segment[field.start], segment[field.start + 1]]);
    segment[field].copy_from_slice(&checksum::update(sum, old, new).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use isthmus_wire::checksum::Checksum;

    use super::*;

    fn handshake(options: &[u8], flags: u8, v6: bool) -> Vec<u8> {
        let tcp_len = 20 + options.len();
        let mut packet = if v6 {
            let mut header = vec![0x60, 0, 0, 0, 0, tcp_len as u8, 6, 64];
            header.extend([0x20; 16]);
            header.extend([0x21; 16]);
            header
        } else {
            let mut header = vec![0x45, 0, 0, 20 + tcp_len as u8, 0, 1, 0x40, 0, 64, 6, 0, 0];
            header.extend([10, 1, 0, 1, 10, 2, 0, 1]);
            header
        };
        let at = packet.len();
        packet.extend([0x1f, 0x90, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0]);
        packet.extend([(tcp_len as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend_from_slice(options);
        let sum = sum_of(&packet).to_be_bytes();
        packet[at + 16..at + 18].copy_from_slice(&sum);
        packet
    }

    fn sum_of(packet: &[u8]) -> u16 {
        let header = IpHeader::decode(packet).unwrap();
        let segment = &packet[header.header_len..];
        Checksum::new()
            .pseudo_header(header.source, header.destination, 6, segment.len() as u32)
            .bytes(segment)
            .finish()
    }

    fn clamped(mut packet: Vec<u8>, mtu: usize) -> Vec<u8> {
        let header = IpHeader::decode(&packet).unwrap();
        clamp(&mut packet, &header, mtu);
        assert_eq!(sum_of(&packet), 0, "the checksum is wrong");
        packet
    }

    #[test]
    fn a_handshake_announces_no_more_than_fits() {
        for (v6, at, expected) in [(false, 42, 1360u16), (true, 62, 1340)] {
            let packet = clamped(handshake(&[2, 4, 0x05, 0xb4], SYN, v6), 1400);
            assert_eq!(packet[at..at + 2], expected.to_be_bytes());
        }
    }

    #[test]
    fn the_option_is_found_at_an_odd_place_and_after_others() {
        let options = [1, 2, 4, 0x05, 0xb4, 3, 3, 7];
        let packet = clamped(handshake(&options, SYN | 0x10, false), 1000);
        assert_eq!(packet[43..45], 960u16.to_be_bytes());
        let options = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 2, 4, 0xff, 0xff];
        let packet = clamped(handshake(&options, SYN, false), 1000);
        assert_eq!(packet[54..56], 960u16.to_be_bytes());
    }

    #[test]
    fn what_announces_less_or_nothing_or_nonsense_is_left_alone() {
        let cases: [(&[u8], u8); 6] = [
            (&[2, 4, 2, 0], SYN),
            (&[2, 4, 0x05, 0xb4], 0x10),
            (&[], SYN),
            (&[0, 0, 0, 0], SYN),
            (&[5, 0, 2, 4], SYN),
            (&[1, 1, 1, 2], SYN),
        ];
        for (options, flags) in cases {
            let packet = handshake(options, flags, false);
            assert_eq!(clamped(packet.clone(), 1000), packet, "{options:?}");
        }
    }
}
