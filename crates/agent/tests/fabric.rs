//! The kernel made to match plans: from nothing, twice, from drift of every kind, after a crash at any point.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod lab;

use std::time::Instant;

use isthmus_agent::{Pass, reconcile};
use isthmus_fabric::{Desired, Owner, diff, internet, name, vpc};
use isthmus_hostplan::{Attachment, Power, VpcPlan};
use isthmus_netlink::{namespace, visit};
use lab::{Lab, must, pings, reaches};

fn desired(lab: &Lab, plan: &VpcPlan) -> Desired {
    vpc(&lab.realm, &lab.uplink(), plan)
}

fn make(lab: &Lab, plan: &VpcPlan) -> Pass {
    reconcile(&desired(lab, plan), || {}).unwrap()
}

fn make_internet(lab: &Lab) -> Pass {
    reconcile(&internet(&lab.realm, &lab.uplink()), || {}).unwrap()
}

fn converge(lab: &Lab, plan: &VpcPlan) {
    let pass = make(lab, plan);
    assert!(pass.is_converged(), "{pass:?}");
    assert_eq!(
        make(lab, plan),
        Pass::default(),
        "the second pass has nothing to do"
    );
}

#[test]
fn instances_reach_each_other_and_the_internet() {
    let lab = Lab::new();
    let plan = lab::vpc(1);
    assert!(make_internet(&lab).is_converged());
    let began = Instant::now();
    let first = make(&lab, &plan);
    println!("made {} kernel objects in {:?}", first.changes, began.elapsed());
    assert!(first.is_converged(), "{first:?}");
    let began = Instant::now();
    let second = make(&lab, &plan);
    println!("second pass {:?}", began.elapsed());
    assert_eq!(second, Pass::default());
    assert_eq!(make_internet(&lab), Pass::default());
    for from in &plan.ports {
        let namespace = lab.instance(from);
        for to in &plan.ports {
            assert!(
                reaches(&namespace, to.address),
                "{} to {}",
                from.address,
                to.address
            );
        }
        assert!(
            reaches(&namespace, lab::ROUTER),
            "{} to the internet",
            from.address
        );
    }
}

#[test]
fn drift_of_every_kind_is_repaired() {
    let lab = Lab::new();
    let plan = lab::with_gateway(lab::vpc(1), 1, 2);
    make_internet(&lab);
    converge(&lab, &plan);
    let (router, internet) = (lab.router(&plan), lab.internet());
    let port = name::port_link(plan.ports[0].interface);
    let tun = name::tun_link(plan.gateways[0].gateway);
    let table = name::gateway_table(plan.gateways[0].gateway);
    let instance = lab.instance(&plan.ports[0]);
    let peer = name::uplink_peer_link(plan.vpc);
    let address = plan.ports[0].address;
    let drifts = [
        (&router, format!("ip route del {address}")),
        (&router, format!("ip route replace {address} dev lo")),
        (&router, "ip route flush table main".to_owned()),
        (&router, format!("ip route flush table {table}")),
        (&router, format!("ip route flush table {}", name::GUARD_TABLE)),
        (&router, "ip rule flush".to_owned()),
        (&router, format!("ip rule del priority {}", name::RULE_GUARD)),
        (&router, format!("ip link del {port}")),
        (&router, format!("ip link set {port} down")),
        (&router, format!("ip link set {port} address 02:00:00:00:00:99")),
        (&router, format!("ip link del {tun}")),
        (&router, format!("ip link set {tun} mtu 1300")),
        (&router, format!("ip link set {tun} down")),
        (&router, "ip link del uplink".to_owned()),
        (&router, "ip address flush dev uplink".to_owned()),
        (&router, "ip address add 203.0.113.9/32 dev uplink".to_owned()),
        (
            &router,
            "ip -6 address del 2001:db8::65/128 dev uplink".to_owned(),
        ),
        (
            &router,
            "ip -6 address add 2001:db8::99/128 dev uplink nodad".to_owned(),
        ),
        (&router, "ip -6 route del default".to_owned()),
        (
            &router,
            "sysctl -qw net.ipv6.conf.uplink.disable_ipv6=1".to_owned(),
        ),
        (&router, "sysctl -qw net.ipv6.conf.uplink.accept_ra=2".to_owned()),
        (&router, "sysctl -qw net.ipv6.conf.all.forwarding=1".to_owned()),
        (&router, "nft flush chain inet isthmus outside-ipv6".to_owned()),
        (&router, "nft flush set inet isthmus public-ipv6".to_owned()),
        (&router, format!("ip neigh del {address} dev {port}")),
        (&router, "sysctl -qw net.ipv4.ip_forward=0".to_owned()),
        (&router, format!("sysctl -qw net.ipv4.conf.{port}.proxy_arp=0")),
        (&router, "nft flush ruleset".to_owned()),
        (&router, "nft flush table inet isthmus".to_owned()),
        (&router, "nft flush chain inet isthmus screen".to_owned()),
        (&router, "nft insert rule inet isthmus forward accept".to_owned()),
        (&router, "nft flush set inet isthmus remote".to_owned()),
        (
            &router,
            "nft add element inet isthmus ports { stranger }".to_owned(),
        ),
        (&router, "nft flush map inet isthmus acl-inbound".to_owned()),
        (
            &router,
            "nft add chain inet isthmus forward { policy accept ; }".to_owned(),
        ),
        (&instance, "ip route del default".to_owned()),
        (&instance, "ip link set eth0 down".to_owned()),
        (&instance, "ip address flush dev eth0".to_owned()),
        (&instance, "ip link del eth0".to_owned()),
        (&internet, format!("ip link del {peer}")),
        (&internet, format!("ip route flush dev {peer}")),
        (&internet, format!("ip -6 route del 2001:db8::65 dev {peer}")),
        (&internet, format!("ip -6 address del 2001:db8::1/128 dev {peer}")),
        (
            &internet,
            format!("sysctl -qw net.ipv6.conf.{peer}.disable_ipv6=1"),
        ),
    ];
    for (namespace, command) in &drifts {
        must(namespace, command);
        let pass = make(&lab, &plan);
        assert!(pass.changes > 0, "{command}: not seen");
        assert!(pass.is_converged(), "{command}: {pass:?}");
        assert_eq!(make(&lab, &plan), Pass::default(), "{command}");
    }
    for removed in [&router, &instance, &internet] {
        namespace::remove(removed).unwrap();
        make_internet(&lab);
        let pass = make(&lab, &plan);
        assert!(pass.is_converged(), "{removed} removed: {pass:?}");
    }
    assert!(reaches(&instance, plan.ports[3].address));
    assert!(reaches(&instance, lab::ROUTER));
}

#[test]
fn a_crash_between_any_two_operations_is_recovered_from() {
    let lab = Lab::new();
    let plan = lab::with_gateway(lab::vpc(1), 1, 2);
    let mut shrunk = lab::vpc(1);
    shrunk.ports.truncate(1);
    shrunk.source_nat = None;
    make_internet(&lab);
    let stages = [(None, &plan), (Some(&plan), &shrunk), (Some(&shrunk), &plan)];
    for (before, after) in stages {
        let mut crash_after = 0;
        loop {
            for name in lab.namespaces() {
                namespace::remove(&name).unwrap();
            }
            make_internet(&lab);
            if let Some(before) = before {
                assert!(make(&lab, before).is_converged());
            }
            let goal = desired(&lab, after);
            let steps = visit(|visitor| {
                let steps = diff(&goal, &visitor.observe(&goal).unwrap()).steps;
                for step in steps.iter().take(crash_after) {
                    visitor.execute(&step.operation).unwrap();
                }
                steps.len()
            })
            .unwrap();
            converge(&lab, after);
            if crash_after >= steps {
                break;
            }
            // Every third point: each kind of operation occurs several times in a row.
            crash_after += 3;
        }
    }
}

#[test]
fn what_is_planned_no_longer_is_removed() {
    let lab = Lab::new();
    let mut plan = lab::with_gateway(lab::vpc(1), 1, 2);
    make_internet(&lab);
    converge(&lab, &plan);
    plan.gateways.clear();
    for subnet in &mut plan.subnets {
        subnet.vpn_gateway = None;
    }
    plan.source_nat = None;
    plan.ports.truncate(2);
    converge(&lab, &plan);
    let router = lab.router(&plan);
    let links = must(&router, "ip -o link");
    assert_eq!(links.lines().count(), 3, "loopback and two ports: {links}");
    let rules = must(&router, "ip rule");
    assert_eq!(rules.lines().count(), 3, "the kernel's own: {rules}");
    assert!(!must(&lab.internet(), "ip -o link").contains(&name::uplink_peer_link(plan.vpc)));
    assert!(reaches(&lab.instance(&plan.ports[0]), plan.ports[1].address));
}

#[test]
fn an_uplink_without_ipv6_addresses_speaks_no_ipv6() {
    let lab = Lab::new();
    let mut plan = lab::with_gateway(lab::vpc(1), 1, 2);
    make_internet(&lab);
    converge(&lab, &plan);
    let router = lab.router(&plan);
    let peer = name::uplink_peer_link(plan.vpc);
    let addresses = |namespace: &str| must(namespace, "ip -6 -o address show scope global");
    assert!(addresses(&router).contains("2001:db8::65/128"));
    assert!(must(&router, "ip -6 route").contains("default via 2001:db8::1 dev uplink"));
    assert!(must(&lab.internet(), "ip -6 route").contains(&format!("2001:db8::65 dev {peer}")));

    plan.gateways[0].public_ipv6 = None;
    converge(&lab, &plan);
    for namespace in [router.clone(), lab.internet()] {
        let held = must(&namespace, "ip -6 -o address");
        let beyond = held.lines().find(|line| !line.contains(" lo "));
        assert_eq!(beyond, None, "{namespace}");
        assert_eq!(must(&namespace, "ip -6 route show default"), "", "{namespace}");
    }
    assert!(reaches(&lab.instance(&plan.ports[0]), lab::ROUTER));

    plan.gateways[0].public_ipv6 = Some("2001:db8::77".parse().unwrap());
    converge(&lab, &plan);
    assert!(addresses(&router).contains("2001:db8::77/128"));
    assert!(!addresses(&router).contains("2001:db8::65/128"));
}

#[test]
fn replacing_rules_loses_no_packet() {
    use isthmus_hostplan::GroupRule;
    let lab = Lab::new();
    let mut plan = lab::vpc(1);
    make_internet(&lab);
    converge(&lab, &plan);
    let from = isthmus_netlab::Node::existing(&lab.instance(&plan.ports[0])).unwrap();
    let pause = std::time::Duration::from_millis(1);
    let ping = isthmus_netlab::Ping::start(&from, plan.ports[3].address, pause).unwrap();
    for round in 0..20u8 {
        let extra = format!("192.0.{round}.0/24").parse().unwrap();
        plan.security_groups[0]
            .inbound
            .push(GroupRule::Range { cidr: extra });
        plan.acls[0].inbound.insert(
            0,
            isthmus_hostplan::AclRule {
                action: isthmus_hostplan::AclAction::Deny,
                source: extra,
                destination: extra,
            },
        );
        plan.source_nat = (round % 2 == 0).then_some(std::net::Ipv4Addr::new(198, 51, 100, 11));
        assert!(make(&lab, &plan).is_converged());
    }
    let count = ping.finish().unwrap();
    println!("{} pings, {} lost", count.sent, count.lost());
    assert!(count.sent > 20);
    assert_eq!(count.lost(), 0, "{count:?}");
}

#[test]
fn a_port_is_handed_over_to_a_namespace_of_the_user() {
    let lab = Lab::new();
    let theirs = format!("{}user", name::namespace_prefix(&lab.realm));
    let mut plan = lab::vpc(1);
    plan.ports[0].attachment = Attachment::HandOver {
        namespace: theirs.clone(),
        interface: "vpc0".to_owned(),
    };
    make_internet(&lab);
    let pass = make(&lab, &plan);
    let owner = Owner::Instance(plan.ports[0].instance);
    assert_eq!(pass.blocked.get(&owner), Some(&format!("namespace {theirs}")));
    assert!(pass.failed.is_empty(), "{pass:?}");
    assert!(reaches(&lab.instance(&plan.ports[1]), plan.ports[2].address));
    namespace::create(&theirs).unwrap();
    converge(&lab, &plan);
    assert!(reaches(&theirs, plan.ports[3].address));
    assert!(reaches(&theirs, lab::ROUTER));
    assert!(reaches(&lab.instance(&plan.ports[3]), plan.ports[0].address));
    must(&theirs, "ip link del vpc0");
    converge(&lab, &plan);
    plan.ports.remove(0);
    converge(&lab, &plan);
    assert!(namespace::exists(&theirs), "it is not ours to remove");
    assert!(!must(&theirs, "ip -o link").contains("vpc0"));
}

#[test]
fn a_port_of_a_stopped_instance_carries_nothing() {
    let lab = Lab::new();
    let mut plan = lab::vpc(1);
    make_internet(&lab);
    converge(&lab, &plan);
    let instance = lab.instance(&plan.ports[0]);
    plan.ports[0].power = Power::Off;
    converge(&lab, &plan);
    assert!(!pings(&instance, plan.ports[1].address));
    plan.ports[0].power = Power::On;
    converge(&lab, &plan);
    assert!(reaches(&instance, plan.ports[1].address));
}
