//! Identification payloads: who the ends are, and which traffic a Child SA carries (RFC 2407 section 4.6.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use isthmus_wire::ike;
use isthmus_wire::isakmp::{IdType, Identification};

use crate::auth::encode_identity;
use crate::config::IkeIdentity;
use crate::selector::Selector;

const UDP: u8 = 17;

/// Our identity for phase 1.
pub(super) fn encode(identity: &IkeIdentity) -> Identification {
    // The types that both versions have, have the same numbers.
    let same = encode_identity(identity);
    Identification {
        id_type: IdType(same.id_type.0),
        protocol: 0,
        port: 0,
        data: same.data,
    }
}

/// The peer's identity in terms of IKEv2.
pub(super) fn as_version_2(id: &Identification) -> ike::Identification {
    ike::Identification::new(ike::IdType(id.id_type.0), id.data.clone())
}

/// Whether protocol and port of an identity of phase 1 are as they should be.
pub(super) const fn has_fitting_port(id: &Identification, behind_nat: bool) -> bool {
    match (id.protocol, id.port) {
        (0, 0) | (UDP, 0 | 500 | 4500) => true,
        (UDP, _) => behind_nat,
        _ => false,
    }
}

/// A selector as an identification of phase 2. Only whole ranges of addresses come here.
pub(super) fn encode_selector(selector: &Selector) -> Identification {
    let prefix = selector.cidrs();
    let whole = match prefix.as_slice() {
        [cidr] => Some(cidr.net().netmask()),
        [] | [_, ..] => None,
    };
    let single = selector.start == selector.end;
    let v4 = selector.start.is_ipv4();
    let id_type = match (v4, single, whole) {
        (true, true, _) => IdType::IPV4_ADDR,
        (false, true, _) => IdType::IPV6_ADDR,
        (true, false, Some(_)) => IdType::IPV4_ADDR_SUBNET,
        (false, false, Some(_)) => IdType::IPV6_ADDR_SUBNET,
        (true, false, None) => IdType::IPV4_ADDR_RANGE,
        (false, false, None) => IdType::IPV6_ADDR_RANGE,
    };
    let mut data = octets(selector.start);
    if !single {
        data.extend(octets(whole.unwrap_or(selector.end)));
    }
    Identification {
        id_type,
        protocol: selector.protocol.unwrap_or(0),
        port: if selector.start_port == selector.end_port {
            selector.start_port
        } else {
            0
        },
        data,
    }
}

/// What an identification of phase 2 selects; none if it is not of addresses.
pub(super) fn decode_selector(id: &Identification) -> Option<Selector> {
    let (start, end) = match id.id_type {
        IdType::IPV4_ADDR => {
            let address = v4(&id.data)?;
            (address, address)
        }
        IdType::IPV6_ADDR => {
            let address = v6(&id.data)?;
            (address, address)
        }
        IdType::IPV4_ADDR_SUBNET => subnet_v4(&id.data)?,
        IdType::IPV6_ADDR_SUBNET => subnet_v6(&id.data)?,
        IdType::IPV4_ADDR_RANGE => {
            let (start, end) = id.data.split_at_checked(4)?;
            (v4(start)?, v4(end)?)
        }
        IdType::IPV6_ADDR_RANGE => {
            let (start, end) = id.data.split_at_checked(16)?;
            (v6(start)?, v6(end)?)
        }
        _ => return None,
    };
    let (start_port, end_port) = if id.port == 0 {
        (0, u16::MAX)
    } else {
        (id.port, id.port)
    };
    (start <= end).then_some(Selector {
        protocol: (id.protocol != 0).then_some(id.protocol),
        start_port,
        end_port,
        start,
        end,
    })
}

/// All traffic of one address: what is meant where identifications are left out.
pub(super) const fn host(address: IpAddr) -> Selector {
    Selector {
        protocol: None,
        start_port: 0,
        end_port: u16::MAX,
        start: address,
        end: address,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn v4(data: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(data).ok().map(IpAddr::from)
}

fn v6(data: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(data).ok().map(IpAddr::from)
}

fn subnet_v4(data: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (address, mask) = data.split_at_checked(4)?;
    let address = u32::from_be_bytes(address.try_into().ok()?);
    let mask = u32::from_be_bytes(mask.try_into().ok()?);
    (mask.leading_ones() + mask.trailing_zeros() >= 32).then(|| {
        (
            IpAddr::V4(Ipv4Addr::from_bits(address & mask)),
            IpAddr::V4(Ipv4Addr::from_bits(address | !mask)),
        )
    })
}

fn subnet_v6(data: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (address, mask) = data.split_at_checked(16)?;
    let address = u128::from_be_bytes(address.try_into().ok()?);
    let mask = u128::from_be_bytes(mask.try_into().ok()?);
    (mask.leading_ones() + mask.trailing_zeros() >= 128).then(|| {
        (
            IpAddr::V6(Ipv6Addr::from_bits(address & mask)),
            IpAddr::V6(Ipv6Addr::from_bits(address | !mask)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_survive_a_round_trip() {
        for text in [
            "10.1.0.0/16",
            "10.1.2.3/32",
            "0.0.0.0/0",
            "2001:db8::/32",
            "2001:db8::1/128",
            "::/0",
        ] {
            let selector = Selector::of(text.parse().unwrap());
            assert_eq!(decode_selector(&encode_selector(&selector)), Some(selector));
        }
    }

    #[test]
    fn a_mask_with_holes_selects_nothing() {
        let id = Identification {
            id_type: IdType::IPV4_ADDR_SUBNET,
            protocol: 0,
            port: 0,
            data: vec![10, 0, 0, 0, 255, 0, 255, 0],
        };
        assert_eq!(decode_selector(&id), None);
    }

    #[test]
    fn ports_of_an_identity_are_those_of_ike_but_behind_a_nat() {
        let id = |protocol, port| Identification {
            id_type: IdType::IPV4_ADDR,
            protocol,
            port,
            data: vec![0; 4],
        };
        for (protocol, port, plain, behind_nat) in [
            (0, 0, true, true),
            (17, 500, true, true),
            (17, 4500, true, true),
            (17, 1024, false, true),
            (6, 500, false, false),
        ] {
            assert_eq!(has_fitting_port(&id(protocol, port), false), plain);
            assert_eq!(has_fitting_port(&id(protocol, port), true), behind_nat);
        }
    }
}
