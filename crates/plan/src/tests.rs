use std::net::Ipv4Addr;

use isthmus_hostplan::{IkeIdentity, PeerEndpoint, Power};
use isthmus_model::{
    AclAction, AclRule, AddressPrefix, CustomerGateway, Direction, GatewayMember, GroupRemote, GroupRule,
    IkePolicy, Instance, InstancePower, IpsecPolicy, Meta, NetworkAcl, NetworkInterface, PreSharedKey,
    Record, SecurityGroup, Subnet, TunnelSettings, Vpc, VpnConnection, VpnGateway,
};
use isthmus_ops::{
    ConnectionOptions, DeadPeerAction, DeadPeerDetection, Establish, InterfaceAttachment, PeerAddress,
    PeerLocation, PolicyGroup, TunnelIdentity,
};
use isthmus_types::{
    AccountId, Cidr, DhGroup, Encryption, IkePolicyId, IkeVersion, Integrity, IpsecPolicyId, Prf,
    ResourceBits, ResourceName, Revision, Secret, Timestamp, ZoneName,
};
use proptest::prelude::*;

use super::*;

fn id<T: From<ResourceBits>>(number: u128) -> T {
    T::from(ResourceBits::from_random(number))
}

fn zone(number: u8) -> ZoneName {
    ZoneName::new(format!("us-south-{number}")).unwrap()
}

fn meta(name: &str, created: u64) -> Meta {
    Meta {
        account: id::<AccountId>(1),
        name: ResourceName::new(name).unwrap(),
        created_at: Timestamp(created),
        resource_group: None,
        version: 1,
    }
}

/// What a generated connection looks like.
#[derive(Clone, Debug)]
struct ConnectionShape {
    policy: bool,
    deleting: bool,
    up: bool,
    fqdn: bool,
}

/// What a generated VPC looks like.
#[derive(Clone, Debug)]
struct Shape {
    /// Zone of each subnet.
    subnets: Vec<u8>,
    /// Subnet, power and whether it is being deleted, of each instance.
    instances: Vec<(usize, bool, bool)>,
    /// Subnet, age, whether it is being deleted, and connections of each gateway.
    gateways: Vec<(usize, u64, bool, Vec<ConnectionShape>)>,
    weak: bool,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let connection = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(policy, deleting, up, fqdn)| ConnectionShape {
            policy,
            deleting,
            up,
            fqdn,
        },
    );
    let instances = prop::collection::vec((0usize..5, any::<bool>(), any::<bool>()), 0..12);
    let gateways = prop::collection::vec(
        (
            0usize..5,
            0u64..9,
            any::<bool>(),
            prop::collection::vec(connection, 0..4),
        ),
        0..4,
    );
    (
        prop::collection::vec(1u8..4, 1..5),
        instances,
        gateways,
        any::<bool>(),
    )
        .prop_map(|(subnets, instances, gateways, weak)| Shape {
            subnets,
            instances,
            gateways,
            weak,
        })
}

/// The snapshot of a VPC number `n` of this shape, at `10.n.0.0/16`.
fn snapshot(shape: &Shape) -> Snapshot {
    let mut records: Vec<Record> = Vec::new();
    add_vpc(&mut records, shape, 1);
    let settings = Settings {
        weak_auto_negotiation: shape.weak,
        ..Settings::default()
    };
    Snapshot::from_records(settings, Revision(7), records)
}

fn add_vpc(records: &mut Vec<Record>, shape: &Shape, n: u128) {
    let base = n << 32;
    let octet = u8::try_from(n).unwrap();
    let vpc = id(base);
    records.push(Record::Vpc(Vpc {
        id: vpc,
        meta: meta("vpc", 1),
        classic_access: false,
        default_acl: id(base + 1),
        default_security_group: id(base + 2),
        default_route_table: id(base + 3),
        source_nat: Some(Ipv4Addr::new(203, 0, 113, 2)),
    }));
    records.push(Record::NetworkAcl(NetworkAcl {
        id: id(base + 1),
        meta: meta("acl", 1),
        vpc,
        rules: [Direction::Inbound, Direction::Outbound]
            .map(|direction| AclRule {
                direction,
                action: AclAction::Allow,
                source: Cidr::ALL_IPV4,
                destination: Cidr::ALL_IPV4,
            })
            .to_vec(),
    }));
    records.push(Record::SecurityGroup(SecurityGroup {
        id: id(base + 2),
        meta: meta("default", 1),
        vpc,
        rules: vec![
            GroupRule {
                direction: Direction::Inbound,
                remote: GroupRemote::Group(id(base + 4)),
            },
            GroupRule {
                direction: Direction::Inbound,
                remote: GroupRemote::Group(id(base + 99)),
            },
            GroupRule {
                direction: Direction::Outbound,
                remote: GroupRemote::Cidr(Cidr::ALL_IPV4),
            },
        ],
    }));
    records.push(Record::SecurityGroup(SecurityGroup {
        id: id(base + 4),
        meta: meta("other", 1),
        vpc,
        rules: vec![GroupRule {
            direction: Direction::Inbound,
            remote: GroupRemote::Group(id(base + 2)),
        }],
    }));
    records.push(Record::AddressPrefix(AddressPrefix {
        id: id(base + 5),
        meta: meta("prefix", 1),
        vpc,
        cidr: format!("10.{octet}.0.0/16").parse().unwrap(),
        zone: zone(1),
        is_default: true,
    }));
    add_policies(records);
    for (index, number) in shape.subnets.iter().enumerate() {
        records.push(Record::Subnet(Subnet {
            id: id(base + 0x100 + index as u128),
            meta: meta("subnet", 1),
            vpc,
            zone: zone(*number),
            cidr: format!("10.{octet}.{index}.0/24").parse().unwrap(),
            acl: id(base + 1),
            route_table: id(base + 3),
        }));
    }
    for (index, (subnet, running, deleting)) in shape.instances.iter().enumerate() {
        add_instance(
            records,
            (base, index),
            subnet % shape.subnets.len(),
            (*running, *deleting),
        );
    }
    for (index, (subnet, age, deleting, connections)) in shape.gateways.iter().enumerate() {
        let subnet = subnet % shape.subnets.len();
        let gateway = base + 0x300 + index as u128;
        let member = |number: u8| GatewayMember {
            id: id(gateway * 2 + u128::from(number)),
            address: Ipv4Addr::new(10, octet, subnet as u8, 200 + number),
            reserved_ip: id(gateway * 2 + u128::from(number)),
        };
        records.push(Record::VpnGateway(VpnGateway {
            id: id(gateway),
            meta: meta("gateway", *age),
            vpc,
            subnet: id(base + 0x100 + subnet as u128),
            zone: zone(shape.subnets[subnet]),
            public_address: Ipv4Addr::new(203, 0, 113, 10 + index as u8),
            public_ipv6: None,
            ipv6: false,
            members: [member(0), member(1)],
            reserved_ips: Vec::new(),
            key_log: false,
            deleting: deleting.then_some(Timestamp(1)),
        }));
        for (number, connection) in connections.iter().enumerate() {
            add_connection(records, (vpc, gateway), (index, number), connection);
        }
    }
}

fn add_policies(records: &mut Vec<Record>) {
    records.push(Record::IkePolicy(IkePolicy {
        id: id::<IkePolicyId>(50),
        meta: meta("ike", 1),
        version: IkeVersion::V2,
        encryption: vec![Encryption::Aes256Cbc, Encryption::Aes256Gcm16],
        integrity: vec![Integrity::HmacSha2_512_256],
        dh: vec![PolicyGroup(23), PolicyGroup(14)],
        key_lifetime: 1800,
    }));
    records.push(Record::IpsecPolicy(IpsecPolicy {
        id: id::<IpsecPolicyId>(51),
        meta: meta("ipsec", 1),
        encryption: vec![Encryption::Aes128Gcm16],
        integrity: Vec::new(),
        pfs: vec![PolicyGroup(19)],
        key_lifetime: 1900,
    }));
}

fn add_instance(
    records: &mut Vec<Record>,
    (base, index): (u128, usize),
    subnet: usize,
    (running, deleting): (bool, bool),
) {
    let octet = (base >> 32) as u8;
    records.push(Record::Instance(Instance {
        id: id(base + 0x200 + index as u128),
        meta: meta(&format!("instance-{index}"), 1),
        vpc: id(base),
        zone: zone(1),
        profile: "cx2-2x4".to_owned(),
        image: "none".to_owned(),
        interface: id(base + 0x280 + index as u128),
        power: if running {
            InstancePower::Running
        } else {
            InstancePower::Stopped
        },
        deleting: deleting.then_some(Timestamp(1)),
    }));
    records.push(Record::NetworkInterface(NetworkInterface {
        id: id(base + 0x280 + index as u128),
        name: ResourceName::new("eth0").unwrap(),
        created_at: Timestamp(1),
        instance: id(base + 0x200 + index as u128),
        vpc: id(base),
        subnet: id(base + 0x100 + subnet as u128),
        address: Ipv4Addr::new(10, octet, subnet as u8, 4 + index as u8),
        reserved_ip: id(base + 0x2c0 + index as u128),
        mac: [2, 0, 0, 0, octet, index as u8],
        security_groups: vec![id(base + 2)],
        allow_ip_spoofing: index % 2 == 0,
        attachment: InterfaceAttachment::Namespace,
    }));
}

fn add_connection(
    records: &mut Vec<Record>,
    (vpc, gateway): (VpcId, u128),
    (index, number): (usize, usize),
    shape: &ConnectionShape,
) {
    let connection = gateway * 16 + number as u128;
    let peer = if shape.fqdn {
        PeerAddress::Fqdn("gw.example.net".to_owned())
    } else {
        PeerAddress::Address(Ipv4Addr::new(198, 51, 100, number as u8).into())
    };
    records.push(Record::CustomerGateway(CustomerGateway {
        id: id(connection),
        connection: id(connection),
        address: peer,
    }));
    if !shape.deleting {
        records.push(Record::PreSharedKey(PreSharedKey {
            connection: id(connection),
            key: Secret::new("a-shared-key".to_owned()),
        }));
    }
    records.push(Record::VpnConnection(VpnConnection {
        id: id(connection),
        meta: meta("connection", 1),
        gateway: id(gateway),
        vpc,
        customer_gateway: id(connection),
        local_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
        peer_cidrs: vec![format!("172.{}.{number}.0/24", 16 + index).parse().unwrap()],
        admin_state_up: shape.up,
        dead_peer_detection: DeadPeerDetection {
            action: DeadPeerAction::Restart,
            interval: 2,
            timeout: 10,
        },
        ike_policy: shape.policy.then(|| id(50)),
        ipsec_policy: shape.policy.then(|| id(51)),
        establish: Establish::Bidirectional,
        local_identity: None,
        peer_identity: None,
        reset_count: 0,
        deleting: shape.deleting.then_some(Timestamp(1)),
    }));
}

fn one_connection(shape: ConnectionShape) -> Shape {
    Shape {
        subnets: vec![1, 2],
        instances: vec![(0, true, false), (1, false, false)],
        gateways: vec![(0, 1, false, vec![shape])],
        weak: true,
    }
}

const AUTO: ConnectionShape = ConnectionShape {
    policy: false,
    deleting: false,
    up: true,
    fqdn: false,
};

proptest! {
    #[test]
    fn plans_of_any_state_are_clean_and_the_same_twice(shape in shapes()) {
        let snapshot = snapshot(&shape);
        let vpc = id(1 << 32);
        let plan = plan_vpc(&snapshot, vpc);
        prop_assert_eq!(&plan, &plan_vpc(&snapshot, vpc));
        let stays = shape.instances.iter().any(|(_, _, deleting)| !deleting)
            || shape.gateways.iter().any(|(_, _, deleting, _)| !deleting);
        prop_assert_eq!(plan.is_some(), stays);
        if let Some(plan) = plan {
            prop_assert_eq!(check(&plan), []);
            let ports = shape.instances.iter().filter(|(_, _, deleting)| !deleting).count();
            prop_assert_eq!(plan.ports.len(), ports);
            let connections: usize = shape
                .gateways
                .iter()
                .filter(|(_, _, deleting, _)| !deleting)
                .map(|(_, _, _, connections)| connections.iter().filter(|one| !one.deleting).count())
                .sum();
            let planned: usize = plan.gateways.iter().map(|gateway| gateway.connections.len()).sum();
            prop_assert_eq!(planned, connections);
        }
    }

    #[test]
    fn a_change_of_another_vpc_changes_nothing(shape in shapes(), other in shapes()) {
        let alone = snapshot(&shape);
        let mut records = Vec::new();
        add_vpc(&mut records, &shape, 1);
        add_vpc(&mut records, &other, 2);
        let both = Snapshot::from_records(alone.settings().clone(), Revision(8), records);
        prop_assert_eq!(plan_vpc(&alone, id(1 << 32)), plan_vpc(&both, id(1 << 32)));
    }
}

#[test]
fn a_connection_without_policies_negotiates_automatically() {
    let plan = plan_vpc(&snapshot(&one_connection(AUTO)), id(1 << 32)).unwrap();
    let connection = &plan.gateways[0].connections[0];
    assert_eq!(connection.version, IkeVersion::V2);
    assert_eq!(connection.ike_lifetime_seconds, 28_800);
    assert_eq!(connection.esp_lifetime_seconds, 3_600);
    assert_eq!(
        connection.ike_proposals[0].dh[..2],
        [DhGroup::X25519, DhGroup::Ecp256]
    );
    assert_eq!(connection.ike_proposals[0].dh.last(), Some(&DhGroup::Modp1024));
    assert!(connection.esp_proposals[0].encryption[0].is_aead());
    assert!(
        connection
            .esp_proposals
            .iter()
            .all(|proposal| proposal.pfs.is_empty())
    );
    assert_eq!(
        connection.local_identity,
        IkeIdentity::Address("203.0.113.10".parse().unwrap())
    );
    assert_eq!(
        connection.peer_identity,
        IkeIdentity::Address("198.51.100.0".parse().unwrap())
    );
    // The smallest overhead that the offer allows: an AEAD. The tunnel daemon holds SAs of other suites to less.
    assert_eq!(plan.gateways[0].mtu, 1438);
}

#[test]
fn weak_algorithms_are_offered_only_while_the_operator_allows_them() {
    let words = |weak| {
        let shape = Shape {
            weak,
            ..one_connection(AUTO)
        };
        let plan = plan_vpc(&snapshot(&shape), id(1 << 32)).unwrap();
        format!("{:?}", plan.gateways[0].connections[0])
    };
    for weak in ["TripleDes", "HmacMd5_96", "HmacSha1_96", "Modp1024", "Modp1536"] {
        assert!(words(true).contains(weak), "{weak}");
        assert!(!words(false).contains(weak), "{weak}");
    }
}

#[test]
fn policies_decide_proposals_lifetimes_and_packet_size() {
    let shape = ConnectionShape {
        policy: true,
        fqdn: true,
        ..AUTO
    };
    let plan = plan_vpc(&snapshot(&one_connection(shape)), id(1 << 32)).unwrap();
    let connection = &plan.gateways[0].connections[0];
    assert_eq!(connection.ike_proposals.len(), 2);
    assert_eq!(connection.ike_proposals[0].encryption, [Encryption::Aes256Cbc]);
    assert_eq!(connection.ike_proposals[1].encryption, [Encryption::Aes256Gcm16]);
    assert!(connection.ike_proposals[1].integrity.is_empty());
    assert_eq!(connection.ike_proposals[1].prf, [Prf::HmacSha2_512]);
    assert_eq!(connection.ike_proposals[0].dh, [DhGroup::Modp2048]);
    assert_eq!(connection.esp_proposals[0].pfs, [DhGroup::Ecp256]);
    assert_eq!(
        (connection.ike_lifetime_seconds, connection.esp_lifetime_seconds),
        (1800, 1900)
    );
    assert_eq!(plan.gateways[0].mtu, 1438);
    assert!(matches!(&connection.peer, PeerEndpoint::Name { fqdn } if fqdn == "gw.example.net"));
    assert_eq!(
        connection.peer_identity,
        IkeIdentity::Fqdn("gw.example.net".to_owned())
    );
}

#[test]
fn a_policy_of_unsupported_groups_keeps_the_connection_down_with_a_reason() {
    let mut records: Vec<_> = snapshot(&one_connection(ConnectionShape { policy: true, ..AUTO }))
        .records()
        .collect();
    for record in &mut records {
        if let Record::IkePolicy(policy) = record {
            policy.dh = vec![PolicyGroup(22), PolicyGroup(24)];
        }
    }
    let snapshot = Snapshot::from_records(Settings::default(), Revision(1), records);
    let plan = plan_vpc(&snapshot, id(1 << 32)).unwrap();
    assert_eq!(check(&plan), []);
    assert!(!plan.gateways[0].connections[0].admin_up);
    let connection = snapshot.vpn_connections().next().unwrap();
    let words = obstacle(&snapshot, connection).unwrap().to_string();
    assert!(words.contains("IKE") && words.contains("(22, 24)"), "{words}");
}

#[test]
fn a_peer_that_may_be_anywhere_is_planned_without_the_address_that_the_model_has() {
    for (fqdn, peer_id, identity) in [
        (true, None, IkeIdentity::Fqdn("gw.example.net".to_owned())),
        (
            false,
            Some(TunnelIdentity::Email("van@example.net".to_owned())),
            IkeIdentity::Email("van@example.net".to_owned()),
        ),
    ] {
        let mut records: Vec<_> = snapshot(&one_connection(ConnectionShape { fqdn, ..AUTO }))
            .records()
            .collect();
        let connection = records.iter().find_map(|record| {
            if let Record::VpnConnection(connection) = record {
                Some(connection.id)
            } else {
                None
            }
        });
        records.push(Record::TunnelSettings(TunnelSettings {
            connection: connection.unwrap(),
            version: 2,
            options: ConnectionOptions {
                peer_id,
                peer_location: PeerLocation::Anywhere,
                ..ConnectionOptions::default()
            },
        }));
        let snapshot = Snapshot::from_records(Settings::default(), Revision(1), records);
        let mut plan = plan_vpc(&snapshot, id(1 << 32)).unwrap();
        let planned = &plan.gateways[0].connections[0];
        assert_eq!(planned.peer, PeerEndpoint::Anywhere);
        assert_eq!(planned.peer_identity, identity);
        assert_eq!(check(&plan), []);
        plan.gateways[0].connections[0].peer_identity = IkeIdentity::Address(Ipv4Addr::UNSPECIFIED.into());
        assert_ne!(check(&plan), []);
    }
}

#[test]
fn a_gateway_serves_the_subnets_of_its_zone_and_the_oldest_keeps_them() {
    let shape = Shape {
        subnets: vec![1, 2, 1],
        instances: vec![(0, true, false), (1, true, false), (2, false, false)],
        gateways: vec![
            (0, 9, false, vec![AUTO]),
            (0, 3, false, vec![AUTO]),
            (0, 1, false, vec![]),
        ],
        weak: true,
    };
    let plan = plan_vpc(&snapshot(&shape), id(1 << 32)).unwrap();
    let serving: Vec<_> = plan.subnets.iter().map(|subnet| subnet.vpn_gateway).collect();
    let oldest = Some(plan.gateways[1].gateway);
    assert_eq!(serving, [oldest, None, oldest]);
    assert_eq!(plan.ports[2].power, Power::Off);
}

#[test]
fn groups_named_by_rules_are_planned_and_missing_ones_permit_nobody() {
    let plan = plan_vpc(&snapshot(&one_connection(AUTO)), id(1 << 32)).unwrap();
    assert_eq!(plan.security_groups.len(), 2);
    assert_eq!(plan.security_groups[0].members.len(), 2);
    assert_eq!(plan.security_groups[0].inbound.len(), 1);
    assert!(plan.security_groups[1].members.is_empty());
}

#[test]
fn check_finds_what_is_broken() {
    let good = plan_vpc(&snapshot(&one_connection(AUTO)), id(1 << 32)).unwrap();
    let broken = |change: &dyn Fn(&mut VpcPlan)| {
        let mut plan = good.clone();
        change(&mut plan);
        check(&plan)
    };
    assert_eq!(broken(&|_| {}), []);
    let cases: [&dyn Fn(&mut VpcPlan); 14] = [
        &|plan| plan.ranges.clear(),
        &|plan| plan.acls.clear(),
        &|plan| plan.security_groups.clear(),
        &|plan| plan.ports[0].address = plan.ports[1].address,
        &|plan| plan.ports[0].mac = plan.ports[1].mac,
        &|plan| plan.ports[0].mac[0] |= 1,
        &|plan| plan.ports[0].address = plan.subnets[0].router,
        &|plan| plan.subnets[0].cidr = plan.subnets[1].cidr,
        &|plan| plan.gateways[0].mtu = 1500,
        &|plan| plan.gateways[0].connections[0].esp_proposals[0].integrity = vec![Integrity::HmacSha1_96],
        &|plan| plan.gateways[0].connections[0].ike_proposals.clear(),
        &|plan| plan.gateways[0].connections[0].psk = Secret::new(String::new()),
        &|plan| plan.gateways[0].connections[0].version = IkeVersion::V1,
        &|plan| {
            let mut twin = plan.gateways[0].connections[0].clone();
            twin.connection = id(77);
            plan.gateways[0].connections.push(twin);
        },
    ];
    for (index, change) in cases.iter().enumerate() {
        assert_ne!(broken(change), [], "case {index}");
    }
    assert_ne!(broken(&|plan| plan.gateways.clear()), []);
}
