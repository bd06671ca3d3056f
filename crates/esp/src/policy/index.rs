//! Policies arranged so that the one for a packet is found at the same cost among few as among thousands.
//!
//! One hash table for each pair of prefix lengths that occurs, the longest remote prefixes first: a look-up costs one
//! probe for each pair, and gateways have few.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::IpAddr;

use super::Policy;

/// Policies of both address families.
#[derive(Debug, Default)]
pub(super) struct PolicyIndex {
    v4: Family<u32>,
    v6: Family<u128>,
}

#[derive(Debug)]
struct Family<A> {
    levels: Vec<Level<A>>,
}

#[derive(Debug)]
struct Level<A> {
    lengths: (u8, u8),
    masks: (A, A),
    // By remote and local network.
    connections: HashMap<(A, A), usize, BuildHasherDefault<Mixer>>,
}

impl PolicyIndex {
    /// Arranges `policies`, each with the connection that it is of. Of equal ones the smallest connection counts.
    pub(super) fn new(policies: &[(Policy, usize)]) -> Self {
        let mut index = Self::default();
        for (policy, connection) in policies {
            let lengths = (policy.remote.prefix_len(), policy.local.prefix_len());
            match (policy.remote.network(), policy.local.network()) {
                (IpAddr::V4(remote), IpAddr::V4(local)) => {
                    let masks = (mask_v4(lengths.0), mask_v4(lengths.1));
                    let networks = (u32::from(remote), u32::from(local));
                    index.v4.insert(lengths, masks, networks, *connection);
                }
                (IpAddr::V6(remote), IpAddr::V6(local)) => {
                    let masks = (mask_v6(lengths.0), mask_v6(lengths.1));
                    let networks = (u128::from(remote), u128::from(local));
                    index.v6.insert(lengths, masks, networks, *connection);
                }
                // No packet has addresses of two families.
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
            }
        }
        index.v4.sort();
        index.v6.sort();
        index
    }

    /// The connection for a packet from `source` to `destination`: that of the longest remote prefix, among equals of
    /// the longest local one.
    pub(super) fn covering(&self, source: IpAddr, destination: IpAddr) -> Option<usize> {
        match (destination, source) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => self.v4.find(remote.into(), local.into()),
            (IpAddr::V6(remote), IpAddr::V6(local)) => self.v6.find(remote.into(), local.into()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }
}

impl<A> Default for Family<A> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<A: Copy + Eq + Hash + std::ops::BitAnd<Output = A>> Family<A> {
    fn insert(&mut self, lengths: (u8, u8), masks: (A, A), networks: (A, A), connection: usize) {
        let known = self.levels.iter().position(|level| level.lengths == lengths);
        let position = known.unwrap_or_else(|| {
            self.levels.push(Level {
                lengths,
                masks,
                connections: HashMap::default(),
            });
            self.levels.len() - 1
        });
        self.levels[position]
            .connections
            .entry(networks)
            .and_modify(|found| *found = connection.min(*found))
            .or_insert(connection);
    }

    fn sort(&mut self) {
        self.levels.sort_by_key(|level| std::cmp::Reverse(level.lengths));
    }

    fn find(&self, remote: A, local: A) -> Option<usize> {
        self.levels.iter().find_map(|level| {
            let networks = (remote & level.masks.0, local & level.masks.1);
            level.connections.get(&networks).copied()
        })
    }
}

const fn mask_v4(prefix_len: u8) -> u32 {
    match u32::MAX.checked_shl(32 - prefix_len as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

const fn mask_v6(prefix_len: u8) -> u128 {
    match u128::MAX.checked_shl(128 - prefix_len as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

/// Mixes numbers into all bits of the hash. Networks are configured, not chosen by who sends packets, so nobody
/// arranges collisions.
#[derive(Debug, Default)]
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u128(&mut self, value: u128) {
        self.mix(value as u64);
        self.mix((value >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::Cidr;
    use proptest::prelude::*;

    use super::*;

    fn cidr(family: bool, bits: u128, length: u8) -> Cidr {
        let text = if family {
            format!(
                "{}/{}",
                std::net::Ipv4Addr::from(bits as u32 & mask_v4(length.min(32))),
                length.min(32)
            )
        } else {
            format!("{}/{}", std::net::Ipv6Addr::from(bits & mask_v6(length)), length)
        };
        text.parse().unwrap()
    }

    fn naive(policies: &[(Policy, usize)], source: IpAddr, destination: IpAddr) -> Option<usize> {
        policies
            .iter()
            .filter(|(policy, _)| {
                policy.remote.contains_address(destination) && policy.local.contains_address(source)
            })
            .min_by_key(|(policy, connection)| {
                (
                    std::cmp::Reverse(policy.remote.prefix_len()),
                    std::cmp::Reverse(policy.local.prefix_len()),
                    *connection,
                )
            })
            .map(|(_, connection)| *connection)
    }

    fn address(family: bool) -> impl Strategy<Value = IpAddr> {
        // Few distinct bits, so that networks really contain addresses.
        (0u8..8, 0u8..8).prop_map(move |(high, low)| {
            if family {
                std::net::Ipv4Addr::new(high << 5, 0, 0, low).into()
            } else {
                std::net::Ipv6Addr::new(u16::from(high) << 13, 0, 0, 0, 0, 0, 0, u16::from(low)).into()
            }
        })
    }

    fn bits_of(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        }
    }

    proptest! {
        #[test]
        fn finds_what_a_look_at_every_policy_finds(
            family in any::<bool>(),
            drawn in proptest::collection::vec(
                (address(true), address(true), address(false), address(false), any::<bool>(), 0usize..4, 0usize..4, 0usize..5),
                0..30,
            ),
            wanted in (address(true), address(true), address(false), address(false)),
        ) {
            let policies: Vec<(Policy, usize)> = drawn
                .into_iter()
                .map(|(local4, remote4, local6, remote6, v4, local_len, remote_len, connection)| {
                    let lengths: [u8; 4] = if v4 { [0, 2, 30, 32] } else { [0, 2, 125, 128] };
                    let (local, remote) = if v4 { (local4, remote4) } else { (local6, remote6) };
                    let policy = Policy {
                        local: cidr(v4, bits_of(local), lengths[local_len]),
                        remote: cidr(v4, bits_of(remote), lengths[remote_len]),
                    };
                    (policy, connection)
                })
                .collect();
            let index = PolicyIndex::new(&policies);
            let (source, destination) = if family { (wanted.0, wanted.1) } else { (wanted.2, wanted.3) };
            prop_assert_eq!(index.covering(source, destination), naive(&policies, source, destination));
        }
    }

    #[test]
    fn masks_cover_every_length() {
        assert_eq!((mask_v4(0), mask_v4(1), mask_v4(32)), (0, 1 << 31, u32::MAX));
        assert_eq!((mask_v6(0), mask_v6(128)), (0, u128::MAX));
    }
}
