//! Packets in clear.

use isthmus_esp::fragment::Fragments;
use isthmus_esp::{Flow, TrafficRange, mss};
use isthmus_wire::esp::{EspHeader, read_trailer};
use isthmus_wire::icmp::{MAX_TOO_BIG_LEN, quoted_by_error, read_too_big, write_too_big};
use isthmus_wire::ip::{self, IpHeader};
use isthmus_wire::tcp::TcpHeader;
use isthmus_wire::udp::Encapsulated;

use crate::input::Input;

/// Every view of a packet, and what is made of packets: clamped handshakes, fragments, "too big" messages.
pub fn packets(data: &[u8]) {
    let mut input = Input::new(data);
    let mtu = input.half();
    let packet = input.rest();
    if let Ok(header) = EspHeader::decode(packet) {
        assert_eq!(EspHeader::decode(&header.encode()), Ok(header));
    }
    if let Ok((inner_len, _)) = read_trailer(packet) {
        assert!(inner_len < packet.len());
    }
    if let Encapsulated::Ike(inside) | Encapsulated::Esp(inside) = Encapsulated::of(packet) {
        assert!(packet.ends_with(inside));
    }
    let _ = TcpHeader::decode(packet);
    if let Ok(quoted) = IpHeader::decode_quoted(packet) {
        assert!(quoted.header_len <= quoted.total_len && quoted.total_len <= packet.len());
        let _ = Flow::of_quoted(&quoted, packet);
    }
    let Ok(header) = IpHeader::decode(packet) else {
        return;
    };
    assert!(header.header_len <= header.total_len && header.total_len <= packet.len());
    let flow = Flow::of(&header, packet);
    assert_eq!(flow.reversed().reversed(), flow);
    let range = TrafficRange {
        first: header.source,
        last: header.source,
        protocol: header.protocol,
        first_port: 0,
        last_port: u16::MAX,
    };
    assert!(range.first <= range.last);
    let upper = &packet[header.header_len..header.total_len];
    let _ = TcpHeader::decode(upper);
    let _ = quoted_by_error(header.protocol, upper);
    let _ = read_too_big(header.destination, upper);
    clamp(packet, &header, mtu);
    answer(packet, mtu);
    cut(packet, &header, mtu);
}

fn clamp(packet: &[u8], header: &IpHeader, mtu: u16) {
    let mut clamped = packet.to_vec();
    mss::clamp(&mut clamped, header, usize::from(mtu));
    assert_eq!(IpHeader::decode(&clamped), Ok(*header));
    let once = clamped.clone();
    mss::clamp(&mut clamped, header, usize::from(mtu));
    assert_eq!(clamped, once, "clamping twice is clamping once");
}

fn answer(packet: &[u8], mtu: u16) {
    let mut out = [0; MAX_TOO_BIG_LEN];
    let Some(length) = write_too_big(packet, mtu, &mut out) else {
        return;
    };
    let answer = &out[..length];
    let header = IpHeader::decode(answer).expect("an answer is a packet");
    assert_eq!(header.total_len, length);
    let message = &answer[header.header_len..];
    let read = read_too_big(header.source, message).expect("the answer is one");
    assert_eq!(read.mtu, mtu);
    assert!(packet.starts_with(read.quoted));
    let mut again = [0; MAX_TOO_BIG_LEN];
    assert_eq!(
        write_too_big(answer, mtu, &mut again),
        None,
        "no error about an error"
    );
}

/// The pieces hold the payload, each once and in order.
fn cut(packet: &[u8], header: &IpHeader, mtu: u16) {
    let Some(fragments) = Fragments::new(packet, header, usize::from(mtu)) else {
        return;
    };
    let mut payload = Vec::new();
    for index in 0..fragments.count() {
        let mut piece = vec![0; fragments.len_of(index)];
        fragments.write(index, &mut piece);
        assert!(piece.len() <= usize::from(mtu));
        let read = IpHeader::decode(&piece).expect("a piece is a packet");
        assert_eq!(
            (read.total_len, read.header_len),
            (piece.len(), header.header_len)
        );
        assert_eq!(
            (read.source, read.destination),
            (header.source, header.destination)
        );
        assert_eq!(isthmus_wire::checksum::of(&piece[..read.header_len]), 0);
        payload.extend_from_slice(&piece[read.header_len..]);
    }
    assert_eq!(payload, &packet[header.header_len..header.total_len]);
    assert_ne!(header.version_protocol(), ip::IPV6);
}
