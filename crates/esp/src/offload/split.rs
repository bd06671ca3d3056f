//! Cutting a super-packet into the packets that it stands for.

use isthmus_wire::checksum::Checksum;
use isthmus_wire::ip::{self, IPV4_HEADER_LEN, IpHeader};
use isthmus_wire::tcp::{CWR, FIN, PSH, TCP_CHECKSUM_OFFSET, TcpHeader};
use isthmus_wire::udp::{UDP_CHECKSUM_OFFSET, UDP_HEADER_LEN};

use super::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, NEEDS_CHECKSUM, VNET_HEADER_LEN, VnetHeader};
use crate::drop_reason::DropReason;

/// A packet from the TUN device, ready to be written out in as many pieces as it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Splitter<'a> {
    packet: &'a [u8],
    header: IpHeader,
    kind: Kind,
    // Bytes before the payload, and bytes of payload in each piece but the last.
    header_len: usize,
    piece: usize,
    count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Complete,
    LacksChecksum { start: usize, field: usize },
    Tcp { sequence: u32 },
    Udp,
}

impl<'a> Splitter<'a> {
    /// Takes what one read from the device gave.
    ///
    /// # Errors
    /// [`DropReason::MalformedInner`] if it is no IP packet or its headers contradict each other,
    /// [`DropReason::UnsupportedOffload`] for a kind of segmentation that the device was not told to use.
    pub fn new(read: &'a [u8]) -> Result<Self, DropReason> {
        let (vnet, packet) = read
            .split_first_chunk::<VNET_HEADER_LEN>()
            .ok_or(DropReason::MalformedInner)?;
        let vnet = VnetHeader::decode(vnet);
        let header = IpHeader::decode(packet).map_err(|_| DropReason::MalformedInner)?;
        let packet = &packet[..header.total_len];
        match vnet.gso_type & !GSO_ECN {
            GSO_NONE => Self::whole(vnet, packet, header),
            GSO_TCPV4 | GSO_TCPV6 => Self::tcp(vnet, packet, header),
            GSO_UDP => Self::udp(vnet, packet, header),
            _ => Err(DropReason::UnsupportedOffload),
        }
    }

    /// The header of the packet. It holds for every piece, but for the length.
    pub const fn header(&self) -> &IpHeader {
        &self.header
    }

    /// The packet as the device gave it.
    pub const fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// How many pieces there are; at least one.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Length of the piece `index`, which is below [`Splitter::count`].
    pub fn len_of(&self, index: usize) -> usize {
        let payload = self.packet.len() - self.header_len;
        self.header_len + (payload - index * self.piece).min(self.piece)
    }

    /// Length of the longest piece.
    pub fn longest(&self) -> usize {
        self.len_of(0)
    }

    /// Writes the piece `index` to `out`, which has the length [`Splitter::len_of`].
    pub fn write(&self, index: usize, out: &mut [u8]) {
        match self.kind {
            Kind::Complete => out.copy_from_slice(self.packet),
            Kind::LacksChecksum { start, field } => {
                out.copy_from_slice(self.packet);
                let sum = Checksum::new().bytes(&out[start..]).finish();
                put(out, field, nonzero_for_udp(self.header.protocol, sum));
            }
            Kind::Tcp { sequence } => {
                let advance = index * self.piece;
                let payload = self.write_layers(index, out);
                let segment = &mut out[self.header.header_len..];
                let sequence = sequence.wrapping_add(advance as u32);
                segment[4..8].copy_from_slice(&sequence.to_be_bytes());
                if index > 0 {
                    segment[13] &= !CWR;
                }
                if index + 1 < self.count {
                    segment[13] &= !(FIN | PSH);
                }
                self.put_checksum(out, payload, TCP_CHECKSUM_OFFSET);
            }
            Kind::Udp => {
                let payload = self.write_layers(index, out);
                let at = self.header.header_len;
                let length = (out.len() - at) as u16;
                put(out, at + 4, length);
                self.put_checksum(out, payload, UDP_CHECKSUM_OFFSET);
            }
        }
    }

    fn whole(vnet: VnetHeader, packet: &'a [u8], header: IpHeader) -> Result<Self, DropReason> {
        let kind = if vnet.flags & NEEDS_CHECKSUM == 0 {
            Kind::Complete
        } else {
            let start = usize::from(vnet.checksum_start);
            let field = start + usize::from(vnet.checksum_offset);
            if start < header.header_len || field + 2 > packet.len() {
                return Err(DropReason::MalformedInner);
            }
            Kind::LacksChecksum { start, field }
        };
        Ok(Self {
            packet,
            header,
            kind,
            header_len: 0,
            piece: packet.len(),
            count: 1,
        })
    }

    fn tcp(vnet: VnetHeader, packet: &'a [u8], header: IpHeader) -> Result<Self, DropReason> {
        let segment = &packet[header.header_len..];
        let tcp = TcpHeader::decode(segment).map_err(|_| DropReason::MalformedInner)?;
        let kind = Kind::Tcp {
            sequence: tcp.sequence,
        };
        Self::pieces(vnet, packet, header, kind, header.header_len + tcp.header_len)
    }

    fn udp(vnet: VnetHeader, packet: &'a [u8], header: IpHeader) -> Result<Self, DropReason> {
        if header.total_len < header.header_len + UDP_HEADER_LEN {
            return Err(DropReason::MalformedInner);
        }
        Self::pieces(
            vnet,
            packet,
            header,
            Kind::Udp,
            header.header_len + UDP_HEADER_LEN,
        )
    }

    fn pieces(
        vnet: VnetHeader,
        packet: &'a [u8],
        header: IpHeader,
        kind: Kind,
        header_len: usize,
    ) -> Result<Self, DropReason> {
        let piece = usize::from(vnet.gso_size);
        let protocol = if kind == Kind::Udp { ip::UDP } else { ip::TCP };
        if piece == 0 || header.protocol != protocol || header.fragment != ip::Fragment::Whole {
            return Err(DropReason::MalformedInner);
        }
        let count = (packet.len() - header_len).div_ceil(piece).max(1);
        Ok(Self {
            packet,
            header,
            kind,
            header_len,
            piece,
            count,
        })
    }

    /// Writes all but the upper layer's own fields and returns the payload.
    fn write_layers(&self, index: usize, out: &mut [u8]) -> &'a [u8] {
        let from = self.header_len + index * self.piece;
        let payload = &self.packet[from..from + out.len() - self.header_len];
        out[..self.header_len].copy_from_slice(&self.packet[..self.header_len]);
        out[self.header_len..].copy_from_slice(payload);
        let length = out.len();
        if out[0] >> 4 == 4 {
            put(out, 2, length as u16);
            let id = u16::from_be_bytes([out[4], out[5]]).wrapping_add(index as u16);
            put(out, 4, id);
            put(out, 10, 0);
            let sum = Checksum::new().bytes(&out[..self.ipv4_header_len()]).finish();
            put(out, 10, sum);
        } else {
            put(out, 4, (length - ip::IPV6_HEADER_LEN) as u16);
        }
        payload
    }

    fn ipv4_header_len(&self) -> usize {
        self.header.header_len.max(IPV4_HEADER_LEN)
    }

    // The payload is summed where it came from: reading back what was written a moment ago is slower.
    fn put_checksum(&self, out: &mut [u8], payload: &[u8], offset: usize) {
        let at = self.header.header_len;
        put(out, at + offset, 0);
        let sum = Checksum::new()
            .pseudo_header(
                self.header.source,
                self.header.destination,
                self.header.protocol,
                (out.len() - at) as u32,
            )
            .bytes(&out[at..self.header_len])
            .bytes(payload)
            .finish();
        put(out, at + offset, nonzero_for_udp(self.header.protocol, sum));
    }
}

// Zero in UDP means "no checksum" (RFC 768).
const fn nonzero_for_udp(protocol: u8, sum: u16) -> u16 {
    if protocol == ip::UDP && sum == 0 {
        0xffff
    } else {
        sum
    }
}

fn put(out: &mut [u8], at: usize, value: u16) {
    out[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
