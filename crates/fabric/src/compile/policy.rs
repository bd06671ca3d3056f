//! The router's nft table: who may send what where.
//!
//! The number of rules that a packet meets does not grow with ports, groups or ranges: what grows are sets and maps.
//! Only an ACL is a list, since its order decides.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use isthmus_hostplan::{
    AclAction, AclRule, GatewayPlan, GroupRule, SecurityGroupPlan, Spoofing, UplinkPlan, VpcPlan,
};
use isthmus_types::{Cidr, SecurityGroupId};

use super::{live_ports, public_addresses, public_ipv6, widest};
use crate::name::{self, UPLINK, range_text};
use crate::ruleset::{Chain, Ruleset, Set, Table, digest};
use crate::state::{Namespace, Owned, Owner};

const ADDRESS: &str = "ipv4_addr";
const ADDRESS_IPV6: &str = "ipv6_addr";
const LINK: &str = "ifname";

/// Smaller than an IPv4 packet's MTU by its and TCP's header.
const MSS_BELOW_MTU: u16 = 40;

/// How routers tell that a packet of a tunnel cannot go on (RFC 4443 section 3).
const ICMPV6_ERRORS: &str = "{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }";

/// Neighbour discovery of two hosts on a link (RFC 4861 sections 4.3 and 4.4); routers do not forward it.
const NEIGHBOUR_DISCOVERY: &str = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255";

/// Destinations that are never out on the internet.
const RESERVED: [&str; 9] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// Adds the nft table to a router.
pub(super) fn protect(router: &mut Namespace, uplink: &UplinkPlan, plan: &VpcPlan) {
    let mut value = Ruleset::default();
    address_sets(&mut value, uplink, plan);
    port_sets(&mut value, plan);
    acls(&mut value, plan);
    groups(&mut value, plan);
    screen(&mut value);
    forward(&mut value, plan);
    own_traffic(&mut value);
    translation(&mut value, plan);
    count_named(&mut value);
    let owner = Owner::Vpc(plan.vpc);
    router.rulesets.insert(Table::router(), Owned { owner, value });
}

fn address_sets(ruleset: &mut Ruleset, uplink: &UplinkPlan, plan: &VpcPlan) {
    let UplinkPlan::Private { pool, .. } = uplink;
    let remote = plan.gateways.iter().flat_map(GatewayPlan::remote_ranges);
    let reserved = RESERVED.iter().filter_map(|text| text.parse::<Cidr>().ok());
    for (name, ranges) in [
        ("pool", widest([*pool])),
        ("ranges", widest(plan.ranges.iter().copied())),
        ("remote", widest(remote)),
        ("reserved", widest(reserved)),
    ] {
        let set = Set::ranges_of(&[ADDRESS]).with(ranges.into_iter().map(|range| [range_text(range)]));
        ruleset.sets.insert(name.to_owned(), set);
    }
    let public = public_addresses(plan)
        .into_iter()
        .map(|address| [address.to_string()]);
    ruleset
        .sets
        .insert("public".to_owned(), Set::of(&[ADDRESS]).with(public));
    let public = public_ipv6(plan).into_iter().map(|address| [address.to_string()]);
    let set = Set::of(&[ADDRESS_IPV6]).with(public);
    ruleset.sets.insert("public-ipv6".to_owned(), set);
}

fn port_sets(ruleset: &mut Ruleset, plan: &VpcPlan) {
    let mut ports = Set::of(&[LINK]);
    let mut own = Set::of(&[LINK, ADDRESS]);
    let mut unbound = Set::of(&[LINK]);
    let mut served = Set::of(&[LINK, LINK]);
    let mut within = Set::ranges_of(&[LINK, ADDRESS]);
    for (port, subnet) in live_ports(plan) {
        let link = name::port_link(port.interface);
        ports = ports.with([[link.clone()]]);
        match port.spoofing {
            Spoofing::Allowed => unbound = unbound.with([[link.clone()]]),
            Spoofing::Forbidden => own = own.with([[link.clone(), port.address.to_string()]]),
        }
        if let Some(gateway) = subnet.vpn_gateway {
            served = served.with([[link.clone(), name::tun_link(gateway)]]);
        }
        if let Some(range) = subnet.cidr.v4() {
            within = within.with([[link, range_text(range)]]);
        }
    }
    let mut tunnels = Set::of(&[LINK]);
    let mut tunnel = Set::ranges_of(&[LINK, ADDRESS]);
    for gateway in &plan.gateways {
        let link = name::tun_link(gateway.gateway);
        tunnels = tunnels.with([[link.clone()]]);
        let ranges = widest(gateway.remote_ranges());
        // A range of everything cannot be an element of a set with two parts.
        let halves = ranges.into_iter().flat_map(|range| {
            if range.prefix_len() == 0 {
                range.subnets(1).map(Iterator::collect).unwrap_or_default()
            } else {
                vec![range]
            }
        });
        tunnel = tunnel.with(halves.map(|range| [link.clone(), range_text(range)]));
    }
    for (name, set) in [
        ("ports", ports),
        ("own", own),
        ("unbound", unbound),
        ("served", served),
        ("within", within),
        ("tunnels", tunnels),
        ("tunnel", tunnel),
    ] {
        ruleset.sets.insert(name.to_owned(), set);
    }
}

fn acls(ruleset: &mut Ruleset, plan: &VpcPlan) {
    for acl in &plan.acls {
        for (direction, rules) in [("inbound", &acl.inbound), ("outbound", &acl.outbound)] {
            let name = format!("acl-{direction}-{}", acl.acl);
            let denied = format!("counter name \"deny-{name}\" drop");
            let mut chain = Chain::default();
            for rule in rules {
                let matched = acl_match(rule);
                chain = match rule.action {
                    AclAction::Allow => chain.rule("allow", format!("{matched}return")),
                    AclAction::Deny => chain.rule("deny", format!("{matched}{denied}")),
                };
            }
            ruleset.chains.insert(name, chain.rule("deny rest", denied));
        }
    }
    for direction in ["inbound", "outbound"] {
        let mut map = Set::verdicts_of(&[LINK]);
        for (port, subnet) in live_ports(plan) {
            let known = plan.acls.iter().any(|acl| acl.acl == subnet.acl);
            let verdict = if known {
                format!("jump acl-{direction}-{}", subnet.acl)
            } else {
                "drop".to_owned()
            };
            map.elements
                .insert(vec![name::port_link(port.interface)], verdict);
        }
        ruleset.sets.insert(format!("acl-{direction}"), map);
    }
}

fn acl_match(rule: &AclRule) -> String {
    let mut text = String::new();
    for (side, range) in [("saddr", rule.source), ("daddr", rule.destination)] {
        if let Some(net) = range.v4()
            && net.prefix_len() > 0
        {
            let _ = write!(text, "ip {side} {} ", range_text(net));
        }
    }
    text
}

fn groups(ruleset: &mut Ruleset, plan: &VpcPlan) {
    let members: BTreeMap<SecurityGroupId, &SecurityGroupPlan> = plan
        .security_groups
        .iter()
        .map(|group| (group.group, group))
        .collect();
    for group in &plan.security_groups {
        for (direction, rules) in [("inbound", &group.inbound), ("outbound", &group.outbound)] {
            let ranges = rules.iter().flat_map(|rule| match rule {
                GroupRule::Members { group } => members
                    .get(group)
                    .into_iter()
                    .flat_map(|named| named.members.iter())
                    .map(|address| Cidr::host((*address).into()))
                    .collect(),
                GroupRule::Range { cidr } => vec![*cidr],
            });
            let set =
                Set::ranges_of(&[ADDRESS]).with(widest(ranges).into_iter().map(|net| [range_text(net)]));
            ruleset
                .sets
                .insert(format!("group-{direction}-{}", group.group), set);
        }
    }
    for (direction, side) in [("inbound", "saddr"), ("outbound", "daddr")] {
        let mut map = Set::verdicts_of(&[LINK]);
        for (port, _) in live_ports(plan) {
            let mut named: Vec<SecurityGroupId> = port.security_groups.clone();
            named.sort_unstable();
            named.dedup();
            named.retain(|group| members.contains_key(group));
            let text: String = named.iter().map(ToString::to_string).collect();
            let name = format!("port-{direction}-{:016x}", digest(&text));
            let mut chain = Chain::default();
            for group in &named {
                chain = chain.rule("group", format!("ip {side} @group-{direction}-{group} return"));
            }
            let chain = chain.rule(
                "deny rest",
                format!("counter name \"drop-group-{direction}\" drop"),
            );
            let verdict = format!("jump {name}");
            map.elements
                .insert(vec![name::port_link(port.interface)], verdict);
            ruleset.chains.insert(name, chain);
        }
        ruleset.sets.insert(format!("port-{direction}"), map);
    }
}

// Before connection tracking: what may come in at all.
fn screen(ruleset: &mut Ruleset) {
    let screen = Chain::hooked("filter", "prerouting", -300, "accept")
        .rule("ipv4 only", "iifname @ports meta nfproto != ipv4 counter name \"drop-family\" drop")
        .rule("ipv4 only", "iifname @tunnels meta nfproto != ipv4 counter name \"drop-family\" drop")
        .rule(
            "anti-spoof",
            "iifname @ports iifname . ip saddr != @own iifname != @unbound counter name \"drop-spoofed\" drop",
        )
        .rule(
            "tunnel source",
            "iifname @tunnels iifname . ip saddr != @tunnel counter name \"drop-tunnel-source\" drop",
        )
        .rule("uplink", format!("iifname \"{UPLINK}\" goto outside"));
    let outside = Chain::default()
        .rule("ipv6", "meta nfproto ipv6 goto outside-ipv6")
        .rule("ike", "ip daddr @public udp dport { 500, 4500 } notrack accept")
        .rule("esp", "ip daddr @public meta l4proto esp notrack accept")
        .rule("in clear", "ip saddr @remote counter name \"drop-clear\" drop")
        .rule("in clear", "ip saddr @ranges counter name \"drop-clear\" drop")
        .rule(
            "public only",
            "ip daddr != @public counter name \"drop-uplink\" drop",
        );
    let outside_ipv6 = Chain::default()
        .rule(
            "ike",
            "ip6 daddr @public-ipv6 udp dport { 500, 4500 } notrack accept",
        )
        .rule("esp", "ip6 daddr @public-ipv6 meta l4proto esp notrack accept")
        .rule(
            "icmpv6",
            format!("ip6 daddr @public-ipv6 icmpv6 type {ICMPV6_ERRORS} notrack accept"),
        )
        .rule("neighbours", format!("{NEIGHBOUR_DISCOVERY} notrack accept"))
        // The router at the other end says which groups it is in.
        .rule("quiet", "ip6 daddr ff02::16 drop")
        .rule("rest", "counter name \"drop-uplink\" drop");
    ruleset.chains.insert("screen".to_owned(), screen);
    ruleset.chains.insert("outside-ipv6".to_owned(), outside_ipv6);
    ruleset.chains.insert("outside".to_owned(), outside);
}

fn forward(ruleset: &mut Ruleset, plan: &VpcPlan) {
    let mut forward = Chain::hooked("filter", "forward", 0, "drop")
        .rule("ipv4 only", "meta nfproto != ipv4 counter name \"drop-family\" drop")
        .rule(
            "guard",
            "ip daddr @remote ip daddr != @ranges oifname . ip daddr != @tunnel counter name \"drop-guard\" drop",
        )
        .rule(
            "guard",
            "oifname @tunnels iifname . oifname != @served counter name \"drop-guard\" drop",
        )
        .rule(
            "clamp",
            "oifname @tunnels tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu",
        );
    let mut sizes: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for gateway in &plan.gateways {
        let tun = format!("\"{}\"", name::tun_link(gateway.gateway));
        sizes
            .entry(gateway.mtu.saturating_sub(MSS_BELOW_MTU))
            .or_default()
            .push(tun);
    }
    for (size, tuns) in sizes {
        let text = format!(
            "iifname {{ {} }} tcp flags & (syn | rst) == syn tcp option maxseg size set {size}",
            tuns.join(", ")
        );
        forward = forward.rule("clamp", text);
    }
    let forward = forward
        .rule("inside subnet", "iifname . ip daddr @within goto groups")
        .rule("acl", "iifname vmap @acl-outbound")
        .rule("acl", "oifname vmap @acl-inbound")
        .rule("groups", "goto groups");
    let groups = Chain::default()
        .rule("known flow", "ct state established,related accept")
        .rule("invalid", "ct state invalid counter name \"drop-invalid\" drop")
        .rule("groups", "iifname vmap @port-outbound")
        .rule("groups", "oifname vmap @port-inbound")
        .rule("inside", "iifname @ports oifname @ports accept")
        .rule("to tunnel", "iifname @ports oifname @tunnels accept")
        .rule("from tunnel", "iifname @tunnels oifname @ports accept")
        .rule(
            "to internet",
            format!("iifname @ports oifname \"{UPLINK}\" goto departing"),
        )
        .rule("nowhere", "counter name \"drop-unrouted\" drop");
    let mut departing = Chain::default();
    if plan.source_nat.is_some() {
        departing = departing
            .rule("public", "ip daddr @pool accept")
            .rule("private", "ip daddr @reserved counter name \"drop-private\" drop")
            .rule("public", "accept");
    }
    let departing = departing.rule("no way out", "counter name \"drop-unrouted\" drop");
    ruleset.chains.insert("forward".to_owned(), forward);
    ruleset.chains.insert("groups".to_owned(), groups);
    ruleset.chains.insert("departing".to_owned(), departing);
}

// To and from the router itself.
fn own_traffic(ruleset: &mut Ruleset) {
    let input = Chain::hooked("filter", "input", 0, "drop")
        .rule("self", "iifname \"lo\" accept")
        .rule(
            "ike",
            format!("iifname \"{UPLINK}\" udp dport {{ 500, 4500 }} accept"),
        )
        .rule("esp", format!("iifname \"{UPLINK}\" meta l4proto esp accept"))
        .rule("known flow", "ct state established,related accept")
        .rule("icmp", "meta l4proto icmp accept")
        .rule(
            "icmpv6",
            format!("iifname \"{UPLINK}\" icmpv6 type {ICMPV6_ERRORS} accept"),
        )
        .rule(
            "neighbours",
            format!("iifname \"{UPLINK}\" {NEIGHBOUR_DISCOVERY} accept"),
        )
        .rule("rest", "counter name \"drop-input\" drop");
    let untracked = Chain::hooked("filter", "output", -300, "accept")
        .rule("ike", "ip saddr @public udp sport { 500, 4500 } notrack")
        .rule("esp", "ip saddr @public meta l4proto esp notrack")
        .rule("ike", "ip6 saddr @public-ipv6 udp sport { 500, 4500 } notrack")
        .rule("esp", "ip6 saddr @public-ipv6 meta l4proto esp notrack");
    ruleset.chains.insert("input".to_owned(), input);
    ruleset.chains.insert("untracked".to_owned(), untracked);
}

fn translation(ruleset: &mut Ruleset, plan: &VpcPlan) {
    let mut translate = Chain::hooked("nat", "postrouting", 100, "accept");
    if let Some(address) = plan.source_nat {
        let inside = format!("oifname \"{UPLINK}\" ip saddr @ranges ip daddr != @remote");
        // IKE's own ports stay free for the tunnel daemon.
        translate = translate
            .rule(
                "source nat",
                format!("{inside} meta l4proto udp snat ip to {address}:16384-65535"),
            )
            .rule("source nat", format!("{inside} snat ip to {address}"));
    }
    let leaving = Chain::hooked("filter", "postrouting", 200, "accept")
        .rule(
            "ipv6",
            format!("oifname \"{UPLINK}\" meta nfproto ipv6 goto leaving-ipv6"),
        )
        .rule(
            "guard",
            format!("oifname \"{UPLINK}\" ip saddr != @public counter name \"drop-guard\" drop"),
        );
    let leaving_ipv6 = Chain::default()
        .rule("ike", "ip6 saddr @public-ipv6 udp sport { 500, 4500 } accept")
        .rule("esp", "ip6 saddr @public-ipv6 meta l4proto esp accept")
        .rule("neighbours", format!("{NEIGHBOUR_DISCOVERY} accept"))
        // What the kernel says by itself on a link with IPv6: memberships of groups, and errors about what came.
        .rule("quiet", "meta l4proto ipv6-icmp drop")
        .rule("guard", "counter name \"drop-guard\" drop");
    ruleset.chains.insert("leaving-ipv6".to_owned(), leaving_ipv6);
    ruleset.chains.insert("translate".to_owned(), translate);
    ruleset.chains.insert("leaving".to_owned(), leaving);
}

fn count_named(ruleset: &mut Ruleset) {
    for rule in ruleset.chains.values().flat_map(|chain| &chain.rules) {
        if let Some((_, rest)) = rule.text.split_once("counter name \"")
            && let Some((name, _)) = rest.split_once('"')
        {
            ruleset.counters.insert(name.to_owned());
        }
    }
}
