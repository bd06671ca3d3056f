//! How results are shown: shapes, links, references, pages.

use form_urlencoded::Serializer;
use http::{HeaderValue, StatusCode, header};
use isthmus_ops::{Common, InstanceInterface, PageOf, Reference, ResourceKind};
use isthmus_types::{
    NetworkAclId, NetworkInterfaceId, ReservedIpId, ResourceBits, RouteTableId, SecurityGroupId, SubnetId,
    VpcId, VpnConnectionId, VpnGatewayId, VpnGatewayMemberId, ZoneName,
};
use serde_json::{Map, Value, json};

use crate::Scene;
use crate::date::ApiDate;
use crate::entity_tag;
use crate::fault::json_response;
use crate::id::{self, IdKind};
use crate::scalar::default_group_id;

/// How the result of one request is shown.
#[derive(Clone, Debug)]
pub struct Render {
    pub(crate) scene: Scene,
    pub(crate) date: ApiDate,
    pub(crate) subject: ResourceKind,
    pub(crate) success: StatusCode,
    pub(crate) shape: Shape,
    pub(crate) path: String,
    /// Query parameters that the links of a list repeat.
    pub(crate) repeated: Vec<(String, String)>,
}

/// Which part of the outcome is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The list of ranges under this key.
    Cidrs(&'static str),
    /// Whether a range was new: 201 or 204, always 204 in the older form.
    CidrPut { tells_new: bool },
    /// Nothing.
    Empty,
    /// The initialization of an instance.
    Initialization,
    /// One interface of an instance.
    Interface(NetworkInterfaceId),
    /// The interfaces of an instance.
    Interfaces,
    /// One member of a gateway.
    Member(VpnGatewayMemberId),
    /// The members of a gateway.
    Members { limit: u32, start: usize },
    /// A page of a list.
    Page { limit: u32 },
    /// One reserved IP of a list.
    ReservedIp(ReservedIpId),
    /// The object itself.
    Whole,
}

impl Render {
    /// An absolute link to `tail` under the API's root.
    pub(crate) fn href(&self, tail: &str) -> String {
        format!("{}/v1/{tail}", self.scene.base_url)
    }

    /// A cloud resource name; `place` is a region or a zone.
    pub(crate) fn crn(&self, place: &str, kind: &IdKind, id: &str) -> String {
        format!(
            "crn:v1:bluemix:public:is:{place}:a/{}::{}:{id}",
            self.scene.account,
            kind.crn_type.unwrap_or(kind.collection)
        )
    }

    /// The region's name.
    pub(crate) fn region(&self) -> &str {
        self.scene.region.as_str()
    }

    /// A JSON answer with the render's status.
    pub(crate) fn answer(&self, body: &Value) -> http::Response<Vec<u8>> {
        json_response(self.success, body)
    }

    /// A JSON answer that names the version of the state that it shows.
    pub(crate) fn tagged(&self, body: &Value, version: u64) -> http::Response<Vec<u8>> {
        let mut response = self.answer(body);
        if let Ok(tag) = HeaderValue::from_str(&entity_tag::text(version)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }

    /// `id`, `href`, `name`, `created_at` and `resource_group` of a top-level resource.
    pub(crate) fn head(&self, kind: &IdKind, bits: ResourceBits, common: &Common) -> Map<String, Value> {
        let id = kind.text(bits);
        let mut map = Map::new();
        map.insert(
            "href".into(),
            self.href(&format!("{}/{id}", kind.collection)).into(),
        );
        map.insert("id".into(), id.into());
        map.insert("name".into(), common.name.as_str().into());
        map.insert("created_at".into(), common.created_at.to_string().into());
        map.insert(
            "resource_group".into(),
            self.resource_group(common.resource_group.as_deref()),
        );
        map
    }

    /// The account's default resource group.
    pub(crate) fn default_group(&self) -> Value {
        self.resource_group(None)
    }

    fn resource_group(&self, stored: Option<&str>) -> Value {
        let default = default_group_id(self.scene.account);
        let (id, name) = stored.map_or((default.as_str(), "Default"), |id| (id, id));
        json!({
            "id": id,
            "name": name,
            "href": format!("{}/v2/resource_groups/{id}", self.scene.base_url),
        })
    }

    /// `name` and `href` of a zone.
    pub(crate) fn zone(&self, zone: &ZoneName) -> Value {
        json!({ "name": zone.as_str(), "href": self.href(&format!("regions/{}/zones/{zone}", self.region())) })
    }

    pub(crate) fn vpc(&self, vpc: &Reference<VpcId>) -> Value {
        self.reference(
            &id::VPC,
            vpc.id.bits(),
            vpc.name.as_str(),
            Some(self.region()),
            Some("vpc"),
        )
    }

    pub(crate) fn subnet(&self, subnet: &Reference<SubnetId>, zone: &ZoneName) -> Value {
        self.reference(
            &id::SUBNET,
            subnet.id.bits(),
            subnet.name.as_str(),
            Some(zone.as_str()),
            Some("subnet"),
        )
    }

    /// A network interface, where its instance is not the subject.
    pub(crate) fn network_interface(&self, held: &InstanceInterface) -> Value {
        let id = id::INTERFACE.text(held.interface.id.bits());
        let instance = id::INSTANCE.text(held.instance.bits());
        json!({
            "href": self.href(&format!("instances/{instance}/network_interfaces/{id}")),
            "id": id,
            "name": held.interface.name.as_str(),
            "resource_type": "network_interface",
        })
    }

    pub(crate) fn network_acl(&self, acl: &Reference<NetworkAclId>) -> Value {
        self.reference(
            &id::NETWORK_ACL,
            acl.id.bits(),
            acl.name.as_str(),
            Some(self.region()),
            None,
        )
    }

    pub(crate) fn security_group(&self, group: &Reference<SecurityGroupId>) -> Value {
        self.reference(
            &id::SECURITY_GROUP,
            group.id.bits(),
            group.name.as_str(),
            Some(self.region()),
            None,
        )
    }

    pub(crate) fn route_table(&self, vpc: VpcId, table: &Reference<RouteTableId>) -> Value {
        let id = id::ROUTE_TABLE.text(table.id.bits());
        json!({
            "id": id,
            "crn": self.crn(self.region(), &id::ROUTE_TABLE, &id),
            "href": self.href(&format!("vpcs/{}/routing_tables/{id}", id::VPC.text(vpc.bits()))),
            "name": table.name.as_str(),
            "resource_type": "routing_table",
        })
    }

    pub(crate) fn reserved_ip(
        &self,
        subnet: SubnetId,
        ip: &Reference<ReservedIpId>,
        address: std::net::Ipv4Addr,
    ) -> Value {
        let id = id::RESERVED_IP.text(ip.id.bits());
        json!({
            "address": address.to_string(),
            "href": self.href(&format!("subnets/{}/reserved_ips/{id}", id::SUBNET.text(subnet.bits()))),
            "id": id,
            "name": ip.name.as_str(),
            "resource_type": "subnet_reserved_ip",
        })
    }

    pub(crate) fn connection(&self, gateway: VpnGatewayId, connection: &Reference<VpnConnectionId>) -> Value {
        let id = id::VPN_CONNECTION.text(connection.id.bits());
        json!({
            "href": self.href(&format!("vpn_gateways/{}/connections/{id}", id::VPN_GATEWAY.text(gateway.bits()))),
            "id": id,
            "name": connection.name.as_str(),
            "resource_type": "vpn_gateway_connection",
        })
    }

    /// A reference to a resource whose collection stands at the root; a CRN if it has a place.
    pub(crate) fn reference(
        &self,
        kind: &IdKind,
        bits: ResourceBits,
        name: &str,
        place: Option<&str>,
        resource_type: Option<&str>,
    ) -> Value {
        let id = kind.text(bits);
        let mut value = json!({
            "href": self.href(&format!("{}/{id}", kind.collection)),
            "name": name,
        });
        if let Some(place) = place {
            value["crn"] = self.crn(place, kind, &id).into();
        }
        if let Some(resource_type) = resource_type {
            value["resource_type"] = resource_type.into();
        }
        value["id"] = id.into();
        value
    }

    /// A page of a list.
    pub(crate) fn page<T>(&self, key: &str, page: &PageOf<T>, show: impl Fn(&T) -> Value) -> Value {
        let limit = match self.shape {
            Shape::Page { limit } => limit,
            Shape::Cidrs(_)
            | Shape::CidrPut { .. }
            | Shape::Empty
            | Shape::Initialization
            | Shape::Interface(_)
            | Shape::Interfaces
            | Shape::Member(_)
            | Shape::Members { .. }
            | Shape::ReservedIp(_)
            | Shape::Whole => u32::try_from(page.items.len()).unwrap_or(u32::MAX),
        };
        let items = page.items.iter().map(show).collect();
        self.collection(key, items, limit, page.total, page.next.as_deref())
    }

    /// A page of a list that the codec itself knows wholly; `start` counts items.
    pub(crate) fn slice(&self, key: &str, all: Vec<Value>, limit: u32, start: usize) -> Value {
        let total = all.len();
        let size = limit as usize;
        let items: Vec<Value> = all.into_iter().skip(start).take(size).collect();
        let end = start.saturating_add(items.len());
        let next = (end < total).then(|| end.to_string());
        self.collection(key, items, limit, total as u64, next.as_deref())
    }

    fn collection(&self, key: &str, items: Vec<Value>, limit: u32, total: u64, next: Option<&str>) -> Value {
        let mut value = json!({
            "first": { "href": self.page_link(limit, None) },
            "limit": limit,
            "total_count": total,
        });
        if let Some(start) = next {
            value["next"] = json!({ "href": self.page_link(limit, Some(start)) });
        }
        value[key] = Value::Array(items);
        value
    }

    fn page_link(&self, limit: u32, start: Option<&str>) -> String {
        let mut query = Serializer::new(String::new());
        for (name, value) in &self.repeated {
            query.append_pair(name, value);
        }
        query.append_pair("limit", &limit.to_string());
        if let Some(start) = start {
            query.append_pair("start", start);
        }
        format!("{}{}?{}", self.scene.base_url, self.path, query.finish())
    }
}
