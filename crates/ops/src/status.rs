//! What hosts found, reduced to what the model keeps. Spec and status never share a record.

use isthmus_types::{InstanceId, Timestamp, VpnConnectionId, VpnGatewayId};
use serde::{Deserialize, Serialize};

/// A new observed state of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "resource", rename_all = "snake_case")]
pub enum StatusUpdate {
    /// Of an instance.
    Instance {
        /// Which.
        instance: InstanceId,
        /// Its state.
        status: InstanceStatus,
    },
    /// Of a VPN gateway.
    VpnGateway {
        /// Which.
        gateway: VpnGatewayId,
        /// Its state.
        status: GatewayStatus,
    },
    /// Of a VPN connection.
    VpnConnection {
        /// Which.
        connection: VpnConnectionId,
        /// Its state.
        status: ConnectionStatus,
    },
}

/// What hosts no longer have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFindings {
    /// Instances marked for deletion whose ports are gone.
    pub instances: Vec<InstanceId>,
    /// Gateways marked for deletion whose devices are gone.
    pub gateways: Vec<VpnGatewayId>,
    /// Connections marked for deletion whose SAs are gone.
    pub connections: Vec<VpnConnectionId>,
}

/// Observed state of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum InstanceStatus {
    /// Could not be made as planned.
    Failed {
        /// Why.
        reason: String,
    },
    /// Its ports carry packets.
    Running,
    /// Its ports exist and are down.
    Stopped,
}

/// Observed state of a VPN gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum GatewayStatus {
    /// Address, device and sockets are there.
    Available,
    /// Could not be made as planned.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Observed state of a VPN connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Up, or why not.
    pub state: ConnectionState,
    /// Since when.
    pub since: Timestamp,
    /// How many resets were carried out before.
    #[serde(default)]
    pub reset_count: u32,
    /// Algorithms of the IKE SA, empty if none.
    pub ike_suite: String,
    /// Algorithms of the Child SA, empty if none.
    pub esp_suite: String,
}

/// Whether a VPN connection carries packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ConnectionState {
    /// No.
    Down {
        /// The cause.
        reason: ConnectionDownReason,
        /// The evidence in words.
        detail: String,
    },
    /// Yes.
    Up,
}

/// Why a VPN connection is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionDownReason {
    /// Switched off.
    AdminDown,
    /// The key or an identity differs.
    AuthenticationFailed,
    /// The peer alone may begin, and has not.
    AwaitingPeer,
    /// No IKE proposal in common.
    IkePolicyMismatch,
    /// Our fault.
    Internal,
    /// No ESP proposal in common.
    IpsecPolicyMismatch,
    /// The first negotiation has not ended yet.
    Negotiating,
    /// No answer.
    PeerNotResponding,
    /// Traffic selectors do not mirror each other.
    SelectorMismatch,
}
