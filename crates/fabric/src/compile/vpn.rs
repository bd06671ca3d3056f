//! VPN gateways in the router: TUN devices, policy routing, and the guard routes.

use ipnet::Ipv4Net;
use isthmus_hostplan::{GatewayPlan, VpcPlan};

use super::{MAIN, up, widest};
use crate::name;
use crate::state::{LinkKind, Namespace, Owner, RouteKey, RouteTarget, Rule};

/// Adds the gateways' devices, routes and rules to a router.
pub(super) fn route(router: &mut Namespace, plan: &VpcPlan) {
    let owner = Owner::Vpc(plan.vpc);
    if plan.gateways.is_empty() {
        return;
    }
    // A VPC's own destinations come first, whatever ranges a peer claims.
    router
        .rules
        .insert(rule(name::RULE_OWN, None, None, MAIN, Some(0)), owner);
    router
        .rules
        .insert(rule(name::RULE_GUARD, None, None, name::GUARD_TABLE, None), owner);
    for gateway in &plan.gateways {
        attach(router, plan, gateway);
    }
    for range in widest(plan.gateways.iter().flat_map(GatewayPlan::remote_ranges)) {
        let key = RouteKey {
            table: name::GUARD_TABLE,
            destination: range.into(),
            metric: 0,
        };
        // To the loopback rather than into nothing, so that the forward chain sees and counts what is caught here.
        // Were the chain missing, the packet would go round until its time to live is up, and never out.
        let target = RouteTarget::Link {
            link: "lo".to_owned(),
        };
        router.route(owner, key, target, None);
    }
}

fn attach(router: &mut Namespace, plan: &VpcPlan, gateway: &GatewayPlan) {
    let owner = Owner::Gateway(gateway.gateway);
    let tun = name::tun_link(gateway.gateway);
    let table = name::gateway_table(gateway.gateway);
    let mut link = up(owner, LinkKind::Tun);
    link.mtu = Some(u32::from(gateway.mtu));
    router.links.insert(tun.clone(), link);
    let served = plan
        .subnets
        .iter()
        .filter(|subnet| subnet.vpn_gateway == Some(gateway.gateway));
    for (position, subnet) in served.enumerate() {
        let Some(source) = subnet.cidr.v4() else { continue };
        if position == 0 {
            // Source of what the router itself sends into the tunnel, such as ICMP errors.
            router
                .addresses
                .insert((tun.clone(), Ipv4Net::from(subnet.router).into()));
        }
        router
            .rules
            .insert(rule(name::RULE_SERVED, Some(source), None, table, None), owner);
    }
    router
        .rules
        .insert(rule(name::RULE_ROUTER, None, Some("lo"), table, None), owner);
    for range in widest(gateway.remote_ranges()) {
        let key = RouteKey {
            table,
            destination: range.into(),
            metric: 0,
        };
        router.route(owner, key, RouteTarget::Link { link: tun.clone() }, None);
    }
}

fn rule(
    priority: u32,
    source: Option<Ipv4Net>,
    incoming: Option<&str>,
    table: u32,
    suppress_prefix: Option<u32>,
) -> Rule {
    Rule {
        priority,
        source,
        incoming: incoming.map(str::to_owned),
        table,
        suppress_prefix,
    }
}
