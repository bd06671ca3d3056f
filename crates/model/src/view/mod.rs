//! Records rendered for a caller: spec and status joined, references with their names.

mod instance;
mod network;
mod vpn;

use isthmus_ops::{Common, OpError, Reference, ResourceKind};
use isthmus_types::{
    IkePolicyId, IpsecPolicyId, NetworkAclId, ReservedIpId, ResourceName, RouteTableId, SecurityGroupId,
    SubnetId, VpcId,
};

use crate::record::{Meta, VpnGateway};
use crate::refusal::dangling;
use crate::snapshot::Snapshot;

pub(crate) use instance::{instance_state, instance_view};
pub(crate) use network::{
    acl_view, prefix_view, region_view, reserved_ip_views, route_table_view, security_group_view,
    subnet_view, vpc_view, zone_view,
};
pub(crate) use vpn::{
    connection_state, connection_view, gateway_options_view, gateway_view, ike_policy_view,
    ipsec_policy_view, options_view,
};

fn common(meta: &Meta) -> Common {
    Common {
        account: meta.account,
        name: meta.name.clone(),
        created_at: meta.created_at,
        resource_group: meta.resource_group.clone(),
        version: meta.version,
    }
}

fn reference<Id>(id: Id, name: &ResourceName) -> Reference<Id> {
    Reference {
        id,
        name: name.clone(),
    }
}

macro_rules! references {
    ($($function:ident($id:ident) via $look_up:ident, $($name:ident).+, $kind:ident;)+) => {$(
        fn $function(snapshot: &Snapshot, id: $id) -> Result<Reference<$id>, OpError> {
            snapshot
                .$look_up(id)
                .map(|record| reference(id, &record.$($name).+))
                .ok_or_else(|| dangling(ResourceKind::$kind, id))
        }
    )+};
}

references! {
    vpc_reference(VpcId) via vpc, meta.name, Vpc;
    subnet_reference(SubnetId) via subnet, meta.name, Subnet;
    acl_reference(NetworkAclId) via network_acl, meta.name, NetworkAcl;
    group_reference(SecurityGroupId) via security_group, meta.name, SecurityGroup;
    route_table_reference(RouteTableId) via route_table, meta.name, RouteTable;
    reserved_ip_reference(ReservedIpId) via reserved_ip, name, ReservedIp;
    ike_policy_reference(IkePolicyId) via ike_policy, meta.name, IkePolicy;
    ipsec_policy_reference(IpsecPolicyId) via ipsec_policy, meta.name, IpsecPolicy;
}

fn gateway_of(snapshot: &Snapshot, id: isthmus_types::VpnGatewayId) -> Result<&VpnGateway, OpError> {
    snapshot
        .vpn_gateway(id)
        .ok_or_else(|| dangling(ResourceKind::VpnGateway, id))
}
