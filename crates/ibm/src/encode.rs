//! Outcomes as answers.

use http::{HeaderValue, StatusCode, header};
use isthmus_ops::{Addition, InstanceView, OpError, Outcome, PageOf, ReservedIpView, VpnGatewayView};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::id;
use crate::refusal;
use crate::render::{Render, Shape};

/// The answer to a request that [`crate::decode`] read as an operation or a query.
pub fn encode(result: &Result<Outcome, OpError>, render: &Render) -> http::Response<Vec<u8>> {
    match result {
        Ok(outcome) => success(outcome, render),
        Err(error) => refusal::fault(error, render.subject, render.date).response(&render.scene.trace),
    }
}

fn success(outcome: &Outcome, render: &Render) -> http::Response<Vec<u8>> {
    if render.shape == Shape::Empty {
        return empty(render.success);
    }
    match outcome {
        Outcome::Done => empty(render.success),
        Outcome::Regions(regions) => {
            let regions: Vec<Value> = regions.iter().map(|region| render.region_view(region)).collect();
            render.answer(&json!({ "regions": regions }))
        }
        Outcome::Region(region) => render.answer(&render.region_view(region)),
        Outcome::Zones(zones) => {
            let zones: Vec<Value> = zones.iter().map(|zone| render.zone_view(zone)).collect();
            render.answer(&json!({ "zones": zones }))
        }
        Outcome::Zone(zone) => render.answer(&render.zone_view(zone)),
        Outcome::Vpcs(page) => render.answer(&render.page("vpcs", page, |vpc| render.vpc_view(vpc))),
        Outcome::Vpc(vpc) => render.tagged(&render.vpc_view(vpc), vpc.common.version),
        Outcome::NetworkAcl(acl) => render.answer(&render.network_acl_view(acl)),
        Outcome::SecurityGroup(group) => render.answer(&render.security_group_view(group)),
        Outcome::RouteTable(table) => render.tagged(&render.route_table_view(table), table.common.version),
        Outcome::AddressPrefixes(page) => render.answer(&render.page("address_prefixes", page, |prefix| {
            render.address_prefix_view(prefix)
        })),
        Outcome::AddressPrefix(prefix) => render.answer(&render.address_prefix_view(prefix)),
        Outcome::Subnets(page) => {
            render.answer(&render.page("subnets", page, |subnet| render.subnet_view(subnet)))
        }
        Outcome::Subnet(subnet) => render.answer(&render.subnet_view(subnet)),
        Outcome::ReservedIps(page) => reserved_ips(page, render),
        Outcome::Instances(page) => {
            render.answer(&render.page("instances", page, |instance| render.instance_view(instance)))
        }
        Outcome::Instance(instance) => instance_part(instance, render),
        Outcome::InstanceAction(action) => render.answer(&render.instance_action_view(action)),
        Outcome::VpnGateways(page) => {
            render.answer(&render.page("vpn_gateways", page, |gateway| render.vpn_gateway_view(gateway)))
        }
        Outcome::VpnGateway(gateway) => gateway_part(gateway, render),
        Outcome::VpnConnections(page) => render.answer(&render.page("connections", page, |connection| {
            render.vpn_connection_view(connection)
        })),
        Outcome::VpnConnection(connection) => {
            render.tagged(&render.vpn_connection_view(connection), connection.common.version)
        }
        // Asked for outside this API only.
        Outcome::ConnectionOptions(_) | Outcome::GatewayOptions(_) => mismatch(render),
        Outcome::Cidrs(cidrs) => {
            let Shape::Cidrs(key) = render.shape else {
                return mismatch(render);
            };
            let texts: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
            let mut body = json!({});
            body[key] = texts.into();
            render.answer(&body)
        }
        Outcome::CidrAdded(addition) => match (addition, &render.shape) {
            (Addition::Added, Shape::CidrPut { tells_new: true }) => empty(StatusCode::CREATED),
            (Addition::Added | Addition::AlreadyThere, _) => empty(StatusCode::NO_CONTENT),
        },
        Outcome::IkePolicies(page) => {
            render.answer(&render.page("ike_policies", page, |policy| render.ike_policy_view(policy)))
        }
        Outcome::IkePolicy(policy) => render.answer(&render.ike_policy_view(policy)),
        Outcome::IpsecPolicies(page) => {
            render.answer(&render.page("ipsec_policies", page, |policy| render.ipsec_policy_view(policy)))
        }
        Outcome::IpsecPolicy(policy) => render.answer(&render.ipsec_policy_view(policy)),
    }
}

fn instance_part(instance: &InstanceView, render: &Render) -> http::Response<Vec<u8>> {
    match &render.shape {
        Shape::Initialization => render.answer(&json!({ "keys": [] })),
        Shape::Interfaces => {
            render.answer(&json!({ "network_interfaces": [render.interface_view(instance)] }))
        }
        Shape::Interface(wanted) if *wanted == instance.interface.id => {
            render.answer(&render.interface_view(instance))
        }
        Shape::Interface(wanted) => {
            not_found(render, "network interface", &id::INTERFACE.text(wanted.bits()))
        }
        Shape::Whole => render.tagged(&render.instance_view(instance), instance.common.version),
        Shape::Cidrs(_)
        | Shape::CidrPut { .. }
        | Shape::Empty
        | Shape::Member(_)
        | Shape::Members { .. }
        | Shape::Page { .. }
        | Shape::ReservedIp(_) => mismatch(render),
    }
}

fn gateway_part(gateway: &VpnGatewayView, render: &Render) -> http::Response<Vec<u8>> {
    match &render.shape {
        Shape::Members { limit, start } => {
            let members = gateway
                .members
                .iter()
                .map(|member| render.member_view(gateway, member))
                .collect();
            render.answer(&render.slice("members", members, *limit, *start))
        }
        Shape::Member(wanted) => match gateway.members.iter().find(|member| member.id == *wanted) {
            Some(member) => render.answer(&render.member_view(gateway, member)),
            None => not_found(
                render,
                "VPN gateway member",
                &id::GATEWAY_MEMBER.text(wanted.bits()),
            ),
        },
        Shape::Whole => render.answer(&render.vpn_gateway_view(gateway)),
        Shape::Cidrs(_)
        | Shape::CidrPut { .. }
        | Shape::Empty
        | Shape::Initialization
        | Shape::Interface(_)
        | Shape::Interfaces
        | Shape::Page { .. }
        | Shape::ReservedIp(_) => mismatch(render),
    }
}

fn reserved_ips(page: &PageOf<ReservedIpView>, render: &Render) -> http::Response<Vec<u8>> {
    let Shape::ReservedIp(wanted) = render.shape else {
        return render.answer(&render.page("reserved_ips", page, |ip| render.reserved_ip_view(ip)));
    };
    match page.items.iter().find(|ip| ip.id == wanted) {
        Some(ip) => render.answer(&render.reserved_ip_view(ip)),
        None => not_found(render, "reserved IP", &id::RESERVED_IP.text(wanted.bits())),
    }
}

fn not_found(render: &Render, what: &str, id: &str) -> http::Response<Vec<u8>> {
    Fault::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("{what} {id} was not found"),
    )
    .at(crate::Target::parameter("id").with_value(id))
    .response(&render.scene.trace)
}

// The model answered something else than was asked: our bug.
fn mismatch(render: &Render) -> http::Response<Vec<u8>> {
    Fault::internal().response(&render.scene.trace)
}

fn empty(status: StatusCode) -> http::Response<Vec<u8>> {
    let mut response = http::Response::new(Vec::new());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}
