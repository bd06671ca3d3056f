//! The records that make up the model: what is stored, one row each.

mod identity;
mod instance;
mod network;
mod observation;
mod vpn;

use std::collections::{BTreeMap, BTreeSet};

use isthmus_types::{
    AccountId, AddressPrefixId, ApiKeyId, CustomerGatewayId, IkePolicyId, InstanceId, IpsecPolicyId,
    NetworkAclId, NetworkInterfaceId, ReservedIpId, ResourceBits, ResourceName, RouteTableId,
    SecurityGroupId, SubnetId, Timestamp, UserId, VpcId, VpnConnectionId, VpnGatewayId,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::snapshot::Snapshot;

pub use identity::{Account, ApiKey, Role, User};
pub use instance::{Instance, InstancePower, NetworkInterface};
pub use network::{
    AclAction, AclRule, AddressPrefix, Direction, GroupRemote, GroupRule, NetworkAcl, ReservedFor,
    ReservedIp, RouteTable, SecurityGroup, Subnet, Vpc,
};
pub use observation::{ConnectionObservation, GatewayObservation, InstanceObservation};
pub use vpn::{
    CustomerGateway, GatewayMember, IkePolicy, IpsecPolicy, PreSharedKey, TunnelSettings, VpnConnection,
    VpnGateway,
};

/// What every resource with a name and an owner has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The owner.
    pub account: AccountId,
    /// Its name.
    pub name: ResourceName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Label of the IBM dialect, none for the default group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
    /// 1 at first; rises with each change of its spec, not with its status.
    pub version: u64,
}

macro_rules! records {
    ($($(#[$doc:meta])* $variant:ident($id:ident) {
        key: $key:ident, word: $word:literal, table: $table:ident, secret: $secret:literal $(,)?
    })+) => {
        /// The kind of a record. The words are stable: they stand in the database.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RecordKind { $($(#[$doc])* $variant),+ }

        impl RecordKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable word for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The kind that `word` names.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// Whether records of this kind hold a secret and must be sealed before they are stored.
            pub const fn is_secret(self) -> bool {
                match self { $(Self::$variant => $secret),+ }
            }
        }

        /// Which record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RecordKey { $($(#[$doc])* $variant($id)),+ }

        impl RecordKey {
            /// The key of the record of this kind whose id has these bits.
            pub const fn new(kind: RecordKind, bits: ResourceBits) -> Self {
                match kind { $(RecordKind::$variant => Self::$variant($id(bits))),+ }
            }

            /// The kind.
            pub const fn kind(self) -> RecordKind {
                match self { $(Self::$variant(_) => RecordKind::$variant),+ }
            }

            /// The bits of the id.
            pub const fn bits(self) -> ResourceBits {
                match self { $(Self::$variant(id) => id.bits()),+ }
            }
        }

        /// One stored record.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Record { $($(#[$doc])* $variant($variant)),+ }

        impl Record {
            /// Its key.
            pub const fn key(&self) -> RecordKey {
                match self { $(Self::$variant(record) => RecordKey::$variant(record.$key)),+ }
            }

            /// Serialises the content without its kind. Secrets are written in clear: seal the bytes of secret kinds.
            ///
            /// # Errors
            /// Those of `serializer`.
            pub fn serialize_body<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(record) => record.serialize(serializer)),+ }
            }

            /// Reads what [`Record::serialize_body`] wrote for a record of this kind.
            ///
            /// # Errors
            /// Those of `deserializer`.
            pub fn deserialize_body<'de, D: Deserializer<'de>>(
                kind: RecordKind,
                deserializer: D,
            ) -> Result<Self, D::Error> {
                match kind {
                    $(RecordKind::$variant => $variant::deserialize(deserializer).map(Self::$variant)),+
                }
            }
        }

        $(impl From<$variant> for Record {
            fn from(record: $variant) -> Self {
                Self::$variant(record)
            }
        })+

        /// One persistent ordered map per kind.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct Tables { $(pub(crate) $table: rpds::RedBlackTreeMapSync<$id, $variant>),+ }

        impl Tables {
            pub(crate) fn new() -> Self {
                Self { $($table: rpds::RedBlackTreeMapSync::new_sync()),+ }
            }

            pub(crate) fn get(&self, key: RecordKey) -> Option<Record> {
                match key { $(RecordKey::$variant(id) => self.$table.get(&id).cloned().map(Record::$variant)),+ }
            }

            pub(crate) fn put(&mut self, record: Record) {
                match record { $(Record::$variant(record) => self.$table.insert_mut(record.$key, record)),+ }
            }

            pub(crate) fn delete(&mut self, key: RecordKey) {
                match key { $(RecordKey::$variant(id) => { self.$table.remove_mut(&id); })+ }
            }

            pub(crate) fn iter(&self) -> impl Iterator<Item = Record> + '_ {
                std::iter::empty()
                    $(.chain(self.$table.values().cloned().map(Record::$variant)))+
            }

            pub(crate) fn count(&self) -> usize {
                0 $(+ self.$table.size())+
            }
        }
    };
}

records! {
    /// An account.
    Account(AccountId) { key: id, word: "account", table: accounts, secret: false }
    /// A user of an account.
    User(UserId) { key: id, word: "user", table: users, secret: false }
    /// An API key, of which only the hash is known.
    ApiKey(ApiKeyId) { key: id, word: "api_key", table: api_keys, secret: false }
    /// A VPC.
    Vpc(VpcId) { key: id, word: "vpc", table: vpcs, secret: false }
    /// A network ACL.
    NetworkAcl(NetworkAclId) { key: id, word: "network_acl", table: network_acls, secret: false }
    /// A security group.
    SecurityGroup(SecurityGroupId) { key: id, word: "security_group", table: security_groups, secret: false }
    /// A route table.
    RouteTable(RouteTableId) { key: id, word: "route_table", table: route_tables, secret: false }
    /// An address prefix.
    AddressPrefix(AddressPrefixId) { key: id, word: "address_prefix", table: address_prefixes, secret: false }
    /// A subnet.
    Subnet(SubnetId) { key: id, word: "subnet", table: subnets, secret: false }
    /// A private address that is held.
    ReservedIp(ReservedIpId) { key: id, word: "reserved_ip", table: reserved_ips, secret: false }
    /// An instance.
    Instance(InstanceId) { key: id, word: "instance", table: instances, secret: false }
    /// A network interface.
    NetworkInterface(NetworkInterfaceId) {
        key: id, word: "network_interface", table: network_interfaces, secret: false
    }
    /// A VPN gateway.
    VpnGateway(VpnGatewayId) { key: id, word: "vpn_gateway", table: vpn_gateways, secret: false }
    /// A customer gateway.
    CustomerGateway(CustomerGatewayId) {
        key: id, word: "customer_gateway", table: customer_gateways, secret: false
    }
    /// A VPN connection.
    VpnConnection(VpnConnectionId) { key: id, word: "vpn_connection", table: vpn_connections, secret: false }
    /// The shared key of a VPN connection.
    PreSharedKey(VpnConnectionId) {
        key: connection, word: "pre_shared_key", table: pre_shared_keys, secret: true
    }
    /// The options of a VPN connection, a private key perhaps among them; none while all have their defaults.
    TunnelSettings(VpnConnectionId) {
        key: connection, word: "tunnel_settings", table: tunnel_settings, secret: true
    }
    /// An IKE policy.
    IkePolicy(IkePolicyId) { key: id, word: "ike_policy", table: ike_policies, secret: false }
    /// An IPsec policy.
    IpsecPolicy(IpsecPolicyId) { key: id, word: "ipsec_policy", table: ipsec_policies, secret: false }
    /// What a host reported of an instance.
    InstanceObservation(InstanceId) {
        key: instance, word: "instance_status", table: instance_observations, secret: false
    }
    /// What a host reported of a VPN gateway.
    GatewayObservation(VpnGatewayId) {
        key: gateway, word: "vpn_gateway_status", table: gateway_observations, secret: false
    }
    /// What a host reported of a VPN connection.
    ConnectionObservation(VpnConnectionId) {
        key: connection, word: "vpn_connection_status", table: connection_observations, secret: false
    }
}

impl RecordKey {
    /// Whether the record holds a secret.
    pub const fn is_secret(self) -> bool {
        self.kind().is_secret()
    }
}

/// The stable word and the id: `vpn_gateway/0123456789abcdef0`.
impl std::fmt::Display for RecordKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind().word(), self.bits())
    }
}

impl Record {
    /// Its kind.
    pub const fn kind(&self) -> RecordKind {
        self.key().kind()
    }

    /// The VPCs whose plans the record influences. `snapshot` is a state that holds the record.
    ///
    /// Status records and accounts influence none.
    pub fn vpc_scope(&self, snapshot: &Snapshot) -> Vec<VpcId> {
        let of_connection =
            |id: VpnConnectionId| snapshot.vpn_connection(id).map(|connection| connection.vpc);
        match self {
            Self::Account(_)
            | Self::User(_)
            | Self::ApiKey(_)
            | Self::InstanceObservation(_)
            | Self::GatewayObservation(_)
            | Self::ConnectionObservation(_) => Vec::new(),
            Self::Vpc(vpc) => vec![vpc.id],
            Self::NetworkAcl(acl) => vec![acl.vpc],
            Self::SecurityGroup(group) => vec![group.vpc],
            Self::RouteTable(table) => vec![table.vpc],
            Self::AddressPrefix(prefix) => vec![prefix.vpc],
            Self::Subnet(subnet) => vec![subnet.vpc],
            Self::ReservedIp(held) => snapshot
                .subnet(held.subnet)
                .map(|subnet| subnet.vpc)
                .into_iter()
                .collect(),
            Self::Instance(instance) => vec![instance.vpc],
            Self::NetworkInterface(interface) => vec![interface.vpc],
            Self::VpnGateway(gateway) => vec![gateway.vpc],
            Self::CustomerGateway(gateway) => of_connection(gateway.connection).into_iter().collect(),
            Self::VpnConnection(connection) => vec![connection.vpc],
            Self::PreSharedKey(key) => of_connection(key.connection).into_iter().collect(),
            Self::TunnelSettings(settings) => of_connection(settings.connection).into_iter().collect(),
            Self::IkePolicy(policy) => vpcs_of(
                snapshot
                    .connections_with_ike_policy(policy.id)
                    .map(|user| user.vpc),
            ),
            Self::IpsecPolicy(policy) => vpcs_of(
                snapshot
                    .connections_with_ipsec_policy(policy.id)
                    .map(|user| user.vpc),
            ),
        }
    }
}

fn vpcs_of(vpcs: impl Iterator<Item = VpcId>) -> Vec<VpcId> {
    vpcs.collect::<BTreeSet<_>>().into_iter().collect()
}

/// One step from a snapshot to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every change is a put, and changes live briefly"
)]
pub enum Change {
    /// The record no longer exists.
    Delete(RecordKey),
    /// The record now has this content.
    Put(Record),
}

impl Change {
    /// The record that changes.
    pub const fn key(&self) -> RecordKey {
        match self {
            Self::Delete(key) => *key,
            Self::Put(record) => record.key(),
        }
    }
}

/// All that one operation changes: at most one [`Change`] per record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<RecordKey, Change>);

impl Changes {
    /// Adds `change`, in place of an earlier one of the same record.
    pub fn push(&mut self, change: Change) {
        self.0.insert(change.key(), change);
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of records that change.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The changes, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = &Change> + '_ {
        self.0.values()
    }

    /// The VPCs whose plans change between `before` and `after`.
    pub fn vpc_scope(&self, before: &Snapshot, after: &Snapshot) -> BTreeSet<VpcId> {
        let mut vpcs = BTreeSet::new();
        for key in self.0.keys() {
            for snapshot in [before, after] {
                if let Some(record) = snapshot.record(*key) {
                    vpcs.extend(record.vpc_scope(snapshot));
                }
            }
        }
        vpcs
    }
}

impl FromIterator<Change> for Changes {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        Self(changes.into_iter().map(|change| (change.key(), change)).collect())
    }
}
