//! What can be done to the kernel.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::IpNet;

use crate::ruleset::{ObservedRuleset, Ruleset, Table};
use crate::state::{Place, Route, RouteKey, Rule};

/// One change to the kernel, idempotent when carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Gives a link an address.
    AddAddress {
        /// The link.
        place: Place,
        /// The address with its mask.
        address: IpNet,
    },
    /// Adds a policy rule.
    AddRule {
        /// The namespace.
        namespace: String,
        /// The rule.
        rule: Rule,
    },
    /// Makes a namespace.
    CreateNamespace {
        /// Its name.
        namespace: String,
    },
    /// Makes a persistent TAP device.
    CreateTap {
        /// The device.
        place: Place,
        /// The text that marks it as ours.
        alias: String,
    },
    /// Makes a persistent TUN device.
    CreateTun {
        /// The device.
        place: Place,
    },
    /// Makes a veth pair, both ends down.
    CreateVeth {
        /// First end.
        place: Place,
        /// Hardware address of the first end; none lets the kernel choose.
        mac: Option<[u8; 6]>,
        /// Other end.
        peer: Place,
        /// Hardware address of the other end.
        peer_mac: Option<[u8; 6]>,
    },
    /// Takes an address from a link.
    RemoveAddress {
        /// The link.
        place: Place,
        /// The address with its mask.
        address: IpNet,
    },
    /// Removes a link, and for a veth also its other end.
    RemoveLink {
        /// The link.
        place: Place,
    },
    /// Removes a permanent neighbour.
    RemoveNeighbour {
        /// The link.
        place: Place,
        /// The neighbour.
        address: Ipv4Addr,
    },
    /// Removes a route of ours.
    RemoveRoute {
        /// The namespace.
        namespace: String,
        /// The route.
        key: RouteKey,
    },
    /// Removes a policy rule of ours.
    RemoveRule {
        /// The namespace.
        namespace: String,
        /// The rule.
        rule: Rule,
    },
    /// Adds or replaces a permanent neighbour.
    ReplaceNeighbour {
        /// The link.
        place: Place,
        /// The neighbour.
        address: Ipv4Addr,
        /// Its hardware address.
        mac: [u8; 6],
    },
    /// Adds or replaces a route.
    ReplaceRoute {
        /// The namespace.
        namespace: String,
        /// What identifies it.
        key: RouteKey,
        /// Its content.
        route: Route,
    },
    /// Brings an nft table to new content in one transaction.
    ReplaceRuleset {
        /// The namespace.
        namespace: String,
        /// The table.
        table: Table,
        /// The new content.
        ruleset: Ruleset,
        /// The content that the transaction starts from.
        previous: Option<ObservedRuleset>,
    },
    /// Changes properties of a link; none leaves one as it is.
    SetLink {
        /// The link.
        place: Place,
        /// Hardware address.
        mac: Option<[u8; 6]>,
        /// MTU.
        mtu: Option<u32>,
        /// Administratively up or down.
        up: Option<bool>,
    },
    /// Writes a sysctl.
    WriteSysctl {
        /// The namespace.
        namespace: String,
        /// Path below `/proc/sys`.
        path: String,
        /// The value.
        value: String,
    },
}

impl Operation {
    /// The namespace that it happens in.
    pub fn namespace(&self) -> &str {
        match self {
            Self::AddAddress { place, .. }
            | Self::CreateTap { place, .. }
            | Self::CreateTun { place }
            | Self::CreateVeth { place, .. }
            | Self::RemoveAddress { place, .. }
            | Self::RemoveLink { place }
            | Self::RemoveNeighbour { place, .. }
            | Self::ReplaceNeighbour { place, .. }
            | Self::SetLink { place, .. } => &place.namespace,
            Self::AddRule { namespace, .. }
            | Self::CreateNamespace { namespace }
            | Self::RemoveRoute { namespace, .. }
            | Self::RemoveRule { namespace, .. }
            | Self::ReplaceRoute { namespace, .. }
            | Self::ReplaceRuleset { namespace, .. }
            | Self::WriteSysctl { namespace, .. } => namespace,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddAddress { place, address } => write!(f, "address {address} on {place}"),
            Self::AddRule { namespace, rule } => write!(f, "rule {} in {namespace}", rule.priority),
            Self::CreateNamespace { namespace } => write!(f, "namespace {namespace}"),
            Self::CreateTap { place, .. } => write!(f, "tap {place}"),
            Self::CreateTun { place } => write!(f, "tun {place}"),
            Self::CreateVeth { place, peer, .. } => write!(f, "veth {place} with {peer}"),
            Self::RemoveAddress { place, address } => write!(f, "removal of address {address} on {place}"),
            Self::RemoveLink { place } => write!(f, "removal of link {place}"),
            Self::RemoveNeighbour { place, address } => {
                write!(f, "removal of neighbour {address} on {place}")
            }
            Self::RemoveRoute { namespace, key } => {
                write!(
                    f,
                    "removal of route {} of table {} in {namespace}",
                    key.destination, key.table
                )
            }
            Self::RemoveRule { namespace, rule } => {
                write!(f, "removal of rule {} in {namespace}", rule.priority)
            }
            Self::ReplaceNeighbour { place, address, .. } => write!(f, "neighbour {address} on {place}"),
            Self::ReplaceRoute { namespace, key, .. } => {
                write!(
                    f,
                    "route {} of table {} in {namespace}",
                    key.destination, key.table
                )
            }
            Self::ReplaceRuleset { namespace, table, .. } => {
                write!(f, "nft table {} {} in {namespace}", table.family, table.name)
            }
            Self::SetLink { place, .. } => write!(f, "properties of link {place}"),
            Self::WriteSysctl {
                namespace,
                path,
                value,
            } => write!(f, "sysctl {path}={value} in {namespace}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.link, self.namespace)
    }
}
