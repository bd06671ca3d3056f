//! VPN gateways, connections and policies.

use std::net::IpAddr;

use isthmus_crypto::certificate::Certificate;
use isthmus_ops::{
    CertificateHolder, ConnectionDownReason, ConnectionOptionsView, ConnectionState, Establish,
    GatewayMemberView, GatewayOptionsView, GatewayStatus, Identity, IkePolicyView, IpsecPolicyView,
    Lifecycle, OpError, PeerAddress, PeerLocation, Reference, ResourceKind, VpnConnectionView,
    VpnGatewayView,
};
use isthmus_types::{VpnConnectionId, VpnGatewayId};

use super::{
    common, gateway_of, ike_policy_reference, ipsec_policy_reference, reference, reserved_ip_reference,
    subnet_reference, vpc_reference,
};
use crate::record::{GatewayMember, IkePolicy, IpsecPolicy, VpnConnection, VpnGateway};
use crate::refusal::dangling;
use crate::snapshot::Snapshot;

pub(crate) fn gateway_view(snapshot: &Snapshot, gateway: &VpnGateway) -> Result<VpnGatewayView, OpError> {
    let [active, standby] = &gateway.members;
    Ok(VpnGatewayView {
        id: gateway.id,
        common: common(&gateway.meta),
        vpc: vpc_reference(snapshot, gateway.vpc)?,
        subnet: subnet_reference(snapshot, gateway.subnet)?,
        zone: gateway.zone.clone(),
        lifecycle: lifecycle(snapshot, gateway),
        public_address: gateway.public_address,
        members: [
            member_view(snapshot, active, true)?,
            member_view(snapshot, standby, false)?,
        ],
        connections: snapshot
            .connections_of(gateway.id)
            .filter(|connection| connection.deleting.is_none())
            .map(|connection| reference(connection.id, &connection.meta.name))
            .collect(),
    })
}

fn lifecycle(snapshot: &Snapshot, gateway: &VpnGateway) -> Lifecycle {
    if gateway.deleting.is_some() {
        return Lifecycle::Deleting;
    }
    match snapshot.gateway_status(gateway.id) {
        None => Lifecycle::Pending,
        Some(GatewayStatus::Available) => Lifecycle::Ready,
        Some(GatewayStatus::Failed { reason }) => Lifecycle::Failed {
            reason: reason.clone(),
        },
    }
}

fn member_view(
    snapshot: &Snapshot,
    member: &GatewayMember,
    active: bool,
) -> Result<GatewayMemberView, OpError> {
    Ok(GatewayMemberView {
        id: member.id,
        active,
        private_address: member.address,
        reserved_ip: reserved_ip_reference(snapshot, member.reserved_ip)?,
    })
}

/// What callers see as a connection's state: what was asked for, joined with what was observed.
pub(crate) fn connection_state(snapshot: &Snapshot, connection: &VpnConnection) -> ConnectionState {
    let may_be_anywhere = snapshot
        .tunnel_settings(connection.id)
        .is_some_and(|settings| settings.options.peer_location == PeerLocation::Anywhere);
    let down = |reason, detail: &str| ConnectionState::Down {
        reason,
        detail: detail.to_owned(),
    };
    if !connection.admin_state_up {
        return down(ConnectionDownReason::AdminDown, "the connection is switched off");
    }
    let observed = snapshot.connection_status(connection.id);
    if observed.is_some_and(|observed| observed.reset_count != connection.reset_count) {
        // What was observed is of SAs that are to go.
        return down(
            ConnectionDownReason::Negotiating,
            "the connection was reset a moment ago",
        );
    }
    match observed.map(|status| &status.state) {
        // Also what was observed before it was switched on again.
        None
        | Some(ConnectionState::Down {
            reason: ConnectionDownReason::AdminDown,
            ..
        }) => {
            if may_be_anywhere || connection.establish == Establish::PeerOnly {
                down(ConnectionDownReason::AwaitingPeer, "the peer has not begun yet")
            } else {
                down(
                    ConnectionDownReason::Negotiating,
                    "the first negotiation has not ended yet",
                )
            }
        }
        Some(state) => state.clone(),
    }
}

pub(crate) fn connection_view(
    snapshot: &Snapshot,
    connection: &VpnConnection,
) -> Result<VpnConnectionView, OpError> {
    let gateway = gateway_of(snapshot, connection.gateway)?;
    let peer = snapshot
        .peer_of(connection)
        .ok_or_else(|| dangling(ResourceKind::CustomerGateway, connection.customer_gateway))?
        .address
        .clone();
    let psk = snapshot
        .pre_shared_key(connection.id)
        .ok_or_else(|| dangling(ResourceKind::VpnConnection, connection.id))?
        .clone();
    let state = connection_state(snapshot, connection);
    let observed = snapshot.connection_status(connection.id);
    let suites = observed.filter(|_| matches!(state, ConnectionState::Up));
    Ok(VpnConnectionView {
        id: connection.id,
        common: common(&connection.meta),
        gateway: gateway.id,
        gateway_address: gateway.public_address,
        psk,
        local_cidrs: connection.local_cidrs.clone(),
        peer_cidrs: connection.peer_cidrs.clone(),
        admin_state_up: connection.admin_state_up,
        dead_peer_detection: connection.dead_peer_detection,
        ike_policy: connection
            .ike_policy
            .map(|id| ike_policy_reference(snapshot, id))
            .transpose()?,
        ike_version: connection
            .ike_policy
            .and_then(|id| snapshot.ike_policy(id))
            .map(|policy| policy.version),
        ipsec_policy: connection
            .ipsec_policy
            .map(|id| ipsec_policy_reference(snapshot, id))
            .transpose()?,
        establish: connection.establish,
        local_identity: connection.local_identity(gateway.address_towards(&peer)),
        peer_identity: connection.peer_identity(&peer),
        peer,
        state,
        state_since: observed.map_or(connection.meta.created_at, |status| status.since),
        ike_suite: suites.map_or_else(String::new, |status| status.ike_suite.clone()),
        esp_suite: suites.map_or_else(String::new, |status| status.esp_suite.clone()),
    })
}

impl VpnConnection {
    /// The identity that we present: the chosen one, else the gateway's address.
    pub fn local_identity(&self, gateway_address: IpAddr) -> Identity {
        self.local_identity
            .clone()
            .unwrap_or(Identity::Address(gateway_address))
    }

    /// The identity that the peer must present: the chosen one, else its address or name.
    pub fn peer_identity(&self, peer: &PeerAddress) -> Identity {
        self.peer_identity.clone().unwrap_or_else(|| match peer {
            PeerAddress::Address(address) => Identity::Address(*address),
            PeerAddress::Fqdn(name) => Identity::Fqdn(name.clone()),
        })
    }
}

fn users<'a>(
    connections: impl Iterator<Item = &'a VpnConnection>,
) -> Vec<(VpnGatewayId, Reference<VpnConnectionId>)> {
    connections
        .map(|connection| {
            (
                connection.gateway,
                reference(connection.id, &connection.meta.name),
            )
        })
        .collect()
}

pub(crate) fn ike_policy_view(snapshot: &Snapshot, policy: &IkePolicy) -> IkePolicyView {
    IkePolicyView {
        id: policy.id,
        common: common(&policy.meta),
        version: policy.version,
        encryption: policy.encryption.clone(),
        integrity: policy.integrity.clone(),
        dh: policy.dh.clone(),
        key_lifetime: policy.key_lifetime,
        connections: users(snapshot.connections_with_ike_policy(policy.id)),
    }
}

pub(crate) fn ipsec_policy_view(snapshot: &Snapshot, policy: &IpsecPolicy) -> IpsecPolicyView {
    IpsecPolicyView {
        id: policy.id,
        common: common(&policy.meta),
        encryption: policy.encryption.clone(),
        integrity: policy.integrity.clone(),
        pfs: policy.pfs.clone(),
        key_lifetime: policy.key_lifetime,
        connections: users(snapshot.connections_with_ipsec_policy(policy.id)),
    }
}

/// The options of a connection; the defaults if nothing was set.
pub(crate) fn options_view(snapshot: &Snapshot, connection: VpnConnectionId) -> ConnectionOptionsView {
    let settings = snapshot.tunnel_settings(connection);
    let options = settings
        .map(|settings| settings.options.clone())
        .unwrap_or_default();
    let certificate = options.tunnel.certificate.as_ref();
    let holder = certificate
        .and_then(|certificate| Certificate::first_of_pem(&certificate.chain))
        .map(|leaf| CertificateHolder {
            subject: leaf.subject().to_string(),
            names: leaf.describe_names(),
            expires_at: leaf.expires_at(),
        });
    ConnectionOptionsView {
        version: settings.map_or(1, |settings| settings.version),
        holder,
        options,
    }
}

/// The options of a gateway.
pub(crate) const fn gateway_options_view(gateway: &VpnGateway) -> GatewayOptionsView {
    GatewayOptionsView {
        key_log: gateway.key_log,
        ipv6: gateway.ipv6,
        ipv6_address: gateway.public_ipv6,
        version: gateway.meta.version,
    }
}
