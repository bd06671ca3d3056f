//! IKE policies.

use http::StatusCode;
use isthmus_ops::{CreateIkePolicy, IkePolicyView, Operation, Query, UpdateIkePolicy};
use isthmus_types::IkeVersion;
use serde_json::{Value, json};

use crate::body::Fields;
use crate::call::{Call, Plan};
use crate::fault::{Fault, Target};
use crate::id;
use crate::render::{Render, Shape};
use crate::resource::policy::{
    CBC, HASHES, LIFETIME, both_forms, encryption_word, one_or_many, one_or_many_groups, refuse_legacy,
};
use crate::resource::vpc::merge;
use crate::scalar;

const DEFAULT_LIFETIME: u32 = 28_800;

pub(crate) fn list(call: &Call<'_>) -> Result<Plan, Fault> {
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(
        Query::IkePolicies {
            resource_group: call.group_filter(),
            page,
        },
        shape,
    ))
}

pub(crate) fn create(call: &Call<'_>) -> Result<Plan, Fault> {
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let version = fields.required("ike_version", ike_version(&fields)?)?;
    let integrity = one_or_many(
        &fields,
        "authentication_algorithm",
        "authentication_algorithms",
        &HASHES,
    )?;
    let encryption = one_or_many(&fields, "encryption_algorithm", "encryption_algorithms", &CBC)?;
    let dh = one_or_many_groups(&fields, "dh_group", "dh_groups")?;
    let integrity = fields.required("authentication_algorithm", integrity)?;
    let encryption = fields.required("encryption_algorithm", encryption)?;
    let dh = fields.required("dh_group", dh)?;
    refuse_legacy(call, &encryption, &integrity, &dh)?;
    if version == IkeVersion::V1 {
        for (property, length) in [
            ("authentication_algorithms", integrity.len()),
            ("encryption_algorithms", encryption.len()),
            ("dh_groups", dh.len()),
        ] {
            if length != 1 {
                return Err(fields.bad_field(property, "must have exactly one value with ike_version 1"));
            }
        }
    }
    let operation = Operation::CreateIkePolicy(CreateIkePolicy {
        name: call.name(&fields)?,
        version,
        encryption,
        integrity,
        dh,
        key_lifetime: fields
            .integer("key_lifetime", LIFETIME)?
            .unwrap_or(DEFAULT_LIFETIME),
        resource_group: scalar::resource_group(call, &fields)?,
    });
    Ok(Plan::operation(operation, StatusCode::CREATED))
}

pub(crate) fn read(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::IkePolicy(call.id(0, &id::IKE_POLICY)?),
        Shape::Whole,
    ))
}

pub(crate) fn update(call: &Call<'_>) -> Result<Plan, Fault> {
    let policy = call.id(0, &id::IKE_POLICY)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let integrity = one_or_many(
        &fields,
        "authentication_algorithm",
        "authentication_algorithms",
        &HASHES,
    )?;
    let encryption = one_or_many(&fields, "encryption_algorithm", "encryption_algorithms", &CBC)?;
    let dh = one_or_many_groups(&fields, "dh_group", "dh_groups")?;
    refuse_legacy(
        call,
        encryption.as_deref().unwrap_or_default(),
        integrity.as_deref().unwrap_or_default(),
        dh.as_deref().unwrap_or_default(),
    )?;
    let operation = Operation::UpdateIkePolicy(UpdateIkePolicy {
        policy,
        name: call.name(&fields)?,
        version: ike_version(&fields)?,
        encryption,
        integrity,
        dh,
        key_lifetime: fields.integer("key_lifetime", LIFETIME)?,
    });
    Ok(Plan::operation(operation, StatusCode::OK))
}

pub(crate) fn delete(call: &Call<'_>) -> Result<Plan, Fault> {
    let policy = call.id(0, &id::IKE_POLICY)?;
    Ok(Plan::silent(
        Operation::DeleteIkePolicy { policy },
        StatusCode::NO_CONTENT,
    ))
}

pub(crate) fn connections(call: &Call<'_>) -> Result<Plan, Fault> {
    let policy = call.id(0, &id::IKE_POLICY)?;
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(Query::IkePolicyConnections { policy, page }, shape))
}

fn ike_version(fields: &Fields<'_>) -> Result<Option<IkeVersion>, Fault> {
    match fields.integer_unbounded("ike_version")? {
        None => Ok(None),
        Some(1) => Ok(Some(IkeVersion::V1)),
        Some(2) => Ok(Some(IkeVersion::V2)),
        Some(other) => Err(Fault::bad("validation_enum", "ike_version must be 1 or 2")
            .at(Target::field("ike_version").with_value(other.to_string()))),
    }
}

impl Render {
    pub(crate) fn ike_policy_view(&self, policy: &IkePolicyView) -> Value {
        let (integrity, integrities) = both_forms(
            policy
                .integrity
                .iter()
                .map(|algorithm| algorithm.word())
                .collect(),
        );
        let (encryption, encryptions) = both_forms(
            policy
                .encryption
                .iter()
                .map(|algorithm| encryption_word(*algorithm))
                .collect(),
        );
        let groups: Vec<u16> = policy.dh.iter().map(|group| group.0).collect();
        let group = match groups.as_slice() {
            [one] => *one,
            _ => u16::MAX,
        };
        let mut map = self.head(&id::IKE_POLICY, policy.id.bits(), &policy.common);
        let rest = json!({
            "authentication_algorithm": integrity,
            "authentication_algorithms": integrities,
            "connections": self.users_of_policy(&policy.connections),
            "dh_group": group,
            "dh_groups": groups,
            "encryption_algorithm": encryption,
            "encryption_algorithms": encryptions,
            "ike_version": match policy.version { IkeVersion::V1 => 1, IkeVersion::V2 => 2 },
            "key_lifetime": policy.key_lifetime,
            "negotiation_mode": "main",
            "resource_type": "ike_policy",
        });
        merge(&mut map, rest);
        Value::Object(map)
    }
}
