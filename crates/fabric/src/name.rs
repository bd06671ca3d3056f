//! Names of kernel objects: each a pure function of ids, so that a pass needs no memory of earlier ones.

use std::net::Ipv4Addr;

use isthmus_types::{InstanceId, NetworkInterfaceId, Realm, ResourceBits, VpcId, VpnGatewayId};

use crate::ruleset::Table;

/// Protocol number of every route, rule, address and neighbour that we make (`rtm_protocol` and its kin).
pub const PROTOCOL: u8 = 73;

/// The router's link to the internet namespace.
pub const UPLINK: &str = "uplink";

/// Address family of the nft tables that join TAP devices to their ports.
pub const WIRE_FAMILY: &str = "netdev";

/// Name that stands for the namespace that the agent itself runs in.
pub const HOST_NAMESPACE: &str = "";

/// Hardware address of the router's end of every port. The same everywhere, so that a workload's neighbour entry
/// for its router stays valid when the port is made anew.
pub const ROUTER_MAC: [u8; 6] = [0x02, 0x69, 0x73, 0x74, 0x00, 0x01];

/// Table of the routes that keep remote ranges from leaving in clear.
pub const GUARD_TABLE: u32 = 900;

/// Priority of the rule that lets a VPC's own destinations win over everything but the default route.
pub const RULE_OWN: u32 = 900;
/// Priority of the rules that send the router's own packets from public addresses by the main table.
pub const RULE_PUBLIC: u32 = 950;
/// Priority of the rules that send a served subnet's packets by its gateway's table.
pub const RULE_SERVED: u32 = 1000;
/// Priority of the rules that send the router's own packets by each gateway's table.
pub const RULE_ROUTER: u32 = 1050;
/// Priority of the rule for the guard table.
pub const RULE_GUARD: u32 = 1100;

/// Start of the name of every namespace of a realm.
pub fn namespace_prefix(realm: &Realm) -> String {
    format!("ist-{realm}-")
}

/// Namespace that plays the internet.
pub fn internet_namespace(realm: &Realm) -> String {
    format!("{}net", namespace_prefix(realm))
}

/// Namespace of a VPC's router.
pub fn router_namespace(realm: &Realm, vpc: VpcId) -> String {
    format!("{}vpc-{vpc}", namespace_prefix(realm))
}

/// Namespace of an instance.
pub fn instance_namespace(realm: &Realm, instance: InstanceId) -> String {
    format!("{}i-{instance}", namespace_prefix(realm))
}

/// Whether a namespace of that name is an instance's of that realm.
pub fn is_instance_namespace(realm: &Realm, namespace: &str) -> bool {
    namespace
        .strip_prefix(&namespace_prefix(realm))
        .and_then(|rest| rest.strip_prefix("i-"))
        .is_some_and(|id| id.parse::<InstanceId>().is_ok())
}

/// Whether a namespace of that name belongs to that realm.
pub fn is_of_realm(realm: &Realm, namespace: &str) -> bool {
    let prefix = namespace_prefix(realm);
    namespace.strip_prefix(&prefix).is_some_and(|rest| {
        rest == "net"
            || rest
                .strip_prefix("vpc-")
                .is_some_and(|id| id.parse::<VpcId>().is_ok())
            || is_instance_namespace(realm, namespace)
    })
}

/// The router's end of a port.
pub fn port_link(interface: NetworkInterfaceId) -> String {
    prefixed('p', interface.bits())
}

/// The host's end of the veth behind a TAP.
pub fn tap_peer_link(interface: NetworkInterfaceId) -> String {
    prefixed('x', interface.bits())
}

/// The text that marks a TAP device in the host's namespace as a realm's.
pub fn tap_alias(realm: &Realm) -> String {
    format!("isthmus {realm}")
}

/// Start of the name of every nft table of a realm in the host's namespace.
pub fn wire_table_prefix(realm: &Realm) -> String {
    format!("isthmus-{realm}-")
}

/// The nft table that joins a TAP device to its port.
pub fn wire_table(realm: &Realm, interface: NetworkInterfaceId) -> Table {
    Table {
        family: WIRE_FAMILY.to_owned(),
        name: format!("{}{}", wire_table_prefix(realm), interface.bits().to_base32()),
    }
}

/// The TUN device of a VPN gateway.
pub fn tun_link(gateway: VpnGatewayId) -> String {
    prefixed('t', gateway.bits())
}

/// The internet namespace's end of a router's uplink.
pub fn uplink_peer_link(vpc: VpcId) -> String {
    prefixed('v', vpc.bits())
}

/// The workload's end of the instance's port number `position` in the plan's order.
pub fn workload_link(position: usize) -> String {
    format!("eth{position}")
}

/// Whether a link of that name in a router's namespace is of our making.
pub fn is_router_link(link: &str) -> bool {
    link == UPLINK
        || (link.starts_with(['p', 't'])
            && link
                .get(1..)
                .is_some_and(|id| ResourceBits::from_base32(id).is_ok()))
}

/// Route table of a VPN gateway, of the 2^30 from 0x40000000 on. Tables are numbered for each namespace alone, and a
/// VPC has a few gateways at most, so these 30 bits of the id are enough.
pub fn gateway_table(gateway: VpnGatewayId) -> u32 {
    let low = (gateway.bits().value() & 0x3fff_ffff) as u32;
    0x4000_0000 | low
}

/// The name under `net/ipv4/conf` and its kin is a part of a path; a link's name never holds a slash.
pub(crate) fn link_sysctl(family: &str, kind: &str, link: &str, key: &str) -> String {
    format!("net/{family}/{kind}/{link}/{key}")
}

/// A range of exactly one address, as nft and our observed state write it: without its length.
pub(crate) fn range_text(net: ipnet::Ipv4Net) -> String {
    if net.prefix_len() == 32 {
        Ipv4Addr::to_string(&net.addr())
    } else {
        net.to_string()
    }
}

fn prefixed(kind: char, bits: ResourceBits) -> String {
    format!("{kind}{}", bits.to_base32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_fit_and_are_told_from_others() {
        let bits = ResourceBits::from_random(u128::MAX);
        for link in [
            port_link(bits.into()),
            tap_peer_link(bits.into()),
            tun_link(bits.into()),
            uplink_peer_link(bits.into()),
        ] {
            assert_eq!(link.len(), 15);
        }
        assert!(is_router_link(&port_link(bits.into())));
        assert!(is_router_link(&tun_link(bits.into())));
        assert!(is_router_link(UPLINK));
        for foreign in ["lo", "eth0", "p", "tun0", "paaaaaaaaaaaaa!", "é"] {
            assert!(!is_router_link(foreign), "{foreign}");
        }
    }

    #[test]
    fn realm_owns_only_its_namespaces() {
        let bits = ResourceBits::from_random(7);
        let lab = Realm::new("lab").unwrap();
        let other = Realm::new("labs").unwrap();
        for namespace in [
            internet_namespace(&lab),
            router_namespace(&lab, bits.into()),
            instance_namespace(&lab, bits.into()),
        ] {
            assert!(is_of_realm(&lab, &namespace));
            assert!(!is_of_realm(&other, &namespace));
        }
        assert!(!is_of_realm(&lab, "ist-lab-other"));
        assert!(!is_of_realm(&lab, "lab"));
    }
}
