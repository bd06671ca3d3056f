//! The parts of a plan that are reconciled apart from each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isthmus_fabric::{Desired, Owner, name};
use isthmus_hostplan::{GatewayTunnels, HostPlan, ObjectState, Power, VpcPlan};
use isthmus_types::{Generation, InstanceId, VpcId, VpnGatewayId};
use tokio::time::Instant;

use crate::pass::Pass;
use crate::sweep::Wanted;

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// A part of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UnitId {
    /// The host's own part.
    Internet,
    /// A VPC.
    Vpc(VpcId),
}

/// One part of the plan and what is known of it.
pub(crate) struct Unit {
    /// What the kernel must have.
    pub(crate) desired: Arc<Desired>,
    /// What the tunnel daemon must run once the kernel has it.
    pub(crate) tunnels: Vec<GatewayTunnels>,
    /// Whether each instance should run.
    powers: BTreeMap<InstanceId, bool>,
    /// Generation of the content.
    pub(crate) generation: Generation,
    /// Generation that the last finished pass worked on.
    pub(crate) worked: Option<Generation>,
    /// What the last finished pass found.
    pub(crate) pass: Pass,
    /// Objects that the last finished pass found as planned.
    present: BTreeSet<Owner>,
    /// Instances whose ports the last finished pass found up.
    running_instances: BTreeSet<InstanceId>,
    /// Whether another pass is due at once.
    pub(crate) due: bool,
    /// Whether a pass is under way.
    pub(crate) running: bool,
    /// When a pass that did not succeed is tried again.
    pub(crate) retry: Option<Instant>,
    backoff: Duration,
}

impl Unit {
    fn new(desired: Desired, generation: Generation) -> Self {
        Self {
            desired: Arc::new(desired),
            tunnels: Vec::new(),
            powers: BTreeMap::new(),
            generation,
            worked: None,
            pass: Pass::default(),
            present: BTreeSet::new(),
            running_instances: BTreeSet::new(),
            due: true,
            running: false,
            retry: None,
            backoff: RETRY_FIRST,
        }
    }

    fn of_vpc(plan: &HostPlan, vpc: &VpcPlan, key_logs: &Path) -> Self {
        let desired = isthmus_fabric::vpc(&plan.realm, &plan.uplink, vpc);
        let tunnels = vpc.gateways.iter().map(|gateway| GatewayTunnels {
            key_log: gateway
                .key_log
                .then(|| key_logs.join(gateway.gateway.to_string())),
            ..isthmus_fabric::compile::tunnel(&plan.realm, vpc.vpc, gateway)
        });
        Self {
            tunnels: tunnels.collect(),
            powers: vpc
                .ports
                .iter()
                .map(|port| (port.instance, port.power == Power::On))
                .collect(),
            ..Self::new(desired, vpc.generation)
        }
    }

    /// Begins a pass and yields what it must work on.
    pub(crate) fn begin(&mut self) -> Work {
        self.due = false;
        self.running = true;
        self.retry = None;
        Work {
            desired: Arc::clone(&self.desired),
            generation: self.generation,
            running_instances: self
                .powers
                .iter()
                .filter(|(_, on)| **on)
                .map(|(id, _)| *id)
                .collect(),
        }
    }

    /// Takes note of a finished pass.
    pub(crate) fn finish(&mut self, work: Work, pass: Pass, now: Instant) {
        self.running = false;
        self.worked = Some(work.generation);
        self.present = work.desired.owners();
        self.present
            .retain(|owner| !pass.failed.contains_key(owner) && !pass.blocked.contains_key(owner));
        self.running_instances = work.running_instances;
        if pass.is_converged() {
            self.backoff = RETRY_FIRST;
        } else {
            self.retry = Some(now + self.backoff);
            self.backoff = (self.backoff * 2).min(RETRY_MOST);
        }
        self.pass = pass;
    }

    /// Whether a finished pass worked on the present content.
    pub(crate) fn is_settled(&self) -> bool {
        self.worked == Some(self.generation)
    }

    /// State of one of its objects, as the last finished pass found it.
    pub(crate) fn state(&self, owner: Owner) -> ObjectState {
        if let Some(reason) = self.pass.failed.get(&owner) {
            ObjectState::Failed {
                reason: reason.clone(),
            }
        } else if let Some(on) = self.pass.blocked.get(&owner) {
            ObjectState::Blocked { on: on.clone() }
        } else if self.present.contains(&owner) {
            ObjectState::Present
        } else {
            ObjectState::Blocked {
                on: "the next pass of its router".to_owned(),
            }
        }
    }

    /// Whether the last finished pass found the instance's ports up.
    pub(crate) fn runs(&self, instance: InstanceId) -> bool {
        self.running_instances.contains(&instance)
    }
}

/// What a pass works on.
pub(crate) struct Work {
    pub(crate) desired: Arc<Desired>,
    generation: Generation,
    running_instances: BTreeSet<InstanceId>,
}

/// All parts of the plan in force.
#[derive(Default)]
pub(crate) struct Units {
    /// Where key logs are written, in a directory for each gateway that has one.
    pub(crate) key_logs: PathBuf,
    pub(crate) by_id: BTreeMap<UnitId, Unit>,
    /// Unit that each namespace belongs to. The internet namespace, which all share, belongs to [`UnitId::Internet`].
    pub(crate) of_namespace: BTreeMap<String, BTreeSet<UnitId>>,
}

/// What a new plan no longer has.
#[derive(Default)]
pub(crate) struct Removed {
    pub(crate) vpcs: BTreeMap<VpcId, Generation>,
    pub(crate) instances: BTreeSet<InstanceId>,
    pub(crate) gateways: BTreeSet<VpnGatewayId>,
}

impl Removed {
    pub(crate) fn is_empty(&self) -> bool {
        self.vpcs.is_empty() && self.instances.is_empty() && self.gateways.is_empty()
    }

    /// Adds what `more` names, and drops what `plan` has again.
    pub(crate) fn add(&mut self, more: Self, plan: &HostPlan) {
        self.vpcs.extend(more.vpcs);
        self.instances.extend(more.instances);
        self.gateways.extend(more.gateways);
        for vpc in plan.vpcs.values() {
            self.vpcs.remove(&vpc.vpc);
            for port in &vpc.ports {
                self.instances.remove(&port.instance);
            }
            for gateway in &vpc.gateways {
                self.gateways.remove(&gateway.gateway);
            }
        }
    }
}

impl Units {
    /// Brings the units to `plan`; those that changed become due. Yields what is no longer planned.
    pub(crate) fn update(&mut self, old: Option<&HostPlan>, plan: &HostPlan) -> Removed {
        let uplink_changed = old.is_none_or(|old| old.uplink != plan.uplink);
        if uplink_changed {
            let desired = isthmus_fabric::internet(&plan.realm, &plan.uplink);
            self.set(UnitId::Internet, Unit::new(desired, plan.generation));
        }
        for vpc in plan.vpcs.values() {
            let before = old.and_then(|old| old.vpcs.get(&vpc.vpc));
            if uplink_changed || before != Some(vpc) {
                self.set(UnitId::Vpc(vpc.vpc), Unit::of_vpc(plan, vpc, &self.key_logs));
            }
        }
        let gone: Vec<VpcId> = old
            .into_iter()
            .flat_map(|old| old.vpcs.keys().copied())
            .filter(|vpc| !plan.vpcs.contains_key(vpc))
            .collect();
        for vpc in gone {
            self.by_id.remove(&UnitId::Vpc(vpc));
        }
        self.index();
        removed(old, plan)
    }

    /// Marks every unit that has to do with a namespace as due; tells whether there is one.
    pub(crate) fn mark(&mut self, namespace: &str) -> bool {
        let Some(units) = self.of_namespace.get(namespace) else {
            return false;
        };
        for id in units {
            if let Some(unit) = self.by_id.get_mut(id) {
                unit.due = true;
            }
        }
        !units.is_empty()
    }

    /// What a sweep must leave.
    pub(crate) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted {
            namespaces: self.of_namespace.keys().cloned().collect(),
            ..Wanted::default()
        };
        for unit in self.by_id.values() {
            if let Some(host) = unit.desired.namespaces.get(name::HOST_NAMESPACE) {
                wanted
                    .tables
                    .extend(host.rulesets.keys().map(|table| table.name.clone()));
                wanted.taps.extend(host.links.keys().cloned());
            }
        }
        wanted
    }

    // A pass under way goes on with the old content; what the last one found stays known until the next.
    fn set(&mut self, id: UnitId, mut unit: Unit) {
        if let Some(before) = self.by_id.remove(&id) {
            // The uplink may have changed under an unchanged VPC: its content counts as new.
            unit.worked = before.worked.filter(|worked| *worked != unit.generation);
            unit.pass = before.pass;
            unit.present = before.present;
            unit.running_instances = before.running_instances;
            unit.running = before.running;
        }
        self.by_id.insert(id, unit);
    }

    fn index(&mut self) {
        self.of_namespace.clear();
        for (id, unit) in &self.by_id {
            for namespace in unit.desired.namespaces.keys() {
                self.of_namespace
                    .entry(namespace.clone())
                    .or_default()
                    .insert(*id);
            }
        }
    }
}

fn removed(old: Option<&HostPlan>, plan: &HostPlan) -> Removed {
    let mut removed = Removed::default();
    for before in old.into_iter().flat_map(|old| old.vpcs.values()) {
        let after = plan.vpcs.get(&before.vpc);
        if after.is_none() {
            removed.vpcs.insert(before.vpc, before.generation);
        }
        let ports: BTreeSet<InstanceId> = after
            .iter()
            .flat_map(|vpc| &vpc.ports)
            .map(|port| port.instance)
            .collect();
        let gateways: BTreeSet<VpnGatewayId> = after
            .iter()
            .flat_map(|vpc| &vpc.gateways)
            .map(|gateway| gateway.gateway)
            .collect();
        let gone = before.ports.iter().map(|port| port.instance);
        removed
            .instances
            .extend(gone.filter(|instance| !ports.contains(instance)));
        let gone = before.gateways.iter().map(|gateway| gateway.gateway);
        removed
            .gateways
            .extend(gone.filter(|gateway| !gateways.contains(gateway)));
    }
    removed
}
