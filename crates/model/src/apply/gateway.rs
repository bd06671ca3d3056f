//! VPN gateways.

use isthmus_ops::{CreateVpnGateway, OpError, OpErrorCode, Outcome, ResourceKind};
use isthmus_types::{ReservedIpId, ResourceName, VpnConnectionId, VpnGatewayId};

use super::instance::no_addresses;
use super::{Draft, within};
use crate::address::{ipv4, lowest_free};
use crate::record::{GatewayMember, ReservedFor, ReservedIp, VpnGateway};
use crate::refusal::{invalid_field, over_quota, referenced};
use crate::snapshot::NameScope;
use crate::view::gateway_view;

const KIND: ResourceKind = ResourceKind::VpnGateway;
/// Members of a gateway: active and standby.
const MEMBERS: u8 = 2;

impl Draft<'_> {
    pub(super) fn create_gateway(&mut self, new: &CreateVpnGateway) -> Result<Outcome, OpError> {
        let subnet = referenced(self.access().subnet(new.subnet), "subnet")?.clone();
        if new.reserved_addresses < MEMBERS {
            let why = "each of the two members needs one";
            return Err(invalid_field(
                KIND,
                "reserved_addresses",
                new.reserved_addresses,
                why,
            ));
        }
        let quotas = self.state.settings().quotas;
        let count = self.state.gateway_count_of(self.account) + 1;
        within(quotas.vpn_gateways, count, |limit| {
            over_quota(KIND, "VPN gateways", limit)
        })?;
        let in_zone = self
            .state
            .gateways_of_account(self.account)
            .filter(|gateway| gateway.zone == subnet.zone)
            .count();
        within(quotas.vpn_gateways_per_zone, in_zone + 1, |limit| {
            over_quota(KIND, "VPN gateways in a zone", limit)
        })?;
        let name = self.name(NameScope::Gateways(subnet.vpc), new.name.as_ref(), KIND)?;
        let needed = usize::from(new.reserved_addresses);
        let net = ipv4(subnet.cidr, ResourceKind::Subnet, "cidr")?;
        let addresses = lowest_free(net, self.state.held_addresses(subnet.id), needed)
            .ok_or_else(|| no_addresses(&subnet, needed))?;
        let public_address = self.public_address()?;

        let id: VpnGatewayId = self.fresh();
        let mut reserved_ips: Vec<ReservedIpId> = Vec::with_capacity(needed);
        for address in &addresses {
            let reservation = ReservedIp {
                id: self.fresh(),
                subnet: subnet.id,
                address: *address,
                name: self.any_name(),
                created_at: self.now,
                holder: ReservedFor::VpnGateway(id),
            };
            reserved_ips.push(reservation.id);
            self.put(reservation);
        }
        let mut member = |position: usize| GatewayMember {
            id: self.fresh(),
            address: addresses[position],
            reserved_ip: reserved_ips[position],
        };
        let members = [member(0), member(1)];
        let gateway = VpnGateway {
            id,
            meta: self.meta(name, new.resource_group.as_ref()),
            vpc: subnet.vpc,
            subnet: subnet.id,
            zone: subnet.zone,
            public_address,
            public_ipv6: None,
            ipv6: false,
            members,
            reserved_ips,
            key_log: false,
            deleting: None,
        };
        self.put(gateway.clone());
        gateway_view(&self.state, &gateway).map(Outcome::VpnGateway)
    }

    pub(super) fn update_gateway(
        &mut self,
        id: VpnGatewayId,
        name: Option<&ResourceName>,
    ) -> Result<Outcome, OpError> {
        let mut gateway = self.access().vpn_gateway(id)?.clone();
        not_deleting(&gateway)?;
        let scope = NameScope::Gateways(gateway.vpc);
        if self.rename(&mut gateway.meta, scope, name, KIND)? {
            gateway.meta.version += 1;
            self.put(gateway.clone());
        }
        gateway_view(&self.state, &gateway).map(Outcome::VpnGateway)
    }

    pub(super) fn delete_gateway(&mut self, id: VpnGatewayId) -> Result<Outcome, OpError> {
        let mut gateway = self.access().vpn_gateway(id)?.clone();
        if gateway.deleting.is_some() {
            return Ok(Outcome::Done);
        }
        if self.state.gateway_status(id).is_none() {
            return Err(OpError::new(
                OpErrorCode::InvalidState,
                KIND,
                format!("VPN gateway {id} is pending"),
            ));
        }
        let connections: Vec<VpnConnectionId> = self
            .state
            .connections_of(id)
            .map(|connection| connection.id)
            .collect();
        for connection in connections {
            self.mark_connection(connection);
        }
        gateway.deleting = Some(self.now);
        self.put(gateway);
        Ok(Outcome::Done)
    }
}

/// Refuses a gateway that is being deleted.
pub(super) fn not_deleting(gateway: &VpnGateway) -> Result<(), OpError> {
    if gateway.deleting.is_none() {
        return Ok(());
    }
    Err(OpError::new(
        OpErrorCode::InvalidState,
        KIND,
        format!("VPN gateway {} is being deleted", gateway.id),
    ))
}
