//! How VPN connections look.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use isthmus_ops::{
    ConnectionDownReason as Reason, ConnectionState, DeadPeerAction, Establish, Identity, PeerAddress,
    VpnConnectionView,
};
use isthmus_types::{Cidr, IkeVersion};
use serde_json::{Map, Value, json};

use crate::date::ApiDate;
use crate::id;
use crate::render::Render;
use crate::resource::vpc::merge;

impl Render {
    pub(crate) fn vpn_connection_view(&self, connection: &VpnConnectionView) -> Value {
        let own_id = id::VPN_CONNECTION.text(connection.id.bits());
        let gateway = id::VPN_GATEWAY.text(connection.gateway.bits());
        let detection = connection.dead_peer_detection;
        let (status, reasons) = status(connection);
        let value = json!({
            "admin_state_up": connection.admin_state_up,
            "authentication_mode": "psk",
            "created_at": connection.common.created_at.to_string(),
            "dead_peer_detection": {
                "action": match detection.action {
                    DeadPeerAction::Clear => "clear",
                    DeadPeerAction::Hold => "hold",
                    DeadPeerAction::None => "none",
                    DeadPeerAction::Restart => "restart",
                },
                "interval": detection.interval,
                "timeout": detection.timeout,
            },
            "establish_mode": match connection.establish {
                Establish::Bidirectional => "bidirectional",
                Establish::PeerOnly => "peer_only",
            },
            "href": self.href(&format!("vpn_gateways/{gateway}/connections/{own_id}")),
            "id": own_id,
            "mode": "policy",
            "name": connection.common.name.as_str(),
            // The provider's API shows the key to whoever may read the connection.
            "psk": connection.psk.reveal(),
            "resource_type": "vpn_gateway_connection",
            "status": status,
            "status_reasons": reasons,
        });
        let mut map = Map::new();
        merge(&mut map, value);
        if let Some(policy) = &connection.ike_policy {
            let shown = self.reference(
                &id::IKE_POLICY,
                policy.id.bits(),
                policy.name.as_str(),
                None,
                Some("ike_policy"),
            );
            map.insert("ike_policy".into(), shown);
        }
        if let Some(policy) = &connection.ipsec_policy {
            let shown = self.reference(
                &id::IPSEC_POLICY,
                policy.id.bits(),
                policy.name.as_str(),
                None,
                Some("ipsec_policy"),
            );
            map.insert("ipsec_policy".into(), shown);
        }
        let ends = if self.date < ApiDate::NESTED_CONNECTION {
            flat(connection)
        } else {
            nested(connection)
        };
        merge(&mut map, ends);
        Value::Object(map)
    }
}

fn flat(connection: &VpnConnectionView) -> Value {
    let peer = match &connection.peer {
        PeerAddress::Address(address) => address.to_string(),
        PeerAddress::Fqdn(name) => name.clone(),
    };
    json!({
        "local_cidrs": texts(&connection.local_cidrs),
        "peer_address": peer,
        "peer_cidrs": texts(&connection.peer_cidrs),
        "route_mode": "policy",
    })
}

fn nested(connection: &VpnConnectionView) -> Value {
    let mut peer = json!({
        "cidrs": texts(&connection.peer_cidrs),
        "ike_identity": identity(&connection.peer_identity),
    });
    match &connection.peer {
        PeerAddress::Address(address) => {
            peer["type"] = "address".into();
            peer["address"] = address.to_string().into();
        }
        PeerAddress::Fqdn(name) => {
            peer["type"] = "fqdn".into();
            peer["fqdn"] = name.as_str().into();
        }
    }
    json!({
        "local": {
            "cidrs": texts(&connection.local_cidrs),
            "ike_identities": [identity(&connection.local_identity)],
        },
        "peer": peer,
    })
}

fn texts(cidrs: &[Cidr]) -> Vec<String> {
    cidrs.iter().map(ToString::to_string).collect()
}

fn identity(identity: &Identity) -> Value {
    match identity {
        // The contract has no IPv6 yet, and its types are open to more.
        Identity::Address(address @ IpAddr::V6(_)) => {
            json!({ "type": "ipv6_address", "value": address.to_string() })
        }
        Identity::Address(address) => json!({ "type": "ipv4_address", "value": address.to_string() }),
        Identity::Fqdn(name) => json!({ "type": "fqdn", "value": name }),
        Identity::Hostname(name) => json!({ "type": "hostname", "value": name }),
        Identity::KeyId(bytes) => json!({ "type": "key_id", "value": STANDARD.encode(bytes) }),
    }
}

/// Details are written as our log has them: lower case, no full stop.
fn as_sentence(detail: &str) -> String {
    let mut letters = detail.trim_end_matches('.').chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

fn status(connection: &VpnConnectionView) -> (&'static str, Value) {
    let ConnectionState::Down { reason, detail } = &connection.state else {
        return ("up", json!([]));
    };
    let (code, sentence) = match reason {
        Reason::AdminDown => return ("down", json!([])),
        Reason::AuthenticationFailed => (
            "cannot_authenticate_connection",
            "The pre-shared key or an IKE identity differs.",
        ),
        Reason::AwaitingPeer => ("peer_not_responding", "The peer alone may begin, and has not."),
        Reason::IkePolicyMismatch => (
            "ike_policy_mismatch",
            "The two ends have no IKE proposal in common.",
        ),
        Reason::Internal => (
            "internal_error",
            "The gateway could not carry out the connection.",
        ),
        Reason::IpsecPolicyMismatch => (
            "ipsec_policy_mismatch",
            "The two ends have no IPsec proposal in common.",
        ),
        Reason::Negotiating => (
            "peer_not_responding",
            "Negotiation with the peer is under way and has not ended yet.",
        ),
        Reason::PeerNotResponding => ("peer_not_responding", "The peer does not answer."),
        Reason::SelectorMismatch => (
            match connection.ike_version {
                Some(IkeVersion::V1) => "ike_v1_id_local_remote_cidr_mismatch",
                Some(IkeVersion::V2) | None => "ike_v2_local_remote_cidr_mismatch",
            },
            "The local and peer ranges of the two ends do not mirror each other.",
        ),
    };
    if !connection.admin_state_up {
        return ("down", json!([]));
    }
    let message = if detail.is_empty() || *reason == Reason::Negotiating {
        sentence.to_owned()
    } else {
        format!("{sentence} {}", as_sentence(detail))
    };
    ("down", json!([{ "code": code, "message": message }]))
}
