//! Address prefixes of VPCs.

use http::StatusCode;
use isthmus_ops::{AddressPrefixView, CreateAddressPrefix, Operation, Query, UpdateAddressPrefix};
use serde_json::{Value, json};

use crate::body::Fields;
use crate::call::{Call, Plan};
use crate::fault::Fault;
use crate::id;
use crate::render::{Render, Shape};
use crate::scalar;

pub(crate) fn list(call: &Call<'_>) -> Result<Plan, Fault> {
    let vpc = call.id(0, &id::VPC)?;
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(Query::AddressPrefixes { vpc, page }, shape))
}

pub(crate) fn create(call: &Call<'_>) -> Result<Plan, Fault> {
    let vpc = call.id(0, &id::VPC)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let cidr = fields.required("cidr", fields.text("cidr")?)?;
    let zone = fields.required("zone", scalar::zone(&fields, "zone")?)?;
    let operation = Operation::CreateAddressPrefix(CreateAddressPrefix {
        vpc,
        cidr: scalar::cidr(cidr, "cidr", "validation_invalid_cidr")?,
        zone,
        name: call.name(&fields)?,
        is_default: fields.flag("is_default")?.unwrap_or(false),
    });
    Ok(Plan::operation(operation, StatusCode::CREATED))
}

pub(crate) fn read(call: &Call<'_>) -> Result<Plan, Fault> {
    let vpc = call.id(0, &id::VPC)?;
    let prefix = call.id(1, &id::ADDRESS_PREFIX)?;
    Ok(Plan::query(Query::AddressPrefix { vpc, prefix }, Shape::Whole))
}

pub(crate) fn update(call: &Call<'_>) -> Result<Plan, Fault> {
    let vpc = call.id(0, &id::VPC)?;
    let prefix = call.id(1, &id::ADDRESS_PREFIX)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let operation = Operation::UpdateAddressPrefix(UpdateAddressPrefix {
        vpc,
        prefix,
        name: call.name(&fields)?,
        is_default: fields.flag("is_default")?,
    });
    Ok(Plan::operation(operation, StatusCode::OK))
}

pub(crate) fn delete(call: &Call<'_>) -> Result<Plan, Fault> {
    let vpc = call.id(0, &id::VPC)?;
    let prefix = call.id(1, &id::ADDRESS_PREFIX)?;
    Ok(Plan::silent(
        Operation::DeleteAddressPrefix { vpc, prefix },
        StatusCode::NO_CONTENT,
    ))
}

impl Render {
    pub(crate) fn address_prefix_view(&self, prefix: &AddressPrefixView) -> Value {
        let own_id = id::ADDRESS_PREFIX.text(prefix.id.bits());
        let vpc = id::VPC.text(prefix.vpc.bits());
        json!({
            "cidr": prefix.cidr.to_string(),
            "created_at": prefix.common.created_at.to_string(),
            "has_subnets": prefix.has_subnets,
            "href": self.href(&format!("vpcs/{vpc}/address_prefixes/{own_id}")),
            "id": own_id,
            "is_default": prefix.is_default,
            "name": prefix.common.name.as_str(),
            "zone": self.zone(&prefix.zone),
        })
    }
}
