//! VPCs and what gives them their shape.

use std::net::Ipv4Addr;

use isthmus_types::{
    AddressPrefixId, Cidr, NetworkAclId, NetworkInterfaceId, ReservedIpId, ResourceName, RouteTableId,
    SecurityGroupId, SubnetId, Timestamp, VpcId, VpnGatewayId, ZoneName,
};
use serde::{Deserialize, Serialize};

use super::Meta;

/// A virtual private cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// Its id.
    pub id: VpcId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Stored and shown, without effect.
    pub classic_access: bool,
    /// ACL of subnets that name none.
    pub default_acl: NetworkAclId,
    /// Security group of interfaces that name none.
    pub default_security_group: SecurityGroupId,
    /// Route table of subnets that name none.
    pub default_route_table: RouteTableId,
    /// Public address that outgoing traffic is translated to. Taken from the pool with the VPC's first instance and
    /// kept until the VPC is deleted, so that peers who know the address can rely on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_nat: Option<Ipv4Addr>,
}

/// Which way a packet goes, seen from the protected side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To it.
    Inbound,
    /// From it.
    Outbound,
}

/// What an ACL rule does with a packet that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AclAction {
    /// Lets it pass.
    Allow,
    /// Drops it.
    Deny,
}

/// One rule of an ACL, about every protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRule {
    /// Which way.
    pub direction: Direction,
    /// What happens.
    pub action: AclAction,
    /// Range that the source must be in.
    pub source: Cidr,
    /// Range that the destination must be in.
    pub destination: Cidr,
}

/// A network ACL: stateless rules at the edge of subnets. The first match decides; without one the packet is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAcl {
    /// Its id.
    pub id: NetworkAclId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its rules, in order.
    pub rules: Vec<AclRule>,
}

/// The other side of a group rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum GroupRemote {
    /// Addresses of a range.
    Cidr(Cidr),
    /// Members of a group of the same VPC.
    Group(SecurityGroupId),
}

/// One permission of a security group, for every protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRule {
    /// Which way the connection is opened.
    pub direction: Direction,
    /// The other side.
    pub remote: GroupRemote,
}

/// A security group: stateful permissions of interfaces. Without rules nothing passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its rules.
    pub rules: Vec<GroupRule>,
}

/// A route table. It has no routes of its own yet: the VPC's ranges and the VPN's remote ranges are implied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Its id.
    pub id: RouteTableId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Its VPC.
    pub vpc: VpcId,
}

/// A range of a VPC's addresses, given to one zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPrefix {
    /// Its id.
    pub id: AddressPrefixId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Its VPC.
    pub vpc: VpcId,
    /// The range.
    pub cidr: Cidr,
    /// The zone.
    pub zone: ZoneName,
    /// Whether subnets asked for by size are carved from it; at most one per zone.
    pub is_default: bool,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its zone.
    pub zone: ZoneName,
    /// Its IPv4 range.
    pub cidr: Cidr,
    /// The ACL at its edge.
    pub acl: NetworkAclId,
    /// Its route table.
    pub route_table: RouteTableId,
}

/// A private address that is held by something. The five addresses that Isthmus keeps in every subnet have no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedIp {
    /// Its id.
    pub id: ReservedIpId,
    /// The subnet that it is of.
    pub subnet: SubnetId,
    /// The address.
    pub address: Ipv4Addr,
    /// Its name.
    pub name: ResourceName,
    /// When it was taken.
    pub created_at: Timestamp,
    /// What holds it.
    pub holder: ReservedFor,
}

/// What holds a private address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum ReservedFor {
    /// An instance's interface.
    Interface(NetworkInterfaceId),
    /// A VPN gateway.
    VpnGateway(VpnGatewayId),
}
