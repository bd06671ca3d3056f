//! Plans of all shapes against a simulated kernel that is as strict as the real one about what must exist first.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use isthmus_hostplan::*;
use isthmus_types::*;
use proptest::prelude::*;

use super::*;
use crate::compile;
use crate::name;
use crate::ruleset::Table;
use crate::state::LinkKind as Kind;
use crate::state::{Route, RouteKey};

/// A kernel: namespaces, and the next link index.
#[derive(Clone, Default)]
struct Kernel {
    state: Observed,
    last_index: u32,
}

impl Kernel {
    fn namespace(&mut self, name: &str) -> &mut ObservedNamespace {
        self.state
            .namespaces
            .get_mut(name)
            .unwrap_or_else(|| panic!("no namespace {name}"))
    }

    fn add_namespace(&mut self, name: &str) {
        let mut namespace = ObservedNamespace::default();
        namespace
            .links
            .insert("lo".to_owned(), link(1, ObservedKind::Loopback));
        let before = self.state.namespaces.insert(name.to_owned(), namespace);
        assert!(before.is_none(), "{name} exists");
    }

    fn add_link(&mut self, place: &Place, kind: ObservedKind, mac: Option<[u8; 6]>) -> u32 {
        self.last_index += 1;
        let index = self.last_index + 1;
        let mut new = link(index, kind);
        new.mac = mac;
        let before = self
            .namespace(&place.namespace)
            .links
            .insert(place.link.clone(), new);
        assert!(before.is_none(), "{place} exists");
        index
    }

    fn drop_link(&mut self, place: &Place) {
        let Some(namespace) = self.state.namespaces.get_mut(&place.namespace) else {
            return;
        };
        let Some(gone) = namespace.links.remove(&place.link) else {
            return;
        };
        let name = &place.link;
        namespace.addresses.retain(|(link, _), _| link != name);
        namespace.neighbours.retain(|(link, _), _| link != name);
        namespace
            .routes
            .retain(|_, route| route.target.link() != Some(name));
        namespace
            .sysctls
            .retain(|path, _| !path.split('/').any(|part| part == name));
        if let ObservedKind::Veth { peer } = gone.kind {
            let far = self.state.namespaces.iter().find_map(|(namespace, found)| {
                let end = found.links.iter().find(|(_, link)| {
                    link.index == peer && link.kind == ObservedKind::Veth { peer: gone.index }
                })?;
                Some(Place {
                    namespace: namespace.clone(),
                    link: end.0.clone(),
                })
            });
            if let Some(far) = far {
                self.drop_link(&far);
            }
        }
    }

    fn link(&mut self, place: &Place) -> &mut ObservedLink {
        self.namespace(&place.namespace)
            .links
            .get_mut(&place.link)
            .unwrap_or_else(|| panic!("no link {place}"))
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::AddAddress { place, address } => {
                self.link(place);
                let key = (place.link.clone(), *address);
                self.namespace(&place.namespace).addresses.insert(key, Mark::Ours);
            }
            Operation::AddRule { namespace, rule } => {
                assert!(self.namespace(namespace).rules.insert(rule.clone()));
            }
            Operation::CreateNamespace { namespace } => self.add_namespace(namespace),
            Operation::CreateTap { place, .. } | Operation::CreateTun { place } => {
                self.add_link(place, ObservedKind::Tun, None);
            }
            Operation::CreateVeth {
                place,
                mac,
                peer,
                peer_mac,
            } => {
                let near = self.add_link(place, ObservedKind::Other, *mac);
                let far = self.add_link(peer, ObservedKind::Veth { peer: near }, *peer_mac);
                self.link(place).kind = ObservedKind::Veth { peer: far };
            }
            Operation::RemoveAddress { place, address } => {
                let key = (place.link.clone(), *address);
                self.namespace(&place.namespace).addresses.remove(&key);
            }
            Operation::RemoveLink { place } => self.drop_link(place),
            Operation::RemoveNeighbour { place, address } => {
                let key = (place.link.clone(), *address);
                self.namespace(&place.namespace).neighbours.remove(&key);
            }
            Operation::RemoveRoute { namespace, key } => {
                self.namespace(namespace).routes.remove(key);
            }
            Operation::RemoveRule { namespace, rule } => {
                self.namespace(namespace).rules.remove(rule);
            }
            Operation::ReplaceNeighbour { place, address, mac } => {
                assert!(self.link(place).up, "neighbour on {place}, which is down");
                let key = (place.link.clone(), *address);
                self.namespace(&place.namespace).neighbours.insert(key, *mac);
            }
            Operation::ReplaceRoute {
                namespace,
                key,
                route,
            } => self.replace_route(namespace, *key, route),
            Operation::ReplaceRuleset {
                namespace,
                table,
                ruleset,
                previous,
            } => {
                let tables = &mut self.namespace(namespace).rulesets;
                assert_eq!(
                    tables.get(table),
                    previous.as_ref(),
                    "the transaction starts from what is"
                );
                tables.insert(table.clone(), ruleset.as_observed());
            }
            Operation::SetLink { place, mac, mtu, up } => {
                let link = self.link(place);
                link.mac = mac.or(link.mac);
                link.mtu = mtu.unwrap_or(link.mtu);
                link.up = up.unwrap_or(link.up);
                if *up == Some(false) {
                    let name = place.link.clone();
                    let namespace = self.namespace(&place.namespace);
                    namespace
                        .routes
                        .retain(|_, route| route.target.link() != Some(&name));
                    namespace.neighbours.retain(|(link, _), _| *link != name);
                }
            }
            Operation::WriteSysctl {
                namespace,
                path,
                value,
            } => {
                self.namespace(namespace)
                    .sysctls
                    .insert(path.clone(), value.clone());
            }
        }
    }

    fn replace_route(&mut self, namespace: &str, key: RouteKey, route: &Route) {
        if let Some(link) = route.target.link() {
            let place = Place {
                namespace: namespace.to_owned(),
                link: link.to_owned(),
            };
            assert!(self.link(&place).up, "route over {place}, which is down");
        }
        if let Some(source) = route.source {
            let here = &self.namespace(namespace).addresses;
            assert!(
                here.keys().any(|(_, address)| address.addr() == source),
                "no source {source}"
            );
        }
        self.namespace(namespace).routes.insert(key, route.clone());
    }

    fn carry_out(&mut self, desired: &Desired) -> Difference {
        let difference = diff(desired, &self.state);
        for step in &difference.steps {
            self.apply(&step.operation);
        }
        difference
    }
}

const fn link(index: u32, kind: ObservedKind) -> ObservedLink {
    ObservedLink {
        index,
        kind,
        mac: None,
        mtu: 1500,
        up: false,
    }
}

fn bits(kind: u128, number: usize) -> ResourceBits {
    ResourceBits::from_random((kind << 40) | number as u128)
}

#[derive(Clone, Debug)]
struct PortShape {
    number: usize,
    subnet: usize,
    attachment: usize,
    on: bool,
    free: bool,
}

#[derive(Clone, Debug)]
struct Shape {
    ports: Vec<PortShape>,
    gateways: Vec<Vec<usize>>,
    served: [Option<usize>; 2],
    nat: bool,
    ipv6: bool,
}

const REMOTE: [&str; 5] = [
    "10.2.0.0/16",
    "10.2.1.0/24",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "192.0.2.0/24",
];

fn shape() -> impl Strategy<Value = Shape> {
    let port = (0..6usize, 0..2usize, 0..3usize, any::<bool>(), any::<bool>()).prop_map(
        |(number, subnet, attachment, on, free)| PortShape {
            number,
            subnet,
            attachment,
            on,
            free,
        },
    );
    let gateway = prop::collection::vec(0..REMOTE.len(), 0..3);
    (
        prop::collection::vec(port, 0..5),
        prop::collection::vec(gateway, 0..3),
        [prop::option::of(0..3usize), prop::option::of(0..3usize)],
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(mut ports, gateways, served, nat, ipv6)| {
            let mut seen = BTreeSet::new();
            ports.retain(|port| seen.insert(port.number));
            let served = served.map(|gateway| gateway.filter(|number| *number < gateways.len()));
            Shape {
                ports,
                gateways,
                served,
                nat,
                ipv6,
            }
        })
}

fn plan(shape: &Shape) -> VpcPlan {
    let group = SecurityGroupId(bits(1, 1));
    let acl = NetworkAclId(bits(2, 1));
    let subnet_id = |index: usize| SubnetId(bits(3, index));
    let gateway_id = |index: usize| VpnGatewayId(bits(4, index));
    VpcPlan {
        vpc: VpcId(bits(5, 1)),
        generation: Generation(1),
        ranges: vec!["10.1.0.0/16".parse().unwrap()],
        subnets: (0..2u8)
            .map(|index| SubnetPlan {
                subnet: subnet_id(index.into()),
                cidr: format!("10.1.{index}.0/24").parse().unwrap(),
                router: Ipv4Addr::new(10, 1, index, 1),
                acl,
                vpn_gateway: shape.served[usize::from(index)].map(gateway_id),
            })
            .collect(),
        ports: shape
            .ports
            .iter()
            .map(|port| port_plan(port, subnet_id(port.subnet), group))
            .collect(),
        source_nat: shape.nat.then_some(Ipv4Addr::new(198, 51, 100, 9)),
        security_groups: vec![SecurityGroupPlan {
            group,
            members: vec![Ipv4Addr::new(10, 1, 0, 4)],
            inbound: vec![GroupRule::Members { group }],
            outbound: vec![GroupRule::Range { cidr: Cidr::ALL_IPV4 }],
        }],
        acls: Vec::new(),
        gateways: shape
            .gateways
            .iter()
            .enumerate()
            .map(|(index, ranges)| GatewayPlan {
                key_log: false,
                gateway: gateway_id(index),
                name: "gateway".to_owned(),
                public_address: Ipv4Addr::new(198, 51, 100, 20 + index as u8),
                public_ipv6: shape
                    .ipv6
                    .then(|| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 20 + index as u16)),
                mtu: 1400,
                connections: vec![connection(index, ranges)],
            })
            .collect(),
    }
}

fn port_plan(port: &PortShape, subnet: SubnetId, group: SecurityGroupId) -> PortPlan {
    PortPlan {
        interface: NetworkInterfaceId(bits(6, port.number)),
        // Two interfaces for some instances.
        instance: InstanceId(bits(7, port.number / 2)),
        instance_name: "instance".to_owned(),
        subnet,
        address: Ipv4Addr::new(10, 1, port.subnet as u8, 4 + port.number as u8),
        mac: [2, 0, 0, 0, 0, port.number as u8],
        attachment: match port.attachment {
            0 => Attachment::HandOver {
                namespace: "user".to_owned(),
                interface: format!("vpc{}", port.number),
            },
            1 => Attachment::Tap {
                interface: format!("machine{}", port.number),
            },
            _ => Attachment::Namespace,
        },
        power: if port.on { Power::On } else { Power::Off },
        security_groups: vec![group],
        spoofing: if port.free {
            Spoofing::Allowed
        } else {
            Spoofing::Forbidden
        },
    }
}

fn connection(number: usize, ranges: &[usize]) -> ConnectionPlan {
    let peer = Ipv4Addr::new(198, 51, 100, 200);
    ConnectionPlan {
        connection: VpnConnectionId(bits(8, number)),
        name: "connection".to_owned(),
        admin_up: true,
        reset_count: 0,
        version: IkeVersion::V2,
        peer: PeerEndpoint::Address { address: peer.into() },
        local_identity: IkeIdentity::Address(peer.into()),
        peer_identity: IkeIdentity::Address(peer.into()),
        psk: Secret::new("for a test".to_owned()),
        establish: EstablishMode::Bidirectional,
        ike_proposals: Vec::new(),
        esp_proposals: Vec::new(),
        local_cidrs: Vec::new(),
        peer_cidrs: ranges
            .iter()
            .map(|index| REMOTE[*index].parse().unwrap())
            .collect(),
        ike_lifetime_seconds: 1,
        esp_lifetime_seconds: 1,
        dpd_action: DpdAction::Hold,
        dpd_interval_seconds: 1,
        dpd_timeout_seconds: 1,
        force_encapsulation: false,
        options: TunnelOptions::default(),
    }
}

fn desired(shape: &Shape) -> Desired {
    let realm = Realm::new("lab").unwrap();
    let uplink = UplinkPlan::Private {
        pool: "198.51.100.0/24".parse().unwrap(),
        router: Ipv4Addr::new(198, 51, 100, 1),
        router_ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    compile::vpc(&realm, &uplink, &plan(shape))
}

/// A kernel with the host's own namespace, and the user's if it is there.
fn kernel(user: bool) -> Kernel {
    let mut kernel = Kernel::default();
    kernel.add_namespace("");
    if user {
        kernel.add_namespace("user");
    }
    kernel
}

/// Breaks the `number`-th thing of the `place`-th namespace of ours.
fn damage(kernel: &mut Kernel, place: usize, kind: usize, number: usize) {
    let ours: Vec<String> = kernel
        .state
        .namespaces
        .keys()
        .filter(|name| name.starts_with("ist-"))
        .cloned()
        .collect();
    if ours.is_empty() {
        return;
    }
    let name = ours[place % ours.len()].clone();
    let namespace = kernel.namespace(&name);
    macro_rules! drop_one {
        ($map:expr) => {{
            let key = $map.keys().nth(number % $map.len().max(1)).cloned();
            if let Some(key) = key {
                $map.remove(&key);
            }
        }};
    }
    match kind {
        0 => drop_one!(namespace.addresses),
        1 => drop_one!(namespace.neighbours),
        2 => drop_one!(namespace.routes),
        3 => namespace.rules.clear(),
        4 => drop_one!(namespace.sysctls),
        5 => namespace.rulesets.clear(),
        6 => namespace
            .rulesets
            .values_mut()
            .for_each(|table| table.chains.clear()),
        _ => {
            let link = namespace
                .links
                .keys()
                .filter(|link| *link != "lo")
                .nth(number % 4)
                .cloned();
            if let Some(link) = link {
                kernel.drop_link(&Place {
                    namespace: name,
                    link,
                });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn applying_a_diff_leaves_an_empty_one(
        shapes in prop::collection::vec((shape(), prop::collection::vec((0..4usize, 0..8usize, 0..9usize), 0..4)), 1..4),
        user in any::<bool>(),
    ) {
        let mut kernel = kernel(user);
        for (shape, damages) in &shapes {
            let goal = desired(shape);
            kernel.carry_out(&goal);
            prop_assert_eq!(diff(&goal, &kernel.state).steps, Vec::new());
            for (place, kind, number) in damages {
                damage(&mut kernel, *place, *kind, *number);
            }
            kernel.carry_out(&goal);
            prop_assert_eq!(diff(&goal, &kernel.state).steps, Vec::new());
        }
    }

    #[test]
    fn stopping_anywhere_and_starting_again_ends_the_same(first in shape(), second in shape(), stop in 0..120usize) {
        let mut kernel = kernel(true);
        kernel.carry_out(&desired(&first));
        let goal = desired(&second);
        for step in diff(&goal, &kernel.state).steps.iter().take(stop) {
            kernel.apply(&step.operation);
        }
        kernel.carry_out(&goal);
        prop_assert!(diff(&goal, &kernel.state).is_empty());
    }

    #[test]
    fn rules_are_in_place_before_any_port_is_up_and_any_route_leads_away(shape in shape()) {
        let steps = diff(&desired(&shape), &kernel(true).state).steps;
        let rules = steps
            .iter()
            .position(|step| matches!(step.operation, Operation::ReplaceRuleset { ref table, .. } if *table == Table::router()))
            .unwrap();
        for step in &steps[..rules] {
            let early = matches!(
                step.operation,
                Operation::SetLink { up: Some(true), .. } | Operation::ReplaceRoute { .. } | Operation::AddRule { .. }
            );
            prop_assert!(!early, "{} comes before the rules", step.operation);
        }
    }

    #[test]
    fn sets_of_ranges_never_overlap(shape in shape()) {
        for namespace in desired(&shape).namespaces.values() {
            for set in namespace.rulesets.values().flat_map(|table| table.value.sets.values()).filter(|set| set.interval) {
                let ranges: Vec<(Vec<String>, Cidr)> = set
                    .elements
                    .keys()
                    .map(|key| {
                        let (last, first) = key.split_last().unwrap();
                        let net = last.parse().unwrap_or_else(|_| Cidr::host(last.parse().unwrap()));
                        (first.to_vec(), net)
                    })
                    .collect();
                for (index, (first, range)) in ranges.iter().enumerate() {
                    for (other_first, other) in &ranges[..index] {
                        prop_assert!(first != other_first || !range.overlaps(*other), "{range} and {other}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_missing_namespace_of_the_user_blocks_its_instance_only() {
    let shape = Shape {
        ports: vec![
            PortShape {
                number: 0,
                subnet: 0,
                attachment: 0,
                on: true,
                free: false,
            },
            PortShape {
                number: 2,
                subnet: 0,
                attachment: 2,
                on: true,
                free: false,
            },
        ],
        gateways: Vec::new(),
        served: [None, None],
        nat: false,
        ipv6: true,
    };
    let mut kernel = kernel(false);
    let blocked = kernel.carry_out(&desired(&shape)).blocked;
    let owner = Owner::Instance(InstanceId(bits(7, 0)));
    assert_eq!(
        blocked,
        [Blocked {
            owner,
            on: "namespace user".to_owned()
        }]
    );
    let rest = diff(&desired(&shape), &kernel.state);
    assert_eq!((rest.steps.len(), rest.blocked.len()), (0, 1));
    kernel.add_namespace("user");
    kernel.carry_out(&desired(&shape));
    assert!(diff(&desired(&shape), &kernel.state).is_empty());
}

#[test]
fn a_link_of_the_user_is_never_replaced() {
    let shape = Shape {
        ports: vec![PortShape {
            number: 0,
            subnet: 0,
            attachment: 0,
            on: true,
            free: false,
        }],
        gateways: Vec::new(),
        served: [None, None],
        nat: false,
        ipv6: true,
    };
    let mut kernel = kernel(true);
    let place = Place {
        namespace: "user".to_owned(),
        link: "vpc0".to_owned(),
    };
    kernel.add_link(&place, ObservedKind::Other, None);
    let difference = kernel.carry_out(&desired(&shape));
    assert_eq!(difference.blocked.len(), 1);
    assert!(
        !difference
            .steps
            .iter()
            .any(|step| step.operation.namespace() == "user")
    );
    assert_eq!(kernel.link(&place).kind, ObservedKind::Other);
}

#[test]
fn every_gateway_gets_its_own_device_and_peer_ranges() {
    let shape = Shape {
        ports: Vec::new(),
        gateways: vec![vec![0], vec![1, 4]],
        served: [Some(0), Some(1)],
        nat: true,
        ipv6: true,
    };
    let goal = desired(&shape);
    let router = goal
        .namespaces
        .values()
        .find(|namespace| namespace.claim == Claim::Everything)
        .unwrap();
    assert_eq!(
        router
            .links
            .values()
            .filter(|link| link.kind == Kind::Tun)
            .count(),
        2
    );
    let tables: BTreeSet<u32> = router.routes.keys().map(|key| key.table).collect();
    assert_eq!(tables.len(), 4, "main, guard and two gateways: {tables:?}");
    let guard: BTreeSet<String> = router
        .routes
        .keys()
        .filter(|key| key.table == name::GUARD_TABLE)
        .map(|key| key.destination.to_string())
        .collect();
    assert_eq!(
        guard,
        ["10.2.0.0/16".to_owned(), "192.0.2.0/24".to_owned()].into()
    );
}
