//! Answering questions.

mod page;

use isthmus_ops::{
    Caller, ConnectionState, GatewaySort, GroupFilter, InstanceFilter, InstanceView, OpError, Outcome, Page,
    PageOf, Query, ResourceKind, Side, SubnetFilter, SubnetView, VpcFilter, VpcView, VpnConnectionView,
    VpnGatewayFilter, VpnGatewayView,
};
use isthmus_types::{Cidr, RegionName, ResourceName, SubnetId, VpcId, VpnConnectionId, VpnGatewayId};

use crate::access::Access;
use crate::record::{Meta, VpnConnection};
use crate::refusal::{cidr_not_found, dangling};
use crate::snapshot::{NameScope, Snapshot};
use crate::view;

use page::{page_of_all, page_of_matches, page_of_sorted_gateways, page_of_views};

/// Answers `query` about `snapshot` as `caller` may see it.
///
/// # Errors
/// [`isthmus_ops::OpErrorCode::NotFound`] for what does not exist or belongs to another account, `CidrNotFound` for
/// a range that is not on its side of a connection, `InvalidField` on `start` for a page mark that no page gave.
pub fn query(snapshot: &Snapshot, caller: &Caller, query: &Query) -> Result<Outcome, OpError> {
    let access = Access {
        snapshot,
        account: caller.account,
    };
    match query {
        Query::Regions => Ok(Outcome::Regions(vec![view::region_view(snapshot)])),
        Query::Region(region) => {
            access.region(region)?;
            Ok(Outcome::Region(view::region_view(snapshot)))
        }
        Query::Zones(region) => {
            access.region(region)?;
            let zones = snapshot.settings().zones.iter();
            Ok(Outcome::Zones(
                zones.map(|zone| view::zone_view(snapshot, zone)).collect(),
            ))
        }
        Query::Zone { region, zone } => {
            access.region(region)?;
            access.zone(zone)?;
            Ok(Outcome::Zone(view::zone_view(snapshot, zone)))
        }
        Query::Vpcs { filter, page } => access.vpcs(filter, page).map(Outcome::Vpcs),
        Query::Vpc(id) => view::vpc_view(snapshot, access.vpc(*id)?).map(Outcome::Vpc),
        Query::DefaultNetworkAcl(vpc) => {
            let id = access.vpc(*vpc)?.default_acl;
            view::acl_view(snapshot, access.network_acl(id)?).map(Outcome::NetworkAcl)
        }
        Query::DefaultSecurityGroup(vpc) => {
            let id = access.vpc(*vpc)?.default_security_group;
            view::security_group_view(snapshot, access.security_group(id)?).map(Outcome::SecurityGroup)
        }
        Query::DefaultRouteTable(vpc) => {
            let id = access.vpc(*vpc)?.default_route_table;
            view::route_table_view(snapshot, access.route_table(*vpc, id)?).map(Outcome::RouteTable)
        }
        Query::NetworkAcl(id) => view::acl_view(snapshot, access.network_acl(*id)?).map(Outcome::NetworkAcl),
        Query::SecurityGroup(id) => {
            view::security_group_view(snapshot, access.security_group(*id)?).map(Outcome::SecurityGroup)
        }
        Query::RouteTable { vpc, table } => {
            view::route_table_view(snapshot, access.route_table(*vpc, *table)?).map(Outcome::RouteTable)
        }
        Query::AddressPrefixes { vpc, page } => access.prefixes(*vpc, page),
        Query::AddressPrefix { vpc, prefix } => {
            let prefix = access.address_prefix(*vpc, *prefix)?;
            Ok(Outcome::AddressPrefix(view::prefix_view(snapshot, prefix)))
        }
        Query::Subnets { filter, page } => access.subnets(filter, page).map(Outcome::Subnets),
        Query::Subnet(id) => view::subnet_view(snapshot, access.subnet(*id)?).map(Outcome::Subnet),
        Query::ReservedIps { subnet, page } => access.reserved_ips(*subnet, page),
        Query::Instances { filter, page } => access.instances(filter, page).map(Outcome::Instances),
        Query::Instance(id) => view::instance_view(snapshot, access.instance(*id)?).map(Outcome::Instance),
        Query::VpnGateways { filter, sort, page } => {
            access.gateways(filter, *sort, page).map(Outcome::VpnGateways)
        }
        Query::VpnGateway(id) => {
            view::gateway_view(snapshot, access.vpn_gateway(*id)?).map(Outcome::VpnGateway)
        }
        Query::VpnConnections { gateway, up, page } => access
            .connections(*gateway, *up, page)
            .map(Outcome::VpnConnections),
        Query::VpnConnection { gateway, connection } => {
            let connection = access.vpn_connection(*gateway, *connection)?;
            view::connection_view(snapshot, connection).map(Outcome::VpnConnection)
        }
        Query::ConnectionOptions { gateway, connection } => {
            let connection = access.vpn_connection(*gateway, *connection)?;
            Ok(Outcome::ConnectionOptions(view::options_view(
                snapshot,
                connection.id,
            )))
        }
        Query::GatewayOptions(id) => Ok(Outcome::GatewayOptions(view::gateway_options_view(
            access.vpn_gateway(*id)?,
        ))),
        Query::ConnectionCidrs {
            gateway,
            connection,
            side,
        } => access
            .cidrs(*gateway, *connection, *side)
            .map(|list| Outcome::Cidrs(list.to_vec())),
        Query::ConnectionCidr {
            gateway,
            connection,
            side,
            cidr,
        } => {
            let found = access.cidrs(*gateway, *connection, *side)?.contains(cidr);
            if found {
                Ok(Outcome::Done)
            } else {
                Err(cidr_not_found(*side, *cidr))
            }
        }
        Query::IkePolicies { resource_group, page } => access.ike_policies(resource_group.as_ref(), page),
        Query::IkePolicy(id) => Ok(Outcome::IkePolicy(view::ike_policy_view(
            snapshot,
            access.ike_policy(*id)?,
        ))),
        Query::IkePolicyConnections { policy, page } => {
            access.ike_policy(*policy)?;
            access.users(snapshot.connections_with_ike_policy(*policy), page)
        }
        Query::IpsecPolicies { resource_group, page } => access.ipsec_policies(resource_group.as_ref(), page),
        Query::IpsecPolicy(id) => Ok(Outcome::IpsecPolicy(view::ipsec_policy_view(
            snapshot,
            access.ipsec_policy(*id)?,
        ))),
        Query::IpsecPolicyConnections { policy, page } => {
            access.ipsec_policy(*policy)?;
            access.users(snapshot.connections_with_ipsec_policy(*policy), page)
        }
    }
}

fn in_group(meta: &Meta, wanted: Option<&GroupFilter>) -> bool {
    match wanted {
        None => true,
        Some(GroupFilter::Default) => meta.resource_group.is_none(),
        Some(GroupFilter::Labelled(label)) => meta.resource_group.as_ref() == Some(label),
    }
}

/// The VPC that a list is narrowed to.
enum Narrowed {
    /// Every VPC.
    Not,
    /// None: what the filter names does not exist for the caller.
    ToNothing,
    /// This one.
    To(VpcId),
}

impl<'a> Access<'a> {
    fn region(self, name: &RegionName) -> Result<(), OpError> {
        if self.snapshot.settings().region == *name {
            Ok(())
        } else {
            Err(OpError::not_found(ResourceKind::Region, name))
        }
    }

    fn narrowed(self, id: Option<VpcId>, name: Option<&ResourceName>) -> Narrowed {
        let by_name = name.map(|name| {
            self.snapshot
                .named(NameScope::Vpcs(self.account), name)
                .map(VpcId::from)
        });
        let by_id = id.map(|id| self.vpc(id).ok().map(|vpc| vpc.id));
        match (by_id, by_name) {
            (None, None) => Narrowed::Not,
            (Some(Some(id)), None) | (None, Some(Some(id))) => Narrowed::To(id),
            (Some(Some(id)), Some(Some(other))) if id == other => Narrowed::To(id),
            (Some(_), _) | (None, Some(_)) => Narrowed::ToNothing,
        }
    }

    fn vpcs(self, filter: &VpcFilter, page: &Page) -> Result<PageOf<VpcView>, OpError> {
        let kind = ResourceKind::Vpc;
        let index = &self.snapshot.indices.vpcs;
        if *filter == VpcFilter::default() {
            let total = index.count(self.account);
            let after = |start| index.children_after(self.account, start);
            return page_of_all(page, kind, total, after, |id| {
                view::vpc_view(self.snapshot, self.vpc(id)?)
            });
        }
        let matches = self.snapshot.vpcs_of(self.account).filter(|vpc| {
            in_group(&vpc.meta, filter.resource_group.as_ref())
                && filter
                    .classic_access
                    .is_none_or(|wanted| vpc.classic_access == wanted)
        });
        page_of_matches(
            page,
            kind,
            matches,
            |vpc| vpc.id.bits(),
            |vpc| view::vpc_view(self.snapshot, vpc),
        )
    }

    fn prefixes(self, vpc: VpcId, page: &Page) -> Result<Outcome, OpError> {
        self.vpc(vpc)?;
        let index = &self.snapshot.indices.prefixes;
        let view = |id| {
            let prefix = self.address_prefix(vpc, id)?;
            Ok(view::prefix_view(self.snapshot, prefix))
        };
        let after = |start| index.children_after(vpc, start);
        page_of_all(page, ResourceKind::AddressPrefix, index.count(vpc), after, view)
            .map(Outcome::AddressPrefixes)
    }

    fn subnets(self, filter: &SubnetFilter, page: &Page) -> Result<PageOf<SubnetView>, OpError> {
        let kind = ResourceKind::Subnet;
        let view = |id: SubnetId| view::subnet_view(self.snapshot, self.subnet(id)?);
        let indices = &self.snapshot.indices;
        if *filter == SubnetFilter::default() {
            let total = indices.account_subnets.count(self.account);
            let after = |start| indices.account_subnets.children_after(self.account, start);
            return page_of_all(page, kind, total, after, view);
        }
        let candidates: Box<dyn Iterator<Item = SubnetId>> =
            match self.narrowed(filter.vpc, filter.vpc_name.as_ref()) {
                Narrowed::Not => Box::new(indices.account_subnets.children(self.account)),
                Narrowed::To(vpc) => Box::new(indices.subnets.children(vpc)),
                Narrowed::ToNothing => Box::new(std::iter::empty()),
            };
        let table_named = |id| {
            filter.route_table_name.as_ref().is_none_or(|wanted| {
                self.snapshot
                    .route_table(id)
                    .is_some_and(|table| table.meta.name == *wanted)
            })
        };
        let matches = candidates
            .filter_map(|id| self.snapshot.subnet(id))
            .filter(|subnet| {
                in_group(&subnet.meta, filter.resource_group.as_ref())
                    && filter.zone.as_ref().is_none_or(|zone| subnet.zone == *zone)
                    && filter.route_table.is_none_or(|table| subnet.route_table == table)
                    && table_named(subnet.route_table)
            });
        page_of_matches(
            page,
            kind,
            matches,
            |subnet| subnet.id.bits(),
            |subnet| view(subnet.id),
        )
    }

    fn reserved_ips(self, subnet: SubnetId, page: &Page) -> Result<Outcome, OpError> {
        let views = view::reserved_ip_views(self.snapshot, self.subnet(subnet)?)?;
        page_of_views(page, ResourceKind::ReservedIp, views, |held| held.id.bits()).map(Outcome::ReservedIps)
    }

    fn instances(self, filter: &InstanceFilter, page: &Page) -> Result<PageOf<InstanceView>, OpError> {
        let kind = ResourceKind::Instance;
        let indices = &self.snapshot.indices;
        let view = |id| view::instance_view(self.snapshot, self.instance(id)?);
        if *filter == InstanceFilter::default() {
            let total = indices.account_instances.count(self.account);
            let after = |start| indices.account_instances.children_after(self.account, start);
            return page_of_all(page, kind, total, after, view);
        }
        let candidates: Box<dyn Iterator<Item = _>> =
            match self.narrowed(filter.vpc, filter.vpc_name.as_ref()) {
                Narrowed::Not => Box::new(indices.account_instances.children(self.account)),
                Narrowed::To(vpc) => Box::new(indices.instances.children(vpc)),
                Narrowed::ToNothing => Box::new(std::iter::empty()),
            };
        let matches = candidates
            .filter_map(|id| self.snapshot.instance(id))
            .filter(|instance| {
                in_group(&instance.meta, filter.resource_group.as_ref())
                    && filter
                        .name
                        .as_ref()
                        .is_none_or(|name| instance.meta.name == *name)
            });
        page_of_matches(
            page,
            kind,
            matches,
            |found| found.id.bits(),
            |found| view(found.id),
        )
    }

    fn gateways(
        self,
        filter: &VpnGatewayFilter,
        sort: GatewaySort,
        page: &Page,
    ) -> Result<PageOf<VpnGatewayView>, OpError> {
        let matches = self
            .snapshot
            .gateways_of_account(self.account)
            .filter(|gateway| in_group(&gateway.meta, filter.resource_group.as_ref()));
        page_of_sorted_gateways(page, sort, matches, |gateway| {
            view::gateway_view(self.snapshot, gateway)
        })
    }

    fn connections(
        self,
        gateway: VpnGatewayId,
        up: Option<bool>,
        page: &Page,
    ) -> Result<PageOf<VpnConnectionView>, OpError> {
        self.vpn_gateway(gateway)?;
        let is_up = |connection: &VpnConnection| {
            matches!(
                view::connection_state(self.snapshot, connection),
                ConnectionState::Up
            )
        };
        let matches = self
            .snapshot
            .connections_of(gateway)
            .filter(|connection| connection.deleting.is_none())
            .filter(|connection| up.is_none_or(|wanted| is_up(connection) == wanted));
        self.page_of_connections(matches, page)
    }

    fn users(
        self,
        connections: impl Iterator<Item = &'a VpnConnection>,
        page: &Page,
    ) -> Result<Outcome, OpError> {
        self.page_of_connections(connections, page)
            .map(Outcome::VpnConnections)
    }

    fn page_of_connections(
        self,
        matches: impl Iterator<Item = &'a VpnConnection>,
        page: &Page,
    ) -> Result<PageOf<VpnConnectionView>, OpError> {
        page_of_matches(
            page,
            ResourceKind::VpnConnection,
            matches,
            |connection| connection.id.bits(),
            |connection| view::connection_view(self.snapshot, connection),
        )
    }

    fn cidrs(self, gateway: VpnGatewayId, id: VpnConnectionId, side: Side) -> Result<&'a [Cidr], OpError> {
        let connection = self.vpn_connection(gateway, id)?;
        Ok(match side {
            Side::Local => &connection.local_cidrs,
            Side::Peer => &connection.peer_cidrs,
        })
    }

    fn ike_policies(self, group: Option<&GroupFilter>, page: &Page) -> Result<Outcome, OpError> {
        let kind = ResourceKind::IkePolicy;
        let matches = self
            .snapshot
            .indices
            .ike_policies
            .children(self.account)
            .map(|id| self.snapshot.ike_policy(id).ok_or_else(|| dangling(kind, id)))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .filter(|policy| in_group(&policy.meta, group));
        let view = |policy| Ok(view::ike_policy_view(self.snapshot, policy));
        page_of_matches(page, kind, matches, |policy| policy.id.bits(), view).map(Outcome::IkePolicies)
    }

    fn ipsec_policies(self, group: Option<&GroupFilter>, page: &Page) -> Result<Outcome, OpError> {
        let kind = ResourceKind::IpsecPolicy;
        let matches = self
            .snapshot
            .indices
            .ipsec_policies
            .children(self.account)
            .map(|id| self.snapshot.ipsec_policy(id).ok_or_else(|| dangling(kind, id)))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .filter(|policy| in_group(&policy.meta, group));
        let view = |policy| Ok(view::ipsec_policy_view(self.snapshot, policy));
        page_of_matches(page, kind, matches, |policy| policy.id.bits(), view).map(Outcome::IpsecPolicies)
    }
}
