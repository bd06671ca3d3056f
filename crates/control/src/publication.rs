//! The plan of the host as agents see it: what each VPC was last published as, and since when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use isthmus_hostplan::{PlanDelta, UplinkPlan, VpcPlan};
use isthmus_model::Snapshot;
use isthmus_types::{Generation, HostName, InstanceId, Realm, VpcId, VpnConnectionId, VpnGatewayId};

/// Removals that are remembered one by one; agents that are further behind get the whole plan.
const REMOVALS_KEPT: usize = 4096;

/// A planned object that hosts report one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PlannedObject {
    /// A VPN connection.
    Connection(VpnConnectionId),
    /// A VPN gateway.
    Gateway(VpnGatewayId),
    /// An instance.
    Instance(InstanceId),
}

/// An object that is marked for deletion and no longer planned, but still in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Its VPC.
    pub vpc: VpcId,
    /// First generation without it.
    pub since: Generation,
    /// Whether any agent may have seen a plan that held it.
    pub delivered: bool,
}

/// One published VPC.
#[derive(Clone, Debug)]
struct Published {
    plan: VpcPlan,
    /// Generation that each object first appeared in.
    born: BTreeMap<PlannedObject, Generation>,
}

/// What is published for the host.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    host: HostName,
    realm: Realm,
    uplink: UplinkPlan,
    /// Generation of the newest change.
    generation: Generation,
    /// Changes up to this generation are not known one by one.
    floor: Generation,
    /// Newest generation that was handed to an agent.
    delivered: Generation,
    vpcs: BTreeMap<VpcId, Published>,
    removed: VecDeque<(Generation, VpcId)>,
    leaving: BTreeMap<PlannedObject, Leaving>,
}

/// A VPC's new plan that must not be published.
#[derive(Clone, Debug)]
pub(crate) struct Unfit {
    /// The VPC.
    pub vpc: VpcId,
    /// What is wrong with its plan.
    pub violations: Vec<isthmus_plan::Violation>,
}

impl Publication {
    /// Plans everything. What was published before a restart is not known, so every object may have been seen.
    pub fn whole(snapshot: &Snapshot) -> (Self, Vec<Unfit>) {
        let settings = snapshot.settings();
        let mut publication = Self {
            host: settings.host.clone(),
            realm: settings.realm.clone(),
            uplink: isthmus_plan::uplink(settings),
            generation: Generation(snapshot.revision().0),
            floor: Generation(0),
            delivered: Generation(u64::MAX),
            vpcs: BTreeMap::new(),
            removed: VecDeque::new(),
            leaving: BTreeMap::new(),
        };
        let (_, unfit) = publication.replan(snapshot, snapshot.vpcs().map(|vpc| vpc.id));
        publication.generation = Generation(snapshot.revision().0);
        publication.floor = publication.generation;
        publication.delivered = publication.generation;
        (publication, unfit)
    }

    /// Plans `vpcs` anew. Whether anything that agents see has changed; plans that may not be published are left as
    /// they were.
    pub fn replan(
        &mut self,
        snapshot: &Snapshot,
        vpcs: impl IntoIterator<Item = VpcId>,
    ) -> (bool, Vec<Unfit>) {
        let generation = Generation(snapshot.revision().0);
        let mut changed = false;
        let mut unfit = Vec::new();
        for vpc in vpcs {
            let plan = isthmus_plan::plan_vpc(snapshot, vpc);
            let violations = plan.as_ref().map(isthmus_plan::check).unwrap_or_default();
            if violations.is_empty() {
                let before = self
                    .vpcs
                    .get(&vpc)
                    .map(|old| old.born.clone())
                    .unwrap_or_default();
                changed |= self.publish(vpc, plan, generation);
                self.note_leaving(snapshot, vpc, &before);
            } else {
                unfit.push(Unfit { vpc, violations });
            }
        }
        self.leaving.retain(|object, _| is_marked(snapshot, *object));
        (changed, unfit)
    }

    /// What has changed since the plan of generation `after`; none if nothing has.
    pub fn delta(&mut self, after: Generation) -> Option<PlanDelta> {
        if after == self.generation {
            return None;
        }
        let whole = after < self.floor || after > self.generation;
        let changed = self
            .vpcs
            .values()
            .map(|published| &published.plan)
            .filter(|plan| whole || plan.generation > after)
            .cloned()
            .collect();
        let removed = self
            .removed
            .iter()
            .filter(|(generation, vpc)| !whole && *generation > after && !self.vpcs.contains_key(vpc))
            .map(|(_, vpc)| *vpc)
            .collect::<BTreeSet<_>>();
        self.delivered = self.delivered.max(self.generation);
        Some(PlanDelta {
            host: self.host.clone(),
            realm: self.realm.clone(),
            generation: self.generation,
            uplink: self.uplink.clone(),
            whole,
            changed,
            removed: removed.into_iter().collect(),
        })
    }

    /// The host that this is for.
    pub const fn host(&self) -> &HostName {
        &self.host
    }

    /// Generation of the newest change.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The published plan of a VPC.
    pub fn vpc(&self, vpc: VpcId) -> Option<&VpcPlan> {
        self.vpcs.get(&vpc).map(|published| &published.plan)
    }

    /// The published plans, by VPC.
    pub fn vpcs(&self) -> impl Iterator<Item = &VpcPlan> + '_ {
        self.vpcs.values().map(|published| &published.plan)
    }

    /// What waits to be gone from the host.
    pub fn leaving(&self) -> impl Iterator<Item = (PlannedObject, Leaving)> + '_ {
        self.leaving.iter().map(|(object, leaving)| (*object, *leaving))
    }

    fn publish(&mut self, vpc: VpcId, plan: Option<VpcPlan>, generation: Generation) -> bool {
        let old = self.vpcs.get(&vpc);
        let Some(mut plan) = plan else {
            if self.vpcs.remove(&vpc).is_none() {
                return false;
            }
            self.generation = generation;
            self.removed.push_back((generation, vpc));
            while self.removed.len() > REMOVALS_KEPT {
                if let Some((forgotten, _)) = self.removed.pop_front() {
                    self.floor = self.floor.max(forgotten);
                }
            }
            return true;
        };
        plan.generation = old.map_or(generation, |old| old.plan.generation);
        if old.is_some_and(|old| old.plan == plan) {
            return false;
        }
        plan.generation = generation;
        let born = objects(&plan)
            .map(|object| {
                let earlier = old.and_then(|old| old.born.get(&object));
                (object, earlier.copied().unwrap_or(generation))
            })
            .collect();
        self.vpcs.insert(vpc, Published { plan, born });
        self.generation = generation;
        true
    }

    /// Notes objects of `vpc` that were marked for deletion since it was planned last; `before` is what it held.
    fn note_leaving(
        &mut self,
        snapshot: &Snapshot,
        vpc: VpcId,
        before: &BTreeMap<PlannedObject, Generation>,
    ) {
        let since = self.vpc(vpc).map_or(self.generation, |plan| plan.generation);
        for object in marked(snapshot, vpc) {
            let delivered = match before.get(&object) {
                Some(born) => *born <= self.delivered,
                // Made and marked between two plans, unless this is the first plan of all.
                None => self.delivered == Generation(u64::MAX),
            };
            self.leaving.entry(object).or_insert(Leaving {
                vpc,
                since,
                delivered,
            });
        }
    }
}

fn objects(plan: &VpcPlan) -> impl Iterator<Item = PlannedObject> + '_ {
    let instances = plan
        .ports
        .iter()
        .map(|port| PlannedObject::Instance(port.instance));
    let gateways = plan.gateways.iter().flat_map(|gateway| {
        let connections = gateway.connections.iter();
        connections
            .map(|connection| PlannedObject::Connection(connection.connection))
            .chain([PlannedObject::Gateway(gateway.gateway)])
    });
    instances.chain(gateways)
}

/// Objects of the VPC that are marked for deletion.
fn marked(snapshot: &Snapshot, vpc: VpcId) -> impl Iterator<Item = PlannedObject> + '_ {
    let instances = snapshot
        .instances_of(vpc)
        .filter(|instance| instance.deleting.is_some())
        .map(|instance| PlannedObject::Instance(instance.id));
    let gateways = snapshot
        .gateways_of(vpc)
        .filter(|gateway| gateway.deleting.is_some())
        .map(|gateway| PlannedObject::Gateway(gateway.id));
    let connections = snapshot
        .gateways_of(vpc)
        .flat_map(|gateway| snapshot.connections_of(gateway.id))
        .filter(|connection| connection.deleting.is_some())
        .map(|connection| PlannedObject::Connection(connection.id));
    instances.chain(gateways).chain(connections)
}

fn is_marked(snapshot: &Snapshot, object: PlannedObject) -> bool {
    match object {
        PlannedObject::Connection(id) => snapshot
            .vpn_connection(id)
            .is_some_and(|connection| connection.deleting.is_some()),
        PlannedObject::Gateway(id) => snapshot
            .vpn_gateway(id)
            .is_some_and(|gateway| gateway.deleting.is_some()),
        PlannedObject::Instance(id) => snapshot
            .instance(id)
            .is_some_and(|instance| instance.deleting.is_some()),
    }
}
