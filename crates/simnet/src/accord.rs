//! Whether two ends have the same SAs, and those that they should have.

use std::net::IpAddr;

use isthmus_ike::ChildStatus;
use isthmus_types::Cidr;

use crate::pair::{Pair, Side, same_direction};
use crate::peer::{Flow, InstalledChild, Sending};

impl Pair {
    /// Whether the ends are up and have the same SAs, one of each kind: see [`Pair::discord`].
    pub fn is_settled(&self) -> bool {
        self.is_up() && self.discord().is_none()
    }

    /// What is not as it must be at rest: each end has one IKE SA and, for each pair of ranges that both are configured
    /// for, one child (or as many as are to be parallel) that nothing was decided against; each child has a counterpart
    /// at the other end with its SPIs, keys, selectors and algorithms; and the message ids are in step.
    pub fn discord(&self) -> Option<String> {
        for side in [Side::Left, Side::Right] {
            if let Some(discord) = self.discord_of(side) {
                return Some(format!("{side:?} {discord}"));
            }
        }
        let (left, right) = (self.peer(Side::Left), self.peer(Side::Right));
        for child in left.children.values() {
            let mirrored = right
                .children
                .values()
                .find(|other| same_direction(&child.sa.outbound, &other.sa.inbound));
            let Some(mirrored) = mirrored else {
                return Some("a child is unknown at the right end".into());
            };
            if let Some(difference) = difference(child, mirrored) {
                return Some(format!("the children have different {difference}"));
            }
        }
        let ids = |side: Side| self.peer(side).endpoint.message_ids(side.connection());
        let (left, right) = (ids(Side::Left), ids(Side::Right));
        let crossed: Vec<(u32, u32)> = right.iter().map(|(next, expected)| (*expected, *next)).collect();
        (left != crossed).then(|| format!("message ids are {left:?} and {right:?}"))
    }

    fn discord_of(&self, side: Side) -> Option<String> {
        let peer = self.peer(side);
        let Some(status) = peer.endpoint.status(side.connection()) else {
            return Some("has no connection".into());
        };
        if status.ike_sas != 1 {
            return Some(format!("has {} IKE SAs", status.ike_sas));
        }
        if peer.children.len() != status.children.len() {
            return Some(format!(
                "has {} children installed and {} in use",
                peer.children.len(),
                status.children.len()
            ));
        }
        let flows = self.common_flows(side);
        if flows.is_empty() {
            return Some("has nothing to send".into());
        }
        for flow in flows {
            let count = status
                .children
                .iter()
                .filter(|child| carries(child, flow))
                .count();
            if count != self.expected_lanes() {
                return Some(format!("has {count} children for {flow:?}"));
            }
            if peer.sending_child_for(flow).is_none() {
                return Some(format!("does not send {flow:?}"));
            }
        }
        let waits = |child: &&InstalledChild| !matches!(child.sending, Sending::Since { .. });
        if let Some(child) = peer.children.values().find(waits) {
            return Some(format!("does not send on {:?}", child.sa.child));
        }
        None
    }

    fn expected_lanes(&self) -> usize {
        [Side::Left, Side::Right]
            .into_iter()
            .filter_map(|side| self.configured(side))
            .map(|config| usize::from(config.options.parallel_child_sas))
            .max()
            .unwrap_or(1)
    }

    /// One flow for each pair of ranges that both ends are configured for.
    pub(crate) fn common_flows(&self, side: Side) -> Vec<Flow> {
        let (Some(own), Some(other)) = (self.configured(side), self.configured(side.other())) else {
            return Vec::new();
        };
        let sources = common(&own.local_cidrs, &other.peer_cidrs);
        let destinations = common(&own.peer_cidrs, &other.local_cidrs);
        let mut flows: Vec<Flow> = sources
            .iter()
            .flat_map(|source| {
                destinations.iter().map(|destination| Flow {
                    source: *source,
                    destination: *destination,
                })
            })
            .filter(|flow| flow.source.is_ipv4() == flow.destination.is_ipv4())
            .collect();
        flows.sort_unstable();
        flows.dedup();
        flows
    }
}

/// The first address of each range that two of the given ranges have in common.
fn common(left: &[Cidr], right: &[Cidr]) -> Vec<IpAddr> {
    left.iter()
        .flat_map(|left| {
            right.iter().filter_map(move |right| {
                if left.contains_address(right.network()) {
                    Some(right.network())
                } else {
                    right.contains_address(left.network()).then(|| left.network())
                }
            })
        })
        .collect()
}

fn carries(child: &ChildStatus, flow: Flow) -> bool {
    let any = |selectors: &[isthmus_ike::Selector], address: IpAddr| {
        selectors.iter().any(|selector| {
            selector.start.is_ipv4() == address.is_ipv4()
                && selector.start <= address
                && address <= selector.end
        })
    };
    any(&child.local_selectors, flow.source) && any(&child.remote_selectors, flow.destination)
}

fn difference(left: &InstalledChild, right: &InstalledChild) -> Option<&'static str> {
    let (left, right) = (&left.sa, &right.sa);
    if !same_direction(&left.inbound, &right.outbound) || !same_direction(&left.outbound, &right.inbound) {
        Some("SPIs or keys")
    } else if left.local_selectors != right.remote_selectors || left.remote_selectors != right.local_selectors
    {
        Some("selectors")
    } else if left.suite != right.suite || left.sequence_numbers != right.sequence_numbers {
        Some("suites")
    } else {
        None
    }
}
