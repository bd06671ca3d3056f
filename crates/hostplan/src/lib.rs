//! The contract between control and agent: what one host must have, and what it reports to have.
//!
//! Control makes every choice; an agent has none left. This crate says nothing of how either side works. A plan
//! carries pre-shared keys: it travels only over a channel that root alone can read and is sealed on disk.

pub mod diagnosis;
pub mod report;
pub mod tunnel;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use isthmus_types::{
    Cidr, Generation, HostName, InstanceId, NetworkAclId, NetworkInterfaceId, Realm, SecurityGroupId,
    SubnetId, VpcId, VpnGatewayId,
};
use serde::{Deserialize, Serialize};

pub use diagnosis::Diagnosis;
pub use report::{
    AgentCounters, ConnectionReport, DownReason, GatewayCounters, GatewayReport, HostReport, InstanceReport,
    ObjectState, PlanStatus, TunnelState, VpcReport,
};
pub use tunnel::{
    ConnectionPlan, DpdAction, EstablishMode, GatewayTunnels, IkeIdentity, PeerEndpoint, TunnelPlan,
    TunnelReport,
};

/// Everything that one host must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// The host that this plan is for.
    pub host: HostName,
    /// The mark of the installation, part of every namespace name.
    pub realm: Realm,
    /// Rises with every change of content.
    pub generation: Generation,
    /// How public addresses reach the outside.
    pub uplink: UplinkPlan,
    /// One entry for each VPC that has something on this host.
    pub vpcs: BTreeMap<VpcId, VpcPlan>,
}

/// The changes of a host plan since an earlier generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDelta {
    /// The host that this plan is for.
    pub host: HostName,
    /// The mark of the installation.
    pub realm: Realm,
    /// The generation that the changes lead to.
    pub generation: Generation,
    /// How public addresses reach the outside.
    pub uplink: UplinkPlan,
    /// Whether `changed` is the whole plan: VPCs not listed are gone.
    pub whole: bool,
    /// New content of each changed VPC.
    pub changed: Vec<VpcPlan>,
    /// VPCs that this host no longer carries.
    pub removed: Vec<VpcId>,
}

/// How public addresses reach the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum UplinkPlan {
    /// A namespace of our own plays the internet; nothing outside it is reachable.
    Private {
        /// Range of the public addresses.
        pool: Cidr,
        /// Address of the router that the namespace plays; every VPC router's default route points to it.
        router: Ipv4Addr,
        /// Its IPv6 address, which it has on the link of every VPC that has an IPv6 address outside; none means that there
        /// is no IPv6 outside.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        router_ipv6: Option<Ipv6Addr>,
    },
}

/// What one VPC needs on this host: one router namespace and all that hangs off it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcPlan {
    /// The VPC.
    pub vpc: VpcId,
    /// Generation at which this content came to be.
    pub generation: Generation,
    /// Address ranges of the VPC.
    pub ranges: Vec<Cidr>,
    /// Subnets with something on this host.
    pub subnets: Vec<SubnetPlan>,
    /// Ports of instances on this host.
    pub ports: Vec<PortPlan>,
    /// Public address that outgoing traffic is translated to; none means no way out but VPN.
    pub source_nat: Option<Ipv4Addr>,
    /// Security groups that the ports name.
    pub security_groups: Vec<SecurityGroupPlan>,
    /// Network ACLs that the subnets name.
    pub acls: Vec<NetworkAclPlan>,
    /// VPN gateways that live on this host.
    pub gateways: Vec<GatewayPlan>,
}

/// A subnet as the router sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetPlan {
    /// The subnet.
    pub subnet: SubnetId,
    /// Its range.
    pub cidr: Cidr,
    /// The router's address in it (the first host address).
    pub router: Ipv4Addr,
    /// The ACL at its edge.
    pub acl: NetworkAclId,
    /// Gateway that serves this subnet's traffic to remote ranges. A subnet without one (another zone) reaches
    /// none of them: such traffic is dropped, never sent in clear.
    pub vpn_gateway: Option<VpnGatewayId>,
}

/// One network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    /// The interface.
    pub interface: NetworkInterfaceId,
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// The instance's name, for the workload's host name.
    pub instance_name: String,
    /// The subnet it is in.
    pub subnet: SubnetId,
    /// Its private address.
    pub address: Ipv4Addr,
    /// Its MAC address, locally administered.
    pub mac: [u8; 6],
    /// What is at the workload's end.
    pub attachment: Attachment,
    /// Whether the instance should run.
    pub power: Power,
    /// The security groups that apply to it.
    pub security_groups: Vec<SecurityGroupId>,
    /// Whether packets with other source addresses may leave it.
    pub spoofing: Spoofing,
}

/// What stands at the workload's end of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Attachment {
    /// A network namespace that we create and remove, named for the instance.
    Namespace,
    /// A veth end moved into a namespace that the user made and names.
    HandOver {
        /// Name of the user's namespace, as in `/run/netns`.
        namespace: String,
        /// Name of the interface there.
        interface: String,
    },
    /// A TAP device in the host's own namespace, for the user's virtual machine. Its peer traffic enters the router.
    Tap {
        /// Name of the device.
        interface: String,
    },
}

/// Whether an instance should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Its ports carry packets.
    On,
    /// Its ports are down.
    Off,
}

/// Whether a port may send from addresses that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spoofing {
    /// Any source address.
    Allowed,
    /// Only the port's own address.
    Forbidden,
}

/// A security group: what a port with it may receive and send. Stateful; empty means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupPlan {
    /// The group.
    pub group: SecurityGroupId,
    /// Addresses of all ports of the VPC in this group, on every host.
    pub members: Vec<Ipv4Addr>,
    /// Who may send to a member.
    pub inbound: Vec<GroupRule>,
    /// Whom a member may send to.
    pub outbound: Vec<GroupRule>,
}

/// One permission of a security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GroupRule {
    /// Every protocol with every address of the range.
    Range {
        /// The other side.
        cidr: Cidr,
    },
    /// Every protocol with every member of a group.
    Members {
        /// The group at the other side.
        group: SecurityGroupId,
    },
}

/// A network ACL at the edge of subnets. Stateless, first match decides, nothing matching means denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAclPlan {
    /// The ACL.
    pub acl: NetworkAclId,
    /// Rules for traffic into the subnet, in order.
    pub inbound: Vec<AclRule>,
    /// Rules for traffic out of the subnet, in order.
    pub outbound: Vec<AclRule>,
}

/// One ACL rule on addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRule {
    /// What happens to a match.
    pub action: AclAction,
    /// Range the source must be in.
    pub source: Cidr,
    /// Range the destination must be in.
    pub destination: Cidr,
}

/// What an ACL rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AclAction {
    /// Lets the packet pass.
    Allow,
    /// Drops the packet.
    Deny,
}

/// A VPN gateway on this host: a TUN device in the router namespace, and the tunnel daemon behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayPlan {
    /// The gateway.
    pub gateway: VpnGatewayId,
    /// Its name, for logs.
    pub name: String,
    /// Its public address, held by the router's uplink.
    pub public_address: Ipv4Addr,
    /// Its IPv6 address outside, if it has one, held there too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ipv6: Option<Ipv6Addr>,
    /// Largest packet that its TUN device takes, bytes (smallest over its connections' algorithms).
    pub mtu: u16,
    /// Whether the keys of every SA are written to files on this host, in clear.
    #[serde(default)]
    pub key_log: bool,
    /// Its connections, administratively up or down.
    pub connections: Vec<ConnectionPlan>,
}

impl GatewayPlan {
    /// The address that packets to `peer` come from: that of its IP version, the IPv4 one where that is not known.
    pub fn address_towards(&self, peer: &PeerEndpoint) -> IpAddr {
        match (peer, self.public_ipv6) {
            (
                PeerEndpoint::Address {
                    address: IpAddr::V6(_),
                },
                Some(own),
            ) => own.into(),
            (PeerEndpoint::Address { .. } | PeerEndpoint::Anywhere | PeerEndpoint::Name { .. }, _) => {
                self.public_address.into()
            }
        }
    }

    /// Every remote range of every connection, also of those that are down: traffic to these never leaves in clear.
    pub fn remote_ranges(&self) -> impl Iterator<Item = Cidr> + '_ {
        self.connections
            .iter()
            .flat_map(|connection| connection.peer_cidrs.iter().copied())
    }
}

impl HostPlan {
    /// A plan with nothing in it.
    pub const fn empty(host: HostName, realm: Realm, uplink: UplinkPlan) -> Self {
        Self {
            host,
            realm,
            generation: Generation(0),
            uplink,
            vpcs: BTreeMap::new(),
        }
    }

    /// Brings the plan to the state that `delta` leads to.
    pub fn apply(&mut self, delta: PlanDelta) {
        if delta.whole {
            self.vpcs.clear();
        }
        for vpc in delta.removed {
            self.vpcs.remove(&vpc);
        }
        for vpc in delta.changed {
            self.vpcs.insert(vpc.vpc, vpc);
        }
        self.uplink = delta.uplink;
        self.generation = delta.generation;
    }
}
