//! Between the host plan's words and those of the IKE and ESP engines.

use std::net::{IpAddr, SocketAddr};

use isthmus_esp::mtu::Encapsulation;
use isthmus_esp::policy::Admission;
use isthmus_esp::replay;
use isthmus_esp::{Lifetime, Policy, Selectors, SequenceNumbers, TrafficRange};
use isthmus_hostplan::tunnel as plan;
use isthmus_hostplan::{ConnectionPlan, DownReason, TunnelState};
use isthmus_ike as ike;

use crate::plane::{NAT_PORT, is_native, native};

/// The connection as the IKE endpoint is to know it.
pub(crate) fn connection_config(plan: &ConnectionPlan) -> ike::ConnectionConfig {
    ike::ConnectionConfig {
        connection: plan.connection,
        name: plan.name.clone(),
        admin_up: plan.admin_up,
        reset_count: plan.reset_count,
        version: plan.version,
        peer: match &plan.peer {
            plan::PeerEndpoint::Address { address } => ike::PeerEndpoint::Address(*address),
            plan::PeerEndpoint::Anywhere => ike::PeerEndpoint::Anywhere,
            plan::PeerEndpoint::Name { fqdn } => ike::PeerEndpoint::Name(fqdn.clone()),
        },
        local_identity: identity(&plan.local_identity),
        peer_identity: identity(&plan.peer_identity),
        psk: plan.psk.clone(),
        establish: match plan.establish {
            plan::EstablishMode::Bidirectional => ike::EstablishMode::Bidirectional,
            plan::EstablishMode::PeerOnly => ike::EstablishMode::PeerOnly,
        },
        ike_proposals: plan.ike_proposals.clone(),
        esp_proposals: plan.esp_proposals.clone(),
        local_cidrs: plan.local_cidrs.clone(),
        peer_cidrs: plan.peer_cidrs.clone(),
        ike_lifetime_seconds: plan.ike_lifetime_seconds,
        esp_lifetime_seconds: plan.esp_lifetime_seconds,
        dpd_action: match plan.dpd_action {
            plan::DpdAction::Clear => ike::DpdAction::Clear,
            plan::DpdAction::Hold => ike::DpdAction::Hold,
            plan::DpdAction::None => ike::DpdAction::None,
            plan::DpdAction::Restart => ike::DpdAction::Restart,
        },
        dpd_interval_seconds: plan.dpd_interval_seconds,
        dpd_timeout_seconds: plan.dpd_timeout_seconds,
        force_encapsulation: plan.force_encapsulation,
        options: plan.options.clone(),
    }
}

/// Every pair of a local and a remote range.
pub(crate) fn policies(plan: &ConnectionPlan) -> Vec<Policy> {
    plan.local_cidrs
        .iter()
        .flat_map(|&local| {
            plan.peer_cidrs
                .iter()
                .map(move |&remote| Policy { local, remote })
        })
        .collect()
}

/// Whether the connection may carry packets.
pub(crate) const fn admission(plan: &ConnectionPlan) -> Admission {
    if plan.admin_up {
        Admission::Open
    } else {
        Admission::Shut
    }
}

/// The selectors of a Child SA.
pub(crate) fn selectors(child: &ike::ChildSa) -> Selectors {
    Selectors {
        local: child.local_selectors.iter().map(traffic_range).collect(),
        remote: child.remote_selectors.iter().map(traffic_range).collect(),
    }
}

/// Width of a Child SA's sequence numbers.
pub(crate) const fn sequence_numbers(child: &ike::ChildSa) -> SequenceNumbers {
    match child.sequence_numbers {
        ike::SequenceNumbers::Extended => SequenceNumbers::Extended,
        ike::SequenceNumbers::Short => SequenceNumbers::Short,
    }
}

/// How much a Child SA of the connection may carry.
pub(crate) fn lifetime(plan: &ConnectionPlan, child: &ike::ChildSa) -> Lifetime {
    let options = &plan.options;
    Lifetime::new(
        child.suite,
        sequence_numbers(child),
        options.esp_lifetime_bytes,
        options.esp_lifetime_packets,
    )
}

/// Packets that the replay windows of the connection cover.
pub(crate) fn replay_window(plan: &ConnectionPlan) -> u32 {
    u32::from(plan.options.replay_window).clamp(replay::MIN_WINDOW, replay::MAX_WINDOW)
}

/// Where packets to the peer at `remote` go that are carried so. None if they should be encapsulated but leave from
/// another port than that of encapsulated ESP.
pub(crate) fn destination(encapsulation: ike::Encapsulation, remote: IpAddr) -> Option<SocketAddr> {
    match encapsulation {
        ike::Encapsulation::Udp { local_port, remote } if local_port == NAT_PORT => Some(remote),
        ike::Encapsulation::Udp { .. } => None,
        ike::Encapsulation::None => Some(native(remote)),
    }
}

/// What stands before ESP packets to `remote`.
pub(crate) fn encapsulation(remote: SocketAddr) -> Encapsulation {
    match (remote.ip(), is_native(remote)) {
        (IpAddr::V4(_), true) => Encapsulation::Ipv4,
        (IpAddr::V4(_), false) => Encapsulation::Ipv4Udp,
        (IpAddr::V6(_), true) => Encapsulation::Ipv6,
        (IpAddr::V6(_), false) => Encapsulation::Ipv6Udp,
    }
}

/// The state as it is reported.
pub(crate) fn tunnel_state(state: ike::ConnectionState) -> TunnelState {
    match state {
        ike::ConnectionState::AdminDown => TunnelState::AdminDown,
        ike::ConnectionState::Down { reason, detail } => TunnelState::Down {
            reason: down_reason(reason),
            detail,
        },
        ike::ConnectionState::Up => TunnelState::Up,
    }
}

const fn down_reason(reason: ike::DownReason) -> DownReason {
    match reason {
        ike::DownReason::AuthenticationFailed => DownReason::AuthenticationFailed,
        ike::DownReason::AwaitingPeer => DownReason::AwaitingPeer,
        ike::DownReason::IkeProposalMismatch => DownReason::IkeProposalMismatch,
        ike::DownReason::Internal => DownReason::Internal,
        ike::DownReason::IpsecProposalMismatch => DownReason::IpsecProposalMismatch,
        ike::DownReason::Negotiating => DownReason::Negotiating,
        ike::DownReason::PeerNotResponding => DownReason::PeerNotResponding,
        ike::DownReason::SelectorMismatch => DownReason::SelectorMismatch,
    }
}

fn identity(identity: &plan::IkeIdentity) -> ike::IkeIdentity {
    match identity {
        plan::IkeIdentity::Address(address) => ike::IkeIdentity::Address(*address),
        plan::IkeIdentity::DistinguishedName(text) => ike::IkeIdentity::DistinguishedName(text.clone()),
        plan::IkeIdentity::Email(text) => ike::IkeIdentity::Email(text.clone()),
        plan::IkeIdentity::Fqdn(text) => ike::IkeIdentity::Fqdn(text.clone()),
        plan::IkeIdentity::KeyId(bytes) => ike::IkeIdentity::KeyId(bytes.clone()),
    }
}

fn traffic_range(selector: &ike::Selector) -> TrafficRange {
    TrafficRange {
        first: selector.start,
        last: selector.end,
        protocol: selector.protocol.unwrap_or(0),
        first_port: selector.start_port,
        last_port: selector.end_port,
    }
}
