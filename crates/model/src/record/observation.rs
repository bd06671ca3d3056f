//! What hosts reported. Status has records of its own: hosts never write a spec.

use isthmus_ops::{ConnectionStatus, GatewayStatus, InstanceStatus};
use isthmus_types::{InstanceId, VpnConnectionId, VpnGatewayId};
use serde::{Deserialize, Serialize};

/// What a host reported of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceObservation {
    /// The instance.
    pub instance: InstanceId,
    /// Its state.
    pub status: InstanceStatus,
}

/// What a host reported of a VPN gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayObservation {
    /// The gateway.
    pub gateway: VpnGatewayId,
    /// Its state.
    pub status: GatewayStatus,
}

/// What a host reported of a VPN connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionObservation {
    /// The connection.
    pub connection: VpnConnectionId,
    /// Its state.
    pub status: ConnectionStatus,
}
