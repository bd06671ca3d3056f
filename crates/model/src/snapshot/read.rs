//! What a snapshot can be asked directly, without a caller's eyes.

use std::net::{Ipv4Addr, Ipv6Addr};

use isthmus_ops::{ConnectionStatus, GatewayStatus, InstanceStatus};
use isthmus_types::{
    AccountId, AddressPrefixId, ApiKeyId, CustomerGatewayId, IkePolicyId, InstanceId, IpsecPolicyId,
    NetworkAclId, NetworkInterfaceId, ReservedIpId, ResourceBits, ResourceName, RouteTableId, Secret,
    SecurityGroupId, SubnetId, UserId, VpcId, VpnConnectionId, VpnGatewayId,
};

use super::{NameScope, PublicHolder, Snapshot};
use crate::record::{
    Account, AddressPrefix, ApiKey, CustomerGateway, IkePolicy, Instance, IpsecPolicy, NetworkAcl,
    NetworkInterface, ReservedIp, RouteTable, SecurityGroup, Subnet, TunnelSettings, User, Vpc,
    VpnConnection, VpnGateway,
};

macro_rules! by_id {
    ($($(#[$doc:meta])* $name:ident($id:ident) -> $record:ident in $table:ident;)+) => {
        impl Snapshot {$(
            $(#[$doc])*
            pub fn $name(&self, id: $id) -> Option<&$record> {
                self.tables.$table.get(&id)
            }
        )+}
    };
}

by_id! {
    /// An account.
    account(AccountId) -> Account in accounts;
    /// A user.
    user(UserId) -> User in users;
    /// An API key.
    api_key(ApiKeyId) -> ApiKey in api_keys;
    /// A VPC.
    vpc(VpcId) -> Vpc in vpcs;
    /// A network ACL.
    network_acl(NetworkAclId) -> NetworkAcl in network_acls;
    /// A security group.
    security_group(SecurityGroupId) -> SecurityGroup in security_groups;
    /// A route table.
    route_table(RouteTableId) -> RouteTable in route_tables;
    /// An address prefix.
    address_prefix(AddressPrefixId) -> AddressPrefix in address_prefixes;
    /// A subnet.
    subnet(SubnetId) -> Subnet in subnets;
    /// A private address that is held.
    reserved_ip(ReservedIpId) -> ReservedIp in reserved_ips;
    /// An instance, also one being deleted.
    instance(InstanceId) -> Instance in instances;
    /// A network interface.
    network_interface(NetworkInterfaceId) -> NetworkInterface in network_interfaces;
    /// A VPN gateway, also one being deleted.
    vpn_gateway(VpnGatewayId) -> VpnGateway in vpn_gateways;
    /// A customer gateway.
    customer_gateway(CustomerGatewayId) -> CustomerGateway in customer_gateways;
    /// A VPN connection, also one being deleted.
    vpn_connection(VpnConnectionId) -> VpnConnection in vpn_connections;
    /// An IKE policy.
    ike_policy(IkePolicyId) -> IkePolicy in ike_policies;
    /// An IPsec policy.
    ipsec_policy(IpsecPolicyId) -> IpsecPolicy in ipsec_policies;
}

macro_rules! children {
    ($($(#[$doc:meta])* $name:ident($parent:ident) -> $record:ident: $index:ident in $table:ident;)+) => {
        impl Snapshot {$(
            $(#[$doc])*
            pub fn $name(&self, parent: $parent) -> impl Iterator<Item = &$record> + '_ {
                self.indices
                    .$index
                    .children(parent)
                    .filter_map(|id| self.tables.$table.get(&id))
            }
        )+}
    };
}

children! {
    /// VPCs of an account, by id.
    vpcs_of(AccountId) -> Vpc: vpcs in vpcs;
    /// ACLs of a VPC, by id.
    acls_of(VpcId) -> NetworkAcl: acls in network_acls;
    /// Security groups of a VPC, by id.
    security_groups_of(VpcId) -> SecurityGroup: security_groups in security_groups;
    /// Route tables of a VPC, by id.
    route_tables_of(VpcId) -> RouteTable: route_tables in route_tables;
    /// Address prefixes of a VPC, by id.
    prefixes_of(VpcId) -> AddressPrefix: prefixes in address_prefixes;
    /// Subnets of a VPC, by id.
    subnets_of(VpcId) -> Subnet: subnets in subnets;
    /// Instances of a VPC, by id, also those being deleted.
    instances_of(VpcId) -> Instance: instances in instances;
    /// Network interfaces of a VPC, by id, also those of instances being deleted.
    interfaces_of(VpcId) -> NetworkInterface: interfaces in network_interfaces;
    /// VPN gateways of a VPC, by id, also those being deleted.
    gateways_of(VpcId) -> VpnGateway: gateways in vpn_gateways;
    /// VPN gateways of an account, by id, also those being deleted.
    gateways_of_account(AccountId) -> VpnGateway: account_gateways in vpn_gateways;
    /// Connections of a VPN gateway, by id, also those being deleted.
    connections_of(VpnGatewayId) -> VpnConnection: connections in vpn_connections;
    /// Connections that use an IKE policy, by id.
    connections_with_ike_policy(IkePolicyId) -> VpnConnection: ike_policy_connections in vpn_connections;
    /// Connections that use an IPsec policy, by id.
    connections_with_ipsec_policy(IpsecPolicyId) -> VpnConnection: ipsec_policy_connections in vpn_connections;
    /// Subnets that an ACL is attached to, by id.
    subnets_with_acl(NetworkAclId) -> Subnet: acl_subnets in subnets;
    /// Subnets that use a route table, by id.
    subnets_with_route_table(RouteTableId) -> Subnet: route_table_subnets in subnets;
    /// Interfaces that a security group applies to, by id.
    interfaces_in_group(SecurityGroupId) -> NetworkInterface: group_interfaces in network_interfaces;
    /// Interfaces in a subnet, by id.
    interfaces_in_subnet(SubnetId) -> NetworkInterface: subnet_interfaces in network_interfaces;
    /// VPN gateways in a subnet, by id, also those being deleted.
    gateways_in_subnet(SubnetId) -> VpnGateway: subnet_gateways in vpn_gateways;
}

impl Snapshot {
    /// Every account, by id.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> + '_ {
        self.tables.accounts.values()
    }

    /// Every VPC of every account, by id.
    pub fn vpcs(&self) -> impl Iterator<Item = &Vpc> + '_ {
        self.tables.vpcs.values()
    }

    /// Every instance of every account, by id, also those being deleted.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> + '_ {
        self.tables.instances.values()
    }

    /// Every VPN gateway of every account, by id, also those being deleted.
    pub fn vpn_gateways(&self) -> impl Iterator<Item = &VpnGateway> + '_ {
        self.tables.vpn_gateways.values()
    }

    /// Every VPN connection of every account, by id, also those being deleted.
    pub fn vpn_connections(&self) -> impl Iterator<Item = &VpnConnection> + '_ {
        self.tables.vpn_connections.values()
    }

    /// Number of VPCs of an account.
    pub fn vpc_count_of(&self, account: AccountId) -> usize {
        self.indices.vpcs.count(account)
    }

    /// Number of subnets of a VPC.
    pub fn subnet_count_of_vpc(&self, vpc: VpcId) -> usize {
        self.indices.subnets.count(vpc)
    }

    /// Number of instances of an account, also those being deleted.
    pub fn instance_count_of(&self, account: AccountId) -> usize {
        self.indices.account_instances.count(account)
    }

    /// Number of VPN gateways of an account, also those being deleted.
    pub fn gateway_count_of(&self, account: AccountId) -> usize {
        self.indices.account_gateways.count(account)
    }

    /// Number of IKE policies of an account.
    pub fn ike_policy_count_of(&self, account: AccountId) -> usize {
        self.indices.ike_policies.count(account)
    }

    /// Number of IPsec policies of an account.
    pub fn ipsec_policy_count_of(&self, account: AccountId) -> usize {
        self.indices.ipsec_policies.count(account)
    }

    /// Whether something holds this private address, apart from the five that Isthmus keeps.
    pub fn is_held(&self, subnet: SubnetId, address: Ipv4Addr) -> bool {
        let lowest = ReservedIpId(ResourceBits::from_random(0));
        let mut from = self.indices.held.children_from(subnet, (address, lowest));
        from.next().is_some_and(|(held, _)| held == address)
    }

    /// The private addresses held in a subnet, lowest first, without the five that Isthmus keeps.
    pub fn held_addresses(&self, subnet: SubnetId) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.indices.held.children(subnet).map(|(address, _)| address)
    }

    /// Number of private addresses held in a subnet, without the five that Isthmus keeps.
    pub fn held_count(&self, subnet: SubnetId) -> usize {
        self.indices.held.count(subnet)
    }

    /// The reservations of private addresses in a subnet, lowest address first.
    pub fn reserved_ips_in(&self, subnet: SubnetId) -> impl Iterator<Item = &ReservedIp> + '_ {
        self.indices
            .held
            .children(subnet)
            .filter_map(|(_, id)| self.tables.reserved_ips.get(&id))
    }

    /// The shared key of a connection; none while it is being deleted.
    pub fn pre_shared_key(&self, connection: VpnConnectionId) -> Option<&Secret> {
        self.tables
            .pre_shared_keys
            .get(&connection)
            .map(|record| &record.key)
    }

    /// The options of a connection; none while all have their defaults.
    pub fn tunnel_settings(&self, connection: VpnConnectionId) -> Option<&TunnelSettings> {
        self.tables.tunnel_settings.get(&connection)
    }

    /// The other end of a connection.
    pub fn peer_of(&self, connection: &VpnConnection) -> Option<&CustomerGateway> {
        self.customer_gateway(connection.customer_gateway)
    }

    /// What a host reported of an instance, if any host did.
    pub fn instance_status(&self, instance: InstanceId) -> Option<&InstanceStatus> {
        self.tables
            .instance_observations
            .get(&instance)
            .map(|record| &record.status)
    }

    /// What a host reported of a VPN gateway, if any host did.
    pub fn gateway_status(&self, gateway: VpnGatewayId) -> Option<&GatewayStatus> {
        self.tables
            .gateway_observations
            .get(&gateway)
            .map(|record| &record.status)
    }

    /// What a host reported of a VPN connection, if any host did.
    pub fn connection_status(&self, connection: VpnConnectionId) -> Option<&ConnectionStatus> {
        self.tables
            .connection_observations
            .get(&connection)
            .map(|record| &record.status)
    }

    /// The id of the resource with this name in this scope.
    pub fn named(&self, scope: NameScope, name: &ResourceName) -> Option<ResourceBits> {
        self.indices.names.get(&(scope, name.clone())).copied()
    }

    /// What holds a public address.
    pub fn public_holder(&self, address: Ipv4Addr) -> Option<PublicHolder> {
        self.indices.public.get(&address).copied()
    }

    /// IPv6 addresses that gateways hold, lowest first.
    pub fn public_ipv6_addresses(&self) -> impl Iterator<Item = (Ipv6Addr, VpnGatewayId)> + '_ {
        let held = self.indices.public_ipv6.iter();
        held.map(|(address, gateway)| (*address, *gateway))
    }

    /// Public addresses in use, lowest first.
    pub fn public_addresses(&self) -> impl Iterator<Item = (Ipv4Addr, PublicHolder)> + '_ {
        self.indices
            .public
            .iter()
            .map(|(address, holder)| (*address, *holder))
    }

    /// The interface whose workload end has this device on the host: `/DEVICE` for a TAP,
    /// `NAMESPACE/DEVICE` in a user's namespace.
    pub fn device_holder(&self, device: &str) -> Option<NetworkInterfaceId> {
        self.indices.devices.get(device).copied()
    }

    /// The API key whose SHA-256 is `hash`. Hashes of random keys may be looked up; callers who compare what a stranger
    /// presented do so in constant time on what this returns.
    pub fn api_key_by_hash(&self, hash: &[u8; 32]) -> Option<&ApiKey> {
        self.indices.api_keys.get(hash).and_then(|id| self.api_key(*id))
    }
}
