//! What a host's report means for the model: only what differs from what is recorded.
//!
//! Nothing is remembered of earlier reports but since when a connection has been missing, so that a pause of the
//! tunnel daemon is not taken for the end of its tunnels.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_hostplan::{ConnectionReport, DownReason, HostReport, ObjectState, TunnelState};
use isthmus_model::{InstancePower, Snapshot};
use isthmus_ops::{
    ConnectionDownReason, ConnectionState, ConnectionStatus, GatewayStatus, HostFindings, InstanceStatus,
    StatusUpdate,
};
use isthmus_plan::Obstacle;
use isthmus_types::{Generation, InstanceId, Timestamp, VpcId, VpnConnectionId, VpnGatewayId};

use crate::publication::{Leaving, PlannedObject, Publication};

/// Milliseconds that a connection may be missing from reports before it is said to be down.
const MISSING_FOR: u64 = 5_000;

/// What is to be recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    /// New states.
    pub updates: Vec<StatusUpdate>,
    /// What can be deleted at last.
    pub findings: HostFindings,
}

/// Since when connections have been missing from reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missing(BTreeMap<VpnConnectionId, Timestamp>);

/// Compares the host's last report, if there is one, with the snapshot.
pub(crate) fn digest(
    snapshot: &Snapshot,
    publication: &Publication,
    report: Option<&HostReport>,
    missing: &mut Missing,
    now: Timestamp,
) -> Digest {
    let mut result = Digest::default();
    if let Some(report) = report {
        result
            .updates
            .extend(instance_updates(snapshot, publication, report));
        result.updates.extend(gateway_updates(snapshot, report));
        result.updates.extend(
            report
                .connections
                .iter()
                .filter_map(|found| connection_update(snapshot, found)),
        );
        result
            .updates
            .extend(missing.updates(snapshot, publication, report, now));
    }
    result.findings = findings(snapshot, publication, report);
    result
}

/// Whether the host has worked on the VPC as it was published in `generation`, or later.
///
/// A VPC's own generation may be an older one with the same content: control stamps every VPC anew when it starts, and
/// an agent that is up to date is not sent it again.
fn has_worked_on(report: &HostReport, vpc: VpcId, generation: Generation) -> bool {
    report.generation >= generation
        || report
            .vpcs
            .iter()
            .any(|found| found.vpc == vpc && found.generation >= generation)
}

fn instance_updates(
    snapshot: &Snapshot,
    publication: &Publication,
    report: &HostReport,
) -> Vec<StatusUpdate> {
    let update = |id: InstanceId, running: bool, state: &ObjectState| {
        let instance = snapshot
            .instance(id)
            .filter(|instance| instance.deleting.is_none())?;
        let recorded = snapshot.instance_status(id);
        let status = match (state, running) {
            (ObjectState::Present, true) => InstanceStatus::Running,
            (ObjectState::Present, false) => InstanceStatus::Stopped,
            (ObjectState::Failed { reason }, _) => InstanceStatus::Failed {
                reason: reason.clone(),
            },
            // What was never there is still on its way.
            (ObjectState::Blocked { .. }, _) if recorded.is_none() => return None,
            (ObjectState::Blocked { on }, _) => InstanceStatus::Failed {
                reason: format!("waits for {on}"),
            },
        };
        let is_next_step = match (instance.power, &status) {
            (InstancePower::RestartingDown, InstanceStatus::Stopped)
            | (InstancePower::RestartingUp, InstanceStatus::Running) => {
                let published = publication.vpc(instance.vpc);
                published.is_some_and(|plan| has_worked_on(report, plan.vpc, plan.generation))
            }
            (
                InstancePower::RestartingDown
                | InstancePower::RestartingUp
                | InstancePower::Running
                | InstancePower::Stopped,
                InstanceStatus::Failed { .. } | InstanceStatus::Running | InstanceStatus::Stopped,
            ) => false,
        };
        (recorded != Some(&status) || is_next_step).then_some(StatusUpdate::Instance { instance: id, status })
    };
    report
        .instances
        .iter()
        .filter_map(|found| update(found.instance, found.running, &found.state))
        .collect()
}

fn gateway_updates(snapshot: &Snapshot, report: &HostReport) -> Vec<StatusUpdate> {
    let update = |id: VpnGatewayId, state: &ObjectState| {
        snapshot
            .vpn_gateway(id)
            .filter(|gateway| gateway.deleting.is_none())?;
        let recorded = snapshot.gateway_status(id);
        let status = match state {
            ObjectState::Present => GatewayStatus::Available,
            ObjectState::Failed { reason } => GatewayStatus::Failed {
                reason: reason.clone(),
            },
            ObjectState::Blocked { .. } if recorded.is_none() => return None,
            ObjectState::Blocked { on } => GatewayStatus::Failed {
                reason: format!("waits for {on}"),
            },
        };
        (recorded != Some(&status)).then_some(StatusUpdate::VpnGateway { gateway: id, status })
    };
    report
        .gateways
        .iter()
        .filter_map(|found| update(found.gateway, &found.state))
        .collect()
}

fn connection_update(snapshot: &Snapshot, found: &ConnectionReport) -> Option<StatusUpdate> {
    let connection = snapshot
        .vpn_connection(found.connection)
        .filter(|connection| connection.deleting.is_none())?;
    let obstacle = connection
        .admin_state_up
        .then(|| isthmus_plan::obstacle(snapshot, connection))
        .flatten();
    let status = ConnectionStatus {
        state: connection_state(&found.state, obstacle),
        since: found.since,
        reset_count: found.reset_count,
        ike_suite: found.ike_suite.clone(),
        esp_suite: found.esp_suite.clone(),
    };
    (snapshot.connection_status(found.connection) != Some(&status)).then_some(StatusUpdate::VpnConnection {
        connection: found.connection,
        status,
    })
}

fn connection_state(state: &TunnelState, obstacle: Option<Obstacle>) -> ConnectionState {
    match (state, obstacle) {
        (TunnelState::Up, _) => ConnectionState::Up,
        // Planned as down because of its policies: the host cannot know why.
        (TunnelState::AdminDown, Some(obstacle)) => ConnectionState::Down {
            detail: obstacle.to_string(),
            reason: match obstacle {
                Obstacle::CertificateNeedsIkeV2 | Obstacle::IkeGroups(_) => {
                    ConnectionDownReason::IkePolicyMismatch
                }
                Obstacle::PfsGroups(_) => ConnectionDownReason::IpsecPolicyMismatch,
            },
        },
        (TunnelState::AdminDown, None) => ConnectionState::Down {
            reason: ConnectionDownReason::AdminDown,
            detail: String::new(),
        },
        (TunnelState::Down { reason, detail }, _) => ConnectionState::Down {
            reason: match reason {
                DownReason::AuthenticationFailed => ConnectionDownReason::AuthenticationFailed,
                DownReason::AwaitingPeer => ConnectionDownReason::AwaitingPeer,
                DownReason::IkeProposalMismatch => ConnectionDownReason::IkePolicyMismatch,
                DownReason::Internal => ConnectionDownReason::Internal,
                DownReason::IpsecProposalMismatch => ConnectionDownReason::IpsecPolicyMismatch,
                DownReason::Negotiating => ConnectionDownReason::Negotiating,
                DownReason::PeerNotResponding => ConnectionDownReason::PeerNotResponding,
                DownReason::SelectorMismatch => ConnectionDownReason::SelectorMismatch,
            },
            detail: detail.clone(),
        },
    }
}

impl Missing {
    /// Connections that should be on the host, were seen there, and have been missing for too long.
    fn updates(
        &mut self,
        snapshot: &Snapshot,
        publication: &Publication,
        report: &HostReport,
        now: Timestamp,
    ) -> Vec<StatusUpdate> {
        let listed: BTreeSet<_> = report.connections.iter().map(|found| found.connection).collect();
        let absent: BTreeSet<_> = publication
            .vpcs()
            .filter(|plan| report.generation >= plan.generation)
            .flat_map(|plan| &plan.gateways)
            .flat_map(|gateway| &gateway.connections)
            .map(|connection| connection.connection)
            .filter(|id| !listed.contains(id))
            .collect();
        self.0.retain(|id, _| absent.contains(id));
        absent
            .into_iter()
            .filter_map(|id| {
                let since = *self.0.entry(id).or_insert(now);
                let recorded = snapshot.connection_status(id)?;
                let is_said_to_be_up = recorded.state == ConnectionState::Up;
                (is_said_to_be_up && now.since(since) >= MISSING_FOR).then(|| StatusUpdate::VpnConnection {
                    connection: id,
                    status: ConnectionStatus {
                        state: ConnectionState::Down {
                            reason: ConnectionDownReason::Internal,
                            detail: "the host does not run the tunnel".to_owned(),
                        },
                        since,
                        reset_count: recorded.reset_count,
                        ike_suite: String::new(),
                        esp_suite: String::new(),
                    },
                })
            })
            .collect()
    }
}

fn findings(snapshot: &Snapshot, publication: &Publication, report: Option<&HostReport>) -> HostFindings {
    let mut findings = HostFindings::default();
    for (object, leaving) in publication.leaving() {
        let is_gone = !leaving.delivered
            || report.is_some_and(|report| has_gone(snapshot, publication, report, object, leaving));
        if is_gone {
            match object {
                PlannedObject::Connection(id) => findings.connections.push(id),
                PlannedObject::Gateway(id) => findings.gateways.push(id),
                PlannedObject::Instance(id) => findings.instances.push(id),
            }
        }
    }
    findings
}

/// Whether the report proves that the host worked on a plan without the object and no longer has it.
fn has_gone(
    snapshot: &Snapshot,
    publication: &Publication,
    report: &HostReport,
    object: PlannedObject,
    leaving: Leaving,
) -> bool {
    let vpc = report.vpcs.iter().find(|found| found.vpc == leaving.vpc);
    let is_done = match (vpc, publication.vpc(leaving.vpc)) {
        (Some(found), Some(_)) => found.state == ObjectState::Present,
        // The VPC as a whole leaves the host: as long as it is listed, parts of it are there.
        (Some(_), None) => false,
        (None, Some(_) | None) => true,
    };
    let is_done = is_done && has_worked_on(report, leaving.vpc, leaving.since);
    let lists_connection =
        |id: VpnConnectionId| report.connections.iter().any(|found| found.connection == id);
    let is_listed = match object {
        PlannedObject::Connection(id) => lists_connection(id),
        PlannedObject::Gateway(id) => {
            report.gateways.iter().any(|found| found.gateway == id)
                || snapshot
                    .connections_of(id)
                    .any(|connection| lists_connection(connection.id))
        }
        PlannedObject::Instance(id) => report.instances.iter().any(|found| found.instance == id),
    };
    is_done && !is_listed
}
