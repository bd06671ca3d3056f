//! Subnets.

use isthmus_ops::{CreateSubnet, OpError, OpErrorCode, Outcome, ResourceKind, SubnetRange};
use isthmus_types::{Cidr, ResourceName, SubnetId, VpcId, ZoneName};

use super::{Draft, within};
use crate::address::{lowest_free_range, overlap, vpc_range};
use crate::record::{AddressPrefix, RecordKey, Subnet};
use crate::refusal::{invalid_field, missing_field, over_quota, referenced};
use crate::snapshot::NameScope;
use crate::view::subnet_view;

const KIND: ResourceKind = ResourceKind::Subnet;
const FEWEST_ADDRESSES: u32 = 8;
const MOST_ADDRESSES: u32 = 1 << 24;

impl Draft<'_> {
    pub(super) fn create_subnet(&mut self, new: &CreateSubnet) -> Result<Outcome, OpError> {
        let vpc = referenced(self.access().vpc(new.vpc), "vpc")?;
        let (acl, route_table) = (vpc.default_acl, vpc.default_route_table);
        if let Some(zone) = &new.zone {
            referenced(self.access().zone(zone), "zone")?;
        }
        let (cidr, zone) = match new.range {
            SubnetRange::Cidr(cidr) => (cidr, self.zone_of_range(new, cidr)?),
            SubnetRange::Count(count) => self.carve(new, count)?,
        };
        if let Some(other) = self
            .state
            .subnets_of(new.vpc)
            .find(|other| other.cidr.overlaps(cidr))
        {
            return Err(overlap(KIND, "range", cidr, other.cidr));
        }
        let count = self.state.subnet_count_of_vpc(new.vpc) + 1;
        within(self.state.settings().quotas.subnets_per_vpc, count, |limit| {
            over_quota(KIND, "subnets in a VPC", limit)
        })?;
        let name = self.name(NameScope::Subnets(new.vpc), new.name.as_ref(), KIND)?;
        let subnet = Subnet {
            id: self.fresh(),
            meta: self.meta(name, new.resource_group.as_ref()),
            vpc: new.vpc,
            zone,
            cidr,
            acl,
            route_table,
        };
        self.put(subnet.clone());
        subnet_view(&self.state, &subnet).map(Outcome::Subnet)
    }

    // The zone of the prefix that holds the range, which the caller's must be if given.
    fn zone_of_range(&self, new: &CreateSubnet, cidr: Cidr) -> Result<ZoneName, OpError> {
        vpc_range(cidr, KIND, "range")?;
        let prefix = self
            .state
            .prefixes_of(new.vpc)
            .find(|prefix| prefix.cidr.contains(cidr))
            .ok_or_else(|| {
                OpError::new(
                    OpErrorCode::NotInAddressPrefix,
                    KIND,
                    format!("the range {cidr} is in no address prefix of the VPC"),
                )
                .with_field("range")
                .with_value(cidr.to_string())
            })?;
        match &new.zone {
            Some(zone) if *zone != prefix.zone => Err(OpError::new(
                OpErrorCode::ScopeMismatch,
                KIND,
                format!("the range {cidr} belongs to zone {}, not {zone}", prefix.zone),
            )
            .with_field("zone")
            .with_value(zone.as_str())),
            Some(_) | None => Ok(prefix.zone.clone()),
        }
    }

    // The lowest free range of `count` addresses in the zone's default prefix.
    fn carve(&self, new: &CreateSubnet, count: u32) -> Result<(Cidr, ZoneName), OpError> {
        if !count.is_power_of_two() || !(FEWEST_ADDRESSES..=MOST_ADDRESSES).contains(&count) {
            let why = "it must be a power of two from 8 to 16777216";
            return Err(invalid_field(KIND, "range", count, why));
        }
        let zone = new
            .zone
            .as_ref()
            .ok_or_else(|| missing_field(KIND, "zone", "a subnet asked for by size needs one"))?;
        let prefix = self.default_prefix(new.vpc, zone).ok_or_else(|| {
            OpError::new(
                OpErrorCode::NoDefaultPrefix,
                KIND,
                format!("zone {zone} has no default address prefix in the VPC"),
            )
            .with_field("zone")
            .with_value(zone.as_str())
        })?;
        let taken = self
            .state
            .subnets_of(new.vpc)
            .filter_map(|subnet| subnet.cidr.v4())
            .collect();
        let length = 32 - count.trailing_zeros();
        prefix
            .cidr
            .v4()
            .and_then(|within| lowest_free_range(within, u8::try_from(length).ok()?, taken))
            .map(|net| (Cidr::truncating(net.into()), zone.clone()))
            .ok_or_else(|| {
                OpError::new(
                    OpErrorCode::AddressesExhausted,
                    KIND,
                    format!(
                        "address prefix {} has no {count} free addresses in a row",
                        prefix.cidr
                    ),
                )
                .with_field("range")
                .with_value(count.to_string())
            })
    }

    fn default_prefix(&self, vpc: VpcId, zone: &ZoneName) -> Option<&AddressPrefix> {
        self.state
            .prefixes_of(vpc)
            .find(|prefix| prefix.is_default && prefix.zone == *zone)
    }

    pub(super) fn update_subnet(
        &mut self,
        id: SubnetId,
        name: Option<&ResourceName>,
    ) -> Result<Outcome, OpError> {
        let mut subnet = self.access().subnet(id)?.clone();
        let scope = NameScope::Subnets(subnet.vpc);
        if self.rename(&mut subnet.meta, scope, name, KIND)? {
            subnet.meta.version += 1;
            self.put(subnet.clone());
        }
        subnet_view(&self.state, &subnet).map(Outcome::Subnet)
    }

    pub(super) fn delete_subnet(&mut self, id: SubnetId) -> Result<Outcome, OpError> {
        let subnet = self.access().subnet(id)?;
        let holds = |code, what: String| {
            OpError::new(
                code,
                KIND,
                format!("subnet {} still holds {what}", subnet.meta.name),
            )
        };
        if let Some(gateway) = self.state.gateways_in_subnet(id).next() {
            return Err(holds(
                OpErrorCode::InUseByVpnGateway,
                format!("VPN gateway {}", gateway.meta.name),
            ));
        }
        if let Some(interface) = self.state.interfaces_in_subnet(id).next() {
            return Err(holds(
                OpErrorCode::InUseByInterface,
                format!("network interface {}", interface.name),
            ));
        }
        self.delete(RecordKey::Subnet(id));
        Ok(Outcome::Done)
    }
}
