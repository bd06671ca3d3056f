//! Every change that can be asked for.

use std::net::{IpAddr, Ipv4Addr};

use isthmus_types::{
    AccountId, AddressPrefixId, Cidr, DhGroup, Encryption, IkePolicyId, IkeVersion, InstanceId, Integrity,
    IpsecPolicyId, ResourceName, Secret, SecurityGroupId, SubnetId, UserId, VpcId, VpnConnectionId,
    VpnGatewayId, ZoneName,
};
use serde::{Deserialize, Serialize};

use crate::options::{UpdateConnectionOptions, UpdateGatewayOptions};
use crate::status::{HostFindings, StatusUpdate};

/// A change of the model. Every field was checked for form by the dialect, and is checked for meaning by `model`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant carries the operation of the same name")]
pub enum Operation {
    CreateAccount(CreateAccount),
    CreateVpc(CreateVpc),
    UpdateVpc(UpdateVpc),
    DeleteVpc(DeleteVpc),
    CreateAddressPrefix(CreateAddressPrefix),
    UpdateAddressPrefix(UpdateAddressPrefix),
    DeleteAddressPrefix {
        vpc: VpcId,
        prefix: AddressPrefixId,
    },
    CreateSubnet(CreateSubnet),
    UpdateSubnet {
        subnet: SubnetId,
        name: Option<ResourceName>,
    },
    DeleteSubnet {
        subnet: SubnetId,
    },
    CreateInstance(CreateInstance),
    UpdateInstance {
        instance: InstanceId,
        name: Option<ResourceName>,
        if_match: IfMatch,
    },
    DeleteInstance {
        instance: InstanceId,
        if_match: IfMatch,
    },
    ActOnInstance {
        instance: InstanceId,
        action: InstanceAction,
    },
    CreateVpnGateway(CreateVpnGateway),
    UpdateVpnGateway {
        gateway: VpnGatewayId,
        name: Option<ResourceName>,
    },
    DeleteVpnGateway {
        gateway: VpnGatewayId,
    },
    CreateVpnConnection(CreateVpnConnection),
    UpdateVpnConnection(UpdateVpnConnection),
    UpdateConnectionOptions(UpdateConnectionOptions),
    UpdateGatewayOptions(UpdateGatewayOptions),
    DeleteVpnConnection {
        gateway: VpnGatewayId,
        connection: VpnConnectionId,
        if_match: IfMatch,
    },
    /// Deletes the SAs of a connection at both ends and negotiates anew.
    ResetVpnConnection {
        gateway: VpnGatewayId,
        connection: VpnConnectionId,
        if_match: IfMatch,
    },
    AddConnectionCidr {
        gateway: VpnGatewayId,
        connection: VpnConnectionId,
        side: Side,
        cidr: Cidr,
    },
    RemoveConnectionCidr {
        gateway: VpnGatewayId,
        connection: VpnConnectionId,
        side: Side,
        cidr: Cidr,
    },
    CreateIkePolicy(CreateIkePolicy),
    UpdateIkePolicy(UpdateIkePolicy),
    DeleteIkePolicy {
        policy: IkePolicyId,
    },
    CreateIpsecPolicy(CreateIpsecPolicy),
    UpdateIpsecPolicy(UpdateIpsecPolicy),
    DeleteIpsecPolicy {
        policy: IpsecPolicyId,
    },
    /// What a host reported, reduced to what changes the model. Only Isthmus itself asks for this.
    RecordStatus(Vec<StatusUpdate>),
    /// Resources that were marked for deletion and that no host has any more. Only Isthmus itself asks for this.
    FinishDeletion(HostFindings),
}

impl Operation {
    /// The stable word for it, as audit records have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateAccount(_) => "create_account",
            Self::CreateVpc(_) => "create_vpc",
            Self::UpdateVpc(_) => "update_vpc",
            Self::DeleteVpc(_) => "delete_vpc",
            Self::CreateAddressPrefix(_) => "create_address_prefix",
            Self::UpdateAddressPrefix(_) => "update_address_prefix",
            Self::DeleteAddressPrefix { .. } => "delete_address_prefix",
            Self::CreateSubnet(_) => "create_subnet",
            Self::UpdateSubnet { .. } => "update_subnet",
            Self::DeleteSubnet { .. } => "delete_subnet",
            Self::CreateInstance(_) => "create_instance",
            Self::UpdateInstance { .. } => "update_instance",
            Self::DeleteInstance { .. } => "delete_instance",
            Self::ActOnInstance { .. } => "act_on_instance",
            Self::CreateVpnGateway(_) => "create_vpn_gateway",
            Self::UpdateVpnGateway { .. } => "update_vpn_gateway",
            Self::DeleteVpnGateway { .. } => "delete_vpn_gateway",
            Self::CreateVpnConnection(_) => "create_vpn_connection",
            Self::UpdateVpnConnection(_) => "update_vpn_connection",
            Self::UpdateConnectionOptions(_) => "update_connection_options",
            Self::UpdateGatewayOptions(_) => "update_gateway_options",
            Self::DeleteVpnConnection { .. } => "delete_vpn_connection",
            Self::ResetVpnConnection { .. } => "reset_vpn_connection",
            Self::AddConnectionCidr { .. } => "add_connection_cidr",
            Self::RemoveConnectionCidr { .. } => "remove_connection_cidr",
            Self::CreateIkePolicy(_) => "create_ike_policy",
            Self::UpdateIkePolicy(_) => "update_ike_policy",
            Self::DeleteIkePolicy { .. } => "delete_ike_policy",
            Self::CreateIpsecPolicy(_) => "create_ipsec_policy",
            Self::UpdateIpsecPolicy(_) => "update_ipsec_policy",
            Self::DeleteIpsecPolicy { .. } => "delete_ipsec_policy",
            Self::RecordStatus(_) => "record_status",
            Self::FinishDeletion(_) => "finish_deletion",
        }
    }
}

/// The states that the caller accepts: one of these versions of the resource, or any. An empty list accepts none.
pub type IfMatch = Option<Vec<u64>>;

/// Creates an account with one administrator and that user's first API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateAccount {
    /// Id chosen by the caller (bootstrap derives it once and keeps it).
    pub account: AccountId,
    /// Name of the account.
    pub name: ResourceName,
    /// Id of the administrator.
    pub user: UserId,
    /// Name of the administrator.
    pub user_name: ResourceName,
    /// SHA-256 of the API key, which itself is not stored (it has 256 random bits, so a plain hash is enough).
    pub api_key_hash: [u8; 32],
}

/// Creates a VPC with its default ACL, default security group and main route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateVpc {
    /// Unique in the region; made up if missing.
    pub name: Option<ResourceName>,
    /// Whether each zone gets a default address prefix.
    pub prefixes: PrefixManagement,
    /// Stored and shown, without effect.
    pub classic_access: bool,
    /// Label of the IBM dialect; the default group if missing.
    pub resource_group: Option<String>,
}

/// Who makes a VPC's address prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrefixManagement {
    /// One default prefix per zone at once.
    Auto,
    /// None: the user makes them.
    Manual,
}

/// Changes a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateVpc {
    /// The VPC.
    pub vpc: VpcId,
    /// New name.
    pub name: Option<ResourceName>,
    /// Versions that the caller accepts.
    pub if_match: IfMatch,
}

/// Deletes a VPC with its ACLs, groups, prefixes and route tables; refused while it has subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteVpc {
    /// The VPC.
    pub vpc: VpcId,
    /// Versions that the caller accepts.
    pub if_match: IfMatch,
}

/// Gives a range of addresses to a zone of a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateAddressPrefix {
    /// The VPC.
    pub vpc: VpcId,
    /// The range.
    pub cidr: Cidr,
    /// The zone.
    pub zone: ZoneName,
    /// Unique in the VPC; made up if missing.
    pub name: Option<ResourceName>,
    /// Whether subnets asked for by size are carved from it.
    pub is_default: bool,
}

/// Changes an address prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateAddressPrefix {
    /// The VPC.
    pub vpc: VpcId,
    /// The prefix.
    pub prefix: AddressPrefixId,
    /// New name.
    pub name: Option<ResourceName>,
    /// New default flag.
    pub is_default: Option<bool>,
}

/// Creates a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateSubnet {
    /// The VPC, referred to in the body.
    pub vpc: VpcId,
    /// Its addresses.
    pub range: SubnetRange,
    /// Its zone; that of the containing prefix if missing.
    pub zone: Option<ZoneName>,
    /// Unique in the VPC; made up if missing.
    pub name: Option<ResourceName>,
    /// Label of the IBM dialect.
    pub resource_group: Option<String>,
}

/// How a subnet's addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubnetRange {
    /// This range.
    Cidr(Cidr),
    /// So many addresses from the zone's default prefix; a power of two from 8.
    Count(u32),
}

/// Creates an instance with one network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateInstance {
    /// Unique in the VPC; made up if missing.
    pub name: Option<ResourceName>,
    /// Its VPC, if the caller names one: must be the subnet's.
    pub vpc: Option<VpcId>,
    /// Its zone: must be the subnet's.
    pub zone: ZoneName,
    /// Name of its profile, stored and shown.
    pub profile: String,
    /// Id of its image, stored and shown.
    pub image: String,
    /// Its primary network interface.
    pub interface: NewInterface,
    /// Label of the IBM dialect.
    pub resource_group: Option<String>,
}

/// A network interface to be made with its instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInterface {
    /// Its subnet, referred to in the body.
    pub subnet: SubnetId,
    /// Its name; made up if missing.
    pub name: Option<ResourceName>,
    /// Its private address; the lowest free one if missing.
    pub address: Option<Ipv4Addr>,
    /// Its security groups; the VPC's default group if empty.
    pub security_groups: Vec<SecurityGroupId>,
    /// Whether it may send from other addresses.
    pub allow_ip_spoofing: bool,
    /// What stands at the workload's end.
    pub attachment: InterfaceAttachment,
}

/// What stands at the workload's end of a network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InterfaceAttachment {
    /// A namespace that Isthmus makes.
    #[default]
    Namespace,
    /// An interface in a namespace that the user made.
    HandOver {
        /// Name of the namespace.
        namespace: String,
        /// Name of the interface there, at most 15 bytes.
        interface: String,
    },
    /// A TAP device.
    Tap {
        /// Name of the device, at most 15 bytes.
        interface: String,
    },
}

/// What to do with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceAction {
    /// Take it down and up again.
    Reboot,
    /// Take it up.
    Start,
    /// Take it down; address and interface stay.
    Stop,
}

/// Creates a VPN gateway in a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateVpnGateway {
    /// Its subnet, referred to in the body.
    pub subnet: SubnetId,
    /// Unique in the VPC; made up if missing.
    pub name: Option<ResourceName>,
    /// Label of the IBM dialect.
    pub resource_group: Option<String>,
    /// Private addresses that it takes in its subnet; the first two are its members'.
    pub reserved_addresses: u8,
}

/// Creates a policy-based VPN connection, with its customer gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateVpnConnection {
    /// Its gateway, from the path.
    pub gateway: VpnGatewayId,
    /// Unique in the gateway; made up if missing.
    pub name: Option<ResourceName>,
    /// The shared key, 6 to 128 characters.
    pub psk: Secret,
    /// The other end.
    pub peer: PeerAddress,
    /// Ranges at our side, at least one.
    pub local_cidrs: Vec<Cidr>,
    /// Ranges at the other side, at least one.
    pub peer_cidrs: Vec<Cidr>,
    /// Whether it should be up.
    pub admin_state_up: bool,
    /// Dead-peer detection.
    pub dead_peer_detection: DeadPeerDetection,
    /// IKE policy; automatic negotiation if missing.
    pub ike_policy: Option<IkePolicyId>,
    /// IPsec policy; automatic negotiation if missing.
    pub ipsec_policy: Option<IpsecPolicyId>,
    /// Who may start.
    pub establish: Establish,
    /// Our identity; the gateway's public address if missing.
    pub local_identity: Option<Identity>,
    /// The peer's identity; its address or name if missing.
    pub peer_identity: Option<Identity>,
}

/// Changes a VPN connection. Fields that are `None` stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateVpnConnection {
    /// Its gateway, from the path.
    pub gateway: VpnGatewayId,
    /// The connection.
    pub connection: VpnConnectionId,
    /// New name.
    pub name: Option<ResourceName>,
    /// New shared key.
    pub psk: Option<Secret>,
    /// New peer; it stays an address or a name.
    pub peer: Option<PeerAddress>,
    /// New administrative state.
    pub admin_state_up: Option<bool>,
    /// New dead-peer detection, already merged with the old.
    pub dead_peer_detection: Option<DeadPeerDetectionPatch>,
    /// New IKE policy; `Some(None)` returns to automatic negotiation.
    pub ike_policy: Option<Option<IkePolicyId>>,
    /// New IPsec policy; `Some(None)` returns to automatic negotiation.
    pub ipsec_policy: Option<Option<IpsecPolicyId>>,
    /// New mode.
    pub establish: Option<Establish>,
    /// New identity of ours.
    pub local_identity: Option<Identity>,
    /// New identity of the peer.
    pub peer_identity: Option<Identity>,
    /// Versions that the caller accepts.
    pub if_match: IfMatch,
}

/// Members of a dead-peer detection that change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadPeerDetectionPatch {
    /// New action.
    pub action: Option<DeadPeerAction>,
    /// New interval, seconds.
    pub interval: Option<u32>,
    /// New timeout, seconds.
    pub timeout: Option<u32>,
}

/// Where the other end of a connection is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum PeerAddress {
    /// A fixed address.
    Address(IpAddr),
    /// A domain name.
    Fqdn(String),
}

/// An IKE identity as a dialect gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Identity {
    /// An address.
    Address(IpAddr),
    /// A domain name.
    Fqdn(String),
    /// A host name (sent as a domain name).
    Hostname(String),
    /// Opaque bytes.
    KeyId(Vec<u8>),
}

/// Who may start a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Establish {
    /// Either end.
    Bidirectional,
    /// Only the peer.
    PeerOnly,
}

/// Dead-peer detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadPeerDetection {
    /// What to do when the peer is dead.
    pub action: DeadPeerAction,
    /// Seconds of silence before a probe, 1 to 86399.
    pub interval: u32,
    /// Seconds without an answer after which the peer is dead, 2 to 86399, not less than `interval`.
    pub timeout: u32,
}

/// What to do when the peer is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadPeerAction {
    /// Delete the SAs.
    Clear,
    /// Delete the SAs, negotiate on traffic.
    Hold,
    /// Do not probe.
    None,
    /// Negotiate at once.
    Restart,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Ours.
    Local,
    /// The other end's.
    Peer,
}

/// Creates an IKE policy. Lists hold at least one value, none twice, preferred first; IKEv1 allows one per list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateIkePolicy {
    /// Unique in the region; made up if missing.
    pub name: Option<ResourceName>,
    /// IKE version.
    pub version: IkeVersion,
    /// Ciphers.
    pub encryption: Vec<Encryption>,
    /// Hashes, for integrity and PRF.
    pub integrity: Vec<Integrity>,
    /// Groups.
    pub dh: Vec<PolicyGroup>,
    /// Lifetime, seconds, 1800 to 86400.
    pub key_lifetime: u32,
    /// Label of the IBM dialect.
    pub resource_group: Option<String>,
}

/// A Diffie-Hellman group that a policy names, by its IANA number; the engine may lack some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyGroup(pub u16);

impl PolicyGroup {
    /// The group that our engine knows under this number.
    pub const fn known(self) -> Option<DhGroup> {
        match self.0 {
            2 => Some(DhGroup::Modp1024),
            5 => Some(DhGroup::Modp1536),
            14 => Some(DhGroup::Modp2048),
            15 => Some(DhGroup::Modp3072),
            16 => Some(DhGroup::Modp4096),
            17 => Some(DhGroup::Modp6144),
            18 => Some(DhGroup::Modp8192),
            19 => Some(DhGroup::Ecp256),
            20 => Some(DhGroup::Ecp384),
            21 => Some(DhGroup::Ecp521),
            31 => Some(DhGroup::X25519),
            _ => None,
        }
    }
}

/// Changes an IKE policy. Fields that are `None` stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateIkePolicy {
    /// The policy.
    pub policy: IkePolicyId,
    /// New name.
    pub name: Option<ResourceName>,
    /// New version.
    pub version: Option<IkeVersion>,
    /// New ciphers.
    pub encryption: Option<Vec<Encryption>>,
    /// New hashes.
    pub integrity: Option<Vec<Integrity>>,
    /// New groups.
    pub dh: Option<Vec<PolicyGroup>>,
    /// New lifetime, seconds.
    pub key_lifetime: Option<u32>,
}

/// Creates an IPsec policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateIpsecPolicy {
    /// Unique in the region; made up if missing.
    pub name: Option<ResourceName>,
    /// Ciphers.
    pub encryption: Vec<Encryption>,
    /// Hashes; empty exactly when every cipher is an AEAD ("disabled").
    pub integrity: Vec<Integrity>,
    /// Groups for perfect forward secrecy; empty means disabled.
    pub pfs: Vec<PolicyGroup>,
    /// Lifetime, seconds, 1800 to 86400.
    pub key_lifetime: u32,
    /// Label of the IBM dialect.
    pub resource_group: Option<String>,
}

/// Changes an IPsec policy. Fields that are `None` stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateIpsecPolicy {
    /// The policy.
    pub policy: IpsecPolicyId,
    /// New name.
    pub name: Option<ResourceName>,
    /// New ciphers.
    pub encryption: Option<Vec<Encryption>>,
    /// New hashes.
    pub integrity: Option<Vec<Integrity>>,
    /// New groups.
    pub pfs: Option<Vec<PolicyGroup>>,
    /// New lifetime, seconds.
    pub key_lifetime: Option<u32>,
}
