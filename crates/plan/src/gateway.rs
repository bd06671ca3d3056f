//! VPN gateways and their connections, with every choice made.

use isthmus_hostplan::{ConnectionPlan, DpdAction, EstablishMode, GatewayPlan, IkeIdentity, PeerEndpoint};
use isthmus_model::{Snapshot, VpnConnection, VpnGateway};
use isthmus_ops::{
    DeadPeerAction, EspEncapsulation, Establish, Identity, MlKem, PeerAddress, PeerLocation, PolicyGroup,
    TunnelIdentity,
};
use isthmus_types::{IkeVersion, VpcId};

use crate::network::staying_gateways;
use crate::{proposal, size};

/// Lifetimes of automatic negotiation, seconds: the same that policies have when they name none.
const AUTO_IKE_LIFETIME: u32 = 28_800;
const AUTO_ESP_LIFETIME: u32 = 3_600;

/// Why a connection that should be up is planned as down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is to use certificates, but its IKE policy is for IKEv1, which would use the shared key instead.
    CertificateNeedsIkeV2,
    /// Its IKE policy names only Diffie-Hellman groups that our engine lacks.
    IkeGroups(Vec<PolicyGroup>),
    /// Its IPsec policy asks for perfect forward secrecy only with groups that our engine lacks.
    PfsGroups(Vec<PolicyGroup>),
}

/// The obstacle in words, with the fix.
impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (policy, groups) = match self {
            Self::CertificateNeedsIkeV2 => {
                return f.write_str(
                    "the connection uses certificates, but its IKE policy is for IKEv1: choose a policy for IKEv2",
                );
            }
            Self::IkeGroups(groups) => ("IKE", groups),
            Self::PfsGroups(groups) => ("IPsec", groups),
        };
        write!(
            f,
            "the {policy} policy names only groups that are not supported ("
        )?;
        for (index, group) in groups.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", group.0)?;
        }
        f.write_str("): add one of 14 to 21 or 31")
    }
}

/// What keeps a connection from being negotiated at all, whatever the peer does.
pub fn obstacle(snapshot: &Snapshot, connection: &VpnConnection) -> Option<Obstacle> {
    let unknown =
        |groups: &[PolicyGroup]| !groups.is_empty() && groups.iter().all(|group| group.known().is_none());
    let ike = connection.ike_policy.and_then(|id| snapshot.ike_policy(id));
    let certified = snapshot
        .tunnel_settings(connection.id)
        .is_some_and(|settings| settings.options.tunnel.certificate.is_some());
    if certified && ike.is_some_and(|policy| policy.version == IkeVersion::V1) {
        return Some(Obstacle::CertificateNeedsIkeV2);
    }
    if let Some(policy) = ike.filter(|policy| unknown(&policy.dh)) {
        return Some(Obstacle::IkeGroups(policy.dh.clone()));
    }
    let ipsec = connection.ipsec_policy.and_then(|id| snapshot.ipsec_policy(id));
    ipsec
        .filter(|policy| unknown(&policy.pfs))
        .map(|policy| Obstacle::PfsGroups(policy.pfs.clone()))
}

/// Gateways of the VPC that are to stay, by id.
pub(crate) fn gateways(snapshot: &Snapshot, vpc: VpcId) -> Vec<GatewayPlan> {
    staying_gateways(snapshot, vpc)
        .map(|gateway| {
            let connections: Vec<_> = snapshot
                .connections_of(gateway.id)
                .filter(|connection| connection.deleting.is_none())
                .filter_map(|connection| plan_connection(snapshot, gateway, connection))
                .collect();
            GatewayPlan {
                gateway: gateway.id,
                name: gateway.meta.name.as_str().to_owned(),
                public_address: gateway.public_address,
                public_ipv6: gateway.ipv6_outside(),
                key_log: gateway.key_log,
                mtu: size::largest_inner_packet(
                    connections
                        .iter()
                        .map(|connection| (&connection.peer, connection.esp_proposals.as_slice())),
                ),
                connections,
            }
        })
        .collect()
}

/// None if the connection lacks its key or its peer: both go with it when it is deleted.
fn plan_connection(
    snapshot: &Snapshot,
    gateway: &VpnGateway,
    connection: &VpnConnection,
) -> Option<ConnectionPlan> {
    let psk = snapshot.pre_shared_key(connection.id)?.clone();
    let peer = &snapshot.peer_of(connection)?.address;
    let weak = snapshot.settings().weak_auto_negotiation;
    let ike = connection.ike_policy.and_then(|id| snapshot.ike_policy(id));
    let ipsec = connection.ipsec_policy.and_then(|id| snapshot.ipsec_policy(id));
    let negotiable = obstacle(snapshot, connection).is_none();
    let detection = connection.dead_peer_detection;
    let options = snapshot
        .tunnel_settings(connection.id)
        .map(|settings| settings.options.clone())
        .unwrap_or_default();
    let version = ike.map_or(IkeVersion::V2, |policy| policy.version);
    // IKEv1 has none.
    let ml_kem = match version {
        IkeVersion::V1 => MlKem::Off,
        IkeVersion::V2 => options.ml_kem,
    };
    Some(ConnectionPlan {
        connection: connection.id,
        name: connection.meta.name.as_str().to_owned(),
        admin_up: connection.admin_state_up && negotiable,
        reset_count: connection.reset_count,
        version,
        peer: match (options.peer_location, peer) {
            (PeerLocation::Anywhere, _) => PeerEndpoint::Anywhere,
            (PeerLocation::Fixed, PeerAddress::Address(address)) => {
                PeerEndpoint::Address { address: *address }
            }
            (PeerLocation::Fixed, PeerAddress::Fqdn(fqdn)) => PeerEndpoint::Name { fqdn: fqdn.clone() },
        },
        local_identity: match (&options.local_id, &connection.local_identity) {
            (Some(identity), _) => own_identity(identity),
            (None, Some(identity)) => wire_identity(identity),
            (None, None) => IkeIdentity::Address(gateway.address_towards(peer)),
        },
        peer_identity: match (&options.peer_id, &connection.peer_identity, peer) {
            (Some(identity), ..) => own_identity(identity),
            (None, Some(identity), _) => wire_identity(identity),
            (None, None, PeerAddress::Address(address)) => IkeIdentity::Address(*address),
            (None, None, PeerAddress::Fqdn(fqdn)) => IkeIdentity::Fqdn(fqdn.clone()),
        },
        psk,
        establish: match connection.establish {
            Establish::Bidirectional => EstablishMode::Bidirectional,
            Establish::PeerOnly => EstablishMode::PeerOnly,
        },
        ike_proposals: proposal::with_ml_kem(
            ike.map_or_else(|| proposal::auto_ike(weak), proposal::of_ike_policy),
            ml_kem,
        ),
        esp_proposals: proposal::with_ml_kem(
            ipsec.map_or_else(|| proposal::auto_esp(weak), proposal::of_ipsec_policy),
            ml_kem,
        ),
        local_cidrs: connection.local_cidrs.clone(),
        peer_cidrs: connection.peer_cidrs.clone(),
        ike_lifetime_seconds: ike.map_or(AUTO_IKE_LIFETIME, |policy| policy.key_lifetime),
        esp_lifetime_seconds: ipsec.map_or(AUTO_ESP_LIFETIME, |policy| policy.key_lifetime),
        dpd_action: match detection.action {
            DeadPeerAction::Clear => DpdAction::Clear,
            DeadPeerAction::Hold => DpdAction::Hold,
            DeadPeerAction::None => DpdAction::None,
            DeadPeerAction::Restart => DpdAction::Restart,
        },
        dpd_interval_seconds: detection.interval,
        dpd_timeout_seconds: detection.timeout,
        // Segmentation offload exists for UDP only, and every peer that speaks IKEv2 takes encapsulated packets.
        force_encapsulation: options.encapsulation == EspEncapsulation::Forced,
        options: options.tunnel,
    })
}

fn own_identity(identity: &TunnelIdentity) -> IkeIdentity {
    match identity {
        TunnelIdentity::Address(address) => IkeIdentity::Address(*address),
        TunnelIdentity::DistinguishedName(text) => IkeIdentity::DistinguishedName(text.clone()),
        TunnelIdentity::Email(text) => IkeIdentity::Email(text.clone()),
        TunnelIdentity::Fqdn(text) => IkeIdentity::Fqdn(text.clone()),
        TunnelIdentity::KeyId(text) => IkeIdentity::KeyId(text.clone().into_bytes()),
    }
}

fn wire_identity(identity: &Identity) -> IkeIdentity {
    match identity {
        Identity::Address(address) => IkeIdentity::Address(*address),
        Identity::Fqdn(name) | Identity::Hostname(name) => IkeIdentity::Fqdn(name.clone()),
        Identity::KeyId(bytes) => IkeIdentity::KeyId(bytes.clone()),
    }
}
