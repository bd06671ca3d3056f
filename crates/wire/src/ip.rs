//! What a packet's IPv4 (RFC 791) or IPv6 (RFC 8200) header says, checked against the bytes that are there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocol number of IPv4 in IP.
pub const IPV4: u8 = 4;
/// Protocol number of IPv6 in IP.
pub const IPV6: u8 = 41;
/// Protocol number of ICMP for IPv4.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ESP.
pub const ESP: u8 = 50;
/// Protocol number of ICMP for IPv6.
pub const ICMPV6: u8 = 58;
/// "No next header": an ESP dummy packet (RFC 4303 section 2.6).
pub const NO_NEXT_HEADER: u8 = 59;

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER_LEN: usize = 20;
/// Bytes of the fixed IPv6 header.
pub const IPV6_HEADER_LEN: usize = 40;

const MAX_EXTENSIONS: usize = 8;

/// Why bytes are no IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpError {
    /// More extension headers than we follow.
    Extensions,
    /// A header length field that is too small or points beyond the packet.
    HeaderLength,
    /// The total length is smaller than the headers or greater than what is there.
    TotalLength,
    /// Fewer bytes than the fixed header.
    Truncated,
    /// Neither version 4 nor 6.
    Version,
}

/// Which part of a fragmented packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The first of several; it has the upper layer's header.
    First,
    /// A later one; it has no upper layer's header.
    Later,
    /// The packet is whole.
    Whole,
}

/// The facts of an IP header that forwarding and policy need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol of the upper layer, after any extension headers.
    pub protocol: u8,
    /// Bytes before the upper layer's header.
    pub header_len: usize,
    /// Bytes of the whole packet as the header says; at most what is there.
    pub total_len: usize,
    /// Which fragment it is.
    pub fragment: Fragment,
    /// Whether routers may not fragment it; always so for IPv6.
    pub dont_fragment: bool,
    /// The type of service or traffic class: DSCP and ECN.
    pub traffic_class: u8,
}

impl IpHeader {
    /// Reads the header of `packet`. Bytes after the packet's own length are allowed.
    ///
    /// # Errors
    /// [`IpError`].
    pub fn decode(packet: &[u8]) -> Result<Self, IpError> {
        decode(packet, Extent::Complete)
    }

    /// Reads the header of a packet that an ICMP error quotes, whose end may be missing: `total_len` then says how
    /// much is there.
    ///
    /// # Errors
    /// [`IpError`].
    pub fn decode_quoted(packet: &[u8]) -> Result<Self, IpError> {
        decode(packet, Extent::Quoted)
    }

    /// The upper layer's ports: source and destination of TCP, UDP, SCTP and UDP-Lite, type and code of ICMP in the
    /// first (RFC 4301 section 4.4.1.1). None if the protocol has none or this fragment does not carry them.
    pub fn ports(&self, packet: &[u8]) -> Option<(u16, u16)> {
        if self.fragment == Fragment::Later {
            return None;
        }
        let upper = packet.get(self.header_len..self.total_len)?;
        match self.protocol {
            TCP | UDP | 132 | 136 => {
                let ports = upper.first_chunk::<4>()?;
                Some((
                    u16::from_be_bytes([ports[0], ports[1]]),
                    u16::from_be_bytes([ports[2], ports[3]]),
                ))
            }
            ICMP | ICMPV6 => {
                let kind = upper.first_chunk::<2>()?;
                Some((u16::from_be_bytes(*kind), 0))
            }
            _ => None,
        }
    }

    /// The protocol number of the packet in a tunnel: 4 or 41.
    pub const fn version_protocol(&self) -> u8 {
        match self.source {
            IpAddr::V4(_) => IPV4,
            IpAddr::V6(_) => IPV6,
        }
    }
}

/// Writes `traffic_class` into a packet that [`IpHeader::decode`] accepted, and corrects the IPv4 header checksum.
pub fn set_traffic_class(packet: &mut [u8], traffic_class: u8) {
    match packet {
        [first, tos, ..] if *first >> 4 == 4 => {
            let old = u16::from_be_bytes([*first, *tos]);
            let new = u16::from_be_bytes([*first, traffic_class]);
            *tos = traffic_class;
            if let Some([high, low]) = packet.get_mut(10..12) {
                let sum = crate::checksum::update(u16::from_be_bytes([*high, *low]), old, new);
                [*high, *low] = sum.to_be_bytes();
            }
        }
        [first, second, ..] if *first >> 4 == 6 => {
            *first = 0x60 | traffic_class >> 4;
            *second = (traffic_class << 4) | (*second & 0x0f);
        }
        _ => {}
    }
}

#[derive(Clone, Copy)]
enum Extent {
    Complete,
    Quoted,
}

impl Extent {
    fn check(self, total_len: usize, there: usize) -> Result<usize, IpError> {
        match self {
            Self::Complete if total_len > there => Err(IpError::TotalLength),
            Self::Complete | Self::Quoted => Ok(total_len.min(there)),
        }
    }
}

fn decode(packet: &[u8], extent: Extent) -> Result<IpHeader, IpError> {
    match packet.first().ok_or(IpError::Truncated)? >> 4 {
        4 => decode_v4(packet, extent),
        6 => decode_v6(packet, extent),
        _ => Err(IpError::Version),
    }
}

fn decode_v4(packet: &[u8], extent: Extent) -> Result<IpHeader, IpError> {
    let header: &[u8; IPV4_HEADER_LEN] = packet.first_chunk().ok_or(IpError::Truncated)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < IPV4_HEADER_LEN || header_len > packet.len() {
        return Err(IpError::HeaderLength);
    }
    if total_len < header_len {
        return Err(IpError::TotalLength);
    }
    let total_len = extent.check(total_len, packet.len())?;
    let flags = u16::from_be_bytes([header[6], header[7]]);
    let fragment = match (flags & 0x1fff, flags & 0x2000 != 0) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    };
    Ok(IpHeader {
        source: IpAddr::V4(Ipv4Addr::new(header[12], header[13], header[14], header[15])),
        destination: IpAddr::V4(Ipv4Addr::new(header[16], header[17], header[18], header[19])),
        protocol: header[9],
        header_len,
        total_len,
        fragment,
        dont_fragment: flags & 0x4000 != 0,
        traffic_class: header[1],
    })
}

fn decode_v6(packet: &[u8], extent: Extent) -> Result<IpHeader, IpError> {
    let header: &[u8; IPV6_HEADER_LEN] = packet.first_chunk().ok_or(IpError::Truncated)?;
    let total_len = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let total_len = extent.check(total_len, packet.len())?;
    let body = packet.get(..total_len).ok_or(IpError::TotalLength)?;
    let (source, rest) = header[8..].split_at(16);
    let mut protocol = header[6];
    let mut header_len = IPV6_HEADER_LEN;
    let mut fragment = Fragment::Whole;
    for step in 0.. {
        let extension_len = match protocol {
            // Hop-by-hop, routing, destination options, mobility.
            0 | 43 | 60 | 135 if fragment != Fragment::Later => {
                8 + usize::from(*body.get(header_len + 1).ok_or(IpError::HeaderLength)?) * 8
            }
            44 if fragment == Fragment::Whole => {
                let field = body
                    .get(header_len + 2..header_len + 4)
                    .ok_or(IpError::HeaderLength)?;
                let offset = u16::from_be_bytes([field[0], field[1]]);
                fragment = match (offset & !7, offset & 1) {
                    (0, 0) => Fragment::Whole,
                    (0, _) => Fragment::First,
                    _ => Fragment::Later,
                };
                8
            }
            _ => break,
        };
        if step == MAX_EXTENSIONS {
            return Err(IpError::Extensions);
        }
        protocol = *body.get(header_len).ok_or(IpError::HeaderLength)?;
        header_len += extension_len;
        if header_len > total_len {
            return Err(IpError::HeaderLength);
        }
    }
    Ok(IpHeader {
        source: IpAddr::V6(v6_address(source)),
        destination: IpAddr::V6(v6_address(rest)),
        protocol,
        header_len,
        total_len,
        fragment,
        dont_fragment: true,
        traffic_class: (header[0] << 4) | (header[1] >> 4),
    })
}

fn v6_address(octets: &[u8]) -> Ipv6Addr {
    let mut address = [0u8; 16];
    for (to, from) in address.iter_mut().zip(octets) {
        *to = *from;
    }
    Ipv6Addr::from(address)
}

#[cfg(test)]
mod tests;
