//! Lists: pages, filters, orders.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

mod support;

use std::collections::BTreeSet;

use isthmus_model::{Quotas, Settings};
use isthmus_ops::OpErrorCode as Code;
use isthmus_ops::*;
use isthmus_types::*;

use support::*;

fn unlimited() -> World {
    World::new(Settings {
        quotas: Quotas::unlimited(),
        ..Settings::default()
    })
}

fn vpcs(world: &World, filter: &VpcFilter, limit: u32, start: Option<String>) -> PageOf<VpcView> {
    let question = Query::Vpcs {
        filter: filter.clone(),
        page: page(limit, start),
    };
    match world.ask(question).unwrap() {
        Outcome::Vpcs(page) => page,
        other => panic!("{other:?}"),
    }
}

/// Reads page after page.
fn walk<T, Id: Ord>(
    mut read: impl FnMut(Option<String>) -> PageOf<T>,
    id: impl Fn(&T) -> Id,
) -> (Vec<Id>, usize) {
    let (mut ids, mut pages, mut start) = (Vec::new(), 0, None);
    loop {
        let page = read(start);
        pages += 1;
        ids.extend(page.items.iter().map(&id));
        assert!(page.items.len() as u64 <= page.total);
        start = page.next;
        if start.is_none() {
            return (ids, pages);
        }
    }
}

#[test]
fn pages_neither_skip_nor_repeat() {
    let mut world = unlimited();
    let mut made = BTreeSet::new();
    for number in 0..23 {
        made.insert(world.vpc(&format!("vpc-{number}")).id);
    }
    world
        .as_caller(caller(OTHER_ACCOUNT), create_vpc(None, PrefixManagement::Auto))
        .unwrap();
    for (limit, expected_pages) in [(1, 23), (5, 5), (22, 2), (23, 1), (100, 1)] {
        for filter in [
            VpcFilter::default(),
            VpcFilter {
                classic_access: Some(false),
                ..VpcFilter::default()
            },
        ] {
            let (ids, pages) = walk(
                |start| {
                    let page = vpcs(&world, &filter, limit, start);
                    assert_eq!(page.total, 23);
                    page
                },
                |vpc| vpc.id,
            );
            assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), made);
            assert_eq!((ids.len(), pages), (23, expected_pages));
        }
    }
    // What comes and goes between two pages does not move the rest.
    let first = vpcs(&world, &VpcFilter::default(), 10, None);
    let gone = first.items[9].id;
    world
        .run(Operation::DeleteVpc(DeleteVpc {
            vpc: gone,
            if_match: None,
        }))
        .unwrap();
    world.vpc("newcomer");
    let (rest, _) = walk(
        |start| {
            vpcs(
                &world,
                &VpcFilter::default(),
                10,
                start.or_else(|| first.next.clone()),
            )
        },
        |vpc| vpc.id,
    );
    let seen: BTreeSet<_> = first.items.iter().map(|vpc| vpc.id).chain(rest).collect();
    assert!(seen.is_superset(&made));
}

#[test]
fn marks_that_no_page_gave_are_refused() {
    let mut world = unlimited();
    world.vpc("alpha");
    for mark in [
        "",
        "x",
        "0123",
        "zzzzzzzzzzzzzzzzz",
        "0123456789abcdef01",
        "\u{e4}",
    ] {
        let wrong = || page(10, Some(mark.to_owned()));
        for question in [
            Query::Vpcs {
                filter: VpcFilter::default(),
                page: wrong(),
            },
            Query::Vpcs {
                filter: VpcFilter {
                    classic_access: Some(true),
                    resource_group: None,
                },
                page: wrong(),
            },
            Query::VpnGateways {
                filter: VpnGatewayFilter::default(),
                sort: GatewaySort::CreatedDescending,
                page: wrong(),
            },
            Query::IkePolicies {
                resource_group: None,
                page: wrong(),
            },
        ] {
            let error = world.ask(question.clone()).unwrap_err();
            assert_eq!(
                (error.code, error.field.as_deref()),
                (Code::InvalidField, Some("start")),
                "{question:?}"
            );
        }
    }
}

#[test]
fn filters_narrow_lists() {
    let mut world = unlimited();
    let alpha = world.vpc("alpha");
    let beta = world.vpc("beta");
    for (vpc, third) in [(alpha.id, 0), (alpha.id, 64), (beta.id, 0)] {
        let grouped = Operation::CreateSubnet(CreateSubnet {
            vpc,
            range: SubnetRange::Cidr(cidr(&format!("10.240.{third}.0/24"))),
            zone: None,
            name: None,
            resource_group: (third == 64).then(|| "group-1".to_owned()),
        });
        world.run(grouped).unwrap();
    }
    let count = |change: &dyn Fn(&mut SubnetFilter)| {
        let mut filter = SubnetFilter::default();
        change(&mut filter);
        match world
            .ask(Query::Subnets {
                filter,
                page: page(50, None),
            })
            .unwrap()
        {
            Outcome::Subnets(page) => {
                assert_eq!(page.total, page.items.len() as u64);
                page.total
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(count(&|_| ()), 3);
    assert_eq!(count(&|filter| filter.vpc = Some(alpha.id)), 2);
    assert_eq!(count(&|filter| filter.vpc = Some(VpcId(bits(1)))), 0);
    assert_eq!(count(&|filter| filter.vpc_name = Some(name("beta"))), 1);
    assert_eq!(count(&|filter| filter.vpc_name = Some(name("gamma"))), 0);
    let both = |filter: &mut SubnetFilter| {
        filter.vpc = Some(alpha.id);
        filter.vpc_name = Some(name("beta"));
    };
    assert_eq!(count(&both), 0);
    assert_eq!(count(&|filter| filter.zone = Some(zone(2))), 1);
    let labelled = |label: &str| Some(GroupFilter::Labelled(label.to_owned()));
    assert_eq!(count(&|filter| filter.resource_group = labelled("group-1")), 1);
    assert_eq!(count(&|filter| filter.resource_group = labelled("group-2")), 0);
    assert_eq!(
        count(&|filter| filter.resource_group = Some(GroupFilter::Default)),
        2
    );
    assert_eq!(
        count(&|filter| filter.route_table = Some(beta.default_route_table.id)),
        1
    );
    assert_eq!(
        count(&|filter| filter.route_table_name = Some(alpha.default_route_table.name.clone())),
        2
    );

    let subnet = world.state.subnets_of(beta.id).next().unwrap().id;
    world.instance(subnet, "one");
    world.instance(subnet, "two");
    let count = |filter: InstanceFilter| match world
        .ask(Query::Instances {
            filter,
            page: page(1, None),
        })
        .unwrap()
    {
        Outcome::Instances(page) => (page.total, page.items.len(), page.next.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(InstanceFilter::default()), (2, 1, true));
    let in_alpha = InstanceFilter {
        vpc: Some(alpha.id),
        ..InstanceFilter::default()
    };
    assert_eq!(count(in_alpha), (0, 0, false));
    let named = InstanceFilter {
        name: Some(name("two")),
        vpc: Some(beta.id),
        ..InstanceFilter::default()
    };
    assert_eq!(count(named), (1, 1, false));
}

#[test]
fn gateways_are_listed_in_the_order_asked_for() {
    let mut world = unlimited();
    let vpc = world.vpc_with_prefix("alpha", "10.1.0.0/16");
    let subnet = world.subnet(vpc, "10.1.0.0/24");
    let made: Vec<VpnGatewayId> = ["delta", "alpha", "echo", "bravo", "charlie"]
        .iter()
        .map(
            |wanted| match world.run(create_gateway(subnet, Some(wanted))).unwrap() {
                Outcome::VpnGateway(view) => view.id,
                other => panic!("{other:?}"),
            },
        )
        .collect();
    let by_name: Vec<VpnGatewayId> = [1, 3, 4, 0, 2].map(|position| made[position]).to_vec();
    let reversed = |ids: &[VpnGatewayId]| ids.iter().rev().copied().collect::<Vec<_>>();
    let table = [
        (GatewaySort::CreatedAscending, made.clone()),
        (GatewaySort::CreatedDescending, reversed(&made)),
        (GatewaySort::NameAscending, by_name.clone()),
        (GatewaySort::NameDescending, reversed(&by_name)),
    ];
    for (sort, expected) in table {
        for limit in [1, 2, 5, 9] {
            let (ids, _) = walk(
                |start| {
                    let question = Query::VpnGateways {
                        filter: VpnGatewayFilter::default(),
                        sort,
                        page: page(limit, start),
                    };
                    match world.ask(question).unwrap() {
                        Outcome::VpnGateways(page) => page,
                        other => panic!("{other:?}"),
                    }
                },
                |gateway| gateway.id,
            );
            assert_eq!(ids, expected, "{sort:?} by {limit}");
        }
    }
}

#[test]
fn connections_are_filtered_by_state_and_reserved_addresses_by_page() {
    let mut world = unlimited();
    let vpc = world.vpc_with_prefix("alpha", "10.1.0.0/16");
    let subnet = world.subnet(vpc, "10.1.0.0/24");
    let gateway = world.available_gateway(subnet);
    let up = world
        .connection(new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]))
        .id;
    let down = world
        .connection(new_connection(gateway, &["10.1.0.0/24"], &["10.3.0.0/24"]))
        .id;
    let status = ConnectionStatus {
        state: ConnectionState::Up,
        since: Timestamp(1),
        reset_count: 0,
        ike_suite: String::new(),
        esp_suite: String::new(),
    };
    world.run_as_system(Operation::RecordStatus(vec![StatusUpdate::VpnConnection {
        connection: up,
        status,
    }]));
    let ids = |up| match world
        .ask(Query::VpnConnections {
            gateway,
            up,
            page: page(9, None),
        })
        .unwrap()
    {
        Outcome::VpnConnections(page) => page.items.iter().map(|found| found.id).collect::<BTreeSet<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(ids(None), [up, down].into());
    assert_eq!(ids(Some(true)), [up].into());
    assert_eq!(ids(Some(false)), [down].into());

    let (held, pages) = walk(
        |start| match world
            .ask(Query::ReservedIps {
                subnet,
                page: page(4, start),
            })
            .unwrap()
        {
            Outcome::ReservedIps(page) => page,
            other => panic!("{other:?}"),
        },
        |item| item.address,
    );
    assert_eq!((held.len(), pages), (13, 4));
    assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), 13);
}
