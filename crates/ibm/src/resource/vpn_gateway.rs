//! VPN gateways and their members.

use http::StatusCode;
use isthmus_ops::{
    CreateVpnGateway, GatewayMemberView, GatewaySort, Lifecycle, Operation, Query, VpnGatewayFilter,
    VpnGatewayView,
};
use serde_json::{Value, json};

use crate::Ask;
use crate::body::Fields;
use crate::call::{Call, Plan};
use crate::date::ApiDate;
use crate::fault::{Fault, Target};
use crate::id;
use crate::render::{Render, Shape};
use crate::resource::vpc::merge;
use crate::scalar;

/// Private addresses that a gateway takes in its subnet: two for its members, six spare.
const RESERVED_ADDRESSES: u8 = 8;

/// What a standby member shows as its public address.
const NO_ADDRESS: &str = "0.0.0.0";

pub(crate) fn list(call: &Call<'_>) -> Result<Plan, Fault> {
    let sort = match call.parameter("sort") {
        None | Some("-created_at") => GatewaySort::CreatedDescending,
        Some("created_at") => GatewaySort::CreatedAscending,
        Some("name") => GatewaySort::NameAscending,
        Some("-name") => GatewaySort::NameDescending,
        Some(other) => {
            return Err(Fault::bad(
                "validation_enum",
                "sort must be one of created_at, -created_at, name, -name",
            )
            .at(Target::parameter("sort").with_value(other)));
        }
    };
    let page = call.page()?;
    match call.parameter("mode") {
        None | Some("policy") => {}
        Some("route") => {
            // No gateway has this mode.
            let render = call.render();
            let answer = render.answer(&render.slice("vpn_gateways", Vec::new(), page.limit.get(), 0));
            return Ok(Plan {
                ask: Ask::Answer(Box::new(answer)),
                success: StatusCode::OK,
                shape: Shape::Whole,
            });
        }
        Some(other) => {
            return Err(Fault::bad("validation_enum", "mode must be policy or route")
                .at(Target::parameter("mode").with_value(other)));
        }
    }
    let filter = VpnGatewayFilter {
        resource_group: call.group_filter(),
    };
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(Query::VpnGateways { filter, sort, page }, shape))
}

pub(crate) fn create(call: &Call<'_>) -> Result<Plan, Fault> {
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    if call.date < ApiDate::GATEWAY_MODE {
        fields.refuse(&["mode"], "does not exist at this version")?;
    } else {
        let policy = fields.choice("mode", &[("policy", true), ("route", false)])?;
        if policy != Some(true) {
            return Err(fields
                .bad_field(
                    "mode",
                    "must be policy: route mode, which is the default, is not offered yet",
                )
                .at(Target::field("mode").with_value(if policy.is_none() { "" } else { "route" })));
        }
    }
    fields.choice("availability_mode", &[("zonal", ())])?;
    fields.refuse(&["local_asn", "advertised_cidrs"], "belongs to route mode")?;
    let Some(subnet) = call.identity(&fields, "subnet", &id::SUBNET)? else {
        return Err(
            Fault::bad("vpn_gateway_missing_subnet_id", "subnet is missing").at(Target::field("subnet"))
        );
    };
    let operation = Operation::CreateVpnGateway(CreateVpnGateway {
        subnet,
        name: call.name(&fields)?,
        resource_group: scalar::resource_group(call, &fields)?,
        reserved_addresses: RESERVED_ADDRESSES,
    });
    Ok(Plan::operation(operation, StatusCode::CREATED))
}

pub(crate) fn read(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::VpnGateway(call.id(0, &id::VPN_GATEWAY)?),
        Shape::Whole,
    ))
}

pub(crate) fn update(call: &Call<'_>) -> Result<Plan, Fault> {
    let gateway = call.id(0, &id::VPN_GATEWAY)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    fields.refuse(&["local_asn", "advertised_cidrs"], "belongs to route mode")?;
    let operation = Operation::UpdateVpnGateway {
        gateway,
        name: call.name(&fields)?,
    };
    Ok(Plan::operation(operation, StatusCode::OK))
}

pub(crate) fn delete(call: &Call<'_>) -> Result<Plan, Fault> {
    let gateway = call.id(0, &id::VPN_GATEWAY)?;
    Ok(Plan::silent(
        Operation::DeleteVpnGateway { gateway },
        StatusCode::ACCEPTED,
    ))
}

pub(crate) fn members(call: &Call<'_>) -> Result<Plan, Fault> {
    let gateway = call.id(0, &id::VPN_GATEWAY)?;
    let (limit, start) = call.slice()?;
    Ok(Plan::query(
        Query::VpnGateway(gateway),
        Shape::Members { limit, start },
    ))
}

pub(crate) fn member(call: &Call<'_>) -> Result<Plan, Fault> {
    let gateway = call.id(0, &id::VPN_GATEWAY)?;
    let member = call.id(1, &id::GATEWAY_MEMBER)?;
    Ok(Plan::query(Query::VpnGateway(gateway), Shape::Member(member)))
}

/// The words for a phase of a gateway's life.
struct Phase {
    status: &'static str,
    lifecycle: &'static str,
    health: &'static str,
    health_reasons: Value,
}

impl Phase {
    fn of(lifecycle: &Lifecycle) -> Self {
        let (status, lifecycle, health, health_reasons) = match lifecycle {
            Lifecycle::Deleting => ("deleting", "deleting", "inapplicable", json!([])),
            Lifecycle::Failed { reason } => (
                "failed",
                "stable",
                "faulted",
                json!([{ "code": "internal_error", "message": reason }]),
            ),
            Lifecycle::Pending => ("pending", "pending", "inapplicable", json!([])),
            Lifecycle::Ready => ("available", "stable", "ok", json!([])),
        };
        Self {
            status,
            lifecycle,
            health,
            health_reasons,
        }
    }
}

impl Render {
    pub(crate) fn vpn_gateway_view(&self, gateway: &VpnGatewayView) -> Value {
        let mut map = self.head(&id::VPN_GATEWAY, gateway.id.bits(), &gateway.common);
        let own_id = id::VPN_GATEWAY.text(gateway.id.bits());
        let phase = Phase::of(&gateway.lifecycle);
        let members: Vec<Value> = gateway
            .members
            .iter()
            .map(|member| self.member_view(gateway, member))
            .collect();
        let connections: Vec<Value> = gateway
            .connections
            .iter()
            .map(|connection| self.connection(gateway.id, connection))
            .collect();
        let rest = json!({
            "availability_mode": "zonal",
            "connections": connections,
            "crn": self.crn(self.region(), &id::VPN_GATEWAY, &own_id),
            "health_reasons": phase.health_reasons,
            "health_state": phase.health,
            "lifecycle_reasons": [],
            "lifecycle_state": phase.lifecycle,
            "members": members,
            "mode": "policy",
            "public_ip": { "address": gateway.public_address.to_string() },
            "resource_type": "vpn_gateway",
            "subnet": self.subnet(&gateway.subnet, &gateway.zone),
            "vpc": self.vpc(&gateway.vpc),
        });
        if self.date < ApiDate::NO_GATEWAY_STATUS {
            map.insert("status".into(), phase.status.into());
        }
        merge(&mut map, rest);
        Value::Object(map)
    }

    pub(crate) fn member_view(&self, gateway: &VpnGatewayView, member: &GatewayMemberView) -> Value {
        let own_id = id::GATEWAY_MEMBER.text(member.id.bits());
        let gateway_id = id::VPN_GATEWAY.text(gateway.id.bits());
        let phase = Phase::of(&gateway.lifecycle);
        let (role, public) = if member.active {
            ("active", gateway.public_address.to_string())
        } else {
            ("standby", NO_ADDRESS.to_owned())
        };
        let mut private_ip = self.reserved_ip(gateway.subnet.id, &member.reserved_ip, member.private_address);
        private_ip["subnet"] = self.subnet(&gateway.subnet, &gateway.zone);
        let mut value = json!({
            "health_reasons": phase.health_reasons,
            "health_state": phase.health,
            "href": self.href(&format!("vpn_gateways/{gateway_id}/members/{own_id}")),
            "id": own_id,
            "lifecycle_reasons": [],
            "lifecycle_state": phase.lifecycle,
            "private_ip": private_ip,
            "public_ip": { "address": public },
            "role": role,
        });
        if self.date < ApiDate::NO_GATEWAY_STATUS {
            value["status"] = phase.status.into();
        }
        value
    }
}
