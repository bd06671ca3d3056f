//! Address prefixes.

use isthmus_ops::{CreateAddressPrefix, OpError, OpErrorCode, Outcome, ResourceKind, UpdateAddressPrefix};
use isthmus_types::{AddressPrefixId, VpcId, ZoneName};

use super::{Draft, within};
use crate::address::{overlap, vpc_range};
use crate::record::{AddressPrefix, RecordKey};
use crate::refusal::{over_quota, referenced};
use crate::snapshot::NameScope;
use crate::view::prefix_view;

const KIND: ResourceKind = ResourceKind::AddressPrefix;

impl Draft<'_> {
    pub(super) fn create_prefix(&mut self, new: &CreateAddressPrefix) -> Result<Outcome, OpError> {
        self.access().vpc(new.vpc)?;
        vpc_range(new.cidr, KIND, "cidr")?;
        referenced(self.access().zone(&new.zone), "zone")?;
        let count = self.state.prefixes_of(new.vpc).count() + 1;
        within(
            self.state.settings().quotas.address_prefixes_per_vpc,
            count,
            |limit| over_quota(KIND, "address prefixes in a VPC", limit),
        )?;
        if let Some(other) = self
            .state
            .prefixes_of(new.vpc)
            .find(|other| other.cidr.overlaps(new.cidr))
        {
            return Err(overlap(KIND, "cidr", new.cidr, other.cidr));
        }
        if new.is_default {
            self.no_other_default(new.vpc, &new.zone)?;
        }
        let name = self.name(NameScope::Prefixes(new.vpc), new.name.as_ref(), KIND)?;
        let prefix = AddressPrefix {
            id: self.fresh(),
            meta: self.meta(name, None),
            vpc: new.vpc,
            cidr: new.cidr,
            zone: new.zone.clone(),
            is_default: new.is_default,
        };
        self.put(prefix.clone());
        Ok(Outcome::AddressPrefix(prefix_view(&self.state, &prefix)))
    }

    fn no_other_default(&self, vpc: VpcId, zone: &ZoneName) -> Result<(), OpError> {
        match self
            .state
            .prefixes_of(vpc)
            .find(|prefix| prefix.is_default && prefix.zone == *zone)
        {
            None => Ok(()),
            Some(other) => Err(OpError::new(
                OpErrorCode::DefaultPrefixExists,
                KIND,
                format!("{} is the default address prefix of zone {zone}", other.cidr),
            )
            .with_field("is_default")
            .with_value("true")),
        }
    }

    pub(super) fn update_prefix(&mut self, update: &UpdateAddressPrefix) -> Result<Outcome, OpError> {
        let mut prefix = self.access().address_prefix(update.vpc, update.prefix)?.clone();
        let mut changed = self.rename(
            &mut prefix.meta,
            NameScope::Prefixes(update.vpc),
            update.name.as_ref(),
            KIND,
        )?;
        if let Some(is_default) = update.is_default.filter(|wanted| *wanted != prefix.is_default) {
            if is_default {
                self.no_other_default(update.vpc, &prefix.zone)?;
            }
            prefix.is_default = is_default;
            changed = true;
        }
        if changed {
            prefix.meta.version += 1;
            self.put(prefix.clone());
        }
        Ok(Outcome::AddressPrefix(prefix_view(&self.state, &prefix)))
    }

    pub(super) fn delete_prefix(&mut self, vpc: VpcId, id: AddressPrefixId) -> Result<Outcome, OpError> {
        let prefix = self.access().address_prefix(vpc, id)?;
        if let Some(subnet) = self
            .state
            .subnets_of(vpc)
            .find(|subnet| prefix.cidr.contains(subnet.cidr))
        {
            return Err(OpError::new(
                OpErrorCode::InUseBySubnet,
                KIND,
                format!(
                    "address prefix {} still holds subnet {}",
                    prefix.cidr, subnet.meta.name
                ),
            ));
        }
        self.delete(RecordKey::AddressPrefix(id));
        Ok(Outcome::Done)
    }
}
