//! Look-ups with a caller's eyes: what belongs to another account does not exist.

use isthmus_ops::{OpError, ResourceKind};
use isthmus_types::{
    AccountId, AddressPrefixId, IkePolicyId, InstanceId, IpsecPolicyId, NetworkAclId, RouteTableId,
    SecurityGroupId, SubnetId, VpcId, VpnConnectionId, VpnGatewayId, ZoneName,
};

use crate::record::{
    AddressPrefix, IkePolicy, Instance, IpsecPolicy, Meta, NetworkAcl, RouteTable, SecurityGroup, Subnet,
    Vpc, VpnConnection, VpnGateway,
};
use crate::snapshot::Snapshot;

/// A snapshot seen by one account.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) account: AccountId,
}

macro_rules! owned {
    ($($name:ident($id:ident) -> $record:ident: $kind:ident;)+) => {
        impl<'a> Access<'a> {$(
            pub(crate) fn $name(self, id: $id) -> Result<&'a $record, OpError> {
                self.own(self.snapshot.$name(id), |record| &record.meta)
                    .ok_or_else(|| OpError::not_found(ResourceKind::$kind, id))
            }
        )+}
    };
}

owned! {
    vpc(VpcId) -> Vpc: Vpc;
    network_acl(NetworkAclId) -> NetworkAcl: NetworkAcl;
    security_group(SecurityGroupId) -> SecurityGroup: SecurityGroup;
    subnet(SubnetId) -> Subnet: Subnet;
    instance(InstanceId) -> Instance: Instance;
    vpn_gateway(VpnGatewayId) -> VpnGateway: VpnGateway;
    ike_policy(IkePolicyId) -> IkePolicy: IkePolicy;
    ipsec_policy(IpsecPolicyId) -> IpsecPolicy: IpsecPolicy;
}

impl<'a> Access<'a> {
    fn own<T>(self, record: Option<&'a T>, meta: impl Fn(&T) -> &Meta) -> Option<&'a T> {
        record.filter(|record| meta(record).account == self.account)
    }

    pub(crate) fn route_table(self, vpc: VpcId, id: RouteTableId) -> Result<&'a RouteTable, OpError> {
        self.vpc(vpc)?;
        self.snapshot
            .route_table(id)
            .filter(|table| table.vpc == vpc)
            .ok_or_else(|| OpError::not_found(ResourceKind::RouteTable, id))
    }

    pub(crate) fn address_prefix(
        self,
        vpc: VpcId,
        id: AddressPrefixId,
    ) -> Result<&'a AddressPrefix, OpError> {
        self.vpc(vpc)?;
        self.snapshot
            .address_prefix(id)
            .filter(|prefix| prefix.vpc == vpc)
            .ok_or_else(|| OpError::not_found(ResourceKind::AddressPrefix, id))
    }

    /// A connection of this gateway; one that is being deleted is gone for callers.
    pub(crate) fn vpn_connection(
        self,
        gateway: VpnGatewayId,
        id: VpnConnectionId,
    ) -> Result<&'a VpnConnection, OpError> {
        self.vpn_gateway(gateway)?;
        self.snapshot
            .vpn_connection(id)
            .filter(|connection| connection.gateway == gateway && connection.deleting.is_none())
            .ok_or_else(|| OpError::not_found(ResourceKind::VpnConnection, id))
    }

    pub(crate) fn zone(self, zone: &ZoneName) -> Result<(), OpError> {
        if self.snapshot.settings().has_zone(zone) {
            Ok(())
        } else {
            Err(OpError::not_found(ResourceKind::Zone, zone))
        }
    }
}
