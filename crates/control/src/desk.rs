//! All that control remembers between two events: what is published, and what was heard last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use isthmus_hostplan::{ConnectionReport, HostReport, PlanDelta};
use isthmus_model::Snapshot;
use isthmus_types::{AccountId, Generation, HostName, Revision, Timestamp, VpcId, VpnConnectionId};

use crate::digest::{Digest, Missing, digest};
use crate::http::Health;
use crate::metrics::{self, SeenConnection, SeenGateway, SeenInstallation};
use crate::observed::ObservedConnection;
use crate::publication::{Publication, Unfit};

/// What control remembers. Everything in it can be worked out anew from the store and the next report.
#[derive(Debug)]
pub(crate) struct Desk {
    publication: Publication,
    planned: Revision,
    report: Option<HostReport>,
    missing: Missing,
    heard: Option<Timestamp>,
    is_silent: bool,
}

/// A turn in whether the host is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// It is heard again after a silence.
    Back,
    /// Nothing has been heard for too long.
    Lost,
}

impl Desk {
    /// Plans everything.
    pub fn new(snapshot: &Snapshot) -> (Self, Vec<Unfit>) {
        let (publication, unfit) = Publication::whole(snapshot);
        let desk = Self {
            publication,
            planned: snapshot.revision(),
            report: None,
            missing: Missing::default(),
            heard: None,
            is_silent: false,
        };
        (desk, unfit)
    }

    /// Plans what has changed, all of it if `vpcs` is none. Whether agents see a change.
    pub fn follow(&mut self, snapshot: &Snapshot, vpcs: Option<BTreeSet<VpcId>>) -> (bool, Vec<Unfit>) {
        let vpcs = vpcs.unwrap_or_else(|| {
            let known = self.publication.vpcs().map(|plan| plan.vpc);
            known.chain(snapshot.vpcs().map(|vpc| vpc.id)).collect()
        });
        self.planned = snapshot.revision();
        self.publication.replan(snapshot, vpcs)
    }

    /// What an agent that has the plan of generation `after` lacks.
    pub fn delta(&mut self, after: Generation, now: Timestamp) -> Option<PlanDelta> {
        self.heard = Some(now);
        self.publication.delta(after)
    }

    /// Takes what the host reports.
    pub fn hear(&mut self, report: HostReport, now: Timestamp) {
        self.heard = Some(now);
        self.report = Some(report);
    }

    /// What the last report means for the model as it is.
    pub fn digest(&mut self, snapshot: &Snapshot, now: Timestamp) -> Digest {
        digest(
            snapshot,
            &self.publication,
            self.report.as_ref(),
            &mut self.missing,
            now,
        )
    }

    /// Whether the host fell silent, or is back, since this was asked last.
    pub fn hearing(&mut self, silent_after: Duration, now: Timestamp) -> Option<Hearing> {
        let limit = u64::try_from(silent_after.as_millis()).unwrap_or(u64::MAX);
        let is_silent = self.heard.is_some_and(|heard| now.since(heard) > limit);
        let turn = match (self.is_silent, is_silent) {
            (false, true) => Some(Hearing::Lost),
            (true, false) => Some(Hearing::Back),
            (true, true) | (false, false) => None,
        };
        self.is_silent = is_silent;
        turn
    }

    /// What is planned and was reported of a connection.
    pub fn observe(&self, connection: VpnConnectionId, now: Timestamp) -> Option<ObservedConnection> {
        let (gateway, plan) = self
            .publication
            .vpcs()
            .flat_map(|vpc| &vpc.gateways)
            .find_map(|gateway| {
                let mut plans = gateway.connections.iter();
                let plan = plans.find(|plan| plan.connection == connection)?;
                Some((gateway, plan))
            })?;
        Some(ObservedConnection {
            public_address: gateway.address_towards(&plan.peer),
            plan: plan.clone(),
            report: self.report_of(connection).cloned(),
            heard_ms_ago: self.heard.map(|heard| now.since(heard)),
        })
    }

    /// Metrics of what belongs to `account`, and of the installation if its operator asks.
    pub fn metrics(
        &self,
        snapshot: &Snapshot,
        account: AccountId,
        is_operator: bool,
        now: Timestamp,
    ) -> Option<String> {
        let reports = self.report.as_ref();
        let connections: BTreeMap<VpnConnectionId, &ConnectionReport> = reports
            .into_iter()
            .flat_map(|report| &report.connections)
            .map(|report| (report.connection, report))
            .collect();
        let mut gateways = Vec::new();
        for plan in self.publication.vpcs().flat_map(|vpc| &vpc.gateways) {
            let owner = snapshot.vpn_gateway(plan.gateway).map(|found| found.meta.account);
            if owner != Some(account) {
                continue;
            }
            gateways.push(SeenGateway {
                report: reports.and_then(|report| {
                    let mut found = report.gateways.iter();
                    found.find(|found| found.gateway == plan.gateway)
                }),
                connections: plan
                    .connections
                    .iter()
                    .map(|plan| SeenConnection {
                        plan,
                        report: connections.get(&plan.connection).copied(),
                    })
                    .collect(),
                plan,
            });
        }
        let installation = is_operator.then(|| SeenInstallation {
            health: self.health(now),
            revision: snapshot.revision().0,
            agent: reports.map(|report| report.agent.clone()),
        });
        metrics::text(&gateways, installation)
    }

    fn report_of(&self, connection: VpnConnectionId) -> Option<&ConnectionReport> {
        let mut reports = self.report.as_ref()?.connections.iter();
        reports.find(|report| report.connection == connection)
    }

    /// How things stand.
    pub fn health(&self, now: Timestamp) -> Health {
        Health {
            host: self.publication.host().clone(),
            generation: self.publication.generation(),
            host_generation: self.report.as_ref().map(|report| report.generation),
            status: self.report.as_ref().map(|report| report.status.clone()),
            heard_ms_ago: self.heard.map(|heard| now.since(heard)),
        }
    }

    /// The revision that the published plans are of.
    pub const fn planned(&self) -> Revision {
        self.planned
    }

    /// Generation of the newest change.
    pub const fn generation(&self) -> Generation {
        self.publication.generation()
    }

    /// The host that this is for.
    pub const fn host(&self) -> &HostName {
        self.publication.host()
    }
}
