//! What must hold in every state that operations can lead to.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_model::{PublicHolder, Record, ReservedFor, Snapshot, query};
use isthmus_ops::{Caller, Outcome, Query, Via};
use isthmus_types::{AccountId, Cidr};

/// Panics with the invariant that does not hold.
pub fn check(state: &Snapshot) {
    let rebuilt = Snapshot::from_records(state.settings().clone(), state.revision(), state.records());
    assert_eq!(*state, rebuilt, "the indices differ from those of the records");
    ranges(state);
    addresses(state);
    references(state);
    names(state);
    quotas(state);
    views(state);
}

fn disjoint(ranges: &[Cidr], what: &str) {
    for (position, range) in ranges.iter().enumerate() {
        for other in &ranges[..position] {
            assert!(!range.overlaps(*other), "{what} {range} overlaps {other}");
        }
    }
}

fn ranges(state: &Snapshot) {
    for vpc in state.vpcs() {
        let prefixes: Vec<_> = state.prefixes_of(vpc.id).collect();
        disjoint(
            &prefixes.iter().map(|prefix| prefix.cidr).collect::<Vec<_>>(),
            "prefix",
        );
        let subnets: Vec<_> = state.subnets_of(vpc.id).collect();
        disjoint(
            &subnets.iter().map(|subnet| subnet.cidr).collect::<Vec<_>>(),
            "subnet",
        );
        for subnet in subnets {
            let prefix = prefixes.iter().find(|prefix| prefix.cidr.contains(subnet.cidr));
            assert_eq!(
                prefix.unwrap().zone,
                subnet.zone,
                "a subnet lies in a prefix of its zone"
            );
        }
        let defaults: Vec<_> = prefixes.iter().filter(|prefix| prefix.is_default).collect();
        let zones: BTreeSet<_> = defaults.iter().map(|prefix| &prefix.zone).collect();
        assert_eq!(
            defaults.len(),
            zones.len(),
            "a zone has one default prefix at most"
        );

        let mut seen: Vec<Cidr> = Vec::new();
        for gateway in state.gateways_of(vpc.id) {
            for connection in state
                .connections_of(gateway.id)
                .filter(|found| found.deleting.is_none())
            {
                for range in &connection.peer_cidrs {
                    assert!(
                        !seen.iter().any(|other| other.overlaps(*range)),
                        "{range} has two connections"
                    );
                }
                seen.extend(&connection.peer_cidrs);
                disjoint(&connection.local_cidrs, "local range");
                assert!(!connection.local_cidrs.is_empty() && !connection.peer_cidrs.is_empty());
            }
        }
    }
}

fn addresses(state: &Snapshot) {
    let mut public = BTreeMap::new();
    for vpc in state.vpcs() {
        if let Some(address) = vpc.source_nat {
            assert_eq!(public.insert(address, PublicHolder::SourceNat(vpc.id)), None);
        } else {
            assert_eq!(
                state.instances_of(vpc.id).count(),
                0,
                "a VPC with instances has a public address"
            );
        }
    }
    for gateway in state.vpn_gateways() {
        assert_eq!(
            public.insert(gateway.public_address, PublicHolder::Gateway(gateway.id)),
            None
        );
    }
    let pool = state.settings().public_pool.v4().unwrap();
    for address in public.keys() {
        assert!(pool.hosts().any(|host| host == *address) && *address != state.settings().uplink_router);
    }
    assert_eq!(state.public_addresses().collect::<BTreeMap<_, _>>(), public);

    let mut public_ipv6 = BTreeMap::new();
    for gateway in state.vpn_gateways() {
        assert!(!gateway.ipv6 || gateway.public_ipv6.is_some());
        if let Some(address) = gateway.public_ipv6 {
            assert_eq!(public_ipv6.insert(address, gateway.id), None);
        }
    }
    let settings = state.settings();
    for address in public_ipv6.keys() {
        assert!(settings.public_pool_ipv6.contains_address((*address).into()));
        assert_ne!(*address, settings.uplink_router_ipv6);
    }
    assert_eq!(
        state.public_ipv6_addresses().collect::<BTreeMap<_, _>>(),
        public_ipv6
    );

    for record in state.records() {
        let Record::Subnet(subnet) = record else { continue };
        let net = subnet.cidr.v4().unwrap();
        let held: Vec<_> = state.held_addresses(subnet.id).collect();
        let distinct: BTreeSet<_> = held.iter().collect();
        assert_eq!(held.len(), distinct.len(), "an address is held twice");
        assert_eq!(held.len(), state.held_count(subnet.id));
        for address in &held {
            let offset = u32::from(*address) - u32::from(net.network());
            assert!(net.contains(address) && offset >= 4 && *address != net.broadcast());
            assert!(state.is_held(subnet.id, *address));
        }
        let caller = caller(subnet.meta.account);
        let Ok(Outcome::Subnet(view)) = query(state, &caller, &Query::Subnet(subnet.id)) else {
            panic!("subnet {} is not shown", subnet.id)
        };
        let total = 1u64 << (32 - net.prefix_len());
        assert_eq!(view.total_addresses, total);
        assert_eq!(view.available_addresses, total - 5 - held.len() as u64);
    }
}

fn references(state: &Snapshot) {
    for record in state.records() {
        match record {
            Record::Account(_) => {}
            Record::User(user) => assert!(state.account(user.account).is_some()),
            Record::ApiKey(key) => assert_eq!(state.user(key.user).unwrap().account, key.account),
            Record::Vpc(vpc) => {
                assert!(state.account(vpc.meta.account).is_some());
                assert_eq!(state.network_acl(vpc.default_acl).unwrap().vpc, vpc.id);
                assert_eq!(
                    state.security_group(vpc.default_security_group).unwrap().vpc,
                    vpc.id
                );
                assert_eq!(state.route_table(vpc.default_route_table).unwrap().vpc, vpc.id);
            }
            Record::NetworkAcl(acl) => assert!(state.vpc(acl.vpc).is_some()),
            Record::SecurityGroup(group) => assert!(state.vpc(group.vpc).is_some()),
            Record::RouteTable(table) => assert!(state.vpc(table.vpc).is_some()),
            Record::AddressPrefix(prefix) => assert!(state.vpc(prefix.vpc).is_some()),
            Record::Subnet(subnet) => {
                assert_eq!(state.vpc(subnet.vpc).unwrap().meta.account, subnet.meta.account);
                assert_eq!(state.network_acl(subnet.acl).unwrap().vpc, subnet.vpc);
                assert_eq!(state.route_table(subnet.route_table).unwrap().vpc, subnet.vpc);
            }
            Record::ReservedIp(held) => match held.holder {
                ReservedFor::Interface(id) => {
                    let interface = state.network_interface(id).unwrap();
                    assert_eq!(
                        (interface.reserved_ip, interface.address),
                        (held.id, held.address)
                    );
                }
                ReservedFor::VpnGateway(id) => {
                    assert!(state.vpn_gateway(id).unwrap().reserved_ips.contains(&held.id));
                }
            },
            Record::Instance(instance) => {
                let interface = state.network_interface(instance.interface).unwrap();
                assert_eq!((interface.instance, interface.vpc), (instance.id, instance.vpc));
                assert_eq!(state.subnet(interface.subnet).unwrap().zone, instance.zone);
            }
            Record::NetworkInterface(interface) => {
                assert_eq!(
                    state.instance(interface.instance).unwrap().interface,
                    interface.id
                );
                assert_eq!(state.subnet(interface.subnet).unwrap().vpc, interface.vpc);
                assert!(state.reserved_ip(interface.reserved_ip).is_some());
                for group in &interface.security_groups {
                    assert_eq!(state.security_group(*group).unwrap().vpc, interface.vpc);
                }
            }
            Record::VpnGateway(gateway) => {
                let subnet = state.subnet(gateway.subnet).unwrap();
                assert_eq!((subnet.vpc, &subnet.zone), (gateway.vpc, &gateway.zone));
                for held in &gateway.reserved_ips {
                    assert_eq!(state.reserved_ip(*held).unwrap().subnet, gateway.subnet);
                }
                for member in &gateway.members {
                    assert_eq!(
                        state.reserved_ip(member.reserved_ip).unwrap().address,
                        member.address
                    );
                }
            }
            Record::CustomerGateway(peer) => {
                assert_eq!(
                    state.vpn_connection(peer.connection).unwrap().customer_gateway,
                    peer.id
                );
            }
            Record::VpnConnection(connection) => {
                assert_eq!(state.vpn_gateway(connection.gateway).unwrap().vpc, connection.vpc);
                assert!(state.peer_of(&connection).is_some());
                let live = connection.deleting.is_none();
                assert_eq!(state.pre_shared_key(connection.id).is_some(), live);
                assert!(
                    connection
                        .ike_policy
                        .is_none_or(|id| state.ike_policy(id).is_some())
                );
                assert!(
                    connection
                        .ipsec_policy
                        .is_none_or(|id| state.ipsec_policy(id).is_some())
                );
            }
            Record::PreSharedKey(key) => assert!(state.vpn_connection(key.connection).is_some()),
            Record::TunnelSettings(settings) => {
                assert!(
                    state
                        .vpn_connection(settings.connection)
                        .unwrap()
                        .deleting
                        .is_none()
                );
            }
            Record::IkePolicy(policy) => assert!(state.account(policy.meta.account).is_some()),
            Record::IpsecPolicy(policy) => assert!(state.account(policy.meta.account).is_some()),
            Record::InstanceObservation(seen) => assert!(state.instance(seen.instance).is_some()),
            Record::GatewayObservation(seen) => assert!(state.vpn_gateway(seen.gateway).is_some()),
            Record::ConnectionObservation(seen) => {
                assert!(state.vpn_connection(seen.connection).unwrap().deleting.is_none());
            }
        }
    }
}

fn names(state: &Snapshot) {
    let mut seen = BTreeSet::new();
    let mut unique = |scope: String, name: &isthmus_types::ResourceName| {
        assert!(
            seen.insert((scope.clone(), name.clone())),
            "{name} twice in {scope}"
        );
    };
    for record in state.records() {
        if let Record::Vpc(vpc) = &record {
            unique(format!("VPCs of {}", vpc.meta.account), &vpc.meta.name);
        } else if let Record::Subnet(subnet) = &record {
            unique(format!("subnets of {}", subnet.vpc), &subnet.meta.name);
        } else if let Record::AddressPrefix(prefix) = &record {
            unique(format!("prefixes of {}", prefix.vpc), &prefix.meta.name);
        } else if let Record::Instance(instance) = &record {
            unique(format!("instances of {}", instance.vpc), &instance.meta.name);
        } else if let Record::VpnGateway(gateway) = &record {
            unique(format!("gateways of {}", gateway.vpc), &gateway.meta.name);
        } else if let Record::VpnConnection(connection) = &record {
            if connection.deleting.is_none() {
                unique(
                    format!("connections of {}", connection.gateway),
                    &connection.meta.name,
                );
            }
        } else if let Record::IkePolicy(policy) = &record {
            unique(
                format!("IKE policies of {}", policy.meta.account),
                &policy.meta.name,
            );
        } else if let Record::IpsecPolicy(policy) = &record {
            unique(
                format!("IPsec policies of {}", policy.meta.account),
                &policy.meta.name,
            );
        }
    }
}

fn quotas(state: &Snapshot) {
    let quotas = state.settings().quotas;
    let within = |count: usize, limit: u32| assert!(count <= limit as usize, "{count} exceeds {limit}");
    for account in state.accounts() {
        within(state.vpcs_of(account.id).count(), quotas.vpcs);
        within(state.gateways_of_account(account.id).count(), quotas.vpn_gateways);
    }
    for vpc in state.vpcs() {
        within(state.subnets_of(vpc.id).count(), quotas.subnets_per_vpc);
        within(state.prefixes_of(vpc.id).count(), quotas.address_prefixes_per_vpc);
    }
    for gateway in state.vpn_gateways() {
        let live: Vec<_> = state
            .connections_of(gateway.id)
            .filter(|connection| connection.deleting.is_none())
            .collect();
        within(live.len(), quotas.vpn_connections_per_gateway);
        within(
            live.iter().map(|found| found.local_cidrs.len()).sum(),
            quotas.cidrs_per_gateway,
        );
        within(
            live.iter().map(|found| found.peer_cidrs.len()).sum(),
            quotas.cidrs_per_gateway,
        );
    }
}

fn caller(account: AccountId) -> Caller {
    Caller {
        account,
        user: None,
        via: Via::Ibm,
        request_id: String::new(),
    }
}

/// Everything can be shown to its owner, and to nobody else.
fn views(state: &Snapshot) {
    for record in state.records() {
        let (account, question) = if let Record::Vpc(vpc) = &record {
            (vpc.meta.account, Query::Vpc(vpc.id))
        } else if let Record::NetworkAcl(acl) = &record {
            (acl.meta.account, Query::NetworkAcl(acl.id))
        } else if let Record::SecurityGroup(group) = &record {
            (group.meta.account, Query::SecurityGroup(group.id))
        } else if let Record::Instance(instance) = &record {
            (instance.meta.account, Query::Instance(instance.id))
        } else if let Record::VpnGateway(gateway) = &record {
            (gateway.meta.account, Query::VpnGateway(gateway.id))
        } else if let Record::VpnConnection(connection) = &record {
            if connection.deleting.is_some() {
                continue;
            }
            let question = Query::VpnConnection {
                gateway: connection.gateway,
                connection: connection.id,
            };
            (connection.meta.account, question)
        } else if let Record::IkePolicy(policy) = &record {
            (policy.meta.account, Query::IkePolicy(policy.id))
        } else if let Record::IpsecPolicy(policy) = &record {
            (policy.meta.account, Query::IpsecPolicy(policy.id))
        } else {
            continue;
        };
        query(state, &caller(account), &question).expect("the owner sees it");
        for other in state.accounts().filter(|other| other.id != account) {
            query(state, &caller(other.id), &question).expect_err("nobody else sees it");
        }
    }
}
