//! From a plan to the kernel objects it means.
//!
//! A VPC is one router namespace. Each port is a veth whose router end carries the subnet's router address and
//! answers ARP for everything else, so that all traffic, also inside one subnet, passes the router's forward hook.
//! Three things each keep remote ranges from leaving in clear, so that any two may be missing: policy routing (the
//! guard table catches what no gateway's table takes), the forward chain, and the chain after source NAT.

mod policy;
mod vpn;
mod workload;

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use isthmus_hostplan::{
    GatewayPlan, GatewayTunnels, HostPlan, PortPlan, Power, SubnetPlan, TunnelPlan, UplinkPlan, VpcPlan,
};
use isthmus_types::{Cidr, Realm, VpcId};

use crate::name;
use crate::state::{Claim, Desired, Link, LinkKind, Namespace, Owner, Place, RouteKey, RouteTarget, Rule};

/// The main routing table.
pub(crate) const MAIN: u32 = 254;

/// The metric that the kernel gives IPv6 routes which name none.
const METRIC_IPV6: u32 = 1024;

/// A metric that loses to every other route of the same destination.
const LAST: u32 = 4096;

/// The host's own part: the namespace that plays the internet.
pub fn internet(realm: &Realm, uplink: &UplinkPlan) -> Desired {
    let UplinkPlan::Private { router, .. } = uplink;
    let mut namespace = Namespace::new(Owner::Internet, Claim::Links);
    namespace.loopback();
    namespace
        .addresses
        .insert(("lo".to_owned(), Ipv4Net::from(*router).into()));
    namespace.sysctl("net/ipv4/ip_forward", "1");
    namespace.sysctl("net/ipv6/conf/all/forwarding", "1");
    // A VPC reaches the internet from its own public addresses only.
    namespace.sysctl("net/ipv4/conf/all/rp_filter", "1");
    namespace.sysctl("net/ipv4/conf/all/send_redirects", "0");
    namespace.sysctl("net/ipv4/conf/default/send_redirects", "0");
    namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1");
    let name = name::internet_namespace(realm);
    Desired {
        namespaces: [(name, namespace)].into(),
    }
}

/// All kernel objects of one VPC.
pub fn vpc(realm: &Realm, uplink: &UplinkPlan, plan: &VpcPlan) -> Desired {
    let owner = Owner::Vpc(plan.vpc);
    let name = name::router_namespace(realm, plan.vpc);
    let mut router = Namespace::new(owner, Claim::Everything);
    router.loopback();
    router_sysctls(&mut router);
    let mut desired = Desired::default();
    if !public_addresses(plan).is_empty() {
        connect_uplink(&mut desired, &mut router, realm, uplink, plan);
    }
    for range in plan.ranges.iter().filter_map(|range| range.v4()) {
        let key = RouteKey {
            table: MAIN,
            destination: range.into(),
            metric: LAST,
        };
        router.route(owner, key, RouteTarget::Unreachable, None);
    }
    for (position, port) in plan.ports.iter().enumerate() {
        let Some(subnet) = subnet_of(plan, port) else {
            continue;
        };
        let index = plan.ports[..position]
            .iter()
            .filter(|other| other.instance == port.instance)
            .count();
        workload::connect(&mut desired, &mut router, realm, plan, subnet, port, index);
    }
    vpn::route(&mut router, plan);
    policy::protect(&mut router, uplink, plan);
    desired.namespaces.insert(name, router);
    desired
}

/// What the tunnel daemon of the host must run.
pub fn tunnels(plan: &HostPlan) -> TunnelPlan {
    let gateways = plan.vpcs.values().flat_map(|vpc| {
        let of_vpc = vpc.gateways.iter();
        of_vpc.map(|gateway| tunnel(&plan.realm, vpc.vpc, gateway))
    });
    TunnelPlan {
        gateways: gateways.collect(),
    }
}

/// What the tunnel daemon must run for one gateway.
pub fn tunnel(realm: &Realm, vpc: VpcId, gateway: &GatewayPlan) -> GatewayTunnels {
    GatewayTunnels {
        gateway: gateway.gateway,
        name: gateway.name.clone(),
        namespace: name::router_namespace(realm, vpc),
        tun: name::tun_link(gateway.gateway),
        public_address: gateway.public_address.into(),
        other_address: gateway.public_ipv6.map(Into::into),
        key_log: None,
        mtu: gateway.mtu,
        connections: gateway.connections.clone(),
    }
}

fn router_sysctls(router: &mut Namespace) {
    router.sysctl("net/ipv4/ip_forward", "1");
    for scope in ["all", "default"] {
        // Source addresses are checked by nft, port by port: the reverse path of a tunnel is in another table.
        router.sysctl(format!("net/ipv4/conf/{scope}/rp_filter"), "0");
        router.sysctl(format!("net/ipv4/conf/{scope}/send_redirects"), "0");
        router.sysctl(format!("net/ipv4/conf/{scope}/accept_redirects"), "0");
        router.sysctl(format!("net/ipv4/conf/{scope}/accept_source_route"), "0");
        router.sysctl(format!("net/ipv4/conf/{scope}/log_martians"), "0");
        router.sysctl(format!("net/ipv6/conf/{scope}/accept_ra"), "0");
        router.sysctl(format!("net/ipv6/conf/{scope}/disable_ipv6"), "1");
        router.sysctl(format!("net/ipv6/conf/{scope}/forwarding"), "0");
    }
    // Segments that a tunnel joined or lost must not make an established flow invalid.
    router.sysctl("net/netfilter/nf_conntrack_tcp_be_liberal", "1");
}

fn connect_uplink(
    desired: &mut Desired,
    router: &mut Namespace,
    realm: &Realm,
    uplink: &UplinkPlan,
    plan: &VpcPlan,
) {
    let owner = Owner::Vpc(plan.vpc);
    let UplinkPlan::Private { router: gateway, .. } = uplink;
    let internet = name::internet_namespace(realm);
    let peer = name::uplink_peer_link(plan.vpc);
    let place = Place {
        namespace: internet.clone(),
        link: peer.clone(),
    };
    router
        .links
        .insert(name::UPLINK.to_owned(), up(owner, LinkKind::Veth { peer: place }));
    let mut outside = Namespace::new(owner, Claim::Links);
    outside.links.insert(peer.clone(), up(owner, LinkKind::VethPeer));
    for address in public_addresses(plan) {
        router
            .addresses
            .insert((name::UPLINK.to_owned(), Ipv4Net::from(address).into()));
        let target = RouteTarget::Link { link: peer.clone() };
        outside.route(owner, main_route(Ipv4Net::from(address)), target, None);
        // Its own packets from a public address leave by the uplink even if a remote range covers the peer.
        let rule = Rule {
            priority: name::RULE_PUBLIC,
            source: Some(Ipv4Net::from(address)),
            incoming: Some("lo".to_owned()),
            table: MAIN,
            suppress_prefix: None,
        };
        router.rules.insert(rule, owner);
    }
    let target = RouteTarget::Gateway {
        link: name::UPLINK.to_owned(),
        address: (*gateway).into(),
    };
    router.route(owner, main_route(Ipv4Net::default()), target, None);
    connect_ipv6(router, &mut outside, &peer, uplink, plan);
    desired.namespaces.insert(internet, outside);
}

// IPv6 is for the tunnels' outer packets alone: the router forwards none, has no route to any but the internet's router,
// and believes nobody who announces routes or addresses. A link without such addresses speaks no IPv6 at all.
fn connect_ipv6(
    router: &mut Namespace,
    outside: &mut Namespace,
    peer: &str,
    uplink: &UplinkPlan,
    plan: &VpcPlan,
) {
    let owner = Owner::Vpc(plan.vpc);
    let UplinkPlan::Private { router_ipv6, .. } = uplink;
    let addresses = public_ipv6(plan);
    let gateway = router_ipv6.filter(|_| !addresses.is_empty());
    for (namespace, link) in [(&mut *router, name::UPLINK), (&mut *outside, peer)] {
        for (key, value) in [
            // Nobody else can have these addresses, and a daemon cannot use one before it is checked.
            ("accept_dad", "0"),
            ("accept_ra", "0"),
            ("accept_redirects", "0"),
            ("autoconf", "0"),
            ("disable_ipv6", if gateway.is_some() { "0" } else { "1" }),
        ] {
            let path = name::link_sysctl("ipv6", "conf", link, key);
            namespace.link_sysctl(owner, link, path, value);
        }
    }
    let Some(gateway) = gateway else { return };
    // Unlike ARP, neighbour discovery answers only for addresses of the very link.
    outside
        .addresses
        .insert((peer.to_owned(), Ipv6Net::from(gateway).into()));
    for address in addresses {
        let host = Ipv6Net::from(address);
        router.addresses.insert((name::UPLINK.to_owned(), host.into()));
        let target = RouteTarget::Link {
            link: peer.to_owned(),
        };
        outside.route(owner, main_route(host), target, None);
    }
    let target = RouteTarget::Gateway {
        link: name::UPLINK.to_owned(),
        address: gateway.into(),
    };
    router.route(owner, main_route(Ipv6Net::default()), target, None);
}

/// IPv6 addresses that the router's uplink holds, in order.
pub(crate) fn public_ipv6(plan: &VpcPlan) -> Vec<Ipv6Addr> {
    let gateways = plan.gateways.iter();
    let mut addresses: Vec<Ipv6Addr> = gateways.filter_map(|gateway| gateway.public_ipv6).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// IPv4 addresses that the router's uplink holds, in order.
pub(crate) fn public_addresses(plan: &VpcPlan) -> Vec<Ipv4Addr> {
    let gateways = plan.gateways.iter().map(|gateway| gateway.public_address);
    let mut addresses: Vec<Ipv4Addr> = plan.source_nat.into_iter().chain(gateways).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Ports that carry packets, each with its subnet.
pub(crate) fn live_ports(plan: &VpcPlan) -> impl Iterator<Item = (&PortPlan, &SubnetPlan)> {
    plan.ports
        .iter()
        .filter(|port| port.power == Power::On)
        .filter_map(|port| subnet_of(plan, port).map(|subnet| (port, subnet)))
}

/// The ranges without those that another one covers: sets of ranges may not overlap.
pub(crate) fn widest(ranges: impl IntoIterator<Item = Cidr>) -> Vec<Ipv4Net> {
    let nets: Vec<Ipv4Net> = ranges.into_iter().filter_map(Cidr::v4).collect();
    Ipv4Net::aggregate(&nets)
}

pub(crate) fn main_route(destination: impl Into<IpNet>) -> RouteKey {
    let destination = destination.into();
    RouteKey {
        table: MAIN,
        destination,
        metric: match destination {
            IpNet::V4(_) => 0,
            IpNet::V6(_) => METRIC_IPV6,
        },
    }
}

pub(crate) const fn up(owner: Owner, kind: LinkKind) -> Link {
    Link {
        owner,
        kind,
        mac: None,
        mtu: None,
        up: true,
    }
}

fn subnet_of<'a>(plan: &'a VpcPlan, port: &PortPlan) -> Option<&'a SubnetPlan> {
    plan.subnets.iter().find(|subnet| subnet.subnet == port.subnet)
}
