//! A port and what is attached to it.

use ipnet::Ipv4Net;
use isthmus_hostplan::{Attachment, PortPlan, Power, SubnetPlan, VpcPlan};
use isthmus_types::{Cidr, Realm};

use super::{LAST, MAIN, main_route, up};
use crate::name;
use crate::ruleset::{BaseChain, Chain, Ruleset};
use crate::state::{Claim, Desired, LinkKind, Namespace, Owned, Owner, Place, RouteKey, RouteTarget};

/// Adds a port to its router, and its other end to where it belongs.
pub(super) fn connect(
    desired: &mut Desired,
    router: &mut Namespace,
    realm: &Realm,
    plan: &VpcPlan,
    subnet: &SubnetPlan,
    port: &PortPlan,
    index: usize,
) {
    let owner = Owner::Instance(port.instance);
    let place = match &port.attachment {
        Attachment::HandOver { namespace, interface } => Place {
            namespace: namespace.clone(),
            link: interface.clone(),
        },
        Attachment::Namespace => Place {
            namespace: name::instance_namespace(realm, port.instance),
            link: name::workload_link(index),
        },
        Attachment::Tap { .. } => Place {
            namespace: name::HOST_NAMESPACE.to_owned(),
            link: name::tap_peer_link(port.interface),
        },
    };
    router_end(router, owner, subnet, port, place.clone());
    match &port.attachment {
        Attachment::HandOver { .. } => hand_over(desired, owner, plan, subnet, port, place),
        Attachment::Namespace => namespace(desired, owner, subnet, port, place, index),
        Attachment::Tap { interface } => tap(desired, realm, port, place, interface),
    }
}

fn router_end(router: &mut Namespace, owner: Owner, subnet: &SubnetPlan, port: &PortPlan, peer: Place) {
    let link = name::port_link(port.interface);
    let live = port.power == Power::On;
    let mut end = up(owner, LinkKind::Veth { peer });
    end.mac = Some(name::ROUTER_MAC);
    end.up = live;
    router.links.insert(link.clone(), end);
    router
        .addresses
        .insert((link.clone(), Ipv4Net::from(subnet.router).into()));
    let proxy_arp = name::link_sysctl("ipv4", "conf", &link, "proxy_arp");
    router.link_sysctl(owner, &link, proxy_arp, "1");
    // The kernel otherwise waits up to 0.8 s before it answers for somebody else.
    let delay = name::link_sysctl("ipv4", "neigh", &link, "proxy_delay");
    router.link_sysctl(owner, &link, delay, "0");
    if live {
        let target = RouteTarget::Link { link: link.clone() };
        router.route(
            owner,
            main_route(Ipv4Net::from(port.address)),
            target,
            Some(subnet.router),
        );
        // Known, so never asked for: nobody else can answer in its place.
        router.neighbours.insert((link, port.address), port.mac);
    }
}

fn namespace(
    desired: &mut Desired,
    owner: Owner,
    subnet: &SubnetPlan,
    port: &PortPlan,
    place: Place,
    index: usize,
) {
    let namespace = desired.namespaces.entry(place.namespace).or_insert_with(|| {
        let mut namespace = Namespace::new(owner, Claim::Links);
        namespace.loopback();
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        namespace
    });
    let mut end = up(owner, LinkKind::VethPeer);
    end.mac = Some(port.mac);
    namespace.links.insert(place.link.clone(), end);
    namespace
        .addresses
        .insert((place.link.clone(), in_subnet(subnet, port).into()));
    // A link that is down keeps no routes, and the workload's end is down in effect when the router's is.
    if index == 0 {
        let target = RouteTarget::Gateway {
            link: place.link,
            address: subnet.router.into(),
        };
        namespace.route(owner, main_route(Ipv4Net::default()), target, None);
    }
}

// The namespace may have a way out of its own, which stays: ours loses to any other default route.
fn hand_over(
    desired: &mut Desired,
    owner: Owner,
    plan: &VpcPlan,
    subnet: &SubnetPlan,
    port: &PortPlan,
    place: Place,
) {
    let namespace = desired
        .namespaces
        .entry(place.namespace)
        .or_insert_with(|| Namespace::new(owner, Claim::LinksOfForeign));
    let mut end = up(owner, LinkKind::VethPeer);
    end.mac = Some(port.mac);
    namespace.links.insert(place.link.clone(), end);
    namespace
        .addresses
        .insert((place.link.clone(), in_subnet(subnet, port).into()));
    let target = RouteTarget::Gateway {
        link: place.link,
        address: subnet.router.into(),
    };
    for range in plan
        .ranges
        .iter()
        .copied()
        .chain([Cidr::ALL_IPV4])
        .filter_map(Cidr::v4)
    {
        let key = RouteKey {
            table: MAIN,
            destination: range.into(),
            metric: LAST,
        };
        namespace.route(owner, key, target.clone(), None);
    }
}

// A virtual machine's monitor opens a TAP in the namespace that it runs in, so the TAP stands in the host's. Two
// chains at the devices' ingress join it to the router's veth like a wire: no bridge, no address, no route and no
// forwarding in the host's namespace.
fn tap(desired: &mut Desired, realm: &Realm, port: &PortPlan, place: Place, interface: &str) {
    let owner = Owner::Instance(port.instance);
    let host = desired
        .namespaces
        .entry(name::HOST_NAMESPACE.to_owned())
        .or_insert_with(|| Namespace::new(owner, Claim::LinksOfForeign));
    let alias = name::tap_alias(realm);
    host.links
        .insert(interface.to_owned(), up(owner, LinkKind::Tap { alias }));
    host.links
        .insert(place.link.clone(), up(owner, LinkKind::VethPeer));
    for link in [interface, place.link.as_str()] {
        let path = name::link_sysctl("ipv6", "conf", link, "disable_ipv6");
        host.link_sysctl(owner, link, path, "1");
    }
    let wire = |from: &str, to: &str| {
        Chain {
            base: Some(BaseChain {
                kind: "filter".to_owned(),
                hook: "ingress".to_owned(),
                device: Some(from.to_owned()),
                priority: 0,
                policy: "accept".to_owned(),
            }),
            ..Chain::default()
        }
        .rule("wire", format!("fwd to \"{to}\""))
    };
    let mut value = Ruleset::default();
    value
        .chains
        .insert("from-machine".to_owned(), wire(interface, &place.link));
    value
        .chains
        .insert("to-machine".to_owned(), wire(&place.link, interface));
    let table = name::wire_table(realm, port.interface);
    host.rulesets.insert(table, Owned { owner, value });
}

fn in_subnet(subnet: &SubnetPlan, port: &PortPlan) -> Ipv4Net {
    // A prefix length that is already valid in the subnet is valid here.
    Ipv4Net::new(port.address, subnet.cidr.prefix_len()).unwrap_or_else(|_| Ipv4Net::from(port.address))
}
