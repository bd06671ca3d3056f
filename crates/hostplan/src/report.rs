//! What a host reports: observed, never assumed from an acknowledged write.

use isthmus_types::{Generation, HostName, InstanceId, Timestamp, VpcId, VpnConnectionId, VpnGatewayId};
use serde::{Deserialize, Serialize};

use crate::diagnosis::Diagnosis;

/// One report of a host. It is whole: what it does not list, the host does not have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// The reporting host.
    pub host: HostName,
    /// The generation that the last finished pass worked on.
    pub generation: Generation,
    /// How that pass ended.
    pub status: PlanStatus,
    /// Each VPC that this host carries, and each one still being removed.
    pub vpcs: Vec<VpcReport>,
    /// Each instance with a port here.
    pub instances: Vec<InstanceReport>,
    /// Each VPN gateway here.
    pub gateways: Vec<GatewayReport>,
    /// Each VPN connection here.
    pub connections: Vec<ConnectionReport>,
}

/// How a reconcile pass ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PlanStatus {
    /// Everything was observed as planned.
    Converged,
    /// Some objects are not as planned; the pass runs again.
    Diverged {
        /// How many.
        objects: u32,
    },
}

/// State of one planned object on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ObjectState {
    /// Waits for another object.
    Blocked {
        /// What it waits for.
        on: String,
    },
    /// Could not be made; tried again.
    Failed {
        /// Why, for an operator.
        reason: String,
    },
    /// Observed as planned.
    Present,
}

/// A VPC's router on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcReport {
    /// The VPC.
    pub vpc: VpcId,
    /// Generation of the VPC's plan that was worked on.
    pub generation: Generation,
    /// Its state.
    pub state: ObjectState,
}

/// An instance on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// The instance.
    pub instance: InstanceId,
    /// Whether its ports carry packets; meaningful only when `state` is present.
    pub running: bool,
    /// Its state.
    pub state: ObjectState,
}

/// A VPN gateway on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// The gateway.
    pub gateway: VpnGatewayId,
    /// Present when its TUN device, address and UDP sockets were observed.
    pub state: ObjectState,
}

/// A VPN connection on the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// The connection.
    pub connection: VpnConnectionId,
    /// Its state.
    pub state: TunnelState,
    /// When it came into this state.
    pub since: Timestamp,
    /// Algorithms of the IKE SA in use, such as `aes256gcm16-prfsha256-x25519`; empty if there is none.
    pub ike_suite: String,
    /// Algorithms of the Child SA in use; empty if there is none.
    pub esp_suite: String,
    /// Bytes of inner packets received since the daemon started.
    pub bytes_in: u64,
    /// Bytes of inner packets sent since the daemon started.
    pub bytes_out: u64,
    /// Inner packets received since the daemon started.
    pub packets_in: u64,
    /// Inner packets sent since the daemon started.
    pub packets_out: u64,
    /// Packets dropped since the daemon started, by reason; only reasons that occurred.
    pub drops: Vec<(String, u64)>,
    /// What else is known about it.
    #[serde(default)]
    pub diagnosis: Diagnosis,
}

/// State of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TunnelState {
    /// Down on request.
    AdminDown,
    /// Not up.
    Down {
        /// Why.
        reason: DownReason,
        /// The evidence in words, with the fix where one is known.
        detail: String,
    },
    /// A Child SA is installed and the peer answers.
    Up,
}

/// Why a tunnel is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DownReason {
    /// The key or an identity differs.
    AuthenticationFailed,
    /// No IKE proposal in common.
    IkeProposalMismatch,
    /// Our fault.
    Internal,
    /// No ESP proposal in common.
    IpsecProposalMismatch,
    /// Negotiation is under way for the first time, or waits to be started.
    Negotiating,
    /// No answer from the peer.
    PeerNotResponding,
    /// The traffic selectors do not mirror each other.
    SelectorMismatch,
}
