//! Resources as a caller may see them: denormalised, so that a dialect can render them without another look-up.
//!
//! They serialise only so that the store can repeat an answer; a connection's key is then in clear and must be sealed.

use std::net::Ipv4Addr;

use isthmus_types::{
    AccountId, AddressPrefixId, Cidr, Encryption, IkePolicyId, IkeVersion, InstanceActionId, InstanceId,
    Integrity, IpsecPolicyId, NetworkAclId, NetworkInterfaceId, RegionName, ReservedIpId, ResourceName,
    RouteTableId, Secret, SecurityGroupId, SubnetId, Timestamp, VpcId, VpnConnectionId, VpnGatewayId,
    VpnGatewayMemberId, ZoneName,
};
use serde::{Deserialize, Serialize};

use crate::operation::{
    DeadPeerDetection, Establish, Identity, InstanceAction, InterfaceAttachment, PeerAddress, PolicyGroup,
};
use crate::status::ConnectionState;

/// A resource by id and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference<Id> {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: ResourceName,
}

/// A subnet by id and name, with the zone that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedSubnet {
    /// The subnet.
    pub subnet: Reference<SubnetId>,
    /// Its zone.
    pub zone: ZoneName,
}

/// A network interface by id and name, with the instance that it can be reached through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInterface {
    /// The interface.
    pub interface: Reference<NetworkInterfaceId>,
    /// Its instance.
    pub instance: InstanceId,
}

/// What every resource view has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// The owner.
    pub account: AccountId,
    /// Its name.
    pub name: ResourceName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Label of the IBM dialect, none for the default group.
    pub resource_group: Option<String>,
    /// Rises with each change of its spec; not with its status.
    pub version: u64,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionView {
    /// Its name.
    pub name: RegionName,
    /// Its zones, in order.
    pub zones: Vec<ZoneName>,
}

/// A zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneView {
    /// Its name.
    pub name: ZoneName,
    /// Its region.
    pub region: RegionName,
}

/// Life of a resource that hosts have to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifecycle {
    /// Being removed.
    Deleting,
    /// Could not be made.
    Failed {
        /// Why.
        reason: String,
    },
    /// Not observed yet.
    Pending,
    /// Observed as planned.
    Ready,
}

/// A VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcView {
    /// Its id.
    pub id: VpcId,
    /// Name, owner, time.
    pub common: Common,
    /// Its region.
    pub region: RegionName,
    /// Zones of the region, in order.
    pub zones: Vec<ZoneName>,
    /// Stored flag.
    pub classic_access: bool,
    /// Its default ACL.
    pub default_acl: Reference<NetworkAclId>,
    /// Its default security group.
    pub default_security_group: Reference<SecurityGroupId>,
    /// Its main route table.
    pub default_route_table: Reference<RouteTableId>,
    /// Public address that its outgoing traffic is translated to, once it has an instance.
    pub source_nat: Option<Ipv4Addr>,
}

/// A network ACL of which only the default rules exist yet: everything is allowed both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAclView {
    /// Its id.
    pub id: NetworkAclId,
    /// Name, owner, time.
    pub common: Common,
    /// Its VPC.
    pub vpc: Reference<VpcId>,
    /// Subnets that it is attached to.
    pub subnets: Vec<PlacedSubnet>,
}

/// A security group of which only the default rules exist yet: inbound from anywhere, outbound to anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupView {
    /// Its id.
    pub id: SecurityGroupId,
    /// Name, owner, time.
    pub common: Common,
    /// Its VPC.
    pub vpc: Reference<VpcId>,
    /// Rules, in order.
    pub rules: Vec<SecurityGroupRuleView>,
    /// Interfaces that it applies to.
    pub targets: Vec<InstanceInterface>,
}

/// A rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupRuleView {
    /// Whether it is about traffic to the target.
    pub inbound: bool,
    /// The other side.
    pub remote: RuleRemote,
}

/// The other side of a security group rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleRemote {
    /// A range.
    Cidr(Cidr),
    /// The members of a group.
    Group(Reference<SecurityGroupId>),
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTableView {
    /// Its id.
    pub id: RouteTableId,
    /// Name, owner, time.
    pub common: Common,
    /// Its VPC.
    pub vpc: Reference<VpcId>,
    /// Subnets that use it.
    pub subnets: Vec<PlacedSubnet>,
}

/// An address prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPrefixView {
    /// Its id.
    pub id: AddressPrefixId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Name, owner, time.
    pub common: Common,
    /// Its range.
    pub cidr: Cidr,
    /// Its zone.
    pub zone: ZoneName,
    /// Whether subnets asked for by size come from it.
    pub is_default: bool,
    /// Whether it holds subnets.
    pub has_subnets: bool,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetView {
    /// Its id.
    pub id: SubnetId,
    /// Name, owner, time.
    pub common: Common,
    /// Its VPC.
    pub vpc: Reference<VpcId>,
    /// Its zone.
    pub zone: ZoneName,
    /// Its range.
    pub cidr: Cidr,
    /// Addresses that are free.
    pub available_addresses: u64,
    /// All addresses.
    pub total_addresses: u64,
    /// Its ACL.
    pub acl: Reference<NetworkAclId>,
    /// Its route table.
    pub route_table: Reference<RouteTableId>,
}

/// A private address held in a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedIpView {
    /// Its id.
    pub id: ReservedIpId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its name.
    pub name: ResourceName,
    /// When it was taken.
    pub created_at: Timestamp,
    /// What holds it.
    pub holder: AddressHolder,
    /// Its subnet.
    pub subnet: SubnetId,
}

/// What holds a private address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressHolder {
    /// An instance's interface.
    Interface(InstanceInterface),
    /// Isthmus itself: network, router, two spare, broadcast.
    Provider,
    /// A VPN gateway.
    VpnGateway(Reference<VpnGatewayId>),
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its id.
    pub id: InstanceId,
    /// Name, owner, time.
    pub common: Common,
    /// Its VPC.
    pub vpc: Reference<VpcId>,
    /// Its zone.
    pub zone: ZoneName,
    /// Name of its profile.
    pub profile: String,
    /// Id of its image.
    pub image: String,
    /// Its state.
    pub state: InstanceState,
    /// Its primary network interface.
    pub interface: InterfaceView,
}

/// State of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceState {
    /// Being removed.
    Deleting,
    /// Could not be made.
    Failed {
        /// Why.
        reason: String,
    },
    /// Not observed yet.
    Pending,
    /// Being taken down and up again.
    Restarting,
    /// Observed running.
    Running,
    /// Asked to run, observed stopped.
    Starting,
    /// Observed stopped.
    Stopped,
    /// Asked to stop, observed running.
    Stopping,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// Its id.
    pub id: NetworkInterfaceId,
    /// Its name.
    pub name: ResourceName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its subnet.
    pub subnet: Reference<SubnetId>,
    /// Its private address.
    pub address: Ipv4Addr,
    /// Id of the reservation of that address.
    pub reserved_ip: Reference<ReservedIpId>,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its security groups.
    pub security_groups: Vec<Reference<SecurityGroupId>>,
    /// Whether it may send from other addresses.
    pub allow_ip_spoofing: bool,
    /// What stands at the workload's end.
    pub attachment: InterfaceAttachment,
}

/// An action that was asked of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceActionView {
    /// Its id.
    pub id: InstanceActionId,
    /// The instance.
    pub instance: InstanceId,
    /// What was asked.
    pub action: InstanceAction,
    /// When.
    pub created_at: Timestamp,
}

/// A VPN gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnGatewayView {
    /// Its id.
    pub id: VpnGatewayId,
    /// Name, owner, time.
    pub common: Common,
    /// Its VPC.
    pub vpc: Reference<VpcId>,
    /// Its subnet.
    pub subnet: Reference<SubnetId>,
    /// Its zone.
    pub zone: ZoneName,
    /// Its life.
    pub lifecycle: Lifecycle,
    /// Its public address, there from the start.
    pub public_address: Ipv4Addr,
    /// Its two members: active, then standby.
    pub members: [GatewayMemberView; 2],
    /// Its connections.
    pub connections: Vec<Reference<VpnConnectionId>>,
}

/// A member of a VPN gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayMemberView {
    /// Its id.
    pub id: VpnGatewayMemberId,
    /// Whether it carries the traffic.
    pub active: bool,
    /// Its private address.
    pub private_address: Ipv4Addr,
    /// The reservation of that address.
    pub reserved_ip: Reference<ReservedIpId>,
}

/// A VPN connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnConnectionView {
    /// Its id.
    pub id: VpnConnectionId,
    /// Name, owner, time.
    pub common: Common,
    /// Its gateway.
    pub gateway: VpnGatewayId,
    /// The gateway's public address.
    pub gateway_address: Ipv4Addr,
    /// The shared key.
    #[serde(with = "isthmus_types::secret::revealed")]
    pub psk: Secret,
    /// The other end.
    pub peer: PeerAddress,
    /// Ranges at our side.
    pub local_cidrs: Vec<Cidr>,
    /// Ranges at the other side.
    pub peer_cidrs: Vec<Cidr>,
    /// Whether it should be up.
    pub admin_state_up: bool,
    /// Dead-peer detection.
    pub dead_peer_detection: DeadPeerDetection,
    /// IKE policy, none for automatic negotiation.
    pub ike_policy: Option<Reference<IkePolicyId>>,
    /// Version that the IKE policy asks for, none for automatic negotiation.
    #[serde(default)]
    pub ike_version: Option<IkeVersion>,
    /// IPsec policy, none for automatic negotiation.
    pub ipsec_policy: Option<Reference<IpsecPolicyId>>,
    /// Who may start.
    pub establish: Establish,
    /// Our identity.
    pub local_identity: Identity,
    /// The peer's identity.
    pub peer_identity: Identity,
    /// Whether it is up, and why not.
    pub state: ConnectionState,
    /// Since when; creation time if never observed.
    pub state_since: Timestamp,
    /// Algorithms of the IKE SA, empty if none.
    pub ike_suite: String,
    /// Algorithms of the Child SA, empty if none.
    pub esp_suite: String,
}

/// An IKE policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkePolicyView {
    /// Its id.
    pub id: IkePolicyId,
    /// Name, owner, time.
    pub common: Common,
    /// IKE version.
    pub version: IkeVersion,
    /// Ciphers.
    pub encryption: Vec<Encryption>,
    /// Hashes.
    pub integrity: Vec<Integrity>,
    /// Groups.
    pub dh: Vec<PolicyGroup>,
    /// Lifetime, seconds.
    pub key_lifetime: u32,
    /// Connections that use it, with their gateway.
    pub connections: Vec<(VpnGatewayId, Reference<VpnConnectionId>)>,
}

/// An IPsec policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpsecPolicyView {
    /// Its id.
    pub id: IpsecPolicyId,
    /// Name, owner, time.
    pub common: Common,
    /// Ciphers.
    pub encryption: Vec<Encryption>,
    /// Hashes; empty means disabled.
    pub integrity: Vec<Integrity>,
    /// Groups; empty means disabled.
    pub pfs: Vec<PolicyGroup>,
    /// Lifetime, seconds.
    pub key_lifetime: u32,
    /// Connections that use it, with their gateway.
    pub connections: Vec<(VpnGatewayId, Reference<VpnConnectionId>)>,
}
