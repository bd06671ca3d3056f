//! Random sequences of operations: every state on the way keeps all invariants, and the allocations and refusals are
//! those of a naive reference that keeps everything in plain lists.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

mod support;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use isthmus_model::{Quotas, Settings, Snapshot};
use isthmus_ops::*;
use isthmus_types::*;
use proptest::prelude::*;

use support::*;

/// An operation on things that are picked by number from those that exist.
#[derive(Clone, Debug)]
enum Step {
    CreateVpc {
        name: u8,
        auto: bool,
    },
    RenameVpc {
        vpc: usize,
        name: u8,
    },
    DeleteVpc {
        vpc: usize,
    },
    CreatePrefix {
        vpc: usize,
        third: u8,
        zone: u8,
        default: bool,
    },
    DeletePrefix {
        vpc: usize,
        prefix: usize,
    },
    CreateSubnet {
        vpc: usize,
        third: u8,
        length: u8,
        name: u8,
    },
    CarveSubnet {
        vpc: usize,
        zone: u8,
        exponent: u8,
    },
    DeleteSubnet {
        subnet: usize,
    },
    CreateInstance {
        subnet: usize,
        name: u8,
        host: Option<u8>,
    },
    Act {
        instance: usize,
        action: InstanceAction,
    },
    DeleteInstance {
        instance: usize,
    },
    ReportInstance {
        instance: usize,
        running: bool,
    },
    FinishInstance {
        instance: usize,
    },
    CreateGateway {
        subnet: usize,
    },
    ReportGateway {
        gateway: usize,
    },
    DeleteGateway {
        gateway: usize,
    },
    FinishGateway {
        gateway: usize,
    },
    CreateConnection {
        gateway: usize,
        local: u8,
        peer: u8,
        policies: bool,
    },
    ReportConnection {
        connection: usize,
        up: bool,
    },
    AddCidr {
        connection: usize,
        side: Side,
        third: u8,
    },
    RemoveCidr {
        connection: usize,
        side: Side,
        position: usize,
    },
    DeleteConnection {
        connection: usize,
    },
    FinishConnection {
        connection: usize,
    },
    CreatePolicies,
    DeletePolicies {
        policy: usize,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let any_index = 0usize..6;
    let action = prop_oneof![
        Just(InstanceAction::Reboot),
        Just(InstanceAction::Start),
        Just(InstanceAction::Stop)
    ];
    let side = prop_oneof![Just(Side::Local), Just(Side::Peer)];
    let i = any_index;
    prop_oneof![
        3 => (0u8..4, any::<bool>()).prop_map(|(name, auto)| Step::CreateVpc { name, auto }),
        1 => (i.clone(), 0u8..4).prop_map(|(vpc, name)| Step::RenameVpc { vpc, name }),
        1 => i.clone().prop_map(|vpc| Step::DeleteVpc { vpc }),
        3 => (i.clone(), 0u8..4, 1u8..4, any::<bool>())
            .prop_map(|(vpc, third, zone, default)| Step::CreatePrefix { vpc, third, zone, default }),
        1 => (i.clone(), i.clone()).prop_map(|(vpc, prefix)| Step::DeletePrefix { vpc, prefix }),
        6 => (i.clone(), 0u8..8, 24u8..30, 0u8..6)
            .prop_map(|(vpc, third, length, name)| Step::CreateSubnet { vpc, third, length, name }),
        3 => (i.clone(), 1u8..4, 2u8..9)
            .prop_map(|(vpc, zone, exponent)| Step::CarveSubnet { vpc, zone, exponent }),
        1 => i.clone().prop_map(|subnet| Step::DeleteSubnet { subnet }),
        6 => (i.clone(), 0u8..8, proptest::option::of(0u8..9))
            .prop_map(|(subnet, name, host)| Step::CreateInstance { subnet, name, host }),
        2 => (i.clone(), action).prop_map(|(instance, action)| Step::Act { instance, action }),
        2 => i.clone().prop_map(|instance| Step::DeleteInstance { instance }),
        3 => (i.clone(), any::<bool>()).prop_map(|(instance, running)| Step::ReportInstance { instance, running }),
        2 => i.clone().prop_map(|instance| Step::FinishInstance { instance }),
        4 => i.clone().prop_map(|subnet| Step::CreateGateway { subnet }),
        4 => i.clone().prop_map(|gateway| Step::ReportGateway { gateway }),
        2 => i.clone().prop_map(|gateway| Step::DeleteGateway { gateway }),
        2 => i.clone().prop_map(|gateway| Step::FinishGateway { gateway }),
        6 => (i.clone(), 0u8..4, 0u8..6, any::<bool>())
            .prop_map(|(gateway, local, peer, policies)| Step::CreateConnection { gateway, local, peer, policies }),
        2 => (i.clone(), any::<bool>()).prop_map(|(connection, up)| Step::ReportConnection { connection, up }),
        3 => (i.clone(), side.clone(), 0u8..6)
            .prop_map(|(connection, side, third)| Step::AddCidr { connection, side, third }),
        2 => (i.clone(), side, 0usize..3)
            .prop_map(|(connection, side, position)| Step::RemoveCidr { connection, side, position }),
        2 => i.clone().prop_map(|connection| Step::DeleteConnection { connection }),
        2 => i.clone().prop_map(|connection| Step::FinishConnection { connection }),
        1 => Just(Step::CreatePolicies),
        1 => i.prop_map(|policy| Step::DeletePolicies { policy }),
    ]
}

fn pick<T>(things: impl Iterator<Item = T>, position: usize) -> Option<T> {
    let mut things: Vec<T> = things.collect();
    let count = things.len();
    (count > 0).then(|| things.swap_remove(position % count))
}

fn nth_subnet(state: &Snapshot, position: usize) -> Option<&isthmus_model::Subnet> {
    pick(state.vpcs().flat_map(|vpc| state.subnets_of(vpc.id)), position)
}

fn operation(step: &Step, state: &Snapshot) -> Option<Operation> {
    network_operation(step, state)
        .or_else(|| workload_operation(step, state))
        .or_else(|| vpn_operation(step, state))
}

fn network_operation(step: &Step, state: &Snapshot) -> Option<Operation> {
    let vpc = |position| pick(state.vpcs(), position).map(|vpc| vpc.id);
    Some(match *step {
        Step::CreateVpc { name, auto } => {
            let prefixes = if auto {
                PrefixManagement::Auto
            } else {
                PrefixManagement::Manual
            };
            create_vpc(Some(&format!("vpc-{name}")), prefixes)
        }
        Step::RenameVpc {
            vpc: position,
            name: new,
        } => Operation::UpdateVpc(UpdateVpc {
            vpc: vpc(position)?,
            name: Some(name(&format!("vpc-{new}"))),
            if_match: None,
        }),
        Step::DeleteVpc { vpc: position } => Operation::DeleteVpc(DeleteVpc {
            vpc: vpc(position)?,
            if_match: None,
        }),
        Step::CreatePrefix {
            vpc: position,
            third,
            zone,
            default,
        } => create_prefix(vpc(position)?, &format!("10.1.{}.0/23", third * 2), zone, default),
        Step::DeletePrefix {
            vpc: position,
            prefix,
        } => {
            let vpc = vpc(position)?;
            Operation::DeleteAddressPrefix {
                vpc,
                prefix: pick(state.prefixes_of(vpc), prefix)?.id,
            }
        }
        Step::CreateSubnet {
            vpc: position,
            third,
            length,
            name: number,
        } => Operation::CreateSubnet(CreateSubnet {
            vpc: vpc(position)?,
            range: SubnetRange::Cidr(cidr(&format!("10.1.{third}.0/{length}"))),
            zone: None,
            name: Some(name(&format!("subnet-{number}"))),
            resource_group: None,
        }),
        Step::CarveSubnet {
            vpc: position,
            zone: number,
            exponent,
        } => Operation::CreateSubnet(CreateSubnet {
            vpc: vpc(position)?,
            range: SubnetRange::Count(1 << exponent),
            zone: Some(zone(number)),
            name: None,
            resource_group: None,
        }),
        Step::DeleteSubnet { subnet } => Operation::DeleteSubnet {
            subnet: nth_subnet(state, subnet)?.id,
        },
        _ => return None,
    })
}

fn workload_operation(step: &Step, state: &Snapshot) -> Option<Operation> {
    let instance = |position| pick(state.instances(), position).map(|instance| instance.id);
    Some(match *step {
        Step::CreateInstance {
            subnet,
            name: number,
            host,
        } => {
            let subnet = nth_subnet(state, subnet)?;
            let mut new = new_instance(subnet.id, Some(&format!("instance-{number}")));
            new.zone = subnet.zone.clone();
            new.interface.address = host
                .map(|host| Ipv4Addr::from(u32::from(subnet.cidr.v4().unwrap().network()) + u32::from(host)));
            Operation::CreateInstance(new)
        }
        Step::Act {
            instance: position,
            action,
        } => Operation::ActOnInstance {
            instance: instance(position)?,
            action,
        },
        Step::DeleteInstance { instance: position } => Operation::DeleteInstance {
            instance: instance(position)?,
            if_match: None,
        },
        Step::ReportInstance {
            instance: position,
            running,
        } => Operation::RecordStatus(vec![StatusUpdate::Instance {
            instance: instance(position)?,
            status: if running {
                InstanceStatus::Running
            } else {
                InstanceStatus::Stopped
            },
        }]),
        Step::FinishInstance { instance: position } => Operation::FinishDeletion(HostFindings {
            instances: vec![instance(position)?],
            ..HostFindings::default()
        }),
        _ => return None,
    })
}

fn vpn_operation(step: &Step, state: &Snapshot) -> Option<Operation> {
    let gateway = |position| pick(state.vpn_gateways(), position).map(|gateway| gateway.id);
    let connection = |position| pick(state.vpn_connections(), position);
    Some(match *step {
        Step::CreateGateway { subnet } => create_gateway(nth_subnet(state, subnet)?.id, None),
        Step::ReportGateway { gateway: position } => {
            Operation::RecordStatus(vec![StatusUpdate::VpnGateway {
                gateway: gateway(position)?,
                status: GatewayStatus::Available,
            }])
        }
        Step::DeleteGateway { gateway: position } => Operation::DeleteVpnGateway {
            gateway: gateway(position)?,
        },
        Step::FinishGateway { gateway: position } => Operation::FinishDeletion(HostFindings {
            gateways: vec![gateway(position)?],
            ..HostFindings::default()
        }),
        Step::CreateConnection {
            gateway: position,
            local,
            peer,
            policies,
        } => {
            let local = format!("10.1.{local}.0/24");
            let peer = format!("10.2.{peer}.0/23");
            let mut new = new_connection(gateway(position)?, &[&local], &[]);
            new.peer_cidrs = vec![Cidr::truncating(peer.parse().unwrap())];
            if policies {
                new.ike_policy = state.records().find_map(|record| match record {
                    isthmus_model::Record::IkePolicy(policy) => Some(policy.id),
                    _ => None,
                });
            }
            Operation::CreateVpnConnection(new)
        }
        Step::ReportConnection {
            connection: position,
            up,
        } => {
            let down = ConnectionState::Down {
                reason: ConnectionDownReason::PeerNotResponding,
                detail: "silence".to_owned(),
            };
            Operation::RecordStatus(vec![StatusUpdate::VpnConnection {
                connection: connection(position)?.id,
                status: ConnectionStatus {
                    state: if up { ConnectionState::Up } else { down },
                    since: Timestamp(5),
                    reset_count: 0,
                    ike_suite: String::new(),
                    esp_suite: String::new(),
                },
            }])
        }
        Step::AddCidr {
            connection: position,
            side,
            third,
        } => {
            let connection = connection(position)?;
            let second = if side == Side::Local { 1 } else { 2 };
            Operation::AddConnectionCidr {
                gateway: connection.gateway,
                connection: connection.id,
                side,
                cidr: cidr(&format!("10.{second}.{third}.0/24")),
            }
        }
        Step::RemoveCidr {
            connection: position,
            side,
            position: which,
        } => {
            let connection = connection(position)?;
            let list = match side {
                Side::Local => &connection.local_cidrs,
                Side::Peer => &connection.peer_cidrs,
            };
            Operation::RemoveConnectionCidr {
                gateway: connection.gateway,
                connection: connection.id,
                side,
                cidr: *list.get(which)?,
            }
        }
        Step::DeleteConnection { connection: position } => {
            let connection = connection(position)?;
            Operation::DeleteVpnConnection {
                gateway: connection.gateway,
                connection: connection.id,
                if_match: None,
            }
        }
        Step::FinishConnection { connection: position } => Operation::FinishDeletion(HostFindings {
            connections: vec![connection(position)?.id],
            ..HostFindings::default()
        }),
        Step::CreatePolicies => Operation::CreateIkePolicy(ike_policy(IkeVersion::V2)),
        Step::DeletePolicies { policy } => Operation::DeleteIkePolicy {
            policy: pick(
                state.records().filter_map(|record| match record {
                    isthmus_model::Record::IkePolicy(policy) => Some(policy.id),
                    _ => None,
                }),
                policy,
            )?,
        },
        _ => return None,
    })
}

fn is_internal(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::RecordStatus(_) | Operation::FinishDeletion(_)
    )
}

/// What a naive reading of the rules says about making a subnet at a given range.
fn naive_subnet(state: &Snapshot, new: &CreateSubnet, range: Cidr) -> Result<(), OpErrorCode> {
    let prefixes: Vec<_> = state.prefixes_of(new.vpc).collect();
    if !prefixes.iter().any(|prefix| prefix.cidr.contains(range)) {
        return Err(OpErrorCode::NotInAddressPrefix);
    }
    let mut subnets = state.subnets_of(new.vpc);
    if subnets.any(|subnet| subnet.cidr.overlaps(range)) {
        return Err(OpErrorCode::CidrOverlap);
    }
    if state.subnets_of(new.vpc).count() >= state.settings().quotas.subnets_per_vpc as usize {
        return Err(OpErrorCode::QuotaExceeded);
    }
    if state
        .subnets_of(new.vpc)
        .any(|subnet| Some(&subnet.meta.name) == new.name.as_ref())
    {
        return Err(OpErrorCode::DuplicateName);
    }
    Ok(())
}

/// The lowest free addresses of a subnet, found by trying every one.
fn naive_free(state: &Snapshot, subnet: SubnetId) -> Vec<Ipv4Addr> {
    let held: BTreeSet<_> = state.held_addresses(subnet).collect();
    let net = state.subnet(subnet).unwrap().cidr.v4().unwrap();
    let (network, broadcast) = (u32::from(net.network()), u32::from(net.broadcast()));
    (network + 4..broadcast)
        .map(Ipv4Addr::from)
        .filter(|address| !held.contains(address))
        .collect()
}

fn compare_with_reference(before: &Snapshot, asked: &Operation, got: &Result<Outcome, OpError>) {
    match asked {
        Operation::CreateSubnet(new) => {
            if let SubnetRange::Cidr(range) = new.range {
                let got = got.as_ref().map(|_| ()).map_err(|error| error.code);
                assert_eq!(got, naive_subnet(before, new, range));
            }
        }
        Operation::CreateInstance(new) => {
            let free = naive_free(before, new.interface.subnet);
            if let Ok(Outcome::Instance(view)) = got {
                match new.interface.address {
                    Some(address) => {
                        assert!(free.contains(&address));
                        assert_eq!(view.interface.address, address);
                    }
                    None => assert_eq!(view.interface.address, free[0]),
                }
            } else if let Some(address) = new.interface.address {
                let code = got.as_ref().unwrap_err().code;
                let refused = [OpErrorCode::AddressInUse, OpErrorCode::AddressNotUsable].contains(&code);
                assert_eq!(refused, !free.contains(&address), "{code:?}");
            }
        }
        Operation::CreateVpnGateway(new) => {
            let free = naive_free(before, new.subnet);
            match got {
                Ok(Outcome::VpnGateway(view)) => {
                    let members: Vec<_> = view.members.iter().map(|member| member.private_address).collect();
                    assert_eq!(members, free[..2]);
                    assert!(free.len() >= 8);
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert_eq!(
                    error.code == OpErrorCode::AddressesExhausted && error.resource == ResourceKind::Subnet,
                    free.len() < 8 && error.code != OpErrorCode::QuotaExceeded
                ),
            }
        }
        _ => {}
    }
}

fn small_settings() -> Settings {
    Settings {
        public_pool: cidr("203.0.113.0/28"),
        quotas: Quotas {
            vpcs: 3,
            subnets_per_vpc: 5,
            vpn_connections_per_gateway: 3,
            cidrs_per_connection: 3,
            cidrs_per_gateway: 5,
            ..Quotas::default()
        },
        ..Settings::default()
    }
}

/// Carries the steps out and checks every state on the way. Which operations succeeded, and which were refused how.
fn walk(steps: &[Step]) -> (BTreeSet<&'static str>, BTreeSet<OpErrorCode>) {
    let mut world = World::new(small_settings());
    let vpc = world.vpc_with_prefix("vpc-0", "10.1.0.0/23");
    world.subnet(vpc, "10.1.0.0/27");
    world.subnet(vpc, "10.1.1.0/28");
    let (mut done, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for step in steps {
        let Some(asked) = operation(step, &world.state) else {
            continue;
        };
        let before = world.state.clone();
        let who = if is_internal(&asked) {
            system()
        } else {
            caller(ACCOUNT)
        };
        let got = world.as_caller(who, asked.clone());
        compare_with_reference(&before, &asked, &got);
        match got {
            Ok(_) => {
                done.insert(asked.name());
            }
            Err(error) => {
                assert_eq!(world.state, before);
                assert_ne!(error.code, OpErrorCode::Internal, "{asked:?}");
                refused.insert(error.code);
            }
        }
        invariants::check(&world.state);
    }
    (done, refused)
}

/// The sequences are worth something: together they reach every operation and most refusals.
#[test]
fn sequences_reach_every_operation_and_most_refusals() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut done, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..150 {
        let tree = proptest::collection::vec(steps(), 90)
            .new_tree(&mut runner)
            .unwrap();
        let (more_done, more_refused) = walk(&tree.current());
        done.extend(more_done);
        refused.extend(more_refused);
    }
    let expected: BTreeSet<&str> = [
        "create_vpc",
        "update_vpc",
        "delete_vpc",
        "create_address_prefix",
        "delete_address_prefix",
        "create_subnet",
        "delete_subnet",
        "create_instance",
        "delete_instance",
        "act_on_instance",
        "create_vpn_gateway",
        "delete_vpn_gateway",
        "create_vpn_connection",
        "delete_vpn_connection",
        "add_connection_cidr",
        "remove_connection_cidr",
        "create_ike_policy",
        "delete_ike_policy",
        "record_status",
        "finish_deletion",
    ]
    .into();
    assert_eq!(
        expected.difference(&done).collect::<Vec<_>>(),
        Vec::<&&str>::new()
    );
    let wanted: BTreeSet<OpErrorCode> = [
        OpErrorCode::AddressInUse,
        OpErrorCode::AddressNotUsable,
        OpErrorCode::AddressesExhausted,
        OpErrorCode::CidrOverlap,
        OpErrorCode::DefaultPrefixExists,
        OpErrorCode::DuplicateName,
        OpErrorCode::InUse,
        OpErrorCode::InUseByInterface,
        OpErrorCode::InUseBySubnet,
        OpErrorCode::InUseByVpnGateway,
        OpErrorCode::InvalidState,
        OpErrorCode::LastCidr,
        OpErrorCode::NoDefaultPrefix,
        OpErrorCode::NotInAddressPrefix,
        OpErrorCode::QuotaExceeded,
    ]
    .into();
    assert_eq!(
        wanted.difference(&refused).collect::<Vec<_>>(),
        Vec::<&OpErrorCode>::new()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_state_keeps_the_invariants(steps in proptest::collection::vec(steps(), 1..90)) {
        walk(&steps);
    }
}
