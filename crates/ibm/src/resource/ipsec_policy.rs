//! IPsec policies.

use http::StatusCode;
use isthmus_ops::{CreateIpsecPolicy, IpsecPolicyView, Operation, PolicyGroup, Query, UpdateIpsecPolicy};
use isthmus_types::{Encryption, Integrity};
use serde_json::{Value, json};

use crate::body::Fields;
use crate::call::{Call, Plan};
use crate::fault::Fault;
use crate::id;
use crate::render::{Render, Shape};
use crate::resource::policy::{
    CBC, GCM, GROUPS, HASHES, LIFETIME, both_forms, encryption_word, one_or_many, refuse_legacy,
};
use crate::resource::vpc::merge;
use crate::scalar;

const DEFAULT_LIFETIME: u32 = 3600;
const DISABLED: &str = "disabled";

pub(crate) fn list(call: &Call<'_>) -> Result<Plan, Fault> {
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(
        Query::IpsecPolicies {
            resource_group: call.group_filter(),
            page,
        },
        shape,
    ))
}

pub(crate) fn create(call: &Call<'_>) -> Result<Plan, Fault> {
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let integrity = fields.required("authentication_algorithm", integrity(&fields)?)?;
    let encryption = fields.required("encryption_algorithm", encryption(&fields)?)?;
    let pfs = fields.required("pfs", pfs(&fields)?)?;
    refuse_legacy(call, &encryption, &integrity, &pfs)?;
    check_authentication(&fields, &encryption, &integrity)?;
    let operation = Operation::CreateIpsecPolicy(CreateIpsecPolicy {
        name: call.name(&fields)?,
        encryption,
        integrity,
        pfs,
        key_lifetime: fields
            .integer("key_lifetime", LIFETIME)?
            .unwrap_or(DEFAULT_LIFETIME),
        resource_group: scalar::resource_group(call, &fields)?,
    });
    Ok(Plan::operation(operation, StatusCode::CREATED))
}

pub(crate) fn read(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::IpsecPolicy(call.id(0, &id::IPSEC_POLICY)?),
        Shape::Whole,
    ))
}

pub(crate) fn update(call: &Call<'_>) -> Result<Plan, Fault> {
    let policy = call.id(0, &id::IPSEC_POLICY)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let integrity = integrity(&fields)?;
    let encryption = encryption(&fields)?;
    let pfs = pfs(&fields)?;
    refuse_legacy(
        call,
        encryption.as_deref().unwrap_or_default(),
        integrity.as_deref().unwrap_or_default(),
        pfs.as_deref().unwrap_or_default(),
    )?;
    if let (Some(encryption), Some(integrity)) = (&encryption, &integrity) {
        check_authentication(&fields, encryption, integrity)?;
    }
    let operation = Operation::UpdateIpsecPolicy(UpdateIpsecPolicy {
        policy,
        name: call.name(&fields)?,
        encryption,
        integrity,
        pfs,
        key_lifetime: fields.integer("key_lifetime", LIFETIME)?,
    });
    Ok(Plan::operation(operation, StatusCode::OK))
}

pub(crate) fn delete(call: &Call<'_>) -> Result<Plan, Fault> {
    let policy = call.id(0, &id::IPSEC_POLICY)?;
    Ok(Plan::silent(
        Operation::DeleteIpsecPolicy { policy },
        StatusCode::NO_CONTENT,
    ))
}

pub(crate) fn connections(call: &Call<'_>) -> Result<Plan, Fault> {
    let policy = call.id(0, &id::IPSEC_POLICY)?;
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(Query::IpsecPolicyConnections { policy, page }, shape))
}

fn encryption(fields: &Fields<'_>) -> Result<Option<Vec<Encryption>>, Fault> {
    let words: Vec<(&str, Encryption)> = CBC.iter().chain(&GCM).copied().collect();
    one_or_many(fields, "encryption_algorithm", "encryption_algorithms", &words)
}

fn integrity(fields: &Fields<'_>) -> Result<Option<Vec<Integrity>>, Fault> {
    let mut words: Vec<(&str, Option<Integrity>)> =
        HASHES.iter().map(|(word, value)| (*word, Some(*value))).collect();
    words.push((DISABLED, None));
    let given = one_or_many(
        fields,
        "authentication_algorithm",
        "authentication_algorithms",
        &words,
    )?;
    without_disabled(fields, "authentication_algorithms", given)
}

fn pfs(fields: &Fields<'_>) -> Result<Option<Vec<PolicyGroup>>, Fault> {
    let names: Vec<(String, u16)> = GROUPS
        .iter()
        .map(|group| (format!("group_{group}"), *group))
        .collect();
    let mut words: Vec<(&str, Option<PolicyGroup>)> = names
        .iter()
        .map(|(name, group)| (name.as_str(), Some(PolicyGroup(*group))))
        .collect();
    words.push((DISABLED, None));
    let given = one_or_many(fields, "pfs", "pfs_groups", &words)?;
    without_disabled(fields, "pfs_groups", given)
}

// "disabled" stands alone and means the empty list.
fn without_disabled<T>(
    fields: &Fields<'_>,
    many: &str,
    given: Option<Vec<Option<T>>>,
) -> Result<Option<Vec<T>>, Fault> {
    let Some(given) = given else {
        return Ok(None);
    };
    let length = given.len();
    let values: Vec<T> = given.into_iter().flatten().collect();
    if values.len() != length && !values.is_empty() {
        return Err(fields.bad_field(many, "cannot name disabled beside other values"));
    }
    Ok(Some(values))
}

fn check_authentication(
    fields: &Fields<'_>,
    encryption: &[Encryption],
    integrity: &[Integrity],
) -> Result<(), Fault> {
    let all_authenticate = encryption.iter().all(|cipher| cipher.is_aead());
    let why = match (all_authenticate, integrity.is_empty()) {
        (true, false) => "must be disabled: the encryption algorithms bring their own authentication",
        (false, true) => "cannot be disabled: an encryption algorithm brings no authentication of its own",
        (true, true) | (false, false) => return Ok(()),
    };
    let property = if fields.has("authentication_algorithms") {
        "authentication_algorithms"
    } else {
        "authentication_algorithm"
    };
    Err(fields.bad_field(property, why))
}

impl Render {
    pub(crate) fn ipsec_policy_view(&self, policy: &IpsecPolicyView) -> Value {
        let mut hashes: Vec<&str> = policy
            .integrity
            .iter()
            .map(|algorithm| algorithm.word())
            .collect();
        if hashes.is_empty() {
            hashes.push(DISABLED);
        }
        let names: Vec<String> = policy
            .pfs
            .iter()
            .map(|group| format!("group_{}", group.0))
            .collect();
        let mut groups: Vec<&str> = names.iter().map(String::as_str).collect();
        if groups.is_empty() {
            groups.push(DISABLED);
        }
        let (integrity, integrities) = both_forms(hashes);
        let (pfs, pfs_groups) = both_forms(groups);
        let (encryption, encryptions) = both_forms(
            policy
                .encryption
                .iter()
                .map(|algorithm| encryption_word(*algorithm))
                .collect(),
        );
        let mut map = self.head(&id::IPSEC_POLICY, policy.id.bits(), &policy.common);
        let rest = json!({
            "authentication_algorithm": integrity,
            "authentication_algorithms": integrities,
            "connections": self.users_of_policy(&policy.connections),
            "encapsulation_mode": "tunnel",
            "encryption_algorithm": encryption,
            "encryption_algorithms": encryptions,
            "key_lifetime": policy.key_lifetime,
            "pfs": pfs,
            "pfs_groups": pfs_groups,
            "resource_type": "ipsec_policy",
            "transform_protocol": "esp",
        });
        merge(&mut map, rest);
        Value::Object(map)
    }
}
