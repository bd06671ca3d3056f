//! Traffic selectors and their narrowing (RFC 7296 section 2.9).

use std::net::IpAddr;

use ipnet::{Ipv4Subnets, Ipv6Subnets};
use isthmus_types::Cidr;
use isthmus_wire::ike::{MAX_SELECTORS, TrafficSelector};

/// A range of addresses, ports and protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// IP protocol; none for any.
    pub protocol: Option<u8>,
    /// First port (or ICMP type and code).
    pub start_port: u16,
    /// Last port. 0 to 65535 is any.
    pub end_port: u16,
    /// First address.
    pub start: IpAddr,
    /// Last address, of the same family.
    pub end: IpAddr,
}

impl Selector {
    /// All traffic of a range.
    pub fn of(cidr: Cidr) -> Self {
        let net = cidr.net();
        Self {
            protocol: None,
            start_port: 0,
            end_port: u16::MAX,
            start: net.network(),
            end: net.broadcast(),
        }
    }

    /// The smallest set of prefixes that covers exactly its addresses.
    pub fn cidrs(&self) -> Vec<Cidr> {
        match (self.start, self.end) {
            (IpAddr::V4(start), IpAddr::V4(end)) => Ipv4Subnets::new(start, end, 0)
                .map(|net| Cidr::truncating(net.into()))
                .collect(),
            (IpAddr::V6(start), IpAddr::V6(end)) => Ipv6Subnets::new(start, end, 0)
                .map(|net| Cidr::truncating(net.into()))
                .collect(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
        }
    }

    /// Whether everything that `other` selects is selected.
    pub fn contains(&self, other: &Self) -> bool {
        self.intersection(other).as_ref() == Some(other)
    }

    fn intersection(&self, other: &Self) -> Option<Self> {
        if self.start.is_ipv4() != other.start.is_ipv4() {
            return None;
        }
        let protocol = match (self.protocol, other.protocol) {
            (None, protocol) | (protocol, None) => protocol,
            (Some(left), Some(right)) if left == right => Some(left),
            (Some(_), Some(_)) => return None,
        };
        let both = Self {
            protocol,
            start_port: self.start_port.max(other.start_port),
            end_port: self.end_port.min(other.end_port),
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        };
        (both.start <= both.end && both.start_port <= both.end_port).then_some(both)
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.cidrs().as_slice() {
            [cidr] => write!(f, "{cidr}")?,
            [] | [_, ..] => write!(f, "{}-{}", self.start, self.end)?,
        }
        if let Some(protocol) = self.protocol {
            write!(f, "[{protocol}]")?;
        }
        if (self.start_port, self.end_port) != (0, u16::MAX) {
            write!(f, ":{}-{}", self.start_port, self.end_port)?;
        }
        Ok(())
    }
}

/// What a Child SA carries: any local selector with any remote one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// On our side.
    pub(crate) local: Vec<Selector>,
    /// On the peer's side.
    pub(crate) remote: Vec<Selector>,
}

impl Traffic {
    /// Whether some packet fits both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let any = |left: &[Selector], right: &[Selector]| {
            left.iter()
                .any(|left| right.iter().any(|right| left.intersection(right).is_some()))
        };
        any(&self.local, &other.local) && any(&self.remote, &other.remote)
    }

    /// Whether every packet that fits `other` fits this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        is_within(&other.local, &self.local) && is_within(&other.remote, &self.remote)
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} === {}", describe(&self.local), describe(&self.remote))
    }
}

/// Selectors of configured ranges.
pub(crate) fn configured(cidrs: &[Cidr]) -> Vec<Selector> {
    cidrs
        .iter()
        .take(MAX_SELECTORS)
        .map(|cidr| Selector::of(*cidr))
        .collect()
}

/// Selectors for the wire.
pub(crate) fn encode(selectors: &[Selector]) -> Vec<TrafficSelector> {
    selectors
        .iter()
        .map(|selector| TrafficSelector::Range {
            protocol: selector.protocol.unwrap_or(0),
            start_port: selector.start_port,
            end_port: selector.end_port,
            start: selector.start,
            end: selector.end,
        })
        .collect()
}

/// Selectors from the wire. Types that we do not know, empty ranges and OPAQUE ports select nothing.
pub(crate) fn decode(selectors: &[TrafficSelector]) -> Vec<Selector> {
    selectors
        .iter()
        .filter_map(|selector| match selector {
            TrafficSelector::Range {
                protocol,
                start_port,
                end_port,
                start,
                end,
            } => (start <= end && start_port <= end_port).then_some(Selector {
                protocol: (*protocol != 0).then_some(*protocol),
                start_port: *start_port,
                end_port: *end_port,
                start: *start,
                end: *end,
            }),
            TrafficSelector::Unknown { .. } => None,
        })
        .collect()
}

/// What both sides select: every non-empty intersection that no other one contains.
pub(crate) fn narrow(offered: &[Selector], ours: &[Selector]) -> Vec<Selector> {
    let mut narrowed: Vec<Selector> = Vec::new();
    for both in offered
        .iter()
        .flat_map(|offered| ours.iter().filter_map(move |our| offered.intersection(our)))
    {
        if narrowed.iter().any(|have| have.contains(&both)) {
            continue;
        }
        narrowed.retain(|have| !both.contains(have));
        narrowed.push(both);
        if narrowed.len() == MAX_SELECTORS {
            break;
        }
    }
    narrowed
}

/// Whether each of `answered` lies within one of `asked`, and there is one.
pub(crate) fn is_within(answered: &[Selector], asked: &[Selector]) -> bool {
    !answered.is_empty()
        && answered
            .iter()
            .all(|answered| asked.iter().any(|asked| asked.contains(answered)))
}

/// What of `configured` none of `carried` selects. A selector with ports or a protocol carries nothing whole.
pub(crate) fn without(configured: &[Selector], carried: &[Selector]) -> Vec<Selector> {
    let mut left = configured.to_vec();
    for taken in carried
        .iter()
        .filter(|taken| taken.protocol.is_none() && (taken.start_port, taken.end_port) == (0, u16::MAX))
    {
        left = left.iter().flat_map(|one| subtract(one, taken)).collect();
        left.truncate(4 * MAX_SELECTORS);
    }
    left
}

/// Each of them once.
pub(crate) fn distinct(selectors: Vec<Selector>) -> Vec<Selector> {
    let mut distinct: Vec<Selector> = Vec::new();
    for selector in selectors {
        if !distinct.contains(&selector) {
            distinct.push(selector);
        }
    }
    distinct
}

/// The addresses of `from` before and after those of `taken`.
fn subtract(from: &Selector, taken: &Selector) -> Vec<Selector> {
    let Some(both) = from.intersection(taken) else {
        return vec![from.clone()];
    };
    let before = previous(both.start)
        .filter(|_| both.start > from.start)
        .map(|end| Selector { end, ..from.clone() });
    let after = next(both.end)
        .filter(|_| both.end < from.end)
        .map(|start| Selector {
            start,
            ..from.clone()
        });
    before.into_iter().chain(after).collect()
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// Selectors in words, for evidence sentences.
pub(crate) fn describe(selectors: &[Selector]) -> String {
    let words: Vec<String> = selectors.iter().take(4).map(ToString::to_string).collect();
    let more = if selectors.len() > words.len() {
        ", …"
    } else {
        ""
    };
    format!("{}{more}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(text: &str) -> Selector {
        Selector::of(text.parse().unwrap())
    }

    #[test]
    fn narrowing_keeps_what_both_select_and_drops_what_is_contained() {
        let offered = [
            select("10.0.0.0/8"),
            select("10.1.0.7/32"),
            select("192.168.0.0/16"),
        ];
        let ours = [
            select("10.1.0.0/16"),
            select("10.2.0.0/16"),
            select("172.16.0.0/12"),
        ];
        assert_eq!(
            narrow(&offered, &ours),
            [select("10.1.0.0/16"), select("10.2.0.0/16")]
        );
        assert!(narrow(&[select("10.0.0.0/8")], &[select("2001:db8::/32")]).is_empty());
    }

    #[test]
    fn a_port_or_protocol_narrows_too() {
        let web = Selector {
            protocol: Some(6),
            start_port: 443,
            end_port: 443,
            ..select("0.0.0.0/0")
        };
        let both = narrow(std::slice::from_ref(&web), &[select("10.0.0.0/8")]);
        assert_eq!(both.len(), 1);
        assert_eq!(both[0].to_string(), "10.0.0.0/8[6]:443-443");
        let other = Selector {
            protocol: Some(17),
            ..select("10.0.0.0/8")
        };
        assert!(narrow(&[web], &[other]).is_empty());
    }

    #[test]
    fn an_answer_outside_the_request_is_seen() {
        let asked = [select("10.1.0.0/16")];
        assert!(is_within(&[select("10.1.3.0/24")], &asked));
        assert!(!is_within(&[select("10.0.0.0/8")], &asked));
        assert!(!is_within(&[], &asked));
    }

    #[test]
    fn what_is_left_out_is_told_exactly() {
        let configured = [select("10.0.0.0/23"), select("172.16.0.0/16")];
        let left = without(&configured, &[select("10.0.1.0/24")]);
        assert_eq!(left, [select("10.0.0.0/24"), select("172.16.0.0/16")]);
        assert!(without(&configured, &configured).is_empty());
        assert_eq!(without(&configured, &[]), configured);
        assert!(without(&configured, &[select("0.0.0.0/0")]).is_empty());
        let web = Selector {
            protocol: Some(6),
            ..select("0.0.0.0/0")
        };
        assert_eq!(without(&configured, &[web]), configured);
    }

    #[test]
    fn a_range_is_told_as_prefixes() {
        let odd = Selector {
            end: "10.0.0.2".parse().unwrap(),
            ..select("10.0.0.0/24")
        };
        let cidrs: Vec<String> = odd.cidrs().iter().map(ToString::to_string).collect();
        assert_eq!(cidrs, ["10.0.0.0/31", "10.0.0.2/32"]);
        assert_eq!(odd.to_string(), "10.0.0.0-10.0.0.2");
    }
}
