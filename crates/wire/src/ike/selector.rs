//! Traffic selectors (RFC 7296 section 3.13).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cursor::{Cursor, length_u16};
use super::{DecodeError, Element, MAX_SELECTORS, TsType};

/// One range of addresses, ports and protocols. A selector of an unknown type keeps its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrafficSelector {
    /// A range of addresses of one family.
    Range {
        /// IP protocol, 0 for any.
        protocol: u8,
        /// First port, or ICMP type and code.
        start_port: u16,
        /// Last port. 0..65535 is any; 65535..0 is OPAQUE.
        end_port: u16,
        /// First address.
        start: IpAddr,
        /// Last address, of the same family.
        end: IpAddr,
    },
    /// A type that we do not know.
    Unknown {
        /// The type.
        ts_type: TsType,
        /// IP protocol.
        protocol: u8,
        /// What follows the selector's length.
        data: Vec<u8>,
    },
}

impl TrafficSelector {
    /// All traffic between the two addresses, inclusive, which must be of one family.
    pub const fn addresses(start: IpAddr, end: IpAddr) -> Self {
        Self::Range {
            protocol: 0,
            start_port: 0,
            end_port: u16::MAX,
            start,
            end,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Range {
                protocol,
                start_port,
                end_port,
                start,
                end,
            } => {
                let (ts_type, length) = match start {
                    IpAddr::V4(_) => (TsType::IPV4_ADDR_RANGE, 16),
                    IpAddr::V6(_) => (TsType::IPV6_ADDR_RANGE, 40),
                };
                out.extend_from_slice(&[ts_type.0, *protocol]);
                out.extend_from_slice(&length_u16(length));
                out.extend_from_slice(&start_port.to_be_bytes());
                out.extend_from_slice(&end_port.to_be_bytes());
                encode_address(*start, out);
                encode_address(*end, out);
            }
            Self::Unknown {
                ts_type,
                protocol,
                data,
            } => {
                out.extend_from_slice(&[ts_type.0, *protocol]);
                out.extend_from_slice(&length_u16(4 + data.len()));
                out.extend_from_slice(data);
            }
        }
    }
}

fn encode_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}

fn decode_address(cursor: &mut Cursor<'_>, ts_type: TsType) -> Result<IpAddr, DecodeError> {
    if ts_type == TsType::IPV4_ADDR_RANGE {
        return Ok(IpAddr::V4(Ipv4Addr::from(cursor.u32()?)));
    }
    let high = u128::from(cursor.u64()?);
    let low = u128::from(cursor.u64()?);
    Ok(IpAddr::V6(Ipv6Addr::from(high << 64 | low)))
}

/// Reads the body of a TSi or TSr payload.
pub(super) fn decode_selectors(body: &[u8]) -> Result<Vec<TrafficSelector>, DecodeError> {
    let malformed = DecodeError::Malformed(Element::TrafficSelector);
    let mut cursor = Cursor::new(body, Element::TrafficSelector);
    let count = usize::from(cursor.u8()?);
    cursor.take(3)?;
    if count > MAX_SELECTORS {
        return Err(DecodeError::TooMany(Element::TrafficSelector));
    }
    if count == 0 {
        return Err(malformed);
    }
    let mut selectors = Vec::with_capacity(count);
    for _ in 0..count {
        let ts_type = TsType(cursor.u8()?);
        let protocol = cursor.u8()?;
        let length = usize::from(cursor.u16()?);
        let content = cursor.take(length.checked_sub(4).ok_or(malformed)?)?;
        if ts_type == TsType::IPV4_ADDR_RANGE || ts_type == TsType::IPV6_ADDR_RANGE {
            let mut content = Cursor::new(content, Element::TrafficSelector);
            let start_port = content.u16()?;
            let end_port = content.u16()?;
            let start = decode_address(&mut content, ts_type)?;
            let end = decode_address(&mut content, ts_type)?;
            content.finish()?;
            selectors.push(TrafficSelector::Range {
                protocol,
                start_port,
                end_port,
                start,
                end,
            });
        } else {
            selectors.push(TrafficSelector::Unknown {
                ts_type,
                protocol,
                data: content.to_vec(),
            });
        }
    }
    cursor.finish()?;
    Ok(selectors)
}

/// Appends the body of a TSi or TSr payload.
pub(super) fn encode_selectors(selectors: &[TrafficSelector], out: &mut Vec<u8>) {
    let count = u8::try_from(selectors.len()).unwrap_or(u8::MAX);
    out.extend_from_slice(&[count, 0, 0, 0]);
    for selector in selectors {
        selector.encode(out);
    }
}
