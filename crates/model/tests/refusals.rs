//! Bad input: the exact code for each, and nothing changed (`World::refusal` compares the states).

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

mod support;

use isthmus_model::{Quotas, Settings};
use isthmus_ops::OpErrorCode as Code;
use isthmus_ops::*;
use isthmus_types::*;

use support::scene::*;
use support::*;

#[test]
fn unknown_ids_in_paths_are_not_found() {
    let Scene {
        mut world,
        vpc,
        gateway,
        ..
    } = scene();
    let missing = bits(0x1234);
    let operations = [
        Operation::UpdateVpc(UpdateVpc {
            vpc: VpcId(missing),
            name: None,
            if_match: Some(vec![9]),
        }),
        Operation::DeleteVpc(DeleteVpc {
            vpc: VpcId(missing),
            if_match: None,
        }),
        create_prefix(VpcId(missing), "10.9.0.0/16", 1, false),
        Operation::DeleteAddressPrefix {
            vpc,
            prefix: AddressPrefixId(missing),
        },
        Operation::UpdateSubnet {
            subnet: SubnetId(missing),
            name: None,
        },
        Operation::DeleteSubnet {
            subnet: SubnetId(missing),
        },
        Operation::UpdateInstance {
            instance: InstanceId(missing),
            name: None,
            if_match: None,
        },
        Operation::DeleteInstance {
            instance: InstanceId(missing),
            if_match: None,
        },
        Operation::ActOnInstance {
            instance: InstanceId(missing),
            action: InstanceAction::Stop,
        },
        Operation::UpdateVpnGateway {
            gateway: VpnGatewayId(missing),
            name: None,
        },
        Operation::DeleteVpnGateway {
            gateway: VpnGatewayId(missing),
        },
        Operation::CreateVpnConnection(new_connection(VpnGatewayId(missing), &[], &[])),
        Operation::UpdateVpnConnection(no_update(gateway, VpnConnectionId(missing))),
        Operation::DeleteVpnConnection {
            gateway,
            connection: VpnConnectionId(missing),
            if_match: None,
        },
        Operation::DeleteIkePolicy {
            policy: IkePolicyId(missing),
        },
        Operation::DeleteIpsecPolicy {
            policy: IpsecPolicyId(missing),
        },
    ];
    for operation in operations {
        assert_eq!(world.refusal(operation.clone()), Code::NotFound, "{operation:?}");
    }
}

#[test]
fn unknown_ids_in_questions_are_not_found() {
    let Scene {
        world, vpc, gateway, ..
    } = scene();
    let missing = bits(0x1234);
    let page = || page(10, None);
    let questions = [
        Query::Vpc(VpcId(missing)),
        Query::DefaultNetworkAcl(VpcId(missing)),
        Query::DefaultSecurityGroup(VpcId(missing)),
        Query::DefaultRouteTable(VpcId(missing)),
        Query::NetworkAcl(NetworkAclId(missing)),
        Query::SecurityGroup(SecurityGroupId(missing)),
        Query::RouteTable {
            vpc,
            table: RouteTableId(missing),
        },
        Query::AddressPrefixes {
            vpc: VpcId(missing),
            page: page(),
        },
        Query::AddressPrefix {
            vpc,
            prefix: AddressPrefixId(missing),
        },
        Query::Subnet(SubnetId(missing)),
        Query::ReservedIps {
            subnet: SubnetId(missing),
            page: page(),
        },
        Query::Instance(InstanceId(missing)),
        Query::VpnGateway(VpnGatewayId(missing)),
        Query::VpnConnections {
            gateway: VpnGatewayId(missing),
            up: None,
            page: page(),
        },
        Query::VpnConnection {
            gateway,
            connection: VpnConnectionId(missing),
        },
        Query::IkePolicy(IkePolicyId(missing)),
        Query::IkePolicyConnections {
            policy: IkePolicyId(missing),
            page: page(),
        },
        Query::IpsecPolicy(IpsecPolicyId(missing)),
        Query::IpsecPolicyConnections {
            policy: IpsecPolicyId(missing),
            page: page(),
        },
        Query::Region(RegionName::new("mars").unwrap()),
        Query::Zones(RegionName::new("mars").unwrap()),
        Query::Zone {
            region: RegionName::new("us-south").unwrap(),
            zone: zone(9),
        },
    ];
    for question in questions {
        assert_eq!(
            world.ask(question.clone()).unwrap_err().code,
            Code::NotFound,
            "{question:?}"
        );
    }
}

#[test]
fn unknown_ids_in_bodies_are_references_not_found() {
    let Scene {
        mut world,
        subnet,
        gateway,
        ..
    } = scene();
    let missing = bits(0x1234);
    let mut in_vpc = new_instance(subnet, None);
    in_vpc.vpc = Some(VpcId(missing));
    let mut in_group = new_instance(subnet, None);
    in_group.interface.security_groups = vec![SecurityGroupId(missing)];
    let mut in_zone = new_instance(subnet, None);
    in_zone.zone = zone(9);
    let mut with_ike = new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]);
    with_ike.ike_policy = Some(IkePolicyId(missing));
    let mut with_ipsec = new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]);
    with_ipsec.ipsec_policy = Some(IpsecPolicyId(missing));
    let table = [
        (create_subnet(VpcId(missing), "10.1.1.0/24", None), "vpc"),
        (create_instance(SubnetId(missing), None), "interface.subnet"),
        (Operation::CreateInstance(in_vpc), "vpc"),
        (Operation::CreateInstance(in_zone), "zone"),
        (
            Operation::CreateInstance(in_group),
            "interface.security_groups[0]",
        ),
        (create_gateway(SubnetId(missing), None), "subnet"),
        (Operation::CreateVpnConnection(with_ike), "ike_policy"),
        (Operation::CreateVpnConnection(with_ipsec), "ipsec_policy"),
    ];
    for (operation, field) in table {
        let error = world.refused(operation);
        assert_eq!(
            (error.code, error.field.as_deref()),
            (Code::ReferenceNotFound, Some(field))
        );
    }
}

#[test]
fn what_belongs_to_another_account_looks_exactly_like_what_does_not_exist() {
    let Scene {
        mut world,
        vpc,
        subnet,
        gateway,
    } = scene();
    let connection = world
        .connection(new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]))
        .id;
    let instance = world.instance(subnet, "box").id;
    let ike = world.ike_policy(IkeVersion::V2);
    let stranger = || caller(OTHER_ACCOUNT);
    let text = |bits: ResourceBits| bits.to_string();
    let table: Vec<(Operation, String)> = vec![
        (
            Operation::DeleteVpc(DeleteVpc { vpc, if_match: None }),
            text(vpc.bits()),
        ),
        (Operation::DeleteSubnet { subnet }, text(subnet.bits())),
        (
            Operation::DeleteInstance {
                instance,
                if_match: None,
            },
            text(instance.bits()),
        ),
        (Operation::DeleteVpnGateway { gateway }, text(gateway.bits())),
        (Operation::DeleteIkePolicy { policy: ike }, text(ike.bits())),
        (
            Operation::DeleteVpnConnection {
                gateway,
                connection,
                if_match: None,
            },
            text(gateway.bits()),
        ),
        (create_subnet(vpc, "10.1.1.0/24", None), text(vpc.bits())),
        (create_gateway(subnet, None), text(subnet.bits())),
    ];
    let missing = bits(0x0fff_ffff_ffff_ffff);
    for (operation, id) in table {
        let before = world.state.clone();
        let theirs = world.as_caller(stranger(), operation.clone()).unwrap_err();
        assert_eq!(world.state, before);
        assert!(
            matches!(theirs.code, Code::NotFound | Code::ReferenceNotFound),
            "{operation:?}: {theirs:?}"
        );
        // The same request about an id that nobody has gives the same words.
        assert_eq!(theirs.message.replace(&id, "ID"), {
            let kind = theirs.resource;
            OpError::not_found(kind, missing)
                .message
                .replace(&missing.to_string(), "ID")
        });
        assert_eq!(theirs.private, None);
    }
    // Names of others are free.
    world
        .as_caller(stranger(), create_vpc(Some("alpha"), PrefixManagement::Auto))
        .unwrap();
    assert_eq!(
        world.refusal(create_vpc(Some("alpha"), PrefixManagement::Auto)),
        Code::DuplicateName
    );
}

#[test]
fn only_isthmus_itself_reports_status_and_makes_accounts() {
    let Scene {
        mut world, gateway, ..
    } = scene();
    let account = Operation::CreateAccount(CreateAccount {
        account: AccountId(bits(77)),
        name: name("evil"),
        user: UserId(bits(78)),
        user_name: name("evil"),
        api_key_hash: [9; 32],
    });
    let status = Operation::RecordStatus(vec![StatusUpdate::VpnGateway {
        gateway,
        status: GatewayStatus::Available,
    }]);
    for operation in [
        account.clone(),
        status,
        Operation::FinishDeletion(HostFindings::default()),
    ] {
        assert_eq!(world.refusal(operation), Code::NotPermitted);
    }
    let before = world.state.clone();
    let nobody = world.as_caller(caller(0xdead), create_vpc(None, PrefixManagement::Auto));
    assert_eq!(nobody.unwrap_err().code, Code::NotPermitted);
    assert_eq!(world.state, before);

    world.as_caller(system(), account.clone()).unwrap();
    let Operation::CreateAccount(mut again) = account else {
        unreachable!()
    };
    assert_eq!(
        world
            .as_caller(system(), Operation::CreateAccount(again.clone()))
            .unwrap_err()
            .code,
        Code::DuplicateName
    );
    again.name = name("other");
    let refused = world
        .as_caller(system(), Operation::CreateAccount(again.clone()))
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.resource),
        (Code::InUse, ResourceKind::Account)
    );
    (again.account, again.user) = (AccountId(bits(79)), UserId(bits(80)));
    let refused = world
        .as_caller(system(), Operation::CreateAccount(again))
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.resource),
        (Code::InUse, ResourceKind::ApiKey)
    );
}

#[test]
fn address_prefixes_are_checked() {
    let Scene { mut world, vpc, .. } = scene();
    let table = [
        ("10.1.0.0/16", 1, Code::CidrOverlap),
        ("10.1.128.0/20", 2, Code::CidrOverlap),
        ("10.0.0.0/8", 1, Code::CidrNotValid),
        ("10.0.0.0/9", 1, Code::CidrOverlap),
        ("10.128.0.0/30", 1, Code::CidrNotValid),
        ("127.0.0.0/9", 1, Code::CidrNotValid),
        ("161.26.4.0/24", 1, Code::CidrNotValid),
        ("161.0.0.0/9", 1, Code::CidrNotValid),
        ("166.8.0.0/14", 1, Code::CidrNotValid),
        ("166.11.255.0/24", 1, Code::CidrNotValid),
        ("169.254.0.0/17", 1, Code::CidrNotValid),
        ("224.0.0.0/9", 1, Code::CidrNotValid),
        ("239.1.0.0/16", 1, Code::CidrNotValid),
        ("2001:db8::/32", 1, Code::CidrNotValid),
        ("10.9.0.0/16", 7, Code::ReferenceNotFound),
    ];
    for (range, zone, code) in table {
        assert_eq!(
            world.refusal(create_prefix(vpc, range, zone, false)),
            code,
            "{range}"
        );
    }
    assert_eq!(
        world.refusal(create_prefix(vpc, "10.9.0.0/16", 1, true)),
        Code::DefaultPrefixExists
    );
    for (range, zone) in [("10.128.0.0/9", 1), ("192.168.1.0/29", 2)] {
        world.run(create_prefix(vpc, range, zone, false)).unwrap();
    }
    let prefixes: Vec<_> = world.state.prefixes_of(vpc).cloned().collect();
    let second = prefixes
        .iter()
        .find(|prefix| prefix.cidr == cidr("10.128.0.0/9"))
        .unwrap();
    let first = prefixes.iter().find(|prefix| prefix.is_default).unwrap();
    let update = |prefix: AddressPrefixId, name: Option<ResourceName>, is_default| {
        Operation::UpdateAddressPrefix(UpdateAddressPrefix {
            vpc,
            prefix,
            name,
            is_default,
        })
    };
    assert_eq!(
        world.refusal(update(second.id, None, Some(true))),
        Code::DefaultPrefixExists
    );
    assert_eq!(
        world.refusal(update(second.id, Some(first.meta.name.clone()), None)),
        Code::DuplicateName
    );
    world.run(update(first.id, None, Some(false))).unwrap();
    world.run(update(second.id, None, Some(true))).unwrap();
    assert_eq!(
        world.refusal(Operation::DeleteAddressPrefix {
            vpc,
            prefix: first.id
        }),
        Code::InUseBySubnet
    );
    world
        .run(Operation::DeleteAddressPrefix {
            vpc,
            prefix: second.id,
        })
        .unwrap();
}

#[test]
fn subnets_are_checked() {
    let Scene { mut world, vpc, .. } = scene();
    world.run(create_prefix(vpc, "10.5.0.0/16", 2, false)).unwrap();
    let with = |range: SubnetRange, in_zone: Option<u8>| {
        Operation::CreateSubnet(CreateSubnet {
            vpc,
            range,
            zone: in_zone.map(zone),
            name: None,
            resource_group: None,
        })
    };
    let range = |text: &str| SubnetRange::Cidr(cidr(text));
    let table = [
        (range("10.1.0.0/24"), None, Code::CidrOverlap),
        (range("10.1.0.128/25"), None, Code::CidrOverlap),
        (range("10.1.0.0/16"), None, Code::CidrOverlap),
        (range("10.2.0.0/24"), None, Code::NotInAddressPrefix),
        (range("10.0.0.0/15"), None, Code::NotInAddressPrefix),
        (range("10.1.1.0/30"), None, Code::CidrNotValid),
        (range("10.0.0.0/8"), None, Code::CidrNotValid),
        (range("2001:db8::/64"), None, Code::CidrNotValid),
        (range("10.1.1.0/24"), Some(2), Code::ScopeMismatch),
        (range("10.1.1.0/24"), Some(9), Code::ReferenceNotFound),
        (SubnetRange::Count(0), Some(1), Code::InvalidField),
        (SubnetRange::Count(4), Some(1), Code::InvalidField),
        (SubnetRange::Count(100), Some(1), Code::InvalidField),
        (SubnetRange::Count(1 << 25), Some(1), Code::InvalidField),
        (SubnetRange::Count(1 << 31), Some(1), Code::InvalidField),
        (SubnetRange::Count(256), None, Code::MissingField),
        (SubnetRange::Count(256), Some(2), Code::NoDefaultPrefix),
        (SubnetRange::Count(256), Some(3), Code::NoDefaultPrefix),
        (SubnetRange::Count(1 << 16), Some(1), Code::AddressesExhausted),
        (SubnetRange::Count(1 << 24), Some(1), Code::AddressesExhausted),
    ];
    for (range, zone, code) in table {
        assert_eq!(world.refusal(with(range, zone)), code, "{range:?} {zone:?}");
    }
    let Outcome::Subnet(carved) = world.run(with(SubnetRange::Count(512), Some(1))).unwrap() else {
        panic!()
    };
    assert_eq!(carved.cidr, cidr("10.1.2.0/23"));
    let taken = carved.common.name.as_str().to_owned();
    assert_eq!(
        world.refusal(create_subnet(vpc, "10.1.9.0/24", Some(&taken))),
        Code::DuplicateName
    );
    // Of a failed update nothing stays.
    let other = world.subnet(vpc, "10.1.9.0/24");
    let rename = Operation::UpdateSubnet {
        subnet: other,
        name: Some(name(&taken)),
    };
    assert_eq!(world.refusal(rename), Code::DuplicateName);
}

#[test]
fn instances_are_checked() {
    let Scene {
        mut world,
        vpc,
        subnet,
        ..
    } = scene();
    let elsewhere = world.vpc("beta");
    let group_elsewhere = elsewhere.default_security_group.id;
    let group = world.state.vpc(vpc).unwrap().default_security_group;
    let taken = world.instance(subnet, "box");
    let mut tap = new_instance(subnet, None);
    tap.interface.attachment = InterfaceAttachment::Tap {
        interface: "tap0".to_owned(),
    };
    world.run(Operation::CreateInstance(tap.clone())).unwrap();
    world.run(create_prefix(vpc, "10.5.0.0/16", 2, false)).unwrap();
    let gateway_held = world.gateway_view(world.state.vpn_gateways().next().unwrap().id);

    let change = |change: &dyn Fn(&mut CreateInstance)| {
        let mut new = new_instance(subnet, None);
        change(&mut new);
        Operation::CreateInstance(new)
    };
    let at = |address: &str| {
        let address = ip(address);
        change(&move |new| new.interface.address = Some(address))
    };
    let attached =
        |attachment: InterfaceAttachment| change(&move |new| new.interface.attachment = attachment.clone());
    let handed = |namespace: &str, interface: &str| {
        attached(InterfaceAttachment::HandOver {
            namespace: namespace.to_owned(),
            interface: interface.to_owned(),
        })
    };
    let table = [
        (change(&|new| new.name = Some(name("box"))), Code::DuplicateName),
        (change(&|new| new.zone = zone(2)), Code::ScopeMismatch),
        (change(&|new| new.vpc = Some(elsewhere.id)), Code::ScopeMismatch),
        (change(&|new| new.profile = String::new()), Code::InvalidField),
        (change(&|new| new.image = "x".repeat(256)), Code::InvalidField),
        (
            change(&|new| new.interface.security_groups = vec![group_elsewhere]),
            Code::ScopeMismatch,
        ),
        (
            change(&|new| new.interface.security_groups = vec![group, group]),
            Code::InvalidField,
        ),
        (at("10.1.0.0"), Code::AddressNotUsable),
        (at("10.1.0.1"), Code::AddressNotUsable),
        (at("10.1.0.3"), Code::AddressNotUsable),
        (at("10.1.0.255"), Code::AddressNotUsable),
        (at("10.1.1.4"), Code::AddressNotUsable),
        (at(&taken.interface.address.to_string()), Code::AddressInUse),
        (
            at(&gateway_held.members[1].private_address.to_string()),
            Code::AddressInUse,
        ),
        (attached(tap.interface.attachment.clone()), Code::DuplicateName),
        (handed("", "eth0"), Code::InvalidField),
        (handed("../proc", "eth0"), Code::InvalidField),
        (handed("..", "eth0"), Code::InvalidField),
        (handed("box", ""), Code::InvalidField),
        (handed("box", "sixteen-letters-"), Code::InvalidField),
        (handed("box", "a/b"), Code::InvalidField),
        (handed("box", "a b"), Code::InvalidField),
        (handed("box", "a:b"), Code::InvalidField),
        (
            attached(InterfaceAttachment::Tap {
                interface: "tap%d".to_owned(),
            }),
            Code::InvalidField,
        ),
    ];
    for (operation, code) in table {
        assert_eq!(world.refusal(operation.clone()), code, "{operation:?}");
    }
    world.run(handed("box", "eth0")).unwrap();
    assert_eq!(world.refusal(handed("box", "eth0")), Code::DuplicateName);
    world.run(handed("box2", "eth0")).unwrap();
    world.run(at("10.1.0.254")).unwrap();
}

#[test]
fn a_full_subnet_takes_no_more_instances_and_no_gateway() {
    let mut world = World::new(Settings::default());
    let vpc = world.vpc_with_prefix("alpha", "10.1.0.0/16");
    let tiny = world.subnet(vpc, "10.1.0.0/29");
    for number in 0..3 {
        world.instance(tiny, &format!("box-{number}"));
    }
    assert_eq!(world.subnet_view(tiny).available_addresses, 0);
    let error = world.refused(create_instance(tiny, None));
    assert_eq!(
        (error.code, error.resource),
        (Code::AddressesExhausted, ResourceKind::Subnet)
    );
    // Eight are needed: a /29 has three, a /28 eleven.
    let other = world.subnet(vpc, "10.1.0.8/29");
    let error = world.refused(create_gateway(other, None));
    assert_eq!(
        (error.code, error.resource),
        (Code::AddressesExhausted, ResourceKind::Subnet)
    );
    let small = world.subnet(vpc, "10.1.0.16/28");
    world.gateway(small);
    assert_eq!(world.subnet_view(small).available_addresses, 3);
    assert_eq!(
        world.refusal(create_gateway(small, None)),
        Code::AddressesExhausted
    );
}

#[test]
fn an_empty_public_pool_is_told() {
    let mut world = World::new(Settings {
        // Two host addresses, of which the router has one.
        public_pool: cidr("203.0.113.0/30"),
        ..Settings::default()
    });
    let vpc = world.vpc_with_prefix("alpha", "10.1.0.0/16");
    let subnet = world.subnet(vpc, "10.1.0.0/24");
    let gateway = world.gateway(subnet);
    assert_eq!(gateway.public_address, ip("203.0.113.2"));
    for operation in [create_gateway(subnet, None), create_instance(subnet, None)] {
        let error = world.refused(operation);
        assert_eq!(
            (error.code, error.resource),
            (Code::AddressesExhausted, ResourceKind::PublicAddress)
        );
    }
}

#[test]
fn quotas_hold() {
    let quotas = Quotas {
        vpcs: 2,
        address_prefixes_per_vpc: 2,
        subnets_per_vpc: 2,
        instances: 2,
        vpn_gateways: 2,
        vpn_gateways_per_zone: 1,
        vpn_connections_per_gateway: 2,
        cidrs_per_connection: 2,
        cidrs_per_gateway: 3,
        ike_policies: 1,
        ipsec_policies: 1,
    };
    let Scene {
        mut world,
        vpc,
        subnet,
        gateway,
    } = scene_with(Settings {
        quotas,
        ..Settings::default()
    });
    world.run(create_prefix(vpc, "10.5.0.0/16", 2, false)).unwrap();
    assert_eq!(
        world.refusal(create_prefix(vpc, "10.6.0.0/16", 2, false)),
        Code::QuotaExceeded
    );
    let second = world.subnet(vpc, "10.5.0.0/24");
    assert_eq!(
        world.refusal(create_subnet(vpc, "10.5.1.0/24", None)),
        Code::QuotaExceeded
    );
    world.instance(subnet, "one");
    world.instance(subnet, "two");
    assert_eq!(world.refusal(create_instance(subnet, None)), Code::QuotaExceeded);
    // One per zone, then two in all.
    assert_eq!(world.refusal(create_gateway(subnet, None)), Code::QuotaExceeded);
    world.gateway(second);
    assert_eq!(world.refusal(create_gateway(second, None)), Code::QuotaExceeded);
    world
        .run(create_vpc(Some("beta"), PrefixManagement::Manual))
        .unwrap();
    assert_eq!(
        world.refusal(create_vpc(None, PrefixManagement::Manual)),
        Code::QuotaExceeded
    );
    world
        .as_caller(caller(OTHER_ACCOUNT), create_vpc(None, PrefixManagement::Manual))
        .unwrap();
    world.ike_policy(IkeVersion::V2);
    assert_eq!(
        world.refusal(Operation::CreateIkePolicy(ike_policy(IkeVersion::V2))),
        Code::QuotaExceeded
    );
    world.ipsec_policy(ipsec_policy());
    assert_eq!(
        world.refusal(Operation::CreateIpsecPolicy(ipsec_policy())),
        Code::QuotaExceeded
    );

    let create =
        |local: &[&str], peer: &[&str]| Operation::CreateVpnConnection(new_connection(gateway, local, peer));
    let three = ["10.2.0.0/24", "10.2.1.0/24", "10.2.2.0/24"];
    let error = world.refused(create(&["10.1.0.0/24"], &three));
    assert_eq!(
        (error.code, error.field.as_deref()),
        (Code::QuotaExceeded, Some("peer_cidrs"))
    );
    let Outcome::VpnConnection(first) = world.run(create(&["10.1.0.0/24"], &three[..2])).unwrap() else {
        panic!()
    };
    let error = world.refused(create(&["10.1.0.0/24"], &["10.3.0.0/24", "10.3.1.0/24"]));
    assert_eq!(
        (error.code, error.field.as_deref()),
        (Code::QuotaExceeded, Some("peer_cidrs"))
    );
    world.run(create(&["10.1.0.0/24"], &["10.3.0.0/24"])).unwrap();
    assert_eq!(
        world.refusal(create(&["10.1.0.0/24"], &["10.4.0.0/24"])),
        Code::QuotaExceeded
    );
    let add = Operation::AddConnectionCidr {
        gateway,
        connection: first.id,
        side: Side::Peer,
        cidr: cidr("10.9.0.0/24"),
    };
    assert_eq!(world.refusal(add), Code::QuotaExceeded);
    // What is gone no longer counts.
    let delete = Operation::DeleteVpnConnection {
        gateway,
        connection: first.id,
        if_match: None,
    };
    world.run(delete).unwrap();
    world.run(create(&["10.1.0.0/24"], &["10.2.0.0/23"])).unwrap();
    invariants::check(&world.state);
}

#[test]
fn stale_versions_are_refused_and_any_version_passes() {
    let Scene {
        mut world,
        vpc,
        subnet,
        ..
    } = scene();
    let rename = |to: &str, if_match| {
        Operation::UpdateVpc(UpdateVpc {
            vpc,
            name: Some(name(to)),
            if_match,
        })
    };
    world.run(rename("one", Some(vec![1]))).unwrap();
    assert_eq!(
        world.refusal(rename("two", Some(vec![1]))),
        Code::PreconditionFailed
    );
    assert_eq!(
        world.refusal(Operation::DeleteVpc(DeleteVpc {
            vpc,
            if_match: Some(vec![1])
        })),
        Code::PreconditionFailed
    );
    world.run(rename("two", None)).unwrap();
    world.run(rename("three", Some(vec![3]))).unwrap();
    // One of several is enough; none of none is not.
    world.run(rename("four", Some(vec![1, 4, 9]))).unwrap();
    for stale in [vec![], vec![1, 4, 6]] {
        assert_eq!(
            world.refusal(rename("five", Some(stale))),
            Code::PreconditionFailed
        );
    }
    let instance = world.instance(subnet, "box").id;
    world.report_instance(instance, InstanceStatus::Running);
    let stop = Operation::ActOnInstance {
        instance,
        action: InstanceAction::Stop,
    };
    world.run(stop).unwrap();
    for operation in [
        Operation::UpdateInstance {
            instance,
            name: Some(name("new")),
            if_match: Some(vec![1]),
        },
        Operation::DeleteInstance {
            instance,
            if_match: Some(vec![1]),
        },
    ] {
        assert_eq!(world.refusal(operation), Code::PreconditionFailed);
    }
    // A status changes no version.
    world.report_instance(instance, InstanceStatus::Stopped);
    world
        .run(Operation::DeleteInstance {
            instance,
            if_match: Some(vec![2]),
        })
        .unwrap();
}
