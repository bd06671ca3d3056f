//! VPCs and what gives them their shape.

use isthmus_ops::{
    AddressHolder, AddressPrefixView, InstanceInterface, NetworkAclView, OpError, OpErrorCode, PlacedSubnet,
    RegionView, ReservedIpView, ResourceKind, RouteTableView, RuleRemote, SecurityGroupRuleView,
    SecurityGroupView, SubnetView, VpcView, ZoneView,
};
use isthmus_types::{ReservedIpId, ResourceBits, ResourceName, ZoneName};

use super::{
    acl_reference, common, gateway_of, group_reference, reference, route_table_reference, vpc_reference,
};
use crate::address;
use crate::record::{
    AddressPrefix, Direction, GroupRemote, NetworkAcl, NetworkInterface, ReservedFor, ReservedIp, RouteTable,
    SecurityGroup, Subnet, Vpc,
};
use crate::refusal::dangling;
use crate::snapshot::Snapshot;

pub(crate) fn region_view(snapshot: &Snapshot) -> RegionView {
    let settings = snapshot.settings();
    RegionView {
        name: settings.region.clone(),
        zones: settings.zones.clone(),
    }
}

pub(crate) fn zone_view(snapshot: &Snapshot, zone: &ZoneName) -> ZoneView {
    ZoneView {
        name: zone.clone(),
        region: snapshot.settings().region.clone(),
    }
}

pub(crate) fn vpc_view(snapshot: &Snapshot, vpc: &Vpc) -> Result<VpcView, OpError> {
    Ok(VpcView {
        id: vpc.id,
        common: common(&vpc.meta),
        region: snapshot.settings().region.clone(),
        zones: snapshot.settings().zones.clone(),
        classic_access: vpc.classic_access,
        default_acl: acl_reference(snapshot, vpc.default_acl)?,
        default_security_group: group_reference(snapshot, vpc.default_security_group)?,
        default_route_table: route_table_reference(snapshot, vpc.default_route_table)?,
        source_nat: vpc.source_nat,
    })
}

pub(crate) fn acl_view(snapshot: &Snapshot, acl: &NetworkAcl) -> Result<NetworkAclView, OpError> {
    Ok(NetworkAclView {
        id: acl.id,
        common: common(&acl.meta),
        vpc: vpc_reference(snapshot, acl.vpc)?,
        subnets: snapshot.subnets_with_acl(acl.id).map(placed_subnet).collect(),
    })
}

pub(crate) fn security_group_view(
    snapshot: &Snapshot,
    group: &SecurityGroup,
) -> Result<SecurityGroupView, OpError> {
    let rules = group.rules.iter().map(|rule| {
        Ok(SecurityGroupRuleView {
            inbound: rule.direction == Direction::Inbound,
            remote: match rule.remote {
                GroupRemote::Cidr(cidr) => RuleRemote::Cidr(cidr),
                GroupRemote::Group(id) => RuleRemote::Group(group_reference(snapshot, id)?),
            },
        })
    });
    Ok(SecurityGroupView {
        id: group.id,
        common: common(&group.meta),
        vpc: vpc_reference(snapshot, group.vpc)?,
        rules: rules.collect::<Result<_, OpError>>()?,
        targets: snapshot
            .interfaces_in_group(group.id)
            .map(instance_interface)
            .collect(),
    })
}

pub(crate) fn route_table_view(snapshot: &Snapshot, table: &RouteTable) -> Result<RouteTableView, OpError> {
    Ok(RouteTableView {
        id: table.id,
        common: common(&table.meta),
        vpc: vpc_reference(snapshot, table.vpc)?,
        subnets: snapshot
            .subnets_with_route_table(table.id)
            .map(placed_subnet)
            .collect(),
    })
}

pub(crate) fn prefix_view(snapshot: &Snapshot, prefix: &AddressPrefix) -> AddressPrefixView {
    AddressPrefixView {
        id: prefix.id,
        vpc: prefix.vpc,
        common: common(&prefix.meta),
        cidr: prefix.cidr,
        zone: prefix.zone.clone(),
        is_default: prefix.is_default,
        has_subnets: snapshot
            .subnets_of(prefix.vpc)
            .any(|subnet| prefix.cidr.contains(subnet.cidr)),
    }
}

pub(crate) fn subnet_view(snapshot: &Snapshot, subnet: &Subnet) -> Result<SubnetView, OpError> {
    let total = subnet
        .cidr
        .v4()
        .map(address::size)
        .ok_or_else(|| not_ipv4(subnet))?;
    let held = snapshot.held_count(subnet.id) as u64;
    Ok(SubnetView {
        id: subnet.id,
        common: common(&subnet.meta),
        vpc: vpc_reference(snapshot, subnet.vpc)?,
        zone: subnet.zone.clone(),
        cidr: subnet.cidr,
        available_addresses: total.saturating_sub(address::PROVIDER_ADDRESSES + held),
        total_addresses: total,
        acl: acl_reference(snapshot, subnet.acl)?,
        route_table: route_table_reference(snapshot, subnet.route_table)?,
    })
}

/// Every address of the subnet that is not free, ordered by id.
pub(crate) fn reserved_ip_views(
    snapshot: &Snapshot,
    subnet: &Subnet,
) -> Result<Vec<ReservedIpView>, OpError> {
    let net = subnet.cidr.v4().ok_or_else(|| not_ipv4(subnet))?;
    let mut views = Vec::new();
    for (position, (address, name)) in (1u128..).zip(address::provider_addresses(net)) {
        views.push(ReservedIpView {
            id: provider_reservation(subnet, position),
            address,
            name: ResourceName::new(name).map_err(|_| not_ipv4(subnet))?,
            created_at: subnet.meta.created_at,
            holder: AddressHolder::Provider,
            subnet: subnet.id,
        });
    }
    for held in snapshot.reserved_ips_in(subnet.id) {
        views.push(reserved_ip_view(snapshot, held)?);
    }
    views.sort_unstable_by_key(|view| view.id);
    Ok(views)
}

fn reserved_ip_view(snapshot: &Snapshot, held: &ReservedIp) -> Result<ReservedIpView, OpError> {
    Ok(ReservedIpView {
        id: held.id,
        address: held.address,
        name: held.name.clone(),
        created_at: held.created_at,
        holder: match held.holder {
            ReservedFor::Interface(id) => {
                let interface = snapshot
                    .network_interface(id)
                    .ok_or_else(|| dangling(ResourceKind::NetworkInterface, id))?;
                AddressHolder::Interface(instance_interface(interface))
            }
            ReservedFor::VpnGateway(id) => {
                AddressHolder::VpnGateway(reference(id, &gateway_of(snapshot, id)?.meta.name))
            }
        },
        subnet: held.subnet,
    })
}

fn placed_subnet(subnet: &Subnet) -> PlacedSubnet {
    PlacedSubnet {
        subnet: reference(subnet.id, &subnet.meta.name),
        zone: subnet.zone.clone(),
    }
}

fn instance_interface(interface: &NetworkInterface) -> InstanceInterface {
    InstanceInterface {
        interface: reference(interface.id, &interface.name),
        instance: interface.instance,
    }
}

// The addresses that Isthmus keeps have no record; their ids follow from the subnet's (odd multiplier: a bijection).
fn provider_reservation(subnet: &Subnet, position: u128) -> ReservedIpId {
    let mixed = subnet
        .id
        .bits()
        .value()
        .wrapping_add(position)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    ReservedIpId(ResourceBits::from_random(mixed))
}

fn not_ipv4(subnet: &Subnet) -> OpError {
    OpError::new(
        OpErrorCode::Internal,
        ResourceKind::Subnet,
        "the service has an inconsistent state",
    )
    .with_private(format!("subnet {} has no IPv4 range", subnet.id))
}
