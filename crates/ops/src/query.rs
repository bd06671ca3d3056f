//! Every question that can be asked, and what operations and questions are answered with.

use std::num::NonZeroU32;

use isthmus_types::{
    AddressPrefixId, Cidr, IkePolicyId, InstanceId, IpsecPolicyId, NetworkAclId, RegionName, ResourceName,
    RouteTableId, SecurityGroupId, SubnetId, VpcId, VpnConnectionId, VpnGatewayId, ZoneName,
};
use serde::{Deserialize, Serialize};

use crate::operation::Side;
use crate::options::{ConnectionOptionsView, GatewayOptionsView};
use crate::view::*;

/// A question about one consistent state of the model. Answered from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant asks for the resources that it names")]
pub enum Query {
    Regions,
    Region(RegionName),
    Zones(RegionName),
    Zone {
        region: RegionName,
        zone: ZoneName,
    },
    Vpcs {
        filter: VpcFilter,
        page: Page,
    },
    Vpc(VpcId),
    DefaultNetworkAcl(VpcId),
    DefaultSecurityGroup(VpcId),
    DefaultRouteTable(VpcId),
    NetworkAcl(NetworkAclId),
    SecurityGroup(SecurityGroupId),
    RouteTable {
        vpc: VpcId,
        table: RouteTableId,
    },
    AddressPrefixes {
        vpc: VpcId,
        page: Page,
    },
    AddressPrefix {
        vpc: VpcId,
        prefix: AddressPrefixId,
    },
    Subnets {
        filter: SubnetFilter,
        page: Page,
    },
    Subnet(SubnetId),
    ReservedIps {
        subnet: SubnetId,
        page: Page,
    },
    Instances {
        filter: InstanceFilter,
        page: Page,
    },
    Instance(InstanceId),
    VpnGateways {
        filter: VpnGatewayFilter,
        sort: GatewaySort,
        page: Page,
    },
    VpnGateway(VpnGatewayId),
    VpnConnections {
        gateway: VpnGatewayId,
        up: Option<bool>,
        page: Page,
    },
    VpnConnection {
        gateway: VpnGatewayId,
        connection: VpnConnectionId,
    },
    ConnectionOptions {
        gateway: VpnGatewayId,
        connection: VpnConnectionId,
    },
    GatewayOptions(VpnGatewayId),
    ConnectionCidrs {
        gateway: VpnGatewayId,
        connection: VpnConnectionId,
        side: Side,
    },
    ConnectionCidr {
        gateway: VpnGatewayId,
        connection: VpnConnectionId,
        side: Side,
        cidr: Cidr,
    },
    IkePolicies {
        resource_group: Option<GroupFilter>,
        page: Page,
    },
    IkePolicy(IkePolicyId),
    IkePolicyConnections {
        policy: IkePolicyId,
        page: Page,
    },
    IpsecPolicies {
        resource_group: Option<GroupFilter>,
        page: Page,
    },
    IpsecPolicy(IpsecPolicyId),
    IpsecPolicyConnections {
        policy: IpsecPolicyId,
        page: Page,
    },
}

/// Which part of a list. Lists are ordered by id unless a sort says otherwise, so pages neither skip nor repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Most items to return.
    pub limit: NonZeroU32,
    /// Where to go on: the `next` of the page before, opaque to dialects and checked by `model`.
    pub start: Option<String>,
}

/// Which resource group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupFilter {
    /// The account's default group: resources that carry no label.
    Default,
    /// The group of this label.
    Labelled(String),
}

/// Which VPCs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VpcFilter {
    /// Only of this resource group.
    pub resource_group: Option<GroupFilter>,
    /// Only with this classic access.
    pub classic_access: Option<bool>,
}

/// Which subnets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetFilter {
    /// Only in this VPC.
    pub vpc: Option<VpcId>,
    /// Only in the VPC of this name.
    pub vpc_name: Option<ResourceName>,
    /// Only in this zone.
    pub zone: Option<ZoneName>,
    /// Only of this resource group.
    pub resource_group: Option<GroupFilter>,
    /// Only with this route table.
    pub route_table: Option<RouteTableId>,
    /// Only with the route table of this name.
    pub route_table_name: Option<ResourceName>,
}

/// Which instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    /// Only in this VPC.
    pub vpc: Option<VpcId>,
    /// Only in the VPC of this name.
    pub vpc_name: Option<ResourceName>,
    /// Only with this name.
    pub name: Option<ResourceName>,
    /// Only of this resource group.
    pub resource_group: Option<GroupFilter>,
}

/// Which VPN gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VpnGatewayFilter {
    /// Only of this resource group.
    pub resource_group: Option<GroupFilter>,
}

/// Order of VPN gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatewaySort {
    /// Oldest first.
    CreatedAscending,
    /// Newest first.
    #[default]
    CreatedDescending,
    /// By name.
    NameAscending,
    /// By name, from the end.
    NameDescending,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageOf<T> {
    /// The items.
    pub items: Vec<T>,
    /// All matches, on every page together.
    pub total: u64,
    /// `start` of the next page; none on the last.
    pub next: Option<String>,
}

/// Whether something was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addition {
    /// It was added.
    Added,
    /// It was there before.
    AlreadyThere,
}

/// What an operation or a query is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant carries the view of the same name")]
pub enum Outcome {
    /// Done; nothing to show.
    Done,
    Regions(Vec<RegionView>),
    Region(RegionView),
    Zones(Vec<ZoneView>),
    Zone(ZoneView),
    Vpcs(PageOf<VpcView>),
    Vpc(VpcView),
    NetworkAcl(NetworkAclView),
    SecurityGroup(SecurityGroupView),
    RouteTable(RouteTableView),
    AddressPrefixes(PageOf<AddressPrefixView>),
    AddressPrefix(AddressPrefixView),
    Subnets(PageOf<SubnetView>),
    Subnet(SubnetView),
    ReservedIps(PageOf<ReservedIpView>),
    Instances(PageOf<InstanceView>),
    Instance(InstanceView),
    InstanceAction(InstanceActionView),
    VpnGateways(PageOf<VpnGatewayView>),
    VpnGateway(VpnGatewayView),
    VpnConnections(PageOf<VpnConnectionView>),
    VpnConnection(VpnConnectionView),
    ConnectionOptions(ConnectionOptionsView),
    GatewayOptions(GatewayOptionsView),
    Cidrs(Vec<Cidr>),
    CidrAdded(Addition),
    IkePolicies(PageOf<IkePolicyView>),
    IkePolicy(IkePolicyView),
    IpsecPolicies(PageOf<IpsecPolicyView>),
    IpsecPolicy(IpsecPolicyView),
}
