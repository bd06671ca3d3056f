//! What the host tells control: what passes and the tunnel daemon observed.

use isthmus_fabric::Owner;
use isthmus_hostplan::{
    AgentCounters, ConnectionPlan, ConnectionReport, Diagnosis, DownReason, GatewayCounters, GatewayPlan,
    GatewayReport, HostPlan, HostReport, InstanceReport, ObjectState, PlanStatus, TunnelReport, TunnelState,
    VpcPlan, VpcReport,
};
use isthmus_types::{Generation, Timestamp};

use crate::units::{Removed, Unit, UnitId, Units};

/// What a report is made from.
pub(crate) struct Facts<'a> {
    pub(crate) plan: &'a HostPlan,
    pub(crate) units: &'a Units,
    pub(crate) removing: &'a Removed,
    /// What the tunnel daemon said last; none if it is not there.
    pub(crate) daemon: Option<&'a TunnelReport>,
    /// Since when the daemon has been there, or not.
    pub(crate) daemon_since: Timestamp,
    /// Generation that the last finished round of passes worked on.
    pub(crate) generation: Generation,
    /// What the agent did.
    pub(crate) agent: &'a AgentCounters,
}

impl Facts<'_> {
    /// The report.
    pub(crate) fn report(&self) -> HostReport {
        let mut report = HostReport {
            host: self.plan.host.clone(),
            generation: self.generation,
            status: PlanStatus::Converged,
            vpcs: Vec::new(),
            instances: Vec::new(),
            gateways: Vec::new(),
            connections: Vec::new(),
            agent: self.agent.clone(),
        };
        for vpc in self.plan.vpcs.values() {
            if let Some(unit) = self.units.by_id.get(&UnitId::Vpc(vpc.vpc)) {
                self.add_vpc(&mut report, vpc, unit);
            }
        }
        self.add_removing(&mut report);
        self.add_lingering(&mut report);
        let diverged = self
            .units
            .by_id
            .values()
            .map(|unit| unit.pass.failed.len() + unit.pass.blocked.len() + usize::from(!unit.is_settled()))
            .sum::<usize>();
        if diverged > 0 || self.generation != self.plan.generation {
            report.status = PlanStatus::Diverged {
                objects: u32::try_from(diverged.max(1)).unwrap_or(u32::MAX),
            };
        }
        report
    }

    fn add_vpc(&self, report: &mut HostReport, vpc: &VpcPlan, unit: &Unit) {
        report.vpcs.push(VpcReport {
            vpc: vpc.vpc,
            generation: unit.worked.unwrap_or_default(),
            state: unit.state(Owner::Vpc(vpc.vpc)),
        });
        let mut instances: Vec<_> = vpc.ports.iter().map(|port| port.instance).collect();
        instances.dedup();
        for instance in instances {
            report.instances.push(InstanceReport {
                instance,
                running: unit.runs(instance),
                state: with_router(unit, vpc, Owner::Instance(instance)),
            });
        }
        for gateway in &vpc.gateways {
            let here = with_router(unit, vpc, Owner::Gateway(gateway.gateway));
            let in_daemon = self.daemon.and_then(|daemon| {
                let mut gateways = daemon.gateways.iter();
                gateways.find(|found| found.gateway == gateway.gateway)
            });
            report.gateways.push(GatewayReport {
                gateway: gateway.gateway,
                counters: in_daemon.map(|found| found.counters.clone()).unwrap_or_default(),
                state: match here {
                    ObjectState::Present => self.gateway_in_daemon(gateway),
                    other @ (ObjectState::Blocked { .. } | ObjectState::Failed { .. }) => other,
                },
            });
            let connections = gateway.connections.iter();
            report
                .connections
                .extend(connections.map(|connection| self.connection(connection)));
        }
    }

    fn add_removing(&self, report: &mut HostReport) {
        let removal = || ObjectState::Blocked {
            on: "its removal".to_owned(),
        };
        for (vpc, generation) in &self.removing.vpcs {
            report.vpcs.push(VpcReport {
                vpc: *vpc,
                generation: *generation,
                state: removal(),
            });
        }
        for instance in &self.removing.instances {
            report.instances.push(InstanceReport {
                instance: *instance,
                running: false,
                state: removal(),
            });
        }
        for gateway in &self.removing.gateways {
            report.gateways.push(GatewayReport {
                gateway: *gateway,
                state: removal(),
                counters: GatewayCounters::default(),
            });
        }
    }

    // What left the plan and the daemon still runs: nobody may be told that it is gone.
    fn add_lingering(&self, report: &mut HostReport) {
        let Some(daemon) = self.daemon else { return };
        for lingering in &daemon.connections {
            if !report
                .connections
                .iter()
                .any(|listed| listed.connection == lingering.connection)
            {
                report.connections.push(lingering.clone());
            }
        }
        for lingering in &daemon.gateways {
            if !report
                .gateways
                .iter()
                .any(|listed| listed.gateway == lingering.gateway)
            {
                report.gateways.push(lingering.clone());
            }
        }
    }

    fn gateway_in_daemon(&self, gateway: &GatewayPlan) -> ObjectState {
        let blocked = |on: &str| ObjectState::Blocked { on: on.to_owned() };
        let Some(daemon) = self.daemon else {
            return blocked("the tunnel daemon");
        };
        daemon
            .gateways
            .iter()
            .find(|found| found.gateway == gateway.gateway)
            .map_or_else(
                || blocked("its turn in the tunnel daemon"),
                |found| found.state.clone(),
            )
    }

    fn connection(&self, plan: &ConnectionPlan) -> ConnectionReport {
        let found = self.daemon.and_then(|daemon| {
            daemon
                .connections
                .iter()
                .find(|found| found.connection == plan.connection)
        });
        if let Some(found) = found {
            return found.clone();
        }
        let state = match (plan.admin_up, self.daemon) {
            (false, _) => TunnelState::AdminDown,
            (true, Some(_)) => TunnelState::Down {
                reason: DownReason::Negotiating,
                detail: "waits for its gateway".to_owned(),
            },
            (true, None) => TunnelState::Down {
                reason: DownReason::Internal,
                detail: "the tunnel daemon is not running; it is being started".to_owned(),
            },
        };
        ConnectionReport {
            connection: plan.connection,
            state,
            since: self.daemon_since,
            reset_count: plan.reset_count,
            ike_suite: String::new(),
            esp_suite: String::new(),
            bytes_in: 0,
            bytes_out: 0,
            packets_in: 0,
            packets_out: 0,
            drops: Vec::new(),
            totals: Vec::new(),
            diagnosis: Diagnosis::default(),
        }
    }
}

// Nothing in a VPC is as planned while its router is not.
fn with_router(unit: &Unit, vpc: &VpcPlan, owner: Owner) -> ObjectState {
    match unit.state(owner) {
        ObjectState::Present => match unit.state(Owner::Vpc(vpc.vpc)) {
            ObjectState::Present => ObjectState::Present,
            ObjectState::Blocked { on } => ObjectState::Blocked { on },
            ObjectState::Failed { reason } => ObjectState::Blocked {
                on: format!("its router: {reason}"),
            },
        },
        other @ (ObjectState::Blocked { .. } | ObjectState::Failed { .. }) => other,
    }
}
