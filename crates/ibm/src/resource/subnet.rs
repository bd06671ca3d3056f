//! Subnets and the addresses reserved in them.

use std::num::NonZeroU32;

use http::StatusCode;
use isthmus_ops::{
    AddressHolder, CreateSubnet, Operation, Page, Query, ReservedIpView, SubnetFilter, SubnetRange,
    SubnetView,
};
use isthmus_types::ZoneName;
use serde_json::{Value, json};

use crate::body::Fields;
use crate::call::{Call, Plan};
use crate::fault::{Fault, Target};
use crate::id;
use crate::render::{Render, Shape};
use crate::resource::vpc::merge;
use crate::scalar;

const NOT_CHOSEN: &str = "cannot be chosen yet: a subnet has the VPC's defaults";

pub(crate) fn list(call: &Call<'_>) -> Result<Plan, Fault> {
    let zone = call
        .parameter("zone.name")
        .map(|text| {
            ZoneName::new(text).map_err(|_| {
                Fault::bad("invalid_zone", "zone.name names no zone")
                    .at(Target::parameter("zone.name").with_value(text))
            })
        })
        .transpose()?;
    let filter = SubnetFilter {
        vpc: call.id_filter("vpc.id", "vpc.crn", &id::VPC)?,
        vpc_name: call.name_filter("vpc.name")?,
        zone,
        resource_group: call.group_filter(),
        route_table: call.id_filter("routing_table.id", "routing_table.crn", &id::ROUTE_TABLE)?,
        route_table_name: call.name_filter("routing_table.name")?,
    };
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(Query::Subnets { filter, page }, shape))
}

pub(crate) fn create(call: &Call<'_>) -> Result<Plan, Fault> {
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let vpc = fields.required("vpc", call.identity(&fields, "vpc", &id::VPC)?)?;
    fields.choice("ip_version", &[("ipv4", ()), ("both", ())])?;
    fields.refuse(&["network_acl", "public_gateway", "routing_table"], NOT_CHOSEN)?;
    let zone = scalar::zone(&fields, "zone")?;
    let cidr = fields.text("ipv4_cidr_block")?;
    let count = fields.integer("total_ipv4_address_count", 8..=16_777_216)?;
    let range = match (cidr, count) {
        (Some(_), Some(_)) => {
            return Err(Fault::bad(
                "validation_only_one",
                "give ipv4_cidr_block or total_ipv4_address_count, not both",
            )
            .at(Target::field("total_ipv4_address_count")));
        }
        (None, None) => return Err(fields.missing("ipv4_cidr_block")),
        (Some(text), None) => {
            SubnetRange::Cidr(scalar::cidr(text, "ipv4_cidr_block", "validation_invalid_cidr")?)
        }
        (None, Some(count)) if !count.is_power_of_two() => {
            return Err(fields.bad_field("total_ipv4_address_count", "must be a power of two"));
        }
        (None, Some(count)) => {
            fields.required("zone", zone.as_ref())?;
            SubnetRange::Count(count)
        }
    };
    let operation = Operation::CreateSubnet(CreateSubnet {
        vpc,
        range,
        zone,
        name: call.name(&fields)?,
        resource_group: scalar::resource_group(call, &fields)?,
    });
    Ok(Plan::operation(operation, StatusCode::CREATED))
}

pub(crate) fn read(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(Query::Subnet(call.id(0, &id::SUBNET)?), Shape::Whole))
}

pub(crate) fn update(call: &Call<'_>) -> Result<Plan, Fault> {
    let subnet = call.id(0, &id::SUBNET)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    fields.refuse(&["network_acl", "public_gateway", "routing_table"], NOT_CHOSEN)?;
    let operation = Operation::UpdateSubnet {
        subnet,
        name: call.name(&fields)?,
    };
    Ok(Plan::operation(operation, StatusCode::OK))
}

pub(crate) fn delete(call: &Call<'_>) -> Result<Plan, Fault> {
    let subnet = call.id(0, &id::SUBNET)?;
    Ok(Plan::silent(
        Operation::DeleteSubnet { subnet },
        StatusCode::NO_CONTENT,
    ))
}

pub(crate) fn list_reserved_ips(call: &Call<'_>) -> Result<Plan, Fault> {
    let subnet = call.id(0, &id::SUBNET)?;
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(Query::ReservedIps { subnet, page }, shape))
}

pub(crate) fn read_reserved_ip(call: &Call<'_>) -> Result<Plan, Fault> {
    let subnet = call.id(0, &id::SUBNET)?;
    let wanted = call.id(1, &id::RESERVED_IP)?;
    let page = Page {
        limit: NonZeroU32::MAX,
        start: None,
    };
    Ok(Plan::query(
        Query::ReservedIps { subnet, page },
        Shape::ReservedIp(wanted),
    ))
}

impl Render {
    pub(crate) fn subnet_view(&self, subnet: &SubnetView) -> Value {
        let mut map = self.head(&id::SUBNET, subnet.id.bits(), &subnet.common);
        let own_id = id::SUBNET.text(subnet.id.bits());
        let rest = json!({
            "available_ipv4_address_count": subnet.available_addresses,
            "crn": self.crn(subnet.zone.as_str(), &id::SUBNET, &own_id),
            "ip_version": "ipv4",
            "ipv4_cidr_block": subnet.cidr.to_string(),
            "network_acl": self.network_acl(&subnet.acl),
            "resource_type": "subnet",
            "routing_table": self.route_table(subnet.vpc.id, &subnet.route_table),
            "status": "available",
            "total_ipv4_address_count": subnet.total_addresses,
            "vpc": self.vpc(&subnet.vpc),
            "zone": self.zone(&subnet.zone),
        });
        merge(&mut map, rest);
        Value::Object(map)
    }

    pub(crate) fn reserved_ip_view(&self, ip: &ReservedIpView) -> Value {
        let own_id = id::RESERVED_IP.text(ip.id.bits());
        let subnet = id::SUBNET.text(ip.subnet.bits());
        let mut value = json!({
            "address": ip.address.to_string(),
            "auto_delete": true,
            "created_at": ip.created_at.to_string(),
            "href": self.href(&format!("subnets/{subnet}/reserved_ips/{own_id}")),
            "id": own_id,
            "lifecycle_state": "stable",
            "name": ip.name.as_str(),
            "owner": "user",
            "resource_type": "subnet_reserved_ip",
        });
        match &ip.holder {
            AddressHolder::Interface(held) => value["target"] = self.network_interface(held),
            AddressHolder::Provider => value["owner"] = "provider".into(),
            AddressHolder::VpnGateway(gateway) => {
                value["owner"] = "provider".into();
                value["target"] = self.reference(
                    &id::VPN_GATEWAY,
                    gateway.id.bits(),
                    gateway.name.as_str(),
                    Some(self.region()),
                    Some("vpn_gateway"),
                );
            }
        }
        value
    }
}
