//! Carrying out operations.

mod account;
mod connection;
mod connection_rules;
mod gateway;
mod instance;
mod ipv6;
mod options;
mod peer_location;
mod policy;
mod prefix;
mod status;
mod subnet;
mod vpc;

use isthmus_ops::{Caller, IfMatch, OpError, OpErrorCode, Operation, Outcome, Request, ResourceKind, Via};
use isthmus_types::{AccountId, ResourceBits, ResourceName, Timestamp};

use crate::access::Access;
use crate::ids::IdSource;
use crate::names;
use crate::record::{Change, Changes, Meta, Record, RecordKey};
use crate::refusal::duplicate_name;
use crate::snapshot::{NameScope, Snapshot};

/// Carries out `request` on `snapshot`: what changes, and the answer as the changed state gives it.
///
/// Pure: the same arguments give the same result, and `snapshot` stays as it is. No change at all means that the
/// request asked for what already was.
///
/// # Errors
/// [`OpError`] with a stable code. Resources of other accounts are reported exactly as missing ones.
pub fn apply(
    snapshot: &Snapshot,
    request: &Request,
    now: Timestamp,
    ids: &mut dyn IdSource,
) -> Result<(Changes, Outcome), OpError> {
    may(snapshot, &request.caller, &request.operation)?;
    let mut draft = Draft {
        state: snapshot.clone(),
        changes: Changes::default(),
        account: request.caller.account,
        now,
        ids,
    };
    let outcome = draft.carry_out(&request.operation)?;
    Ok((draft.changes, outcome))
}

// Only Isthmus itself makes accounts and reports what hosts have; everything else is done for an account that exists.
fn may(snapshot: &Snapshot, caller: &Caller, operation: &Operation) -> Result<(), OpError> {
    let internal = matches!(
        operation,
        Operation::CreateAccount(_) | Operation::RecordStatus(_) | Operation::FinishDeletion(_)
    );
    let refused = if internal {
        caller.via != Via::System
    } else {
        snapshot.account(caller.account).is_none()
    };
    if refused {
        return Err(OpError::new(
            OpErrorCode::NotPermitted,
            ResourceKind::Account,
            "the caller may not do this",
        )
        .with_private(format!("account {} via {:?}", caller.account, caller.via)));
    }
    Ok(())
}

/// A state being changed, and the changes so far.
struct Draft<'a> {
    state: Snapshot,
    changes: Changes,
    account: AccountId,
    now: Timestamp,
    ids: &'a mut dyn IdSource,
}

impl Draft<'_> {
    fn carry_out(&mut self, operation: &Operation) -> Result<Outcome, OpError> {
        match operation {
            Operation::CreateAccount(new) => self.create_account(new),
            Operation::CreateVpc(new) => self.create_vpc(new),
            Operation::UpdateVpc(update) => self.update_vpc(update),
            Operation::DeleteVpc(target) => self.delete_vpc(target),
            Operation::CreateAddressPrefix(new) => self.create_prefix(new),
            Operation::UpdateAddressPrefix(update) => self.update_prefix(update),
            Operation::DeleteAddressPrefix { vpc, prefix } => self.delete_prefix(*vpc, *prefix),
            Operation::CreateSubnet(new) => self.create_subnet(new),
            Operation::UpdateSubnet { subnet, name } => self.update_subnet(*subnet, name.as_ref()),
            Operation::DeleteSubnet { subnet } => self.delete_subnet(*subnet),
            Operation::CreateInstance(new) => self.create_instance(new),
            Operation::UpdateInstance {
                instance,
                name,
                if_match,
            } => self.update_instance(*instance, name.as_ref(), if_match),
            Operation::DeleteInstance { instance, if_match } => self.delete_instance(*instance, if_match),
            Operation::ActOnInstance { instance, action } => self.act_on_instance(*instance, *action),
            Operation::CreateVpnGateway(new) => self.create_gateway(new),
            Operation::UpdateVpnGateway { gateway, name } => self.update_gateway(*gateway, name.as_ref()),
            Operation::DeleteVpnGateway { gateway } => self.delete_gateway(*gateway),
            Operation::CreateVpnConnection(new) => self.create_connection(new),
            Operation::UpdateVpnConnection(update) => self.update_connection(update),
            Operation::UpdateConnectionOptions(update) => self.update_options(update),
            Operation::UpdateGatewayOptions(update) => self.update_gateway_options(update),
            Operation::DeleteVpnConnection {
                gateway,
                connection,
                if_match,
            } => self.delete_connection(*gateway, *connection, if_match),
            Operation::ResetVpnConnection {
                gateway,
                connection,
                if_match,
            } => self.reset_connection(*gateway, *connection, if_match),
            Operation::AddConnectionCidr {
                gateway,
                connection,
                side,
                cidr,
            } => self.add_cidr(*gateway, *connection, *side, *cidr),
            Operation::RemoveConnectionCidr {
                gateway,
                connection,
                side,
                cidr,
            } => self.remove_cidr(*gateway, *connection, *side, *cidr),
            Operation::CreateIkePolicy(new) => self.create_ike_policy(new),
            Operation::UpdateIkePolicy(update) => self.update_ike_policy(update),
            Operation::DeleteIkePolicy { policy } => self.delete_ike_policy(*policy),
            Operation::CreateIpsecPolicy(new) => self.create_ipsec_policy(new),
            Operation::UpdateIpsecPolicy(update) => self.update_ipsec_policy(update),
            Operation::DeleteIpsecPolicy { policy } => self.delete_ipsec_policy(*policy),
            Operation::RecordStatus(updates) => Ok(self.record_status(updates)),
            Operation::FinishDeletion(findings) => Ok(self.finish_deletion(findings)),
        }
    }

    fn access(&self) -> Access<'_> {
        Access {
            snapshot: &self.state,
            account: self.account,
        }
    }

    fn put(&mut self, record: impl Into<Record>) {
        let change = Change::Put(record.into());
        self.state.change(change.clone());
        self.changes.push(change);
    }

    fn delete(&mut self, key: RecordKey) {
        if self.state.record(key).is_some() {
            self.state.change(Change::Delete(key));
            self.changes.push(Change::Delete(key));
        }
    }

    fn fresh<Id: From<ResourceBits>>(&mut self) -> Id {
        Id::from(self.ids.draw())
    }

    /// The wanted name if it is free, or one made up.
    fn name(
        &mut self,
        scope: NameScope,
        wanted: Option<&ResourceName>,
        resource: ResourceKind,
    ) -> Result<ResourceName, OpError> {
        if let Some(name) = wanted {
            return if self.state.named(scope, name).is_none() {
                Ok(name.clone())
            } else {
                Err(duplicate_name(resource, name))
            };
        }
        loop {
            let name = names::made_up(self.ids.draw());
            if self.state.named(scope, &name).is_none() {
                return Ok(name);
            }
        }
    }

    /// Gives `meta` the wanted name. Whether that changed anything.
    fn rename(
        &self,
        meta: &mut Meta,
        scope: NameScope,
        wanted: Option<&ResourceName>,
        resource: ResourceKind,
    ) -> Result<bool, OpError> {
        let Some(name) = wanted.filter(|name| **name != meta.name) else {
            return Ok(false);
        };
        if self.state.named(scope, name).is_some() {
            return Err(duplicate_name(resource, name));
        }
        meta.name = name.clone();
        Ok(true)
    }

    fn meta(&self, name: ResourceName, resource_group: Option<&String>) -> Meta {
        Meta {
            account: self.account,
            name,
            created_at: self.now,
            resource_group: resource_group.cloned(),
            version: 1,
        }
    }
}

/// Refuses unless the caller accepts the current version.
fn precondition(meta: &Meta, if_match: &IfMatch, resource: ResourceKind) -> Result<(), OpError> {
    accepted(meta.version, if_match, resource)
}

fn accepted(version: u64, if_match: &IfMatch, resource: ResourceKind) -> Result<(), OpError> {
    match if_match {
        Some(versions) if !versions.contains(&version) => Err(OpError::new(
            OpErrorCode::PreconditionFailed,
            resource,
            format!("the {} has changed since it was read", resource.words()),
        )),
        Some(_) | None => Ok(()),
    }
}

fn within(limit: u32, count: usize, refusal: impl FnOnce(u32) -> OpError) -> Result<(), OpError> {
    if count <= limit as usize {
        Ok(())
    } else {
        Err(refusal(limit))
    }
}
