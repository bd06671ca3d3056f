//! Arithmetic on ranges and the choice of free addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use isthmus_ops::{OpError, OpErrorCode, ResourceKind};
use isthmus_types::Cidr;

/// Shortest prefix of an address prefix or subnet.
const SHORTEST_PREFIX: u8 = 9;
/// Longest prefix of an address prefix or subnet.
const LONGEST_PREFIX: u8 = 29;

/// Ranges that no VPC may have: loopback, provider services, cloud service endpoints, link-local, multicast.
const FORBIDDEN: [Ipv4Net; 5] = [
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(161, 26, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(166, 8, 0, 0), 14),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
];

/// Addresses that Isthmus keeps in every subnet: network, router, two spare, broadcast.
pub(crate) const PROVIDER_ADDRESSES: u64 = 5;

fn not_valid(resource: ResourceKind, field: &str, cidr: Cidr, why: &str) -> OpError {
    OpError::new(
        OpErrorCode::CidrNotValid,
        resource,
        format!("the range {cidr} is not allowed: {why}"),
    )
    .with_field(field)
    .with_value(cidr.to_string())
}

/// The range as IPv4.
pub(crate) fn ipv4(cidr: Cidr, resource: ResourceKind, field: &str) -> Result<Ipv4Net, OpError> {
    cidr.v4()
        .ok_or_else(|| not_valid(resource, field, cidr, "only IPv4 is supported"))
}

/// The range, if a VPC may have it.
pub(crate) fn vpc_range(cidr: Cidr, resource: ResourceKind, field: &str) -> Result<Ipv4Net, OpError> {
    let net = ipv4(cidr, resource, field)?;
    if !(SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&net.prefix_len()) {
        return Err(not_valid(
            resource,
            field,
            cidr,
            "the prefix length must be from 9 to 29",
        ));
    }
    if FORBIDDEN
        .iter()
        .any(|range| range.contains(&net) || net.contains(range))
    {
        return Err(not_valid(
            resource,
            field,
            cidr,
            "it overlaps a range that is kept for other uses",
        ));
    }
    Ok(net)
}

/// The range overlaps one that exists.
pub(crate) fn overlap(resource: ResourceKind, field: &str, cidr: Cidr, other: Cidr) -> OpError {
    OpError::new(
        OpErrorCode::CidrOverlap,
        resource,
        format!("the range {cidr} overlaps {other}"),
    )
    .with_field(field)
    .with_value(cidr.to_string())
}

/// Number of addresses of a range.
pub(crate) fn size(net: Ipv4Net) -> u64 {
    1 << (32 - net.prefix_len())
}

/// The addresses that Isthmus keeps in a subnet, with a name for each.
pub(crate) fn provider_addresses(net: Ipv4Net) -> [(Ipv4Addr, &'static str); 5] {
    let network = u32::from(net.network());
    [
        (net.network(), "network"),
        (Ipv4Addr::from(network + 1), "router"),
        (Ipv4Addr::from(network + 2), "spare-1"),
        (Ipv4Addr::from(network + 3), "spare-2"),
        (net.broadcast(), "broadcast"),
    ]
}

/// Whether a workload may have `address` in a subnet of this range.
pub(crate) fn usable(net: Ipv4Net, address: Ipv4Addr) -> bool {
    net.contains(&address) && provider_addresses(net).iter().all(|(kept, _)| *kept != address)
}

/// The `count` lowest usable addresses of a subnet that are not in `held`, or none if there are fewer.
/// `held` is ascending.
pub(crate) fn lowest_free(
    net: Ipv4Net,
    held: impl Iterator<Item = Ipv4Addr>,
    count: usize,
) -> Option<Vec<Ipv4Addr>> {
    let first = u32::from(net.network()) + 4;
    let last = u32::from(net.broadcast()) - 1;
    lowest_gaps(first, last, held, count)
}

/// The lowest host address of the public pool that is neither `router` nor in `held`, which is ascending.
pub(crate) fn lowest_free_public(
    pool: Ipv4Net,
    router: Ipv4Addr,
    held: impl Iterator<Item = Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let network = u32::from(pool.network());
    let last = u32::from(pool.broadcast());
    // A pool of one or two addresses has no network or broadcast address (RFC 3021).
    let (first, last) = if pool.prefix_len() >= 31 {
        (network, last)
    } else {
        (network + 1, last - 1)
    };
    let mut router = Some(router);
    let mut held = held.peekable();
    let taken = std::iter::from_fn(move || match (router, held.peek().copied()) {
        (Some(own), Some(other)) if own > other => held.next(),
        (Some(_), _) => router.take(),
        (None, _) => held.next(),
    });
    lowest_gaps(first, last, taken, 1).and_then(|free| free.first().copied())
}

/// The lowest address of the IPv6 pool that is neither its first, which every router of the range answers for (RFC 4291
/// section 2.6.1), nor `router`, nor in `held`, which is ascending.
pub(crate) fn lowest_free_ipv6(
    pool: Ipv6Net,
    router: Ipv6Addr,
    held: impl Iterator<Item = Ipv6Addr>,
) -> Option<Ipv6Addr> {
    let last = pool.broadcast().to_bits();
    let mut next = pool.network().to_bits();
    if pool.prefix_len() < 127 {
        next += 1;
    }
    let mut held = held.map(Ipv6Addr::to_bits).peekable();
    loop {
        while held.next_if(|taken| *taken < next).is_some() {}
        if next > last {
            return None;
        }
        if held.peek() != Some(&next) && next != router.to_bits() {
            return Some(Ipv6Addr::from_bits(next));
        }
        next = next.checked_add(1)?;
    }
}

fn lowest_gaps(
    first: u32,
    last: u32,
    held: impl Iterator<Item = Ipv4Addr>,
    count: usize,
) -> Option<Vec<Ipv4Addr>> {
    let mut free = Vec::with_capacity(count);
    let mut next = u64::from(first);
    let stop = u64::from(last) + 1;
    for taken in held
        .map(|address| u64::from(u32::from(address)))
        .chain(std::iter::once(stop))
    {
        while next < taken.min(stop) && free.len() < count {
            free.push(Ipv4Addr::from(next as u32));
            next += 1;
        }
        if free.len() == count {
            return Some(free);
        }
        next = next.max(taken + 1);
    }
    None
}

/// The lowest range of `length` bits in `within` that overlaps none of `taken`.
pub(crate) fn lowest_free_range(within: Ipv4Net, length: u8, mut taken: Vec<Ipv4Net>) -> Option<Ipv4Net> {
    if length < within.prefix_len() || length > 32 {
        return None;
    }
    let step = 1u64 << (32 - length);
    let end = u64::from(u32::from(within.broadcast())) + 1;
    let mut start = u64::from(u32::from(within.network()));
    taken.sort_unstable_by_key(Ipv4Net::network);
    for other in taken {
        let low = u64::from(u32::from(other.network()));
        let high = u64::from(u32::from(other.broadcast()));
        if low >= start + step {
            break;
        }
        if high >= start {
            start = (high + 1).div_ceil(step) * step;
        }
    }
    if start + step > end {
        return None;
    }
    Ipv4Net::new(Ipv4Addr::from(u32::try_from(start).ok()?), length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn address(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn lowest_free_skips_what_is_held() {
        let held = [address("10.0.0.4"), address("10.0.0.6")];
        assert_eq!(
            lowest_free(net("10.0.0.0/29"), held.into_iter(), 1),
            Some(vec![address("10.0.0.5")])
        );
        assert_eq!(lowest_free(net("10.0.0.0/29"), held.into_iter(), 2), None);
        assert_eq!(
            lowest_free(net("10.0.0.0/28"), std::iter::empty(), 11)
                .unwrap()
                .len(),
            11
        );
        assert_eq!(lowest_free(net("10.0.0.0/28"), std::iter::empty(), 12), None);
    }

    #[test]
    fn public_pool_leaves_out_network_router_and_broadcast() {
        let pool = net("203.0.113.0/29");
        let router = address("203.0.113.2");
        let mut held: Vec<Ipv4Addr> = Vec::new();
        while let Some(next) = lowest_free_public(pool, router, held.clone().into_iter()) {
            held.push(next);
            held.sort_unstable();
        }
        let expected: Vec<Ipv4Addr> = [1, 3, 4, 5, 6].map(|n| Ipv4Addr::new(203, 0, 113, n)).to_vec();
        assert_eq!(held, expected);
        let single = lowest_free_public(net("203.0.113.7/32"), router, std::iter::empty());
        assert_eq!(single, Some(address("203.0.113.7")));
    }

    #[test]
    fn ipv6_pool_leaves_out_its_first_address_and_the_router() {
        let pool: Ipv6Net = "2001:db8::/125".parse().unwrap();
        let router = "2001:db8::2".parse().unwrap();
        let mut held: Vec<Ipv6Addr> = vec!["2001:db7::1".parse().unwrap(), "2001:db8::4".parse().unwrap()];
        while let Some(next) = lowest_free_ipv6(pool, router, held.clone().into_iter()) {
            held.push(next);
            held.sort_unstable();
        }
        let mut expected: Vec<Ipv6Addr> = vec!["2001:db7::1".parse().unwrap()];
        expected.extend([1, 3, 4, 5, 6, 7].map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)));
        assert_eq!(held, expected);
        let top: Ipv6Net = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap();
        let only = top.network();
        assert_eq!(lowest_free_ipv6(top, router, std::iter::empty()), Some(only));
        assert_eq!(lowest_free_ipv6(top, router, [only].into_iter()), None);
    }

    #[test]
    fn top_of_the_address_space_does_not_overflow() {
        assert_eq!(
            lowest_free_range(net("255.255.255.0/24"), 25, vec![net("255.255.255.0/25")]),
            Some(net("255.255.255.128/25"))
        );
        assert_eq!(
            lowest_free_range(net("255.255.255.0/24"), 25, vec![net("255.255.255.0/24")]),
            None
        );
    }

    #[test]
    fn free_range_is_the_lowest_aligned_gap() {
        let within = net("10.240.0.0/18");
        assert_eq!(lowest_free_range(within, 24, vec![]), Some(net("10.240.0.0/24")));
        let taken = vec![net("10.240.1.0/24"), net("10.240.0.0/25")];
        assert_eq!(
            lowest_free_range(within, 25, taken.clone()),
            Some(net("10.240.0.128/25"))
        );
        assert_eq!(
            lowest_free_range(within, 24, taken.clone()),
            Some(net("10.240.2.0/24"))
        );
        assert_eq!(lowest_free_range(within, 19, taken), Some(net("10.240.32.0/19")));
        assert_eq!(lowest_free_range(within, 17, vec![]), None);
        assert_eq!(lowest_free_range(within, 18, vec![net("10.0.0.0/8")]), None);
    }
}
