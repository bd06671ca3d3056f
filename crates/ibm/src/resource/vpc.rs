//! VPCs.

use http::StatusCode;
use isthmus_ops::{CreateVpc, DeleteVpc, Operation, PrefixManagement, Query, UpdateVpc, VpcFilter, VpcView};
use serde_json::{Value, json};

use crate::body::Fields;
use crate::call::{Call, Plan};
use crate::fault::{Fault, Target};
use crate::id;
use crate::render::{Render, Shape};
use crate::scalar;

pub(crate) fn list(call: &Call<'_>) -> Result<Plan, Fault> {
    let classic_access = match call.parameter("classic_access") {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => {
            return Err(Fault::bad(
                "validation_invalid_field_type",
                "classic_access must be true or false",
            )
            .at(Target::parameter("classic_access").with_value(other)));
        }
    };
    let filter = VpcFilter {
        resource_group: call.group_filter(),
        classic_access,
    };
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(Query::Vpcs { filter, page }, shape))
}

pub(crate) fn create(call: &Call<'_>) -> Result<Plan, Fault> {
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    check_dns(&fields)?;
    let operation = Operation::CreateVpc(CreateVpc {
        name: call.name(&fields)?,
        prefixes: fields
            .choice(
                "address_prefix_management",
                &[
                    ("auto", PrefixManagement::Auto),
                    ("manual", PrefixManagement::Manual),
                ],
            )?
            .unwrap_or(PrefixManagement::Auto),
        classic_access: fields.flag("classic_access")?.unwrap_or(false),
        resource_group: scalar::resource_group(call, &fields)?,
    });
    Ok(Plan::operation(operation, StatusCode::CREATED))
}

// Only what a VPC has anyway can be asked for: no hub, the system's resolver.
fn check_dns(fields: &Fields<'_>) -> Result<(), Fault> {
    let Some(dns) = fields.object("dns")? else {
        return Ok(());
    };
    if dns.flag("enable_hub")? == Some(true) {
        return Err(dns.bad_field("enable_hub", "cannot be true: DNS hubs are not offered"));
    }
    if let Some(resolver) = dns.object("resolver")? {
        resolver.choice("type", &[("system", ())])?;
        resolver.refuse(&["manual_servers", "vpc"], "is not offered")?;
    }
    Ok(())
}

pub(crate) fn read(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(Query::Vpc(call.id(0, &id::VPC)?), Shape::Whole))
}

pub(crate) fn update(call: &Call<'_>) -> Result<Plan, Fault> {
    let vpc = call.id(0, &id::VPC)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let resolver = fields
        .object("dns")?
        .map(|dns| dns.object("resolver"))
        .transpose()?
        .flatten();
    if resolver.is_some_and(|resolver| resolver.is_array("manual_servers")) {
        call.require_if_match("dns.resolver.manual_servers")?;
    }
    check_dns(&fields)?;
    let operation = Operation::UpdateVpc(UpdateVpc {
        vpc,
        name: call.name(&fields)?,
        if_match: call.if_match(),
    });
    Ok(Plan::operation(operation, StatusCode::OK))
}

pub(crate) fn delete(call: &Call<'_>) -> Result<Plan, Fault> {
    let vpc = call.id(0, &id::VPC)?;
    let operation = Operation::DeleteVpc(DeleteVpc {
        vpc,
        if_match: call.if_match(),
    });
    Ok(Plan::silent(operation, StatusCode::NO_CONTENT))
}

pub(crate) fn default_network_acl(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::DefaultNetworkAcl(call.id(0, &id::VPC)?),
        Shape::Whole,
    ))
}

pub(crate) fn default_security_group(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::DefaultSecurityGroup(call.id(0, &id::VPC)?),
        Shape::Whole,
    ))
}

pub(crate) fn default_routing_table(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::DefaultRouteTable(call.id(0, &id::VPC)?),
        Shape::Whole,
    ))
}

pub(crate) fn network_acl(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::NetworkAcl(call.id(0, &id::NETWORK_ACL)?),
        Shape::Whole,
    ))
}

pub(crate) fn security_group(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::SecurityGroup(call.id(0, &id::SECURITY_GROUP)?),
        Shape::Whole,
    ))
}

pub(crate) fn route_table(call: &Call<'_>) -> Result<Plan, Fault> {
    let vpc = call.id(0, &id::VPC)?;
    let table = call.id(1, &id::ROUTE_TABLE)?;
    Ok(Plan::query(Query::RouteTable { vpc, table }, Shape::Whole))
}

impl Render {
    pub(crate) fn vpc_view(&self, vpc: &VpcView) -> Value {
        let mut map = self.head(&id::VPC, vpc.id.bits(), &vpc.common);
        let own_id = id::VPC.text(vpc.id.bits());
        // Our workloads reach the outside only through the VPC's source address, whatever their zone.
        let source = vpc
            .source_nat
            .map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
        let sources: Vec<Value> = vpc
            .zones
            .iter()
            .map(|zone| json!({ "ip": { "address": source }, "zone": self.zone(zone) }))
            .collect();
        let rest = json!({
            "classic_access": vpc.classic_access,
            "crn": self.crn(self.region(), &id::VPC, &own_id),
            "cse_source_ips": sources,
            "default_network_acl": self.network_acl(&vpc.default_acl),
            "default_routing_table": self.route_table(vpc.id, &vpc.default_route_table),
            "default_security_group": self.security_group(&vpc.default_security_group),
            "dns": {
                "enable_hub": false,
                "resolution_binding_count": 0,
                "resolver": { "type": "system", "configuration": "default", "servers": [] },
            },
            "health_reasons": [],
            "health_state": "ok",
            "public_address_ranges": [],
            "resource_type": "vpc",
            "status": "available",
        });
        merge(&mut map, rest);
        Value::Object(map)
    }
}

/// Adds the properties of `rest` to `map`.
pub(crate) fn merge(map: &mut serde_json::Map<String, Value>, rest: Value) {
    if let Value::Object(rest) = rest {
        map.extend(rest);
    }
}
