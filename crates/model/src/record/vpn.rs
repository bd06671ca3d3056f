//! VPN gateways, connections and policies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use isthmus_ops::{ConnectionOptions, DeadPeerDetection, Establish, Identity, PeerAddress, PolicyGroup};
use isthmus_types::{
    Cidr, CustomerGatewayId, Encryption, IkePolicyId, IkeVersion, Integrity, IpsecPolicyId, ReservedIpId,
    Secret, SubnetId, Timestamp, VpcId, VpnConnectionId, VpnGatewayId, VpnGatewayMemberId, ZoneName, secret,
};
use serde::{Deserialize, Serialize};

use super::Meta;

/// A VPN gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnGateway {
    /// Its id.
    pub id: VpnGatewayId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Its VPC.
    pub vpc: VpcId,
    /// The subnet that it stands in.
    pub subnet: SubnetId,
    /// Its zone, that of its subnet: it serves only this zone's instances.
    pub zone: ZoneName,
    /// Its public address, its own until it is gone.
    pub public_address: Ipv4Addr,
    /// Its IPv6 address outside, its own from when it was first switched on until the gateway is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ipv6: Option<Ipv6Addr>,
    /// Whether that address is in use.
    #[serde(default, skip_serializing_if = "is_off")]
    pub ipv6: bool,
    /// Its members: active, then standby.
    pub members: [GatewayMember; 2],
    /// Every private address that it holds; the first two are its members'.
    pub reserved_ips: Vec<ReservedIpId>,
    /// Whether its host writes the keys of every SA to files, in clear.
    #[serde(default, skip_serializing_if = "is_off")]
    pub key_log: bool,
    /// Since when it is to be removed. Host plans no longer hold it then; its addresses and its subnet stay held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Timestamp>,
}

impl VpnGateway {
    /// The IPv6 address that it has outside, if it is to have one.
    pub fn ipv6_outside(&self) -> Option<Ipv6Addr> {
        self.public_ipv6.filter(|_| self.ipv6)
    }

    /// The address that it speaks to `peer` from: that of the peer's IP version, the IPv4 one where that is not known.
    pub fn address_towards(&self, peer: &PeerAddress) -> IpAddr {
        match (peer, self.ipv6_outside()) {
            (PeerAddress::Address(IpAddr::V6(_)), Some(own)) => own.into(),
            (PeerAddress::Address(_) | PeerAddress::Fqdn(_), _) => self.public_address.into(),
        }
    }
}

/// A member of a VPN gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayMember {
    /// Its id.
    pub id: VpnGatewayMemberId,
    /// Its private address.
    pub address: Ipv4Addr,
    /// The reservation of that address.
    pub reserved_ip: ReservedIpId,
}

/// A customer gateway: the other end of a VPN connection. Each belongs to one connection so far, is made with it and
/// deleted with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerGateway {
    /// Its id.
    pub id: CustomerGatewayId,
    /// The connection that it was made for.
    pub connection: VpnConnectionId,
    /// Where it is.
    pub address: PeerAddress,
}

/// A policy-based VPN connection. Its key is a [`PreSharedKey`], its peer a [`CustomerGateway`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnConnection {
    /// Its id.
    pub id: VpnConnectionId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Its gateway.
    pub gateway: VpnGatewayId,
    /// The gateway's VPC.
    pub vpc: VpcId,
    /// The other end.
    pub customer_gateway: CustomerGatewayId,
    /// Ranges at our side, at least one.
    pub local_cidrs: Vec<Cidr>,
    /// Ranges at the other side, at least one.
    pub peer_cidrs: Vec<Cidr>,
    /// Whether it should be up.
    pub admin_state_up: bool,
    /// Dead-peer detection.
    pub dead_peer_detection: DeadPeerDetection,
    /// IKE policy; automatic negotiation if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ike_policy: Option<IkePolicyId>,
    /// IPsec policy; automatic negotiation if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipsec_policy: Option<IpsecPolicyId>,
    /// Who may start.
    pub establish: Establish,
    /// Our identity; the gateway's public address if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_identity: Option<Identity>,
    /// The peer's identity; its address or name if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_identity: Option<Identity>,
    /// Rises with each request to negotiate anew.
    #[serde(default)]
    pub reset_count: u32,
    /// Since when it is to be removed. Host plans no longer hold it then, callers no longer see it, and it holds
    /// neither name, ranges, key nor policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Timestamp>,
}

/// The shared key of a VPN connection; its own record, so that it can be sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreSharedKey {
    /// The connection.
    pub connection: VpnConnectionId,
    /// The key.
    #[serde(with = "secret::revealed")]
    pub key: Secret,
}

/// The options of a VPN connection; its own record, so that a private key is sealed. Databases of releases without options
/// have none of these records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelSettings {
    /// The connection.
    pub connection: VpnConnectionId,
    /// 2 at first, for 1 stands for the defaults; rises with each change.
    pub version: u64,
    /// The options.
    pub options: ConnectionOptions,
}

/// A named set of IKE SA parameters. Lists hold at least one value, preferred first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkePolicy {
    /// Its id.
    pub id: IkePolicyId,
    /// Name, owner, time.
    pub meta: Meta,
    /// IKE version; version 1 has one value per list.
    pub version: IkeVersion,
    /// Ciphers.
    pub encryption: Vec<Encryption>,
    /// Hashes, for integrity and PRF.
    pub integrity: Vec<Integrity>,
    /// Groups.
    pub dh: Vec<PolicyGroup>,
    /// Lifetime, seconds.
    pub key_lifetime: u32,
}

/// A named set of Child SA parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpsecPolicy {
    /// Its id.
    pub id: IpsecPolicyId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Ciphers, preferred first.
    pub encryption: Vec<Encryption>,
    /// Hashes; empty exactly when every cipher is an AEAD.
    pub integrity: Vec<Integrity>,
    /// Groups for perfect forward secrecy; empty means none.
    pub pfs: Vec<PolicyGroup>,
    /// Lifetime, seconds.
    pub key_lifetime: u32,
}

// Serde hands over a reference.
const fn is_off(flag: &bool) -> bool {
    !*flag
}
