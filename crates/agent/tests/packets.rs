//! What packets do in what was made: who reaches whom, and what each drop is counted as.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod lab;

use std::net::Ipv4Addr;
use std::time::Duration;

use isthmus_agent::reconcile;
use isthmus_fabric::{internet, name, vpc};
use isthmus_hostplan::{AclAction, AclRule, GroupRule, Spoofing, VpcPlan};
use isthmus_netlab::patience::holds;
use isthmus_netlab::{Node, Ping, eventually, transfer};
use isthmus_types::{Cidr, VpcId};
use lab::{Lab, Pump, counted, learnt_path_mtu, link_packets, must, open_tap, pings, reaches, send_raw};

fn make(lab: &Lab, plans: &[&VpcPlan]) {
    assert!(
        reconcile(&internet(&lab.realm, &lab.uplink()), || {})
            .unwrap()
            .is_converged()
    );
    for plan in plans {
        let pass = reconcile(&vpc(&lab.realm, &lab.uplink(), plan), || {}).unwrap();
        assert!(pass.is_converged(), "{pass:?}");
    }
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

#[test]
fn a_port_sends_from_its_own_address_only_unless_allowed() {
    let lab = Lab::new();
    let mut plan = lab::vpc(1);
    make(&lab, &[&plan]);
    let (router, instance) = (lab.router(&plan), lab.instance(&plan.ports[0]));
    let forged = Ipv4Addr::new(10, 1, 1, 4);
    // The first packets over a new link may be lost before they reach the router.
    let dropped = eventually("a forged packet at the router", || {
        send_raw(&instance, forged, plan.ports[3].address);
        let dropped = counted(&router, "drop-spoofed");
        holds(dropped > 0, || "none was counted".to_owned()).map(|()| dropped)
    })
    .unwrap();
    send_raw(&instance, plan.ports[0].address, plan.ports[3].address);
    assert_eq!(counted(&router, "drop-spoofed"), dropped);
    plan.ports[0].spoofing = Spoofing::Allowed;
    make(&lab, &[&plan]);
    let sink = lab.instance(&plan.ports[3]);
    let (_, before) = link_packets(&sink, "eth0");
    send_raw(&instance, Ipv4Addr::new(192, 0, 2, 1), plan.ports[3].address);
    assert_eq!(
        counted(&router, "drop-spoofed"),
        dropped,
        "the counter is kept and does not move"
    );
    assert!(link_packets(&sink, "eth0").1 > before);
}

#[test]
fn vpcs_with_equal_ranges_do_not_see_each_other() {
    let lab = Lab::new();
    let one = lab::vpc(1);
    let mut two = lab::vpc(1);
    two.vpc = VpcId(lab::bits(1, 999));
    two.source_nat = Some(Ipv4Addr::new(198, 51, 100, 77));
    for (index, port) in two.ports.iter_mut().enumerate() {
        let number = 9000 + index as u64;
        port.instance = isthmus_types::InstanceId(lab::bits(4, number));
        port.interface = isthmus_types::NetworkInterfaceId(lab::bits(3, number));
    }
    make(&lab, &[&one, &two]);
    // The same address in both: each reaches its own.
    let target = one.ports[3].address;
    let (of_one, of_two) = (lab.instance(&one.ports[3]), lab.instance(&two.ports[3]));
    let before = link_packets(&of_two, "eth0").1;
    assert!(reaches(&lab.instance(&one.ports[0]), target));
    assert_eq!(link_packets(&of_two, "eth0").1, before);
    let before = link_packets(&of_one, "eth0").1;
    assert!(reaches(&lab.instance(&two.ports[0]), target));
    assert_eq!(link_packets(&of_one, "eth0").1, before);
    // Private addresses of another VPC are nowhere on the internet.
    let mut third = lab::vpc(3);
    third.source_nat = Some(Ipv4Addr::new(198, 51, 100, 78));
    make(&lab, &[&third]);
    assert!(!pings(&lab.instance(&one.ports[0]), third.ports[0].address));
    assert!(counted(&lab.router(&one), "drop-private") >= 1);
}

#[test]
fn outgoing_traffic_has_the_public_address_and_nothing_unasked_comes_in() {
    let lab = Lab::new();
    let plan = lab::vpc(1);
    make(&lab, &[&plan]);
    let internet = Node::existing(&lab.internet()).unwrap();
    let listener = internet
        .run(|| std::net::TcpListener::bind((lab::ROUTER, 0)))
        .unwrap()
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let instance = Node::existing(&lab.instance(&plan.ports[0])).unwrap();
    let _stream = instance
        .run(|| std::net::TcpStream::connect_timeout(&(lab::ROUTER, port).into(), Duration::from_secs(5)))
        .unwrap()
        .unwrap();
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(Some(peer.ip()), plan.source_nat.map(Into::into));
    // From the internet straight to a private address, by somebody who knows the way.
    let link = name::uplink_peer_link(plan.vpc);
    let public = plan.source_nat.unwrap();
    must(
        &lab.internet(),
        &format!("ip route add 10.1.0.0/16 via {public} dev {link} onlink"),
    );
    assert!(!pings(&lab.internet(), plan.ports[0].address));
    assert_eq!(counted(&lab.router(&plan), "drop-uplink"), 1);
}

#[test]
fn rules_at_subnet_and_port_decide_and_count() {
    let lab = Lab::new();
    let mut plan = lab::vpc(1);
    // Nobody from the second subnet into the first, except inside each.
    plan.acls[0].inbound.insert(
        0,
        AclRule {
            action: AclAction::Deny,
            source: cidr("10.1.1.0/24"),
            destination: cidr("10.1.0.0/24"),
        },
    );
    make(&lab, &[&plan]);
    let router = lab.router(&plan);
    let acl = format!("deny-acl-inbound-{}", plan.acls[0].acl);
    let [a, b, c, d] = [0, 1, 2, 3].map(|index| lab.instance(&plan.ports[index]));
    assert!(reaches(&a, plan.ports[1].address));
    assert!(reaches(&c, plan.ports[3].address));
    assert!(!pings(&c, plan.ports[0].address));
    assert_eq!(counted(&router, &acl), 1);
    // Stateless: the answer from the second subnet is denied as well.
    assert!(!pings(&a, plan.ports[2].address));
    assert_eq!(counted(&router, &acl), 2);

    plan.acls[0].inbound.remove(0);
    plan.security_groups[0].inbound = vec![GroupRule::Range {
        cidr: cidr("10.1.0.4/32"),
    }];
    make(&lab, &[&plan]);
    assert!(reaches(&a, plan.ports[3].address));
    // Stateful: what it asked for comes back although nobody may call it.
    assert!(reaches(&a, plan.ports[1].address));
    assert!(!pings(&d, plan.ports[0].address));
    assert!(!pings(&b, plan.ports[2].address));
    assert_eq!(counted(&router, "drop-group-inbound"), 2);

    let group = plan.security_groups[0].group;
    plan.security_groups[0].inbound = vec![GroupRule::Members { group }];
    make(&lab, &[&plan]);
    assert!(reaches(&d, plan.ports[0].address));
    plan.ports[3].security_groups.clear();
    make(&lab, &[&plan]);
    assert!(!pings(&d, plan.ports[1].address));
    assert_eq!(counted(&router, "drop-group-outbound"), 1);
}

#[test]
fn remote_ranges_never_leave_in_clear() {
    let lab = Lab::new();
    let mut plan = lab::with_gateway(lab::vpc(1), 1, 2);
    // The second subnet has no gateway.
    plan.subnets[1].vpn_gateway = None;
    make(&lab, &[&plan]);
    let (router, internet) = (lab.router(&plan), lab.internet());
    let (served, other) = (lab.instance(&plan.ports[0]), lab.instance(&plan.ports[2]));
    let remote = Ipv4Addr::new(10, 2, 0, 4);
    let tun = name::tun_link(plan.gateways[0].gateway);
    let table = name::gateway_table(plan.gateways[0].gateway);
    // Whoever is out there would take it.
    must(&internet, "ip address add 10.2.0.4/32 dev lo");
    let peer = name::uplink_peer_link(plan.vpc);
    must(&internet, "nft add table inet tap");
    must(&internet, "nft add counter inet tap leaked");
    must(
        &internet,
        "nft add chain inet tap in { type filter hook prerouting priority -300 ; }",
    );
    must(
        &internet,
        &format!("nft add rule inet tap in iifname {peer} ip daddr 10.2.0.0/16 counter name leaked"),
    );
    let leaked = || {
        let text = must(&internet, "nft -j list counter inet tap leaked");
        let listing: serde_json::Value = serde_json::from_str(&text).unwrap();
        listing["nftables"][1]["counter"]["packets"].as_u64().unwrap()
    };

    let lost = |from: &str, counts: u64, why: &str| {
        let source = if from == served {
            plan.ports[0].address
        } else {
            plan.ports[2].address
        };
        send_raw(from, source, remote);
        eventually(why, || {
            let count = counted(&router, "drop-guard");
            holds(count == counts, || format!("{count} counted"))
        })
        .unwrap();
    };
    lost(&other, 1, "a subnet without a gateway");
    // Nobody has the device open: it takes the packet and drops it.
    send_raw(&served, plan.ports[0].address, remote);
    must(&router, &format!("ip link set {tun} down"));
    lost(&served, 2, "the device is down");
    must(&router, &format!("ip link del {tun}"));
    lost(&served, 3, "the device is gone");
    must(&router, &format!("ip route flush table {}", name::GUARD_TABLE));
    lost(&served, 4, "the routes are gone too");
    make(&lab, &[&plan]);
    must(&router, "ip rule flush");
    must(&router, "ip rule add priority 32766 lookup main");
    lost(&served, 5, "the rules are gone");
    make(&lab, &[&plan]);
    must(&router, "nft flush ruleset");
    assert!(!pings(&served, remote), "the guard table holds without nft");
    must(&router, &format!("ip route flush table {table}"));
    send_raw(&served, plan.ports[0].address, remote);
    assert!(!pings(&other, remote));
    assert_eq!(leaked(), 0, "whatever was missing, nothing left");
    // The trap works.
    must(&internet, "ip address add 10.1.0.4/32 dev lo");
    make(&lab, &[&plan]);
    must(&router, "nft flush ruleset");
    must(&router, "ip rule flush");
    must(&router, "ip rule add priority 32766 lookup main");
    pings(&served, remote);
    assert!(leaked() > 0);
}

#[test]
fn clear_packets_between_protected_ranges_are_dropped_on_arrival() {
    let lab = Lab::new();
    let plan = lab::with_gateway(lab::vpc(1), 1, 2);
    make(&lab, &[&plan]);
    let internet = lab.internet();
    let link = name::uplink_peer_link(plan.vpc);
    let public = plan.gateways[0].public_address;
    must(
        &internet,
        &format!("ip route add 10.1.0.0/16 via {public} dev {link} onlink"),
    );
    must(&internet, "ip address add 10.2.0.4/32 dev lo");
    send_raw(&internet, Ipv4Addr::new(10, 2, 0, 4), plan.ports[0].address);
    let router = lab.router(&plan);
    eventually("the drop to be counted", || {
        let count = counted(&router, "drop-clear");
        holds(count == 1, || format!("{count} counted"))
    })
    .unwrap();
}

#[test]
fn over_ipv6_only_what_tunnels_need_passes_the_uplink() {
    let lab = Lab::new();
    let plan = lab::with_gateway(lab::vpc(1), 1, 2);
    make(&lab, &[&plan]);
    let router_name = lab.router(&plan);
    let (router, internet) = (
        Node::existing(&router_name).unwrap(),
        Node::existing(&lab.internet()).unwrap(),
    );
    let own = plan.gateways[0].public_ipv6.unwrap();
    let bind = |node: &Node, port: u16| {
        let socket = node
            .run(|| std::net::UdpSocket::bind((own, port)))
            .unwrap()
            .unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    };
    let (ike, other) = (bind(&router, 500), bind(&router, 5000));
    let sender = internet
        .run(|| std::net::UdpSocket::bind((lab::ROUTER_IPV6, 500)))
        .unwrap()
        .unwrap();
    sender.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 16];
    sender.send_to(b"other", (own, 5000)).unwrap();
    sender.send_to(b"ike", (own, 500)).unwrap();
    let (length, from) = ike.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"ike");
    assert_eq!(counted(&router_name, "drop-uplink"), 1);
    // The other way too.
    assert!(other.send_to(b"other", from).is_err(), "the guard lets it out");
    ike.send_to(b"answer", from).unwrap();
    let (length, _) = sender.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"answer");
    assert_eq!(counted(&router_name, "drop-guard"), 1);
    other.set_nonblocking(true).unwrap();
    assert!(other.recv_from(&mut buffer).is_err(), "it passed the guard");

    // A workload that speaks IPv6 is not heard, even by a router whose port does too.
    let instance = lab.instance(&plan.ports[0]);
    let port = name::port_link(plan.ports[0].interface);
    must(
        &router_name,
        &format!("sysctl -qw net.ipv6.conf.{port}.disable_ipv6=0"),
    );
    must(&instance, "sysctl -qw net.ipv6.conf.eth0.accept_dad=0");
    must(&instance, "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0");
    eventually("the drop to be counted", || {
        let count = counted(&router_name, "drop-family");
        holds(count > 0, || "nothing counted".to_owned())
    })
    .unwrap();
}

#[test]
fn joined_vpcs_reach_each_other_through_their_tunnel_only() {
    let lab = Lab::new();
    let (one, two) = (
        lab::with_gateway(lab::vpc(1), 1, 2),
        lab::with_gateway(lab::vpc(2), 2, 1),
    );
    make(&lab, &[&one, &two]);
    let end = |plan: &VpcPlan| (lab.router(plan), name::tun_link(plan.gateways[0].gateway));
    let pump = Pump::start([end(&one), end(&two)]);
    for (from, to) in [(&one, &two), (&two, &one)] {
        for source in &from.ports {
            let node = Node::existing(&lab.instance(source)).unwrap();
            Ping::until_answered(&node, to.ports[0].address).unwrap();
            for target in &to.ports {
                assert!(
                    reaches(&lab.instance(source), target.address),
                    "{} to {}",
                    source.address,
                    target.address
                );
            }
            let router = to.subnets[0].router;
            assert!(
                reaches(&lab.instance(source), router),
                "{} to the other router",
                source.address
            );
        }
    }
    let node = |plan: &VpcPlan, index: usize| Node::existing(&lab.instance(&plan.ports[index])).unwrap();
    let uplink = |plan: &VpcPlan| link_packets(&lab.router(plan), "uplink").0;
    let before = (uplink(&one), uplink(&two));
    let remote = two.ports[0].address;
    assert_eq!(
        learnt_path_mtu(&lab.instance(&one.ports[0]), remote),
        1400,
        "the router says what fits"
    );
    let took = transfer(&node(&one, 0), &node(&two, 3), two.ports[3].address, 10_000_000).unwrap();
    println!("10 MB through the TUN devices of MTU 1400 in {took:?}");
    transfer(&node(&two, 1), &node(&one, 2), one.ports[2].address, 10_000_000).unwrap();
    assert_eq!(
        (uplink(&one), uplink(&two)),
        before,
        "nothing went by the uplinks"
    );
    for plan in [&one, &two] {
        for counter in [
            "drop-guard",
            "drop-invalid",
            "drop-tunnel-source",
            "drop-unrouted",
        ] {
            assert_eq!(counted(&lab.router(plan), counter), 0, "{counter}");
        }
    }
    drop(pump);
    assert!(!pings(&lab.instance(&one.ports[0]), two.ports[0].address));
}

#[test]
fn only_its_own_remote_ranges_come_out_of_a_tunnel() {
    let lab = Lab::new();
    let (one, two) = (
        lab::with_gateway(lab::vpc(1), 1, 2),
        lab::with_gateway(lab::vpc(2), 2, 1),
    );
    make(&lab, &[&one, &two]);
    let end = |plan: &VpcPlan| (lab.router(plan), name::tun_link(plan.gateways[0].gateway));
    let _pump = Pump::start([end(&one), end(&two)]);
    let router = lab.router(&two);
    // Somebody at the far end routes what it should not.
    let (far, tun) = end(&one);
    must(&far, "ip address add 192.0.2.7/32 dev lo");
    must(&far, &format!("ip route add 10.2.1.0/24 dev {tun}"));
    must(&far, "nft flush ruleset");
    send_raw(&far, Ipv4Addr::new(192, 0, 2, 7), two.ports[3].address);
    eventually("the drop to be counted", || {
        let count = counted(&router, "drop-tunnel-source");
        holds(count == 1, || format!("{count} counted"))
    })
    .unwrap();
}

#[test]
fn a_virtual_machine_on_a_tap_is_a_port_like_any_other() {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, poll};

    let lab = Lab::new();
    let mut plan = lab::vpc(1);
    let tap = format!("ist{}", std::process::id());
    plan.ports[0].attachment = isthmus_hostplan::Attachment::Tap {
        interface: tap.clone(),
    };
    make(&lab, &[&plan]);
    let again = reconcile(&vpc(&lab.realm, &lab.uplink(), &plan), || {}).unwrap();
    assert_eq!(again, isthmus_agent::Pass::default());
    let machine = open_tap(&tap);
    let (mac, own) = (plan.ports[0].mac, plan.ports[0].address);
    let router = plan.subnets[0].router;
    let frame = |kind: u16, to: [u8; 6], payload: &[u8]| {
        // The virtio header says that nothing is left to do.
        let mut frame = vec![0; 10];
        frame.extend(to);
        frame.extend(mac);
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame
    };
    // Asked again until there is an answer: a link that has just come up loses the first.
    let exchange = |kind: u16, to: [u8; 6], payload: &[u8]| {
        let mut buffer = [0; 2048];
        eventually("an answer to the machine", || {
            (&machine).write_all(&frame(kind, to, payload))?;
            let mut waiting = [PollFd::new(machine.as_fd(), PollFlags::POLLIN)];
            while poll(&mut waiting, 50u16)? > 0 {
                let length = (&machine).read(&mut buffer)?;
                let found = &buffer[10..length];
                if found[12..14] == kind.to_be_bytes() && found[..6] == mac {
                    return Ok(found[14..].to_vec());
                }
                waiting = [PollFd::new(machine.as_fd(), PollFlags::POLLIN)];
            }
            holds(false, || "none yet".to_owned()).map(|()| Vec::new())
        })
        .unwrap()
    };
    // Who has the router's address?
    let mut ask = vec![0, 1, 8, 0, 6, 4, 0, 1];
    ask.extend(mac);
    ask.extend(own.octets());
    ask.extend([0; 6]);
    ask.extend(router.octets());
    let answer = exchange(0x0806, [0xff; 6], &ask);
    assert_eq!(answer[8..14], name::ROUTER_MAC);
    // An echo request to another instance.
    let mut ping = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0];
    ping.extend(own.octets());
    ping.extend(plan.ports[3].address.octets());
    let sum = checksum(&ping);
    ping[10..12].copy_from_slice(&sum.to_be_bytes());
    ping.extend([8, 0, 0xf7, 0xfd, 0, 1, 0, 1]);
    let answer = exchange(0x0800, name::ROUTER_MAC, &ping);
    assert_eq!(answer[12..16], plan.ports[3].address.octets());
    assert_eq!(answer[20], 0, "an echo reply");
}

fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}
