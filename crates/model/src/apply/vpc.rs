//! VPCs.

use isthmus_ops::{
    CreateVpc, DeleteVpc, OpError, OpErrorCode, Outcome, PrefixManagement, ResourceKind, UpdateVpc,
};
use isthmus_types::{Cidr, NetworkAclId, RouteTableId, SecurityGroupId, VpcId};

use super::{Draft, precondition, within};
use crate::record::{
    AclAction, AclRule, AddressPrefix, Direction, GroupRemote, GroupRule, NetworkAcl, RecordKey, RouteTable,
    SecurityGroup, Vpc,
};
use crate::refusal::over_quota;
use crate::snapshot::NameScope;
use crate::view::vpc_view;

impl Draft<'_> {
    pub(super) fn create_vpc(&mut self, new: &CreateVpc) -> Result<Outcome, OpError> {
        let count = self.state.vpc_count_of(self.account) + 1;
        within(self.state.settings().quotas.vpcs, count, |limit| {
            over_quota(ResourceKind::Vpc, "VPCs", limit)
        })?;
        let name = self.name(
            NameScope::Vpcs(self.account),
            new.name.as_ref(),
            ResourceKind::Vpc,
        )?;
        let vpc = Vpc {
            id: self.fresh(),
            meta: self.meta(name, new.resource_group.as_ref()),
            classic_access: new.classic_access,
            default_acl: self.fresh(),
            default_security_group: self.fresh(),
            default_route_table: self.fresh(),
            source_nat: None,
        };
        self.put(vpc.clone());
        self.put_default_acl(vpc.id, vpc.default_acl, new.resource_group.as_ref())?;
        self.put_default_group(vpc.id, vpc.default_security_group, new.resource_group.as_ref())?;
        self.put_main_route_table(vpc.id, vpc.default_route_table, new.resource_group.as_ref())?;
        match new.prefixes {
            PrefixManagement::Auto => self.put_default_prefixes(vpc.id)?,
            PrefixManagement::Manual => {}
        }
        vpc_view(&self.state, &vpc).map(Outcome::Vpc)
    }

    // Everything is allowed both ways.
    fn put_default_acl(
        &mut self,
        vpc: VpcId,
        id: NetworkAclId,
        group: Option<&String>,
    ) -> Result<(), OpError> {
        let name = self.name(NameScope::Acls(vpc), None, ResourceKind::NetworkAcl)?;
        let allow = |direction| AclRule {
            direction,
            action: AclAction::Allow,
            source: Cidr::ALL_IPV4,
            destination: Cidr::ALL_IPV4,
        };
        self.put(NetworkAcl {
            id,
            meta: self.meta(name, group),
            vpc,
            rules: vec![allow(Direction::Inbound), allow(Direction::Outbound)],
        });
        Ok(())
    }

    // Inbound from anywhere, outbound to anywhere.
    fn put_default_group(
        &mut self,
        vpc: VpcId,
        id: SecurityGroupId,
        group: Option<&String>,
    ) -> Result<(), OpError> {
        let name = self.name(NameScope::SecurityGroups(vpc), None, ResourceKind::SecurityGroup)?;
        let anywhere = |direction| GroupRule {
            direction,
            remote: GroupRemote::Cidr(Cidr::ALL_IPV4),
        };
        self.put(SecurityGroup {
            id,
            meta: self.meta(name, group),
            vpc,
            rules: vec![anywhere(Direction::Inbound), anywhere(Direction::Outbound)],
        });
        Ok(())
    }

    fn put_main_route_table(
        &mut self,
        vpc: VpcId,
        id: RouteTableId,
        group: Option<&String>,
    ) -> Result<(), OpError> {
        let name = self.name(NameScope::RouteTables(vpc), None, ResourceKind::RouteTable)?;
        self.put(RouteTable {
            id,
            meta: self.meta(name, group),
            vpc,
        });
        Ok(())
    }

    fn put_default_prefixes(&mut self, vpc: VpcId) -> Result<(), OpError> {
        for zone in self.state.settings().zones.clone() {
            let cidr = self.state.settings().auto_prefix(&zone).ok_or_else(|| {
                OpError::new(
                    OpErrorCode::AddressesExhausted,
                    ResourceKind::AddressPrefix,
                    format!("no default address prefix is left for zone {zone}"),
                )
            })?;
            let name = self.name(NameScope::Prefixes(vpc), None, ResourceKind::AddressPrefix)?;
            let prefix = AddressPrefix {
                id: self.fresh(),
                meta: self.meta(name, None),
                vpc,
                cidr,
                zone,
                is_default: true,
            };
            self.put(prefix);
        }
        Ok(())
    }

    pub(super) fn update_vpc(&mut self, update: &UpdateVpc) -> Result<Outcome, OpError> {
        let mut vpc = self.access().vpc(update.vpc)?.clone();
        precondition(&vpc.meta, &update.if_match, ResourceKind::Vpc)?;
        let scope = NameScope::Vpcs(self.account);
        if self.rename(&mut vpc.meta, scope, update.name.as_ref(), ResourceKind::Vpc)? {
            vpc.meta.version += 1;
            self.put(vpc.clone());
        }
        vpc_view(&self.state, &vpc).map(Outcome::Vpc)
    }

    pub(super) fn delete_vpc(&mut self, target: &DeleteVpc) -> Result<Outcome, OpError> {
        let vpc = self.access().vpc(target.vpc)?;
        precondition(&vpc.meta, &target.if_match, ResourceKind::Vpc)?;
        let id = vpc.id;
        if let Some(subnet) = self.state.subnets_of(id).next() {
            return Err(OpError::new(
                OpErrorCode::InUse,
                ResourceKind::Vpc,
                format!("VPC {id} still has subnet {}", subnet.meta.name),
            ));
        }
        let held: Vec<RecordKey> = self
            .state
            .acls_of(id)
            .map(|acl| RecordKey::NetworkAcl(acl.id))
            .chain(
                self.state
                    .security_groups_of(id)
                    .map(|group| RecordKey::SecurityGroup(group.id)),
            )
            .chain(
                self.state
                    .route_tables_of(id)
                    .map(|table| RecordKey::RouteTable(table.id)),
            )
            .chain(
                self.state
                    .prefixes_of(id)
                    .map(|prefix| RecordKey::AddressPrefix(prefix.id)),
            )
            .collect();
        for key in held {
            self.delete(key);
        }
        self.delete(RecordKey::Vpc(id));
        Ok(Outcome::Done)
    }
}
