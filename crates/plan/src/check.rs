//! What must hold of every plan before it is published.

use std::collections::BTreeSet;
use std::net::IpAddr;

use isthmus_hostplan::{
    Attachment, ConnectionPlan, DpdAction, GatewayPlan, GroupRule, IkeIdentity, PeerEndpoint, PortPlan,
    SubnetPlan, VpcPlan,
};
use isthmus_types::{
    Cidr, Encryption, IkeVersion, Integrity, NetworkAclId, NetworkInterfaceId, SecurityGroupId, SubnetId,
    VpnConnectionId, VpnGatewayId,
};

/// Longest name of a network interface, bytes (`IFNAMSIZ` without the closing zero).
const INTERFACE_NAME_MAX: usize = 15;

/// Smallest and largest packet that a TUN device may take, bytes: what every IPv6 link must carry, and what is left of
/// an Ethernet frame.
const MTU: std::ops::RangeInclusive<u16> = 1280..=1446;

/// Something that makes a plan unfit to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two things hold this address.
    AddressTwice(IpAddr),
    /// A connection without a key, without ranges on a side, or whose lifetimes or dead-peer times make no sense.
    Connection(VpnConnectionId, &'static str),
    /// An id that must be unique stands twice.
    IdTwice(&'static str),
    /// A gateway's packet size is out of bounds.
    Mtu(VpnGatewayId, u16),
    /// Two connections reach for the same remote addresses.
    PeerRangesOverlap(Cidr, Cidr),
    /// A port's address, MAC address or interface name cannot work.
    Port(NetworkInterfaceId, &'static str),
    /// A proposal that cannot be sent.
    Proposal(VpnConnectionId, &'static str),
    /// A subnet's range or router address cannot work.
    Subnet(SubnetId, &'static str),
    /// A subnet names an ACL that the plan does not hold.
    UnknownAcl(NetworkAclId),
    /// A subnet names a gateway that the plan does not hold, or that has no connections.
    UnknownGateway(VpnGatewayId),
    /// A port or rule names a group that the plan does not hold.
    UnknownGroup(SecurityGroupId),
    /// A port names a subnet that the plan does not hold.
    UnknownSubnet(SubnetId),
}

/// Everything that is wrong with `plan`; empty if it may be published.
pub fn check(plan: &VpcPlan) -> Vec<Violation> {
    let mut found = Vec::new();
    check_ids(plan, &mut found);
    for (index, subnet) in plan.subnets.iter().enumerate() {
        check_subnet(plan, subnet, &plan.subnets[..index], &mut found);
    }
    for port in &plan.ports {
        check_port(plan, port, &mut found);
    }
    for group in &plan.security_groups {
        for rule in group.inbound.iter().chain(&group.outbound) {
            if let GroupRule::Members { group } = rule {
                check_group(plan, *group, &mut found);
            }
        }
    }
    for gateway in &plan.gateways {
        check_gateway(gateway, &mut found);
    }
    check_addresses(plan, &mut found);
    check_peer_ranges(plan, &mut found);
    found
}

fn check_ids(plan: &VpcPlan, found: &mut Vec<Violation>) {
    let connections = plan.gateways.iter().flat_map(|gateway| &gateway.connections);
    for (what, unique) in [
        (
            "subnet",
            all_differ(plan.subnets.iter().map(|subnet| subnet.subnet)),
        ),
        (
            "interface",
            all_differ(plan.ports.iter().map(|port| port.interface)),
        ),
        (
            "group",
            all_differ(plan.security_groups.iter().map(|group| group.group)),
        ),
        ("acl", all_differ(plan.acls.iter().map(|acl| acl.acl))),
        (
            "gateway",
            all_differ(plan.gateways.iter().map(|gateway| gateway.gateway)),
        ),
        (
            "connection",
            all_differ(connections.map(|connection| connection.connection)),
        ),
        ("mac", all_differ(plan.ports.iter().map(|port| port.mac))),
    ] {
        if !unique {
            found.push(Violation::IdTwice(what));
        }
    }
}

fn check_subnet(plan: &VpcPlan, subnet: &SubnetPlan, before: &[SubnetPlan], found: &mut Vec<Violation>) {
    let mut wrong = |what| found.push(Violation::Subnet(subnet.subnet, what));
    if !plan.ranges.iter().any(|range| range.contains(subnet.cidr)) {
        wrong("lies in no range of the VPC");
    }
    if before.iter().any(|other| other.cidr.overlaps(subnet.cidr)) {
        wrong("overlaps another subnet");
    }
    if !subnet.cidr.contains_address(subnet.router.into()) {
        wrong("does not hold its router's address");
    }
    if !plan.acls.iter().any(|acl| acl.acl == subnet.acl) {
        found.push(Violation::UnknownAcl(subnet.acl));
    }
    if let Some(id) = subnet.vpn_gateway {
        let gateway = plan.gateways.iter().find(|gateway| gateway.gateway == id);
        if gateway.is_none_or(|gateway| gateway.connections.is_empty()) {
            found.push(Violation::UnknownGateway(id));
        }
    }
}

fn check_port(plan: &VpcPlan, port: &PortPlan, found: &mut Vec<Violation>) {
    let mut wrong = |what| found.push(Violation::Port(port.interface, what));
    let name = match &port.attachment {
        Attachment::Namespace => None,
        Attachment::HandOver { interface, .. } | Attachment::Tap { interface } => Some(interface),
    };
    if name.is_some_and(|name| name.is_empty() || name.len() > INTERFACE_NAME_MAX) {
        wrong("has an interface name of a length that the kernel does not take");
    }
    // The two lowest bits of the first byte: not multicast, locally administered (IEEE 802).
    if port.mac[0] & 0b11 != 0b10 {
        wrong("has a MAC address that is not a local unicast one");
    }
    let subnet = plan.subnets.iter().find(|subnet| subnet.subnet == port.subnet);
    match subnet {
        Some(subnet) if !subnet.cidr.contains_address(port.address.into()) => {
            wrong("has an address outside its subnet");
        }
        Some(_) => {}
        None => found.push(Violation::UnknownSubnet(port.subnet)),
    }
    for group in &port.security_groups {
        check_group(plan, *group, found);
    }
}

fn check_group(plan: &VpcPlan, group: SecurityGroupId, found: &mut Vec<Violation>) {
    if !plan.security_groups.iter().any(|known| known.group == group) {
        found.push(Violation::UnknownGroup(group));
    }
}

fn check_gateway(gateway: &GatewayPlan, found: &mut Vec<Violation>) {
    if !MTU.contains(&gateway.mtu) {
        found.push(Violation::Mtu(gateway.gateway, gateway.mtu));
    }
    for connection in &gateway.connections {
        check_connection(connection, found);
        if connection.admin_up {
            check_proposals(connection, found);
        }
    }
}

fn check_connection(connection: &ConnectionPlan, found: &mut Vec<Violation>) {
    let detects = connection.dpd_action != DpdAction::None;
    for (holds, what) in [
        (!connection.psk.reveal().is_empty(), "has no key"),
        (!connection.local_cidrs.is_empty(), "has no range on our side"),
        (
            !connection.peer_cidrs.is_empty(),
            "has no range on the peer's side",
        ),
        (
            connection.peer != PeerEndpoint::Anywhere || !is_anybody(&connection.peer_identity),
            "takes anybody for its peer",
        ),
        (
            connection.ike_lifetime_seconds > 0,
            "has an IKE SA that lives no time",
        ),
        (
            connection.esp_lifetime_seconds > 0,
            "has a Child SA that lives no time",
        ),
        (
            !detects || connection.dpd_interval_seconds > 0,
            "probes its peer without a pause",
        ),
        (
            !detects || connection.dpd_interval_seconds <= connection.dpd_timeout_seconds,
            "gives its peer up before probing it",
        ),
    ] {
        if !holds {
            found.push(Violation::Connection(connection.connection, what));
        }
    }
}

fn is_anybody(identity: &IkeIdentity) -> bool {
    matches!(identity, IkeIdentity::Address(address) if address.is_unspecified())
}

fn check_proposals(connection: &ConnectionPlan, found: &mut Vec<Violation>) {
    let mut wrong = |what| found.push(Violation::Proposal(connection.connection, what));
    if connection.ike_proposals.is_empty() || connection.esp_proposals.is_empty() {
        wrong("is missing");
    }
    for proposal in &connection.ike_proposals {
        if !is_consistent(&proposal.encryption, &proposal.integrity) {
            wrong("mixes ciphers with and without integrity protection");
        }
        if proposal.prf.is_empty() || proposal.dh.is_empty() {
            wrong("has no pseudo-random function or no group");
        }
    }
    for proposal in &connection.esp_proposals {
        if !is_consistent(&proposal.encryption, &proposal.integrity) {
            wrong("mixes ciphers with and without integrity protection");
        }
    }
    // IKEv1 cannot express a choice inside a proposal (RFC 2409 section 5).
    let choices = |proposal: &isthmus_types::IkeProposal| proposal.encryption.len() * proposal.dh.len();
    if connection.version == IkeVersion::V1 && connection.ike_proposals.iter().any(|one| choices(one) > 1) {
        wrong("leaves a choice that IKEv1 cannot express");
    }
}

/// Ciphers of one kind only, and integrity algorithms exactly for those that need one.
fn is_consistent(ciphers: &[Encryption], hashes: &[Integrity]) -> bool {
    let aeads = ciphers.iter().filter(|cipher| cipher.is_aead()).count();
    !ciphers.is_empty()
        && if hashes.is_empty() {
            aeads == ciphers.len()
        } else {
            aeads == 0
        }
}

fn check_addresses(plan: &VpcPlan, found: &mut Vec<Violation>) {
    let private = plan
        .ports
        .iter()
        .map(|port| port.address)
        .chain(plan.subnets.iter().map(|subnet| subnet.router));
    let public = plan
        .gateways
        .iter()
        .map(|gateway| gateway.public_address)
        .chain(plan.source_nat);
    let ipv6 = plan.gateways.iter().filter_map(|gateway| gateway.public_ipv6);
    let mut seen = BTreeSet::new();
    for address in private.chain(public).map(IpAddr::V4).chain(ipv6.map(IpAddr::V6)) {
        if !seen.insert(address) {
            found.push(Violation::AddressTwice(address));
        }
    }
}

fn check_peer_ranges(plan: &VpcPlan, found: &mut Vec<Violation>) {
    let connections: Vec<_> = plan
        .gateways
        .iter()
        .flat_map(|gateway| &gateway.connections)
        .collect();
    for (index, one) in connections.iter().enumerate() {
        for other in &connections[..index] {
            for (a, b) in one
                .peer_cidrs
                .iter()
                .flat_map(|a| other.peer_cidrs.iter().map(move |b| (*a, *b)))
            {
                if a.overlaps(b) {
                    found.push(Violation::PeerRangesOverlap(a, b));
                }
            }
        }
    }
}

fn all_differ<T: Ord>(items: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}
