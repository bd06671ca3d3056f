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
    /// What the agent did since it started.
    #[serde(default)]
    pub agent: AgentCounters,
}

/// What an agent did since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentCounters {
    /// How long passes over a part of the plan took.
    pub passes: PassDurations,
    /// Passes after which something was not as planned.
    pub failed_passes: u64,
    /// Kernel objects that passes made, changed or removed.
    pub changes: u64,
}

/// How long passes took, as a histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PassDurations {
    /// All passes.
    pub count: u64,
    /// Microseconds of all passes together.
    pub micros: u64,
    /// Passes that took at most [`PASS_BOUNDS`] microseconds and more than the bound before.
    pub buckets: [u64; PASS_BOUNDS.len()],
}

/// Upper bounds of the buckets of [`PassDurations`], microseconds.
pub const PASS_BOUNDS: [u64; 8] = [
    1_000, 5_000, 20_000, 50_000, 200_000, 1_000_000, 5_000_000, 30_000_000,
];

impl PassDurations {
    /// Counts a pass.
    pub fn add(&mut self, micros: u64) {
        self.count += 1;
        self.micros = self.micros.saturating_add(micros);
        if let Some(bucket) = PASS_BOUNDS.iter().position(|bound| micros <= *bound) {
            self.buckets[bucket] += 1;
        }
    }
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
    /// What passed at its public address that belongs to no connection.
    #[serde(default)]
    pub counters: GatewayCounters,
}

/// What passed at a gateway's public address that belongs to no connection, since its daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayCounters {
    /// First IKE messages that were looked at: from where a peer is expected.
    pub strangers_admitted: u64,
    /// IKE messages that were thrown away unseen: of no IKE SA, and from where no peer is expected or too many.
    pub strangers_refused: u64,
    /// Handshakes that were answered with a cookie.
    pub cookies_sent: u64,
    /// Handshakes of others that have not proved themselves yet, now.
    pub half_open: u32,
    /// Packets dropped, by reason; only reasons that occurred.
    pub drops: Vec<(String, u64)>,
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
    /// The `reset_count` of the plan that this is about: as many resets were carried out before.
    #[serde(default)]
    pub reset_count: u32,
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
    /// What happened since the daemon started, as stable words such as `child_installed`, and how often; only what
    /// occurred.
    #[serde(default)]
    pub totals: Vec<(String, u64)>,
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
    /// The peer alone may begin, and has not.
    AwaitingPeer,
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
