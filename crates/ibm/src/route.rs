//! Which path and method means what.

use http::{Method, StatusCode};
use isthmus_ops::ResourceKind as Kind;
use percent_encoding::percent_decode_str;

use crate::call::{Call, Plan};
use crate::fault::{Fault, Target};
use crate::resource::{
    address_prefix, catalogue, connection_cidr, geography, ike_policy, instance, ipsec_policy, subnet, vpc,
    vpn_connection, vpn_gateway,
};

/// A method and a form of path that this dialect serves.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; variables stand in braces.
    pub template: &'static str,
    /// The kind of resource that it is about.
    pub(crate) subject: Kind,
    pub(crate) decode: fn(&Call<'_>) -> Result<Plan, Fault>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.template)
    }
}

/// A route with the path that it was found for.
#[derive(Debug)]
pub struct Matched<'a> {
    /// The route.
    pub route: &'static Route,
    /// The path as the client sent it, undecoded.
    pub path: &'a str,
    pub(crate) variables: Vec<String>,
}

/// All routes.
pub fn routes() -> &'static [Route] {
    &ROUTES
}

/// Finds the route of a request. `path` is undecoded: each segment is decoded after matching, so `%2F` never splits.
///
/// # Errors
/// 404 if no route has such a path, 405 if one has but with another method; both `invalid_route`.
pub fn find_route<'a>(method: &Method, path: &'a str) -> Result<Matched<'a>, Fault> {
    let segments: Vec<&str> = path.split('/').collect();
    let mut allowed: Vec<&str> = Vec::new();
    for route in &ROUTES {
        let Some(variables) = capture(route.template, &segments) else {
            continue;
        };
        if route.method == *method {
            return Ok(Matched {
                route,
                path,
                variables,
            });
        }
        allowed.push(route.method.as_str());
    }
    let shown = Target::parameter("path").with_value(path);
    if allowed.is_empty() {
        return Err(Fault::new(
            StatusCode::NOT_FOUND,
            "invalid_route",
            "there is nothing at this path",
        )
        .at(shown));
    }
    Err(Fault::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_route",
        format!("this path knows {}, not {method}", allowed.join(", ")),
    )
    .at(shown))
}

fn capture(template: &str, segments: &[&str]) -> Option<Vec<String>> {
    let mut variables = Vec::new();
    let mut given = segments.iter();
    for part in template.split('/') {
        let segment = given.next()?;
        if part.starts_with('{') {
            let decoded = percent_decode_str(segment).decode_utf8().ok()?;
            if decoded.is_empty() {
                return None;
            }
            variables.push(decoded.into_owned());
        } else if part != *segment {
            return None;
        }
    }
    given.next().is_none().then_some(variables)
}

const fn get(template: &'static str, subject: Kind, decode: fn(&Call<'_>) -> Result<Plan, Fault>) -> Route {
    Route {
        method: Method::GET,
        template,
        subject,
        decode,
    }
}

const fn post(template: &'static str, subject: Kind, decode: fn(&Call<'_>) -> Result<Plan, Fault>) -> Route {
    Route {
        method: Method::POST,
        template,
        subject,
        decode,
    }
}

const fn put(template: &'static str, subject: Kind, decode: fn(&Call<'_>) -> Result<Plan, Fault>) -> Route {
    Route {
        method: Method::PUT,
        template,
        subject,
        decode,
    }
}

const fn patch(template: &'static str, subject: Kind, decode: fn(&Call<'_>) -> Result<Plan, Fault>) -> Route {
    Route {
        method: Method::PATCH,
        template,
        subject,
        decode,
    }
}

const fn delete(
    template: &'static str,
    subject: Kind,
    decode: fn(&Call<'_>) -> Result<Plan, Fault>,
) -> Route {
    Route {
        method: Method::DELETE,
        template,
        subject,
        decode,
    }
}

static ROUTES: [Route; 82] = [
    get("/v1/regions", Kind::Region, geography::regions),
    get("/v1/regions/{region}", Kind::Region, geography::region),
    get("/v1/regions/{region}/zones", Kind::Zone, geography::zones),
    get("/v1/regions/{region}/zones/{zone}", Kind::Zone, geography::zone),
    get("/v1/vpcs", Kind::Vpc, vpc::list),
    post("/v1/vpcs", Kind::Vpc, vpc::create),
    get("/v1/vpcs/{vpc}", Kind::Vpc, vpc::read),
    patch("/v1/vpcs/{vpc}", Kind::Vpc, vpc::update),
    delete("/v1/vpcs/{vpc}", Kind::Vpc, vpc::delete),
    get(
        "/v1/vpcs/{vpc}/default_network_acl",
        Kind::Vpc,
        vpc::default_network_acl,
    ),
    get(
        "/v1/vpcs/{vpc}/default_security_group",
        Kind::Vpc,
        vpc::default_security_group,
    ),
    get(
        "/v1/vpcs/{vpc}/default_routing_table",
        Kind::Vpc,
        vpc::default_routing_table,
    ),
    get(
        "/v1/vpcs/{vpc}/routing_tables/{table}",
        Kind::RouteTable,
        vpc::route_table,
    ),
    get("/v1/network_acls/{acl}", Kind::NetworkAcl, vpc::network_acl),
    get(
        "/v1/security_groups/{group}",
        Kind::SecurityGroup,
        vpc::security_group,
    ),
    get(
        "/v1/vpcs/{vpc}/address_prefixes",
        Kind::AddressPrefix,
        address_prefix::list,
    ),
    post(
        "/v1/vpcs/{vpc}/address_prefixes",
        Kind::AddressPrefix,
        address_prefix::create,
    ),
    get(
        "/v1/vpcs/{vpc}/address_prefixes/{prefix}",
        Kind::AddressPrefix,
        address_prefix::read,
    ),
    patch(
        "/v1/vpcs/{vpc}/address_prefixes/{prefix}",
        Kind::AddressPrefix,
        address_prefix::update,
    ),
    delete(
        "/v1/vpcs/{vpc}/address_prefixes/{prefix}",
        Kind::AddressPrefix,
        address_prefix::delete,
    ),
    get("/v1/subnets", Kind::Subnet, subnet::list),
    post("/v1/subnets", Kind::Subnet, subnet::create),
    get("/v1/subnets/{subnet}", Kind::Subnet, subnet::read),
    patch("/v1/subnets/{subnet}", Kind::Subnet, subnet::update),
    delete("/v1/subnets/{subnet}", Kind::Subnet, subnet::delete),
    get(
        "/v1/subnets/{subnet}/reserved_ips",
        Kind::ReservedIp,
        subnet::list_reserved_ips,
    ),
    get(
        "/v1/subnets/{subnet}/reserved_ips/{ip}",
        Kind::ReservedIp,
        subnet::read_reserved_ip,
    ),
    get("/v1/instances", Kind::Instance, instance::list),
    post("/v1/instances", Kind::Instance, instance::create),
    get("/v1/instances/{instance}", Kind::Instance, instance::read),
    patch("/v1/instances/{instance}", Kind::Instance, instance::update),
    delete("/v1/instances/{instance}", Kind::Instance, instance::delete),
    post("/v1/instances/{instance}/actions", Kind::Instance, instance::act),
    get(
        "/v1/instances/{instance}/initialization",
        Kind::Instance,
        instance::initialization,
    ),
    get(
        "/v1/instances/{instance}/network_interfaces",
        Kind::NetworkInterface,
        instance::interfaces,
    ),
    get(
        "/v1/instances/{instance}/network_interfaces/{nic}",
        Kind::NetworkInterface,
        instance::interface,
    ),
    get("/v1/instance/profiles", Kind::Instance, catalogue::profiles),
    get("/v1/instance/profiles/{name}", Kind::Instance, catalogue::profile),
    get("/v1/images", Kind::Instance, catalogue::images),
    get("/v1/images/{image}", Kind::Instance, catalogue::image),
    get("/v1/keys", Kind::Instance, catalogue::keys),
    get("/v1/keys/{key}", Kind::Instance, catalogue::key),
    get("/v1/vpn_gateways", Kind::VpnGateway, vpn_gateway::list),
    post("/v1/vpn_gateways", Kind::VpnGateway, vpn_gateway::create),
    get("/v1/vpn_gateways/{gateway}", Kind::VpnGateway, vpn_gateway::read),
    patch(
        "/v1/vpn_gateways/{gateway}",
        Kind::VpnGateway,
        vpn_gateway::update,
    ),
    delete(
        "/v1/vpn_gateways/{gateway}",
        Kind::VpnGateway,
        vpn_gateway::delete,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/members",
        Kind::VpnGateway,
        vpn_gateway::members,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/members/{member}",
        Kind::VpnGateway,
        vpn_gateway::member,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections",
        Kind::VpnConnection,
        vpn_connection::list,
    ),
    post(
        "/v1/vpn_gateways/{gateway}/connections",
        Kind::VpnConnection,
        vpn_connection::create,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections/{id}",
        Kind::VpnConnection,
        vpn_connection::read,
    ),
    patch(
        "/v1/vpn_gateways/{gateway}/connections/{id}",
        Kind::VpnConnection,
        vpn_connection::update,
    ),
    delete(
        "/v1/vpn_gateways/{gateway}/connections/{id}",
        Kind::VpnConnection,
        vpn_connection::delete,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections/{id}/local_cidrs",
        Kind::VpnConnection,
        connection_cidr::list_local_flat,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections/{id}/peer_cidrs",
        Kind::VpnConnection,
        connection_cidr::list_peer_flat,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections/{id}/local/cidrs",
        Kind::VpnConnection,
        connection_cidr::list_local,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections/{id}/peer/cidrs",
        Kind::VpnConnection,
        connection_cidr::list_peer,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections/{id}/local_cidrs/{address}/{length}",
        Kind::VpnConnection,
        connection_cidr::check_local_flat,
    ),
    put(
        "/v1/vpn_gateways/{gateway}/connections/{id}/local_cidrs/{address}/{length}",
        Kind::VpnConnection,
        connection_cidr::add_local_flat,
    ),
    delete(
        "/v1/vpn_gateways/{gateway}/connections/{id}/local_cidrs/{address}/{length}",
        Kind::VpnConnection,
        connection_cidr::remove_local_flat,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections/{id}/peer_cidrs/{address}/{length}",
        Kind::VpnConnection,
        connection_cidr::check_peer_flat,
    ),
    put(
        "/v1/vpn_gateways/{gateway}/connections/{id}/peer_cidrs/{address}/{length}",
        Kind::VpnConnection,
        connection_cidr::add_peer_flat,
    ),
    delete(
        "/v1/vpn_gateways/{gateway}/connections/{id}/peer_cidrs/{address}/{length}",
        Kind::VpnConnection,
        connection_cidr::remove_peer_flat,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections/{id}/local/cidrs/{cidr}",
        Kind::VpnConnection,
        connection_cidr::check_local,
    ),
    put(
        "/v1/vpn_gateways/{gateway}/connections/{id}/local/cidrs/{cidr}",
        Kind::VpnConnection,
        connection_cidr::add_local,
    ),
    delete(
        "/v1/vpn_gateways/{gateway}/connections/{id}/local/cidrs/{cidr}",
        Kind::VpnConnection,
        connection_cidr::remove_local,
    ),
    get(
        "/v1/vpn_gateways/{gateway}/connections/{id}/peer/cidrs/{cidr}",
        Kind::VpnConnection,
        connection_cidr::check_peer,
    ),
    put(
        "/v1/vpn_gateways/{gateway}/connections/{id}/peer/cidrs/{cidr}",
        Kind::VpnConnection,
        connection_cidr::add_peer,
    ),
    delete(
        "/v1/vpn_gateways/{gateway}/connections/{id}/peer/cidrs/{cidr}",
        Kind::VpnConnection,
        connection_cidr::remove_peer,
    ),
    get("/v1/ike_policies", Kind::IkePolicy, ike_policy::list),
    post("/v1/ike_policies", Kind::IkePolicy, ike_policy::create),
    get("/v1/ike_policies/{policy}", Kind::IkePolicy, ike_policy::read),
    patch("/v1/ike_policies/{policy}", Kind::IkePolicy, ike_policy::update),
    delete("/v1/ike_policies/{policy}", Kind::IkePolicy, ike_policy::delete),
    get(
        "/v1/ike_policies/{policy}/connections",
        Kind::IkePolicy,
        ike_policy::connections,
    ),
    get("/v1/ipsec_policies", Kind::IpsecPolicy, ipsec_policy::list),
    post("/v1/ipsec_policies", Kind::IpsecPolicy, ipsec_policy::create),
    get(
        "/v1/ipsec_policies/{policy}",
        Kind::IpsecPolicy,
        ipsec_policy::read,
    ),
    patch(
        "/v1/ipsec_policies/{policy}",
        Kind::IpsecPolicy,
        ipsec_policy::update,
    ),
    delete(
        "/v1/ipsec_policies/{policy}",
        Kind::IpsecPolicy,
        ipsec_policy::delete,
    ),
    get(
        "/v1/ipsec_policies/{policy}/connections",
        Kind::IpsecPolicy,
        ipsec_policy::connections,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_slash_stays_in_its_segment() {
        let path = "/v1/vpn_gateways/g/connections/c/local/cidrs/10.0.0.0%2F24";
        let matched = find_route(&Method::PUT, path).unwrap();
        assert_eq!(matched.variables, ["g", "c", "10.0.0.0/24"]);
        let path = "/v1/vpn_gateways/g/connections/c/local_cidrs/10.0.0.0/24";
        let matched = find_route(&Method::PUT, path).unwrap();
        assert_eq!(matched.variables, ["g", "c", "10.0.0.0", "24"]);
    }

    #[test]
    fn unknown_paths_are_404_and_wrong_methods_405() {
        for path in [
            "/v1",
            "/v1/",
            "/v1/vpcs/",
            "/v1/load_balancers",
            "/v1//vpcs",
            "/v1/vpcs/%ff/x",
            "/v2/vpcs",
        ] {
            let fault = find_route(&Method::GET, path).unwrap_err();
            assert_eq!(
                (fault.status.as_u16(), fault.code),
                (404, "invalid_route"),
                "{path}"
            );
        }
        let fault = find_route(&Method::PUT, "/v1/vpcs").unwrap_err();
        assert_eq!((fault.status.as_u16(), fault.code), (405, "invalid_route"));
        assert!(fault.message.contains("GET, POST"));
    }

    #[test]
    fn no_two_routes_share_method_and_path() {
        for (index, route) in ROUTES.iter().enumerate() {
            let filled = route.template.replace(['{', '}'], "");
            let found = find_route(&route.method, &filled).unwrap();
            assert!(
                std::ptr::eq(found.route, &raw const ROUTES[index]),
                "{route:?} is shadowed by {:?}",
                found.route
            );
        }
    }
}
