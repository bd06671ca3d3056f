//! Traffic selectors (RFC 7296 section 3.13) and the packets that they admit (RFC 4301 section 5).

use std::net::IpAddr;

use isthmus_types::Cidr;
use isthmus_wire::icmp::quoted_by_error;
use isthmus_wire::ip::IpHeader;

/// Addresses, protocol and ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Source and destination port, as [`IpHeader::ports`] gives them; none where the packet shows none.
    pub ports: Option<(u16, u16)>,
}

impl Flow {
    /// The flow that `packet`, whose header is `header`, belongs to.
    pub fn of(header: &IpHeader, packet: &[u8]) -> Self {
        Self {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            ports: header.ports(packet),
        }
    }

    /// If `packet` is an ICMP error: the flow in the same direction that the packet it quotes belongs to. Routers
    /// send errors from addresses of their own, which no selector covers.
    pub fn of_quoted(header: &IpHeader, packet: &[u8]) -> Option<Self> {
        let upper = packet.get(header.header_len..header.total_len)?;
        let quoted = quoted_by_error(header.protocol, upper)?;
        let inner = IpHeader::decode_quoted(quoted).ok()?;
        Some(Self::of(&inner, quoted).reversed())
    }

    /// How much the flow belongs to `lane`: of several lanes, it is the one with the highest weight that takes it.
    pub(crate) fn weight_in(&self, lane: u8) -> u64 {
        let address = |address| match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                mix((bits >> 64) as u64) ^ bits as u64
            }
        };
        let ports = self.ports.map_or(0, |(source, destination)| {
            1 << 32 | u64::from(source) << 16 | u64::from(destination)
        });
        let parts = [
            address(self.source),
            address(self.destination),
            ports << 8 | u64::from(self.protocol),
            u64::from(lane),
        ];
        parts.into_iter().fold(0, |sum, part| mix(sum ^ part))
    }

    /// The answering flow.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            ports: self.ports.map(|(source, destination)| (destination, source)),
        }
    }
}

/// Spreads what differs in any bit over all bits.
const fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 32).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// One traffic selector: a range of addresses, one protocol or any, a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TrafficRange {
    /// First address.
    pub first: IpAddr,
    /// Last address, of the same family.
    pub last: IpAddr,
    /// Protocol number; zero for any.
    pub protocol: u8,
    /// First port.
    pub first_port: u16,
    /// Last port.
    pub last_port: u16,
}

impl TrafficRange {
    /// Every protocol and port of the addresses in `cidr`.
    pub fn from_cidr(cidr: Cidr) -> Self {
        Self {
            first: cidr.network(),
            last: cidr.net().broadcast(),
            protocol: 0,
            first_port: 0,
            last_port: u16::MAX,
        }
    }

    fn admits(&self, address: IpAddr, protocol: u8, port: Option<u16>) -> bool {
        let address_fits = match (self.first, address, self.last) {
            (IpAddr::V4(first), IpAddr::V4(address), IpAddr::V4(last)) => first <= address && address <= last,
            (IpAddr::V6(first), IpAddr::V6(address), IpAddr::V6(last)) => first <= address && address <= last,
            _ => false,
        };
        let any_port = self.first_port == 0 && self.last_port == u16::MAX;
        address_fits
            && (self.protocol == 0 || self.protocol == protocol)
            && (any_port || port.is_some_and(|port| self.first_port <= port && port <= self.last_port))
    }
}

/// The traffic selectors of one Child SA: any local range with any remote range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Ranges on our side.
    pub local: Vec<TrafficRange>,
    /// Ranges on the peer's side.
    pub remote: Vec<TrafficRange>,
}

impl Selectors {
    /// Whether a packet that we send may take this SA.
    pub fn admit_outbound(&self, flow: &Flow) -> bool {
        self.admit(flow.source, flow.destination, flow.protocol, flow.ports)
    }

    /// Whether a packet that the peer sent may come on this SA.
    pub fn admit_inbound(&self, flow: &Flow) -> bool {
        self.admit_outbound(&flow.reversed())
    }

    fn admit(&self, local: IpAddr, remote: IpAddr, protocol: u8, ports: Option<(u16, u16)>) -> bool {
        let (local_port, remote_port) = (ports.map(|ports| ports.0), ports.map(|ports| ports.1));
        self.remote
            .iter()
            .any(|range| range.admits(remote, protocol, remote_port))
            && self
                .local
                .iter()
                .any(|range| range.admits(local, protocol, local_port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(source: &str, destination: &str, protocol: u8, ports: Option<(u16, u16)>) -> Flow {
        Flow {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            ports,
        }
    }

    fn cidr(text: &str) -> TrafficRange {
        TrafficRange::from_cidr(text.parse().unwrap())
    }

    #[test]
    fn a_packet_must_fit_both_sides() {
        let selectors = Selectors {
            local: vec![cidr("10.1.0.0/24"), cidr("10.1.1.0/24")],
            remote: vec![cidr("10.2.0.0/16"), cidr("fd00::/8")],
        };
        assert!(selectors.admit_outbound(&flow("10.1.1.255", "10.2.9.9", 6, Some((1, 2)))));
        assert!(!selectors.admit_outbound(&flow("10.1.2.0", "10.2.9.9", 6, Some((1, 2)))));
        assert!(!selectors.admit_outbound(&flow("10.1.0.1", "10.3.0.0", 6, Some((1, 2)))));
        assert!(!selectors.admit_outbound(&flow("fd00::1", "fd00::2", 6, None)));
        assert!(selectors.admit_inbound(&flow("10.2.0.1", "10.1.0.1", 1, None)));
        assert!(!selectors.admit_inbound(&flow("10.1.0.1", "10.2.0.1", 1, None)));
    }

    #[test]
    fn a_port_range_admits_no_packet_that_hides_its_ports() {
        let web = TrafficRange {
            protocol: 6,
            first_port: 80,
            last_port: 80,
            ..cidr("10.2.0.0/16")
        };
        let selectors = Selectors {
            local: vec![cidr("0.0.0.0/0")],
            remote: vec![web],
        };
        assert!(selectors.admit_outbound(&flow("1.1.1.1", "10.2.0.1", 6, Some((999, 80)))));
        assert!(!selectors.admit_outbound(&flow("1.1.1.1", "10.2.0.1", 6, Some((80, 999)))));
        assert!(!selectors.admit_outbound(&flow("1.1.1.1", "10.2.0.1", 17, Some((999, 80)))));
        assert!(!selectors.admit_outbound(&flow("1.1.1.1", "10.2.0.1", 6, None)));
        assert!(selectors.admit_inbound(&flow("10.2.0.1", "1.1.1.1", 6, Some((80, 999)))));
    }
}
