//! IKE and IPsec policies.

use isthmus_ops::{
    CreateIkePolicy, CreateIpsecPolicy, OpError, OpErrorCode, Outcome, PolicyGroup, ResourceKind,
    UpdateIkePolicy, UpdateIpsecPolicy,
};
use isthmus_types::{Encryption, IkePolicyId, IkeVersion, Integrity, IpsecPolicyId};

use super::{Draft, within};
use crate::record::{IkePolicy, IpsecPolicy, RecordKey, VpnConnection};
use crate::refusal::{invalid_field, missing_field, over_quota};
use crate::snapshot::NameScope;
use crate::view::{ike_policy_view, ipsec_policy_view};

const IKE: ResourceKind = ResourceKind::IkePolicy;
const IPSEC: ResourceKind = ResourceKind::IpsecPolicy;

impl Draft<'_> {
    pub(super) fn create_ike_policy(&mut self, new: &CreateIkePolicy) -> Result<Outcome, OpError> {
        let count = self.state.ike_policy_count_of(self.account) + 1;
        within(self.state.settings().quotas.ike_policies, count, |limit| {
            over_quota(IKE, "IKE policies", limit)
        })?;
        let name = self.name(NameScope::IkePolicies(self.account), new.name.as_ref(), IKE)?;
        let policy = IkePolicy {
            id: self.fresh(),
            meta: self.meta(name, new.resource_group.as_ref()),
            version: new.version,
            encryption: new.encryption.clone(),
            integrity: new.integrity.clone(),
            dh: new.dh.clone(),
            key_lifetime: new.key_lifetime,
        };
        check_ike(&policy)?;
        self.put(policy.clone());
        Ok(Outcome::IkePolicy(ike_policy_view(&self.state, &policy)))
    }

    pub(super) fn update_ike_policy(&mut self, update: &UpdateIkePolicy) -> Result<Outcome, OpError> {
        let before = self.access().ike_policy(update.policy)?.clone();
        let mut after = before.clone();
        let scope = NameScope::IkePolicies(self.account);
        self.rename(&mut after.meta, scope, update.name.as_ref(), IKE)?;
        after.version = update.version.unwrap_or(after.version);
        after.encryption = update.encryption.clone().unwrap_or(after.encryption);
        after.integrity = update.integrity.clone().unwrap_or(after.integrity);
        after.dh = update.dh.clone().unwrap_or(after.dh);
        after.key_lifetime = update.key_lifetime.unwrap_or(after.key_lifetime);
        check_ike(&after)?;
        if after.version == IkeVersion::V1
            && let Some(user) = self.state.connections_with_ike_policy(after.id).find(|user| {
                let policy = user.ipsec_policy.and_then(|id| self.state.ipsec_policy(id));
                !policy.is_some_and(IpsecPolicy::is_single_valued)
            })
        {
            let why = format!(
                "connection {} has no IPsec policy with one value per list",
                user.meta.name
            );
            return Err(invalid_field(IKE, "version", 1, &why));
        }
        if after != before {
            after.meta.version += 1;
            self.put(after.clone());
        }
        Ok(Outcome::IkePolicy(ike_policy_view(&self.state, &after)))
    }

    pub(super) fn delete_ike_policy(&mut self, id: IkePolicyId) -> Result<Outcome, OpError> {
        self.access().ike_policy(id)?;
        unused(IKE, self.state.connections_with_ike_policy(id).next())?;
        self.delete(RecordKey::IkePolicy(id));
        Ok(Outcome::Done)
    }

    pub(super) fn create_ipsec_policy(&mut self, new: &CreateIpsecPolicy) -> Result<Outcome, OpError> {
        let count = self.state.ipsec_policy_count_of(self.account) + 1;
        within(self.state.settings().quotas.ipsec_policies, count, |limit| {
            over_quota(IPSEC, "IPsec policies", limit)
        })?;
        let name = self.name(NameScope::IpsecPolicies(self.account), new.name.as_ref(), IPSEC)?;
        let policy = IpsecPolicy {
            id: self.fresh(),
            meta: self.meta(name, new.resource_group.as_ref()),
            encryption: new.encryption.clone(),
            integrity: new.integrity.clone(),
            pfs: new.pfs.clone(),
            key_lifetime: new.key_lifetime,
        };
        check_ipsec(&policy)?;
        self.put(policy.clone());
        Ok(Outcome::IpsecPolicy(ipsec_policy_view(&self.state, &policy)))
    }

    pub(super) fn update_ipsec_policy(&mut self, update: &UpdateIpsecPolicy) -> Result<Outcome, OpError> {
        let before = self.access().ipsec_policy(update.policy)?.clone();
        let mut after = before.clone();
        let scope = NameScope::IpsecPolicies(self.account);
        self.rename(&mut after.meta, scope, update.name.as_ref(), IPSEC)?;
        after.encryption = update.encryption.clone().unwrap_or(after.encryption);
        after.integrity = update.integrity.clone().unwrap_or(after.integrity);
        after.pfs = update.pfs.clone().unwrap_or(after.pfs);
        after.key_lifetime = update.key_lifetime.unwrap_or(after.key_lifetime);
        check_ipsec(&after)?;
        if !after.is_single_valued()
            && let Some(user) = self.state.connections_with_ipsec_policy(after.id).find(|user| {
                let policy = user.ike_policy.and_then(|id| self.state.ike_policy(id));
                policy.is_some_and(|policy| policy.version == IkeVersion::V1)
            })
        {
            let why = format!(
                "connection {} uses IKEv1, which takes one value per list",
                user.meta.name
            );
            let field = if after.encryption.len() > 1 {
                "encryption"
            } else if after.integrity.len() > 1 {
                "integrity"
            } else {
                "pfs"
            };
            return Err(invalid_field(IPSEC, field, "of several values", &why));
        }
        if after != before {
            after.meta.version += 1;
            self.put(after.clone());
        }
        Ok(Outcome::IpsecPolicy(ipsec_policy_view(&self.state, &after)))
    }

    pub(super) fn delete_ipsec_policy(&mut self, id: IpsecPolicyId) -> Result<Outcome, OpError> {
        self.access().ipsec_policy(id)?;
        unused(IPSEC, self.state.connections_with_ipsec_policy(id).next())?;
        self.delete(RecordKey::IpsecPolicy(id));
        Ok(Outcome::Done)
    }
}

impl IpsecPolicy {
    /// Whether no list offers a choice, as IKEv1 needs it.
    pub const fn is_single_valued(&self) -> bool {
        self.encryption.len() == 1 && self.integrity.len() <= 1 && self.pfs.len() <= 1
    }
}

fn unused(resource: ResourceKind, user: Option<&VpnConnection>) -> Result<(), OpError> {
    match user {
        None => Ok(()),
        Some(connection) => Err(OpError::new(
            OpErrorCode::InUse,
            resource,
            format!(
                "the {} is used by connection {}",
                resource.words(),
                connection.meta.name
            ),
        )),
    }
}

fn check_ike(policy: &IkePolicy) -> Result<(), OpError> {
    distinct(IKE, "encryption", &policy.encryption, |value| {
        value.word().to_owned()
    })?;
    distinct(IKE, "integrity", &policy.integrity, |value| {
        value.word().to_owned()
    })?;
    check_groups(IKE, "dh", &policy.dh)?;
    check_lifetime(IKE, policy.key_lifetime)?;
    for (field, count) in [
        ("encryption", policy.encryption.len()),
        ("integrity", policy.integrity.len()),
        ("dh", policy.dh.len()),
    ] {
        if count == 0 {
            return Err(missing_field(IKE, field, "at least one value is needed"));
        }
        if policy.version == IkeVersion::V1 && count > 1 {
            return Err(invalid_field(
                IKE,
                field,
                "of several values",
                "IKEv1 takes one value per list",
            ));
        }
    }
    match policy.encryption.iter().find(|cipher| cipher.is_aead()) {
        Some(cipher) if policy.version == IkeVersion::V1 => Err(invalid_field(
            IKE,
            "encryption",
            cipher,
            "IKEv1 has no authenticated encryption",
        )),
        Some(_) | None => Ok(()),
    }
}

fn check_ipsec(policy: &IpsecPolicy) -> Result<(), OpError> {
    distinct(IPSEC, "encryption", &policy.encryption, |value| {
        value.word().to_owned()
    })?;
    distinct(IPSEC, "integrity", &policy.integrity, |value| {
        value.word().to_owned()
    })?;
    check_groups(IPSEC, "pfs", &policy.pfs)?;
    check_lifetime(IPSEC, policy.key_lifetime)?;
    if policy.encryption.is_empty() {
        return Err(missing_field(IPSEC, "encryption", "at least one value is needed"));
    }
    let all_aead = policy.encryption.iter().copied().all(Encryption::is_aead);
    let first: Option<&Integrity> = policy.integrity.first();
    match first {
        None if !all_aead => Err(missing_field(
            IPSEC,
            "integrity",
            "it may be disabled only if every cipher brings its own",
        )),
        Some(hash) if all_aead => Err(invalid_field(
            IPSEC,
            "integrity",
            hash,
            "it must be disabled if every cipher brings its own",
        )),
        None | Some(_) => Ok(()),
    }
}

fn distinct<T: PartialEq>(
    resource: ResourceKind,
    field: &str,
    list: &[T],
    word: impl Fn(&T) -> String,
) -> Result<(), OpError> {
    for (position, value) in list.iter().enumerate() {
        if list[..position].contains(value) {
            let field = format!("{field}[{position}]");
            return Err(invalid_field(resource, &field, word(value), "it is listed twice"));
        }
    }
    Ok(())
}

fn check_groups(resource: ResourceKind, field: &str, groups: &[PolicyGroup]) -> Result<(), OpError> {
    for (position, group) in groups.iter().enumerate() {
        if !matches!(group.0, 2 | 5 | 14..=24 | 31) {
            let field = format!("{field}[{position}]");
            return Err(invalid_field(
                resource,
                &field,
                group.0,
                "it is not a known group",
            ));
        }
    }
    distinct(resource, field, groups, |group| group.0.to_string())
}

fn check_lifetime(resource: ResourceKind, seconds: u32) -> Result<(), OpError> {
    if (1800..=86_400).contains(&seconds) {
        return Ok(());
    }
    let why = "it must be from 1800 to 86400 seconds";
    Err(invalid_field(resource, "key_lifetime", seconds, why))
}
