use std::collections::BTreeSet;

use isthmus_hostplan::{ObjectState, TunnelState};
use isthmus_model::Snapshot;
use isthmus_ops::{
    ConnectionDownReason, ConnectionState, GatewayStatus, HostFindings, InstanceAction, InstanceStatus,
    Operation,
};
use isthmus_types::{Generation, Timestamp};
use proptest::prelude::*;

use super::world::*;
use crate::desk::{Desk, Hearing};
use crate::service::SILENT_AFTER;

const NOW: Timestamp = Timestamp(10_000);

/// A model, control's desk, and a host.
struct Lab {
    world: World,
    desk: Desk,
    host: FakeHost,
    now: Timestamp,
}

impl Lab {
    fn new(world: World) -> Self {
        let (desk, unfit) = Desk::new(&world.snapshot);
        assert!(unfit.is_empty());
        Self {
            world,
            desk,
            host: FakeHost::new(),
            now: NOW,
        }
    }

    /// Plans what changed, and says whether the host is told of it.
    fn follow(&mut self) -> bool {
        let (changed, unfit) = self.desk.follow(&self.world.snapshot, None);
        assert!(unfit.is_empty(), "{unfit:?}");
        changed
    }

    fn change(&mut self, operation: Operation) -> isthmus_ops::Outcome {
        let outcome = self.world.apply(operation);
        self.follow();
        outcome
    }

    /// A change that may be refused.
    fn attempt(&mut self, operation: Operation) {
        // Refused or not, host and model must agree in the end.
        let _ = self.world.attempt(operation);
        self.follow();
    }

    /// The host takes what is published.
    fn fetch(&mut self) {
        if let Some(delta) = self.desk.delta(self.host.generation(), self.now) {
            self.host.take(delta);
        }
    }

    /// The host reports, and what that says is recorded.
    fn report(&mut self) {
        self.desk.hear(self.host.report(), self.now);
        self.record();
    }

    fn record(&mut self) {
        let digest = self.desk.digest(&self.world.snapshot, self.now);
        if !digest.updates.is_empty() {
            self.world.apply(Operation::RecordStatus(digest.updates));
        }
        if digest.findings != HostFindings::default() {
            self.world.apply(Operation::FinishDeletion(digest.findings));
        }
        self.follow();
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            self.fetch();
            self.report();
        }
    }

    fn snapshot(&self) -> &Snapshot {
        &self.world.snapshot
    }
}

/// One VPC with an instance and a gateway with a connection, on the host.
fn lab_with_a_connection() -> (
    Lab,
    isthmus_types::VpcId,
    isthmus_types::InstanceId,
    isthmus_types::VpnGatewayId,
    isthmus_types::VpnConnectionId,
) {
    let mut world = World::new();
    let (vpc, subnet) = world.vpc(1);
    let instance = instance_of(world.apply(create_instance(subnet)));
    let gateway = gateway_of(world.apply(create_gateway(subnet)));
    let connection = connection_of(world.apply(create_connection(gateway, 1, 1)));
    let mut lab = Lab::new(world);
    lab.settle();
    (lab, vpc, instance, gateway, connection)
}

#[test]
fn what_the_host_has_is_recorded_once() {
    let (mut lab, _, instance, gateway, connection) = lab_with_a_connection();
    assert_eq!(
        lab.snapshot().instance_status(instance),
        Some(&InstanceStatus::Running)
    );
    assert_eq!(
        lab.snapshot().gateway_status(gateway),
        Some(&GatewayStatus::Available)
    );
    let state = |lab: &Lab| {
        lab.snapshot()
            .connection_status(connection)
            .unwrap()
            .state
            .clone()
    };
    assert_eq!(state(&lab), ConnectionState::Up);
    let revision = lab.snapshot().revision();
    lab.report();
    assert_eq!(
        lab.snapshot().revision(),
        revision,
        "nothing new, nothing written"
    );
    assert!(lab.desk.delta(lab.host.generation(), NOW).is_none());
}

#[test]
fn a_status_alone_publishes_nothing() {
    let (mut lab, _, _, _, connection) = lab_with_a_connection();
    let generation = lab.desk.generation();
    let mut report = lab.host.report();
    report.connections = vec![connection_report(connection, silent_peer())];
    lab.desk.hear(report, NOW);
    let revision = lab.snapshot().revision();
    lab.record();
    assert!(lab.snapshot().revision() > revision);
    assert_eq!(lab.desk.generation(), generation);
    let status = lab.snapshot().connection_status(connection).unwrap();
    let ConnectionState::Down { reason, detail } = &status.state else {
        panic!("{status:?}");
    };
    assert_eq!(*reason, ConnectionDownReason::PeerNotResponding);
    assert!(detail.contains("no answer"));
}

#[test]
fn a_deleted_object_stays_until_the_host_has_worked_on_a_plan_without_it() {
    let (mut lab, _, instance, _, _) = lab_with_a_connection();
    lab.change(Operation::DeleteInstance {
        instance,
        if_match: None,
    });
    assert!(lab.snapshot().instance(instance).is_some());
    // A report of the plan before proves nothing, even if it no longer lists the instance.
    let mut early = lab.host.report();
    early.instances.clear();
    lab.desk.hear(early, NOW);
    lab.record();
    assert!(lab.snapshot().instance(instance).is_some());
    lab.fetch();
    // Neither does a report of the right plan that still lists it, nor one whose pass failed.
    let mut late = lab.host.report();
    late.instances = vec![isthmus_hostplan::InstanceReport {
        instance,
        running: false,
        state: ObjectState::Present,
    }];
    lab.desk.hear(late, NOW);
    lab.record();
    assert!(lab.snapshot().instance(instance).is_some());
    let mut failed = lab.host.report();
    failed.vpcs[0].state = ObjectState::Failed {
        reason: "no".to_owned(),
    };
    lab.desk.hear(failed, NOW);
    lab.record();
    assert!(lab.snapshot().instance(instance).is_some());
    lab.report();
    assert!(lab.snapshot().instance(instance).is_none());
}

#[test]
fn a_gateway_goes_with_its_connections_and_the_last_object_takes_the_vpc_along() {
    let (mut lab, vpc, instance, gateway, connection) = lab_with_a_connection();
    lab.change(Operation::DeleteInstance {
        instance,
        if_match: None,
    });
    lab.change(Operation::DeleteVpnGateway { gateway });
    assert!(lab.snapshot().vpn_gateway(gateway).is_some());
    lab.fetch();
    assert!(lab.host.plan.vpcs.is_empty());
    // The VPC is still being removed.
    let mut leaving = lab.host.report();
    leaving.vpcs = vec![isthmus_hostplan::VpcReport {
        vpc,
        generation: lab.host.generation(),
        state: ObjectState::Present,
    }];
    lab.desk.hear(leaving, NOW);
    lab.record();
    assert!(lab.snapshot().vpn_gateway(gateway).is_some());
    lab.report();
    assert!(lab.snapshot().vpn_gateway(gateway).is_none());
    assert!(lab.snapshot().vpn_connection(connection).is_none());
    assert!(lab.snapshot().instance(instance).is_none());
}

#[test]
fn what_no_agent_ever_saw_is_gone_at_once() {
    let mut world = World::new();
    let (_, subnet) = world.vpc(1);
    let mut lab = Lab::new(world);
    lab.fetch();
    let instance = instance_of(lab.change(create_instance(subnet)));
    let gateway = gateway_of(lab.change(create_gateway(subnet)));
    lab.change(Operation::DeleteInstance {
        instance,
        if_match: None,
    });
    lab.record();
    assert!(lab.snapshot().instance(instance).is_none());
    lab.settle();
    // Made and marked before control looked.
    let hasty = instance_of(lab.world.apply(create_instance(subnet)));
    lab.change(Operation::DeleteInstance {
        instance: hasty,
        if_match: None,
    });
    lab.record();
    assert!(lab.snapshot().instance(hasty).is_none());
    // But what an agent fetched is waited for.
    lab.change(Operation::DeleteVpnGateway { gateway });
    lab.record();
    assert!(lab.snapshot().vpn_gateway(gateway).is_some());
    lab.settle();
    assert!(lab.snapshot().vpn_gateway(gateway).is_none());
}

#[test]
fn after_a_restart_nothing_is_forgotten_or_invented() {
    let (mut lab, _, instance, gateway, connection) = lab_with_a_connection();
    lab.change(Operation::DeleteInstance {
        instance,
        if_match: None,
    });
    let before = lab.snapshot().clone();
    let (desk, _) = Desk::new(&before);
    lab.desk = desk;
    // Without a word from the host, nothing changes: the instance may still be there.
    lab.record();
    assert_eq!(lab.snapshot(), &before);
    lab.settle();
    assert!(lab.snapshot().instance(instance).is_none());
    assert_eq!(
        lab.snapshot().gateway_status(gateway),
        Some(&GatewayStatus::Available)
    );
    assert_eq!(
        lab.snapshot().connection_status(connection).unwrap().state,
        ConnectionState::Up
    );
}

#[test]
fn a_reset_is_carried_out_when_the_host_says_so_and_once() {
    let (mut lab, _, _, gateway, connection) = lab_with_a_connection();
    let seen = |lab: &Lab| {
        let status = lab.snapshot().connection_status(connection).unwrap();
        (status.reset_count, status.state.clone())
    };
    assert_eq!(seen(&lab), (0, ConnectionState::Up));
    let reset = || Operation::ResetVpnConnection {
        gateway,
        connection,
        if_match: None,
    };
    // Two before the host looks are one to it.
    lab.change(reset());
    lab.change(reset());
    lab.report();
    assert_eq!(seen(&lab).0, 0);
    lab.settle();
    assert_eq!(seen(&lab), (2, ConnectionState::Up));
    let generation = lab.host.generation();
    // Another server reads the same count and asks for nothing.
    let (desk, _) = Desk::new(lab.snapshot());
    lab.desk = desk;
    lab.settle();
    let planned = lab.host.plan.vpcs.values().flat_map(|plan| &plan.gateways);
    let counts: Vec<u32> = planned
        .flat_map(|gateway| &gateway.connections)
        .map(|connection| connection.reset_count)
        .collect();
    assert_eq!(counts, [2]);
    assert!(lab.host.generation() >= generation);
    // One that the host no longer runs is not said to be reset by that.
    lab.change(reset());
    let mut report = lab.host.report();
    report.connections.clear();
    lab.desk.hear(report, lab.now);
    lab.record();
    assert_eq!(seen(&lab).0, 2);
}

#[test]
fn a_host_that_is_far_behind_or_ahead_gets_the_whole_plan() {
    let (mut lab, ..) = lab_with_a_connection();
    for after in [Generation(0), Generation(1_000_000)] {
        let delta = lab.desk.delta(after, NOW).unwrap();
        assert!(delta.whole);
        assert_eq!(delta.changed.len(), 1);
    }
    let (vpc, subnet) = lab.world.vpc(2);
    lab.follow();
    lab.change(create_instance(subnet));
    let delta = lab.desk.delta(lab.host.generation(), NOW).unwrap();
    assert!(!delta.whole);
    assert_eq!(
        delta.changed.iter().map(|plan| plan.vpc).collect::<Vec<_>>(),
        [vpc]
    );
}

#[test]
fn a_tunnel_that_is_missing_for_a_moment_is_not_called_down() {
    let (mut lab, _, _, _, connection) = lab_with_a_connection();
    let mut without = lab.host.report();
    without.connections.clear();
    let state = |lab: &Lab| {
        lab.snapshot()
            .connection_status(connection)
            .unwrap()
            .state
            .clone()
    };
    lab.desk.hear(without.clone(), lab.now);
    lab.record();
    lab.now = Timestamp(NOW.0 + 4_900);
    lab.record();
    assert_eq!(state(&lab), ConnectionState::Up);
    lab.report();
    lab.desk.hear(without, lab.now);
    lab.now = Timestamp(NOW.0 + 8_000);
    lab.record();
    assert_eq!(state(&lab), ConnectionState::Up, "it was there in between");
    lab.now = Timestamp(NOW.0 + 14_000);
    lab.record();
    assert!(matches!(
        state(&lab),
        ConnectionState::Down {
            reason: ConnectionDownReason::Internal,
            ..
        }
    ));
    lab.report();
    assert_eq!(state(&lab), ConnectionState::Up);
}

#[test]
fn a_restart_of_an_instance_goes_down_and_up_again() {
    let (mut lab, _, instance, ..) = lab_with_a_connection();
    lab.change(Operation::ActOnInstance {
        instance,
        action: InstanceAction::Reboot,
    });
    let mut seen = Vec::new();
    for _ in 0..3 {
        lab.fetch();
        lab.report();
        seen.push(lab.snapshot().instance_status(instance).unwrap().clone());
    }
    assert_eq!(seen[..2], [InstanceStatus::Stopped, InstanceStatus::Running]);
    assert_eq!(
        lab.snapshot().instance(instance).unwrap().power,
        isthmus_model::InstancePower::Running
    );
}

#[test]
fn reports_of_unknown_objects_are_passed_over() {
    let (mut lab, ..) = lab_with_a_connection();
    let mut report = lab.host.report();
    report.connections.push(connection_report(
        isthmus_types::VpnConnectionId(isthmus_types::ResourceBits::from_random(99)),
        TunnelState::Up,
    ));
    let revision = lab.snapshot().revision();
    lab.desk.hear(report, NOW);
    lab.record();
    assert_eq!(lab.snapshot().revision(), revision);
}

#[test]
fn a_silent_host_is_noted_once_and_so_is_its_return() {
    let (mut lab, ..) = lab_with_a_connection();
    let later = Timestamp(NOW.0 + 31_000);
    assert_eq!(lab.desk.hearing(SILENT_AFTER, NOW), None);
    assert_eq!(lab.desk.hearing(SILENT_AFTER, later), Some(Hearing::Lost));
    assert_eq!(lab.desk.hearing(SILENT_AFTER, later), None);
    assert_eq!(lab.desk.health(later).heard_ms_ago, Some(31_000));
    lab.desk.hear(lab.host.report(), later);
    assert_eq!(lab.desk.hearing(SILENT_AFTER, later), Some(Hearing::Back));
}

/// Something that happens to the model, control or the host.
#[derive(Clone, Debug)]
enum Event {
    Connect(usize),
    Crash,
    DeleteConnection(usize),
    DeleteGateway(usize),
    DeleteInstance(usize),
    Fetch,
    Gateway(usize),
    Instance(usize),
    LoseHost,
    Report,
    Status,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        1 => (0usize..3).prop_map(Event::Instance),
        1 => (0usize..3).prop_map(Event::Gateway),
        1 => (0usize..8).prop_map(Event::Connect),
        1 => (0usize..8).prop_map(Event::DeleteInstance),
        1 => (0usize..8).prop_map(Event::DeleteGateway),
        1 => (0usize..8).prop_map(Event::DeleteConnection),
        3 => Just(Event::Fetch),
        3 => Just(Event::Report),
        1 => Just(Event::Status),
        1 => Just(Event::Crash),
        1 => Just(Event::LoseHost),
    ];
    prop::collection::vec(event, 0..60)
}

fn nth<T: Copy>(items: &[T], index: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[index % items.len()])
}

fn happen(lab: &mut Lab, subnets: &[isthmus_types::SubnetId], event: &Event, number: u8) {
    let snapshot = lab.snapshot();
    let instances: Vec<_> = snapshot
        .instances()
        .filter(|one| one.deleting.is_none())
        .map(|one| one.id)
        .collect();
    let gateways: Vec<_> = snapshot
        .vpn_gateways()
        .filter(|one| one.deleting.is_none())
        .map(|one| one.id)
        .collect();
    let connections: Vec<_> = snapshot
        .vpn_connections()
        .filter(|one| one.deleting.is_none())
        .map(|one| (one.gateway, one.id))
        .collect();
    match event {
        Event::Instance(subnet) => {
            lab.attempt(create_instance(subnets[*subnet]));
        }
        Event::Gateway(subnet) if gateways.len() < 3 => {
            lab.attempt(create_gateway(subnets[*subnet]));
        }
        Event::Connect(index) if connections.len() < 9 => {
            if let Some(gateway) = nth(&gateways, *index) {
                lab.attempt(create_connection(gateway, 1, number));
            }
        }
        Event::DeleteInstance(index) => {
            if let Some(instance) = nth(&instances, *index) {
                lab.attempt(Operation::DeleteInstance {
                    instance,
                    if_match: None,
                });
            }
        }
        Event::DeleteGateway(index) => {
            if let Some(gateway) = nth(&gateways, *index) {
                lab.attempt(Operation::DeleteVpnGateway { gateway });
            }
        }
        Event::DeleteConnection(index) => {
            if let Some((gateway, connection)) = nth(&connections, *index) {
                lab.attempt(Operation::DeleteVpnConnection {
                    gateway,
                    connection,
                    if_match: None,
                });
            }
        }
        Event::Fetch => lab.fetch(),
        Event::Report => lab.report(),
        Event::Status => lab.record(),
        Event::Crash => lab.desk = Desk::new(&lab.world.snapshot).0,
        Event::LoseHost => lab.host = FakeHost::new(),
        Event::Connect(_) | Event::Gateway(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_host_and_model_agree_in_the_end(events in events()) {
        let mut world = World::new();
        let subnets: Vec<_> = (1..4).map(|octet| world.vpc(octet).1).collect();
        let mut lab = Lab::new(world);
        for (number, event) in events.iter().enumerate() {
            happen(&mut lab, &subnets, event, u8::try_from(number).unwrap());
        }
        lab.settle();
        let snapshot = lab.snapshot();
        prop_assert!(snapshot.instances().all(|one| one.deleting.is_none()));
        prop_assert!(snapshot.vpn_gateways().all(|one| one.deleting.is_none()));
        prop_assert!(snapshot.vpn_connections().all(|one| one.deleting.is_none()));
        prop_assert!(snapshot.instances().all(|one| snapshot.instance_status(one.id).is_some()));
        prop_assert!(snapshot.vpn_connections().all(|one| snapshot.connection_status(one.id).is_some()));
        let (mut fresh, _) = Desk::new(snapshot);
        let mut other = FakeHost::new();
        if let Some(delta) = fresh.delta(Generation(0), NOW) {
            other.take(delta);
        }
        let ids = |host: &FakeHost| {
            host.plan.vpcs.values().map(|plan| {
                let mut plan = plan.clone();
                plan.generation = Generation(0);
                (plan.vpc, format!("{plan:?}"))
            }).collect::<BTreeSet<_>>()
        };
        prop_assert_eq!(ids(&lab.host), ids(&other));
    }
}
