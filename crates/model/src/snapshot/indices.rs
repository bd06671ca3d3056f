//! Secondary indices: each answers one kind of question without a walk over all records.

use std::net::{Ipv4Addr, Ipv6Addr};

use isthmus_ops::InterfaceAttachment;
use isthmus_types::{
    AccountId, AddressPrefixId, ApiKeyId, IkePolicyId, InstanceId, IpsecPolicyId, NetworkAclId,
    NetworkInterfaceId, ReservedIpId, ResourceBits, ResourceName, RouteTableId, SecurityGroupId, SubnetId,
    UserId, VpcId, VpnConnectionId, VpnGatewayId,
};
use rpds::RedBlackTreeMapSync;

use crate::index::Index;
use crate::record::Record;

/// Within what a name must be unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameScope {
    /// Accounts of the installation.
    Accounts,
    /// ACLs of a VPC.
    Acls(VpcId),
    /// Connections of a VPN gateway.
    Connections(VpnGatewayId),
    /// Gateways of a VPC.
    Gateways(VpcId),
    /// IKE policies of an account.
    IkePolicies(AccountId),
    /// Instances of a VPC.
    Instances(VpcId),
    /// IPsec policies of an account.
    IpsecPolicies(AccountId),
    /// Address prefixes of a VPC.
    Prefixes(VpcId),
    /// Route tables of a VPC.
    RouteTables(VpcId),
    /// Security groups of a VPC.
    SecurityGroups(VpcId),
    /// Subnets of a VPC.
    Subnets(VpcId),
    /// Users of an account.
    Users(AccountId),
    /// VPCs of an account.
    Vpcs(AccountId),
}

/// What holds a public address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublicHolder {
    /// A VPN gateway.
    Gateway(VpnGatewayId),
    /// A VPC's source address translation.
    SourceNat(VpcId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indices {
    pub(crate) users: Index<AccountId, UserId>,
    pub(crate) vpcs: Index<AccountId, VpcId>,
    pub(crate) account_subnets: Index<AccountId, SubnetId>,
    pub(crate) account_instances: Index<AccountId, InstanceId>,
    pub(crate) account_gateways: Index<AccountId, VpnGatewayId>,
    pub(crate) ike_policies: Index<AccountId, IkePolicyId>,
    pub(crate) ipsec_policies: Index<AccountId, IpsecPolicyId>,
    pub(crate) acls: Index<VpcId, NetworkAclId>,
    pub(crate) security_groups: Index<VpcId, SecurityGroupId>,
    pub(crate) route_tables: Index<VpcId, RouteTableId>,
    pub(crate) prefixes: Index<VpcId, AddressPrefixId>,
    pub(crate) subnets: Index<VpcId, SubnetId>,
    pub(crate) instances: Index<VpcId, InstanceId>,
    pub(crate) interfaces: Index<VpcId, NetworkInterfaceId>,
    pub(crate) gateways: Index<VpcId, VpnGatewayId>,
    pub(crate) acl_subnets: Index<NetworkAclId, SubnetId>,
    pub(crate) route_table_subnets: Index<RouteTableId, SubnetId>,
    pub(crate) group_interfaces: Index<SecurityGroupId, NetworkInterfaceId>,
    pub(crate) subnet_interfaces: Index<SubnetId, NetworkInterfaceId>,
    pub(crate) subnet_gateways: Index<SubnetId, VpnGatewayId>,
    pub(crate) held: Index<SubnetId, (Ipv4Addr, ReservedIpId)>,
    pub(crate) connections: Index<VpnGatewayId, VpnConnectionId>,
    pub(crate) ike_policy_connections: Index<IkePolicyId, VpnConnectionId>,
    pub(crate) ipsec_policy_connections: Index<IpsecPolicyId, VpnConnectionId>,
    pub(crate) names: RedBlackTreeMapSync<(NameScope, ResourceName), ResourceBits>,
    pub(crate) public: RedBlackTreeMapSync<Ipv4Addr, PublicHolder>,
    pub(crate) public_ipv6: RedBlackTreeMapSync<Ipv6Addr, VpnGatewayId>,
    pub(crate) api_keys: RedBlackTreeMapSync<[u8; 32], ApiKeyId>,
    pub(crate) devices: RedBlackTreeMapSync<String, NetworkInterfaceId>,
}

#[derive(Clone, Copy)]
enum Step {
    Insert,
    Remove,
}

impl Indices {
    pub(crate) fn new() -> Self {
        Self {
            users: Index::new(),
            vpcs: Index::new(),
            account_subnets: Index::new(),
            account_instances: Index::new(),
            account_gateways: Index::new(),
            ike_policies: Index::new(),
            ipsec_policies: Index::new(),
            acls: Index::new(),
            security_groups: Index::new(),
            route_tables: Index::new(),
            prefixes: Index::new(),
            subnets: Index::new(),
            instances: Index::new(),
            interfaces: Index::new(),
            gateways: Index::new(),
            acl_subnets: Index::new(),
            route_table_subnets: Index::new(),
            group_interfaces: Index::new(),
            subnet_interfaces: Index::new(),
            subnet_gateways: Index::new(),
            held: Index::new(),
            connections: Index::new(),
            ike_policy_connections: Index::new(),
            ipsec_policy_connections: Index::new(),
            names: RedBlackTreeMapSync::new_sync(),
            public: RedBlackTreeMapSync::new_sync(),
            public_ipv6: RedBlackTreeMapSync::new_sync(),
            api_keys: RedBlackTreeMapSync::new_sync(),
            devices: RedBlackTreeMapSync::new_sync(),
        }
    }

    pub(crate) fn insert(&mut self, record: &Record) {
        self.step(record, Step::Insert);
    }

    pub(crate) fn remove(&mut self, record: &Record) {
        self.step(record, Step::Remove);
    }

    fn step(&mut self, record: &Record, step: Step) {
        match record {
            Record::Account(account) => {
                self.name(step, NameScope::Accounts, &account.name, account.id.bits());
            }
            Record::User(user) => {
                edge(&mut self.users, step, user.account, user.id);
                self.name(step, NameScope::Users(user.account), &user.name, user.id.bits());
            }
            Record::ApiKey(key) => entry(&mut self.api_keys, step, key.hash, key.id),
            Record::Vpc(vpc) => {
                edge(&mut self.vpcs, step, vpc.meta.account, vpc.id);
                self.name(
                    step,
                    NameScope::Vpcs(vpc.meta.account),
                    &vpc.meta.name,
                    vpc.id.bits(),
                );
                if let Some(address) = vpc.source_nat {
                    entry(&mut self.public, step, address, PublicHolder::SourceNat(vpc.id));
                }
            }
            Record::NetworkAcl(acl) => {
                edge(&mut self.acls, step, acl.vpc, acl.id);
                self.name(step, NameScope::Acls(acl.vpc), &acl.meta.name, acl.id.bits());
            }
            Record::SecurityGroup(group) => {
                edge(&mut self.security_groups, step, group.vpc, group.id);
                self.name(
                    step,
                    NameScope::SecurityGroups(group.vpc),
                    &group.meta.name,
                    group.id.bits(),
                );
            }
            Record::RouteTable(table) => {
                edge(&mut self.route_tables, step, table.vpc, table.id);
                self.name(
                    step,
                    NameScope::RouteTables(table.vpc),
                    &table.meta.name,
                    table.id.bits(),
                );
            }
            Record::AddressPrefix(prefix) => {
                edge(&mut self.prefixes, step, prefix.vpc, prefix.id);
                self.name(
                    step,
                    NameScope::Prefixes(prefix.vpc),
                    &prefix.meta.name,
                    prefix.id.bits(),
                );
            }
            Record::Subnet(subnet) => {
                edge(&mut self.subnets, step, subnet.vpc, subnet.id);
                edge(&mut self.account_subnets, step, subnet.meta.account, subnet.id);
                edge(&mut self.acl_subnets, step, subnet.acl, subnet.id);
                edge(&mut self.route_table_subnets, step, subnet.route_table, subnet.id);
                self.name(
                    step,
                    NameScope::Subnets(subnet.vpc),
                    &subnet.meta.name,
                    subnet.id.bits(),
                );
            }
            Record::ReservedIp(held) => {
                edge(&mut self.held, step, held.subnet, (held.address, held.id));
            }
            Record::Instance(_) | Record::NetworkInterface(_) => self.step_instance(record, step),
            Record::VpnGateway(_)
            | Record::VpnConnection(_)
            | Record::IkePolicy(_)
            | Record::IpsecPolicy(_) => self.step_vpn(record, step),
            Record::CustomerGateway(_)
            | Record::PreSharedKey(_)
            | Record::TunnelSettings(_)
            | Record::InstanceObservation(_)
            | Record::GatewayObservation(_)
            | Record::ConnectionObservation(_) => {}
        }
    }

    fn step_instance(&mut self, record: &Record, step: Step) {
        if let Record::Instance(instance) = record {
            edge(&mut self.instances, step, instance.vpc, instance.id);
            edge(
                &mut self.account_instances,
                step,
                instance.meta.account,
                instance.id,
            );
            self.name(
                step,
                NameScope::Instances(instance.vpc),
                &instance.meta.name,
                instance.id.bits(),
            );
        } else if let Record::NetworkInterface(interface) = record {
            edge(&mut self.interfaces, step, interface.vpc, interface.id);
            edge(&mut self.subnet_interfaces, step, interface.subnet, interface.id);
            if let Some(device) = device_key(&interface.attachment) {
                entry(&mut self.devices, step, device, interface.id);
            }
            for group in &interface.security_groups {
                edge(&mut self.group_interfaces, step, *group, interface.id);
            }
        }
    }

    fn step_vpn(&mut self, record: &Record, step: Step) {
        if let Record::VpnGateway(gateway) = record {
            edge(&mut self.gateways, step, gateway.vpc, gateway.id);
            edge(&mut self.account_gateways, step, gateway.meta.account, gateway.id);
            edge(&mut self.subnet_gateways, step, gateway.subnet, gateway.id);
            entry(
                &mut self.public,
                step,
                gateway.public_address,
                PublicHolder::Gateway(gateway.id),
            );
            if let Some(address) = gateway.public_ipv6 {
                entry(&mut self.public_ipv6, step, address, gateway.id);
            }
            self.name(
                step,
                NameScope::Gateways(gateway.vpc),
                &gateway.meta.name,
                gateway.id.bits(),
            );
        } else if let Record::VpnConnection(connection) = record {
            edge(&mut self.connections, step, connection.gateway, connection.id);
            if let Some(policy) = connection.ike_policy {
                edge(&mut self.ike_policy_connections, step, policy, connection.id);
            }
            if let Some(policy) = connection.ipsec_policy {
                edge(&mut self.ipsec_policy_connections, step, policy, connection.id);
            }
            if connection.deleting.is_none() {
                let scope = NameScope::Connections(connection.gateway);
                self.name(step, scope, &connection.meta.name, connection.id.bits());
            }
        } else if let Record::IkePolicy(policy) = record {
            edge(&mut self.ike_policies, step, policy.meta.account, policy.id);
            let scope = NameScope::IkePolicies(policy.meta.account);
            self.name(step, scope, &policy.meta.name, policy.id.bits());
        } else if let Record::IpsecPolicy(policy) = record {
            edge(&mut self.ipsec_policies, step, policy.meta.account, policy.id);
            let scope = NameScope::IpsecPolicies(policy.meta.account);
            self.name(step, scope, &policy.meta.name, policy.id.bits());
        }
    }

    fn name(&mut self, step: Step, scope: NameScope, name: &ResourceName, bits: ResourceBits) {
        entry(&mut self.names, step, (scope, name.clone()), bits);
    }
}

/// Names the device that an attachment needs on a host, so that no two interfaces ask for the same: `/DEVICE` for a
/// TAP, `NAMESPACE/DEVICE` in a user's namespace, none for a namespace of ours.
pub(crate) fn device_key(attachment: &InterfaceAttachment) -> Option<String> {
    match attachment {
        InterfaceAttachment::Namespace => None,
        InterfaceAttachment::HandOver { namespace, interface } => Some(format!("{namespace}/{interface}")),
        InterfaceAttachment::Tap { interface } => Some(format!("/{interface}")),
    }
}

fn edge<P: Ord + Copy, C: Ord + Copy>(index: &mut Index<P, C>, step: Step, parent: P, child: C) {
    match step {
        Step::Insert => index.insert(parent, child),
        Step::Remove => index.remove(parent, child),
    }
}

// Removes only its own entry: records may change hands within one batch in any order.
fn entry<K: Ord, V: PartialEq>(map: &mut RedBlackTreeMapSync<K, V>, step: Step, key: K, value: V) {
    match step {
        Step::Insert => map.insert_mut(key, value),
        Step::Remove => {
            if map.get(&key) == Some(&value) {
                map.remove_mut(&key);
            }
        }
    }
}
