//! VPN connections.

use isthmus_ops::{
    Addition, CreateVpnConnection, DeadPeerDetection, DeadPeerDetectionPatch, IfMatch, OpError, OpErrorCode,
    Outcome, PeerAddress, ResourceKind, Side, UpdateVpnConnection,
};
use isthmus_types::{Cidr, CustomerGatewayId, VpnConnectionId, VpnGatewayId};

use super::connection_rules::{
    Place, check_dead_peer_detection, check_identity, check_lists, check_peer, check_psk, cidrs,
};
use super::gateway::not_deleting;
use super::{Draft, precondition, within};
use crate::record::{CustomerGateway, PreSharedKey, RecordKey, VpnConnection};
use crate::refusal::{cidr_not_found, cidrs_field, dangling, invalid_field, over_quota};
use crate::snapshot::NameScope;
use crate::view::connection_view;

const KIND: ResourceKind = ResourceKind::VpnConnection;

impl Draft<'_> {
    pub(super) fn create_connection(&mut self, new: &CreateVpnConnection) -> Result<Outcome, OpError> {
        let gateway = self.access().vpn_gateway(new.gateway)?.clone();
        check_psk(&new.psk)?;
        check_peer(&new.peer, &gateway)?;
        check_lists(&new.local_cidrs, &new.peer_cidrs)?;
        check_dead_peer_detection(&new.dead_peer_detection)?;
        check_identity(new.local_identity.as_ref(), "local_identity")?;
        check_identity(new.peer_identity.as_ref(), "peer_identity")?;
        self.check_policies(new.ike_policy, new.ipsec_policy)?;
        not_deleting(&gateway)?;
        for (side, list, other) in [
            (Side::Local, &new.local_cidrs, &new.peer_cidrs),
            (Side::Peer, &new.peer_cidrs, &new.local_cidrs),
        ] {
            for (position, cidr) in list.iter().enumerate() {
                let place = Place {
                    vpc: gateway.vpc,
                    connection: None,
                    side,
                    same: &list[..position],
                    other,
                    field: format!("{}[{position}]", cidrs_field(side)),
                };
                self.check_overlaps(*cidr, &place)?;
            }
        }
        let live = self
            .state
            .connections_of(gateway.id)
            .filter(|connection| connection.deleting.is_none())
            .count();
        within(
            self.state.settings().quotas.vpn_connections_per_gateway,
            live + 1,
            |limit| over_quota(KIND, "connections of a VPN gateway", limit),
        )?;
        self.check_cidr_quota(gateway.id, None, Side::Local, new.local_cidrs.len())?;
        self.check_cidr_quota(gateway.id, None, Side::Peer, new.peer_cidrs.len())?;
        let name = self.name(NameScope::Connections(gateway.id), new.name.as_ref(), KIND)?;

        let connection = VpnConnection {
            id: self.fresh(),
            meta: self.meta(name, gateway.meta.resource_group.as_ref()),
            gateway: gateway.id,
            vpc: gateway.vpc,
            customer_gateway: self.fresh(),
            local_cidrs: new.local_cidrs.clone(),
            peer_cidrs: new.peer_cidrs.clone(),
            admin_state_up: new.admin_state_up,
            dead_peer_detection: new.dead_peer_detection,
            ike_policy: new.ike_policy,
            ipsec_policy: new.ipsec_policy,
            establish: new.establish,
            local_identity: new.local_identity.clone(),
            peer_identity: new.peer_identity.clone(),
            reset_count: 0,
            deleting: None,
        };
        self.put_peer(connection.customer_gateway, connection.id, &new.peer);
        self.put(PreSharedKey {
            connection: connection.id,
            key: new.psk.clone(),
        });
        self.put(connection.clone());
        connection_view(&self.state, &connection).map(Outcome::VpnConnection)
    }

    fn put_peer(&mut self, id: CustomerGatewayId, connection: VpnConnectionId, peer: &PeerAddress) {
        self.put(CustomerGateway {
            id,
            connection,
            address: peer.clone(),
        });
    }

    pub(super) fn update_connection(&mut self, update: &UpdateVpnConnection) -> Result<Outcome, OpError> {
        let before = self
            .access()
            .vpn_connection(update.gateway, update.connection)?
            .clone();
        precondition(&before.meta, &update.if_match, KIND)?;
        let mut after = before.clone();
        let scope = NameScope::Connections(update.gateway);
        self.rename(&mut after.meta, scope, update.name.as_ref(), KIND)?;
        if let Some(patch) = update.dead_peer_detection {
            after.dead_peer_detection = merged(after.dead_peer_detection, patch);
            check_dead_peer_detection(&after.dead_peer_detection)?;
        }
        check_identity(update.local_identity.as_ref(), "local_identity")?;
        check_identity(update.peer_identity.as_ref(), "peer_identity")?;
        after.local_identity = update.local_identity.clone().or(after.local_identity);
        after.peer_identity = update.peer_identity.clone().or(after.peer_identity);
        after.admin_state_up = update.admin_state_up.unwrap_or(after.admin_state_up);
        after.establish = update.establish.unwrap_or(after.establish);
        after.ike_policy = update.ike_policy.unwrap_or(after.ike_policy);
        after.ipsec_policy = update.ipsec_policy.unwrap_or(after.ipsec_policy);
        self.check_policies(after.ike_policy, after.ipsec_policy)?;

        let peer_changed = self.update_peer(&before, update.peer.as_ref())?;
        if let Some(settings) = self.state.tunnel_settings(after.id) {
            let field = match update.peer_identity {
                Some(_) => "peer_identity",
                None => "peer",
            };
            self.check_peer_location(&after, &settings.options, field)?;
        }
        let key_changed = match &update.psk {
            Some(psk) => {
                check_psk(psk)?;
                self.state.pre_shared_key(before.id) != Some(psk)
            }
            None => false,
        };
        if after != before || peer_changed || key_changed {
            after.meta.version += 1;
            if let Some(key) = update.psk.clone().filter(|_| key_changed) {
                self.put(PreSharedKey {
                    connection: after.id,
                    key,
                });
            }
            self.put(after.clone());
        }
        connection_view(&self.state, &after).map(Outcome::VpnConnection)
    }

    // Whether the peer changed. An address stays an address and a name stays a name.
    fn update_peer(
        &mut self,
        connection: &VpnConnection,
        peer: Option<&PeerAddress>,
    ) -> Result<bool, OpError> {
        let Some(peer) = peer else { return Ok(false) };
        let old = self
            .state
            .peer_of(connection)
            .ok_or_else(|| dangling(ResourceKind::CustomerGateway, connection.customer_gateway))?
            .address
            .clone();
        check_peer(peer, self.access().vpn_gateway(connection.gateway)?)?;
        match (&old, peer) {
            (PeerAddress::Address(_), PeerAddress::Fqdn(text)) => {
                let why = "the peer was given as an address and stays one";
                return Err(invalid_field(KIND, "peer", text, why));
            }
            (PeerAddress::Fqdn(_), PeerAddress::Address(address)) => {
                let why = "the peer was given as a domain name and stays one";
                return Err(invalid_field(KIND, "peer", address, why));
            }
            (PeerAddress::Address(_), PeerAddress::Address(_))
            | (PeerAddress::Fqdn(_), PeerAddress::Fqdn(_)) => {}
        }
        if old == *peer {
            return Ok(false);
        }
        self.put_peer(connection.customer_gateway, connection.id, peer);
        Ok(true)
    }

    /// Asks for a reset. The version stays: nothing that a caller can read and write back is another.
    pub(super) fn reset_connection(
        &mut self,
        gateway: VpnGatewayId,
        id: VpnConnectionId,
        if_match: &IfMatch,
    ) -> Result<Outcome, OpError> {
        let mut connection = self.access().vpn_connection(gateway, id)?.clone();
        precondition(&connection.meta, if_match, KIND)?;
        if !connection.admin_state_up {
            return Err(OpError::new(
                OpErrorCode::InvalidState,
                KIND,
                "the VPN connection is switched off and has nothing to reset: switch it on, and it is negotiated anew",
            ));
        }
        connection.reset_count = connection.reset_count.wrapping_add(1);
        self.put(connection.clone());
        connection_view(&self.state, &connection).map(Outcome::VpnConnection)
    }

    pub(super) fn delete_connection(
        &mut self,
        gateway: VpnGatewayId,
        id: VpnConnectionId,
        if_match: &IfMatch,
    ) -> Result<Outcome, OpError> {
        let connection = self.access().vpn_connection(gateway, id)?;
        precondition(&connection.meta, if_match, KIND)?;
        self.mark_connection(id);
        Ok(Outcome::Done)
    }

    /// Marks a connection for deletion: it lets go of its key, its policies and its observed state at once, and stays
    /// until no host has it.
    pub(super) fn mark_connection(&mut self, id: VpnConnectionId) {
        let Some(mut connection) = self
            .state
            .vpn_connection(id)
            .filter(|connection| connection.deleting.is_none())
            .cloned()
        else {
            return;
        };
        connection.deleting = Some(self.now);
        connection.ike_policy = None;
        connection.ipsec_policy = None;
        self.put(connection);
        self.delete(RecordKey::PreSharedKey(id));
        self.delete(RecordKey::TunnelSettings(id));
        self.delete(RecordKey::ConnectionObservation(id));
    }

    pub(super) fn add_cidr(
        &mut self,
        gateway: VpnGatewayId,
        id: VpnConnectionId,
        side: Side,
        cidr: Cidr,
    ) -> Result<Outcome, OpError> {
        let mut connection = self.access().vpn_connection(gateway, id)?.clone();
        let field = cidrs_field(side);
        crate::address::ipv4(cidr, KIND, field)?;
        if cidrs(&connection, side).contains(&cidr) {
            return Ok(Outcome::CidrAdded(Addition::AlreadyThere));
        }
        let (same, other) = match side {
            Side::Local => (&connection.local_cidrs, &connection.peer_cidrs),
            Side::Peer => (&connection.peer_cidrs, &connection.local_cidrs),
        };
        let place = Place {
            vpc: connection.vpc,
            connection: Some(id),
            side,
            same,
            other,
            field: field.to_owned(),
        };
        self.check_overlaps(cidr, &place)?;
        self.check_cidr_quota(gateway, Some(id), side, same.len() + 1)?;
        match side {
            Side::Local => connection.local_cidrs.push(cidr),
            Side::Peer => connection.peer_cidrs.push(cidr),
        }
        connection.meta.version += 1;
        self.put(connection);
        Ok(Outcome::CidrAdded(Addition::Added))
    }

    pub(super) fn remove_cidr(
        &mut self,
        gateway: VpnGatewayId,
        id: VpnConnectionId,
        side: Side,
        cidr: Cidr,
    ) -> Result<Outcome, OpError> {
        let mut connection = self.access().vpn_connection(gateway, id)?.clone();
        let list = cidrs(&connection, side);
        let field = cidrs_field(side);
        if !list.contains(&cidr) {
            return Err(cidr_not_found(side, cidr));
        }
        if list.len() == 1 {
            return Err(OpError::new(
                OpErrorCode::LastCidr,
                KIND,
                format!("{cidr} is the last range on its side of the connection"),
            )
            .with_field(field)
            .with_value(cidr.to_string()));
        }
        match side {
            Side::Local => connection.local_cidrs.retain(|other| *other != cidr),
            Side::Peer => connection.peer_cidrs.retain(|other| *other != cidr),
        }
        connection.meta.version += 1;
        self.put(connection);
        Ok(Outcome::Done)
    }
}

fn merged(old: DeadPeerDetection, patch: DeadPeerDetectionPatch) -> DeadPeerDetection {
    DeadPeerDetection {
        action: patch.action.unwrap_or(old.action),
        interval: patch.interval.unwrap_or(old.interval),
        timeout: patch.timeout.unwrap_or(old.timeout),
    }
}
