//! ICMP (RFC 792, RFC 4443): which messages are errors, the packet that one quotes, and the "too big" message.

use std::net::IpAddr;

use crate::checksum::{self, Checksum};
use crate::ip::{ICMP, ICMPV6, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader};

/// Longest "too big" message that [`write_too_big`] makes, bytes.
pub const MAX_TOO_BIG_LEN: usize = 1280;

const ICMP_HEADER_LEN: usize = 8;
const V4_QUOTE_LEN: usize = 548;
const HOP_LIMIT: u8 = 64;

/// The packet that an ICMP error quotes, or nothing if `upper` (an ICMP message of protocol `protocol`) is no error.
pub fn quoted_by_error(protocol: u8, upper: &[u8]) -> Option<&[u8]> {
    let (header, quoted) = upper.split_first_chunk::<ICMP_HEADER_LEN>()?;
    let is_error = match protocol {
        ICMP => matches!(header[0], 3 | 4 | 5 | 11 | 12),
        ICMPV6 => header[0] < 128,
        _ => false,
    };
    is_error.then_some(quoted)
}

/// What a router says about a packet that was too big for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig<'a> {
    /// Largest packet that passes, bytes; zero if it did not say (before RFC 1191).
    pub mtu: u16,
    /// The beginning of the packet.
    pub quoted: &'a [u8],
}

/// Reads an ICMP message to `local` that says "fragmentation needed" (RFC 1191 section 4) or "packet too big" (RFC 4443
/// section 3.2); none if it is another one.
pub fn read_too_big(local: IpAddr, message: &[u8]) -> Option<TooBig<'_>> {
    let (header, quoted) = message.split_first_chunk::<ICMP_HEADER_LEN>()?;
    let mtu = match (local, header) {
        (IpAddr::V4(_), [3, 4, _, _, _, _, high, low]) => u16::from_be_bytes([*high, *low]),
        (IpAddr::V6(_), [2, 0, _, _, mtu @ ..]) => {
            u16::try_from(u32::from_be_bytes(*mtu)).unwrap_or(u16::MAX)
        }
        _ => return None,
    };
    Some(TooBig { mtu, quoted })
}

/// Writes to `out` the answer to `packet`, which is too big for the next hop of `mtu` bytes: "fragmentation needed"
/// (RFC 1191 section 4) or "packet too big" (RFC 4443 section 3.2), from the packet's destination to its source.
///
/// Returns the answer's length; none if an error must not be sent about this packet (RFC 1122 section 3.2.2) or
/// `out` is shorter than [`MAX_TOO_BIG_LEN`].
pub fn write_too_big(packet: &[u8], mtu: u16, out: &mut [u8]) -> Option<usize> {
    let header = IpHeader::decode(packet).ok()?;
    let upper = packet.get(header.header_len..header.total_len)?;
    if header.fragment == crate::ip::Fragment::Later
        || quoted_by_error(header.protocol, upper).is_some()
        || header.source.is_unspecified()
        || header.source.is_multicast()
        || header.destination.is_multicast()
        || out.len() < MAX_TOO_BIG_LEN
    {
        return None;
    }
    match (header.source, header.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let quote = &packet[..header.total_len.min(V4_QUOTE_LEN)];
            let total = IPV4_HEADER_LEN + ICMP_HEADER_LEN + quote.len();
            let out = &mut out[..total];
            out[..IPV4_HEADER_LEN].fill(0);
            out[0] = 0x45;
            out[2..4].copy_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
            out[8] = HOP_LIMIT;
            out[9] = ICMP;
            out[12..16].copy_from_slice(&destination.octets());
            out[16..20].copy_from_slice(&source.octets());
            let sum = checksum::of(&out[..IPV4_HEADER_LEN]);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
            let message = &mut out[IPV4_HEADER_LEN..];
            message[..ICMP_HEADER_LEN].copy_from_slice(&[3, 4, 0, 0, 0, 0, 0, 0]);
            message[6..8].copy_from_slice(&mtu.to_be_bytes());
            message[ICMP_HEADER_LEN..].copy_from_slice(quote);
            let sum = checksum::of(message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            Some(total)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let room = MAX_TOO_BIG_LEN - IPV6_HEADER_LEN - ICMP_HEADER_LEN;
            let quote = &packet[..header.total_len.min(room)];
            let length = ICMP_HEADER_LEN + quote.len();
            let out = &mut out[..IPV6_HEADER_LEN + length];
            out[..IPV6_HEADER_LEN].fill(0);
            out[0] = 0x60;
            out[4..6].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
            out[6] = ICMPV6;
            out[7] = HOP_LIMIT;
            out[8..24].copy_from_slice(&destination.octets());
            out[24..40].copy_from_slice(&source.octets());
            let message = &mut out[IPV6_HEADER_LEN..];
            message[..ICMP_HEADER_LEN].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
            message[6..8].copy_from_slice(&mtu.to_be_bytes());
            message[ICMP_HEADER_LEN..].copy_from_slice(quote);
            let sum = Checksum::new()
                .pseudo_header(
                    destination.into(),
                    source.into(),
                    ICMPV6,
                    u32::try_from(length).ok()?,
                )
                .bytes(message)
                .finish();
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            Some(IPV6_HEADER_LEN + length)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let total = (20 + payload.len()) as u16;
        let mut packet = vec![
            0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn tells_the_source_the_mtu_and_quotes_the_packet() {
        let big = packet(17, &[7; 1500]);
        let mut out = [0; MAX_TOO_BIG_LEN];
        let length = write_too_big(&big, 1438, &mut out).unwrap();
        let answer = IpHeader::decode(&out[..length]).unwrap();
        assert_eq!(answer.destination, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(checksum::of(&out[..20]), 0);
        assert_eq!(checksum::of(&out[20..length]), 0);
        assert_eq!(out[20..22], [3, 4]);
        assert_eq!(out[26..28], 1438u16.to_be_bytes());
        let quoted = quoted_by_error(ICMP, &out[20..length]).unwrap();
        assert_eq!(quoted, &big[..quoted.len()]);
        let read = read_too_big(answer.destination, &out[20..length]);
        assert_eq!(read, Some(TooBig { mtu: 1438, quoted }));
        assert_eq!(read_too_big("fd00::1".parse().unwrap(), &out[20..length]), None);
        assert_eq!(length, 576);
    }

    #[test]
    fn answers_ipv6_within_the_minimum_mtu() {
        let mut big = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
        big[4..6].copy_from_slice(&1460u16.to_be_bytes());
        big.extend([0x20; 16]);
        big.extend([0x21; 16]);
        big.extend([9; 1460]);
        let mut out = [0; MAX_TOO_BIG_LEN];
        assert_eq!(write_too_big(&big, 1418, &mut out), Some(1280));
        let answer = IpHeader::decode(&out).unwrap();
        let sum = Checksum::new()
            .pseudo_header(answer.source, answer.destination, ICMPV6, 1240)
            .bytes(&out[40..]);
        assert_eq!(sum.finish(), 0);
        let read = read_too_big(answer.destination, &out[40..]).unwrap();
        assert_eq!((read.mtu, read.quoted), (1418, &big[..1232]));
    }

    #[test]
    fn no_error_is_sent_about_an_error_a_later_fragment_or_a_multicast() {
        let mut out = [0; MAX_TOO_BIG_LEN];
        assert_eq!(
            write_too_big(&packet(ICMP, &[3, 4, 0, 0, 0, 0, 0, 0, 1]), 100, &mut out),
            None
        );
        assert!(write_too_big(&packet(ICMP, &[8, 0, 0, 0, 0, 0, 0, 0, 1]), 100, &mut out).is_some());
        let mut later = packet(17, &[0; 64]);
        later[7] = 8;
        assert_eq!(write_too_big(&later, 100, &mut out), None);
        let mut multicast = packet(17, &[0; 64]);
        multicast[16] = 224;
        assert_eq!(write_too_big(&multicast, 100, &mut out), None);
    }
}
