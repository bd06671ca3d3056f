//! Subnets, ports and the rules at their edges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use isthmus_hostplan::{
    AclAction, AclRule, Attachment, GroupRule, NetworkAclPlan, PortPlan, Power, SecurityGroupPlan, Spoofing,
    SubnetPlan,
};
use isthmus_model::{AclAction as ModelAclAction, Direction, GroupRemote, Snapshot, Subnet, VpnGateway};
use isthmus_ops::InterfaceAttachment;
use isthmus_types::{Cidr, SecurityGroupId, VpcId, VpnGatewayId};

/// Address ranges of the VPC, lowest first.
pub(crate) fn ranges(snapshot: &Snapshot, vpc: VpcId) -> Vec<Cidr> {
    let ranges: BTreeSet<_> = snapshot.prefixes_of(vpc).map(|prefix| prefix.cidr).collect();
    ranges.into_iter().collect()
}

/// Ports of instances that are to stay, by interface.
pub(crate) fn ports(snapshot: &Snapshot, vpc: VpcId) -> Vec<PortPlan> {
    snapshot
        .interfaces_of(vpc)
        .filter_map(|interface| {
            let instance = snapshot.instance(interface.instance)?;
            if instance.deleting.is_some() {
                return None;
            }
            Some(PortPlan {
                interface: interface.id,
                instance: instance.id,
                instance_name: instance.meta.name.as_str().to_owned(),
                subnet: interface.subnet,
                address: interface.address,
                mac: interface.mac,
                attachment: attachment(&interface.attachment),
                power: if instance.should_run() {
                    Power::On
                } else {
                    Power::Off
                },
                security_groups: interface.security_groups.clone(),
                spoofing: if interface.allow_ip_spoofing {
                    Spoofing::Allowed
                } else {
                    Spoofing::Forbidden
                },
            })
        })
        .collect()
}

/// Subnets that hold a port of `ports`, or a gateway that is to stay.
pub(crate) fn subnets(snapshot: &Snapshot, vpc: VpcId, ports: &[PortPlan]) -> Vec<SubnetPlan> {
    let used: BTreeSet<_> = ports
        .iter()
        .map(|port| port.subnet)
        .chain(staying_gateways(snapshot, vpc).map(|gateway| gateway.subnet))
        .collect();
    used.into_iter()
        .filter_map(|id| {
            let subnet = snapshot.subnet(id)?;
            Some(SubnetPlan {
                subnet: id,
                cidr: subnet.cidr,
                router: router_of(subnet)?,
                acl: subnet.acl,
                vpn_gateway: serving_gateway(snapshot, vpc, subnet),
            })
        })
        .collect()
}

/// Groups that the ports name, and those that their rules name in turn.
pub(crate) fn security_groups(snapshot: &Snapshot, ports: &[PortPlan]) -> Vec<SecurityGroupPlan> {
    let mut members: BTreeMap<SecurityGroupId, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for port in ports {
        for group in &port.security_groups {
            members.entry(*group).or_default().insert(port.address);
        }
    }
    let mut waiting: Vec<_> = members.keys().copied().collect();
    let mut plans = BTreeMap::new();
    while let Some(id) = waiting.pop() {
        if plans.contains_key(&id) {
            continue;
        }
        let Some(group) = snapshot.security_group(id) else {
            continue;
        };
        let mut plan = SecurityGroupPlan {
            group: id,
            members: members.remove(&id).unwrap_or_default().into_iter().collect(),
            inbound: Vec::new(),
            outbound: Vec::new(),
        };
        for rule in &group.rules {
            let planned = match rule.remote {
                GroupRemote::Cidr(cidr) => GroupRule::Range { cidr },
                // A group that no longer exists has no members: the permission is for nobody.
                GroupRemote::Group(other) if snapshot.security_group(other).is_none() => continue,
                GroupRemote::Group(other) => {
                    waiting.push(other);
                    GroupRule::Members { group: other }
                }
            };
            match rule.direction {
                Direction::Inbound => plan.inbound.push(planned),
                Direction::Outbound => plan.outbound.push(planned),
            }
        }
        plans.insert(id, plan);
    }
    plans.into_values().collect()
}

/// ACLs that the subnets name.
pub(crate) fn acls(snapshot: &Snapshot, subnets: &[SubnetPlan]) -> Vec<NetworkAclPlan> {
    let named: BTreeSet<_> = subnets.iter().map(|subnet| subnet.acl).collect();
    named
        .into_iter()
        .filter_map(|id| snapshot.network_acl(id))
        .map(|acl| {
            let rules = |direction| {
                acl.rules
                    .iter()
                    .filter(|rule| rule.direction == direction)
                    .map(|rule| AclRule {
                        action: match rule.action {
                            ModelAclAction::Allow => AclAction::Allow,
                            ModelAclAction::Deny => AclAction::Deny,
                        },
                        source: rule.source,
                        destination: rule.destination,
                    })
                    .collect()
            };
            NetworkAclPlan {
                acl: acl.id,
                inbound: rules(Direction::Inbound),
                outbound: rules(Direction::Outbound),
            }
        })
        .collect()
}

/// Gateways of the VPC that are not to be removed, by id.
pub(crate) fn staying_gateways(snapshot: &Snapshot, vpc: VpcId) -> impl Iterator<Item = &VpnGateway> + '_ {
    snapshot
        .gateways_of(vpc)
        .filter(|gateway| gateway.deleting.is_none())
}

/// The gateway that carries the subnet's traffic to remote ranges: one of its zone that has connections, first one
/// with the subnet among its local ranges, then the oldest, so that a newcomer takes nothing over.
fn serving_gateway(snapshot: &Snapshot, vpc: VpcId, subnet: &Subnet) -> Option<VpnGatewayId> {
    staying_gateways(snapshot, vpc)
        .filter(|gateway| gateway.zone == subnet.zone)
        .filter_map(|gateway| {
            let mut connections = snapshot
                .connections_of(gateway.id)
                .filter(|connection| connection.deleting.is_none())
                .peekable();
            connections.peek()?;
            let covers = connections
                .flat_map(|connection| &connection.local_cidrs)
                .any(|cidr| cidr.overlaps(subnet.cidr));
            Some((!covers, gateway.meta.created_at, gateway.id))
        })
        .min()
        .map(|(_, _, gateway)| gateway)
}

fn router_of(subnet: &Subnet) -> Option<Ipv4Addr> {
    let network = u32::from(subnet.cidr.v4()?.network());
    network.checked_add(1).map(Ipv4Addr::from)
}

fn attachment(attachment: &InterfaceAttachment) -> Attachment {
    match attachment {
        InterfaceAttachment::Namespace => Attachment::Namespace,
        InterfaceAttachment::HandOver { namespace, interface } => Attachment::HandOver {
            namespace: namespace.clone(),
            interface: interface.clone(),
        },
        InterfaceAttachment::Tap { interface } => Attachment::Tap {
            interface: interface.clone(),
        },
    }
}
