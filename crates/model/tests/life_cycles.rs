//! How resources come, change state and go.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

mod support;

use isthmus_model::{InstancePower, Settings};
use isthmus_ops::OpErrorCode as Code;
use isthmus_ops::*;
use isthmus_types::*;

use support::*;

fn world_with_subnet() -> (World, VpcId, SubnetId) {
    let mut world = World::new(Settings::default());
    let vpc = world.vpc_with_prefix("alpha", "10.1.0.0/16");
    let subnet = world.subnet(vpc, "10.1.0.0/24");
    (world, vpc, subnet)
}

fn finish(world: &mut World, findings: HostFindings) {
    world.run_as_system(Operation::FinishDeletion(findings));
}

#[test]
fn a_vpc_comes_whole_and_goes_whole() {
    let mut world = World::new(Settings::default());
    let empty = world.state.record_count();
    let view = world.vpc("alpha");
    assert_eq!(world.state.record_count(), empty + 7);
    let Outcome::AddressPrefixes(prefixes) = world
        .ask(Query::AddressPrefixes {
            vpc: view.id,
            page: page(50, None),
        })
        .unwrap()
    else {
        panic!()
    };
    let mut found: Vec<_> = prefixes
        .items
        .iter()
        .map(|item| (item.zone.clone(), item.cidr))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            (zone(1), cidr("10.240.0.0/18")),
            (zone(2), cidr("10.240.64.0/18")),
            (zone(3), cidr("10.240.128.0/18"))
        ]
    );
    assert!(
        prefixes
            .items
            .iter()
            .all(|item| item.is_default && !item.has_subnets)
    );
    let Outcome::SecurityGroup(group) = world.ask(Query::DefaultSecurityGroup(view.id)).unwrap() else {
        panic!()
    };
    let anywhere = RuleRemote::Cidr(Cidr::ALL_IPV4);
    assert_eq!(
        group
            .rules
            .iter()
            .map(|rule| (rule.inbound, rule.remote.clone()))
            .collect::<Vec<_>>(),
        [(true, anywhere.clone()), (false, anywhere)]
    );
    assert!(world.ask(Query::DefaultNetworkAcl(view.id)).is_ok());
    assert!(world.ask(Query::DefaultRouteTable(view.id)).is_ok());

    let subnet = world.subnet(view.id, "10.240.0.0/24");
    let delete = Operation::DeleteVpc(DeleteVpc {
        vpc: view.id,
        if_match: None,
    });
    assert_eq!(world.refusal(delete.clone()), Code::InUse);
    world.run(Operation::DeleteSubnet { subnet }).unwrap();
    world.run(delete).unwrap();
    assert_eq!(world.state.record_count(), empty);
    invariants::check(&world.state);
}

#[test]
fn a_gateway_is_pending_until_it_was_seen_and_takes_eight_addresses() {
    let (mut world, vpc, subnet) = world_with_subnet();
    assert_eq!(world.subnet_view(subnet).available_addresses, 251);
    let gateway = world.gateway(subnet);
    assert_eq!(gateway.lifecycle, Lifecycle::Pending);
    assert_eq!(gateway.public_address, ip("203.0.113.2"));
    assert!(gateway.members[0].active && !gateway.members[1].active);
    assert_ne!(
        gateway.members[0].private_address,
        gateway.members[1].private_address
    );
    assert_eq!(world.subnet_view(subnet).available_addresses, 243);
    let Outcome::ReservedIps(held) = world
        .ask(Query::ReservedIps {
            subnet,
            page: page(50, None),
        })
        .unwrap()
    else {
        panic!()
    };
    let provider = held
        .items
        .iter()
        .filter(|item| item.holder == AddressHolder::Provider)
        .count();
    assert_eq!((held.total, provider), (13, 5));

    // While pending: renaming and connections work, deleting does not.
    let id = gateway.id;
    let connection = world
        .connection(new_connection(id, &["10.1.0.0/24"], &["10.2.0.0/24"]))
        .id;
    world
        .run(Operation::UpdateVpnGateway {
            gateway: id,
            name: Some(name("renamed")),
        })
        .unwrap();
    assert_eq!(
        world.refusal(Operation::DeleteVpnGateway { gateway: id }),
        Code::InvalidState
    );
    assert_eq!(
        world.refusal(Operation::DeleteSubnet { subnet }),
        Code::InUseByVpnGateway
    );

    world.report_gateway(id, GatewayStatus::Available);
    assert_eq!(world.gateway_view(id).lifecycle, Lifecycle::Ready);
    let failed = GatewayStatus::Failed {
        reason: "no device".to_owned(),
    };
    world.report_gateway(id, failed);
    assert_eq!(
        world.gateway_view(id).lifecycle,
        Lifecycle::Failed {
            reason: "no device".to_owned()
        }
    );
    assert_eq!(world.gateway_view(id).common.version, 2);

    world.run(Operation::DeleteVpnGateway { gateway: id }).unwrap();
    world.run(Operation::DeleteVpnGateway { gateway: id }).unwrap();
    let view = world.gateway_view(id);
    assert_eq!((view.lifecycle, view.connections.len()), (Lifecycle::Deleting, 0));
    for operation in [
        Operation::UpdateVpnGateway {
            gateway: id,
            name: Some(name("late")),
        },
        Operation::CreateVpnConnection(new_connection(id, &["10.1.0.0/24"], &["10.3.0.0/24"])),
    ] {
        assert_eq!(world.refusal(operation), Code::InvalidState);
    }
    assert!(
        world
            .ask(Query::VpnConnection {
                gateway: id,
                connection
            })
            .is_err()
    );
    // Until no host has it, it holds what it has.
    assert_eq!(
        world.refusal(Operation::DeleteSubnet { subnet }),
        Code::InUseByVpnGateway
    );
    assert_eq!(world.subnet_view(subnet).available_addresses, 243);
    let second = world.gateway(subnet);
    assert_ne!(second.public_address, view.public_address);

    finish(
        &mut world,
        HostFindings {
            gateways: vec![id],
            ..HostFindings::default()
        },
    );
    assert_eq!(world.ask(Query::VpnGateway(id)).unwrap_err().code, Code::NotFound);
    assert_eq!(world.subnet_view(subnet).available_addresses, 243);
    assert_eq!(world.gateway(subnet).public_address, view.public_address);
    assert_eq!(world.state.gateways_of(vpc).count(), 2);
    assert!(world.state.vpn_connection(connection).is_none());
    invariants::check(&world.state);
}

#[test]
fn a_deleted_connection_is_gone_for_callers_at_once_and_lets_go_of_everything() {
    let (mut world, _, subnet) = world_with_subnet();
    let gateway = world.available_gateway(subnet);
    let ike = world.ike_policy(IkeVersion::V2);
    let ipsec = world.ipsec_policy(ipsec_policy());
    let mut new = new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]);
    new.name = Some(name("link"));
    new.ike_policy = Some(ike);
    new.ipsec_policy = Some(ipsec);
    let connection = world.connection(new.clone()).id;
    assert_eq!(
        world.refusal(Operation::DeleteIkePolicy { policy: ike }),
        Code::InUse
    );
    assert_eq!(
        world.refusal(Operation::DeleteIpsecPolicy { policy: ipsec }),
        Code::InUse
    );
    let Outcome::VpnConnections(users) = world
        .ask(Query::IkePolicyConnections {
            policy: ike,
            page: page(9, None),
        })
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(
        users.items.iter().map(|user| user.id).collect::<Vec<_>>(),
        [connection]
    );

    world
        .run(Operation::DeleteVpnConnection {
            gateway,
            connection,
            if_match: None,
        })
        .unwrap();
    assert_eq!(
        world
            .ask(Query::VpnConnection { gateway, connection })
            .unwrap_err()
            .code,
        Code::NotFound
    );
    assert_eq!(
        world.refusal(Operation::DeleteVpnConnection {
            gateway,
            connection,
            if_match: None
        }),
        Code::NotFound
    );
    assert!(world.state.vpn_connection(connection).unwrap().deleting.is_some());
    assert!(world.state.pre_shared_key(connection).is_none());
    // Name, ranges and policies are free again.
    let again = world.connection(new).id;
    invariants::check(&world.state);
    finish(
        &mut world,
        HostFindings {
            connections: vec![connection, again],
            ..HostFindings::default()
        },
    );
    assert!(world.state.vpn_connection(connection).is_none());
    assert!(
        world.state.vpn_connection(again).is_some(),
        "it was not marked for deletion"
    );
    world
        .run(Operation::DeleteVpnConnection {
            gateway,
            connection: again,
            if_match: None,
        })
        .unwrap();
    world.run(Operation::DeleteIkePolicy { policy: ike }).unwrap();
    world.run(Operation::DeleteIpsecPolicy { policy: ipsec }).unwrap();
    invariants::check(&world.state);
}

#[test]
fn the_state_of_a_connection_is_what_was_asked_joined_with_what_was_seen() {
    let (mut world, _, subnet) = world_with_subnet();
    let gateway = world.gateway(subnet).id;
    let created = world.connection(new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]));
    let connection = created.id;
    let reason = |world: &World| match world.connection_view(gateway, connection).state {
        ConnectionState::Up => None,
        ConnectionState::Down { reason, .. } => Some(reason),
    };
    let report = |world: &mut World, state: ConnectionState, since: u64| {
        let status = ConnectionStatus {
            state,
            since: Timestamp(since),
            reset_count: 0,
            ike_suite: "aes256".to_owned(),
            esp_suite: "aes256gcm16".to_owned(),
        };
        world.run_as_system(Operation::RecordStatus(vec![StatusUpdate::VpnConnection {
            connection,
            status,
        }]));
    };
    let switch = |world: &mut World, up: bool| {
        let mut update = no_update(gateway, connection);
        update.admin_state_up = Some(up);
        world.run(Operation::UpdateVpnConnection(update)).unwrap();
    };
    let down = |reason| ConnectionState::Down {
        reason,
        detail: "evidence".to_owned(),
    };
    assert_eq!(reason(&world), Some(ConnectionDownReason::Negotiating));
    assert_eq!(created.state_since, created.common.created_at);
    report(
        &mut world,
        down(ConnectionDownReason::AuthenticationFailed),
        7_000,
    );
    assert_eq!(reason(&world), Some(ConnectionDownReason::AuthenticationFailed));
    report(&mut world, ConnectionState::Up, 8_000);
    let view = world.connection_view(gateway, connection);
    assert_eq!(
        (view.state, view.state_since),
        (ConnectionState::Up, Timestamp(8_000))
    );
    assert_eq!(
        (view.ike_suite.as_str(), view.esp_suite.as_str()),
        ("aes256", "aes256gcm16")
    );
    assert_eq!(view.common.version, 1);
    switch(&mut world, false);
    assert_eq!(reason(&world), Some(ConnectionDownReason::AdminDown));
    assert_eq!(world.connection_view(gateway, connection).ike_suite, "");
    report(&mut world, down(ConnectionDownReason::AdminDown), 9_000);
    switch(&mut world, true);
    assert_eq!(reason(&world), Some(ConnectionDownReason::Negotiating));
    // The same report again changes nothing.
    let before = world.state.clone();
    report(&mut world, down(ConnectionDownReason::AdminDown), 9_000);
    assert_eq!(world.state, before);
}

#[test]
fn a_connection_tells_the_ike_version_of_its_policy() {
    let (mut world, _, subnet) = world_with_subnet();
    let gateway = world.gateway(subnet).id;
    let policies = [world.ike_policy(IkeVersion::V1), world.ike_policy(IkeVersion::V2)];
    let ipsec = world.ipsec_policy(ipsec_policy());
    let mut new = new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]);
    new.ipsec_policy = Some(ipsec);
    let view = world.connection(new);
    assert_eq!(view.ike_version, None);
    for (policy, version) in [
        (Some(policies[0]), Some(IkeVersion::V1)),
        (Some(policies[1]), Some(IkeVersion::V2)),
        (None, None),
    ] {
        let mut update = no_update(gateway, view.id);
        update.ike_policy = Some(policy);
        world.run(Operation::UpdateVpnConnection(update)).unwrap();
        let after = world.connection_view(gateway, view.id);
        assert_eq!(after.ike_version, version);
        // Answers that were kept before the version was told can still be repeated.
        let mut kept = serde_json::to_value(&after).unwrap();
        kept.as_object_mut().unwrap().remove("ike_version").unwrap();
        let read: VpnConnectionView = serde_json::from_value(kept).unwrap();
        assert_eq!((read.id, read.ike_version), (after.id, None));
    }
}

#[test]
fn an_instance_lives_through_its_states() {
    let (mut world, vpc, subnet) = world_with_subnet();
    let instance = world.instance(subnet, "box").id;
    let act = |action| Operation::ActOnInstance { instance, action };
    use InstanceAction::{Reboot, Start, Stop};
    assert_eq!(world.instance_state(instance), InstanceState::Pending);
    for action in [Reboot, Start, Stop] {
        assert_eq!(world.refusal(act(action)), Code::InvalidState);
    }
    world.report_instance(instance, InstanceStatus::Running);
    assert_eq!(world.instance_state(instance), InstanceState::Running);
    assert_eq!(world.refusal(act(Start)), Code::InvalidState);
    world.run(act(Stop)).unwrap();
    assert_eq!(world.instance_state(instance), InstanceState::Stopping);
    assert!(!world.state.instance(instance).unwrap().should_run());
    world.report_instance(instance, InstanceStatus::Stopped);
    assert_eq!(world.instance_state(instance), InstanceState::Stopped);
    for action in [Reboot, Stop] {
        assert_eq!(world.refusal(act(action)), Code::InvalidState);
    }
    world.run(act(Start)).unwrap();
    assert_eq!(world.instance_state(instance), InstanceState::Starting);
    world.report_instance(instance, InstanceStatus::Running);

    // A restart goes down until that was seen, then up until that was seen.
    let Outcome::InstanceAction(action) = world.run(act(Reboot)).unwrap() else {
        panic!()
    };
    assert_eq!((action.instance, action.action), (instance, Reboot));
    let power = |world: &World| world.state.instance(instance).unwrap().power;
    assert_eq!(
        (power(&world), world.instance_state(instance)),
        (InstancePower::RestartingDown, InstanceState::Restarting)
    );
    world.report_instance(instance, InstanceStatus::Running);
    assert_eq!(power(&world), InstancePower::RestartingDown);
    let version = world.state.instance(instance).unwrap().meta.version;
    world.report_instance(instance, InstanceStatus::Stopped);
    assert_eq!(
        (power(&world), world.instance_state(instance)),
        (InstancePower::RestartingUp, InstanceState::Restarting)
    );
    assert!(world.state.instance(instance).unwrap().should_run());
    world.report_instance(instance, InstanceStatus::Running);
    assert_eq!(
        (power(&world), world.instance_state(instance)),
        (InstancePower::Running, InstanceState::Running)
    );
    assert_eq!(world.state.instance(instance).unwrap().meta.version, version);

    let failed = InstanceStatus::Failed {
        reason: "no namespace".to_owned(),
    };
    world.report_instance(instance, failed);
    assert_eq!(
        world.instance_state(instance),
        InstanceState::Failed {
            reason: "no namespace".to_owned()
        }
    );

    let address = world.state.interfaces_of(vpc).next().unwrap().address;
    assert_eq!(world.subnet_view(subnet).available_addresses, 250);
    for _ in 0..2 {
        world
            .run(Operation::DeleteInstance {
                instance,
                if_match: None,
            })
            .unwrap();
    }
    assert_eq!(world.instance_state(instance), InstanceState::Deleting);
    assert_eq!(world.refusal(act(Stop)), Code::InvalidState);
    assert_eq!(
        world.refusal(Operation::DeleteSubnet { subnet }),
        Code::InUseByInterface
    );
    finish(
        &mut world,
        HostFindings {
            instances: vec![instance],
            ..HostFindings::default()
        },
    );
    assert!(world.ask(Query::Instance(instance)).is_err());
    assert_eq!(world.subnet_view(subnet).available_addresses, 251);
    assert_eq!(world.instance(subnet, "box").interface.address, address);
    invariants::check(&world.state);
}

#[test]
fn the_public_address_of_a_vpc_comes_with_its_first_instance_and_goes_with_the_vpc() {
    let (mut world, vpc, subnet) = world_with_subnet();
    let source_nat = |world: &World| world.state.vpc(vpc).unwrap().source_nat;
    assert_eq!(source_nat(&world), None);
    let instance = world.instance(subnet, "box").id;
    let address = source_nat(&world);
    assert_eq!(address, Some(ip("203.0.113.2")));
    assert_eq!(
        world.state.vpc(vpc).unwrap().meta.version,
        1,
        "the caller changed nothing of the VPC"
    );
    world.instance(subnet, "other");
    assert_eq!(source_nat(&world), address);
    let others: Vec<_> = world.state.instances_of(vpc).map(|found| found.id).collect();
    for instance in &others {
        world
            .run(Operation::DeleteInstance {
                instance: *instance,
                if_match: None,
            })
            .unwrap();
    }
    assert!(others.contains(&instance));
    finish(
        &mut world,
        HostFindings {
            instances: others,
            ..HostFindings::default()
        },
    );
    assert_eq!(source_nat(&world), address);
    world.run(Operation::DeleteSubnet { subnet }).unwrap();
    world
        .run(Operation::DeleteVpc(DeleteVpc { vpc, if_match: None }))
        .unwrap();
    assert_eq!(world.state.public_addresses().count(), 0);
}

#[test]
fn reports_about_what_is_gone_or_wanted_are_passed_over() {
    let (mut world, _, subnet) = world_with_subnet();
    let gateway = world.available_gateway(subnet);
    let instance = world.instance(subnet, "box").id;
    let missing = bits(0x77);
    let before = world.state.clone();
    world.run_as_system(Operation::RecordStatus(vec![
        StatusUpdate::VpnGateway {
            gateway: VpnGatewayId(missing),
            status: GatewayStatus::Available,
        },
        StatusUpdate::Instance {
            instance: InstanceId(missing),
            status: InstanceStatus::Running,
        },
    ]));
    finish(
        &mut world,
        HostFindings {
            instances: vec![instance, InstanceId(missing)],
            gateways: vec![gateway, VpnGatewayId(missing)],
            connections: vec![VpnConnectionId(missing)],
        },
    );
    assert_eq!(world.state, before);
    world.run(Operation::DeleteVpnGateway { gateway }).unwrap();
    let before = world.state.clone();
    world.report_gateway(
        gateway,
        GatewayStatus::Failed {
            reason: "late".to_owned(),
        },
    );
    assert_eq!(world.state, before);
}

#[test]
fn fifty_rounds_of_making_and_deleting_everything_leave_nothing() {
    let mut world = World::new(Settings::default());
    let before: Vec<_> = world.state.records().collect();
    for _ in 0..50 {
        let vpc = world.vpc("alpha").id;
        let subnet = world.subnet(vpc, "10.240.0.0/24");
        let instance = world.instance(subnet, "box").id;
        let gateway = world.available_gateway(subnet);
        let ike = world.ike_policy(IkeVersion::V2);
        let mut new = new_connection(gateway, &["10.240.0.0/24"], &["10.2.0.0/24"]);
        new.ike_policy = Some(ike);
        world.connection(new);
        world.run(Operation::DeleteVpnGateway { gateway }).unwrap();
        world
            .run(Operation::DeleteInstance {
                instance,
                if_match: None,
            })
            .unwrap();
        finish(
            &mut world,
            HostFindings {
                instances: vec![instance],
                gateways: vec![gateway],
                ..HostFindings::default()
            },
        );
        world.run(Operation::DeleteIkePolicy { policy: ike }).unwrap();
        world.run(Operation::DeleteSubnet { subnet }).unwrap();
        world
            .run(Operation::DeleteVpc(DeleteVpc { vpc, if_match: None }))
            .unwrap();
    }
    assert_eq!(world.state.records().collect::<Vec<_>>(), before);
    invariants::check(&world.state);
}

#[test]
fn changes_name_the_vpcs_whose_plans_they_touch() {
    let (mut world, alpha, subnet) = world_with_subnet();
    let beta = world.vpc_with_prefix("beta", "10.9.0.0/16");
    let gateway = world.available_gateway(subnet);
    let ike = world.ike_policy(IkeVersion::V2);
    let mut new = new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]);
    new.ike_policy = Some(ike);
    let connection = world.connection(new).id;
    let scope = |world: &World, caller: Caller, operation: Operation| -> Vec<VpcId> {
        let request = Request {
            caller,
            operation,
            idempotency_token: None,
        };
        let mut number = 0x5000;
        let mut ids = || {
            number += 1;
            bits(number)
        };
        let (changes, _) = isthmus_model::apply(&world.state, &request, Timestamp(9), &mut ids).unwrap();
        let after = world.state.with(&changes);
        changes.vpc_scope(&world.state, &after).into_iter().collect()
    };
    let lifetime = Operation::UpdateIkePolicy(UpdateIkePolicy {
        policy: ike,
        name: None,
        version: None,
        encryption: None,
        integrity: None,
        dh: None,
        key_lifetime: Some(1_900),
    });
    let mut key = no_update(gateway, connection);
    key.psk = Some(Secret::new("another-key".to_owned()));
    let status = Operation::RecordStatus(vec![StatusUpdate::VpnGateway {
        gateway,
        status: GatewayStatus::Failed {
            reason: String::new(),
        },
    }]);
    assert_eq!(scope(&world, caller(ACCOUNT), lifetime), [alpha]);
    assert_eq!(
        scope(&world, caller(ACCOUNT), Operation::UpdateVpnConnection(key)),
        [alpha]
    );
    assert_eq!(
        scope(&world, caller(ACCOUNT), create_subnet(beta, "10.9.0.0/24", None)),
        [beta]
    );
    assert_eq!(
        scope(
            &world,
            caller(ACCOUNT),
            Operation::DeleteVpc(DeleteVpc {
                vpc: beta,
                if_match: None
            })
        ),
        [beta]
    );
    assert_eq!(scope(&world, system(), status), []);
    assert_eq!(
        scope(
            &world,
            caller(ACCOUNT),
            Operation::CreateIkePolicy(ike_policy(IkeVersion::V2))
        ),
        []
    );
}
